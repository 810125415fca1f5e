//! Questions over TCP (RFC 7766): each message has its length before it. A client's connection handles one question at
//! a time; what it says meanwhile waits in the kernel, so memory is bounded. What is passed on has a connection of its
//! own to the server.

use super::upstream::{PATIENCE, Servers, random_id};
use super::wire::{self, Reply};
use rustix::event::epoll::{self, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Clients' connections at most; beyond, the one that has been idle longest goes.
const CONVERSATIONS: usize = 32;
/// How long a client may say nothing.
const IDLE: Duration = Duration::from_secs(10);
/// Bytes of a question. Longer ones are no business of a stub resolver's.
const LONGEST_QUESTION: usize = 4096;
/// Questions of one connection before others get their turn.
const BURST: usize = 32;

/// What to do with a question.
pub(super) enum Verdict {
    Answer(Vec<u8>),
    /// Ask these servers; the question ends at this byte.
    Forward(Vec<SocketAddr>, usize),
    Close,
}

#[derive(Default)]
pub(super) struct Conversations {
    slots: Vec<Option<Conversation>>,
    /// Those that had more to say than one turn, and since when they wait.
    unfinished: Vec<(usize, Instant)>,
}

struct Conversation {
    client: TcpStream,
    input: Framed,
    output: Vec<u8>,
    sent: usize,
    upstream: Option<Upstream>,
    deadline: Instant,
}

struct Upstream {
    socket: Option<TcpStream>,
    server: SocketAddr,
    left: std::vec::IntoIter<SocketAddr>,
    client_id: u16,
    id: u16,
    question: usize,
    /// With its length before it.
    message: Vec<u8>,
    sent: usize,
    input: Framed,
    failure: Option<Vec<u8>>,
    deadline: Instant,
}

/// A message coming in, with its length before it.
#[derive(Default)]
struct Framed(Vec<u8>);

enum Progress {
    Whole(Vec<u8>),
    Waiting,
    Ended,
}

impl Framed {
    /// Reads no further than the end of one message.
    fn read(&mut self, from: &mut impl Read, longest: usize) -> Progress {
        loop {
            let wanted = match self.0.get(..2) {
                None => 2,
                Some(length) => 2 + usize::from(u16::from_be_bytes([length[0], length[1]])),
            };
            if wanted > 2 + longest || (wanted == 2 && self.0.len() == 2) {
                return Progress::Ended;
            }
            let had = self.0.len();
            if had == wanted {
                return Progress::Whole(std::mem::take(&mut self.0).split_off(2));
            }
            self.0.resize(wanted, 0);
            let read = from.read(&mut self.0[had..]);
            self.0.truncate(had + read.as_ref().map_or(0, |n| *n));
            match read {
                Ok(0) => return Progress::Ended,
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Progress::Waiting,
                Err(_) => return Progress::Ended,
            }
        }
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let mut out = length.to_be_bytes().to_vec();
    out.extend_from_slice(&message[..usize::from(length)]);
    out
}

/// `Some(true)` when all is written, `None` when the other side is gone.
fn write(to: &mut TcpStream, bytes: &[u8], sent: &mut usize) -> Option<bool> {
    while *sent < bytes.len() {
        match to.write(&bytes[*sent..]) {
            Ok(0) => return None,
            Ok(n) => *sent += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Some(false),
            Err(_) => return None,
        }
    }
    Some(true)
}

impl Conversations {
    pub(super) fn add(&mut self, epoll: &OwnedFd, client: TcpStream) {
        if self.slots.iter().flatten().count() >= CONVERSATIONS {
            let idlest = self.slots.iter_mut().filter(|s| s.is_some());
            if let Some(slot) = idlest.min_by_key(|s| s.as_ref().map(|c| c.deadline)) {
                *slot = None;
            }
        }
        let slot = self.slots.iter().position(Option::is_none).unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let watched = client.set_nonblocking(true).and_then(|()| {
            let token = super::Token::Client(slot);
            Ok(epoll::add(epoll, &client, token.data(), both())?)
        });
        if watched.is_ok() {
            self.slots[slot] = Some(Conversation {
                client,
                input: Framed::default(),
                output: Vec::new(),
                sent: 0,
                upstream: None,
                deadline: Instant::now() + IDLE,
            });
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        if let Some((_, since)) = self.unfinished.first() {
            return Some(*since);
        }
        self.slots.iter().flatten().map(Conversation::deadline).min()
    }

    /// Something happened on one of a conversation's sockets.
    pub(super) fn drive(
        &mut self,
        epoll: &OwnedFd,
        slot: usize,
        servers: &mut Servers,
        decide: &mut dyn FnMut(&[u8]) -> Verdict,
    ) {
        let mut forward = |order| Upstream::asking(epoll, slot, order);
        let Some(Some(conversation)) = self.slots.get_mut(slot) else {
            return;
        };
        match conversation.go_on(servers, decide, &mut forward) {
            Some(true) => {}
            Some(false) => self.unfinished.push((slot, Instant::now())),
            None => self.slots[slot] = None,
        }
        if self.slots.iter().all(Option::is_none) {
            self.slots = Vec::new();
        }
    }

    /// Goes on with what was unfinished, and ends what takes too long.
    pub(super) fn overdue(&mut self, epoll: &OwnedFd, servers: &mut Servers, decide: &mut dyn FnMut(&[u8]) -> Verdict) {
        for (slot, _) in std::mem::take(&mut self.unfinished) {
            self.drive(epoll, slot, servers, decide);
        }
        let now = Instant::now();
        for slot in 0..self.slots.len() {
            let Some(Some(conversation)) = self.slots.get_mut(slot) else {
                continue;
            };
            if conversation.deadline() > now {
                continue;
            }
            match &mut conversation.upstream {
                Some(upstream) => {
                    servers.silent(upstream.server);
                    upstream.socket = None;
                    self.drive(epoll, slot, servers, decide);
                }
                None => self.slots[slot] = None,
            }
        }
    }
}

/// Edge-triggered: each event is followed until the socket has nothing more.
fn both() -> EventFlags {
    EventFlags::IN | EventFlags::OUT | EventFlags::ET
}

impl Conversation {
    fn deadline(&self) -> Instant {
        self.upstream.as_ref().map_or(self.deadline, |u| u.deadline)
    }

    /// `Some(false)` if there may be more to do at once, `None` if it is over.
    fn go_on(
        &mut self,
        servers: &mut Servers,
        decide: &mut dyn FnMut(&[u8]) -> Verdict,
        connect: &mut dyn FnMut(SocketAddr) -> std::io::Result<TcpStream>,
    ) -> Option<bool> {
        for _ in 0..BURST {
            if let Some(upstream) = &mut self.upstream {
                let Some(answer) = upstream.go_on(servers, connect) else {
                    return Some(true);
                };
                self.upstream = None;
                self.output = framed(&answer);
            }
            if !write(&mut self.client, &self.output, &mut self.sent)? {
                return Some(true);
            }
            if !self.output.is_empty() {
                self.output = Vec::new();
                self.deadline = Instant::now() + IDLE;
            }
            self.sent = 0;
            let message = match self.input.read(&mut self.client, LONGEST_QUESTION) {
                Progress::Whole(message) => message,
                Progress::Waiting => return Some(true),
                Progress::Ended => return None,
            };
            match decide(&message) {
                Verdict::Answer(answer) => self.output = framed(&answer),
                Verdict::Forward(order, question) => self.upstream = Some(Upstream::new(message, question, order)),
                Verdict::Close => return None,
            }
        }
        Some(false)
    }
}

impl Upstream {
    fn new(mut message: Vec<u8>, question: usize, order: Vec<SocketAddr>) -> Upstream {
        let client_id = wire::id(&message);
        let id = random_id();
        wire::set_id(&mut message, id);
        Upstream {
            socket: None,
            server: SocketAddr::from(([0; 4], 0)),
            left: order.into_iter(),
            client_id,
            id,
            question,
            message: framed(&message),
            sent: 0,
            input: Framed::default(),
            failure: None,
            deadline: Instant::now() + PATIENCE,
        }
    }

    /// A connection that is being made.
    fn asking(epoll: &OwnedFd, slot: usize, server: SocketAddr) -> std::io::Result<TcpStream> {
        let family = match server {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        match rustix::net::connect(&socket, &server) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(e) => return Err(e.into()),
        }
        epoll::add(epoll, &socket, super::Token::Upstream(slot).data(), both())?;
        Ok(socket.into())
    }

    /// The answer for the client, once there is one.
    fn go_on(
        &mut self,
        servers: &mut Servers,
        connect: &mut dyn FnMut(SocketAddr) -> std::io::Result<TcpStream>,
    ) -> Option<Vec<u8>> {
        loop {
            if let Some(socket) = &mut self.socket {
                let written = write(socket, &self.message, &mut self.sent);
                let progress = match written {
                    Some(true) => self.input.read(socket, usize::from(u16::MAX)),
                    // Also while the connection is being made.
                    Some(false) => Progress::Waiting,
                    None => Progress::Ended,
                };
                match progress {
                    Progress::Waiting => return None,
                    Progress::Ended => servers.silent(self.server),
                    Progress::Whole(mut reply) => match wire::judge(&reply, self.id, self.asked()) {
                        Reply::Answer => {
                            servers.works(self.server);
                            wire::set_id(&mut reply, self.client_id);
                            return Some(reply);
                        }
                        Reply::Failure => self.failure = Some(reply),
                        Reply::Foreign => {}
                    },
                }
                self.socket = None;
            }
            let Some(server) = self.left.next() else {
                return Some(self.in_the_end());
            };
            self.server = server;
            self.sent = 0;
            self.input = Framed::default();
            self.deadline = Instant::now() + PATIENCE;
            self.socket = connect(server).ok();
        }
    }

    fn asked(&self) -> &[u8] {
        self.message
            .get(2 + wire::HEADER..2 + self.question)
            .unwrap_or_default()
    }

    fn in_the_end(&mut self) -> Vec<u8> {
        let mut message = self.failure.take().unwrap_or_else(|| {
            let mut out = Vec::new();
            let message = self.message.get(2..).unwrap_or_default();
            wire::refuse(
                message,
                wire::parse(message).ok().as_ref(),
                wire::rcode::SERVER,
                &mut out,
            );
            out
        });
        wire::set_id(&mut message, self.client_id);
        message
    }
}
