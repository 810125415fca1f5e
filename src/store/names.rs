//! Container names: which are valid, whose they are, and random ones.
//!
//! `names/<name>` is a symlink to the container's directory. It is made and removed under the names lock, together with
//! the rename of that directory, so one that leads nowhere was left by a process that died, and is free. So is, under that
//! lock, one that leads to a container whose own record has another name.

use super::lock::NamesLock;
use super::{Store, random};
use crate::error::{Context, Error, Result};
use crate::model::id::ContainerId;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Longest name of a file (NAME_MAX).
const LONGEST: usize = 255;
/// Random names tried before a digit is added.
const TRIES: usize = 16;

/// In each of the lists.
const WORDS: usize = 100;

const ADJECTIVES: &str = "\
    able amber ample autumn becalmed blithe bold bonny brave bright brisk briny buoyant calm candid \
    cheery clear coastal copper coral crisp dapper daring deft distant dozing eager early easterly \
    eastern ebbing fabled fair fearless flowing foggy frosty gallant gentle gilded gleaming glad golden \
    hardy hearty homeward humble indigo jaunty jolly keen kindly laden lazy limber lively lofty lucky \
    lunar mellow merry mighty misty modest moonlit nimble noble northern patient placid plucky polar \
    proud quick quiet ready restful roving rugged rustic salty serene silver sleepy smooth snug southern \
    spry steady stormy sturdy sunny swift tidal tranquil trusty upbeat wandering westerly windy";

const NOUNS: &str = "\
    albatross anchor anchovy atoll auk ballast barnacle bay beacon bollard boatswain bosun bowline \
    bowsprit breaker breeze bridge buoy canal capstan cargo channel clam cleat clipper coracle cormorant \
    corsair cove crab crane current cutter davit delta dinghy dock dolphin dory eel estuary eddy ferry \
    fjord foghorn frigate gale galley gannet gull gunwale halyard harbour hawser heron herring hull \
    inlet island jetty jib kayak keel kelp ketch lagoon lantern lighter lighthouse lobster longboat \
    lugger mackerel mast mooring narwhal oar osprey otter oyster pelican pier pilot porpoise prow puffin \
    quay raft reef rudder sailor schooner seal sextant skiff sloop spinnaker tern tugboat wharf";

/// Docker's rule: a letter or digit, then letters, digits, `_`, `.`, `-`; and podman's, that one character will do.
pub(crate) fn is_valid(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && (1..=LONGEST).contains(&name.len())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// An error in docker's words unless `name` may be a container's.
pub(crate) fn check(name: &str) -> Result<()> {
    match is_valid(name) {
        true => Ok(()),
        false => {
            let rule = "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed";
            Err(Error::usage(format!(
                "Invalid container name ({}), {rule}",
                name.escape_debug()
            )))
        }
    }
}

fn pick(words: &'static str, by: u8) -> &'static str {
    words
        .split_ascii_whitespace()
        .nth(usize::from(by) % WORDS)
        .unwrap_or_default()
}

impl Store {
    /// Two words that are nobody's name at the moment. Claiming it may still find it taken; then ask again.
    pub(crate) fn random_name(&self) -> Result<String> {
        let seed = random()?;
        let names = self.names_root();
        let free = |name: &str| std::fs::symlink_metadata(names.join(name)).is_err();
        let mut name = String::new();
        for pair in seed.chunks_exact(2).take(TRIES) {
            name = format!("{}_{}", pick(ADJECTIVES, pair[0]), pick(NOUNS, pair[1]));
            if free(&name) {
                return Ok(name);
            }
        }
        let digits = (0..).map(|n: u64| format!("{name}{n}")).find(|name| free(name));
        digits.ok_or_else(|| Error::other("no free name"))
    }

    /// The container that has this name, whether or not it is still there.
    pub(super) fn named(&self, name: &str) -> Option<ContainerId> {
        if !is_valid(name) {
            return None;
        }
        let target = std::fs::read_link(self.names_root().join(name)).ok()?;
        id_of_target(&target)
    }

    /// Gives `name` to `id`, whose directory is about to be put in place.
    pub(super) fn claim_name(&self, name: &str, id: &ContainerId, _held: &NamesLock) -> Result<()> {
        let link = self.names_root().join(name);
        let target = Path::new("../containers").join(id.as_str());
        loop {
            match std::os::unix::fs::symlink(&target, &link) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                done => return done.with_context(|| format!("claim name {name}")),
            }
            self.check_name_free(name)?;
            super::staging::remove_path(&link)?;
        }
    }

    /// A conflict in docker's words if a container has the name. It has not if it is called otherwise by its own record:
    /// then a rename was killed halfway, before or after that was written.
    pub(super) fn check_name_free(&self, name: &str) -> Result<()> {
        match self.named(name) {
            Some(owner) if self.is_called(&owner, name) => Err(Error::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". \
                 You have to remove (or rename) that container to be able to reuse that name."
            ))),
            _ => Ok(()),
        }
    }

    /// Whether it is there, and its record says so or says nothing.
    fn is_called(&self, id: &ContainerId, name: &str) -> bool {
        match self.config(id) {
            Ok(config) => config.name == name,
            Err(_) => self.container_dir(id).exists(),
        }
    }

    /// Frees `name` if it is `id`'s.
    pub(super) fn release_name(&self, name: &str, id: &ContainerId, _held: &NamesLock) -> Result<()> {
        if self.named(name).as_ref() != Some(id) {
            return Ok(());
        }
        match std::fs::remove_file(self.names_root().join(name)) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e).with_context(|| format!("free name {name}")),
            _ => Ok(()),
        }
    }

    /// Every name that leads to `id`: for a container whose record can't be read.
    pub(super) fn names_of(&self, id: &ContainerId) -> Vec<String> {
        let names = std::fs::read_dir(self.names_root()).into_iter().flatten().flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| self.named(name).as_ref() == Some(id)).collect()
    }

    /// Frees the names that lead nowhere, or to a container that is called otherwise.
    pub(super) fn sweep_names(&self) -> Result<()> {
        let held = self.lock_names()?;
        for entry in std::fs::read_dir(self.names_root())?.flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if let Some(id) = self.named(&name)
                && !self.is_called(&id, &name)
            {
                self.release_name(&name, &id, &held)?;
            }
        }
        Ok(())
    }
}

fn id_of_target(target: &Path) -> Option<ContainerId> {
    let bytes = target.as_os_str().as_bytes().strip_prefix(b"../containers/")?;
    ContainerId::parse(std::str::from_utf8(bytes).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Scratch;
    use std::collections::BTreeSet;

    #[test]
    fn valid_names() {
        for good in ["x", "ab", "a1", "0x", "web-1", "a_b.c-d", "A.", &"n".repeat(255)] {
            assert!(is_valid(good), "{good}");
        }
        for bad in [
            "",
            "-a",
            ".a",
            "_a",
            "a b",
            "a/b",
            "a:b",
            "ä1",
            "ab\n",
            "..",
            &"n".repeat(256),
        ] {
            assert!(!is_valid(bad), "{bad:?}");
        }
        let e = check("a b\n").unwrap_err().to_string();
        assert_eq!(
            e,
            r"Invalid container name (a b\n), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        );
    }

    #[test]
    fn words_are_distinct_and_make_valid_names() {
        let lists = [ADJECTIVES, NOUNS].map(|list| list.split_ascii_whitespace().collect::<BTreeSet<_>>());
        assert_eq!(lists.each_ref().map(BTreeSet::len), [WORDS; 2]);
        let distinct: BTreeSet<_> = lists.into_iter().flatten().collect();
        assert_eq!(distinct.len(), 2 * WORDS);
        assert!(
            distinct
                .iter()
                .all(|w| is_valid(w) && w.bytes().all(|b| b.is_ascii_lowercase()))
        );
    }

    #[test]
    fn a_taken_random_name_is_not_offered() {
        let s = Scratch::new();
        for a in ADJECTIVES.split_ascii_whitespace() {
            for n in NOUNS.split_ascii_whitespace() {
                std::os::unix::fs::symlink("x", s.names_root().join(format!("{a}_{n}"))).unwrap();
            }
        }
        let name = s.random_name().unwrap();
        assert!(name.ends_with('0') && is_valid(&name), "{name}");
    }

    #[test]
    fn a_name_that_leads_nowhere_is_free() {
        let s = Scratch::new();
        let (gone, id) = (Store::random_id().unwrap(), Store::random_id().unwrap());
        let held = s.lock_names().unwrap();
        s.claim_name("web", &gone, &held).unwrap();
        s.claim_name("web", &id, &held).unwrap();
        assert_eq!(s.named("web"), Some(id.clone()));
        s.release_name("web", &gone, &held).unwrap();
        assert_eq!(s.names_of(&id), ["web"]);
        drop(held);
        s.sweep_names().unwrap();
        assert_eq!(s.named("web"), None);
    }
}
