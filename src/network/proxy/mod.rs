//! The userland proxy: serves, inside the container's monitor, what reaches a published port and no rule of the kernel
//! leads to the container: `[::1]`, IPv6 to a container without it, hosts without a firewall, `--net ns:PATH`.
//!
//! One epoll instance has all of its sockets; nothing blocks, and each call does a bounded amount of work, since the
//! container's log waits meanwhile. Connections (`tcp`) hold no buffer while they are idle; what a slow reader leaves
//! is bounded for all of them together.

mod inside;
mod pipes;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

use crate::error::{Context as _, Result};
use crate::model::network::Endpoint;
use crate::model::port::{Protocol, PublishedPort};
use crate::network::ruleset::Target;
use crate::network::service::Service;
use inside::Sockets;
use pipes::Pipes;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use tcp::Connection;
use udp::Flows;

/// Events of one call.
const EVENTS: usize = 32;
/// Connections accepted in one go.
const ACCEPTS: usize = 64;
/// How long nothing is accepted after the descriptors have run out, unless one becomes free.
const PAUSE: Duration = Duration::from_millis(100);
/// One read.
const CHUNK: usize = 64 << 10;
/// What all connections together may hold for slow readers; each may hold at least `SMALLEST`.
const HELD: usize = 16 << 20;
const SMALLEST: usize = 2 << 10;
/// Descriptors that strangers never get: the log, the state, clients and the firewall need theirs also under load.
const SPARE: u64 = 256;
/// Of one connection: two sockets, and its part of the pipes.
const PER_CONNECTION: usize = 3;

/// Where a connection goes on to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backend(pub(crate) SocketAddr);

/// A socket of the host: a listening one of TCP, or one of UDP that tells destination addresses.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) backend: Backend,
    pub(crate) protocol: Protocol,
    pub(crate) socket: OwnedFd,
}

/// What an event is about: the kind in the low bits, then the place in its table, then the generation of that place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Listener(u32),
    Client(Place),
    Server(Place),
    Flow(Place),
}

/// A place in a table. Its generation tells the one who has it from those who had it before: an event may be older than
/// what is there now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    index: u32,
    generation: u32,
}

impl Token {
    fn data(self) -> EventData {
        let (kind, place) = match self {
            Token::Listener(index) => (0, Place { index, generation: 0 }),
            Token::Client(place) => (1, place),
            Token::Server(place) => (2, place),
            Token::Flow(place) => (3, place),
        };
        let generation = u64::from(place.generation & 0x3fff_ffff);
        EventData::new_u64(u64::from(place.index) << 32 | generation << 2 | kind)
    }

    fn of(data: EventData) -> Token {
        let bits = data.u64();
        let index = u32::try_from(bits >> 32).unwrap_or(u32::MAX);
        let generation = u32::try_from((bits & 0xffff_ffff) >> 2).unwrap_or(0);
        let place = Place { index, generation };
        match bits & 3 {
            0 => Token::Listener(index),
            1 => Token::Client(place),
            2 => Token::Server(place),
            _ => Token::Flow(place),
        }
    }
}

/// Things by place; free places are used again.
#[derive(Debug)]
struct Table<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Table<T> {
    const fn new() -> Table<T> {
        Table {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The place that the next one gets.
    fn next(&self) -> Place {
        let end = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let index = self.free.last().copied().unwrap_or(end);
        let generation = self.slots.get(index as usize).map_or(0, |(generation, _)| *generation);
        Place { index, generation }
    }

    fn insert(&mut self, thing: T) -> Place {
        let place = self.next();
        match self.free.pop() {
            Some(index) => self.slots[index as usize].1 = Some(thing),
            None => self.slots.push((0, Some(thing))),
        }
        place
    }

    fn get_mut(&mut self, place: Place) -> Option<&mut T> {
        let (generation, thing) = self.slots.get_mut(place.index as usize)?;
        (*generation == place.generation).then_some(thing.as_mut()).flatten()
    }

    fn remove(&mut self, place: Place) -> Option<T> {
        let (generation, thing) = self.slots.get_mut(place.index as usize)?;
        if *generation != place.generation {
            return None;
        }
        let gone = thing.take()?;
        *generation = (*generation + 1) & 0x3fff_ffff;
        self.free.push(place.index);
        if self.free.len() == self.slots.len() {
            // Nobody is here: the memory of a busy hour goes back. Old events are of an older generation still, as
            // long as the next one begins above it.
            if self.slots.len() > 64 {
                self.slots.shrink_to(64);
            }
        }
        Some(gone)
    }

    fn iter(&self) -> impl Iterator<Item = (Place, &T)> {
        (0..).zip(&self.slots).filter_map(|(index, (generation, thing))| {
            let generation = *generation;
            thing.as_ref().map(|t| (Place { index, generation }, t))
        })
    }
}

/// What connections and flows share.
struct Shared {
    epoll: OwnedFd,
    sockets: Sockets,
    pipes: Pipes,
    /// One read's worth; made when it is needed, dropped when nobody is connected.
    scratch: Vec<u8>,
    /// Of it, what one read of a connection may take now.
    chunk: usize,
    /// How many flows there may be now.
    flows: usize,
}

/// What the limit of open files leaves; of a small one, half.
fn room() -> usize {
    use nix::sys::resource::{Resource, getrlimit};
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(limit.saturating_sub(SPARE).max(limit / 2)).unwrap_or(usize::MAX)
}

pub(crate) struct Proxy {
    shared: Shared,
    /// Each keeps its place: a token names it.
    listeners: Vec<Option<Listener>>,
    connections: Table<Connection>,
    flows: Flows,
    /// Descriptors that connections and flows may have, all together.
    room: usize,
    /// The descriptors have run out: until then nothing is accepted.
    accept_again: Option<Instant>,
    clock: Box<dyn Fn() -> Instant>,
}

impl Proxy {
    /// `inside` is the network namespace that backends are in, if it is not the caller's.
    pub(crate) fn new(listeners: Vec<Listener>, inside: Option<OwnedFd>) -> Result<Proxy> {
        Proxy::with_clock(listeners, inside, Box::new(Instant::now))
    }

    fn with_clock(listeners: Vec<Listener>, inside: Option<OwnedFd>, clock: Box<dyn Fn() -> Instant>) -> Result<Proxy> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).context("make the proxy's epoll")?;
        let shared = Shared {
            epoll,
            sockets: Sockets::new(inside),
            pipes: Pipes::default(),
            scratch: Vec::new(),
            chunk: CHUNK,
            flows: 0,
        };
        let proxy = Proxy {
            shared,
            listeners: listeners.into_iter().map(Some).collect(),
            connections: Table::new(),
            flows: Flows::default(),
            room: room(),
            accept_again: None,
            clock,
        };
        proxy.listen().context("watch the published ports")?;
        Ok(proxy)
    }

    fn listen(&self) -> Result<(), Errno> {
        for (index, listener) in self.numbered() {
            epoll::add(
                &self.shared.epoll,
                &listener.socket,
                Token::Listener(index).data(),
                EventFlags::IN,
            )?;
        }
        Ok(())
    }

    /// Stops accepting for a while, or until a connection ends: out of descriptors, a listening socket would be ready
    /// again and again.
    fn pause(&mut self, now: Instant) {
        for listener in self.tcp_listeners() {
            let _ = epoll::delete(&self.shared.epoll, &listener.socket);
        }
        self.accept_again = Some(now + PAUSE);
    }

    fn resume(&mut self) {
        if self.accept_again.take().is_none() {
            return;
        }
        for (index, listener) in self.numbered() {
            if listener.protocol == Protocol::Tcp {
                let token = Token::Listener(index).data();
                let _ = epoll::add(&self.shared.epoll, &listener.socket, token, EventFlags::IN);
            }
        }
    }

    fn numbered(&self) -> impl Iterator<Item = (u32, &Listener)> {
        let all = (0..).zip(&self.listeners);
        all.filter_map(|(index, listener)| listener.as_ref().map(|l| (index, l)))
    }

    fn tcp_listeners(&self) -> impl Iterator<Item = &Listener> {
        self.listeners.iter().flatten().filter(|l| l.protocol == Protocol::Tcp)
    }

    /// Whether another connection or flow may have descriptors.
    fn has_room(&self) -> bool {
        self.connections.len() * PER_CONNECTION + self.flows.len() < self.room
    }

    fn accept(&mut self, index: usize, now: Instant) {
        for _ in 0..ACCEPTS {
            if !self.has_room() {
                // They wait in the kernel's queue.
                self.pause(now);
                return;
            }
            let Some(Some(listener)) = self.listeners.get(index) else {
                return;
            };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match rustix::net::accept_with(&listener.socket, flags) {
                Ok(client) => {
                    let backend = listener.backend;
                    if !self.connect(client, backend) {
                        self.pause(now);
                        return;
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    self.pause(now);
                    return;
                }
                // The client went away, or its network did: accept(2) says to go on.
                Err(_) => {}
            }
        }
    }

    /// `false` if there are no descriptors left; the client is turned away.
    fn connect(&mut self, client: OwnedFd, backend: Backend) -> bool {
        let place = self.connections.next();
        let server = match self.shared.sockets.stream(backend.0) {
            Ok(server) => server,
            Err(e) => {
                tcp::reset(client.as_fd());
                return !matches!(e, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM);
            }
        };
        match Connection::begin(&self.shared.epoll, place, client, server, backend.0) {
            Ok(connection) => {
                self.connections.insert(connection);
            }
            Err(client) => tcp::reset(client.as_fd()),
        }
        true
    }

    /// One side of a connection is ready.
    fn serve(&mut self, place: Place, token: Token, flags: EventFlags) {
        self.shared.chunk = (HELD / self.connections.len().max(1)).clamp(SMALLEST, CHUNK);
        let Some(connection) = self.connections.get_mut(place) else {
            return;
        };
        if self.shared.scratch.is_empty() {
            self.shared.scratch = vec![0; CHUNK];
        }
        let by_client = matches!(token, Token::Client(_));
        let step = connection.ready(place, by_client, flags, &mut self.shared);
        if let tcp::Step::Ended = step {
            if let Some(gone) = self.connections.remove(place) {
                gone.end(&mut self.shared.pipes);
            }
            if self.connections.len() == 0 {
                self.shared.pipes.clear();
                self.drop_scratch();
            }
            self.resume();
        }
    }

    fn drop_scratch(&mut self) {
        if self.connections.len() == 0 && self.flows.is_empty() {
            self.shared.scratch = Vec::new();
        }
    }

    fn udp(&mut self, index: u32, now: Instant) {
        if self.shared.scratch.is_empty() {
            self.shared.scratch = vec![0; CHUNK];
        }
        self.shared.flows = self.room.saturating_sub(self.connections.len() * PER_CONNECTION);
        if let Some(Some(listener)) = self.listeners.get(index as usize) {
            self.flows.serve_clients(index, listener, now, &mut self.shared);
        }
    }

    fn handle(&mut self, event: Event, now: Instant) {
        let token = Token::of(event.data);
        match token {
            Token::Listener(index) => match self
                .listeners
                .get(index as usize)
                .and_then(Option::as_ref)
                .map(|l| l.protocol)
            {
                Some(Protocol::Tcp) => self.accept(index as usize, now),
                Some(Protocol::Udp) => self.udp(index, now),
                Some(Protocol::Sctp) | None => {}
            },
            Token::Client(place) | Token::Server(place) => self.serve(place, token, event.flags),
            Token::Flow(place) => {
                if self.shared.scratch.is_empty() {
                    self.shared.scratch = vec![0; CHUNK];
                }
                self.flows.serve_answers(place, &self.listeners, now, &mut self.shared);
            }
        }
    }
}

impl Service for Proxy {
    fn fd(&self) -> BorrowedFd<'_> {
        self.shared.epoll.as_fd()
    }

    fn deadline(&self) -> Option<Instant> {
        [self.accept_again, self.flows.deadline()].into_iter().flatten().min()
    }

    fn ready(&mut self) {
        let now = (self.clock)();
        if self.accept_again.is_some_and(|at| at <= now) {
            self.resume();
        }
        if self.flows.deadline().is_some_and(|at| at <= now) {
            self.flows.expire(now);
            self.drop_scratch();
        }
        let mut events = Vec::with_capacity(EVENTS);
        let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let found = epoll::wait(
            &self.shared.epoll,
            rustix::buffer::spare_capacity(&mut events),
            Some(&timeout),
        );
        if found.is_err() {
            return;
        }
        let mut events: VecDeque<Event> = events.into();
        while let Some(event) = events.pop_front() {
            self.handle(event, now);
        }
    }

    fn unpublished(&mut self, ports: &[PublishedPort]) {
        for place in &mut self.listeners {
            let is_it = |listener: &Listener| {
                let at = rustix::net::getsockname(&listener.socket).ok();
                let at = at.and_then(|a| SocketAddr::try_from(a).ok());
                ports
                    .iter()
                    .any(|p| p.protocol == listener.protocol && Some(p.host()) == at)
            };
            if place.as_ref().is_some_and(is_it) {
                // What is connected goes on until it ends; nobody else gets in.
                *place = None;
            }
        }
    }

    fn endpoints_changed(&mut self, endpoints: &[Endpoint]) {
        let Some(target) = Target::of(endpoints) else {
            return;
        };
        let other = target.v4.map(IpAddr::V4).or(target.v6.map(IpAddr::V6));
        for listener in self.listeners.iter_mut().flatten() {
            let own = target.same_family(listener.backend.0.ip());
            if let Some(address) = own.or(other) {
                listener.backend.0.set_ip(address);
            }
        }
    }
}
