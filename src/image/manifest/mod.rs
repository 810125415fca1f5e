//! `manifest`: lists of images for several platforms, made here and pushed under one name.
//!
//! A list is an index, kept as a blob under a name of its own kind (`lists` in tags.json), with the manifests it names.
//! Each entry also remembers, as an annotation that never leaves this machine, under which name it was added.

mod member;
mod push;

pub(crate) use member::{Reach, inspect};
pub(crate) use push::{Push, push};

use crate::error::{Error, Result};
use crate::format::descriptor::Descriptor;
use crate::format::manifest::{Dialect, Index, Manifest};
use crate::format::{self, media, shown};
use crate::model::digest::Digest;
use crate::model::platform::Platform;
use crate::model::reference::Reference;
use crate::store::{Store, StoreLock, Tags};
use std::collections::BTreeMap;

/// Says where an entry came from. Taken off before anybody else sees the list.
const SOURCE: &str = "barge.source";

/// What `annotate` changes; `None` is left as it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    pub(crate) os: Option<String>,
    pub(crate) architecture: Option<String>,
    pub(crate) variant: Option<String>,
    pub(crate) os_version: Option<String>,
    pub(crate) os_features: Vec<String>,
    pub(crate) annotations: Vec<(String, String)>,
}

impl Changes {
    fn apply(&self, entry: &mut Descriptor) {
        let platform = entry.platform.get_or_insert_with(Platform::default);
        let set = |field: &mut String, value: &Option<String>| {
            if let Some(value) = value {
                field.clone_from(value);
            }
        };
        set(&mut platform.os, &self.os);
        set(&mut platform.architecture, &self.architecture);
        set(&mut platform.variant, &self.variant);
        set(&mut platform.os_version, &self.os_version);
        if !self.os_features.is_empty() {
            platform.os_features.clone_from(&self.os_features);
        }
        entry.annotations.extend(self.annotations.iter().cloned());
    }
}

/// A list's name, with its tag.
pub(crate) fn name(text: &str) -> Result<Reference> {
    let text = text.strip_prefix("docker://").unwrap_or(text);
    let name = Reference::parse(text)?.or_latest();
    match name.digest {
        Some(_) => Err(Error::other(format!("{text}: a list has a name, not a digest"))),
        None => Ok(name),
    }
}

fn key(name: &Reference) -> String {
    format!("{}:{}", name.name(), name.tag.as_deref().unwrap_or_default())
}

fn no_such_list(name: &Reference) -> Error {
    Error::not_found(format!("No such manifest: {name}"))
}

pub(crate) fn exists(store: &Store, name: &Reference) -> Result<bool> {
    Ok(store.tags()?.lists.contains_key(&key(name)))
}

/// The list as it is kept.
fn read(store: &Store, name: &Reference) -> Result<Index> {
    let tags = store.tags()?;
    let digest = tags.lists.get(&key(name)).ok_or_else(|| no_such_list(name))?;
    index_of(store, digest)
}

fn index_of(store: &Store, digest: &Digest) -> Result<Index> {
    match format::manifest::parse(&store.read_blob(digest)?, None)? {
        Manifest::Index(index) => Ok(index),
        _ => Err(Error::other(format!("blob {digest} is no list of manifests"))),
    }
}

/// The list as others get it.
fn published(mut index: Index) -> Index {
    for entry in &mut index.manifests {
        entry.annotations.remove(SOURCE);
    }
    index
}

/// In docker's words while all it names is docker's, and nothing is said that docker has no words for.
fn dialect(index: &Index) -> Dialect {
    let docker = |entry: &Descriptor| {
        matches!(entry.media_type.as_str(), media::DOCKER_MANIFEST | media::DOCKER_LIST)
            && entry.annotations.keys().all(|key| key == SOURCE)
    };
    match !index.manifests.is_empty() && index.manifests.iter().all(docker) && index.annotations.is_empty() {
        true => Dialect::Docker,
        false => Dialect::Oci,
    }
}

/// Writes a changed list: within the change of the tags, so that nothing comes between.
fn write(store: &Store, held: &StoreLock, tags: &mut Tags, name: &Reference, mut index: Index) -> Result<Digest> {
    index.dialect = dialect(&index);
    let digest = store.put_blob(&index.render()?, held)?;
    tags.lists.insert(key(name), digest);
    Ok(digest)
}

/// Manifests to be named by a list, with their bytes.
pub(crate) struct Members(Vec<(Descriptor, Vec<u8>)>);

/// Makes a list; `amend` goes on with one that is there.
pub(crate) fn create(
    store: &Store,
    name: &Reference,
    members: &Members,
    annotations: &[(String, String)],
    amend: bool,
) -> Result<Digest> {
    let held = store.lock_shared()?;
    store.change_tags(&held, |tags| {
        let mut index = match tags.lists.get(&key(name)) {
            Some(_) if !amend => {
                return Err(
                    Error::conflict(format!("refusing to amend an existing manifest list {name}"))
                        .with_hint("with --amend it gets these manifests too"),
                );
            }
            Some(digest) => index_of(store, digest)?,
            None => Index {
                dialect: Dialect::Oci,
                manifests: Vec::new(),
                annotations: BTreeMap::new(),
            },
        };
        index.annotations.extend(annotations.iter().cloned());
        insert(store, &held, &mut index, members)?;
        write(store, &held, tags, name, index)
    })
}

/// Adds to a list that is there.
pub(crate) fn add(store: &Store, name: &Reference, members: &Members, changes: &Changes) -> Result<Digest> {
    edit(store, name, |index, held| {
        insert(store, held, index, members)?;
        for (added, _) in &members.0 {
            let entry = index.manifests.iter_mut().find(|entry| entry.digest == added.digest);
            if let Some(entry) = entry.filter(|_| changes.says_something()) {
                changes.apply(entry);
            }
        }
        Ok(())
    })
}

impl Changes {
    fn says_something(&self) -> bool {
        let texts = [&self.os, &self.architecture, &self.variant, &self.os_version];
        texts.iter().any(|text| text.is_some()) || !self.os_features.is_empty() || !self.annotations.is_empty()
    }
}

fn insert(store: &Store, held: &StoreLock, index: &mut Index, members: &Members) -> Result<()> {
    for (descriptor, bytes) in &members.0 {
        store.put_blob(bytes, held)?;
        match index
            .manifests
            .iter_mut()
            .find(|entry| entry.digest == descriptor.digest)
        {
            Some(there) => *there = descriptor.clone(),
            None => index.manifests.push(descriptor.clone()),
        }
    }
    Ok(())
}

fn edit(store: &Store, name: &Reference, change: impl FnOnce(&mut Index, &StoreLock) -> Result<()>) -> Result<Digest> {
    let held = store.lock_shared()?;
    store.change_tags(&held, |tags| {
        let digest = *tags.lists.get(&key(name)).ok_or_else(|| no_such_list(name))?;
        let mut index = index_of(store, &digest)?;
        change(&mut index, &held)?;
        write(store, &held, tags, name, index)
    })
}

/// The entry that is meant: a digest, or the name it was added by.
fn find<'a>(index: &'a mut Index, name: &Reference, what: &str) -> Result<&'a mut Descriptor> {
    let what = what.strip_prefix("docker://").unwrap_or(what);
    let digest = what.rsplit('@').next().and_then(|text| text.parse::<Digest>().ok());
    let source = Reference::parse(what).ok().map(|r| r.or_latest().to_string());
    index
        .manifests
        .iter_mut()
        .find(|entry| {
            Some(entry.digest) == digest || (source.is_some() && entry.annotations.get(SOURCE) == source.as_ref())
        })
        .ok_or_else(|| Error::not_found(format!("manifest for image {} does not exist in {name}", shown(what))))
}

pub(crate) fn annotate(store: &Store, name: &Reference, what: &str, changes: &Changes) -> Result<Digest> {
    edit(store, name, |index, _| {
        changes.apply(find(index, name, what)?);
        Ok(())
    })
}

/// Takes one manifest out of a list.
pub(crate) fn remove(store: &Store, name: &Reference, what: &str) -> Result<Digest> {
    edit(store, name, |index, _| {
        let digest = find(index, name, what)?.digest;
        index.manifests.retain(|entry| entry.digest != digest);
        Ok(())
    })
}

/// Forgets a list. Its blobs go with the next sweep, unless something else needs them.
pub(crate) fn forget(store: &Store, name: &Reference) -> Result<()> {
    let held = store.lock_shared()?;
    store.change_tags(&held, |tags| match tags.lists.remove(&key(name)) {
        Some(_) => Ok(()),
        None => Err(no_such_list(name)),
    })
}
