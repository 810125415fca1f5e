//! A layer's tar → the blob a registry gets. Done once: the blob stays in the store, and the layer knows it.

use super::form::Packing;
use super::growing::{Growing, Writer};
use crate::error::{Context, Result};
use crate::format::media::{self, Compression};
use crate::image::save;
use crate::layer::{gzip, tar_split};
use crate::model::digest::Digest;
use crate::model::id::ChainId;
use crate::model::image::ImageRecord;
use crate::store::{Claim, LayerBlob, StagedFile, Store};
use std::sync::Arc;

/// libdeflate's lowest: within 5 % of the size that zlib's level 6 makes, in a third of its time.
const GZIP_LEVEL: u32 = 1;
const ZSTD_LEVEL: i32 = 3;

/// A layer that is to be compressed.
#[derive(Clone, Copy)]
pub(super) struct Making<'a> {
    pub(super) store: &'a Store,
    pub(super) chain: &'a ChainId,
    pub(super) packing: Packing,
}

/// It, in a file of its own.
pub(super) struct Made {
    staged: StagedFile,
    pub(super) growing: Arc<Growing>,
}

/// All of it.
pub(super) struct Written {
    pub(super) staged: StagedFile,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

impl Making<'_> {
    /// A place for it, in which it can be followed.
    pub(super) fn begin(&self) -> Result<Made> {
        let staged = self.store.stage_file()?;
        let file = staged.file().try_clone().context("open blob")?;
        Ok(Made {
            staged,
            growing: Arc::new(Growing::new(file)),
        })
    }

    /// The layer's tar, compressed as asked.
    pub(super) fn write(&self, made: Made) -> Result<Written> {
        let mut out = Writer::new(&made.growing);
        self.compress(&mut out)?;
        let (digest, size) = out.finish();
        Ok(Written {
            staged: made.staged,
            digest,
            size,
        })
    }

    fn compress(&self, mut out: &mut Writer<'_>) -> Result<()> {
        let Making { store, chain, packing } = *self;
        match packing.compression {
            Compression::Gzip => {
                let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
                let level = packing.level.and_then(|level| u32::try_from(level).ok());
                let level = level.unwrap_or(GZIP_LEVEL).min(9);
                // gzip sums what goes into it, which is enough to know it again.
                let (known, found) = gzip::compress(out, level, threads, |to| save::write_summed(store, chain, to))?;
                if known.is_some_and(|known| known != found) {
                    let diff_id = store.layer(chain)?.diff_id;
                    return Err(tar_split::damaged(diff_id, "its files have changed"));
                }
                Ok(())
            }
            Compression::Zstd => {
                let level = packing.level.unwrap_or(ZSTD_LEVEL);
                let mut encoder = zstd::Encoder::new(out, level).context("compress")?;
                save::write_plain(store, chain, &mut encoder)?;
                encoder.finish().context("write archive").map(drop)
            }
            Compression::None => save::write_plain(store, chain, &mut out),
        }
    }

    /// Keeps what was written.
    pub(super) fn keep(&self, written: Written, claim: &Claim) -> Result<LayerBlob> {
        let blob = LayerBlob {
            digest: written.digest,
            size: written.size,
            media_type: media::oci_layer(self.packing.compression).to_owned(),
        };
        claim.add(self.store, &[], &[blob.digest])?;
        let held = self.store.lock_shared()?;
        self.store.commit_blob(written.staged, &blob.digest, &held)?;
        self.store.add_layer_blob(self.chain, blob.clone(), &held)?;
        crate::sys::stop_point("layer-compressed");
        Ok(blob)
    }

    /// All of that.
    pub(super) fn run(&self, claim: &Claim) -> Result<LayerBlob> {
        let written = self.write(self.begin()?)?;
        self.keep(written, claim)
    }
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
        None => {
            let packing = Packing::default();
            let made = Making { store, chain, packing }.run(claim);
            made.with_context(|| format!("compress layer {chain}"))
        }
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
