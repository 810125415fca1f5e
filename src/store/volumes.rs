//! `volumes/<name>/`: the files in `_data/`, and `volume.json`, which makes it a volume. Made in staging, with its
//! first content if it gets any, and renamed into place, so that a volume is never half there.

use super::{Durability, Proof, Stage, Store, StoreLock, file, names};
use crate::error::{Context, Error, Result};
use crate::model::container::ContainerConfig;
use crate::model::event::{Event, EventKind};
use crate::model::id::ContainerId;
use crate::model::mount::Source;
use crate::model::time::Timestamp;
use crate::model::volume::Volume;
use std::collections::BTreeMap;
use std::fs::{DirBuilder, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// A volume that no one can see yet.
#[derive(Debug)]
pub(crate) struct StagedVolume {
    stage: Stage,
    name: String,
}

impl StagedVolume {
    /// Its root directory, empty, 0755, of root.
    pub(crate) fn data(&self) -> Result<OwnedFd> {
        let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        rustix::fs::openat(self.stage.dir(), "_data", flags, rustix::fs::Mode::empty())
            .with_context(|| format!("open volume {}", self.name))
    }

    /// Puts it in place, for good. `false` if another process was first: then that volume stands.
    pub(crate) fn commit(self, store: &Store) -> Result<bool> {
        self.stage.settle()?;
        let root = store.volumes_root();
        let place = root.join(&self.name);
        if place.exists() {
            return Ok(false);
        }
        let told = Proof::Present(store.below_root(&place)).of(event("create", &self.name));
        let first = store.telling(&object(&self.name), vec![told], || {
            Ok(self.stage.commit(&place)?.then_some(()))
        })?;
        file::sync_dir(&root)?;
        Ok(first.is_some())
    }
}

/// In a removed container's directory: its nameless volumes go as well.
const DOOMED_VOLUMES: &str = "doomed-volumes";

impl Store {
    /// Makes a volume. One that exists is left as it is, as docker does.
    pub(crate) fn create_volume(&self, name: &str, labels: BTreeMap<String, String>) -> Result<Volume> {
        if let Some(volume) = self.find_volume(name)? {
            return Ok(volume);
        }
        self.stage_volume(name, labels, false)?.commit(self)?;
        self.volume(name)
    }

    /// Makes an empty volume unless it exists. `true` if it was made.
    pub(crate) fn ensure_volume(&self, name: &str, anonymous: bool) -> Result<bool> {
        if self.volume_dir(name).exists() {
            return Ok(false);
        }
        self.stage_volume(name, BTreeMap::new(), anonymous)?.commit(self)
    }

    /// A volume to be filled before it exists. What is put into it, the caller syncs.
    pub(crate) fn stage_volume(
        &self,
        name: &str,
        labels: BTreeMap<String, String>,
        anonymous: bool,
    ) -> Result<StagedVolume> {
        check(name)?;
        self.sweep_left_overs()?;
        let stage = self.stage()?;
        let volume = Volume {
            name: name.to_owned(),
            created: Timestamp::now(),
            labels,
            anonymous,
        };
        let data = stage.path().join("_data");
        DirBuilder::new()
            .mode(0o755)
            .create(&data)
            .and_then(|()| std::fs::set_permissions(&data, Permissions::from_mode(0o755)))
            .with_context(|| format!("make volume {name}"))?;
        file::write_new(
            &stage.path().join("volume.json"),
            &file::to_json(&volume)?,
            Durability::Synced,
        )
        .with_context(|| format!("make volume {name}"))?;
        Ok(StagedVolume {
            stage,
            name: name.to_owned(),
        })
    }

    /// Fills a volume that is empty: `fill` gets a staged directory, which takes the empty one's place at once.
    pub(crate) fn fill_volume(
        &self,
        name: &str,
        fill: impl FnOnce(std::os::fd::BorrowedFd<'_>) -> Result<()>,
    ) -> Result<()> {
        let staged = self.stage_volume(name, BTreeMap::new(), false)?;
        let data = staged.data()?;
        fill(std::os::fd::AsFd::as_fd(&data))?;
        rustix::fs::syncfs(&data)?;
        // rename(2) replaces an empty directory, and refuses one that another process has filled meanwhile.
        match rustix::fs::rename(staged.stage.path().join("_data"), self.volume_dir(name)) {
            Ok(()) => file::sync_dir(&self.volumes_root().join(name)),
            Err(rustix::io::Errno::NOTEMPTY | rustix::io::Errno::EXIST) => Ok(()),
            Err(e) => Err(e).with_context(|| format!("fill volume {name}")),
        }
    }

    /// `No such volume` if there is none.
    pub(crate) fn volume(&self, name: &str) -> Result<Volume> {
        self.find_volume(name)?
            .ok_or_else(|| Error::not_found(format!("No such volume: {name}")))
    }

    fn find_volume(&self, name: &str) -> Result<Option<Volume>> {
        match names::is_valid(name) {
            true => file::read_json(&self.volumes_root().join(name).join("volume.json")),
            false => Ok(None),
        }
    }

    /// Every volume's name, sorted; [`Store::volume`] says which are damaged.
    pub(crate) fn volume_names(&self) -> Result<Vec<String>> {
        let path = self.volumes_root();
        let entries = std::fs::read_dir(&path).with_context(|| format!("read {}", path.display()))?;
        let mut all: Vec<String> = entries
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok())
            .collect();
        all.retain(|name| names::is_valid(name));
        all.sort();
        Ok(all)
    }

    /// The containers, running or not, that mount the volume. One whose record is damaged doesn't count.
    pub(crate) fn volume_users(&self, name: &str) -> Result<Vec<ContainerId>> {
        let mut users = self.container_ids()?;
        users.retain(|id| {
            self.config(id).is_ok_and(|config| {
                config
                    .mounts
                    .iter()
                    .any(|m| matches!(&m.source, Source::Volume { name: n, .. } if n == name))
            })
        });
        users.sort();
        Ok(users)
    }

    /// Removes a volume that no container uses.
    pub(crate) fn remove_volume(&self, name: &str) -> Result<()> {
        self.check_volume(name)?;
        let references = self.lock_exclusive()?;
        self.remove_volume_under(name, references)
    }

    fn check_volume(&self, name: &str) -> Result<()> {
        let dir = self.volumes_root().join(name);
        if !names::is_valid(name) || std::fs::symlink_metadata(&dir).is_err() {
            return Err(Error::not_found(format!("No such volume: {name}")));
        }
        Ok(())
    }

    /// Says, in a container that is about to be removed, that its nameless volumes go with it.
    pub(crate) fn doom_volumes(&self, id: &ContainerId) {
        // Without room for the mark, only a crash in the next milliseconds makes a difference.
        let _ = file::write_new(&self.container_dir(id).join(DOOMED_VOLUMES), b"", Durability::Volatile);
    }

    /// For a removed container's directory that a dead process left: removes the volumes that were to go with it, and
    /// its run directory.
    /// `false` if another process has the store's lock; nothing waits for that here.
    pub(super) fn drop_rest_of(&self, removed: &Path) -> Result<bool> {
        let Ok(Some(config)) = file::read_json::<ContainerConfig>(&removed.join("config.json")) else {
            return Ok(true);
        };
        if !self.container_dir(&config.id).exists() {
            self.tell_destroyed(&config);
            self.clear_live(&config.id)?;
        }
        if !config.auto_remove && !removed.join(DOOMED_VOLUMES).exists() {
            return Ok(true);
        }
        for name in config
            .anonymous_volumes()
            .filter(|name| self.check_volume(name).is_ok())
        {
            let Some(references) = self.try_lock_exclusive()? else {
                return Ok(false);
            };
            // One that another container uses stays.
            let _ = self.remove_volume_under(name, references);
        }
        Ok(true)
    }

    fn remove_volume_under(&self, name: &str, references: StoreLock) -> Result<()> {
        let dir = self.volumes_root().join(name);
        let users = self.volume_users(name)?;
        if !users.is_empty() {
            let list: Vec<&str> = users.iter().map(ContainerId::as_str).collect();
            return Err(Error::conflict(format!(
                "remove {name}: volume is in use - [{}]",
                list.join(", ")
            )));
        }
        let told = Proof::Absent(self.below_root(&dir)).of(event("destroy", name));
        let doomed = self.telling(&object(name), vec![told], || self.unstage(&dir))?;
        drop(references);
        match doomed {
            Some(doomed) => doomed.delete(),
            None => Err(Error::not_found(format!("No such volume: {name}"))),
        }
    }
}

fn object(name: &str) -> String {
    format!("volume {name}")
}

fn event(action: &str, name: &str) -> Event {
    Event::new(EventKind::Volume, action, name).with("driver", "local")
}

/// Docker's rule for volume names, in its words.
fn check(name: &str) -> Result<()> {
    if names::is_valid(name) {
        return Ok(());
    }
    let shown = name.escape_debug();
    let rule = "only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed";
    Err(Error::usage(format!(
        "\"{shown}\" includes invalid characters for a local volume name, {rule}"
    ))
    .with_hint("a host directory is given by its absolute path"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::store::testing::Scratch;

    #[test]
    fn a_volume_comes_and_goes() {
        let s = Scratch::new();
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let made = s.create_volume("data", labels.clone()).unwrap();
        assert_eq!(made.labels, labels);
        assert_eq!(s.create_volume("data", BTreeMap::new()).unwrap(), made);
        assert!(!s.ensure_volume("data", false).unwrap());
        assert!(s.ensure_volume("other", true).unwrap());
        assert_eq!(s.volume_names().unwrap(), ["data", "other"]);
        std::fs::write(s.volume_dir("data").join("file"), "x").unwrap();
        s.remove_volume("data").unwrap();
        assert_eq!(s.remove_volume("data").unwrap_err().to_string(), "No such volume: data");
        assert_eq!(s.volume("../volumes/other").unwrap_err().kind(), Kind::NotFound);
        assert_eq!(s.volume_names().unwrap(), ["other"]);
    }

    #[test]
    fn a_staged_volume_is_invisible_and_the_first_wins() {
        let s = Scratch::new();
        let staged = s.stage_volume("data", BTreeMap::new(), false).unwrap();
        assert!(s.volume("data").is_err());
        rustix::fs::mkdirat(staged.data().unwrap(), "content", rustix::fs::Mode::RWXU).unwrap();
        let late = s.stage_volume("data", BTreeMap::new(), false).unwrap();
        assert!(staged.commit(&s).unwrap());
        assert!(!late.commit(&s).unwrap());
        assert!(s.volume_dir("data").join("content").exists());
    }

    #[test]
    fn bad_names_and_damage() {
        let s = Scratch::new();
        for bad in ["", "../x", "a b", ".."] {
            assert_eq!(
                s.create_volume(bad, BTreeMap::new()).unwrap_err().kind(),
                Kind::Usage,
                "{bad}"
            );
        }
        s.ensure_volume("data", false).unwrap();
        std::fs::write(s.volumes_root().join("data/volume.json"), "").unwrap();
        assert!(
            s.volume("data")
                .unwrap_err()
                .to_string()
                .contains("volume.json is damaged")
        );
        s.remove_volume("data").unwrap();
    }
}
