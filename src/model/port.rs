//! Ports: what `-p` and `--expose` say, and what was published. Text ↔ data, nothing else.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    pub(crate) const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    /// As IP headers have it.
    pub(crate) fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A container's port: `80/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PortNumber {
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
}

impl fmt::Display for PortNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

impl FromStr for PortNumber {
    type Err = Error;

    /// Without a protocol it is tcp.
    fn from_str(text: &str) -> Result<PortNumber> {
        let (numbers, protocol) = split_protocol(text)?;
        let range = Range::parse(numbers)?;
        match range.first == range.last && range.first > 0 {
            true => Ok(PortNumber {
                port: range.first,
                protocol,
            }),
            false => Err(bad_format(text)),
        }
    }
}

/// One port of a container to be published: ranges are taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Publish {
    /// `None` is every address of the host, IPv4 and IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) host_ip: Option<IpAddr>,
    pub(crate) host: HostPort,
    pub(crate) container: u16,
    pub(crate) protocol: Protocol,
}

impl Publish {
    pub(crate) fn number(&self) -> PortNumber {
        PortNumber {
            port: self.container,
            protocol: self.protocol,
        }
    }
}

/// The host's side of a port to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HostPort {
    /// One that is free when the container starts.
    Any,
    /// The first free one of these; mostly it is one.
    Range { first: u16, last: u16 },
}

impl fmt::Display for HostPort {
    /// As `-p` has it: nothing, a number or a range.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPort::Any => Ok(()),
            HostPort::Range { first, last } if first == last => write!(f, "{first}"),
            HostPort::Range { first, last } => write!(f, "{first}-{last}"),
        }
    }
}

/// A port that is published while its container runs. `-p 80` on all addresses is two of them: 0.0.0.0 and [::].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct PublishedPort {
    pub(crate) container_port: u16,
    pub(crate) protocol: Protocol,
    pub(crate) host_ip: IpAddr,
    pub(crate) host_port: u16,
}

impl PublishedPort {
    pub(crate) fn number(&self) -> PortNumber {
        PortNumber {
            port: self.container_port,
            protocol: self.protocol,
        }
    }

    /// `0.0.0.0:8080`, `[::]:8080`.
    pub(crate) fn host(&self) -> std::net::SocketAddr {
        (self.host_ip, self.host_port).into()
    }
}

/// The ports as `ps` lists them: neighbours of the same number on both sides are one range, as docker has it.
pub(crate) fn summary(published: &[PublishedPort], exposed: &[PortNumber]) -> String {
    let only_exposed = exposed.iter().filter(|e| !published.iter().any(|p| p.number() == **e));
    let mut all: Vec<(u16, String, u16, Protocol)> = published
        .iter()
        .map(|p| (p.container_port, p.host_ip.to_string(), p.host_port, p.protocol))
        .chain(only_exposed.map(|e| (e.port, String::new(), 0, e.protocol)))
        .collect();
    all.sort();
    let mut ended = Vec::new();
    let mut mapped = Vec::new();
    let mut open: Vec<(String, Protocol, u16, u16)> = Vec::new();
    for (port, ip, host_port, protocol) in all {
        if !ip.is_empty() && host_port != port {
            mapped.push(format!("{}->{port}/{protocol}", joined(&ip, &host_port.to_string())));
            continue;
        }
        match open.iter_mut().find(|(i, p, _, _)| *i == ip && *p == protocol) {
            Some((_, _, _, last)) if *last + 1 == port => *last = port,
            Some(group) => {
                ended.push(shown(group));
                *group = (ip, protocol, port, port);
            }
            None => open.push((ip, protocol, port, port)),
        }
    }
    ended.extend(open.iter().map(shown));
    ended.extend(mapped);
    ended.join(", ")
}

fn shown((ip, protocol, first, last): &(String, Protocol, u16, u16)) -> String {
    let ports = match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    match ip.is_empty() {
        true => format!("{ports}/{protocol}"),
        false => format!("{}->{ports}/{protocol}", joined(ip, &ports)),
    }
}

fn joined(ip: &str, port: &str) -> String {
    match ip.contains(':') {
        true => format!("[{ip}]:{port}"),
        false => format!("{ip}:{port}"),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
}

impl Range {
    fn parse(text: &str) -> Result<Range> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = Range {
            first: number(first, text)?,
            last: number(last, text)?,
        };
        match range.first > range.last {
            true => Err(bad_format(text)),
            false => Ok(range),
        }
    }

    fn length(self) -> u16 {
        self.last - self.first
    }
}

/// A number of digits alone: `+80` is none.
fn number(text: &str, all: &str) -> Result<u16> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad_format(all));
    }
    text.parse()
        .map_err(|_| Error::usage(format!("Invalid port format: {text} is above 65535.")))
}

fn bad_format(text: &str) -> Error {
    Error::usage("Invalid port format.").with_hint(format!(
        "'{}' is not [IP:][HOST[-LAST]:]CONTAINER[-LAST][/tcp|udp|sctp]",
        text.escape_debug()
    ))
}

fn split_protocol(text: &str) -> Result<(&str, Protocol)> {
    let Some((numbers, name)) = text.split_once('/') else {
        return Ok((text, Protocol::Tcp));
    };
    if name.contains('/') {
        return Err(bad_format(text));
    }
    let lower = name.to_ascii_lowercase();
    let known = Protocol::ALL.into_iter().find(|p| p.as_str() == lower);
    let unknown = || {
        Error::usage(format!(
            "Invalid port format: unknown protocol {}.",
            name.escape_debug()
        ))
    };
    Ok((numbers, known.ok_or_else(unknown)?))
}

/// What `-p` takes: `[IP:][HOST[-LAST]:]CONTAINER[-LAST][/PROTOCOL]`. Without HOST it is a free port; `:CONTAINER` is
/// the same number on the host (2013's form); HOST 0 is a free one too.
pub(crate) fn parse_publish(text: &str) -> Result<Vec<Publish>> {
    let (numbers, protocol) = split_protocol(text)?;
    let (ip, ports) = split_address(numbers).ok_or_else(|| bad_format(text))?;
    let (host, container) = match ports.rsplit_once(':') {
        Some((host, container)) => (Some(host), container),
        None => (None, ports),
    };
    if host.is_some_and(|h| h.contains(':')) {
        return Err(bad_format(text));
    }
    let container = Range::parse(container).map_err(|e| about(e, text))?;
    if container.first == 0 {
        return Err(Error::usage("Invalid port format: 0 is not a port of a container."));
    }
    let host = match (host, ip) {
        (None, _) | (Some(""), Some(_)) => None,
        (Some(""), None) => Some(container),
        (Some(host), _) => Some(Range::parse(host).map_err(|e| about(e, text))?).filter(|h| h.last > 0),
    };
    if host.is_some_and(|h| h.first == 0) {
        return Err(bad_format(text));
    }
    if let Some(host) = host
        && container.length() > 0
        && host.length() != container.length()
    {
        return Err(Error::usage(format!(
            "Invalid port format: the ranges of '{}' are not of the same length.",
            text.escape_debug()
        )));
    }
    let one = |port: u16| Publish {
        host_ip: ip,
        host: match host {
            None => HostPort::Any,
            Some(Range { first, last }) if container.length() == 0 => HostPort::Range { first, last },
            Some(Range { first, .. }) => {
                let own = first + (port - container.first);
                HostPort::Range { first: own, last: own }
            }
        },
        container: port,
        protocol,
    };
    Ok((container.first..=container.last).map(one).collect())
}

/// The hint shows all of what was typed.
fn about(e: Error, text: &str) -> Error {
    match e.hint() {
        Some(_) => bad_format(text),
        None => e,
    }
}

/// Takes the address off the front. 0.0.0.0 stays an address: IPv4 only, as in docker. `None` if it is not one.
fn split_address(text: &str) -> Option<(Option<IpAddr>, &str)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (ip, rest) = rest.split_once(']')?;
        let ip: std::net::Ipv6Addr = ip.parse().ok()?;
        return Some((Some(ip.into()), rest.strip_prefix(':').filter(|r| r.contains(':'))?));
    }
    let colons = text.matches(':').count();
    if colons < 2 {
        return Some((None, text));
    }
    // The last two parts are ports; what is before them is an address, brackets or not.
    let (rest, container) = text.rsplit_once(':')?;
    let (ip, host) = rest.rsplit_once(':')?;
    let ports = &text[text.len() - host.len() - 1 - container.len()..];
    match ip {
        "" => None,
        ip => Some((Some(ip.parse().ok()?), ports)),
    }
}

/// `--expose 80`, `80/udp`, `8000-8010/tcp`: one by one, with their protocol.
pub(crate) fn parse_expose(text: &str) -> Result<Vec<PortNumber>> {
    let bad = |_| Error::usage(format!("invalid range format for --expose: {}", text.escape_debug()));
    let (numbers, protocol) = split_protocol(text).map_err(bad)?;
    let range = Range::parse(numbers).map_err(bad)?;
    match range.first {
        0 => Err(bad(Error::usage(""))),
        first => Ok((first..=range.last).map(|port| PortNumber { port, protocol }).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ip|host|container/protocol` of each, as a readable line.
    fn lines(text: &str) -> String {
        let all = parse_publish(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let line = |p: &Publish| {
            let ip = p.host_ip.map_or("*".to_owned(), |ip| ip.to_string());
            format!("{ip}|{}|{}/{}", p.host, p.container, p.protocol)
        };
        all.iter().map(line).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_form() {
        for (text, want) in [
            ("80", "*||80/tcp"),
            ("80/udp", "*||80/udp"),
            ("80/SCTP", "*||80/sctp"),
            (":80", "*|80|80/tcp"),
            (":80-81/udp", "*|80|80/udp *|81|81/udp"),
            ("8080:80", "*|8080|80/tcp"),
            ("0:80", "*||80/tcp"),
            ("8080:80/udp", "*|8080|80/udp"),
            ("80-82", "*||80/tcp *||81/tcp *||82/tcp"),
            ("8000-8001:80-81", "*|8000|80/tcp *|8001|81/tcp"),
            ("8000-8005:80", "*|8000-8005|80/tcp"),
            ("127.0.0.1:8080:80", "127.0.0.1|8080|80/tcp"),
            ("127.0.0.1::80/udp", "127.0.0.1||80/udp"),
            ("127.0.0.1:0:80", "127.0.0.1||80/tcp"),
            ("0.0.0.0:8080:80", "0.0.0.0|8080|80/tcp"),
            ("[::1]:8080:80", "::1|8080|80/tcp"),
            ("[::]:8080:80", "::|8080|80/tcp"),
            ("[fd00::1]::80", "fd00::1||80/tcp"),
            ("::1:8080:80", "::1|8080|80/tcp"),
            ("[::1]:8000-8001:80-81/udp", "::1|8000|80/udp ::1|8001|81/udp"),
            ("65535:65535", "*|65535|65535/tcp"),
        ] {
            assert_eq!(lines(text), want, "{text}");
        }
    }

    #[test]
    fn what_2013_said_of_bad_ones() {
        for text in [
            "",
            ":",
            "a",
            "80:",
            "a:80",
            "80:a",
            "80/tcp/udp",
            "1:2:3:4",
            "127.0.0.1:80",
            "[::1]:80",
            "[::1]",
            "[::1:80:80",
            "[127.0.0.1]:1:2",
            "-80",
            "80-",
            "81-80",
            "+80",
            " 80",
            "80 ",
            "x:1:2",
            "::80",
            "0-5:80",
            "0x50",
        ] {
            assert_eq!(
                parse_publish(text).unwrap_err().to_string(),
                "Invalid port format.",
                "{text}"
            );
        }
        for (text, want) in [
            ("80/icmp", "Invalid port format: unknown protocol icmp."),
            ("80/", "Invalid port format: unknown protocol ."),
            ("80/\x1b[2J", "Invalid port format: unknown protocol \\u{1b}[2J."),
            ("65536", "Invalid port format: 65536 is above 65535."),
            ("99999999999:80", "Invalid port format: 99999999999 is above 65535."),
            ("0", "Invalid port format: 0 is not a port of a container."),
            ("80:0", "Invalid port format: 0 is not a port of a container."),
            (
                "80-81:80-82",
                "Invalid port format: the ranges of '80-81:80-82' are not of the same length.",
            ),
        ] {
            assert_eq!(parse_publish(text).unwrap_err().to_string(), want, "{text}");
        }
    }

    #[test]
    fn exposed_ports() {
        let exposed = |text| {
            let all = parse_expose(text)?;
            Ok::<_, Error>(all.iter().map(PortNumber::to_string).collect::<Vec<_>>())
        };
        assert_eq!(exposed("80").unwrap(), ["80/tcp"]);
        assert_eq!(exposed("53-54/udp").unwrap(), ["53/udp", "54/udp"]);
        for bad in ["", "0", "x", "2-1", "80/icmp", "70000", "0-3"] {
            let e = exposed(bad).unwrap_err().to_string();
            assert_eq!(e, format!("invalid range format for --expose: {bad}"));
        }
    }

    #[test]
    fn as_ps_lists_them() {
        let port = |text: &str| -> PublishedPort {
            let p = parse_publish(text).unwrap().remove(0);
            let HostPort::Range { first, .. } = p.host else {
                panic!()
            };
            PublishedPort {
                container_port: p.container,
                protocol: p.protocol,
                host_ip: p.host_ip.unwrap(),
                host_port: first,
            }
        };
        for (published, exposed, want) in [
            (
                &["0.0.0.0:8080:80", "[::]:8080:80"][..],
                &[][..],
                "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp",
            ),
            (&[], &["80", "53/udp"], "53/udp, 80/tcp"),
            (&["0.0.0.0:80:80"], &["80", "81"], "0.0.0.0:80->80/tcp, 81/tcp"),
            (
                &[
                    "0.0.0.0:1:1",
                    "0.0.0.0:2:2",
                    "0.0.0.0:3:3",
                    "0.0.0.0:5:5",
                    "127.0.0.1:9:6",
                ],
                &["7", "8"],
                "0.0.0.0:1-3->1-3/tcp, 0.0.0.0:5->5/tcp, 7-8/tcp, 127.0.0.1:9->6/tcp",
            ),
        ] {
            let published: Vec<_> = published.iter().map(|t| port(t)).collect();
            let exposed: Vec<PortNumber> = exposed.iter().map(|t| t.parse().unwrap()).collect();
            assert_eq!(summary(&published, &exposed), want);
        }
    }
}
