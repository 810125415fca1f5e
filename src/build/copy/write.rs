//! Sources into a stage: where they go, and what they become there.
//!
//! Directories first, then all files on several threads, further names of files that have several, and last what
//! belongs to the directories themselves. Every name is opened by its path below the destination, without following a
//! link, and made anew: what an image has there is never written through.

use super::find::{Owner, find};
use super::mode::Chmod;
use super::scan::{Entry, INSIDE, in_parallel, join};
use super::{Owners, Part, Request, Target, shown, unpack};
use crate::build::content::{Content, Memo, Stamp, digest_of_xattrs, is_trusted, tick};
use crate::error::{Context as _, Error, Result};
use crate::layer::file_copy::{FileCopy, Wanted};
use crate::layer::{set_mode, xattr};
use crate::runtime::user;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, chownat, fchmod, fchown, fstat, ftruncate,
    futimens, linkat, mkdirat, mknodat, openat, openat2, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// Files that a thread takes at once.
const BATCH: usize = 8;

/// `user[:group]` by the stage's own files. As in docker, a number alone is the group as well, and a name alone has the
/// group that passwd gives it.
pub(super) fn owner(names: BorrowedFd<'_>, text: &str) -> Result<Owner> {
    let spec = match text.split_once(':') {
        Some((user, group)) if !user.is_empty() && !group.is_empty() && !group.contains(':') => text.to_owned(),
        None if text.parse::<u32>().is_ok() => format!("{text}:{text}"),
        None if !text.is_empty() => text.to_owned(),
        _ => return Err(Error::other(format!("invalid chown string format: {text}"))),
    };
    let identity = user::identify(names, &spec, &[])?;
    Ok(Owner {
        uid: identity.uid,
        gid: identity.gid,
    })
}

pub(super) struct Writer<'a> {
    pub(super) part: &'a Part,
    pub(super) request: &'a Request,
    pub(super) memo: Option<&'a Memo>,
    pub(super) owners: Owners,
    /// `--chown`
    pub(super) owner: Option<Owner>,
    pub(super) chmod: Option<&'a Chmod>,
}

/// What was written, entry by entry.
type Written = Vec<Option<Content>>;

impl Writer<'_> {
    pub(super) fn write(&self, target: &Target<'_>) -> Result<Written> {
        let (dest, directory) = self.request.destination();
        let made_for = self.owner.unwrap_or(Owner::ROOT);
        let mut place = find(target.tree, dest.as_bytes())?;
        let mut fresh = false;
        let unpacked = self.part.unpack && {
            let file = self.part.scan.open(&self.part.scan.entries[0].path)?;
            unpack::is_archive(&file)
        };
        if !self.part.scan.single || unpacked || directory {
            fresh = place.make(made_for)?;
            if !place.is_directory() {
                return Err(Error::other(format!("cannot copy to non-directory: {dest}")));
            }
        }
        if unpacked {
            let entry = &self.part.scan.entries[0];
            let file = self.part.scan.open(&entry.path)?;
            let into = open_directory(place.fd(), b"")?;
            let content = unpack::unpack(file, into.as_fd()).with_context(|| shown(&self.part.name))?;
            return Ok(vec![Some(content)]);
        }
        let mut into = place.path();
        if !self.part.scan.single {
            let fd = open_directory(place.fd(), b"")?;
            let into = Destination::new(target, (fd.as_fd(), &into), fresh);
            return self.all(&into, |entry| entry.path.clone());
        }
        let name = if place.is_directory() {
            self.part.name.clone()
        } else if let Some(name) = place.missing.pop() {
            fresh = place.make(made_for)?;
            into = place.path();
            name
        } else {
            // Over what is there.
            let Some((dir, name)) = place.place() else {
                return Err(Error::from(Errno::ISDIR)).with_context(|| dest.clone());
            };
            let fd = open_directory(dir, b"")?;
            return self.all(&Destination::new(target, (fd.as_fd(), b""), false), |_| name.to_vec());
        };
        let fd = open_directory(place.fd(), b"")?;
        self.all(&Destination::new(target, (fd.as_fd(), &into), fresh), |_| name.clone())
    }

    /// All entries, each to the path that `to` gives.
    fn all(&self, into: &Destination<'_>, to: impl Fn(&Entry) -> Vec<u8> + Sync) -> Result<Written> {
        let entries = &self.part.scan.entries;
        let said = |n: usize| format!("/{}", shown(&join(into.at, &to(&entries[n]))));
        let mut fresh = HashSet::new();
        let mut files = Vec::new();
        let mut links = Vec::new();
        let mut first_names: HashMap<(u64, u64), usize> = HashMap::new();
        for (n, entry) in entries.iter().enumerate() {
            match entry.kind {
                FileType::Directory => {
                    let path = to(entry);
                    let dest = into.of(&fresh, &path).with_context(|| said(n))?;
                    if make_directory(dest, &path).with_context(|| said(n))? {
                        fresh.insert(path);
                    }
                }
                FileType::RegularFile if entry.nlink > 1 && first_names.contains_key(&entry.id) => {
                    links.push((n, first_names[&entry.id]));
                }
                kind => {
                    if kind == FileType::RegularFile && entry.nlink > 1 {
                        first_names.insert(entry.id, n);
                    }
                    files.push(n);
                }
            }
        }
        let written: Vec<OnceLock<Content>> = entries.iter().map(|_| OnceLock::new()).collect();
        let trusted = self.memo.filter(|_| is_trusted(self.part.scan.dir.as_fd()));
        let next = AtomicUsize::new(0);
        let work = || -> Result<()> {
            let mut copier = FileCopy::default();
            loop {
                let from = next.fetch_add(BATCH, Ordering::Relaxed).min(files.len());
                let batch = &files[from..files.len().min(from + BATCH)];
                if batch.is_empty() {
                    return Ok(());
                }
                for &n in batch {
                    let entry = &entries[n];
                    let path = to(entry);
                    let dest = into.of(&fresh, &path).with_context(|| said(n))?;
                    let copied = match entry.kind {
                        FileType::RegularFile => {
                            let known = (entry, trusted);
                            self.file((dest, &path), known, (&mut copier, into.told))
                        }
                        _ => self.other(dest, entry, &path),
                    };
                    let _ = written[n].set(copied.with_context(|| said(n))?);
                }
            }
        };
        in_parallel(files.len(), &work)?;
        for (n, first) in links {
            let (old, new) = (to(&entries[first]), to(&entries[n]));
            let (from, dest) = (into.of(&fresh, &old)?, into.of(&fresh, &new)?);
            let dest = if from.as_raw_fd() == dest.as_raw_fd() {
                dest
            } else {
                into.dest
            };
            self.link(dest, &old, &new).with_context(|| said(n))?;
            if let Some(content) = written[first].get() {
                let _ = written[n].set(*content);
            }
        }
        for (n, entry) in entries.iter().enumerate().rev() {
            if entry.kind == FileType::Directory {
                let path = to(entry);
                let finished = into
                    .of(&fresh, &path)
                    .and_then(|dest| self.finish_directory(dest, entry, &path));
                finished.with_context(|| said(n))?;
            }
        }
        let known = |(cell, entry): (&OnceLock<Content>, &Entry)| cell.get().or(entry.content.get()).copied();
        Ok(written.iter().zip(entries).map(known).collect())
    }

    fn owner_of(&self, entry: &Entry) -> Owner {
        self.owner.unwrap_or(match self.owners {
            Owners::Root => Owner::ROOT,
            Owners::Kept => Owner {
                uid: entry.uid,
                gid: entry.gid,
            },
        })
    }

    fn mode_of(&self, entry: &Entry) -> u32 {
        match self.chmod {
            Some(chmod) => chmod.apply(entry.mode, entry.kind == FileType::Directory),
            None => entry.mode,
        }
    }

    fn file(
        &self,
        (dest, to): (BorrowedFd<'_>, &[u8]),
        (entry, memo): (&Entry, Option<&Memo>),
        (copier, told): (&mut FileCopy, &dyn Fn(u64)),
    ) -> Result<Content> {
        let from = self.part.scan.open(&entry.path)?;
        let before = tick();
        let stat = fstat(&from)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::other("changed while it was copied"));
        }
        let stamp = Stamp::of(&stat);
        let mode = self.mode_of(entry);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = || openat2(dest, to, flags, Mode::from(mode & 0o777), INSIDE);
        let new = File::from(make_anew(dest, to, create)?);
        // What a context's memo has not confirmed may have changed since; a stage's files are ours alone.
        let known = entry.content.get().filter(|_| entry.stamp == stamp).copied();
        let known = match self.memo {
            Some(_) => known.and(memo).and_then(|m| m.get(&stamp)),
            None => known,
        };
        let mut content = None;
        if let Some(known) = known {
            copier.copy(&from, &new, Wanted::Copy, told)?;
            if Stamp::of(&fstat(&from)?) == stamp {
                content = Some(known);
            } else {
                ftruncate(&new, 0)?;
            }
        }
        let xattrs = match content {
            Some(known) if known.xattrs == [0; 32] => Vec::new(),
            _ => xattr::of_open_archive(&from)?,
        };
        let content = match content {
            Some(known) => known,
            None => {
                let bytes = copier.copy(&from, &new, Wanted::Digest, told)?;
                let read = Content {
                    bytes: bytes.ok_or_else(|| Error::other("no digest"))?,
                    xattrs: digest_of_xattrs(&xattrs),
                };
                if let Some(memo) = memo
                    && Stamp::of(&fstat(&from)?) == stamp
                {
                    memo.put(stamp, read, before);
                }
                read
            }
        };
        let owner = self.owner_of(entry);
        let made = fstat(&new)?;
        let owned = made.st_uid == owner.uid && made.st_gid == owner.gid;
        if !owned {
            fchown(&new, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
        }
        if !owned || made.st_mode & 0o7777 != mode {
            fchmod(&new, Mode::from(mode))?;
        }
        if !xattrs.is_empty() {
            let (dir, name) = parent(dest, to)?;
            xattrs.iter().try_for_each(|x| xattr::set(dir.as_fd(), name, x))?;
        }
        futimens(&new, &times(entry))?;
        Ok(content)
    }

    /// A link, a device, a named pipe.
    fn other(&self, dest: BorrowedFd<'_>, entry: &Entry, to: &[u8]) -> Result<Content> {
        let (dir, name) = parent(dest, to)?;
        let dir = dir.as_fd();
        make_anew(dir, name, || match entry.kind {
            FileType::Symlink => symlinkat(entry.link.as_slice(), dir, name),
            kind => mknodat(dir, name, kind, Mode::from(0o600), entry.rdev),
        })?;
        let owner = self.owner_of(entry);
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if entry.kind != FileType::Symlink {
            set_mode(dir, name, Mode::from(self.mode_of(entry)))?;
        }
        let content = entry
            .content
            .get()
            .copied()
            .ok_or_else(|| Error::other("not looked at"))?;
        if content.xattrs != [0; 32] {
            let (from, old) = parent(self.part.scan.dir.as_fd(), &entry.path)?;
            for x in xattr::of_archives(from.as_fd(), old)? {
                xattr::set(dir, name, &x)?;
            }
        }
        utimensat(dir, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(content)
    }

    fn link(&self, dest: BorrowedFd<'_>, old: &[u8], new: &[u8]) -> Result<()> {
        let (from, old) = parent(dest, old)?;
        let (dir, name) = parent(dest, new)?;
        make_anew(dir.as_fd(), name, || linkat(&from, old, &dir, name, AtFlags::empty()))
    }

    fn finish_directory(&self, dest: BorrowedFd<'_>, entry: &Entry, to: &[u8]) -> Result<()> {
        let dir = open_directory(dest, to)?;
        let owner = self.owner_of(entry);
        fchown(&dir, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
        fchmod(&dir, Mode::from(self.mode_of(entry)))?;
        if entry.content.get().is_some_and(|c| c.xattrs != [0; 32]) {
            let from = open_directory(self.part.scan.dir.as_fd(), &entry.path)?;
            for x in xattr::of_open_archive(&File::from(from))? {
                xattr::set(dir.as_fd(), b"", &x)?;
            }
        }
        Ok(futimens(&dir, &times(entry))?)
    }
}

/// The directory that entries go into.
struct Destination<'a> {
    dest: BorrowedFd<'a>,
    /// Its path below the stage's root.
    at: &'a [u8],
    /// It is new itself.
    fresh: bool,
    upper: Option<BorrowedFd<'a>>,
    /// The same directory in the upper one; it is there as soon as something new is in it.
    dest_in_upper: OnceLock<OwnedFd>,
    told: &'a (dyn Fn(u64) + Sync),
}

impl<'a> Destination<'a> {
    fn new(target: &Target<'a>, (dest, at): (BorrowedFd<'a>, &'a [u8]), fresh: bool) -> Destination<'a> {
        Destination {
            dest,
            at,
            fresh,
            upper: target.upper,
            dest_in_upper: OnceLock::new(),
            told: target.told,
        }
    }

    /// What `path` is opened from: `fresh` are the new directories.
    fn of(&self, fresh: &HashSet<Vec<u8>>, path: &[u8]) -> Result<BorrowedFd<'_>> {
        let in_new = self.fresh || {
            let parent = path.iter().rposition(|b| *b == b'/');
            parent.is_some_and(|cut| fresh.contains(&path[..cut]))
        };
        let Some(upper) = self.upper.filter(|_| in_new) else {
            return Ok(self.dest);
        };
        if let Some(fd) = self.dest_in_upper.get() {
            return Ok(fd.as_fd());
        }
        let fd = open_directory(upper, self.at)?;
        Ok(self.dest_in_upper.get_or_init(|| fd).as_fd())
    }
}

/// A directory that is there already stays. Whether it is new.
fn make_directory(dest: BorrowedFd<'_>, path: &[u8]) -> Result<bool> {
    let (dir, name) = parent(dest, path)?;
    match mkdirat(&dir, name, Mode::from(0o700)) {
        Err(Errno::EXIST) => {
            let stat = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => Ok(false),
                _ => Err(Error::other("cannot copy a directory to a non-directory")),
            }
        }
        made => Ok(made.map(|()| true)?),
    }
}

/// Makes something in the place of what has that name already; only a directory makes no room.
fn make_anew<T>(dest: BorrowedFd<'_>, path: &[u8], make: impl Fn() -> Result<T, Errno>) -> Result<T> {
    match make() {
        Err(Errno::EXIST) => {
            let (dir, name) = parent(dest, path)?;
            match unlinkat(&dir, name, AtFlags::empty()) {
                Err(Errno::ISDIR) => return Err(Error::other("cannot replace a directory with a file")),
                Err(Errno::NOENT) => {}
                removed => removed?,
            }
            Ok(make()?)
        }
        made => Ok(made?),
    }
}

/// The directory that `path` stands in, and its name there.
fn parent<'p>(dest: BorrowedFd<'_>, path: &'p [u8]) -> Result<(OwnedFd, &'p [u8])> {
    match path.iter().rposition(|b| *b == b'/') {
        Some(cut) => Ok((open_directory(dest, &path[..cut])?, &path[cut + 1..])),
        None => Ok((open_directory(dest, b"")?, path)),
    }
}

fn open_directory(dest: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd> {
    match path {
        b"" => Ok(openat(dest, c".", DIRECTORY, Mode::empty())?),
        path => Ok(openat2(dest, path, DIRECTORY, Mode::empty(), INSIDE)?),
    }
}

fn times(entry: &Entry) -> Timestamps {
    let time = |(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec };
    Timestamps {
        last_access: time(entry.atime),
        last_modification: time(entry.mtime),
    }
}
