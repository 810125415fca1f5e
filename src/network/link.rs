//! Links, addresses and routes: what is asked of the kernel, and how it is named when it refuses.

use crate::error::{Context as _, Error, Result};
use crate::model::network::{Mac, Prefix};
use crate::sys::netlink::{Refused, Request, Socket};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};
use netlink_packet_route::route::{RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Longest name of a link (IFNAMSIZ, without its end).
pub(crate) const LONGEST_NAME: usize = 15;

/// Whether a link may be called so (dev_valid_name()).
pub(crate) fn is_valid_name(name: &str) -> bool {
    let bad = |b: u8| b == b'/' || b == b':' || b.is_ascii_whitespace() || b.is_ascii_control();
    !name.is_empty() && name.len() <= LONGEST_NAME && name != "." && name != ".." && !name.bytes().any(bad)
}

/// A link, as far as anybody here wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) up: bool,
    pub(super) mtu: u32,
    pub(super) bridge: bool,
    /// The bridge it is a port of.
    pub(super) controller: Option<u32>,
}

/// A route of the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) to: Prefix,
    /// The link that packets leave by.
    pub(super) link: Option<u32>,
}

/// The links, addresses and routes of one network namespace.
pub(super) struct Links(Socket);

impl Links {
    /// Of the caller's namespace.
    pub(super) fn open() -> Result<Links> {
        Socket::open().map(Links).map_err(explain)
    }

    /// All of it in one datagram. The kernel goes on after a refusal; the error is the first.
    pub(super) fn apply(&mut self, requests: Vec<Request>) -> Result<()> {
        self.0.transact(requests).map_err(explain)
    }

    /// The same, for who wants to tell one refusal from another.
    pub(super) fn try_apply(&mut self, requests: Vec<Request>) -> std::result::Result<(), Refused> {
        self.0.transact(requests)
    }

    pub(super) fn find(&mut self, name: &str) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let get = RouteNetlinkMessage::GetLink(message);
        match self.0.get(get, false, &format!("find link {name}")) {
            Ok(found) => Ok(found.into_iter().find_map(link_of)),
            Err(refused) if refused.errno() == libc::ENODEV => Ok(None),
            Err(refused) => Err(explain(refused)),
        }
    }

    pub(super) fn all(&mut self) -> Result<Vec<Link>> {
        let get = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let found = self.0.get(get, true, "list links").map_err(explain)?;
        Ok(found.into_iter().filter_map(link_of).collect())
    }

    /// The addresses of a link with their prefix lengths, in the kernel's order: the first is the primary one.
    pub(super) fn addresses(&mut self, index: u32) -> Result<Vec<(IpAddr, u8)>> {
        let get = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let found = self.0.get(get, true, "list addresses").map_err(explain)?;
        let addresses = found.into_iter().filter_map(|message| {
            let RouteNetlinkMessage::NewAddress(message) = message else {
                return None;
            };
            if message.header.index != index {
                return None;
            }
            let local = message.attributes.iter().find_map(|a| match a {
                AddressAttribute::Local(address) => Some(*address),
                _ => None,
            });
            let address = local.or_else(|| {
                message.attributes.iter().find_map(|a| match a {
                    AddressAttribute::Address(address) => Some(*address),
                    _ => None,
                })
            });
            address.map(|a| (a, message.header.prefix_len))
        });
        Ok(addresses.collect())
    }

    /// Every route of every table, host routes and those that go nowhere included.
    pub(super) fn routes(&mut self) -> Result<Vec<Route>> {
        let get = RouteNetlinkMessage::GetRoute(RouteMessage::default());
        let found = self.0.get(get, true, "list routes").map_err(explain)?;
        Ok(found.into_iter().filter_map(route_of).collect())
    }
}

fn link_of(message: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = message else {
        return None;
    };
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        up: message.header.flags.contains(LinkFlags::Up),
        mtu: 1500,
        bridge: false,
        controller: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Controller(index) => link.controller = Some(index),
            LinkAttribute::LinkInfo(infos) => {
                link.bridge = infos.iter().any(|i| matches!(i, LinkInfo::Kind(InfoKind::Bridge)));
            }
            _ => {}
        }
    }
    Some(link)
}

fn route_of(message: RouteNetlinkMessage) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(message) = message else {
        return None;
    };
    let length = message.header.destination_prefix_length;
    let mut to = match message.header.address_family {
        AddressFamily::Inet => Prefix::new(std::net::Ipv4Addr::UNSPECIFIED.into(), length),
        AddressFamily::Inet6 => Prefix::new(std::net::Ipv6Addr::UNSPECIFIED.into(), length),
        _ => return None,
    };
    let mut link = None;
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(v4)) => to = Prefix::new(v4.into(), length),
            RouteAttribute::Destination(RouteAddress::Inet6(v6)) => to = Prefix::new(v6.into(), length),
            RouteAttribute::Oif(index) => link = Some(index),
            _ => {}
        }
    }
    Some(Route { to, link })
}

/// The kernel's answer as the engine's error: what was asked, and why not.
pub(super) fn explain(refused: Refused) -> Error {
    let errno = refused.errno();
    let cause = Error::from(refused.cause);
    let cause = match refused.text {
        Some(text) => Error::other(format!("{cause} ({})", text.escape_debug())),
        None => cause,
    };
    let cause = match errno {
        libc::EOPNOTSUPP => cause.with_hint("this kernel lacks a module for that"),
        _ => cause,
    };
    let result: Result<()> = Err(cause);
    match result.with_context(|| refused.what) {
        Err(e) => e,
        Ok(()) => Error::other("netlink"),
    }
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

fn named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}

fn up(message: &mut LinkMessage) {
    message.header.flags |= LinkFlags::Up;
    message.header.change_mask |= LinkFlags::Up;
}

/// A link of a kind that needs nothing else said.
pub(super) fn add_link(name: &str, kind: InfoKind) -> Request {
    let mut message = named(name);
    message
        .attributes
        .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]));
    create(message, format!("create link {name}"))
}

/// A link on top of another one, made in the namespace where it is used.
pub(super) struct Child<'a> {
    pub(super) name: &'a str,
    pub(super) parent: u32,
    pub(super) kind: InfoKind,
    pub(super) data: InfoData,
    pub(super) mac: Option<Mac>,
    pub(super) mtu: Option<u32>,
    /// `None`: here.
    pub(super) netns: Option<BorrowedFd<'a>>,
}

pub(super) fn add_child(child: Child<'_>) -> Request {
    let mut message = named(child.name);
    message.attributes.extend([
        LinkAttribute::Link(child.parent),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(child.kind.clone()), LinkInfo::Data(child.data)]),
    ]);
    message
        .attributes
        .extend(child.netns.map(|fd| LinkAttribute::NetNsFd(fd.as_raw_fd())));
    message
        .attributes
        .extend(child.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    message.attributes.extend(child.mtu.map(LinkAttribute::Mtu));
    create(message, format!("create {} link {}", child.kind, child.name))
}

/// A pair of links: one is a port of a bridge here, the other is in a container's namespace.
pub(super) struct Pair<'a> {
    pub(super) here: &'a str,
    pub(super) bridge: u32,
    pub(super) there: &'a str,
    pub(super) netns: BorrowedFd<'a>,
    pub(super) mac: Mac,
    pub(super) mtu: u32,
}

/// Both ends at once: a link that is moved into a namespace costs tens of milliseconds (it waits for every CPU).
pub(super) fn add_pair(pair: &Pair<'_>) -> Request {
    let mut peer = named(pair.there);
    peer.attributes.extend([
        LinkAttribute::Address(pair.mac.0.to_vec()),
        LinkAttribute::Mtu(pair.mtu),
        LinkAttribute::NetNsFd(pair.netns.as_raw_fd()),
    ]);
    let mut message = named(pair.here);
    up(&mut message);
    message.attributes.extend([
        LinkAttribute::Mtu(pair.mtu),
        LinkAttribute::Controller(pair.bridge),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ]);
    create(
        message,
        format!("create link {} with its peer {}", pair.here, pair.there),
    )
}

fn create(message: LinkMessage, what: String) -> Request {
    Request {
        message: RouteNetlinkMessage::NewLink(message),
        flags: NLM_F_CREATE | NLM_F_EXCL,
        what,
    }
}

pub(super) fn set_up(index: u32, name: &str) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    up(&mut message);
    set(message, format!("bring {name} up"))
}

pub(super) fn set_mtu(index: u32, name: &str, mtu: u32) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::Mtu(mtu));
    set(message, format!("set the MTU of {name} to {mtu}"))
}

pub(super) fn set_mac(index: u32, name: &str, mac: Mac) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::Address(mac.0.to_vec()));
    set(message, format!("set the MAC address of {name} to {mac}"))
}

fn set(message: LinkMessage, what: String) -> Request {
    Request {
        message: RouteNetlinkMessage::SetLink(message),
        flags: 0,
        what,
    }
}

/// What comes from a bridge's port may go out at the same one: a container that reaches its own published port, where
/// br_netfilter turns the packet round inside the bridge.
pub(super) fn set_hairpin(name: &str) -> Request {
    let mut message = named(name);
    let mode = InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)]);
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(mode),
    ]));
    Request {
        message: RouteNetlinkMessage::NewLink(message),
        flags: 0,
        what: format!("let {name} reach itself"),
    }
}

pub(super) fn delete_link(name: &str) -> Request {
    Request {
        message: RouteNetlinkMessage::DelLink(named(name)),
        flags: 0,
        what: format!("delete link {name}"),
    }
}

/// Whoever leases addresses knows that nobody else has one: IPv6 need not ask around for seconds.
pub(super) fn add_address(index: u32, name: &str, address: IpAddr, length: u8) -> Request {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = length;
    message.header.index = index;
    message.header.scope = AddressScope::Universe;
    message
        .attributes
        .extend([AddressAttribute::Local(address), AddressAttribute::Address(address)]);
    match address {
        IpAddr::V4(_) => {
            if let Some(IpAddr::V4(broadcast)) = Prefix::new(address, length).broadcast() {
                message.attributes.push(AddressAttribute::Broadcast(broadcast));
            }
        }
        IpAddr::V6(_) => {
            message.header.flags = AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
    }
    Request {
        message: RouteNetlinkMessage::NewAddress(message),
        flags: NLM_F_CREATE | NLM_F_REPLACE,
        what: format!("add address {address}/{length} to {name}"),
    }
}

pub(super) fn add_default_route(index: u32, gateway: IpAddr) -> Request {
    default_route(index, Some(gateway), format!("add the default route by {gateway}"))
}

/// To a link where everybody is a neighbour (ipvlan in a layer 3 mode).
pub(super) fn add_default_link_route(index: u32, family: AddressFamily) -> Request {
    let mut request = default_route(index, None, "add the default route".to_owned());
    if let RouteNetlinkMessage::NewRoute(message) = &mut request.message {
        message.header.address_family = family;
        message.header.scope = RouteScope::Link;
    }
    request
}

fn default_route(index: u32, gateway: Option<IpAddr>, what: String) -> Request {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: gateway.map_or(AddressFamily::Inet, family),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Boot,
        scope: RouteScope::Universe,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message
        .attributes
        .extend(gateway.map(|g| RouteAttribute::Gateway(g.into())));
    message.attributes.push(RouteAttribute::Oif(index));
    Request {
        message: RouteNetlinkMessage::NewRoute(message),
        flags: NLM_F_CREATE | NLM_F_REPLACE,
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_links() {
        for good in ["eth0", "barge0-abcdef", "a", "br-0123456789ab"] {
            assert!(is_valid_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a:b", "0123456789abcdef", "a\n"] {
            assert!(!is_valid_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn loopback_has_its_address_and_route() {
        let mut links = Links::open().unwrap();
        let lo = links.find("lo").unwrap().unwrap();
        assert_eq!((lo.index, lo.name.as_str(), lo.bridge), (1, "lo", false));
        assert_eq!(links.find("no-such-link").unwrap(), None);
        assert!(links.all().unwrap().contains(&lo));
        if lo.up {
            let address = (std::net::Ipv4Addr::LOCALHOST.into(), 8);
            assert!(links.addresses(1).unwrap().contains(&address));
            let local: Prefix = "127.0.0.0/8".parse().unwrap();
            assert!(
                links
                    .routes()
                    .unwrap()
                    .iter()
                    .any(|r| r.to == local && r.link == Some(1))
            );
        }
    }
}
