//! Reading a blob: hashed, counted, checked, perhaps written down.

use super::{Intake, Unpacked};
use crate::error::{Error, Result};
use crate::image::progress::{Layer, Step};
use crate::layer::TarSum;
use crate::model::digest::Digest;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read, Write};

/// Of a blob whose size nobody says, as the registries of docker 1.x and before have them: what ends one that never does.
const LARGEST: u64 = 64 << 30;

/// Hashes and counts what is read, and may write it down.
pub(in crate::image) struct Tee<'a> {
    input: &'a mut (dyn Read + Send),
    sink: Option<&'a File>,
    hasher: Sha256,
    pub(in crate::image) count: u64,
    size: Option<u64>,
    pub(in crate::image) layer: Option<&'a Layer<'a>>,
}

impl<'a> Tee<'a> {
    /// `size`: no more than that may come.
    pub(in crate::image) fn new(input: &'a mut (dyn Read + Send), size: Option<u64>) -> Tee<'a> {
        Tee {
            input,
            sink: None,
            hasher: Sha256::new(),
            count: 0,
            size,
            layer: None,
        }
    }

    pub(in crate::image) fn into_file(mut self, file: &'a File) -> Self {
        self.sink = Some(file);
        self
    }

    /// Of what was read so far.
    pub(in crate::image) fn digest(&self) -> Digest {
        Digest::from_hasher(self.hasher.clone())
    }

    /// Unpacks it, reads it to its end, and checks what it was. Where the digest is wrong, that is what is said, not
    /// what the bytes then looked like.
    pub(in crate::image) fn unpack_checked(&mut self, intake: &Intake<'_>, digest: Option<Digest>) -> Result<Unpacked> {
        self.unpack_summed(intake, digest, None)
    }

    /// The same, and computes docker's checksum of the tar on the way.
    pub(in crate::image) fn unpack_summed(
        &mut self,
        intake: &Intake<'_>,
        digest: Option<Digest>,
        tarsum: Option<&mut TarSum>,
    ) -> Result<Unpacked> {
        self.read_checked(digest, |input| intake.unpack_watched(input, tarsum))
    }

    /// Lets `read` have it, reads on to its end, and checks what it was.
    pub(in crate::image) fn read_checked<T>(
        &mut self,
        digest: Option<Digest>,
        read: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let done = read(self);
        let rest = io::copy(self, &mut io::sink());
        if let Err(e) = rest {
            return Err(match done {
                // Said already, perhaps with the member's name.
                Err(told) => told,
                Ok(_) => Error::from(e),
            });
        }
        if let Some(size) = self.size.filter(|size| *size != self.count) {
            return Err(Error::other(format!(
                "size mismatch: got {} bytes, want {size}",
                self.count
            )));
        }
        let found = self.digest();
        match digest.filter(|digest| *digest != found) {
            Some(want) => Err(Error::other(format!("digest mismatch: got {found}, want {want}"))),
            None => done,
        }
    }
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        self.count += n as u64;
        if self.size.is_none() && self.count > LARGEST {
            return Err(io::Error::other(format!("larger than {} GiB", LARGEST >> 30)));
        }
        if let Some(size) = self.size.filter(|size| *size < self.count) {
            return Err(io::Error::other(format!("size mismatch: more than {size} bytes")));
        }
        if let Some(mut sink) = self.sink {
            sink.write_all(&buffer[..n])?;
        }
        if let (Some(layer), true) = (self.layer, n > 0) {
            layer.step(Step::Loading {
                done: self.count,
                total: self.size,
            });
        }
        Ok(n)
    }
}
