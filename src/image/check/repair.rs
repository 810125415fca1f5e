//! Puts right what can be: a layer from what rebuilds its tar, from its compressed form, or from its registry; an image's
//! record from its configuration, and the other way round. What has no source left is removed, unless a container needs
//! it. Nothing is taken away before its successor is complete, or known not to exist.

use super::scan::{Seen, blob_is_whole, layer_damage};
use super::{Damage, Object, copies};
use crate::error::{Context as _, Error, Kind, Result};
use crate::format;
use crate::format::manifest::{self, Manifest};
use crate::image::removal::Step;
use crate::image::remove::{Runs, carry_out, references};
use crate::layer::{self, compress, tar_split};
use crate::model::digest::Digest;
use crate::model::id::{ChainId, ContainerId, DiffId, ImageId};
use crate::model::image::{ImageConfig, ImageRecord, ManifestRecord};
use crate::model::reference::Reference;
use crate::model::time::Timestamp;
use crate::registry::{Access, Action, Remote, Wanted};
use crate::store::{LayerBlob, LayerRecord, Store};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::AsFd as _;

const LARGEST_CONFIG: usize = 8 << 20;

/// How it was repaired.
pub(super) fn repair(store: &Store, damage: &Damage, runs: Runs<'_>) -> Result<String> {
    match &damage.object {
        Object::Layer(id) => repair_layer(store, id, runs),
        Object::Copy(id, key) => copies::repair(store, id, key, runs),
        Object::Image(id) => repair_image(store, id, runs),
        Object::Manifest(id, digest) => {
            let held = store.lock_exclusive()?;
            store.change_image(id, &held, |record| {
                record
                    .manifests
                    .retain(|m| m.digest != *digest && m.indexes().all(|index| index != *digest));
            })?;
            store.remove_blob(digest, &held)?;
            Ok("forgotten: a push makes a new one".to_owned())
        }
        Object::Blob(digest) => {
            let held = store.lock_exclusive()?;
            if blob_is_whole(store, digest).unwrap_or(false) {
                return Ok("it is whole by now".to_owned());
            }
            store.remove_blob(digest, &held)?;
            Ok("removed: it is fetched or made again when it is needed".to_owned())
        }
        Object::Tags => {
            let held = store.lock_exclusive()?;
            let kept = store.set_tags_aside(&held)?;
            Ok(format!("moved to {}; tag the images anew by their ids", kept.display()))
        }
        Object::Name(name, id) => {
            let held = store.lock_exclusive()?;
            store.change_tags(&held, |tags| Ok(tags.remove_image(name, *id)))?;
            let again = name
                .digest
                .is_none()
                .then(|| format!("; `barge pull {name}` brings it back"));
            Ok(format!("removed{}", again.unwrap_or_default()))
        }
        Object::Container(id) => {
            Err(Error::other("a container can't be repaired").with_hint(format!("barge rm -f {}", id.short())))
        }
        Object::Volume(name) => Err(Error::other("a volume can't be repaired")
            .with_hint(format!("its files are in {}", store.volume_dir(name).display()))),
    }
}

/// What is known of a layer besides its own record.
struct Origin {
    diff_id: DiffId,
    /// The layers below it, base first.
    below: Vec<ChainId>,
    images: Vec<ImageId>,
    blobs: Vec<LayerBlob>,
    /// Repositories that may have it.
    names: Vec<Reference>,
}

/// From the layer's record if it can be read, else from the images that have it.
fn origin(store: &Store, id: &ChainId) -> Result<Origin> {
    let own = store.layer(id).ok().filter(|record| record.chain_id() == *id);
    let mut origin = Origin {
        diff_id: own.as_ref().map_or(DiffId(id.0), |record| record.diff_id),
        below: Vec::new(),
        images: Vec::new(),
        blobs: own.as_ref().map(|record| record.blobs.clone()).unwrap_or_default(),
        names: Vec::new(),
    };
    let names = references(&store.tags().unwrap_or_default());
    let mut known = own.is_some();
    for image in store.image_ids()? {
        let Ok(record) = store.image(&image) else { continue };
        let Some(at) = record.layers.iter().position(|layer| layer == id) else {
            continue;
        };
        origin.below = record.layers[..at].to_vec();
        origin.images.push(image);
        if let Some(diff_id) = record.config.rootfs.diff_ids.get(at) {
            origin.diff_id = *diff_id;
            known = true;
        }
        for name in names.get(&image).into_iter().flatten() {
            if !origin.names.iter().any(|other| other.name() == name.name()) {
                origin.names.push(name.clone());
            }
        }
        for manifest in &record.manifests {
            let form = layer_form(store, manifest, at);
            origin
                .blobs
                .extend(form.filter(|form| !origin.blobs.iter().any(|b| b.digest == form.digest)));
        }
    }
    // Then the ones below are known only by their parents.
    let mut parent = own
        .filter(|_| origin.images.is_empty())
        .and_then(|record| record.parent);
    while let Some(id) = parent {
        origin.below.insert(0, id);
        parent = store.layer(&id).ok().and_then(|record| record.parent);
    }
    match known {
        true => Ok(origin),
        false => Err(Error::other("nothing says what it was")),
    }
}

/// What a manifest says of one of its layers.
fn layer_form(store: &Store, manifest: &ManifestRecord, at: usize) -> Option<LayerBlob> {
    let bytes = store.read_blob(&manifest.digest).ok()?;
    let Ok(Manifest::Image(manifest)) = manifest::parse(&bytes, Some(&manifest.media_type)) else {
        return None;
    };
    let layer = manifest.layers.get(at)?;
    Some(LayerBlob {
        digest: layer.digest,
        size: layer.size,
        media_type: layer.media_type.clone(),
    })
}

fn repair_layer(store: &Store, id: &ChainId, runs: Runs<'_>) -> Result<String> {
    if let Ok(Seen::Whole | Seen::Unverified) = layer_damage(store, id, false) {
        return Ok("it is whole by now".to_owned());
    }
    let origin = match origin(store, id) {
        Ok(origin) => origin,
        // No image and no container that can be read needs it: the next removal takes it.
        Err(_) => return remove_unneeded(store, id),
    };
    if let Some(user) = running_user(store, id, runs) {
        return Err(Error::other(format!("container {user} runs on it")).with_hint(format!("barge stop {user}")));
    }
    if origin.images.is_empty() && user_of(store, id).is_none() {
        return remove_unneeded(store, id);
    }
    if from_record(store, id, &origin).is_ok() {
        return Ok("unpacked again from its own record".to_owned());
    }
    for blob in &origin.blobs {
        let file = store.open_blob(&blob.digest);
        if file.and_then(|file| replace(store, id, &origin, file)).is_ok() {
            return Ok(format!("unpacked again from blob {}", blob.digest));
        }
    }
    let mut unreached = None;
    for name in &origin.names {
        for blob in &origin.blobs {
            match fetch(store, id, &origin, name, blob) {
                Ok(()) => return Ok(format!("fetched again from {}", name.familiar_name())),
                Err(e) if e.kind() == Kind::NotFound => {}
                Err(e) => unreached = Some(e),
            }
        }
    }
    match unreached {
        Some(e) => Err(e).context("fetch it again"),
        None => give_up(store, id, &origin.images),
    }
}

fn fetch(store: &Store, id: &ChainId, origin: &Origin, name: &Reference, blob: &LayerBlob) -> Result<()> {
    let remote = Remote::open(name, Action::Pull, &Access::default())?;
    let wanted = Wanted {
        digest: &blob.digest,
        size: Some(blob.size),
        urls: &[],
    };
    replace(store, id, origin, remote.open_blob(wanted, 0)?)
}

/// The tar rebuilt from the layer itself: right if only names, owners, modes or times are wrong.
fn from_record(store: &Store, id: &ChainId, origin: &Origin) -> Result<()> {
    let missing = || Error::other("nothing can rebuild its tar");
    let record = store.open_tar_record(id)?.ok_or_else(missing)?;
    let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let diff = rustix::fs::open(store.layer_dir(id), flags, rustix::fs::Mode::empty())?;
    let (reader, mut writer) = std::io::pipe()?;
    std::thread::scope(|scope| {
        let rebuild = scope.spawn(move || tar_split::rebuild(&record, diff.as_fd(), &mut writer));
        let replaced = replace(store, id, origin, reader);
        let rebuilt = rebuild.join().unwrap_or_else(|_| Err(missing()));
        replaced.and(rebuilt.map(drop))
    })
}

/// Unpacks a tar, compressed or not, checks that it is the layer's, and puts it in the layer's place.
fn replace(store: &Store, id: &ChainId, origin: &Origin, tar: impl Read + Send) -> Result<()> {
    let staged = store.stage_layer()?;
    let diff = staged.diff()?;
    let options = layer::Options {
        record: Some(staged.record()?),
        ..layer::Options::default()
    };
    let unpacked = layer::unpack(compress::reader(tar)?, diff.as_fd(), &options)?;
    if unpacked.diff_id != origin.diff_id {
        return Err(Error::other("it has other content now"));
    }
    let lowers: Vec<_> = origin.below.iter().map(|lower| store.layer_dir(lower)).collect();
    layer::inherit(diff.as_fd(), &unpacked.implied, &lowers)?;
    let sealed = staged.seal(LayerRecord {
        parent: origin.below.last().copied(),
        diff_id: unpacked.diff_id,
        size: unpacked.size,
        blobs: origin.blobs.clone(),
    })?;
    if sealed.record().chain_id() != *id {
        return Err(Error::other("the layers below it are others"));
    }
    let held = store.lock_exclusive()?;
    sealed.replace(store, &held)
}

fn remove_unneeded(store: &Store, id: &ChainId) -> Result<String> {
    let held = store.lock_exclusive()?;
    let dropped = store.drop_unreferenced(&held)?;
    drop(held);
    dropped.delete()?;
    match store.has_layer(id) {
        true => Err(Error::other("a container or a transfer needs it")),
        false => Ok("removed: nothing needs it".to_owned()),
    }
}

/// A container of the layer, running or not.
fn user_of(store: &Store, layer: &ChainId) -> Option<ContainerId> {
    let uses = |id: &ContainerId| {
        store
            .config(id)
            .is_ok_and(|config| config.layers().any(|own| own == layer))
    };
    store.container_ids().ok()?.into_iter().find(uses)
}

/// The name of a running one: its root would change under it.
fn running_user(store: &Store, layer: &ChainId, runs: Runs<'_>) -> Option<String> {
    store.container_ids().ok()?.into_iter().find_map(|id| {
        let config = store.config(&id).ok()?;
        (config.layers().any(|own| own == layer) && runs(&id)).then_some(config.name)
    })
}

/// Removes images that nothing can make whole, unless a container is made of one.
fn give_up(store: &Store, layer: &ChainId, images: &[ImageId]) -> Result<String> {
    if let Some(user) = user_of(store, layer) {
        let user = user.short();
        return Err(
            Error::other(format!("nothing can make it again, and container {user} needs it"))
                .with_hint(format!("barge rm -f {user}, and check again")),
        );
    }
    forget(store, images)
}

fn forget(store: &Store, images: &[ImageId]) -> Result<String> {
    let held = store.lock_exclusive()?;
    let names = references(&store.tags()?);
    let mut steps = Vec::new();
    let mut said = Vec::new();
    for id in images {
        let of_image = names.get(id).cloned().unwrap_or_default();
        said.push(match of_image.first() {
            Some(name) => format!("{name} ({})", id.short()),
            None => id.short(),
        });
        steps.extend(of_image.into_iter().map(|name| Step::Untag(name, *id)));
        steps.push(Step::Delete(*id));
    }
    carry_out(store, &steps, held)?.delete()?;
    Ok(format!("nothing can make it again: removed image {}", said.join(", ")))
}

fn repair_image(store: &Store, id: &ImageId, runs: Runs<'_>) -> Result<String> {
    if let Ok(config) = store.read_blob(&id.0) {
        return rewrite_record(store, id, &config).map(|()| "record written again from its configuration".to_owned());
    }
    let record = store.image(id).ok().filter(|record| record.id == *id);
    // What this engine made, it writes the same way again.
    let again = record
        .as_ref()
        .and_then(|record| serde_json::to_vec(&record.config).ok());
    if let Some(config) = again.filter(|bytes| Digest::of(bytes) == id.0) {
        let held = store.lock_exclusive()?;
        store.put_blob(&config, &held)?;
        return Ok("configuration written again from its record".to_owned());
    }
    let names = references(&store.tags().unwrap_or_default());
    let mut unreached = None;
    for name in names.get(id).into_iter().flatten() {
        match Remote::open(name, Action::Pull, &Access::default()).and_then(|r| r.fetch_blob(&id.0, LARGEST_CONFIG)) {
            Ok(config) => {
                let held = store.lock_exclusive()?;
                store.put_blob(&config, &held)?;
                drop(held);
                rewrite_record(store, id, &config)?;
                return Ok(format!("configuration fetched again from {}", name.familiar_name()));
            }
            Err(e) if e.kind() == Kind::NotFound => {}
            Err(e) => unreached = Some(e),
        }
    }
    if let Some(e) = unreached {
        return Err(e).context("fetch its configuration again");
    }
    let user = store.container_ids()?.into_iter().find(|container| {
        store
            .config(container)
            .is_ok_and(|config| config.images().any(|image| image.id == *id))
            && (runs(container) || store.has_image(id))
    });
    match user {
        Some(user) => {
            let user = user.short();
            Err(
                Error::other(format!("nothing can make it again, and container {user} is made of it"))
                    .with_hint(format!("barge rm -f {user}, and check again")),
            )
        }
        None => forget(store, &[*id]),
    }
}

/// Manifests that are still here are found again by the configuration they name.
fn rewrite_record(store: &Store, id: &ImageId, config: &[u8]) -> Result<()> {
    let config: ImageConfig = serde_json::from_slice(config).context("read its configuration")?;
    let layers = ChainId::chain(&config.rootfs.diff_ids);
    let sizes = layers
        .iter()
        .map(|layer| store.layer(layer).map_or(0, |record| record.size));
    let known = store.image(id).ok();
    let manifests = match &known {
        Some(record) => record.manifests.clone(),
        None => manifests_of(store, id)?,
    };
    let record = ImageRecord {
        id: *id,
        size: sizes.sum(),
        config,
        parent: known.as_ref().and_then(|record| record.parent),
        layers,
        stored: known.as_ref().map_or_else(Timestamp::now, |record| record.stored),
        manifests,
        annotations: known
            .as_ref()
            .map_or_else(BTreeMap::new, |record| record.annotations.clone()),
        v1: known.map_or_else(Vec::new, |record| record.v1),
    };
    let held = store.lock_exclusive()?;
    store.restore_image(&record, &held)
}

fn manifests_of(store: &Store, id: &ImageId) -> Result<Vec<ManifestRecord>> {
    let mut found: BTreeMap<Digest, ManifestRecord> = BTreeMap::new();
    for (digest, size) in store.blobs()? {
        if size > format::MAX_BYTES as u64 {
            continue;
        }
        let Ok(bytes) = store.read_blob(&digest) else { continue };
        if bytes.first() != Some(&b'{') {
            continue;
        }
        if let Ok(parsed @ Manifest::Image(_)) = manifest::parse(&bytes, None)
            && let Manifest::Image(image) = &parsed
            && image.config.digest == id.0
        {
            let record = ManifestRecord {
                digest,
                media_type: manifest::media_type(&parsed).to_owned(),
                size,
                index: None,
                outer: Vec::new(),
            };
            found.insert(digest, record);
        }
    }
    Ok(found.into_values().collect())
}
