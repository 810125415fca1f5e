//! A path of `cp`, on the host or in a container, as a directory that is open and a name in it. Links are followed one
//! by one below the root, so that none leads out of a container, whoever changes it meanwhile (CVE-2018-15664,
//! CVE-2019-10152).

use crate::error::{Context as _, Error, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat2, readlinkat, statat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// As the kernel's own limit.
const MOST_LINKS: usize = 40;

/// Where a path begins.
#[derive(Clone, Copy)]
pub(super) struct Base<'a> {
    pub(super) root: BorrowedFd<'a>,
    /// Links of /proc, such as /dev/stdin's, mean something on the host only.
    pub(super) host: bool,
}

impl Base<'_> {
    fn resolve(self) -> ResolveFlags {
        match self.host {
            true => ResolveFlags::IN_ROOT,
            false => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        }
    }

    fn open(self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path: &[u8] = if path.is_empty() { b"/" } else { path };
        crate::sys::tree::look_up(self.root, path, flags, self.resolve())
    }
}

/// What stands at a path.
pub(super) enum Place {
    /// A directory, and open. `None` of a name that it could have in a copy: it is the root, or was named by `..`.
    Directory { fd: OwnedFd, name: Option<CString> },
    /// Anything else: a name in a directory.
    Entry {
        parent: OwnedFd,
        name: CString,
        kind: FileType,
    },
    /// Nothing, but it could be: a free name in a directory.
    Free { parent: OwnedFd, name: CString },
    /// Not even the directory around it.
    Nowhere,
}

/// What was written: `path` absolute, as words.
pub(super) struct Written<'a> {
    /// Without closing slashes and dots.
    stem: &'a [u8],
    /// Closed by `/`, `/.` or `/..`.
    pub(super) directory: bool,
    /// Closed by `/.`.
    pub(super) contents: bool,
}

impl<'a> Written<'a> {
    pub(super) fn of(path: &'a Path) -> Self {
        let text = path.as_os_str().as_bytes();
        let mut stem = text;
        loop {
            if let Some(rest) = stem.strip_suffix(b"/") {
                stem = rest;
            } else if stem.ends_with(b"/.") || stem == b"." {
                stem = &stem[..stem.len() - 1];
            } else {
                break;
            }
        }
        Written {
            stem,
            directory: stem.len() < text.len() || last(stem) == b"..",
            contents: text.ends_with(b"/.") || text == b".",
        }
    }
}

fn last(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or_default()
}

/// Finds it. A link at the end is followed if `follow`, and always where a directory is asked for.
pub(super) fn find(base: Base<'_>, written: &Written<'_>, follow: bool) -> Result<Place> {
    const PLACE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);
    const READ: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);
    let mut path = [b"/", written.stem].concat();
    let own_name = CString::new(last(written.stem)).map_err(|_| Error::usage("a path with a NUL"))?;
    for _ in 0..MOST_LINKS {
        let name = last(&path).to_vec();
        if matches!(name.as_slice(), b"" | b"." | b"..") {
            let fd = base.open(&path, READ)?;
            let plain = !matches!(own_name.to_bytes(), b"" | b"." | b"..");
            let name = plain.then_some(own_name);
            return Ok(Place::Directory { fd, name });
        }
        let around = path[..path.len() - name.len()].to_vec();
        let parent = match base.open(&around, PLACE) {
            Err(Errno::NOENT) => return Ok(Place::Nowhere),
            opened => opened?,
        };
        let name = CString::new(name).map_err(|_| Error::usage("a path with a NUL"))?;
        let kind = match statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(Place::Free { parent, name }),
            stat => FileType::from_raw_mode(stat?.st_mode),
        };
        match kind {
            FileType::Symlink if follow || written.directory => {
                let target = readlinkat(&parent, &name, Vec::new())?.into_bytes();
                path = match target.starts_with(b"/") {
                    true => target,
                    false => [&around[..], &target].concat(),
                };
                while path.len() > 1 && path.ends_with(b"/") {
                    path.pop();
                }
            }
            FileType::Directory => {
                return Ok(Place::Directory {
                    fd: open_below(parent.as_fd(), &name)?,
                    name: Some(own_name),
                });
            }
            kind => return Ok(Place::Entry { parent, name, kind }),
        }
    }
    Err(Error::from(Errno::LOOP)).with_context(|| String::from_utf8_lossy(written.stem).into_owned())
}

/// What is mounted there is entered; a link that was put there a moment ago is not followed.
fn open_below(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat2(
        parent,
        name,
        flags,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_slashes_and_dots() {
        for (text, stem, directory, contents) in [
            ("/a/b", "/a/b", false, false),
            ("/a/b/", "/a/b", true, false),
            ("/a/b//", "/a/b", true, false),
            ("/a/b/.", "/a/b", true, true),
            ("/a/b/./", "/a/b", true, false),
            ("/", "", true, false),
            ("/.", "", true, true),
            (".", "", true, true),
            ("a/..", "a/..", true, false),
            ("a.", "a.", false, false),
            ("/a/.b", "/a/.b", false, false),
        ] {
            let written = Written::of(Path::new(text));
            assert_eq!(
                (
                    String::from_utf8_lossy(written.stem).as_ref(),
                    written.directory,
                    written.contents
                ),
                (stem, directory, contents),
                "{text}"
            );
        }
    }
}
