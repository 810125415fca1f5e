//! The firewall's part of networks and published ports: what is to hold (`ruleset.rs`), put into the kernel by nf_tables
//! (`nft.rs`), or by the iptables programs where that is missing (`iptables.rs`). All of it can be repeated, and undone
//! by what the records on disk say.

use crate::error::{Context as _, Error, Result};
use crate::model::network::{Driver, Endpoint, Network};
use crate::model::port::{Protocol, PublishedPort};
use crate::network::ruleset::{Element, network_elements, port_elements};
use crate::network::{conntrack, foreign, iptables, link, nft};
use crate::store::{Durability, Store, file};
use crate::sys::nfnetlink::{Channel, Message, Refusal};
use nix::errno::Errno;
use std::path::PathBuf;

/// What the rules are written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Nftables,
    Iptables,
    /// No rules: the userland proxy serves what it can.
    None,
}

impl Backend {
    pub(crate) const NAMES: [(&str, Backend); 3] = [
        ("nftables", Backend::Nftables),
        ("iptables", Backend::Iptables),
        ("none", Backend::None),
    ];

    pub(crate) fn parse(name: &str) -> Option<Backend> {
        Self::NAMES.iter().find(|(n, _)| *n == name).map(|(_, b)| *b)
    }
}

/// The name of the engine's table.
pub(crate) fn table(store: &Store) -> String {
    match store.instance() {
        Some(instance) => format!("barge-{instance}"),
        None => "barge".to_owned(),
    }
}

/// A person's choice (`network reload --firewall`), which stays.
fn chosen_file(store: &Store) -> PathBuf {
    store.root().join("firewall")
}

/// What was found out since boot.
fn found_file(store: &Store) -> PathBuf {
    store.run_root().join("firewall")
}

/// Which one is in use. nf_tables, until it has turned out that the kernel has none.
pub(crate) fn backend(store: &Store) -> Backend {
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(path).ok()?;
        Backend::parse(text.trim())
    };
    read(chosen_file(store))
        .or_else(|| read(found_file(store)))
        .unwrap_or(Backend::Nftables)
}

/// Keeps to one from now on, also after a reboot.
pub(crate) fn choose(store: &Store, name: &str) -> Result<()> {
    Backend::parse(name).ok_or_else(|| {
        Error::usage(format!("unknown firewall '{}'", name.escape_debug())).with_hint("nftables, iptables or none")
    })?;
    let before = backend(store);
    file::replace(store.root(), "firewall", name.as_bytes(), Durability::Synced)?;
    match before {
        _ if before == backend(store) => Ok(()),
        _ => clear(store, before),
    }
}

/// Takes all away that was written with it.
pub(crate) fn clear(store: &Store, backend: Backend) -> Result<()> {
    match backend {
        Backend::Nftables => match open()?.transact(vec![nft::remove_table(&table(store))]) {
            Err(r) if !is_missing(r.errno) => Err(error(&r)),
            _ => Ok(()),
        },
        Backend::Iptables => {
            iptables::clear(store);
            Ok(())
        }
        Backend::None => Ok(()),
    }
}

/// The kernel has no nf_tables: takes the next best, and remembers it.
fn next_best(store: &Store) -> Result<Backend> {
    let (name, found) = match iptables::works() {
        true => ("iptables", Backend::Iptables),
        false => ("none", Backend::None),
    };
    file::replace(store.run_root(), "firewall", name.as_bytes(), Durability::Volatile)?;
    Ok(found)
}

fn error(refusal: &Refusal) -> Error {
    let e = Error::from(refusal.errno);
    Err::<(), _>(e)
        .with_context(|| format!("set {}", refusal.object))
        .map_or_else(|e| e, |()| Error::other("netlink"))
}

fn open() -> Result<Channel> {
    Channel::open().context("open netlink of the firewall")
}

/// The kernel lacks nf_tables, or one of the parts that the rules are made of.
fn is_missing(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT | Errno::ENOENT
    )
}

/// Puts elements into their sets; makes the table, and puts back everything else, if somebody has taken it away.
fn add_elements(store: &Store, elements: &[Element]) -> Result<Vec<String>> {
    match backend(store) {
        Backend::Nftables => {}
        Backend::Iptables => return iptables::add(store, elements).map(|()| Vec::new()),
        Backend::None => return Ok(Vec::new()),
    }
    let table = table(store);
    let Ok(mut channel) = Channel::open() else {
        next_best(store)?;
        return reload(store, elements);
    };
    let messages = || elements.iter().map(|e| nft::add(&table, e)).collect::<Vec<_>>();
    match channel.transact(messages()) {
        Ok(()) => Ok(Vec::new()),
        Err(r) if is_missing(r.errno) => reload(store, elements),
        // The port is ours: its socket says so. What is in its place was left by somebody who was killed.
        Err(r) if matches!(r.errno, Errno::EEXIST | Errno::EBUSY) => {
            for element in elements {
                let _ = channel.transact(vec![nft::remove(&table, element)]);
            }
            channel.transact(messages()).map_err(|r| error(&r))?;
            Ok(Vec::new())
        }
        Err(r) => Err(error(&r)),
    }
}

/// Takes elements out. Those that are not there are no error.
fn remove_elements(store: &Store, elements: &[Element]) -> Result<()> {
    match backend(store) {
        Backend::Nftables => {}
        Backend::Iptables => return iptables::remove(store, elements),
        Backend::None => return Ok(()),
    }
    let table = table(store);
    let mut channel = open()?;
    let all: Vec<Message> = elements.iter().map(|e| nft::remove(&table, e)).collect();
    match channel.transact(all) {
        Ok(()) => return Ok(()),
        Err(r) if is_missing(r.errno) => {}
        Err(r) => return Err(error(&r)),
    }
    for element in elements {
        match channel.transact(vec![nft::remove(&table, element)]) {
            Err(r) if !is_missing(r.errno) => return Err(error(&r)),
            _ => {}
        }
    }
    Ok(())
}

/// Everything as the records say: the table with its rules, all networks that have a bridge, the ports of all
/// containers that run, and `more`. In one transaction; what is there stays.
fn reload(store: &Store, more: &[Element]) -> Result<Vec<String>> {
    let mut elements = recorded(store)?;
    for element in more {
        if !elements.iter().any(|e| e.set == element.set && e.key == element.key) {
            elements.push(element.clone());
        }
    }
    if backend(store) == Backend::Nftables {
        match rebuild(store, &elements) {
            Ok(()) => return Ok(Vec::new()),
            Err(r) if is_missing(r.errno) => {}
            Err(r) => return Err(error(&r)),
        }
        next_best(store)?;
    }
    match backend(store) {
        Backend::Iptables => iptables::rebuild(store, &elements).map(|()| Vec::new()),
        _ => Ok(vec![
            "this kernel has neither nf_tables nor iptables: published ports go through the userland proxy, and \
             containers reach no other host"
                .to_owned(),
        ]),
    }
}

fn rebuild(store: &Store, elements: &[Element]) -> Result<(), Refusal> {
    let table = table(store);
    let mut channel = Channel::open().map_err(|_| Refusal {
        errno: Errno::EPROTONOSUPPORT,
        object: "netlink of the firewall".to_owned(),
    })?;
    let base = nft::base(&table);
    let all = || elements.iter().map(|e| nft::add(&table, e));
    match channel.transact(base.iter().cloned().chain(all()).collect()) {
        Err(r) if matches!(r.errno, Errno::EEXIST | Errno::EBUSY) => {
            // Something in the sets is in the way: the table goes, and comes again, all at once.
            let fresh = std::iter::once(nft::remove_table(&table));
            channel.transact(fresh.chain(base).chain(all()).collect())
        }
        done => done,
    }
}

/// The elements of all networks and of the ports of all containers that run.
pub(crate) fn recorded(store: &Store) -> Result<Vec<Element>> {
    let mut all = Vec::new();
    for network in store.networks()? {
        let there = PathBuf::from("/sys/class/net").join(&network.link).exists();
        if there && !network.link.is_empty() {
            all.extend(network_elements(&network));
        }
    }
    for id in store.container_ids()? {
        if let Ok(Some(live)) = store.live(&id) {
            all.extend(port_elements(id.as_str(), &live.endpoints, &live.ports));
        }
    }
    Ok(all)
}

/// What a network needs of the firewall before its first container comes. Every start repeats it; that takes the
/// kernel some microseconds. The texts are for the person to read.
pub(crate) fn ensure_network(store: &Store, network: &Network) -> Result<Vec<String>> {
    let elements = network_elements(network);
    if elements.is_empty() {
        return Ok(Vec::new());
    }
    let mut warnings = add_elements(store, &elements).with_context(|| format!("network {}", network.name))?;
    if backend(store) == Backend::Nftables {
        warnings.extend(foreign::let_through(store, &network.link));
    }
    Ok(warnings)
}

/// Undoes [`ensure_network`].
pub(crate) fn remove_network(store: &Store, network: &Network) -> Result<()> {
    let elements = network_elements(network);
    if elements.is_empty() {
        return Ok(());
    }
    if backend(store) == Backend::Nftables {
        foreign::forget(&network.link);
    }
    remove_elements(store, &elements).with_context(|| format!("network {}", network.name))
}

/// Leads the published ports of a container to it.
pub(crate) fn add_container(
    store: &Store,
    id: &str,
    endpoints: &[Endpoint],
    ports: &[PublishedPort],
) -> Result<Vec<String>> {
    let elements = port_elements(id, endpoints, ports);
    if elements.is_empty() {
        return Ok(Vec::new());
    }
    // Answers to 127.0.0.1 come back over the bridge.
    for endpoint in endpoints.iter().filter(|e| !e.bridge.is_empty()) {
        route_localnet(&endpoint.bridge);
    }
    reach_itself(endpoints)?;
    let mut warnings = add_elements(store, &elements)?;
    forget_flows(ports);
    if ports.iter().any(|p| p.host_ip.is_unspecified()) {
        warnings.extend(foreign::published_past(store));
    }
    Ok(warnings)
}

/// Undoes [`add_container`]. A port that is another container's by now stays.
pub(crate) fn remove_container(store: &Store, id: &str, endpoints: &[Endpoint], ports: &[PublishedPort]) -> Result<()> {
    let mut elements = port_elements(id, endpoints, ports);
    if elements.is_empty() {
        return Ok(());
    }
    if backend(store) == Backend::Nftables {
        elements = still_own(&table(store), id, elements)?;
    }
    let removed = remove_elements(store, &elements);
    forget_flows(ports);
    removed
}

/// Those that bear the container's id in the kernel.
fn still_own(table: &str, id: &str, elements: Vec<Element>) -> Result<Vec<Element>> {
    let owners = match nft::owners(&mut open()?, table, &elements) {
        Ok(owners) => owners,
        Err(r) if is_missing(r.errno) => return Ok(Vec::new()),
        Err(r) => return Err(error(&r)),
    };
    let owned = elements.into_iter().zip(owners);
    Ok(owned
        .filter(|(_, by)| by.as_deref() == Some(id))
        .map(|(e, _)| e)
        .collect())
}

/// A UDP flow that goes on would keep to where it went before.
fn forget_flows(ports: &[PublishedPort]) {
    let mut numbers: Vec<u16> = Vec::new();
    for port in ports.iter().filter(|p| p.protocol == Protocol::Udp) {
        if !numbers.contains(&port.host_port) {
            numbers.push(port.host_port);
        }
    }
    conntrack::forget_udp(&numbers);
}

fn reach_itself(endpoints: &[Endpoint]) -> Result<()> {
    let bridged = endpoints
        .iter()
        .filter(|e| e.driver == Driver::Bridge && !e.link.is_empty());
    let requests: Vec<_> = bridged.map(|e| link::set_hairpin(&e.link)).collect();
    // A link that is not there any more needs nothing.
    match link::Links::open()?.try_apply(requests) {
        Err(refused) if refused.errno() != libc::ENODEV => Err(link::explain(refused)),
        _ => Ok(()),
    }
}

/// On our own bridge only. Without it 127.0.0.1 is served by the proxy.
fn route_localnet(bridge: &str) {
    let path = PathBuf::from("/proc/sys/net/ipv4/conf")
        .join(bridge)
        .join("route_localnet");
    if std::fs::read(&path).is_ok_and(|now| now.first() != Some(&b'1')) {
        let _ = rustix::fs::open(
            &path,
            rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .and_then(|fd| rustix::io::write(fd, b"1"));
    }
}

/// `network reload`: puts back what somebody flushed.
pub(crate) fn reload_all(store: &Store) -> Result<Vec<String>> {
    let mut warnings = reload(store, &[])?;
    if backend(store) == Backend::Nftables {
        for network in store.networks()? {
            if network_elements(&network).is_empty() || !PathBuf::from("/sys/class/net").join(&network.link).exists() {
                continue;
            }
            warnings.extend(foreign::let_through(store, &network.link));
        }
    }
    Ok(warnings)
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
