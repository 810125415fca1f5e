//! The ports of the host that a container has: sockets of its monitor, bound and listening from before the container
//! starts until it has ended, so that every other program sees them as taken. What the kernel's rules don't lead
//! elsewhere arrives there, and goes on through the userland proxy (`proxy`).

use crate::error::{Context as _, Error, Result};
use crate::model::container::{ContainerConfig, NetworkMode};
use crate::model::network::Endpoint;
use crate::model::port::{HostPort, Protocol, Publish, PublishedPort, parse_expose};
use crate::network::proxy::{Backend, Listener, Proxy};
use crate::network::ruleset::Target;
use crate::store::{FreePorts, Store};
use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, sockopt};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

const BACKLOG: i32 = 1024;

/// What a container has of the host's ports. Dropped, they are free.
#[derive(Debug, Default)]
pub(crate) struct Reservation {
    pub(crate) ports: Vec<PublishedPort>,
    pub(crate) warnings: Vec<String>,
    held: Vec<(PublishedPort, OwnedFd)>,
}

impl Reservation {
    /// Serves what arrives at the sockets: at the container's address, or inside its network namespace if that is
    /// somebody else's (`--net ns:PATH`). `None` if nothing is published.
    pub(crate) fn into_proxy(self, endpoints: &[Endpoint], netns: Option<BorrowedFd<'_>>) -> Result<Option<Proxy>> {
        if self.held.is_empty() {
            return Ok(None);
        }
        let target = Target::of(endpoints);
        let inside = match (target, netns) {
            (None, Some(netns)) => Some(netns.try_clone_to_owned()?),
            _ => None,
        };
        let listeners = self
            .held
            .into_iter()
            .filter(|(port, _)| port.protocol != Protocol::Sctp);
        let listeners = listeners.map(|(port, socket)| Listener {
            backend: backend(target, &port),
            protocol: port.protocol,
            socket,
        });
        Proxy::new(listeners.collect(), inside).map(Some)
    }
}

/// The container's address of the same family, or the other one.
fn backend(target: Option<Target>, port: &PublishedPort) -> Backend {
    let target = target.unwrap_or(Target {
        v4: Some(Ipv4Addr::LOCALHOST),
        v6: None,
    });
    let other = target.v4.map(IpAddr::V4).or(target.v6.map(IpAddr::V6));
    let address = target.same_family(port.host_ip).or(other);
    Backend(SocketAddr::new(
        address.unwrap_or(Ipv4Addr::LOCALHOST.into()),
        port.container_port,
    ))
}

/// Takes the ports that the container is to have, or none of them.
pub(crate) fn reserve(store: &Store, config: &ContainerConfig, endpoints: &[Endpoint]) -> Result<Reservation> {
    let made = reserve_more(store, config, endpoints, &wanted(config))?;
    crate::sys::stop_point("ports-reserved");
    Ok(made)
}

/// The same for some of them, beside those that it has.
pub(crate) fn reserve_more(
    store: &Store,
    config: &ContainerConfig,
    endpoints: &[Endpoint],
    wanted: &[Publish],
) -> Result<Reservation> {
    if wanted.is_empty() {
        return Ok(Reservation::default());
    }
    if let Some(why) = discarded(config, endpoints) {
        return Ok(Reservation {
            warnings: vec![why],
            ..Reservation::default()
        });
    }
    let mut taking = Taking {
        store,
        config,
        before: store.ports_before(&config.id),
        free: None,
        made: Reservation::default(),
    };
    // Those with a number first, so that a free one is not by chance one of them.
    let (any, fixed): (Vec<_>, Vec<_>) = wanted.iter().partition(|p| p.host == HostPort::Any);
    for publish in fixed.into_iter().chain(any) {
        taking.take(publish)?;
    }
    let made = taking.made;
    if made.ports != taking.before {
        store.remember_ports(&config.id, &made.ports);
    }
    Ok(made)
}

/// The container's record with other ports to publish. An error names what is not published.
pub(crate) fn change(config: &mut ContainerConfig, add: &[Publish], remove: &[Publish]) -> Result<()> {
    let mut all = wanted(config);
    for gone in remove {
        let before = all.len();
        all.retain(|p| !covers(gone, p));
        if all.len() == before {
            return Err(Error::conflict(format!(
                "container {} does not publish port {}",
                config.name,
                gone.number()
            )));
        }
    }
    // `-P` would publish again what was taken away.
    if !remove.is_empty() && config.publish_all {
        config.publish_all = false;
        config.publish = all;
    } else if !remove.is_empty() {
        config.publish.retain(|p| !remove.iter().any(|gone| covers(gone, p)));
    }
    if let NetworkMode::Host | NetworkMode::Container(_) | NetworkMode::None = config.network
        && !add.is_empty()
    {
        return Err(Error::conflict(format!(
            "container {} has no network to publish ports of",
            config.name
        )));
    }
    config.publish.extend(add.iter().cloned());
    Ok(())
}

/// Whether `gone`, as typed, means `publish`: what it does not say may be anything.
fn covers(gone: &Publish, publish: &Publish) -> bool {
    let host = match (gone.host, publish.host) {
        (HostPort::Any, _) => true,
        (HostPort::Range { first, last }, HostPort::Range { first: low, last: high }) => first <= low && high <= last,
        (HostPort::Range { .. }, HostPort::Any) => false,
    };
    gone.number() == publish.number() && host && (gone.host_ip.is_none() || gone.host_ip == publish.host_ip)
}

/// Those of the published ports that `gone` means.
pub(crate) fn covered(gone: &[Publish], ports: &[PublishedPort]) -> Vec<PublishedPort> {
    let is_it = |port: &&PublishedPort| {
        gone.iter().any(|g| {
            let host = match g.host {
                HostPort::Any => true,
                HostPort::Range { first, last } => (first..=last).contains(&port.host_port),
            };
            g.number() == port.number() && host && g.host_ip.is_none_or(|ip| ip == port.host_ip)
        })
    };
    ports.iter().filter(is_it).cloned().collect()
}

/// `-p`, and with `-P` whatever else is documented.
fn wanted(config: &ContainerConfig) -> Vec<Publish> {
    let mut all = config.publish.clone();
    if config.publish_all {
        let exposed = config
            .expose
            .iter()
            .filter_map(|text| parse_expose(text).ok())
            .flatten();
        for number in exposed {
            if !all.iter().any(|p| p.number() == number) {
                all.push(Publish {
                    host_ip: None,
                    host: HostPort::Any,
                    container: number.port,
                    protocol: number.protocol,
                });
            }
        }
    }
    all
}

/// Why there is nothing to publish to.
fn discarded(config: &ContainerConfig, endpoints: &[Endpoint]) -> Option<String> {
    let mode = match &config.network {
        NetworkMode::None => "none",
        NetworkMode::Host => "host",
        NetworkMode::Container(_) => "container",
        NetworkMode::Ns(_) => return None,
        NetworkMode::Networks(_) if Target::of(endpoints).is_none() => {
            return Some("Published ports are discarded: no network of the container leads to the host".to_owned());
        }
        NetworkMode::Networks(_) => return None,
    };
    Some(format!("Published ports are discarded when using {mode} network mode"))
}

/// A reservation in the making.
struct Taking<'a> {
    store: &'a Store,
    config: &'a ContainerConfig,
    before: Vec<PublishedPort>,
    free: Option<FreePorts>,
    made: Reservation,
}

impl Taking<'_> {
    fn take(&mut self, publish: &Publish) -> Result<()> {
        if let HostPort::Range { first, last } = publish.host
            && first == last
        {
            return match self.bind(publish, first)? {
                Ok(()) => Ok(()),
                Err(at) => Err(in_use(self.store, self.config, publish.protocol, at)),
            };
        }
        if let Some(port) = self.had(publish)
            && self.bind(publish, port)?.is_ok()
        {
            return Ok(());
        }
        match publish.host {
            HostPort::Range { first, last } => {
                for port in first..=last {
                    if self.bind(publish, port)?.is_ok() {
                        return Ok(());
                    }
                }
                Err(Error::conflict(format!(
                    "Bind for {}:{first}-{last} failed: all ports are already allocated",
                    publish.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into())
                )))
            }
            HostPort::Any => self.take_any(publish),
        }
    }

    /// The port that the container had for this when it ran last.
    fn had(&self, publish: &Publish) -> Option<u16> {
        let ip = publish.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let fits = |p: &&PublishedPort| {
            p.number() == publish.number()
                && p.host_ip == ip
                && !self
                    .made
                    .ports
                    .iter()
                    .any(|m| m.host_port == p.host_port && m.protocol == p.protocol)
        };
        let port = self.before.iter().find(fits)?.host_port;
        match publish.host {
            HostPort::Any => Some(port),
            HostPort::Range { first, last } => (first..=last).contains(&port).then_some(port),
        }
    }

    fn take_any(&mut self, publish: &Publish) -> Result<()> {
        let mut free = match self.free.take() {
            Some(free) => free,
            None => self.store.free_ports()?,
        };
        for port in free.candidates(publish.protocol) {
            if self.bind(publish, port)?.is_ok() {
                free.taken(publish.protocol, port)?;
                self.free = Some(free);
                return Ok(());
            }
        }
        Err(Error::conflict(format!(
            "all dynamic {} ports of the host are allocated",
            publish.protocol
        )))
    }

    /// Binds a port on the address asked for, or on all of both families: on every one or on none. The inner error is
    /// the place that is taken.
    fn bind(&mut self, publish: &Publish, port: u16) -> Result<std::result::Result<(), SocketAddr>> {
        let addresses = match publish.host_ip {
            Some(ip) => vec![ip],
            None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        };
        let mut bound = Vec::new();
        for ip in addresses {
            let at = SocketAddr::new(ip, port);
            let published = PublishedPort {
                container_port: publish.container,
                protocol: publish.protocol,
                host_ip: ip,
                host_port: port,
            };
            match socket_at(publish.protocol, at) {
                Ok(socket) => bound.push((published, Some(socket))),
                Err(Errno::EADDRINUSE) => return Ok(Err(at)),
                // A host without IPv6.
                Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) if publish.host_ip.is_none() && ip.is_ipv6() => {}
                // The kernel may lead packets of a protocol it has no sockets for.
                Err(Errno::EPROTONOSUPPORT | Errno::ESOCKTNOSUPPORT) if publish.protocol == Protocol::Sctp => {
                    if holder(self.store, self.config, Protocol::Sctp, at).is_some() {
                        return Ok(Err(at));
                    }
                    bound.push((published, None));
                }
                Err(Errno::EADDRNOTAVAIL) => {
                    let e = Error::other(format!(
                        "publish {at}/{}: cannot assign requested address",
                        publish.protocol
                    ));
                    return Err(e.with_hint(format!("no interface of this host has the address {ip}")));
                }
                Err(e) => return Err(e).with_context(|| format!("publish {at}/{}", publish.protocol)),
            }
        }
        for (published, socket) in bound {
            self.made.ports.push(published.clone());
            self.made.held.extend(socket.map(|s| (published, s)));
        }
        Ok(Ok(()))
    }
}

/// Bound, and listening if that is the protocol's way.
pub(super) fn socket_at(protocol: Protocol, at: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = match at {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SockType::Stream, SockProtocol::Tcp),
        Protocol::Udp => (SockType::Datagram, SockProtocol::Udp),
        Protocol::Sctp => return sctp_socket_at(at),
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket::socket(family, kind, flags, number)?;
    if at.is_ipv6() {
        socket::setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    match protocol {
        // Connections of before that linger keep nobody from listening.
        Protocol::Tcp => socket::setsockopt(&fd, sockopt::ReuseAddr, &true)?,
        // Answers come from the address that was asked.
        _ if at.is_ipv4() => socket::setsockopt(&fd, sockopt::Ipv4PacketInfo, &true)?,
        _ => socket::setsockopt(&fd, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(at))?;
    if protocol == Protocol::Tcp {
        socket::listen(&fd, socket::Backlog::new(BACKLOG)?)?;
    }
    Ok(fd)
}

/// Only holds the port: the proxy serves no SCTP.
fn sctp_socket_at(at: SocketAddr) -> Result<OwnedFd, Errno> {
    use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType};
    let family = if at.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let sctp = std::num::NonZeroU32::new(132).map(Protocol::from_raw);
    let open = || {
        let fd = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, sctp)?;
        if at.is_ipv6() {
            rustix::net::sockopt::set_ipv6_v6only(&fd, true)?;
        }
        rustix::net::bind(&fd, &at)?;
        rustix::net::listen(&fd, BACKLOG)?;
        Ok(fd)
    };
    open().map_err(|e: rustix::io::Errno| Errno::from_raw(e.raw_os_error()))
}

fn in_use(store: &Store, config: &ContainerConfig, protocol: Protocol, at: SocketAddr) -> Error {
    let by = holder(store, config, protocol, at)
        .map(|name| format!("container {name}"))
        .or_else(|| super::holder::program(protocol, at));
    let by = by.map(|by| format!(" (by {by})")).unwrap_or_default();
    Error::conflict(format!("Bind for {at} failed: port is already allocated{by}"))
}

/// The other container of this engine that has the port.
fn holder(store: &Store, config: &ContainerConfig, protocol: Protocol, at: SocketAddr) -> Option<String> {
    let overlap = |p: &PublishedPort| {
        let meets = p.host_ip == at.ip()
            || (p.host_ip.is_ipv4() == at.is_ipv4() && (p.host_ip.is_unspecified() || at.ip().is_unspecified()));
        p.protocol == protocol && p.host_port == at.port() && meets
    };
    for id in store.container_ids().ok()? {
        if id == config.id {
            continue;
        }
        let live = store.live(&id).ok().flatten();
        if live.is_some_and(|l| l.ports.iter().any(overlap)) {
            return Some(store.config(&id).map_or_else(|_| id.short().to_owned(), |c| c.name));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::port::parse_publish;

    fn parsed(texts: &[&str]) -> Vec<Publish> {
        texts.iter().flat_map(|t| parse_publish(t).unwrap()).collect()
    }

    #[test]
    fn what_a_port_to_remove_means() {
        for (gone, publish, means) in [
            ("80", "8080:80", true),
            ("80", "80", true),
            ("80/udp", "8080:80", false),
            ("8080:80", "8080:80", true),
            ("8081:80", "8080:80", false),
            ("8080:80", "80", false),
            ("127.0.0.1:8080:80", "8080:80", false),
            ("8080:80", "127.0.0.1:8080:80", true),
        ] {
            let (gone, publish) = (parsed(&[gone]), parsed(&[publish]));
            assert_eq!(covers(&gone[0], &publish[0]), means, "{gone:?} {publish:?}");
        }
    }

    #[test]
    fn live_ports_that_are_meant() {
        let port = |host_ip: &str, host_port| PublishedPort {
            container_port: 80,
            protocol: Protocol::Tcp,
            host_ip: host_ip.parse().unwrap(),
            host_port,
        };
        let ports = [port("0.0.0.0", 8080), port("::", 8080), port("127.0.0.1", 9)];
        assert_eq!(covered(&parsed(&["80"]), &ports).len(), 3);
        assert_eq!(covered(&parsed(&["8080:80"]), &ports).len(), 2);
        assert_eq!(covered(&parsed(&["127.0.0.1:9:80"]), &ports), [ports[2].clone()]);
        assert_eq!(covered(&parsed(&["81"]), &ports).len(), 0);
    }
}
