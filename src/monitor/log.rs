//! Writes a container's log: `log.json` in its directory, older files beside it as `log.json.1`, `log.json.2`, … The
//! form of a record is in `model/log.rs`; the reader is `container/logs.rs`.
//!
//! What is promised: no line is lost or torn by rotation, a restart or `kill -9` (a half-written last line is closed
//! when the log is opened again); memory stays below [`BUFFER`] and a few pieces, whatever the container writes; a full
//! disk never stops the container: what can't be written is dropped and counted, and a record says so when there is
//! room again.
//!
//! Text without a newline waits for the rest of its line, but not for long: a prompt must reach `logs -f`. It becomes a
//! record of its own when it has [`PIECE`] bytes, or after [`QUIET`] without more. The monitor's loop keeps the time:
//! it asks [`LogWriter::quiet_after`] for how long to wait for events, and calls [`LogWriter::quiet`] if none came, and
//! [`LogWriter::finish`] when the streams have ended.

use crate::error::{Context, Result};
use crate::model::container::{LogConfig, LogDriver};
use crate::model::log::{Encoder, Record, Stream};
use crate::model::time::Timestamp;
use crate::monitor::journal::Journal;
use rustix::fs::{Access, AtFlags, Mode, OFlags};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// The current file.
pub(crate) const FILE: &str = "log.json";
/// The longest text of one record, as docker splits lines.
pub(crate) const PIECE: usize = 16 * 1024;
/// Encoded records are written when they have this size, at the latest at the end of a chunk.
const BUFFER: usize = 128 * 1024;
/// How long text without a newline waits for more.
const QUIET: Duration = Duration::from_millis(100);

/// The log of one container.
#[derive(Debug)]
pub(crate) struct LogWriter {
    /// `None` writes nothing (`--log-driver none`).
    files: Option<Files>,
    /// Takes records in the place of files.
    journal: Option<Journal>,
    stdout: Line,
    stderr: Line,
    /// Encoded records that are not in the file yet; empty between calls.
    buffer: Vec<u8>,
    /// Bytes of output dropped since the file could last be written, and why.
    dropped: u64,
    reason: String,
}

/// The unterminated text of one stream.
#[derive(Debug, Default)]
struct Line {
    text: Vec<u8>,
    since: Timestamp,
}

impl LogWriter {
    /// `dir` is the container's directory.
    pub(crate) fn open(dir: &Path, config: &LogConfig) -> Result<Self> {
        let files = match config.driver {
            LogDriver::JsonFile | LogDriver::Local => {
                Some(Files::open(dir, config).with_context(|| format!("open log in {}", dir.display()))?)
            }
            LogDriver::None | LogDriver::Journald | LogDriver::Passthrough => None,
        };
        let (stdout, stderr) = (Line::default(), Line::default());
        Ok(LogWriter {
            files,
            journal: None,
            stdout,
            stderr,
            buffer: Vec::new(),
            dropped: 0,
            reason: String::new(),
        })
    }

    /// Writes to the host's journal.
    pub(crate) fn of_journal(journal: Journal) -> Self {
        LogWriter {
            files: None,
            journal: Some(journal),
            stdout: Line::default(),
            stderr: Line::default(),
            buffer: Vec::new(),
            dropped: 0,
            reason: String::new(),
        }
    }

    /// Takes what has been read from one of the container's outputs. All of it gets the same time.
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        if (self.files.is_none() && self.journal.is_none()) || bytes.is_empty() {
            return;
        }
        let now = Timestamp::now();
        let waited = !self.line(stream).text.is_empty();
        self.append(&Encoder::new(stream, now), stream, bytes);
        if !waited {
            self.line(stream).since = now;
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            if now.duration_since(self.line(stream).since).unsigned_abs() >= QUIET {
                self.end_text(stream, now);
            }
        }
        self.flush();
    }

    /// How long the monitor may wait for more output before it calls [`quiet`](Self::quiet); `None` is for ever.
    pub(crate) fn quiet_after(&self) -> Option<Duration> {
        let held = self.buffer.capacity() + self.stdout.text.capacity() + self.stderr.text.capacity();
        let waits = self.journal.as_ref().is_some_and(Journal::waits);
        (held > 0 || waits).then_some(QUIET)
    }

    /// Nothing came for a while: unfinished text becomes a record, and the memory is given
    /// back.
    pub(crate) fn quiet(&mut self) {
        let now = Timestamp::now();
        self.end_text(Stream::Stdout, now);
        self.end_text(Stream::Stderr, now);
        self.flush();
        self.buffer = Vec::new();
        self.stdout.text = Vec::new();
        self.stderr.text = Vec::new();
        if let Some(journal) = &mut self.journal {
            journal.offer();
        }
    }

    /// The streams have ended: what comes to an end here is where it belongs when this returns.
    pub(crate) fn finish(&mut self) {
        self.quiet();
        if let Some(journal) = &mut self.journal {
            journal.finish();
        }
    }

    fn line(&mut self, stream: Stream) -> &mut Line {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// Makes the unterminated text of `stream`, if there is any, a record.
    fn end_text(&mut self, stream: Stream, now: Timestamp) {
        let mut text = std::mem::take(&mut self.line(stream).text);
        if !text.is_empty() {
            self.record(&Encoder::new(stream, now), &text);
            text.clear();
            self.line(stream).text = text;
        }
    }

    /// Cuts `bytes` into records; what is left without a newline waits in the stream's line.
    fn append(&mut self, encoder: &Encoder, stream: Stream, bytes: &[u8]) {
        let mut rest = bytes;
        let waiting = std::mem::take(&mut self.line(stream).text);
        let mut text = waiting;
        while !text.is_empty() {
            let room = (PIECE - text.len()).min(rest.len());
            let newline = memchr::memchr(b'\n', &rest[..room]);
            let taken = newline.map_or(room, |at| at + 1);
            text.extend_from_slice(&rest[..taken]);
            rest = &rest[taken..];
            let end = match newline {
                Some(_) => text.len(),
                None if text.len() < PIECE => break,
                None => whole_characters(&text),
            };
            self.record(encoder, &text[..end]);
            text.drain(..end);
        }
        // Either `text` is empty, or it took all of `rest`.
        while !rest.is_empty() {
            let window = &rest[..rest.len().min(PIECE)];
            let end = match memchr::memchr(b'\n', window) {
                Some(at) => at + 1,
                None if window.len() < PIECE => break,
                None => whole_characters(window),
            };
            self.record(encoder, &rest[..end]);
            rest = &rest[end..];
        }
        text.extend_from_slice(rest);
        self.line(stream).text = text;
    }

    fn record(&mut self, encoder: &Encoder, text: &[u8]) {
        if let Some(journal) = &mut self.journal {
            return journal.record(encoder.stream, text);
        }
        let buffered = self.buffer.len() as u64;
        if self.buffer.len() >= BUFFER || self.files.as_ref().is_some_and(|f| f.is_full(buffered)) {
            self.flush();
            if let Some(files) = self.files.as_mut().filter(|f| f.is_full(0)) {
                files.rotate();
            }
        }
        if self.dropped > 0 && self.buffer.is_empty() {
            let note = format!(
                "[barge: {} bytes of output are missing here: {}]\n",
                self.dropped, self.reason
            );
            Encoder::new(Stream::Stderr, Timestamp::now()).record(note.as_bytes(), &mut self.buffer);
        }
        encoder.record(text, &mut self.buffer);
    }

    fn flush(&mut self) {
        let Some(files) = self.files.as_mut().filter(|_| !self.buffer.is_empty()) else {
            return;
        };
        match files.append(&self.buffer) {
            Ok(()) => self.dropped = 0,
            Err(Short { written, error }) => {
                let noted = std::mem::take(&mut self.dropped);
                let lost = text_bytes(&self.buffer[written..]);
                // The first record was the note about what had been lost before: if it is lost, all of that still is.
                self.dropped = match (noted, written) {
                    (0, _) | (_, 1..) => lost,
                    (noted, 0) => noted + lost - text_bytes(first_line(&self.buffer)),
                };
                self.reason = crate::error::Error::from(error).to_string();
            }
        }
        self.buffer.clear();
    }
}

/// The length of `text` without an unfinished UTF-8 character at its end (3 bytes at most), so that cutting a line
/// leaves characters whole. Never 0 for text of more than 3 bytes.
fn whole_characters(text: &[u8]) -> usize {
    let tail = text.len().saturating_sub(3);
    let Some(start) = (tail..text.len()).rev().find(|at| text[*at] & 0xc0 != 0x80) else {
        return text.len();
    };
    match std::str::from_utf8(&text[start..]) {
        Err(e) if e.error_len().is_none() => start,
        _ => text.len(),
    }
}

fn first_line(records: &[u8]) -> &[u8] {
    &records[..memchr::memchr(b'\n', records).map_or(records.len(), |at| at + 1)]
}

/// Bytes of output in encoded records.
fn text_bytes(records: &[u8]) -> u64 {
    let mut text = Vec::new();
    let mut sum = 0;
    for line in records.split(|b| *b == b'\n') {
        text.clear();
        if Record::parse(line).and_then(|r| r.decode(&mut text)).is_some() {
            sum += text.len() as u64;
        }
    }
    sum
}

/// The files of a log. All names are relative to the open directory.
#[derive(Debug)]
struct Files {
    dir: OwnedFd,
    /// `None` after it could not be made; tried again with every write.
    current: Option<File>,
    /// Bytes in the current file.
    size: u64,
    /// The file ends within a line.
    torn: bool,
    max_size: Option<u64>,
    max_file: u32,
}

/// Only the first `written` bytes, whole records, are in the file.
struct Short {
    written: usize,
    error: std::io::Error,
}

impl Files {
    fn open(dir: &Path, config: &LogConfig) -> std::io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(dir, flags, Mode::empty())?;
        let max_file = config.max_file.max(1);
        let mut files = Files {
            dir,
            current: None,
            size: 0,
            torn: false,
            max_size: config.max_size,
            max_file,
        };
        match files.open_current() {
            Err(e) if !matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => Err(e),
            _ => Ok(files),
        }
    }

    fn open_current(&mut self) -> std::io::Result<&mut File> {
        // Readable, for the look at the last byte.
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = File::from(rustix::fs::openat(&self.dir, FILE, flags, Mode::RUSR | Mode::WUSR)?);
        self.size = file.metadata()?.len();
        let mut last = *b"\n";
        if let Some(at) = self.size.checked_sub(1) {
            file.read_exact_at(&mut last, at)?;
        }
        self.torn = last != *b"\n";
        Ok(self.current.insert(file))
    }

    /// Whether no further record may follow `buffered` bytes that are still to be written.
    fn is_full(&self, buffered: u64) -> bool {
        self.max_size.is_some_and(|max| self.size + buffered >= max)
    }

    /// Writes whole records. After a failure the file is cut back to the last whole one.
    fn append(&mut self, records: &[u8]) -> Result<(), Short> {
        let none = |error| Short { written: 0, error };
        if self.current.is_none() {
            self.open_current().map_err(none)?;
        }
        let Some(file) = &mut self.current else { return Ok(()) };
        if self.torn {
            file.write_all(b"\n").map_err(none)?;
            self.size += 1;
            self.torn = false;
        }
        let mut written = 0;
        while written < records.len() {
            let error = match file.write(&records[written..]) {
                Ok(0) => ErrorKind::WriteZero.into(),
                Ok(n) => {
                    written += n;
                    continue;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => e,
            };
            let whole = memchr::memrchr(b'\n', &records[..written]).map_or(0, |at| at + 1);
            self.torn = whole < written && file.set_len(self.size + whole as u64).is_err();
            self.size += if self.torn { written } else { whole } as u64;
            return Err(Short { written: whole, error });
        }
        self.size += written as u64;
        Ok(())
    }

    /// Moves every file one number up and begins a new one. If that fails the current file goes on, and it is tried
    /// again before the next record.
    fn rotate(&mut self) {
        if self.max_file == 1 {
            // Followers keep the old file open until they have read it.
            let _ = rustix::fs::unlinkat(&self.dir, FILE, AtFlags::empty());
        } else {
            let name = |number| {
                if number == 0 {
                    FILE.to_owned()
                } else {
                    format!("{FILE}.{number}")
                }
            };
            let exists = |name: String| rustix::fs::accessat(&self.dir, name, Access::EXISTS, AtFlags::empty()).is_ok();
            let used = (1..self.max_file - 1)
                .take_while(|number| exists(name(*number)))
                .count();
            for number in (0..=u32::try_from(used).unwrap_or(0)).rev() {
                if rustix::fs::renameat(&self.dir, name(number), &self.dir, name(number + 1)).is_err() {
                    return;
                }
            }
        }
        self.current = None;
        (self.size, self.torn) = (0, false);
        // A failure is met again, and counted, when the next records are written.
        let _ = self.open_current();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A directory that goes with the test.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("barge-log-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Dir(path)
        }

        fn read(&self, name: &str) -> String {
            std::fs::read_to_string(self.0.join(name)).unwrap_or_default()
        }

        /// Stream and text of every record in `name`.
        fn records(&self, name: &str) -> Vec<(Stream, Vec<u8>)> {
            let content = self.read(name);
            let lines = content.lines().filter(|l| !l.is_empty());
            lines
                .map(|line| {
                    let record = Record::parse(line.as_bytes()).unwrap();
                    let mut text = Vec::new();
                    record.decode(&mut text).unwrap();
                    (record.stream, text)
                })
                .collect()
        }

        fn text(&self, name: &str) -> Vec<u8> {
            self.records(name).into_iter().flat_map(|(_, text)| text).collect()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn config(max_size: Option<u64>, max_file: u32) -> LogConfig {
        LogConfig {
            driver: LogDriver::JsonFile,
            max_size,
            max_file,
            ..LogConfig::default()
        }
    }

    #[test]
    fn lines_are_put_together_per_stream() {
        let dir = Dir::new("lines");
        let mut log = LogWriter::open(&dir.0, &config(None, 1)).unwrap();
        log.write(Stream::Stdout, b"one\ntw");
        log.write(Stream::Stderr, b"err");
        log.write(Stream::Stdout, b"o\nthree");
        assert!(log.quiet_after().is_some());
        log.quiet();
        assert!(log.quiet_after().is_none());
        let (out, err) = (Stream::Stdout, Stream::Stderr);
        let expected: [(Stream, &[u8]); 4] = [(out, b"one\n"), (out, b"two\n"), (out, b"three"), (err, b"err")];
        assert_eq!(dir.records(FILE), expected.map(|(s, t)| (s, t.to_vec())));
    }

    #[test]
    fn any_cut_gives_the_same_bytes() {
        let text: Vec<u8> = (0..100_000_u32)
            .flat_map(|n| format!("{}\u{e9}{}", n % 7, if n % 40_000 == 39_999 { "\n" } else { "" }).into_bytes())
            .collect();
        for step in [1, 1000, 16_384, 16_385, 70_000, text.len()] {
            let dir = Dir::new(&format!("cut{step}"));
            let mut log = LogWriter::open(&dir.0, &config(None, 1)).unwrap();
            for chunk in text.chunks(step) {
                log.append(&Encoder::new(Stream::Stdout, Timestamp::now()), Stream::Stdout, chunk);
            }
            log.quiet();
            assert!(dir.text(FILE) == text, "{step}");
            assert!(
                dir.records(FILE)
                    .iter()
                    .all(|(_, t)| t.len() <= PIECE && std::str::from_utf8(t).is_ok()),
                "{step}"
            );
        }
    }

    #[test]
    fn rotation_keeps_whole_lines_in_order() {
        let dir = Dir::new("rotation");
        let mut log = LogWriter::open(&dir.0, &config(Some(1000), 3)).unwrap();
        let lines: Vec<u8> = (0..40).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
        log.write(Stream::Stdout, &lines);
        let kept: Vec<u8> = ["log.json.2", "log.json.1", FILE]
            .iter()
            .flat_map(|f| dir.text(f))
            .collect();
        assert!(
            lines.ends_with(&kept) && kept.starts_with(b"line "),
            "{}",
            String::from_utf8_lossy(&kept)
        );
        assert!(!dir.0.join("log.json.3").exists());
        assert!((1000..1100).contains(&dir.read("log.json.1").len()));
        // A program that starts again goes on in the same file.
        drop(log);
        let before = dir.read(FILE);
        LogWriter::open(&dir.0, &config(Some(1000), 3))
            .unwrap()
            .write(Stream::Stdout, b"again\n");
        assert!(dir.read(FILE).starts_with(&before) && dir.text(FILE).ends_with(b"again\n"));
    }

    #[test]
    fn one_file_begins_anew() {
        let dir = Dir::new("single");
        let mut log = LogWriter::open(&dir.0, &config(Some(500), 1)).unwrap();
        for n in 0..100 {
            log.write(Stream::Stdout, format!("line {n}\n").as_bytes());
        }
        assert!(dir.read(FILE).len() < 600 && dir.text(FILE).ends_with(b"line 99\n"));
        assert_eq!(std::fs::read_dir(&dir.0).unwrap().count(), 1);
    }

    #[test]
    fn a_half_written_line_is_closed() {
        let dir = Dir::new("torn");
        let half = "{\"log\":\"hal";
        File::options()
            .create(true)
            .append(true)
            .open(dir.0.join(FILE))
            .unwrap()
            .write_all(half.as_bytes())
            .unwrap();
        LogWriter::open(&dir.0, &config(None, 1))
            .unwrap()
            .write(Stream::Stdout, b"whole\n");
        let content = dir.read(FILE);
        let (first, second) = content.split_once('\n').unwrap();
        assert_eq!(first, half);
        assert!(Record::parse(second.trim_end().as_bytes()).is_some());
    }

    #[test]
    fn no_driver_no_file() {
        let dir = Dir::new("none");
        let mut log = LogWriter::open(
            &dir.0,
            &LogConfig {
                driver: LogDriver::None,
                ..LogConfig::default()
            },
        )
        .unwrap();
        log.write(Stream::Stdout, b"gone\npart");
        assert!(log.quiet_after().is_none());
        assert_eq!(std::fs::read_dir(&dir.0).unwrap().count(), 0);
    }

    #[test]
    fn a_full_disk_drops_and_says_so() {
        let dir = Dir::new("full");
        let mut log = LogWriter::open(&dir.0, &config(None, 1)).unwrap();
        log.write(Stream::Stdout, b"before\n");
        // Every write to /dev/full fails with ENOSPC.
        let full = File::options().append(true).open("/dev/full").unwrap();
        let real = log.files.as_mut().unwrap().current.replace(full);
        log.write(Stream::Stdout, b"12345\n");
        log.write(Stream::Stderr, b"678\n");
        log.files.as_mut().unwrap().current = real;
        log.write(Stream::Stdout, b"after\n");
        log.write(Stream::Stdout, b"and on\n");
        let expected = "before\n[barge: 10 bytes of output are missing here: no space left on device]\nafter\nand on\n";
        assert_eq!(String::from_utf8_lossy(&dir.text(FILE)), expected);
    }

    #[test]
    fn a_write_that_fits_in_part_leaves_whole_records() {
        use nix::mount::{MsFlags, mount};
        let dir = Dir::new("short");
        let work = || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            mount(
                None::<&str>,
                "/",
                None::<&str>,
                MsFlags::MS_REC | MsFlags::MS_PRIVATE,
                None::<&str>,
            )
            .unwrap();
            mount(Some("tmpfs"), &dir.0, Some("tmpfs"), MsFlags::empty(), Some("size=64k")).unwrap();
            let mut log = LogWriter::open(&dir.0, &config(None, 1)).unwrap();
            let line = [b'x'; 999].into_iter().chain([b'\n']).collect::<Vec<u8>>();
            for _ in 0..4 {
                log.write(Stream::Stdout, &line.repeat(50));
            }
            let first = dir.text(FILE);
            // Making room: what has been written goes, and the writer appends to what is left.
            File::options()
                .write(true)
                .open(dir.0.join(FILE))
                .unwrap()
                .set_len(0)
                .unwrap();
            log.write(Stream::Stdout, b"room\n");
            let all = String::from_utf8([first, dir.text(FILE)].concat()).unwrap();
            assert!(
                all.ends_with("no space left on device]\nroom\n"),
                "{}",
                &all[all.len() - 200..]
            );
            let missing = |line: &str| line.strip_prefix("[barge: ")?.split(' ').next()?.parse::<usize>().ok();
            let (notes, lines): (Vec<&str>, Vec<&str>) = all.lines().partition(|l| missing(l).is_some());
            assert!(lines.len() > 50 && lines[..lines.len() - 1].iter().all(|l| l.len() == 999));
            let lost: usize = notes.into_iter().filter_map(missing).sum();
            assert_eq!((lines.len() - 1) * 1000 + lost, 200_000);
        };
        std::thread::scope(|s| s.spawn(work).join().unwrap());
    }
}
