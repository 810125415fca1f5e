//! Paths inside a container's root, resolved from its descriptor so that no link leads out (openat2(2)), and the lists
//! of what is hidden or read-only in /proc and /sys.

use crate::error::{Context as _, Error, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

/// Hidden from an unprivileged container: what tells of, or acts on, the whole machine. Docker's list.
pub(crate) const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Read-only in an unprivileged container. Docker's list.
pub(crate) const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What a mount point has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node {
    Directory,
    File,
}

/// Whether a symbolic link on the way is followed (inside the root) or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    Follow,
    /// For /proc, /sys and /dev: an image that has a link there would move them away from under the masks.
    Refuse,
}

impl Links {
    fn flags(self) -> ResolveFlags {
        match self {
            Links::Follow => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
            Links::Refuse => ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS,
        }
    }
}

/// Opens `path` inside `root`, as a place only (`O_PATH`).
pub(crate) fn open(root: BorrowedFd<'_>, path: &Path, links: Links) -> Result<OwnedFd, Errno> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let relative = if relative.as_os_str().is_empty() {
        Path::new(".")
    } else {
        relative
    };
    crate::sys::tree::look_up(root, relative, OFlags::PATH, links.flags())
}

/// Opens `path` inside `root`, making what is missing: directories 0755, a file at the end if a file is wanted. What a
/// dangling link leads to is made as well, inside the root: distributions have /etc/resolv.conf lead into /run.
pub(crate) fn open_or_make(root: BorrowedFd<'_>, path: &Path, node: Node, links: Links) -> Result<OwnedFd> {
    let mut path = path.to_owned();
    // As many links as the kernel itself follows (path_resolution(7)).
    for _ in 0..40 {
        match open(root, &path, links) {
            Ok(fd) => return fit(fd, &path, node),
            Err(Errno::NOENT) => {}
            Err(Errno::LOOP) if links == Links::Refuse => {
                return Err(Error::other(format!(
                    "{} is a symbolic link in the image",
                    path.display()
                )));
            }
            Err(e) => return Err(e.into()),
        }
        match make(root, &path, node, links)? {
            None => {}
            Some(leads_to) => path = leads_to,
        }
    }
    Err(Errno::LOOP.into())
}

/// Makes what is missing of `path`. Gives the path to go on with if a dangling link is in the way.
fn make(root: BorrowedFd<'_>, path: &Path, node: Node, links: Links) -> Result<Option<PathBuf>> {
    let mut walked = PathBuf::from("/");
    let mut at = open(root, &walked, links)?;
    let mut rest = path
        .components()
        .filter(|c| matches!(c, Component::Normal(_) | Component::ParentDir))
        .peekable();
    while let Some(component) = rest.next() {
        let name = component.as_os_str();
        let before = walked.clone();
        walked.push(name);
        let made = match open(root, &walked, links) {
            Ok(fd) => {
                at = fd;
                continue;
            }
            Err(Errno::NOENT) if rest.peek().is_none() && node == Node::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat(&at, name, flags, Mode::from_raw_mode(0o644)).map(|_| ())
            }
            Err(Errno::NOENT) => rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o755)),
            Err(e) => return Err(e.into()),
        };
        match made {
            Ok(()) => at = open(root, &walked, links)?,
            Err(Errno::EXIST) => {
                let target = rustix::fs::readlinkat(&at, name, Vec::new())
                    .with_context(|| format!("make mount point {}", walked.display()))?;
                let leads_to = before.join(std::ffi::OsStr::from_bytes(target.as_bytes()));
                return Ok(Some(rest.fold(leads_to, |path, more| path.join(more.as_os_str()))));
            }
            Err(e) => return Err(e).with_context(|| format!("make mount point {}", walked.display())),
        }
    }
    Ok(None)
}

fn fit(fd: OwnedFd, path: &Path, node: Node) -> Result<OwnedFd> {
    let is_dir = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) == FileType::Directory;
    match (node, is_dir) {
        (Node::Directory, false) => Err(Error::other(format!(
            "{} is not a directory in the container",
            path.display()
        ))),
        (Node::File, true) => Err(Error::other(format!(
            "{} is a directory in the container",
            path.display()
        ))),
        _ => Ok(fd),
    }
}

/// Whether the entry is a directory; links are not followed.
pub(crate) fn is_directory(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::statat(fd, c"", AtFlags::EMPTY_PATH)
        .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory)
}

/// Whether it lies in a procfs, over whose files nothing may be mounted (CVE-2019-16884).
pub(crate) fn is_proc(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|s| s.f_type == libc::PROC_SUPER_MAGIC)
}

/// The null device of a fresh /dev, proven to be it: a mask made of anything else would hide nothing (CVE-2025-31133).
pub(crate) fn null_device(root: BorrowedFd<'_>) -> Result<OwnedFd> {
    let fd = open(root, Path::new("/dev/null"), Links::Refuse).context("open /dev/null")?;
    let stat = rustix::fs::fstat(fd.as_fd())?;
    let is_null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)) == (1, 3);
    if is_null {
        Ok(fd)
    } else {
        Err(Error::other("/dev/null is not the null device"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root() -> (tempdir::Dir, OwnedFd) {
        let dir = tempdir::Dir::new();
        let fd = rustix::fs::open(dir.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        (dir, fd)
    }

    /// A directory that goes with its value.
    mod tempdir {
        use std::path::{Path, PathBuf};
        use std::sync::atomic::{AtomicU32, Ordering};

        pub(super) struct Dir(PathBuf);

        impl Dir {
            pub(super) fn new() -> Self {
                static N: AtomicU32 = AtomicU32::new(0);
                let name = format!(
                    "barge-rootfs-{}-{}",
                    std::process::id(),
                    N.fetch_add(1, Ordering::Relaxed)
                );
                let path = std::env::temp_dir().join(name);
                std::fs::create_dir_all(&path).unwrap();
                Dir(path)
            }

            pub(super) fn path(&self) -> &Path {
                &self.0
            }
        }

        impl Drop for Dir {
            fn drop(&mut self) {
                let _ = std::fs::remove_dir_all(&self.0);
            }
        }
    }

    #[test]
    fn makes_missing_mount_points() {
        let (dir, fd) = root();
        open_or_make(fd.as_fd(), Path::new("/a/b/c"), Node::Directory, Links::Follow).unwrap();
        assert!(dir.path().join("a/b/c").is_dir());
        open_or_make(fd.as_fd(), Path::new("/a/f"), Node::File, Links::Follow).unwrap();
        assert!(dir.path().join("a/f").is_file());
        assert!(open_or_make(fd.as_fd(), Path::new("/a/f"), Node::Directory, Links::Follow).is_err());
        assert!(open_or_make(fd.as_fd(), Path::new("/a/b"), Node::File, Links::Follow).is_err());
    }

    #[test]
    fn links_never_lead_out() {
        let (dir, fd) = root();
        symlink("/etc", dir.path().join("abs")).unwrap();
        symlink("../../../../../../tmp", dir.path().join("up")).unwrap();
        for path in ["/abs/made", "/up/made"] {
            open_or_make(fd.as_fd(), Path::new(path), Node::Directory, Links::Follow).unwrap();
        }
        assert!(dir.path().join("etc/made").is_dir() && dir.path().join("tmp/made").is_dir());
        symlink("loop", dir.path().join("loop")).unwrap();
        assert!(open_or_make(fd.as_fd(), Path::new("/loop/x"), Node::Directory, Links::Follow).is_err());
        assert!(!Path::new("/etc/made").exists());
        let error = open_or_make(fd.as_fd(), Path::new("/abs"), Node::Directory, Links::Refuse).unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
    }
}
