//! Sends the blobs of an image, several at a time: looked for there first, mounted from another repository of the same
//! registry where one has it, uploaded otherwise.

use super::form::{Form, Packing, is_foreign, made};
use super::{Push, compress};
use crate::error::{Context, Error, Result};
use crate::format::descriptor::Descriptor;
use crate::format::media::Compression;
use crate::image::progress::{self, Step};
use crate::model::id::ChainId;
use crate::model::image::ImageRecord;
use crate::model::reference::Reference;
use crate::registry::{Blob, Mount};
use std::fs::File;
use std::io::{Read, Seek};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

const AT_ONCE: usize = 4;

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
        let made_now;
        let descriptor = match blob {
            Some(descriptor) => descriptor,
            None => {
                made_now = self.compress()?;
                &made_now
            }
        };
        if is_foreign(descriptor) || self.push.remote.has_blob(&descriptor.digest)? {
            self.label.step(Step::PushExists);
            return Ok(descriptor.clone());
        }
        let sent = self.mount_or_upload(descriptor);
        sent.with_context(|| format!("layer {}", descriptor.digest))?;
        Ok(descriptor.clone())
    }

    fn compress(&self) -> Result<Descriptor> {
        let _turn = self.compressing.lock().unwrap_or_else(PoisonError::into_inner);
        let compression = self.packing.compression;
        if compression == Compression::None {
            let record = self.push.store.layer(self.chain)?;
            let size = crate::image::save::plain_length(self.push.store, self.chain)?;
            return Ok(made(self.dialect, compression, record.diff_id.0, size));
        }
        // It may be in the image twice, or have been pushed by another process just now.
        let media_type = crate::format::media::oci_layer(compression);
        let known = self.push.store.layer(self.chain)?.blobs;
        let known = known.into_iter().rev().find(|b| {
            crate::format::media::oci_form(&b.media_type) == media_type && self.push.store.has_blob(&b.digest)
        });
        let blob = match known {
            Some(blob) => blob,
            None => compress::keep(self.push.store, &self.push.claim, self.chain, self.packing, media_type)
                .with_context(|| format!("compress layer {}", self.chain))?,
        };
        Ok(made(self.dialect, compression, blob.digest, blob.size))
    }

    fn mount_or_upload(&self, descriptor: &Descriptor) -> Result<()> {
        let from = self
            .elsewhere
            .iter()
            .find(|(_, layers)| layers.contains(self.chain))
            .map(|(repository, _)| repository);
        let upload = match from {
            None => None,
            Some(from) => match self.push.remote.mount_blob(&descriptor.digest, from)? {
                Mount::Mounted => {
                    self.label.step(Step::Mounted(from));
                    return Ok(());
                }
                Mount::Upload(upload) => Some(upload),
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
                total: descriptor.size,
            });
        };
        match upload {
            Some(upload) => self.push.remote.upload_into(
                upload,
                Blob {
                    digest: &descriptor.digest,
                    size: descriptor.size,
                    open: &mut open,
                    sent: &sent,
                },
            )?,
            None => self
                .push
                .remote
                .upload_blob(&descriptor.digest, descriptor.size, &mut open, &sent)?,
        }
        self.label.step(Step::Pushed);
        Ok(())
    }

    /// The blob, or the plain tar in a file that goes with this process.
    fn file(&self, descriptor: &Descriptor) -> Result<File> {
        if let Ok(file) = self.push.store.open_blob(&descriptor.digest) {
            return Ok(file);
        }
        let plain = Packing {
            compression: Compression::None,
            level: None,
        };
        let written = compress::write(self.push.store, self.chain, plain)?;
        match written.digest == descriptor.digest {
            true => Ok(written.staged.file().try_clone().context("open blob")?),
            false => Err(Error::not_found(format!("No such blob: {}", descriptor.digest))
                .with_hint("it was dropped here; push with --compression-format gzip to make it anew")),
        }
    }
}
