//! `tags.json`: repository → tag → target, repository → digest → target. A target is an image, or several of different
//! platforms, newest last. Names are in full (`docker.io/library/debian`). The file is small, read without a lock, and
//! replaced whole under `tags.lock`. One that has a bare image id for every tag is read as well.

use super::lock::TagsLock;
use super::{Announced, Durability, Proof, Store, StoreLock, file};
use crate::error::{Context, Error, Result};
use crate::model::digest::Digest;
use crate::model::event::{Event, EventKind};
use crate::model::id::ImageId;
use crate::model::reference::{DEFAULT_TAG, Reference};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tags {
    repositories: BTreeMap<String, BTreeMap<String, Target>>,
    /// What was pulled or pushed under which digest: of a manifest, or of an index.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    digests: BTreeMap<String, BTreeMap<Digest, Target>>,
    /// Manifest lists made here: name with tag, in full, and the blob of their index.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) lists: BTreeMap<String, Digest>,
}

/// What a name stands for: images of different platforms, newest last; never none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target(Vec<ImageId>);

impl Target {
    pub(crate) fn images(&self) -> &[ImageId] {
        &self.0
    }

    /// The one that is meant where no platform is asked for.
    pub(crate) fn newest(&self) -> ImageId {
        self.0[self.0.len() - 1]
    }

    fn add(&mut self, id: ImageId, replaces: impl Fn(&ImageId) -> bool) {
        self.0.retain(|there| *there != id && !replaces(there));
        self.0.push(id);
    }
}

impl From<ImageId> for Target {
    fn from(id: ImageId) -> Target {
        Target(vec![id])
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [only] => only.serialize(serializer),
            several => several.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Target, D::Error> {
        deserializer.deserialize_any(TargetVisitor)
    }
}

struct TargetVisitor;

impl<'de> serde::de::Visitor<'de> for TargetVisitor {
    type Value = Target;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an image id, or several")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Target, E> {
        let digest: Digest = text.parse().map_err(E::custom)?;
        Ok(ImageId(digest).into())
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Target, A::Error> {
        let mut ids = Vec::new();
        while let Some(id) = seq.next_element()? {
            ids.push(id);
        }
        match ids.is_empty() {
            true => Err(serde::de::Error::invalid_length(0, &self)),
            false => Ok(Target(ids)),
        }
    }
}

/// By which of its names a reference is kept.
enum Key<'a> {
    Tag(&'a str),
    Digest(Digest),
}

impl<'a> Key<'a> {
    fn of(name: &'a Reference) -> Key<'a> {
        match (&name.tag, name.digest) {
            (Some(tag), _) => Key::Tag(tag),
            (None, Some(digest)) => Key::Digest(digest),
            (None, None) => Key::Tag(DEFAULT_TAG),
        }
    }
}

impl Tags {
    /// The image that has exactly this name and tag (`latest` if it says none) or this name and digest.
    pub(crate) fn get(&self, name: &Reference) -> Option<ImageId> {
        self.target(name).map(Target::newest)
    }

    /// All images of a name. Where it has both a tag and a digest, the digest is what counts.
    pub(crate) fn target(&self, name: &Reference) -> Option<&Target> {
        let repository = name.name();
        match name.digest {
            Some(digest) => self.digests.get(&repository)?.get(&digest),
            None => {
                let tag = name.tag.as_deref().unwrap_or(DEFAULT_TAG);
                self.repositories.get(&repository)?.get(tag)
            }
        }
    }

    /// Moves the tag (or digest, if there is no tag) to this image alone, or makes it. The image that had it before, if
    /// it was another one.
    pub(crate) fn set(&mut self, name: &Reference, id: ImageId) -> Option<ImageId> {
        let before = match Key::of(name) {
            Key::Tag(tag) => {
                let tags = self.repositories.entry(name.name()).or_default();
                tags.insert(tag.to_owned(), id.into())
            }
            Key::Digest(digest) => {
                let digests = self.digests.entry(name.name()).or_default();
                digests.insert(digest, id.into())
            }
        };
        before.map(|before| before.newest()).filter(|before| *before != id)
    }

    /// One more platform under the tag (or digest, if there is no tag), newest; `replaces` says which go for it.
    pub(crate) fn add(&mut self, name: &Reference, id: ImageId, replaces: impl Fn(&ImageId) -> bool) {
        let target = match Key::of(name) {
            Key::Tag(tag) => {
                let tags = self.repositories.entry(name.name()).or_default();
                tags.entry(tag.to_owned()).or_insert_with(|| id.into())
            }
            Key::Digest(digest) => {
                let digests = self.digests.entry(name.name()).or_default();
                digests.entry(digest).or_insert_with(|| id.into())
            }
        };
        target.add(id, replaces);
    }

    /// The tag (or digest, if there is no tag) with all its images. `false` if there was none.
    pub(crate) fn remove(&mut self, name: &Reference) -> bool {
        match Key::of(name) {
            Key::Tag(tag) => remove_from(&mut self.repositories, &name.name(), tag),
            Key::Digest(digest) => remove_from(&mut self.digests, &name.name(), &digest),
        }
    }

    /// One of the images of a tag (or digest, if there is no tag). `false` if it wasn't one.
    pub(crate) fn remove_image(&mut self, name: &Reference, id: ImageId) -> bool {
        let target = match Key::of(name) {
            Key::Tag(tag) => self.repositories.get_mut(&name.name()).and_then(|t| t.get_mut(tag)),
            Key::Digest(digest) => self.digests.get_mut(&name.name()).and_then(|t| t.get_mut(&digest)),
        };
        let Some(target) = target.filter(|target| target.0.contains(&id)) else {
            return false;
        };
        match target.0.len() {
            1 => self.remove(name),
            _ => {
                target.0.retain(|there| *there != id);
                true
            }
        }
    }

    /// Every name with its tag, in order; one of several platforms as often, the newest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Reference, ImageId)> + '_ {
        self.repositories.iter().flat_map(|(repository, tags)| {
            let name = Reference::parse(repository).ok();
            tags.iter().flat_map(move |(tag, target)| {
                let name = name.clone().map(|name| Reference {
                    tag: Some(tag.clone()),
                    ..name
                });
                target.0.iter().rev().filter_map(move |id| Some((name.clone()?, *id)))
            })
        })
    }

    /// The names of one image, in order.
    pub(crate) fn of(&self, id: &ImageId) -> Vec<Reference> {
        self.iter()
            .filter(|(_, tagged)| tagged == id)
            .map(|(name, _)| name)
            .collect()
    }

    /// Every name with its digest, in order.
    pub(crate) fn digests(&self) -> impl Iterator<Item = (Reference, ImageId)> + '_ {
        self.digests.iter().flat_map(|(repository, digests)| {
            let name = Reference::parse(repository).ok();
            digests.iter().flat_map(move |(digest, target)| {
                let name = name.clone().map(|name| Reference {
                    digest: Some(*digest),
                    ..name
                });
                target.0.iter().rev().filter_map(move |id| Some((name.clone()?, *id)))
            })
        })
    }

    /// Under which digests an image is known.
    pub(crate) fn digests_of(&self, id: &ImageId) -> Vec<Reference> {
        self.digests()
            .filter(|(_, known)| known == id)
            .map(|(name, _)| name)
            .collect()
    }
}

/// `false` if it wasn't there.
fn remove_from<K, Q>(all: &mut BTreeMap<String, BTreeMap<K, Target>>, repository: &str, key: &Q) -> bool
where
    K: Ord + std::borrow::Borrow<Q>,
    Q: Ord + ?Sized,
{
    let Some(targets) = all.get_mut(repository) else {
        return false;
    };
    let found = targets.remove(key).is_some();
    if targets.is_empty() {
        all.remove(repository);
    }
    found
}

impl Store {
    pub(crate) fn tags(&self) -> Result<Tags> {
        let tags = file::read_json(&self.root().join("tags.json"));
        tags.map(Option::unwrap_or_default)
            .map_err(|e| e.with_hint("move it away: images can be tagged anew by their ids"))
    }

    /// Moves a damaged file away, where a person may look at it.
    pub(crate) fn set_tags_aside(&self, _exclusive: &StoreLock) -> Result<std::path::PathBuf> {
        let _tags = self.lock_tags()?;
        let aside = self.root().join("tags.json.damaged");
        std::fs::rename(self.root().join("tags.json"), &aside).context("move tags.json")?;
        file::sync_dir(self.root())?;
        Ok(aside)
    }

    /// The same for a listing: a damaged file is told, and counts as empty.
    pub(crate) fn readable_tags(&self) -> Tags {
        self.tags().unwrap_or_else(|e| {
            self.notify(&e.to_string());
            Tags::default()
        })
    }

    /// Changes the tags, for good. The store's lock, shared or exclusive, keeps the images where they are meanwhile.
    pub(crate) fn change_tags<T>(
        &self,
        _held: &StoreLock,
        change: impl FnOnce(&mut Tags) -> Result<T, Error>,
    ) -> Result<T> {
        let locked = self.lock_tags()?;
        self.change_locked_tags(&locked, change)
    }

    pub(super) fn change_locked_tags<T>(
        &self,
        _locked: &TagsLock,
        change: impl FnOnce(&mut Tags) -> Result<T, Error>,
    ) -> Result<T> {
        let before = self.tags()?;
        let mut tags = before.clone();
        let result = change(&mut tags)?;
        if tags != before {
            let text = file::to_json(&tags)?;
            self.telling(TAGS, told_of(&before, &tags), || {
                file::replace(self.root(), "tags.json", &text, Durability::Synced).map(Some)
            })?;
        }
        Ok(result)
    }
}

/// What a change of names is told under.
const TAGS: &str = "the tags";

/// Which names have come to an image, and which are gone.
fn told_of(before: &Tags, after: &Tags) -> Vec<Announced> {
    let names = |tags: &Tags| {
        let mut names: BTreeMap<String, ImageId> = BTreeMap::new();
        // Of several platforms the newest is the one that the name stands for.
        for (name, id) in tags.iter() {
            names.entry(name.to_string()).or_insert(id);
        }
        names
    };
    let (before, after) = (names(before), names(after));
    let event = |action, name: &String, id: &ImageId| Event::new(EventKind::Image, action, id).with("name", name);
    let gone = before.iter().filter(|(name, _)| !after.contains_key(*name));
    let gone = gone.map(|(name, id)| Proof::Named(name.clone(), None).of(event("untag", name, id)));
    let come = after.iter().filter(|(name, id)| before.get(*name) != Some(id));
    let come = come.map(|(name, id)| Proof::Named(name.clone(), Some(*id)).of(event("tag", name, id)));
    gone.chain(come).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::digest::Digest;
    use crate::store::testing::Scratch;

    fn name(s: &str) -> Reference {
        Reference::parse(s).unwrap()
    }

    #[test]
    fn tags_move_and_go() {
        let s = Scratch::new();
        let (a, b) = (ImageId(Digest::of(b"a")), ImageId(Digest::of(b"b")));
        let held = s.lock_shared().unwrap();
        let before = s
            .change_tags(&held, |t| Ok((t.set(&name("deb"), a), t.set(&name("deb:2"), a))))
            .unwrap();
        assert_eq!(before, (None, None));
        assert_eq!(
            s.change_tags(&held, |t| Ok(t.set(&name("docker.io/library/deb:latest"), b)))
                .unwrap(),
            Some(a)
        );
        let tags = s.tags().unwrap();
        assert_eq!(
            (
                tags.get(&name("deb")),
                tags.get(&name("deb:2")),
                tags.get(&name("x/deb"))
            ),
            (Some(b), Some(a), None)
        );
        assert_eq!(
            tags.of(&a).iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["deb:2"]
        );
        assert!(s.change_tags(&held, |t| Ok(t.remove(&name("deb")))).unwrap());
        assert!(!s.change_tags(&held, |t| Ok(t.remove(&name("deb")))).unwrap());
        s.change_tags(&held, |t| Ok(t.remove(&name("deb:2")))).unwrap();
        assert_eq!(s.tags().unwrap(), Tags::default());
    }

    #[test]
    fn a_name_of_several_platforms() {
        let (a, b, c) = (
            ImageId(Digest::of(b"a")),
            ImageId(Digest::of(b"b")),
            ImageId(Digest::of(b"c")),
        );
        let mut tags = Tags::default();
        tags.add(&name("deb"), a, |_| false);
        tags.add(&name("deb"), b, |_| false);
        assert_eq!(tags.target(&name("deb")).unwrap().images(), [a, b]);
        assert_eq!(tags.get(&name("deb")), Some(b));
        tags.add(&name("deb"), c, |id| *id == a);
        assert_eq!(tags.target(&name("deb")).unwrap().images(), [b, c]);
        let digest = name(&format!("deb@{}", Digest::of(b"manifest")));
        tags.add(&digest, b, |_| false);
        assert_eq!((tags.get(&digest), tags.get(&name("deb"))), (Some(b), Some(c)));
        assert_eq!(tags.digests_of(&b), std::slice::from_ref(&digest));
        assert_eq!(tags.iter().map(|(_, id)| id).collect::<Vec<_>>(), [c, b]);
        let written = serde_json::to_string(&tags).unwrap();
        assert_eq!(serde_json::from_str::<Tags>(&written).unwrap(), tags);
        assert!(tags.remove_image(&name("deb"), c) && !tags.remove_image(&name("deb"), c));
        assert!(tags.remove_image(&name("deb"), b) && tags.remove(&digest) && !tags.remove(&digest));
        assert_eq!(tags, Tags::default());
    }

    #[test]
    fn the_first_form_of_the_file_is_read() {
        let id = ImageId(Digest::of(b"a"));
        let old = format!(r#"{{"repositories":{{"docker.io/library/deb":{{"latest":"{id}"}}}}}}"#);
        assert_eq!(serde_json::from_str::<Tags>(&old).unwrap().get(&name("deb")), Some(id));
        let empty = r#"{"repositories":{"docker.io/library/deb":{"latest":[]}}}"#;
        assert!(serde_json::from_str::<Tags>(empty).is_err());
    }

    #[test]
    fn no_tag_is_lost_between_writers() {
        let s = Scratch::new();
        let id = ImageId(Digest::of(b""));
        std::thread::scope(|threads| {
            for t in 0..8 {
                let s = &s.store;
                threads.spawn(move || {
                    for n in 0..10 {
                        let held = s.lock_shared().unwrap();
                        s.change_tags(&held, |tags| Ok(tags.set(&name(&format!("r:{t}-{n}")), id)))
                            .unwrap();
                    }
                });
            }
        });
        assert_eq!(s.tags().unwrap().of(&id).len(), 80);
    }
}
