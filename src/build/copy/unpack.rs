//! ADD of an archive: what is in it goes where the archive would have gone.

use crate::build::content::{Content, digest_of_xattrs};
use crate::error::{Context as _, Result};
use crate::layer::compress;
use crate::layer::{self, xattr};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::BorrowedFd;

/// Whether a file is a tar, in any compression: its first bytes tell, never its name.
pub(super) fn is_archive(file: &File) -> bool {
    let plain = compress::reader(file);
    plain.is_ok_and(layer::is_archive)
}

/// Unpacks into a directory that may have something in it. Owners are the archive's own, whatever `--chown` says, as in
/// docker. Gives the content of the archive itself.
pub(super) fn unpack(mut file: File, into: BorrowedFd<'_>) -> Result<Content> {
    file.seek(SeekFrom::Start(0))?;
    let xattrs = digest_of_xattrs(&xattr::of_open_archive(&file)?);
    let mut hashed = Hashed {
        inner: file,
        hasher: Sha256::new(),
    };
    let options = layer::Options {
        onto: layer::Onto::Stage,
        ..layer::Options::default()
    };
    layer::unpack(compress::reader(&mut hashed)?, into, &options)?;
    // What stands behind the end is part of the file too.
    io::copy(&mut hashed, &mut io::sink()).context("read archive")?;
    Ok(Content {
        bytes: hashed.hasher.finalize().into(),
        xattrs,
    })
}

struct Hashed {
    inner: File,
    hasher: Sha256,
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}
