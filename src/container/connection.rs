//! A command's connection to a container's monitor.

use crate::error::{Context as _, Result};
use crate::model::id::ContainerId;
use crate::monitor::SOCKET;
use crate::monitor::frame::{self, Hello, Kind};
use crate::store::Store;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Frames come out whole; what is read beyond one is kept.
pub(super) struct Connection {
    socket: OwnedFd,
    received: Vec<u8>,
    /// Bytes of `received` that have been given out.
    given: usize,
}

/// What comes from the monitor.
pub(super) enum Message {
    Stdout(std::ops::Range<usize>),
    Stderr(std::ops::Range<usize>),
    Exit(u8),
    /// To a change of networks.
    Answer(std::ops::Range<usize>),
}

impl Connection {
    pub(super) fn new(socket: OwnedFd) -> Connection {
        Connection {
            socket,
            received: Vec::new(),
            given: 0,
        }
    }

    /// Connects to the container's monitor; `None` if there is none that listens.
    pub(super) fn open(store: &Store, id: &ContainerId, wants: Hello) -> Result<Option<Connection>> {
        // By way of the directory's descriptor, as the path may be longer than a socket's may be.
        let Ok(dir) = std::fs::File::open(store.run_dir(id)) else {
            return Ok(None);
        };
        let Ok(stream) = UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd())) else {
            return Ok(None);
        };
        let connection = Connection::new(stream.into());
        match connection.send(&frame::frame(Kind::Hello, &[wants.0])) {
            Ok(()) => Ok(Some(connection)),
            Err(_) => Ok(None),
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends all of a short frame, waiting if need be.
    pub(super) fn send(&self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match rustix::net::send(&self.socket, rest, SendFlags::NOSIGNAL) {
                Ok(n) => rest = &rest[n..],
                Err(Errno::INTR) => {}
                Err(e) => return Err(e).context("write to the container's monitor"),
            }
        }
        Ok(())
    }

    /// Sends what fits at once; the number of bytes. `None`: the monitor has ended, and takes nothing any more; what it
    /// has sent before is still to be read.
    pub(super) fn try_send(&self, bytes: &[u8]) -> Option<usize> {
        match rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(n) => Some(n),
            Err(Errno::AGAIN | Errno::INTR) => Some(0),
            Err(_) => None,
        }
    }

    /// Reads more; `false` at the end.
    pub(super) fn fill(&mut self) -> Result<bool> {
        self.received.drain(..self.given);
        self.given = 0;
        let old = self.received.len();
        self.received.resize(old + frame::MAX + frame::HEADER, 0);
        let read = loop {
            match rustix::net::recv(&self.socket, &mut self.received[old..], RecvFlags::empty()) {
                Ok((n, _)) => break n,
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => break 0,
                Err(e) => return Err(e).context("read from the container's monitor"),
            }
        };
        self.received.truncate(old + read);
        Ok(read > 0)
    }

    /// The next whole message that has been read.
    pub(super) fn next(&mut self) -> Result<Option<Message>> {
        while let Some((kind, payload, length)) = frame::parse(&self.received[self.given..])? {
            let first = self.given + frame::HEADER;
            let range = first..first + payload.len();
            let code = payload.first().copied().unwrap_or(255);
            self.given += length;
            match kind {
                Kind::Stdout => return Ok(Some(Message::Stdout(range))),
                Kind::Stderr => return Ok(Some(Message::Stderr(range))),
                Kind::Exit => return Ok(Some(Message::Exit(code))),
                Kind::Answer => return Ok(Some(Message::Answer(range))),
                Kind::Stdin | Kind::Hello | Kind::Resize | Kind::Signal | Kind::Network | Kind::Check => {}
            }
        }
        Ok(None)
    }

    /// The bytes of the message just given out.
    pub(super) fn bytes(&self, range: std::ops::Range<usize>) -> &[u8] {
        &self.received[range]
    }

    /// Waits for the answer to what was asked.
    pub(super) fn answer(&mut self) -> Result<Vec<u8>> {
        loop {
            while let Some(message) = self.next()? {
                match message {
                    Message::Answer(range) => return Ok(self.bytes(range).to_vec()),
                    Message::Exit(_) => return Err(crate::error::Error::conflict("the container has just ended")),
                    Message::Stdout(_) | Message::Stderr(_) => {}
                }
            }
            if !self.fill()? {
                return Err(crate::error::Error::other("the container's monitor was lost"));
            }
        }
    }

    /// Waits for the exit. `Ok(None)`: none came in time. An error: the monitor went without one.
    pub(super) fn exit(&mut self, timeout: Option<Duration>) -> Result<Option<u8>> {
        let deadline = timeout.map(|t| Instant::now() + t);
        loop {
            while let Some(message) = self.next()? {
                if let Message::Exit(code) = message {
                    return Ok(Some(code));
                }
            }
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            let timespec = left.and_then(|l| Timespec::try_from(l).ok());
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
            match rustix::event::poll(&mut fds, timespec.as_ref()) {
                Ok(0) if deadline.is_some() => return Ok(None),
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
            if fds[0].revents().is_empty() {
                continue;
            }
            if !self.fill()? {
                return Err(crate::error::Error::other("the container's monitor was lost"));
            }
        }
    }
}
