//! `--link`, as it has been since 2013. On the default network, which has no names, the linked container stands in the
//! hosts file and in the environment; on other networks its alias is the responder's (`dns`).
//!
//! A linked container that starts anew has another address: `<run root>/links/<its id>/<id of who is linked to it>`
//! tells it whose hosts files to renew.

use crate::error::{Context as _, Error, Result};
use crate::model::bytes::ByteString;
use crate::model::container::{ContainerConfig, NetworkMode};
use crate::model::id::ContainerId;
use crate::model::name::Link;
use crate::model::network::Endpoint;
use crate::store::{Durability, Store, file};
use crate::sys;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

/// A link that is made by the hosts file.
pub(crate) struct Linked<'a> {
    link: &'a Link,
    target: ContainerConfig,
    addresses: Vec<IpAddr>,
}

fn directory(store: &Store, target: &ContainerId) -> PathBuf {
    store.run_root().join("links").join(target.as_str())
}

/// The network of this container's that has no names, if it is on it.
fn nameless(endpoints: &[Endpoint]) -> Option<&Endpoint> {
    endpoints.iter().find(|e| !e.dns)
}

/// Who is linked on the default network, where they are now. `strict` refuses one that does not run.
pub(crate) fn linked<'a>(
    store: &Store,
    config: &'a ContainerConfig,
    endpoints: &[Endpoint],
    strict: bool,
) -> Result<Vec<Linked<'a>>> {
    let mut found = Vec::new();
    let Some(own) = nameless(endpoints) else {
        return Ok(found);
    };
    for link in &config.names.links {
        let live = store.live(&link.container)?;
        let live = live.filter(|l| sys::process::start_time(l.monitor.pid) == Some(l.monitor.start_time));
        let theirs = live.iter().flat_map(|l| &l.endpoints);
        let addresses = theirs
            .filter(|e| e.network_id == own.network_id)
            .flat_map(Endpoint::addresses)
            .collect::<Vec<_>>();
        if addresses.is_empty() {
            if strict && !on_another_network(config) {
                return Err(Error::conflict(format!(
                    "Cannot link to a non running container: /{} AS /{}/{}",
                    link.name, config.name, link.alias
                )));
            }
            continue;
        }
        found.push(Linked {
            link,
            target: store.config(&link.container)?,
            addresses,
        });
    }
    Ok(found)
}

/// A link may be meant for one of its other networks.
fn on_another_network(config: &ContainerConfig) -> bool {
    matches!(&config.network, NetworkMode::Networks(all) if all.len() > 1)
}

/// As they stand in the hosts file.
pub(crate) fn names(link: &Link) -> String {
    let Link { container, name, alias } = link;
    match name == alias {
        true => format!("{alias} {}", container.short()),
        false => format!("{alias} {} {name}", container.short()),
    }
}

impl Linked<'_> {
    /// Lines of the hosts file.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = (IpAddr, String)> {
        let names = names(self.link);
        self.addresses.iter().map(move |address| (*address, names.clone()))
    }

    /// What 2013's programs read: `DB_NAME`, `DB_PORT`, `DB_PORT_6379_TCP…`, and the linked container's own variables as
    /// `DB_ENV_…`.
    fn environment(&self, own_name: &str) -> Vec<String> {
        let Some(IpAddr::V4(address)) = self.addresses.iter().find(|a| a.is_ipv4()) else {
            return Vec::new();
        };
        let alias = self.link.alias.to_ascii_uppercase().replace('-', "_");
        let mut all = Vec::new();
        let ports = exposed(&self.target);
        if let Some((port, protocol)) = ports.first() {
            all.push(format!("{alias}_PORT={protocol}://{address}:{port}"));
        }
        for (port, protocol) in &ports {
            all.extend(of_port(&alias, *address, *port, protocol));
        }
        all.push(format!("{alias}_NAME=/{own_name}/{}", self.link.alias));
        for variable in &self.target.process.env {
            let text = variable.to_string_lossy();
            if let Some((name, _)) = text.split_once('=')
                && !matches!(name, "HOME" | "PATH" | "HOSTNAME" | "container" | "TERM")
            {
                all.push(format!("{alias}_ENV_{text}"));
            }
        }
        all
    }
}

fn of_port(alias: &str, address: Ipv4Addr, port: u16, protocol: &str) -> [String; 4] {
    let name = format!("{alias}_PORT_{port}_{}", protocol.to_ascii_uppercase());
    [
        format!("{name}={protocol}://{address}:{port}"),
        format!("{name}_ADDR={address}"),
        format!("{name}_PORT={port}"),
        format!("{name}_PROTO={protocol}"),
    ]
}

/// The ports a container documents, lowest first.
fn exposed(config: &ContainerConfig) -> Vec<(u16, String)> {
    let parse = |text: &String| {
        let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        Some((port.parse().ok()?, protocol.to_owned()))
    };
    let mut ports: Vec<(u16, String)> = config.expose.iter().filter_map(parse).collect();
    ports.sort();
    ports
}

/// Variables that links on the default network add to the container's own, which win.
pub(crate) fn environment(config: &ContainerConfig, linked: &[Linked<'_>]) -> Vec<ByteString> {
    let own = &config.process.env;
    let has = |name: &str| own.iter().any(|e| e.split_env().0 == name.as_bytes());
    let all = linked.iter().flat_map(|l| l.environment(&config.name));
    all.filter(|v| !has(v.split('=').next().unwrap_or_default()))
        .map(ByteString::from)
        .collect()
}

/// So that those it is linked to find it when they come back.
pub(crate) fn register(store: &Store, config: &ContainerConfig, linked: &[Linked<'_>]) -> Result<()> {
    for one in linked {
        let dir = directory(store, &one.link.container);
        std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let path = dir.join(config.id.as_str());
        file::write_new(&path, b"", Durability::Volatile).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// The running containers whose hosts files have this one's address; entries of ended ones are swept.
pub(crate) fn linked_to(store: &Store, target: &ContainerId) -> Vec<ContainerId> {
    let entries = match std::fs::read_dir(directory(store, target)) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Vec::new(),
        entries => entries.into_iter().flatten().flatten(),
    };
    let mut found = Vec::new();
    for entry in entries {
        let Some(id) = entry.file_name().to_str().and_then(ContainerId::parse) else {
            continue;
        };
        match store.live(&id) {
            Ok(None) => drop(std::fs::remove_file(entry.path())),
            _ => found.push(id),
        }
    }
    found
}

/// Nothing of this container's stays.
pub(crate) fn unregister(store: &Store, id: &ContainerId) {
    for dir in std::fs::read_dir(store.run_root().join("links"))
        .into_iter()
        .flatten()
        .flatten()
    {
        if std::fs::remove_file(dir.path().join(id.as_str())).is_ok() {
            // Unless somebody else is linked to it.
            let _ = std::fs::remove_dir(dir.path());
        }
    }
}
