//! Containers on networks: addresses, links and routes; networks as people make them; what a crash or the end of a
//! container leaves. All of it in network namespaces of the test's own (`support/net.rs`).

use crate::support::{Host, Net, Place, alive, ip, ip_json, kill, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeSet;

/// A container of busybox that stays.
fn stays(host: &Host, name: &str, flags: &str) -> String {
    host.text(format!("run -d --name {name} {flags} busybox sleep 1000"))
}

fn field(host: &Host, container: &str, path: &str) -> String {
    host.text(["inspect", "-f", &format!("{{{{.NetworkSettings.{path}}}}}"), container])
}

fn on(host: &Host, container: &str, network: &str, key: &str) -> String {
    field(host, container, &format!("Networks.{network}.{key}"))
}

fn address(host: &Host, container: &str) -> String {
    field(host, container, "IPAddress")
}

fn inspect_network(host: &Host, name: &str) -> Value {
    let all: Value = serde_json::from_str(&host.text(["network", "inspect", name])).unwrap();
    all[0].clone()
}

/// Addresses in use, by the files that stand for them.
fn leases(host: &Host) -> Vec<String> {
    let networks = std::fs::read_dir(host.run_root.join("leases"))
        .into_iter()
        .flatten()
        .flatten();
    let files = networks.flat_map(|n| std::fs::read_dir(n.path()).unwrap().flatten());
    let names = files.filter_map(|f| f.file_name().into_string().ok());
    let mut found: Vec<_> = names.filter(|n| n.parse::<std::net::IpAddr>().is_ok()).collect();
    found.sort();
    found
}

fn bridge(host: &Host) -> String {
    format!("barge0-{}", host.instance.strip_prefix("barge-").unwrap())
}

#[test]
fn the_default_bridge_is_made_on_first_use() {
    let host = Host::busybox();
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
    let first = host.run("run --rm busybox ip -o addr show dev eth0").ok();
    assert!(first.err().contains("IPv4 forwarding was off"), "{}", first.err());
    assert!(
        first.text().contains("172.17.0.2/16 brd 172.17.255.255"),
        "{}",
        first.text()
    );
    assert!(
        !first.text().contains("inet6"),
        "no addresses that nobody asked for: {}",
        first.text()
    );
    assert_eq!(
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim(),
        "1"
    );
    let quiet = host.run("run --rm busybox ip route").ok();
    assert_eq!(quiet.err(), "");
    // The address that has just become free is not used again at once.
    assert_eq!(
        quiet.lines(),
        [
            "default via 172.17.0.1 dev eth0 ",
            "172.17.0.0/16 dev eth0 scope link  src 172.17.0.3 "
        ]
    );
    let link = host.text("run --rm busybox ip -o link show dev eth0");
    assert!(link.contains("02:42:ac:11:00:04") && link.contains("UP"), "{link}");
    host.run("run --rm busybox ping -c 1 -w 5 172.17.0.1").ok();
    let own = ip_json(&format!("addr show dev {}", bridge(&host)));
    assert_eq!(own[0]["address"], "02:42:ac:11:00:01");
    assert_eq!(own[0]["addr_info"][0]["local"], "172.17.0.1");
    let router_advertisements = format!("/proc/sys/net/ipv6/conf/{}/accept_ra", bridge(&host));
    assert_eq!(std::fs::read_to_string(router_advertisements).unwrap().trim(), "0");
}

#[test]
fn inspect_says_where_a_container_is_and_nothing_once_it_has_ended() {
    let host = Host::busybox();
    stays(&host, "web", "");
    let gateway = field(&host, "web", "Gateway");
    assert_eq!(
        (address(&host, "web").as_str(), gateway.as_str()),
        ("172.17.0.2", "172.17.0.1")
    );
    assert_eq!(field(&host, "web", "IPPrefixLen"), "16");
    assert_eq!(field(&host, "web", "Bridge"), bridge(&host));
    assert_eq!(field(&host, "web", "MacAddress"), "02:42:ac:11:00:02");
    assert_eq!(on(&host, "web", "bridge", "IPAddress"), "172.17.0.2");
    assert_eq!(on(&host, "web", "bridge", "NetworkID").len(), 64);
    assert_eq!(host.text("inspect -f {{.HostConfig.NetworkMode}} web"), "bridge");
    let there = inspect_network(&host, "bridge");
    assert_eq!(there["Containers"][host.id("web")]["IPv4Address"], "172.17.0.2/16");
    assert_eq!(leases(&host), ["172.17.0.2"]);
    host.text("kill web");
    host.run("wait web");
    for empty in [
        "IPAddress",
        "Gateway",
        "Bridge",
        "MacAddress",
        "Networks.bridge.IPAddress",
    ] {
        assert_eq!(field(&host, "web", empty), "", "{empty}");
    }
    assert_eq!(field(&host, "web", "IPPrefixLen"), "0");
    assert!(leases(&host).is_empty());
    host.text("start web");
    assert_eq!(address(&host, "web"), "172.17.0.3");
}

#[test]
fn what_a_failed_start_or_a_crash_had_is_free() {
    let host = Host::busybox();
    host.run("run --rm busybox /none").fails(127);
    host.run("run --name kept busybox /none").fails(127);
    assert!(leases(&host).is_empty());
    stays(&host, "lost", "");
    kill(host.monitor_pid("lost"), Signal::SIGKILL);
    wait_until("the lost container to be seen as such", || {
        host.status("lost") == "exited"
    });
    wait_until("its lease to be given back", || {
        host.run("ps -a").ok();
        leases(&host).is_empty()
    });
    assert_eq!(address(&host, "lost"), "");
    host.text("start lost");
    assert_ne!(address(&host, "lost"), "");
}

#[test]
fn two_hundred_at_once_never_share_an_address() {
    let host = Host::new();
    host.run("run --rm tiny /tiny exit 0").ok();
    std::thread::scope(|threads| {
        for worker in 0..8 {
            let host = &host;
            threads.spawn(move || {
                for n in 0..25 {
                    host.detached(&format!("c{worker}-{n}"), "", "block");
                }
            });
        }
    });
    let ids = host.run("ps -q").ok().lines();
    assert_eq!(ids.len(), 200);
    let mut line = vec![
        "inspect".to_owned(),
        "-f".to_owned(),
        "{{.NetworkSettings.IPAddress}}".to_owned(),
    ];
    line.extend(ids);
    let addresses: BTreeSet<_> = host.run(line).ok().lines().into_iter().collect();
    assert_eq!(addresses.len(), 200);
    assert_eq!(leases(&host).len(), 200);
    let links = ip_json("link show type veth");
    assert_eq!(links.as_array().unwrap().len(), 200);
}

#[test]
fn addresses_as_asked_for() {
    let host = Host::busybox();
    host.text("network create --subnet 10.5.0.0/24 --subnet fd00:5::/64 back");
    let flags = "--network back --ip 10.5.0.77 --ip6 fd00:5::77 --mac-address 02:00:00:00:00:77";
    stays(&host, "a", flags);
    assert_eq!(on(&host, "a", "back", "IPAddress"), "10.5.0.77");
    assert_eq!(on(&host, "a", "back", "GlobalIPv6Address"), "fd00:5::77");
    assert_eq!(on(&host, "a", "back", "IPAMConfig.IPv4Address"), "10.5.0.77");
    let link = host.text("exec a ip -o link show dev eth0");
    assert!(link.contains("02:00:00:00:00:77"), "{link}");
    host.run("run --rm --network back busybox ping -c 1 -w 5 10.5.0.77")
        .ok();
    host.run("run --rm --network back busybox ping -6 -c 1 -w 5 fd00:5::77")
        .ok();
    host.run("run --rm --network back busybox ping -6 -c 1 -w 5 fd00:5::1")
        .ok();
    let default = host.text("run --rm --network back busybox ip -6 route");
    assert!(default.contains("default via fd00:5::1"), "{default}");
    for (flags, says) in [
        ("--ip 10.5.0.77", "Address already in use"),
        ("--ip 10.6.0.1", "no configured subnet contains IP address 10.6.0.1"),
        ("--ip 10.5.0.1", "the gateway's"),
        ("--ip 10.5.0.255", "broadcast"),
        ("--ip6 fd00:6::1", "no configured subnet contains IP address fd00:6::1"),
    ] {
        host.run(format!("run --rm --network back {flags} busybox true"))
            .fails(125)
            .says(&[says]);
    }
    // Also on the default network, and by the option of the network.
    assert!(
        host.text("run --rm --ip 172.17.9.9 busybox ip -o addr show dev eth0")
            .contains("172.17.9.9/16")
    );
    let named = host.text("run --rm --network back:ip=10.5.0.78,interface_name=lan0 busybox ip addr show dev lan0");
    assert!(named.contains("10.5.0.78/24"), "{named}");
    host.run("run --rm --network host --ip 10.5.0.9 busybox true")
        .fails(125);
    assert_eq!(leases(&host), ["10.5.0.77", "fd00:5::77"]);
}

#[test]
fn a_full_range_says_so_and_leaves_nothing() {
    let host = Host::busybox();
    // What is kept for something else is nobody's.
    host.text("network create --subnet 10.6.0.0/29 --aux-address router=10.6.0.2 --aux-address x=10.6.0.4 aside");
    host.run("run --rm --network aside --ip 10.6.0.4 busybox true")
        .fails(125)
        .says(&["--aux-address"]);
    for (n, expected) in ["10.6.0.3", "10.6.0.5"].iter().enumerate() {
        stays(&host, &format!("a{n}"), "--network aside");
        assert_eq!(on(&host, &format!("a{n}"), "aside", "IPAddress"), *expected);
    }
    let config = inspect_network(&host, "aside")["IPAM"]["Config"][0].clone();
    assert_eq!(config["AuxiliaryAddresses"]["router"], "10.6.0.2");
    host.text("rm -f a0 a1");
    host.text("network create --subnet 10.5.0.0/24 --ip-range 10.5.0.8/30 small");
    for (n, expected) in ["10.5.0.8", "10.5.0.9", "10.5.0.10", "10.5.0.11"].iter().enumerate() {
        stays(&host, &format!("c{n}"), "--network small");
        assert_eq!(on(&host, &format!("c{n}"), "small", "IPAddress"), *expected);
    }
    let full = host.run("run --rm --network small busybox true").fails(125);
    full.says(&["No unallocated IP available in 10.5.0.8/30 of network small"]);
    host.text("rm -f c2");
    stays(&host, "again", "--network small");
    assert_eq!(on(&host, "again", "small", "IPAddress"), "10.5.0.10");
}

#[test]
fn subnets_avoid_what_the_host_has() {
    let host = Host::busybox();
    ip("link add other type veth peer name others");
    ip("link set other up");
    ip("addr add 172.17.42.1/16 dev other");
    ip("route add 172.18.5.5/32 dev other");
    ip("route add blackhole 172.20.0.0/16");
    ip("route add 0.0.0.0/1 dev other");
    stays(&host, "a", "");
    assert_eq!(address(&host, "a"), "172.19.0.2");
    host.text("network create back");
    let config = inspect_network(&host, "back")["IPAM"]["Config"][0].clone();
    assert_eq!(config["Subnet"], "172.21.0.0/16");
    // The host has come to use it itself, while no container was there.
    host.text("rm -f a");
    ip(&format!("link del {}", bridge(&host)));
    ip("route add 172.19.0.0/16 dev other");
    stays(&host, "b", "");
    assert!(address(&host, "b").starts_with("172.22.0."), "{}", address(&host, "b"));
    // Nothing is left to choose from.
    ip("route add 172.16.0.0/12 dev other metric 5");
    ip("route add 192.168.0.0/16 dev other");
    host.run("network create none-left").fails(1).says(&["no free subnet"]);
    host.run("network create --subnet 192.168.7.0/24 --ip-range 192.168.8.0/25 x")
        .fails(125);
    host.text("network create --subnet 192.168.7.0/24 by-hand");
}

#[test]
fn an_existing_bridge_is_used_as_it_is() {
    let host = Host::busybox();
    ip("link add br5 type bridge");
    host.run("-b br5 run --rm busybox true")
        .fails(125)
        .says(&["bridge br5 has no IPv4 address"]);
    ip("addr add 10.55.0.1/24 dev br5");
    ip("addr add 10.56.0.1/24 dev br5");
    ip("link set br5 up");
    let output = host.run("-b br5 run --rm busybox ip route").ok();
    assert!(output.text().contains("default via 10.55.0.1"), "{}", output.text());
    assert!(
        output
            .err()
            .contains("bridge br5 has several IPv4 addresses: using 10.55.0.1"),
        "{}",
        output.err()
    );
    let by_environment = host
        .barge("run --rm busybox ip route")
        .env("BARGE_BRIDGE", "br5")
        .run()
        .ok();
    assert!(by_environment.text().contains("10.55.0.0/24"));
    assert_eq!(host.text("-b none run --rm busybox ip -o link").lines().count(), 1);
    host.run("-b br6 run --rm busybox true")
        .fails(125)
        .says(&["bridge br6 does not exist"]);
    host.run("-b lo run --rm busybox true")
        .fails(125)
        .says(&["lo is no bridge"]);
    // It is the administrator's: it stays when the network goes.
    host.text("network rm br5");
    assert_eq!(ip_json("link show dev br5")[0]["operstate"], "DOWN");
    // A link in the way of the engine's own.
    ip(&format!("link add {} type veth peer name inway", bridge(&host)));
    host.run("run --rm busybox true")
        .fails(125)
        .says(&["exists and is no bridge"]);
    assert!(leases(&host).is_empty());
}

#[test]
fn the_mtu_is_that_of_the_way_out() {
    let host = Host::busybox();
    let net = Net::around(&host);
    net.host.ip("link set up0 mtu 1400");
    let link = host.text("run --rm busybox ip -o link show dev eth0");
    assert!(link.contains("mtu 1400"), "{link}");
    assert_eq!(ip_json(&format!("link show dev {}", bridge(&host)))[0]["mtu"], 1400);
    host.text("network create -o com.docker.network.driver.mtu=1234 narrow");
    let link = host.text("run --rm --network narrow busybox ip -o link show dev eth0");
    assert!(link.contains("mtu 1234"), "{link}");
    host.run("network create -o mtu=12 x")
        .fails(125)
        .says(&["invalid MTU: 12"]);
}

#[test]
fn networks_come_and_go() {
    let host = Host::busybox();
    let id = host.text("network create --label tier=back --internal back");
    assert_eq!(id.len(), 64);
    host.run("network create back")
        .fails(1)
        .says(&["network with name back already exists"]);
    assert_eq!(host.text("network create --ignore back"), id);
    let names = host
        .run(["network", "ls", "--format", "{{.Name}} {{.Driver}}"])
        .ok()
        .lines();
    assert_eq!(names, ["back bridge", "bridge bridge", "host host", "none null"]);
    for (filter, expected) in [
        ("label=tier=back", "back"),
        ("label=tier=front", ""),
        ("name=ack", "back"),
        ("type=custom", "back"),
        ("dangling=true", "back"),
        ("driver=null", "none"),
        (&format!("id={}", &id[..8]), "back"),
    ] {
        let got = host.text(["network", "ls", "--filter", filter, "--format", "{{.Name}}"]);
        assert_eq!(got, expected, "{filter}");
    }
    assert_eq!(host.text("network ls -q --no-trunc --filter name=back"), id);
    host.run("network ls --filter colour=red").fails(125);
    let there = inspect_network(&host, &id[..6]);
    assert_eq!((&there["Name"], &there["Internal"]), (&"back".into(), &true.into()));
    assert_eq!(
        host.text(["inspect", "--type", "network", "-f", "{{.Labels.tier}}", "back"]),
        "back"
    );
    host.run("network exists back").ok();
    host.run("network exists front").fails(1);
    host.run("run --rm --network front busybox true")
        .fails(125)
        .says(&["network front not found"]);
    // In use: by one that runs, and by one that would run there again.
    stays(&host, "a", "--network back");
    assert!(!host.text("exec a ip route").contains("default"));
    host.run("network rm back")
        .fails(1)
        .says(&["has active endpoints (name:\"a\""]);
    host.text("kill a");
    host.run("wait a");
    host.run("network rm back").fails(1).says(&["has active endpoints"]);
    assert_eq!(host.text("network prune -f"), "");
    host.text("rm a");
    let bridges = || ip_json("link show type bridge").as_array().unwrap().len();
    let before = bridges();
    assert_eq!(host.text("network rm back"), "back");
    assert_eq!(bridges(), before - 1);
    host.run("network rm back").fails(1).says(&["network back not found"]);
    host.run("network rm -f back").ok();
    for name in ["bridge", "host", "none"] {
        host.run(["network", "rm", name]).fails(1).says(&["pre-defined"]);
    }
    host.text("network create gone");
    assert!(host.text("network prune -f").contains("gone"));
    for (line, says) in [
        ("a/b", "invalid network name"),
        ("host", "means something else"),
        ("-d overlay x", "could not find plugin overlay"),
        ("--subnet 10.1.0.0/24 --subnet 10.2.0.0/24 x", "multiple subnets"),
        ("--subnet 10.1.0.0/33 x", "invalid CIDR address"),
        (
            "--subnet 10.1.0.0/24 --gateway 10.2.0.1 x",
            "no matching subnet for gateway",
        ),
        ("-o parent=none0 -d macvlan x", "parent none0 does not exist"),
        (
            "-d macvlan -o macvlan_mode=best x",
            "requested macvlan mode 'best' is not valid",
        ),
        ("-o x y", "want NAME=VALUE"),
    ] {
        let output = host.run(format!("network create {line}"));
        assert!(
            output.code != 0 && output.err().contains(says),
            "{line}: {}",
            output.err()
        );
    }
    host.text("network create --subnet 10.1.0.0/16 one");
    host.run("network create --subnet 10.1.7.0/24 two")
        .fails(1)
        .says(&["Pool overlaps"]);
}

#[test]
fn running_containers_are_connected_and_disconnected() {
    let host = Host::busybox();
    host.text("network create --subnet 10.5.0.0/24 back");
    host.text("network create --subnet 10.6.0.0/24 front");
    stays(&host, "web", "--network front");
    stays(&host, "db", "--network back:alias=data");
    host.run("network connect --ip 10.5.0.99 --alias w back web").ok();
    host.run("exec web ping -c 1 -w 5 10.5.0.2").ok();
    assert_eq!(on(&host, "web", "back", "IPAddress"), "10.5.0.99");
    assert_eq!(on(&host, "web", "back", "Aliases"), "[w]");
    let routes = host.text("exec web ip route");
    assert_eq!(routes.matches("default").count(), 1, "{routes}");
    host.run("network connect back web")
        .fails(1)
        .says(&["endpoint with name web already exists in network back"]);
    host.run("network connect --ip 10.5.0.2 back web").fails(1);
    host.run("network connect none web").fails(1);
    host.run("network connect nowhere web")
        .fails(1)
        .says(&["network nowhere not found"]);
    host.run("network connect back nobody")
        .fails(1)
        .says(&["No such container: nobody"]);
    assert_eq!(leases(&host), ["10.5.0.2", "10.5.0.99", "10.6.0.2"]);
    // It is so after a restart, too.
    host.text("restart -t 0 web");
    assert_eq!(on(&host, "web", "back", "IPAddress"), "10.5.0.99");
    // The network with the default route goes: the other one leads out now.
    host.text("network disconnect front web");
    let routes = host.text("exec web ip route");
    assert!(routes.contains("default via 10.5.0.1"), "{routes}");
    assert_eq!(leases(&host), ["10.5.0.2", "10.5.0.99"]);
    host.run("network disconnect front web")
        .fails(1)
        .says(&["not connected"]);
    host.run("network disconnect -f front web").ok();
    host.text("network disconnect back web");
    assert_eq!(host.text("exec web ip -o link").lines().count(), 1);
    assert_eq!(ip_json("link show type veth").as_array().unwrap().len(), 1);
    // And while it does not run.
    host.text("kill web");
    host.run("wait web");
    host.text("network connect front web");
    host.run("network connect front web").fails(1);
    host.text("start web");
    assert!(on(&host, "web", "front", "IPAddress").starts_with("10.6.0."));
    host.text("run -d --name alone --net none busybox sleep 1000");
    host.run("network connect back alone")
        .fails(1)
        .says(&["private (none) mode"]);
    host.text("run -d --name guest --net container:web busybox sleep 1000");
    host.run("network connect back guest")
        .fails(1)
        .says(&["sharing network namespace"]);
    host.text("run -d --name open --net host busybox sleep 1000");
    host.run("network disconnect back open").fails(1);
}

#[test]
fn several_networks_from_the_start() {
    let host = Host::busybox();
    host.text("network create --subnet 10.5.0.0/24 --internal inside");
    host.text("network create --subnet 10.6.0.0/24 front");
    stays(&host, "web", "--network inside:ip=10.5.0.9 --network front,bridge");
    let links = host.text("exec web ip -o -4 addr");
    for part in [
        "eth0    inet 10.5.0.9/24",
        "eth1    inet 10.6.0.2/24",
        "eth2    inet 172.17.0.2/16",
    ] {
        assert!(links.contains(part), "{part}: {links}");
    }
    let routes = host.text("exec web ip route");
    assert!(
        routes.contains("default via 10.6.0.1"),
        "an internal network leads nowhere: {routes}"
    );
    let inside: Value = serde_json::from_str(&host.text("inspect web")).unwrap();
    let networks: Vec<_> = inside[0]["NetworkSettings"]["Networks"]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert_eq!(networks, ["inside", "front", "bridge"]);
    let one_fails = "run --rm --network front --network inside:ip=10.5.0.9 busybox true";
    host.run(one_fails)
        .fails(125)
        .says(&["Address already in use: 10.5.0.9"]);
    assert_eq!(leases(&host).len(), 3, "nothing half leased");
}

#[test]
fn a_shared_namespace_outlives_its_owner_without_the_address() {
    let host = Host::busybox();
    stays(&host, "owner", "");
    stays(&host, "guest", "--net container:owner");
    assert!(host.text("exec guest ip addr").contains("172.17.0.2/16"));
    host.text("rm -f owner");
    assert_eq!(host.text("exec guest ip -o link").lines().count(), 1);
    assert!(leases(&host).is_empty());
    assert_eq!(ip_json("link show type veth").as_array().unwrap().len(), 0);
    assert!(alive(host.init_pid("guest")));
}

#[test]
fn networks_lead_out_but_not_to_each_other() {
    let host = Host::busybox();
    let _net = Net::around(&host);
    host.text("network create --subnet 10.5.0.0/24 back");
    host.text("network create --subnet 10.6.0.0/24 front");
    host.text("network create --subnet 10.7.0.0/24 --internal inside");
    stays(&host, "db", "--network back");
    stays(&host, "web", "--network front");
    stays(&host, "safe", "--network inside");
    // The client knows no way back to a container: what it answers went out under the host's address.
    for name in ["db", "web"] {
        host.run(["exec", name, "ping", "-c", "1", "-w", "5", Net::CLIENT]).ok();
    }
    host.run("exec web ping -c 1 -w 1 10.5.0.2").fails(1);
    host.run("exec db ping -c 1 -w 1 10.6.0.2").fails(1);
    host.run("exec db ping -c 1 -w 1 10.7.0.2").fails(1);
    host.run(["exec", "safe", "ping", "-c", "1", "-w", "1", Net::CLIENT])
        .fails(1);
    // Not even by a way that it makes for itself.
    let privileged = "run --rm --cap-add NET_ADMIN --network inside busybox";
    let script = format!("ip route add default via 10.7.0.1; ping -c 1 -w 1 {}", Net::CLIENT);
    let mut line: Vec<String> = privileged.split(' ').map(str::to_owned).collect();
    line.extend(["sh".to_owned(), "-c".to_owned(), script]);
    host.run(line).fails(1);
}

#[test]
fn macvlan_containers_are_on_the_hosts_network() {
    let host = Host::busybox();
    let neighbour = Place::new();
    Place::here().cable("lan0", &neighbour, "lan0");
    neighbour.ip("addr add 192.0.2.50/24 dev lan0");
    host.text("network create -d macvlan --subnet 192.0.2.0/24 --gateway 192.0.2.50 -o parent=lan0 lan");
    stays(&host, "web", "--network lan --ip 192.0.2.9");
    neighbour.run("busybox ping -c 1 -w 5 192.0.2.9").ok();
    let routes = host.text("exec web ip route");
    assert!(routes.contains("default via 192.0.2.50"), "{routes}");
    host.text("network create -d macvlan --subnet 198.18.0.0/24 -o parent=lan0 second");
    host.text("network connect second web");
    assert!(host.text("exec web ip -o link").contains("eth1"));
    host.text("network disconnect second web");
    assert!(!host.text("exec web ip -o link").contains("eth1"));
    host.text("rm -f web");
    host.text("network rm lan second");
    assert_eq!(
        ip_json("link show dev lan0").as_array().unwrap().len(),
        1,
        "the parent stays"
    );
}

#[test]
fn a_removal_of_a_network_killed_anywhere() {
    if cfg!(not(feature = "stop-points")) {
        return;
    }
    let host = Host::busybox();
    host.text("network create back");
    host.run("run --rm --network back busybox true").ok();
    host.barge("network rm back")
        .env("BARGE_STOP_AT", "network-link-removed")
        .run();
    // The link is gone, the record is not: it can be used, and removed again.
    host.run("run --rm --network back busybox true").ok();
    host.text("network rm back");
    host.run("network inspect back").fails(1);
}

#[test]
fn two_engines_do_not_disturb_each_other() {
    let (one, two) = (Host::busybox(), Host::busybox());
    stays(&one, "a", "");
    stays(&two, "a", "");
    assert_eq!(
        (address(&one, "a").as_str(), address(&two, "a").as_str()),
        ("172.17.0.2", "172.18.0.2")
    );
    assert_ne!(bridge(&one), bridge(&two));
    // A subnet that was chosen before the other engine took it: said so, and nothing left.
    one.text("network create late");
    two.text("network create early");
    let (late, early) = (inspect_network(&one, "late"), inspect_network(&two, "early"));
    assert_eq!(late["IPAM"]["Config"], early["IPAM"]["Config"]);
    stays(&two, "b", "--network early");
    one.run("run --rm --network late busybox true")
        .fails(125)
        .says(&["network late: Pool overlaps with other one on this address space: 172.19.0.0/16"]);
    two.text("rm -f b");
    two.text("network rm early");
    one.run("run --rm --network late busybox true").ok();
}

#[test]
fn a_network_by_its_id_is_the_same_one() {
    let host = Host::busybox();
    let id = host.text("network create back");
    host.run(format!("run --rm --network back --network {id} busybox true"))
        .fails(125)
        .says(&["network back is specified multiple times"]);
    host.text(format!("create --name a --network {} busybox true", &id[..12]));
    host.run("network rm back").fails(1).says(&["has active endpoints"]);
    host.text("network disconnect back a");
    host.text("network rm back");
}

#[test]
fn a_connection_that_fails_leaves_nothing() {
    let host = Host::busybox();
    host.text("network create back");
    stays(&host, "a", "");
    let before = leases(&host);
    // The container has an interface of that name already.
    let inside = Place::of(host.init_pid("a"));
    inside.run("ip link add eth1 type veth peer name own1").ok();
    host.run("network connect back a").fails(1).says(&["file exists"]);
    assert_eq!(leases(&host), before);
    let networks = host.text(["inspect", "-f", "{{json .NetworkSettings.Networks}}", "a"]);
    assert!(!networks.contains("back"), "{networks}");
    inside.run("ip link del own1").ok();
    assert!(!inside.run("ip link").ok().text().contains("eth1"));
    host.text("network connect back a");
    assert!(inside.run("ip link").ok().text().contains("eth1"));
}
