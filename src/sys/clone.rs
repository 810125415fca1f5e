//! clone3(2): a fork with namespaces, a pidfd and a control group in one step. Neither nix nor rustix wraps it.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// libc's constant is an int, which this bit does not fit into (linux/sched.h, Linux 5.7).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What both sides of a fork get to know.
pub(crate) enum Fork {
    Child,
    Parent {
        pid: i32,
        /// Of the child, close-on-exec.
        pidfd: OwnedFd,
    },
}

/// `struct clone_args` of linux/sched.h, as of Linux 5.7 (88 bytes).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks with `flags` (CLONE_NEW*, CLONE_PARENT), the child born in `cgroup` (a v2 directory) if given.
///
/// The process must have one thread: the child gets a copy of the heap whose locks nobody else would release.
pub(crate) fn clone3(flags: libc::c_int, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Fork> {
    debug_assert!(one_thread(), "fork with more than one thread");
    let mut pidfd: RawFd = -1;
    let flags = u64::from(flags.cast_unsigned());
    let mut args = CloneArgs {
        flags: flags | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        // With CLONE_PARENT the exit signal is the parent's own; the kernel refuses another.
        exit_signal: if flags & libc::CLONE_PARENT as u64 == 0 {
            libc::SIGCHLD as u64
        } else {
            0
        },
        ..CloneArgs::default()
    };
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(fd.as_raw_fd().cast_unsigned());
    }
    // SAFETY: no CLONE_VM and no stack, so this is a fork: the child runs on its own copy of this stack. `args` and
    // `pidfd` outlive the call, and the process has one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => {
            // SAFETY: the kernel has stored a new descriptor there, owned by nobody else.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            #[expect(clippy::cast_possible_truncation, reason = "a pid is an int")]
            Ok(Fork::Parent { pid: pid as i32, pidfd })
        }
    }
}

/// A plain fork by the old call, which a seccomp filter lets through where it hides clone3: the child's pid, or `None` in
/// the child. The process must have one thread.
pub(crate) fn fork() -> io::Result<Option<i32>> {
    debug_assert!(one_thread(), "fork with more than one thread");
    // SAFETY: one thread, so the child's copy of the heap has no lock held by another.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Some(pid)),
    }
}

/// A thread that was joined may still be on its last steps in the kernel, where it holds nothing of ours.
fn one_thread() -> bool {
    const STEPS: u32 = 1000;
    (0..STEPS).any(|_| {
        let alone = std::fs::read_dir("/proc/self/task").map_or(true, |d| d.count() == 1);
        if !alone {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        alone
    })
}
