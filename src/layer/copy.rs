//! Copying between directories with all that belongs to a file: what an image has at a volume's place goes into the new
//! volume, and `cp` brings files into containers and out of them.
//!
//! Every file is opened by its name in an open directory, without following a link, so that a container that changes
//! the source or the destination meanwhile can spoil its own copy and nothing else.
//!
//! One thread walks through the source and reads, another makes the copies, in the order of the walk: making a file
//! costs the kernel as much as finding and reading one.

mod read;

use crate::error::{Context, Error, Result};
use crate::layer::walk::{Mounts, Order, Step, open_dir, walk_in};
use crate::layer::xattr::{self, Xattr};
use crate::layer::{owners, set_mode, shown, whiteout};
use crate::model::idmap::IdMap;
use crate::sys;
use read::{More, read, step_job};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, chownat,
    copy_file_range, fchmod, fchown, fstat, ftruncate, futimens, ioctl_ficlone, linkat, mkdirat, mknodat, openat,
    openat2, seek, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::mpsc::sync_channel;

const BUFFER: usize = 256 * 1024;
/// A file up to this size is read and written at once; a larger one may share its blocks with the copy, or have holes.
const SMALL: u64 = 64 * 1024;
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
    pub(crate) files: Files,
    pub(crate) marks: Marks,
}

/// What becomes of files that have content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Files {
    #[default]
    Copied,
    /// The copy has another name of the same file, for a tree that nobody writes to.
    Linked,
}

/// What becomes of overlayfs' marks of removed names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Marks {
    /// They mean nothing: what is copied is no layer, or is stacked on others.
    #[default]
    None,
    /// The copy of a layer has them too.
    Overlay,
    /// AUFS' own: a branch of it is made.
    Aufs,
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
    copy.finish_directory(&fstat(source)?, &xattr::all(source, b"")?, dest)?;
    Ok(copy.bytes)
}

/// Copies a stack of layers, base first, into the empty directory `dest`: what overlayfs would show, for those whose
/// numbers are `to`. The bytes of files.
pub(crate) fn stack(
    layers: &[std::path::PathBuf],
    dest: BorrowedFd<'_>,
    (files, to): (Files, Option<&IdMap>),
) -> Result<u64> {
    let options = Options {
        there: There::Lowers,
        files,
        to,
        ..Options::default()
    };
    let mut bytes = 0;
    for layer in layers {
        let said = || layer.display().to_string();
        // The files of a build's context are known by their descriptor, which is a link.
        let source =
            rustix::fs::open(layer, DIRECTORY.difference(OFlags::NOFOLLOW), Mode::empty()).with_context(said)?;
        bytes += tree(source.as_fd(), dest, &options).with_context(said)?;
    }
    Ok(bytes)
}

/// Copies a layer into the empty directory `dest`, its marks of removed names included, for those whose numbers are `to`.
pub(crate) fn layer(source: &std::path::Path, dest: &std::path::Path, to: &IdMap) -> Result<()> {
    let open = |path| rustix::fs::open(path, DIRECTORY, Mode::empty());
    let options = Options {
        to: Some(to),
        marks: Marks::Overlay,
        ..Options::default()
    };
    tree(open(source)?.as_fd(), open(dest)?.as_fd(), &options).map(drop)
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
        let (options, path) = (copy.options, as_name.to_bytes());
        if let Some(job) = read(options, (source, name), kind, (as_name, path))? {
            job(&mut copy)?;
        }
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

/// What is done at the destination with something that was read.
type Job<'a> = Box<dyn FnOnce(&mut Copy<'a>) -> Result<()> + Send + 'a>;

/// Jobs handed over at once, since each time one of the two threads may have to be woken; and how often they may wait.
/// A job has the content of one small file at most.
const BATCH: usize = 32;
const MOST_BATCHES: usize = 2;

/// What the filesystem makes of a new file in the directory that is being filled, asked for with a mode: its owner and
/// mode, which depend on that directory too.
struct Born {
    asked: Mode,
    owner: (u32, u32),
    mode: Mode,
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
    buffer: Vec<u8>,
    born: Option<Born>,
    /// The filesystems have told that blocks can't be shared.
    no_clones: bool,
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
            buffer: Vec::new(),
            born: None,
            no_clones: false,
            bytes: 0,
        })
    }

    fn contents(&mut self, source: BorrowedFd<'_>) -> Result<()> {
        let (options, root_id) = (self.options, self.root_id);
        let (batches, todo) = sync_channel::<Vec<Job<'a>>>(MOST_BATCHES);
        std::thread::scope(|scope| {
            let writer = std::thread::Builder::new()
                .name("copy".to_owned())
                .spawn_scoped(scope, move || todo.into_iter().flatten().try_for_each(|job| job(self)))?;
            let mut batch = Vec::with_capacity(BATCH);
            let walked = walk_in(Order::Any, options.mounts, source, &mut |step| {
                let (Step::Entry { path, .. } | Step::Enter { path, .. } | Step::Leave { path, .. }) = step;
                let job = step_job(options, root_id, &step).with_context(|| shown(path))?;
                let Some(job) = job else { return Ok(()) };
                let path = path.to_vec();
                let job: Job<'a> = Box::new(move |copy| job(copy).with_context(|| shown(&path)));
                batch.push(job);
                if batch.len() < BATCH {
                    return Ok(());
                }
                let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
                // It has failed, and says why.
                batches.send(full).map_err(|_| Error::other("stopped"))
            });
            let _ = batches.send(batch);
            drop(batches);
            let written = writer.join().map_err(|_| Error::other("a thread panicked"))?;
            written.and(walked)
        })
    }

    fn node(&mut self, kind: FileType, stat: &Stat, as_name: &CStr, more: &More) -> Result<()> {
        self.anew(as_name, |at| match &more.target {
            Some(target) => symlinkat(target, at, as_name),
            None => mknodat(at, as_name, kind, Mode::from(0o600), stat.st_rdev),
        })?;
        let (user, group) = self.owner(stat)?;
        chownat(&self.at, as_name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
        if kind != FileType::Symlink {
            set_mode(self.at.as_fd(), as_name, mode(stat))?;
        }
        self.give_attributes(&more.xattrs, self.at.as_fd(), as_name)?;
        Ok(utimensat(&self.at, as_name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
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

    fn file(
        &mut self,
        from: &File,
        stat: &Stat,
        as_name: &CStr,
        (content, xattrs): (Option<Vec<u8>>, &[Xattr]),
    ) -> Result<()> {
        let (to, is_new) = self.new_file(as_name, stat)?;
        match content {
            Some(content) => to.write_all_at(&content, 0)?,
            None if self.clones(from, &to) => {}
            None => self.content(from, &to)?,
        }
        self.bytes += u64::try_from(stat.st_size).unwrap_or_default();
        let (user, group) = self.owner(stat)?;
        // Most are as they should be from birth, and each change is one of the filesystem's journal.
        let (owner, born) = self.as_made(&to, is_new, stat)?;
        let given = owner != (user.as_raw(), group.as_raw());
        if given {
            fchown(&to, Some(user), Some(group))?;
        }
        if given || born != mode(stat) {
            fchmod(&to, mode(stat))?;
        }
        self.give_attributes(xattrs, self.at.as_fd(), as_name)?;
        Ok(futimens(&to, &times(stat))?)
    }

    /// Owner and mode of a file that was just made: as those of the one before it in the directory.
    fn as_made(&mut self, file: &File, is_new: bool, original: &Stat) -> Result<((u32, u32), Mode)> {
        let asked = born(original);
        if let Some(known) = self.born.as_ref().filter(|known| is_new && known.asked == asked) {
            return Ok((known.owner, known.mode));
        }
        let made = fstat(file)?;
        let (owner, mode) = ((made.st_uid, made.st_gid), mode(&made));
        self.born = is_new.then_some(Born { asked, owner, mode });
        Ok((owner, mode))
    }

    /// An empty file, and whether it was made. One that is mounted there, as a container's /etc/hosts is, can't be
    /// replaced: it is written to.
    fn new_file(&self, name: &CStr, stat: &Stat) -> Result<(File, bool)> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let new = flags | OFlags::CREATE | OFlags::EXCL;
        match self.anew(name, |at| openat(at, name, new, born(stat))) {
            Err(Blocked::By(Errno::BUSY)) => {
                let file = File::from(openat(&self.at, name, flags | OFlags::NONBLOCK, Mode::empty())?);
                match FileType::from_raw_mode(fstat(&file)?.st_mode) {
                    FileType::RegularFile => ftruncate(&file, 0)?,
                    _ => return Err(Errno::BUSY.into()),
                }
                Ok((file, false))
            }
            made => Ok((made?.into(), true)),
        }
    }

    fn clones(&mut self, from: &File, to: &File) -> bool {
        if self.no_clones {
            return false;
        }
        let cloned = ioctl_ficlone(to, from).is_ok();
        self.no_clones = !cloned;
        cloned
    }

    /// Content without its holes.
    fn content(&mut self, from: &File, to: &File) -> Result<()> {
        let mut at = 0;
        loop {
            at = match seek(from, SeekFrom::Data(at)) {
                Ok(start) => start,
                Err(Errno::NXIO) => break,
                Err(e) => return Err(e.into()),
            };
            let end = seek(from, SeekFrom::Hole(at))?;
            while at < end {
                let most = usize::try_from(end - at).unwrap_or(usize::MAX);
                let (mut read, mut write) = (at, at);
                // Refused between filesystems of two kinds, and not known to every one.
                let n = match copy_file_range(from, Some(&mut read), to, Some(&mut write), most) {
                    Ok(n) if n > 0 => n,
                    _ => self.by_hand(from, to, at, most)?,
                };
                if n == 0 {
                    break;
                }
                at += n as u64;
            }
        }
        Ok(ftruncate(to, u64::try_from(fstat(from)?.st_size).unwrap_or_default())?)
    }

    fn by_hand(&mut self, from: &File, to: &File, at: u64, most: usize) -> Result<usize> {
        self.buffer.resize(BUFFER, 0);
        let n = from.read_at(&mut self.buffer[..most.min(BUFFER)], at)?;
        to.write_all_at(&self.buffer[..n], at)?;
        Ok(n)
    }

    fn enter(&mut self, name: &CStr, opaque: bool) -> Result<()> {
        if self.options.there == There::Lowers {
            let below = statat(&self.at, name, AtFlags::SYMLINK_NOFOLLOW);
            let is_directory = below.is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory);
            if !is_directory || opaque {
                sys::tree::remove(self.at.as_fd(), name)?;
            }
        }
        make_directory(self.at.as_fd(), name, self.options.there)?;
        self.born = None;
        self.at = match self.options.there {
            There::Merge => openat(&self.at, name, DIRECTORY, Mode::empty())?,
            There::Nothing | There::Lowers => open_dir(self.at.as_fd(), name)?,
        };
        match self.options.marks {
            Marks::Aufs if opaque => Ok(whiteout::make_file(self.at.as_fd(), whiteout::OPAQUE_MARK)?),
            Marks::Overlay if opaque => whiteout::make_opaque(self.at.as_fd()),
            _ => Ok(()),
        }
    }

    fn leave(&mut self, stat: &Stat, xattrs: &[Xattr], path: &[u8]) -> Result<()> {
        self.finish_directory(stat, xattrs, self.at.as_fd())?;
        let parent = path
            .iter()
            .rposition(|b| *b == b'/')
            .map_or(&b"."[..], |cut| &path[..cut]);
        self.at = openat2(&self.root, parent, DIRECTORY, Mode::empty(), self.resolve)?;
        self.born = None;
        Ok(())
    }

    /// What a directory gets when all that is in it is there.
    fn finish_directory(&self, stat: &Stat, xattrs: &[Xattr], to: BorrowedFd<'_>) -> Result<()> {
        let (user, group) = self.owner(stat)?;
        fchown(to, Some(user), Some(group))?;
        fchmod(to, mode(stat))?;
        if self.options.there == There::Lowers {
            // A directory has the attributes that the topmost layer gives it, and no others.
            for old in xattr::all(to, b"")? {
                xattr::remove(to, &old.name)?;
            }
        }
        self.give_attributes(xattrs, to, c"")?;
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
            (user, group) = ids.outside_owner((user, group));
        }
        Ok((Uid::from_raw(user), Gid::from_raw(group)))
    }

    fn give_attributes(&self, xattrs: &[Xattr], to: BorrowedFd<'_>, as_name: &CStr) -> Result<()> {
        let (from, to_ids) = (self.options.from, self.options.to);
        let inside = from.map_or(Cow::Borrowed(xattrs), |ids| owners::inside(xattrs, ids));
        let outside = to_ids.map_or(Cow::Borrowed(&*inside), |ids| owners::outside(&inside, ids));
        outside.iter().try_for_each(|x| xattr::set(to, as_name.to_bytes(), x))
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

/// What a copy is made with: the rest comes when it has an owner.
fn born(stat: &Stat) -> Mode {
    mode(stat) & Mode::from(0o777)
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
