//! The reading half of a copy: what the walk meets becomes a job for the thread that makes copies.

use super::{BUFFER, Files, Job, Marks, Options, SMALL, There};
use crate::error::{Error, Result};
use crate::layer::walk::Step;
use crate::layer::whiteout;
use crate::layer::xattr::{self, Xattr};
use crate::sys;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, linkat, openat, readlinkat, statat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::FileExt as _;

/// Reads what a step of the walk meets.
pub(super) fn step_job<'a>(options: &'a Options<'a>, root_id: (u64, u64), step: &Step<'_>) -> Result<Option<Job<'a>>> {
    match *step {
        Step::Entry { dir, name, kind, path } => {
            let stat = || statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
            let is_mark = match options.there == There::Lowers || options.marks != Marks::None {
                true => whiteout::hides(dir, name.to_bytes(), &stat()?)?,
                false => false,
            };
            let made = match is_mark {
                true => mark(options, name),
                false => read(options, (dir, name), kind, (name, path))?,
            };
            if options.there != There::Lowers {
                return Ok(made);
            }
            // What lower layers have where this one has something else than a directory.
            let name = name.to_owned();
            Ok(Some(Box::new(move |copy| {
                sys::tree::remove(copy.at.as_fd(), &name)?;
                made.map_or(Ok(()), |made| made(copy))
            })))
        }
        Step::Enter { dir, name, .. } => {
            let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if (stat.st_dev, stat.st_ino) == root_id {
                return Err(Error::usage("cannot copy a directory into itself"));
            }
            let layered = options.there == There::Lowers || options.marks != Marks::None;
            let opaque = layered && whiteout::is_opaque(dir, name.to_bytes())?;
            let name = name.to_owned();
            Ok(Some(Box::new(move |copy| copy.enter(&name, opaque))))
        }
        Step::Leave { dir, name, path } => {
            let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let xattrs = xattr::all(dir, name.to_bytes())?;
            let path = path.to_vec();
            Ok(Some(Box::new(move |copy| copy.leave(&stat, &xattrs, &path))))
        }
    }
}

/// A mark of a removed name only says that it is gone; the copy of a layer says so too.
fn mark<'a>(options: &Options<'_>, name: &CStr) -> Option<Job<'a>> {
    match options.marks {
        Marks::None => None,
        Marks::Overlay => {
            let name = name.to_owned();
            Some(Box::new(move |copy| {
                Ok(whiteout::make(copy.at.as_fd(), name.to_bytes())?)
            }))
        }
        Marks::Aufs => {
            let mark = whiteout::mark_of(name.to_bytes());
            Some(Box::new(move |copy| Ok(whiteout::make_file(copy.at.as_fd(), &mark)?)))
        }
    }
}

/// What something that is no directory has besides what stat(2) says.
pub(super) struct More {
    pub(super) target: Option<CString>,
    pub(super) xattrs: Vec<Xattr>,
}

/// Reads something that is no directory; it goes to `as_name` of the directory that is being filled, at `path` below the
/// root. `None` if there is nothing to copy.
pub(super) fn read<'a>(
    options: &'a Options<'a>,
    (dir, name): (BorrowedFd<'_>, &CStr),
    kind: FileType,
    (as_name, path): (&CStr, &[u8]),
) -> Result<Option<Job<'a>>> {
    let (as_name, path) = (as_name.to_owned(), path.to_vec());
    if kind == FileType::RegularFile {
        return read_file(options, (dir, name), (as_name, path));
    }
    let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(None),
        result => result?,
    };
    let kind = FileType::from_raw_mode(stat.st_mode);
    let target = match kind {
        FileType::RegularFile => return read_file(options, (dir, name), (as_name, path)),
        FileType::Symlink => Some(readlinkat(dir, name, Vec::new())?),
        FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo => None,
        _ => return Ok(None),
    };
    let xattrs = xattr::all(dir, name.to_bytes())?;
    let more = More { target, xattrs };
    Ok(Some(Box::new(move |copy| {
        match copy.has_its_link(&stat, &as_name, &path)? {
            true => Ok(()),
            false => copy.node(kind, &stat, &as_name, &more),
        }
    })))
}

fn read_file<'a>(
    options: &'a Options<'a>,
    (dir, name): (BorrowedFd<'_>, &CStr),
    (as_name, path): (CString, Vec<u8>),
) -> Result<Option<Job<'a>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let from = match openat(dir, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        opened => File::from(opened?),
    };
    let stat = fstat(&from)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::other("changed while it was copied"));
    }
    if options.files == Files::Linked {
        let (dir, name) = (dir.try_clone_to_owned()?, name.to_owned());
        return Ok(Some(Box::new(move |copy| {
            match linkat(&dir, &name, &copy.at, &as_name, AtFlags::empty()) {
                // As many names as the filesystem has for one file; another filesystem; one that has no links.
                Err(Errno::MLINK | Errno::XDEV | Errno::PERM | Errno::OPNOTSUPP) => {
                    copy.file(&from, &stat, &as_name, (None, &xattr::of_file(&from)?))
                }
                linked => Ok(linked?),
            }
        })));
    }
    let content = match u64::try_from(stat.st_size).is_ok_and(|size| size <= SMALL) {
        true => Some(whole(&from, &stat)?),
        false => None,
    };
    let xattrs = xattr::of_file(&from)?;
    Ok(Some(Box::new(move |copy| {
        match copy.has_its_link(&stat, &as_name, &path)? {
            true => Ok(()),
            false => copy.file(&from, &stat, &as_name, (content, &xattrs)),
        }
    })))
}

/// The content of a small file. Its size is what the file says of itself, which one of /proc does not know.
fn whole(from: &File, stat: &Stat) -> Result<Vec<u8>> {
    let size = usize::try_from(stat.st_size).unwrap_or_default();
    let mut bytes = vec![0; if size == 0 { BUFFER } else { size }];
    let mut length = 0;
    loop {
        let n = match from.read_at(&mut bytes[length..], length as u64) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        length += n;
        if n == 0 || length == size {
            bytes.truncate(length);
            return Ok(bytes);
        }
        if length == bytes.len() {
            bytes.resize(length + BUFFER, 0);
        }
    }
}
