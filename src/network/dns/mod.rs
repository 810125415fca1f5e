//! Names between containers: a responder inside each container's own network namespace, at 127.0.0.11, port 53, UDP and
//! TCP, served by the container's monitor. It answers for who shares a network with it, from the state directory
//! (`book`), and has everything else answered by the host's servers (`upstream`).
//!
//! Only its own container can talk to it, and all that container can do is keep its own monitor busy: each turn does a
//! bounded amount of work, and what is under way is bounded in number and size.
//!
//! A container may serve DNS itself. Our sockets are bound to the one address, and let others share the port
//! (SO_REUSEADDR, SO_REUSEPORT); the kernel gives a datagram to the socket with the more exact address.

mod book;
mod tcp;
mod upstream;
mod wire;
mod zone;

pub(crate) use book::{announce, forget, rename, withdraw};

use crate::error::{Context as _, Result};
use crate::model::name::NameOptions;
use crate::model::network::Endpoint;
use crate::network::resolv;
use crate::network::service::Service;
use crate::store::Store;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

const PORT: u16 = 53;
/// Questions answered before other events of the monitor get their turn.
const BURST: usize = 64;
/// Events taken in one turn.
const EVENTS: usize = 32;
/// Bytes of a question.
const LONGEST_QUESTION: usize = 4096;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Udp,
    Tcp,
    /// A question under way, and which of its sockets.
    Flight {
        slot: usize,
        number: usize,
    },
    Client(usize),
    Upstream(usize),
}

impl Token {
    fn data(self) -> EventData {
        let wide = |n: usize| u64::try_from(n).unwrap_or(0);
        EventData::new_u64(match self {
            Token::Udp => 0,
            Token::Tcp => 1,
            Token::Flight { slot, number } => 2 | wide(number) << 8 | wide(slot) << 16,
            Token::Client(slot) => 3 | wide(slot) << 16,
            Token::Upstream(slot) => 4 | wide(slot) << 16,
        })
    }

    fn of(data: EventData) -> Token {
        let data = data.u64();
        let slot = usize::try_from(data >> 16).unwrap_or(usize::MAX);
        match data & 0xff {
            0 => Token::Udp,
            1 => Token::Tcp,
            2 => Token::Flight {
                slot,
                number: usize::from((data >> 8).to_le_bytes()[0]),
            },
            3 => Token::Client(slot),
            _ => Token::Upstream(slot),
        }
    }
}

/// The sockets, made inside the container's network namespace.
pub(crate) struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

/// Called in the namespace that is to be served; its loopback need not be up yet.
pub(crate) fn sockets() -> Result<Sockets> {
    let make = |kind| -> std::io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::INET, kind, flags, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        sockopt::set_socket_reuseport(&socket, true)?;
        sockopt::set_ip_freebind(&socket, true)?;
        rustix::net::bind(&socket, &SocketAddr::from((resolv::RESPONDER, PORT)))?;
        Ok(socket)
    };
    let what = || format!("serve names at {}:{PORT}", resolv::RESPONDER);
    let udp = make(SocketType::DGRAM).with_context(what)?;
    let tcp = make(SocketType::STREAM).with_context(what)?;
    rustix::net::listen(&tcp, 16).with_context(what)?;
    Ok(Sockets {
        udp: udp.into(),
        tcp: tcp.into(),
    })
}

/// The responder of one container.
pub(crate) struct Responder {
    store: Store,
    epoll: OwnedFd,
    sockets: Sockets,
    zone: zone::Zone,
    servers: upstream::Servers,
    flights: upstream::Flights,
    conversations: tcp::Conversations,
    /// Room for the longest message; untouched pages cost nothing.
    buffer: Vec<u8>,
    out: Vec<u8>,
}

impl Responder {
    pub(crate) fn new(
        store: &Store,
        sockets: Sockets,
        endpoints: &[Endpoint],
        options: &NameOptions,
    ) -> Result<Responder> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("make an epoll instance")?;
        for (fd, token) in [(sockets.udp.as_fd(), Token::Udp), (sockets.tcp.as_fd(), Token::Tcp)] {
            epoll::add(&epoll, fd, token.data(), EventFlags::IN).context("watch the responder's sockets")?;
        }
        Ok(Responder {
            store: store.clone(),
            epoll,
            sockets,
            zone: zone::Zone::new(store, endpoints, options),
            servers: upstream::Servers::new(options),
            flights: upstream::Flights::default(),
            conversations: tcp::Conversations::default(),
            buffer: vec![0; 1 << 16],
            out: Vec::new(),
        })
    }

    /// Questions over UDP, answered or passed on.
    fn receive(&mut self) {
        for _ in 0..BURST {
            let (n, client) = match self.sockets.udp.recv_from(&mut self.buffer) {
                Ok(received) => received,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let message = &self.buffer[..n];
            match decide(message, &mut self.zone, &mut self.out, false) {
                Decision::Answered => drop(self.sockets.udp.send_to(&self.out, client)),
                Decision::Silence => {}
                Decision::Forward(question) => {
                    let order = self.servers.order();
                    if !self.flights.begin(&self.epoll, client, (message, question), order) {
                        let query = wire::parse(message).ok();
                        wire::refuse(message, query.as_ref(), wire::rcode::SERVER, &mut self.out);
                        let _ = self.sockets.udp.send_to(&self.out, client);
                    }
                }
            }
        }
    }

    fn accept(&mut self) {
        for _ in 0..BURST {
            match self.sockets.tcp.accept() {
                Ok((client, _)) => self.conversations.add(&self.epoll, client),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn deliver(&self, delivery: Option<upstream::Delivery>) {
        if let Some(d) = delivery {
            let _ = self.sockets.udp.send_to(&d.message, d.client);
        }
    }

    fn handle(&mut self, token: Token) {
        match token {
            Token::Udp => self.receive(),
            Token::Tcp => self.accept(),
            Token::Flight { slot, number } => {
                let buffer = &mut self.buffer;
                let delivery = self
                    .flights
                    .receive(&self.epoll, (slot, number), &mut self.servers, buffer);
                self.deliver(delivery);
            }
            Token::Client(slot) | Token::Upstream(slot) => self.converse(Some(slot)),
        }
    }

    /// Goes on with one conversation, or with whichever is overdue.
    fn converse(&mut self, slot: Option<usize>) {
        let (zone, out) = (&mut self.zone, &mut self.out);
        // The order may be asked for while the servers are in other hands; it changes seldom.
        let order = self.servers.order();
        let mut decide = |message: &[u8]| match decide(message, zone, out, true) {
            Decision::Answered => tcp::Verdict::Answer(std::mem::take(out)),
            Decision::Forward(question) => tcp::Verdict::Forward(order.clone(), question),
            Decision::Silence => tcp::Verdict::Close,
        };
        match slot {
            Some(slot) => self
                .conversations
                .drive(&self.epoll, slot, &mut self.servers, &mut decide),
            None => self.conversations.overdue(&self.epoll, &mut self.servers, &mut decide),
        }
    }
}

impl Service for Responder {
    fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    fn deadline(&self) -> Option<Instant> {
        let both = [self.flights.deadline(), self.conversations.deadline()];
        both.into_iter().flatten().min()
    }

    fn ready(&mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        let none = rustix::event::Timespec::default();
        let _ = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&none));
        for event in events {
            self.handle(Token::of(event.data));
        }
        let now = Instant::now();
        if self.flights.deadline().is_some_and(|at| at <= now) {
            for delivery in self.flights.overdue(&self.epoll, &mut self.servers) {
                self.deliver(Some(delivery));
            }
        }
        if self.conversations.deadline().is_some_and(|at| at <= now) {
            self.converse(None);
        }
    }

    fn endpoints_changed(&mut self, endpoints: &[Endpoint]) {
        self.zone.move_to(&self.store, endpoints);
    }
}

enum Decision {
    /// The answer has been written.
    Answered,
    /// Somebody else is to be asked; the question ends at this byte.
    Forward(usize),
    Silence,
}

fn decide(message: &[u8], zone: &mut zone::Zone, out: &mut Vec<u8>, stream: bool) -> Decision {
    let query = match wire::parse(message) {
        Ok(_) if message.len() > LONGEST_QUESTION => Err(wire::Fault::Refuse(wire::rcode::FORMAT)),
        other => other,
    };
    let query = match query {
        Ok(query) => query,
        Err(wire::Fault::Drop) => return Decision::Silence,
        Err(wire::Fault::Refuse(code)) => {
            wire::refuse(message, None, code, out);
            return Decision::Answered;
        }
    };
    match zone.look_up(message, &query) {
        Some(records) => {
            let limit = if stream {
                usize::from(u16::MAX)
            } else {
                query.udp_limit()
            };
            wire::answer(message, &query, &records, limit, out);
            Decision::Answered
        }
        None if zone.open => Decision::Forward(wire::HEADER + query.question(message).len()),
        None => {
            wire::refuse(message, Some(&query), wire::rcode::SERVER, out);
            Decision::Answered
        }
    }
}

#[cfg(test)]
#[path = "responder_tests.rs"]
mod tests;
