//! `rmi`: takes names away, and the image with the last one. All is decided and done under the store's exclusive lock;
//! what is out of the store then only has to be deleted, which takes time and needs no lock.

use crate::error::{Error, Result};
use crate::image::list::summaries;
use crate::image::removal::{Options, Request, State, Step, User, asks_for_users, plan};
use crate::image::resolve::{by_name, resolve_id};
use crate::model::id::{ChainId, ContainerId, ImageId};
use crate::model::reference::Reference;
use crate::store::{Dropped, Store, StoreLock, Tags};
use crate::sys;
use crate::sys::clone::Fork;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd as _;
use std::time::Duration;

/// Says whether a container runs.
pub(crate) type Runs<'a> = &'a dyn Fn(&ContainerId) -> bool;

/// What was done, in the order in which to say so.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Removed {
    /// `Untagged: debian:latest`
    Untagged(Reference),
    /// `Deleted: sha256:…`: an image.
    Image(ImageId),
    /// `Deleted: sha256:…`: a layer that nothing else needs.
    Layer(ChainId),
}

impl std::fmt::Display for Removed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Removed::Untagged(name) => write!(f, "Untagged: {name}"),
            Removed::Image(id) => write!(f, "Deleted: {id}"),
            Removed::Layer(id) => write!(f, "Deleted: {id}"),
        }
    }
}

/// What is no more in the store. Its files are deleted when it is dropped, or by [`Removal::delete`], which says if that
/// did not work.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Removal {
    pub(crate) lines: Vec<Removed>,
    dropped: Dropped,
}

impl Removal {
    /// Bytes on disk that become free.
    pub(crate) fn bytes(&self) -> u64 {
        self.dropped.bytes()
    }

    pub(crate) fn delete(self) -> Result<()> {
        self.dropped.delete()
    }
}

/// Most images' files are deleted before anybody notices the wait.
const PATIENCE: Duration = Duration::from_millis(100);

/// Deletes what was removed. What takes longer than a moment goes on in a child that nobody waits for. It has the locks
/// of what it deletes; if it is killed, a later command deletes the rest.
pub(crate) fn delete(removals: Vec<Removal>) -> Result<()> {
    match sys::clone::clone3(0, None) {
        Ok(Fork::Child) => {
            // The caller's terminal and pipes are not kept open for this.
            let _ = sys::process::leave_session();
            let failed = removals
                .into_iter()
                .map(Removal::delete)
                .any(|deleted| deleted.is_err());
            sys::process::exit_now(i32::from(failed));
        }
        Ok(Fork::Parent { pidfd, .. }) => {
            // The child's to delete from here on.
            removals.into_iter().for_each(std::mem::forget);
            let in_time = sys::process::pidfd_wait(pidfd.as_fd(), Some(PATIENCE))?;
            match in_time && sys::process::reap(pidfd.as_fd())?.code() != 0 {
                true => Err(Error::other("some files of what was removed can't be deleted")
                    .with_hint("later commands try again; `barge system df` shows what is left")),
                false => Ok(()),
            }
        }
        Err(_) => removals.into_iter().try_for_each(Removal::delete),
    }
}

/// Removes one name, or an image by its id.
pub(crate) fn remove(store: &Store, what: &str, options: Options, runs: Runs<'_>) -> Result<Removal> {
    let held = store.lock_exclusive()?;
    let named = by_name(store, what)?;
    let id = match &named {
        Some((_, id)) => *id,
        None => resolve_id(store, what)?,
    };
    let mut state = state(store)?;
    // With both, the digest is what was looked for.
    let named = named.map(|(name, _)| match name.digest {
        Some(_) => Reference { tag: None, ..name },
        None => name,
    });
    let mut images: Vec<ImageId> = match &named {
        Some(name) => {
            let has = |names: &Vec<Reference>| names.contains(name);
            state
                .references
                .iter()
                .filter(|(_, names)| has(names))
                .map(|(id, _)| *id)
                .collect()
        }
        None => vec![id],
    };
    if images.is_empty() {
        images.push(id);
    }
    let request = Request {
        what,
        named,
        images,
        options,
    };
    if asks_for_users(&state, &request) {
        state.users = users(store, runs)?;
    }
    let steps = plan(&mut state, &request)?;
    carry_out(store, &steps, held)
}

/// Does what was planned.
pub(super) fn carry_out(store: &Store, steps: &[Step], held: StoreLock) -> Result<Removal> {
    store.change_tags(&held, |tags| {
        for step in steps {
            if let Step::Untag(name, id) = step {
                tags.remove_image(name, *id);
            }
        }
        Ok(())
    })?;
    crate::sys::stop_point("untagged");
    let mut layers: BTreeMap<ImageId, Vec<ChainId>> = BTreeMap::new();
    for step in steps {
        if let Step::Delete(id) = step {
            layers.insert(*id, store.image(id).map(|record| record.layers).unwrap_or_default());
            store.forget_image(id, &held)?;
        }
    }
    crate::sys::stop_point("image-forgotten");
    // A prune that finds no image still finds what a dead transfer, or one that outlived its image, has left.
    let only_names = layers.is_empty() && !steps.is_empty();
    let dropped = match only_names {
        true => Dropped::default(),
        false => store.drop_unreferenced(&held)?,
    };
    drop(held);
    let gone: BTreeSet<ChainId> = dropped.ids().collect();
    Ok(Removal {
        lines: lines(steps, &layers, gone),
        dropped,
    })
}

/// A name of several platforms is said once; after each image its layers that went, topmost first.
fn lines(steps: &[Step], layers: &BTreeMap<ImageId, Vec<ChainId>>, mut gone: BTreeSet<ChainId>) -> Vec<Removed> {
    let mut lines = Vec::new();
    for step in steps {
        match step {
            Step::Untag(name, _) => {
                let line = Removed::Untagged(name.clone());
                if !lines.contains(&line) {
                    lines.push(line);
                }
            }
            Step::Delete(id) => {
                lines.push(Removed::Image(*id));
                let own = layers.get(id).map_or(&[][..], Vec::as_slice);
                lines.extend(
                    own.iter()
                        .rev()
                        .filter(|layer| gone.remove(layer))
                        .map(|l| Removed::Layer(*l)),
                );
            }
        }
    }
    // Those of a damaged record, or of a transfer that died.
    lines.extend(gone.into_iter().map(Removed::Layer));
    lines
}

/// What is in the store, but for the containers.
pub(super) fn state(store: &Store) -> Result<State> {
    let ids = store.image_ids()?;
    let known: BTreeSet<ImageId> = ids.iter().copied().collect();
    let parents = summaries(store, &ids).into_iter().map(|(id, summary)| {
        let parent = summary.ok().and_then(|summary| summary.parent);
        (id, parent.filter(|parent| known.contains(parent)))
    });
    Ok(State {
        references: references(&store.tags()?),
        parents: parents.collect(),
        users: BTreeMap::new(),
    })
}

/// All names of each image: tags, then digests.
pub(crate) fn references(tags: &Tags) -> BTreeMap<ImageId, Vec<Reference>> {
    let mut references: BTreeMap<ImageId, Vec<Reference>> = BTreeMap::new();
    for (name, id) in tags.iter().chain(tags.digests()) {
        references.entry(id).or_default().push(name);
    }
    references
}

/// The containers of every image. A damaged one can't be started, so it uses nothing.
pub(super) fn users(store: &Store, runs: Runs<'_>) -> Result<BTreeMap<ImageId, Vec<User>>> {
    let mut users: BTreeMap<ImageId, Vec<User>> = BTreeMap::new();
    for id in store.container_ids()? {
        if let Ok(config) = store.config(&id) {
            let runs = runs(&id);
            let images: BTreeSet<ImageId> = config.images().map(|image| image.id).collect();
            for image in images {
                users.entry(image).or_default().push(User {
                    id: id.clone(),
                    name: config.name.clone(),
                    runs,
                });
            }
        }
    }
    for of_image in users.values_mut() {
        of_image.sort_by(|a, b| (b.runs, &a.id).cmp(&(a.runs, &b.id)));
    }
    Ok(users)
}
