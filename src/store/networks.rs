//! `networks/<id>.json`: one record per network, and what a container asks of networks.

use super::{Durability, Store, file, lock};
use crate::error::{Context, Error, Result};
use crate::model::container::{ContainerConfig, NetworkMode};
use crate::model::id::{ContainerId, is_hex};
use crate::model::network::{Attachment, Network};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// In a container's directory: where it was connected to after it was made. Without it, its configuration says it.
const CONNECTED: &str = "networks.json";

/// The right to change networks: their records, their links, and who is on them.
#[derive(Debug)]
pub(crate) struct NetworksLock {
    _file: File,
}

/// The right to take addresses of one network and to give them back.
#[derive(Debug)]
pub(crate) struct LeasesLock {
    _file: File,
}

/// The right to make links that have subnets, on this host: engines with other roots choose theirs against the host's
/// routes too.
#[derive(Debug)]
pub(crate) struct SubnetsLock {
    _file: File,
}

impl Store {
    /// Every network that can be read, by name. The default one is there from its first use on.
    pub(crate) fn networks(&self) -> Result<Vec<Network>> {
        let path = self.networks_root();
        let entries = match std::fs::read_dir(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.with_context(|| format!("read {}", path.display()))?,
        };
        let mut networks = Vec::new();
        for entry in entries.flatten() {
            if entry.file_name().as_encoded_bytes().ends_with(b".json")
                && let Ok(Some(network)) = file::read_json::<Network>(&entry.path())
            {
                networks.push(network);
            }
        }
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(networks)
    }

    /// By name, by id, or by a prefix that only one id has. In docker's words if there is none.
    pub(crate) fn network(&self, what: &str) -> Result<Network> {
        let networks = self.networks()?;
        if let Some(found) = networks.iter().find(|n| n.name == what || n.id == what) {
            return Ok(found.clone());
        }
        let matches: Vec<_> = networks.iter().filter(|n| n.id.starts_with(what)).collect();
        match matches.as_slice() {
            [only] if is_hex(what) => Ok((*only).clone()),
            [_, _, ..] if is_hex(what) => Err(super::containers::ambiguous(
                "network",
                what,
                matches.iter().map(|n| n.id.as_str()),
            )),
            _ => Err(Error::not_found(format!("network {} not found", what.escape_debug()))
                .with_hint("barge network ls shows what there is")),
        }
    }

    /// Writes the record, for good.
    pub(crate) fn save_network(&self, network: &Network, _held: &NetworksLock) -> Result<()> {
        let path = self.networks_root();
        match std::fs::DirBuilder::new().mode(0o710).create(&path) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => {
                return Err(e).with_context(|| format!("make {}", path.display()));
            }
            _ => {}
        }
        let name = format!("{}.json", network.id);
        file::replace(&path, &name, &file::to_json(network)?, Durability::Synced)
    }

    pub(crate) fn drop_network(&self, network: &Network, _held: &NetworksLock, leases: LeasesLock) -> Result<()> {
        let path = self.networks_root();
        match std::fs::remove_file(path.join(format!("{}.json", network.id))) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("remove network {}", network.name));
            }
            _ => {}
        }
        let _ = std::fs::remove_dir_all(self.leases_dir(&network.id));
        drop(leases);
        file::sync_dir(&path)
    }

    pub(crate) fn lock_networks(&self) -> Result<NetworksLock> {
        let path = self.run_root().join("networks.lock");
        self.lock_any(&path, "the networks")
            .map(|file| NetworksLock { _file: file })
    }

    /// On the network namespace itself, the one thing that all engines on a host have in common.
    pub(crate) fn lock_subnets(&self) -> Result<SubnetsLock> {
        let path = "/proc/thread-self/ns/net";
        let file = File::open(path).with_context(|| format!("open {path}"))?;
        self.wait_for_all(&file, "the subnets of this host")?;
        Ok(SubnetsLock { _file: file })
    }

    /// Whether its record is still there.
    pub(crate) fn has_network(&self, network_id: &str) -> bool {
        self.root.join(self.network_record(network_id)).exists()
    }

    /// Where its record is, below the root.
    pub(crate) fn network_record(&self, network_id: &str) -> PathBuf {
        self.below_root(&self.networks_root().join(format!("{network_id}.json")))
    }

    /// Where the addresses of a network that are in use have a file each; goes with the boot.
    pub(crate) fn leases_dir(&self, network_id: &str) -> PathBuf {
        self.run_root().join("leases").join(network_id)
    }

    /// Every network that has had leases since the boot.
    pub(crate) fn leased_networks(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.run_root().join("leases")).into_iter().flatten();
        let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
        names.collect()
    }

    pub(crate) fn lock_leases(&self, network_id: &str) -> Result<LeasesLock> {
        let path = self.leases_dir(network_id).join("lock");
        let open = || self.lock_any(&path, "the addresses of a network");
        let file = match path.exists() {
            true => open()?,
            false => {
                std::fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o710)
                    .create(self.leases_dir(network_id))
                    .context("make the directory of addresses in use")?;
                open()?
            }
        };
        Ok(LeasesLock { _file: file })
    }

    fn lock_any(&self, path: &std::path::Path, what: &str) -> Result<File> {
        let file = lock::open_lock_file(path).with_context(|| format!("open {}", path.display()))?;
        self.wait_for_all(&file, what)?;
        Ok(file)
    }

    /// What the container asks of networks now.
    pub(crate) fn attachments(&self, config: &ContainerConfig) -> Result<Vec<Attachment>> {
        if let Some(changed) = file::read_json(&self.container_dir(&config.id).join(CONNECTED))? {
            return Ok(changed);
        }
        Ok(match &config.network {
            NetworkMode::Networks(attachments) => attachments.clone(),
            _ => Vec::new(),
        })
    }

    /// The caller holds the container's lock, or is its monitor.
    pub(crate) fn save_attachments(&self, id: &ContainerId, attachments: &[Attachment]) -> Result<()> {
        let bytes = file::to_json(&attachments)?;
        file::replace(&self.container_dir(id), CONNECTED, &bytes, Durability::Synced)
    }

    fn networks_root(&self) -> PathBuf {
        self.root().join("networks")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::network::Driver;
    use crate::model::time::Timestamp;
    use crate::store::testing::Scratch;

    fn network(name: &str, id: &str) -> Network {
        Network {
            id: id.repeat(32),
            name: name.to_owned(),
            created: Timestamp::now(),
            driver: Driver::Bridge,
            subnets: Vec::new(),
            link: String::new(),
            foreign_link: false,
            internal: false,
            ipv6: false,
            dns: true,
            options: std::collections::BTreeMap::new(),
            labels: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn networks_are_found_by_name_id_and_prefix() {
        let s = Scratch::new();
        assert!(s.networks().unwrap().is_empty());
        let held = s.lock_networks().unwrap();
        let (a, b, c) = (network("a", "a1"), network("b", "a2"), network("a1", "b3"));
        for network in [&a, &b, &c] {
            s.save_network(network, &held).unwrap();
        }
        assert_eq!(s.network("a").unwrap(), a);
        assert_eq!(s.network("a2").unwrap(), b);
        assert_eq!(s.network("a1").unwrap(), c, "a name goes first");
        assert_eq!(s.network(&a.id).unwrap(), a);
        assert!(s.network("a1a").unwrap() == a);
        let none = s.network("x\n").unwrap_err().to_string();
        assert_eq!(none, r"network x\n not found");
        for _ in 0..2 {
            let leases = s.lock_leases(&b.id).unwrap();
            s.drop_network(&b, &held, leases).unwrap();
        }
        assert!(!s.leases_dir(&b.id).exists() && !s.has_network(&b.id) && s.has_network(&a.id));
        assert_eq!(s.networks().unwrap(), [a, c]);
    }
}
