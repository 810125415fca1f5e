//! The bytes of a blob, from the partial download first and the registry then, which is asked only when they are at an
//! end; what the registry sends is added to the partial download on its way.

use crate::error::Result;
use crate::format::descriptor::Descriptor;
use crate::format::media;
use crate::image::progress::{Layer, Step};
use crate::registry::{BlobReader, Remote, Wanted};
use crate::store::Download;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

/// Of one layer.
const MOST_URLS: usize = 8;

pub(super) struct Partial<'a> {
    pub(super) remote: &'a Remote,
    pub(super) wanted: &'a Descriptor,
    pub(super) download: &'a Download,
    pub(super) layer: &'a Layer<'a>,
    /// Set when another layer failed, after which this one goes on for nothing.
    pub(super) stop: &'a AtomicBool,
    /// Bytes that were there before.
    there: u64,
    done: u64,
    body: Option<BlobReader>,
    /// It was the registry, or the way to it, that failed.
    failed: bool,
}

impl<'a> Partial<'a> {
    pub(super) fn new(
        remote: &'a Remote,
        wanted: &'a Descriptor,
        download: &'a Download,
        layer: &'a Layer<'a>,
        stop: &'a AtomicBool,
    ) -> Result<Self> {
        let mut there = download.len()?;
        // A schema 1 manifest says no sizes.
        if wanted.size > 0 && there > wanted.size {
            download.clear()?;
            there = 0;
        }
        Ok(Partial {
            remote,
            wanted,
            download,
            layer,
            stop,
            there,
            done: 0,
            body: None,
            failed: false,
        })
    }

    /// Whether some of it was there before.
    pub(super) fn resumed(&self) -> bool {
        self.there > 0
    }

    /// Whether the bytes ended because no more could be had.
    pub(super) fn failed(&self) -> bool {
        self.failed
    }

    fn size(&self) -> Option<u64> {
        (self.wanted.size > 0).then_some(self.wanted.size)
    }

    fn fetch(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.size() == Some(self.done) {
            return Ok(0);
        }
        if self.body.is_none() {
            let wanted = Wanted {
                digest: &self.wanted.digest,
                size: self.size(),
                urls: foreign_urls(self.wanted),
            };
            self.body = Some(self.remote.open_blob(wanted, self.done)?);
        }
        match &mut self.body {
            Some(body) => Ok(body.read(buffer)?),
            None => Ok(0),
        }
    }
}

/// Other addresses than the registry's. Only a layer that may not be handed on has any: of others nobody should be able to
/// name servers that this machine is to ask.
fn foreign_urls(layer: &Descriptor) -> &[String] {
    match media::layer(&layer.media_type) {
        Some(kind) if kind.foreign => &layer.urls[..layer.urls.len().min(MOST_URLS)],
        _ => &[],
    }
}

impl Read for Partial<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            self.failed = true;
            return Err(io::Error::other("another layer failed"));
        }
        let n = if self.done < self.there {
            let most = usize::try_from(self.there - self.done)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            self.download.file().read_at(&mut buffer[..most], self.done)?
        } else {
            let n = self.fetch(buffer).map_err(|e| {
                self.failed = true;
                io::Error::other(e.to_string())
            })?;
            self.download
                .file()
                .write_all_at(&buffer[..n], self.done)
                .inspect_err(|_| self.failed = true)?;
            if n > 0 {
                crate::sys::stop_point("blob-partly-fetched");
            }
            n
        };
        self.done += n as u64;
        self.layer.step(Step::Downloading {
            done: self.done,
            total: self.size(),
        });
        Ok(n)
    }
}
