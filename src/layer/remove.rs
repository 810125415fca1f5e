//! Removing a tree: by descriptors, of any depth, never through a link or into another mount.

use crate::error::{Context, Error, Result};
use crate::layer::walk::{Step, open_dir, shown, walk};
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};

/// How often a directory is read again in which something appeared while it was emptied.
const ATTEMPTS: usize = 3;

/// Removes `name` in `dir`, whatever it is; gone already is as good.
pub(crate) fn remove_tree(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    let said = || String::from_utf8_lossy(name).into_owned();
    let name = CString::new(name)
        .map_err(|_| Error::other("name with a NUL"))
        .with_context(said)?;
    match unlinkat(dir, &name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(e) => return Err(explain(e)).with_context(said),
    }
    for attempt in 1.. {
        match open_dir(dir, &name) {
            Ok(this) => empty(this.as_fd()).with_context(said)?,
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(explain(e)).with_context(said),
        }
        match unlinkat(dir, &name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => break,
            Err(Errno::NOTEMPTY) if attempt < ATTEMPTS => {}
            Err(e) => return Err(explain(e)).with_context(said),
        }
    }
    Ok(())
}

/// Removes everything in `dir`.
fn empty(dir: BorrowedFd<'_>) -> Result<()> {
    walk(dir, &mut |step| {
        let (dir, name, flags, path) = match step {
            Step::Entry { dir, name, path, .. } => (dir, name, AtFlags::empty(), path),
            Step::Leave { dir, name, path } => (dir, name, AtFlags::REMOVEDIR, path),
            Step::Enter { .. } => return Ok(()),
        };
        match unlinkat(dir, name, flags) {
            // Not empty: the next attempt meets what was added.
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY) => Ok(()),
            Err(e) => Err(explain(e)).with_context(|| shown(path)),
        }
    })
}

fn explain(errno: Errno) -> Error {
    match errno {
        Errno::BUSY | Errno::XDEV => Error::other("is a mount point"),
        errno => errno.into(),
    }
}
