//! Copying a tree with all that belongs to it: what an image has at a volume's place goes into the new volume.
//!
//! Every file is opened by its name in an open directory, without following a link, so that a container that changes
//! the source meanwhile can spoil its own copy and nothing else.

use crate::error::{Context, Error, Result};
use crate::layer::shown;
use crate::layer::walk::{Step, open_dir, walk};
use crate::layer::xattr;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, chmodat, chownat,
    copy_file_range, fchmod, fchown, fstat, ftruncate, futimens, ioctl_ficlone, linkat, mkdirat, mknodat, openat,
    openat2, readlinkat, seek, statat, symlinkat, utimensat,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

const BUFFER: usize = 256 * 1024;
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
const INSIDE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Copies what is in `source` into the empty directory `dest`, which also gets the owner, mode, times and attributes of
/// `source` itself. Sockets are left out: nobody listens behind a copy.
pub(crate) fn tree(source: BorrowedFd<'_>, dest: BorrowedFd<'_>) -> Result<()> {
    let root = open_dir(dest, c".").context("open directory")?;
    let at = open_dir(dest, c".").context("open directory")?;
    let mut copy = Copy {
        root,
        at,
        linked: HashMap::new(),
        buffer: Vec::new(),
    };
    walk(source, &mut |step| match step {
        Step::Entry { dir, name, path, .. } => copy.entry(dir, name, path).with_context(|| shown(path)),
        Step::Enter { name, path, .. } => copy.enter(name).with_context(|| shown(path)),
        Step::Leave { dir, name, path } => copy.leave(dir, name, path).with_context(|| shown(path)),
    })?;
    finish_directory(source, c"", &fstat(source)?, copy.root.as_fd())
}

struct Copy {
    root: OwnedFd,
    /// The directory that is being filled.
    at: OwnedFd,
    /// Where a file of several names was put first, by device and inode.
    linked: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl Copy {
    fn entry(&mut self, dir: BorrowedFd<'_>, name: &CStr, path: &[u8]) -> Result<()> {
        let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            result => result?,
        };
        if stat.st_nlink > 1 {
            match self.linked.get(&(stat.st_dev, stat.st_ino)) {
                Some(first) => return self.link(first, name),
                None => drop(self.linked.insert((stat.st_dev, stat.st_ino), path.to_vec())),
            }
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        match kind {
            FileType::RegularFile => return self.file(dir, name),
            FileType::Symlink => symlinkat(readlinkat(dir, name, Vec::new())?, &self.at, name)?,
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo => {
                mknodat(&self.at, name, kind, Mode::from(0o600), stat.st_rdev)?;
            }
            _ => return Ok(()),
        }
        chownat(
            &self.at,
            name,
            Some(owner(&stat)),
            Some(group(&stat)),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
        if kind != FileType::Symlink {
            // Follows links; but this is no link, it was made a moment ago.
            chmodat(&self.at, name, mode(&stat), AtFlags::empty())?;
        }
        attributes(dir, name, self.at.as_fd(), name)?;
        Ok(utimensat(&self.at, name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn link(&self, first: &[u8], name: &CStr) -> Result<()> {
        let cut = first.iter().rposition(|b| *b == b'/');
        let (parent, last) = cut.map_or((&b"."[..], first), |cut| (&first[..cut], &first[cut + 1..]));
        let parent = openat2(&self.root, parent, DIRECTORY, Mode::empty(), INSIDE)?;
        Ok(linkat(parent, last, &self.at, name, AtFlags::empty())?)
    }

    fn file(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let from = File::from(openat(dir, name, flags, Mode::empty())?);
        let stat = fstat(&from)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::other("changed while it was copied"));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = File::from(openat(&self.at, name, flags, Mode::from(0o600))?);
        if stat.st_size > 0 && ioctl_ficlone(&to, &from).is_err() {
            self.content(&from, &to)?;
        }
        fchown(&to, Some(owner(&stat)), Some(group(&stat)))?;
        fchmod(&to, mode(&stat))?;
        attributes(dir, name, self.at.as_fd(), name)?;
        Ok(futimens(&to, &times(&stat))?)
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

    fn enter(&mut self, name: &CStr) -> Result<()> {
        mkdirat(&self.at, name, Mode::from(0o700))?;
        self.at = open_dir(self.at.as_fd(), name)?;
        Ok(())
    }

    fn leave(&mut self, dir: BorrowedFd<'_>, name: &CStr, path: &[u8]) -> Result<()> {
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        finish_directory(dir, name, &stat, self.at.as_fd())?;
        let parent = path
            .iter()
            .rposition(|b| *b == b'/')
            .map_or(&b"."[..], |cut| &path[..cut]);
        self.at = openat2(&self.root, parent, DIRECTORY, Mode::empty(), INSIDE)?;
        Ok(())
    }
}

/// What a directory gets when all that is in it is there.
fn finish_directory(dir: BorrowedFd<'_>, name: &CStr, stat: &Stat, to: BorrowedFd<'_>) -> Result<()> {
    fchown(to, Some(owner(stat)), Some(group(stat)))?;
    fchmod(to, mode(stat))?;
    attributes(dir, name, to, c"")?;
    Ok(futimens(to, &times(stat))?)
}

fn attributes(from: BorrowedFd<'_>, name: &CStr, to: BorrowedFd<'_>, as_name: &CStr) -> Result<()> {
    xattr::all(from, name.to_bytes())?
        .iter()
        .try_for_each(|x| xattr::set(to, as_name.to_bytes(), x))
}

fn owner(stat: &Stat) -> Uid {
    Uid::from_raw(stat.st_uid)
}

fn group(stat: &Stat) -> Gid {
    Gid::from_raw(stat.st_gid)
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
