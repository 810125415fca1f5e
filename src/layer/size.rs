//! How large a tree is: the bytes of its files and links, as docker counts them; a file of many names counts once.

use crate::error::{Context, Result};
use crate::layer::shown;
use crate::layer::walk::{Step, walk};
use rustix::fs::{AtFlags, statat};
use rustix::io::Errno;
use std::collections::HashSet;
use std::os::fd::BorrowedFd;

/// Bytes of everything in `dir`; what vanishes meanwhile counts nothing.
pub(crate) fn size(dir: BorrowedFd<'_>) -> Result<u64> {
    let mut linked = HashSet::new();
    let mut total = 0;
    walk(dir, &mut |step| {
        let Step::Entry { dir, name, path, .. } = step else {
            return Ok(());
        };
        let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            result => result.with_context(|| shown(path))?,
        };
        if stat.st_nlink == 1 || linked.insert((stat.st_dev, stat.st_ino)) {
            total += u64::try_from(stat.st_size).unwrap_or_default();
        }
        Ok(())
    })?;
    Ok(total)
}
