//! Work that is done beside the build, in a process of its own: the build itself has one thread whenever it starts a
//! container, so what takes its time can't be another thread of it.
//!
//! What a process says comes through a socket as frames: how far it is, what it has learnt, one question whether to go on,
//! and last its answer. One that hashes a finished step ([`start`]) outlives a build that is killed, and finishes its
//! word. One that copies ([`start_bound`]) has a process group of its own, with what it starts (git), and is killed with
//! the build: its staging directory is swept by the next command.

use crate::error::{Context, Error, Kind, Result};
use crate::sys;
use crate::sys::clone::Fork;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::{Pid, setpgid};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often a process says how far it is.
const OFTEN: Duration = Duration::from_millis(200);
/// Bytes of one frame at most: what is known of ten million files.
const LARGEST_FRAME: u32 = 2 << 30;

/// A process that works, and answers once. Dropped before it is finished, it is killed.
#[derive(Debug)]
pub(crate) struct Task {
    pidfd: OwnedFd,
    /// Its process group, if it has one.
    group: Option<Pid>,
    channel: Option<File>,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Frame {
    Progress = 1,
    Learnt = 2,
    Question = 3,
    Answer = 4,
}

/// What a task says.
#[derive(Debug)]
pub(crate) enum Heard<Q, T> {
    /// So many bytes are done.
    Progress(u64),
    /// Worth keeping, however it ends.
    Learnt(Vec<u8>),
    /// It waits for [`Task::go_on`] or [`Task::call_off`].
    Question(Q),
    Answer(T),
}

#[derive(Serialize, Deserialize)]
enum Answer<T> {
    Done(T),
    Failed { message: String, hint: Option<String> },
}

/// Starts `work`, which outlives the build if it must. Its process has none of this one's descriptors but `kept`: locks
/// and sockets of others must not live on in it.
pub(crate) fn start<T: Serialize>(kept: &[BorrowedFd<'_>], work: impl FnOnce() -> Result<T>) -> Result<Task> {
    fork(kept, false, |_| work())
}

/// The same for work that dies with the build, and says more than its answer.
pub(crate) fn start_bound<T: Serialize>(
    kept: &[BorrowedFd<'_>],
    work: impl FnOnce(&Talk) -> Result<T>,
) -> Result<Task> {
    fork(kept, true, work)
}

fn fork<T: Serialize>(kept: &[BorrowedFd<'_>], bound: bool, work: impl FnOnce(&Talk) -> Result<T>) -> Result<Task> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let build = nix::unistd::getpid();
    match sys::clone::clone3(0, None).context("start a process")? {
        Fork::Parent { pid, pidfd } => {
            let group = bound.then(|| Pid::from_raw(pid));
            if let Some(group) = group {
                // The child does the same: whoever is first.
                let _ = setpgid(group, group);
            }
            Ok(Task {
                pidfd,
                group,
                channel: Some(ours.into()),
            })
        }
        Fork::Child => {
            let mut all = kept.to_vec();
            all.push(theirs.as_fd());
            // A terminal's Ctrl-C is for the build: what it has finished is worth being finished.
            let _ = SigSet::all().thread_block();
            let tied = match bound {
                true => tie_to(build),
                false => Ok(()),
            };
            let code = match tied.and_then(|()| Ok(sys::process::close_all_but(&all)?)) {
                Ok(()) => {
                    let talk = Talk {
                        channel: File::from(theirs),
                        done: Mutex::new((0, Instant::now())),
                    };
                    let result = work(&talk);
                    talk.answer(result)
                }
                Err(_) => 1,
            };
            sys::process::exit_now(code)
        }
    }
}

fn tie_to(build: Pid) -> Result<()> {
    let own = Pid::from_raw(0);
    let _ = setpgid(own, own);
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("tie to the build")?;
    match nix::unistd::getppid() == build {
        true => Ok(()),
        false => Err(Error::other("the build has died")),
    }
}

/// The process's side.
pub(crate) struct Talk {
    channel: File,
    /// Bytes, and when they were told last.
    done: Mutex<(u64, Instant)>,
}

impl Talk {
    fn say(&self, frame: Frame, bytes: &[u8]) -> Result<()> {
        let length = u32::try_from(bytes.len()).ok().filter(|n| *n < LARGEST_FRAME);
        let length = length.ok_or_else(|| Error::other("too much to say"))?;
        let mut whole = vec![frame as u8];
        whole.extend_from_slice(&length.to_le_bytes());
        whole.extend_from_slice(bytes);
        (&self.channel).write_all(&whole).context("tell the build")
    }

    /// So many more bytes are done. Any thread may say so.
    pub(crate) fn progress(&self, bytes: u64) {
        let Ok(mut done) = self.done.lock() else { return };
        done.0 += bytes;
        if done.1.elapsed() >= OFTEN {
            done.1 = Instant::now();
            // Nothing depends on it; and a build that is gone takes this process with it.
            let _ = self.say(Frame::Progress, &done.0.to_le_bytes());
        }
    }

    pub(crate) fn learnt(&self, what: &[u8]) -> Result<()> {
        self.say(Frame::Learnt, what)
    }

    /// Waits for the word whether to go on.
    pub(crate) fn ask<Q: Serialize>(&self, question: &Q) -> Result<bool> {
        self.say(Frame::Question, &serde_json::to_vec(question)?)?;
        let mut word = [0];
        (&self.channel).read_exact(&mut word).context("hear the build")?;
        Ok(word[0] == 1)
    }

    /// The last deed.
    fn answer<T: Serialize>(&self, result: Result<T>) -> i32 {
        let _ = nix::sys::prctl::set_name(c"barge-build");
        let answer = match result {
            Ok(done) => Answer::Done(done),
            Err(e) => Answer::Failed {
                message: e.to_string(),
                hint: e.hint().map(str::to_owned),
            },
        };
        let said = serde_json::to_vec(&answer)
            .map_err(Error::from)
            .and_then(|bytes| self.say(Frame::Answer, &bytes));
        i32::from(said.is_err())
    }
}

impl Task {
    /// Readable when it has said something, or died.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.channel.as_ref().map(AsFd::as_fd)
    }

    /// The next thing it says, waiting for it. After its answer it is gone.
    pub(crate) fn hear<Q: DeserializeOwned, T: DeserializeOwned>(&mut self) -> Result<Heard<Q, T>> {
        let frame = self.channel.as_mut().and_then(|channel| frame(channel).ok());
        match frame {
            Some((1, bytes)) => {
                let bytes = bytes.try_into().map_err(|_| Error::other("a bad frame"))?;
                Ok(Heard::Progress(u64::from_le_bytes(bytes)))
            }
            Some((2, bytes)) => Ok(Heard::Learnt(bytes)),
            Some((3, bytes)) => Ok(Heard::Question(serde_json::from_slice(&bytes)?)),
            Some((_, bytes)) => {
                self.reap()?;
                match serde_json::from_slice(&bytes)? {
                    Answer::Done(done) => Ok(Heard::Answer(done)),
                    Answer::Failed { message, hint } => {
                        let e = Error::new(Kind::Other, message);
                        Err(match hint {
                            Some(hint) => e.with_hint(hint),
                            None => e,
                        })
                    }
                }
            }
            None => {
                let ended = self.reap()?;
                Err(Error::other(format!(
                    "a process of the build was lost ({})",
                    ended.code()
                )))
            }
        }
    }

    /// The word for a question: yes.
    pub(crate) fn go_on(&mut self) -> Result<()> {
        match &mut self.channel {
            Some(channel) => channel.write_all(&[1]).context("tell a process of the build"),
            None => Ok(()),
        }
    }

    /// The word for a question: no. Waits until the process has cleared up behind itself.
    pub(crate) fn call_off(mut self) -> Result<()> {
        if let Some(channel) = &mut self.channel {
            channel.write_all(&[0]).context("tell a process of the build")?;
        }
        self.reap().map(drop)
    }

    /// Waits for the answer of one that asks nothing.
    pub(crate) fn finish<T: DeserializeOwned>(mut self) -> Result<T> {
        loop {
            if let Heard::Answer(done) = self.hear::<(), T>()? {
                return Ok(done);
            }
        }
    }

    fn reap(&mut self) -> Result<sys::process::Ended> {
        self.channel = None;
        sys::process::reap(self.pidfd.as_fd()).context("wait for a process of the build")
    }
}

fn frame(channel: &mut File) -> std::io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    channel.read_exact(&mut head)?;
    let [kind, length @ ..] = head;
    let mut bytes = Vec::new();
    let length = u64::from(u32::from_le_bytes(length));
    channel.take(length).read_to_end(&mut bytes)?;
    match bytes.len() as u64 == length {
        true => Ok((kind, bytes)),
        false => Err(std::io::ErrorKind::UnexpectedEof.into()),
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.channel.is_some() {
            if let Some(group) = self.group {
                let _ = killpg(group, Signal::SIGKILL);
            }
            let _ = sys::process::pidfd_signal(self.pidfd.as_fd(), libc::SIGKILL);
            let _ = sys::process::reap(self.pidfd.as_fd());
        }
    }
}
