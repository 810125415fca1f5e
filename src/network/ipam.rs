//! Addresses in use: one file each, `leases/<network>/<address>`, holding the id of the container that has it, under a
//! lock of the network's. Given out one after the other, so that one that has just become free is not used again at
//! once (F152): neighbours and clients may still think of its last owner.

use crate::error::{Context as _, Error, Result};
use crate::model::id::ContainerId;
use crate::model::network::{Network, Prefix, Subnet};
use crate::store::{Durability, LeasesLock, Store, file};
use std::io::{ErrorKind, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// What a container wants of a network; `None`: any address, if the network has some of the family.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wish {
    pub(super) v4: Option<IpAddr>,
    pub(super) v6: Option<IpAddr>,
}

/// Leases an address of each family that the network has. All or nothing.
pub(super) fn lease(store: &Store, network: &Network, id: &ContainerId, wish: Wish) -> Result<Vec<IpAddr>> {
    for wanted in [wish.v4, wish.v6].into_iter().flatten() {
        check_wish(network, wanted)?;
    }
    let held = store.lock_leases(&network.id)?;
    if !store.has_network(&network.id) {
        // Removed while we waited, and with it the directory of its addresses, which we may have made anew.
        let _ = std::fs::remove_dir_all(store.leases_dir(&network.id));
        return Err(Error::not_found(format!("network {} not found", network.name)));
    }
    let pool = Pool {
        store,
        network,
        dir: store.leases_dir(&network.id),
        _held: &held,
    };
    let mut leased = Vec::new();
    for (wanted, subnet) in [(wish.v4, network.subnet4()), (wish.v6, network.subnet6())] {
        let Some(subnet) = subnet else { continue };
        let result = match wanted {
            Some(address) => pool.take_wanted(address, id),
            None => pool.take_next(subnet, id),
        };
        match result {
            Ok(address) => leased.push(address),
            Err(e) => {
                for address in leased {
                    let _ = std::fs::remove_file(pool.path(address));
                }
                return Err(e);
            }
        }
    }
    Ok(leased)
}

/// Docker's words, since scripts look for them.
pub(super) fn check_wish(network: &Network, wanted: IpAddr) -> Result<()> {
    let (kind, subnet) = match wanted {
        IpAddr::V4(_) => ("IPv4", network.subnet4()),
        IpAddr::V6(_) => ("IPv6", network.subnet6()),
    };
    let Some(subnet) = subnet else {
        return Err(Error::usage(format!(
            "network {} has no {kind} subnet for {wanted}",
            network.name
        )));
    };
    if !subnet.subnet.contains(wanted) {
        return Err(Error::usage(format!(
            "no configured subnet contains IP address {wanted}: network {} has {}",
            network.name, subnet.subnet
        )));
    }
    if reserved(subnet, wanted) {
        let why = match (
            subnet.gateway == Some(wanted),
            subnet.aux.iter().find(|(_, a)| **a == wanted),
        ) {
            (true, _) => "it is the gateway's",
            (false, Some(_)) => "it is kept for something else (--aux-address)",
            (false, None) => "it is the network's own or its broadcast address",
        };
        return Err(Error::usage(format!(
            "Address already in use: {wanted} of network {}: {why}",
            network.name
        )));
    }
    Ok(())
}

/// Addresses that no container may have.
fn reserved(subnet: &Subnet, address: IpAddr) -> bool {
    let whole = &subnet.subnet;
    let first_is_host = match address {
        IpAddr::V4(_) => whole.length() >= 31,
        // The first of an IPv6 subnet is its routers' anycast address (RFC 4291, 2.6.1).
        IpAddr::V6(_) => whole.length() >= 127,
    };
    subnet.gateway == Some(address)
        || subnet.aux.values().any(|aux| *aux == address)
        || (whole.index(address) == Some(0) && !first_is_host)
        || whole.broadcast() == Some(address)
}

struct Pool<'a> {
    store: &'a Store,
    network: &'a Network,
    dir: PathBuf,
    _held: &'a LeasesLock,
}

impl Pool<'_> {
    fn path(&self, address: IpAddr) -> PathBuf {
        self.dir.join(address.to_string())
    }

    fn take_wanted(&self, address: IpAddr, id: &ContainerId) -> Result<IpAddr> {
        if self.take(address, id)? {
            return Ok(address);
        }
        match holder(&self.path(address)).filter(|h| is_live(self.store, h)) {
            Some(by) if by != *id => Err(Error::conflict(format!(
                "Address already in use: {address} of network {} is container {}'s",
                self.network.name,
                by.short()
            ))),
            _ => {
                std::fs::remove_file(self.path(address)).with_context(|| format!("free address {address}"))?;
                self.take(address, id)?;
                Ok(address)
            }
        }
    }

    fn take_next(&self, subnet: &Subnet, id: &ContainerId) -> Result<IpAddr> {
        if let Some(address) = self.try_next(subnet, id)? {
            return Ok(address);
        }
        // What a crash has left counts only as long as nobody needs it.
        if self.drop_stale()?
            && let Some(address) = self.try_next(subnet, id)?
        {
            return Ok(address);
        }
        let of = subnet.range.as_ref().unwrap_or(&subnet.subnet);
        Err(Error::other(format!(
            "No unallocated IP available in {of} of network {}",
            self.network.name
        ))
        .with_hint("end a container, or make a network with a larger subnet"))
    }

    /// The first free one after the last that was given out.
    fn try_next(&self, subnet: &Subnet, id: &ContainerId) -> Result<Option<IpAddr>> {
        let range = subnet.range.as_ref().unwrap_or(&subnet.subnet);
        let pointer = self.dir.join(if range.is_ipv4() { "next4" } else { "next6" });
        let start = std::fs::read_to_string(&pointer)
            .ok()
            .and_then(|text| text.trim().parse::<u128>().ok())
            .filter(|n| *n <= range.last())
            .unwrap_or(0);
        // In a range too large to be walked, every step but a few finds a free one.
        let steps = range.last().saturating_add(1).min(1 << 20);
        for address in candidates(range, start).take(usize::try_from(steps).unwrap_or(usize::MAX)) {
            if !reserved(subnet, address) && self.take(address, id)? {
                let next = range.index(address).map_or(0, |n| n + 1);
                file::write_new(&pointer, next.to_string().as_bytes(), Durability::Volatile)
                    .with_context(|| format!("write {}", pointer.display()))?;
                return Ok(Some(address));
            }
        }
        Ok(None)
    }

    /// `false` if it is taken.
    fn take(&self, address: IpAddr, id: &ContainerId) -> Result<bool> {
        let path = self.path(address);
        let made = std::fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        match made {
            Ok(mut file) => {
                let written = file.write_all(id.as_str().as_bytes());
                if written.is_err() {
                    let _ = std::fs::remove_file(&path);
                }
                written
                    .with_context(|| format!("lease address {address}"))
                    .map(|()| true)
            }
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e).with_context(|| format!("lease address {address}")),
        }
    }

    /// Frees what belongs to nobody that lives; `true` if there was something.
    fn drop_stale(&self) -> Result<bool> {
        let mut dropped = false;
        for (address, holder) in entries(&self.dir) {
            if holder.is_none_or(|h| !is_live(self.store, &h)) {
                std::fs::remove_file(self.path(address)).with_context(|| format!("free address {address}"))?;
                dropped = true;
            }
        }
        Ok(dropped)
    }
}

/// Every address of the range once, from the given number on and around.
fn candidates(range: &Prefix, start: u128) -> impl Iterator<Item = IpAddr> {
    let last = range.last();
    let from = start.min(last);
    (from..=last).chain(0..from).filter_map(|n| range.nth(n))
}

/// A container without a run directory has no monitor, and nobody to come for its leases.
fn is_live(store: &Store, id: &ContainerId) -> bool {
    store.run_dir(id).exists()
}

/// `None` if a crash has cut the writing short.
fn holder(path: &Path) -> Option<ContainerId> {
    ContainerId::parse(std::fs::read_to_string(path).ok()?.trim())
}

fn entries(dir: &Path) -> Vec<(IpAddr, Option<ContainerId>)> {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let addresses = files.filter_map(|e| e.file_name().to_str()?.parse().ok());
    addresses
        .map(|a: IpAddr| (a, holder(&dir.join(a.to_string()))))
        .collect()
}

/// The addresses of a network that containers have now.
pub(crate) fn leases(store: &Store, network_id: &str) -> Vec<(IpAddr, ContainerId)> {
    let entries = entries(&store.leases_dir(network_id)).into_iter();
    let mut found: Vec<_> = entries.filter_map(|(a, h)| Some((a, h?))).collect();
    found.sort();
    found
}

/// Gives back what the container has of a network; what it does not have is left alone.
pub(super) fn release(
    store: &Store,
    network_id: &str,
    id: &ContainerId,
    addresses: impl Iterator<Item = IpAddr>,
) -> Result<()> {
    let dir = store.leases_dir(network_id);
    if !dir.exists() {
        return Ok(());
    }
    let _held = store.lock_leases(network_id)?;
    for address in addresses {
        let path = dir.join(address.to_string());
        if holder(&path).as_ref() == Some(id) {
            std::fs::remove_file(&path).with_context(|| format!("free address {address}"))?;
        }
    }
    Ok(())
}

/// Gives back whatever the container has anywhere: after a crash, when nobody knows what it had.
pub(super) fn release_all(store: &Store, id: &ContainerId) -> Result<()> {
    for network in store.leased_networks() {
        let addresses = entries(&store.leases_dir(&network)).into_iter();
        let own: Vec<_> = addresses
            .filter(|(_, h)| h.as_ref() == Some(id))
            .map(|(a, _)| a)
            .collect();
        if !own.is_empty() {
            release(store, &network, id, own.into_iter())?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "ipam_tests.rs"]
mod tests;
