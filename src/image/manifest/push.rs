//! `manifest push`: a list, and before it all that it names and the registry has not got: blobs are mounted from the
//! repository they came from, sent from here, or handed over from the other registry.

use super::{SOURCE, forget, published, read};
use crate::error::{Context, Error, Result};
use crate::format::descriptor::Descriptor;
use crate::format::manifest::{self, Dialect, Manifest};
use crate::format::media;
use crate::image::progress::{Event, Layer, Progress, Step};
use crate::image::save;
use crate::model::digest::Digest;
use crate::model::id::{ChainId, DiffId, ImageId};
use crate::model::reference::Reference;
use crate::registry::{self, Access, Action, Mount, Remote, Selector, Wanted};
use crate::store::Store;
use std::fs::File;
use std::io::{Read, Seek};
use std::sync::Arc;

pub(crate) struct Push<'a> {
    pub(crate) list: &'a Reference,
    /// Elsewhere than under its own name.
    pub(crate) destination: Option<Reference>,
    pub(crate) access: &'a Access,
    /// Whose words the list is sent in; its own by default.
    pub(crate) dialect: Option<Dialect>,
    /// Forget it afterwards.
    pub(crate) purge: bool,
}

/// Returns the digest that the list has there.
pub(crate) fn push(store: &Store, push: &Push<'_>, progress: &dyn Progress) -> Result<Digest> {
    let index = read(store, push.list)?;
    if index.manifests.is_empty() {
        return Err(Error::other(format!("manifest list {} is empty", push.list))
            .with_hint(format!("barge manifest add {} IMAGE", push.list)));
    }
    let target = push.destination.as_ref().unwrap_or(push.list);
    let remote = Remote::open(target, Action::Push, push.access)?;
    let claim = store.claim()?;
    registry::taking_back(&remote, || {
        for entry in &index.manifests {
            claim.add(store, &[], &[entry.digest])?;
            let there = Transfer {
                store,
                remote: &remote,
                target,
                source: entry
                    .annotations
                    .get(SOURCE)
                    .and_then(|text| Reference::parse(text).ok()),
                access: push.access,
                progress,
            };
            there
                .manifest(entry)
                .with_context(|| format!("push manifest {}", entry.digest))?;
        }
        Ok(())
    })?;
    let mut index = published(index);
    index.dialect = push.dialect.unwrap_or(index.dialect);
    let bytes = index.render()?;
    remote.put_manifest(Selector::of(target), index.media_type(), &bytes)?;
    if push.purge {
        forget(store, push.list)?;
    }
    Ok(Digest::of(&bytes))
}

struct Transfer<'a> {
    store: &'a Store,
    remote: &'a Remote,
    target: &'a Reference,
    /// The name it was added by.
    source: Option<Reference>,
    access: &'a Access,
    progress: &'a dyn Progress,
}

impl Transfer<'_> {
    fn manifest(&self, entry: &Descriptor) -> Result<()> {
        let which = Selector::Digest(&entry.digest);
        if self.remote.head_manifest(which, media::ACCEPT)?.is_some() {
            return Ok(());
        }
        let bytes = self.store.read_blob(&entry.digest)?;
        let Manifest::Image(image) = manifest::parse(&bytes, Some(&entry.media_type))? else {
            return Err(Error::other("not an image"));
        };
        let here = self.store.image(&ImageId(image.config.digest)).ok();
        for (at, layer) in image.layers.iter().enumerate() {
            let known = here
                .as_ref()
                .and_then(|record| Some((*record.layers.get(at)?, *record.config.rootfs.diff_ids.get(at)?)));
            self.blob(layer, known)?;
        }
        self.blob(&image.config, None)?;
        self.remote.put_manifest(which, &entry.media_type, &bytes)?;
        let text = format!("Pushed ref {}@{}", self.target.name(), entry.digest);
        self.progress.event(Event::Line(&text));
        Ok(())
    }

    fn blob(&self, blob: &Descriptor, layer: Option<(ChainId, DiffId)>) -> Result<()> {
        let label = Layer::new(self.progress, &blob.digest.hex());
        let foreign = media::layer(&blob.media_type).is_some_and(|kind| kind.foreign);
        if foreign || self.remote.has_blob(&blob.digest)? {
            label.step(Step::PushExists);
            return Ok(());
        }
        if let Some(source) = self.source.as_ref().filter(|source| source.host == self.target.host) {
            match self.remote.mount_blob(&blob.digest, &source.repository)? {
                Mount::Mounted => {
                    label.step(Step::Mounted(&source.repository));
                    return Ok(());
                }
                // Its bytes may have to be fetched first, which takes longer than a registry waits.
                Mount::Upload(upload) => drop(upload),
            }
        }
        let sent = |done| {
            label.step(Step::Pushing {
                done,
                total: Some(blob.size),
            });
        };
        self.remote
            .upload_blob(&blob.digest, blob.size, &mut self.opener(blob, layer)?, &sent)?;
        label.step(Step::Pushed);
        Ok(())
    }

    /// Where its bytes are: a blob here, a layer that is rebuilt, or the registry it was found at.
    #[allow(clippy::type_complexity)] // it is what upload_blob takes
    fn opener<'s>(
        &'s self,
        blob: &'s Descriptor,
        layer: Option<(ChainId, DiffId)>,
    ) -> Result<Box<dyn FnMut() -> Result<Box<dyn Read + Send>> + 's>> {
        let digest = blob.digest;
        if self.store.has_blob(&digest) {
            return Ok(Box::new(move || Ok(Box::new(self.store.open_blob(&digest)?))));
        }
        if let Some((chain, _)) = layer.filter(|(chain, diff)| diff.0 == digest && self.store.has_layer(chain)) {
            let staged = Arc::new(self.store.stage_file()?);
            let mut file = staged.file();
            save::write_plain(self.store, &chain, &mut file)?;
            return Ok(Box::new(move || {
                let mut file = staged.file().try_clone()?;
                file.rewind()?;
                Ok(Box::new(Kept {
                    file,
                    _staged: staged.clone(),
                }))
            }));
        }
        let source = self.source.clone().ok_or_else(|| {
            Error::other(format!(
                "blob {digest} is not here, and it is not known where it came from"
            ))
            .with_hint("add the image to the list by its name at a registry")
        })?;
        // What was given for one registry is not for another.
        let access = match source.host == self.target.host {
            true => self.access.clone(),
            false => self.access.for_another(),
        };
        let from = Remote::open(&source, Action::Pull, &access)?;
        Ok(Box::new(move || {
            let wanted = Wanted {
                digest: &digest,
                size: Some(blob.size),
                urls: &blob.urls,
            };
            Ok(Box::new(from.open_blob(wanted, 0)?))
        }))
    }
}

/// A rebuilt layer, kept while it is read.
struct Kept {
    file: File,
    _staged: Arc<crate::store::StagedFile>,
}

impl Read for Kept {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.file.read(buffer)
    }
}
