//! All that a container sees, its volumes and mounts included: where `cp` reads and writes.

use crate::container::{start, view};
use crate::error::{Context as _, Error, Result};
use crate::model::container::ContainerConfig;
use crate::model::id::ContainerId;
use crate::model::idmap::IdMap;
use crate::monitor::root::{self, Access, Assembled};
use crate::store::{ContainerLock, Store};
use crate::sys;
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How often a container may start or end while its files are asked for.
const ATTEMPTS: usize = 20;

/// A root, with what is mounted in it.
pub(super) struct Whole {
    pub(super) config: ContainerConfig,
    files: Files,
    /// Nobody starts it meanwhile, if it does not run and is written to.
    _lock: Option<ContainerLock>,
}

enum Files {
    /// Of its first process: what it has mounted itself is there too.
    Running(OwnedFd),
    Resting(Assembled),
}

impl Whole {
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        match &self.files {
            Files::Running(root) => root.as_fd(),
            Files::Resting(assembled) => assembled.root.as_fd(),
        }
    }

    /// In what numbers its owners are seen there, if those are not the image's own.
    pub(super) fn ids(&self) -> Option<&IdMap> {
        match &self.files {
            Files::Running(_) => self.config.namespaces.user.as_ref(),
            Files::Resting(_) => self.config.namespaces.on_disk(),
        }
    }
}

/// Opens it, of a container that runs and of one that does not. To write to one that does not run is to hold its lock.
pub(super) fn whole(store: &Store, id: &ContainerId, access: Access<'_>) -> Result<Whole> {
    for _ in 0..ATTEMPTS {
        if let Some(init) = view::running(store, id)? {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = rustix::fs::open(format!("/proc/{}/root", init.pid), flags, Mode::empty());
            if sys::process::start_time(init.pid) != Some(init.start_time) {
                continue;
            }
            return Ok(Whole {
                config: store.config(id)?,
                files: Files::Running(opened.context("open the container's root")?),
                _lock: None,
            });
        }
        if matches!(access, Access::Read) {
            // One that a commit has left half done is healed by taking its lock.
            drop(store.try_lock_container(id)?);
            let config = store.config(id)?;
            if let Some(assembled) = root::assemble(store, &config, Access::Read)? {
                return Ok(Whole {
                    config,
                    files: Files::Resting(assembled),
                    _lock: None,
                });
            }
        }
        let Some(lock) = start::ready(store, id)? else { continue };
        let config = store.config(id)?;
        let assembled = root::assemble(store, &config, Access::Write)?;
        if !matches!(access, Access::Read)
            && let Some(assembled) = assembled
        {
            return Ok(Whole {
                config,
                files: Files::Resting(assembled),
                _lock: Some(lock),
            });
        }
        // Its volumes have their places now.
    }
    Err(Error::conflict(format!(
        "container {} starts and ends all the time",
        id.short()
    )))
}
