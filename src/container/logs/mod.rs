//! `logs`: what a container has written, byte for byte, each stream to its own output; all of it, the last lines, a
//! time span, or on and on. The form of the records is in `model/log.rs`, the writer is `monitor/log.rs`.
//!
//! A reader takes no lock. It opens the files themselves, so that rotation and removal can't take anything away from
//! under it, and waits for the kernel's word (inotify, a pidfd on the monitor), never for time to pass.

mod files;
mod follow;
mod journal;
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
use files::{BLOCK, LogDir};
use follow::Watch;
use print::Printer;
use std::io::Write;
use std::path::Path;

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

/// The part of the log that is wanted, as the records' own times.
#[derive(Debug, Clone, Copy)]
struct Span {
    since: Option<Stamp>,
    until: Option<Stamp>,
}

impl Span {
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
    // A damaged record does not keep the log from being read.
    let driver = store.config(id).map(|config| config.log.driver);
    if matches!(driver, Ok(LogDriver::None | LogDriver::Passthrough)) {
        return Err(Error::other("configured logging driver does not support reading"));
    }
    // Not the container's status: that of a program which has ended may come before its last words are in the log.
    let monitor = || {
        let live = store.live(id).ok()??;
        (sys::process::start_time(live.monitor.pid) == Some(live.monitor.start_time)).then_some(live.monitor)
    };
    let span = Span {
        since: options.since.map(Stamp::new),
        until: options.until.map(Stamp::new),
    };
    let mut print = Printer::new(span, options.timestamps, out, err);
    if matches!(driver, Ok(LogDriver::Journald)) {
        return journal::read(id, options, monitor(), &mut print).with_context(|| format!("logs of {}", id.short()));
    }
    read(&store.container_dir(id), options, &monitor, &mut print).with_context(|| format!("logs of {}", id.short()))
}

/// Prints the log in `dir`, whose writer is what `monitor` says.
fn read(
    dir: &Path,
    options: &Options,
    monitor: &dyn Fn() -> Option<ProcessRef>,
    print: &mut Printer<'_>,
) -> Result<()> {
    // Before anything is read, so that nothing that is written later goes unnoticed.
    let watch = if options.follow {
        Some(Watch::new(dir, monitor)?)
    } else {
        None
    };
    let dir = LogDir::open(dir)?;
    let mut files = dir.open_files()?;
    if let Some(tail) = options.tail {
        tail::skip_to_tail(&mut files, tail, print.span())?;
    }
    let last = files.pop();
    let mut buffer = vec![0; BLOCK];
    for file in &mut files {
        file.read(&mut buffer, |line| print.line(line))?;
    }
    match (watch, last) {
        (Some(watch), last) => watch.follow(&dir, last, print, options.until)?,
        (None, Some(mut file)) => file.read(&mut buffer, |line| print.line(line))?,
        (None, None) => {}
    }
    print.flush()
}

#[cfg(test)]
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
            let span = Span {
                since: options.since.map(Stamp::new),
                until: options.until.map(Stamp::new),
            };
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
                let mut print = Printer::new(
                    Span {
                        since: None,
                        until: None,
                    },
                    false,
                    &mut to,
                    &mut err,
                );
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
        let mut print = Printer::new(
            Span {
                since: None,
                until: Some(Stamp::new(until)),
            },
            false,
            &mut out,
            &mut err,
        );
        read(&dir.0, &options, &|| Some(process(&monitor)), &mut print).unwrap();
        assert!(Timestamp::now() >= until);
        assert_eq!(out, b"line\n");
        monitor.kill().unwrap();
        monitor.wait().unwrap();
    }
}
