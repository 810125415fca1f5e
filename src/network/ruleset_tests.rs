//! Tests of the rules as text.

use super::*;
use crate::model::port::Protocol;
use serde_json::json;

fn endpoint(address: Option<&str>, address6: Option<&str>, internal: bool) -> Endpoint {
    serde_json::from_value(json!({
        "network": "n", "network_id": "0".repeat(64), "driver": "bridge", "interface": "eth0", "link": "ve0",
        "bridge": "barge0", "address": address, "gateway": null, "address6": address6,
        "mac": "02:42:ac:11:00:02", "internal": internal,
    }))
    .unwrap()
}

fn published(ip: &str, host_port: u16, container_port: u16, protocol: Protocol) -> PublishedPort {
    PublishedPort {
        container_port,
        protocol,
        host_ip: ip.parse().unwrap(),
        host_port,
    }
}

fn lines(elements: &[Element]) -> Vec<String> {
    elements.iter().map(Element::to_string).collect()
}

#[test]
fn ports_are_one_element_each() {
    let ports = [
        published("0.0.0.0", 8080, 80, Protocol::Tcp),
        published("::", 8080, 80, Protocol::Tcp),
        published("127.0.0.1", 53, 5353, Protocol::Udp),
        published("::1", 53, 5353, Protocol::Udp),
        published("2001:db8::1", 9, 9, Protocol::Sctp),
    ];
    let v4 = port_elements("id", &[endpoint(Some("172.17.0.2"), None, false)], &ports);
    assert_eq!(
        lines(&v4),
        [
            "any4: tcp . 8080 : 172.17.0.2 . 80",
            "proxied: tcp . 8080",
            "addr4: 127.0.0.1 . udp . 53 : 172.17.0.2 . 5353",
            "proxied6: 2001:db8::1 . sctp . 9",
        ]
    );
    let both = port_elements("id", &[endpoint(Some("172.17.0.2"), Some("fd00::2"), false)], &ports);
    assert_eq!(
        lines(&both),
        [
            "any4: tcp . 8080 : 172.17.0.2 . 80",
            "any6: tcp . 8080 : fd00::2 . 80",
            "addr4: 127.0.0.1 . udp . 53 : 172.17.0.2 . 5353",
            "addr6: 2001:db8::1 . sctp . 9 : fd00::2 . 9",
        ]
    );
    let inside = [
        endpoint(Some("10.0.0.2"), None, true),
        endpoint(Some("172.18.0.2"), None, false),
    ];
    assert_eq!(
        lines(&port_elements("id", &inside, &ports[..1])),
        ["any4: tcp . 8080 : 172.18.0.2 . 80"]
    );
    assert!(port_elements("id", &inside[..1], &ports).is_empty());
}

fn network(internal: bool, options: serde_json::Value) -> Network {
    serde_json::from_value(json!({
        "id": "0".repeat(64), "name": "n", "created": "2026-01-02T03:04:05Z", "driver": "bridge", "link": "barge0",
        "internal": internal, "options": options,
        "subnets": [{"subnet": "172.17.0.0/16", "gateway": null}, {"subnet": "fd00::/64", "gateway": null}],
    }))
    .unwrap()
}

#[test]
fn networks_are_elements() {
    let open = network_elements(&network(false, json!({})));
    assert_eq!(
        lines(&open),
        [
            "bridges: \"barge0\"",
            "same: \"barge0\" . \"barge0\"",
            "nets4: 172.17.0.0-172.17.255.255",
            "masq4: 172.17.0.0-172.17.255.255",
            "nets6: fd00::-fd00::ffff:ffff:ffff:ffff",
            "masq6: fd00::-fd00::ffff:ffff:ffff:ffff",
        ]
    );
    let internal = lines(&network_elements(&network(true, json!({}))));
    assert!(internal.contains(&"internal: \"barge0\"".to_owned()));
    assert!(!internal.iter().any(|l| l.starts_with("masq")));
    let plain = json!({"com.docker.network.bridge.enable_ip_masquerade": "false"});
    let plain = lines(&network_elements(&network(false, plain)));
    assert!(!plain.iter().any(|l| l.starts_with("masq")));
}

#[test]
fn keys_fill_registers() {
    for set in SETS {
        let width: u32 = set.key.iter().map(|t| t.width()).sum();
        // The kernel has 16 registers of 4 bytes.
        assert!(width <= 64, "{}", set.name);
    }
    let key: Vec<u8> = [Part::Protocol(6), Part::Port(80)]
        .iter()
        .flat_map(Part::bytes)
        .collect();
    assert_eq!(key, [6, 0, 0, 0, 0, 80, 0, 0]);
}

#[test]
fn rules_name_what_there_is() {
    let chains: Vec<_> = CHAINS.iter().map(|(name, _)| *name).collect();
    let sets: Vec<_> = SETS.iter().map(|s| s.name).collect();
    for rule in rules() {
        assert!(chains.contains(&rule.chain), "{}", rule.text);
        assert_ne!(rule.chain, USER_CHAIN, "the administrator's chain has no rule of ours");
        for op in &rule.ops {
            match op {
                Op::In(_, set) | Op::NotIn(_, set) | Op::MapTo(_, set) => assert!(sets.contains(set), "{set}"),
                Op::Jump(chain) => assert!(chains.contains(chain), "{chain}"),
                _ => {}
            }
        }
        for word in rule.text.split_whitespace().filter_map(|w| w.strip_prefix('@')) {
            assert!(sets.contains(&word), "{}", rule.text);
        }
    }
}
