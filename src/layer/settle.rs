//! Makes a directory that is about to become a layer what an archive of it says: no sockets, and no times later than
//! asked. Afterwards it is packed exactly (`Packed::exact`).

use crate::error::{Context, Result};
use crate::layer::shown;
use crate::layer::walk::{Step, walk};
use rustix::fs::{AtFlags, FileType, Timespec, Timestamps, UTIME_OMIT, statat, unlinkat, utimensat};
use std::ffi::CStr;
use std::os::fd::BorrowedFd;

/// `latest`: seconds since 1970 (`SOURCE_DATE_EPOCH`). What is below `dir` is settled, the directory itself is not.
pub(crate) fn settle(dir: BorrowedFd<'_>, latest: Option<i64>) -> Result<()> {
    walk(dir, &mut |step| match step {
        Step::Entry { dir, name, kind, path } => match (kind, latest) {
            // Nobody listens behind them, and no archive has them.
            (FileType::Socket, _) => unlinkat(dir, name, AtFlags::empty()).with_context(|| shown(path)),
            (_, Some(latest)) => no_later(dir, name, latest).with_context(|| shown(path)),
            _ => Ok(()),
        },
        Step::Enter { .. } => Ok(()),
        Step::Leave { dir, name, path } => match latest {
            Some(latest) => no_later(dir, name, latest).with_context(|| shown(path)),
            None => Ok(()),
        },
    })
}

fn no_later(dir: BorrowedFd<'_>, name: &CStr, latest: i64) -> Result<()> {
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if stat.st_mtime < latest || (stat.st_mtime == latest && stat.st_mtime_nsec == 0) {
        return Ok(());
    }
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: latest,
            tv_nsec: 0,
        },
    };
    utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}
