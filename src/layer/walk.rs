//! Going through a directory tree of any depth without following a link, leaving its filesystem, or running out of
//! stack or descriptors.

use crate::error::{Context, Error, Result};
use crate::layer::shown;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, fstat, openat2, statat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Directories held open at once; those further up are opened again, by `..`, on the way back.
const MOST_OPEN: usize = 64;

/// What a walk meets. A directory's other entries come before its subdirectories.
pub(super) enum Step<'a> {
    /// Anything but a directory.
    Entry {
        dir: BorrowedFd<'a>,
        name: &'a CStr,
        kind: FileType,
        path: &'a [u8],
    },
    /// A directory, before what is in it.
    Enter {
        dir: BorrowedFd<'a>,
        name: &'a CStr,
        path: &'a [u8],
    },
    /// The same directory again, after what is in it.
    Leave {
        dir: BorrowedFd<'a>,
        name: &'a CStr,
        path: &'a [u8],
    },
}

struct Level {
    fd: Option<OwnedFd>,
    /// Device and inode, by which a directory that is opened again is known.
    id: (u64, u64),
    name: CString,
    /// Subdirectories still to come.
    rest: Vec<CString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As the filesystem has them.
    Any,
    /// By name, byte for byte; a directory's other entries still come before its subdirectories.
    Sorted,
}

/// What a walk does at a mount point.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Mounts {
    /// An error: a layer has none.
    #[default]
    Refuse,
    /// Goes on inside, but for the kernel's own filesystems, which are empty directories then.
    Enter,
}

/// Walks through what is in `root`, which itself is not a step. Paths are relative to it.
pub(super) fn walk(root: BorrowedFd<'_>, visit: &mut dyn FnMut(Step<'_>) -> Result<()>) -> Result<()> {
    walk_in(Order::Any, Mounts::Refuse, root, visit)
}

/// The same, in an order that depends on the names alone.
pub(super) fn walk_sorted(root: BorrowedFd<'_>, visit: &mut dyn FnMut(Step<'_>) -> Result<()>) -> Result<()> {
    walk_in(Order::Sorted, Mounts::Refuse, root, visit)
}

/// What a container sees, its mounts included.
pub(super) fn walk_in(
    order: Order,
    mounts: Mounts,
    root: BorrowedFd<'_>,
    visit: &mut dyn FnMut(Step<'_>) -> Result<()>,
) -> Result<()> {
    let mut path = Vec::new();
    let root = open_dir(root, c".").context("open directory")?;
    let mut levels = vec![level(root, CString::default(), &mut path, order, visit)?];
    while let Some(top) = levels.last_mut() {
        let Some(name) = top.rest.pop() else {
            leave(&mut levels, &mut path, visit)?;
            continue;
        };
        let length = path.len();
        push(&mut path, &name);
        let dir = top.fd.as_ref().ok_or_else(|| lost(&path))?.as_fd();
        let mut mounted = Inside::Entries;
        let opened = match open_dir(dir, &name) {
            Err(Errno::XDEV) if mounts == Mounts::Enter => {
                let opened = openat2(dir, &name, FLAGS, Mode::empty(), ResolveFlags::NO_SYMLINKS);
                if let Ok(root) = &opened
                    && is_the_kernels(root).with_context(|| shown(&path))?
                {
                    mounted = Inside::Nothing;
                }
                opened
            }
            other => other,
        };
        let this = match opened {
            Err(Errno::XDEV) => return Err(Error::other(format!("{}: is a mount point", shown(&path)))),
            Err(Errno::NOENT) => {
                path.truncate(length);
                continue;
            }
            result => result.with_context(|| shown(&path))?,
        };
        visit(Step::Enter {
            dir,
            name: &name,
            path: &path,
        })?;
        levels.push(match mounted {
            Inside::Entries => level(this, name, &mut path, order, visit)?,
            Inside::Nothing => Level {
                id: id(&fstat(&this).with_context(|| shown(&path))?),
                fd: Some(this),
                name,
                rest: Vec::new(),
            },
        });
        let depth = levels.len();
        if depth > MOST_OPEN {
            levels[depth - MOST_OPEN - 1].fd = None;
        }
    }
    Ok(())
}

/// What is to be seen of a directory.
enum Inside {
    Entries,
    Nothing,
}

fn id(stat: &rustix::fs::Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Whether the directory is of a filesystem that shows what the kernel knows: nobody copies that (docker does not).
fn is_the_kernels(dir: &OwnedFd) -> Result<bool, Errno> {
    /// linux/magic.h: proc, sysfs, cgroup, cgroup2, devpts, mqueue, debugfs, tracefs, securityfs, bpf.
    const MAGIC: [i64; 10] = [
        0x9fa0,
        0x6265_6572,
        0x0027_e0eb,
        0x6367_7270,
        0x1cd1,
        0x1980_0202,
        0x6462_6720,
        0x7472_6163,
        0x7363_6673,
        0xcafe_4a11,
    ];
    Ok(MAGIC.contains(&rustix::fs::fstatfs(dir)?.f_type))
}

/// Ends the innermost level, and takes the one around it up again.
fn leave(levels: &mut Vec<Level>, path: &mut Vec<u8>, visit: &mut dyn FnMut(Step<'_>) -> Result<()>) -> Result<()> {
    let (Some(done), Some(around)) = (levels.pop(), levels.last_mut()) else {
        return Ok(());
    };
    if around.fd.is_none() {
        let inner = done.fd.as_ref().ok_or_else(|| lost(path))?;
        let fd = rustix::fs::openat(inner, c"..", FLAGS, Mode::empty()).with_context(|| shown(path))?;
        let stat = fstat(&fd).with_context(|| shown(path))?;
        if id(&stat) != around.id {
            return Err(lost(path));
        }
        around.fd = Some(fd);
    }
    drop(done.fd);
    let dir = around.fd.as_ref().ok_or_else(|| lost(path))?.as_fd();
    visit(Step::Leave {
        dir,
        name: &done.name,
        path,
    })?;
    path.truncate(path.len().saturating_sub(done.name.as_bytes().len()));
    if path.last() == Some(&b'/') {
        path.pop();
    }
    Ok(())
}

/// Reads a directory to its end: visits what is in it, and keeps the subdirectories for later.
fn level(
    fd: OwnedFd,
    name: CString,
    path: &mut Vec<u8>,
    order: Order,
    visit: &mut dyn FnMut(Step<'_>) -> Result<()>,
) -> Result<Level> {
    let stat = fstat(&fd).with_context(|| shown(path))?;
    let mut rest = Vec::new();
    let mut waiting = Vec::new();
    let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
    let mut entries = RawDir::new(&fd, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.with_context(|| shown(path))?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => match statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(e).with_context(|| shown(path)),
            },
            known => known,
        };
        match (kind, order) {
            (FileType::Directory, _) => rest.push(name.to_owned()),
            (_, Order::Sorted) => waiting.push((name.to_owned(), kind)),
            (_, Order::Any) => entry_step(fd.as_fd(), name, kind, path, visit)?,
        }
    }
    if order == Order::Sorted {
        waiting.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, kind) in &waiting {
            entry_step(fd.as_fd(), name, *kind, path, visit)?;
        }
        // Taken from the end.
        rest.sort_by(|a, b| b.cmp(a));
    }
    Ok(Level {
        fd: Some(fd),
        id: id(&stat),
        name,
        rest,
    })
}

fn entry_step(
    dir: BorrowedFd<'_>,
    name: &CStr,
    kind: FileType,
    path: &mut Vec<u8>,
    visit: &mut dyn FnMut(Step<'_>) -> Result<()>,
) -> Result<()> {
    let length = path.len();
    push(path, name);
    visit(Step::Entry { dir, name, kind, path })?;
    path.truncate(length);
    Ok(())
}

const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A subdirectory, never through a link or a mount.
pub(super) fn open_dir(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    openat2(
        dir,
        name,
        FLAGS,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV,
    )
}

fn push(path: &mut Vec<u8>, name: &CStr) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name.to_bytes());
}

fn lost(path: &[u8]) -> Error {
    Error::other(format!("{}: moved while it was read", shown(path)))
}
