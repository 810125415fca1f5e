//! `events/intents/<hex>`: what a command is about to change, with the events that tell of it. Written before the
//! change, removed after its events are in the log, so that whoever is killed anywhere in between leaves either nothing
//! that has changed, or a file that says what is missing.
//!
//! ```text
//!   killed before        the file says      found by the next one                     told
//!   the change           what would be      the proof does not hold                   never: it has not happened
//!   the event            what is            the proof holds, the log lacks the id     now, with the time it was announced
//!   the removal          what was told      the log has the id                        no second time
//! ```
//!
//! The file is also the object's lock for that moment: flocked by whoever changes the object, so that the next one who
//! changes it first settles what a dead one left, while its proof still stands. Readers of events settle whatever is
//! there and locked by nobody; one that follows them is woken, since the kernel closes the files of a killed process.
//! Containers need none of this where they come, go, start and end: their records say it (`staging.rs`, `container/reap.rs`).
//!
//! It lies on the disk, unsynced, and outlives a reboot. Where it can't be written, the change goes on without it.

use super::{Store, Tags, file, lock, staging};
use crate::error::Result;
use crate::model::digest::Digest;
use crate::model::event::Event;
use crate::model::id::ImageId;
use crate::model::reference::Reference;
use crate::model::time::Timestamp;
use crate::sys;
use serde::{Deserialize, Serialize};
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Bytes of one intent at most: many names of one image.
const LARGEST: u64 = 16 << 20;
/// Bytes of a file that a proof looks at.
const LOOKED_AT: u64 = 4096;

/// An event, and how one sees whether it has happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Announced {
    event: Event,
    proof: Proof,
}

/// What is true after the change, and was not before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Proof {
    /// This path below the root is there.
    Present(PathBuf),
    Absent(PathBuf),
    /// The name stands for this image, or for none.
    Named(String, Option<ImageId>),
    /// The file below the root has exactly this content.
    Holds(PathBuf, Digest),
    /// One of the kernel's files says this.
    Says(PathBuf, String),
}

impl Proof {
    pub(crate) fn of(self, event: Event) -> Announced {
        Announced { event, proof: self }
    }

    fn stands(&self, store: &Store, seen: &Seen) -> bool {
        match self {
            Proof::Present(path) => std::fs::symlink_metadata(store.root().join(path)).is_ok(),
            Proof::Absent(path) => std::fs::symlink_metadata(store.root().join(path)).is_err(),
            Proof::Named(name, image) => match (seen.tags(store), Reference::parse(name)) {
                (Some(tags), Ok(name)) => tags.get(&name) == *image,
                _ => false,
            },
            Proof::Holds(path, digest) => {
                file::read(&store.root().join(path)).is_ok_and(|text| text.is_some_and(|t| Digest::of(&t) == *digest))
            }
            Proof::Says(path, word) => {
                let mut text = String::new();
                File::open(path)
                    .and_then(|file| file.take(LOOKED_AT).read_to_string(&mut text))
                    .is_ok_and(|_| text.trim_end() == word)
            }
        }
    }
}

/// What several proofs look at, read once.
#[derive(Default)]
struct Seen {
    tags: OnceCell<Option<Tags>>,
}

impl Seen {
    fn tags(&self, store: &Store) -> Option<&Tags> {
        self.tags.get_or_init(|| store.tags().ok()).as_ref()
    }
}

/// The file of an object, locked. Dropped with its process or by [`Intent::close`].
struct Intent {
    path: PathBuf,
    file: File,
}

impl Intent {
    /// What a dead process left is told now.
    fn settle(&mut self, store: &Store) {
        let mut text = Vec::new();
        let read = (&self.file).take(LARGEST).read_to_end(&mut text);
        // One that is half written has not been followed by its change.
        if let (Ok(1..), Ok(left)) = (read, serde_json::from_slice::<Vec<Announced>>(&text)) {
            tell(store, &left);
        }
    }

    fn close(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Store {
    /// Makes a change of `object`, and tells of it exactly once, whenever this process is killed. If the change fails,
    /// what has become true all the same is told; nothing is if it finds that there is nothing to do (`None`).
    pub(crate) fn telling<T>(
        &self,
        object: &str,
        mut announced: Vec<Announced>,
        change: impl FnOnce() -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        if announced.is_empty() {
            self.settle_intent(object);
            return change();
        }
        if let Ok(id) = Store::random_id() {
            for (n, one) in announced.iter_mut().enumerate() {
                one.event.id = Some(format!("{}-{n}", id.short()));
            }
        }
        let intent = self.announce(object, &announced).ok();
        sys::stop_point("change-announced");
        let done = change();
        sys::stop_point("change-untold");
        match &done {
            Ok(Some(_)) => {
                let now = Timestamp::now();
                announced.into_iter().for_each(|one| self.event(&one.event.at(now)));
            }
            Ok(None) => {}
            Err(_) => intent.iter().for_each(|(_, provable)| tell(self, provable)),
        }
        sys::stop_point("change-told");
        if let Some((intent, _)) = intent {
            intent.close();
        }
        done
    }

    /// With those that can be proven: what is true already proves nothing.
    fn announce(&self, object: &str, announced: &[Announced]) -> Result<(Intent, Vec<Announced>)> {
        let mut intent = self.open_intent(object)?;
        intent.settle(self);
        let seen = Seen::default();
        let mut provable = announced.to_vec();
        provable.retain(|one| !one.proof.stands(self, &seen));
        let _ = intent.file.set_len(0);
        // Without room on the disk it goes on unannounced.
        if intent.file.write_all_at(&serde_json::to_vec(&provable)?, 0).is_err() {
            let _ = intent.file.set_len(0);
        }
        Ok((intent, provable))
    }

    /// Opens the object's file, or makes it, and waits for whoever changes the object.
    fn open_intent(&self, object: &str) -> Result<Intent> {
        let path = self.intent_path(object);
        loop {
            let open = || {
                let mut options = File::options();
                options.read(true).write(true).create(true).truncate(false);
                options.mode(0o600).custom_flags(libc::O_NOFOLLOW).open(&path)
            };
            let file = match open() {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    self.make_intents_dir()?;
                    open()?
                }
                other => other?,
            };
            self.wait_for_all(&file, object)?;
            // Removed by the one that was waited for?
            if staging::in_place(&path, &file) {
                return Ok(Intent { path, file });
            }
        }
    }

    /// For what changes an object without an event of its own: what a dead process has left about it is told first.
    pub(crate) fn settle_intent(&self, object: &str) {
        if self.intent_path(object).exists()
            && let Ok(mut intent) = self.open_intent(object)
        {
            intent.settle(self);
            intent.close();
        }
    }

    /// What dead processes have left. Whoever lives tells by itself: `true` if there is one who does.
    pub(crate) fn settle_intents(&self) -> bool {
        let mut busy = false;
        for entry in std::fs::read_dir(self.intents_dir()).into_iter().flatten().flatten() {
            let path = entry.path();
            let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
            let Ok(file) = File::options().read(true).custom_flags(flags).open(&path) else {
                continue;
            };
            if !lock::try_exclusive(&file).unwrap_or(false) {
                busy = true;
            } else if staging::in_place(&path, &file) {
                let mut intent = Intent { path, file };
                intent.settle(self);
                intent.close();
            }
        }
        busy
    }

    /// Made by the first who needs it.
    pub(crate) fn make_intents_dir(&self) -> Result<PathBuf> {
        self.make_events_dir()?;
        let dir = self.intents_dir();
        match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(e.into()),
            _ => Ok(dir),
        }
    }

    fn intents_dir(&self) -> PathBuf {
        self.events_dir().join("intents")
    }

    fn intent_path(&self, object: &str) -> PathBuf {
        self.intents_dir().join(&Digest::of(object.as_bytes()).hex()[..32])
    }

    /// For a proof: a path of the store without its root.
    pub(crate) fn below_root(&self, path: &Path) -> PathBuf {
        path.strip_prefix(self.root()).unwrap_or(path).to_owned()
    }
}

/// Writes what has happened and is not in the log yet.
fn tell(store: &Store, announced: &[Announced]) {
    let Some(first) = announced.first().and_then(|a| a.event.id.as_deref()) else {
        return;
    };
    // All of one intent begin with the same digits.
    let common = first.split('-').next().unwrap_or(first);
    let mut known: BTreeSet<String> = BTreeSet::new();
    store.each_event_with(common, |event| known.extend(event.id));
    let seen = Seen::default();
    for one in announced {
        if one.event.id.as_ref().is_none_or(|id| !known.contains(id)) && one.proof.stands(store, &seen) {
            store.event(&one.event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::model::event::EventKind;
    use crate::store::testing::Scratch;

    fn told(s: &Store) -> Vec<String> {
        let mut all = Vec::new();
        s.each_event(|e| all.push(format!("{} {}", e.action, e.actor)));
        all
    }

    fn made(name: &str) -> Announced {
        Proof::Present(name.into()).of(Event::new(EventKind::Volume, "create", name))
    }

    /// As a process leaves it that is killed at once after its announcement.
    fn left(s: &Store, mut one: Announced, id: &str) {
        one.event.id = Some(id.to_owned());
        s.make_intents_dir().unwrap();
        std::fs::write(s.intent_path("x"), serde_json::to_vec(&[one]).unwrap()).unwrap();
    }

    #[test]
    fn told_once_wherever_it_was_killed() {
        let s = Scratch::new();
        let make = || Ok(Some(std::fs::write(s.root().join("x"), "")?));
        s.telling("x", vec![made("x")], make).unwrap();
        assert_eq!(told(&s), ["create x"]);
        assert_eq!(std::fs::read_dir(s.intents_dir()).unwrap().count(), 0);

        left(&s, made("never"), "a-0");
        s.settle_intents();
        assert_eq!(told(&s), ["create x"], "killed before the change");

        left(&s, made("x"), "b-0");
        s.settle_intents();
        assert_eq!(told(&s), ["create x", "create x"], "killed before the event");

        left(&s, made("x"), "b-0");
        s.settle_intents();
        assert_eq!(told(&s).len(), 2, "killed after the event");
        assert_eq!(std::fs::read_dir(s.intents_dir()).unwrap().count(), 0);
    }

    #[test]
    fn the_next_change_settles_while_the_proof_stands() {
        let s = Scratch::new();
        std::fs::write(s.root().join("x"), "").unwrap();
        left(&s, made("x"), "c-0");
        let gone = Proof::Absent("x".into()).of(Event::new(EventKind::Volume, "destroy", "x"));
        s.telling("x", vec![gone], || Ok(Some(std::fs::remove_file(s.root().join("x"))?)))
            .unwrap();
        assert_eq!(told(&s), ["create x", "destroy x"]);
    }

    #[test]
    fn a_change_that_failed_is_told_if_it_has_happened() {
        let s = Scratch::new();
        for (name, happens) in [("one", false), ("two", true)] {
            let change = || -> Result<Option<()>> {
                if happens {
                    std::fs::write(s.root().join(name), "")?;
                }
                Err(Error::other("no"))
            };
            s.telling(name, vec![made(name)], change).unwrap_err();
        }
        assert_eq!(told(&s), ["create two"]);
    }

    #[test]
    fn whoever_lives_tells_by_itself() {
        let s = Scratch::new();
        let change = || {
            std::fs::write(s.root().join("x"), "").unwrap();
            s.settle_intents();
            assert!(told(&s).is_empty());
            Ok(Some(()))
        };
        s.telling("x", vec![made("x")], change).unwrap();
        assert_eq!(told(&s), ["create x"]);
    }

    #[test]
    fn what_is_so_already_is_not_proven() {
        let s = Scratch::new();
        std::fs::write(s.root().join("x"), "").unwrap();
        assert!(s.announce("x", &[made("x")]).unwrap().1.is_empty());
        s.settle_intents();
        assert!(told(&s).is_empty());
        let nothing = || Ok(None::<()>);
        s.telling("x", vec![made("x")], nothing).unwrap();
        assert!(told(&s).is_empty());
    }

    #[test]
    fn damage_is_swept() {
        let s = Scratch::new();
        s.make_intents_dir().unwrap();
        for text in ["", "[{", "{}"] {
            std::fs::write(s.intent_path("x"), text).unwrap();
            s.settle_intents();
            assert_eq!(std::fs::read_dir(s.intents_dir()).unwrap().count(), 0);
        }
    }

    #[test]
    fn proofs() {
        let s = Scratch::new();
        let file = s.root().join("file");
        std::fs::write(&file, "1\n").unwrap();
        let below = s.below_root(&file);
        let id = ImageId(Digest::of(b"a"));
        let held = s.lock_shared().unwrap();
        let name = Reference::parse("deb").unwrap();
        s.change_tags(&held, |tags| Ok(tags.set(&name, id))).unwrap();
        let full = name.to_string();
        for (proof, stands) in [
            (Proof::Present(below.clone()), true),
            (Proof::Absent(below.clone()), false),
            (Proof::Holds(below.clone(), Digest::of(b"1\n")), true),
            (Proof::Holds(below, Digest::of(b"2\n")), false),
            (Proof::Says(file.clone(), "1".into()), true),
            (Proof::Says(file, "0".into()), false),
            (Proof::Says("/nowhere".into(), "0".into()), false),
            (Proof::Named(full.clone(), Some(id)), true),
            (Proof::Named(full, None), false),
            (Proof::Named("other".into(), None), true),
        ] {
            assert_eq!(proof.stands(&s, &Seen::default()), stands, "{proof:?}");
        }
    }
}
