//! `secrets/<id>.json` and `secrets/<id>.data`: what containers are told in secret. Mode 0600 in a directory of mode
//! 0700; names are unique. The directory's lock keeps writers apart; the record, written last and removed first, is the
//! commit, and data without one is swept by the next writer.

use super::{Durability, Proof, Store, file, random};
use crate::error::{Context as _, Error, Result};
use crate::model::event::{Event, EventKind};
use crate::model::secret::Secret;
use crate::model::time::Timestamp;
use crate::sys;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

/// Bytes of a secret at most (docker and podman have the same).
pub(crate) const LARGEST: usize = 512_000;
/// Hex digits of an id.
const ID: usize = 25;

/// What [`Store::create_secret`] does about a name that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    Refuse,
    Replace,
    /// Leaves the one there is, and gives it.
    Keep,
}

/// What people note about a secret.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) driver_options: BTreeMap<String, String>,
}

impl Store {
    fn secrets_dir(&self) -> PathBuf {
        self.root.join("secrets")
    }

    /// Makes a secret; its record.
    pub(crate) fn create_secret(&self, name: &str, data: &[u8], notes: Notes, taken: Taken) -> Result<Secret> {
        check(name, data)?;
        let dir = self.secrets_dir();
        match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => {
                return Err(e).with_context(|| format!("make {}", dir.display()));
            }
            _ => {}
        }
        let _held = self.lock_secrets()?;
        let named = self.secrets_named(name)?;
        let old = named.first();
        match (old, taken) {
            (Some(_), Taken::Refuse) => {
                return Err(Error::conflict(format!("secret name {name}: secret already exists"))
                    .with_hint("--replace takes its place, --ignore leaves it as it is"));
            }
            (Some(old), Taken::Keep) => return Ok(old.clone()),
            _ => {}
        }
        self.sweep_secrets()?;
        let mut id = String::new();
        for byte in random()? {
            id.push_str(&format!("{byte:02x}"));
        }
        id.truncate(ID);
        let now = Timestamp::now();
        let secret = Secret {
            id,
            name: name.to_owned(),
            created: old.map_or(now, |o| o.created),
            updated: old.map(|_| now),
            labels: notes.labels,
            driver_options: notes.driver_options,
        };
        file::replace(&dir, &format!("{}.data", secret.id), data, Durability::Synced)?;
        sys::stop_point("secret-written");
        let record = format!("{}.json", secret.id);
        let told = Proof::Present(self.below_root(&dir.join(&record))).of(event("create", &secret));
        let text = file::to_json(&secret)?;
        self.telling(&object(&secret), vec![told], || {
            file::replace(&dir, &record, &text, Durability::Synced).map(Some)
        })?;
        sys::stop_point("secret-doubled");
        for old in named.iter().rev() {
            self.drop_secret(old)?;
        }
        Ok(secret)
    }

    /// All of them, by name.
    pub(crate) fn secrets(&self) -> Result<Vec<Secret>> {
        let mut secrets = self.secret_records()?;
        secrets.dedup_by(|later, first| later.name == first.name);
        Ok(secrets)
    }

    /// Killed while one took another's place, both have the name: the newer one, which comes first, has it.
    fn secrets_named(&self, name: &str) -> Result<Vec<Secret>> {
        let mut secrets = self.secret_records()?;
        secrets.retain(|s| s.name == name);
        Ok(secrets)
    }

    /// By name; of one name, the newest first.
    fn secret_records(&self) -> Result<Vec<Secret>> {
        let dir = self.secrets_dir();
        let entries = match std::fs::read_dir(&dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.with_context(|| format!("read {}", dir.display()))?,
        };
        let mut secrets: Vec<Secret> = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|n| n.strip_suffix(".json")) else {
                continue;
            };
            // One that is damaged keeps the others from nothing.
            if let Ok(Some(secret)) = file::read_json::<Secret>(&entry.path())
                && secret.id == id
            {
                secrets.push(secret);
            }
        }
        secrets.sort_by(|a, b| (&a.name, b.updated, b.created).cmp(&(&b.name, a.updated, a.created)));
        Ok(secrets)
    }

    /// By name, whole id or a prefix that only one id has.
    pub(crate) fn secret(&self, what: &str) -> Result<Secret> {
        let all = self.secrets()?;
        if let Some(found) = all.iter().find(|s| s.name == what || s.id == what) {
            return Ok(found.clone());
        }
        let mut matches = all.iter().filter(|s| !what.is_empty() && s.id.starts_with(what));
        match (matches.next(), matches.next()) {
            (Some(only), None) => Ok(only.clone()),
            (Some(_), Some(_)) => Err(Error::conflict(format!("ambiguous secret id '{what}'"))),
            (None, _) => Err(no_such_secret(what)),
        }
    }

    /// Its content.
    pub(crate) fn secret_data(&self, id: &str) -> Result<Vec<u8>> {
        // An id comes from a container's record too, which may be damaged.
        if id.len() != ID || !crate::model::id::is_hex(id) {
            return Err(no_such_secret(id));
        }
        file::read(&self.secrets_dir().join(format!("{id}.data")))?.ok_or_else(|| no_such_secret(id))
    }

    pub(crate) fn remove_secret(&self, what: &str) -> Result<Secret> {
        let secret = self.secret(what)?;
        let _held = self.lock_secrets()?;
        let named = self.secrets_named(&secret.name)?;
        if named.iter().all(|s| s.id != secret.id) {
            return Err(no_such_secret(what));
        }
        // The oldest first, that none comes back if this is killed.
        for one in named.iter().rev() {
            self.drop_secret(one)?;
        }
        file::sync_dir(&self.secrets_dir())?;
        Ok(secret)
    }

    fn drop_secret(&self, secret: &Secret) -> Result<()> {
        let path = self.secrets_dir().join(format!("{}.json", secret.id));
        let told = Proof::Absent(self.below_root(&path)).of(event("remove", secret));
        self.telling(&object(secret), vec![told], || match std::fs::remove_file(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => Err(no_such_secret(&secret.name)),
            other => other
                .with_context(|| format!("remove secret {}", secret.name))
                .map(Some),
        })?;
        sys::stop_point("secret-dropped");
        let _ = std::fs::remove_file(self.secrets_dir().join(format!("{}.data", secret.id)));
        Ok(())
    }

    /// Data without a record: under the lock, nobody is about to write one.
    fn sweep_secrets(&self) -> Result<()> {
        for entry in std::fs::read_dir(self.secrets_dir())?.flatten() {
            let name = entry.file_name();
            if let Some(id) = name.to_str().and_then(|n| n.strip_suffix(".data"))
                && !self.secrets_dir().join(format!("{id}.json")).exists()
            {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    fn lock_secrets(&self) -> Result<File> {
        let file = File::open(self.secrets_dir()).context("open the secrets")?;
        self.wait_for_all(&file, "the secrets")?;
        Ok(file)
    }
}

fn object(secret: &Secret) -> String {
    format!("secret {}", secret.id)
}

fn event(action: &str, secret: &Secret) -> Event {
    Event::new(EventKind::Secret, action, &secret.id).with("name", &secret.name)
}

fn no_such_secret(what: &str) -> Error {
    Error::not_found(format!("no secret with name or id \"{what}\": no such secret"))
}

/// Podman's rules.
fn check(name: &str, data: &[u8]) -> Result<()> {
    let bad = name.is_empty()
        || name.len() > 253
        || name
            .bytes()
            .any(|b| matches!(b, b',' | b'/' | b'=') || b.is_ascii_control() || b.is_ascii_whitespace());
    if bad {
        let message = format!(
            "secret name \"{}\" can not include '=', '/', ',', blanks or control characters, and has 1 to 253 bytes: invalid secret name",
            name.escape_debug()
        );
        return Err(Error::usage(message));
    }
    if data.is_empty() || data.len() >= LARGEST {
        return Err(Error::usage(
            "secret data must be larger than 0 and less than 512000 bytes",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Scratch;
    use std::os::unix::fs::PermissionsExt as _;

    fn create(s: &Store, name: &str, data: &str, taken: Taken) -> Result<Secret> {
        s.create_secret(name, data.as_bytes(), Notes::default(), taken)
    }

    #[test]
    fn a_life() {
        let s = Scratch::new();
        assert!(s.secrets().unwrap().is_empty());
        let one = create(&s, "db", "hunter2", Taken::Refuse).unwrap();
        assert_eq!(s.secret_data(&one.id).unwrap(), b"hunter2");
        for what in ["db", &one.id, &one.id[..5]] {
            assert_eq!(s.secret(what).unwrap(), one);
        }
        for entry in std::fs::read_dir(s.secrets_dir()).unwrap().flatten() {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(create(&s, "db", "x", Taken::Refuse).is_err());
        assert_eq!(create(&s, "db", "x", Taken::Keep).unwrap(), one);
        let two = create(&s, "db", "x", Taken::Replace).unwrap();
        assert!(two.id != one.id && two.created == one.created && two.updated.is_some());
        assert!(s.secret_data(&one.id).is_err());
        s.remove_secret("db").unwrap();
        assert!(s.secret("db").is_err() && s.remove_secret("db").is_err());
        assert_eq!(std::fs::read_dir(s.secrets_dir()).unwrap().count(), 0);
    }

    #[test]
    fn one_whose_place_was_taken_stays_gone() {
        let s = Scratch::new();
        let old = create(&s, "db", "old", Taken::Refuse).unwrap();
        let record = s.secrets_dir().join(format!("{}.json", old.id));
        let kept = std::fs::read(&record).unwrap();
        let new = create(&s, "db", "new", Taken::Replace).unwrap();
        // As if killed before the old one went.
        std::fs::write(&record, kept).unwrap();
        assert_eq!(s.secrets().unwrap(), [new]);
        s.remove_secret("db").unwrap();
        assert!(s.secrets().unwrap().is_empty());
    }

    #[test]
    fn bad_names_and_contents() {
        let s = Scratch::new();
        for name in ["", "a/b", "a b", "a=b", "a,b", "x\u{1b}"] {
            assert!(create(&s, name, "x", Taken::Refuse).is_err(), "{name}");
        }
        assert!(create(&s, "a", "", Taken::Refuse).is_err());
        assert!(create(&s, "a", &"x".repeat(LARGEST), Taken::Refuse).is_err());
        assert!(s.secret_data("../../../etc/passwd").is_err());
    }

    #[test]
    fn data_without_a_record_is_swept() {
        let s = Scratch::new();
        create(&s, "a", "x", Taken::Refuse).unwrap();
        std::fs::write(s.secrets_dir().join("00.data"), "left").unwrap();
        create(&s, "b", "x", Taken::Refuse).unwrap();
        assert!(!s.secrets_dir().join("00.data").exists());
    }
}
