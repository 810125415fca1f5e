//! The process behind one health check: joins the container, runs the check with its limits and its user, and reports
//! what became of it. The monitor only starts it and reads one message: nothing that a container does, or stands still
//! in, can hold the monitor up.
//!
//! However it ends, nothing of the check stays: what it has started is in a control group of its own, which is killed
//! here, or by the monitor should this process be lost. A monitor that goes closes its socket, and so ends the check.

use crate::error::{Error, Result};
use crate::model::bytes::ByteString;
use crate::model::health::HealthResult;
use crate::model::id::ContainerId;
use crate::model::time::Timestamp;
use crate::monitor::exec::{ExecSpec, Joined};
use crate::monitor::launch;
use crate::runtime::cgroup;
use crate::runtime::prepare::ChildStreams;
use crate::store::Store;
use crate::sys;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Its name among the processes; the container's whole id follows.
pub(crate) const TITLE: &str = "barge: health ";

/// For processes that have been killed to end.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize, Deserialize)]
struct ProbeLaunch {
    root: PathBuf,
    run_root: PathBuf,
    id: ContainerId,
    argv: Vec<ByteString>,
    timeout: Duration,
    /// Bytes of output that are kept.
    room: usize,
}

/// Starts a check; on the socket comes one report, or the end.
pub(super) fn launch(
    store: &Store,
    id: &ContainerId,
    argv: Vec<ByteString>,
    (timeout, room): (Duration, usize),
) -> Result<OwnedFd> {
    let message = ProbeLaunch {
        root: store.root().to_owned(),
        run_root: store.run_root().to_owned(),
        id: id.clone(),
        argv,
        timeout,
        room,
    };
    launch::begin_from_monitor(&format!("{TITLE}{id}"), &message)
}

/// What a report says; `None` if it is none.
pub(super) fn report(bytes: &[u8]) -> Option<HealthResult> {
    serde_json::from_slice(bytes).ok()
}

/// This process's whole life.
pub(crate) fn main() -> Result<()> {
    let (launcher, launch): (launch::Launcher, ProbeLaunch) = launch::inherited()?;
    sys::process::close_from(3)?;
    super::leave_the_caller();
    let store = Store::open(launch.root.clone(), launch.run_root.clone())?;
    let start = Timestamp::now();
    let mut output = Output {
        bytes: Vec::new(),
        room: launch.room,
        more: false,
    };
    let exit_code = match check(&store, &launch, launcher.socket(), &mut output) {
        Ok(code) => code,
        Err(e) => {
            output.take(e.to_string().as_bytes());
            -1
        }
    };
    let result = HealthResult {
        start,
        end: Timestamp::now(),
        exit_code,
        output: output.text(),
    };
    launcher.tell(&result);
    Ok(())
}

/// The first bytes of what a check says.
#[derive(Debug)]
struct Output {
    bytes: Vec<u8>,
    room: usize,
    more: bool,
}

impl Output {
    fn take(&mut self, bytes: &[u8]) {
        let room = self.room.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..room.min(bytes.len())]);
        self.more |= bytes.len() > room;
    }

    fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.bytes).into_owned();
        if self.more {
            text.push_str("...");
        }
        text
    }
}

fn check(store: &Store, launch: &ProbeLaunch, monitor: &OwnedFd, output: &mut Output) -> Result<i32> {
    let spec = ExecSpec::of_check(launch.argv.clone());
    let joined = Joined::open(store, &launch.id)?;
    let (entry, group) = joined.probe_entry()?;
    let done = run(store, launch, monitor, output, (&joined, &spec, entry));
    // Also what a check that has succeeded has left running.
    if let Some(group) = group {
        let _ = cgroup::end_probe(&group, PATIENCE);
    }
    done
}

fn run(
    store: &Store,
    launch: &ProbeLaunch,
    monitor: &OwnedFd,
    output: &mut Output,
    (joined, spec, entry): (&Joined, &ExecSpec, cgroup::Entry),
) -> Result<i32> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    // Closed at once: nothing to read for the check.
    let (stdin, _) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&read, true)?;
    let mut read = Some(read);
    let streams = ChildStreams {
        stdin,
        stdout: write.try_clone()?,
        stderr: write,
        terminal: false,
        foreign: false,
    };
    let init = joined.execute(store, spec, (streams, entry, Vec::new()), true)?;
    let mut deadline = Instant::now() + launch.timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timespec = Timespec::try_from(left).ok();
        let mut fds = vec![
            PollFd::new(&init.pidfd, PollFlags::IN),
            PollFd::new(monitor, PollFlags::IN),
        ];
        // A pipe that nobody writes to any more is always ready: a check that only sleeps must not keep us awake.
        fds.extend(read.as_ref().map(|read| PollFd::new(read, PollFlags::IN)));
        match rustix::event::poll(&mut fds, timespec.as_ref()) {
            Ok(0) if joined.is_frozen() => deadline = Instant::now() + launch.timeout,
            Ok(0) => {
                sys::process::pidfd_signal(init.pidfd.as_fd(), libc::SIGKILL)?;
                let said = std::mem::take(&mut output.bytes);
                output.take(format!("Health check exceeded timeout ({:?})", launch.timeout).as_bytes());
                if !said.is_empty() {
                    output.take(b": ");
                    output.take(&said);
                }
                return Ok(-1);
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ready = |n: usize| fds.get(n).is_some_and(|fd| !fd.revents().is_empty());
        let (ended, gone, said) = (ready(0), ready(1), ready(2));
        if said && read.as_ref().is_some_and(|read| take_output(read, output)) {
            read = None;
        }
        if gone {
            sys::process::pidfd_signal(init.pidfd.as_fd(), libc::SIGKILL)?;
            return Err(Error::other("the container's monitor is gone"));
        }
        if ended {
            if let Some(read) = &read {
                take_output(read, output);
            }
            return Ok(i32::from(sys::process::reap(init.pidfd.as_fd())?.code()));
        }
    }
}

/// What is there now: to the end of a pipe that a child of the check keeps open nobody waits. True at the end.
fn take_output(pipe: &OwnedFd, output: &mut Output) -> bool {
    let mut buffer = [0; 4096];
    // Bounded, so that one who never stops talking meets its timeout.
    for _ in 0..64 {
        match rustix::io::read(pipe, &mut buffer) {
            Ok(0) => return true,
            Ok(n) => output.take(&buffer[..n]),
            Err(Errno::AGAIN | Errno::INTR) => return false,
            Err(_) => return true,
        }
    }
    false
}
