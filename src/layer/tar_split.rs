//! What a tar has beside its files' content, kept so that the tar can be rebuilt byte for byte from the unpacked tree.
//!
//! A record is a zstd stream of segments behind a line that names the form. Numbers are little-endian.
//!
//! ```text
//!   0  u32 length, bytes                                    headers, padding, end marks: as they were
//!   1  u64 offset, u64 length, u16 length, path             content of the file at path
//!   2  u32 n, u64 offset, u32 length, u16 length, path, bytes   what that content was, before path was replaced
//!   3                                                       the end
//! ```
//!
//! An archive may have one path twice; the tree has the last. When a file is replaced, its content goes into the record
//! (2), and stands for every segment 1 of that path before. `n` counts replaced files.

use crate::error::{Context, Error, Result};
use crate::layer::shown;
use crate::model::digest::Digest;
use crate::model::id::DiffId;
use rustix::fs::{MemfdFlags, Mode, OFlags, ResolveFlags, SeekFrom, memfd_create, openat, openat2, seek};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

const FORM: &[u8] = b"barge tar record 1\n";
const BYTES: u8 = 0;
const CONTENT: u8 = 1;
const LOST: u8 = 2;
const END: u8 = 3;
/// Bytes are gathered into segments of this size, and content is copied in pieces of it.
const PIECE: usize = 64 * 1024;
/// Headers compress to a tenth already at the fastest level.
const LEVEL: i32 = 1;

/// Writes a record while its archive is unpacked.
pub(super) struct Recorder<'a> {
    out: zstd::Encoder<'static, BufWriter<&'a File>>,
    bytes: Vec<u8>,
    lost: u32,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(file: &'a File) -> Result<Self> {
        let mut out = zstd::Encoder::new(BufWriter::with_capacity(PIECE, file), LEVEL).context("write tar record")?;
        out.write_all(FORM).context("write tar record")?;
        Ok(Recorder {
            out,
            bytes: Vec::with_capacity(PIECE),
            lost: 0,
        })
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(PIECE) {
            if self.bytes.len() + piece.len() > PIECE {
                self.flush()?;
            }
            self.bytes.extend_from_slice(piece);
        }
        Ok(())
    }

    pub(super) fn content(&mut self, path: &[u8], offset: u64, length: u64) -> Result<()> {
        self.flush()?;
        self.write(&[
            &[CONTENT],
            &offset.to_le_bytes(),
            &length.to_le_bytes(),
            &path_length(path)?,
            path,
        ])
    }

    /// Takes over the content of a regular file that is about to be removed. `path` is where earlier segments say it is.
    pub(super) fn lost(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<()> {
        self.flush()?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(dir, name, flags, Mode::empty())?);
        self.lost += 1;
        // Says that there was such a file, whatever part of it is holes.
        self.lost_piece(path, 0, b"")?;
        let mut buffer = vec![0; PIECE];
        let mut offset = 0;
        loop {
            let start = match seek(&file, SeekFrom::Data(offset)) {
                Ok(start) => start,
                Err(Errno::NXIO) => return Ok(()),
                Err(e) => return Err(e.into()),
            };
            let end = seek(&file, SeekFrom::Hole(start))?;
            offset = start;
            while offset < end {
                let most = usize::try_from(end - offset).unwrap_or(PIECE).min(PIECE);
                let n = file.read_at(&mut buffer[..most], offset)?;
                if n == 0 {
                    return Ok(());
                }
                self.lost_piece(path, offset, &buffer[..n])?;
                offset += n as u64;
            }
        }
    }

    fn lost_piece(&mut self, path: &[u8], offset: u64, bytes: &[u8]) -> Result<()> {
        let length = u32::try_from(bytes.len()).map_err(|_| Error::other("tar record: piece too large"))?;
        self.write(&[
            &[LOST],
            &self.lost.to_le_bytes(),
            &offset.to_le_bytes(),
            &length.to_le_bytes(),
            &path_length(path)?,
            path,
            bytes,
        ])
    }

    pub(super) fn finish(mut self) -> Result<()> {
        self.flush()?;
        self.write(&[&[END]])?;
        self.out
            .finish()
            .and_then(|mut out| out.flush())
            .context("write tar record")
    }

    fn flush(&mut self) -> Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.bytes);
        let length = u32::try_from(bytes.len()).map_err(|_| Error::other("tar record: piece too large"))?;
        self.write(&[&[BYTES], &length.to_le_bytes(), &bytes])?;
        self.bytes = bytes;
        self.bytes.clear();
        Ok(())
    }

    fn write(&mut self, parts: &[&[u8]]) -> Result<()> {
        parts
            .iter()
            .try_for_each(|part| self.out.write_all(part))
            .context("write tar record")
    }
}

fn path_length(path: &[u8]) -> Result<[u8; 2]> {
    u16::try_from(path.len())
        .map(u16::to_le_bytes)
        .map_err(|_| Error::other("tar record: path too long"))
}

/// One segment, but for the bytes that follow it.
enum Segment {
    Bytes {
        length: u32,
    },
    Content {
        path: Vec<u8>,
        offset: u64,
        length: u64,
    },
    Lost {
        n: u32,
        path: Vec<u8>,
        offset: u64,
        length: u32,
    },
    End,
}

struct Segments<'a>(BufReader<zstd::Decoder<'static, BufReader<&'a File>>>);

impl<'a> Segments<'a> {
    fn open(mut record: &'a File) -> Result<Self> {
        record.rewind().context("read tar record")?;
        let mut segments = Segments(BufReader::new(zstd::Decoder::new(record).context("read tar record")?));
        let form: [u8; FORM.len()] = segments.array()?;
        match form == FORM {
            true => Ok(segments),
            false => Err(Error::other("not a tar record, or one of a newer engine")),
        }
    }

    fn next(&mut self) -> Result<Segment> {
        let [tag] = self.array()?;
        Ok(match tag {
            BYTES => Segment::Bytes {
                length: u32::from_le_bytes(self.array()?),
            },
            CONTENT => {
                let (offset, length) = (u64::from_le_bytes(self.array()?), u64::from_le_bytes(self.array()?));
                Segment::Content {
                    offset,
                    length,
                    path: self.path()?,
                }
            }
            LOST => {
                let (n, offset) = (u32::from_le_bytes(self.array()?), u64::from_le_bytes(self.array()?));
                Segment::Lost {
                    n,
                    offset,
                    length: u32::from_le_bytes(self.array()?),
                    path: self.path()?,
                }
            }
            END => Segment::End,
            _ => return Err(Error::other("damaged tar record")),
        })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        self.0.read_exact(&mut array).context("read tar record")?;
        Ok(array)
    }

    fn path(&mut self) -> Result<Vec<u8>> {
        let length = u16::from_le_bytes(self.array()?);
        self.bytes(u32::from(length))
    }

    fn bytes(&mut self, length: u32) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = (&mut self.0)
            .take(u64::from(length))
            .read_to_end(&mut bytes)
            .context("read tar record")?;
        match read as u64 == u64::from(length) {
            true => Ok(bytes),
            false => Err(Error::other("damaged tar record")),
        }
    }
}

/// A file that was replaced, and after which segment.
struct Replaced {
    n: u32,
    at: u64,
    file: File,
}

/// [`rebuild`], and an error at the end if it is not the tar that `expected` is the digest of: what has been written is
/// worth nothing then. Returns how long it is.
pub(crate) fn rebuild_verified(
    record: &File,
    dir: BorrowedFd<'_>,
    expected: DiffId,
    out: &mut dyn Write,
) -> Result<u64> {
    let mut counted = Counted { out, bytes: 0 };
    let digest = rebuild(record, dir, &mut counted)?;
    match digest == expected.0 {
        true => Ok(counted.bytes),
        false => Err(Error::other(format!(
            "layer {} is damaged: its files have the digest {digest}",
            expected.0
        ))
        .with_hint("`barge system check` looks at all of them")),
    }
}

struct Counted<'a> {
    out: &'a mut dyn Write,
    bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// Writes the tar that `record` is of, with the content that is in `dir`, and says its digest: the caller compares it
/// with the layer's diff id.
pub(crate) fn rebuild(record: &File, dir: BorrowedFd<'_>, out: &mut dyn Write) -> Result<Digest> {
    let replaced = replaced(record)?;
    let mut segments = Segments::open(record)?;
    let mut hasher = Sha256::new();
    let mut emit = |bytes: &[u8]| -> Result<()> {
        hasher.update(bytes);
        out.write_all(bytes).context("write archive")
    };
    let mut open: Option<(Vec<u8>, File)> = None;
    let mut at = 0;
    loop {
        at += 1;
        match segments.next()? {
            Segment::Bytes { length } => emit(&segments.bytes(length)?)?,
            Segment::Lost { length, .. } => drop(segments.bytes(length)?),
            Segment::End => break,
            Segment::Content { path, offset, length } => {
                let said = || shown(&path);
                if let Some(old) = replaced.get(&path).and_then(|all| all.iter().find(|r| r.at > at)) {
                    copy(&old.file, offset, length, AtTheEnd::Hole, &mut emit).with_context(said)?;
                    continue;
                }
                let file = match open.take() {
                    Some((known, file)) if known == path => file,
                    _ => open_file(dir, &path).with_context(said)?,
                };
                copy(&file, offset, length, AtTheEnd::Damage, &mut emit).with_context(said)?;
                open = Some((path, file));
            }
        }
    }
    Ok(Digest::from_hasher(hasher))
}

/// How long the tar is that `record` is of.
pub(crate) fn length(record: &File) -> Result<u64> {
    let mut segments = Segments::open(record)?;
    let mut total: u64 = 0;
    loop {
        let add = match segments.next()? {
            Segment::Bytes { length } => {
                segments.bytes(length)?;
                u64::from(length)
            }
            Segment::Lost { length, .. } => {
                segments.bytes(length)?;
                0
            }
            Segment::Content { length, .. } => length,
            Segment::End => return Ok(total),
        };
        total = total
            .checked_add(add)
            .ok_or_else(|| Error::other("damaged tar record"))?;
    }
}

/// All replaced files of a record, by path, in the order they were replaced in.
fn replaced(record: &File) -> Result<HashMap<Vec<u8>, Vec<Replaced>>> {
    let mut all: HashMap<Vec<u8>, Vec<Replaced>> = HashMap::new();
    let mut segments = Segments::open(record)?;
    let mut at = 0;
    loop {
        at += 1;
        match segments.next()? {
            Segment::Bytes { length } => drop(segments.bytes(length)?),
            Segment::Content { .. } => {}
            Segment::End => return Ok(all),
            Segment::Lost {
                n,
                path,
                offset,
                length,
            } => {
                let of_path = all.entry(path).or_default();
                if of_path.last().is_none_or(|last| last.n != n) {
                    let file = File::from(memfd_create("replaced", MemfdFlags::CLOEXEC)?);
                    of_path.push(Replaced { n, at, file });
                }
                let bytes = segments.bytes(length)?;
                if let Some(last) = of_path.last() {
                    last.file.write_all_at(&bytes, offset)?;
                }
            }
        }
    }
}

fn open_file(dir: BorrowedFd<'_>, path: &[u8]) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat2(
        dir,
        path,
        flags,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )?;
    Ok(File::from(file))
}

/// What it is that a file has no bytes any more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AtTheEnd {
    Damage,
    /// Only its data is known, and not how long it was.
    Hole,
}

fn copy(
    file: &File,
    mut offset: u64,
    mut left: u64,
    end: AtTheEnd,
    emit: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut buffer = vec![0; PIECE];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let mut n = file.read_at(&mut buffer[..most], offset)?;
        if n == 0 {
            if end == AtTheEnd::Damage {
                return Err(Error::other("is shorter than it was in its archive"));
            }
            buffer[..most].fill(0);
            n = most;
        }
        emit(&buffer[..n])?;
        offset += n as u64;
        left -= n as u64;
    }
    Ok(())
}
