//! The directory an archive is unpacked into. Nothing is ever touched outside it.
//!
//! A directory is known by its path below the root with every symbolic link resolved. The kernel opens a path that has
//! no link in one call (`RESOLVE_NO_SYMLINKS`); one that has is walked name by name, each opened without following, and
//! links are read and taken as relative to the root. So a link that points out of the tree leads to a place inside it,
//! as it would in the container, and a descriptor kept open never stands for another path than its own.

use crate::error::{Context, Error, Result};
use crate::layer::shown;
use crate::layer::walk::{Step, walk};
use crate::layer::{tar_split::Recorder, whiteout};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, mkdirat, openat2, readlinkat, statat, unlinkat};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// As the kernel's own limit.
const MOST_LINKS: usize = 40;
/// Directories kept open; when they are more, all are closed.
const MOST_OPEN: usize = 256;

/// Bytes of names and attributes of all directories together: those of a million directories are fewer.
const MOST_REMEMBERED: usize = 256 << 20;

const INSIDE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_XDEV)
    .union(ResolveFlags::NO_MAGICLINKS);

/// A directory of the tree: where it really is, and open.
#[derive(Clone)]
pub(super) struct Directory {
    pub(super) path: Rc<[u8]>,
    fd: Rc<OwnedFd>,
}

impl Directory {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The path of what is called `name` in here.
    pub(super) fn join(&self, name: &[u8]) -> Vec<u8> {
        join(&self.path, name)
    }
}

/// The tree; `T` is what is to be done to a directory when all is in place.
pub(super) struct Tree<T> {
    root: Directory,
    open: HashMap<Rc<[u8]>, Directory>,
    resolve: ResolveFlags,
    /// The path asked for last that has a link in it, and where it led.
    last: Option<(Vec<u8>, Directory)>,
    pub(super) later: BTreeMap<Vec<u8>, T>,
    /// Directories made for what is in them.
    pub(super) implied: BTreeSet<Vec<u8>>,
    /// Bytes of regular files that were replaced, as long as single files were.
    pub(super) replaced: u64,
    /// A directory was replaced, so that only a walk can say how large the tree is.
    pub(super) recount: bool,
    /// Bytes of what is in `later` and `implied`, or was.
    remembered: usize,
}

impl<T> Tree<T> {
    pub(super) fn new(root: BorrowedFd<'_>) -> Result<Self> {
        Self::open(root, INSIDE)
    }

    /// What is mounted in it belongs to it.
    pub(super) fn with_mounts(root: BorrowedFd<'_>) -> Result<Self> {
        Self::open(root, INSIDE.difference(ResolveFlags::NO_XDEV))
    }

    fn open(root: BorrowedFd<'_>, resolve: ResolveFlags) -> Result<Self> {
        let fd = openat2(root, c".", FLAGS, Mode::empty(), resolve).context("open directory")?;
        let root = Directory {
            path: Rc::from(&b""[..]),
            fd: Rc::new(fd),
        };
        let (open, later) = (HashMap::new(), BTreeMap::new());
        Ok(Tree {
            root,
            open,
            resolve,
            last: None,
            later,
            implied: BTreeSet::new(),
            replaced: 0,
            recount: false,
            remembered: 0,
        })
    }

    pub(super) fn root(&self) -> &Directory {
        &self.root
    }

    /// The directory at `path`, made where it is missing.
    pub(super) fn directory(&mut self, path: &[u8]) -> Result<Directory> {
        if path.is_empty() {
            return Ok(self.root.clone());
        }
        if let Some(directory) = self.open.get(path) {
            return Ok(directory.clone());
        }
        if let Some((_, directory)) = self.last.as_ref().filter(|(known, _)| known == path) {
            return Ok(directory.clone());
        }
        match openat2(&self.root.fd, path, FLAGS, Mode::empty(), self.resolve) {
            Ok(fd) => Ok(self.keep(path, fd)),
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => {
                let directory = self.walk_to(path)?;
                if *directory.path != *path {
                    self.last = Some((path.to_vec(), directory.clone()));
                }
                Ok(directory)
            }
            Err(e) => Err(e.into()),
        }
    }

    fn walk_to(&mut self, path: &[u8]) -> Result<Directory> {
        let mut at = self.root.clone();
        let mut todo: Vec<Vec<u8>> = path.split(|b| *b == b'/').rev().map(<[u8]>::to_vec).collect();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    let up = at.path.iter().rposition(|b| *b == b'/').unwrap_or_default();
                    let up = at.path[..up].to_vec();
                    at = self.directory(&up)?;
                    continue;
                }
                _ => {}
            }
            match self.step(&at, &name)? {
                Ok(next) => at = next,
                Err(target) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Error::from(Errno::LOOP)).with_context(|| shown(&at.join(&name)));
                    }
                    if target.first() == Some(&b'/') {
                        at = self.root.clone();
                    }
                    todo.extend(target.split(|b| *b == b'/').rev().map(<[u8]>::to_vec));
                }
            }
        }
        Ok(at)
    }

    /// One name further: the directory, or the target of a link.
    fn step(&mut self, at: &Directory, name: &[u8]) -> Result<Result<Directory, Vec<u8>>> {
        let path = at.join(name);
        if let Some(known) = self.open.get(path.as_slice()) {
            return Ok(Ok(known.clone()));
        }
        let said = || shown(&path);
        match openat2(&at.fd, name, FLAGS, Mode::empty(), self.resolve) {
            Ok(fd) => Ok(Ok(self.keep(&path, fd))),
            Err(Errno::NOENT) => {
                let directory = self.make(at, name).with_context(said)?;
                self.remember(path.len())?;
                self.implied.insert(path);
                Ok(Ok(directory))
            }
            Err(Errno::LOOP | Errno::NOTDIR) => match readlinkat(&at.fd, name, Vec::new()) {
                Ok(target) => Ok(Err(target.into_bytes())),
                Err(Errno::INVAL) => {
                    let stat = statat(&at.fd, name, AtFlags::SYMLINK_NOFOLLOW).with_context(said)?;
                    if !whiteout::hides(at.fd.as_fd(), name, &stat).with_context(said)? {
                        return Err(Error::from(Errno::NOTDIR)).with_context(said);
                    }
                    // Removed from below, and made anew: what is below stays hidden.
                    unlinkat(&at.fd, name, AtFlags::empty()).with_context(said)?;
                    let directory = self.make(at, name).with_context(said)?;
                    whiteout::make_opaque(directory.fd()).with_context(said)?;
                    Ok(Ok(directory))
                }
                Err(e) => Err(e).with_context(said),
            },
            Err(e) => Err(e).with_context(said),
        }
    }

    /// So many bytes more are kept of a directory until the end.
    pub(super) fn remember(&mut self, bytes: usize) -> Result<()> {
        self.remembered += bytes;
        match self.remembered > MOST_REMEMBERED {
            true => Err(Error::other(format!(
                "the archive's directories have more than {} MiB of names and attributes",
                MOST_REMEMBERED >> 20
            ))),
            false => Ok(()),
        }
    }

    /// A new directory with the mode that one has of which the archive says nothing.
    pub(super) fn make(&mut self, at: &Directory, name: &[u8]) -> Result<Directory, Errno> {
        mkdirat(&at.fd, name, Mode::from(0o755))?;
        let fd = openat2(&at.fd, name, FLAGS, Mode::empty(), self.resolve)?;
        rustix::fs::fchmod(&fd, Mode::from(0o755))?;
        Ok(self.keep(&at.join(name), fd))
    }

    fn keep(&mut self, path: &[u8], fd: OwnedFd) -> Directory {
        if self.open.len() >= MOST_OPEN {
            self.open.clear();
        }
        let directory = Directory {
            path: Rc::from(path),
            fd: Rc::new(fd),
        };
        self.open.insert(directory.path.clone(), directory.clone());
        directory
    }

    /// Makes room for `name`. What was there is remembered by the recorder, and forgotten here.
    pub(super) fn clear(&mut self, at: &Directory, name: &[u8], recorder: Option<&mut Recorder<'_>>) -> Result<()> {
        let stat = statat(&at.fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let path = at.join(name);
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory {
            if let (FileType::RegularFile, Some(recorder)) = (kind, recorder) {
                recorder.lost(at.fd(), name, &path)?;
            }
            if matches!(kind, FileType::RegularFile | FileType::Symlink) && stat.st_nlink == 1 {
                self.replaced += size(&stat);
            }
            self.last = None;
            return Ok(unlinkat(&at.fd, name, AtFlags::empty())?);
        }
        self.recount = true;
        if let Some(recorder) = recorder {
            let directory = openat2(&at.fd, name, FLAGS, Mode::empty(), self.resolve)?;
            walk(directory.as_fd(), &mut |step| match step {
                Step::Entry {
                    dir,
                    name,
                    kind: FileType::RegularFile,
                    path: below,
                } => recorder.lost(dir, name.to_bytes(), &join(&path, below)),
                _ => Ok(()),
            })?;
        }
        self.forget(&path);
        let name = CString::new(name).map_err(|_| Error::other("name with a NUL"))?;
        Ok(crate::sys::tree::remove(at.fd(), &name)?)
    }

    /// Drops what is known of a directory and of all below it.
    fn forget(&mut self, path: &[u8]) {
        let inside = |p: &[u8]| {
            p.strip_prefix(path)
                .is_some_and(|rest| rest.first().is_none_or(|b| *b == b'/'))
        };
        self.open.retain(|p, _| !inside(p));
        self.later.remove(path);
        // '0' comes right behind '/'.
        let (from, to) = ([path, b"/"].concat(), [path, b"0"].concat());
        let below: Vec<_> = self
            .later
            .range(from.clone()..to.clone())
            .map(|(p, _)| p.clone())
            .collect();
        below.iter().for_each(|p| drop(self.later.remove(p)));
        let below: Vec<_> = self.implied.range(from..to).cloned().collect();
        self.implied.remove(path);
        below.iter().for_each(|p| _ = self.implied.remove(p));
        self.last = None;
    }
}

const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(path.len() + 1 + name.len());
    if !path.is_empty() {
        joined.extend_from_slice(path);
        joined.push(b'/');
    }
    joined.extend_from_slice(name);
    joined
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or_default()
}
