//! What a source is made of: one look at every file of it that no rule leaves out, without reading any.
//!
//! Directories are gone through breadth first, each opened by its path from the source's root without following a link,
//! entries by name. So the order, and with it the digest, depends on the names alone.

use super::find::Found;
use super::{Owners, Tree, shown};
use crate::build::content::{Content, Fold, Memo, Stamp, digest_of_xattrs, is_trusted, of_file, tick};
use crate::build::ignore::{Above, Ignore};
use crate::error::{Context as _, Error, Result};
use crate::layer::xattr;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat, openat, openat2, readlinkat, statat};
use rustix::io::Errno;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(super) const INSIDE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// A person's own tree; what is kept of each entry until the end must have a bound.
const MOST_ENTRIES: usize = 10_000_000;
/// More threads than these only wait for the disk.
const MOST_THREADS: usize = 8;

/// One thing to copy.
#[derive(Debug)]
pub(super) struct Entry {
    /// Below the scan's directory; of a single file its name there.
    pub(super) path: Vec<u8>,
    pub(super) kind: FileType,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) rdev: u64,
    pub(super) nlink: u64,
    pub(super) atime: (i64, i64),
    pub(super) mtime: (i64, i64),
    pub(super) id: (u64, u64),
    pub(super) stamp: Stamp,
    /// Of a symbolic link.
    pub(super) link: Vec<u8>,
    /// The directory it stands in, if that is an entry.
    parent: Option<usize>,
    kept: bool,
    /// As far as it is known.
    pub(super) content: OnceLock<Content>,
}

/// A source, looked at.
pub(super) struct Scan {
    /// What the entries' paths are relative to.
    pub(super) dir: OwnedFd,
    pub(super) entries: Vec<Entry>,
    /// One file and not what is in a directory.
    pub(super) single: bool,
    /// Something was ignored.
    pub(super) left_out: bool,
}

/// What is left out, besides what the tree itself ignores.
#[derive(Default)]
pub(super) struct Filter {
    /// `--exclude`
    pub(super) exclude: Ignore,
    /// `--parents`: nothing else is wanted; what its pattern begins with, up to the first wildcard.
    pub(super) include: Option<(Ignore, Vec<u8>)>,
}

impl Filter {
    fn may_hold(&self, path: &[u8]) -> bool {
        let Some((_, prefix)) = &self.include else { return true };
        let (short, long) = match path.len() < prefix.len() {
            true => (path, prefix.as_slice()),
            false => (prefix.as_slice(), path),
        };
        long.starts_with(short) && (short.is_empty() || long.get(short.len()).is_none_or(|b| *b == b'/'))
    }
}

struct Folder {
    path: Vec<u8>,
    entry: Option<usize>,
    ignore: Above,
    exclude: Above,
    include: Above,
}

impl Scan {
    /// One file, link or device.
    pub(super) fn single(from: &Tree<'_>, found: &Found) -> Result<Scan> {
        let (dir, name) = found.place().ok_or_else(|| Error::from(Errno::ISDIR))?;
        let dir = openat(dir, c".", DIRECTORY, Mode::empty())?;
        let memo = from.memo.filter(|_| is_trusted(dir.as_fd()));
        let entry = look(dir.as_fd(), name, name.to_vec(), &found.stat, memo)?;
        let mut entry = entry.ok_or_else(|| Error::other("is a socket"))?;
        entry.kept = true;
        Ok(Scan {
            dir,
            entries: vec![entry],
            single: true,
            left_out: false,
        })
    }

    /// All that is in the directory `found`.
    pub(super) fn contents(from: &Tree<'_>, found: &Found, filter: &Filter) -> Result<Scan> {
        let dir = openat(found.fd(), c".", DIRECTORY, Mode::empty())?;
        let base = found.path();
        let none = Ignore::default();
        let ignore = from.ignore.unwrap_or(&none);
        let (ignored, above) = ignore.look_from_root(&base);
        let mut entries: Vec<Entry> = Vec::new();
        let mut queue = VecDeque::from([Folder {
            path: Vec::new(),
            entry: None,
            ignore: above,
            exclude: Above::default(),
            include: Above::default(),
        }]);
        if ignored && ignore.is_final() {
            queue.clear();
        }
        let memo = from.memo.filter(|_| is_trusted(dir.as_fd()));
        let mut left_out = ignored;
        while let Some(folder) = queue.pop_front() {
            let fd = match folder.path.is_empty() {
                true => openat(&dir, c".", DIRECTORY, Mode::empty()),
                false => openat2(&dir, folder.path.as_slice(), DIRECTORY, Mode::empty(), INSIDE),
            };
            let fd = match fd {
                // Gone since its name was read, or something else now: as if it had never been.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                fd => fd.with_context(|| shown(&folder.path))?,
            };
            for name in names(&fd).with_context(|| shown(&folder.path))? {
                let path = join(&folder.path, &name);
                let (ignored, ignore_below) = match ignore.is_empty() {
                    true => (false, Above::default()),
                    false => ignore.look(&join(&base, &path), &folder.ignore),
                };
                let (excluded, exclude_below) = match filter.exclude.is_empty() {
                    true => (false, Above::default()),
                    false => filter.exclude.look(&path, &folder.exclude),
                };
                let (included, include_below) = match &filter.include {
                    None => (true, Above::default()),
                    Some((include, _)) => include.look(&path, &folder.include),
                };
                left_out |= ignored;
                let closed = ignored && ignore.is_final() || excluded && filter.exclude.is_final();
                if closed || !filter.may_hold(&path) {
                    continue;
                }
                let stat = match statat(&fd, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
                    Err(Errno::NOENT) => continue,
                    stat => stat.with_context(|| shown(&path))?,
                };
                let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                let kept = included && !ignored && !excluded;
                if !kept && !is_directory {
                    continue;
                }
                let Some(mut entry) =
                    look(fd.as_fd(), &name, path.clone(), &stat, memo).with_context(|| shown(&path))?
                else {
                    continue;
                };
                entry.parent = folder.entry;
                entries.push(entry);
                if entries.len() > MOST_ENTRIES {
                    return Err(Error::other(format!("more than {MOST_ENTRIES} files")));
                }
                let this = entries.len() - 1;
                if kept {
                    keep(&mut entries, this);
                }
                if is_directory {
                    queue.push_back(Folder {
                        path,
                        entry: Some(this),
                        ignore: ignore_below,
                        exclude: exclude_below,
                        include: include_below,
                    });
                }
            }
        }
        entries.retain(|e| e.kept);
        Ok(Scan {
            dir,
            entries,
            single: false,
            left_out,
        })
    }

    pub(super) fn open(&self, path: &[u8]) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        openat2(&self.dir, path, flags, Mode::empty(), INSIDE)
            .map(File::from)
            .with_context(|| shown(path))
    }

    /// Reads what is not known yet.
    pub(super) fn read(&self, memo: Option<&Memo>) -> Result<()> {
        let memo = memo.filter(|_| is_trusted(self.dir.as_fd()));
        let unknown = |e: &&Entry| e.kind == FileType::RegularFile && e.content.get().is_none();
        let unknown: Vec<&Entry> = self.entries.iter().filter(unknown).collect();
        let next = AtomicUsize::new(0);
        let work = || -> Result<()> {
            let mut buffer = Vec::new();
            while let Some(entry) = unknown.get(next.fetch_add(1, Ordering::Relaxed)) {
                let content = self
                    .open(&entry.path)
                    .and_then(|file| of_file(&file, memo, &mut buffer).with_context(|| shown(&entry.path)))?;
                let _ = entry.content.set(content);
            }
            Ok(())
        };
        in_parallel(unknown.len(), &work)
    }

    /// Of all entries: `of` says what a file's content is. Names of one file count as such, since copies are so too.
    pub(super) fn fold(&self, fold: &mut Fold, owners: Owners, of: impl Fn(usize, &Entry) -> Option<Content>) {
        fold.add(if self.single { b"one" } else { b"all" });
        let mut first_names: HashMap<(u64, u64), usize> = HashMap::new();
        for (n, entry) in self.entries.iter().enumerate() {
            // A single file is called what the instruction says: the caller adds it.
            fold.add(if self.single { b"" } else { &entry.path });
            fold.add(&(entry.kind.as_raw_mode() | entry.mode).to_le_bytes());
            if owners == Owners::Kept {
                fold.add(&[entry.uid.to_le_bytes(), entry.gid.to_le_bytes()].concat());
            }
            fold.add(&entry.link);
            if matches!(entry.kind, FileType::CharacterDevice | FileType::BlockDevice) {
                fold.add(&entry.rdev.to_le_bytes());
            }
            if let Some(content) = of(n, entry) {
                fold.add(&content.bytes);
                fold.add(&content.xattrs);
            }
            if entry.kind == FileType::RegularFile && entry.nlink > 1 {
                let first = *first_names.entry(entry.id).or_insert(n);
                if first != n {
                    fold.add(b"link");
                    fold.add(&self.entries[first].path);
                }
            }
        }
    }
}

/// Runs `work` on several threads if there is enough to do, and waits for all of them. The first error.
pub(super) fn in_parallel(pieces: usize, work: &(dyn Fn() -> Result<()> + Sync)) -> Result<()> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = processors.min(MOST_THREADS).min(pieces / 16 + 1);
    if threads < 2 {
        return work();
    }
    std::thread::scope(|scope| {
        let start = |n| {
            std::thread::Builder::new()
                .name(format!("copy {n}"))
                .spawn_scoped(scope, work)
        };
        let others: Vec<_> = (1..threads).map(start).collect();
        let mut result = work();
        // One that could not be started had no work of its own.
        for other in others.into_iter().flatten() {
            let joined = other
                .join()
                .unwrap_or_else(|_| Err(Error::other("a copying thread panicked")));
            result = result.and(joined);
        }
        result
    })
}

fn keep(entries: &mut [Entry], mut this: usize) {
    while !std::mem::replace(&mut entries[this].kept, true) {
        match entries[this].parent {
            Some(parent) => this = parent,
            None => break,
        }
    }
}

/// `None`: a socket, which is nothing without who listens.
fn look(dir: BorrowedFd<'_>, name: &[u8], path: Vec<u8>, stat: &Stat, memo: Option<&Memo>) -> Result<Option<Entry>> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    let content = OnceLock::new();
    let stamp = Stamp::of(stat);
    let mut link = Vec::new();
    match kind {
        FileType::Socket | FileType::Unknown => return Ok(None),
        FileType::Symlink => {
            link = match readlinkat(dir, name, Vec::new()) {
                Err(Errno::NOENT | Errno::INVAL) => return Ok(None),
                link => link?.into_bytes(),
            };
        }
        FileType::CharacterDevice if stat.st_rdev == 0 => {
            return Err(Error::other(
                "is a character device 0/0, which stands for a removed file in a layer",
            ));
        }
        _ => {}
    }
    match memo.and_then(|m| m.get(&stamp)) {
        Some(known) => drop(content.set(known)),
        None if kind == FileType::RegularFile => {}
        None => {
            let before = tick();
            let only = Content {
                bytes: [0; 32],
                xattrs: digest_of_xattrs(&xattr::of_archives(dir, name)?),
            };
            if let Some(memo) = memo {
                memo.put(stamp, only, before);
            }
            let _ = content.set(only);
        }
    }
    Ok(Some(Entry {
        path,
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: stat.st_rdev,
        nlink: stat.st_nlink,
        atime: (stat.st_atime, stat.st_atime_nsec.try_into().unwrap_or_default()),
        mtime: (stat.st_mtime, stat.st_mtime_nsec.try_into().unwrap_or_default()),
        id: (stat.st_dev, stat.st_ino),
        stamp,
        link,
        parent: None,
        kept: false,
        content,
    }))
}

/// Sorted, byte for byte.
pub(super) fn names(dir: &OwnedFd) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    let mut buffer = [MaybeUninit::uninit(); 32 * 1024];
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

pub(super) fn join(base: &[u8], path: &[u8]) -> Vec<u8> {
    match (base.is_empty(), path.is_empty()) {
        (true, _) => path.to_vec(),
        (_, true) => base.to_vec(),
        _ => [base, b"/", path].concat(),
    }
}
