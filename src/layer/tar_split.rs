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
//!
//! Behind the segments stands a [`Sum`] of the whole tar, in a frame that zstd passes over: u32 0x184d2a5b, u32 16, u32 n,
//! u32 CRC-32, u64 length. Records of older engines have none.

use crate::error::{Context, Error, Result};
use crate::layer::{Sum, shown};
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
/// What the sum begins with: RFC 8878, section 3.1.2, and the length of the rest.
const SUM: [u8; 8] = [0x5b, 0x2a, 0x4d, 0x18, 16, 0, 0, 0];
const SUM_LENGTH: usize = SUM.len() + 16;

/// Writes a record while its archive is unpacked.
pub(super) struct Recorder<'a> {
    out: zstd::Encoder<'static, BufWriter<&'a File>>,
    bytes: Vec<u8>,
    lost: u32,
    sum: Sum,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(file: &'a File) -> Result<Self> {
        let mut out = zstd::Encoder::new(BufWriter::with_capacity(PIECE, file), LEVEL).context("write tar record")?;
        out.write_all(FORM).context("write tar record")?;
        Ok(Recorder {
            out,
            bytes: Vec::with_capacity(PIECE),
            lost: 0,
            sum: Sum::default(),
        })
    }

    /// Is shown every byte of the tar, in order; what they are is told apart.
    pub(super) fn sum(&mut self, bytes: &[u8]) {
        self.sum.add(bytes);
    }

    /// Of what is no file's content.
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
        let mut sum = SUM.to_vec();
        sum.extend_from_slice(&self.lost.to_le_bytes());
        sum.extend_from_slice(&self.sum.crc.to_le_bytes());
        sum.extend_from_slice(&self.sum.length.to_le_bytes());
        self.out
            .finish()
            .and_then(|mut out| out.write_all(&sum).and_then(|()| out.flush()))
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

/// What stands behind a record: how many files were replaced, and the tar's sum.
fn behind(record: &File) -> Option<(u32, Sum)> {
    let at = record.metadata().ok()?.len().checked_sub(SUM_LENGTH as u64)?;
    let mut bytes = [0; SUM_LENGTH];
    record.read_exact_at(&mut bytes, at).ok()?;
    let rest = bytes.strip_prefix(&SUM)?;
    let (lost, rest) = rest.split_first_chunk()?;
    let (crc, rest) = rest.split_first_chunk()?;
    let sum = Sum {
        crc: u32::from_le_bytes(*crc),
        length: u64::from_le_bytes(*rest.first_chunk()?),
    };
    Some((u32::from_le_bytes(*lost), sum))
}

/// The sum of the tar that `record` is of; `None` if an older engine made the record.
pub(crate) fn sum(record: &File) -> Option<Sum> {
    behind(record).map(|(_, sum)| sum)
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
    let mut length = 0;
    let mut hasher = Sha256::new();
    rebuild_with(record, dir, &mut |bytes| {
        length += bytes.len() as u64;
        hasher.update(bytes);
        out.write_all(bytes).context("write archive")
    })?;
    match Digest::from_hasher(hasher) {
        digest if digest == expected.0 => Ok(length),
        digest => Err(damaged(expected, &format!("its files have the digest {digest}"))),
    }
}

/// What is said of a layer whose tar came out as another.
pub(crate) fn damaged(expected: DiffId, what: &str) -> Error {
    Error::other(format!("layer {} is damaged: {what}", expected.0))
        .with_hint("`barge system check` looks at all of them")
}

/// Writes the tar that `record` is of, with the content that is in `dir`, and says its digest: the caller compares it
/// with the layer's diff id.
pub(crate) fn rebuild(record: &File, dir: BorrowedFd<'_>, out: &mut dyn Write) -> Result<Digest> {
    let mut hasher = Sha256::new();
    rebuild_with(record, dir, &mut |bytes| {
        hasher.update(bytes);
        out.write_all(bytes).context("write archive")
    })?;
    Ok(Digest::from_hasher(hasher))
}

/// The same, without looking at what it is: the caller compares its [`sum`].
pub(crate) fn rebuild_unchecked(record: &File, dir: BorrowedFd<'_>, out: &mut dyn Write) -> Result<()> {
    rebuild_with(record, dir, &mut |bytes| out.write_all(bytes).context("write archive"))
}

fn rebuild_with(record: &File, dir: BorrowedFd<'_>, emit: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    // Seldom is anything replaced, and then it need not be looked for.
    let replaced = match behind(record) {
        Some((0, _)) => HashMap::new(),
        _ => replaced(record)?,
    };
    let mut segments = Segments::open(record)?;
    let mut buffer = vec![0; PIECE];
    let mut open: Option<(Vec<u8>, File)> = None;
    let mut at = 0;
    loop {
        at += 1;
        match segments.next()? {
            Segment::Bytes { length } => emit(&segments.bytes(length)?)?,
            Segment::Lost { length, .. } => drop(segments.bytes(length)?),
            Segment::End => return Ok(()),
            Segment::Content { path, offset, length } => {
                let said = || shown(&path);
                if let Some(old) = replaced.get(&path).and_then(|all| all.iter().find(|r| r.at > at)) {
                    let mut content = Content {
                        file: &old.file,
                        offset,
                        left: length,
                        end: AtTheEnd::Hole,
                    };
                    content.copy(&mut buffer, emit).with_context(said)?;
                    continue;
                }
                let file = match open.take() {
                    Some((known, file)) if known == path => file,
                    _ => open_file(dir, &path).with_context(said)?,
                };
                let mut content = Content {
                    file: &file,
                    offset,
                    left: length,
                    end: AtTheEnd::Damage,
                };
                content.copy(&mut buffer, emit).with_context(said)?;
                open = Some((path, file));
            }
        }
    }
}

/// How long the tar is that `record` is of.
pub(crate) fn length(record: &File) -> Result<u64> {
    if let Some(sum) = sum(record) {
        return Ok(sum.length);
    }
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

/// A part of a file that is copied.
struct Content<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
    end: AtTheEnd,
}

impl Content<'_> {
    fn copy(&mut self, buffer: &mut [u8], emit: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        while self.left > 0 {
            let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
            let mut n = self.file.read_at(&mut buffer[..most], self.offset)?;
            if n == 0 {
                if self.end == AtTheEnd::Damage {
                    return Err(Error::other("is shorter than it was in its archive"));
                }
                buffer[..most].fill(0);
                n = most;
            }
            emit(&buffer[..n])?;
            self.offset += n as u64;
            self.left -= n as u64;
        }
        Ok(())
    }
}
