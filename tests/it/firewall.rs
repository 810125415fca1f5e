//! The firewall: beside other people's rules, with the administrator's own, without nf_tables, after a flush.

use crate::publish::{TOOLS, listening, ready_for_ipv6, serve, tcp, udp};
use crate::support::Host;
use crate::support::net::{Net, Place};
use crate::support::wait_until;

const HELLO: &str = "socat TCP4-LISTEN:80,fork,reuseaddr 'SYSTEM:echo hello'";

fn nft(line: &str) -> String {
    Place::here().run(&format!("nft {line}")).ok().text()
}

fn web(host: &Host, flags: &[&str]) {
    serve(host, "web", flags, HELLO);
    listening(host, "web", 80);
}

fn from_outside(net: &Net) -> bool {
    net.client.enter(|| tcp(&format!("{}:8080", Net::HOST))).is_ok()
}

/// A server outside that a container reaches.
fn gets_out(host: &Host, net: &Net) -> bool {
    let listener = net
        .client
        .enter(|| std::net::TcpListener::bind((Net::CLIENT, 7000)).unwrap());
    let to = format!("TCP:{}:7000,connect-timeout=2", Net::CLIENT);
    let mut line = vec!["run", "--rm"];
    line.extend(TOOLS);
    line.extend(["busybox", "socat", "-u", "/dev/null", &to]);
    let done = host.run(line).code == 0;
    drop(listener);
    done
}

#[test]
fn beside_dockers_and_firewalld() {
    let host = Host::busybox();
    let net = Net::around(&host);
    for line in [
        "iptables -P FORWARD DROP",
        "iptables -N DOCKER-USER",
        "iptables -A FORWARD -j DOCKER-USER",
        "iptables -A FORWARD -i docker0 -j ACCEPT",
        "ip6tables -P FORWARD DROP",
    ] {
        Place::here().run(line).ok();
    }
    nft("add table inet firewalld");
    nft("add chain inet firewalld filter_FORWARD { type filter hook forward priority filter + 10 ; policy accept ; }");
    nft("add rule inet firewalld filter_FORWARD ct state { established, related } accept");
    nft("add rule inet firewalld filter_FORWARD ct status dnat accept");
    nft("add rule inet firewalld filter_FORWARD counter reject with icmpx admin-prohibited");
    nft("add table inet counted");
    nft("add chain inet counted c { type filter hook input priority 0 ; }");
    nft("add rule inet counted c tcp dport 1 counter packets 7 bytes 70");
    let started = host
        .run([
            "run", "-d", "--name", "first", "-p", "81:81", "busybox", "sleep", "1000",
        ])
        .ok();
    assert!(started.err().contains("whatever firewalld says"), "{}", started.err());
    web(&host, &["-p", "8080:80"]);
    assert!(from_outside(&net));
    assert!(tcp("127.0.0.1:8080").is_ok());
    assert!(gets_out(&host, &net));
    let forward = Place::here().run("iptables -S FORWARD").ok().lines();
    assert_eq!(
        forward[1], "-A FORWARD -j DOCKER-USER",
        "the administrator's come first: {forward:?}"
    );
    assert!(nft("list table inet counted").contains("packets 7 bytes 70"));
    // The administrator's rules of docker's hold for ours as well.
    Place::here()
        .run("iptables -A DOCKER-USER -s 198.51.100.2 -j DROP")
        .ok();
    assert!(!from_outside(&net));
    host.run("rm -f web first").ok();
}

#[test]
fn the_administrators_rules_are_passed_by_nobody() {
    let host = Host::busybox();
    let net = Net::around(&host);
    web(&host, &["-p", "8080:80", "-p", "8081:80"]);
    let six = || net.client.enter(|| tcp(&format!("[{}]:8080", Net::HOST6))).is_ok();
    ready_for_ipv6(&net, 8080);
    assert!(from_outside(&net) && six());
    let table = &host.instance;
    nft(&format!(
        "add rule inet {table} user iifname up0 meta l4proto tcp ct original proto-dst 8080 drop"
    ));
    assert!(!from_outside(&net), "over the kernel's way");
    assert!(!six(), "through the proxy");
    assert!(net.client.enter(|| tcp(&format!("{}:8081", Net::HOST))).is_ok());
    assert!(tcp("127.0.0.1:8080").is_ok());
    host.run("network reload").ok();
    assert!(!from_outside(&net), "they outlive a reload");
    // And they can let in what would be kept out.
    let address = host.text(["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"]);
    net.router.ip(&format!("route add {address}/32 via {}", Net::HOST));
    assert!(net.client.enter(|| tcp(&format!("{address}:80"))).is_err());
    nft(&format!(
        "add rule inet {table} user iifname up0 ip daddr {address} accept"
    ));
    assert!(net.client.enter(|| tcp(&format!("{address}:80"))).is_ok());
}

#[test]
fn flushed_rules_come_back() {
    let host = Host::busybox();
    let net = Net::around(&host);
    web(&host, &["-p", "8080:80", "-p", "5300:53/udp"]);
    nft("flush ruleset");
    // The proxy has stood in.
    assert!(from_outside(&net) && tcp("127.0.0.1:8080").is_ok());
    assert!(!gets_out(&host, &net) || nft("list ruleset").contains("masquerade"));
    host.run("network reload").ok();
    assert!(from_outside(&net));
    assert!(gets_out(&host, &net));
    let rules = nft("list ruleset");
    assert!(
        rules.contains("tcp . 8080 comment") && rules.contains("udp . 5300 comment"),
        "{rules}"
    );
    // Any start does it as well.
    nft("flush ruleset");
    host.run(["run", "--rm", "busybox", "true"]).ok();
    assert!(nft("list ruleset").contains("tcp . 8080 comment"));
    // Rules alone, the sets still there.
    nft(&format!("flush table inet {}", host.instance));
    host.run("network reload").ok();
    assert!(nft("list ruleset").contains("map @any4"));
}

#[test]
fn by_iptables() {
    let host = Host::busybox();
    let net = Net::around(&host);
    host.run("network reload --firewall iptables").ok();
    Place::here().run("iptables -P FORWARD DROP").ok();
    web(&host, &["-p", "8080:80", "-p", "127.0.0.1:8081:80"]);
    assert!(from_outside(&net));
    for at in [
        "127.0.0.1:8080",
        "127.0.0.1:8081",
        "[::1]:8080",
        &format!("{}:8080", Net::HOST),
    ] {
        assert!(tcp(at).is_ok(), "{at}");
    }
    Place::of(host.init_pid("web")).enter(|| assert!(tcp(&format!("{}:8080", Net::HOST)).is_ok(), "hairpin"));
    assert!(gets_out(&host, &net));
    assert!(!nft("list tables").contains(&host.instance), "never both");
    Place::here().run("iptables -t nat -F").ok();
    Place::here().run("iptables -F").ok();
    host.run("network reload").ok();
    assert!(gets_out(&host, &net));
    host.run("rm -f web").ok();
    let nat = Place::here().run("iptables -t nat -S").ok().text();
    assert!(!nat.contains("8080"), "{nat}");
    host.run("network reload --firewall nftables").ok();
    let nat = Place::here().run("iptables -t nat -S").ok().text();
    assert!(!nat.contains("BARGE"), "{nat}");
    host.run("network reload --firewall pf").fails(125);
}

#[test]
fn without_any_the_proxy_serves() {
    let host = Host::busybox();
    let net = Net::around(&host);
    let said = host.run("network reload --firewall none").ok();
    assert!(said.err().contains("userland proxy"), "{}", said.err());
    web(&host, &["-p", "8080:80"]);
    for at in ["127.0.0.1:8080", "[::1]:8080", &format!("{}:8080", Net::HOST)] {
        assert!(tcp(at).is_ok(), "{at}");
    }
    assert!(from_outside(&net));
    assert!(!nft("list ruleset").contains("barge"));
}

#[test]
fn internal_networks_lead_nowhere() {
    let host = Host::busybox();
    let net = Net::around(&host);
    host.text("network create --internal inner");
    let flags = ["--network", "inner", "-p", "8080:80"];
    let mut line = vec!["run", "-d", "--name", "web"];
    line.extend(flags);
    line.extend(["busybox", "sleep", "1000"]);
    let said = host.run(line).ok();
    assert!(said.err().contains("Published ports are discarded"), "{}", said.err());
    let _listener = net
        .client
        .enter(|| std::net::TcpListener::bind((Net::CLIENT, 7000)).unwrap());
    let to = format!("TCP:{}:7000,connect-timeout=1", Net::CLIENT);
    let mut out = vec!["run", "--rm", "--network", "inner"];
    out.extend(TOOLS);
    out.extend(["busybox", "socat", "-u", "/dev/null", &to]);
    assert_ne!(host.run(out).code, 0);
    host.run("rm -f web").ok();
    host.run("network rm inner").ok();
}

#[test]
fn udp_follows_a_port_to_its_next_owner() {
    let host = Host::busybox();
    let echo =
        |name: &str| format!("exec socat UDP4-RECVFROM:53,fork 'SYSTEM:read x; echo {name} from $SOCAT_PEERADDR'");
    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    client
        .set_read_timeout(Some(std::time::Duration::from_millis(300)))
        .unwrap();
    client.connect("127.0.0.1:5300").unwrap();
    // One socket for all the time: for the kernel it is one flow.
    for name in ["one", "two"] {
        serve(&host, name, &["-p", "5300:53/udp"], &echo(name));
        wait_until(&format!("{name} to answer"), || {
            let mut buffer = [0; 100];
            let _ = client.send(b"x\n");
            client
                .recv(&mut buffer)
                .is_ok_and(|n| buffer[..n].starts_with(name.as_bytes()))
        });
        host.run(["rm", "-f", name]).ok();
    }
    assert!(udp("127.0.0.1:5300").is_err());
}
