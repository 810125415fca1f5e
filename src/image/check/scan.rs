//! Looks for damage; changes nothing.

use super::{Counts, Damage, Object, copies};
use crate::error::{Kind, Result};
use crate::image::remove::references;
use crate::layer;
use crate::model::digest::Digest;
use crate::model::id::{ChainId, ContainerId, ImageId};
use crate::model::image::ImageConfig;
use crate::store::{LayerRecord, Store};
use rustix::fs::{Mode, OFlags, open};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::io::Read;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

type Found<'a> = &'a mut dyn FnMut(Damage) -> Result<()>;

pub(super) fn scan(store: &Store, quick: bool, found: Found<'_>) -> Result<Counts> {
    let mut counts = Counts::default();
    names(store, found)?;
    // Blobs that were read with their image.
    let mut read = BTreeSet::new();
    for id in store.image_ids()? {
        counts.images += 1;
        image(store, &id, &mut read, found)?;
    }
    for id in lowest_first(store)? {
        counts.layers += 1;
        let damage = layer_damage(store, &id, quick);
        // Removed while it was looked at.
        if !store.has_layer(&id) {
            continue;
        }
        match damage {
            Ok(Seen::Whole) => {}
            Ok(Seen::Unverified) => counts.unverified += 1,
            Ok(Seen::Damaged(what)) => found(damaged(Object::Layer(id), what))?,
            Err(e) => found(damaged(Object::Layer(id), e.to_string()))?,
        }
    }
    if !quick {
        copies::scan(store, found)?;
    }
    for (digest, _) in store.blobs()? {
        counts.blobs += 1;
        if !quick && !read.contains(&digest) {
            match blob_is_whole(store, &digest) {
                Ok(true) => {}
                Ok(false) => found(damaged(Object::Blob(digest), "its content has changed".to_owned()))?,
                Err(e) if e.kind() == Kind::NotFound => {}
                Err(e) => found(damaged(Object::Blob(digest), e.to_string()))?,
            }
        }
    }
    for id in store.container_ids()? {
        counts.containers += 1;
        container(store, &id, found)?;
    }
    for name in store.volume_names()? {
        counts.volumes += 1;
        match store.volume(&name) {
            Err(e) if e.kind() != Kind::NotFound => found(damaged(Object::Volume(name), e.to_string()))?,
            _ => {}
        }
    }
    Ok(counts)
}

fn damaged(object: Object, what: String) -> Damage {
    Damage { object, what }
}

fn names(store: &Store, found: Found<'_>) -> Result<()> {
    let tags = match store.tags() {
        Ok(tags) => tags,
        Err(e) => return found(damaged(Object::Tags, e.to_string())),
    };
    for (id, names) in references(&tags) {
        if store.has_image(&id) {
            continue;
        }
        // An `rmi` takes the names first.
        let now = references(&store.tags().unwrap_or_default());
        let still = now.get(&id).filter(|_| !store.has_image(&id));
        for name in names
            .into_iter()
            .filter(|name| still.is_some_and(|now| now.contains(name)))
        {
            let what = format!("its image {} is not here", id.short());
            found(damaged(Object::Name(name, id), what))?;
        }
    }
    Ok(())
}

fn image(store: &Store, id: &ImageId, read: &mut BTreeSet<Digest>, found: Found<'_>) -> Result<()> {
    let mut tell = |object: Object, what: String| match store.has_image(id) {
        true => found(damaged(object, what)),
        false => Ok(()),
    };
    let record = store.image(id);
    let config = store.read_blob(&id.0);
    read.insert(id.0);
    let (record, config) = match (record, config) {
        (Ok(record), Ok(config)) => (record, config),
        (Err(e), _) => return tell(Object::Image(*id), e.to_string()),
        (_, Err(e)) => return tell(Object::Image(*id), format!("its configuration: {e}")),
    };
    let says: Result<ImageConfig, _> = serde_json::from_slice(&config);
    let told = says.as_ref().is_ok_and(|says| *says == record.config);
    if record.id != *id || !told || record.layers != ChainId::chain(&record.config.rootfs.diff_ids) {
        return tell(
            Object::Image(*id),
            "its record does not fit its configuration".to_owned(),
        );
    }
    for layer in record.layers.iter().filter(|layer| !store.has_layer(layer)) {
        tell(
            Object::Layer(*layer),
            format!("is missing, image {} needs it", id.short()),
        )?;
    }
    for manifest in &record.manifests {
        for digest in manifest.indexes().chain([manifest.digest]) {
            if read.insert(digest)
                && let Err(e) = store.read_blob(&digest)
            {
                tell(Object::Manifest(*id, digest), e.to_string())?;
            }
        }
    }
    Ok(())
}

pub(super) enum Seen {
    Whole,
    Unverified,
    Damaged(String),
}

/// Compares a layer with its tar; `quick` only looks whether it is there.
pub(super) fn layer_damage(store: &Store, id: &ChainId, quick: bool) -> Result<Seen> {
    let record = store.layer(id)?;
    if record.chain_id() != *id {
        return Ok(Seen::Damaged("its record is of another layer".to_owned()));
    }
    layer_content(store, id, &record, quick)
}

fn layer_content(store: &Store, id: &ChainId, record: &LayerRecord, quick: bool) -> Result<Seen> {
    let diff = match open(
        store.layer_dir(id),
        OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Ok(diff) => diff,
        Err(e) => return Ok(Seen::Damaged(format!("its files: {}", crate::error::Error::from(e)))),
    };
    let Some(tar) = store.open_tar_record(id)? else {
        return Ok(Seen::Unverified);
    };
    if quick {
        return Ok(Seen::Whole);
    }
    let lowers = below(store, record);
    let problems = layer::verify(&tar, diff.as_fd(), record.diff_id, lowers.as_deref())?;
    Ok(match problems.is_empty() {
        true => Seen::Whole,
        false => Seen::Damaged(problems.join("; ")),
    })
}

/// A layer after those below it: its own implied directories are compared with theirs, which may have been repaired then.
fn lowest_first(store: &Store) -> Result<Vec<ChainId>> {
    let mut layers: Vec<ChainId> = store.layer_ids()?.into_iter().collect();
    layers.sort_by_cached_key(|id| {
        let below = store.layer(id).ok().and_then(|record| below(store, &record));
        below.map_or(usize::MAX, |below| below.len())
    });
    Ok(layers)
}

/// The files of the layers below, base first; nothing if one of them is missing or its record is another's.
fn below(store: &Store, record: &LayerRecord) -> Option<Vec<PathBuf>> {
    let mut lowers = Vec::new();
    let mut parent = record.parent;
    while let Some(id) = parent {
        let record = store.layer(&id).ok().filter(|record| record.chain_id() == id)?;
        lowers.push(Some(store.layer_dir(&id)).filter(|dir| dir.is_dir())?);
        parent = record.parent;
    }
    lowers.reverse();
    Some(lowers)
}

pub(super) fn blob_is_whole(store: &Store, digest: &Digest) -> Result<bool> {
    let mut file = store.open_blob(digest)?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 128 * 1024]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Digest::from_hasher(hasher) == *digest),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn container(store: &Store, id: &ContainerId, found: Found<'_>) -> Result<()> {
    let config = match store.config(id) {
        Ok(config) => config,
        Err(e) if e.kind() == Kind::NotFound => return Ok(()),
        Err(e) => return found(damaged(Object::Container(id.clone()), e.to_string())),
    };
    for layer in config.layers().filter(|layer| !store.has_layer(layer)) {
        if store.container_dir(id).exists() {
            found(damaged(
                Object::Container(id.clone()),
                format!("its {} is missing", Object::Layer(*layer)),
            ))?;
        }
    }
    Ok(())
}
