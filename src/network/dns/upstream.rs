//! Questions about the rest of the world: put to the host's servers from the host's network namespace, byte for byte,
//! and the answer given back as it came.
//!
//! Each question has sockets of its own, connected to the server (so that the kernel drops what others send, and the
//! port is a random one) and an id of its own; the answer must repeat the question. A server that says nothing for
//! [`PATIENCE`], or that it can't say, is followed by the next one; earlier ones may still answer.

use super::wire::{self, Reply};
use crate::network::resolv;
use rustix::event::epoll;
use rustix::fd::OwnedFd;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a server may take before the next one is asked too.
pub(super) const PATIENCE: Duration = Duration::from_millis(1500);
/// How long all of them together may take: as long as clients wait by default (resolv.conf(5), `timeout`).
const GIVE_UP: Duration = Duration::from_millis(4800);
/// A server that said nothing is asked last for this long.
const BAD: Duration = Duration::from_secs(10);
/// Servers asked at most, as glibc.
const SERVERS: usize = 3;
/// Questions under way at most.
const FLIGHTS: usize = 128;
/// How often the host's file is looked at.
const LOOK: Duration = Duration::from_secs(1);
const PORT: u16 = 53;

/// The servers, those that last worked first.
pub(super) struct Servers {
    wishes: crate::model::name::NameOptions,
    list: Vec<Server>,
    looked: Instant,
    stamp: Option<(i64, i64, u64)>,
}

struct Server {
    address: SocketAddr,
    bad_until: Option<Instant>,
}

impl Servers {
    pub(super) fn new(wishes: &crate::model::name::NameOptions) -> Servers {
        let mut servers = Servers {
            wishes: wishes.clone(),
            list: Vec::new(),
            looked: Instant::now(),
            stamp: None,
        };
        servers.read();
        servers
    }

    /// The host may have moved to another network.
    fn look(&mut self) {
        if self.wishes.dns.is_empty() && self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            if stamp() != self.stamp {
                self.read();
            }
        }
    }

    fn read(&mut self) {
        self.stamp = stamp();
        let host = resolv::read(Path::new(resolv::HOST));
        let addresses = resolv::upstreams(&host, &self.wishes).0;
        let addresses = addresses.iter().map(socket_address).take(SERVERS);
        self.list = addresses
            .map(|address| Server {
                address,
                bad_until: None,
            })
            .collect();
    }

    /// In the order in which they are to be asked.
    pub(super) fn order(&mut self) -> Vec<SocketAddr> {
        self.look();
        let now = Instant::now();
        let (bad, good): (Vec<_>, Vec<_>) = self
            .list
            .iter()
            .partition(|s| s.bad_until.is_some_and(|until| until > now));
        good.into_iter().chain(bad).map(|s| s.address).collect()
    }

    fn mark(&mut self, address: SocketAddr, bad_until: Option<Instant>) {
        for server in self.list.iter_mut().filter(|s| s.address == address) {
            server.bad_until = bad_until;
        }
    }

    pub(super) fn works(&mut self, address: SocketAddr) {
        self.mark(address, None);
    }

    pub(super) fn silent(&mut self, address: SocketAddr) {
        self.mark(address, Some(Instant::now() + BAD));
    }
}

fn stamp() -> Option<(i64, i64, u64)> {
    let s = rustix::fs::stat(resolv::HOST).ok()?;
    Some((s.st_mtime, i64::try_from(s.st_mtime_nsec).unwrap_or(0), s.st_ino))
}

fn socket_address(server: &resolv::Server) -> SocketAddr {
    match (server.address, &server.zone) {
        (std::net::IpAddr::V6(address), Some(zone)) => {
            let path = Path::new("/sys/class/net").join(zone).join("ifindex");
            let index = std::fs::read_to_string(path).ok().and_then(|t| t.trim().parse().ok());
            std::net::SocketAddrV6::new(address, PORT, 0, index.unwrap_or(0)).into()
        }
        (address, _) => (address, PORT).into(),
    }
}

/// An id that nobody can guess.
pub(super) fn random_id() -> u16 {
    let mut bytes = [0; 2];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u16::from_be_bytes(bytes)
}

/// Questions under way over UDP.
#[derive(Default)]
pub(super) struct Flights {
    slots: Vec<Option<Flight>>,
    active: usize,
}

struct Flight {
    client: SocketAddr,
    client_id: u16,
    id: u16,
    message: Box<[u8]>,
    question: usize,
    /// Not asked yet.
    left: std::vec::IntoIter<SocketAddr>,
    asked: Vec<(SocketAddr, Option<UdpSocket>)>,
    next_at: Instant,
    give_up: Instant,
    /// A server's "can't say": better than nothing, in the end.
    failure: Option<Box<[u8]>>,
}

/// What is to be sent to a client.
pub(super) struct Delivery {
    pub(super) client: SocketAddr,
    pub(super) message: Vec<u8>,
}

impl Flights {
    /// Asks the first server what stands in the message, up to the end of its question. `false` if there is no room.
    pub(super) fn begin(
        &mut self,
        epoll: &OwnedFd,
        client: SocketAddr,
        (message, question): (&[u8], usize),
        order: Vec<SocketAddr>,
    ) -> bool {
        let client_id = wire::id(message);
        let same = |f: &Flight| f.client == client && f.client_id == client_id && f.message[2..] == message[2..];
        if self.slots.iter().flatten().any(same) {
            // The client asks again because it has no answer yet; nor have we.
            return true;
        }
        if self.active >= FLIGHTS {
            return false;
        }
        let slot = self.slots.iter().position(Option::is_none).unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let mut message: Box<[u8]> = message.into();
        let id = random_id();
        wire::set_id(&mut message, id);
        let now = Instant::now();
        let mut flight = Flight {
            client,
            client_id,
            id,
            message,
            question,
            left: order.into_iter(),
            asked: Vec::new(),
            next_at: now,
            give_up: now + GIVE_UP,
            failure: None,
        };
        flight.ask_next(epoll, slot);
        self.slots[slot] = Some(flight);
        self.active += 1;
        true
    }

    /// One of a flight's sockets has something: an answer, a forgery, or that nobody listens there.
    pub(super) fn receive(
        &mut self,
        epoll: &OwnedFd,
        (slot, socket): (usize, usize),
        servers: &mut Servers,
        buffer: &mut [u8],
    ) -> Option<Delivery> {
        let flight = self.slots.get_mut(slot)?.as_mut()?;
        let (server, place) = flight.asked.get_mut(socket)?;
        let server = *server;
        let received = place.as_ref()?.recv(buffer);
        let reply = match received {
            Ok(n) => buffer.get(..n)?,
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted
                ) =>
            {
                return None;
            }
            Err(_) => {
                *place = None;
                servers.silent(server);
                flight.ask_next(epoll, slot);
                return self.conclude(slot, None);
            }
        };
        let question = flight.message.get(wire::HEADER..flight.question).unwrap_or_default();
        match wire::judge(reply, flight.id, question) {
            Reply::Foreign => None,
            Reply::Failure => {
                *place = None;
                servers.works(server);
                flight.failure = Some(reply.into());
                flight.ask_next(epoll, slot);
                self.conclude(slot, None)
            }
            Reply::Answer => {
                servers.works(server);
                let answer = reply.to_vec();
                self.conclude(slot, Some(answer))
            }
        }
    }

    /// Ends a flight that has its answer, or nobody left to wait for.
    fn conclude(&mut self, slot: usize, answer: Option<Vec<u8>>) -> Option<Delivery> {
        let place = self.slots.get_mut(slot)?;
        let waits = place.as_ref()?.asked.iter().any(|(_, socket)| socket.is_some());
        if answer.is_none() && waits {
            return None;
        }
        let flight = place.take()?;
        self.active -= 1;
        if self.active == 0 {
            self.slots = Vec::new();
        }
        let mut message = answer.or(flight.failure.map(Vec::from)).unwrap_or_else(|| {
            let mut out = Vec::new();
            wire::refuse(
                &flight.message,
                wire::parse(&flight.message).ok().as_ref(),
                wire::rcode::SERVER,
                &mut out,
            );
            out
        });
        wire::set_id(&mut message, flight.client_id);
        Some(Delivery {
            client: flight.client,
            message,
        })
    }

    /// When the next one wants attention.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.slots.iter().flatten().map(|f| f.next_at.min(f.give_up)).min()
    }

    /// Asks further servers where one has been silent, and gives up where all have.
    pub(super) fn overdue(&mut self, epoll: &OwnedFd, servers: &mut Servers) -> Vec<Delivery> {
        let now = Instant::now();
        let mut done = Vec::new();
        for slot in 0..self.slots.len() {
            let Some(Some(flight)) = self.slots.get_mut(slot) else {
                continue;
            };
            if flight.give_up <= now {
                for (server, socket) in &mut flight.asked {
                    if socket.take().is_some() {
                        servers.silent(*server);
                    }
                }
            } else if flight.next_at <= now {
                if let Some((server, Some(_))) = flight.asked.last() {
                    servers.silent(*server);
                }
                flight.ask_next(epoll, slot);
            } else {
                continue;
            }
            done.extend(self.conclude(slot, None));
        }
        done
    }
}

impl Flight {
    /// Asks the next server that can be asked at all; when none is left, all of them once more.
    fn ask_next(&mut self, epoll: &OwnedFd, slot: usize) {
        self.next_at = Instant::now() + PATIENCE;
        for server in self.left.by_ref() {
            if let Ok(socket) = ask(epoll, server, &self.message, slot, self.asked.len()) {
                self.asked.push((server, Some(socket)));
                return;
            }
        }
        for (_, socket) in &self.asked {
            if let Some(socket) = socket {
                let _ = socket.send(&self.message);
            }
        }
    }
}

fn ask(epoll: &OwnedFd, server: SocketAddr, message: &[u8], slot: usize, number: usize) -> std::io::Result<UdpSocket> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    socket.connect(server)?;
    socket.send(message)?;
    let token = super::Token::Flight { slot, number };
    epoll::add(epoll, &socket, token.data(), epoll::EventFlags::IN)?;
    Ok(socket)
}
