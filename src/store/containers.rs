//! `containers/<id>/` and the run directories: the records of a container, how it comes and how it goes.
//!
//! A container exists from the moment its staged directory is renamed to `containers/<id>` until that is renamed back
//! into `staging/`. `config.json` changes whole, and only under the names lock; `exit.json` says how it last ended;
//! `state.json`, on the run directory's tmpfs, is there while its monitor lives.

use super::lock::{NamesLock, no_such_container};
use super::{ContainerLock, Durability, Proof, Stage, Store, file, names};
use crate::error::{Context, Error, Kind, Result};
use crate::model::container::ContainerConfig;
use crate::model::digest::Digest;
use crate::model::event::{Event, EventKind};
use crate::model::id::{ContainerId, SHORT, is_hex};
use crate::model::state::{Exit, LiveState};
use crate::model::time::Timestamp;
use crate::sys;
use std::fs::{DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// In a container's directory while it runs.
const RUNNING_MARK: &str = "running";

/// What is told of a change of a record, and what belongs to the change besides.
struct Telling<'a> {
    event: &'a dyn Fn(&ContainerConfig) -> Event,
    also: &'a dyn Fn() -> Result<()>,
}

impl Store {
    /// Every container, damaged ones included, in no order.
    pub(crate) fn container_ids(&self) -> Result<Vec<ContainerId>> {
        let path = self.containers_root();
        let entries = std::fs::read_dir(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(entries
            .flatten()
            .filter_map(|e| ContainerId::parse(e.file_name().to_str()?))
            .collect())
    }

    /// By name, which may have docker's leading slash, else by whole id, else by a prefix that only one id has.
    pub(crate) fn resolve_container(&self, what: &str) -> Result<ContainerId> {
        let exists = |id: &ContainerId| self.container_dir(id).exists();
        if let Some(id) = self.named(what.strip_prefix('/').unwrap_or(what)).filter(exists) {
            return Ok(id);
        }
        if let Some(id) = ContainerId::parse(what).filter(exists) {
            return Ok(id);
        }
        if !is_hex(what) || what.len() >= 64 {
            return Err(no_such_container(what));
        }
        let mut matches = self.container_ids()?;
        matches.retain(|id| id.as_str().starts_with(what));
        matches.sort();
        match matches.as_slice() {
            [] => Err(no_such_container(what)),
            [only] => Ok(only.clone()),
            several => Err(ambiguous("container", what, several.iter().map(ContainerId::as_str))),
        }
    }

    pub(crate) fn config(&self, id: &ContainerId) -> Result<ContainerConfig> {
        let path = self.container_dir(id).join("config.json");
        match file::read_json(&path)? {
            Some(config) => Ok(config),
            None if self.container_dir(id).exists() => Err(Error::other(format!("{} is missing", path.display()))),
            None => Err(no_such_container(id.as_str())),
        }
    }

    /// How it last ended; `None` if it never did.
    pub(crate) fn exit(&self, id: &ContainerId) -> Result<Option<Exit>> {
        file::read_json(&self.container_dir(id).join("exit.json"))
    }

    /// What its monitor last said, also if that is dead by now.
    pub(crate) fn live(&self, id: &ContainerId) -> Result<Option<LiveState>> {
        file::read_json(&self.run_dir(id).join("state.json"))
    }

    pub(crate) fn save_exit(&self, id: &ContainerId, exit: &Exit, durability: Durability) -> Result<()> {
        file::replace(&self.container_dir(id), "exit.json", &file::to_json(exit)?, durability)
    }

    /// Makes the run directory if need be.
    pub(crate) fn save_live(&self, id: &ContainerId, state: &LiveState) -> Result<()> {
        let dir = self.make_run_dir(id)?;
        file::replace(&dir, "state.json", &file::to_json(state)?, Durability::Volatile)
    }

    /// Marks the container as running, in its own directory, where it outlives a reboot; never synced, since what it
    /// is for is only to tell "was running" from "never ran".
    pub(crate) fn mark_running(&self, id: &ContainerId, since: Timestamp) -> Result<()> {
        let path = self.container_dir(id).join(RUNNING_MARK);
        file::write_new(&path, since.to_string().as_bytes(), Durability::Volatile)
            .map(|_| ())
            .with_context(|| format!("write {}", path.display()))
    }

    pub(crate) fn unmark_running(&self, id: &ContainerId) {
        let _ = std::fs::remove_file(self.container_dir(id).join(RUNNING_MARK));
    }

    /// Since when it is marked as running.
    pub(crate) fn running_mark(&self, id: &ContainerId) -> Option<Timestamp> {
        let text = std::fs::read_to_string(self.container_dir(id).join(RUNNING_MARK)).ok()?;
        Some(text.parse().unwrap_or(Timestamp::UNIX_EPOCH))
    }

    /// The run directory, made if need be, mode 0700.
    pub(crate) fn make_run_dir(&self, id: &ContainerId) -> Result<std::path::PathBuf> {
        let dir = self.run_dir(id);
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(e).with_context(|| format!("make {}", dir.display())),
            _ => Ok(dir),
        }
    }

    /// Drops the run directory with all that is in it. Success if it isn't there.
    pub(crate) fn clear_live(&self, id: &ContainerId) -> Result<()> {
        super::staging::remove_path(&self.run_dir(id))
    }

    /// Makes a container's directory and gives it its name, at once and for good: synced, unless it goes by itself
    /// when it ends. The caller sees to it that name and id are valid.
    pub(crate) fn new_container(&self, config: &ContainerConfig) -> Result<()> {
        names::check(&config.name)?;
        self.sweep_left_overs()?;
        // Refuses early, before anything is written; under the lock the claim decides.
        self.check_name_free(&config.name)?;
        let durability = if config.auto_remove {
            Durability::Volatile
        } else {
            Durability::Synced
        };
        let stage = self.stage()?;
        file::write_new(&stage.path().join("config.json"), &file::to_json(config)?, durability)
            .and_then(|_| self.fill(&stage, config))
            .with_context(|| format!("make container {}", config.id.short()))?;
        Self::limit_space(&stage, config)?;
        if durability == Durability::Synced {
            stage.settle()?;
        }
        let references = self.lock_shared()?;
        self.check_references(config)?;
        let names = self.lock_names()?;
        self.claim_name(&config.name, &config.id, &names)?;
        sys::stop_point("name-claimed");
        // Told before it is so: killed in between, there is no container, and `container/reconcile.rs` says that it is gone.
        // Told after it, a container could go again before anybody has missed the event.
        self.event(&Event::container("create", config).at(config.created));
        sys::stop_point("creation-told");
        let committed = stage.commit(&self.container_dir(&config.id));
        if !matches!(committed, Ok(true)) {
            self.event(&Event::container("destroy", config));
        }
        if !committed? {
            return Err(Error::conflict(format!("container {} exists", config.id)));
        }
        drop((names, references));
        if durability == Durability::Synced {
            file::sync_dirs(&[&self.names_root()], &self.containers_root())?;
        }
        Ok(())
    }

    /// `work/`, and `upper/` with owner and mode of the image's root directory, since it becomes the
    /// container's.
    fn fill(&self, stage: &Stage, config: &ContainerConfig) -> std::io::Result<()> {
        let path = stage.path();
        DirBuilder::new().mode(0o700).create(path.join("work"))?;
        let upper = path.join("upper");
        DirBuilder::new().mode(0o755).create(&upper)?;
        let top = config
            .image
            .layers
            .last()
            .map(|top| std::fs::symlink_metadata(self.layer_dir(top)));
        let (mode, uid, gid) = match top {
            Some(Ok(root)) => (root.mode() & 0o7777, root.uid(), root.gid()),
            _ => (0o755, 0, 0),
        };
        let on_disk = config.namespaces.on_disk();
        let (uid, gid) = on_disk.map_or((uid, gid), |ids| ids.outside_owner((uid, gid)));
        if (uid, gid) != (0, 0) {
            std::os::unix::fs::lchown(&upper, Some(uid), Some(gid))?;
        }
        std::fs::set_permissions(&upper, Permissions::from_mode(mode))
    }

    /// What comes into the container's directories counts as one project's (`--storage-opt size`), whose number is the
    /// beginning of its id. A project that nothing belongs to any more is no burden.
    fn limit_space(stage: &Stage, config: &ContainerConfig) -> Result<()> {
        let Some(bytes) = config.quota else { return Ok(()) };
        let project = u32::from_str_radix(&config.id.as_str()[..8], 16).unwrap_or(1).max(1);
        let limit = || -> std::io::Result<()> {
            for name in ["upper", "work"] {
                sys::quota::join(std::fs::File::open(stage.path().join(name))?.as_fd(), project)?;
            }
            sys::quota::limit(stage.dir(), project, bytes)
        };
        let hint = "mount it with prjquota: ext4 made with `-O quota,project`, or xfs";
        limit()
            .map_err(|e| Error::from(e).with_hint(hint))
            .context("--storage-opt size: the filesystem of the engine's root has no project quotas")
    }

    /// Under the store's shared lock: the image's layers are there, and stay. Volumes are made by the first start.
    fn check_references(&self, config: &ContainerConfig) -> Result<()> {
        let is_missing = |layer| !self.layer_dir(layer).exists();
        match config.images().find(|image| image.layers.iter().any(is_missing)) {
            Some(image) => Err(Error::not_found(format!("No such image: {}", image.reference))),
            None => Ok(()),
        }
    }

    /// Changes a container's record, for good. The names lock keeps two writers apart: a running container's own lock
    /// is free, but whoever waits for it may be waiting for the container.
    pub(crate) fn change_config(
        &self,
        id: &ContainerId,
        change: impl FnOnce(&mut ContainerConfig) -> Result<()>,
    ) -> Result<ContainerConfig> {
        let held = self.lock_names()?;
        self.write_config(id, change, &held)
    }

    /// The same, told as `event` of what it is then says.
    pub(crate) fn change_config_telling(
        &self,
        id: &ContainerId,
        change: impl FnOnce(&mut ContainerConfig) -> Result<()>,
        event: &dyn Fn(&ContainerConfig) -> Event,
    ) -> Result<ContainerConfig> {
        let held = self.lock_names()?;
        let also = &|| Ok(());
        self.write_config_telling(id, change, Some(Telling { event, also }), &held)
    }

    fn write_config(
        &self,
        id: &ContainerId,
        change: impl FnOnce(&mut ContainerConfig) -> Result<()>,
        held: &NamesLock,
    ) -> Result<ContainerConfig> {
        self.write_config_telling(id, change, None, held)
    }

    fn write_config_telling(
        &self,
        id: &ContainerId,
        change: impl FnOnce(&mut ContainerConfig) -> Result<()>,
        telling: Option<Telling<'_>>,
        _held: &NamesLock,
    ) -> Result<ContainerConfig> {
        let before = self.config(id)?;
        let mut config = before.clone();
        change(&mut config)?;
        let text = file::to_json(&config)?;
        let path = self.below_root(&self.container_dir(id).join("config.json"));
        let told = telling
            .as_ref()
            .map(|telling| Proof::Holds(path, Digest::of(&text)).of((telling.event)(&config)));
        self.telling(&format!("container {id}"), told.into_iter().collect(), || {
            if config != before {
                let durability = if config.auto_remove {
                    Durability::Volatile
                } else {
                    Durability::Synced
                };
                file::replace(&self.container_dir(id), "config.json", &text, durability)?;
            }
            telling.iter().try_for_each(|telling| (telling.also)())?;
            Ok(Some(()))
        })?;
        Ok(config)
    }

    /// Another name, at once: killed in between, it is found by both, and the one that its record does not say is
    /// free for whoever wants it.
    pub(crate) fn rename_container(&self, id: &ContainerId, name: &str) -> Result<()> {
        names::check(name)?;
        let held = self.lock_names()?;
        let old = self.config(id)?.name;
        // Its own already if a rename was killed halfway.
        if self.named(name).as_ref() != Some(id) {
            self.claim_name(name, id, &held)?;
        }
        sys::stop_point("rename-claimed");
        let change = |config: &mut ContainerConfig| {
            name.clone_into(&mut config.name);
            Ok(())
        };
        let telling = Telling {
            event: &|config| Event::container("rename", config).with("oldName", format!("/{old}")),
            also: &|| self.release_name(&old, id, &held),
        };
        match self.write_config_telling(id, change, Some(telling), &held) {
            Ok(_) => file::sync_dir(&self.names_root()),
            Err(e) if self.config(id).is_ok_and(|config| config.name == name) => Err(e),
            Err(e) => match self.release_name(name, id, &held) {
                Ok(()) => Err(e),
                Err(second) => Err(e.and(&second)),
            },
        }
    }

    /// Removes a container that does not run. The rename into `staging/` is the moment at which it is gone: id and name
    /// are free. Deleting what it left comes after ([`DetachedContainer::delete`]), and what can't be deleted is tried
    /// again by later commands.
    pub(crate) fn detach_container(
        &self,
        id: &ContainerId,
        name: Option<&str>,
        _held: &ContainerLock,
    ) -> Result<DetachedContainer> {
        let dir = self.container_dir(id);
        let names = match name.filter(|name| self.named(name).as_ref() == Some(id)) {
            Some(name) => vec![name.to_owned()],
            None => self.names_of(id),
        };
        let config = self.config(id);
        let event = match &config {
            Ok(config) => Event::container("destroy", config),
            Err(_) => Event::new(EventKind::Container, "destroy", id),
        };
        // A step's layers are its build's.
        let config = config.ok().filter(|config| config.build.is_none());
        let images = config.iter().flat_map(ContainerConfig::images).cloned().collect();
        let held = self.lock_names()?;
        let doomed = match self.unstage(&dir) {
            Ok(doomed) => doomed,
            // The disk is so full that even a rename finds no room.
            Err(_) if dir.exists() => {
                remove_in_place(&dir)?;
                None
            }
            Err(e) => return Err(e),
        };
        for name in names {
            self.release_name(&name, id, &held)?;
        }
        sys::stop_point("destruction-untold");
        self.event(&event.at(Timestamp::now()));
        sys::stop_point("destruction-told");
        drop(held);
        sys::stop_point("container-detached");
        let cleared = self.clear_live(id).and_then(|()| self.drop_container_mount(id));
        self.forget_left_container_mounts(id);
        Ok(DetachedContainer {
            doomed,
            images,
            cleared,
        })
    }
}

impl Store {
    /// Of a container that was made or removed by a process that died at it: what it has told of the making, and not of
    /// the end. The caller has locked what is left of it.
    pub(super) fn tell_destroyed(&self, config: &ContainerConfig) {
        let (mut created, mut destroyed) = (false, false);
        self.each_event_with(config.id.as_str(), |event| {
            if event.kind == EventKind::Container && event.actor == config.id.as_str() {
                created |= event.action == "create";
                destroyed |= event.action == "destroy";
            }
        });
        if created && !destroyed {
            self.event(&Event::container("destroy", config));
        }
    }
}

/// What is left of a removed container: files that nobody finds any more.
#[derive(Debug)]
pub(crate) struct DetachedContainer {
    doomed: Option<super::Stage>,
    images: Vec<crate::model::container::ImageUse>,
    cleared: Result<()>,
}

impl DetachedContainer {
    /// Deletes them; the layers too, if this container was the last to use them.
    pub(crate) fn delete(self, store: &Store) -> Result<()> {
        drop(self.doomed);
        // The container is gone either way; `rmi` says what stands in the way.
        let _ = store.drop_orphans_of(&self.images);
        self.cleared
    }
}

/// Deletes a container where it is, the record that makes it one last.
fn remove_in_place(dir: &Path) -> Result<()> {
    for entry in std::fs::read_dir(dir)?.flatten() {
        if entry.file_name() != "config.json" {
            super::staging::remove_path(&entry.path())?;
        }
    }
    super::staging::remove_path(dir)
}

/// More than one id begins with `prefix`.
pub(super) fn ambiguous<'a>(kind: &str, prefix: &str, matches: impl Iterator<Item = &'a str>) -> Error {
    let short: Vec<&str> = matches
        .map(|id| &id[..SHORT.max(prefix.len() + 1).min(id.len())])
        .collect();
    let shown = short.len().min(8);
    let more = if short.len() > shown {
        format!(" and {} more", short.len() - shown)
    } else {
        String::new()
    };
    let list = short[..shown].join(", ");
    Error::new(
        Kind::Conflict,
        format!("ambiguous {kind} id '{prefix}': {list}{more} begin with it"),
    )
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::model::container::*;
    use crate::model::digest::Digest;
    use crate::model::id::ImageId;

    pub(crate) fn config(name: &str) -> ContainerConfig {
        let image = ImageUse {
            id: ImageId(Digest::of(b"")),
            reference: "x".to_owned(),
            layers: Vec::new(),
            committed: 0,
        };
        let process = Process {
            groups: Vec::new(),
            umask: None,
            oom_score_adj: None,
            entrypoint: Vec::new(),
            cmd: vec!["true".into()],
            env: Vec::new(),
            workdir: "/".into(),
            user: String::new(),
            tty: false,
            open_stdin: false,
            stdin_once: false,
            attach: Streams::default(),
        };
        let json = serde_json::json!({
            "id": Store::random_id().unwrap(), "name": name, "created": Timestamp::now(), "image": image,
            "process": process, "hostname": "h", "network": "none", "shm_size": 1, "stop_signal": 15,
            "stop_timeout": 10,
        });
        serde_json::from_value(json).unwrap()
    }

    pub(crate) fn create(s: &Store, name: &str) -> ContainerId {
        let config = config(name);
        s.new_container(&config).unwrap();
        config.id
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{config, create};
    use super::*;
    use crate::model::time::Timestamp;
    use crate::store::testing::Scratch;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn remove(s: &Store, id: &ContainerId, name: Option<&str>) {
        let held = s.lock_container(id).unwrap();
        s.detach_container(id, name, &held).unwrap().delete(s).unwrap();
    }

    fn exit(code: u8) -> Exit {
        serde_json::from_value(serde_json::json!({"code": code, "started": null, "finished": Timestamp::now()}))
            .unwrap()
    }

    /// Nothing is left but what a fresh store has.
    fn assert_empty(s: &Store) {
        for dir in [
            s.containers_root(),
            s.names_root(),
            s.staging_root(),
            s.run_root().to_owned(),
        ] {
            let left: Vec<_> = std::fs::read_dir(&dir).unwrap().flatten().map(|e| e.path()).collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }

    #[test]
    fn a_life() {
        let s = Scratch::new();
        let mut wanted = config("web");
        wanted.auto_remove = true;
        s.new_container(&wanted).unwrap();
        let id = wanted.id.clone();
        assert_eq!(s.config(&id).unwrap(), wanted);
        assert_eq!(s.container_ids().unwrap(), std::slice::from_ref(&id));
        assert_eq!((s.exit(&id).unwrap(), s.live(&id).unwrap()), (None, None));
        s.save_exit(&id, &exit(3), Durability::Synced).unwrap();
        assert_eq!(s.exit(&id).unwrap().unwrap().code, 3);
        let state = serde_json::json!({"boot_id": "b", "monitor": {"pid": 1, "start_time": 2}, "phase": "starting"});
        s.save_live(&id, &serde_json::from_value(state).unwrap()).unwrap();
        assert_eq!(s.live(&id).unwrap().unwrap().boot_id, "b");
        for what in ["web", "/web", id.as_str(), id.short(), &id.as_str()[..1]] {
            assert_eq!(s.resolve_container(what).unwrap(), id, "{what}");
        }
        remove(&s, &id, Some("web"));
        assert_empty(&s);
        for result in [
            s.config(&id).err(),
            s.lock_container(&id).err(),
            s.resolve_container(id.as_str()).err(),
        ] {
            assert_eq!(result.unwrap().to_string(), format!("No such container: {id}"));
        }
    }

    #[test]
    fn look_up() {
        let s = Scratch::new();
        let mut ids = Vec::new();
        for digit in ["a1", "a2", "b3"] {
            let mut config = config(&format!("n{digit}"));
            config.id = ContainerId::parse(&digit.repeat(32)).unwrap();
            s.new_container(&config).unwrap();
            ids.push(config.id);
        }
        let named = create(&s, "a1a1");
        assert_eq!(s.resolve_container("a1a1").unwrap(), named, "a name wins over a prefix");
        assert_eq!(s.resolve_container("a1a").unwrap(), ids[0]);
        let e = s.resolve_container("a").unwrap_err().to_string();
        assert!(
            e.starts_with("ambiguous container id 'a': a1a1a1a1a1a1, a2a2a2a2a2a2"),
            "{e}"
        );
        for unknown in ["", "zz", "a3", "A1", "../x", &"a".repeat(64), &"a1".repeat(40)] {
            assert_eq!(
                s.resolve_container(unknown).unwrap_err().to_string(),
                format!("No such container: {unknown}")
            );
        }
    }

    #[test]
    fn one_of_many_gets_the_name() {
        let s = Scratch::new();
        let won = AtomicUsize::new(0);
        std::thread::scope(|threads| {
            for _ in 0..8 {
                threads.spawn(|| {
                    for _ in 0..25 {
                        let mut config = config("same");
                        config.auto_remove = true;
                        match s.new_container(&config) {
                            Ok(()) => drop(won.fetch_add(1, Ordering::Relaxed)),
                            Err(e) => assert!(e.kind() == Kind::Conflict, "{e}"),
                        }
                    }
                });
            }
        });
        assert_eq!(won.into_inner(), 1);
        assert_eq!(s.container_ids().unwrap().len(), 1);
        let id = s.resolve_container("same").unwrap();
        let e = s.new_container(&config("same")).unwrap_err().to_string();
        let docker = "Conflict. The container name \"/same\" is already in use by container";
        assert!(e.starts_with(&format!("{docker} \"{id}\".")), "{e}");
        remove(&s, &id, None);
        assert_empty(&s);
    }

    #[test]
    fn created_and_removed_by_eight_at_once() {
        let s = Scratch::new();
        std::thread::scope(|threads| {
            for t in 0..8 {
                let s = &s.store;
                threads.spawn(move || {
                    for n in 0..25 {
                        let mut config = config(&format!("c{}", (t * 25 + n) % 10));
                        config.auto_remove = true;
                        while let Err(e) = s.new_container(&config) {
                            assert!(e.kind() == Kind::Conflict, "{e}");
                        }
                        s.container_ids().unwrap();
                        remove(s, &config.id, Some(&config.name));
                    }
                });
            }
        });
        assert_empty(&s);
    }

    #[test]
    fn damage_is_told_and_can_be_removed() {
        let s = Scratch::new();
        let (good, bad, bare) = (create(&s, "good"), create(&s, "bad"), create(&s, "bare"));
        std::fs::write(s.container_dir(&bad).join("config.json"), "{\"id\":").unwrap();
        std::fs::remove_dir_all(s.container_dir(&bare)).unwrap();
        std::fs::create_dir(s.container_dir(&bare)).unwrap();
        assert!(
            s.config(&bad)
                .unwrap_err()
                .to_string()
                .contains("config.json is damaged")
        );
        assert!(
            s.config(&bare)
                .unwrap_err()
                .to_string()
                .contains("config.json is missing")
        );
        assert_eq!(s.container_ids().unwrap().len(), 3);
        assert_eq!(s.resolve_container("bad").unwrap(), bad);
        for id in [&good, &bad, &bare] {
            remove(&s, id, None);
        }
        assert_empty(&s);
    }

    #[test]
    fn what_a_crash_left_is_swept_by_the_next_create() {
        let s = Scratch::new();
        let id = create(&s, "victim");
        // As if a remove had died after its rename, and before the name was freed.
        std::fs::rename(s.container_dir(&id), s.staging_root().join("dead")).unwrap();
        assert!(s.resolve_container("victim").is_err());
        let next = create(&s, "next");
        assert_eq!(s.named("victim"), None);
        remove(&s, &next, Some("next"));
        assert_empty(&s);
    }

    #[test]
    fn the_name_that_a_killed_rename_left_is_free() {
        let s = Scratch::new();
        let first = create(&s, "old");
        // Killed before the old name was freed, and before the record was written: it has three of which one counts.
        s.rename_container(&first, "new").unwrap();
        let held = s.lock_names().unwrap();
        for name in ["old", "next"] {
            s.claim_name(name, &first, &held).unwrap();
        }
        drop(held);
        let second = create(&s, "old");
        assert_eq!(s.resolve_container("old").unwrap(), second);
        assert_eq!(s.resolve_container("new").unwrap(), first);
        s.sweep_names().unwrap();
        assert_eq!(s.names_of(&first), ["new"]);
        assert!(s.rename_container(&second, "new").is_err());
        s.rename_container(&second, "next").unwrap();
        for id in [&first, &second] {
            remove(&s, id, None);
        }
        assert_empty(&s);
    }

    #[test]
    fn without_room_for_a_rename_it_goes_where_it_is() {
        let s = Scratch::new();
        let id = create(&s, "full");
        std::fs::write(s.container_dir(&id).join("upper/file"), "x").unwrap();
        std::fs::remove_dir(s.staging_root()).unwrap();
        remove(&s, &id, Some("full"));
        std::fs::create_dir(s.staging_root()).unwrap();
        assert_empty(&s);
    }

    #[test]
    fn a_lock_does_not_outlive_its_container() {
        let s = Scratch::new();
        let id = create(&s, "locked");
        let held = s.lock_container(&id).unwrap();
        assert!(s.try_lock_container(&id).unwrap().is_none());
        std::thread::scope(|threads| {
            let waiter = threads.spawn(|| s.lock_container(&id).map(drop));
            s.detach_container(&id, Some("locked"), &held)
                .unwrap()
                .delete(&s)
                .unwrap();
            drop(held);
            let e = waiter.join().unwrap().unwrap_err();
            assert_eq!(e.to_string(), format!("No such container: {id}"));
        });
    }
}
