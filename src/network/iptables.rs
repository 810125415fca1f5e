//! The same rules by the iptables programs, for kernels without nf_tables: own chains, filled from the same elements
//! (`ruleset.rs`) by one `iptables-restore --noflush` for each family. Slow beside nf_tables, and only used without it.
//!
//! ```text
//!  nat     PREROUTING, OUTPUT → BARGE         a port of the host → a container's
//!          POSTROUTING        → BARGE-POST    masquerade
//!  raw     PREROUTING         → BARGE-GUARD   127.0.0.0/8 is not for containers (CVE-2020-8558)
//!  filter  FORWARD → BARGE-FORWARD → BARGE-TRAFFIC → BARGE-USER (the administrator's), -SAME, -INTERNAL, -OUT, -ISOLATE
//! ```
//! An engine with another root adds `-<instance>` to each name.

use crate::error::{Context as _, Error, Result};
use crate::network::ruleset::{Element, Part};
use crate::store::Store;
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn program(self) -> &'static str {
        match self {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        }
    }

    fn matches(self, ip: IpAddr) -> bool {
        ip.is_ipv4() == (self == Family::V4)
    }
}

/// Where such programs are, whatever PATH says: the monitor has none.
const PLACES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"];

fn find(name: &str) -> Option<PathBuf> {
    PLACES
        .iter()
        .map(|place| PathBuf::from(place).join(name))
        .find(|p| p.exists())
}

/// Whether there is an iptables that reaches its tables.
pub(crate) fn works() -> bool {
    run("iptables", &["-w", "-t", "nat", "-S"], "").is_ok()
}

/// Runs one of them, with `input` on its stdin; what it says on stderr is the error.
fn run(name: &str, args: &[&str], input: &str) -> Result<String> {
    let program = find(name).ok_or_else(|| Error::other(format!("{name}: no such program")))?;
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .env("PATH", PLACES.join(":"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {name}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may have ended over its first line already; its own words say why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("run {name}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().find(|l| !l.trim().is_empty()).unwrap_or("it failed");
    Err(Error::other(format!("{name}: {}", line.trim().escape_debug())))
}

fn suffix(store: &Store) -> String {
    store.instance().map(|i| format!("-{i}")).unwrap_or_default()
}

/// The rule of a published port.
fn port_rule(element: &Element, family: Family, suffix: &str) -> Option<String> {
    let (address, protocol, port) = match element.key.as_slice() {
        [Part::Protocol(p), Part::Port(port)] => (None, p, port),
        [Part::Address(ip), Part::Protocol(p), Part::Port(port)] => (Some(*ip), p, port),
        _ => return None,
    };
    let [Part::Address(to), Part::Port(to_port)] = element.value.as_slice() else {
        return None;
    };
    if !family.matches(*to) {
        return None;
    }
    let protocol = Part::Protocol(*protocol);
    let at = address.map(|ip| format!("-d {ip} ")).unwrap_or_default();
    let to = std::net::SocketAddr::from((*to, *to_port));
    let owner = element.comment.get(..12).unwrap_or(&element.comment);
    Some(format!(
        "BARGE{suffix} {at}-p {protocol} -m {protocol} --dport {port} -m comment --comment {owner} -j DNAT --to-destination {to}"
    ))
}

fn interface(element: &Element) -> Option<&str> {
    match element.key.first() {
        Some(Part::Interface(name)) => Some(name),
        _ => None,
    }
}

/// `10.0.0.0/8`, of a range that is a whole network.
fn prefix(element: &Element) -> Option<(IpAddr, String)> {
    let Some(Part::Address(first)) = element.key.first() else {
        return None;
    };
    let length = match (first, element.last?) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => return None,
    };
    Some((*first, format!("{first}/{length}")))
}

/// All tables of a family, as iptables-restore reads them. A chain that is named is emptied; the administrator's is
/// not named.
fn script(elements: &[Element], family: Family, s: &str) -> String {
    let of = |set: &'static str| elements.iter().filter(move |e| e.set == set);
    let bridges: Vec<&str> = of("bridges").filter_map(interface).collect();
    let nets = |v4, v6| {
        let set = if family == Family::V4 { v4 } else { v6 };
        of(set).filter_map(prefix).map(|(_, text)| text).collect::<Vec<_>>()
    };
    let mut out = format!("*nat\n:BARGE{s} - [0:0]\n:BARGE-POST{s} - [0:0]\n");
    if family == Family::V6 {
        out += &format!("-A BARGE{s} -d ::1/128 -j RETURN\n-A BARGE{s} -s fe80::/10 -j RETURN\n");
    }
    // Those of one address before those of all.
    for set in ["addr4", "any4", "addr6", "any6"] {
        for rule in of(set).filter_map(|e| port_rule(e, family, s)) {
            out += &format!("-A {rule}\n");
        }
    }
    for bridge in &bridges {
        for net in nets("nets4", "nets6") {
            out += &format!("-A BARGE-POST{s} -s {net} -o {bridge} -m conntrack --ctstate DNAT -j MASQUERADE\n");
        }
        if family == Family::V4 {
            out += &format!("-A BARGE-POST{s} -s 127.0.0.0/8 -o {bridge} -j MASQUERADE\n");
        }
        out += &format!("-A BARGE-POST{s} -o {bridge} -j RETURN\n");
    }
    for net in nets("masq4", "masq6") {
        out += &format!("-A BARGE-POST{s} -s {net} -j MASQUERADE\n");
    }
    out += "COMMIT\n";
    if family == Family::V4 {
        out += &format!(
            "*raw\n:BARGE-GUARD{s} - [0:0]\n-A BARGE-GUARD{s} ! -i lo -d 127.0.0.0/8 -j DROP\n-A BARGE-GUARD{s} ! -i lo -s 127.0.0.0/8 -j DROP\nCOMMIT\n"
        );
    }
    out += &filter(elements, &bridges, s);
    out
}

fn filter(elements: &[Element], bridges: &[&str], s: &str) -> String {
    let mut out = "*filter\n".to_owned();
    for chain in ["FORWARD", "TRAFFIC", "SAME", "INTERNAL", "OUT", "ISOLATE"] {
        out += &format!(":BARGE-{chain}{s} - [0:0]\n");
    }
    for rule in [
        format!("-j BARGE-USER{s}"),
        "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT".to_owned(),
        format!("-j BARGE-SAME{s}"),
        format!("-j BARGE-INTERNAL{s}"),
        "-m conntrack --ctstate DNAT -j ACCEPT".to_owned(),
        format!("-j BARGE-OUT{s}"),
        "-j DROP".to_owned(),
    ] {
        out += &format!("-A BARGE-TRAFFIC{s} {rule}\n");
    }
    for bridge in bridges {
        out += &format!("-A BARGE-FORWARD{s} -i {bridge} -j BARGE-TRAFFIC{s}\n");
        out += &format!("-A BARGE-FORWARD{s} -o {bridge} -j BARGE-TRAFFIC{s}\n");
        out += &format!("-A BARGE-SAME{s} -i {bridge} -o {bridge} -j ACCEPT\n");
        out += &format!("-A BARGE-OUT{s} -i {bridge} -j BARGE-ISOLATE{s}\n");
        out += &format!("-A BARGE-OUT{s} -i {bridge} -j ACCEPT\n");
        out += &format!("-A BARGE-ISOLATE{s} -o {bridge} -j DROP\n");
    }
    for bridge in elements.iter().filter(|e| e.set == "internal").filter_map(interface) {
        out += &format!("-A BARGE-INTERNAL{s} -i {bridge} -j DROP\n-A BARGE-INTERNAL{s} -o {bridge} -j DROP\n");
    }
    out + "COMMIT\n"
}

/// The rules in the kernel's own chains that lead to ours: table, chain, rule.
fn entries(family: Family, s: &str) -> Vec<(&'static str, &'static str, String)> {
    let mut all = vec![
        ("filter", "FORWARD", format!("-j BARGE-FORWARD{s}")),
        ("nat", "OUTPUT", format!("-m addrtype --dst-type LOCAL -j BARGE{s}")),
        ("nat", "POSTROUTING", format!("-j BARGE-POST{s}")),
    ];
    match family {
        Family::V4 => all.extend([
            (
                "nat",
                "PREROUTING",
                format!("! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j BARGE{s}"),
            ),
            ("raw", "PREROUTING", format!("-j BARGE-GUARD{s}")),
        ]),
        Family::V6 => all.push(("nat", "PREROUTING", format!("-m addrtype --dst-type LOCAL -j BARGE{s}"))),
    }
    all
}

/// Everything as it should be.
pub(crate) fn rebuild(store: &Store, elements: &[Element]) -> Result<()> {
    let s = suffix(store);
    rebuild_family(elements, Family::V4, &s)?;
    // A host without IPv6 has no ip6tables that works, and nothing to say to it.
    let v6 = elements.iter().any(|e| matches!(e.set, "nets6" | "addr6" | "any6"));
    match rebuild_family(elements, Family::V6, &s) {
        Err(e) if v6 => Err(e),
        _ => Ok(()),
    }
}

fn rebuild_family(elements: &[Element], family: Family, s: &str) -> Result<()> {
    let program = family.program();
    let user = format!("BARGE-USER{s}");
    let filters = run(program, &["-w", "-t", "filter", "-S"], "")?;
    let mut create = String::new();
    if !filters.lines().any(|l| l == format!("-N {user}")) {
        create = format!("*filter\n:{user} - [0:0]\nCOMMIT\n");
    }
    let script = create + &script(elements, family, s);
    run(&format!("{program}-restore"), &["-w", "--noflush"], &script)?;
    for (table, chain, rule) in entries(family, s) {
        let words: Vec<&str> = rule.split(' ').collect();
        let call = |verb| run(program, &[&["-w", "-t", table, verb, chain][..], &words].concat(), "");
        if call("-C").is_err() {
            call("-I")?;
        }
    }
    Ok(())
}

/// All of it goes, but the administrator's chain if there is something in it.
pub(crate) fn clear(store: &Store) {
    let s = suffix(store);
    for family in [Family::V4, Family::V6] {
        let program = family.program();
        for (table, chain, rule) in entries(family, &s) {
            let words: Vec<&str> = rule.split(' ').collect();
            let _ = run(program, &[&["-w", "-t", table, "-D", chain][..], &words].concat(), "");
        }
        let chains = [
            ("nat", "BARGE"),
            ("nat", "BARGE-POST"),
            ("raw", "BARGE-GUARD"),
            ("filter", "BARGE-FORWARD"),
            ("filter", "BARGE-TRAFFIC"),
            ("filter", "BARGE-OUT"),
            ("filter", "BARGE-SAME"),
            ("filter", "BARGE-INTERNAL"),
            ("filter", "BARGE-ISOLATE"),
        ];
        for verb in ["-F", "-X"] {
            for (table, chain) in chains {
                let _ = run(program, &["-w", "-t", table, verb, &format!("{chain}{s}")], "");
            }
        }
        let _ = run(program, &["-w", "-X", &format!("BARGE-USER{s}")], "");
    }
}

/// Ports are single rules; a network is reason to set up all of them again, unless it is there.
pub(crate) fn add(store: &Store, elements: &[Element]) -> Result<()> {
    let s = suffix(store);
    let bridges: Vec<&str> = elements
        .iter()
        .filter(|e| e.set == "bridges")
        .filter_map(interface)
        .collect();
    let known = run(
        "iptables",
        &["-w", "-t", "filter", "-S", &format!("BARGE-FORWARD{s}")],
        "",
    )
    .unwrap_or_default();
    let all_known = bridges.iter().all(|b| known.contains(&format!("-i {b} ")));
    if !all_known || known.is_empty() {
        // Of several first starts at once, one after the other: each looks first whether the ways in are there.
        let _held = store.lock_networks()?;
        let mut all = crate::network::rules::recorded(store)?;
        all.extend(
            elements
                .iter()
                .filter(|e| !all.contains(e))
                .cloned()
                .collect::<Vec<_>>(),
        );
        return rebuild(store, &all);
    }
    each_port(elements, &s, "-A")
}

/// Rules that are not there are no error.
pub(crate) fn remove(store: &Store, elements: &[Element]) -> Result<()> {
    let s = suffix(store);
    if elements.iter().any(|e| e.set == "bridges") {
        let mut rest = crate::network::rules::recorded(store)?;
        rest.retain(|e| !elements.contains(e));
        return rebuild(store, &rest);
    }
    match each_port(elements, &s, "-D") {
        Ok(()) => Ok(()),
        // One of them was missing, and none is gone: one by one.
        Err(_) => {
            for element in elements {
                let _ = each_port(std::slice::from_ref(element), &s, "-D");
            }
            Ok(())
        }
    }
}

fn each_port(elements: &[Element], s: &str, verb: &str) -> Result<()> {
    for family in [Family::V4, Family::V6] {
        let rules: Vec<String> = elements
            .iter()
            .filter_map(|e| port_rule(e, family, s))
            .map(|rule| format!("{verb} {rule}\n"))
            .collect();
        if !rules.is_empty() {
            let script = format!("*nat\n{}COMMIT\n", rules.concat());
            run(&format!("{}-restore", family.program()), &["-w", "--noflush"], &script)?;
        }
    }
    Ok(())
}

/// The old iptables beside nf_tables: its FORWARD may drop what ours lets through. The text is a warning.
pub(crate) fn admit_legacy(bridge: &str) -> Option<String> {
    let name = legacy_program()?;
    let rules = run(name, &["-w", "-S", "FORWARD"], "").ok()?;
    if !rules.lines().any(|l| l == "-P FORWARD DROP") {
        return None;
    }
    for flag in ["-i", "-o"] {
        let rule = [flag, bridge, "-m", "comment", "--comment", "barge", "-j", "ACCEPT"];
        let call = |verb| run(name, &[&["-w", verb, "FORWARD"][..], &rule].concat(), "");
        if call("-C").is_err()
            && let Err(e) = call("-A")
        {
            return Some(format!(
                "chain FORWARD of iptables may drop what containers on {bridge} send and get ({e})"
            ));
        }
    }
    None
}

pub(crate) fn forget_legacy(bridge: &str) {
    let tables = std::fs::read_to_string("/proc/net/ip_tables_names").unwrap_or_default();
    if !tables.lines().any(|l| l == "filter") {
        return;
    }
    let Some(name) = legacy_program() else { return };
    for flag in ["-i", "-o"] {
        let rule = [
            "-w",
            "-D",
            "FORWARD",
            flag,
            bridge,
            "-m",
            "comment",
            "--comment",
            "barge",
            "-j",
            "ACCEPT",
        ];
        let _ = run(name, &rule, "");
    }
}

fn legacy_program() -> Option<&'static str> {
    ["iptables-legacy", "iptables"]
        .into_iter()
        .find(|name| find(name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(set: &'static str, key: Vec<Part>, value: Vec<Part>, last: Option<&str>) -> Element {
        Element {
            set,
            key,
            value,
            last: last.map(|ip| ip.parse().unwrap()),
            comment: "0123456789abcdef".to_owned(),
        }
    }

    fn address(ip: &str) -> Part {
        Part::Address(ip.parse().unwrap())
    }

    #[test]
    fn a_network_and_its_ports() {
        let bridge = || Part::Interface("barge0".to_owned());
        let elements = [
            element("bridges", vec![bridge()], vec![], None),
            element("same", vec![bridge(), bridge()], vec![], None),
            element("nets4", vec![address("172.17.0.0")], vec![], Some("172.17.255.255")),
            element("masq4", vec![address("172.17.0.0")], vec![], Some("172.17.255.255")),
            element(
                "any4",
                vec![Part::Protocol(6), Part::Port(8080)],
                vec![address("172.17.0.2"), Part::Port(80)],
                None,
            ),
            element(
                "addr6",
                vec![address("2001:db8::1"), Part::Protocol(17), Part::Port(53)],
                vec![address("fd00::2"), Part::Port(53)],
                None,
            ),
        ];
        let v4 = script(&elements, Family::V4, "-abc");
        for line in [
            "-A BARGE-abc -p tcp -m tcp --dport 8080 -m comment --comment 0123456789ab -j DNAT --to-destination 172.17.0.2:80",
            "-A BARGE-POST-abc -s 172.17.0.0/16 -j MASQUERADE",
            "-A BARGE-POST-abc -s 172.17.0.0/16 -o barge0 -m conntrack --ctstate DNAT -j MASQUERADE",
            "-A BARGE-GUARD-abc ! -i lo -d 127.0.0.0/8 -j DROP",
            "-A BARGE-GUARD-abc ! -i lo -s 127.0.0.0/8 -j DROP",
            "-A BARGE-TRAFFIC-abc -j BARGE-USER-abc",
            "-A BARGE-ISOLATE-abc -o barge0 -j DROP",
        ] {
            assert!(v4.lines().any(|l| l == line), "{line}\n{v4}");
        }
        assert!(
            !v4.contains(":BARGE-USER"),
            "the administrator's chain is never emptied"
        );
        assert!(!v4.contains("fd00"));
        let v6 = script(&elements, Family::V6, "");
        let line = "-A BARGE -d 2001:db8::1 -p udp -m udp --dport 53 -m comment --comment 0123456789ab -j DNAT \
                    --to-destination [fd00::2]:53";
        assert!(v6.lines().any(|l| l == line), "{v6}");
        assert!(!v6.contains("172.17"));
    }
}
