//! Small files that are whole at any moment: written beside their name, synced if they must survive a power cut, and
//! renamed over it. The temporary name is fixed (`.<name>.new`), since a record has one writer at a time (its lock's
//! holder); one left by a crash is overwritten by the next write.
//!
//! A journal commit is what a durable write waits for, so one has to do. ext4 and XFS log all changes of names and
//! sizes in one sequence, and flush the disk's cache before each commit: there, syncing the last change of several
//! makes durable whatever was done before it, if the content of the files was written out by then. On other file
//! systems (btrfs logs single files and directories) each file and each directory is synced.

use crate::error::{Context, Error, Result};
use crate::sys::writeback::write_back;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Bytes that a record seldom exceeds.
const USUAL: usize = 16 * 1024;

/// Whether a write must survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// On the disk when the call returns.
    Synced,
    /// Whole or absent after a crash of the process; after a power cut, nobody asks.
    Volatile,
}

/// Replaces `dir/name`, or makes it, mode 0600.
pub(crate) fn replace(dir: &Path, name: &str, bytes: &[u8], durability: Durability) -> Result<()> {
    let temporary = dir.join(format!(".{name}.new"));
    let target = dir.join(name);
    let written = write_new(&temporary, bytes, durability).and_then(|_| match durability {
        Durability::Synced => std::fs::rename(&temporary, &target),
        Durability::Volatile => exchange(&temporary, &target),
    });
    if let Err(e) = written {
        let _ = std::fs::remove_file(&temporary);
        return Err(e).with_context(|| format!("write {}", dir.join(name).display()));
    }
    match durability {
        Durability::Synced => sync_dir(dir),
        Durability::Volatile => Ok(()),
    }
}

/// As rename(2), for what need not reach the disk: renamed over another file, ext4 would start to write it out at once
/// (mount option auto_da_alloc, ext4(5)), which costs milliseconds on a busy disk. An exchange does not.
fn exchange(from: &Path, to: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags};
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE) {
        Ok(()) => std::fs::remove_file(from),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::INVAL) => std::fs::rename(from, to),
        Err(e) => Err(e.into()),
    }
}

/// Writes a file that nobody reads yet.
pub(crate) fn write_new(path: &Path, bytes: &[u8], durability: Durability) -> std::io::Result<File> {
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    file.write_all(bytes)?;
    if durability == Durability::Synced {
        settle(&file)?;
    }
    Ok(file)
}

/// Puts a file that is whole in its place, which is not in the store.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).with_context(|| format!("write {}", to.display()))
}

/// The content is on the disk before any change of names that follows; to be had for certain, that change is synced.
pub(super) fn settle(file: &File) -> std::io::Result<()> {
    match one_journal(file.as_fd()) {
        true => write_back(file.as_fd()),
        false => file.sync_all(),
    }
}

/// Whether a later synced change brings all earlier ones with it.
pub(super) fn one_journal(on: BorrowedFd<'_>) -> bool {
    // linux/magic.h. An ext file system without a journal says the same, and promises nothing after a crash anyway.
    const EXT4: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    let magic = rustix::fs::fstatfs(on).map(|fs| u64::try_from(fs.f_type));
    matches!(magic, Ok(Ok(EXT4 | XFS)))
}

/// The names in `dir` are on the disk when this returns.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|d| d.sync_all())
        .with_context(|| format!("sync {}", dir.display()))
}

/// The same for several directories, of which `last` was changed last.
pub(super) fn sync_dirs(before: &[&Path], last: &Path) -> Result<()> {
    let last_open = File::open(last).with_context(|| format!("open {}", last.display()))?;
    if !one_journal(last_open.as_fd()) {
        before.iter().try_for_each(|dir| sync_dir(dir))?;
    }
    last_open.sync_all().with_context(|| format!("sync {}", last.display()))
}

/// `None` if there is no such file, or no such directory.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    with_content(path, |bytes| Ok(bytes.to_vec()))
}

/// `None` if there is no such file; an error that names it if it is damaged.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    with_content(path, |bytes| {
        serde_json::from_slice(bytes).map_err(|e| damaged(path, &e))
    })
}

/// Costs no allocation and three calls, since a listing reads thousands: less than was asked for is the end of a
/// regular file.
fn with_content<T>(path: &Path, take: impl FnOnce(&[u8]) -> Result<T>) -> Result<Option<T>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("open {}", path.display())),
    };
    let mut buffer = [MaybeUninit::uninit(); USUAL];
    let start: &[u8] = loop {
        match rustix::io::read(&file, &mut buffer[..]) {
            Ok((start, _)) => break start,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e).with_context(|| format!("read {}", path.display())),
        }
    };
    if start.len() < USUAL {
        return take(start).map(Some);
    }
    let mut bytes = start.to_vec();
    file.read_to_end(&mut bytes)
        .with_context(|| format!("read {}", path.display()))?;
    take(&bytes).map(Some)
}

fn damaged(path: &Path, e: &serde_json::Error) -> Error {
    Error::other(format!("{} is damaged: {e}", path.display()))
}

pub(crate) fn to_json(record: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(record)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Scratch;

    #[test]
    fn a_record_is_replaced_whole() {
        let s = Scratch::new();
        let dir = s.root();
        for text in ["\"first\"", "\"2\""] {
            replace(dir, "x.json", text.as_bytes(), Durability::Synced).unwrap();
            assert_eq!(read(&dir.join("x.json")).unwrap().unwrap(), text.as_bytes());
        }
        assert!(!dir.join(".x.json.new").exists());
    }

    #[test]
    fn long_records_are_read_whole() {
        let s = Scratch::new();
        for length in [0, USUAL - 3, USUAL - 2, USUAL - 1, 5 * USUAL] {
            let json = to_json(&"x".repeat(length)).unwrap();
            replace(s.root(), "x.json", &json, Durability::Volatile).unwrap();
            let path = s.root().join("x.json");
            assert_eq!(read(&path).unwrap().unwrap(), json);
            assert_eq!(read_json::<String>(&path).unwrap().unwrap().len(), length);
        }
    }

    #[test]
    fn absent_and_damaged_are_told_apart() {
        let s = Scratch::new();
        let path = s.root().join("x.json");
        assert_eq!(read_json::<String>(&path).unwrap(), None);
        assert_eq!(read_json::<String>(&s.root().join("format/x.json")).unwrap(), None);
        for bytes in [&b""[..], b"\0\0\0\0", b"\"half", b"{}"] {
            std::fs::write(&path, bytes).unwrap();
            let e = read_json::<String>(&path).unwrap_err();
            assert!(e.to_string().contains("x.json is damaged"), "{e}");
        }
    }
}
