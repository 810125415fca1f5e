//! The engine's own program, in a form that a container can't overwrite.
//!
//! A process that is about to execute a container's program can be tricked into executing itself (`#!/proc/self/exe`),
//! and then its /proc/PID/exe is open to the container: that is CVE-2019-5736. So every such process runs from a
//! read-only, detached copy of the mount that the program lies on: /proc/self/exe then leads to that mount, and opening
//! it for writing answers EROFS. Where that can't be made, from a sealed copy in memory.

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

const OWN: &str = "/proc/self/exe";

/// A descriptor to execute the engine by (execveat(2), AT_EMPTY_PATH).
pub(crate) fn protected() -> io::Result<OwnedFd> {
    read_only_mount().or_else(|_| sealed_copy())
}

/// The same for a process that runs from such a form itself: a further mount of it, or a copy, would be for nothing.
pub(crate) fn own() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(OWN, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

fn read_only_mount() -> io::Result<OwnedFd> {
    let mount = super::mount::clone_tree(rustix::fs::CWD, Path::new(OWN), false)?;
    let attributes = super::mount::Attributes {
        set: libc::MOUNT_ATTR_RDONLY,
        ..Default::default()
    };
    super::mount::set_attributes(mount.as_fd(), attributes)?;
    Ok(mount)
}

fn sealed_copy() -> io::Result<OwnedFd> {
    let own = rustix::fs::open(OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let copy = rustix::fs::memfd_create("barge", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let size = rustix::fs::fstat(&own)?.st_size.cast_unsigned();
    let mut done = 0;
    while done < size {
        let n = rustix::fs::sendfile(&copy, &own, None, usize::try_from(size - done).unwrap_or(usize::MAX))?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        done += n as u64;
    }
    rustix::fs::fcntl_add_seals(
        &copy,
        SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
    )?;
    Ok(copy)
}
