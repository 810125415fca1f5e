//! A container's file system as the container has it, without what is mounted into it: volumes, /proc, /dev.

use crate::container::status::{self, Seen};
use crate::error::{Context as _, Error, Result};
use crate::model::container::{ContainerConfig, RootSource};
use crate::model::driver::Driver;
use crate::model::id::ContainerId;
use crate::model::idmap::IdMap;
use crate::model::state::{Phase, ProcessRef, Status};
use crate::monitor::root::{self, Access};
use crate::store::Store;
use crate::sys;
use nix::sched::CloneFlags;
use rustix::fs::{Mode, OFlags, openat};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A root, and what is only seen in it.
pub(super) struct View {
    /// Open, of a mount that nobody else sees and that goes with the descriptor.
    pub(super) root: OwnedFd,
    /// What the engine has mounted on, and neither the image nor the container has: paths without the first slash.
    pub(super) placeholders: BTreeSet<Vec<u8>>,
    /// In what numbers owners are seen, if those are not the image's own.
    pub(super) ids: Option<IdMap>,
}

pub(super) fn view(store: &Store, id: &ContainerId) -> Result<View> {
    let config = store.config(id)?;
    let (mount, ids) = match running(store, id)? {
        Some(init) => (clone_root(init)?, config.namespaces.user.clone()),
        None => (stopped_root(store, &config)?, config.namespaces.on_disk().cloned()),
    };
    let mut own = store.lower_dirs(&config);
    own.push(store.upper_dir(id));
    if let RootSource::Directory(dir) = &config.root {
        own = vec![dir.clone()];
    }
    let is_copy = store.driver()? == Some(Driver::Copy) && !matches!(config.root, RootSource::Directory(_));
    let copy = match is_copy {
        true => Some((store.mount_points()?, store.tree_dir(id))),
        false => None,
    };
    let is_own = |path: &str| {
        let in_copy =
            |(ours, tree): &(PathBuf, PathBuf)| differ(&ours.join(path), &tree.join(path), config.namespaces.on_disk());
        own.iter().any(|dir| dir.join(path).symlink_metadata().is_ok()) || copy.as_ref().is_some_and(in_copy)
    };
    let placeholders = Store::mount_point_paths()
        .filter(|path| !is_own(path))
        .map(|path| path.as_bytes().to_vec())
        .collect();
    // What open_tree(2) and fsmount(2) give is a place only, and can't be read.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(&mount, c".", flags, Mode::empty()).context("open the container's root")?;
    Ok(View {
        root,
        placeholders,
        ids,
    })
}

/// Whether the container has made another file or directory in the place of ours, which its copy has too.
fn differ(ours: &Path, there: &Path, ids: Option<&IdMap>) -> bool {
    let of = |path: &Path, ids: Option<&IdMap>| {
        let stat = path.symlink_metadata().ok()?;
        let length = if stat.is_dir() { 0 } else { stat.len() };
        let owner = (stat.uid(), stat.gid());
        let owner = ids.map_or(owner, |ids| ids.outside_owner(owner));
        Some((stat.mode(), owner, length, stat.mtime(), stat.mtime_nsec()))
    };
    of(there, None).is_some_and(|there| Some(there) != of(ours, ids))
}

/// The first process of a container that runs.
pub(super) fn running(store: &Store, id: &ContainerId) -> Result<Option<ProcessRef>> {
    match status::look(store, id) {
        Seen::Is(Status::Running(live)) => match live.phase {
            Phase::Running { init, .. } => Ok(Some(init)),
            _ => Ok(None),
        },
        Seen::Is(Status::Damaged(why)) => Err(Error::other(why)),
        Seen::Gone => Err(Error::not_found(format!("No such container: {id}"))),
        _ => Ok(None),
    }
}

/// The mount that is the container's root, and nothing that is mounted on it. Only from inside its mount namespace can
/// it be cloned: a thread goes there, makes one call, and ends.
pub(super) fn clone_root(init: ProcessRef) -> Result<OwnedFd> {
    let namespace = File::open(format!("/proc/{}/ns/mnt", init.pid)).context("open the container's mount namespace")?;
    if sys::process::start_time(init.pid) != Some(init.start_time) {
        return Err(Error::conflict("the container has just ended"));
    }
    let inside = || -> Result<OwnedFd> {
        nix::sched::unshare(CloneFlags::CLONE_FS)?;
        nix::sched::setns(&namespace, CloneFlags::CLONE_NEWNS)?;
        Ok(sys::mount::clone_tree(
            rustix::fs::CWD,
            std::path::Path::new("/"),
            false,
        )?)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, inside)?;
        let cloned = thread.join().map_err(|_| Error::other("a thread panicked"))?;
        cloned.context("clone the container's root")
    })
}

/// The stack, read-only. Whoever starts the container meanwhile is not disturbed; what is read then is what it writes.
fn stopped_root(store: &Store, config: &ContainerConfig) -> Result<OwnedFd> {
    // One that a commit has left half done is healed by taking its lock.
    drop(store.try_lock_container(&config.id)?);
    root::mount(store, config, Access::Read)
}

/// What a reader of the tree meets when the container is removed from under it.
pub(super) fn or_gone(store: &Store, id: &ContainerId, error: Error) -> Error {
    match store.container_dir(id).exists() {
        true => error,
        false => Error::not_found(format!("container {} was removed meanwhile", id.short())),
    }
}
