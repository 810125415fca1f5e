//! Writing a file's content out without asking for more: sync_file_range(2).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Starts writing what is dirty of `file`, and waits for nothing.
pub(crate) fn begin_write_back(file: BorrowedFd<'_>) -> io::Result<()> {
    range(file, libc::SYNC_FILE_RANGE_WRITE)
}

/// Starts writing every dirty page of `file`, and waits until they are written. This neither commits the file system's
/// journal nor flushes the disk's cache: see `store/file.rs` for what makes it enough.
pub(crate) fn write_back(file: BorrowedFd<'_>) -> io::Result<()> {
    let wait = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    range(file, libc::SYNC_FILE_RANGE_WRITE | wait)
}

fn range(file: BorrowedFd<'_>, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: takes no pointer; `file` is an open descriptor for the length of the call.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, flags) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
