//! Images of schema 1 manifests: neither sizes nor diff ids are known before a layer has been read, so they are taken one
//! after the other, and the configuration is made of what they turned out to be.

use super::partial::Partial;
use super::{Pull, names};
use crate::error::{Context, Result};
use crate::format::descriptor::Descriptor;
use crate::format::media;
use crate::format::schema1::Schema1;
use crate::image::intake::{Intake, NewImage, Slot, Tee, Unpacked};
use crate::image::progress::{Layer, Step};
use crate::layer::compress;
use crate::model::digest::Digest;
use crate::model::id::{ChainId, DiffId, ImageId};
use crate::model::reference::Reference;
use crate::store::LayerBlob;
use std::sync::atomic::AtomicBool;

impl Pull<'_> {
    pub(super) fn schema1(&self, name: &Reference, manifest: &Schema1, digest: Digest) -> Result<ImageId> {
        let intake = Intake::new(self.store, self.progress)?;
        let blobs = manifest.blobs();
        intake.claim(&[], &blobs)?;
        for blob in &blobs {
            Layer::new(self.progress, &blob.hex()).step(Step::Waiting);
        }
        let mut parent: Option<ChainId> = None;
        let mut diffs: Vec<DiffId> = Vec::new();
        for blob in &blobs {
            let done = self
                .schema1_layer(&intake, parent, blob)
                .with_context(|| format!("layer {blob}"))?;
            parent = Some(done.0);
            diffs.push(done.1);
        }
        let config = manifest.config(&diffs)?;
        self.check_platform(name, &crate::format::config::parse(&config)?, false)?;
        intake.finish(&NewImage {
            config: &config,
            names: &names(name, digest),
            told: self.told.of(name),
            ..NewImage::default()
        })
    }

    fn schema1_layer(
        &self,
        intake: &Intake<'_>,
        parent: Option<ChainId>,
        digest: &Digest,
    ) -> Result<(ChainId, DiffId)> {
        let layer = Layer::new(self.progress, &digest.hex());
        let wanted = Descriptor::new(media::DOCKER_LAYER_GZIP, *digest, 0);
        let stop = AtomicBool::new(false);
        let download = self.store.download(digest, &mut || Ok(()))?;
        let (unpacked, size) = match self.schema1_stored(intake, digest)? {
            Some(read) => {
                download.clear()?;
                drop(download);
                read
            }
            None => {
                let mut partial = Partial::new(self.remote, &wanted, &download, &layer, &stop)?;
                let read = read(intake, &mut Tee::new(&mut partial, None), digest);
                let failed = partial.failed();
                if read.is_err() && !failed {
                    download.clear()?;
                }
                let (unpacked, size) = read?;
                match unpacked.compression {
                    compress::Format::Plain => download.clear()?,
                    _ => download.commit(self.store, &self.store.lock_shared()?)?,
                }
                (unpacked, size)
            }
        };
        layer.step(Step::Downloaded);
        let blob = LayerBlob {
            digest: *digest,
            size,
            media_type: wanted.media_type,
        };
        let slot = Slot { parent, diff_id: None };
        let done = intake.keep_unpacked(unpacked, slot, Some(blob), None)?;
        layer.step(Step::Complete);
        Ok((done.chain, done.diff_id))
    }

    /// What is in the store already; one that is damaged is dropped there.
    fn schema1_stored(&self, intake: &Intake<'_>, digest: &Digest) -> Result<Option<(Unpacked, u64)>> {
        let Ok(mut file) = self.store.open_blob(digest) else {
            return Ok(None);
        };
        let mut tee = Tee::new(&mut file, None);
        let read = read(intake, &mut tee, digest);
        if tee.digest() == *digest {
            return read.map(Some);
        }
        self.store.discard_blob(digest, &self.store.lock_shared()?)?;
        Ok(None)
    }
}

fn read(intake: &Intake<'_>, tee: &mut Tee<'_>, digest: &Digest) -> Result<(Unpacked, u64)> {
    let unpacked = tee.unpack_checked(intake, Some(*digest))?;
    Ok((unpacked, tee.count))
}
