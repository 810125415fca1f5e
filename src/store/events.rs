//! `events/log`: what happened, one JSON object a line ([`Event`]), and the older `events/log.1`.
//!
//! A writer waits for nothing: it opens the file by name and appends one line with one write, which the kernel keeps
//! whole among others (O_APPEND). Above [`FULL`] bytes whoever gets the lock of the directory renames the file away;
//! without the lock, another one is at it. A writer that opened it before may still append to it under its new name:
//! readers look there too. The older file is not dropped while one does, which a shared lock on it says.
//!
//! Nothing is synced. A line that the disk had no room for, or that a power cut has torn, is passed over by readers: what
//! begins a record can stand nowhere else in one ([`BEGIN`]), so the next one is found even without a newline.
//!
//! # Exactly once
//!
//! An event is written right after what it tells has become true, under the same lock where there is one. A process
//! that is killed in between leaves truth without event, and something on the disk from which that is seen:
//!
//! ```text
//!   a container's start, end, networks, mounts    its state and its times                    container/reap.rs
//!   its making and removal                        its record in staging/                     containers.rs, by the sweep
//!   every other change of state                   the announcement, written before it        intents.rs
//! ```
//!
//! The next command that deals with the same thing adds what is missing, and so does every reader of events. What is no
//! change of state (attach, exec, kill, copy, push, …) is told when it has been done, at most once.

use super::{Store, lock};
use crate::error::{Context as _, Result};
use crate::model::event::Event;
use crate::model::time::Timestamp;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::PathBuf;

/// The file that is appended to.
pub(crate) const FILE: &str = "log";
/// The one before.
pub(crate) const OLDER: &str = "log.1";
/// Bytes after which a file is rotated: some 30 000 events.
const FULL: u64 = 8 << 20;
/// Bytes of one event at most; longer ones lose their attributes.
const LONGEST: usize = 64 * 1024;
/// How every record begins; inside a record a quote is escaped, so it can't stand there.
const BEGIN: &[u8] = b"{\"t\":";

impl Store {
    /// Records something that has happened. Never fails: a full disk must keep nothing from happening.
    pub(crate) fn event(&self, event: &Event) {
        self.write_event(event, FULL);
    }

    fn write_event(&self, event: &Event, full: u64) {
        let Some(line) = line_of(event) else { return };
        let Some(file) = self.event_log_to_write() else { return };
        if rustix::io::retry_on_intr(|| rustix::io::write(&file, &line)).is_ok_and(|n| n < line.len()) {
            // No more room; what is there must not run into the next line.
            let _ = rustix::io::write(&file, b"\n");
        }
        if file.metadata().is_ok_and(|meta| meta.size() >= full) {
            drop(file);
            let _ = self.rotate_events(full);
        }
    }

    /// Locked, so that it is not dropped while it is written to.
    fn event_log_to_write(&self) -> Option<File> {
        /// Each of which takes two rotations of some megabytes.
        const TRIES: u32 = 10;
        let mut file = self.open_event_log().ok()?;
        for _ in 0..TRIES {
            let is_held = lock::try_shared(&file).unwrap_or(true);
            if is_held && file.metadata().is_ok_and(|meta| meta.nlink() > 0) {
                break;
            }
            file = self.open_event_log().ok()?;
        }
        Some(file)
    }

    fn open_event_log(&self) -> std::io::Result<File> {
        let path = self.events_dir().join(FILE);
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let open = || rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).map(File::from);
        match open() {
            Err(rustix::io::Errno::NOENT) => {
                self.make_events_dir()?;
                Ok(open()?)
            }
            other => Ok(other?),
        }
    }

    /// Made by the first who needs it.
    pub(crate) fn make_events_dir(&self) -> std::io::Result<PathBuf> {
        let dir = self.events_dir();
        match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(e),
            _ => Ok(dir),
        }
    }

    fn rotate_events(&self, full: u64) -> Result<()> {
        let dir = self.events_dir();
        let held = File::open(&dir)?;
        // Another one is at it, or was stopped in the middle: then the file grows a little longer.
        if !lock::try_exclusive(&held)? {
            return Ok(());
        }
        let (from, to) = (dir.join(FILE), dir.join(OLDER));
        let older = File::open(&to).ok();
        // Somebody is still writing to it.
        if older
            .as_ref()
            .is_some_and(|older| !lock::try_exclusive(older).unwrap_or(true))
        {
            return Ok(());
        }
        if std::fs::metadata(&from).is_ok_and(|meta| meta.size() >= full) {
            std::fs::rename(from, to).context("rotate the event log")?;
        }
        Ok(())
    }

    pub(crate) fn events_dir(&self) -> PathBuf {
        self.root.join("events")
    }

    /// The files there are, oldest first. They are opened from the newest on, so that a rotation meanwhile shows one of
    /// them twice rather than never; the double is left out.
    pub(crate) fn event_files(&self) -> Vec<EventFile> {
        let mut files: Vec<EventFile> = Vec::new();
        for name in [FILE, OLDER] {
            if let Some(file) = EventFile::open(&self.events_dir().join(name))
                && files.iter().all(|newer| newer.inode != file.inode)
            {
                files.push(file);
            }
        }
        files.reverse();
        files
    }

    /// Every event that is recorded, in the order of the files.
    pub(crate) fn each_event(&self, mut take: impl FnMut(Event)) {
        for mut file in self.event_files() {
            file.read(&mut |line| {
                if let Some(event) = parse(line) {
                    take(event);
                }
            });
        }
    }

    /// Every recorded line that has `word` in it: cheaper than [`Store::each_event`], since only those are parsed.
    pub(crate) fn each_event_with(&self, word: &str, mut take: impl FnMut(Event)) {
        let finder = memchr::memmem::Finder::new(word.as_bytes());
        for mut file in self.event_files() {
            file.read(&mut |line| {
                if finder.find(line).is_some()
                    && let Some(event) = parse(line)
                {
                    take(event);
                }
            });
        }
    }
}

fn line_of(event: &Event) -> Option<Vec<u8>> {
    let mut line = serde_json::to_vec(event).ok()?;
    if line.len() >= LONGEST {
        let mut short = event.clone();
        short.attributes.retain(|_, value| value.len() < 256);
        let kept: Vec<_> = short.attributes.keys().take(64).cloned().collect();
        short
            .attributes
            .retain(|name, _| name.len() < 256 && kept.contains(name));
        short.action.truncate(short.action.floor_char_boundary(1024));
        line = serde_json::to_vec(&short).ok()?;
    }
    line.push(b'\n');
    Some(line)
}

/// The record on a line; the last one, if the line before lacks its end.
pub(crate) fn parse(line: &[u8]) -> Option<Event> {
    serde_json::from_slice(line).ok().or_else(|| {
        let at = memchr::memmem::rfind(line, BEGIN).filter(|at| *at > 0)?;
        serde_json::from_slice(&line[at..]).ok()
    })
}

/// When it happened, without a look at the rest.
pub(crate) fn time_of(line: &[u8]) -> Option<Timestamp> {
    let digits = line.strip_prefix(BEGIN)?;
    let end = digits.iter().position(|b| *b == b',')?;
    let nanoseconds: i64 = std::str::from_utf8(&digits[..end]).ok()?.parse().ok()?;
    Timestamp::from_nanosecond(nanoseconds.into()).ok()
}

/// An open file of the event log, read so far.
#[derive(Debug)]
pub(crate) struct EventFile {
    file: File,
    pub(crate) inode: u64,
    offset: u64,
}

impl EventFile {
    pub(crate) fn open(path: &std::path::Path) -> Option<EventFile> {
        let file = File::open(path).ok()?;
        let inode = file.metadata().ok()?.ino();
        Some(EventFile { file, inode, offset: 0 })
    }

    /// What is there now is left out.
    pub(super) fn seek_to_end(&mut self) {
        self.offset = self.file.metadata().map_or(0, |meta| meta.size());
    }

    /// Hands on every whole line that has come since the last call, without its newline.
    pub(crate) fn read(&mut self, line: &mut dyn FnMut(&[u8])) {
        let mut buffer = vec![0; 4 * LONGEST];
        loop {
            let Ok(read) = self.file.read_at(&mut buffer, self.offset) else {
                return;
            };
            let block = &buffer[..read];
            let Some(end) = memchr::memrchr(b'\n', block) else {
                if read == buffer.len() {
                    // No line is as long: damage.
                    self.offset += read as u64;
                    continue;
                }
                return;
            };
            for one in block[..end].split(|b| *b == b'\n') {
                line(one);
            }
            self.offset += (end + 1) as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::EventKind;
    use crate::store::testing::Scratch;
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    fn event(text: impl ToString) -> Event {
        Event::new(EventKind::Volume, "create", text)
    }

    fn actors(s: &Store) -> Vec<String> {
        let mut all = Vec::new();
        s.each_event(|e| all.push(e.actor));
        all
    }

    #[test]
    fn what_is_written_is_read() {
        let s = Scratch::new();
        assert!(actors(&s).is_empty());
        let one = event("a\"{\"t\":").with("label", "x\ny");
        s.event(&one);
        s.event(&event("b"));
        let mut all = Vec::new();
        s.each_event(|e| all.push(e));
        assert_eq!(all[0], one);
        assert_eq!(all.len(), 2);
        let mut some = 0;
        s.each_event_with("\"b\"", |_| some += 1);
        assert_eq!(some, 1);
    }

    #[test]
    fn a_torn_line_costs_only_itself() {
        let s = Scratch::new();
        s.event(&event("a"));
        let path = s.events_dir().join(FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        let half = bytes.len() / 2;
        let torn = bytes[..half].to_vec();
        bytes.extend_from_slice(&torn);
        std::fs::write(&path, &bytes).unwrap();
        s.event(&event("b"));
        std::fs::write(&path, [std::fs::read(&path).unwrap(), torn].concat()).unwrap();
        assert_eq!(actors(&s), ["a", "b"]);
    }

    #[test]
    fn a_huge_event_is_cut() {
        let s = Scratch::new();
        s.event(&event("a").with("k", "x".repeat(10 << 20)));
        assert_eq!(actors(&s), ["a"]);
        assert!(std::fs::metadata(s.events_dir().join(FILE)).unwrap().len() < 1024);
    }

    #[test]
    fn many_writers_and_rotation_lose_and_double_nothing() {
        let s = Scratch::new();
        let seen = std::sync::Mutex::new(Vec::new());
        let (done, written) = (AtomicBool::new(false), AtomicUsize::new(0));
        const WRITERS: usize = 8;
        const EACH: usize = 500;
        std::thread::scope(|threads| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|w| {
                    let (s, seen, written) = (&s, &seen, &written);
                    threads.spawn(move || {
                        for n in 0..EACH {
                            // A file holds some 200 of these; the reader is let keep up.
                            s.write_event(&event(format!("{w}-{n}")), 16 << 10);
                            written.fetch_add(1, Ordering::Relaxed);
                            while written.load(Ordering::Relaxed) > seen.lock().unwrap().len() + 100 {
                                std::thread::yield_now();
                            }
                        }
                    })
                })
                .collect();
            threads.spawn(|| {
                let mut tail = crate::store::EventTail::new(&s);
                loop {
                    let last = done.load(Ordering::Acquire);
                    tail.read(&s, &mut |line| seen.lock().unwrap().push(parse(line).unwrap().actor));
                    if last {
                        return;
                    }
                }
            });
            writers.into_iter().for_each(|w| w.join().unwrap());
            done.store(true, Ordering::Release);
        });
        let seen = seen.into_inner().unwrap();
        let unique: BTreeSet<_> = seen.iter().collect();
        assert_eq!((seen.len(), unique.len()), (WRITERS * EACH, WRITERS * EACH));
    }
}
