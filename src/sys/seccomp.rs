//! Loading a system call filter: seccomp(2), or prctl(2) where something forbids that.
#![allow(unsafe_code)]

use libc::{c_ulong, sock_filter, sock_fprog};
use std::io;

/// Puts the calling thread under `program`, for ever, and all it will start.
///
/// It is the last thing to do before `execve`: the program needs to allow nothing else then. Without `no_new_privs` the
/// kernel wants CAP_SYS_ADMIN in the effective set here, so it is dropped by the `execve` itself (see
/// `runtime::capability`). Allocates nothing.
pub(crate) fn load(program: &[sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = sock_fprog {
        len,
        filter: program.as_ptr().cast_mut(),
    };
    // Speculation stays as the machine's owner has set it: before Linux 5.16 every filter switched store bypass off,
    // which makes programs up to several times slower; docker's runtime asks for the same.
    match by_seccomp(&program, libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => by_seccomp(&program, 0),
        Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => by_prctl(&program),
        result => result,
    }
}

fn by_seccomp(program: &sock_fprog, flags: c_ulong) -> io::Result<()> {
    // SAFETY: the kernel reads `len` instructions from `filter`, which point into a slice that outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, program) };
    checked(result == 0)
}

fn by_prctl(program: &sock_fprog) -> io::Result<()> {
    // SAFETY: as above; the filter mode takes a pointer to the program as its only further argument.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, c_ulong::from(libc::SECCOMP_MODE_FILTER), program) };
    checked(result == 0)
}

fn checked(good: bool) -> io::Result<()> {
    if good { Ok(()) } else { Err(io::Error::last_os_error()) }
}
