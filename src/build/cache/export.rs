//! `--cache-to`: what a build has made, and has taken from a cache, for other engines. Every step's record goes; layers
//! those of the target alone (`mode=min`), or all (`mode=max`). A layer that its destination has is not sent, and one
//! that was never needed here is not fetched for it.
//!
//! A directory is an OCI layout. Blobs are in it before `index.json` names them, each under a name of its own until it is
//! whole; one that is killed leaves blobs that nothing names, and the next export finds what is whole among them. Blobs
//! of older exports stay.

use crate::build::cache::import::REPOSITORY_TAGS;
use crate::build::layers::{LayerRef, Layers, Top};
use crate::build::options::{CacheExport, CachePlace};
use crate::build::progress::{Event, Progress};
use crate::build::sources::Pulling;
use crate::error::{Context as _, Error, Result};
use crate::format::cache::{self, Rendered};
use crate::format::descriptor::Descriptor;
use crate::format::manifest::{Dialect, Index};
use crate::format::{layout, media};
use crate::image::progress::Step as Sent;
use crate::image::{self, push};
use crate::model::digest::Digest;
use crate::model::id::{ChainId, DiffId};
use crate::model::reference::Reference;
use crate::model::time::Timestamp;
use crate::registry::{Access, Action, Remote, Selector, taking_back};
use crate::store::{Claim, Durability, Inputs, Store, file};
use crate::sys::stop_point;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// A step of the build that is over.
pub(crate) struct Step {
    pub(crate) inputs: Inputs,
    pub(crate) before: Top,
    /// Its own, unless it has made none.
    pub(crate) layer: Option<LayerRef>,
    pub(crate) created: Timestamp,
    pub(crate) content: Option<Digest>,
}

/// Where the cache goes.
pub(crate) struct Exports<'a> {
    store: &'a Store,
    claim: Claim,
    all: Vec<Export<'a>>,
    steps: Vec<cache::Step>,
    layers: BTreeMap<DiffId, Layer>,
}

struct Export<'a> {
    asked: &'a CacheExport,
    place: Place,
}

enum Place {
    Registry { remote: Box<Remote>, tag: String },
    Layout { dir: PathBuf, tag: String },
    Image,
}

/// How far an export had come.
pub(crate) struct Mark {
    steps: usize,
    layers: BTreeMap<DiffId, Layer>,
}

#[derive(Clone)]
struct Layer {
    from: From,
    of_target: bool,
}

#[derive(Clone)]
enum From {
    Here(ChainId),
    /// Every destination has it as this.
    There(Box<Descriptor>),
}

impl<'a> Exports<'a> {
    /// Looks at where it goes; nothing is sent yet.
    pub(crate) fn open(
        store: &'a Store,
        asked: &'a [CacheExport],
        access: &Access,
        progress: &dyn Progress,
    ) -> Result<Exports<'a>> {
        let mut all = Vec::new();
        for asked in asked {
            match place(asked, access) {
                Ok(place) => all.push(Export { asked, place }),
                Err(e) => failed(asked, e, progress)?,
            }
        }
        Ok(Exports {
            store,
            claim: store.claim()?,
            all,
            steps: Vec::new(),
            layers: BTreeMap::new(),
        })
    }

    /// What has been taken so far: of the platforms that are built.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            steps: self.steps.len(),
            layers: self.layers.clone(),
        }
    }

    /// The build of a platform begins again.
    pub(crate) fn forget(&mut self, since: &Mark) {
        self.steps.truncate(since.steps);
        self.layers = since.layers.clone();
    }

    /// Takes the steps of a build whose target is in place.
    pub(crate) fn take(&mut self, layers: &mut Layers<'_>, steps: &[Step], target: Top) -> Result<()> {
        if self.all.is_empty() {
            return Ok(());
        }
        let of_target: BTreeSet<LayerRef> = layers.stack(target).into_iter().collect();
        let all_stages = self.all.iter().any(|export| export.asked.all_stages);
        for step in steps {
            let before = layers.chain(step.before)?;
            let mut own = None;
            if let Some(layer) = step.layer
                && layers.changes(layer)?
            {
                let of_target = of_target.contains(&layer);
                own = Some(self.layer(layers, layer, of_target, all_stages)?);
            }
            self.steps.push(cache::Step {
                family: step.inputs.family,
                keys: step.inputs.keys(before).map(|key| key.whole).collect(),
                layer: own,
                created: step.created,
                content: step.content,
            });
        }
        Ok(())
    }

    fn layer(&mut self, layers: &mut Layers<'_>, layer: LayerRef, of_target: bool, all: bool) -> Result<DiffId> {
        let diff_id = layers.diff_id(layer)?;
        if !of_target && !all {
            return Ok(diff_id);
        }
        if let Some(known) = self.layers.get_mut(&diff_id) {
            known.of_target |= of_target;
            return Ok(diff_id);
        }
        let there = layers
            .is_elsewhere(layer)
            .then(|| layers.imports.descriptor(&diff_id).cloned());
        let from = match there.flatten() {
            Some(descriptor) if self.have(&descriptor)? => From::There(Box::new(descriptor)),
            _ => {
                layers.place(Some(layer))?;
                let chain = layers.chain(Some(layer))?;
                let chain = chain.ok_or_else(|| Error::other("a layer of the build is missing"))?;
                self.claim.add(self.store, &[chain], &[])?;
                From::Here(chain)
            }
        };
        self.layers.insert(diff_id, Layer { from, of_target });
        Ok(diff_id)
    }

    /// Whether all who want every stage have a layer.
    fn have(&self, layer: &Descriptor) -> Result<bool> {
        for export in self.all.iter().filter(|export| export.asked.all_stages) {
            let has = match &export.place {
                Place::Registry { remote, .. } => remote.has_blob(&layer.digest)?,
                Place::Layout { dir, .. } => has_whole(&dir.join(layout::blob_path(&layer.digest)), layer.size),
                Place::Image => true,
            };
            if !has {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What an image says of itself that carries its cache.
    pub(crate) fn annotation(&self) -> Result<Option<(String, String)>> {
        if !self.all.iter().any(|export| matches!(export.place, Place::Image)) {
            return Ok(None);
        }
        let text = cache::render_inline(self.steps.clone())?;
        Ok(Some((cache::INLINE.to_owned(), text)))
    }

    /// Sends it to every place.
    pub(crate) fn send(&self, progress: &dyn Progress) -> Result<()> {
        for export in &self.all {
            let sent = match &export.place {
                Place::Registry { remote, tag } => {
                    progress.event(Event::Line(&format!(
                        "Exporting cache to {}",
                        export.asked.place.shown()
                    )));
                    taking_back(remote, || self.to_registry(export, (remote, tag), &Pulling(progress)))
                }
                Place::Layout { dir, tag } => self.to_layout(export, dir, tag),
                Place::Image => Ok(()),
            };
            if let Err(e) = sent {
                failed(export.asked, e, progress)?;
            }
        }
        Ok(())
    }

    fn descriptors(&self, export: &Export<'_>) -> Result<Vec<(DiffId, Descriptor, bool)>> {
        let mut all = Vec::new();
        for (diff_id, layer) in &self.layers {
            if !layer.of_target && !export.asked.all_stages {
                continue;
            }
            let (descriptor, here) = match &layer.from {
                From::There(descriptor) => (Descriptor::clone(descriptor), false),
                From::Here(chain) => {
                    let blob = push::compressed(self.store, &self.claim, chain)?;
                    let media_type = media::oci_form(&blob.media_type);
                    (Descriptor::new(media_type, blob.digest, blob.size), true)
                }
            };
            all.push((*diff_id, descriptor, here));
        }
        Ok(all)
    }

    fn render(&self, layers: Vec<(DiffId, Descriptor, bool)>) -> Result<Rendered> {
        let layers = layers.into_iter().map(|(diff_id, layer, _)| (diff_id, layer));
        cache::render(self.steps.clone(), layers.collect())
    }

    fn to_registry(
        &self,
        export: &Export<'_>,
        (remote, tag): (&Remote, &str),
        progress: &dyn image::progress::Progress,
    ) -> Result<()> {
        let layers = self.descriptors(export)?;
        for (diff_id, layer, here) in &layers {
            let label = image::progress::Layer::new(progress, &diff_id.0.hex());
            if !*here || remote.has_blob(&layer.digest)? {
                label.step(Sent::PushExists);
                continue;
            }
            let mut open = || -> Result<Box<dyn Read + Send>> { Ok(Box::new(self.store.open_blob(&layer.digest)?)) };
            let total = Some(layer.size);
            let sent = |done| label.step(Sent::Pushing { done, total });
            remote.upload_blob(&layer.digest, layer.size, &mut open, &sent)?;
            label.step(Sent::Pushed);
            stop_point("cache-blob-written");
        }
        let rendered = self.render(layers)?;
        let config = Digest::of(&rendered.config);
        if !remote.has_blob(&config)? {
            let bytes = &rendered.config;
            let mut open = || -> Result<Box<dyn Read + Send>> { Ok(Box::new(std::io::Cursor::new(bytes.clone()))) };
            remote.upload_blob(&config, bytes.len() as u64, &mut open, &|_| ())?;
        }
        remote.put_manifest(Selector::Tag(tag), media::OCI_MANIFEST, &rendered.manifest)
    }

    fn to_layout(&self, export: &Export<'_>, dir: &Path, tag: &str) -> Result<()> {
        let blobs = dir.join("blobs/sha256");
        let made = DirBuilder::new().recursive(true).mode(0o755).create(&blobs);
        made.with_context(|| format!("make {}", blobs.display()))?;
        let layers = self.descriptors(export)?;
        for (_, layer, here) in &layers {
            let path = dir.join(layout::blob_path(&layer.digest));
            if *here && !has_whole(&path, layer.size) {
                let mut blob = self.store.open_blob(&layer.digest)?;
                write(&path, &mut blob)?;
                stop_point("cache-blob-written");
            }
        }
        let rendered = self.render(layers)?;
        for bytes in [&rendered.config, &rendered.manifest] {
            let path = dir.join(layout::blob_path(&Digest::of(bytes)));
            write(&path, &mut bytes.as_slice())?;
        }
        write(&dir.join(layout::MARKER), &mut layout::MARKER_TEXT.as_bytes())?;
        let mut entry = rendered.descriptor();
        entry.annotations.insert(layout::REF_NAME.to_owned(), tag.to_owned());
        let index = index(dir, entry, tag)?.render()?;
        write(&dir.join(layout::INDEX), &mut index.as_slice())
    }
}

/// The index that is there, with this entry in place of the one that has its tag.
fn index(dir: &Path, entry: Descriptor, tag: &str) -> Result<Index> {
    let mut manifests = match file::read(&dir.join(layout::INDEX))? {
        Some(bytes) => layout::parse_index(&bytes).context(layout::INDEX)?.manifests,
        None => Vec::new(),
    };
    manifests.retain(|known| known.digest != entry.digest && !layout::has_tag(known, tag));
    manifests.push(entry);
    Ok(Index {
        dialect: Dialect::Oci,
        manifests,
        annotations: BTreeMap::new(),
    })
}

/// Whole or not at all, readable by all.
fn write(path: &Path, from: &mut dyn Read) -> Result<()> {
    let said = || format!("write {}", path.display());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.new"));
    let mut into: File = file::write_new(&beside, b"", Durability::Volatile).with_context(said)?;
    let written = std::io::copy(from, &mut into)
        .and_then(|_| into.set_permissions(Permissions::from_mode(0o644)))
        .with_context(said)
        .and_then(|()| file::rename(&beside, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

fn has_whole(path: &Path, size: u64) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == size)
}

fn place(asked: &CacheExport, access: &Access) -> Result<Place> {
    if asked.inline {
        return Ok(Place::Image);
    }
    let registry = |name: &Reference, tag: &str| -> Result<Place> {
        if name.digest.is_some() {
            return Err(Error::usage("a cache can't be written to a digest"));
        }
        Ok(Place::Registry {
            remote: Box::new(Remote::open(name, Action::Push, access)?),
            tag: tag.to_owned(),
        })
    };
    match &asked.place {
        CachePlace::Registry(name) => registry(name, name.tag.as_deref().unwrap_or("latest")),
        CachePlace::Repository(name) => registry(name, REPOSITORY_TAGS[0]),
        CachePlace::Local { dir, select } => {
            let tag = select.as_deref().map_or("latest", |s| s.trim_start_matches(':'));
            if tag.starts_with('@') {
                return Err(Error::usage("a cache can't be written to a digest"));
            }
            Ok(Place::Layout {
                dir: std::path::absolute(dir)?,
                tag: tag.to_owned(),
            })
        }
    }
}

/// An error, unless it is to be ignored.
fn failed(asked: &CacheExport, e: Error, progress: &dyn Progress) -> Result<()> {
    let text = format!("--cache-to {}", asked.place.shown());
    if asked.ignore_error {
        progress.event(Event::Notice(&format!("{text}: {e}")));
        return Ok(());
    }
    Err(e).context(&text)
}
