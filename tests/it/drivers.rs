//! What not every kernel has: macvlan and ipvlan links, and published ports of SCTP. `tests/vm/run` has them all on
//! Debian's; elsewhere a test says what is missing.

use crate::support::{Host, Net, Place, skip, wait_until};
use rustix::net::{AddressFamily, SocketType, ipproto};
use std::net::{IpAddr, SocketAddr};

/// Whether the kernel makes links of this kind.
fn has_links(kind: &str) -> bool {
    let here = Place::new();
    here.ip("link add p0 type veth peer name p1");
    here.run(&format!("ip link add link p0 name c0 type {kind}")).code == 0
}

fn neighbours(driver: &str) {
    if !has_links(driver) {
        return skip(&format!("this kernel has no {driver}"));
    }
    let host = Host::busybox();
    let net = Net::around(&host);
    host.run(format!(
        "network create -d {driver} --subnet 203.0.113.0/24 --gateway 203.0.113.1 --ip-range 203.0.113.64/26 \
         -o parent=up0 lan"
    ))
    .ok();
    for name in ["a", "b"] {
        host.run(format!("run -d --name {name} --network lan busybox /tiny trap"))
            .ok();
    }
    let address = host.text("inspect -f {{.NetworkSettings.Networks.lan.IPAddress}} a");
    assert!(address.starts_with("203.0.113."), "{address}");
    // Each other by name, the router, and what lies behind it, which comes back.
    for target in ["b", "203.0.113.1", Net::CLIENT] {
        host.run(["exec", "a", "ping", "-c", "1", "-W", "10", target]).ok();
    }
    net.client.run(&format!("busybox ping -c 1 -W 10 {address}")).ok();
    host.run("stop -t 0 a b").ok();
    host.run("start a").ok();
    host.run(["exec", "a", "ping", "-c", "1", "-W", "10", "203.0.113.1"])
        .ok();
    host.run("rm -f a b").ok();
    host.run("network rm lan").ok();
}

#[test]
fn macvlan_neighbours() {
    neighbours("macvlan");
}

#[test]
fn ipvlan_neighbours() {
    neighbours("ipvlan");
}

#[test]
fn a_published_port_of_sctp() {
    let socket = || rustix::net::socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::SCTP));
    if socket().is_err() {
        return skip("this kernel has no SCTP");
    }
    let host = Host::new();
    let net = Net::around(&host);
    host.run("run -d --name s -p 5000:5001/sctp tiny /tiny sctp 5001").ok();
    assert!(host.text("port s").contains("5001/sctp -> 0.0.0.0:5000"));
    host.wait_log("s", "listening");
    let ask = |ip: &str| {
        let there = SocketAddr::new(ip.parse::<IpAddr>().unwrap(), 5000);
        let stream = socket().unwrap();
        rustix::net::connect(&stream, &there).unwrap();
        let mut buffer = [0; 64];
        let n = rustix::io::read(&stream, &mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    };
    assert_eq!(net.client.enter(|| ask(Net::HOST)), "hello");
    assert_eq!(net.host.enter(|| ask(Net::HOST)), "hello");
    host.run("rm -f s").ok();
    wait_until("the port to be free", || {
        host.run("run --rm -p 5000:5001/sctp tiny /true").code == 0
    });
}
