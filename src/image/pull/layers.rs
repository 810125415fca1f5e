//! Brings the layers of an image, several at a time: network → digest and partial download → decompression → diff id →
//! files, in one pass. A layer that another process brings is waited for; nothing is fetched twice at once.
//!
//! A layer that is here, but not as the blob that the manifest names, is fetched as that, too, and only kept: the image
//! goes out again with the digests it came with, which no other compression of the same files would have.

use super::partial::Partial;
use super::plan::Job;
use super::workers;
use crate::error::{Context, Error, Result};
use crate::format::descriptor::Descriptor;
use crate::image::intake::{Intake, Slot, Tee, Unpacked, check_is_of};
use crate::image::progress::{Layer, Progress, Step};
use crate::layer::compress;
use crate::model::digest::Digest;
use crate::registry::Remote;
use crate::store::{Download, LayerBlob, LayerLock};
use crate::sys::stop_point;
use std::sync::atomic::{AtomicBool, Ordering};

/// Brings every layer that is missing. After a failure the others end first; what was fetched stays.
pub(super) fn bring(intake: &Intake<'_>, remote: &Remote, jobs: &[Job<'_>], progress: &dyn Progress) -> Result<()> {
    let mut missing = Vec::new();
    for job in jobs {
        let layer = Layer::new(progress, &job.descriptor.digest.hex());
        match intake.find(&job.chain)? && intake.has_form(&job.chain, &job.descriptor.digest)? {
            true => layer.step(Step::Exists),
            false => {
                layer.step(Step::Waiting);
                missing.push((job, layer));
            }
        }
    }
    let failure = workers::for_each(&missing, |(job, layer), stop| {
        let bring = Bring {
            intake,
            remote,
            job,
            layer,
            stop,
        };
        bring.run()
    });
    let kept = intake.commit_all();
    match failure {
        Some(e) => Err(e),
        None => kept,
    }
}

struct Bring<'a> {
    intake: &'a Intake<'a>,
    remote: &'a Remote,
    job: &'a Job<'a>,
    layer: &'a Layer<'a>,
    stop: &'a AtomicBool,
}

impl Bring<'_> {
    fn run(&self) -> Result<()> {
        let digest = self.job.descriptor.digest;
        let store = self.intake.store();
        let mut told = false;
        let mut wait = || {
            if !told {
                self.layer.step(Step::Elsewhere);
                told = true;
            }
            match self.stop.load(Ordering::Relaxed) {
                true => Err(stopped()),
                // Locks are taken parents first but by several threads, so that each of two pulls may have one the
                // other waits for; those of layers that are ready are free when these are in place.
                false => self.intake.commit_ready(),
            }
        };
        let lock = store.lock_layer(&self.job.chain, &mut wait)?;
        if self.intake.find(&self.job.chain)? {
            drop(lock);
            if !self.intake.has_form(&self.job.chain, &digest)? {
                self.another_form(store.download(&digest, &mut wait)?)?;
            }
            self.layer.step(Step::Complete);
            return Ok(());
        }
        let download = store.download(&digest, &mut wait)?;
        let unpacked = self.unpacked(download)?;
        self.layer.step(Step::Downloaded);
        self.keep(unpacked, lock)
    }

    fn unpacked(&self, download: Download) -> Result<Unpacked> {
        let unpack = |input: &mut Tee<'_>| self.intake.unpack(input);
        if let Some(unpacked) = self.stored(unpack)? {
            download.clear()?;
            return Ok(unpacked);
        }
        let unpacked = self.fetch(&download, unpack)?;
        match unpacked.compression {
            // Its files and the tar record are as good.
            compress::Format::Plain => download.clear()?,
            _ => self.commit(download)?,
        }
        Ok(unpacked)
    }

    /// Keeps the blob beside the layer.
    fn another_form(&self, download: Download) -> Result<()> {
        let check = |input: &mut Tee<'_>| check_is_of(input, &self.job.diff_id);
        match self.stored(check)? {
            Some(()) => download.clear()?,
            None => {
                self.fetch(&download, check)?;
                self.commit(download)?;
            }
        }
        self.layer.step(Step::Downloaded);
        self.intake.add_form(&self.job.chain, self.blob())
    }

    /// Reads the blob that is in the store already; one that is damaged is dropped there.
    fn stored<T>(&self, read: impl FnOnce(&mut Tee<'_>) -> Result<T>) -> Result<Option<T>> {
        let digest = self.job.descriptor.digest;
        let store = self.intake.store();
        let Ok(mut file) = store.open_blob(&digest) else {
            return Ok(None);
        };
        let mut tee = Tee::new(&mut file, None);
        match tee.read_checked(None, |input| read(input)) {
            Ok(done) if tee.digest() == digest => Ok(Some(done)),
            Err(e) if tee.digest() == digest => Err(e).with_context(|| format!("layer {digest}")),
            _ => {
                let held = store.lock_shared()?;
                store.discard_blob(&digest, &held)?;
                Ok(None)
            }
        }
    }

    /// What a partial download began with may be what a power cut left of it: then it is fetched anew, once.
    fn fetch<T>(&self, download: &Download, read: impl Fn(&mut Tee<'_>) -> Result<T>) -> Result<T> {
        let digest = self.job.descriptor.digest;
        let mut again = true;
        loop {
            let mut partial = Partial::new(self.remote, self.job.descriptor, download, self.layer, self.stop)?;
            let resumed = partial.resumed();
            let size = (self.job.descriptor.size > 0).then_some(self.job.descriptor.size);
            let mut tee = Tee::new(&mut partial, size);
            let done = tee.read_checked(Some(digest), |input| read(input));
            let whole = tee.digest() == digest;
            let failed = partial.failed();
            match done {
                Ok(done) => {
                    stop_point("blob-fetched");
                    return Ok(done);
                }
                Err(e) if failed || whole => return Err(e).with_context(|| format!("layer {digest}")),
                Err(e) => {
                    download.clear()?;
                    if !resumed || !again {
                        return Err(e).with_context(|| format!("layer {digest}"));
                    }
                    again = false;
                }
            }
        }
    }

    fn commit(&self, download: Download) -> Result<()> {
        let store = self.intake.store();
        let held = store.lock_shared()?;
        download.commit(store, &held)?;
        stop_point("blob-committed");
        Ok(())
    }

    fn blob(&self) -> LayerBlob {
        let Descriptor {
            digest,
            size,
            media_type,
            ..
        } = self.job.descriptor;
        LayerBlob {
            digest: *digest,
            size: *size,
            media_type: media_type.clone(),
        }
    }

    fn keep(&self, unpacked: Unpacked, lock: LayerLock) -> Result<()> {
        let digest: Digest = self.job.descriptor.digest;
        let lock = Some((lock, digest.hex()));
        let slot = Slot {
            parent: self.job.parent,
            diff_id: Some(self.job.diff_id),
        };
        self.intake
            .keep_unpacked(unpacked, slot, Some(self.blob()), lock)
            .with_context(|| format!("layer {digest}"))?;
        Ok(())
    }
}

fn stopped() -> Error {
    Error::other("another layer failed")
}
