//! What files contain, by digest, and what is remembered of it: a file that has not changed since it was read is not
//! read again.
//!
//! It is known again as git knows the files of its index: by device, inode, size, and the times of the last change of
//! content and of anything (ctime, which nobody can set). A file that was changed in the same tick of the kernel's clock
//! in which it was looked at could change once more and look the same; such a one is not remembered. Filesystems
//! whose inodes or times another machine gives out are never trusted.

use crate::error::{Context as _, Error, Result};
use crate::layer::xattr::{self, Xattr};
use crate::model::digest::Digest;
use rustix::fs::{FileType, Stat, fstat};
use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;

/// Bytes read at once.
const CHUNK: usize = 1 << 20;
/// Files that this build did not look at are remembered up to this many.
const MOST_OTHERS: usize = 200_000;
const MAGIC: &[u8; 8] = b"barge-m1";
const RECORD: usize = 8 * 5 + 4 * 2 + 32 * 2;

/// A file's state, as far as a look from outside tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Stamp {
    dev: u64,
    ino: u64,
    pub(super) size: u64,
    /// Seconds and nanoseconds of the last change of content, and of anything.
    mtime: (i64, u32),
    ctime: (i64, u32),
}

/// A file's content and extended attributes; of anything but a file, only those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) bytes: [u8; 32],
    /// Zeros: it has none.
    pub(super) xattrs: [u8; 32],
}

impl Stamp {
    pub(super) fn of(stat: &Stat) -> Stamp {
        Stamp {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or_default()),
            ctime: (stat.st_ctime, u32::try_from(stat.st_ctime_nsec).unwrap_or_default()),
        }
    }

    /// Whether any later change is seen by the times, `now` being the clock's before the file was looked at.
    fn is_settled(&self, now: (i64, u32)) -> bool {
        // Whole seconds: perhaps a filesystem that keeps no more, or only every other one.
        let now = match self.ctime.1 {
            0 => (now.0 - 2, now.1),
            _ => now,
        };
        self.ctime < now
    }
}

/// The clock that files get their times from: it moves with the kernel's ticks.
pub(super) fn tick() -> (i64, u32) {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    (now.tv_sec, u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// What is known of files, by their stamps.
#[derive(Debug, Default)]
pub(crate) struct Memo(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    contents: HashMap<Stamp, (Content, bool)>,
    changed: bool,
    /// What [`Memo::news`] has not told yet.
    new: Vec<(Stamp, Content)>,
}

impl Memo {
    /// From what [`Memo::to_bytes`] gave. Anything else is as good as nothing.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Memo {
        Memo(Mutex::new(Known {
            contents: read(bytes).unwrap_or_default(),
            ..Known::default()
        }))
    }

    /// `None`: nothing is new.
    pub(crate) fn to_bytes(&self) -> Option<Vec<u8>> {
        let known = self.0.lock().ok()?;
        if !known.changed {
            return None;
        }
        let mut others = 0;
        let kept = known.contents.iter().filter(|(_, (_, used))| {
            others += usize::from(!used);
            *used || others <= MOST_OTHERS
        });
        Some(written(kept.map(|(stamp, (content, _))| (stamp, content))))
    }

    /// What was put in since this was asked last, for another process that has the same memo: [`Memo::learn`].
    pub(super) fn news(&self) -> Vec<u8> {
        let new = self.0.lock().map(|mut known| std::mem::take(&mut known.new));
        let new = new.unwrap_or_default();
        written(new.iter().map(|(stamp, content)| (stamp, content)))
    }

    pub(super) fn learn(&self, news: &[u8]) {
        if let (Some(news), Ok(mut known)) = (read(news), self.0.lock()) {
            known.changed |= !news.is_empty();
            known
                .contents
                .extend(news.into_iter().map(|(stamp, (content, _))| (stamp, (content, true))));
        }
    }

    pub(super) fn get(&self, stamp: &Stamp) -> Option<Content> {
        let mut known = self.0.lock().ok()?;
        let (content, used) = known.contents.get_mut(stamp)?;
        *used = true;
        Some(*content)
    }

    /// `before` is [`tick`] from before the file was looked at.
    pub(super) fn put(&self, stamp: Stamp, content: Content, before: (i64, u32)) {
        if let (true, Ok(mut known)) = (stamp.is_settled(before), self.0.lock()) {
            known.contents.insert(stamp, (content, true));
            known.new.push((stamp, content));
            known.changed = true;
        }
    }
}

fn written<'a>(known: impl Iterator<Item = (&'a Stamp, &'a Content)>) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for (stamp, content) in known {
        for number in [stamp.dev, stamp.ino, stamp.size] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for (seconds, nanoseconds) in [stamp.mtime, stamp.ctime] {
            bytes.extend_from_slice(&seconds.to_le_bytes());
            bytes.extend_from_slice(&nanoseconds.to_le_bytes());
        }
        bytes.extend_from_slice(&content.bytes);
        bytes.extend_from_slice(&content.xattrs);
    }
    let digest: [u8; 32] = Sha256::digest(&bytes).into();
    bytes.extend_from_slice(&digest);
    bytes
}

fn read(bytes: &[u8]) -> Option<HashMap<Stamp, (Content, bool)>> {
    let (body, digest) = bytes.split_last_chunk::<32>()?;
    let records = body.strip_prefix(MAGIC)?;
    let whole: [u8; 32] = Sha256::digest(body).into();
    if whole != *digest || records.len() % RECORD != 0 {
        return None;
    }
    let record = |mut r: &[u8]| {
        let stamp = Stamp {
            dev: u64::from_le_bytes(take(&mut r)?),
            ino: u64::from_le_bytes(take(&mut r)?),
            size: u64::from_le_bytes(take(&mut r)?),
            mtime: (i64::from_le_bytes(take(&mut r)?), u32::from_le_bytes(take(&mut r)?)),
            ctime: (i64::from_le_bytes(take(&mut r)?), u32::from_le_bytes(take(&mut r)?)),
        };
        let content = Content {
            bytes: take(&mut r)?,
            xattrs: take(&mut r)?,
        };
        Some((stamp, (content, false)))
    };
    records.chunks_exact(RECORD).map(record).collect()
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*first)
}

/// Whether the times and numbers of a filesystem are this kernel's own.
pub(super) fn is_trusted(dir: BorrowedFd<'_>) -> bool {
    /// linux/magic.h: ext4, XFS, btrfs, tmpfs, overlayfs, F2FS, bcachefs, ZFS.
    const MAGIC: [i64; 8] = [
        0xef53,
        0x5846_5342,
        0x9123_683e,
        0x0102_1994,
        0x794c_7630,
        0xf2f5_2010,
        0xca45_1a4e,
        0x2fc1_2fc1,
    ];
    rustix::fs::fstatfs(dir).is_ok_and(|fs| MAGIC.contains(&fs.f_type))
}

/// Zeros for none.
pub(super) fn digest_of_xattrs(xattrs: &[Xattr]) -> [u8; 32] {
    if xattrs.is_empty() {
        return [0; 32];
    }
    let mut hasher = Sha256::new();
    for xattr in xattrs {
        for part in [xattr.name.as_bytes(), &xattr.value] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    hasher.finalize().into()
}

/// Reads a file, unless it is known.
pub(super) fn of_file(file: &File, memo: Option<&Memo>, buffer: &mut Vec<u8>) -> Result<Content> {
    let before = tick();
    let stat = fstat(file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::other("changed while it was read"));
    }
    let stamp = Stamp::of(&stat);
    if let Some(content) = memo.and_then(|m| m.get(&stamp)) {
        return Ok(content);
    }
    let mut hasher = Sha256::new();
    let mut at = 0;
    buffer.resize(CHUNK, 0);
    loop {
        let n = match file.read_at(buffer, at) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            n => n.context("read")?,
        };
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        at += n as u64;
    }
    let content = Content {
        bytes: hasher.finalize().into(),
        xattrs: digest_of_xattrs(&xattr::of_open_archive(file)?),
    };
    if let Some(memo) = memo
        && Stamp::of(&fstat(file)?) == stamp
    {
        memo.put(stamp, content, before);
    }
    Ok(content)
}

/// A digest of several things, each with its length, so that no two lists of things are one.
#[derive(Default)]
pub(super) struct Fold(Sha256);

impl Fold {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> Digest {
        Digest::from_hasher(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(ino: u64, ctime: (i64, u32)) -> Stamp {
        Stamp {
            dev: 1,
            ino,
            size: 3,
            mtime: (5, 6),
            ctime,
        }
    }

    const CONTENT: Content = Content {
        bytes: [7; 32],
        xattrs: [0; 32],
    };

    #[test]
    fn what_may_change_unseen_is_not_remembered() {
        for (ctime, now, settled) in [
            ((10, 5), (10, 6), true),
            ((10, 5), (10, 5), false),
            ((10, 5), (10, 4), false),
            // A clock that was set back.
            ((11, 5), (10, 6), false),
            ((10, 0), (11, 999), false),
            ((10, 0), (12, 1), true),
        ] {
            let memo = Memo::default();
            memo.put(stamp(1, ctime), CONTENT, now);
            assert_eq!(memo.get(&stamp(1, ctime)).is_some(), settled, "{ctime:?} {now:?}");
            assert_eq!(memo.to_bytes().is_some(), settled);
        }
    }

    #[test]
    fn kept_and_read_again() {
        let memo = Memo::default();
        for ino in 0..100 {
            memo.put(stamp(ino, (1, 1)), CONTENT, (2, 0));
        }
        let bytes = memo.to_bytes().unwrap();
        let again = Memo::from_bytes(&bytes);
        assert!((0..100).all(|ino| again.get(&stamp(ino, (1, 1))) == Some(CONTENT)));
        assert!(again.get(&stamp(1, (1, 2))).is_none());
        assert!(again.to_bytes().is_none(), "nothing is new");
        let other = Memo::default();
        other.learn(&memo.news());
        assert_eq!(other.get(&stamp(99, (1, 1))), Some(CONTENT));
        assert!(other.to_bytes().is_some() && other.news() == memo.news(), "told once");
        for damage in [0, 9, bytes.len() / 2, bytes.len() - 1] {
            let mut bad = bytes.clone();
            bad[damage] ^= 1;
            assert!(Memo::from_bytes(&bad).get(&stamp(1, (1, 1))).is_none());
            assert!(Memo::from_bytes(&bytes[..damage]).get(&stamp(1, (1, 1))).is_none());
        }
    }
}
