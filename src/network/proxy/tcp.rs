//! A connection through the proxy: two sockets, and in each direction what has been read and not yet written. Each end
//! is closed by itself (half-close); an error at one end resets both.

use super::pipes::{Pipe, Pipes, SIZE};
use super::{Place, Shared, Token};
use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use rustix::pipe::{SpliceFlags, splice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Reads in one direction before others have their turn.
const TURNS: usize = 4;
/// Full reads in a row after which it is bulk data.
const BULK: u8 = 3;

#[derive(Debug)]
pub(super) struct Connection {
    client: Side,
    server: Side,
    connecting: bool,
    /// From the client to the server.
    up: Half,
    down: Half,
}

#[derive(Debug)]
struct Side {
    socket: OwnedFd,
    /// What it is watched for; empty: not at all.
    watched: EventFlags,
}

/// One direction.
#[derive(Debug, Default)]
struct Half {
    /// Read, not written yet.
    held: Vec<u8>,
    pipe: Option<Pipe>,
    in_pipe: usize,
    full_reads: u8,
    /// The reading end is at its end; what is held is still written.
    ended: bool,
    /// And the writing end knows.
    shut: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Goes,
    Ended,
}

/// What a direction waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    ToRead,
    ToWrite,
    /// All is said.
    Done,
}

impl Connection {
    /// Begins to connect; the client gets to know how that went. If it can't be begun, the client is given back.
    pub(super) fn begin(
        epoll: &OwnedFd,
        place: Place,
        client: OwnedFd,
        server: OwnedFd,
        to: SocketAddr,
    ) -> Result<Connection, OwnedFd> {
        for socket in [&client, &server] {
            let _ = rustix::net::sockopt::set_tcp_nodelay(socket, true);
            // A peer that has vanished is noticed in the end.
            let _ = rustix::net::sockopt::set_socket_keepalive(socket, true);
        }
        match rustix::net::connect(&server, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(_) => return Err(client),
        }
        let unwatched = |socket| Side {
            socket,
            watched: EventFlags::empty(),
        };
        let mut connection = Connection {
            client: unwatched(client),
            server: unwatched(server),
            connecting: true,
            up: Half::default(),
            down: Half::default(),
        };
        match connection.server.watch(epoll, Token::Server(place), EventFlags::OUT) {
            Ok(()) => Ok(connection),
            Err(_) => Err(connection.client.socket),
        }
    }

    /// Moves what can be moved.
    pub(super) fn ready(&mut self, place: Place, by_client: bool, flags: EventFlags, shared: &mut Shared) -> Step {
        match self.go_on(place, by_client, flags, shared) {
            Ok(step) => step,
            Err(_) => {
                reset(self.client.socket.as_fd());
                reset(self.server.socket.as_fd());
                Step::Ended
            }
        }
    }

    fn go_on(&mut self, place: Place, by_client: bool, flags: EventFlags, shared: &mut Shared) -> Result<Step, Errno> {
        let side = if by_client { &self.client } else { &self.server };
        if flags.contains(EventFlags::ERR) {
            rustix::net::sockopt::socket_error(&side.socket)??;
        }
        if self.connecting {
            rustix::net::sockopt::socket_error(&self.server.socket)??;
            self.connecting = false;
        }
        let (client, server) = (self.client.socket.as_fd(), self.server.socket.as_fd());
        let up = self.up.pump(client, server, shared)?;
        let down = self.down.pump(server, client, shared)?;
        if (up, down) == (Waits::Done, Waits::Done) {
            return Ok(Step::Ended);
        }
        let of = |reads: Waits, writes: Waits| {
            let mut flags = EventFlags::empty();
            flags.set(EventFlags::IN, reads == Waits::ToRead);
            flags.set(EventFlags::OUT, writes == Waits::ToWrite);
            flags
        };
        self.client.watch(&shared.epoll, Token::Client(place), of(up, down))?;
        self.server.watch(&shared.epoll, Token::Server(place), of(down, up))?;
        Ok(Step::Goes)
    }

    pub(super) fn end(self, pipes: &mut Pipes) {
        for half in [self.up, self.down] {
            if let Some(pipe) = half.pipe {
                pipes.give_back(pipe, half.in_pipe == 0);
            }
        }
    }
}

impl Side {
    /// A socket that is waited for in neither direction is not watched: an end that was closed in both would be ready
    /// for ever.
    fn watch(&mut self, epoll: &OwnedFd, token: Token, flags: EventFlags) -> Result<(), Errno> {
        if flags == self.watched {
            return Ok(());
        }
        match (self.watched.is_empty(), flags.is_empty()) {
            (true, _) => epoll::add(epoll, &self.socket, token.data(), flags)?,
            (false, true) => epoll::delete(epoll, &self.socket)?,
            (false, false) => epoll::modify(epoll, &self.socket, token.data(), flags)?,
        }
        self.watched = flags;
        Ok(())
    }
}

impl Half {
    fn pump(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, shared: &mut Shared) -> Result<Waits, Errno> {
        for _ in 0..TURNS {
            if !self.flush(to)? {
                return Ok(Waits::ToWrite);
            }
            if self.ended {
                if !self.shut {
                    self.shut = true;
                    match rustix::net::shutdown(to, Shutdown::Write) {
                        // It has gone away by itself.
                        Ok(()) | Err(Errno::NOTCONN) => {}
                        Err(e) => return Err(e),
                    }
                }
                return Ok(Waits::Done);
            }
            if self.pipe.is_none() && self.full_reads >= BULK {
                self.pipe = shared.pipes.lend();
                self.full_reads = 0;
            }
            let read = match &self.pipe {
                Some(pipe) => self.fill(from, pipe.write.as_fd()),
                None => self.copy(from, to, shared.chunk, &mut shared.scratch),
            };
            match read {
                Ok(0) => self.ended = true,
                Ok(n) if self.pipe.is_some() => self.in_pipe = n,
                Ok(_) => {}
                Err(Errno::AGAIN) => {
                    // Whoever has nothing to say needs no pipe.
                    if let Some(pipe) = self.pipe.take() {
                        shared.pipes.give_back(pipe, true);
                    }
                    return Ok(Waits::ToRead);
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        }
        // There may be more; others first.
        match self.flush(to)? {
            true => Ok(Waits::ToRead),
            false => Ok(Waits::ToWrite),
        }
    }

    /// Into the empty pipe: with something in it, the kernel's "not now" could mean either end.
    fn fill(&self, from: BorrowedFd<'_>, pipe: BorrowedFd<'_>) -> Result<usize, Errno> {
        splice(from, None, pipe, None, SIZE, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)
    }

    /// Reads, and writes at once; what doesn't go is held.
    fn copy(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        chunk: usize,
        scratch: &mut [u8],
    ) -> Result<usize, Errno> {
        let chunk = chunk.min(scratch.len());
        let buffer = &mut scratch[..chunk];
        let (read, _) = rustix::net::recv(from, &mut *buffer, RecvFlags::empty())?;
        self.full_reads = if read == chunk { self.full_reads + 1 } else { 0 };
        let mut written = 0;
        while written < read {
            match rustix::net::send(to, &buffer[written..read], SendFlags::NOSIGNAL) {
                Ok(n) => written += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(e) => return Err(e),
            }
        }
        self.held.extend_from_slice(&buffer[written..read]);
        Ok(read)
    }

    /// Whether nothing is left to be written.
    fn flush(&mut self, to: BorrowedFd<'_>) -> Result<bool, Errno> {
        let mut written = 0;
        while written < self.held.len() {
            match rustix::net::send(to, &self.held[written..], SendFlags::NOSIGNAL) {
                Ok(n) => written += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.held.drain(..written);
                    return Ok(false);
                }
                Err(e) => return Err(e),
            }
        }
        self.held = Vec::new();
        while self.in_pipe > 0 {
            let Some(pipe) = &self.pipe else { break };
            let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
            match splice(&pipe.read, None, to, None, self.in_pipe, flags) {
                Ok(0) => return Err(Errno::PIPE),
                Ok(n) => self.in_pipe -= n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }
}

/// Closed from now on with a reset: the peer is not to take it for a proper end.
pub(super) fn reset(socket: BorrowedFd<'_>) {
    let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}
