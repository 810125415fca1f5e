//! `load`: images out of an archive, of every form that is around.
//!
//! ```text
//!   manifest.json, a list     docker 1.10 and later, podman, skopeo: configurations and layers by path   docker.rs
//!   oci-layout, index.json    an OCI layout                                                              layout.rs
//!   manifest.json, an object  a directory as skopeo's `dir:` writes                                      layout.rs
//!   repositories, <id>/json   docker 0.6.7 to 1.9                                                        v1.rs
//! ```
//!
//! Each reader makes [`Planned`] images of its lists, without looking at a layer. Then all layers that are not there are
//! unpacked, several at once, and last the images appear: all of them, or none.

mod archive;
mod docker;
mod layout;
mod v1;

#[cfg(test)]
mod tests;

pub(crate) use archive::Input;

use crate::error::{Context, Error, Result};
use crate::format::descriptor::Descriptor;
use crate::format::{self, shown};
use crate::image::intake::{Intake, LayerSource, NewImage, check_is_of};
use crate::image::progress::{Layer, Progress, Step};
use crate::model::digest::Digest;
use crate::model::event::{Event as Happened, EventKind};
use crate::model::id::{ChainId, DiffId, ImageId};
use crate::model::image::ImageConfig;
use crate::model::platform::Platform;
use crate::model::reference::Reference;
use crate::registry::check_policy_of_files;
use crate::store::{LayerBlob, Store};
use archive::{Archive, Content};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Seek, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What `load` was asked.
pub(crate) struct Load {
    pub(crate) input: Input,
    /// Only images for these; all, if there are none.
    pub(crate) platforms: Vec<Platform>,
}

/// An image that is here now.
pub(crate) struct Loaded {
    pub(crate) id: ImageId,
    pub(crate) names: Vec<Reference>,
}

/// An image of the archive.
struct Planned {
    /// Byte for byte.
    config: Vec<u8>,
    parsed: ImageConfig,
    /// Base first, one for each diff id.
    layers: Vec<Place>,
    /// With its media type.
    manifest: Option<(Vec<u8>, String)>,
    /// The outermost first. One may lead to many images, and be large.
    indexes: Vec<Arc<[u8]>>,
    names: Vec<Reference>,
}

/// Where a layer is in the archive.
#[derive(Debug, Clone)]
struct Place {
    path: String,
    /// Of the bytes there, if they are to be kept as they are.
    blob: Option<(Digest, u64)>,
    media_type: Option<String>,
}

impl Planned {
    /// `layers` has to fit the configuration.
    fn new(config: Vec<u8>, layers: Vec<Place>) -> Result<Planned> {
        let parsed = format::config::parse(&config)?;
        format::config::check_against(&parsed, layers.len())?;
        Ok(Planned {
            config,
            parsed,
            layers,
            manifest: None,
            indexes: Vec::new(),
            names: Vec::new(),
        })
    }

    fn platform(&self) -> Platform {
        Platform::of(&self.parsed)
    }
}

/// Brings in every image of the archive. When it returns, they survive a power cut.
pub(crate) fn load(store: &Store, load: &Load, progress: &dyn Progress) -> Result<Vec<Loaded>> {
    let archive = Archive::open(store, &load.input)?;
    let planned = choose(plan(&archive)?, &load.platforms)?;
    let intake = Intake::new(store, progress)?;
    unpack(&intake, &archive, &planned, progress)?;
    let told = |id: ImageId, name: Option<&Reference>| {
        let event = Happened::new(EventKind::Image, "load", id);
        event.with("name", name.map_or_else(|| id.to_string(), ToString::to_string))
    };
    finish(&intake, &planned, Some(&told))
}

/// One image of an OCI layout, for the platform, as `FROM` takes it: it gets no name. `select` is `:TAG` or `@DIGEST`.
pub(crate) fn one_of_layout(
    store: &Store,
    dir: &std::path::Path,
    select: Option<&str>,
    platform: &Platform,
    progress: &dyn Progress,
) -> Result<ImageId> {
    check_policy_of_files("oci")?;
    let archive = Archive::open(store, &Input::Path(dir.to_owned()))?;
    let mut planned = choose(layout::plan_one(&archive, select)?, std::slice::from_ref(platform))?;
    let ranked = |image: &Planned| platform.rank(&image.platform()).unwrap_or(usize::MAX);
    planned.sort_by_key(ranked);
    planned.truncate(1);
    planned.iter_mut().for_each(|image| image.names.clear());
    let intake = Intake::new(store, progress)?;
    unpack(&intake, &archive, &planned, progress)?;
    let loaded = finish(&intake, &planned, None)?;
    let first = loaded.first().map(|one| one.id);
    first.ok_or_else(|| Error::other("the layout has no image"))
}

/// A file of an OCI layout's directory that is small enough to be read into memory; `None` if there is none.
pub(crate) fn read_layout(store: &Store, dir: &std::path::Path, path: &str) -> Result<Option<Vec<u8>>> {
    Archive::open(store, &Input::Path(dir.to_owned()))?.read(path)
}

/// Layers of a layout's directory that no image has asked for: of a build's cache. Each with its parent, which is in
/// place or before it. The caller has claimed them.
pub(crate) fn bring_layers(
    store: &Store,
    dir: &std::path::Path,
    wanted: &[(Option<ChainId>, DiffId, Descriptor)],
    progress: &dyn Progress,
) -> Result<()> {
    let archive = Archive::open(store, &Input::Path(dir.to_owned()))?;
    let intake = Intake::new(store, progress)?;
    for (parent, diff_id, layer) in wanted {
        let place = Place {
            path: format::layout::blob_path(&layer.digest),
            blob: Some((layer.digest, layer.size)),
            media_type: Some(layer.media_type.clone()),
        };
        let item = Work {
            parent: *parent,
            chain: ChainId::of(*parent, *diff_id),
            diff_id: *diff_id,
            place: &place,
        };
        take_in(&intake, &archive, &item, progress)?;
    }
    intake.commit_all()
}

fn plan(archive: &Archive) -> Result<Vec<Planned>> {
    let planned = match archive.read(format::docker_archive::MANIFEST)? {
        Some(list) if is_list(&list) => {
            check_policy_of_files("docker-archive")?;
            docker::plan(archive, &list)?
        }
        Some(manifest) if archive.find(format::layout::INDEX)?.is_none() => {
            check_policy_of_files("dir")?;
            layout::plan_flat(archive, &manifest)?
        }
        _ if archive.find(format::layout::INDEX)?.is_some() => {
            check_policy_of_files(if archive.is_directory() { "oci" } else { "oci-archive" })?;
            layout::plan(archive)?
        }
        _ => {
            check_policy_of_files("docker-archive")?;
            v1::plan(archive)?
        }
    };
    match planned.is_empty() {
        true => Err(Error::other("the archive has no image")),
        false => Ok(planned),
    }
}

fn is_list(json: &[u8]) -> bool {
    json.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[')
}

/// The images for the platforms that are wanted, the best for this machine last: the newest of several under a name is
/// the one that is run.
fn choose(mut planned: Vec<Planned>, platforms: &[Platform]) -> Result<Vec<Planned>> {
    for wanted in platforms {
        if !planned.iter().any(|image| wanted.rank(&image.platform()).is_some()) {
            let mut have: Vec<String> = planned.iter().map(|image| image.platform().to_string()).collect();
            have.dedup();
            have.truncate(20);
            return Err(Error::not_found(format!("the archive has no image for {wanted}"))
                .with_hint(format!("it has {}", have.join(", "))));
        }
    }
    if !platforms.is_empty() {
        planned.retain(|image| platforms.iter().any(|wanted| wanted.rank(&image.platform()).is_some()));
    }
    let host = Platform::host();
    planned.sort_by_key(|image| std::cmp::Reverse(host.rank(&image.platform()).unwrap_or(usize::MAX)));
    Ok(planned)
}

/// One layer to look after.
struct Work<'a> {
    parent: Option<ChainId>,
    chain: ChainId,
    diff_id: DiffId,
    place: &'a Place,
}

/// Every layer of every image, once, bases first; and then the other compressed forms that are there of some.
fn work(planned: &[Planned]) -> (Vec<Work<'_>>, Vec<Work<'_>>) {
    let mut seen: BTreeMap<ChainId, BTreeSet<Option<Digest>>> = BTreeMap::new();
    let (mut all, mut others) = (Vec::new(), Vec::new());
    for image in planned {
        let diffs = &image.parsed.rootfs.diff_ids;
        let mut parent = None;
        for ((diff_id, chain), place) in diffs.iter().zip(ChainId::chain(diffs)).zip(&image.layers) {
            let item = Work {
                parent,
                chain,
                diff_id: *diff_id,
                place,
            };
            let forms = seen.entry(chain).or_default();
            let first = forms.is_empty();
            match forms.insert(place.blob.map(|(digest, _)| digest)) {
                true if first => all.push(item),
                true => others.push(item),
                false => {}
            }
            parent = Some(chain);
        }
    }
    (all, others)
}

/// The same work by several threads; the first error ends it.
fn unpack(intake: &Intake, archive: &Archive, planned: &[Planned], progress: &dyn Progress) -> Result<()> {
    let (work, others) = work(planned);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let error = Mutex::new(None);
    let labour = || {
        while let Some(item) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
            if failed.load(Ordering::Relaxed) {
                return;
            }
            if let Err(e) = take_in(intake, archive, item, progress) {
                failed.store(true, Ordering::Relaxed);
                if let Ok(mut first) = error.lock() {
                    first.get_or_insert(e);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(work.len()) {
            // With fewer threads it only takes longer.
            let _ = std::thread::Builder::new()
                .name("load".to_owned())
                .spawn_scoped(scope, labour);
        }
        labour();
    });
    match error.into_inner() {
        Ok(Some(e)) => return Err(e),
        _ => intake.commit_all()?,
    }
    let kept = |item: &Work<'_>| {
        let said = || format!("layer {}", shown(&item.place.path));
        keep_blob(intake, archive, item).with_context(said)
    };
    others.iter().try_for_each(kept)
}

fn take_in(intake: &Intake, archive: &Archive, item: &Work<'_>, progress: &dyn Progress) -> Result<()> {
    let label = Layer::new(progress, &item.diff_id.0.hex());
    let said = || format!("layer {}", shown(&item.place.path));
    if intake.has_layer(&item.chain)? {
        label.step(Step::Exists);
        return keep_blob(intake, archive, item).with_context(said);
    }
    let content = archive.find(&item.place.path)?;
    let mut content = content.ok_or_else(|| archive::missing(&item.place.path))?;
    if let Some((_, size)) = item.place.blob
        && content.length() != size
    {
        return Err(Error::other(format!("{} bytes, want {size}", content.length()))).with_context(said);
    }
    let compressed = is_compressed(&mut content)?;
    let content = archive.find(&item.place.path)?;
    let mut content = content.ok_or_else(|| archive::missing(&item.place.path))?;
    let parent = item.parent;
    match compressed {
        // The intake tells of it, as it keeps the blob.
        true => {
            let source = LayerSource::Blob {
                input: &mut content,
                expected: item.place.blob,
                media_type: item.place.media_type.as_deref(),
            };
            intake.layer(parent, Some(item.diff_id), source).with_context(said)?;
        }
        // Its digest is the diff id, which is checked in any case.
        false => {
            let mut input = Told {
                total: content.length(),
                inner: content,
                label: &label,
                done: 0,
            };
            let source = LayerSource::Tar(&mut input);
            intake.layer(parent, Some(item.diff_id), source).with_context(said)?;
            label.step(Step::Loaded);
        }
    }
    Ok(())
}

/// Tells how much of a layer has been read.
struct Told<'a> {
    inner: Content,
    label: &'a Layer<'a>,
    done: u64,
    total: u64,
}

impl Read for Told<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.done += n as u64;
        self.label.step(Step::Loading {
            done: self.done,
            total: Some(self.total),
        });
        Ok(n)
    }
}

fn is_compressed(content: &mut Content) -> Result<bool> {
    Ok(crate::layer::compress::reader(content)?.format() != crate::layer::compress::Format::Plain)
}

/// The layer is there, but perhaps not in the compressed form that the archive's manifest names.
fn keep_blob(intake: &Intake<'_>, archive: &Archive, item: &Work<'_>) -> Result<()> {
    let store = intake.store();
    let Some((digest, size)) = item.place.blob.filter(|(digest, _)| *digest != item.diff_id.0) else {
        return Ok(());
    };
    let blob = LayerBlob {
        digest,
        size,
        media_type: item.place.media_type.clone().unwrap_or_default(),
    };
    intake.claim(&[], &[digest])?;
    if let Ok(file) = store.open_blob(&digest) {
        // It came with another image, or by a pull that ended early: this layer may not know of it.
        if !intake.has_form(&item.chain, &digest)? {
            check_is_of(&file, &item.diff_id)?;
            intake.add_form(&item.chain, blob)?;
        }
        return Ok(());
    }
    let Some(mut content) = archive.find(&item.place.path)? else {
        return Ok(());
    };
    let staged = store.stage_file()?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let n = content.read(&mut buffer).context("read archive")?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        staged.file().write_all(&buffer[..n]).context("keep blob")?;
    }
    let found = Digest::from_hasher(hasher);
    if found != digest {
        return Err(Error::other(format!("digest mismatch: got {found}, want {digest}")));
    }
    staged.file().rewind().context("read blob")?;
    check_is_of(staged.file(), &item.diff_id)?;
    store.commit_blob(staged, &digest, &store.lock_shared()?)?;
    intake.add_form(&item.chain, blob)
}

/// The event of an image and the first of its names.
type Tell<'a> = &'a dyn Fn(ImageId, Option<&Reference>) -> Happened;

/// The images of one name are its platforms; what the name stood for before is replaced.
fn finish(intake: &Intake, planned: &[Planned], told: Option<Tell<'_>>) -> Result<Vec<Loaded>> {
    let mut named = BTreeSet::new();
    let mut loaded: BTreeMap<ImageId, Vec<Reference>> = BTreeMap::new();
    let mut order = Vec::new();
    for image in planned {
        let (first, further): (Vec<Reference>, Vec<Reference>) =
            image.names.iter().cloned().partition(|name| named.insert(name.clone()));
        let made = ImageId(Digest::of(&image.config));
        let known = loaded.contains_key(&made);
        let told = told.filter(|_| !known).map(|of| of(made, image.names.first()));
        let indexes: Vec<&[u8]> = image.indexes.iter().map(AsRef::as_ref).collect();
        let finish = |names: &[Reference], replace, told| {
            intake.finish(&NewImage {
                config: &image.config,
                manifest: image.manifest.as_ref().map(|(bytes, kind)| (&bytes[..], kind.as_str())),
                indexes: &indexes,
                names,
                replace,
                told,
                ..NewImage::default()
            })
        };
        let id = finish(&first, true, told)?;
        if !further.is_empty() {
            finish(&further, false, None)?;
        }
        if !loaded.contains_key(&id) {
            order.push(id);
        }
        loaded.entry(id).or_default().extend(first.into_iter().chain(further));
    }
    Ok(order
        .into_iter()
        .map(|id| Loaded {
            id,
            names: loaded.remove(&id).unwrap_or_default(),
        })
        .collect())
}

/// A name in an archive: foreign, so what is wrong with it is told without what a terminal obeys.
fn name(text: &str) -> Result<Reference> {
    let parsed = Reference::parse(text).map_err(|e| Error::other(shown(&e.to_string())))?;
    Ok(Reference { digest: None, ..parsed }.or_latest())
}
