//! UDP through the proxy: a socket of its own for each client, so that answers find the way back. A client that is
//! silent for 90 seconds is forgotten (F159).

use super::{Listener, Place, Shared, Table, Token};
use nix::sys::socket::{self, ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage};
use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::collections::HashMap;
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

pub(super) const IDLE: Duration = Duration::from_secs(90);
/// Clients of one container. When they are that many, those that were silent for `SHORT` go.
pub(super) const MOST: usize = 4096;
const SHORT: Duration = Duration::from_secs(10);
/// Datagrams in one go.
const TURNS: usize = 32;

/// Whose datagrams they are: which port they came to, from whom, and at which of the host's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    listener: u32,
    client: SocketAddr,
    at: Option<At>,
}

/// The address that was asked; the interface counts where it is one of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct At {
    ip: IpAddr,
    interface: u32,
}

#[derive(Debug)]
struct Flow {
    key: Key,
    socket: OwnedFd,
    last: Instant,
}

#[derive(Debug)]
pub(super) struct Flows {
    by_key: HashMap<Key, Place>,
    table: Table<Flow>,
    /// When to look for silent ones: none is due before.
    look: Option<Instant>,
    /// When it was last full.
    crowded: Option<Instant>,
}

impl Default for Flows {
    fn default() -> Self {
        Flows {
            by_key: HashMap::new(),
            table: Table::new(),
            look: None,
            crowded: None,
        }
    }
}

impl Flows {
    pub(super) fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.look
    }

    /// Forgets who has been silent too long.
    pub(super) fn expire(&mut self, now: Instant) {
        self.forget(now, IDLE);
    }

    fn forget(&mut self, now: Instant, idle: Duration) {
        let silent = |flow: &Flow| now.saturating_duration_since(flow.last) >= idle;
        let gone: Vec<Place> = self.table.iter().filter(|(_, f)| silent(f)).map(|(p, _)| p).collect();
        for place in gone {
            if let Some(flow) = self.table.remove(place) {
                self.by_key.remove(&flow.key);
            }
        }
        self.look = self.table.iter().map(|(_, flow)| flow.last + IDLE).min();
        if self.is_empty() {
            self.by_key = HashMap::new();
        }
    }

    /// Datagrams have come to a port of the host.
    pub(super) fn serve_clients(&mut self, index: u32, listener: &Listener, now: Instant, shared: &mut Shared) {
        for _ in 0..TURNS {
            let mut scratch = std::mem::take(&mut shared.scratch);
            let received = receive(&listener.socket, &mut scratch);
            if let Ok(Some((length, client, at))) = received {
                let key = Key {
                    listener: index,
                    client,
                    at,
                };
                if let Some(flow) = self.flow(key, listener, now, shared) {
                    flow.last = now;
                    pass_on(&flow.socket, &scratch[..length]);
                }
            }
            shared.scratch = scratch;
            if received.is_err() {
                return;
            }
        }
    }

    fn flow(&mut self, key: Key, listener: &Listener, now: Instant, shared: &mut Shared) -> Option<&mut Flow> {
        if let Some(place) = self.by_key.get(&key).copied() {
            return self.table.get_mut(place);
        }
        let most = shared.flows.min(MOST);
        if self.table.len() >= most {
            // One look a second, however many strangers knock.
            let looked = self.crowded.is_some_and(|at| now < at + Duration::from_secs(1));
            if !looked {
                self.crowded = Some(now);
                self.forget(now, SHORT);
            }
            if self.table.len() >= most {
                return None;
            }
        }
        let to = listener.backend.0;
        let socket = shared.sockets.datagram(to).ok()?;
        rustix::net::connect(&socket, &to).ok()?;
        let token = Token::Flow(self.table.next());
        epoll::add(&shared.epoll, &socket, token.data(), EventFlags::IN).ok()?;
        let place = self.table.insert(Flow { key, socket, last: now });
        self.by_key.insert(key, place);
        self.look = Some(self.look.unwrap_or(now + IDLE));
        self.table.get_mut(place)
    }

    /// The container answers a client.
    pub(super) fn serve_answers(
        &mut self,
        place: Place,
        listeners: &[Option<Listener>],
        now: Instant,
        shared: &mut Shared,
    ) {
        let Some(flow) = self.table.get_mut(place) else { return };
        let Some(Some(listener)) = listeners.get(flow.key.listener as usize) else {
            return;
        };
        for _ in 0..TURNS {
            match rustix::net::recv(&flow.socket, &mut shared.scratch[..], RecvFlags::empty()) {
                Ok((length, _)) => {
                    flow.last = now;
                    answer(&listener.socket, &flow.key, &shared.scratch[..length]);
                }
                // Nobody listens there yet, or any more: the client hears nothing, and may try again.
                Err(Errno::CONNREFUSED | Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// A refusal of an earlier datagram is told now, in place of sending this one: it is sent then.
fn pass_on(socket: &OwnedFd, bytes: &[u8]) {
    for _ in 0..2 {
        match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
            Err(Errno::CONNREFUSED | Errno::INTR) => {}
            _ => return,
        }
    }
}

/// The next datagram: its length, who sent it, and where to. `None` for one that can't be answered.
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Result<Option<(usize, SocketAddr, Option<At>)>, nix::errno::Errno> {
    let mut parts = [IoSliceMut::new(buffer)];
    let mut control = nix::cmsg_space!(libc::in6_pktinfo, libc::in_pktinfo);
    let flags = MsgFlags::MSG_DONTWAIT;
    let message = match socket::recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags) {
        Ok(message) => message,
        Err(nix::errno::Errno::EINTR | nix::errno::Errno::ECONNREFUSED) => return Ok(None),
        Err(e) => return Err(e),
    };
    let at = message.cmsgs().ok().and_then(|mut all| all.find_map(destination));
    let client = message.address.as_ref().and_then(address);
    Ok(client.map(|client| (message.bytes, client, at)))
}

fn destination(message: ControlMessageOwned) -> Option<At> {
    match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(At {
            ip: IpAddr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()),
            interface: 0,
        }),
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            let ip = std::net::Ipv6Addr::from(info.ipi6_addr.s6_addr);
            let interface = if ip.is_unicast_link_local() {
                info.ipi6_ifindex
            } else {
                0
            };
            Some(At {
                ip: ip.into(),
                interface,
            })
        }
        _ => None,
    }
}

fn address(from: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = from.as_sockaddr_in().map(|a| SocketAddr::V4((*a).into()));
    v4.or_else(|| from.as_sockaddr_in6().map(|a| SocketAddr::V6((*a).into())))
}

/// From the address that the client has asked. What the network does not take now is lost, as datagrams are.
fn answer(socket: &OwnedFd, key: &Key, bytes: &[u8]) {
    let to = SockaddrStorage::from(key.client);
    let parts = [IoSlice::new(bytes)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let send = |control: &[ControlMessage<'_>]| {
        let _ = socket::sendmsg(socket.as_raw_fd(), &parts, control, flags, Some(&to));
    };
    match key.at {
        Some(At { ip: IpAddr::V4(v4), .. }) => {
            let source = libc::in_addr {
                s_addr: u32::from_ne_bytes(v4.octets()),
            };
            send(&[ControlMessage::Ipv4PacketInfo(&libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: source,
                ipi_addr: libc::in_addr { s_addr: 0 },
            })]);
        }
        Some(At {
            ip: IpAddr::V6(v6),
            interface,
        }) => send(&[ControlMessage::Ipv6PacketInfo(&libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr { s6_addr: v6.octets() },
            ipi6_ifindex: interface,
        })]),
        None => send(&[]),
    }
}
