//! What a container shares with another one that runs: its namespaces of processes, ipc and host name, and with ipc the
//! other's /dev/shm.

use crate::error::{Context as _, Error, Result};
use crate::model::container::ContainerConfig;
use crate::model::id::ContainerId;
use crate::model::namespace::Whose;
use crate::model::state::ProcessRef;
use crate::runtime::rootfs::{self, Links};
use crate::store::Store;
use crate::sys;
use nix::sched::CloneFlags;
use rustix::fs::{CWD, Mode, OFlags};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

/// Opened before the clone.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// In the order of `Namespaces::entered`.
    pub(super) namespaces: Vec<OwnedFd>,
    /// Only who is born in a namespace of processes is in it.
    pub(super) processes: Option<OwnedFd>,
    /// A mount of the shared /dev/shm, attached nowhere.
    pub(super) shm: Option<OwnedFd>,
}

/// Opens what is shared.
pub(super) fn open(store: &Store, config: &ContainerConfig) -> Result<Shared> {
    let wanted = &config.namespaces;
    let entered = wanted.entered().map(|(kind, other)| namespace(store, other, kind));
    Ok(Shared {
        processes: match &wanted.pid {
            Whose::Container(other) => Some(namespace(store, other, "pid")?),
            Whose::Private | Whose::Host => None,
        },
        namespaces: entered.collect::<Result<_>>()?,
        shm: match &wanted.ipc {
            Whose::Private => None,
            Whose::Host => {
                let shm = sys::mount::clone_tree(CWD, Path::new("/dev/shm"), false);
                Some(shm.context("share /dev/shm of the host")?)
            }
            Whose::Container(other) => Some(shm_of(store, other)?),
        },
    })
}

/// Does `clone` so that its child is born in that namespace. This process stays where it is, and afterwards may have
/// threads again: who has children elsewhere may not (setns(2)).
pub(super) fn born_in<T>(processes: Option<OwnedFd>, clone: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some(processes) = processes else { return clone() };
    let own = std::fs::File::open("/proc/self/ns/pid").context("open the own namespace of processes")?;
    nix::sched::setns(processes, CloneFlags::CLONE_NEWPID).context("join the processes of the container")?;
    let child = clone();
    nix::sched::setns(own, CloneFlags::CLONE_NEWPID).context("leave the processes of the container")?;
    child
}

/// A copy of that mount: only inside its own mount namespace can one be made. On a thread of its own, which has ended
/// when this returns, so that we never leave ours.
fn shm_of(store: &Store, other: &ContainerId) -> Result<OwnedFd> {
    let mounts = namespace(store, other, "mnt")?;
    let clone = || -> Result<OwnedFd> {
        // A thread that shares its root with others can't have another one.
        nix::sched::unshare(CloneFlags::CLONE_FS)?;
        nix::sched::setns(&mounts, CloneFlags::CLONE_NEWNS)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open("/", flags, Mode::empty())?;
        // No link is followed: the other container may have put one there.
        let shm = rootfs::open(root.as_fd(), Path::new("/dev/shm"), Links::Refuse)?;
        Ok(sys::mount::clone_tree(shm.as_fd(), Path::new(""), false)?)
    };
    let cloned = std::thread::scope(|scope| scope.spawn(clone).join());
    cloned
        .unwrap_or_else(|_| Err(Error::other("a thread ended early")))
        .with_context(|| format!("share /dev/shm of container {}", other.short()))
}

/// A namespace of a running container, by /proc's name of it.
pub(super) fn namespace(store: &Store, other: &ContainerId, kind: &str) -> Result<OwnedFd> {
    let init = running(store, other)?;
    let path = format!("/proc/{}/ns/{kind}", init.pid);
    let fd = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| format!("open the {kind} namespace of container {}", other.short()))?;
    still(store, other, init)?;
    Ok(fd)
}

fn running(store: &Store, other: &ContainerId) -> Result<ProcessRef> {
    let init = store.live(other)?.and_then(|l| l.running()).filter(is_alive);
    init.ok_or_else(|| {
        let message = format!("join a namespace of container {}: it is not running", other.short());
        Error::conflict(message)
    })
}

/// After the opening: what was opened by pid is that container's only if its first process is still the same.
fn still(store: &Store, other: &ContainerId, init: ProcessRef) -> Result<()> {
    match store.live(other)?.and_then(|l| l.running()) {
        Some(now) if now == init && is_alive(&now) => Ok(()),
        _ => {
            let message = format!("join a namespace of container {}: it has just ended", other.short());
            Err(Error::conflict(message))
        }
    }
}

fn is_alive(process: &ProcessRef) -> bool {
    sys::process::start_time(process.pid) == Some(process.start_time)
}
