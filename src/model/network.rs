//! Networks: what a person makes of them, what a container asks of one, and what it got.

use crate::error::{Error, Result};
use crate::model::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The network of a container that asks for none.
pub(crate) const DEFAULT: &str = "bridge";

/// A network, as recorded (`networks/<id>.json`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Network {
    /// 64 hex digits.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    pub(crate) driver: Driver,
    /// At most one of each family.
    pub(crate) subnets: Vec<Subnet>,
    /// The bridge on the host, or the parent of macvlan and ipvlan links (empty: none, they see each other only).
    pub(crate) link: String,
    /// The link was there before, and is somebody else's: never changed, never removed.
    #[serde(default)]
    pub(crate) foreign_link: bool,
    /// No way out of it.
    #[serde(default)]
    pub(crate) internal: bool,
    #[serde(default)]
    pub(crate) ipv6: bool,
    /// Containers on it find each other by name.
    #[serde(default)]
    pub(crate) dns: bool,
    #[serde(default)]
    pub(crate) options: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
}

impl Network {
    pub(crate) fn is_default(&self) -> bool {
        self.name == DEFAULT
    }

    /// The first 12 digits.
    pub(crate) fn short(&self) -> &str {
        self.id.get(..crate::model::id::SHORT).unwrap_or(&self.id)
    }

    pub(crate) fn subnet4(&self) -> Option<&Subnet> {
        self.subnets.iter().find(|s| s.subnet.is_ipv4())
    }

    pub(crate) fn subnet6(&self) -> Option<&Subnet> {
        self.subnets.iter().find(|s| !s.subnet.is_ipv4())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Driver {
    Bridge,
    Macvlan,
    Ipvlan,
}

impl Driver {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Driver::Bridge => "bridge",
            Driver::Macvlan => "macvlan",
            Driver::Ipvlan => "ipvlan",
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subnet {
    pub(crate) subnet: Prefix,
    pub(crate) gateway: Option<IpAddr>,
    /// Leases without a wish come from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) range: Option<Prefix>,
    /// What stands there besides containers, by name: given to none of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) aux: BTreeMap<String, IpAddr>,
}

/// What a container asks of a network (`--network NAME:ip=…`, `--ip`, `network connect`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attachment {
    /// The network's name; its id would do as well.
    pub(crate) network: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ip: Option<Ipv4Addr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ip6: Option<Ipv6Addr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mac: Option<Mac>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) aliases: Vec<String>,
    /// Its name inside, instead of the next `ethN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) interface: Option<String>,
}

impl Attachment {
    pub(crate) fn to(network: impl Into<String>) -> Attachment {
        Attachment {
            network: network.into(),
            ..Attachment::default()
        }
    }
}

/// A running container's place on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    /// The network's name.
    pub(crate) network: String,
    pub(crate) network_id: String,
    pub(crate) driver: Driver,
    /// Inside: `eth0`.
    pub(crate) interface: String,
    /// The host's end of the pair; empty where there is none (macvlan, ipvlan).
    pub(crate) link: String,
    /// The network's bridge or parent on the host.
    pub(crate) bridge: String,
    pub(crate) address: Option<Ipv4Addr>,
    #[serde(default)]
    pub(crate) prefix: u8,
    pub(crate) gateway: Option<Ipv4Addr>,
    #[serde(default)]
    pub(crate) address6: Option<Ipv6Addr>,
    #[serde(default)]
    pub(crate) prefix6: u8,
    #[serde(default)]
    pub(crate) gateway6: Option<Ipv6Addr>,
    pub(crate) mac: Mac,
    #[serde(default)]
    pub(crate) aliases: Vec<String>,
    /// Of the network: see there.
    #[serde(default)]
    pub(crate) internal: bool,
    #[serde(default)]
    pub(crate) dns: bool,
}

impl Endpoint {
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.address.map(IpAddr::V4);
        v4.into_iter().chain(self.address6.map(IpAddr::V6))
    }
}

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Mac(pub(crate) [u8; 6]);

impl Mac {
    /// Locally administered, from an address that nobody else on the network has: the neighbours' tables stay right
    /// when the next container gets both.
    pub(crate) fn of(address: IpAddr) -> Mac {
        match address {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                Mac([0x02, 0x42, a, b, c, d])
            }
            IpAddr::V6(v6) => {
                let o = v6.octets();
                Mac([0x02, 0x46, o[12], o[13], o[14], o[15]])
            }
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = Error;

    /// Six pairs of hex digits with `:` or `-` between; of one station, not a group.
    fn from_str(text: &str) -> Result<Mac> {
        let wrong = || Error::usage(format!("{} is not a valid mac address", text.escape_debug()));
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        match parts.next().is_none() && bytes[0] & 1 == 0 && bytes != [0; 6] {
            true => Ok(Mac(bytes)),
            false => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Mac {
    type Error = Error;

    fn try_from(text: String) -> Result<Mac> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

/// A range of addresses, `10.0.0.0/8`; the bits after the length are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// The bits of `address` after `length` are dropped; a length that is too long is the longest.
    pub(crate) fn new(address: IpAddr, length: u8) -> Prefix {
        let width = width(address);
        let length = length.min(width);
        let keep = mask(width, length);
        let address = number_to_address(number(address) & keep, address.is_ipv4());
        Prefix { address, length }
    }

    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    pub(crate) fn length(&self) -> u8 {
        self.length
    }

    pub(crate) fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_ipv4() && Prefix::new(address, self.length) == *self
    }

    /// Whether it lies in this one whole.
    pub(crate) fn covers(&self, other: &Prefix) -> bool {
        other.length >= self.length && self.contains(other.address)
    }

    pub(crate) fn overlaps(&self, other: &Prefix) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// The address with this number, counted from the range's own; `None` beyond its end.
    pub(crate) fn nth(&self, n: u128) -> Option<IpAddr> {
        (n <= self.last()).then(|| number_to_address(number(self.address) + n, self.is_ipv4()))
    }

    /// The number of its last address.
    pub(crate) fn last(&self) -> u128 {
        let width = width(self.address);
        mask(width, width) & !mask(width, self.length)
    }

    /// The number of an address that lies in it.
    pub(crate) fn index(&self, address: IpAddr) -> Option<u128> {
        self.contains(address).then(|| number(address) - number(self.address))
    }

    /// Of IPv4 with room for hosts: the last one.
    pub(crate) fn broadcast(&self) -> Option<IpAddr> {
        (self.is_ipv4() && self.length < 31)
            .then(|| self.nth(self.last()))
            .flatten()
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn mask(width: u8, length: u8) -> u128 {
    let all = if width == 32 { u128::from(u32::MAX) } else { u128::MAX };
    match u32::from(width - length) {
        128 => 0,
        shift => (all >> shift) << shift,
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn number_to_address(number: u128, ipv4: bool) -> IpAddr {
    match u32::try_from(number) {
        Ok(bits) if ipv4 => IpAddr::V4(Ipv4Addr::from_bits(bits)),
        _ => IpAddr::V6(Ipv6Addr::from_bits(number)),
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Prefix {
    type Err = Error;

    /// Bits after the length are dropped, as docker does.
    fn from_str(text: &str) -> Result<Prefix> {
        let wrong = || Error::usage(format!("invalid CIDR address: {}", text.escape_debug()));
        let (address, length) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let length: u8 = length.parse().map_err(|_| wrong())?;
        match length <= width(address) {
            true => Ok(Prefix::new(address, length)),
            false => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Prefix {
    type Error = Error;

    fn try_from(text: String) -> Result<Prefix> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> String {
        prefix.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn prefixes_contain_and_overlap() {
        let net = prefix("172.17.0.1/16");
        assert_eq!(net.to_string(), "172.17.0.0/16");
        assert!(net.contains("172.17.255.255".parse().unwrap()));
        assert!(!net.contains("172.18.0.0".parse().unwrap()));
        assert!(!net.contains("::1".parse().unwrap()));
        assert!(net.overlaps(&prefix("172.16.0.0/12")) && prefix("0.0.0.0/0").overlaps(&net));
        assert!(!net.overlaps(&prefix("172.18.0.0/16")) && !net.overlaps(&prefix("::/0")));
        assert!(prefix("::/0").covers(&prefix("fd00::/64")));
    }

    #[test]
    fn addresses_are_counted() {
        let net = prefix("192.168.1.0/30");
        assert_eq!(net.nth(3), Some("192.168.1.3".parse().unwrap()));
        assert_eq!(net.nth(4), None);
        assert_eq!(net.broadcast(), net.nth(3));
        assert_eq!(prefix("10.0.0.0/31").broadcast(), None);
        assert_eq!(prefix("fd00::/64").index("fd00::1:2".parse().unwrap()), Some(0x1_0002));
        assert_eq!(prefix("::/0").last(), u128::MAX);
    }

    #[test]
    fn bad_prefixes_are_refused() {
        for bad in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0/8",
            "fd00::/129",
            "x/8",
            "10.0.0.0/-1",
        ] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn macs() {
        let mac: Mac = "02-42-AC-11-00-02".parse().unwrap();
        assert_eq!(mac, Mac::of("172.17.0.2".parse().unwrap()));
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        for bad in [
            "",
            "02:42:ac:11:00",
            "02:42:ac:11:00:02:03",
            "01:42:ac:11:00:02",
            "2:42:ac:11:0:2",
            "00:00:00:00:00:00",
            "zz:42:ac:11:00:02",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
