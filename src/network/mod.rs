//! What connects a container: bridges, links, addresses, published ports, firewall rules, names.
//!
//! ```text
//!   reserve    addresses leased, links named           files only; recorded in state.json before the next step
//!   connect    network namespace, links, routes, rules
//!   release    the reverse, by name: on the normal way, on errors, after a crash
//! ```

mod bridge;
mod conntrack;
mod create;
pub(crate) mod dns;
mod foreign;
mod holder;
pub(crate) mod hosts;
mod ipam;
mod iptables;
pub(crate) mod link;
pub(crate) mod links;
mod nft;
mod plan;
pub(crate) mod proxy;
pub(crate) mod publish;
pub(crate) mod resolv;
pub(crate) mod rules;
mod ruleset;
pub(crate) mod service;
mod sysctl;
mod veth;

pub(crate) use create::{NewNetwork, create, default_network, existing_bridge_network, remove, remove_all};
pub(crate) use ipam::leases;
pub(crate) use plan::{keep_aside, subnets};
pub(crate) use ruleset::Target;
pub(crate) use veth::inside;

use crate::error::{Error, Result};
use crate::model::id::ContainerId;
use crate::model::network::{Attachment, DEFAULT, Endpoint, Mac, Network};
use crate::model::port::PublishedPort;
use crate::store::Store;
use crate::sys;
use ipam::Wish;
use link::Links;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

/// In a network's options: a person chose the subnet of the default network, so it is not chosen anew.
const SUBNET_GIVEN: &str = "barge.subnet.given";
/// In the run directory: another container has joined the network namespace, which may live on without this one.
pub(crate) const SHARED: &str = "netns-shared";

/// Addresses and names that are a container's from now on, until they are released.
pub(crate) struct Reserved {
    pub(crate) endpoints: Vec<Endpoint>,
    /// What was changed on the host, for a person.
    pub(crate) notices: Vec<String>,
}

/// Leases what the container needs on each network. Bridges are made if they are missing; nothing of the container's own
/// is in the kernel yet. `existing` are its places so far, if it runs.
pub(crate) fn reserve(
    store: &Store,
    id: &ContainerId,
    attachments: &[Attachment],
    existing: &[Endpoint],
) -> Result<Reserved> {
    let mut reserved = Reserved {
        endpoints: Vec::with_capacity(attachments.len()),
        notices: Vec::new(),
    };
    if attachments.is_empty() {
        return Ok(reserved);
    }
    let mut links = Links::open()?;
    let mut taken = existing.to_vec();
    for attachment in attachments {
        match reserve_one(store, &mut links, id, attachment, &taken) {
            Ok((endpoint, notices)) => {
                taken.push(endpoint.clone());
                reserved.endpoints.push(endpoint);
                reserved.notices.extend(notices);
            }
            Err(e) => {
                let freed = free_leases(store, id, &reserved.endpoints);
                return Err(freed.err().map_or(e.clone(), |second| e.and(&second)));
            }
        }
    }
    Ok(reserved)
}

fn reserve_one(
    store: &Store,
    links: &mut Links,
    id: &ContainerId,
    attachment: &Attachment,
    taken: &[Endpoint],
) -> Result<(Endpoint, Vec<String>)> {
    let network = find(store, &attachment.network)?;
    let wish = Wish {
        v4: attachment.ip.map(IpAddr::V4),
        v6: attachment.ip6.map(IpAddr::V6),
    };
    if network.is_default() || network.foreign_link {
        // It may get another subnet yet.
        let (network, notices) = ensure(store, links, network)?;
        let leased = ipam::lease(store, &network, id, wish)?;
        sys::stop_point("lease-taken");
        return Ok((endpoint(id, attachment, &network, &leased, taken), notices));
    }
    // Who has an address keeps it from being removed meanwhile.
    let leased = ipam::lease(store, &network, id, wish)?;
    sys::stop_point("lease-taken");
    let network_id = network.id.clone();
    match ensure(store, links, network) {
        Ok((network, notices)) => Ok((endpoint(id, attachment, &network, &leased, taken), notices)),
        Err(e) => {
            let freed = ipam::release(store, &network_id, id, leased.into_iter());
            Err(freed.err().map_or(e.clone(), |second| e.and(&second)))
        }
    }
}

/// The network's links and rules exist.
fn ensure(store: &Store, links: &mut Links, network: Network) -> Result<(Network, Vec<String>)> {
    let bridge::Ready { network, mut notices } = bridge::ensure(store, links, network)?;
    notices.extend(rules::ensure_network(store, &network)?);
    Ok((network, notices))
}

/// By name or id; the default network is made on first use.
fn find(store: &Store, name: &str) -> Result<Network> {
    match name {
        DEFAULT => default_network(store),
        other => store.network(other),
    }
}

/// What can be known to be wrong before a container exists: networks that don't, or the same one twice, addresses
/// outside of them. Gives the same with the networks' names, whatever they were called by.
pub(crate) fn check(store: &Store, attachments: &[Attachment]) -> Result<Vec<Attachment>> {
    let mut checked: Vec<Attachment> = Vec::with_capacity(attachments.len());
    for attachment in attachments {
        let mut named = attachment.clone();
        let wishes = [attachment.ip.map(IpAddr::V4), attachment.ip6.map(IpAddr::V6)];
        if attachment.network != DEFAULT || wishes != [None, None] {
            let network = find(store, &attachment.network)?;
            for wish in wishes.into_iter().flatten() {
                ipam::check_wish(&network, wish)?;
            }
            named.network = network.name;
        }
        if checked.iter().any(|c| c.network == named.network) {
            return Err(Error::usage(format!(
                "network {} is specified multiple times",
                named.network
            )));
        }
        checked.push(named);
    }
    Ok(checked)
}

fn endpoint(
    id: &ContainerId,
    wanted: &Attachment,
    network: &Network,
    leased: &[IpAddr],
    taken: &[Endpoint],
) -> Endpoint {
    let v4 = leased.iter().find_map(|a| match a {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    });
    let v6 = leased.iter().find_map(|a| match a {
        IpAddr::V6(v6) => Some(*v6),
        IpAddr::V4(_) => None,
    });
    let length = |subnet: Option<&crate::model::network::Subnet>| subnet.map_or(0, |s| s.subnet.length());
    let gateway = |subnet: Option<&crate::model::network::Subnet>| subnet.and_then(|s| s.gateway);
    let bridged = network.driver == crate::model::network::Driver::Bridge;
    let free = |name: &String| !taken.iter().any(|e| e.interface == *name);
    Endpoint {
        network: network.name.clone(),
        network_id: network.id.clone(),
        driver: network.driver,
        interface: wanted
            .interface
            .clone()
            .or_else(|| (0..).map(|n: u32| format!("eth{n}")).find(free))
            .unwrap_or_default(),
        link: if bridged { link_name(id, taken) } else { String::new() },
        bridge: network.link.clone(),
        address: v4,
        prefix: length(network.subnet4()),
        gateway: gateway(network.subnet4()).and_then(|g| match g {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        }),
        address6: v6,
        prefix6: length(network.subnet6()),
        gateway6: gateway(network.subnet6()).and_then(|g| match g {
            IpAddr::V6(v6) => Some(v6),
            IpAddr::V4(_) => None,
        }),
        mac: wanted
            .mac
            .or_else(|| leased.first().map(|a| Mac::of(*a)))
            .unwrap_or(Mac([2, 0, 0, 0, 0, 1])),
        aliases: wanted.aliases.clone(),
        internal: network.internal,
        dns: network.dns,
    }
}

/// `veth`, eight digits of the container's id, and three of a number, so that the links of its last start may still be
/// about to go.
fn link_name(id: &ContainerId, taken: &[Endpoint]) -> String {
    let short = id.as_str().get(..8).unwrap_or_default();
    let socket = veth::any_socket();
    let exists = |name: &str| {
        let index = socket.as_ref().map(|s| rustix::net::netdevice::name_to_index(s, name));
        matches!(index, Ok(Ok(_)))
    };
    let names = (0..0x1000).map(|n: u32| format!("veth{short}{n:x}"));
    let mut free = names.filter(|n| !taken.iter().any(|e| e.link == *n) && !exists(n));
    free.next().unwrap_or_default()
}

/// What a start gets.
pub(crate) struct Connected {
    /// Nobody is in it yet: it lasts as long as somebody holds this, or has joined it.
    pub(crate) netns: OwnedFd,
}

/// Makes the container's network namespace with everything in it; `users` is its user namespace, if it has its own.
pub(crate) fn connect(store: &Store, endpoints: &[Endpoint], users: Option<BorrowedFd<'_>>) -> Result<Connected> {
    let mut here = Links::open()?;
    let places = places(store, &mut here, endpoints, &[])?;
    let netns = veth::make(&mut here, &places, users)?;
    Ok(Connected { netns })
}

/// Adds places to a running container's namespace.
pub(crate) fn extend(store: &Store, netns: BorrowedFd<'_>, new: &[Endpoint], existing: &[Endpoint]) -> Result<()> {
    let mut here = Links::open()?;
    let places = places(store, &mut here, new, existing)?;
    veth::extend(&mut here, netns, &places)
}

fn places(
    store: &Store,
    here: &mut Links,
    endpoints: &[Endpoint],
    existing: &[Endpoint],
) -> Result<Vec<(Endpoint, veth::Ready)>> {
    let leads_out = |e: &Endpoint| !e.internal && (e.gateway.is_some() || e.gateway6.is_some());
    let mut has_way = existing.iter().any(leads_out);
    let mut places = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        let network = store.network(&endpoint.network_id)?;
        let link = here.find(&endpoint.bridge)?;
        let link = link.ok_or_else(|| {
            Error::other(format!(
                "network {}: link {} has gone",
                endpoint.network, endpoint.bridge
            ))
        })?;
        let way_out = !has_way && leads_out(endpoint);
        has_way |= way_out;
        places.push((endpoint.clone(), veth::Ready { network, link, way_out }));
    }
    Ok(places)
}

/// How sure it is that the container's namespace goes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Namespace {
    /// Its last process has ended, and nobody else is in it.
    Going,
    /// It may live on: links are deleted by name.
    Unknown,
}

/// Gives back everything the container has, by name; what is gone already is no error.
pub(crate) fn release(
    store: &Store,
    id: &ContainerId,
    endpoints: &[Endpoint],
    ports: &[PublishedPort],
    namespace: Namespace,
) -> Result<()> {
    // Before the address can be another's.
    let mut result = rules::remove_container(store, id.as_str(), endpoints, ports);
    let shared = store.run_dir(id).join(SHARED).exists();
    if (namespace == Namespace::Unknown || shared) && endpoints.iter().any(|e| !e.link.is_empty()) {
        result = result.and(Links::open().and_then(|mut here| veth::delete(&mut here, endpoints)));
    }
    let freed = match namespace {
        Namespace::Going => free_leases(store, id, endpoints),
        // Also what was leased without being recorded.
        Namespace::Unknown => ipam::release_all(store, id),
    };
    links::unregister(store, id);
    let unnamed = match namespace {
        Namespace::Going if !endpoints.iter().any(|e| e.dns) => Ok(()),
        _ => dns::withdraw(store, id, None),
    };
    result.and(freed).and(unnamed)
}

/// The default route of a running container that has lost a network: by the first of those that are left, unless it has
/// one.
pub(crate) fn restore_way_out(netns: BorrowedFd<'_>, left: &[Endpoint]) -> Result<()> {
    let Some(way) = left
        .iter()
        .find(|e| !e.internal && (e.gateway.is_some() || e.gateway6.is_some()))
    else {
        return Ok(());
    };
    inside(netns, || {
        let mut there = Links::open()?;
        let routes = there.routes()?;
        let Some(link) = there.find(&way.interface)? else {
            return Ok(());
        };
        let has = |ipv4: bool| {
            let mut defaults = routes.iter().filter(|r| r.to.length() == 0 && r.to.is_ipv4() == ipv4);
            defaults.any(|r| r.link.is_some_and(|l| l != 1))
        };
        let gateways = [way.gateway.map(IpAddr::V4), way.gateway6.map(IpAddr::V6)];
        let missing = gateways.into_iter().flatten().filter(|g| !has(g.is_ipv4()));
        there.apply(missing.map(|g| link::add_default_route(link.index, g)).collect())
    })
}

/// Takes a running container off some of its networks.
pub(crate) fn disconnect(store: &Store, id: &ContainerId, endpoints: &[Endpoint], netns: BorrowedFd<'_>) -> Result<()> {
    for endpoint in endpoints {
        dns::withdraw(store, id, Some(&endpoint.network_id))?;
    }
    let mut here = Links::open()?;
    veth::delete(&mut here, endpoints)?;
    let inside_only: Vec<_> = endpoints.iter().filter(|e| e.link.is_empty()).collect();
    if !inside_only.is_empty() {
        inside(netns, || {
            let requests = inside_only.iter().map(|e| link::delete_link(&e.interface)).collect();
            Links::open()?.apply(requests)
        })?;
    }
    free_leases(store, id, endpoints)
}

/// Gives back the addresses alone.
pub(crate) fn free_leases(store: &Store, id: &ContainerId, endpoints: &[Endpoint]) -> Result<()> {
    for endpoint in endpoints {
        ipam::release(store, &endpoint.network_id, id, endpoint.addresses())?;
    }
    Ok(())
}
