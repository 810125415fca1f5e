//! The log of a container whose driver is `journald`: `journalctl` reads it, and what it gives becomes the records that
//! a file would have.

use super::Options;
use super::print::Printer;
use crate::error::{Context as _, Error, Result};
use crate::model::id::ContainerId;
use crate::model::log::{Encoder, Stream};
use crate::model::state::ProcessRef;
use crate::model::time::Timestamp;
use crate::sys;
use rustix::event::{PollFd, PollFlags, Timespec};
use serde_json::Value;
use std::collections::VecDeque;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// After the container's end, how long nothing may come before nothing more is expected.
const QUIET: Duration = Duration::from_millis(500);

pub(super) fn read(
    id: &ContainerId,
    options: &Options,
    monitor: Option<ProcessRef>,
    print: &mut Printer<'_>,
) -> Result<()> {
    // A container that has ended has nothing to follow.
    let follow = options.follow && monitor.is_some();
    let mut child = Command::new("journalctl")
        .args(arguments(id, options, follow))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| {
            let error = Error::other(format!("run journalctl: {}", Error::from(e)));
            error.with_hint(format!(
                "the log is in the journal of this host: journalctl CONTAINER_ID_FULL={id}"
            ))
        })?;
    let stdout = child
        .stdout
        .take()
        .ok_or_else(|| Error::other("journalctl has no output"))?;
    let mut lines = Lines {
        stdout,
        received: Vec::new(),
    };
    let done = match (follow, options.tail) {
        (false, Some(tail)) => last(&mut lines, tail, print),
        _ => all(&mut lines, monitor.filter(|_| follow), print),
    };
    end(&mut child);
    done.and_then(|()| print.flush())
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn arguments(id: &ContainerId, options: &Options, follow: bool) -> Vec<String> {
    let mut args = vec![
        "--quiet".to_owned(),
        "--no-pager".to_owned(),
        "--all".to_owned(),
        "--output=json".to_owned(),
        "--output-fields=MESSAGE,PRIORITY,CONTAINER_PARTIAL_MESSAGE,SYSLOG_TIMESTAMP".to_owned(),
    ];
    // Whole seconds, and one more at either end: the times of the records decide.
    if let Some(since) = options.since {
        args.push(format!("--since=@{}", since.as_second().saturating_sub(1).max(0)));
    }
    if let Some(until) = options.until.filter(|_| !follow) {
        args.push(format!("--until=@{}", until.as_second().saturating_add(2).max(0)));
    }
    if follow {
        args.push("--follow".to_owned());
        args.push(
            options
                .tail
                .map_or("--lines=all".to_owned(), |n| format!("--lines={n}")),
        );
    } else if let (Some(n), None, None) = (options.tail, options.since, options.until) {
        args.push(format!("--lines={n}"));
    }
    args.push(format!("CONTAINER_ID_FULL={id}"));
    args
}

/// Prints what comes, to the end, or until the container's monitor has ended and nothing comes any more.
fn all(lines: &mut Lines, monitor: Option<ProcessRef>, print: &mut Printer<'_>) -> Result<()> {
    let pidfd = match monitor {
        Some(process) => sys::process::pidfd_open(process.pid)?,
        None => None,
    };
    let mut ended = monitor.is_some() && pidfd.is_none();
    loop {
        let mut fds = vec![PollFd::new(&lines.stdout, PollFlags::IN)];
        if let Some(pidfd) = pidfd.as_ref().filter(|_| !ended) {
            fds.push(PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN));
        }
        let patience = Timespec::try_from(QUIET).ok().filter(|_| ended);
        match rustix::event::poll(&mut fds, patience.as_ref()) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
        }
        ended |= fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        if fds[0].revents().is_empty() {
            continue;
        }
        let more = lines.read(&mut |record| print.line(record).map(drop))?;
        print.flush()?;
        if !more {
            return Ok(());
        }
    }
}

/// Prints the last `tail` records of the span.
fn last(lines: &mut Lines, tail: u64, print: &mut Printer<'_>) -> Result<()> {
    let tail = usize::try_from(tail).unwrap_or(usize::MAX);
    let mut kept = VecDeque::new();
    let span = print.span();
    while lines.read(&mut |record| {
        let time = crate::model::log::Record::parse(record.trim_ascii_end()).map(|r| r.time);
        if time.is_some_and(|t| span.contains(t)) {
            kept.push_back(record.to_owned());
            if kept.len() > tail {
                kept.pop_front();
            }
        }
        Ok(())
    })? {}
    kept.iter().try_for_each(|record| print.line(record).map(drop))
}

struct Lines {
    stdout: ChildStdout,
    received: Vec<u8>,
}

impl Lines {
    /// Reads once, and gives every whole entry as a record without its newline; false at the end.
    fn read(&mut self, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        let mut buffer = vec![0; 64 * 1024];
        let n = self.stdout.read(&mut buffer).context("read from journalctl")?;
        self.received.extend_from_slice(&buffer[..n]);
        let Some(end) = memchr::memrchr(b'\n', &self.received) else {
            return Ok(n > 0);
        };
        for line in self.received[..end].split(|b| *b == b'\n') {
            if let Some(record) = record(line) {
                take(record.trim_ascii_end())?;
            }
        }
        self.received.drain(..=end);
        Ok(n > 0)
    }
}

/// journalctl's JSON (https://systemd.io/JOURNAL_EXPORT_FORMATS) as a record of ours.
fn record(line: &[u8]) -> Option<Vec<u8>> {
    let entry: Value = serde_json::from_slice(line).ok()?;
    let mut text = match entry.get("MESSAGE")? {
        Value::String(text) => text.clone().into_bytes(),
        Value::Array(bytes) => bytes.iter().filter_map(|b| u8::try_from(b.as_u64()?).ok()).collect(),
        _ => return None,
    };
    let field = |name: &str| entry.get(name).and_then(Value::as_str);
    if field("CONTAINER_PARTIAL_MESSAGE") != Some("true") {
        text.push(b'\n');
    }
    let stream = match field("PRIORITY") {
        Some("3") => Stream::Stderr,
        _ => Stream::Stdout,
    };
    let said = field("SYSLOG_TIMESTAMP").and_then(|t| t.trim().parse::<Timestamp>().ok());
    let taken = || {
        let microseconds = field("__REALTIME_TIMESTAMP")?.parse().ok()?;
        Timestamp::from_microsecond(microseconds).ok()
    };
    let mut record = Vec::new();
    Encoder::new(stream, said.or_else(taken)?).record(&text, &mut record);
    Some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_become_records() {
        for (entry, want) in [
            (
                r#"{"MESSAGE":"hi","PRIORITY":"6","SYSLOG_TIMESTAMP":"2026-01-02T03:04:05.123456789Z"}"#,
                r#"{"log":"hi\n","stream":"stdout","time":"2026-01-02T03:04:05.123456789Z"}"#,
            ),
            (
                r#"{"MESSAGE":[255,10],"PRIORITY":"3","CONTAINER_PARTIAL_MESSAGE":"true","__REALTIME_TIMESTAMP":"1000000"}"#,
                r#"{"log":"\udcff\n","stream":"stderr","time":"1970-01-01T00:00:01.000000000Z"}"#,
            ),
        ] {
            let record = record(entry.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(record).unwrap().trim_end(), want);
        }
        for damaged in ["", "{}", "[]", r#"{"MESSAGE":null}"#, r#"{"MESSAGE":"no time"}"#] {
            assert_eq!(record(damaged.as_bytes()), None, "{damaged}");
        }
    }

    #[test]
    fn what_journalctl_is_asked() {
        let id = ContainerId::from_random(&[1; 32]);
        let options = Options {
            tail: Some(5),
            ..Options::default()
        };
        assert!(arguments(&id, &options, false).contains(&"--lines=5".to_owned()));
        assert!(arguments(&id, &options, true).contains(&"--follow".to_owned()));
        let since = Options {
            since: "2026-01-02T03:04:05.5Z".parse().ok(),
            ..options
        };
        let args = arguments(&id, &since, false);
        assert!(args.contains(&"--since=@1767323044".to_owned()), "{args:?}");
        assert!(!args.iter().any(|a| a.starts_with("--lines")), "{args:?}");
    }
}
