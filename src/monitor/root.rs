//! A container's root: the image's layers under the container's own, as one mount; and the same with its volumes, for
//! who reads or changes the files of a container that does not run.

use crate::error::{Context as _, Error, Result};
use crate::layer::overlay::{self, Overlay};
use crate::model::container::ContainerConfig;
use crate::model::mount::Propagation;
use crate::monitor::volumes;
use crate::runtime::plan::{self, Attachment};
use crate::runtime::prepare;
use crate::runtime::rootfs::{self, Links};
use crate::store::Store;
use crate::sys;
use nix::sched::CloneFlags;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

/// What a root is mounted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Only under the container's lock, and while it does not run.
    Write,
    /// Any number beside each other and beside a start; nothing is written, not even by the kernel.
    Read,
}

/// The stack of the image's layers and the container's own, attached nowhere.
pub(crate) fn mount(store: &Store, config: &ContainerConfig, access: Access) -> Result<OwnedFd> {
    let overlay = stack(store, config, access)?;
    overlay::mount(&overlay)
        .or_else(|first| by_old_call(&overlay, &store.container_dir(&config.id)).map_err(|_| first))
        .context("mount the root")
}

fn stack(store: &Store, config: &ContainerConfig, access: Access) -> Result<Overlay> {
    let dir = store.container_dir(&config.id);
    let mut lowers = match access {
        Access::Write => vec![store.mount_points()?],
        Access::Read => Vec::new(),
    };
    let mut upper = dir.join("upper");
    if let Some(step) = &config.build {
        lowers.extend(step.places.clone());
        upper.clone_from(&step.upper);
    }
    lowers.extend(store.lower_dirs(config));
    lowers.extend(config.build.iter().flat_map(|step| step.above.iter().cloned()));
    if lowers.is_empty() {
        lowers.push(store.mount_points()?);
    }
    Ok(Overlay {
        lowers,
        upper,
        work: dir.join("work"),
        volatile: config.auto_remove && access == Access::Write,
        read_only: access == Access::Read,
    })
}

/// mount(2), where fsopen(2) is refused or knows no overlay: in a mount namespace of this process's own, so that the
/// host never sees it, and from there cloned into a mount that is attached nowhere.
fn by_old_call(overlay: &Overlay, place: &Path) -> Result<OwnedFd> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
    sys::mount::make_all_private()?;
    overlay::mount_at(overlay, place)?;
    let root = sys::mount::clone_tree(CWD, place, false)?;
    rustix::mount::unmount(place, rustix::mount::UnmountFlags::DETACH)?;
    Ok(root)
}

/// The file system of a container that does not run, with its volumes where it will see them. Nobody else sees the
/// mounts, and they go with the value.
pub(crate) struct Assembled {
    pub(crate) root: OwnedFd,
    /// As long as this is open, the mounts are.
    _namespace: OwnedFd,
}

/// Mounts the root and its volumes. `None` if a volume has no place in the root, which [`Access::Read`] can't make.
pub(crate) fn assemble(store: &Store, config: &ContainerConfig, access: Access) -> Result<Option<Assembled>> {
    let root = mount(store, config, access)?;
    let place = store.container_dir(&config.id);
    // On a thread, that this process stays where it is.
    let inside = || -> Result<Option<Assembled>> {
        nix::sched::unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
        sys::mount::make_all_private()?;
        let namespace = File::open("/proc/thread-self/ns/mnt")?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let place = rustix::fs::open(&place, flags, Mode::empty())?;
        sys::mount::attach(root.as_fd(), place.as_fd())?;
        if !attach_volumes(store, config, root.as_fd(), access)? {
            return Ok(None);
        }
        if config.security.read_only {
            let read_only = sys::mount::Attributes {
                set: libc::MOUNT_ATTR_RDONLY,
                ..Default::default()
            };
            sys::mount::set_attributes(root.as_fd(), read_only)?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Some(Assembled {
            root: openat(&root, c".", flags, Mode::empty())?,
            _namespace: namespace.into(),
        }))
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, inside)?;
        let assembled = thread.join().map_err(|_| Error::other("a thread panicked"))?;
        assembled.context("mount the container's file system")
    })
}

/// Whether all of them have a place. What is in memory has nothing in it before a start.
fn attach_volumes(store: &Store, config: &ContainerConfig, root: BorrowedFd<'_>, access: Access) -> Result<bool> {
    let sources = volumes::sources(store, config, root)?;
    for (mount, source) in config.mounts.iter().zip(&sources.of_mounts) {
        if source.is_none() {
            continue;
        }
        let (what, node) = plan::of_volume(mount, source.as_ref())?;
        let place = match access {
            Access::Write => rootfs::open_or_make(root, &mount.target, node, Links::Follow),
            Access::Read => match rootfs::open(root, &mount.target, Links::Follow) {
                Err(Errno::NOENT) => return Ok(false),
                opened => opened.map_err(Error::from),
            },
        };
        let said = || format!("mount on {}", mount.target.display());
        let place = place.with_context(said)?;
        let attachment = Attachment {
            what,
            read_only: mount.read_only,
            propagation: Propagation::Rprivate,
        };
        for volume in prepare::open_mounts(&[attachment], false, true, prepare::Opened::default())?.0 {
            sys::mount::attach(volume.as_fd(), place.as_fd()).with_context(said)?;
        }
    }
    Ok(true)
}
