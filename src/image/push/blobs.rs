//! Sends the blobs of an image, several at a time: looked for there first, mounted from another repository of the same
//! registry where one has it, uploaded otherwise.

use super::Push;
use super::compress::Making;
use super::form::{Form, Packing, is_foreign, made};
use super::growing::{End, Follower, Growing};
use crate::error::{Context, Error, Result};
use crate::format::descriptor::Descriptor;
use crate::format::media::{self, Compression};
use crate::image::progress::{self, Step};
use crate::model::id::ChainId;
use crate::model::image::ImageRecord;
use crate::model::reference::Reference;
use crate::registry::{Blob, Mount, Passing, Remote, Upload};
use crate::store::LayerBlob;
use std::fs::File;
use std::io::{Read, Seek};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const AT_ONCE: usize = 4;
/// What turns out to have less than so many bytes is sent when it is whole, in one request with its length.
const AT_LENGTH: u64 = 1 << 20;

/// Sends all but the manifest, which is complete then.
pub(super) fn send(push: &Push<'_>, image: &ImageRecord, mut form: Form, to: &Reference) -> Result<Form> {
    let elsewhere = repositories(push, image, to)?;
    let labels: Vec<progress::Layer<'_>> = form
        .layers
        .iter()
        .map(|layer| progress::Layer::new(push.progress, &layer.diff_id.0.hex()))
        .collect();
    for label in labels.iter().rev() {
        label.step(Step::Preparing);
    }
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let outcome: Mutex<(Option<Error>, Vec<Option<Descriptor>>)> = Mutex::new((None, vec![None; form.layers.len()]));
    let compressing = Mutex::new(());
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let (Some(layer), Some(label)) = (form.layers.get(n), labels.get(n)) else {
                return;
            };
            let outgoing = Outgoing {
                push,
                label,
                elsewhere: &elsewhere,
                compressing: &compressing,
                chain: &layer.chain,
                packing: form.packing,
                dialect: form.manifest.dialect,
            };
            let sent = outgoing.run(layer.blob.as_ref());
            let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
            match sent {
                Ok(descriptor) => outcome.1[n] = Some(descriptor),
                Err(e) => {
                    outcome.0.get_or_insert(e);
                    stop.store(true, Ordering::Relaxed);
                }
            }
        }
    };
    std::thread::scope(|scope| -> Result<()> {
        for n in 1..AT_ONCE.min(form.layers.len()) {
            std::thread::Builder::new()
                .name(format!("push {n}"))
                .spawn_scoped(scope, work)
                .context("start a thread")?;
        }
        work();
        Ok(())
    })?;
    let (failure, sent) = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(e) = failure {
        return Err(e);
    }
    drop(labels);
    for (layer, descriptor) in form.layers.iter_mut().zip(sent) {
        layer.blob = descriptor;
    }
    form.complete()?;
    config(push, &form)?;
    Ok(form)
}

fn config(push: &Push<'_>, form: &Form) -> Result<()> {
    let digest = form.manifest.config.digest;
    if push.remote.has_blob(&digest)? {
        return Ok(());
    }
    let size = form.config.len() as u64;
    let mut open = || -> Result<Box<dyn Read + Send>> { Ok(Box::new(std::io::Cursor::new(form.config.clone()))) };
    push.remote.upload_blob(&digest, size, &mut open, &|_| ())
}

/// Other repositories of the same registry that have been pulled from or pushed to, and the layers they have.
fn repositories(push: &Push<'_>, image: &ImageRecord, to: &Reference) -> Result<Vec<(String, Vec<ChainId>)>> {
    let tags = push.store.tags()?;
    let mut found: Vec<(String, Vec<ChainId>)> = Vec::new();
    for (name, id) in tags.digests() {
        if name.host != to.host || name.repository == to.repository {
            continue;
        }
        let Ok(other) = push.store.image(&id) else { continue };
        let shared: Vec<ChainId> = other
            .layers
            .into_iter()
            .filter(|layer| image.layers.contains(layer))
            .collect();
        if !shared.is_empty() {
            found.push((name.repository, shared));
        }
    }
    Ok(found)
}

/// A layer that is being sent.
struct Outgoing<'a> {
    push: &'a Push<'a>,
    label: &'a progress::Layer<'a>,
    elsewhere: &'a [(String, Vec<ChainId>)],
    /// One is compressed at a time, with all cores, while others are sent.
    compressing: &'a Mutex<()>,
    chain: &'a ChainId,
    packing: Packing,
    dialect: crate::format::manifest::Dialect,
}

impl Outgoing<'_> {
    fn run(&self, blob: Option<&Descriptor>) -> Result<Descriptor> {
        match blob {
            Some(descriptor) => self.send(descriptor),
            None => self.make(),
        }
    }

    /// A blob that is known.
    fn send(&self, descriptor: &Descriptor) -> Result<Descriptor> {
        if is_foreign(descriptor) || self.push.remote.has_blob(&descriptor.digest)? {
            self.label.step(Step::PushExists);
            return Ok(descriptor.clone());
        }
        let sent = self.mount_or_upload(descriptor);
        sent.with_context(|| format!("layer {}", descriptor.digest))?;
        Ok(descriptor.clone())
    }

    /// A layer that is not compressed yet.
    fn make(&self) -> Result<Descriptor> {
        let (store, chain, compression) = (self.push.store, self.chain, self.packing.compression);
        if compression == Compression::None {
            let record = store.layer(chain)?;
            let size = crate::image::save::plain_length(store, chain)?;
            return self.send(&made(self.dialect, compression, record.diff_id.0, size));
        }
        let described = |blob: &LayerBlob| made(self.dialect, compression, blob.digest, blob.size);
        // It was once, and dropped; the registry may have it still.
        for blob in self.compressed()? {
            if self.push.remote.has_blob(&blob.digest)? {
                self.label.step(Step::PushExists);
                return Ok(described(&blob));
            }
        }
        let turn = self.compressing.lock().unwrap_or_else(PoisonError::into_inner);
        // It may be in the image twice, or have been pushed by another process just now.
        if let Some(blob) = self.compressed()?.iter().find(|b| store.has_blob(&b.digest)) {
            drop(turn);
            return self.send(&described(blob));
        }
        let blob = self.compress_and_upload(turn)?;
        self.label.step(Step::Pushed);
        Ok(described(&blob))
    }

    /// What the layer has been compressed to, newest first; some of it may have been dropped.
    fn compressed(&self) -> Result<Vec<LayerBlob>> {
        let media_type = media::oci_layer(self.packing.compression);
        let mut known = self.push.store.layer(self.chain)?.blobs;
        known.retain(|blob| media::oci_form(&blob.media_type) == media_type);
        known.reverse();
        Ok(known)
    }

    /// Sends what is there while the rest is made. When all is made, the next layer's turn is.
    fn compress_and_upload(&self, turn: MutexGuard<'_, ()>) -> Result<LayerBlob> {
        let making = Making {
            store: self.push.store,
            chain: self.chain,
            packing: self.packing,
        };
        // First, as it may be refused.
        let upload = self.push.remote.begin_upload()?;
        let made = making.begin()?;
        let growing = made.growing.clone();
        std::thread::scope(|scope| {
            let sending = std::thread::Builder::new()
                .name("upload".to_owned())
                .spawn_scoped(scope, || self.follow(upload, &growing))
                .context("start a thread")?;
            let written = making.write(made);
            drop(turn);
            let kept = written
                .and_then(|written| making.keep(written, &self.push.claim))
                .with_context(|| format!("compress layer {}", self.chain));
            let sent = sending
                .join()
                .map_err(|_| Error::other("the sending thread panicked"))?;
            kept.and_then(|blob| {
                sent.with_context(|| format!("layer {}", blob.digest))?;
                Ok(blob)
            })
        })
    }

    /// Sends a blob that is being made.
    fn follow(&self, mut upload: Upload, growing: &Arc<Growing>) -> Result<()> {
        let told = |done: u64, total: Option<u64>| self.label.step(Step::Pushing { done, total });
        if !growing.ends_within(AT_LENGTH) {
            let body = Passing {
                reader: Box::new(Follower::new(growing.clone())),
                sent: &|done| told(done, None),
            };
            upload = Remote::stream(upload, body);
        }
        let End::Whole { digest, size } = growing.end() else {
            // Why, the writing end says.
            return Ok(());
        };
        let blob = Blob {
            digest: &digest,
            size,
            open: &mut || Ok(Box::new(Follower::new(growing.clone()))),
            sent: &|done| told(done, Some(size)),
        };
        self.push.remote.upload_into(upload, blob)
    }

    fn mount_or_upload(&self, descriptor: &Descriptor) -> Result<()> {
        let from = self
            .elsewhere
            .iter()
            .find(|(_, layers)| layers.contains(self.chain))
            .map(|(repository, _)| repository);
        let upload = match from {
            None => self.push.remote.begin_upload()?,
            Some(from) => match self.push.remote.mount_blob(&descriptor.digest, from)? {
                Mount::Mounted => {
                    self.label.step(Step::Mounted(from));
                    return Ok(());
                }
                Mount::Upload(upload) => upload,
            },
        };
        let file = self.file(descriptor)?;
        let mut open = || -> Result<Box<dyn Read + Send>> {
            let mut file = file.try_clone().context("open blob")?;
            file.rewind()?;
            Ok(Box::new(file))
        };
        let sent = |done: u64| {
            self.label.step(Step::Pushing {
                done,
                total: Some(descriptor.size),
            });
        };
        let blob = Blob {
            digest: &descriptor.digest,
            size: descriptor.size,
            open: &mut open,
            sent: &sent,
        };
        self.push.remote.upload_into(upload, blob)?;
        self.label.step(Step::Pushed);
        Ok(())
    }

    /// The blob, or the plain tar in a file that goes with this process.
    fn file(&self, descriptor: &Descriptor) -> Result<File> {
        if let Ok(file) = self.push.store.open_blob(&descriptor.digest) {
            return Ok(file);
        }
        let plain = Making {
            store: self.push.store,
            chain: self.chain,
            packing: Packing {
                compression: Compression::None,
                level: None,
            },
        };
        let written = plain.write(plain.begin()?)?;
        match written.digest == descriptor.digest {
            true => Ok(written.staged.file().try_clone().context("open blob")?),
            false => Err(Error::not_found(format!("No such blob: {}", descriptor.digest))
                .with_hint("it was dropped here; push with --compression-format gzip to make it anew")),
        }
    }
}
