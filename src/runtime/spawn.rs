//! The one clone of a start: everything is prepared, the child walks its list, and the pipe between them carries an
//! error or, closed by execve, nothing.

use crate::error::{Context as _, Error, Kind, Result};
use crate::runtime::apply::{self, Lifelines};
use crate::runtime::prepare::{self, Prepared};
use crate::runtime::step::Step;
use crate::sys::{self, clone::Fork};
use rustix::pipe::PipeFlags;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

/// A child on its way to execve.
pub(crate) struct Starting {
    pid: i32,
    pidfd: OwnedFd,
    errors: OwnedFd,
    /// Closed by our end: how the child sees that we are alive.
    _alive: OwnedFd,
}

/// A container's running first process.
pub(crate) struct Init {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    _alive: OwnedFd,
}

/// Clones with `flags` and lets the child do `steps`.
pub(crate) fn spawn(flags: i32, steps: &[Step], prepared: Prepared) -> Result<Starting> {
    let (errors, child_errors) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let (child_alive, alive) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let forked = sys::clone::clone3(flags, prepared.cgroup.as_ref().map(AsFd::as_fd)).map_err(|e| {
        let hint = (e.raw_os_error() == Some(libc::ENOSPC))
            .then_some("a limit of namespaces is reached: see /proc/sys/user/max_*_namespaces");
        let error = Error::from(e);
        hint.map_or(error.clone(), |h| error.with_hint(h))
    });
    match forked.context("clone the container's first process")? {
        Fork::Parent { pid, pidfd } => Ok(Starting::new(pid, pidfd, errors, alive)),
        Fork::Child => {
            drop((errors, alive));
            let (child_errors, child_alive) = (beyond(child_errors, &prepared), beyond(child_alive, &prepared));
            // Until execve nobody in a shared pid namespace may look into this process (its memory is the engine's).
            let _ = nix::sys::prctl::set_dumpable(false);
            let error = match sys::process::reset_signals() {
                Ok(()) => apply::apply(
                    steps,
                    &prepared,
                    Lifelines {
                        alive: child_alive.as_fd(),
                        errors: child_errors.as_fd(),
                    },
                ),
                Err(e) => Error::from(e),
            };
            let _ = std::fs::File::from(child_errors).write_all(&encode(&error));
            sys::process::exit_now(i32::from(exit_code(&error)));
        }
    }
}

/// Out of the way of the descriptors that are passed on.
fn beyond(fd: OwnedFd, prepared: &Prepared) -> OwnedFd {
    let first = prepare::beyond(prepared.passed.len());
    match fd.as_raw_fd() < first {
        true => rustix::io::fcntl_dupfd_cloexec(&fd, first).unwrap_or(fd),
        false => fd,
    }
}

impl Starting {
    pub(crate) fn new(pid: i32, pidfd: OwnedFd, errors: OwnedFd, alive: OwnedFd) -> Starting {
        Starting {
            pid,
            pidfd,
            errors,
            _alive: alive,
        }
    }

    /// Waits until the program is executed, or has failed to be.
    pub(crate) fn executed(self) -> Result<Init> {
        let mut bytes = Vec::new();
        std::fs::File::from(self.errors)
            .read_to_end(&mut bytes)
            .context("read from the container's first process")?;
        if bytes.is_empty() {
            return Ok(Init {
                pid: self.pid,
                pidfd: self.pidfd,
                _alive: self._alive,
            });
        }
        sys::process::reap(self.pidfd.as_fd())?;
        Err(decode(&bytes))
    }
}

/// The exit code of a start that failed with `error`.
pub(crate) fn exit_code(error: &Error) -> u8 {
    match error.kind() {
        Kind::CannotExecute => 126,
        Kind::CommandNotFound => 127,
        _ => 125,
    }
}

/// One letter for the kind, the message, and after a line break the hint.
pub(crate) fn encode(error: &Error) -> Vec<u8> {
    let letter = match error.kind() {
        Kind::CannotExecute => 'x',
        Kind::CommandNotFound => 'n',
        Kind::Usage => 'u',
        _ => 'o',
    };
    format!("{letter}{error}\n{}", error.hint().unwrap_or_default()).into_bytes()
}

/// The reverse of [`encode`].
pub(crate) fn decode(bytes: &[u8]) -> Error {
    let text = String::from_utf8_lossy(bytes);
    let mut chars = text.chars();
    let kind = match chars.next() {
        Some('x') => Kind::CannotExecute,
        Some('n') => Kind::CommandNotFound,
        Some('u') => Kind::Usage,
        _ => Kind::Other,
    };
    let (message, hint) = chars.as_str().split_once('\n').unwrap_or((chars.as_str(), ""));
    let error = Error::new(kind, message);
    if hint.is_empty() { error } else { error.with_hint(hint) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_cross_the_pipe() {
        for kind in [Kind::CannotExecute, Kind::CommandNotFound, Kind::Usage, Kind::Other] {
            let sent = Error::new(kind, "exec x: no").with_hint("do y");
            let got = decode(&encode(&sent));
            assert_eq!(
                (got.kind(), got.to_string(), got.hint()),
                (kind, "exec x: no".to_owned(), Some("do y"))
            );
        }
        assert_eq!(decode(b"").to_string(), "");
    }
}
