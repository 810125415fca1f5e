//! `.wh.` names of layer archives (image-spec, layer.md "Whiteouts") ↔ what overlayfs understands: a character device
//! 0/0 for a removed name, an extended attribute for a directory that hides all below it.

use crate::error::{Context, Result};
use crate::layer::xattr;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, XattrFlags, fsetxattr, getxattr, mknodat, openat, setxattr, unlinkat,
};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

const OPAQUE: &str = "trusted.overlay.opaque";
const OPAQUE_NAME: &CStr = c"trusted.overlay.opaque";
/// Marks a removed name on an empty file (Linux 6.7), where a device would be hidden from an overlay inside an overlay.
const REMOVED: &CStr = c"trusted.overlay.whiteout";

/// What a member's last name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    Plain,
    /// The name is gone from the layers below.
    Removes(&'a [u8]),
    /// The directory it stands in hides what is below.
    Opaque,
    /// AUFS' own bookkeeping.
    Bookkeeping,
    /// `.wh.`, `.wh..` or `.wh...`: would remove a directory from inside, or its parent.
    Invalid,
}

pub(super) fn meaning(name: &[u8]) -> Meaning<'_> {
    match name.strip_prefix(b".wh.") {
        None => Meaning::Plain,
        Some(b".wh..opq") => Meaning::Opaque,
        Some(b"" | b"." | b"..") => Meaning::Invalid,
        Some(rest) if rest.starts_with(b".wh.") => Meaning::Bookkeeping,
        Some(rest) => Meaning::Removes(rest),
    }
}

/// Whether a path is of AUFS' own bookkeeping, or in such a directory: `.wh..wh.aufs`, `.wh..wh.plnk/…`, `.wh..wh.orph/…`.
pub(super) fn is_bookkeeping(path: &[u8]) -> bool {
    path.split(|b| *b == b'/')
        .any(|name| matches!(meaning(name), Meaning::Bookkeeping | Meaning::Invalid))
}

/// Whether a file that AUFS has made says that something is gone.
pub(super) fn is_mark(name: &[u8]) -> bool {
    matches!(meaning(name), Meaning::Removes(_) | Meaning::Opaque)
}

/// AUFS' name of what says that all below a directory is hidden.
pub(super) const OPAQUE_MARK: &[u8] = b".wh..wh..opq";

/// The same as an overlay's mark, in the directory `dir` of a branch of AUFS': an empty file (linux/aufs: it links them
/// all to one, and reads any).
pub(super) fn make_file(dir: BorrowedFd<'_>, mark: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, mark, flags, Mode::from_raw_mode(0o444)).map(drop)
}

/// What AUFS' mark of a removed name is called.
pub(super) fn mark_of(name: &[u8]) -> Vec<u8> {
    [b".wh.", name].concat()
}

/// AUFS keeps the files of its hard links here, and old layers link to them.
pub(super) const LINKED_FILES: &[u8] = b".wh..wh.plnk";

/// Marks `name` as removed; `EEXIST` where this layer has it. An overlay takes no such device (ovl_mknod in
/// fs/overlayfs), and has the other mark since Linux 6.7.
pub(super) fn make(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0) {
        Err(Errno::PERM) => {}
        made => return made,
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(dir, name, flags, Mode::empty())?;
    fsetxattr(&file, REMOVED, b"y", XattrFlags::empty()).inspect_err(|_| {
        let _ = unlinkat(dir, name, AtFlags::empty());
    })
}

fn is_one(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// The same as [`hides`], of what is open as a place.
pub(super) fn hides_open(place: &OwnedFd, stat: &Stat) -> Result<bool> {
    if is_one(stat) || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size != 0 {
        return Ok(is_one(stat));
    }
    let path = format!("/proc/self/fd/{}", place.as_raw_fd());
    match getxattr(path, REMOVED, &mut [0; 16]) {
        Ok(_) | Err(Errno::RANGE) => Ok(true),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(false),
        Err(e) => Err(e).with_context(|| format!("read {}", REMOVED.to_string_lossy())),
    }
}

/// Whether an entry of a layer stands for a removed name, in either of overlayfs' ways.
pub(super) fn hides(dir: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> Result<bool> {
    let empty_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size == 0;
    Ok(is_one(stat) || empty_file && xattr::get(dir, name, REMOVED)?.is_some())
}

/// Whether a directory of a layer hides all below it. `x` only says that it has whiteouts of the second kind.
pub(super) fn is_opaque(dir: BorrowedFd<'_>, name: &[u8]) -> Result<bool> {
    Ok(xattr::get(dir, name, OPAQUE_NAME)?.as_deref() == Some(b"y"))
}

/// Lets a directory hide everything that lower layers have in it.
pub(super) fn make_opaque(dir: BorrowedFd<'_>) -> Result<()> {
    let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
    setxattr(path, OPAQUE, b"y", XattrFlags::empty()).with_context(|| format!("set {OPAQUE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_aufs_keeps_for_itself() {
        for (path, bookkeeping, mark) in [
            ("file", false, false),
            ("dir/file", false, false),
            (".wh.file", false, true),
            ("dir/.wh.file", false, true),
            ("dir/.wh..wh..opq", false, true),
            (".wh..wh.aufs", true, false),
            (".wh..wh.plnk", true, false),
            (".wh..wh.plnk/123.456", true, false),
            (".wh..wh.orph/x/y", true, false),
            ("dir/.wh..wh.anything", true, false),
        ] {
            assert_eq!(is_bookkeeping(path.as_bytes()), bookkeeping, "{path}");
            let name = path.rsplit('/').next().unwrap().as_bytes();
            assert_eq!(is_mark(name), mark, "{path}");
        }
        assert_eq!(meaning(&mark_of(b"file")), Meaning::Removes(b"file"));
        assert_eq!(meaning(OPAQUE_MARK), Meaning::Opaque);
    }

    #[test]
    fn names() {
        for (name, expected) in [
            (&b"file"[..], Meaning::Plain),
            (b".whatever", Meaning::Plain),
            (b".wh", Meaning::Plain),
            (b".wh.file", Meaning::Removes(b"file")),
            (b".wh..hidden", Meaning::Removes(b".hidden")),
            (b".wh...", Meaning::Invalid),
            (b".wh..", Meaning::Invalid),
            (b".wh.", Meaning::Invalid),
            (b".wh..wh..opq", Meaning::Opaque),
            (b".wh..wh.plnk", Meaning::Bookkeeping),
            (b".wh..wh.aufs", Meaning::Bookkeeping),
            (b".wh..wh.orph", Meaning::Bookkeeping),
            (b".wh..wh.", Meaning::Bookkeeping),
        ] {
            assert_eq!(meaning(name), expected, "{}", String::from_utf8_lossy(name));
        }
    }
}
