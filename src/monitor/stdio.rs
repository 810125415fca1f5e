//! A program's standard streams: its ends, and the monitor's.

use crate::error::Result;
use crate::monitor::frame::Size;
use crate::monitor::streams::Channels;
use crate::runtime::prepare::{ChildStreams, Terminal};
use rustix::pipe::PipeFlags;
use std::os::fd::{AsFd as _, OwnedFd};

/// Bytes of the pipes that a container writes into: a burst costs fewer turns of the monitor.
const PIPE: usize = 256 * 1024;
/// Open files of a program, unless the engine itself may have fewer.
const OPEN_FILES: u64 = 1_048_576;

/// The limit of open files for a program that asks for none.
pub(super) fn open_files() -> u64 {
    use nix::sys::resource::{Resource, getrlimit};
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(_, hard)| hard.min(OPEN_FILES))
}

/// The monitor itself may have as many as its programs: connections through the proxy are its own.
pub(super) fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard.min(OPEN_FILES)
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard.min(OPEN_FILES), hard);
    }
}

/// All three streams on a terminal, of the right size before the program starts; without `stdin` nothing typed
/// reaches it.
pub(super) fn terminal(terminal: Terminal, stdin: bool, size: Option<Size>) -> Result<(ChildStreams, Channels)> {
    let Terminal { master, slave } = terminal;
    if let Some(size) = size {
        super::streams::set_size(master.as_fd(), size);
    }
    let streams = ChildStreams {
        stdin: slave.try_clone()?,
        stdout: slave.try_clone()?,
        stderr: slave.try_clone()?,
        terminal: true,
        foreign: false,
    };
    let channels = Channels {
        stdout: Some(master.try_clone()?),
        stderr: None,
        stdin: stdin.then(|| master.try_clone()).transpose()?,
        terminal: Some(master),
        slave: Some(slave),
        stdin_once: false,
    };
    Ok((streams, channels))
}

/// A pipe for each stream; without `stdin` that one is at its end. With `once` it closes with the first client's.
pub(super) fn pipes(stdin: bool, once: bool) -> Result<(ChildStreams, Channels)> {
    let (stdout, child_stdout) = output()?;
    let (stderr, child_stderr) = output()?;
    let (child_stdin, ours) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    // Closed at once, it is as empty as /dev/null; the host's own null device could be given another mode through it.
    let stdin = stdin.then_some(ours);
    let streams = ChildStreams {
        stdin: child_stdin,
        stdout: child_stdout,
        stderr: child_stderr,
        terminal: false,
        foreign: false,
    };
    let channels = Channels {
        stdout: Some(stdout),
        stderr: Some(stderr),
        stdin,
        stdin_once: once,
        ..Channels::default()
    };
    Ok((streams, channels))
}

/// The streams that a command has handed over: nothing of them comes by here.
pub(super) fn passed(streams: &[OwnedFd; 3]) -> Result<(ChildStreams, Channels)> {
    let [stdin, stdout, stderr] = streams;
    let streams = ChildStreams {
        stdin: stdin.try_clone()?,
        stdout: stdout.try_clone()?,
        stderr: stderr.try_clone()?,
        terminal: false,
        foreign: true,
    };
    Ok((streams, Channels::default()))
}

fn output() -> Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    // Above /proc/sys/fs/pipe-max-size, or with the user's pages used up, the default size has to do.
    let _ = rustix::pipe::fcntl_setpipe_size(&ours, PIPE);
    Ok((ours, theirs))
}
