//! Tests of the rules in the kernel, each in a network namespace of its own, looked at with the `nft` program.

use super::*;
use crate::network::ruleset::{CHAINS, SETS, USER_CHAIN, rules};
use crate::store::testing::Scratch;
use serde_json::json;
use std::process::Command;

fn own_network() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("these tests need root");
    crate::sys::interface::loopback_up().unwrap();
}

fn program(name: &str, args: &[&str]) -> String {
    let output = Command::new(name).args(args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {args:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn nft(line: &str) -> String {
    program("nft", &[line])
}

fn list(store: &Store) -> String {
    nft(&format!("list table inet {}", table(store)))
}

fn network(link: &str, third: u8, internal: bool) -> Network {
    serde_json::from_value(json!({
        "id": "0".repeat(64), "name": link, "created": "2026-01-02T03:04:05Z", "driver": "bridge", "link": link,
        "internal": internal, "subnets": [
            {"subnet": format!("172.30.{third}.0/24"), "gateway": null},
            {"subnet": format!("fd00:{third}::/64"), "gateway": null},
        ],
    }))
    .unwrap()
}

fn endpoint(address: &str) -> Endpoint {
    serde_json::from_value(json!({
        "network": "n", "network_id": "0".repeat(64), "driver": "bridge", "interface": "eth0", "link": "ve0",
        "bridge": "br1", "address": address, "gateway": null, "mac": "02:42:ac:11:00:02",
    }))
    .unwrap()
}

fn published(text: &str) -> PublishedPort {
    serde_json::from_str(text).unwrap()
}

fn port(ip: &str, host: u16, container: u16, protocol: &str) -> PublishedPort {
    published(&format!(
        r#"{{"container_port": {container}, "protocol": "{protocol}", "host_ip": "{ip}", "host_port": {host}}}"#
    ))
}

#[test]
fn nft_shows_what_the_texts_say() {
    own_network();
    let store = Scratch::new();
    ensure_network(&store, &network("br1", 1, false)).unwrap();
    let shown = list(&store);
    // Without indentation and what nft adds of its own.
    let lines: Vec<&str> = shown.lines().map(str::trim).collect();
    for rule in rules() {
        let found = lines
            .iter()
            .any(|l| *l == rule.text || l.starts_with(&format!("{} ", rule.text)));
        assert!(found, "{} is not in\n{shown}", rule.text);
    }
    for (name, _) in CHAINS {
        assert!(lines.contains(&format!("chain {name} {{").as_str()), "{name}: {shown}");
    }
    for set in SETS {
        let kind = if set.value.is_empty() { "set" } else { "map" };
        assert!(
            lines.contains(&format!("{kind} {} {{", set.name).as_str()),
            "{}: {shown}",
            set.name
        );
    }
    assert!(shown.contains("172.30.1.0/24"), "{shown}");
    assert!(shown.contains("fd00:1::/64"), "{shown}");
    // Again, and again from the beginning: nothing is there twice.
    ensure_network(&store, &network("br1", 1, false)).unwrap();
    reload(&store, &network_elements(&network("br1", 1, false))).unwrap();
    assert_eq!(list(&store), shown);
    remove_network(&store, &network("br1", 1, false)).unwrap();
    remove_network(&store, &network("br1", 1, false)).unwrap();
    assert!(!list(&store).contains("br1"));
}

#[test]
fn ports_come_and_go() {
    own_network();
    let store = Scratch::new();
    let ports = [
        port("0.0.0.0", 8080, 80, "tcp"),
        port("::", 8080, 80, "tcp"),
        port("127.0.0.1", 53, 5353, "udp"),
    ];
    let endpoints = [endpoint("172.30.1.2")];
    // No table yet: it is made on the way.
    add_container(&store, "c1", &endpoints, &ports).unwrap();
    let shown = list(&store);
    for text in [
        "tcp . 8080 comment \"c1\" : 172.30.1.2 . 80",
        "127.0.0.1 . udp . 53 comment \"c1\" : 172.30.1.2 . 5353",
        "elements = { tcp . 8080 comment \"c1\" }",
    ] {
        assert!(shown.contains(text), "{text} is not in\n{shown}");
    }
    // Somebody who was killed had it before.
    add_container(&store, "c2", &[endpoint("172.30.1.3")], &ports).unwrap();
    assert!(list(&store).contains("tcp . 8080 comment \"c2\" : 172.30.1.3 . 80"));
    remove_container(&store, "c2", &[endpoint("172.30.1.3")], &ports).unwrap();
    remove_container(&store, "c2", &[endpoint("172.30.1.3")], &ports).unwrap();
    assert!(!list(&store).contains("elements"));
}

#[test]
fn the_administrators_chain_stays() {
    own_network();
    let store = Scratch::new();
    let net = network("br1", 1, false);
    ensure_network(&store, &net).unwrap();
    let table = table(&store);
    nft(&format!(
        "add rule inet {table} {USER_CHAIN} ip saddr 203.0.113.9 counter drop"
    ));
    nft("add table ip mine; add chain ip mine c { type filter hook forward priority 0; }; add rule ip mine c counter");
    nft(&format!("flush chain inet {table} traffic"));
    reload_all(&store).unwrap();
    let shown = list(&store);
    assert!(
        shown.contains("ip saddr 203.0.113.9 counter packets 0 bytes 0 drop"),
        "{shown}"
    );
    assert!(shown.contains("ct status dnat accept"), "{shown}");
    assert!(nft("list table ip mine").contains("counter packets"));
    // All of it is flushed: the next start puts it back.
    nft("flush ruleset");
    ensure_network(&store, &net).unwrap();
    assert!(list(&store).contains("br1"));
}

#[test]
fn others_that_drop_are_asked_to_let_through() {
    own_network();
    let store = Scratch::new();
    program("iptables", &["-P", "FORWARD", "DROP"]);
    program("iptables", &["-N", "DOCKER-USER"]);
    program("iptables", &["-A", "FORWARD", "-j", "DOCKER-USER"]);
    nft("add table inet strict; add chain inet strict f { type filter hook forward priority 10; policy accept; }");
    nft("add table inet firewalld; add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; }");
    nft("add rule inet firewalld filter_FORWARD ct state established,related accept");
    nft("add rule inet firewalld filter_FORWARD reject with icmpx admin-prohibited");
    nft("add table ip6 closed; add chain ip6 closed f { type filter hook forward priority 0; policy drop; }");
    nft("add rule ip6 closed f counter log drop");
    let net = network("br1", 1, false);
    assert_eq!(ensure_network(&store, &net).unwrap(), Vec::<String>::new());
    ensure_network(&store, &net).unwrap();
    let iptables = program("iptables", &["-S", "FORWARD"]);
    let lines: Vec<&str> = iptables.lines().collect();
    assert_eq!(
        lines,
        [
            "-P FORWARD DROP",
            "-A FORWARD -j DOCKER-USER",
            "-A FORWARD -i br1 -m comment --comment \"barge: br1\" -j ACCEPT",
            "-A FORWARD -o br1 -m comment --comment \"barge: br1\" -j ACCEPT"
        ]
    );
    assert!(
        !nft("list table inet strict").contains("br1"),
        "who drops nothing is left alone"
    );
    let firewalld = nft("list table inet firewalld");
    assert!(
        firewalld.find("br1").unwrap() < firewalld.find("established").unwrap(),
        "{firewalld}"
    );
    let closed = nft("list table ip6 closed");
    assert!(closed.rfind("br1").unwrap() < closed.find("log").unwrap(), "{closed}");
    let told = add_container(
        &store,
        "c1",
        &[endpoint("172.30.1.2")],
        &[port("0.0.0.0", 80, 80, "tcp")],
    )
    .unwrap();
    assert!(matches!(&told[..], [one] if one.contains("firewalld")), "{told:?}");
    let again = add_container(
        &store,
        "c1",
        &[endpoint("172.30.1.2")],
        &[port("0.0.0.0", 81, 80, "tcp")],
    )
    .unwrap();
    assert_eq!(again, Vec::<String>::new());
    remove_network(&store, &net).unwrap();
    for (table, line) in [
        ("ip filter", "list table ip filter"),
        ("firewalld", "list table inet firewalld"),
    ] {
        assert!(!nft(line).contains("br1"), "{table}");
    }
}

#[test]
fn udp_flows_are_forgotten() {
    own_network();
    // Tracking begins with the first rule that asks for it.
    nft("add table inet t; add chain inet t c { type filter hook output priority 0; }; add rule inet t c ct state new");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for port in [5300, 5301] {
        let _ = socket.send_to(b"x", ("127.0.0.1", port));
    }
    let flows = || program("conntrack", &["-L", "-p", "udp"]);
    assert!(flows().contains("dport=5300"), "{}", flows());
    conntrack::forget_udp(&[5300]);
    assert!(!flows().contains("dport=5300 "), "{}", flows());
    assert!(flows().contains("dport=5301 "), "{}", flows());
}

#[test]
fn iptables_do_the_same() {
    own_network();
    let store = Scratch::new();
    choose(&store, "iptables").unwrap();
    let net = network("br1", 1, false);
    ensure_network(&store, &net).unwrap();
    let ports = [port("0.0.0.0", 8080, 80, "tcp"), port("127.0.0.1", 53, 53, "udp")];
    let endpoints = [endpoint("172.30.1.2")];
    add_container(&store, "0123456789abcdef", &endpoints, &ports).unwrap();
    let nat = || program("iptables", &["-t", "nat", "-S"]);
    let s = suffix_of(&store);
    let rule = format!("-A BARGE{s} -p tcp -m tcp --dport 8080 -m comment --comment 0123456789ab -j DNAT");
    assert!(nat().contains(&rule), "{}", nat());
    assert!(
        nat().contains(&format!("-A BARGE-POST{s} -s 172.30.1.0/24 -j MASQUERADE")),
        "{}",
        nat()
    );
    program(
        "iptables",
        &["-A", &format!("BARGE-USER{s}"), "-s", "203.0.113.9", "-j", "DROP"],
    );
    reload(&store, &network_elements(&net)).unwrap();
    let filter = program("iptables", &["-S"]);
    assert!(filter.contains("203.0.113.9"), "{filter}");
    assert_eq!(
        filter.matches(&format!("-A FORWARD -j BARGE-FORWARD{s}")).count(),
        1,
        "{filter}"
    );
    remove_container(&store, "0123456789abcdef", &endpoints, &ports).unwrap();
    remove_container(&store, "0123456789abcdef", &endpoints, &ports).unwrap();
    assert!(!nat().contains("8080"), "{}", nat());
    remove_network(&store, &net).unwrap();
    assert!(!nat().contains("172.30"), "{}", nat());
    let e = choose(&store, "pf").unwrap_err();
    assert_eq!(e.to_string(), "unknown firewall 'pf'");
}

#[test]
fn of_many_ports_only_ones_own_go() {
    own_network();
    let store = Scratch::new();
    ensure_network(&store, &network("br1", 1, false)).unwrap();
    let ports: Vec<_> = (1..=250).map(|n| port("0.0.0.0", 20_000 + n, n, "tcp")).collect();
    let (ours, theirs) = ([endpoint("172.30.1.2")], [endpoint("172.30.1.3")]);
    add_container(&store, "ours", &ours, &ports).unwrap();
    add_container(&store, "theirs", &theirs, &[port("0.0.0.0", 8080, 80, "tcp")]).unwrap();
    let count = || {
        program("nft", &["list", "map", "inet", &table(&store), "any4"])
            .matches(" : 172.30")
            .count()
    };
    assert_eq!(count(), 251);
    remove_container(&store, "nobody", &ours, &ports).unwrap();
    assert_eq!(count(), 251);
    let mut all = ports.clone();
    all.push(port("0.0.0.0", 8080, 80, "tcp"));
    all.push(port("0.0.0.0", 9090, 80, "tcp"));
    remove_container(&store, "ours", &ours, &all).unwrap();
    assert_eq!(count(), 1);
}

fn suffix_of(store: &Store) -> String {
    format!("-{}", store.instance().unwrap())
}
