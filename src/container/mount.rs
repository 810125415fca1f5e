//! `mount`: a container's files as a directory of the host, until it is unmounted or removed, or the machine goes down.
//!
//! A container has one writable mount of its layers, however often it is seen: what is mounted here while it does not
//! run is what a start takes (`monitor/root.rs`), since two mounts of one upper would damage it.

use crate::container::status::{self, Seen};
use crate::container::{start, view};
use crate::error::{Context as _, Error, Result};
use crate::model::id::ContainerId;
use crate::model::state::Status;
use crate::monitor::root::{self, Access};
use crate::store::Store;
use crate::sys;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount as umount};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// How often a container may start or end while it is mounted.
const ATTEMPTS: usize = 20;

/// Where it is mounted; one that is mounted already stays so.
pub(crate) fn mount(store: &Store, id: &ContainerId) -> Result<PathBuf> {
    let place = store.container_mount(id);
    if sys::mount::is_mounted(&place) {
        return Ok(place);
    }
    for _ in 0..ATTEMPTS {
        let (mount, lock) = match view::running(store, id)? {
            Some(init) => (view::clone_root(init)?, None),
            None => {
                let Some(lock) = start::ready(store, id)? else { continue };
                let config = store.config(id)?;
                let users = root::users(&config)?;
                let access = Access::Run(users.as_ref().map(|fd| fd.as_fd()));
                (root::mount(store, &config, access)?, Some(lock))
            }
        };
        let root = store.make_container_mount(id)?;
        sys::stop_point("container-mount-made");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let target = openat(CWD, &root, flags, Mode::empty())?;
        sys::mount::attach(mount.as_fd(), target.as_fd()).with_context(|| format!("mount on {}", root.display()))?;
        drop(lock);
        if !store.container_dir(id).exists() {
            // Removed meanwhile, with --rm perhaps.
            store.drop_container_mount(id)?;
            return Err(Error::not_found(format!("No such container: {id}")));
        }
        return Ok(root);
    }
    Err(Error::conflict(format!(
        "container {} starts and ends all the time",
        id.short()
    )))
}

/// Every container that is mounted, and where. What a mount that was killed has left is taken away.
pub(crate) fn mounted(store: &Store) -> Result<Vec<(ContainerId, PathBuf)>> {
    let mut all = Vec::new();
    for id in store.container_mounts()? {
        let root = store.container_mount(&id);
        match sys::mount::is_mounted(&root) && store.container_dir(&id).exists() {
            true => all.push((id, root)),
            false if store.container_dir(&id).exists() => {}
            false => store.drop_container_mount(&id)?,
        }
    }
    all.sort();
    Ok(all)
}

/// With `force`, also while somebody is in it: then it can't be started or changed until he is gone. Success if it is
/// not mounted.
pub(crate) fn unmount(store: &Store, id: &ContainerId, force: bool) -> Result<()> {
    // A start takes what is mounted, under this lock. Of one that runs it is a copy of the container's own mount.
    let lock = match status::look(store, id) {
        Seen::Gone | Seen::Is(Status::Running(_) | Status::Damaged(_)) => None,
        _ => start::ready(store, id)?,
    };
    let root = store.container_mount(id);
    if sys::mount::is_mounted(&root) {
        match umount(&root, UnmountFlags::NOFOLLOW) {
            Err(Errno::BUSY) if force => {
                let device = std::fs::metadata(&root)
                    .with_context(|| format!("look at {}", root.display()))?
                    .dev();
                store.leave_container_mount(id, device)?;
            }
            Err(Errno::BUSY) => {
                return Err(
                    Error::conflict(format!("container {} is in use: {}", id.short(), root.display()))
                        .with_hint("--force unmounts it when nobody uses it any more"),
                );
            }
            done => done.with_context(|| format!("unmount {}", root.display()))?,
        }
    }
    sys::stop_point("container-unmounted");
    let dropped = store.drop_container_mount(id);
    drop(lock);
    dropped
}
