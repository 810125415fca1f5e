//! What `rmi` and `prune` may take away, in docker's order and with docker's refusals (pure; F026–F029).

use crate::error::{Error, Result};
use crate::model::id::{ContainerId, ImageId};
use crate::model::reference::Reference;
use std::collections::{BTreeMap, BTreeSet};

/// What is in the store, as far as removing asks.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Tags and digests of each image, in order.
    pub(crate) references: BTreeMap<ImageId, Vec<Reference>>,
    /// Every image, and the one it was made from if that is here.
    pub(crate) parents: BTreeMap<ImageId, Option<ImageId>>,
    /// The containers of each image, running ones first.
    pub(crate) users: BTreeMap<ImageId, Vec<User>>,
}

/// A container of an image.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct User {
    pub(crate) id: ContainerId,
    pub(crate) name: String,
    pub(crate) runs: bool,
}

/// What to remove.
#[derive(Debug, Clone)]
pub(crate) struct Request<'a> {
    /// As typed.
    pub(crate) what: &'a str,
    /// The name in full, if it was a name.
    pub(crate) named: Option<Reference>,
    /// What it stands for; a name may stand for several platforms.
    pub(crate) images: Vec<ImageId>,
    pub(crate) options: Options,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// Also images with several names, or with containers that don't run.
    pub(crate) force: bool,
    /// Nameless images that the removed one was made from go as well.
    pub(crate) parents: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// The image loses this name.
    Untag(Reference, ImageId),
    Delete(ImageId),
}

impl State {
    fn references(&self, id: &ImageId) -> &[Reference] {
        self.references.get(id).map_or(&[], Vec::as_slice)
    }

    fn users(&self, id: &ImageId) -> &[User] {
        self.users.get(id).map_or(&[], Vec::as_slice)
    }

    fn has_children(&self, id: &ImageId) -> bool {
        self.parents.values().any(|parent| *parent == Some(*id))
    }

    /// One name at most, but for digests in the same repository.
    fn is_single(&self, id: &ImageId) -> bool {
        let references = self.references(id);
        let tags = references.iter().filter(|name| name.digest.is_none()).count();
        let repositories: BTreeSet<String> = references.iter().map(Reference::name).collect();
        tags <= 1 && repositories.len() <= 1
    }

    /// Carries a step out.
    fn apply(&mut self, step: &Step) {
        match step {
            Step::Untag(name, id) => {
                if let Some(names) = self.references.get_mut(id) {
                    names.retain(|other| other != name);
                }
            }
            Step::Delete(id) => {
                self.references.remove(id);
                self.parents.remove(id);
            }
        }
    }
}

/// Names that only a deletion asks the containers of.
pub(crate) fn asks_for_users(state: &State, request: &Request<'_>) -> bool {
    request.named.is_none() || request.images.iter().any(|id| state.is_single(id))
}

/// What to do, one step after the other. The state is then as if it was done.
pub(crate) fn plan(state: &mut State, request: &Request<'_>) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    if let Some(name) = &request.named {
        for id in &request.images {
            refuse_last_name(state, request, id)?;
        }
        for id in &request.images {
            untag(state, name, *id, &mut steps);
            if state.references(id).is_empty() {
                // The name is gone in any case; what still needs the image keeps it.
                let _ = delete(state, *id, request.options, &mut steps);
            }
        }
        return Ok(steps);
    }
    for id in &request.images {
        let single = state.is_single(id);
        refuse(state, id, request.options.force, !single)?;
        for name in state.references(id).to_vec() {
            take(state, Step::Untag(name, *id), &mut steps);
        }
        delete(state, *id, request.options, &mut steps)?;
    }
    Ok(steps)
}

/// Without its last name the image would only be lost from sight.
fn refuse_last_name(state: &State, request: &Request<'_>, id: &ImageId) -> Result<()> {
    match state.users(id).first() {
        Some(user) if !request.options.force && state.is_single(id) => Err(user.stands_in_the_way(format!(
            "unable to remove repository reference \"{}\" (must force) - container {} is using its referenced image {}",
            request.what,
            user.id.short(),
            id.short()
        ))),
        _ => Ok(()),
    }
}

/// The name, and the digests that nothing but it was known by in that repository.
fn untag(state: &mut State, name: &Reference, id: ImageId, steps: &mut Vec<Step>) {
    take(state, Step::Untag(name.clone(), id), steps);
    if name.digest.is_some() {
        return;
    }
    let repository = name.name();
    let same: Vec<Reference> = state
        .references(&id)
        .iter()
        .filter(|other| other.name() == repository)
        .cloned()
        .collect();
    if same.iter().all(|other| other.digest.is_some()) {
        for digest in same {
            take(state, Step::Untag(digest, id), steps);
        }
    }
}

fn take(state: &mut State, step: Step, steps: &mut Vec<Step>) {
    state.apply(&step);
    steps.push(step);
}

/// Deletes an image without names, and with it the nameless ones it was made from.
fn delete(state: &mut State, id: ImageId, options: Options, steps: &mut Vec<Step>) -> Result<()> {
    refuse(state, &id, options.force, true)?;
    let mut next = Some(id);
    while let Some(id) = next {
        let parent = state.parents.get(&id).copied().flatten();
        take(state, Step::Delete(id), steps);
        next = parent.filter(|parent| {
            options.parents && state.references(parent).is_empty() && refuse(state, parent, false, true).is_ok()
        });
    }
    Ok(())
}

/// What stands in the way of deleting an image; `names` if its names do.
fn refuse(state: &State, id: &ImageId, force: bool, names: bool) -> Result<()> {
    let short = id.short();
    if state.has_children(id) {
        return Err(Error::conflict(format!(
            "conflict: unable to delete {short} (cannot be forced) - image has dependent child images"
        )));
    }
    let user = state.users(id).first();
    if let Some(user) = user.filter(|user| user.runs) {
        return Err(user.stands_in_the_way(format!(
            "unable to delete {short} (cannot be forced) - image is being used by running container {}",
            user.id.short()
        )));
    }
    if force {
        return Ok(());
    }
    if names && !state.references(id).is_empty() {
        return Err(Error::conflict(format!(
            "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
        )));
    }
    match user {
        Some(user) => Err(user.stands_in_the_way(format!(
            "unable to delete {short} (must be forced) - image is being used by stopped container {}",
            user.id.short()
        ))),
        None => Ok(()),
    }
}

impl User {
    /// Docker's words, and what can be done.
    fn stands_in_the_way(&self, what: String) -> Error {
        let remove = if self.runs { "barge rm -f" } else { "barge rm" };
        Error::conflict(format!("conflict: {what}")).with_hint(format!("{remove} {}", self.name))
    }
}

/// Steps for `image prune`: nameless images that nothing was made from and no container uses; with `all`, every image
/// that no container uses. `wanted` is what the filters say.
pub(crate) fn plan_prune(state: &mut State, all: bool, wanted: &dyn Fn(&ImageId) -> bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let options = Options {
        force: false,
        parents: true,
    };
    let ids: Vec<ImageId> = state.parents.keys().copied().collect();
    for id in ids {
        let named = !state.references(&id).is_empty();
        if !state.parents.contains_key(&id) || !state.users(&id).is_empty() || (named && !all) || !wanted(&id) {
            continue;
        }
        for name in state.references(&id).to_vec() {
            take(state, Step::Untag(name, id), &mut steps);
        }
        // One that others were made from stays, and goes with the last of them.
        let _ = delete(state, id, options, &mut steps);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::digest::Digest;

    fn image(name: &str) -> ImageId {
        ImageId(Digest::of(name.as_bytes()))
    }

    fn name(text: &str) -> Reference {
        let (name, digest) = text.split_once('@').unwrap_or((text, ""));
        let mut name = Reference::parse(name).unwrap();
        match digest {
            "" => name.or_latest(),
            digest => {
                name.digest = Some(Digest::of(digest.as_bytes()));
                name
            }
        }
    }

    /// One image a line: `image[<parent] [names…] [+running] [-stopped]`.
    fn state(lines: &[&str]) -> State {
        let mut state = State::default();
        for line in lines {
            let mut words = line.split_whitespace();
            let first = words.next().unwrap();
            let (id, parent) = first
                .split_once('<')
                .map_or((first, None), |(id, p)| (id, Some(image(p))));
            state.parents.insert(image(id), parent);
            for word in words {
                let user = |runs| User {
                    id: ContainerId::from_random(&[7; 32]),
                    name: word.to_owned(),
                    runs,
                };
                match word.as_bytes()[0] {
                    b'+' => state.users.entry(image(id)).or_default().insert(0, user(true)),
                    b'-' => state.users.entry(image(id)).or_default().push(user(false)),
                    _ => state.references.entry(image(id)).or_default().push(name(word)),
                }
            }
        }
        state
    }

    fn said(steps: &[Step], state_before: &[&str]) -> Vec<String> {
        let ids: Vec<&str> = state_before
            .iter()
            .map(|l| l.split([' ', '<']).next().unwrap())
            .collect();
        let of = |id: &ImageId| *ids.iter().find(|n| image(n) == *id).unwrap();
        steps
            .iter()
            .map(|step| match step {
                Step::Untag(name, _) if name.digest.is_some() => format!("-{}@", name.familiar_name()),
                Step::Untag(name, _) => format!("-{name}"),
                Step::Delete(id) => of(id).to_owned(),
            })
            .collect()
    }

    fn removed(lines: &[&str], what: &str, force: bool, parents: bool) -> Result<Vec<String>, String> {
        let mut state = state(lines);
        let (named, images) = match what.strip_prefix('#') {
            Some(id) => (None, vec![image(id)]),
            None => {
                let named = name(what);
                let has = |names: &Vec<Reference>| names.contains(&named);
                let images = state
                    .references
                    .iter()
                    .filter(|(_, names)| has(names))
                    .map(|(id, _)| *id);
                (Some(named.clone()), images.collect())
            }
        };
        let request = Request {
            what,
            named,
            images,
            options: Options { force, parents },
        };
        match plan(&mut state, &request) {
            Ok(steps) => Ok(said(&steps, lines)),
            Err(e) => Err(e.to_string()),
        }
    }

    #[test]
    fn names_and_the_image_with_the_last() {
        for (lines, what, force, steps) in [
            (&["A a:1"][..], "a:1", false, &["-a:1", "A"][..]),
            (&["A a:1 b:1"], "a:1", false, &["-a:1"]),
            (&["A a:1 b:1 +x"], "a:1", false, &["-a:1"]),
            (&["A a:1 a@d"], "a:1", false, &["-a:1", "-a@", "A"]),
            (&["A a:1 a:2 a@d"], "a:1", false, &["-a:1"]),
            (&["A a:1 b@d"], "a:1", false, &["-a:1"]),
            (&["A a:1 a@d"], "a@d", false, &["-a@"]),
            (&["A a@d"], "a@d", false, &["-a@", "A"]),
            (&["A a:1 -x"], "a:1", true, &["-a:1", "A"]),
            // A running container keeps its image, without a name.
            (&["A a:1 +x"], "a:1", true, &["-a:1"]),
            (&["A"], "#A", false, &["A"]),
            (&["A a:1"], "#A", false, &["-a:1", "A"]),
            (&["A a:1 a@d"], "#A", false, &["-a:1", "-a@", "A"]),
            (&["A a:1 b:1"], "#A", true, &["-a:1", "-b:1", "A"]),
            (&["A -x"], "#A", true, &["A"]),
            // Two platforms of one name.
            (&["A a:1", "B a:1"], "a:1", false, &["-a:1", "A", "-a:1", "B"]),
            (&["A a:1", "B a:1 b:1"], "a:1", false, &["-a:1", "A", "-a:1"]),
            (&["A a:1", "B a:1"], "#A", false, &["-a:1", "A"]),
            // Up to the first that has a name, another child or a container.
            (&["C<B c:1", "B<A", "A"], "c:1", false, &["-c:1", "C", "B", "A"]),
            (&["C<B c:1", "B<A", "A a:1"], "c:1", false, &["-c:1", "C", "B"]),
            (&["C<B c:1", "D<B d:1", "B"], "c:1", false, &["-c:1", "C"]),
            (&["C<B c:1", "B -x"], "c:1", true, &["-c:1", "C"]),
            // An image that others were made from loses its name only.
            (&["C<B c:1", "B b:1"], "b:1", false, &["-b:1"]),
        ] {
            let mut sorted = removed(lines, what, force, true).unwrap();
            let mut expected: Vec<String> = steps.iter().map(|s| (*s).to_owned()).collect();
            if lines.len() == 2 && what == "a:1" {
                // The order of two platforms is that of their ids.
                sorted.sort();
                expected.sort();
            }
            assert_eq!(sorted, expected, "{lines:?} {what}");
        }
        let kept = removed(&["C<B c:1", "B"], "c:1", false, false).unwrap();
        assert_eq!(kept, ["-c:1", "C"], "--no-prune");
    }

    #[test]
    fn refusals() {
        for (lines, what, force, part) in [
            (
                &["A a:1 -x"][..],
                "a:1",
                false,
                "unable to remove repository reference \"a:1\" (must force) - container 070707070707 is using its \
                 referenced image",
            ),
            (&["A a:1 a@d +x"], "a:1", false, "(must force)"),
            (
                &["A -x"],
                "#A",
                false,
                "(must be forced) - image is being used by stopped container 070707070707",
            ),
            (
                &["A +x"],
                "#A",
                true,
                "(cannot be forced) - image is being used by running container 070707070707",
            ),
            (
                &["A a:1 b:1"],
                "#A",
                false,
                "(must be forced) - image is referenced in multiple repositories",
            ),
            (
                &["A a:1 a:2"],
                "#A",
                false,
                "(must be forced) - image is referenced in multiple repositories",
            ),
            (
                &["C<B c:1", "B"],
                "#B",
                true,
                "(cannot be forced) - image has dependent child images",
            ),
        ] {
            let e = removed(lines, what, force, true).unwrap_err();
            assert!(e.starts_with("conflict: ") && e.contains(part), "{e}");
        }
    }

    #[test]
    fn pruned() {
        let lines = ["A a:1", "B", "C -x", "D<E", "E", "F<G f:1", "G", "H +x h:1"];
        let run = |all, wanted: &dyn Fn(&ImageId) -> bool| {
            let mut out = said(&plan_prune(&mut state(&lines), all, wanted), &lines);
            out.sort();
            out
        };
        assert_eq!(run(false, &|_| true), ["B", "D", "E"]);
        assert_eq!(run(true, &|_| true), ["-a:1", "-f:1", "A", "B", "D", "E", "F", "G"]);
        assert_eq!(run(true, &|id| *id == image("A")), ["-a:1", "A"]);
    }
}
