//! One attached client, seen from the monitor: what it still has to be told, and what it has said.

use crate::error::Result;
use crate::monitor::frame::{self, Hello, Kind, Size};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub(super) struct Client {
    socket: OwnedFd,
    pub(super) wants: Hello,
    /// Whether it has said so itself, or was there before the start.
    pub(super) said_hello: bool,
    /// Received, not yet a whole frame; at most one frame.
    input: Vec<u8>,
    /// Not yet taken by the socket; at most a frame and an exit.
    output: Vec<u8>,
    pub(super) gone: bool,
}

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Bytes(Vec<u8>),
    EndOfInput,
    Resize(Size),
    Signal(i32),
    /// A change of networks.
    Network(Vec<u8>),
    /// It wants to know how the container is.
    Check,
}

impl Client {
    /// One that was there first, or (`None`) one that has connected and will say what it wants.
    pub(super) fn new(socket: OwnedFd, wants: Option<Hello>) -> Client {
        let said_hello = wants.is_some();
        let wants = wants.unwrap_or_default();
        Client {
            socket,
            wants,
            said_hello,
            input: Vec::new(),
            output: Vec::new(),
            gone: false,
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether it is behind: then no more output is read from the container until it has caught up.
    pub(super) fn is_behind(&self) -> bool {
        !self.output.is_empty()
    }

    /// Sends a frame, or keeps what does not fit for later.
    pub(super) fn send(&mut self, kind: Kind, payload: &[u8]) {
        if self.gone {
            return;
        }
        let header = frame::header(kind, payload.len());
        let mut sent = 0;
        if self.output.is_empty() {
            sent = self.try_send(&[&header, payload]);
        }
        if sent < header.len() {
            self.output.extend_from_slice(&header[sent..]);
            self.output.extend_from_slice(payload);
        } else {
            self.output
                .extend_from_slice(payload.get(sent - header.len()..).unwrap_or_default());
        }
    }

    /// Goes on with what is kept.
    pub(super) fn flush(&mut self) {
        let kept = std::mem::take(&mut self.output);
        let sent = self.try_send(&[&kept]);
        if sent < kept.len() && !self.gone {
            self.output = kept;
            self.output.drain(..sent);
        }
    }

    /// Bytes taken; a client that can't be written to any more is gone.
    fn try_send(&mut self, parts: &[&[u8]]) -> usize {
        let slices: Vec<_> = parts.iter().map(|p| IoSlice::new(p)).collect();
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let mut nothing = rustix::net::SendAncillaryBuffer::default();
        match rustix::net::sendmsg(&self.socket, &slices, &mut nothing, flags) {
            Ok(n) => n,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(_) => {
                self.gone = true;
                0
            }
        }
    }

    /// Reads what is there and gives what it means. `None` of a client that wants nothing but the exit is no news.
    pub(super) fn receive(&mut self) -> Vec<Said> {
        let mut buffer = vec![0; frame::MAX];
        match rustix::net::recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => self.gone = true,
            Ok((n, _)) => self.input.extend_from_slice(&buffer[..n]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.gone = true,
        }
        self.parse().unwrap_or_else(|_| {
            self.gone = true;
            Vec::new()
        })
    }

    fn parse(&mut self) -> Result<Vec<Said>> {
        let mut said = Vec::new();
        let mut done = 0;
        while let Some((kind, payload, length)) = frame::parse(&self.input[done..])? {
            match kind {
                Kind::Hello => {
                    self.wants = Hello(payload.first().copied().unwrap_or(0));
                    self.said_hello = true;
                }
                Kind::Stdin if payload.is_empty() => said.push(Said::EndOfInput),
                Kind::Stdin => said.push(Said::Bytes(payload.to_vec())),
                Kind::Resize => said.extend(Size::decode(payload).map(Said::Resize)),
                Kind::Signal => said.extend(payload.try_into().ok().map(i32::from_be_bytes).map(Said::Signal)),
                Kind::Network => said.push(Said::Network(payload.to_vec())),
                Kind::Check => said.push(Said::Check),
                Kind::Stdout | Kind::Stderr | Kind::Exit | Kind::Answer => {}
            }
            done += length;
        }
        self.input.drain(..done);
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        Ok(said)
    }
}
