//! `rmi`: takes names away, and the image with the last one.

use crate::error::{Error, Result};
use crate::image::resolve::{by_name, resolve_id};
use crate::model::id::{ChainId, ContainerId, ImageId};
use crate::model::reference::Reference;
use crate::store::{Store, StoreLock};

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

/// Removes one name, or an image by its id. With `force` also what stopped containers were made of (they keep the
/// layers), and an id that has several names. `runs` says whether a container runs.
pub(crate) fn remove(
    store: &Store,
    what: &str,
    force: bool,
    runs: impl Fn(&ContainerId) -> bool,
) -> Result<Vec<Removed>> {
    let held = store.lock_exclusive()?;
    let named = by_name(store, what)?;
    let id = match &named {
        Some((_, id)) => *id,
        None => resolve_id(store, what)?,
    };
    let users = users(store, &id, &runs)?;
    let target = Target {
        what,
        id,
        named: named.map(|(name, _)| name),
        names: store.tags()?.of(&id),
    };
    let (untag, delete) = decide(target, &users, force)?;
    let mut removed = Vec::new();
    store.change_tags(&held, |tags| {
        removed.extend(
            untag
                .into_iter()
                .filter(|name| tags.remove(name))
                .map(Removed::Untagged),
        );
        Ok(())
    })?;
    if delete {
        removed.extend(delete_image(store, &id, held)?);
    }
    Ok(removed)
}

fn delete_image(store: &Store, id: &ImageId, held: StoreLock) -> Result<Vec<Removed>> {
    store.forget_image(id, &held)?;
    let dropped = store.drop_unreferenced(&held)?;
    drop(held);
    let mut removed = vec![Removed::Image(*id)];
    removed.extend(dropped.ids().map(Removed::Layer));
    dropped.delete()?;
    Ok(removed)
}

/// A container of the image.
#[derive(Debug, Clone)]
struct User {
    id: ContainerId,
    name: String,
    runs: bool,
}

fn users(store: &Store, image: &ImageId, runs: &dyn Fn(&ContainerId) -> bool) -> Result<Vec<User>> {
    let mut users = Vec::new();
    for id in store.container_ids()? {
        // A damaged container can't be started, so it uses nothing.
        if let Ok(config) = store.config(&id)
            && config.image.id == *image
        {
            let runs = runs(&id);
            users.push(User {
                id,
                name: config.name,
                runs,
            });
        }
    }
    users.sort_by(|a, b| (b.runs, &a.id).cmp(&(a.runs, &b.id)));
    Ok(users)
}

/// What is to be removed.
struct Target<'a> {
    what: &'a str,
    id: ImageId,
    /// The name that was typed, if it was a name.
    named: Option<Reference>,
    /// All names of the image.
    names: Vec<Reference>,
}

/// Which names go, and whether the image does (F027, F028).
fn decide(target: Target<'_>, users: &[User], force: bool) -> Result<(Vec<Reference>, bool)> {
    let Target { what, id, named, names } = target;
    let short = id.short();
    match named {
        Some(name) if names.len() > 1 => Ok((vec![name], false)),
        Some(name) => match users.first() {
            Some(user) if !force => Err(user.stands_in_the_way(format!(
                "unable to remove repository reference \"{what}\" (must force) - container {} is using its referenced \
                 image {short}",
                user.id.short()
            ))),
            Some(user) if user.runs => Ok((vec![name], false)),
            _ => Ok((vec![name], true)),
        },
        None => match users.first() {
            Some(user) if user.runs => Err(user.stands_in_the_way(format!(
                "unable to delete {short} (cannot be forced) - image is being used by running container {}",
                user.id.short()
            ))),
            Some(user) if !force => Err(user.stands_in_the_way(format!(
                "unable to delete {short} (must be forced) - image is being used by stopped container {}",
                user.id.short()
            ))),
            _ if names.len() > 1 && !force => Err(Error::conflict(format!(
                "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
            ))),
            _ => Ok((names, true)),
        },
    }
}

impl User {
    /// Docker's words, and what can be done.
    fn stands_in_the_way(&self, what: String) -> Error {
        let remove = if self.runs { "barge rm -f" } else { "barge rm" };
        Error::conflict(format!("conflict: {what}")).with_hint(format!("{remove} {}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::digest::Digest;

    #[test]
    fn decisions() {
        let id = ImageId(Digest::of(b""));
        let name = |n: &str| Reference::parse(n).unwrap().or_latest();
        let user = |runs| User {
            id: ContainerId::from_random(&[7; 32]),
            name: "user".to_owned(),
            runs,
        };
        let (one, two) = (vec![name("a")], vec![name("a"), name("b:1")]);
        let a = || Some(name("a"));
        let decide = |named: Option<Reference>, names: &Vec<Reference>, users: &[User], force: bool| {
            decide(
                Target {
                    what: "a",
                    id,
                    named,
                    names: names.clone(),
                },
                users,
                force,
            )
            .map_err(|e| e.to_string())
        };
        assert_eq!(decide(a(), &one, &[], false), Ok((one.clone(), true)));
        assert_eq!(
            decide(a(), &two, &[user(true)], false),
            Ok((one.clone(), false)),
            "another name is left"
        );
        assert_eq!(decide(a(), &one, &[user(false)], true), Ok((one.clone(), true)));
        assert_eq!(
            decide(a(), &one, &[user(true)], true),
            Ok((one.clone(), false)),
            "a running one keeps its image"
        );
        assert_eq!(decide(None, &one, &[], false), Ok((one.clone(), true)));
        assert_eq!(decide(None, &Vec::new(), &[], false), Ok((Vec::new(), true)));
        assert_eq!(decide(None, &two, &[], true), Ok((two.clone(), true)));
        for (named, names, users, force, part) in [
            (
                a(),
                &one,
                vec![user(false)],
                false,
                "(must force) - container 070707070707 is using its",
            ),
            (
                None,
                &one,
                vec![user(false)],
                false,
                "(must be forced) - image is being used by stopped container 0707",
            ),
            (
                None,
                &one,
                vec![user(true)],
                true,
                "(cannot be forced) - image is being used by running container 0707",
            ),
            (
                None,
                &two,
                vec![],
                false,
                "(must be forced) - image is referenced in multiple repositories",
            ),
        ] {
            let e = decide(named, names, &users, force).unwrap_err();
            assert!(e.contains(part), "{e}");
        }
    }
}
