//! What a directory is that a layer changes without an entry of its own. overlayfs shows the topmost layer's directory
//! with that one's attributes; so it must have those of the nearest layer below that has the directory, or a layer
//! that only brings `/tmp/x` would close `/tmp` to everybody.

use crate::error::{Context, Result};
use crate::layer::pax::Time;
use crate::layer::unpack::timestamps;
use crate::layer::{shown, whiteout, xattr};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, fchmod, fchown, fstat,
    futimens, openat, openat2, statat,
};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

const PLACE: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
const INSIDE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Gives each directory `implied` of the unpacked layer `diff` the mode, owner, times and attributes that it has in the
/// layers below, `lowers`, base first. One that is in none has what unpacking gave it, and the time 0: what is unpacked
/// twice is the same twice. Nothing may be put into the directories afterwards.
pub(crate) fn inherit(diff: BorrowedFd<'_>, implied: &[Vec<u8>], lowers: &[PathBuf]) -> Result<()> {
    if implied.is_empty() {
        return Ok(());
    }
    let lowers = open(lowers)?;
    for path in implied {
        one(diff, path, &lowers).with_context(|| shown(path))?;
    }
    Ok(())
}

/// The layers, base first, as places, topmost first.
pub(super) fn open(lowers: &[PathBuf]) -> Result<Vec<OwnedFd>> {
    let open = |lower: &PathBuf| openat(CWD, lower, PLACE, Mode::empty()).with_context(|| lower.display().to_string());
    lowers.iter().rev().map(open).collect()
}

fn one(diff: BorrowedFd<'_>, path: &[u8], lowers: &[OwnedFd]) -> Result<()> {
    let name = if path.is_empty() { b"." } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat2(diff, name, flags, Mode::empty(), INSIDE).context("open directory")?;
    let Some(below) = find(name, lowers)? else {
        return futimens(&directory, &timestamps(Time::default())).context("set time");
    };
    let stat = fstat(&below)?;
    fchown(
        &directory,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )
    .context("set owner")?;
    fchmod(&directory, Mode::from_raw_mode(stat.st_mode)).context("set mode")?;
    for xattr in xattr::all(below.as_fd(), b"")? {
        xattr::set(directory.as_fd(), b"", &xattr)?;
    }
    let time = |tv_sec, nsec: u64| Timespec {
        tv_sec,
        tv_nsec: nsec.try_into().unwrap_or_default(),
    };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    futimens(&directory, &times).context("set time")
}

/// The directory as the layers, topmost first, show it.
pub(super) fn find(path: &[u8], lowers: &[OwnedFd]) -> Result<Option<OwnedFd>> {
    for lower in lowers {
        match openat2(lower, path, PLACE, Mode::empty(), INSIDE) {
            Ok(found) => return Ok(Some(found)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(e) => return Err(e.into()),
        }
        if hides(lower, path)? {
            return Ok(None);
        }
    }
    Ok(None)
}

/// Whether a layer without this directory hides it from below: something else is in its place or on the way, or a
/// directory on the way is opaque.
pub(super) fn hides(lower: &OwnedFd, path: &[u8]) -> Result<bool> {
    let mut at = openat(lower, c".", PLACE, Mode::empty())?;
    for name in path.split(|b| *b == b'/') {
        if whiteout::is_opaque(at.as_fd(), b"")? {
            return Ok(true);
        }
        match statat(&at, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {}
            Ok(_) => return Ok(true),
            Err(Errno::NOENT) => return Ok(false),
            Err(e) => return Err(e.into()),
        }
        at = openat(&at, name, PLACE, Mode::empty())?;
    }
    Ok(false)
}
