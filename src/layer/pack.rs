//! A directory tree → a tar that depends on the tree alone: members sorted by name, no time of writing, nothing of the
//! machine. The counterpart of `unpack.rs`: what one writes, the other makes the same tree of.
//!
//! A layer's directory is packed with overlayfs' marks as the archive's: a character device 0/0 (or, in the dialect of
//! Linux 6.7, an empty file with an attribute) becomes a `.wh.` name, an opaque directory gets a `.wh..wh..opq`. No
//! attribute of overlayfs' own gets into an archive. Our mounts make neither redirects nor metadata-only copies
//! (`overlay.rs`), so that every file has its content where its name is.
//!
//! Holes of sparse files are written as zeros: where they are depends on the filesystem, and the same tree must have
//! the same digest everywhere. Unpacking makes holes of zeros again. Sockets are left out: nobody listens behind them.
//!
//! The files are read on the caller's thread while another one hashes and writes.

use crate::error::{Context, Error, Result};
use crate::layer::archive::Kind;
use crate::layer::changes::{Change, Changes};
use crate::layer::header::{self, Entry};
use crate::layer::pax::Time;
use crate::layer::stream::BLOCK;
use crate::layer::tar_split::Recorder;
use crate::layer::walk::{Mounts, Order, Step, open_dir, walk_in};
use crate::layer::xattr::Xattr;
use crate::layer::{owners, shown, whiteout, xattr};
use crate::model::digest::Digest;
use crate::model::id::DiffId;
use crate::model::idmap::IdMap;
use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, major, minor, openat, readlinkat, statat};
use rustix::io::{Errno, pread};
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Bytes handed over at once.
const CHUNK: usize = 256 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Options<'a> {
    /// An empty file for what `tar_split::rebuild` needs. The tree must not change meanwhile.
    pub(crate) record: Option<&'a File>,
    /// The root gets a member of its own.
    pub(crate) root: bool,
    /// No time is later than this (`SOURCE_DATE_EPOCH`).
    pub(crate) epoch: Option<i64>,
    /// Paths that are left out; nothing but what is left out may be in them.
    pub(crate) without: BTreeSet<Vec<u8>>,
    /// The tree is a full one, of which only this is wanted.
    pub(crate) only: Option<&'a Changes>,
    /// What is mounted in the tree belongs to it.
    pub(crate) mounts: Mounts,
    /// Whose numbers the owners are seen in, where they are not the image's own.
    pub(crate) ids: Option<&'a IdMap>,
}

#[derive(Debug)]
pub(crate) struct Packed {
    /// Digest of the tar.
    pub(crate) diff_id: DiffId,
    /// Bytes of files and links, as `layer::size` counts.
    pub(crate) size: u64,
    /// Members and marks; none in a layer that changes nothing.
    pub(crate) members: u64,
    /// Whether unpacking gives this very tree: no socket was left out, and no time made earlier.
    pub(crate) exact: bool,
}

/// Packs a layer's directory. The tar itself goes to `out`, if it is wanted.
pub(crate) fn pack(dir: BorrowedFd<'_>, out: Option<&mut (dyn Write + Send)>, options: &Options<'_>) -> Result<Packed> {
    let recorder = options.record.map(Recorder::new).transpose()?;
    let (chunks, chunks_out) = sync_channel(2);
    let (spent_in, spent) = channel();
    std::thread::scope(|scope| {
        let hashing = std::thread::Builder::new()
            .name("hash".to_owned())
            .spawn_scoped(scope, move || drain(&chunks_out, &spent_in, out))
            .context("start a thread")?;
        let sink = Sink::Chunks { chunks, spent };
        let mut packer = Packer::new(sink, recorder, Marks::Overlay, options);
        let packed = packer.tree(dir, options.root).and_then(|()| packer.end());
        let (size, members, exact) = (packer.size, packer.members, packer.exact);
        drop(packer);
        let digest = hashing
            .join()
            .map_err(|_| Error::other("the hashing thread panicked"))?
            .context("write archive")?;
        packed?;
        Ok(Packed {
            diff_id: DiffId(digest),
            size,
            members,
            exact,
        })
    })
}

/// Writes a tree as it is seen, whoever may change it meanwhile: a container's root. Marks of layers mean nothing here.
/// What `options` leave out is in it as little as what is below.
pub(crate) fn export(dir: BorrowedFd<'_>, out: &mut dyn Write, options: &Options<'_>) -> Result<u64> {
    write_as(Marks::None, dir, out, options)
}

/// Writes one entry of a tree as it is seen, and all that is in it, under the name `as_name`.
pub(crate) fn export_entry(
    dir: BorrowedFd<'_>,
    name: &CStr,
    as_name: &[u8],
    out: &mut dyn Write,
    options: &Options<'_>,
) -> Result<u64> {
    let mut packer = Packer::new(Sink::Direct(out), None, Marks::None, options);
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let below = openat(dir, name, flags, Mode::empty())?;
            as_name.clone_into(&mut packer.prefix);
            packer.tree(below.as_fd(), true)?;
        }
        kind => packer.entry((dir, name), kind, as_name)?,
    }
    packer.end()?;
    Ok(packer.members)
}

/// Writes a layer's directory as [`pack`] does, for somebody who hashes it himself. The number of members.
pub(crate) fn write(dir: BorrowedFd<'_>, out: &mut dyn Write, options: &Options<'_>) -> Result<u64> {
    write_as(Marks::Overlay, dir, out, options)
}

/// The same of what AUFS has written: its marks are an archive's own, and its bookkeeping is nobody else's.
pub(crate) fn write_branch(dir: BorrowedFd<'_>, out: &mut dyn Write, options: &Options<'_>) -> Result<u64> {
    write_as(Marks::Aufs, dir, out, options)
}

fn write_as(marks: Marks, dir: BorrowedFd<'_>, out: &mut dyn Write, options: &Options<'_>) -> Result<u64> {
    let recorder = options.record.map(Recorder::new).transpose()?;
    let mut packer = Packer::new(Sink::Direct(out), recorder, marks, options);
    packer.tree(dir, options.root)?;
    packer.end()?;
    Ok(packer.members)
}

/// `SOURCE_DATE_EPOCH` (reproducible-builds.org): seconds.
pub(crate) fn source_date_epoch() -> Result<Option<i64>> {
    match std::env::var_os("SOURCE_DATE_EPOCH") {
        None => Ok(None),
        Some(text) if text.is_empty() => Ok(None),
        Some(text) => match text.to_str().and_then(|t| t.parse().ok()) {
            Some(seconds) => Ok(Some(seconds)),
            None => Err(Error::usage(format!(
                "SOURCE_DATE_EPOCH is '{}': want seconds since 1970",
                text.to_string_lossy().escape_debug()
            ))),
        },
    }
}

/// The hashing end.
fn drain(
    chunks: &Receiver<Vec<u8>>,
    spent: &Sender<Vec<u8>>,
    mut out: Option<&mut (dyn Write + Send)>,
) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    for chunk in chunks {
        hasher.update(&chunk);
        if let Some(out) = &mut out {
            out.write_all(&chunk)?;
        }
        let _ = spent.send(chunk);
    }
    if let Some(out) = out {
        out.flush()?;
    }
    Ok(Digest::from_hasher(hasher))
}

enum Sink<'a> {
    Chunks {
        chunks: SyncSender<Vec<u8>>,
        spent: Receiver<Vec<u8>>,
    },
    Direct(&'a mut dyn Write),
}

/// Whose marks of removed names the tree has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marks {
    Overlay,
    Aufs,
    None,
}

/// What a member has beside its kind and what stat(2) says of it.
#[derive(Default)]
struct More<'a> {
    link: &'a [u8],
    size: u64,
    xattrs: &'a [Xattr],
}

struct Packer<'a> {
    sink: Sink<'a>,
    chunk: Vec<u8>,
    recorder: Option<Recorder<'a>>,
    marks: Marks,
    options: &'a Options<'a>,
    /// What stands before every path.
    prefix: Vec<u8>,
    /// The first name of a file of several, by device and inode.
    linked: HashMap<(u64, u64), Vec<u8>>,
    size: u64,
    members: u64,
    exact: bool,
}

impl<'a> Packer<'a> {
    fn new(sink: Sink<'a>, recorder: Option<Recorder<'a>>, marks: Marks, options: &'a Options<'a>) -> Self {
        Packer {
            sink,
            chunk: Vec::with_capacity(CHUNK),
            recorder,
            marks,
            options,
            prefix: Vec::new(),
            linked: HashMap::new(),
            size: 0,
            members: 0,
            exact: true,
        }
    }

    fn tree(&mut self, dir: BorrowedFd<'_>, root: bool) -> Result<()> {
        if root {
            self.directory(dir, c"", b".", &fstat(dir)?)?;
        } else if self.marks == Marks::Overlay && whiteout::is_opaque(dir, b"")? {
            self.marker(b".wh..wh..opq")?;
        }
        walk_in(Order::Sorted, self.options.mounts, dir, &mut |step| match step {
            Step::Entry { path, .. } | Step::Enter { path, .. } if self.leaves_out(path) => Ok(()),
            Step::Entry { dir, name, kind, path } => self.entry((dir, name), kind, path).with_context(|| shown(path)),
            Step::Enter { dir, name, path } => {
                let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).with_context(|| shown(path))?;
                self.directory(dir, name, path, &stat).with_context(|| shown(path))
            }
            Step::Leave { .. } => Ok(()),
        })?;
        let removed = self.options.only.into_iter().flatten();
        for (path, _) in removed.filter(|(_, change)| **change == Change::Deleted) {
            let name = path.iter().rposition(|b| *b == b'/').map_or(0, |cut| cut + 1);
            self.marker(&[&path[..name], b".wh.", &path[name..]].concat())?;
        }
        Ok(())
    }

    fn leaves_out(&self, path: &[u8]) -> bool {
        self.marks == Marks::Aufs && whiteout::is_bookkeeping(path)
            || self.options.without.contains(path)
            || self.options.only.is_some_and(|only| !only.contains_key(path))
    }

    /// The two blocks of zeros, and what is still on its way.
    fn end(&mut self) -> Result<()> {
        self.header(&[0; 2 * BLOCK])?;
        self.hand_over()?;
        if let Sink::Direct(out) = &mut self.sink {
            out.flush().context("write archive")?;
        }
        self.recorder.take().map_or(Ok(()), Recorder::finish)
    }

    fn directory(&mut self, dir: BorrowedFd<'_>, name: &CStr, path: &[u8], stat: &Stat) -> Result<()> {
        let xattrs = xattr::of_archives(dir, name.to_bytes())?;
        self.member(
            path,
            Kind::Directory,
            stat,
            More {
                xattrs: &xattrs,
                ..More::default()
            },
        )?;
        if self.marks == Marks::Overlay && whiteout::is_opaque(dir, name.to_bytes())? {
            let below: &[u8] = if path == b"." { b"" } else { path };
            self.marker(&join(below, b".wh..wh..opq"))?;
        }
        Ok(())
    }

    fn entry(&mut self, (dir, name): (BorrowedFd<'_>, &CStr), kind: FileType, path: &[u8]) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match kind {
            // Looked at by what is open: one walk of the path instead of three.
            FileType::RegularFile => match openat(dir, name, flags, Mode::empty()) {
                // Gone meanwhile.
                Err(Errno::NOENT) => return Ok(()),
                opened => Some(File::from(opened?)),
            },
            _ => None,
        };
        let stat = match &file {
            Some(file) => fstat(file)?,
            None => match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => return Ok(()),
                result => result?,
            },
        };
        if self.marks == Marks::Overlay && whiteout::hides(dir, name.to_bytes(), &stat)? {
            let parent = path.len() - name.to_bytes().len();
            let hidden = [&path[..parent], b".wh.", name.to_bytes()].concat();
            return self.marker(&hidden);
        }
        if self.marks == Marks::Aufs && whiteout::is_mark(name.to_bytes()) {
            return self.marker(path);
        }
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Symlink => Kind::Symlink,
            kind @ (FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo) => Kind::Node(kind),
            FileType::Directory => return Err(Error::other("became a directory while it was read")),
            _ => {
                self.exact = false;
                return Ok(());
            }
        };
        if name.to_bytes().starts_with(b".wh.") && (self.marks == Marks::Overlay || self.options.only.is_some()) {
            return Err(Error::other(
                "has a name that stands for a removed file in an image's layer",
            ));
        }
        let id = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1
            && let Some(first) = self.linked.get(&id)
        {
            let first = first.clone();
            let xattrs = xattr::of_archives(dir, name.to_bytes())?;
            return self.member(
                path,
                Kind::HardLink,
                &stat,
                More {
                    link: &first,
                    size: 0,
                    xattrs: &xattrs,
                },
            );
        }
        if let (Kind::File, Some(file)) = (kind, &file) {
            self.file(file, &stat, path)?;
        } else if kind == Kind::File {
            return Err(Error::other("changed while it was read"));
        } else {
            let link = match kind {
                Kind::Symlink => readlinkat(dir, name, Vec::new())?.into_bytes(),
                _ => Vec::new(),
            };
            let xattrs = xattr::of_archives(dir, name.to_bytes())?;
            self.member(
                path,
                kind,
                &stat,
                More {
                    link: &link,
                    size: 0,
                    xattrs: &xattrs,
                },
            )?;
            self.size += link.len() as u64;
        }
        if stat.st_nlink > 1 {
            self.linked.insert(id, path.to_vec());
        }
        Ok(())
    }

    fn file(&mut self, file: &File, stat: &Stat, path: &[u8]) -> Result<()> {
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        let xattrs = xattr::of_open_archive(file)?;
        self.member(
            path,
            Kind::File,
            stat,
            More {
                link: b"",
                size,
                xattrs: &xattrs,
            },
        )?;
        self.content(file, size)?;
        if let Some(recorder) = self.recorder.as_mut().filter(|_| size > 0) {
            recorder.content(path, 0, size)?;
        }
        self.size += size;
        self.header(&[0; BLOCK][..usize::try_from(size.wrapping_neg() % BLOCK as u64).unwrap_or_default()])
    }

    /// `size` bytes, whatever the file has by now: what it lacks is zeros, as its header is written already.
    fn content(&mut self, file: &File, size: u64) -> Result<()> {
        let mut at = 0;
        while at < size {
            let start = self.chunk.len();
            let most = usize::try_from(size - at).unwrap_or(CHUNK).min(CHUNK - start);
            match pread(file, spare_capacity(&mut self.chunk), at) {
                Ok(0) if self.recorder.is_some() => return Err(Error::other("shrank while it was read")),
                Ok(0) => {
                    self.chunk.resize(start + most, 0);
                    at += most as u64;
                }
                Ok(n) => {
                    // It may have grown.
                    self.chunk.truncate(start + most);
                    at += n.min(most) as u64;
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(e).context("read"),
            }
            if self.chunk.len() >= CHUNK {
                self.hand_over()?;
            }
        }
        Ok(())
    }

    fn member(&mut self, path: &[u8], kind: Kind, stat: &Stat, more: More<'_>) -> Result<()> {
        let More { link, size, xattrs } = more;
        let device = match kind {
            Kind::Node(FileType::CharacterDevice | FileType::BlockDevice) => (major(stat.st_rdev), minor(stat.st_rdev)),
            _ => (0, 0),
        };
        let mtime = self.clamped(Time {
            seconds: stat.st_mtime,
            nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
        });
        let (path, link) = match (self.prefix.is_empty(), path) {
            (true, _) => (Cow::Borrowed(path), Cow::Borrowed(link)),
            (false, b".") => (Cow::Borrowed(&*self.prefix), Cow::Borrowed(link)),
            (false, _) if kind == Kind::HardLink => (join(&self.prefix, path).into(), join(&self.prefix, link).into()),
            (false, _) => (join(&self.prefix, path).into(), Cow::Borrowed(link)),
        };
        let ids = self.options.ids;
        let xattrs = ids.map_or(Cow::Borrowed(xattrs), |ids| owners::inside(xattrs, ids));
        let entry = Entry {
            path: &path,
            kind,
            link: &link,
            mode: stat.st_mode & 0o7777,
            uid: ids.map_or(stat.st_uid, |ids| ids.inside_user(stat.st_uid)),
            gid: ids.map_or(stat.st_gid, |ids| ids.inside_group(stat.st_gid)),
            mtime,
            size,
            device,
            xattrs: &xattrs,
        };
        let mut blocks = Vec::with_capacity(3 * BLOCK);
        header::append(&entry, &mut blocks);
        self.members += 1;
        self.header(&blocks)
    }

    fn clamped(&mut self, time: Time) -> Time {
        match self.options.epoch {
            Some(epoch) if (time.seconds, time.nanoseconds) > (epoch, 0) => {
                self.exact = false;
                Time {
                    seconds: epoch,
                    nanoseconds: 0,
                }
            }
            _ => time,
        }
    }

    fn marker(&mut self, path: &[u8]) -> Result<()> {
        self.members += 1;
        self.header(&header::marker(path))
    }

    /// Everything but a file's content.
    fn header(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(recorder) = &mut self.recorder {
            recorder.bytes(bytes)?;
        }
        if self.chunk.len() + bytes.len() > CHUNK {
            self.hand_over()?;
        }
        self.chunk.extend_from_slice(bytes);
        match self.chunk.len() >= CHUNK {
            true => self.hand_over(),
            false => Ok(()),
        }
    }

    fn hand_over(&mut self) -> Result<()> {
        if let Some(recorder) = &mut self.recorder {
            recorder.sum(&self.chunk);
        }
        match &mut self.sink {
            Sink::Direct(out) => out.write_all(&self.chunk).context("write archive")?,
            Sink::Chunks { chunks, spent } => {
                let next = spent.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK));
                let full = std::mem::replace(&mut self.chunk, next);
                chunks
                    .send(full)
                    .map_err(|_| Error::other("write archive: its other end is gone"))?;
            }
        }
        self.chunk.clear();
        Ok(())
    }
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    match path.is_empty() {
        true => name.to_vec(),
        false => [path, b"/", name].concat(),
    }
}

/// Whether the roots of two layers differ in what an archive would say of them, times aside: those change with every
/// entry, and a layer that says nothing of its root has the one below.
pub(crate) fn roots_differ(dir: BorrowedFd<'_>, below: BorrowedFd<'_>) -> Result<bool> {
    roots_differ_for(dir, below, None)
}

/// The same where the owners of `dir` are in the numbers of `ids`.
pub(crate) fn roots_differ_for(dir: BorrowedFd<'_>, below: BorrowedFd<'_>, ids: Option<&IdMap>) -> Result<bool> {
    let open = |fd| open_dir(fd, c".").context("open directory");
    let (dir, below) = (open(dir)?, open(below)?);
    let (a, b) = (fstat(&dir)?, fstat(&below)?);
    let owner = (b.st_uid, b.st_gid);
    let owner = ids.map_or(owner, |ids| ids.outside_owner(owner));
    let same = (a.st_mode, (a.st_uid, a.st_gid)) == (b.st_mode, owner);
    Ok(!same || xattr::of_archives(dir.as_fd(), b"")? != xattr::of_archives(below.as_fd(), b"")?)
}
