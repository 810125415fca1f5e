//! The engine's firewall as plain data: one table with chains and rules that are made once per host, and sets and maps
//! whose elements are all that a network, a container or a port adds.
//!
//! ```text
//!  prerouting, output   a port of the host → address and port of a container (maps `any*`, `addr*`)
//!  postrouting          masquerade: out of our networks, back into them, and from 127.0.0.1 into them
//!  guard                nothing from a wire gets at 127.0.0.0/8, or comes from there, whatever route_localnet says (CVE-2020-8558)
//!  forward              what goes through our bridges: `user` first, then ours, isolated from each other
//!  input                what the userland proxy serves (IPv6 to IPv4) passes `user` too
//!  user                 the administrator's: made once, never flushed, never changed
//! ```
//! The text of a rule is what `nft list table` shows of it (tests/it/firewall.rs compares).

use crate::model::network::{Driver, Endpoint, Network, Prefix};
use crate::model::port::PublishedPort;
use std::fmt;
use std::net::IpAddr;

/// The chain that is the administrator's.
pub(crate) const USER_CHAIN: &str = "user";

/// A 32-bit register; wide values begin at one and go on in the next.
pub(crate) type Register = u8;

/// What a rule does, in the steps of the kernel's machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    InterfaceIn(Register),
    InterfaceOut(Register),
    /// IPv4 or IPv6 only.
    OnlyIpv4,
    OnlyIpv6,
    Protocol(Register),
    /// Bytes of the IP header.
    Network {
        offset: u32,
        length: u32,
        to: Register,
    },
    DestinationPort(Register),
    /// Bits of a register's first bytes.
    Mask(Register, Vec<u8>),
    /// A constant goes to a register.
    Load(Register, Vec<u8>),
    Equal(Register, Vec<u8>),
    NotEqual(Register, Vec<u8>),
    In(Register, &'static str),
    NotIn(Register, &'static str),
    /// The map's value for a key goes to register 0.
    MapTo(Register, &'static str),
    /// One of these bits of the connection's state, or of its status.
    State(u32),
    Status(u32),
    /// The destination is the host's own.
    LocalDestination,
    Dnat {
        ipv6: bool,
        port: Register,
    },
    Masquerade,
    Accept,
    Drop,
    Return,
    Jump(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) chain: &'static str,
    pub(crate) text: &'static str,
    pub(crate) ops: Vec<Op>,
}

/// Where a base chain hangs in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hook {
    /// `filter` or `nat`.
    pub(crate) kind: &'static str,
    /// NF_INET_*.
    pub(crate) hook: u32,
    pub(crate) priority: i32,
}

/// NF_INET_PRE_ROUTING and its fellows (linux/netfilter.h).
const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
pub(crate) const FORWARD: u32 = 2;
pub(crate) const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;

pub(crate) const CHAINS: &[(&str, Option<Hook>)] = &[
    (USER_CHAIN, None),
    ("published", None),
    ("traffic", None),
    ("guard", base("filter", PREROUTING, -300)),
    ("prerouting", base("nat", PREROUTING, -100)),
    ("output", base("nat", OUTPUT, -100)),
    ("postrouting", base("nat", POSTROUTING, 100)),
    ("forward", base("filter", FORWARD, 0)),
    ("input", base("filter", INPUT, 0)),
];

const fn base(kind: &'static str, hook: u32, priority: i32) -> Option<Hook> {
    Some(Hook { kind, hook, priority })
}

/// The parts of keys and values, as nft names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Ipv4,
    Ipv6,
    Protocol,
    Port,
    Interface,
}

impl Type {
    /// nft's number for it, which it shows elements by (libnftables' datatypes).
    pub(crate) fn number(self) -> u32 {
        match self {
            Type::Ipv4 => 7,
            Type::Ipv6 => 8,
            Type::Protocol => 12,
            Type::Port => 13,
            Type::Interface => 41,
        }
    }

    /// Bytes in a key, where every part fills whole registers.
    pub(crate) fn width(self) -> u32 {
        match self {
            Type::Ipv6 | Type::Interface => 16,
            Type::Ipv4 | Type::Protocol | Type::Port => 4,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) key: &'static [Type],
    /// Empty: no map.
    pub(crate) value: &'static [Type],
    /// Elements are ranges of addresses.
    pub(crate) ranges: bool,
}

pub(crate) const SETS: &[Set] = {
    use Type::{Interface, Ipv4, Ipv6, Port, Protocol};
    &[
        set("bridges", &[Interface], &[]),
        set("same", &[Interface, Interface], &[]),
        set("internal", &[Interface], &[]),
        ranges("nets4", &[Ipv4]),
        ranges("nets6", &[Ipv6]),
        ranges("masq4", &[Ipv4]),
        ranges("masq6", &[Ipv6]),
        set("addr4", &[Ipv4, Protocol, Port], &[Ipv4, Port]),
        set("any4", &[Protocol, Port], &[Ipv4, Port]),
        set("addr6", &[Ipv6, Protocol, Port], &[Ipv6, Port]),
        set("any6", &[Protocol, Port], &[Ipv6, Port]),
        set("proxied", &[Protocol, Port], &[]),
        set("proxied6", &[Ipv6, Protocol, Port], &[]),
    ]
};

const fn set(name: &'static str, key: &'static [Type], value: &'static [Type]) -> Set {
    let ranges = false;
    Set {
        name,
        key,
        value,
        ranges,
    }
}

const fn ranges(name: &'static str, key: &'static [Type]) -> Set {
    let ranges = true;
    Set {
        name,
        key,
        value: &[],
        ranges,
    }
}

/// Bits of a connection's state (NF_CT_STATE_BIT) and status (IPS_DST_NAT).
const ESTABLISHED: u32 = 1 << 1;
const RELATED: u32 = 1 << 2;
const NEW: u32 = 1 << 3;
const DNAT: u32 = 1 << 5;

fn rule(chain: &'static str, text: &'static str, ops: Vec<Op>) -> Rule {
    Rule { chain, text, ops }
}

/// Offsets in the IP headers.
fn source4(to: Register) -> Op {
    network(12, 4, to)
}

fn destination4(to: Register) -> Op {
    network(16, 4, to)
}

fn source6(to: Register) -> Op {
    network(8, 16, to)
}

fn destination6(to: Register) -> Op {
    network(24, 16, to)
}

fn network(offset: u32, length: u32, to: Register) -> Op {
    Op::Network { offset, length, to }
}

/// Every rule of the table, in order.
pub(crate) fn rules() -> Vec<Rule> {
    let mut all = vec![
        // Before anything is translated, so that it is what came over the wire.
        rule(
            "guard",
            "iifname != \"lo\" ip daddr 127.0.0.0/8 drop",
            vec![
                Op::InterfaceIn(0),
                Op::NotEqual(0, name("lo")),
                Op::OnlyIpv4,
                network(16, 1, 0),
                Op::Equal(0, vec![127]),
                Op::Drop,
            ],
        ),
        // Nor does anything on a wire come from there: route_localnet would let a container pass for the host itself.
        rule(
            "guard",
            "iifname != \"lo\" ip saddr 127.0.0.0/8 drop",
            vec![
                Op::InterfaceIn(0),
                Op::NotEqual(0, name("lo")),
                Op::OnlyIpv4,
                network(12, 1, 0),
                Op::Equal(0, vec![127]),
                Op::Drop,
            ],
        ),
        // From outside nobody gets at a port of 127.0.0.1, whatever route_localnet says elsewhere.
        rule(
            "prerouting",
            "ip daddr 127.0.0.0/8 return",
            vec![Op::OnlyIpv4, network(16, 1, 0), Op::Equal(0, vec![127]), Op::Return],
        ),
        rule(
            "prerouting",
            "fib daddr type local jump published",
            vec![Op::LocalDestination, Op::Jump("published")],
        ),
        rule(
            "output",
            "fib daddr type local jump published",
            vec![Op::LocalDestination, Op::Jump("published")],
        ),
    ];
    all.extend(published());
    all.extend(postrouting());
    all.extend(forward());
    all
}

fn published() -> Vec<Rule> {
    let loopback6 = std::net::Ipv6Addr::LOCALHOST.octets().to_vec();
    vec![
        // There is no way to route ::1 or a link's own addresses elsewhere: these are the proxy's.
        rule(
            "published",
            "ip6 daddr ::1 return",
            vec![Op::OnlyIpv6, destination6(0), Op::Equal(0, loopback6), Op::Return],
        ),
        rule(
            "published",
            "ip6 saddr fe80::/10 return",
            vec![
                Op::OnlyIpv6,
                source6(0),
                Op::Mask(0, [&[0xff, 0xc0][..], &[0; 14]].concat()),
                Op::Equal(0, [&[0xfe, 0x80][..], &[0; 14]].concat()),
                Op::Return,
            ],
        ),
        rule(
            "published",
            "dnat ip to ip daddr . meta l4proto . th dport map @addr4",
            vec![
                Op::OnlyIpv4,
                destination4(0),
                Op::Protocol(1),
                Op::DestinationPort(2),
                Op::MapTo(0, "addr4"),
                Op::Dnat { ipv6: false, port: 1 },
            ],
        ),
        rule(
            "published",
            "meta nfproto ipv4 dnat ip to meta l4proto . th dport map @any4",
            vec![
                Op::OnlyIpv4,
                Op::Protocol(0),
                Op::DestinationPort(1),
                Op::MapTo(0, "any4"),
                Op::Dnat { ipv6: false, port: 1 },
            ],
        ),
        rule(
            "published",
            "dnat ip6 to ip6 daddr . meta l4proto . th dport map @addr6",
            vec![
                Op::OnlyIpv6,
                destination6(0),
                Op::Protocol(4),
                Op::DestinationPort(5),
                Op::MapTo(0, "addr6"),
                Op::Dnat { ipv6: true, port: 4 },
            ],
        ),
        rule(
            "published",
            "meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @any6",
            vec![
                Op::OnlyIpv6,
                Op::Protocol(0),
                Op::DestinationPort(1),
                Op::MapTo(0, "any6"),
                Op::Dnat { ipv6: true, port: 4 },
            ],
        ),
    ]
}

fn postrouting() -> Vec<Rule> {
    let out = |ip, source: Op, set: &'static str, text| {
        let ops = vec![
            ip,
            source,
            Op::In(0, set),
            Op::InterfaceOut(0),
            Op::NotIn(0, "bridges"),
            Op::Masquerade,
        ];
        rule("postrouting", text, ops)
    };
    // Its neighbour would answer it directly, from an address it has not asked.
    let back = |ip, source: Op, set: &'static str, text| {
        let ops = vec![
            Op::Status(DNAT),
            Op::InterfaceOut(0),
            Op::In(0, "bridges"),
            ip,
            source,
            Op::In(0, set),
            Op::Masquerade,
        ];
        rule("postrouting", text, ops)
    };
    vec![
        out(
            Op::OnlyIpv4,
            source4(0),
            "masq4",
            "ip saddr @masq4 oifname != @bridges masquerade",
        ),
        out(
            Op::OnlyIpv6,
            source6(0),
            "masq6",
            "ip6 saddr @masq6 oifname != @bridges masquerade",
        ),
        back(
            Op::OnlyIpv4,
            source4(0),
            "nets4",
            "ct status dnat oifname @bridges ip saddr @nets4 masquerade",
        ),
        back(
            Op::OnlyIpv6,
            source6(0),
            "nets6",
            "ct status dnat oifname @bridges ip6 saddr @nets6 masquerade",
        ),
        rule(
            "postrouting",
            "oifname @bridges ip saddr 127.0.0.0/8 masquerade",
            vec![
                Op::InterfaceOut(0),
                Op::In(0, "bridges"),
                Op::OnlyIpv4,
                network(12, 1, 0),
                Op::Equal(0, vec![127]),
                Op::Masquerade,
            ],
        ),
    ]
}

fn forward() -> Vec<Rule> {
    let into = |set| vec![Op::InterfaceIn(0), Op::In(0, set)];
    let out_of = |set| vec![Op::InterfaceOut(0), Op::In(0, set)];
    let then = |mut ops: Vec<Op>, last: Op| {
        ops.push(last);
        ops
    };
    let traffic = |text, ops| rule("traffic", text, ops);
    vec![
        rule(
            "forward",
            "iifname @bridges jump traffic",
            then(into("bridges"), Op::Jump("traffic")),
        ),
        rule(
            "forward",
            "oifname @bridges jump traffic",
            then(out_of("bridges"), Op::Jump("traffic")),
        ),
        traffic("jump user", vec![Op::Jump(USER_CHAIN)]),
        traffic(
            "ct state established,related accept",
            vec![Op::State(ESTABLISHED | RELATED), Op::Accept],
        ),
        // Bridged packets come by here where br_netfilter is on.
        traffic(
            "iifname . oifname @same accept",
            vec![Op::InterfaceIn(0), Op::InterfaceOut(4), Op::In(0, "same"), Op::Accept],
        ),
        traffic("iifname @internal drop", then(into("internal"), Op::Drop)),
        traffic("oifname @internal drop", then(out_of("internal"), Op::Drop)),
        traffic("ct status dnat accept", vec![Op::Status(DNAT), Op::Accept]),
        traffic(
            "iifname @bridges oifname @bridges drop",
            then([into("bridges"), out_of("bridges")].concat(), Op::Drop),
        ),
        traffic("iifname @bridges accept", then(into("bridges"), Op::Accept)),
        traffic("drop", vec![Op::Drop]),
        rule(
            "input",
            "iifname != \"lo\" ct state new meta nfproto ipv6 meta l4proto . th dport @proxied jump user",
            [
                not_loopback(),
                vec![
                    Op::OnlyIpv6,
                    Op::Protocol(0),
                    Op::DestinationPort(1),
                    Op::In(0, "proxied"),
                    Op::Jump(USER_CHAIN),
                ],
            ]
            .concat(),
        ),
        rule(
            "input",
            "iifname != \"lo\" ct state new ip6 daddr . meta l4proto . th dport @proxied6 jump user",
            [
                not_loopback(),
                vec![
                    Op::OnlyIpv6,
                    destination6(0),
                    Op::Protocol(4),
                    Op::DestinationPort(5),
                    Op::In(0, "proxied6"),
                    Op::Jump(USER_CHAIN),
                ],
            ]
            .concat(),
        ),
    ]
}

fn not_loopback() -> Vec<Op> {
    vec![Op::InterfaceIn(0), Op::NotEqual(0, name("lo")), Op::State(NEW)]
}

/// As registers hold it.
fn name(interface: &str) -> Vec<u8> {
    Part::Interface(interface.to_owned()).bytes()
}

/// A part of an element's key or value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Address(IpAddr),
    Protocol(u8),
    Port(u16),
    Interface(String),
}

impl Part {
    /// As registers hold it.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = match self {
            Part::Address(IpAddr::V4(v4)) => v4.octets().to_vec(),
            Part::Address(IpAddr::V6(v6)) => v6.octets().to_vec(),
            Part::Protocol(number) => vec![*number],
            Part::Port(port) => port.to_be_bytes().to_vec(),
            Part::Interface(name) => {
                let mut bytes = name.as_bytes().to_vec();
                bytes.resize(16, 0);
                bytes
            }
        };
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Address(ip) => write!(f, "{ip}"),
            Part::Protocol(6) => f.write_str("tcp"),
            Part::Protocol(17) => f.write_str("udp"),
            Part::Protocol(132) => f.write_str("sctp"),
            Part::Protocol(n) => write!(f, "{n}"),
            Part::Port(port) => write!(f, "{port}"),
            Part::Interface(name) => write!(f, "\"{name}\""),
        }
    }
}

/// An element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) set: &'static str,
    pub(crate) key: Vec<Part>,
    pub(crate) value: Vec<Part>,
    /// The last address, where the set is of ranges.
    pub(crate) last: Option<IpAddr>,
    /// Whose it is.
    pub(crate) comment: String,
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |parts: &[Part]| parts.iter().map(Part::to_string).collect::<Vec<_>>().join(" . ");
        write!(f, "{}: {}", self.set, joined(&self.key))?;
        if let Some(last) = self.last {
            write!(f, "-{last}")?;
        }
        match self.value.is_empty() {
            true => Ok(()),
            false => write!(f, " : {}", joined(&self.value)),
        }
    }
}

/// Whether packets of a network leave the host under the host's address.
pub(crate) fn masquerades(network: &Network) -> bool {
    let off = network.options.get("com.docker.network.bridge.enable_ip_masquerade");
    !network.internal && off.is_none_or(|v| v != "false")
}

/// What a network adds; nothing if it has no bridge.
pub(crate) fn network_elements(network: &Network) -> Vec<Element> {
    if network.driver != Driver::Bridge || network.link.is_empty() {
        return Vec::new();
    }
    let link = || Part::Interface(network.link.clone());
    let element = |set, key, last| Element {
        set,
        key,
        value: Vec::new(),
        last,
        comment: network.name.clone(),
    };
    let mut all = vec![
        element("bridges", vec![link()], None),
        element("same", vec![link(), link()], None),
    ];
    if network.internal {
        all.push(element("internal", vec![link()], None));
    }
    for subnet in &network.subnets {
        let v4 = subnet.subnet.is_ipv4();
        all.push(range(if v4 { "nets4" } else { "nets6" }, &subnet.subnet, &network.name));
        if masquerades(network) {
            all.push(range(if v4 { "masq4" } else { "masq6" }, &subnet.subnet, &network.name));
        }
    }
    all
}

fn range(set: &'static str, prefix: &Prefix, comment: &str) -> Element {
    Element {
        set,
        key: vec![Part::Address(prefix.address())],
        value: Vec::new(),
        last: prefix.nth(prefix.last()),
        comment: comment.to_owned(),
    }
}

/// Where the ports of a container lead to: its address on the first of its bridges that is no internal one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) v4: Option<std::net::Ipv4Addr>,
    pub(crate) v6: Option<std::net::Ipv6Addr>,
}

impl Target {
    pub(crate) fn of(endpoints: &[Endpoint]) -> Option<Target> {
        let fits = |e: &&Endpoint| e.driver == Driver::Bridge && !e.internal && !e.bridge.is_empty();
        let v4 = endpoints.iter().filter(fits).find_map(|e| e.address);
        let v6 = endpoints.iter().filter(fits).find_map(|e| e.address6);
        (v4.is_some() || v6.is_some()).then_some(Target { v4, v6 })
    }

    /// The address that serves what is published at `host`: of the same family, or by the proxy of the other one.
    pub(crate) fn same_family(&self, host: IpAddr) -> Option<IpAddr> {
        match host {
            IpAddr::V4(_) => self.v4.map(IpAddr::V4),
            IpAddr::V6(_) => self.v6.map(IpAddr::V6),
        }
    }
}

/// What the published ports of a container add: one element each.
pub(crate) fn port_elements(owner: &str, endpoints: &[Endpoint], ports: &[PublishedPort]) -> Vec<Element> {
    let Some(target) = Target::of(endpoints) else {
        return Vec::new();
    };
    ports
        .iter()
        .filter_map(|port| port_element(owner, &target, port))
        .collect()
}

fn port_element(owner: &str, target: &Target, port: &PublishedPort) -> Option<Element> {
    let number = [Part::Protocol(port.protocol.number()), Part::Port(port.host_port)];
    let ip = port.host_ip;
    // What comes from this host alone needs no element: only the proxy can serve it.
    if ip.is_ipv6() && ip.is_loopback() {
        return None;
    }
    let own = target.same_family(ip);
    let (any, one) = match (ip, own) {
        (IpAddr::V4(_), _) => ("any4", "addr4"),
        (IpAddr::V6(_), Some(_)) => ("any6", "addr6"),
        (IpAddr::V6(_), None) => ("proxied", "proxied6"),
    };
    let (set, key) = match ip.is_unspecified() {
        true => (any, number.to_vec()),
        false => (one, [&[Part::Address(ip)][..], &number].concat()),
    };
    let value = match own {
        Some(address) => vec![Part::Address(address), Part::Port(port.container_port)],
        None if ip.is_ipv4() => return None,
        None => Vec::new(),
    };
    Some(Element {
        set,
        key,
        value,
        last: None,
        comment: owner.to_owned(),
    })
}

#[cfg(test)]
#[path = "ruleset_tests.rs"]
mod tests;
