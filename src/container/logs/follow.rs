//! Waiting for more: inotify tells of writes and rotation, a pidfd of the monitor's end.

use super::files::{BLOCK, LogDir, LogFile};
use super::print::Printer;
use crate::error::{Context, Result};
use crate::model::state::ProcessRef;
use crate::model::time::Timestamp;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// Which process writes a log now, if any.
pub(super) type Writer<'a> = &'a (dyn Fn() -> Option<ProcessRef> + Sync);

/// Tells when there may be more to read.
pub(super) struct Watch<'a> {
    inotify: Inotify,
    writer: Writer<'a>,
    /// The last one seen.
    monitor: Option<Monitor>,
}

struct Monitor {
    process: ProcessRef,
    pidfd: OwnedFd,
}

impl Monitor {
    /// The writer, unless there is none, or still the one that is known to have ended.
    fn find(writer: Writer<'_>, ended: Option<ProcessRef>) -> Option<Self> {
        let process = writer().filter(|process| ended != Some(*process))?;
        let pidfd = pidfd_open(Pid::from_raw(process.pid)?, PidfdFlags::empty()).ok()?;
        // Should another process have got its pid meanwhile, it is not the writer any more.
        (writer() == Some(process)).then_some(Monitor { process, pidfd })
    }

    fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        poll(&mut fds, Some(&timespec(Duration::ZERO))).is_ok_and(|ready| ready > 0)
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}

impl<'a> Watch<'a> {
    pub(super) fn new(dir: &Path, writer: Writer<'a>) -> Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).context("watch")?;
        let events = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        inotify.add_watch(dir, events).context("watch")?;
        Ok(Watch {
            inotify,
            writer,
            monitor: Monitor::find(writer, None),
        })
    }

    /// Returns when something happened, or at `until`.
    fn wait(&self, until: Option<Timestamp>) -> Result<()> {
        let mut fds = vec![PollFd::from_borrowed_fd(self.inotify.as_fd(), PollFlags::IN)];
        if let Some(monitor) = &self.monitor {
            fds.push(PollFd::new(&monitor.pidfd, PollFlags::IN));
        }
        let left = |until: Timestamp| Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default();
        match poll(&mut fds, until.map(|until| timespec(left(until))).as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e).context("wait for more"),
        }
        // What the events say does not matter: the files are looked at in any case.
        loop {
            match self.inotify.read_events() {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(e) => return Err(e).context("wait for more"),
            }
        }
    }

    /// Prints what comes in `file` and its successors, until its writer has ended or `until` is reached.
    pub(super) fn follow(
        mut self,
        dir: &LogDir,
        file: Option<LogFile>,
        print: &mut Printer<'_>,
        until: Option<Timestamp>,
    ) -> Result<()> {
        let mut current = file;
        let mut buffer = vec![0; BLOCK];
        loop {
            // Asked before reading, so that the last words are read too.
            let over = until.is_some_and(|until| until <= Timestamp::now());
            let ended = self.monitor.as_ref().is_none_or(Monitor::has_ended);
            loop {
                // Likewise: what was written to the file before its successor came.
                let next = dir.after(current.as_ref())?;
                if let Some(file) = &mut current {
                    file.read(&mut buffer, |line| print.line(line).map(|_| true))?;
                }
                match next {
                    Some(file) => current = Some(file),
                    None => break,
                }
            }
            print.flush()?;
            if over {
                return Ok(());
            }
            if ended {
                let Some(old) = self.monitor.take() else { return Ok(()) };
                self.monitor = Monitor::find(self.writer, Some(old.process));
                if self.monitor.is_none() {
                    return Ok(());
                }
            } else {
                self.wait(until)?;
            }
        }
    }
}
