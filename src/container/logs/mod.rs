//! `logs`: what a container has written, byte for byte, each stream to its own output; all of it, the last lines, a
//! time span, or on and on. The form of the records is in `model/log.rs`, the writer is `monitor/log.rs`.
//!
//! A reader takes no lock. It opens the files themselves, so that rotation and removal can't take anything away from
//! under it, and waits for the kernel's word (inotify, a pidfd on the monitor), never for time to pass.

mod files;
mod follow;
mod journal;
mod merge;
mod print;
mod tail;

use crate::error::{Context, Error, Result};
use crate::model::container::LogDriver;
use crate::model::id::ContainerId;
use crate::model::log::Stamp;
use crate::model::state::ProcessRef;
use crate::model::time::Timestamp;
use crate::store::Store;
use crate::sys;
use files::{BLOCK, LogDir, LogFile};
use follow::{Watch, Writer};
use print::Printer;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Goes on until the container ends.
    pub(crate) follow: bool,
    /// Only so many last lines.
    pub(crate) tail: Option<u64>,
    /// Only lines of this time and later.
    pub(crate) since: Option<Timestamp>,
    /// Only lines before this time.
    pub(crate) until: Option<Timestamp>,
    /// Each line begins with its time.
    pub(crate) timestamps: bool,
}

/// How far a clock may have been set back while a log was written: what is looked for by halving is looked for so much
/// earlier, and reading stops so much later.
const CLOCK: Duration = Duration::from_secs(60);

/// The part of the log that is wanted, as the records' own times.
#[derive(Debug, Clone, Copy)]
struct Span {
    since: Option<Stamp>,
    until: Option<Stamp>,
    /// Before and after these there is nothing, even if the clock was set meanwhile.
    early: Option<Stamp>,
    late: Option<Stamp>,
}

impl Span {
    fn new(since: Option<Timestamp>, until: Option<Timestamp>) -> Span {
        Span {
            since: since.map(Stamp::new),
            until: until.map(Stamp::new),
            early: since.and_then(|t| t.checked_sub(CLOCK).ok()).map(Stamp::new),
            late: until.and_then(|t| t.checked_add(CLOCK).ok()).map(Stamp::new),
        }
    }

    fn is_long_after(self, time: Stamp) -> bool {
        self.late.is_some_and(|late| time >= late)
    }

    fn is_before(self, time: Stamp) -> bool {
        self.since.is_some_and(|since| time < since)
    }

    fn is_after(self, time: Stamp) -> bool {
        self.until.is_some_and(|until| time >= until)
    }

    fn contains(self, time: Stamp) -> bool {
        !self.is_before(time) && !self.is_after(time)
    }
}

/// Prints the log of `id`: the container's stdout to `out`, its stderr, and a warning about damaged lines, to `err`.
pub(crate) fn logs(
    store: &Store,
    id: &ContainerId,
    options: &Options,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<()> {
    let said = || format!("logs of {}", id.short());
    let driver = readable(store, id)?;
    let mut print = Printer::new(Span::new(options.since, options.until), options.timestamps, out, err);
    if driver == Some(LogDriver::Journald) {
        return journal::read(id, options, monitor(store, id), &mut print).with_context(said);
    }
    read(&store.container_dir(id), options, &|| monitor(store, id), &mut print).with_context(said)
}

/// The driver, if a log of it can be read. A damaged record does not keep the log from being read.
fn readable(store: &Store, id: &ContainerId) -> Result<Option<LogDriver>> {
    match store.config(id).map(|config| config.log.driver) {
        Ok(LogDriver::None | LogDriver::Passthrough) => {
            Err(Error::other("configured logging driver does not support reading"))
        }
        Ok(driver) => Ok(Some(driver)),
        Err(_) => Ok(None),
    }
}

/// Who writes the log. Not the container's status: that of a program which has ended may come before its last words are
/// in the log.
fn monitor(store: &Store, id: &ContainerId) -> Option<ProcessRef> {
    let live = store.live(id).ok()??;
    (sys::process::start_time(live.monitor.pid) == Some(live.monitor.start_time)).then_some(live.monitor)
}

/// Where the two outputs of a container go.
pub(crate) struct Sink<'a> {
    pub(crate) out: Box<dyn Write + Send + 'a>,
    pub(crate) err: Box<dyn Write + Send + 'a>,
}

/// Prints the logs of several containers: what there is as one, by its times, and then each as it comes. What failed,
/// for each; one that fails keeps no other from being read. A log in the host's journal, which journalctl reads, comes
/// before the others.
pub(crate) fn several(
    store: &Store,
    ids: &[ContainerId],
    options: &Options,
    sinks: &mut [Sink<'_>],
) -> Vec<Result<()>> {
    let mut done: Vec<Result<()>> = ids.iter().map(|_| Ok(())).collect();
    let writers: Vec<_> = ids.iter().map(|id| move || monitor(store, id)).collect();
    let span = Span::new(options.since, options.until);
    let mut open = Vec::new();
    let mut journals = Vec::new();
    for (n, ((id, writer), sink)) in ids.iter().zip(&writers).zip(sinks).enumerate() {
        let opened = readable(store, id).and_then(|driver| match driver {
            Some(LogDriver::Journald) => Ok(None),
            _ => Opened::open(&store.container_dir(id), options, span, writer).map(Some),
        });
        match opened {
            Ok(Some(opened)) => open.push((n, opened, sink)),
            Ok(None) => journals.push((n, sink)),
            Err(e) => done[n] = Err(e),
        }
    }
    std::thread::scope(|threads| {
        let mut all = Vec::new();
        for (n, Sink { out, err }) in journals {
            let mut read = move || {
                let mut print = Printer::new(span, options.timestamps, out, err);
                journal::read(&ids[n], options, monitor(store, &ids[n]), &mut print)
            };
            match options.follow {
                true => all.push((n, threads.spawn(read))),
                false => done[n] = read(),
            }
        }
        let mut sources = Vec::new();
        let mut rest = Vec::new();
        for (n, mut opened, sink) in open {
            match merge::Source::new(std::mem::take(&mut opened.files)) {
                Ok(source) => {
                    sources.push(source);
                    rest.push((n, opened, sink));
                }
                Err(e) => done[n] = Err(e),
            }
        }
        let mut printers = Vec::new();
        for (_, _, sink) in &mut rest {
            printers.push(sink.printer(span, options.timestamps));
        }
        let merged = merge::merge(&mut sources, &mut printers);
        let in_lines: Vec<_> = printers.iter().map(Printer::in_lines).collect();
        drop(printers);
        if let Err(e) = merged {
            done.push(Err(e));
            return;
        }
        for (((n, opened, sink), source), in_line) in rest.into_iter().zip(sources).zip(in_lines) {
            let Some(watch) = opened.watch else { continue };
            let follow = move || {
                let mut print = sink.printer(span, options.timestamps);
                print.resume(in_line);
                watch.follow(&opened.dir, source.into_last(), &mut print, options.until)?;
                print.flush()
            };
            all.push((n, threads.spawn(follow)));
        }
        for (n, thread) in all {
            done[n] = thread
                .join()
                .unwrap_or_else(|_| Err(Error::other("a thread ended early")));
        }
    });
    for (id, done) in ids.iter().zip(&mut done) {
        let said = std::mem::replace(done, Ok(()));
        *done = said.with_context(|| format!("logs of {}", id.short()));
    }
    done
}

impl Sink<'_> {
    fn printer(&mut self, span: Span, timestamps: bool) -> Printer<'_> {
        Printer::new(span, timestamps, &mut self.out, &mut self.err)
    }
}

/// The files of a log, at the first line that may be wanted, and what tells of more.
struct Opened<'a> {
    watch: Option<Watch<'a>>,
    dir: LogDir,
    /// Oldest first.
    files: Vec<LogFile>,
}

impl<'a> Opened<'a> {
    fn open(dir: &Path, options: &Options, span: Span, writer: Writer<'a>) -> Result<Opened<'a>> {
        // Before anything is read, so that nothing that is written later goes unnoticed.
        let watch = match options.follow {
            true => Some(Watch::new(dir, writer)?),
            false => None,
        };
        let dir = LogDir::open(dir)?;
        let mut files = dir.open_files()?;
        match (options.tail, span.early) {
            // Its search goes backwards, and ends where the span begins.
            (Some(tail), _) => tail::skip_to_tail(&mut files, tail, span)?,
            (None, Some(early)) => skip_to(&mut files, early)?,
            (None, None) => {}
        }
        Ok(Opened { watch, dir, files })
    }
}

/// Drops what comes before `time`.
fn skip_to(files: &mut Vec<LogFile>, time: Stamp) -> Result<()> {
    for at in (0..files.len()).rev() {
        if files[at].skip_to(time)? {
            files.drain(..at);
            break;
        }
    }
    Ok(())
}

/// Prints the log in `dir`, whose writer is what `monitor` says.
fn read(dir: &Path, options: &Options, writer: Writer<'_>, print: &mut Printer<'_>) -> Result<()> {
    let Opened { watch, dir, mut files } = Opened::open(dir, options, print.span(), writer)?;
    let last = files.pop();
    let mut buffer = vec![0; BLOCK];
    let mut more = true;
    for file in &mut files {
        if more {
            file.read(&mut buffer, |line| {
                more = print.line(line)?;
                Ok(more)
            })?;
        }
    }
    match (watch, last) {
        (Some(watch), last) => watch.follow(&dir, last, print, options.until)?,
        (None, Some(mut file)) if more => file.read(&mut buffer, |line| print.line(line))?,
        (None, _) => {}
    }
    print.flush()
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use crate::model::container::LogConfig;
    use crate::model::log::Stream;
    use crate::monitor::log::LogWriter;
    use std::path::PathBuf;
    use std::process::{Child, Command};
    use std::sync::{Arc, Mutex};

    /// A container's directory, that goes with the test.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("barge-logs-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Dir(path)
        }

        fn writer(&self, max_size: u64) -> LogWriter {
            let config = LogConfig {
                max_size: Some(max_size),
                max_file: 100,
                ..LogConfig::default()
            };
            LogWriter::open(&self.0, &config).unwrap()
        }

        fn read(&self, options: Options) -> String {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let span = Span::new(options.since, options.until);
            read(
                &self.0,
                &options,
                &|| None,
                &mut Printer::new(span, false, &mut out, &mut err),
            )
            .unwrap();
            String::from_utf8(out).unwrap()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn numbers(range: std::ops::Range<u32>) -> String {
        range.map(|n| format!("{n}\n")).collect()
    }

    #[test]
    fn reads_all_files_and_tails_over_them() {
        let dir = Dir::new("tail");
        let mut log = dir.writer(2000);
        for n in 0..500 {
            log.write(Stream::Stdout, format!("{n}\n").as_bytes());
        }
        assert_eq!(dir.read(Options::default()), numbers(0..500));
        for tail in [0, 1, 10, 26, 27, 300, 499, 500, 501, u64::MAX] {
            let first = 500 - u32::try_from(tail.min(500)).unwrap();
            assert_eq!(
                dir.read(Options {
                    tail: Some(tail),
                    ..Options::default()
                }),
                numbers(first..500),
                "{tail}"
            );
        }
    }

    #[test]
    fn a_tail_counts_lines_not_records() {
        let dir = Dir::new("pieces");
        let long = "x".repeat(100_000);
        dir.writer(1_000_000)
            .write(Stream::Stdout, format!("1\n{long}\n3\n{long}\nend").as_bytes());
        let mut log = dir.writer(1_000_000);
        log.write(Stream::Stdout, b"end");
        log.quiet();
        for (tail, expected) in [
            (1, "end".to_owned()),
            (2, format!("{long}\nend")),
            (3, format!("3\n{long}\nend")),
        ] {
            assert!(
                dir.read(Options {
                    tail: Some(tail),
                    ..Options::default()
                }) == expected,
                "{tail}"
            );
        }
    }

    #[test]
    fn a_log_that_is_not_there_is_empty() {
        let dir = Dir::new("empty");
        assert_eq!(dir.read(Options::default()), "");
        assert_eq!(
            dir.read(Options {
                follow: true,
                tail: Some(3),
                ..Options::default()
            }),
            ""
        );
        dir.writer(1000);
        assert_eq!(
            dir.read(Options {
                tail: Some(3),
                ..Options::default()
            }),
            ""
        );
    }

    /// Text that another thread may look at while it grows.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Shared {
        fn wait_for(&self, text: &str) {
            let start = std::time::Instant::now();
            while !self.0.lock().unwrap().ends_with(text.as_bytes()) {
                assert!(start.elapsed().as_secs() < 10, "no '{text}'");
                std::thread::yield_now();
            }
        }
    }

    fn process(child: &Child) -> ProcessRef {
        ProcessRef {
            pid: i32::try_from(child.id()).unwrap(),
            start_time: 0,
        }
    }

    #[test]
    fn follows_over_rotation_to_the_very_last_line() {
        let dir = Dir::new("follow");
        let out = Shared::default();
        let mut monitor = Command::new("sleep").arg("1000").spawn().unwrap();
        let (alive, child) = (Mutex::new(true), process(&monitor));
        std::thread::scope(|s| {
            let reader = s.spawn(|| {
                let is_alive = || alive.lock().unwrap().then_some(child);
                let (mut to, mut err) = (out.clone(), Vec::new());
                let options = Options {
                    follow: true,
                    ..Options::default()
                };
                let mut print = Printer::new(Span::new(None, None), false, &mut to, &mut err);
                read(&dir.0, &options, &is_alive, &mut print).unwrap();
            });
            let mut log = dir.writer(2000);
            log.write(Stream::Stdout, b"first\n");
            out.wait_for("first\n");
            log.write(Stream::Stdout, b"prompt> ");
            log.quiet();
            out.wait_for("prompt> ");
            for n in 0..2000 {
                log.write(Stream::Stdout, format!("{n}\n").as_bytes());
                if n % 300 == 299 {
                    out.wait_for(&format!("\n{n}\n"));
                }
            }
            *alive.lock().unwrap() = false;
            monitor.kill().unwrap();
            monitor.wait().unwrap();
            reader.join().unwrap();
        });
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        assert!(text == format!("first\nprompt> {}", numbers(0..2000)));
    }

    #[test]
    fn follows_until_a_time() {
        let dir = Dir::new("until");
        dir.writer(1000).write(Stream::Stdout, b"line\n");
        let mut monitor = Command::new("sleep").arg("1000").spawn().unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let until = Timestamp::now() + std::time::Duration::from_millis(50);
        let options = Options {
            follow: true,
            until: Some(until),
            ..Options::default()
        };
        let mut print = Printer::new(Span::new(None, Some(until)), false, &mut out, &mut err);
        read(&dir.0, &options, &|| Some(process(&monitor)), &mut print).unwrap();
        assert!(Timestamp::now() >= until);
        assert_eq!(out, b"line\n");
        monitor.kill().unwrap();
        monitor.wait().unwrap();
    }

    /// Records of one line each, ten seconds apart, over files of `per_file` of them.
    fn timed(dir: &Dir, count: i64, per_file: i64) {
        let files = count / per_file;
        for file in 0..files {
            let mut text = Vec::new();
            for n in file * per_file..(file + 1) * per_file {
                let at = Timestamp::from_second(1_000_000_000 + n * 10).unwrap();
                let padded = format!("{n}:{}\n", "x".repeat(200));
                crate::model::log::Encoder::new(Stream::Stdout, at).record(padded.as_bytes(), &mut text);
            }
            let name = match files - 1 - file {
                0 => "log.json".to_owned(),
                older => format!("log.json.{older}"),
            };
            std::fs::write(dir.0.join(name), text).unwrap();
        }
    }

    #[test]
    fn a_time_is_found_in_files_of_any_size() {
        let dir = Dir::new("times");
        timed(&dir, 9000, 3000);
        let at = |n: i64| Some(Timestamp::from_second(1_000_000_000 + n * 10).unwrap());
        for (since, until) in [
            (-5, 3),
            (0, 0),
            (1, 2),
            (2990, 3010),
            (4321, 4400),
            (5999, 6001),
            (8990, 9100),
            (9100, 9200),
        ] {
            let text = dir.read(Options {
                since: at(since),
                until: at(until),
                ..Options::default()
            });
            let found: Vec<i64> = text
                .lines()
                .map(|l| l.split(':').next().unwrap().parse().unwrap())
                .collect();
            let expected: Vec<i64> = (since.clamp(0, 9000)..until.clamp(0, 9000)).collect();
            assert_eq!(found, expected, "{since}..{until}");
        }
        let tail = dir.read(Options {
            since: at(8000),
            tail: Some(2),
            ..Options::default()
        });
        assert!(tail.starts_with("8998:"), "{tail}");
        // Little of it is read.
        let mut files = LogDir::open(&dir.0).unwrap().open_files().unwrap();
        skip_to(&mut files, Stamp::new(at(4321).unwrap())).unwrap();
        assert_eq!(files.len(), 2);
        assert!(
            files[0].offset() > 200 * 1000 && files[0].offset() < 1322 * 300,
            "{}",
            files[0].offset()
        );
    }

    #[test]
    fn several_logs_become_one() {
        let (a, b) = (Dir::new("merge-a"), Dir::new("merge-b"));
        timed(&a, 4000, 2000);
        timed(&b, 3000, 1000);
        let mut sources: Vec<_> = [&a, &b]
            .iter()
            .map(|dir| merge::Source::new(LogDir::open(&dir.0).unwrap().open_files().unwrap()).unwrap())
            .collect();
        let out = Shared::default();
        let (mut to_a, mut to_b, mut err_a, mut err_b) = (out.clone(), out.clone(), Vec::new(), Vec::new());
        let span = Span::new(None, None);
        let mut printers = [
            Printer::new(span, true, &mut to_a, &mut err_a),
            Printer::new(span, true, &mut to_b, &mut err_b),
        ];
        merge::merge(&mut sources, &mut printers).unwrap();
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 7000);
        assert!(lines.is_sorted_by_key(|line| &line[..30]));
    }
}
