//! Finding a path in a tree, name by name: no link leads out of it, `..` ends at its root, and it may change meanwhile.
//!
//! Each name is opened without following it, from the descriptor of the directory it stands in, and links are read and
//! taken as relative to the root. So the path of what is found is known as it really is, which the kernel's own
//! resolving (openat2) would not say; ignore rules need it.

use super::shown;
use crate::error::{Context as _, Error, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, chownat, fchmod, fstat, mkdirat, openat, readlinkat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// As docker's own.
const MOST_LINKS: usize = 255;

/// Where a path leads: the way with every link resolved.
pub(super) struct Found {
    /// Without the root itself.
    names: Vec<(Vec<u8>, Rc<OwnedFd>)>,
    root: Rc<OwnedFd>,
    /// What the path says and the tree has not; empty if all is there.
    pub(super) missing: Vec<Vec<u8>>,
    /// Of the last thing that is there.
    pub(super) stat: Stat,
}

/// Who gets the directories that are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Owner {
    pub(super) const ROOT: Owner = Owner { uid: 0, gid: 0 };
}

impl Found {
    /// Relative to the root; "" is the root.
    pub(super) fn path(&self) -> Vec<u8> {
        self.names
            .iter()
            .map(|(name, _)| name.as_slice())
            .collect::<Vec<_>>()
            .join(&b'/')
    }

    /// Open only as a place (`O_PATH`).
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.names.last().map_or(&self.root, |(_, fd)| fd).as_fd()
    }

    /// The directory it stands in, and its name there; `None` for the root.
    pub(super) fn place(&self) -> Option<(BorrowedFd<'_>, &[u8])> {
        let (last, above) = self.names.split_last()?;
        let dir = above.last().map_or(&self.root, |(_, fd)| fd);
        Some((dir.as_fd(), &last.0))
    }

    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    pub(super) fn is_directory(&self) -> bool {
        self.missing.is_empty() && self.kind() == FileType::Directory
    }

    /// Makes the directories that are missing, 0755. Whether the last one is new.
    pub(super) fn make(&mut self, owner: Owner) -> Result<bool> {
        let mut fresh = false;
        for name in std::mem::take(&mut self.missing) {
            let at = self.fd();
            match mkdirat(at, name.as_slice(), Mode::from(0o755)) {
                // Somebody was faster; if it is no directory, opening it says so.
                Ok(()) => fresh = true,
                Err(Errno::EXIST) => fresh = false,
                Err(e) => return Err(e).with_context(|| format!("make {}", shown(&name))),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = openat(at, name.as_slice(), flags, Mode::empty()).with_context(|| shown(&name))?;
            fchmod(&fd, Mode::from(0o755))?;
            if owner != Owner::ROOT {
                chown_fd(fd.as_fd(), owner)?;
            }
            self.stat = fstat(&fd)?;
            self.names.push((name, Rc::new(fd)));
        }
        Ok(fresh)
    }
}

fn chown_fd(fd: BorrowedFd<'_>, owner: Owner) -> Result<()> {
    let (uid, gid) = (
        rustix::fs::Uid::from_raw(owner.uid),
        rustix::fs::Gid::from_raw(owner.gid),
    );
    Ok(chownat(fd, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?)
}

/// Follows `path` from `root`, a link at its end too. What is missing is no error, but something that is no directory and is gone through is.
pub(super) fn find(root: BorrowedFd<'_>, path: &[u8]) -> Result<Found> {
    let root = Rc::new(openat(root, c".", PLACE | OFlags::DIRECTORY, Mode::empty()).context("open directory")?);
    let mut found = Found {
        stat: fstat(&*root)?,
        names: Vec::new(),
        root,
        missing: Vec::new(),
    };
    let mut todo: Vec<Vec<u8>> = names(path).rev().collect();
    let mut links = 0;
    while let Some(name) = todo.pop() {
        if name == b".." {
            if found.missing.pop().is_none() {
                found.names.pop();
                found.stat = fstat(found.fd())?;
            }
            continue;
        }
        if !found.missing.is_empty() {
            found.missing.push(name);
            continue;
        }
        let fd = match openat(found.fd(), name.as_slice(), PLACE, Mode::empty()) {
            Err(Errno::NOENT) => {
                found.missing.push(name);
                continue;
            }
            Err(Errno::NOTDIR) => return Err(not_a_directory(&found)),
            result => result.with_context(|| shown(path))?,
        };
        let stat = fstat(&fd)?;
        let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        if is_link {
            links += 1;
            if links > MOST_LINKS {
                return Err(Error::from(Errno::LOOP)).with_context(|| shown(path));
            }
            let target = readlinkat(&fd, c"", Vec::new()).with_context(|| shown(path))?;
            if target.as_bytes().first() == Some(&b'/') {
                found.names.clear();
                found.stat = fstat(found.fd())?;
            }
            todo.extend(names(target.as_bytes()).rev());
            continue;
        }
        found.names.push((name, Rc::new(fd)));
        found.stat = stat;
        let closes = todo.is_empty() && path.last() == Some(&b'/');
        if (closes || !todo.is_empty()) && found.kind() != FileType::Directory {
            return Err(not_a_directory(&found));
        }
    }
    Ok(found)
}

fn not_a_directory(found: &Found) -> Error {
    let path = found.path();
    Error::other(format!("/{}: not a directory", shown(&path)))
}

const PLACE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn names(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> + '_ {
    path.split(|b| *b == b'/')
        .filter(|n| !n.is_empty() && *n != b".")
        .map(<[u8]>::to_vec)
}
