//! Published ports: from outside, from the host by each of its addresses, from neighbours and from itself; refused when
//! taken, free again at once, the same after a restart.

use crate::support::net::{Net, Place};
use crate::support::{Host, kill, seconds, wait_until};
use nix::sys::signal::Signal;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

/// The host's own programs inside a busybox container.
pub const TOOLS: [&str; 6] = ["-v", "/usr:/usr:ro", "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro"];

/// Says over TCP on 80, and over UDP on 54, who asks. Not socat for UDP: its children and itself read from one socket, so
/// that a question is lost now and then.
const SERVER: &str = "socat TCP6-LISTEN:80,fork,reuseaddr,ipv6only=0 'SYSTEM:echo tcp from $SOCAT_PEERADDR' & \
    exec perl -MSocket=:all -e 'socket(S, AF_INET6, SOCK_DGRAM, 0); \
    setsockopt(S, IPPROTO_IPV6, IPV6_V6ONLY, pack(\"i\", 0)); bind(S, pack_sockaddr_in6(54, IN6ADDR_ANY)) or die; \
    while (my $peer = recv(S, my $x, 1000, 0)) { chomp $x; my ($port, $address) = unpack_sockaddr_in6($peer); \
    send(S, \"$x from [\" . join(\":\", unpack(\"(H4)8\", $address)) . \"]\\n\", 0, $peer) }'";

/// `Net::CLIENT` as an IPv6 socket of socat's shows it.
const CLIENT_MAPPED: &str = "ffff:c633:6402]";

pub fn serve(host: &Host, name: &str, flags: &[&str], script: &str) -> String {
    let mut line = vec!["run", "-d", "--name", name];
    line.extend(TOOLS);
    line.extend(flags);
    line.extend(["busybox", "sh", "-c", script]);
    host.text(line)
}

/// Waits until a server inside the container listens.
pub fn listening(host: &Host, name: &str, port: u16) {
    let inside = Place::of(host.init_pid(name));
    wait_until(&format!("{name} to listen on {port}"), || {
        inside.enter(|| TcpStream::connect(("127.0.0.1", port)).is_ok())
    });
}

fn server(host: &Host, name: &str, flags: &[&str]) {
    serve(host, name, flags, SERVER);
    listening(host, name, 80);
    let inside = Place::of(host.init_pid(name));
    wait_until("UDP to be answered", || inside.enter(|| udp("127.0.0.1:54").is_ok()));
}

/// What a server says to somebody who only listens.
pub fn tcp(at: &str) -> Result<String, String> {
    let at: SocketAddr = at.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(2)).map_err(|e| e.to_string())?;
    stream.set_read_timeout(Some(seconds(10))).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).map_err(|e| e.to_string())?;
    Ok(said)
}

/// Asks, more than once if need be: datagrams may be lost.
pub fn udp(at: &str) -> Result<String, String> {
    let at: SocketAddr = at.parse().unwrap();
    let any = if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    socket.connect(at).map_err(|e| e.to_string())?;
    let mut last = String::new();
    for _ in 0..5 {
        let mut buffer = [0; 1000];
        match socket.send(b"udp\n").and_then(|_| socket.recv(&mut buffer)) {
            Ok(n) => return Ok(String::from_utf8_lossy(&buffer[..n]).into_owned()),
            Err(e) => last = e.to_string(),
        }
    }
    Err(last)
}

/// New links are some seconds old before neighbours find each other over IPv6.
pub fn ready_for_ipv6(net: &Net, port: u16) {
    let at = format!("[{}]:{port}", Net::HOST6);
    wait_until("IPv6 to work from outside", || net.client.enter(|| tcp(&at)).is_ok());
}

fn both(at: &str, port: u16, udp_port: u16) {
    let said = tcp(&format!("{at}:{port}"));
    assert!(
        said.as_ref().is_ok_and(|s| s.starts_with("tcp from")),
        "tcp {at}: {said:?}"
    );
    let said = udp(&format!("{at}:{udp_port}"));
    assert!(
        said.as_ref().is_ok_and(|s| s.starts_with("udp from")),
        "udp {at}: {said:?}"
    );
}

#[test]
fn from_everywhere() {
    let host = Host::busybox();
    let net = Net::around(&host);
    server(&host, "web", &["-p", "8080:80", "-p", "5300:54/udp"]);
    // The host: its loopback of both families, its own addresses.
    for at in [
        "127.0.0.1",
        "127.0.0.5",
        "[::1]",
        Net::HOST,
        &format!("[{}]", Net::HOST6),
    ] {
        both(at, 8080, 5300);
    }
    // From outside, with the client's own address over IPv4; IPv6 goes through the proxy to a container without it.
    net.client.enter(|| {
        let said = tcp(&format!("{}:8080", Net::HOST)).unwrap();
        assert!(said.contains(CLIENT_MAPPED), "{said}");
        let said = udp(&format!("{}:5300", Net::HOST)).unwrap();
        assert!(said.contains(CLIENT_MAPPED), "{said}");
    });
    ready_for_ipv6(&net, 8080);
    net.client.enter(|| both(&format!("[{}]", Net::HOST6), 8080, 5300));
    // A neighbour, and itself.
    serve(&host, "near", &[], "exec sleep 1000");
    for from in ["near", "web"] {
        Place::of(host.init_pid(from)).enter(|| both(Net::HOST, 8080, 5300));
    }
    // On another network too: what is published is for everyone.
    host.text("network create other");
    serve(&host, "far", &["--network", "other"], "exec sleep 1000");
    let address = host.text(["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"]);
    Place::of(host.init_pid("far")).enter(|| {
        both(Net::HOST, 8080, 5300);
        assert!(tcp(&format!("{address}:80")).is_err(), "networks are apart");
    });
    // What is not published can't be reached from outside, though there is a route.
    net.router.ip(&format!("route add {address}/32 via {}", Net::HOST));
    assert!(net.client.enter(|| tcp(&format!("{address}:80"))).is_err());
    host.run("rm -f web near far").ok();
    host.run("network rm other").ok();
}

#[test]
fn over_ipv6_without_a_proxy() {
    let host = Host::busybox();
    let net = Net::around(&host);
    host.text("network create --ipv6 --subnet fd00:77::/64 six");
    server(
        &host,
        "web",
        &["--network", "six", "-p", "8080:80", "-p", "5300:54/udp"],
    );
    for at in ["127.0.0.1", "[::1]", &format!("[{}]", Net::HOST6)] {
        both(at, 8080, 5300);
    }
    ready_for_ipv6(&net, 8080);
    let said = net.client.enter(|| tcp(&format!("[{}]:8080", Net::HOST6))).unwrap();
    assert!(
        said.contains("2001:0db8:0001:0000:0000:0000:0000:0002"),
        "the client's own address: {said}"
    );
    Place::of(host.init_pid("web")).enter(|| both(&format!("[{}]", Net::HOST6), 8080, 5300));
    host.run("rm -f web").ok();
    host.run("network rm six").ok();
}

#[test]
fn loopback_is_the_hosts_own() {
    let host = Host::busybox();
    let net = Net::around(&host);
    server(
        &host,
        "web",
        &[
            "-p",
            "127.0.0.1:8080:80",
            "-p",
            "[::1]:8080:80",
            "-p",
            "127.0.0.1:5300:54/udp",
        ],
    );
    both("127.0.0.1", 8080, 5300);
    assert!(tcp("[::1]:8080").is_ok());
    assert!(tcp(&format!("{}:8080", Net::HOST)).is_err());
    // The neighbour on the wire sends packets for 127.0.0.1 our way, and this host lets such packets in (CVE-2020-8558).
    std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
    for line in [
        "nft add table ip wire",
        "nft add chain ip wire seen { type filter hook prerouting priority -400 ; }",
        "nft add rule ip wire seen iifname up0 ip daddr 127.0.0.1 tcp dport 8080 counter",
    ] {
        net.host.run(line).ok();
    }
    net.router
        .enter(|| std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap());
    net.router.ip("route del local 127.0.0.0/8 dev lo table local");
    net.router.ip("route del local 127.0.0.1 dev lo table local");
    net.router
        .ip(&format!("route add 127.0.0.1/32 via {} src 203.0.113.1", Net::HOST));
    net.router.enter(|| assert!(tcp("127.0.0.1:8080").is_err()));
    let seen = net.host.run("nft list table ip wire").ok().text();
    assert!(!seen.contains("packets 0 "), "it has come over the wire: {seen}");
    // Nor from inside a container over the bridge.
    let inside = Place::of(host.init_pid("web"));
    let gateway = host.text(["inspect", "-f", "{{.NetworkSettings.Gateway}}", "web"]);
    let bridge = host.text(["inspect", "-f", "{{.NetworkSettings.Bridge}}", "web"]);
    inside.enter(|| std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap());
    inside.ip("route del local 127.0.0.0/8 dev lo table local");
    inside.ip("route del local 127.0.0.1 dev lo table local");
    inside.ip(&format!("route add 127.0.0.1/32 via {gateway}"));
    let _listener = TcpListener::bind("127.0.0.1:7778").unwrap();
    let at: SocketAddr = "127.0.0.1:7778".parse().unwrap();
    assert!(
        inside
            .enter(|| TcpStream::connect_timeout(&at, Duration::from_millis(500)))
            .is_err()
    );
    // Nor may it pass for the host itself, where nothing else looks at source addresses.
    for file in ["all", bridge.as_str()] {
        std::fs::write(format!("/proc/sys/net/ipv4/conf/{file}/rp_filter"), "0").unwrap();
    }
    let trusting = std::net::UdpSocket::bind((gateway.as_str(), 7779)).unwrap();
    trusting.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let spoof = |source: &str| {
        inside.ip(&format!("address add {source}/32 dev eth0"));
        inside.enter(|| {
            let socket = std::net::UdpSocket::bind((source, 0)).unwrap();
            socket.send_to(b"x", (gateway.as_str(), 7779)).unwrap();
        });
    };
    spoof("127.0.0.2");
    assert!(
        trusting.recv_from(&mut [0; 8]).is_err(),
        "a container passed for the host"
    );
    spoof("172.17.0.200");
    assert!(trusting.recv_from(&mut [0; 8]).is_ok());
}

#[test]
fn a_taken_port_is_refused_by_name() {
    let host = Host::new();
    host.detached("web", "-p 8080:80", "deaf");
    let refused = host.run("run --rm -p 9090:90 -p 8080:80 tiny /tiny exit 0").fails(125);
    let text = "Bind for 0.0.0.0:8080 failed: port is already allocated (by container web)";
    assert!(refused.err().contains(text), "{}", refused.err());
    host.run("run --rm -p 127.0.0.1:8080:80 tiny /tiny exit 0").fails(125);
    let _ours = TcpListener::bind("127.0.0.1:9999").unwrap();
    let refused = host.run("run --rm -p 9999:80 tiny /tiny exit 0").fails(125);
    // By whose name is not sure: what another test forks holds it too for a moment.
    let text = "Bind for 0.0.0.0:9999 failed: port is already allocated (by ";
    assert!(refused.err().contains(text), "{}", refused.err());
    // The other protocol is another port.
    host.run("run --rm -p 8080:80/udp tiny /tiny exit 0").ok();
    let refused = host.run("run --rm -p 192.0.2.77:80:80 tiny /tiny exit 0").fails(125);
    assert!(
        refused.err().contains("cannot assign requested address"),
        "{}",
        refused.err()
    );
    assert_eq!(host.text("ps -q").lines().count(), 1);
    // Nobody else can take it either.
    assert!(TcpListener::bind("127.0.0.1:8080").is_err());
}

#[test]
fn free_again_when_the_command_returns() {
    let host = Host::new();
    for _ in 0..10 {
        host.run("run --rm --name same -p 8080:80 -p 8080:80/udp tiny /tiny exit 0")
            .ok();
    }
    for _ in 0..5 {
        host.detached("same", "-p 8080:80", "deaf");
        host.run("rm -f same").ok();
    }
    host.detached("same", "-p 8080:80", "trap 15 0");
    host.wait_log("same", "ready");
    host.run("stop same").ok();
    let _free = TcpListener::bind("0.0.0.0:8080").unwrap();
}

#[test]
fn free_ports_are_kept_for_a_restart() {
    let host = Host::new();
    host.detached("web", "-p 80 -p 53/udp", "deaf");
    let ports = host.text("port web");
    assert!(
        ports.contains("80/tcp -> 0.0.0.0:49153") && ports.contains("80/tcp -> [::]:49153"),
        "{ports}"
    );
    assert!(ports.contains("53/udp -> 0.0.0.0:49153"), "{ports}");
    // In rotation: the next one is another.
    host.detached("next", "-p 80", "deaf");
    assert_eq!(host.text("port next 80").lines().next(), Some("0.0.0.0:49154"));
    host.run("rm -f next").ok();
    host.detached("third", "-p 80", "deaf");
    assert_eq!(host.text("port third 80").lines().next(), Some("0.0.0.0:49155"));
    host.run("restart -t 0 web").ok();
    assert_eq!(host.text("port web"), ports);
    host.run("stop -t 0 web").ok();
    assert_eq!(host.text("port web"), "");
    // Somebody has it meanwhile: another one then.
    let _other = TcpListener::bind("0.0.0.0:49153").unwrap();
    host.run("start web").ok();
    assert_eq!(host.text("port web 80").lines().next(), Some("0.0.0.0:49156"));
}

#[test]
fn what_port_ps_and_inspect_say() {
    let host = Host::new();
    let flags = "-p 8000-8002:80-82 -p 127.0.0.1:5300:53/udp --expose 90 --expose 91-92/udp";
    host.detached("web", flags, "deaf");
    let ps = host.text(["ps", "--format", "{{.Ports}}"]);
    assert_eq!(
        ps,
        "90/tcp, 91-92/udp, 127.0.0.1:5300->53/udp, 0.0.0.0:8000->80/tcp, [::]:8000->80/tcp, 0.0.0.0:8001->81/tcp, \
         [::]:8001->81/tcp, 0.0.0.0:8002->82/tcp, [::]:8002->82/tcp"
    );
    assert_eq!(host.text("port web 53/udp"), "127.0.0.1:5300");
    let e = host.run("port web 53").fails(1);
    assert!(
        e.err().contains("No public port '53/tcp' published for web"),
        "{}",
        e.err()
    );
    host.run("port web x").fails(125);
    let json = |template: &str| host.text(["inspect", "-f", template, "web"]);
    assert_eq!(
        json("{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}"),
        "8000"
    );
    assert_eq!(json("{{json (index .NetworkSettings.Ports \"90/tcp\")}}"), "null");
    assert_eq!(
        json("{{json (index .HostConfig.PortBindings \"53/udp\")}}"),
        r#"[{"HostIp":"127.0.0.1","HostPort":"5300"}]"#
    );
    assert_eq!(host.text("ps -q --filter publish=81").lines().count(), 1);
    assert_eq!(host.text("ps -q --filter publish=99"), "");
    host.run("kill web").ok();
    wait_until("the end", || host.status("web") == "exited");
    assert_eq!(host.text(["ps", "-a", "--format", "{{.Ports}}"]), "");
    assert_eq!(json("{{json .NetworkSettings.Ports}}"), "{}");
}

#[test]
fn documented_ports() {
    let host = Host::new();
    host.detached("quiet", "--expose 80", "deaf");
    assert_eq!(host.text("port quiet"), "");
    host.detached("loud", "--expose 80 --expose 53/udp -p 8080:80 -P", "deaf");
    let ports = host.text("port loud");
    assert!(
        ports.contains("80/tcp -> 0.0.0.0:8080") && ports.contains("53/udp -> 0.0.0.0:49153"),
        "{ports}"
    );
    assert_eq!(ports.lines().count(), 4);
}

#[test]
fn ranges_and_protocols() {
    let host = Host::new();
    let _taken = TcpListener::bind("0.0.0.0:7000").unwrap();
    host.detached("a", "-p 7000-7002:80", "deaf");
    assert_eq!(host.text("port a 80").lines().next(), Some("0.0.0.0:7001"));
    host.detached("b", "-p 7000-7002:80", "deaf");
    let e = host.run("run --rm -p 7000-7002:80 tiny /tiny exit 0").fails(125);
    assert!(
        e.err().contains("7000-7002 failed: all ports are already allocated"),
        "{}",
        e.err()
    );
    host.detached("c", "-p 9:9/sctp", "deaf");
    assert_eq!(host.text("port c").lines().next(), Some("9/sctp -> 0.0.0.0:9"));
    let e = host.run("run --rm -p 9:9/sctp tiny /tiny exit 0").fails(125);
    assert!(e.err().contains("by container c"), "{}", e.err());
}

#[test]
fn bad_ports_are_one_clear_line() {
    let host = Host::new();
    for (spec, text) in [
        ("a:b", "Invalid port format."),
        ("1:2:3:4", "Invalid port format."),
        ("80/icmp", "Invalid port format: unknown protocol icmp."),
        ("70000", "Invalid port format: 70000 is above 65535."),
        ("80:0", "Invalid port format: 0 is not a port of a container."),
        ("1-2:1-3", "are not of the same length"),
    ] {
        let e = host
            .run(["run", "--rm", "-p", spec, "tiny", "/tiny", "exit", "0"])
            .fails(125);
        assert!(e.err().contains(text), "{spec}: {}", e.err());
    }
    host.detached("web", "", "deaf");
    let e = host
        .run("run --rm --net container:web -p 80 tiny /tiny exit 0")
        .fails(125);
    assert!(
        e.err().contains("port publishing and the container type network mode"),
        "{}",
        e.err()
    );
    let said = host.run("run --rm --net host -p 80 tiny /tiny exit 0").ok();
    assert!(
        said.err()
            .contains("Published ports are discarded when using host network mode"),
        "{}",
        said.err()
    );
    assert_eq!(host.text("ps -aq").lines().count(), 1);
}

#[test]
fn a_lost_monitor_leaves_nothing() {
    let host = Host::new();
    host.detached("web", "-p 8080:80 -p 5300:53/udp", "deaf");
    kill(host.monitor_pid("web"), Signal::SIGKILL);
    wait_until("the port to be free", || TcpListener::bind("0.0.0.0:8080").is_ok());
    // Whoever comes next gets the port, and packets for it.
    host.detached("next", "-p 8080:80 -p 5300:53/udp", "deaf");
    let id = host.id("next");
    let rules = Place::here().run("nft list ruleset").text();
    assert_eq!(
        rules.matches(&format!("tcp . 8080 comment \"{id}\" : ")).count(),
        1,
        "{rules}"
    );
    assert_eq!(host.status("web"), "exited");
    host.run("rm -f web").ok();
    let rules = Place::here().run("nft list ruleset").text();
    assert_eq!(
        rules.matches(&format!("tcp . 8080 comment \"{id}\" : ")).count(),
        1,
        "{rules}"
    );
}

#[test]
fn networks_change_under_published_ports() {
    let host = Host::busybox();
    host.text("network create second");
    server(&host, "web", &["-p", "8080:80", "-p", "5300:54/udp"]);
    both("127.0.0.1", 8080, 5300);
    host.run("network connect second web").ok();
    host.run("network disconnect bridge web").ok();
    both("127.0.0.1", 8080, 5300);
    both("[::1]", 8080, 5300);
    host.run("rm -f web").ok();
    host.run("network rm second").ok();
}

#[test]
fn many_at_once() {
    let host = Host::new();
    std::thread::scope(|scope| {
        for n in 0..12 {
            let host = &host;
            scope.spawn(move || host.detached(&format!("c{n}"), "-p 80 -p 81", "deaf"));
        }
    });
    let ports: Vec<String> = (0..12)
        .flat_map(|n| host.run(["port", &format!("c{n}")]).ok().lines())
        .collect();
    let mut numbers: Vec<&str> = ports
        .iter()
        .filter(|l| !l.contains("::"))
        .map(|l| l.rsplit(':').next().unwrap())
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 24, "{ports:?}");
}
