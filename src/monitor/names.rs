//! A container's names while it runs: it is put into the books of its networks, its responder is made, and who is linked
//! to it learns where it is.

use crate::error::Result;
use crate::model::container::ContainerConfig;
use crate::model::network::Endpoint;
use crate::model::state::ProcessRef;
use crate::monitor::identity;
use crate::network::service::Service;
use crate::network::{self, dns, links};
use crate::store::Store;
use std::borrow::Cow;
use std::os::fd::BorrowedFd;

/// The container has its addresses: it becomes known, and gets a responder if one of its networks has names.
pub(super) fn service(
    store: &Store,
    config: &ContainerConfig,
    endpoints: &[Endpoint],
    netns: BorrowedFd<'_>,
    monitor: ProcessRef,
) -> Result<Option<Box<dyn Service>>> {
    announce(store, config, endpoints, monitor)?;
    identity::tell_linked(store, &config.id);
    match wanted(endpoints) {
        true => responder(store, config, endpoints, netns).map(Some),
        false => Ok(None),
    }
}

/// Whether one of the networks has names.
pub(super) fn wanted(endpoints: &[Endpoint]) -> bool {
    endpoints.iter().any(|e| e.dns)
}

pub(super) fn responder(
    store: &Store,
    config: &ContainerConfig,
    endpoints: &[Endpoint],
    netns: BorrowedFd<'_>,
) -> Result<Box<dyn Service>> {
    let sockets = network::inside(netns, dns::sockets)?;
    let responder = dns::Responder::new(store, sockets, endpoints, &config.names)?;
    Ok(Box::new(responder))
}

/// The running container was connected to a network, or disconnected.
pub(super) fn moved(
    store: &Store,
    config: &ContainerConfig,
    old: &[Endpoint],
    new: &[Endpoint],
    monitor: ProcessRef,
) -> Result<()> {
    for gone in old.iter().filter(|o| !new.iter().any(|n| n.network_id == o.network_id)) {
        dns::withdraw(store, &config.id, Some(&gone.network_id))?;
    }
    announce(store, config, new, monitor)?;
    identity::renew(store, config, old, new)?;
    identity::tell_linked(store, &config.id);
    Ok(())
}

fn announce(store: &Store, config: &ContainerConfig, endpoints: &[Endpoint], monitor: ProcessRef) -> Result<()> {
    let full = format!("{}.{}", config.hostname, config.domainname);
    let mut names = vec![config.name.as_str(), config.hostname.as_str()];
    if !config.domainname.is_empty() {
        names.push(&full);
    }
    for endpoint in endpoints.iter().filter(|e| e.dns) {
        dns::announce(store, &config.id, endpoint, &names, monitor)?;
    }
    Ok(())
}

/// With the variables of its links, if it has any on the default network.
pub(super) fn with_links<'a>(
    store: &Store,
    config: &'a ContainerConfig,
    endpoints: &[Endpoint],
) -> Result<Cow<'a, ContainerConfig>> {
    if config.names.links.is_empty() {
        return Ok(Cow::Borrowed(config));
    }
    let linked = links::linked(store, config, endpoints, false)?;
    let mut config = config.clone();
    let more = links::environment(&config, &linked);
    config.process.env.extend(more);
    Ok(Cow::Owned(config))
}
