//! Project quotas: the most that a directory and all that comes into it may take on disk (quotactl(2), ioctl_fsxattr of
//! xfs and ext4). Neither nix nor rustix has the calls.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// `struct fsxattr` of linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct FsXattr {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

/// `_IOR('X', 31, struct fsxattr)` and `_IOW('X', 32, struct fsxattr)`.
const FS_IOC_FSGETXATTR: libc::c_ulong = 0x801c_581f;
const FS_IOC_FSSETXATTR: libc::c_ulong = 0x401c_5820;
/// What is made in the directory is of the same project.
const FS_XFLAG_PROJINHERIT: u32 = 0x200;

/// `struct if_dqblk` of linux/quota.h; limits in blocks of 1024 bytes.
#[repr(C)]
#[derive(Default)]
struct Limits {
    hard_blocks: u64,
    soft_blocks: u64,
    space: u64,
    hard_inodes: u64,
    soft_inodes: u64,
    inodes: u64,
    block_time: u64,
    inode_time: u64,
    valid: u32,
}

const QIF_BLIMITS: u32 = 1;
const PRJQUOTA: u32 = 2;
const Q_SETQUOTA: u32 = 0x80_0008;
const BLOCK: u64 = 1024;

/// Puts an empty directory into a project.
pub(crate) fn join(directory: BorrowedFd<'_>, project: u32) -> io::Result<()> {
    let mut attributes = FsXattr::default();
    // SAFETY: the kernel writes one `struct fsxattr`, which `attributes` is.
    let got = unsafe { libc::ioctl(directory.as_raw_fd(), FS_IOC_FSGETXATTR, &raw mut attributes) };
    if got == -1 {
        return Err(io::Error::last_os_error());
    }
    attributes.project = project;
    attributes.flags |= FS_XFLAG_PROJINHERIT;
    // SAFETY: the kernel reads one `struct fsxattr`, which `attributes` is.
    match unsafe { libc::ioctl(directory.as_raw_fd(), FS_IOC_FSSETXATTR, &raw const attributes) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Lets a project of the filesystem that `directory` is on take `bytes`; 0 lifts the limit (quotactl_fd, Linux 5.14).
/// `ESRCH` where quotas of projects are off.
pub(crate) fn limit(directory: BorrowedFd<'_>, project: u32, bytes: u64) -> io::Result<()> {
    let limits = Limits {
        hard_blocks: bytes.div_ceil(BLOCK),
        soft_blocks: bytes.div_ceil(BLOCK),
        valid: QIF_BLIMITS,
        ..Limits::default()
    };
    let command = (Q_SETQUOTA << 8) | PRJQUOTA;
    // SAFETY: the kernel reads one `struct if_dqblk`, which `limits` is, and it outlives the call.
    let set = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            directory.as_raw_fd(),
            command,
            project,
            &raw const limits,
        )
    };
    match set {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
