//! A layer's archive → a directory that overlayfs can use as a lower.
//!
//! Every member lands inside the directory or is refused by its name; `tree.rs` says how. Owners, modes, times to the
//! nanosecond, extended attributes, hard links, devices and holes are kept. Order of the calls: owner (which clears
//! set-user-ID and file capabilities), mode, attributes, times; a directory's come last of all, when nothing more is put
//! into it. Nothing is synced: the caller does that once for the whole tree.
//!
//! How large the tree gets is bounded by the disk alone.

use crate::error::{Context, Error, Result};
use crate::layer::archive::{Archive, Kind, Member};
use crate::layer::pax::Time;
use crate::layer::sparse::Piece;
use crate::layer::stream::{self, Place, Stream};
use crate::layer::tar_split::Recorder;
use crate::layer::tree::{Directory, Tree};
use crate::layer::whiteout::{self, Meaning};
use crate::layer::xattr::{self, Xattr};
use crate::layer::{set_mode, shown};
use crate::model::id::DiffId;
use crate::model::idmap::IdMap;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, chownat, fchmod, fchown, ftruncate, futimens,
    linkat, makedev, mknodat, openat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

/// Paths the kernel takes are shorter.
const LONGEST_PATH: usize = 4095;
/// Larger than any real layer by far.
const MOST_MEMBERS: u64 = 10_000_000;
/// Pieces of a file that are looked at for zeros, and how many are worth a hole.
const PIECE: u64 = 64 * 1024;
const HOLE: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Options {
    /// An empty file for what `tar_split::rebuild` needs.
    pub(crate) record: Option<File>,
    /// Lets everybody into the root, whatever the archive says of it: one of a temporary directory says 0700, and no
    /// user of a container but root could do anything (docker#486).
    pub(crate) open_root: bool,
    /// What the archive is put into.
    pub(crate) onto: Onto,
}

/// The directory that an archive is unpacked into.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Onto {
    /// An empty one that becomes a layer: names of whiteouts mean what they say.
    #[default]
    Layer,
    /// One of a container or of a volume, with all that is in it and mounted there. Names have no meaning; directories
    /// are merged, files replaced, and nothing takes the place of the other. The directory itself stays as it is.
    Existing {
        /// Whose numbers the owners have in there, where they are not the archive's own.
        ids: Option<IdMap>,
    },
    /// A stage of a build, or the files of a context. Names have no meaning; directories are merged, and what is in the
    /// way otherwise is replaced (docker's ADD). The directory itself stays as it is.
    Stage,
}

impl Onto {
    /// Whether a file never takes the place of a directory, nor a directory that of a file.
    fn keeps_kinds(&self) -> bool {
        matches!(self, Onto::Existing { .. })
    }

    fn user(&self, id: u32) -> Result<u32> {
        match self {
            Onto::Existing { ids: Some(ids) } => ids.outside_user(id).ok_or_else(|| unmapped("user", id)),
            _ => Ok(id),
        }
    }

    fn group(&self, id: u32) -> Result<u32> {
        match self {
            Onto::Existing { ids: Some(ids) } => ids.outside_group(id).ok_or_else(|| unmapped("group", id)),
            _ => Ok(id),
        }
    }
}

fn unmapped(what: &str, id: u32) -> Error {
    Error::other(format!("{what} {id} is not one of the container's user namespace"))
}

#[derive(Debug)]
pub(crate) struct Unpacked {
    /// Digest of the whole stream.
    pub(crate) diff_id: DiffId,
    /// Bytes of files and links, hard links once: as `layer::size` counts.
    pub(crate) size: u64,
    /// Directories without an entry of their own, by their paths below the root, which is "". They have 0755 of root
    /// until [`super::inherit()`] gives them what they have in the layers below.
    pub(crate) implied: Vec<Vec<u8>>,
}

/// Unpacks `reader`, an uncompressed tar, into the empty directory `dest`, and reads it to its end.
pub(crate) fn unpack(reader: impl Read + Send, dest: BorrowedFd<'_>, options: &Options) -> Result<Unpacked> {
    let recorder = options.record.as_ref().map(Recorder::new).transpose()?;
    let ((size, implied), digest) = stream::run(reader, recorder, |stream| {
        let mut unpacker = Unpacker {
            tree: match options.onto {
                Onto::Layer | Onto::Stage => Tree::new(dest)?,
                Onto::Existing { .. } => Tree::with_mounts(dest)?,
            },
            onto: &options.onto,
            linked_files: false,
            written: 0,
        };
        let mut archive = Archive::default();
        let mut members = 0;
        while let Some(member) = archive.next(stream)? {
            members += 1;
            if members > MOST_MEMBERS {
                return Err(Error::other(format!("archive of more than {MOST_MEMBERS} members")));
            }
            let placed = unpacker.member(&member, stream).with_context(|| shown(&member.path))?;
            if placed == Content::Torn {
                return Err(archive.ends_early());
            }
        }
        unpacker.finish(stream, options.open_root)
    })?;
    Ok(Unpacked {
        diff_id: DiffId(digest),
        size,
        implied,
    })
}

/// Whether the archive had all of a member's content.
#[derive(PartialEq, Eq)]
enum Content {
    Whole,
    Torn,
}

impl From<bool> for Content {
    fn from(whole: bool) -> Self {
        if whole { Content::Whole } else { Content::Torn }
    }
}

/// What a directory gets when all is in place.
struct Finish {
    uid: u32,
    gid: u32,
    mode: u32,
    mtime: Option<Time>,
    xattrs: Vec<Xattr>,
}

struct Unpacker<'a> {
    tree: Tree<Finish>,
    onto: &'a Onto,
    /// AUFS' directory of hard-linked files is there.
    linked_files: bool,
    /// Bytes of files and links.
    written: u64,
}

impl Unpacker<'_> {
    fn member(&mut self, member: &Member, stream: &mut Stream<'_>) -> Result<Content> {
        let path = clean(&member.path)?;
        let Some((name, parent)) = path.split_last() else {
            return match member.kind {
                Kind::Directory => {
                    if *self.onto == Onto::Layer {
                        self.finish_later(Vec::new(), member)?;
                    }
                    Ok(Content::Whole)
                }
                _ => Err(Error::other("is no name for anything but a directory")),
            };
        };
        if *self.onto != Onto::Layer {
            let directory = self.tree.directory(&parent.join(&b'/'))?;
            return self.place(member, &directory, name, stream);
        }
        match bookkeeping(&path)? {
            Bookkeeping::LinkedFiles => self.linked_files = true,
            Bookkeeping::Other => return Ok(stream.skip(member.size)?.into()),
            Bookkeeping::No => {}
        }
        let directory = self.tree.directory(&parent.join(&b'/'))?;
        match whiteout::meaning(name) {
            Meaning::Plain | Meaning::Bookkeeping => self.place(member, &directory, name, stream),
            Meaning::Opaque => {
                whiteout::make_opaque(directory.fd())?;
                Ok(stream.skip(member.size)?.into())
            }
            Meaning::Removes(hidden) => {
                self.hide(&directory, hidden)?;
                Ok(stream.skip(member.size)?.into())
            }
            Meaning::Invalid => Err(Error::other("is a whiteout of its own directory or the one above")),
        }
    }

    /// Hides a name of the layers below. What this layer itself has of that name stays, and alone.
    fn hide(&mut self, directory: &Directory, name: &[u8]) -> Result<()> {
        match whiteout::make(directory.fd(), name) {
            Err(Errno::EXIST) => {
                let stat = statat(directory.fd(), name, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    return Ok(());
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = openat(directory.fd(), name, flags, Mode::empty())?;
                self.tree.implied.remove(&directory.join(name));
                whiteout::make_opaque(std::os::fd::AsFd::as_fd(&fd))
            }
            result => Ok(result?),
        }
    }

    fn place(
        &mut self,
        member: &Member,
        directory: &Directory,
        name: &[u8],
        stream: &mut Stream<'_>,
    ) -> Result<Content> {
        match member.kind {
            Kind::File => return self.file(member, directory, name, stream),
            Kind::Directory => return self.directory(member, directory, name, stream).map(|()| Content::Whole),
            Kind::HardLink => return self.hard_link(member, directory, name, stream).map(|()| Content::Whole),
            Kind::Symlink => {
                self.anew(directory, name, stream, |dir| {
                    symlinkat(member.link.as_slice(), dir, name)
                })?;
                self.written += member.link.len() as u64;
            }
            Kind::Node(kind) => {
                let device = makedev(member.device.0, member.device.1);
                self.anew(directory, name, stream, |dir| {
                    mknodat(dir, name, kind, Mode::from(0o600), device)
                })?;
            }
        }
        let dir = directory.fd();
        chownat(
            dir,
            name,
            Some(Uid::from_raw(self.onto.user(member.uid)?)),
            Some(Gid::from_raw(self.onto.group(member.gid)?)),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .context("set owner")?;
        if member.kind != Kind::Symlink {
            set_mode(dir, name, Mode::from(member.mode)).context("set mode")?;
        }
        member.xattrs.iter().try_for_each(|x| xattr::set(dir, name, x))?;
        utimensat(dir, name, &timestamps(member.mtime), AtFlags::SYMLINK_NOFOLLOW).context("set time")?;
        Ok(Content::Whole)
    }

    /// Makes something with `make`, in the place of what has that name already.
    fn anew<R>(
        &mut self,
        directory: &Directory,
        name: &[u8],
        stream: &mut Stream<'_>,
        make: impl Fn(BorrowedFd<'_>) -> Result<R, Errno>,
    ) -> Result<R> {
        match make(directory.fd()) {
            Err(Errno::EXIST) => {
                if self.onto.keeps_kinds() && is_directory(directory, name)? {
                    return Err(Error::other("cannot overwrite a directory with something else"));
                }
                self.tree
                    .clear(directory, name, stream.recorder.as_mut())
                    .context("replace")?;
                Ok(make(directory.fd())?)
            }
            result => Ok(result?),
        }
    }

    fn file(
        &mut self,
        member: &Member,
        directory: &Directory,
        name: &[u8],
        stream: &mut Stream<'_>,
    ) -> Result<Content> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self.anew(directory, name, stream, |dir| {
            openat(dir, name, flags, Mode::from(0o600))
        })?;
        let file = File::from(fd);
        let path = directory.join(name);
        let whole = [Piece {
            offset: 0,
            length: member.size,
        }];
        let (pieces, real_size) = match &member.sparse {
            Some(map) => (map.pieces.as_slice(), map.real_size),
            None => (whole.as_slice(), member.size),
        };
        let mut holes = member.sparse.is_some();
        for piece in pieces.iter().filter(|p| p.length > 0) {
            let mut at = piece.offset;
            let place = Place {
                path: &path,
                offset: piece.offset,
            };
            let complete = stream.content(piece.length, place, &mut |bytes| {
                holes |= write_but_zeros(&file, bytes, at).context("write")?;
                at += bytes.len() as u64;
                Ok(())
            })?;
            if !complete {
                return Ok(Content::Torn);
            }
        }
        // One at its end may be missing.
        if holes {
            ftruncate(&file, real_size).context("set size")?;
        }
        self.written += real_size;
        let (user, group) = (self.onto.user(member.uid)?, self.onto.group(member.gid)?);
        fchown(&file, Some(Uid::from_raw(user)), Some(Gid::from_raw(group))).context("set owner")?;
        fchmod(&file, Mode::from(member.mode)).context("set mode")?;
        member
            .xattrs
            .iter()
            .try_for_each(|x| xattr::set(directory.fd(), name, x))?;
        futimens(&file, &timestamps(member.mtime)).context("set time")?;
        Ok(Content::Whole)
    }

    /// A directory on top of another is the same one with new attributes; anything else makes room.
    fn directory(
        &mut self,
        member: &Member,
        directory: &Directory,
        name: &[u8],
        stream: &mut Stream<'_>,
    ) -> Result<()> {
        let path = match self.tree.make(directory, name) {
            Ok(made) => made.path.to_vec(),
            Err(Errno::EXIST) => {
                let stat = statat(directory.fd(), name, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    if self.onto.keeps_kinds() {
                        return Err(Error::other("cannot overwrite a file with a directory"));
                    }
                    let removed = whiteout::hides(directory.fd(), name, &stat)?;
                    self.tree
                        .clear(directory, name, stream.recorder.as_mut())
                        .context("replace")?;
                    let made = self.tree.make(directory, name)?;
                    if removed {
                        whiteout::make_opaque(made.fd())?;
                    }
                }
                directory.join(name)
            }
            Err(e) => return Err(e.into()),
        };
        self.tree.implied.remove(&path);
        self.finish_later(path, member)
    }

    fn finish_later(&mut self, path: Vec<u8>, member: &Member) -> Result<()> {
        let xattrs = member.xattrs.iter().map(|x| x.name.as_bytes().len() + x.value.len());
        self.tree.remember(path.len() + xattrs.sum::<usize>())?;
        self.tree.later.insert(path, Finish::of(member, self.onto)?);
        Ok(())
    }

    /// The target is a member's name, found as one is; at its end no link is followed.
    fn hard_link(
        &mut self,
        member: &Member,
        directory: &Directory,
        name: &[u8],
        stream: &mut Stream<'_>,
    ) -> Result<()> {
        let target = clean(&member.link).context("hard link")?;
        let to = || format!("hard link to {}", shown(&member.link));
        let (target, parent) = target
            .split_last()
            .ok_or_else(|| Error::from(Errno::PERM))
            .with_context(to)?;
        let from = self.tree.directory(&parent.join(&b'/')).with_context(to)?;
        if from.path == directory.path && *target == name {
            return Ok(());
        }
        match statat(from.fd(), *target, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => {}
            Err(Errno::NOENT) => return Err(Error::other("which is not in this layer")).with_context(to),
            Err(e) => return Err(e).with_context(to),
        }
        self.anew(directory, name, stream, |dir| {
            linkat(from.fd(), *target, dir, name, AtFlags::empty())
        })
        .with_context(to)
    }

    /// Directories' attributes; returns the size of it all, and the implied directories.
    fn finish(mut self, stream: &mut Stream<'_>, open_root: bool) -> Result<(u64, Vec<Vec<u8>>)> {
        let root = self.tree.root().clone();
        if self.linked_files {
            self.tree.recount = true;
            self.tree
                .clear(&root, whiteout::LINKED_FILES, stream.recorder.as_mut())?;
        }
        if *self.onto == Onto::Layer {
            if !self.tree.later.contains_key(&b""[..]) {
                self.tree.implied.insert(Vec::new());
            }
            let top = self.tree.later.entry(Vec::new()).or_insert(Finish::of_root());
            if open_root {
                top.mode |= 0o755;
            }
        }
        let later = std::mem::take(&mut self.tree.later);
        for (path, finish) in later.iter().rev() {
            let directory = self.tree.directory(path).and_then(|d| finish.apply(&d));
            directory.with_context(|| shown(path))?;
        }
        let size = match self.tree.recount && *self.onto == Onto::Layer {
            true => crate::layer::size(root.fd())?,
            false => self.written.saturating_sub(self.tree.replaced),
        };
        Ok((size, self.tree.implied.into_iter().collect()))
    }
}

impl Finish {
    fn of(member: &Member, onto: &Onto) -> Result<Self> {
        Ok(Finish {
            uid: onto.user(member.uid)?,
            gid: onto.group(member.gid)?,
            mode: member.mode,
            mtime: Some(member.mtime),
            xattrs: member.xattrs.clone(),
        })
    }

    /// The root of an archive that does not name it.
    fn of_root() -> Self {
        Finish {
            uid: 0,
            gid: 0,
            mode: 0o755,
            mtime: None,
            xattrs: Vec::new(),
        }
    }

    fn apply(&self, directory: &Directory) -> Result<()> {
        let fd = directory.fd();
        fchown(fd, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid))).context("set owner")?;
        fchmod(fd, Mode::from(self.mode)).context("set mode")?;
        self.xattrs.iter().try_for_each(|x| xattr::set(fd, b"", x))?;
        match self.mtime {
            Some(time) => futimens(fd, &timestamps(time)).context("set time"),
            None => Ok(()),
        }
    }
}

/// Leaves a hole for every whole piece of zeros: a file that was sparse where it was packed is so here, and needs no
/// disk for what is not in it.
/// Says whether it left any.
fn write_but_zeros(file: &File, bytes: &[u8], at: u64) -> std::io::Result<bool> {
    // Between pieces of zeros.
    let (mut start, mut end) = (0, 0);
    let mut holes = false;
    while end < bytes.len() {
        let left = PIECE - (at + end as u64) % PIECE;
        let next = bytes.len().min(end + usize::try_from(left).unwrap_or(usize::MAX));
        if next - end >= HOLE && bytes[end..next].iter().all(|b| *b == 0) {
            file.write_all_at(&bytes[start..end], at + start as u64)?;
            start = next;
            holes = true;
        }
        end = next;
    }
    file.write_all_at(&bytes[start..], at + start as u64)?;
    Ok(holes)
}

/// A member's name as names below the root. Absolute ones begin there, as tar has them.
fn clean(path: &[u8]) -> Result<Vec<&[u8]>> {
    if path.len() > LONGEST_PATH {
        return Err(Error::other(format!(
            "name of {} bytes, limit {LONGEST_PATH}",
            path.len()
        )));
    }
    let names: Vec<_> = path
        .split(|b| *b == b'/')
        .filter(|n| !n.is_empty() && *n != b".")
        .collect();
    match names.contains(&&b".."[..]) {
        true => Err(Error::other("has '..' in its name")),
        false => Ok(names),
    }
}

fn is_directory(at: &Directory, name: &[u8]) -> Result<bool> {
    let stat = statat(at.fd(), name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

enum Bookkeeping {
    No,
    LinkedFiles,
    Other,
}

/// AUFS' own directories stand in the root; elsewhere nothing is inside a whiteout.
fn bookkeeping(path: &[&[u8]]) -> Result<Bookkeeping> {
    let inner = path.len() - 1;
    match path.iter().position(|n| whiteout::meaning(n) != Meaning::Plain) {
        None => Ok(Bookkeeping::No),
        Some(at) if whiteout::meaning(path[at]) == Meaning::Bookkeeping => match (at, path[at]) {
            (0, whiteout::LINKED_FILES) => Ok(Bookkeeping::LinkedFiles),
            _ => Ok(Bookkeeping::Other),
        },
        Some(at) if at < inner => Err(Error::other("is inside a whiteout")),
        Some(_) => Ok(Bookkeeping::No),
    }
}

pub(super) fn timestamps(time: Time) -> Timestamps {
    let time = Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
