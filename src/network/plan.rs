//! Which addresses a network gets, and what may be asked of one (pure).

use crate::error::{Error, Result};
use crate::model::network::{Prefix, Subnet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A route to this many addresses is a way out, not somebody's network: defaults, and the halves and quarters that VPNs
/// put over them.
const SHORTEST_TAKEN: u8 = 4;

/// The subnets that a network may get without being asked: 172.17 to 172.31, then 192.168.x.
fn pool() -> impl Iterator<Item = Prefix> {
    let large = (17..=31).map(|n| Prefix::new(Ipv4Addr::new(172, n, 0, 0).into(), 16));
    let small = (0..=255).map(|n| Prefix::new(Ipv4Addr::new(192, 168, n, 0).into(), 24));
    large.chain(small)
}

/// The first of them that nobody has: `taken` are the routes of the host and the subnets of other networks.
pub(super) fn free_subnet(taken: &[Prefix]) -> Result<Subnet> {
    let taken: Vec<_> = taken.iter().filter(|t| t.length() >= SHORTEST_TAKEN).collect();
    let free = pool().find(|p| !taken.iter().any(|t| t.overlaps(p)));
    let subnet = free.ok_or_else(|| {
        Error::other("no free subnet: every candidate overlaps a route of this host or another network")
            .with_hint("name one: barge network create --subnet 10.99.0.0/16 NAME")
    })?;
    with_gateway(subnet, None, None)
}

/// A private IPv6 subnet (RFC 4193) from random bits.
pub(super) fn private_subnet6(random: [u8; 7]) -> Subnet {
    let mut bytes = [0; 16];
    bytes[0] = 0xfd;
    bytes[1..8].copy_from_slice(&random);
    let subnet = Prefix::new(Ipv6Addr::from(bytes).into(), 64);
    Subnet {
        subnet,
        gateway: subnet.nth(1),
        range: None,
        aux: Default::default(),
    }
}

/// A subnet as asked for; its gateway is its first address if nothing else is said.
pub(super) fn with_gateway(subnet: Prefix, gateway: Option<IpAddr>, range: Option<Prefix>) -> Result<Subnet> {
    let longest = if subnet.is_ipv4() { 30 } else { 126 };
    if subnet.length() > longest {
        return Err(Error::usage(format!(
            "invalid subnet {subnet}: no room for a gateway and a container"
        )));
    }
    let usable = match subnet.address() {
        IpAddr::V4(a) => !(a.is_multicast() || a.is_loopback() || subnet.length() == 0),
        IpAddr::V6(a) => !(a.is_multicast() || a.is_loopback() || subnet.length() == 0),
    };
    if !usable {
        return Err(Error::usage(format!("invalid subnet {subnet}: not addresses of hosts")));
    }
    if let Some(gateway) = gateway
        && (!subnet.contains(gateway) || subnet.broadcast() == Some(gateway) || subnet.index(gateway) == Some(0))
    {
        return Err(Error::usage(format!(
            "invalid gateway {gateway}: not a host of subnet {subnet}"
        )));
    }
    if let Some(range) = range
        && !subnet.covers(&range)
    {
        return Err(Error::usage(format!(
            "invalid ip-range {range}: not within subnet {subnet}"
        )));
    }
    Ok(Subnet {
        subnet,
        gateway: gateway.or_else(|| subnet.nth(1)),
        range,
        aux: Default::default(),
    })
}

/// What a person says of subnets: `--subnet`, `--gateway` and `--ip-range`, each several times, matched by what lies in
/// what, as docker does.
pub(crate) fn subnets(subnets: &[Prefix], gateways: &[IpAddr], ranges: &[Prefix]) -> Result<Vec<Subnet>> {
    let mut made: Vec<Subnet> = Vec::new();
    for subnet in subnets {
        if let Some(other) = made.iter().find(|m| m.subnet.overlaps(subnet)) {
            return Err(Error::usage(format!("subnets {} and {subnet} overlap", other.subnet)));
        }
        if made.iter().any(|m| m.subnet.is_ipv4() == subnet.is_ipv4()) {
            return Err(Error::usage(
                "bridge driver doesn't support multiple subnets of a family",
            ));
        }
        let own_gateways: Vec<_> = gateways.iter().filter(|g| subnet.contains(**g)).collect();
        let own_ranges: Vec<_> = ranges.iter().filter(|r| subnet.overlaps(r)).collect();
        if own_gateways.len() > 1 {
            return Err(Error::usage(format!(
                "cannot configure multiple gateways ({subnet}) on the same subnet"
            )));
        }
        if own_ranges.len() > 1 {
            return Err(Error::usage(format!(
                "cannot configure multiple ranges on the same subnet ({subnet})"
            )));
        }
        made.push(with_gateway(
            *subnet,
            own_gateways.first().map(|g| **g),
            own_ranges.first().map(|r| **r),
        )?);
    }
    if let Some(gateway) = gateways.iter().find(|g| !subnets.iter().any(|s| s.contains(**g))) {
        return Err(Error::usage(format!("no matching subnet for gateway {gateway}")));
    }
    if let Some(range) = ranges.iter().find(|r| !subnets.iter().any(|s| s.overlaps(r))) {
        return Err(Error::usage(format!("no matching subnet for range {range}")));
    }
    Ok(made)
}

/// Gives each of `aux`, `NAME=ADDRESS`, to the subnet that it lies in.
pub(crate) fn keep_aside<'a>(subnets: &mut [Subnet], aux: impl Iterator<Item = &'a str>) -> Result<()> {
    for text in aux {
        let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
        let address = pair.and_then(|(name, ip)| Some((name, ip.parse::<IpAddr>().ok()?)));
        let Some((name, address)) = address else {
            let text = text.escape_debug();
            return Err(Error::usage(format!("--aux-address '{text}': want NAME=ADDRESS")));
        };
        let subnet = subnets.iter_mut().find(|s| s.subnet.contains(address));
        let subnet = subnet.ok_or_else(|| Error::usage(format!("no matching subnet for aux-address {address}")))?;
        if subnet.gateway == Some(address) {
            return Err(Error::usage(format!("--aux-address {text}: it is the gateway's")));
        }
        subnet.aux.insert(name.to_owned(), address);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(texts: &[&str]) -> Vec<Prefix> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    #[test]
    fn the_first_free_subnet() {
        for (taken, expected) in [
            (&["0.0.0.0/0"][..], "172.17.0.0/16"),
            (&["0.0.0.0/1", "128.0.0.0/1"], "172.17.0.0/16"),
            (&["172.17.0.0/16", "172.18.5.5/32"], "172.19.0.0/16"),
            (&["172.16.0.0/12"], "192.168.0.0/24"),
            (&["172.16.0.0/12", "192.168.0.0/23"], "192.168.2.0/24"),
            (&["fd00::/8"], "172.17.0.0/16"),
        ] {
            let got = free_subnet(&prefixes(taken)).unwrap();
            assert_eq!(got.subnet.to_string(), expected, "{taken:?}");
            assert_eq!(got.gateway, got.subnet.nth(1));
        }
        let e = free_subnet(&prefixes(&["172.16.0.0/12", "192.168.0.0/16"])).unwrap_err();
        assert!(e.to_string().starts_with("no free subnet"), "{e}");
        assert!(e.hint().is_some());
    }

    #[test]
    fn addresses_kept_aside() {
        let mut made = subnets(&prefixes(&["10.1.0.0/24", "fd01::/64"]), &[], &[]).unwrap();
        keep_aside(&mut made, ["router=10.1.0.7", "dns=fd01::53"].into_iter()).unwrap();
        assert_eq!(made[0].aux["router"], "10.1.0.7".parse::<IpAddr>().unwrap());
        assert_eq!(made[1].aux.len(), 1);
        for (bad, said) in [
            ("10.1.0.7", "want NAME=ADDRESS"),
            ("=10.1.0.7", "want NAME=ADDRESS"),
            ("x=10.1.0", "want NAME=ADDRESS"),
            ("x=10.2.0.1", "no matching subnet"),
            ("x=10.1.0.1", "gateway"),
        ] {
            let e = keep_aside(&mut made, [bad].into_iter()).unwrap_err();
            assert!(e.to_string().contains(said), "{bad}: {e}");
        }
    }

    #[test]
    fn subnets_as_asked_for() {
        let gateways = ["10.1.0.254".parse().unwrap(), "fd01::9".parse().unwrap()];
        let made = subnets(
            &prefixes(&["10.1.0.0/24", "fd01::/64"]),
            &gateways,
            &prefixes(&["10.1.0.128/25"]),
        )
        .unwrap();
        assert_eq!(made[0].gateway, Some(gateways[0]));
        assert_eq!(made[1].gateway, Some(gateways[1]));
        assert_eq!(made[0].range, Some("10.1.0.128/25".parse().unwrap()));
        let six = private_subnet6([1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(six.subnet.to_string(), "fd01:203:405:607::/64");
    }

    #[test]
    fn nonsense_is_refused() {
        for (nets, gateways, ranges, text) in [
            (&["10.1.0.0/24", "10.1.0.0/25"][..], &[][..], &[][..], "overlap"),
            (&["10.1.0.0/24", "10.2.0.0/24"], &[], &[], "multiple subnets"),
            (&["10.1.0.0/24"], &["10.2.0.1"], &[], "no matching subnet for gateway"),
            (&["10.1.0.0/24"], &["10.1.0.255"], &[], "invalid gateway"),
            (&["10.1.0.0/24"], &["10.1.0.0"], &[], "invalid gateway"),
            (&["10.1.0.0/24"], &["10.1.0.1", "10.1.0.2"], &[], "multiple gateways"),
            (&["10.1.0.0/24"], &[], &["10.2.0.0/25"], "no matching subnet for range"),
            (&["10.1.0.0/24"], &[], &["10.1.0.0/16"], "invalid ip-range"),
            (&["10.1.0.0/31"], &[], &[], "no room"),
            (&["224.0.0.0/8"], &[], &[], "not addresses of hosts"),
            (&["127.0.0.0/8"], &[], &[], "not addresses of hosts"),
            (&["0.0.0.0/0"], &[], &[], "not addresses of hosts"),
        ] {
            let gateways: Vec<IpAddr> = gateways.iter().map(|g: &&str| g.parse().unwrap()).collect();
            let e = subnets(&prefixes(nets), &gateways, &prefixes(ranges)).unwrap_err();
            assert!(e.to_string().contains(text), "{nets:?} {gateways:?} {ranges:?}: {e}");
        }
    }
}
