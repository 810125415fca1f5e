//! /etc/hosts, /etc/hostname and /etc/resolv.conf of a container: written anew for each start, into its run directory,
//! and renewed in place when its networks change, since a bind mount stays with its file.

use crate::error::{Context as _, Result};
use crate::model::container::{ContainerConfig, NetworkMode};
use crate::model::id::ContainerId;
use crate::model::network::Endpoint;
use crate::network::hosts::{Base, Hosts};
use crate::network::links;
use crate::network::resolv::{self, HostFiles, Reach};
use crate::store::{Durability, Store, file};
use std::fs::{File, Permissions};
use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

const HOSTS: &str = "/etc/hosts";

/// `endpoints` are the container's places on networks, leased but not made yet. Gives what there is to warn of.
pub(super) fn write(store: &Store, config: &ContainerConfig, endpoints: &[Endpoint]) -> Result<Vec<String>> {
    let dir = store.run_dir(&config.id);
    write_new(&dir, "hostname", format!("{}\n", config.hostname).as_bytes())?;
    if let NetworkMode::Container(other) = &config.network {
        let theirs = store.run_dir(other);
        share(&theirs, &dir, "hosts")?;
        share(&theirs, &dir, "resolv.conf")?;
        return Ok(Vec::new());
    }
    let (resolv, warning) = resolv_conf(config, endpoints);
    write_new(&dir, "resolv.conf", &resolv)?;
    if !config.names.no_hosts {
        let linked = links::linked(store, config, endpoints, true)?;
        links::register(store, config, &linked)?;
        write_new(&dir, "hosts", &hosts(config, endpoints, &linked)?.render())?;
    }
    Ok(warning.into_iter().collect())
}

/// In a user namespace they are the container's root's, who may change them.
pub(super) fn give(store: &Store, config: &ContainerConfig) -> Result<()> {
    let Some(ids) = &config.namespaces.user else {
        return Ok(());
    };
    if matches!(config.network, NetworkMode::Container(_)) {
        return Ok(());
    }
    let (user, group) = ids.root()?;
    for name in ["hostname", "resolv.conf", "hosts"] {
        match std::os::unix::fs::lchown(store.run_dir(&config.id).join(name), Some(user), Some(group)) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e).with_context(|| format!("give {name} away")),
            _ => {}
        }
    }
    Ok(())
}

/// The container's networks are others now. What somebody has changed in the files stays.
pub(super) fn renew(store: &Store, config: &ContainerConfig, old: &[Endpoint], new: &[Endpoint]) -> Result<()> {
    let dir = store.run_dir(&config.id);
    let path = dir.join("resolv.conf");
    if resolv::read(&path) == resolv_conf(config, old).0 {
        overwrite(&path, &resolv_conf(config, new).0)?;
    }
    if config.names.no_hosts {
        return Ok(());
    }
    let before = hosts(config, old, &links::linked(store, config, old, false)?)?.render();
    let linked = links::linked(store, config, new, false)?;
    links::register(store, config, &linked)?;
    let after = hosts(config, new, &linked)?.render();
    let ours: Vec<&[u8]> = lines(&before).collect();
    renew_hosts(&dir.join("hosts"), after, |line| ours.contains(&line))
}

/// The container has got its addresses: those that are linked to it learn them. One that is just ending, or whose files
/// can't be written, keeps nobody else from running.
pub(super) fn tell_linked(store: &Store, target: &ContainerId) {
    for id in links::linked_to(store, target) {
        let _ = tell(store, &id);
    }
}

fn tell(store: &Store, id: &ContainerId) -> Result<()> {
    let (config, Some(live)) = (store.config(id)?, store.live(id)?) else {
        return Ok(());
    };
    let linked = links::linked(store, &config, &live.endpoints, false)?;
    let of_links: Vec<String> = config.names.links.iter().map(links::names).collect();
    let after = hosts(&config, &live.endpoints, &linked)?.render();
    let ours: Vec<&[u8]> = lines(&after).collect();
    let is_ours = |line: &[u8]| {
        let names = line.splitn(2, |b| *b == b'\t').nth(1).unwrap_or_default();
        ours.contains(&line) || of_links.iter().any(|l| l.as_bytes() == names)
    };
    renew_hosts(&store.run_dir(id).join("hosts"), after.clone(), is_ours)
}

/// `text`, and after it the lines of the file that are not `ours`.
fn renew_hosts(path: &Path, mut text: Vec<u8>, ours: impl Fn(&[u8]) -> bool) -> Result<()> {
    for line in lines(&resolv::read(path)).filter(|line| !ours(line)) {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    overwrite(path, &text)
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| *b == b'\n').filter(|line| !line.is_empty())
}

/// A new file: the one of the last start may be shared with a container that still uses it.
fn write_new(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = dir.join(name);
    remove(&path)
        .and_then(|()| file::write_new(&path, bytes, Durability::Volatile))
        .and_then(|file| file.set_permissions(Permissions::from_mode(0o644)))
        .with_context(|| format!("write {}", path.display()))
}

/// In one write, so that who reads meanwhile sees the old or the new beginning, not half a line.
fn overwrite(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = File::options().write(true).open(path)?;
        file.write_all(bytes)?;
        file.set_len(u64::try_from(bytes.len()).unwrap_or(0))
    };
    write().with_context(|| format!("write {}", path.display()))
}

/// The same file, so that both containers see it change.
fn share(theirs: &Path, ours: &Path, name: &str) -> Result<()> {
    let (from, to) = (theirs.join(name), ours.join(name));
    remove(&to)?;
    match std::fs::hard_link(&from, &to) {
        Ok(()) => Ok(()),
        Err(_) => write_new(ours, name, &resolv::read(&from)),
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn resolv_conf(config: &ContainerConfig, endpoints: &[Endpoint]) -> (Vec<u8>, Option<String>) {
    let reach = match &config.network {
        NetworkMode::Host | NetworkMode::None => Reach::Host,
        _ if endpoints.iter().any(|e| e.dns) => Reach::Responder,
        NetworkMode::Networks(_) => Reach::Network {
            ipv6: endpoints.iter().any(|e| e.address6.is_some()),
        },
        // Whatever there is in that namespace, it is not the host's loopback.
        NetworkMode::Ns(_) | NetworkMode::Container(_) => Reach::Network { ipv6: true },
    };
    let host = HostFiles::read();
    let (bytes, warning) = resolv::for_container(&host, &config.names, reach);
    let warning = match reach {
        Reach::Responder => resolv::upstreams(&host.own, &config.names).1,
        _ => warning,
    };
    // Without any way out nobody is asked.
    (bytes, warning.filter(|_| endpoints.iter().any(|e| !e.internal)))
}

fn hosts<'a>(config: &'a ContainerConfig, endpoints: &[Endpoint], linked: &[links::Linked<'_>]) -> Result<Hosts<'a>> {
    let on_host = config.network == NetworkMode::Host;
    let base = match &config.names.hosts_file {
        Some(file) if file.as_os_str() == "none" => Base::Copied(Vec::new()),
        Some(file) => Base::Copied(std::fs::read(file).with_context(|| format!("read {}", file.display()))?),
        None if on_host => Base::Copied(resolv::read(Path::new(HOSTS))),
        None => Base::Usual,
    };
    let gateway = endpoints.iter().find_map(|e| e.gateway.map(IpAddr::V4));
    let gateway = gateway.or_else(|| endpoints.iter().find_map(|e| e.gateway6.map(IpAddr::V6)));
    Ok(Hosts {
        base,
        hostname: &config.hostname,
        domainname: &config.domainname,
        own: (!on_host).then(|| endpoints.iter().flat_map(Endpoint::addresses).collect()),
        extra: &config.names.extra_hosts,
        gateway: gateway.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        links: linked.iter().flat_map(links::Linked::hosts).collect(),
    })
}
