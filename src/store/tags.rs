//! `tags.json`: repository → tag → image id. Names are in full (`docker.io/library/debian`). The file is small, read
//! without a lock, and replaced whole under `tags.lock`.

use super::{Durability, Store, StoreLock, file};
use crate::error::{Error, Result};
use crate::model::id::ImageId;
use crate::model::reference::{DEFAULT_TAG, Reference};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tags {
    repositories: BTreeMap<String, BTreeMap<String, ImageId>>,
}

impl Tags {
    /// The image that has exactly this name and tag (`latest` if it says none).
    pub(crate) fn get(&self, name: &Reference) -> Option<ImageId> {
        let tag = name.tag.as_deref().unwrap_or(DEFAULT_TAG);
        self.repositories.get(&name.name())?.get(tag).copied()
    }

    /// Moves the tag, or makes it. The image that had it before, if it was another one.
    pub(crate) fn set(&mut self, name: &Reference, id: ImageId) -> Option<ImageId> {
        let tag = name.tag.as_deref().unwrap_or(DEFAULT_TAG);
        let before = self
            .repositories
            .entry(name.name())
            .or_default()
            .insert(tag.to_owned(), id);
        before.filter(|before| *before != id)
    }

    /// `false` if there was none.
    pub(crate) fn remove(&mut self, name: &Reference) -> bool {
        let tag = name.tag.as_deref().unwrap_or(DEFAULT_TAG);
        let repository = name.name();
        let Some(tags) = self.repositories.get_mut(&repository) else {
            return false;
        };
        let found = tags.remove(tag).is_some();
        if tags.is_empty() {
            self.repositories.remove(&repository);
        }
        found
    }

    /// Every name, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Reference, ImageId)> + '_ {
        self.repositories.iter().flat_map(|(repository, tags)| {
            tags.iter().filter_map(move |(tag, id)| {
                let name = Reference::parse(repository).ok()?;
                Some((
                    Reference {
                        tag: Some(tag.clone()),
                        ..name
                    },
                    *id,
                ))
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
}

impl Store {
    pub(crate) fn tags(&self) -> Result<Tags> {
        let tags = file::read_json(&self.root().join("tags.json"));
        tags.map(Option::unwrap_or_default)
            .map_err(|e| e.with_hint("move it away: images can be tagged anew by their ids"))
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
        let _tags = self.lock_tags()?;
        let before = self.tags()?;
        let mut tags = before.clone();
        let result = change(&mut tags)?;
        if tags != before {
            file::replace(self.root(), "tags.json", &file::to_json(&tags)?, Durability::Synced)?;
        }
        Ok(result)
    }
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
