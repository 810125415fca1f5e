//! Copying between directories with all that belongs to a file: what an image has at a volume's place goes into the new
//! volume, and `cp` brings files into containers and out of them.
//!
//! Every file is opened by its name in an open directory, without following a link, so that a container that changes
//! the source or the destination meanwhile can spoil its own copy and nothing else.

use crate::error::{Context, Error, Result};
use crate::layer::file_copy::{FileCopy, Wanted};
use crate::layer::walk::{Mounts, Order, Step, open_dir, walk_in};
use crate::layer::xattr::{self, Xattr};
use crate::layer::{set_mode, shown, whiteout};
use crate::model::idmap::{IdMap, NOBODY};
use crate::sys;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, chownat, fchmod, fchown,
    fstat, ftruncate, futimens, linkat, mkdirat, mknodat, openat, openat2, readlinkat, statat, symlinkat, unlinkat,
    utimensat,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Who owns the copies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Who owns the original.
    #[default]
    Kept,
    Fixed {
        user: u32,
        group: u32,
    },
}

#[derive(Debug, Default)]
pub(crate) struct Options<'a> {
    pub(crate) owner: Owner,
    /// In what numbers owners are seen where it is copied from, and where to, if those are not the image's own.
    pub(crate) from: Option<&'a IdMap>,
    pub(crate) to: Option<&'a IdMap>,
    /// What is mounted in the source belongs to it.
    pub(crate) mounts: Mounts,
    pub(crate) there: There,
}

/// What a copy does with what is there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum There {
    /// Nothing is.
    #[default]
    Nothing,
    /// Directories are merged, files replaced, and nothing takes the place of the other.
    Merge,
    /// It is what lower layers have, and the source is the layer above, whose marks hide some of it.
    Lowers,
}

/// Copies what is in `source` into the empty directory `dest`, which also gets the owner, mode, times and attributes of
/// `source` itself. Sockets are left out: nobody listens behind a copy.
pub(crate) fn tree(source: BorrowedFd<'_>, dest: BorrowedFd<'_>, options: &Options<'_>) -> Result<u64> {
    let mut copy = Copy::new(dest, options)?;
    copy.contents(source)?;
    let stat = fstat(source)?;
    copy.finish_directory(source, c"", &stat, dest)?;
    Ok(copy.bytes)
}

/// Copies a stack of layers, base first, into the empty directory `dest`: what overlayfs would show. The bytes of files.
pub(crate) fn stack(layers: &[std::path::PathBuf], dest: BorrowedFd<'_>) -> Result<u64> {
    let options = Options {
        there: There::Lowers,
        ..Options::default()
    };
    let mut bytes = 0;
    for layer in layers {
        let said = || layer.display().to_string();
        let source = rustix::fs::open(layer, DIRECTORY, Mode::empty()).with_context(said)?;
        bytes += tree(source.as_fd(), dest, &options).with_context(said)?;
    }
    Ok(bytes)
}

/// Copies what is in `source` into `dest`, which itself stays as it is. The bytes of files.
pub(crate) fn contents(source: BorrowedFd<'_>, dest: BorrowedFd<'_>, options: &Options<'_>) -> Result<u64> {
    let mut copy = Copy::new(dest, options)?;
    copy.contents(source)?;
    Ok(copy.bytes)
}

/// Copies the entry `name` of `source`, and all that is in it, to `dest` as `as_name`. The bytes of files.
pub(crate) fn entry(
    (source, name): (BorrowedFd<'_>, &CStr),
    (dest, as_name): (BorrowedFd<'_>, &CStr),
    options: &Options<'_>,
) -> Result<u64> {
    let stat = statat(source, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind != FileType::Directory {
        let mut copy = Copy::new(dest, options)?;
        copy.entry((source, name), kind, as_name, as_name.to_bytes())?;
        return Ok(copy.bytes);
    }
    let from = openat(source, name, DIRECTORY, Mode::empty())?;
    directory(from.as_fd(), (dest, as_name), options)
}

/// Copies the directory `source` to `dest` as `as_name`.
pub(crate) fn directory(
    source: BorrowedFd<'_>,
    (dest, as_name): (BorrowedFd<'_>, &CStr),
    options: &Options<'_>,
) -> Result<u64> {
    make_directory(dest, as_name, options.there)?;
    let into = openat(dest, as_name, DIRECTORY, Mode::empty())?;
    tree(source, into.as_fd(), options)
}

/// Gives what is at `path`, a directory with all that is in it, to a user and group. What is theirs already is left
/// alone, so that the second time costs a walk.
pub(crate) fn give(path: &std::path::Path, (user, group): (u32, u32)) -> Result<()> {
    let change = |dir: BorrowedFd<'_>, name: &CStr, flags: AtFlags| -> Result<()> {
        let stat = match statat(dir, name, flags) {
            Err(Errno::NOENT) => return Ok(()),
            stat => stat?,
        };
        if (stat.st_uid, stat.st_gid) != (user, group) {
            chownat(dir, name, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)), flags)?;
        }
        Ok(())
    };
    let top = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&top)?.st_mode) == FileType::Directory {
        let below = openat(&top, c".", DIRECTORY, Mode::empty())?;
        walk_in(Order::Any, Mounts::Enter, below.as_fd(), &mut |step| match step {
            Step::Entry { dir, name, path, .. } | Step::Leave { dir, name, path } => {
                change(dir, name, AtFlags::SYMLINK_NOFOLLOW).with_context(|| shown(path))
            }
            Step::Enter { .. } => Ok(()),
        })?;
    }
    change(top.as_fd(), c"", AtFlags::EMPTY_PATH)
}

fn make_directory(dest: BorrowedFd<'_>, name: &CStr, there: There) -> Result<()> {
    match mkdirat(dest, name, Mode::from(0o700)) {
        Err(Errno::EXIST) if there != There::Nothing => {
            let found = statat(dest, name, AtFlags::SYMLINK_NOFOLLOW)?;
            match FileType::from_raw_mode(found.st_mode) {
                FileType::Directory => Ok(()),
                _ => Err(Error::other("cannot overwrite a file with a directory")),
            }
        }
        made => Ok(made?),
    }
}

struct Copy<'a> {
    options: &'a Options<'a>,
    resolve: ResolveFlags,
    root: OwnedFd,
    /// Device and inode of it: a directory can't be copied into itself.
    root_id: (u64, u64),
    /// The directory that is being filled.
    at: OwnedFd,
    /// Where a file of several names was put first, by device and inode.
    linked: HashMap<(u64, u64), Vec<u8>>,
    content: FileCopy,
    bytes: u64,
}

impl<'a> Copy<'a> {
    fn new(dest: BorrowedFd<'_>, options: &'a Options<'a>) -> Result<Self> {
        let root = openat(dest, c".", DIRECTORY, Mode::empty()).context("open directory")?;
        let at = openat(dest, c".", DIRECTORY, Mode::empty()).context("open directory")?;
        let stat = fstat(&root)?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        Ok(Copy {
            options,
            resolve: match options.there {
                There::Merge => resolve,
                There::Nothing | There::Lowers => resolve | ResolveFlags::NO_XDEV,
            },
            root,
            root_id: (stat.st_dev, stat.st_ino),
            at,
            linked: HashMap::new(),
            content: FileCopy::default(),
            bytes: 0,
        })
    }

    fn contents(&mut self, source: BorrowedFd<'_>) -> Result<()> {
        let mounts = self.options.mounts;
        walk_in(Order::Any, mounts, source, &mut |step| match step {
            Step::Entry { dir, name, kind, path } => {
                if self.options.there == There::Lowers && self.covers(dir, name).with_context(|| shown(path))? {
                    return Ok(());
                }
                self.entry((dir, name), kind, name, path).with_context(|| shown(path))
            }
            Step::Enter { dir, name, path } => self.enter(dir, name).with_context(|| shown(path)),
            Step::Leave { dir, name, path } => self.leave(dir, name, path).with_context(|| shown(path)),
        })
    }

    /// Takes away what lower layers have where this one has something else than a directory. Whether that is all, since
    /// it only says that the name is gone.
    fn covers(&self, dir: BorrowedFd<'_>, name: &CStr) -> Result<bool> {
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        sys::tree::remove(self.at.as_fd(), name)?;
        whiteout::hides(dir, name.to_bytes(), &stat)
    }

    /// What stands at `path` below the root goes to `as_name` of the directory that is being filled.
    fn entry(
        &mut self,
        (dir, name): (BorrowedFd<'_>, &CStr),
        kind: FileType,
        as_name: &CStr,
        path: &[u8],
    ) -> Result<()> {
        if kind == FileType::RegularFile {
            return self.file(dir, name, as_name, path);
        }
        let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            result => result?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::RegularFile {
            return self.file(dir, name, as_name, path);
        }
        if !matches!(
            kind,
            FileType::Symlink | FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo
        ) || self.has_its_link(&stat, as_name, path)?
        {
            return Ok(());
        }
        let target = match kind {
            FileType::Symlink => Some(readlinkat(dir, name, Vec::new())?),
            _ => None,
        };
        self.anew(as_name, |at| match &target {
            Some(target) => symlinkat(target, at, as_name),
            None => mknodat(at, as_name, kind, Mode::from(0o600), stat.st_rdev),
        })?;
        let (user, group) = self.owner(&stat)?;
        chownat(&self.at, as_name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
        if kind != FileType::Symlink {
            set_mode(self.at.as_fd(), as_name, mode(&stat))?;
        }
        attributes(dir, name, self.at.as_fd(), as_name)?;
        Ok(utimensat(&self.at, as_name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Another name of a file that was copied already becomes one of its copy.
    fn has_its_link(&mut self, stat: &Stat, as_name: &CStr, path: &[u8]) -> Result<bool> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        let Some(first) = self.linked.get(&(stat.st_dev, stat.st_ino)).cloned() else {
            self.linked.insert((stat.st_dev, stat.st_ino), path.to_vec());
            return Ok(false);
        };
        let cut = first.iter().rposition(|b| *b == b'/');
        let (parent, last) = cut.map_or((&b"."[..], &first[..]), |cut| (&first[..cut], &first[cut + 1..]));
        let parent = openat2(&self.root, parent, DIRECTORY, Mode::empty(), self.resolve)?;
        match self.anew(as_name, |at| linkat(&parent, last, at, as_name, AtFlags::empty())) {
            Ok(()) => Ok(true),
            // Two mounts of the destination.
            Err(Blocked::By(Errno::XDEV)) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Makes something in the place of what has that name already, if that may be.
    fn anew<T>(&self, name: &CStr, make: impl Fn(BorrowedFd<'_>) -> Result<T, Errno>) -> Result<T, Blocked> {
        match make(self.at.as_fd()) {
            Err(Errno::EXIST) if self.options.there == There::Merge => match unlinkat(&self.at, name, AtFlags::empty())
            {
                Err(Errno::ISDIR) => Err(Blocked::ByDirectory),
                Err(Errno::NOENT) | Ok(()) => make(self.at.as_fd()).map_err(Blocked::By),
                Err(e) => Err(Blocked::By(e)),
            },
            made => made.map_err(Blocked::By),
        }
    }

    fn file(&mut self, dir: BorrowedFd<'_>, name: &CStr, as_name: &CStr, path: &[u8]) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let from = match openat(dir, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            opened => File::from(opened?),
        };
        let stat = fstat(&from)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::other("changed while it was copied"));
        }
        if self.has_its_link(&stat, as_name, path)? {
            return Ok(());
        }
        let to = self.new_file(as_name)?;
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        self.content.copy(&from, &to, Wanted::Copy, &|_| {})?;
        self.bytes += size;
        let (user, group) = self.owner(&stat)?;
        fchown(&to, Some(user), Some(group))?;
        fchmod(&to, mode(&stat))?;
        for xattr in xattr::of_file(&from)? {
            xattr::set(self.at.as_fd(), as_name.to_bytes(), &xattr)?;
        }
        Ok(futimens(&to, &times(&stat))?)
    }

    /// An empty file. One that is mounted there, as a container's /etc/hosts is, can't be replaced: it is written to.
    fn new_file(&self, name: &CStr) -> Result<File> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let new = flags | OFlags::CREATE | OFlags::EXCL;
        match self.anew(name, |at| openat(at, name, new, Mode::from(0o600))) {
            Err(Blocked::By(Errno::BUSY)) => {
                let file = File::from(openat(&self.at, name, flags | OFlags::NONBLOCK, Mode::empty())?);
                match FileType::from_raw_mode(fstat(&file)?.st_mode) {
                    FileType::RegularFile => ftruncate(&file, 0)?,
                    _ => return Err(Errno::BUSY.into()),
                }
                Ok(file)
            }
            made => Ok(made?.into()),
        }
    }

    fn enter(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if (stat.st_dev, stat.st_ino) == self.root_id {
            return Err(Error::usage("cannot copy a directory into itself"));
        }
        if self.options.there == There::Lowers {
            let below = statat(&self.at, name, AtFlags::SYMLINK_NOFOLLOW);
            let is_directory = below.is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory);
            if !is_directory || whiteout::is_opaque(dir, name.to_bytes())? {
                sys::tree::remove(self.at.as_fd(), name)?;
            }
        }
        make_directory(self.at.as_fd(), name, self.options.there)?;
        self.at = match self.options.there {
            There::Merge => openat(&self.at, name, DIRECTORY, Mode::empty())?,
            There::Nothing | There::Lowers => open_dir(self.at.as_fd(), name)?,
        };
        Ok(())
    }

    fn leave(&mut self, dir: BorrowedFd<'_>, name: &CStr, path: &[u8]) -> Result<()> {
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        self.finish_directory(dir, name, &stat, self.at.as_fd())?;
        let parent = path
            .iter()
            .rposition(|b| *b == b'/')
            .map_or(&b"."[..], |cut| &path[..cut]);
        self.at = openat2(&self.root, parent, DIRECTORY, Mode::empty(), self.resolve)?;
        Ok(())
    }

    /// What a directory gets when all that is in it is there.
    fn finish_directory(&self, dir: BorrowedFd<'_>, name: &CStr, stat: &Stat, to: BorrowedFd<'_>) -> Result<()> {
        let (user, group) = self.owner(stat)?;
        fchown(to, Some(user), Some(group))?;
        fchmod(to, mode(stat))?;
        if self.options.there == There::Lowers {
            // A directory has the attributes that the topmost layer gives it, and no others.
            for old in xattr::all(to, b"")? {
                xattr::remove(to, &old.name)?;
            }
        }
        attributes(dir, name, to, c"")?;
        Ok(futimens(to, &times(stat))?)
    }

    fn owner(&self, stat: &Stat) -> Result<(Uid, Gid)> {
        let (mut user, mut group) = match self.options.owner {
            Owner::Fixed { user, group } => (user, group),
            Owner::Kept => match self.options.from {
                Some(ids) => (ids.inside_user(stat.st_uid), ids.inside_group(stat.st_gid)),
                None => (stat.st_uid, stat.st_gid),
            },
        };
        if let Some(ids) = self.options.to {
            // Nobody is who has no place there; and if nobody has none either, the first is.
            let user_of = |id| ids.outside_user(id);
            let group_of = |id| ids.outside_group(id);
            user = user_of(user)
                .or_else(|| user_of(NOBODY))
                .or_else(|| user_of(0))
                .unwrap_or(user);
            group = group_of(group)
                .or_else(|| group_of(NOBODY))
                .or_else(|| group_of(0))
                .unwrap_or(group);
        }
        Ok((Uid::from_raw(user), Gid::from_raw(group)))
    }
}

/// Why something can't be made in the place of what is there.
enum Blocked {
    ByDirectory,
    By(Errno),
}

impl From<Blocked> for Error {
    fn from(blocked: Blocked) -> Self {
        match blocked {
            Blocked::ByDirectory => Error::other("cannot overwrite a directory with something else"),
            Blocked::By(errno) => errno.into(),
        }
    }
}

fn attributes(from: BorrowedFd<'_>, name: &CStr, to: BorrowedFd<'_>, as_name: &CStr) -> Result<()> {
    let all: Vec<Xattr> = xattr::all(from, name.to_bytes())?;
    all.iter().try_for_each(|x| xattr::set(to, as_name.to_bytes(), x))
}

fn mode(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec.try_into().unwrap_or_default()),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec.try_into().unwrap_or_default()),
    }
}
