//! Work that is done beside the build, in a process of its own: the build itself has one thread whenever it starts a
//! container, so what takes its time can't be another thread of it.

use crate::error::{Context, Error, Kind, Result};
use crate::sys;
use crate::sys::clone::Fork;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A process that works, and answers once. Dropped before it is finished, it is killed.
#[derive(Debug)]
pub(crate) struct Task {
    pidfd: OwnedFd,
    answer: Option<File>,
}

#[derive(Serialize, Deserialize)]
enum Answer<T> {
    Done(T),
    Failed { message: String, hint: Option<String> },
}

/// Starts `work`. Its process has none of this one's descriptors but `kept`: locks and sockets of others must not live
/// on in it.
pub(crate) fn start<T: Serialize>(kept: &[BorrowedFd<'_>], work: impl FnOnce() -> Result<T>) -> Result<Task> {
    let (answer, to_answer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    match sys::clone::clone3(0, None).context("start a process")? {
        Fork::Parent { pidfd, .. } => Ok(Task {
            pidfd,
            answer: Some(answer.into()),
        }),
        Fork::Child => {
            let mut all = kept.to_vec();
            all.push(to_answer.as_fd());
            // A terminal's Ctrl-C is for the build: what it has finished is worth being finished.
            let _ = nix::sys::signal::SigSet::all().thread_block();
            let code = match sys::process::close_all_but(&all) {
                Ok(()) => tell(to_answer, work()),
                Err(_) => 1,
            };
            sys::process::exit_now(code)
        }
    }
}

/// The child's last deed.
fn tell<T: Serialize>(to: OwnedFd, result: Result<T>) -> i32 {
    let _ = nix::sys::prctl::set_name(c"barge-build");
    let answer = match result {
        Ok(done) => Answer::Done(done),
        Err(e) => Answer::Failed {
            message: e.to_string(),
            hint: e.hint().map(str::to_owned),
        },
    };
    let written = serde_json::to_vec(&answer).map(|bytes| File::from(to).write_all(&bytes));
    i32::from(!matches!(written, Ok(Ok(()))))
}

impl Task {
    /// Readable when it has answered, or died.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.answer.as_ref().map(AsFd::as_fd)
    }

    /// Waits for the answer.
    pub(crate) fn finish<T: DeserializeOwned>(mut self) -> Result<T> {
        let mut bytes = Vec::new();
        if let Some(mut answer) = self.answer.take() {
            answer.read_to_end(&mut bytes).context("read a process's answer")?;
        }
        let ended = sys::process::reap(self.pidfd.as_fd())?;
        match serde_json::from_slice(&bytes) {
            Ok(Answer::Done(done)) => Ok(done),
            Ok(Answer::Failed { message, hint }) => {
                let e = Error::new(Kind::Other, message);
                Err(match hint {
                    Some(hint) => e.with_hint(hint),
                    None => e,
                })
            }
            Err(_) => Err(Error::other(format!(
                "a process of the build was lost ({})",
                ended.code()
            ))),
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.answer.is_some() {
            let _ = sys::process::pidfd_signal(self.pidfd.as_fd(), libc::SIGKILL);
            let _ = sys::process::reap(self.pidfd.as_fd());
        }
    }
}
