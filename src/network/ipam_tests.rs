//! Leases on a store of their own: no kernel is asked.

use super::*;
use crate::model::network::Driver;
use crate::model::time::Timestamp;
use std::collections::BTreeSet;

fn network(subnet: &str, gateway: &str, range: Option<&str>) -> Network {
    Network {
        id: "a".repeat(64),
        name: "n".to_owned(),
        created: Timestamp::now(),
        driver: Driver::Bridge,
        subnets: vec![Subnet {
            subnet: subnet.parse().unwrap(),
            gateway: Some(gateway.parse().unwrap()),
            range: range.map(|r| r.parse().unwrap()),
            aux: Default::default(),
        }],
        link: "br0".to_owned(),
        foreign_link: false,
        internal: false,
        ipv6: false,
        dns: true,
        options: std::collections::BTreeMap::new(),
        labels: std::collections::BTreeMap::new(),
    }
}

struct Scratch {
    store: Store,
    dir: PathBuf,
}

impl Scratch {
    fn new() -> Scratch {
        let name = Store::random_id().unwrap();
        let dir = std::env::temp_dir().join(format!("barge-ipam-{}", name.short()));
        let store = Store::open(dir.join("root"), dir.join("run")).unwrap();
        let record = network("10.0.0.0/8", "10.0.0.1", None);
        store.save_network(&record, &store.lock_networks().unwrap()).unwrap();
        Scratch { store, dir }
    }

    /// A container that seems to run.
    fn live(&self) -> ContainerId {
        let id = Store::random_id().unwrap();
        self.store.make_run_dir(&id).unwrap();
        id
    }

    fn any(&self, network: &Network, id: &ContainerId) -> Result<String> {
        lease(&self.store, network, id, Wish::default()).map(|a| a[0].to_string())
    }

    fn wanted(&self, network: &Network, id: &ContainerId, address: &str) -> Result<String> {
        let wish = Wish {
            v4: Some(address.parse().unwrap()),
            v6: None,
        };
        lease(&self.store, network, id, wish).map(|a| a[0].to_string())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn one_after_the_other_and_not_again_at_once() {
    let s = Scratch::new();
    let net = network("10.9.0.0/24", "10.9.0.1", None);
    let (a, b) = (s.live(), s.live());
    assert_eq!(s.any(&net, &a).unwrap(), "10.9.0.2");
    assert_eq!(s.any(&net, &b).unwrap(), "10.9.0.3");
    release_all(&s.store, &a).unwrap();
    assert_eq!(s.any(&net, &a).unwrap(), "10.9.0.4");
    assert_eq!(leases(&s.store, &net.id).len(), 2);
}

#[test]
fn exhausted_ranges_go_round_and_then_say_so() {
    let s = Scratch::new();
    let net = network("10.9.0.0/24", "10.9.0.9", Some("10.9.0.8/30"));
    let (a, b) = (s.live(), s.live());
    for expected in ["10.9.0.8", "10.9.0.10", "10.9.0.11"] {
        assert_eq!(s.any(&net, &a).unwrap(), expected);
    }
    let e = s.any(&net, &b).unwrap_err();
    assert_eq!(e.to_string(), "No unallocated IP available in 10.9.0.8/30 of network n");
    // What has no monitor any more is free.
    std::fs::remove_dir_all(s.store.run_dir(&a)).unwrap();
    assert_eq!(s.any(&net, &b).unwrap(), "10.9.0.8");
}

#[test]
fn wishes_are_checked() {
    let s = Scratch::new();
    let net = network("10.9.0.0/24", "10.9.0.1", None);
    let (a, b) = (s.live(), s.live());
    assert_eq!(s.wanted(&net, &a, "10.9.0.77").unwrap(), "10.9.0.77");
    for (address, text) in [
        (
            "10.9.0.77",
            "Address already in use: 10.9.0.77 of network n is container",
        ),
        ("10.9.1.1", "no configured subnet contains IP address 10.9.1.1"),
        ("10.9.0.1", "the gateway's"),
        ("10.9.0.0", "broadcast"),
        ("10.9.0.255", "broadcast"),
    ] {
        let e = s.wanted(&net, &b, address).unwrap_err().to_string();
        assert!(e.contains(text), "{address}: {e}");
    }
    let six = Wish {
        v4: None,
        v6: Some("fd00::2".parse().unwrap()),
    };
    let e = lease(&s.store, &net, &b, six).unwrap_err().to_string();
    assert!(e.contains("no IPv6 subnet"), "{e}");
    assert!(leases(&s.store, &net.id).iter().all(|(_, h)| *h == a));
    // Its own from before a crash, and one that was never written to its end.
    assert_eq!(s.wanted(&net, &a, "10.9.0.77").unwrap(), "10.9.0.77");
    let cut_short = s.store.leases_dir(&net.id).join("10.9.0.78");
    file::write_new(&cut_short, b"", Durability::Volatile).unwrap();
    assert_eq!(s.wanted(&net, &b, "10.9.0.78").unwrap(), "10.9.0.78");
}

#[test]
fn many_at_once_never_share() {
    let s = Scratch::new();
    let net = network("10.9.0.0/24", "10.9.0.1", None);
    let ids: Vec<_> = (0..8).map(|_| s.live()).collect();
    let got: Vec<String> = std::thread::scope(|threads| {
        let all: Vec<_> = ids
            .iter()
            .map(|id| threads.spawn(|| (0..25).map(|_| s.any(&net, id).unwrap()).collect::<Vec<_>>()))
            .collect();
        all.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(got.iter().collect::<BTreeSet<_>>().len(), 200);
}

#[test]
fn both_families_or_none() {
    let s = Scratch::new();
    let mut net = network("10.9.0.0/24", "10.9.0.1", None);
    net.subnets.push(Subnet {
        subnet: "fd00:9::/64".parse().unwrap(),
        gateway: Some("fd00:9::1".parse().unwrap()),
        range: None,
        aux: Default::default(),
    });
    let (a, b) = (s.live(), s.live());
    let got = lease(&s.store, &net, &a, Wish::default()).unwrap();
    assert_eq!(
        got,
        ["10.9.0.2".parse::<IpAddr>().unwrap(), "fd00:9::2".parse().unwrap()]
    );
    let taken = Wish {
        v4: None,
        v6: Some("fd00:9::2".parse().unwrap()),
    };
    lease(&s.store, &net, &b, taken).unwrap_err();
    assert_eq!(leases(&s.store, &net.id).len(), 2);
}

#[test]
fn a_network_that_is_gone_has_no_addresses() {
    let s = Scratch::new();
    let net = network("10.1.0.0/24", "10.1.0.1", None);
    let id = Store::random_id().unwrap();
    let (held, leases) = (s.store.lock_networks().unwrap(), s.store.lock_leases(&net.id).unwrap());
    s.store.drop_network(&net, &held, leases).unwrap();
    let e = lease(&s.store, &net, &id, Wish::default()).unwrap_err().to_string();
    assert_eq!(e, "network n not found");
    assert!(s.store.leased_networks().is_empty());
}
