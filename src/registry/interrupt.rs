//! A signal that ends the process in the middle of a push: what the registry was sent is taken back before.

use crate::error::{Context as _, Result};
use crate::registry::Remote;
use crate::sys::process::is_ignored;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::AsFd;

/// What comes from a keyboard, a supervisor or a closed window.
const SIGNALS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// Does `work`, which sends to `remote`. The threads it starts leave these signals to the one that waits for them here;
/// a second signal ends the process at once.
pub(crate) fn taking_back<T>(remote: &Remote, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut signals = SigSet::empty();
    for signal in SIGNALS {
        // Blocked, one that is ignored (`nohup`, a shell's background) would be seen.
        if !is_ignored(signal)? {
            signals.add(signal);
        }
    }
    let before = signals.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let done = watched(remote, &signals, &before, work);
    before.thread_set_mask()?;
    done
}

fn watched<T>(remote: &Remote, signals: &SigSet, before: &SigSet, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let arrived = SignalFd::with_flags(signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let (over, working) = pipe_with(PipeFlags::CLOEXEC)?;
    std::thread::scope(|scope| {
        let watch = || {
            if let Some(signal) = wait(&arrived, over.as_fd()) {
                // From now on as if nobody had waited for it.
                let _ = before.thread_set_mask();
                remote.abandon_uploads();
                let _ = raise(signal);
            }
        };
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn_scoped(scope, watch)
            .context("start a thread")?;
        let done = work();
        drop(working);
        done
    })
}

/// `None`: the work is over.
fn wait(arrived: &SignalFd, over: std::os::fd::BorrowedFd<'_>) -> Option<Signal> {
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(arrived.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(over, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => return None,
        }
        if !fds[1].revents().is_empty() {
            return None;
        }
        if let Ok(Some(info)) = arrived.read_signal() {
            return Signal::try_from(info.ssi_signo.cast_signed()).ok();
        }
    }
}
