//! Locks between barge processes: flock(2), which belongs to the open file description, so that a forked monitor may
//! keep what its parent took, and which the kernel drops with the last holder, however it dies.
//!
//! fs2's methods are called in full form: std's `File` has inherent ones of the same names that would win silently.
//! Dropping a guard only closes its descriptor; an unlock would take the lock from a monitor that shares it.

use super::Store;
use crate::error::{Context, Error, Result};
use crate::model::id::{ChainId, ContainerId};
use crate::sys::process;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// After this long, the person is told what is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// A container's lock: whoever holds it may change the container.
#[derive(Debug)]
pub(crate) struct ContainerLock {
    file: File,
}

impl AsFd for ContainerLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl ContainerLock {
    /// The lock that a monitor was started with: the same open file, and so the same lock.
    pub(crate) fn from_inherited(fd: std::os::fd::OwnedFd) -> ContainerLock {
        ContainerLock { file: fd.into() }
    }
}

/// The store's lock. Shared: references to layers, volumes and images may be added. Exclusive: they may be dropped.
#[derive(Debug)]
pub(crate) struct StoreLock {
    _file: File,
}

impl StoreLock {
    /// `file` is the store's lock file, locked.
    pub(super) fn from_locked(file: File) -> StoreLock {
        StoreLock { _file: file }
    }
}

/// The right to change `tags.json`.
#[derive(Debug)]
pub(super) struct TagsLock {
    _file: File,
}

/// The right to change what `names/` says. It spans a name and the container's directory, so that a name without a
/// container, seen under this lock, is a left-over.
#[derive(Debug)]
pub(super) struct NamesLock {
    _file: File,
}

/// The right to choose ranges of users.
#[derive(Debug)]
pub(crate) struct UsersLock {
    _file: File,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Shared,
    Exclusive,
}

impl Store {
    /// Waits for the container's lock. `No such container` if it is removed meanwhile.
    pub(crate) fn lock_container(&self, id: &ContainerId) -> Result<ContainerLock> {
        let file = self.open_container_lock(id)?;
        self.wait_for(&file, Mode::Exclusive, &format!("container {}", id.short()))?;
        self.check_in_place(id, file)
    }

    /// `None` if another process holds it all that time.
    pub(crate) fn lock_container_within(&self, id: &ContainerId, time: Duration) -> Result<Option<ContainerLock>> {
        let deadline = Instant::now() + time;
        loop {
            if let Some(lock) = self.try_lock_container(id)? {
                return Ok(Some(lock));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The right to give ranges of users to new containers. On the directory of all containers, which are what says who
    /// has which.
    pub(crate) fn lock_users(&self) -> Result<UsersLock> {
        let path = self.containers_root();
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        self.wait_for(&file, Mode::Exclusive, "the ranges of users")?;
        Ok(UsersLock { _file: file })
    }

    /// Whether names could be changed now without waiting for another process.
    pub(crate) fn names_are_free(&self) -> bool {
        let file = File::open(self.names_root());
        file.is_ok_and(|file| try_lock(&file, Mode::Exclusive).unwrap_or(false))
    }

    /// `None` if another process holds it.
    pub(crate) fn try_lock_container(&self, id: &ContainerId) -> Result<Option<ContainerLock>> {
        let file = self.open_container_lock(id)?;
        match try_lock(&file, Mode::Exclusive)? {
            true => self.check_in_place(id, file).map(Some),
            false => Ok(None),
        }
    }

    /// The container's directory itself: it can't be lost, and costs no inode.
    fn open_container_lock(&self, id: &ContainerId) -> Result<File> {
        match File::open(self.container_dir(id)) {
            Err(e) if e.kind() == ErrorKind::NotFound => Err(no_such_container(id.as_str())),
            other => other.with_context(|| format!("open container {}", id.short())),
        }
    }

    /// The container may have been removed between open and lock.
    fn check_in_place(&self, id: &ContainerId, file: File) -> Result<ContainerLock> {
        let held = file.metadata()?;
        match std::fs::symlink_metadata(self.container_dir(id)) {
            Ok(there) if (there.dev(), there.ino()) == (held.dev(), held.ino()) => {
                // What can't be healed shows at the start; nothing here keeps a container from being removed.
                let _ = self.heal_adoption(id);
                Ok(ContainerLock { file })
            }
            Ok(_) => Err(no_such_container(id.as_str())),
            Err(e) if e.kind() == ErrorKind::NotFound => Err(no_such_container(id.as_str())),
            Err(e) => Err(e.into()),
        }
    }

    /// While held, nothing that is there is dropped.
    pub(crate) fn lock_shared(&self) -> Result<StoreLock> {
        self.lock_file("lock", Mode::Shared, "the store")
            .map(|file| StoreLock { _file: file })
    }

    /// While held, nobody adds references.
    pub(crate) fn lock_exclusive(&self) -> Result<StoreLock> {
        self.lock_file("lock", Mode::Exclusive, "the store")
            .map(|file| StoreLock { _file: file })
    }

    pub(super) fn lock_tags(&self) -> Result<TagsLock> {
        self.lock_file("tags.lock", Mode::Exclusive, "the tags")
            .map(|file| TagsLock { _file: file })
    }

    /// The layer's directory itself: whoever holds it may replace its record.
    pub(super) fn wait_for_layer(&self, dir: &File, id: &ChainId) -> Result<()> {
        self.wait_for(dir, Mode::Exclusive, &format!("layer {id}"))
    }

    pub(super) fn lock_names(&self) -> Result<NamesLock> {
        let path = self.names_root();
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        self.wait_for(&file, Mode::Exclusive, "the container names")?;
        Ok(NamesLock { _file: file })
    }

    /// Does something while no container comes, goes or is renamed.
    pub(crate) fn with_names_locked<T>(&self, act: impl FnOnce() -> T) -> Result<T> {
        let held = self.lock_names()?;
        let done = act();
        drop(held);
        Ok(done)
    }

    /// Does something while no volume goes.
    pub(crate) fn with_volumes_settled<T>(&self, act: impl FnOnce() -> T) -> Result<T> {
        let held = self.lock_exclusive()?;
        let done = act();
        drop(held);
        Ok(done)
    }

    /// The file that says which free port of the host is given next; locked while it is open.
    pub(super) fn lock_ports(&self) -> Result<File> {
        let path = self.run_root().join("ports");
        let file = open_lock_file(&path).with_context(|| format!("open {}", path.display()))?;
        self.wait_for(&file, Mode::Exclusive, "the host's free ports")?;
        Ok(file)
    }

    fn lock_file(&self, name: &str, mode: Mode, what: &str) -> Result<File> {
        let path = self.root().join(name);
        let file = open_lock_file(&path).with_context(|| format!("open {}", path.display()))?;
        self.wait_for(&file, mode, what)?;
        Ok(file)
    }

    /// Takes the whole lock of `file`.
    pub(super) fn wait_for_all(&self, file: &File, what: &str) -> Result<()> {
        self.wait_for(file, Mode::Exclusive, what)
    }

    /// Locks are held for milliseconds: at first asks again and again, so as to notice when it takes long; from then on
    /// the kernel waits.
    fn wait_for(&self, file: &File, mode: Mode, what: &str) -> Result<()> {
        let mut pause = Duration::from_micros(100);
        let begin = Instant::now();
        loop {
            if try_lock(file, mode)? {
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                break;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(2));
        }
        match holder(file) {
            Some(by) if by.is_stopped_barge() => {
                (self.notice)(&format!("letting {by} go on: it was stopped with {what} locked"));
                by.go_on();
            }
            Some(by) => (self.notice)(&format!("waiting for {what}, locked by {by}")),
            None => (self.notice)(&format!("waiting for {what}, locked by another process")),
        }
        loop {
            let locked = match mode {
                Mode::Shared => fs2::FileExt::lock_shared(file),
                Mode::Exclusive => fs2::FileExt::lock_exclusive(file),
            };
            match locked {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                done => return done.with_context(|| format!("lock {what}")),
            }
        }
    }
}

/// Opens a lock file, or makes it, mode 0600.
pub(super) fn open_lock_file(path: &Path) -> std::io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// Takes the whole lock of `file` if it is free.
pub(super) fn try_exclusive(file: &File) -> Result<bool> {
    try_lock(file, Mode::Exclusive)
}

/// Takes a share of the lock of `file`, unless somebody has all of it.
pub(super) fn try_shared(file: &File) -> Result<bool> {
    try_lock(file, Mode::Shared)
}

fn try_lock(file: &File, mode: Mode) -> Result<bool> {
    loop {
        let locked = match mode {
            Mode::Shared => fs2::FileExt::try_lock_shared(file),
            Mode::Exclusive => fs2::FileExt::try_lock_exclusive(file),
        };
        match locked {
            Ok(()) => return Ok(true),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e).context("lock"),
        }
    }
}

pub(super) fn no_such_container(what: &str) -> Error {
    Error::not_found(format!("No such container: {what}"))
}

/// Process id and name of who holds the lock, from /proc/locks.
fn holder(file: &File) -> Option<Holder> {
    let meta = file.metadata().ok()?;
    let device = (libc::major(meta.dev()), libc::minor(meta.dev()));
    let pid = holder_in(&std::fs::read_to_string("/proc/locks").ok()?, device, meta.ino())?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(Holder {
        pid,
        name: name.trim_end().to_owned(),
    })
}

/// The process that has a lock.
struct Holder {
    pid: i32,
    name: String,
}

impl Holder {
    /// A command that somebody has suspended in the few milliseconds in which it has a lock would keep all others out.
    fn is_stopped_barge(&self) -> bool {
        self.name == "barge" && process::is_stopped(self.pid)
    }

    fn go_on(&self) {
        if let Ok(Some(pidfd)) = process::pidfd_open(self.pid) {
            // It may have gone on by itself, and ended.
            let _ = process::pidfd_signal(pidfd.as_fd(), libc::SIGCONT);
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {}", self.pid)?;
        if self.name.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", self.name)
        }
    }
}

/// Lines are `1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF` (proc_locks(5)); a waiter's has `->` before the type.
fn holder_in(locks: &str, (major, minor): (u32, u32), inode: u64) -> Option<i32> {
    let target = format!("{major:02x}:{minor:02x}:{inode}");
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        match fields.as_slice() {
            [_, "FLOCK", _, _, pid, at, ..] if *at == target => pid.parse().ok(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Scratch;

    #[test]
    fn the_holder_is_found() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 fe:00:42 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 1234 fe:00:42 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 99 fe:00:42 0 EOF\n";
        assert_eq!(holder_in(locks, (0xfe, 0), 42), Some(1234));
        assert_eq!(holder_in(locks, (0xfe, 1), 42), None);
    }

    #[test]
    fn a_held_lock_names_its_holder() {
        let s = Scratch::new();
        let _held = s.lock_exclusive().unwrap();
        let file = open_lock_file(&s.root().join("lock")).unwrap();
        assert!(!try_lock(&file, Mode::Shared).unwrap());
        let by = holder(&file).unwrap();
        assert!(
            by.to_string().starts_with(&format!("process {} (", std::process::id())),
            "{by}"
        );
    }

    #[test]
    fn shared_locks_share() {
        let s = Scratch::new();
        let one = s.lock_shared().unwrap();
        let _two = s.lock_shared().unwrap();
        let file = open_lock_file(&s.root().join("lock")).unwrap();
        assert!(!try_exclusive(&file).unwrap());
        drop((one, _two));
        assert!(try_exclusive(&file).unwrap());
    }
}
