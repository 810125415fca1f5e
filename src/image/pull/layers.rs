//! Brings the layers of an image, several at a time: network → digest and partial download → decompression → diff id →
//! files, in one pass. A layer that another process brings is waited for; nothing is fetched twice at once.

use super::partial::Partial;
use super::plan::Job;
use crate::error::{Context, Error, Result};
use crate::image::intake::{Intake, Slot, Tee, Unpacked};
use crate::image::progress::{Layer, Progress, Step};
use crate::layer::compress;
use crate::model::digest::Digest;
use crate::registry::Remote;
use crate::store::{Download, LayerBlob, LayerLock};
use crate::sys::stop_point;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Two of them keep two cores busy; the others wait for the network meanwhile.
const AT_ONCE: usize = 4;

/// Brings every layer that is missing. After a failure the others end first; what was fetched stays.
pub(super) fn bring(intake: &Intake<'_>, remote: &Remote, jobs: &[Job<'_>], progress: &dyn Progress) -> Result<()> {
    let mut missing = Vec::new();
    for job in jobs {
        let layer = Layer::new(progress, &job.descriptor.digest.hex());
        match intake.find(&job.chain)? {
            true => layer.step(Step::Exists),
            false => {
                layer.step(Step::Waiting);
                missing.push((job, layer));
            }
        }
    }
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let work = || {
        // In order, so that locks are taken parents first.
        while !stop.load(Ordering::Relaxed)
            && let Some((job, layer)) = missing.get(next.fetch_add(1, Ordering::Relaxed))
        {
            let bring = Bring {
                intake,
                remote,
                job,
                layer,
                stop: &stop,
            };
            if let Err(e) = bring.run() {
                // The first one counts: it is what makes the others stop.
                let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                failure.get_or_insert(e);
                stop.store(true, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| -> Result<()> {
        for n in 1..AT_ONCE.min(missing.len()) {
            std::thread::Builder::new()
                .name(format!("layer {n}"))
                .spawn_scoped(scope, work)
                .context("start a thread")?;
        }
        work();
        Ok(())
    })?;
    let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
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
            self.layer.step(Step::Complete);
            return Ok(());
        }
        let download = store.download(&digest, &mut wait)?;
        let unpacked = match self.stored()? {
            Some(unpacked) => {
                download.clear()?;
                drop(download);
                unpacked
            }
            None => self.fetch(download)?,
        };
        self.layer.step(Step::Downloaded);
        self.keep(unpacked, lock)
    }

    /// Unpacks the blob that is in the store already; one that is damaged is dropped there.
    fn stored(&self) -> Result<Option<Unpacked>> {
        let digest = self.job.descriptor.digest;
        let store = self.intake.store();
        let Ok(mut file) = store.open_blob(&digest) else {
            return Ok(None);
        };
        let mut tee = Tee::new(&mut file, None);
        match tee.unpack_checked(self.intake, None) {
            Ok(unpacked) if tee.digest() == digest => Ok(Some(unpacked)),
            Err(e) if tee.digest() == digest => Err(e).with_context(|| format!("layer {digest}")),
            _ => {
                let held = store.lock_shared()?;
                store.discard_blob(&digest, &held)?;
                Ok(None)
            }
        }
    }

    /// What a partial download began with may be what a power cut left of it: then it is fetched anew, once.
    fn fetch(&self, download: Download) -> Result<Unpacked> {
        let digest = self.job.descriptor.digest;
        let mut again = true;
        loop {
            let mut partial = Partial::new(self.remote, self.job.descriptor, &download, self.layer, self.stop)?;
            let resumed = partial.resumed();
            let size = (self.job.descriptor.size > 0).then_some(self.job.descriptor.size);
            let mut tee = Tee::new(&mut partial, size);
            let unpacked = tee.unpack_checked(self.intake, Some(digest));
            let whole = tee.digest() == digest;
            let failed = partial.failed();
            match unpacked {
                Ok(unpacked) => {
                    stop_point("blob-fetched");
                    self.commit(download, &unpacked)?;
                    return Ok(unpacked);
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

    /// A compressed blob stays as it came; of an uncompressed one, the files and the tar record are as good.
    fn commit(&self, download: Download, unpacked: &Unpacked) -> Result<()> {
        if unpacked.compression == compress::Format::Plain {
            return download.clear();
        }
        let store = self.intake.store();
        let held = store.lock_shared()?;
        download.commit(store, &held)?;
        stop_point("blob-committed");
        Ok(())
    }

    fn keep(&self, unpacked: Unpacked, lock: LayerLock) -> Result<()> {
        let descriptor = self.job.descriptor;
        let blob = LayerBlob {
            digest: descriptor.digest,
            size: descriptor.size,
            media_type: descriptor.media_type.clone(),
        };
        let digest: Digest = descriptor.digest;
        let lock = Some((lock, digest.hex()));
        let slot = Slot {
            parent: self.job.parent,
            diff_id: Some(self.job.diff_id),
        };
        self.intake
            .keep_unpacked(unpacked, slot, Some(blob), lock)
            .with_context(|| format!("layer {digest}"))?;
        Ok(())
    }
}

fn stopped() -> Error {
    Error::other("another layer failed")
}
