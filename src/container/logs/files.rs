//! The files of a log: `log.json` and the older `log.json.1`, `.2`, … of which any may be renamed at any moment.

use crate::error::{Context, Error, Result};
use crate::model::log::{Record, Stamp};
use crate::monitor::log::FILE;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes read at once.
pub(super) const BLOCK: usize = 256 * 1024;
/// A line longer than this can't be a record; it is passed over.
pub(super) const LONGEST_LINE: usize = 4 * 1024 * 1024;

/// A container's directory.
#[derive(Debug)]
pub(super) struct LogDir(OwnedFd);

/// An open file of the log.
#[derive(Debug)]
pub(super) struct LogFile {
    file: File,
    inode: u64,
    /// Where the first line starts that has not been read.
    offset: u64,
}

impl LogDir {
    pub(super) fn open(path: &Path) -> Result<Self> {
        Ok(LogDir(rustix::fs::open(
            path,
            OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?))
    }

    fn name(number: u32) -> String {
        if number == 0 {
            FILE.to_owned()
        } else {
            format!("{FILE}.{number}")
        }
    }

    fn open_file(&self, number: u32) -> Result<Option<LogFile>> {
        let name = LogDir::name(number);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match rustix::fs::openat(&self.0, &name, flags, Mode::empty()) {
            Ok(fd) => {
                let inode = rustix::fs::fstat(&fd)?.st_ino;
                Ok(Some(LogFile {
                    file: File::from(fd),
                    inode,
                    offset: 0,
                }))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(e).with_context(|| format!("open {name}")),
        }
    }

    fn inode(&self, number: u32) -> Option<u64> {
        rustix::fs::statat(&self.0, LogDir::name(number), AtFlags::SYMLINK_NOFOLLOW)
            .ok()
            .map(|s| s.st_ino)
    }

    /// All files, oldest first. They are opened from the newest on: a rotation meanwhile moves them towards us, so
    /// that one may come twice, but none is missed.
    pub(super) fn open_files(&self) -> Result<Vec<LogFile>> {
        let mut files: Vec<LogFile> = Vec::new();
        let mut missing = 0;
        for number in 0.. {
            match self.open_file(number)? {
                Some(file) if files.last().is_none_or(|newer| newer.inode != file.inode) => files.push(file),
                Some(_) => {}
                // One name is missing for a moment while files are renamed.
                None => missing += 1,
            }
            if missing == 2 {
                break;
            }
        }
        files.reverse();
        Ok(files)
    }

    /// The file after `current`, once the writer has left that one for good; what it wrote there before is then
    /// complete.
    pub(super) fn after(&self, current: Option<&LogFile>) -> Result<Option<LogFile>> {
        let Some(current) = current else {
            return self.open_file(0);
        };
        loop {
            match self.position(current.inode) {
                Some(0) => return Ok(None),
                Some(number) => {
                    let next = self.open_file(number - 1)?;
                    // Renamed in between: what was opened may be a later one.
                    if self.inode(number) == Some(current.inode) && next.is_some() {
                        return Ok(next);
                    }
                }
                // Rotated away altogether: on with the oldest there is.
                None => {
                    return Ok(self
                        .open_files()?
                        .into_iter()
                        .next()
                        .filter(|f| f.inode != current.inode));
                }
            }
        }
    }

    fn position(&self, inode: u64) -> Option<u32> {
        let mut missing = 0;
        (0..)
            .map(|number| (number, self.inode(number)))
            .take_while(|(_, found)| {
                missing += u32::from(found.is_none());
                missing < 2
            })
            .find_map(|(number, found)| (found == Some(inode)).then_some(number))
    }
}

impl LogFile {
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn seek(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// Hands on every whole line, without its newline, until `line` wants no more. A line that is still being written
    /// stays for the next call: the writer may also take it back when the disk is full.
    pub(super) fn read(&mut self, buffer: &mut Vec<u8>, mut line: impl FnMut(&[u8]) -> Result<bool>) -> Result<()> {
        loop {
            let filled = self.fill(buffer)?;
            if filled == 0 {
                return Ok(());
            }
            let mut start = 0;
            for at in memchr::memchr_iter(b'\n', &buffer[..filled]) {
                if !line(&buffer[start..at])? {
                    return Ok(());
                }
                start = at + 1;
            }
        }
    }

    /// Reads some whole lines, and says how many bytes of the buffer they fill; 0 at the end of what is there.
    pub(super) fn fill(&mut self, buffer: &mut Vec<u8>) -> Result<usize> {
        loop {
            let read = self.file.read_at(buffer, self.offset).context("read log")?;
            if let Some(end) = memchr::memrchr(b'\n', &buffer[..read]) {
                self.offset += end as u64 + 1;
                return Ok(end + 1);
            }
            if read < buffer.len() {
                return Ok(0);
            }
            if buffer.len() < LONGEST_LINE {
                buffer.resize(buffer.len() * 2, 0);
            } else {
                self.offset += read as u64;
            }
        }
    }

    /// Bytes in it, read or not.
    pub(super) fn length(&self) -> Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The time of the first record that begins at `offset` or later; `None` if none is found nearby.
    fn time_from(&self, offset: u64, buffer: &mut [u8]) -> Result<Option<Stamp>> {
        let read = self.file.read_at(buffer, offset).context("read log")?;
        let block = &buffer[..read];
        let first = match offset {
            0 => 0,
            _ => match memchr::memchr(b'\n', block) {
                Some(at) => at + 1,
                None => return Ok(None),
            },
        };
        let lines = block[first..].split_inclusive(|b| *b == b'\n');
        let whole = lines.filter_map(|line| line.strip_suffix(b"\n"));
        Ok(whole.filter_map(Record::parse).map(|record| record.time).next())
    }

    /// Passes over records before `time`, of a file whose records are in order; some of them may be left. `false` if
    /// the first one is not before it.
    pub(super) fn skip_to(&mut self, time: Stamp) -> Result<bool> {
        let mut buffer = vec![0; BLOCK];
        let is_before =
            |offset, buffer: &mut [u8]| Ok::<_, Error>(self.time_from(offset, buffer)?.is_some_and(|t| t < time));
        if !is_before(0, &mut buffer)? {
            return Ok(false);
        }
        let (mut low, mut high) = (0, self.length()?);
        while high - low > BLOCK as u64 {
            let middle = low + (high - low) / 2;
            match is_before(middle, &mut buffer)? {
                true => low = middle,
                false => high = middle,
            }
        }
        // To the beginning of a line.
        let read = self.file.read_at(&mut buffer, low).context("read log")?;
        self.offset = match memchr::memchr(b'\n', &buffer[..read]) {
            Some(at) if low > 0 => low + at as u64 + 1,
            _ => low,
        };
        Ok(true)
    }
}
