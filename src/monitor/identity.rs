//! /etc/hosts, /etc/hostname and /etc/resolv.conf of a container: written anew for each start, into its run directory.

use crate::error::{Context as _, Result};
use crate::model::container::{ContainerConfig, NetworkMode};
use crate::model::network::Endpoint;
use crate::store::{Durability, Store, file};
use std::path::Path;

/// Where systemd-resolved keeps the servers it asks itself.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
/// Bytes taken of such a file.
const LIMIT: u64 = 1 << 20;
const HOST: &str = "/etc/resolv.conf";

/// `endpoints` are the container's places on networks, leased but not made yet.
pub(super) fn write(store: &Store, config: &ContainerConfig, _endpoints: &[Endpoint]) -> Result<()> {
    let dir = store.run_dir(&config.id);
    let files = match &config.network {
        NetworkMode::Container(other) => shared_files(&store.run_dir(other)),
        NetworkMode::Host => (read(Path::new("/etc/hosts")), read(Path::new(HOST))),
        NetworkMode::None | NetworkMode::Ns(_) | NetworkMode::Networks(_) => (
            hosts(&config.hostname, &config.domainname).into_bytes(),
            resolv_conf(&read(Path::new(HOST)), &read(Path::new(RESOLVED))),
        ),
    };
    let hostname = format!("{}\n", config.hostname);
    for (name, bytes) in [
        ("hosts", &files.0[..]),
        ("resolv.conf", &files.1),
        ("hostname", hostname.as_bytes()),
    ] {
        write_readable(&dir.join(name), bytes).with_context(|| format!("write {name}"))?;
    }
    Ok(())
}

/// In place: nobody reads them before the container starts, and every start writes them all.
fn write_readable(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file::write_new(path, bytes, Durability::Volatile)?.set_permissions(std::fs::Permissions::from_mode(0o644))
}

fn shared_files(dir: &Path) -> (Vec<u8>, Vec<u8>) {
    (read(&dir.join("hosts")), read(&dir.join("resolv.conf")))
}

fn read(path: &Path) -> Vec<u8> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    // The file of another container's may be written by it.
    let read = std::fs::File::open(path).and_then(|f| f.take(LIMIT).read_to_end(&mut bytes));
    read.map(|_| bytes).unwrap_or_default()
}

/// F173: the usual names, and the container's own on the loopback addresses.
fn hosts(hostname: &str, domainname: &str) -> String {
    let own = if domainname.is_empty() {
        hostname.to_owned()
    } else {
        format!("{hostname}.{domainname} {hostname}")
    };
    format!(
        "127.0.0.1\tlocalhost {own}\n::1\tlocalhost ip6-localhost ip6-loopback {own}\n\
         fe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
    )
}

/// The host's, or behind a local stub resolver that one's own servers: 127.0.0.53 is nobody in another namespace.
fn resolv_conf(host: &[u8], resolved: &[u8]) -> Vec<u8> {
    let local_only = {
        let mut servers = nameservers(host).peekable();
        servers.peek().is_some() && servers.all(|s| s.starts_with("127.") || s == "::1")
    };
    if local_only && nameservers(resolved).next().is_some() {
        resolved.to_vec()
    } else {
        host.to_vec()
    }
}

fn nameservers(conf: &[u8]) -> impl Iterator<Item = &str> {
    conf.split(|b| *b == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok()?.trim().strip_prefix("nameserver"))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_name_comes_first() {
        assert!(hosts("web", "example.org").contains("127.0.0.1\tlocalhost web.example.org web\n"));
        assert!(hosts("web", "").contains("127.0.0.1\tlocalhost web\n"));
    }

    #[test]
    fn a_stub_resolver_is_replaced_by_its_servers() {
        let stub = b"# x\nnameserver 127.0.0.53\noptions edns0\n";
        let real = b"nameserver 10.0.0.1\n";
        assert_eq!(resolv_conf(stub, real), real);
        assert_eq!(resolv_conf(stub, b""), stub);
        assert_eq!(resolv_conf(real, b"nameserver 10.0.0.2\n"), real);
        assert_eq!(resolv_conf(b"", real), b"");
    }
}
