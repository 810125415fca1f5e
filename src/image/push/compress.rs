//! A layer's tar → the blob a registry gets. Done once: the blob stays in the store, and the layer knows it.

use super::form::Packing;
use crate::error::{Context, Result};
use crate::format::media::{self, Compression};
use crate::image::save;
use crate::layer::gzip;
use crate::model::digest::Digest;
use crate::model::id::ChainId;
use crate::model::image::ImageRecord;
use crate::store::{Claim, LayerBlob, StagedFile, Store};
use crate::sys::writeback::begin_write_back;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;

/// libdeflate's lowest: within 5 % of the size that zlib's level 6 makes, in a third of its time.
const GZIP_LEVEL: u32 = 1;
const ZSTD_LEVEL: i32 = 3;

/// What was written.
pub(super) struct Written {
    pub(super) staged: StagedFile,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// The layer's tar into a file of its own, compressed as asked.
pub(super) fn write(store: &Store, chain: &ChainId, packing: Packing) -> Result<Written> {
    let staged = store.stage_file()?;
    let mut out = Hashed {
        file: staged.file(),
        hasher: Sha256::new(),
        size: 0,
        begun: 0,
    };
    let tar = |to: &mut (dyn Write + Send)| save::write_plain(store, chain, to);
    match packing.compression {
        Compression::Gzip => {
            let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
            let level = packing.level.and_then(|level| u32::try_from(level).ok());
            gzip::compress(&mut out, level.unwrap_or(GZIP_LEVEL).min(9), threads, tar)?;
        }
        Compression::Zstd => {
            let mut encoder = zstd::Encoder::new(&mut out, packing.level.unwrap_or(ZSTD_LEVEL)).context("compress")?;
            tar(&mut encoder)?;
            encoder.finish().context("write archive")?;
        }
        Compression::None => tar(&mut out)?,
    }
    let (digest, size) = (Digest::from_hasher(out.hasher), out.size);
    Ok(Written { staged, digest, size })
}

/// The same, and keeps it.
pub(super) fn keep(
    store: &Store,
    claim: &Claim,
    chain: &ChainId,
    packing: Packing,
    media_type: &str,
) -> Result<LayerBlob> {
    let written = write(store, chain, packing)?;
    let blob = LayerBlob {
        digest: written.digest,
        size: written.size,
        media_type: media_type.to_owned(),
    };
    claim.add(store, &[], &[blob.digest])?;
    let held = store.lock_shared()?;
    store.commit_blob(written.staged, &blob.digest, &held)?;
    store.add_layer_blob(chain, blob.clone(), &held)?;
    crate::sys::stop_point("layer-compressed");
    Ok(blob)
}

/// A compressed form of a layer that is in the store: the one it came in, or one that is made now. Its blob is claimed.
pub(crate) fn compressed(store: &Store, claim: &Claim, chain: &ChainId) -> Result<LayerBlob> {
    let packed =
        |blob: &LayerBlob| media::layer(&blob.media_type).is_some_and(|kind| kind.compression != Compression::None);
    let known = store.layer(chain)?.blobs;
    claim.add(store, &[*chain], &known.iter().map(|b| b.digest).collect::<Vec<_>>())?;
    match known
        .into_iter()
        .find(|blob| packed(blob) && store.has_blob(&blob.digest))
    {
        Some(blob) => Ok(blob),
        None => keep(store, claim, chain, Packing::default(), media::OCI_LAYER_GZIP)
            .with_context(|| format!("compress layer {chain}")),
    }
}

/// Before an image is described for others (in a manifest list): a compressed form of every layer that was made here.
/// What came with a manifest whose blobs are here goes out as it came, and is left alone.
pub(crate) fn prepare(store: &Store, image: &ImageRecord, claim: &Claim) -> Result<()> {
    claim.add(store, &image.layers, &[])?;
    if save::comes_as_it_is(store, image)? {
        return Ok(());
    }
    for chain in &image.layers {
        compressed(store, claim, chain)?;
    }
    Ok(())
}

struct Hashed<'a> {
    file: &'a File,
    hasher: Sha256,
    size: u64,
    /// Up to here the disk has been told to write.
    begun: u64,
}

/// So much is written to the disk while the next is compressed, that little is left to wait for at the end.
const AT_ONCE: u64 = 8 << 20;

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.size += n as u64;
        if self.size - self.begun >= AT_ONCE {
            // A filesystem that can't is as good, and slower.
            let _ = begin_write_back(self.file.as_fd());
            self.begun = self.size;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
