//! Networks as a person makes and removes them: records on disk, and the bridge of each.

use crate::error::{Error, Result};
use crate::model::event::{Event, EventKind};
use crate::model::network::{DEFAULT, Driver, Network, Subnet};
use crate::model::time::Timestamp;
use crate::network::link::{self, Links};
use crate::network::{bridge, plan, veth};
use crate::store::{NetworksLock, Proof, Store};
use std::collections::BTreeMap;

/// Option of docker's: the bridge's name.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
/// Names that mean something else as a `--network`.
const TAKEN_NAMES: [&str; 5] = ["none", "host", "default", "container", "ns"];

/// What `network create` was asked.
#[derive(Debug, Clone)]
pub(crate) struct NewNetwork {
    pub(crate) name: String,
    pub(crate) driver: Driver,
    pub(crate) subnets: Vec<Subnet>,
    pub(crate) internal: bool,
    pub(crate) ipv6: bool,
    pub(crate) dns: bool,
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// The network of containers that ask for none, made on first use.
pub(crate) fn default_network(store: &Store) -> Result<Network> {
    if let Ok(network) = store.network(DEFAULT) {
        return Ok(network);
    }
    let held = store.lock_networks()?;
    if let Some(network) = by_name(store, DEFAULT)? {
        return Ok(network);
    }
    let link = default_link(store);
    let new = NewNetwork {
        name: DEFAULT.to_owned(),
        driver: Driver::Bridge,
        subnets: Vec::new(),
        internal: false,
        ipv6: false,
        // Docker's default network never had names; `--link` is for that.
        dns: false,
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
    };
    record(store, new, link, false, &held)
}

fn default_link(store: &Store) -> String {
    match store.instance() {
        None => "barge0".to_owned(),
        Some(instance) => format!("barge0-{instance}"),
    }
}

/// A bridge of the administrator's as a network (`-b`), recorded under its own name on first use.
pub(crate) fn existing_bridge_network(store: &Store, bridge: &str) -> Result<Network> {
    if let Some(network) = by_name(store, bridge)? {
        return match network.link == bridge {
            true => Ok(network),
            false => Err(Error::conflict(format!(
                "network {bridge} exists, and is not bridge {bridge}"
            ))),
        };
    }
    if !is_plain(bridge) {
        return Err(Error::usage(format!("invalid bridge name '{}'", bridge.escape_debug())));
    }
    let mut links = Links::open()?;
    let link = bridge::existing_bridge(&mut links, bridge)?;
    let (subnets, _) = bridge::subnets_of(&mut links, &link)?;
    let held = store.lock_networks()?;
    if let Some(network) = by_name(store, bridge)? {
        return Ok(network);
    }
    let new = NewNetwork {
        name: bridge.to_owned(),
        driver: Driver::Bridge,
        subnets,
        internal: false,
        ipv6: false,
        dns: false,
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
    };
    record(store, new, bridge.to_owned(), true, &held)
}

fn by_name(store: &Store, name: &str) -> Result<Option<Network>> {
    Ok(store.networks()?.into_iter().find(|n| n.name == name))
}

/// Makes the record, and checks what can be known to be wrong. Its bridge comes with its first container.
pub(crate) fn create(store: &Store, new: NewNetwork) -> Result<Network> {
    check_name(&new.name)?;
    let mut links = Links::open()?;
    let held = store.lock_networks()?;
    if new.name == DEFAULT || by_name(store, &new.name)?.is_some() {
        return Err(Error::conflict(format!(
            "network with name {} already exists",
            new.name
        )));
    }
    let (link, foreign) = host_link(&mut links, &new)?;
    if !foreign {
        refuse_overlaps(store, &mut links, &new)?;
    }
    record(store, new, link, foreign, &held)
}

/// The link on the host, and whether it is somebody else's. Empty: named after the network's id.
fn host_link(links: &mut Links, new: &NewNetwork) -> Result<(String, bool)> {
    if new.driver == Driver::Bridge {
        let Some(name) = new.options.get(BRIDGE_NAME) else {
            return Ok((String::new(), false));
        };
        if !is_plain(name) {
            return Err(Error::usage(format!("invalid bridge name '{}'", name.escape_debug())));
        }
        let there = links.find(name)?;
        return match there {
            Some(found) if !found.bridge => Err(Error::usage(format!("{name} is no bridge"))),
            Some(_) if new.subnets.is_empty() => Ok((name.clone(), true)),
            Some(_) => Err(Error::conflict(format!("link {name} exists already"))
                .with_hint("without --subnet the network takes the bridge as it is")),
            None => Ok((name.clone(), false)),
        };
    }
    let Some(parent) = new.options.get("parent").filter(|p| !p.is_empty()) else {
        return Ok((String::new(), false));
    };
    if !link::is_valid_name(parent) {
        return Err(Error::usage(format!("invalid parent '{}'", parent.escape_debug())));
    }
    match links.find(parent)? {
        Some(_) => Ok((parent.clone(), true)),
        None => Err(Error::not_found(format!(
            "invalid subinterface: parent {parent} does not exist"
        ))),
    }
}

/// A link's name that means nothing else to iptables, where `+` is a pattern and `-j` a flag.
fn is_plain(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let all_links = matches!(name, "all" | "default"); // in /proc/sys/net
    link::is_valid_name(name) && name.bytes().all(good) && !name.starts_with(['-', '.']) && !all_links
}

fn check_name(name: &str) -> Result<()> {
    let valid = crate::store::is_valid_name(name);
    if !valid {
        return Err(Error::usage(format!(
            "invalid network name \"{}\": only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
            name.escape_debug()
        )));
    }
    match TAKEN_NAMES.contains(&name) {
        true => Err(Error::usage(format!(
            "network name {name} is taken: it means something else"
        ))),
        false => Ok(()),
    }
}

/// Docker's words: a subnet of ours that another network or the host has already would not work.
fn refuse_overlaps(store: &Store, links: &mut Links, new: &NewNetwork) -> Result<()> {
    if new.driver != Driver::Bridge {
        // Their subnet is that of the parent.
        return Ok(());
    }
    for network in store.networks()? {
        for (theirs, ours) in network
            .subnets
            .iter()
            .flat_map(|t| new.subnets.iter().map(move |o| (t, o)))
        {
            if theirs.subnet.overlaps(&ours.subnet) {
                return Err(Error::conflict(format!(
                    "Pool overlaps with other one on this address space: {} with {} of network {}",
                    ours.subnet, theirs.subnet, network.name
                )));
            }
        }
    }
    bridge::refuse_routed(links, None, &new.subnets)
}

fn record(store: &Store, new: NewNetwork, link: String, foreign: bool, held: &NetworksLock) -> Result<Network> {
    let id = Store::random_id()?;
    let link = match (link.is_empty(), new.driver) {
        (false, _) => link,
        (true, Driver::Bridge) => format!("br-{}", id.short()),
        (true, _) => format!("dm-{}", id.short()),
    };
    let mut network = Network {
        id: id.as_str().to_owned(),
        name: new.name,
        created: Timestamp::now(),
        driver: new.driver,
        subnets: new.subnets,
        link,
        foreign_link: foreign,
        internal: new.internal,
        ipv6: new.ipv6,
        dns: new.dns,
        options: new.options,
        labels: new.labels,
    };
    bridge::mtu(&network)?;
    veth::macvlan_mode(&network)
        .and(veth::ipvlan_mode(&network).map(|_| ()))
        .or_else(|e| match network.driver {
            Driver::Bridge => Ok(()),
            _ => Err(e),
        })?;
    let mut links = Links::open()?;
    if foreign && network.driver == Driver::Bridge && network.subnets.is_empty() {
        let found = bridge::existing_bridge(&mut links, &network.link)?;
        network.subnets = bridge::subnets_of(&mut links, &found)?.0;
    }
    if network.subnet4().is_none() {
        let taken = bridge::taken(store, &mut links, &network)?;
        network.subnets.insert(0, plan::free_subnet(&taken)?);
    }
    if network.ipv6 && network.subnet6().is_none() {
        let random = Store::random_id()?;
        let mut bytes = [0; 7];
        for (to, from) in bytes.iter_mut().zip(random.as_str().as_bytes().chunks_exact(2)) {
            let text = std::str::from_utf8(from).unwrap_or_default();
            *to = u8::from_str_radix(text, 16).unwrap_or(0);
        }
        network.subnets.push(plan::private_subnet6(bytes));
    }
    network.ipv6 = network.subnet6().is_some();
    let told = Proof::Present(store.network_record(&network.id)).of(of(&network, "create"));
    store.telling(&object(&network), vec![told], || {
        store.save_network(&network, held).map(Some)
    })?;
    crate::sys::stop_point("network-recorded");
    Ok(network)
}

/// Removes a network that nobody is on.
pub(crate) fn remove(store: &Store, network: &Network) -> Result<()> {
    if network.is_default() {
        return Err(Error::usage(format!(
            "{} is a pre-defined network and cannot be removed",
            network.name
        )));
    }
    take_down(store, network)
}

/// Removes every network, the default one too, and all rules. Nobody may be on them.
pub(crate) fn remove_all(store: &Store) -> Result<()> {
    for network in store.networks()? {
        take_down(store, &network)?;
    }
    // It has no record any more if somebody has deleted the root by hand.
    delete_link(&default_link(store))?;
    super::rules::clear(store, super::rules::backend(store))
}

fn take_down(store: &Store, network: &Network) -> Result<()> {
    let held = store.lock_networks()?;
    let network = store.network(&network.id)?;
    // Until the record is gone nobody gets an address; afterwards nobody does either (`ipam::lease`).
    let leases = store.lock_leases(&network.id)?;
    let in_use: Vec<_> = super::leases(store, &network.id)
        .into_iter()
        .map(|(_, id)| id)
        .filter(|id| store.run_dir(id).exists())
        .collect();
    if let Some(by) = in_use.first() {
        let name = store.config(by).map_or_else(|_| by.short().to_owned(), |c| c.name);
        return Err(Error::conflict(format!(
            "error while removing network: network {} id {} has active endpoints (name:\"{name}\" id:\"{}\")",
            network.name,
            network.id,
            by.short()
        )));
    }
    super::dns::forget(store, &network.id);
    if !network.foreign_link {
        delete_link(&network.link)?;
    }
    crate::sys::stop_point("network-link-removed");
    super::rules::remove_network(store, &network)?;
    let told = Proof::Absent(store.network_record(&network.id)).of(of(&network, "destroy"));
    store.telling(&object(&network), vec![told], || {
        store.drop_network(&network, &held, leases).map(Some)
    })?;
    Ok(())
}

fn delete_link(name: &str) -> Result<()> {
    let mut links = Links::open()?;
    match links.find(name)? {
        Some(_) => links.apply(vec![link::delete_link(name)]),
        None => Ok(()),
    }
}

fn object(network: &Network) -> String {
    format!("network {}", network.id)
}

fn of(network: &Network, action: &str) -> Event {
    Event::new(EventKind::Network, action, &network.id)
        .with("name", &network.name)
        .with("type", network.driver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bridges_names() {
        for good in ["br0", "barge0-a.b_c"] {
            assert!(is_plain(good), "{good}");
        }
        for bad in [
            "",
            "br+",
            "-j",
            "a\"b",
            "a!b",
            "a b",
            ".",
            "..",
            "all",
            "0123456789abcdef",
        ] {
            assert!(!is_plain(bad), "{bad}");
        }
    }
}
