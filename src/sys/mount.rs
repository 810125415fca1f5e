//! Mounts by descriptor: made detached, attached to a directory that is itself a descriptor, so that no path is
//! resolved twice (mount_setattr(2), move_mount(2); Linux 5.2, 5.12 for attributes).
#![allow(unsafe_code)]

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What to change on a mount, or on all below it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Attributes {
    /// `MOUNT_ATTR_*`.
    pub(crate) set: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or 0.
    pub(crate) propagation: u64,
    pub(crate) recursive: bool,
}

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Makes a filesystem without a device, attached nowhere. Options are `key=value`, or a flag without `=`.
pub(crate) fn new_filesystem(kind: &str, options: &[&str], attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let fs = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&fs, "source", kind)?;
    for option in options {
        match option.split_once('=') {
            Some((key, value)) => rustix::mount::fsconfig_set_string(&fs, key, value)?,
            None => rustix::mount::fsconfig_set_flag(&fs, *option)?,
        }
    }
    rustix::mount::fsconfig_create(&fs)?;
    Ok(rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// A copy of the mount at `path`, attached nowhere; with everything mounted below it if `recursive`.
pub(crate) fn clone_tree(dir: BorrowedFd<'_>, path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    if path.as_os_str().is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    Ok(rustix::mount::open_tree(dir, path, flags)?)
}

/// Attaches a detached mount on top of `target`.
pub(crate) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, c"", target, c"", flags)?)
}

/// Changes attributes of the mount whose root `mount` is.
pub(crate) fn set_attributes(mount: BorrowedFd<'_>, attributes: Attributes) -> io::Result<()> {
    let attr = MountAttr {
        attr_set: attributes.set,
        attr_clr: 0,
        propagation: attributes.propagation,
        userns_fd: 0,
    };
    set_attr(mount, &attr, attributes.recursive)
}

/// Lets the mount, attached nowhere yet, show every owner as `users`, a user namespace, has him on the host. `EINVAL`
/// where the filesystem, or a kernel before 5.12, can't.
pub(crate) fn map_owners(mount: BorrowedFd<'_>, users: BorrowedFd<'_>, recursive: bool) -> io::Result<()> {
    let attr = MountAttr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::from(users.as_raw_fd().unsigned_abs()),
    };
    set_attr(mount, &attr, recursive)
}

fn set_attr(mount: BorrowedFd<'_>, attr: &MountAttr, recursive: bool) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, `attr` outlives the call and its size is given.
    let r = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    if r == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Whether something is mounted on `path`: it is on another mount than the directory around it (statx(2), Linux 5.8).
pub(crate) fn is_mounted(path: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    let mount = |path: &Path| {
        let stat = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID).ok()?;
        Some(stat.stx_mnt_id)
    };
    match (mount(path), path.parent().and_then(mount)) {
        (Some(inside), Some(around)) => inside != around,
        _ => false,
    }
}

/// pivot_root(".", "."): the current directory becomes the root, the old one lies on top of it and is detached.
pub(crate) fn pivot_here() -> io::Result<()> {
    nix::unistd::pivot_root(".", ".")?;
    rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH)?;
    nix::unistd::chdir("/")?;
    Ok(())
}

/// No mount made from here on is seen by the namespace that this one was copied from.
pub(crate) fn make_all_private() -> io::Result<()> {
    use rustix::mount::MountPropagationFlags as P;
    Ok(rustix::mount::mount_change("/", P::PRIVATE | P::REC)?)
}
