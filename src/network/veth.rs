//! A container's own end: its network namespace, its links there, their addresses and routes.

use crate::error::{Context as _, Error, Result};
use crate::model::network::{Driver, Endpoint, Network};
use crate::network::bridge;
use crate::network::link::{self, Child, Link, Links, Pair};
use crate::network::sysctl;
use crate::sys;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{InfoData, InfoIpVlan, InfoKind, InfoMacVlan, IpVlanMode, MacVlanMode};
use nix::sched::CloneFlags;
use rustix::fs::{Mode, OFlags};
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// Stack of the short threads that enter a network namespace.
const STACK: usize = 256 * 1024;

/// Runs `work` on a thread that is in another network namespace: sockets made there belong to it for ever. The caller's
/// own thread never leaves its namespace, and so can't be left in a wrong one.
pub(crate) fn inside<T: Send>(netns: BorrowedFd<'_>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    on_a_thread(|| {
        nix::sched::setns(netns, CloneFlags::CLONE_NEWNET).context("enter the container's network namespace")?;
        work()
    })
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        let joined = thread.context("start a thread")?.join();
        joined.unwrap_or_else(|_| Err(Error::other("a thread in a network namespace has ended")))
    })
}

/// Makes the namespace and everything in it. It belongs to `users`, the container's user namespace, if that has one.
pub(super) fn make(here: &mut Links, places: &[(Endpoint, Ready)], users: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    if let Some(users) = users {
        let net = [("net", nix::sched::CloneFlags::CLONE_NEWNET)];
        let netns = sys::users::namespaces(users, &net).map(|mut all| all.remove(0));
        let netns = netns.context("make a network namespace")?;
        sys::stop_point("netns-made");
        inside(netns.as_fd(), || fill(here, netns.as_fd(), places))?;
        return Ok(netns);
    }
    on_a_thread(|| {
        nix::sched::unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let netns = rustix::fs::open("/proc/thread-self/ns/net", flags, Mode::empty())
            .context("open the new network namespace")?;
        sys::stop_point("netns-made");
        fill(here, netns.as_fd(), places)?;
        Ok(netns)
    })
}

/// On a thread in the namespace.
fn fill(here: &mut Links, netns: BorrowedFd<'_>, places: &[(Endpoint, Ready)]) -> Result<()> {
    let mut there = Links::open()?;
    there.apply(vec![link::set_up(1, "lo")])?;
    add(here, &mut there, netns, places)
}

/// Adds places to a running container.
pub(super) fn extend(here: &mut Links, netns: BorrowedFd<'_>, places: &[(Endpoint, Ready)]) -> Result<()> {
    inside(netns, || add(here, &mut Links::open()?, netns, places))
}

/// The host's side of a network, looked up before.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    pub(super) network: Network,
    pub(super) link: Link,
    /// The default route goes by it.
    pub(super) way_out: bool,
}

/// All links first, each pair in one request, all of them in one datagram; then what they get, in another one. On a
/// thread in the container's namespace: `here` belongs to the host's, `there` to the container's.
fn add(here: &mut Links, there: &mut Links, netns: BorrowedFd<'_>, places: &[(Endpoint, Ready)]) -> Result<()> {
    let mut requests = Vec::with_capacity(places.len());
    for (endpoint, ready) in places {
        requests.push(match endpoint.driver {
            Driver::Bridge => link::add_pair(&Pair {
                here: &endpoint.link,
                bridge: ready.link.index,
                there: &endpoint.interface,
                netns,
                mac: endpoint.mac,
                mtu: ready.link.mtu,
            }),
            Driver::Macvlan | Driver::Ipvlan => child(endpoint, ready, netns)?,
        });
    }
    here.apply(requests)?;
    sys::stop_point("veth-made");
    let socket = any_socket()?;
    let mut requests = Vec::new();
    for (endpoint, ready) in places {
        let name = endpoint.interface.as_str();
        let index = rustix::net::netdevice::name_to_index(&socket, name)
            .with_context(|| format!("find {name} in the container"))?;
        sysctl::set_ipv6(name, "accept_ra", "0");
        let six = endpoint.address6.is_some();
        sysctl::set_ipv6(name, "disable_ipv6", if six { "0" } else { "1" });
        let own = [
            (endpoint.address.map(IpAddr::V4), endpoint.prefix),
            (endpoint.address6.map(IpAddr::V6), endpoint.prefix6),
        ];
        for (address, length) in own {
            if let Some(address) = address {
                requests.push(link::add_address(index, name, address, length));
            }
        }
        requests.push(link::set_up(index, name));
        if ready.way_out {
            requests.extend(routes(endpoint, &ready.network, index));
        }
    }
    there.apply(requests)
}

/// For questions by ioctl to the caller's network namespace.
pub(super) fn any_socket() -> Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

fn routes(endpoint: &Endpoint, network: &Network, index: u32) -> Vec<crate::sys::netlink::Request> {
    let layer3 = matches!(ipvlan_mode(network), Ok(IpVlanMode::L3 | IpVlanMode::L3S));
    if endpoint.driver == Driver::Ipvlan && layer3 {
        let four = endpoint.address.map(|_| AddressFamily::Inet);
        let six = endpoint.address6.map(|_| AddressFamily::Inet6);
        let families = four.into_iter().chain(six);
        return families.map(|f| link::add_default_link_route(index, f)).collect();
    }
    let four = endpoint.gateway.map(IpAddr::V4);
    let six = endpoint.gateway6.map(IpAddr::V6);
    let gateways = four.into_iter().chain(six);
    gateways.map(|g| link::add_default_route(index, g)).collect()
}

fn child(endpoint: &Endpoint, ready: &Ready, netns: BorrowedFd<'_>) -> Result<crate::sys::netlink::Request> {
    let (kind, data, mac) = match endpoint.driver {
        Driver::Ipvlan => {
            let mode = InfoIpVlan::Mode(ipvlan_mode(&ready.network)?);
            (InfoKind::IpVlan, InfoData::IpVlan(vec![mode]), None)
        }
        _ => {
            let mode = InfoMacVlan::Mode(macvlan_mode(&ready.network)?);
            (InfoKind::MacVlan, InfoData::MacVlan(vec![mode]), Some(endpoint.mac))
        }
    };
    Ok(link::add_child(Child {
        name: &endpoint.interface,
        parent: ready.link.index,
        kind,
        data,
        mac,
        mtu: bridge::mtu(&ready.network)?,
        netns: Some(netns),
    }))
}

/// `-o macvlan_mode=…`, as docker calls it.
pub(super) fn macvlan_mode(network: &Network) -> Result<MacVlanMode> {
    let asked = ["macvlan_mode", "mode"]
        .iter()
        .find_map(|key| network.options.get(*key));
    Ok(match asked.map(String::as_str) {
        None | Some("" | "bridge") => MacVlanMode::Bridge,
        Some("private") => MacVlanMode::Private,
        Some("vepa") => MacVlanMode::Vepa,
        Some("passthru") => MacVlanMode::Passthrough,
        Some(other) => {
            return Err(Error::usage(format!(
                "requested macvlan mode '{}' is not valid, 'bridge' mode is the macvlan driver default",
                other.escape_debug()
            )));
        }
    })
}

/// `-o ipvlan_mode=…`.
pub(super) fn ipvlan_mode(network: &Network) -> Result<IpVlanMode> {
    let asked = ["ipvlan_mode", "mode"].iter().find_map(|key| network.options.get(*key));
    Ok(match asked.map(String::as_str) {
        None | Some("" | "l2") => IpVlanMode::L2,
        Some("l3") => IpVlanMode::L3,
        Some("l3s") => IpVlanMode::L3S,
        Some(other) => {
            return Err(Error::usage(format!(
                "requested ipvlan mode '{}' is not valid, 'l2' mode is the ipvlan driver default",
                other.escape_debug()
            )));
        }
    })
}

/// Deletes the host's ends that still exist. Those of a namespace that has just gone are going by themselves, a moment
/// later: only where it lives on, or where nobody knows, are they deleted by hand, since that waits for every CPU.
pub(super) fn delete(here: &mut Links, endpoints: &[Endpoint]) -> Result<()> {
    for endpoint in endpoints.iter().filter(|e| !e.link.is_empty()) {
        match here.try_apply(vec![link::delete_link(&endpoint.link)]) {
            Err(refused) if refused.errno() != libc::ENODEV => {
                return Err(Error::other(refused.to_string()));
            }
            _ => {}
        }
    }
    Ok(())
}
