//! resolv.conf(5): the host's is read, a container's is written (F170, F171).
//!
//! A name server on the host's loopback, such as systemd-resolved's stub at 127.0.0.53, is nobody in another network
//! namespace. Behind a stub stands a file with the servers it asks itself; where there is none, the container gets
//! public ones. With a responder (`dns`) no such replacement is needed: that asks from the host's namespace.

use crate::model::name::NameOptions;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

pub(crate) const HOST: &str = "/etc/resolv.conf";
/// Where systemd-resolved keeps the servers it asks itself.
pub(crate) const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
/// Where a container's responder listens.
pub(crate) const RESPONDER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// As docker has them since 2013.
const PUBLIC: [Ipv4Addr; 2] = [Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(8, 8, 4, 4)];
/// Bytes taken of such a file.
const LIMIT: u64 = 1 << 20;

/// A name server, perhaps a link-local one behind a certain interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) address: IpAddr,
    pub(crate) zone: Option<String>,
}

impl Server {
    fn is_loopback(&self) -> bool {
        self.address.to_canonical().is_loopback()
    }
}

impl From<IpAddr> for Server {
    fn from(address: IpAddr) -> Server {
        Server { address, zone: None }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.zone {
            Some(zone) => write!(f, "{}%{zone}", self.address),
            None => write!(f, "{}", self.address),
        }
    }
}

/// What such a file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Resolv {
    pub(crate) servers: Vec<Server>,
    pub(crate) search: Vec<String>,
    pub(crate) options: Vec<String>,
}

/// How the container reaches name servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// As the host does, or nobody knows how.
    Host,
    /// From a namespace of its own.
    Network {
        ipv6: bool,
    },
    Responder,
}

/// What the host has in its files.
#[derive(Debug, Clone, Default)]
pub(crate) struct HostFiles {
    pub(crate) own: Vec<u8>,
    /// Behind systemd-resolved's stub.
    pub(crate) resolved: Vec<u8>,
}

impl HostFiles {
    pub(crate) fn read() -> HostFiles {
        HostFiles {
            own: read(Path::new(HOST)),
            resolved: read(Path::new(RESOLVED)),
        }
    }
}

/// The beginning of a file; nothing, if it can't be read.
pub(crate) fn read(path: &Path) -> Vec<u8> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|f| f.take(LIMIT).read_to_end(&mut bytes));
    read.map(|_| bytes).unwrap_or_default()
}

/// As glibc reads it: the last `search` or `domain` counts, options add up, what is not understood is passed over.
pub(crate) fn parse(bytes: &[u8]) -> Resolv {
    let mut found = Resolv::default();
    for line in bytes.split(|b| *b == b'\n') {
        let text = String::from_utf8_lossy(line);
        if text.starts_with(['#', ';']) {
            continue;
        }
        let mut words = text.split_ascii_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => found.servers.extend(words.next().as_deref().and_then(server)),
            Some("search") => found.search = words.collect(),
            Some("domain") => found.search = words.take(1).collect(),
            Some("options") => found.options.extend(words),
            _ => {}
        }
    }
    found
}

fn server(text: &str) -> Option<Server> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone.to_owned())),
        None => (text, None),
    };
    Some(Server {
        address: address.parse().ok()?,
        zone: zone.filter(|z| !z.is_empty()),
    })
}

impl Resolv {
    fn render(&self) -> String {
        let mut text = String::new();
        for server in &self.servers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        for (word, list) in [("search", &self.search), ("options", &self.options)] {
            if !list.is_empty() {
                text.push_str(&format!("{word} {}\n", list.join(" ")));
            }
        }
        text
    }
}

/// The container's file, and what is to be said about it.
pub(crate) fn for_container(host: &HostFiles, wishes: &NameOptions, reach: Reach) -> (Vec<u8>, Option<String>) {
    let none_wished = wishes.dns.is_empty() && wishes.dns_search.is_empty() && wishes.dns_options.is_empty();
    if reach == Reach::Host && none_wished {
        return (host.own.clone(), None);
    }
    let base = parse(&host.own);
    let mut warning = None;
    let servers = match reach {
        Reach::Responder => vec![IpAddr::V4(RESPONDER).into()],
        _ if !wishes.dns.is_empty() => wishes.dns.iter().copied().map(Server::from).collect(),
        Reach::Host => base.servers.clone(),
        Reach::Network { ipv6 } => {
            let (servers, said) = reachable(&base, &parse(&host.resolved), ipv6);
            warning = said;
            servers
        }
    };
    let search = match wishes.dns_search.as_slice() {
        [] => base.search,
        [only] if only == "." => Vec::new(),
        wished => wished.iter().filter(|s| *s != ".").cloned().collect(),
    };
    let mut options = match wishes.dns_options.as_slice() {
        [] => base.options,
        wished => wished.to_vec(),
    };
    // A container's bare name is asked for as it stands before any domain is tried, as with docker.
    if reach == Reach::Responder && !options.iter().any(|o| o.starts_with("ndots:")) {
        options.push("ndots:0".to_owned());
    }
    let made = Resolv {
        servers,
        search,
        options,
    };
    (made.render().into_bytes(), warning)
}

/// F171: those of the host's that are not its loopback, else those behind its stub, else public ones.
fn reachable(host: &Resolv, resolved: &Resolv, ipv6: bool) -> (Vec<Server>, Option<String>) {
    let usable = |from: &Resolv| -> Vec<Server> {
        let from = from.servers.iter();
        from.filter(|s| !s.is_loopback() && s.zone.is_none() && (ipv6 || s.address.is_ipv4()))
            .cloned()
            .collect()
    };
    for servers in [usable(host), usable(resolved)] {
        if !servers.is_empty() {
            return (servers, None);
        }
    }
    let why = match host.servers.first() {
        Some(server) => format!("the host's name server {server} can't be reached from a container"),
        None => format!("{HOST} names no server"),
    };
    (public(), Some(replaced(&why)))
}

fn public() -> Vec<Server> {
    PUBLIC.map(|a| IpAddr::V4(a).into()).to_vec()
}

fn replaced(why: &str) -> String {
    format!("{why}: using {} and {} (--dns chooses others)", PUBLIC[0], PUBLIC[1])
}

/// Whom a responder asks, from the host's namespace: loopbacks are fine there.
pub(crate) fn upstreams(host: &[u8], wishes: &NameOptions) -> (Vec<Server>, Option<String>) {
    if !wishes.dns.is_empty() {
        return (wishes.dns.iter().copied().map(Server::from).collect(), None);
    }
    let servers = parse(host).servers;
    match servers.is_empty() {
        true => (public(), Some(replaced(&format!("{HOST} names no server")))),
        false => (servers, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(own: &str, resolved: &str) -> HostFiles {
        HostFiles {
            own: own.into(),
            resolved: resolved.into(),
        }
    }

    fn made(own: &str, resolved: &str, wishes: &NameOptions, reach: Reach) -> (String, bool) {
        let (bytes, warning) = for_container(&host(own, resolved), wishes, reach);
        (String::from_utf8(bytes).unwrap(), warning.is_some())
    }

    const V4: Reach = Reach::Network { ipv6: false };
    const STUB: &str = "# stub\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch example.org\n";
    const PUBLIC_LINES: &str = "nameserver 8.8.8.8\nnameserver 8.8.4.4\n";

    #[test]
    fn reads_what_the_host_has() {
        let found = parse(
            b"; c\n#nameserver 9.9.9.9\nnameserver 10.0.0.1 # x\nnameserver\tfe80::1%eth0\nnameserver nonsense\n\
              domain a.example\nsearch b.example c.example\noptions ndots:2\noptions edns0\nsortlist x\n \
              nameserver 10.0.0.2\nnameserver",
        );
        let servers: Vec<_> = found.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.1", "fe80::1%eth0", "10.0.0.2"]);
        assert_eq!(found.search, ["b.example", "c.example"]);
        assert_eq!(found.options, ["ndots:2", "edns0"]);
        assert_eq!(parse(b"\xff\xfe\x00"), Resolv::default());
    }

    #[test]
    fn loopback_servers_are_replaced() {
        let none = NameOptions::default();
        for (own, resolved, ipv6, expected, warned) in [
            ("nameserver 10.0.0.1\n", "", false, "nameserver 10.0.0.1\n", false),
            (
                "nameserver 127.0.0.1\nnameserver 10.0.0.1\n",
                "",
                false,
                "nameserver 10.0.0.1\n",
                false,
            ),
            (
                STUB,
                "nameserver 10.0.0.2\n",
                false,
                "nameserver 10.0.0.2\nsearch example.org\noptions edns0 trust-ad\n",
                false,
            ),
            ("nameserver 127.0.1.1\n", "", false, PUBLIC_LINES, true),
            ("nameserver ::1\n", "nameserver 127.0.0.1\n", true, PUBLIC_LINES, true),
            ("# nameserver 10.0.0.1\n", "", false, PUBLIC_LINES, true),
            ("", "", false, PUBLIC_LINES, true),
            ("nameserver fd00::1\n", "", false, PUBLIC_LINES, true),
            ("nameserver fd00::1\n", "", true, "nameserver fd00::1\n", false),
            (
                "nameserver fe80::1%eth0\nnameserver 10.0.0.1\n",
                "",
                true,
                "nameserver 10.0.0.1\n",
                false,
            ),
        ] {
            let reach = Reach::Network { ipv6 };
            assert_eq!(
                made(own, resolved, &none, reach),
                (expected.to_owned(), warned),
                "{own:?}"
            );
        }
    }

    #[test]
    fn wishes_win() {
        let wishes = NameOptions {
            dns: vec!["1.2.3.4".parse().unwrap(), "fd00::5".parse().unwrap()],
            ..NameOptions::default()
        };
        let servers = "nameserver 1.2.3.4\nnameserver fd00::5\n";
        let rest = "search example.org\noptions edns0 trust-ad\n";
        assert_eq!(made(STUB, "", &wishes, V4), (format!("{servers}{rest}"), false));
        assert_eq!(
            made(STUB, "", &wishes, Reach::Host),
            (format!("{servers}{rest}"), false)
        );
        let wishes = NameOptions {
            dns_search: vec![".".to_owned()],
            dns_options: vec!["timeout:1".to_owned()],
            ..wishes
        };
        assert_eq!(
            made(STUB, "", &wishes, V4),
            (format!("{servers}options timeout:1\n"), false)
        );
    }

    #[test]
    fn the_host_s_own_file_is_copied_as_it_is() {
        let none = NameOptions::default();
        assert_eq!(
            made(STUB, "nameserver 10.0.0.2\n", &none, Reach::Host),
            (STUB.to_owned(), false)
        );
    }

    #[test]
    fn with_a_responder_that_one_is_asked() {
        let none = NameOptions::default();
        assert_eq!(
            made(STUB, "", &none, Reach::Responder),
            (
                "nameserver 127.0.0.11\nsearch example.org\noptions edns0 trust-ad ndots:0\n".to_owned(),
                false
            )
        );
        let wishes = NameOptions {
            dns: vec!["1.2.3.4".parse().unwrap()],
            dns_options: vec!["ndots:2".to_owned()],
            ..NameOptions::default()
        };
        let (text, _) = made(STUB, "", &wishes, Reach::Responder);
        assert_eq!(text, "nameserver 127.0.0.11\nsearch example.org\noptions ndots:2\n");
        assert_eq!(upstreams(STUB.as_bytes(), &wishes).0, [Server::from(wishes.dns[0])]);
        assert_eq!(upstreams(STUB.as_bytes(), &none).0[0].to_string(), "127.0.0.53");
        assert_eq!(upstreams(b"", &none).0.len(), 2);
    }
}
