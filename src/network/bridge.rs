//! The bridge of a network: made when it is first needed, up only when it has everything.

use crate::error::{Context as _, Error, Result};
use crate::model::network::{Driver, Mac, Network, Prefix, Subnet};
use crate::network::link::{self, Link, Links};
use crate::network::{plan, sysctl};
use crate::store::{NetworksLock, Store};
use crate::sys;
use netlink_packet_route::link::InfoKind;
use std::net::IpAddr;

/// The option of docker's that gives a network's MTU, and the short form.
const MTU_OPTIONS: [&str; 2] = ["com.docker.network.driver.mtu", "mtu"];

/// A network whose links exist.
pub(super) struct Ready {
    /// Its subnet may have changed: chosen anew where another network has taken its place.
    pub(super) network: Network,
    /// What a person should know: things of the host's that were changed.
    pub(super) notices: Vec<String>,
}

/// Makes what is missing. On a host where all is there, this asks the kernel one question.
pub(super) fn ensure(store: &Store, links: &mut Links, network: Network) -> Result<Ready> {
    if network.driver != Driver::Bridge {
        return parent(store, links, network);
    }
    if network.foreign_link {
        return foreign(store, links, network);
    }
    let found = links.find(&network.link)?;
    let network = match found {
        Some(link) if link.up && link.bridge => network,
        _ => {
            let held = store.lock_networks()?;
            make(store, links, network, &held)?
        }
    };
    let notices = forwarding(links, &network)?;
    Ok(Ready { network, notices })
}

fn make(store: &Store, links: &mut Links, network: Network, held: &NetworksLock) -> Result<Network> {
    let name = network.link.clone();
    let _one_engine = store.lock_subnets()?;
    let found = links.find(&name)?;
    match &found {
        Some(link) if !link.bridge => return Err(no_bridge(&network)),
        Some(link) if link.up => return Ok(network),
        _ => {}
    }
    let network = with_free_subnet(store, links, network, held)?;
    let link = match found {
        Some(link) => link,
        None => {
            links.apply(vec![link::add_link(&name, InfoKind::Bridge)])?;
            sys::stop_point("bridge-made");
            let made = links.find(&name)?;
            made.ok_or_else(|| Error::other(format!("link {name} has gone at once")))?
        }
    };
    let mtu = mtu(&network)?.map_or_else(|| uplink_mtu(links), Ok)?;
    sysctl::set_ipv6(&name, "accept_ra", "0");
    let six = network.subnet6().is_some();
    sysctl::set_ipv6(&name, "disable_ipv6", if six { "0" } else { "1" });
    let mut requests = Vec::new();
    if let Some(gateway) = network.subnets.first().and_then(|s| s.gateway) {
        // Else it has the lowest of its ports', and changes whenever a container comes or goes.
        requests.push(link::set_mac(link.index, &name, Mac::of(gateway)));
    }
    // Set by hand, it no longer follows the ports'.
    requests.push(link::set_mtu(link.index, &name, mtu));
    for subnet in &network.subnets {
        if let Some(gateway) = subnet.gateway {
            requests.push(link::add_address(link.index, &name, gateway, subnet.subnet.length()));
        }
    }
    requests.push(link::set_up(link.index, &name));
    links
        .apply(requests)
        .with_context(|| format!("set up network {}", network.name))?;
    sys::stop_point("bridge-up");
    Ok(network)
}

fn no_bridge(network: &Network) -> Error {
    Error::conflict(format!(
        "network {}: link {} exists and is no bridge",
        network.name, network.link
    ))
}

/// A default subnet that nobody asked for, and that the host has come to use otherwise since, is given up for a free
/// one: no container is on a network whose bridge does not exist. On other networks containers may have addresses that
/// were asked for, and so theirs stay.
fn with_free_subnet(store: &Store, links: &mut Links, mut network: Network, held: &NetworksLock) -> Result<Network> {
    let automatic = network.is_default() && !network.options.contains_key(super::SUBNET_GIVEN);
    let Some(own) = network.subnet4().map(|s| s.subnet).filter(|_| automatic) else {
        let own = links.find(&network.link)?.map(|l| l.index);
        refuse_routed(links, own, &network.subnets).with_context(|| format!("network {}", network.name))?;
        return Ok(network);
    };
    let taken = taken(store, links, &network)?;
    if !taken.iter().any(|t| t.length() > 3 && t.overlaps(&own)) {
        return Ok(network);
    }
    let free = plan::free_subnet(&taken)?;
    network.subnets.retain(|s| !s.subnet.is_ipv4());
    network.subnets.insert(0, free);
    store.save_network(&network, held)?;
    Ok(network)
}

/// Docker's words: a subnet that the host has a route to by another link would not work.
pub(super) fn refuse_routed(links: &mut Links, own: Option<u32>, subnets: &[Subnet]) -> Result<()> {
    let routes = links.routes()?;
    for ours in subnets.iter().map(|s| s.subnet) {
        let clash = |r: &&link::Route| r.to.length() >= ours.length() && r.to.overlaps(&ours);
        let others = routes.iter().filter(|r| own.is_none() || r.link != own);
        if let Some(route) = others.into_iter().find(clash) {
            return Err(Error::conflict(format!(
                "Pool overlaps with other one on this address space: {ours} with the host's route to {}",
                route.to
            )));
        }
    }
    Ok(())
}

/// What other links and other networks use.
pub(super) fn taken(store: &Store, links: &mut Links, network: &Network) -> Result<Vec<Prefix>> {
    let own = links.find(&network.link)?.map(|l| l.index);
    let routes = links.routes()?.into_iter();
    let mut taken: Vec<_> = routes
        .filter(|r| r.link.is_none() || r.link != own)
        .map(|r| r.to)
        .collect();
    let others = store.networks()?.into_iter().filter(|n| n.id != network.id);
    taken.extend(others.flat_map(|n| n.subnets).map(|s| s.subnet));
    Ok(taken)
}

/// As its options say.
pub(super) fn mtu(network: &Network) -> Result<Option<u32>> {
    let Some(text) = MTU_OPTIONS.iter().find_map(|key| network.options.get(*key)) else {
        return Ok(None);
    };
    match text.parse() {
        Ok(mtu @ 68..=65_535) => Ok(Some(mtu)),
        _ => Err(Error::usage(format!("invalid MTU: {}", text.escape_debug()))),
    }
}

/// Of the link by which the host gets out; a larger packet would be lost there.
fn uplink_mtu(links: &mut Links) -> Result<u32> {
    let routes = links.routes()?;
    let uplink = routes
        .iter()
        .find(|r| r.to.length() == 0 && r.to.is_ipv4() && r.link.is_some());
    let uplink = uplink.and_then(|r| r.link);
    let all = links.all()?;
    Ok(all.iter().find(|l| Some(l.index) == uplink).map_or(1500, |l| l.mtu))
}

/// A bridge of the administrator's is used as it is: its addresses are the gateways.
fn foreign(store: &Store, links: &mut Links, mut network: Network) -> Result<Ready> {
    let link = existing_bridge(links, &network.link)?;
    let (subnets, notices) = subnets_of(links, &link)?;
    if network
        .subnets
        .iter()
        .map(|s| s.subnet)
        .ne(subnets.iter().map(|s| s.subnet))
    {
        network.subnets = subnets;
        store.save_network(&network, &store.lock_networks()?)?;
    }
    Ok(Ready { network, notices })
}

pub(super) fn existing_bridge(links: &mut Links, name: &str) -> Result<Link> {
    match links.find(name)? {
        Some(link) if link.bridge => Ok(link),
        Some(_) => Err(Error::usage(format!("{name} is no bridge"))),
        None => Err(
            Error::not_found(format!("bridge {} does not exist", name.escape_debug())).with_hint(format!(
                "make it first: ip link add {} type bridge",
                name.escape_debug()
            )),
        ),
    }
}

/// The subnets of an existing bridge, from its first address of each family (F151).
pub(super) fn subnets_of(links: &mut Links, link: &Link) -> Result<(Vec<Subnet>, Vec<String>)> {
    let addresses = links.addresses(link.index)?;
    let usable = |a: &IpAddr| match a {
        IpAddr::V4(_) => true,
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    };
    let (mut subnets, mut notices) = (Vec::new(), Vec::new());
    for ipv4 in [true, false] {
        let own: Vec<_> = addresses
            .iter()
            .filter(|(a, _)| a.is_ipv4() == ipv4 && usable(a))
            .collect();
        let Some((gateway, length)) = own.first() else { continue };
        subnets.push(Subnet {
            subnet: Prefix::new(*gateway, *length),
            gateway: Some(*gateway),
            range: None,
            aux: Default::default(),
        });
        if own.len() > 1 {
            let family = if ipv4 { "IPv4" } else { "IPv6" };
            notices.push(format!(
                "bridge {} has several {family} addresses: using {gateway}",
                link.name
            ));
        }
    }
    if !subnets.iter().any(|s| s.subnet.is_ipv4()) {
        return Err(Error::other(format!("bridge {} has no IPv4 address", link.name))
            .with_hint(format!("give it one: ip address add 10.99.0.1/24 dev {}", link.name)));
    }
    Ok((subnets, notices))
}

/// What macvlan and ipvlan links hang on: a link of the host's, or a dummy of their own.
fn parent(store: &Store, links: &mut Links, network: Network) -> Result<Ready> {
    let notices = Vec::new();
    let found = links.find(&network.link)?;
    if let Some(link) = found {
        if link.up || network.foreign_link {
            return Ok(Ready { network, notices });
        }
    } else if network.foreign_link {
        return Err(Error::not_found(format!(
            "network {}: parent {} does not exist",
            network.name, network.link
        )));
    }
    let _held = store.lock_networks()?;
    if links.find(&network.link)?.is_none() {
        links.apply(vec![link::add_link(&network.link, InfoKind::Dummy)])?;
    }
    let made = links.find(&network.link)?;
    let link = made.ok_or_else(|| Error::other(format!("link {} has gone at once", network.link)))?;
    links.apply(vec![link::set_up(link.index, &network.link)])?;
    Ok(Ready { network, notices })
}

/// Containers get out only if the host forwards (F175).
fn forwarding(links: &mut Links, network: &Network) -> Result<Vec<String>> {
    let mut notices = Vec::new();
    if network.internal {
        return Ok(notices);
    }
    for (present, family, path) in [
        (network.subnet4().is_some(), "IPv4", sysctl::FORWARD4),
        (network.subnet6().is_some(), "IPv6", sysctl::FORWARD6),
    ] {
        if !present || sysctl::get(path).is_none_or(|v| v == "1") {
            continue;
        }
        let mut kept = Vec::new();
        if family == "IPv6" {
            kept = keep_learned_routes(links)?;
        }
        if let Err(e) = sysctl::set(path, "1") {
            notices.push(format!(
                "{family} forwarding is off, and can't be switched on: {e}. Networking will not work."
            ));
            continue;
        }
        let besides = if kept.is_empty() {
            String::new()
        } else {
            format!(
                ", with accept_ra=2 on {} to keep what it learns from routers",
                kept.join(", ")
            )
        };
        notices.push(format!(
            "{family} forwarding was off on this host: switched on for containers{besides}"
        ));
    }
    Ok(notices)
}

/// A host that forwards IPv6 no longer listens to router advertisements, and forgets its default route, unless told so
/// (ip-sysctl.rst, accept_ra).
fn keep_learned_routes(links: &mut Links) -> Result<Vec<String>> {
    let routes = links.routes()?;
    let ways: Vec<_> = routes
        .iter()
        .filter(|r| r.to.length() == 0 && !r.to.is_ipv4())
        .filter_map(|r| r.link)
        .collect();
    let mut kept = Vec::new();
    for link in links.all()? {
        let path = format!("/proc/sys/net/ipv6/conf/{}/accept_ra", link.name);
        if ways.contains(&link.index) && sysctl::get(&path).is_some_and(|v| v == "1") {
            sysctl::set(&path, "2").with_context(|| format!("keep the routes learned on {}", link.name))?;
            kept.push(link.name);
        }
    }
    Ok(kept)
}
