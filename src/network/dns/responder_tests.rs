//! The responder as its container meets it, in a network namespace that each test makes for itself.

use super::*;
use crate::model::id::ContainerId;
use crate::model::name::Link;
use crate::model::network::{Driver, Mac};
use crate::model::state::ProcessRef;
use crate::store::testing::Scratch;
use crate::sys;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const HERE: &str = "127.0.0.11:53";

/// Runs `test` on a thread in a network namespace of its own.
fn alone(test: impl FnOnce() + Send) {
    std::thread::scope(|threads| {
        let thread = threads.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root");
            sys::interface::loopback_up().unwrap();
            test();
        });
        thread.join().unwrap();
    });
}

/// A responder that runs while `test` does.
fn serving(s: &Scratch, endpoints: &[Endpoint], options: &NameOptions, test: impl FnOnce()) {
    let mut responder = Responder::new(s, sockets().unwrap(), endpoints, options).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let left = responder
                    .deadline()
                    .map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
                let wait = rustix::event::Timespec::try_from(left.min(Duration::from_millis(20))).unwrap();
                let fd = responder.fd();
                let mut fds = [rustix::event::PollFd::from_borrowed_fd(
                    fd,
                    rustix::event::PollFlags::IN,
                )];
                rustix::event::poll(&mut fds, Some(&wait)).unwrap();
                responder.ready();
            }
        });
        // Also when the test fails: else nobody would see why.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test));
        done.store(true, Ordering::Relaxed);
        outcome.unwrap();
    });
}

fn endpoint(network: &str, address: &str) -> Endpoint {
    let address: Ipv4Addr = address.parse().unwrap();
    Endpoint {
        network: network.to_owned(),
        network_id: format!("id-{network}"),
        driver: Driver::Bridge,
        interface: "eth0".to_owned(),
        link: String::new(),
        bridge: String::new(),
        address: Some(address),
        prefix: 16,
        gateway: None,
        address6: None,
        prefix6: 0,
        gateway6: None,
        mac: Mac::of(address.into()),
        aliases: Vec::new(),
        internal: false,
        dns: true,
    }
}

fn put(s: &Scratch, name: &str, network: &str, address: &str) -> ContainerId {
    let id = Store::random_id().unwrap();
    let pid = std::process::id().cast_signed();
    let start_time = sys::process::start_time(pid).unwrap();
    announce(
        s,
        &id,
        &endpoint(network, address),
        &[name],
        ProcessRef { pid, start_time },
    )
    .unwrap();
    id
}

fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    message
}

fn client() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(6))).unwrap();
    socket.connect(HERE).unwrap();
    socket
}

/// Asks again after some seconds, as every client does: a datagram may be dropped when very many come at once.
fn ask(name: &str, kind: u16) -> Vec<u8> {
    let socket = client();
    let mut buffer = [0; 65_535];
    for _ in 0..4 {
        socket.send(&question(7, name, kind)).unwrap();
        if let Ok(n) = socket.recv(&mut buffer) {
            assert_eq!(wire::id(&buffer[..n]), 7);
            return buffer[..n].to_vec();
        }
    }
    panic!("no answer about {name}");
}

fn ask_tcp(stream: &mut TcpStream, message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length[..], message].concat()).unwrap();
    read_framed(stream)
}

fn read_framed(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).unwrap();
    message
}

/// Code, number of answers, and the last four bytes as an address.
fn summary(message: &[u8]) -> (u8, u8, Ipv4Addr) {
    let last: [u8; 4] = message[message.len() - 4..].try_into().unwrap();
    (wire::code(message), message[7], Ipv4Addr::from(last))
}

fn found(address: &str) -> (u8, u8, Ipv4Addr) {
    (0, 1, address.parse().unwrap())
}

fn asking(servers: &[&str]) -> NameOptions {
    NameOptions {
        dns: servers.iter().map(|s| s.parse().unwrap()).collect(),
        ..NameOptions::default()
    }
}

/// How a server of the tests behaves.
#[derive(Clone, Copy)]
enum Server {
    /// Says 9.9.9.9 and the server's own last byte.
    Answers,
    Silent,
    Fails,
    /// Answers to other ids and questions first.
    Forges,
    /// Only over TCP.
    Truncates,
}

impl Server {
    fn reply(self, message: &[u8], own: u8) -> Vec<u8> {
        let mut out = Vec::new();
        let query = wire::parse(message).unwrap();
        if let Server::Fails = self {
            wire::refuse(message, Some(&query), wire::rcode::SERVER, &mut out);
        } else {
            let address = wire::Record::Address(IpAddr::from([9, 9, 9, own]));
            wire::answer(message, &query, &[address], 65_535, &mut out);
        }
        out
    }

    /// Runs until the process ends: its sockets are in a namespace that goes with the test.
    fn run(self, address: &'static str) -> &'static AtomicUsize {
        let asked: &AtomicUsize = Box::leak(Box::default());
        let own = address.parse::<Ipv4Addr>().unwrap().octets()[3];
        let udp = UdpSocket::bind((address, 53)).unwrap();
        let tcp = TcpListener::bind((address, 53)).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 65_535];
            while let Ok((n, client)) = udp.recv_from(&mut buffer) {
                asked.fetch_add(1, Ordering::Relaxed);
                let mut reply = self.reply(&buffer[..n], own);
                match self {
                    Server::Silent => continue,
                    Server::Forges => {
                        let mut forged = reply.clone();
                        let id = wire::id(&forged);
                        wire::set_id(&mut forged, id.wrapping_add(1));
                        udp.send_to(&forged, client).unwrap();
                        wire::set_id(&mut forged, id);
                        forged[13] ^= 1;
                        udp.send_to(&forged, client).unwrap();
                        UdpSocket::bind("127.0.0.1:0")
                            .unwrap()
                            .send_to(&forged, client)
                            .unwrap();
                    }
                    Server::Truncates => reply[2] |= 2,
                    Server::Answers | Server::Fails => {}
                }
                udp.send_to(&reply, client).unwrap();
            }
        });
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.unwrap();
                let message = read_framed(&mut stream);
                if let Server::Silent = self {
                    std::mem::forget(stream);
                    continue;
                }
                let reply = self.reply(&message, own);
                let length = u16::try_from(reply.len()).unwrap().to_be_bytes();
                let _ = stream.write_all(&[&length[..], &reply].concat());
            }
        });
        asked
    }
}

#[test]
fn containers_are_found_by_all_their_names() {
    alone(|| {
        let s = Scratch::new();
        let id = put(&s, "Web", "net", "10.0.0.2");
        let other = put(&s, "db", "other", "10.0.9.9");
        let options = NameOptions {
            dns_search: vec!["example.test".to_owned()],
            links: vec![Link {
                container: id.clone(),
                name: "Web".to_owned(),
                alias: "Front".to_owned(),
            }],
            ..asking(&["127.0.0.2"])
        };
        Server::Fails.run("127.0.0.2");
        serving(&s, &[endpoint("net", "10.0.0.3")], &options, || {
            for name in [
                "web",
                "WEB",
                "front",
                "web.net",
                "web.example.test",
                id.short(),
                id.as_str().get(..40).unwrap(),
            ] {
                assert_eq!(summary(&ask(name, wire::A)), found("10.0.0.2"), "{name}");
            }
            let nothing = ask("web", wire::AAAA);
            assert_eq!((wire::code(&nothing), nothing[7]), (0, 0));
            let text = ask("web", 16);
            assert_eq!((wire::code(&text), text[7]), (0, 0));
            let reverse = ask("2.0.0.10.in-addr.arpa", wire::PTR);
            assert!(reverse.ends_with(b"\x03web\x03net\x00"), "{reverse:?}");
            // Somebody else's network.
            assert_eq!(wire::code(&ask("db", wire::A)), wire::rcode::SERVER);
            assert_eq!(wire::code(&ask(other.short(), wire::A)), wire::rcode::SERVER);
            // At once: no answer is older than its question.
            for n in 10..60 {
                let address = format!("10.0.0.{n}");
                let id = put(&s, "new", "net", &address);
                assert_eq!(summary(&ask("new", wire::A)), found(&address));
                withdraw(&s, &id, None).unwrap();
                assert_eq!(wire::code(&ask("new", wire::A)), wire::rcode::SERVER);
            }
        });
    });
}

#[test]
fn many_addresses_take_turns_and_need_tcp() {
    alone(|| {
        let s = Scratch::new();
        for n in 2..102 {
            put(&s, "pool", "net", &format!("10.0.0.{n}"));
        }
        serving(&s, &[endpoint("net", "10.0.0.1")], &asking(&["127.0.0.2"]), || {
            let first = |m: &[u8]| m[12 + 4 + 6 + 12..][..4].to_vec();
            let (one, two) = (ask("pool", wire::A), ask("pool", wire::A));
            assert!(one[2] & 2 != 0 && one.len() <= 512);
            assert_ne!(first(&one), first(&two));
            let mut stream = TcpStream::connect(HERE).unwrap();
            for _ in 0..100 {
                let all = ask_tcp(&mut stream, &question(3, "pool", wire::A));
                assert_eq!((all[2] & 2, all[7]), (0, 100));
            }
        });
    });
}

#[test]
fn the_rest_is_asked_upstream() {
    alone(|| {
        let s = Scratch::new();
        Server::Answers.run("127.0.0.2");
        serving(&s, &[endpoint("net", "10.0.0.1")], &asking(&["127.0.0.2"]), || {
            assert_eq!(summary(&ask("Example.org", wire::A)), found("9.9.9.2"));
            let mut stream = TcpStream::connect(HERE).unwrap();
            for _ in 0..3 {
                let reply = ask_tcp(&mut stream, &question(9, "example.org", wire::A));
                assert_eq!((wire::id(&reply), summary(&reply)), (9, found("9.9.9.2")));
            }
            // The same id from many clients at once: each gets its own answer.
            let clients: Vec<_> = (0..60).map(|_| client()).collect();
            for (n, socket) in clients.iter().enumerate() {
                socket.send(&question(1, &format!("n{n}.example"), wire::A)).unwrap();
            }
            for (n, socket) in clients.iter().enumerate() {
                let mut buffer = [0; 512];
                let got = socket.recv(&mut buffer).unwrap();
                let asked = question(1, &format!("n{n}.example"), wire::A);
                assert_eq!(buffer[12..asked.len()], asked[12..]);
                assert_eq!(summary(&buffer[..got]), found("9.9.9.2"));
            }
        });
    });
}

#[test]
fn a_bad_server_is_followed_by_the_next() {
    for (first, patience) in [(None, 0), (Some(Server::Fails), 0), (Some(Server::Silent), 1)] {
        alone(|| {
            let s = Scratch::new();
            let asked = first.map(|f| f.run("127.0.0.2"));
            Server::Answers.run("127.0.0.3");
            let options = asking(&["127.0.0.2", "127.0.0.3"]);
            serving(&s, &[endpoint("net", "10.0.0.1")], &options, || {
                let begin = Instant::now();
                assert_eq!(summary(&ask("example.org", wire::A)), found("9.9.9.3"));
                assert!(begin.elapsed().as_secs() >= patience);
                let begin = Instant::now();
                let mut stream = TcpStream::connect(HERE).unwrap();
                let reply = ask_tcp(&mut stream, &question(9, "example.org", wire::A));
                assert_eq!(summary(&reply), found("9.9.9.3"));
                assert_eq!(summary(&ask("example.org", wire::A)), found("9.9.9.3"));
                // One that was silent is not waited for again.
                assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
                if let (Some(asked), 1) = (asked, patience) {
                    assert_eq!(asked.load(Ordering::Relaxed), 1);
                }
            });
        });
    }
}

#[test]
fn without_any_server_the_client_is_told() {
    alone(|| {
        let s = Scratch::new();
        let options = asking(&["127.0.0.2", "127.0.0.3"]);
        serving(&s, &[endpoint("net", "10.0.0.1")], &options, || {
            assert_eq!(wire::code(&ask("example.org", wire::A)), wire::rcode::SERVER);
            let mut stream = TcpStream::connect(HERE).unwrap();
            let reply = ask_tcp(&mut stream, &question(9, "example.org", wire::A));
            assert_eq!((wire::id(&reply), wire::code(&reply)), (9, wire::rcode::SERVER));
        });
        let internal = Endpoint {
            internal: true,
            ..endpoint("net", "10.0.0.1")
        };
        let asked = Server::Answers.run("127.0.0.2");
        serving(&s, &[internal], &options, || {
            assert_eq!(wire::code(&ask("secret.example.org", wire::A)), wire::rcode::SERVER);
            assert_eq!(asked.load(Ordering::Relaxed), 0, "nothing leaves an internal network");
        });
    });
}

#[test]
fn forged_answers_are_passed_over() {
    alone(|| {
        let s = Scratch::new();
        Server::Forges.run("127.0.0.2");
        serving(&s, &[endpoint("net", "10.0.0.1")], &asking(&["127.0.0.2"]), || {
            let reply = ask("aaa.example", wire::A);
            assert_eq!(summary(&reply), found("9.9.9.2"));
            assert_eq!(reply[12..25], question(7, "aaa.example", wire::A)[12..25]);
        });
    });
}

#[test]
fn a_truncated_answer_comes_whole_over_tcp() {
    alone(|| {
        let s = Scratch::new();
        Server::Truncates.run("127.0.0.2");
        serving(&s, &[endpoint("net", "10.0.0.1")], &asking(&["127.0.0.2"]), || {
            assert!(ask("big.example", wire::A)[2] & 2 != 0);
            let mut stream = TcpStream::connect(HERE).unwrap();
            let reply = ask_tcp(&mut stream, &question(9, "big.example", wire::A));
            assert_eq!((reply[2] & 2, summary(&reply)), (0, found("9.9.9.2")));
        });
    });
}

#[test]
fn hostile_clients() {
    alone(|| {
        let s = Scratch::new();
        put(&s, "web", "net", "10.0.0.2");
        Server::Silent.run("127.0.0.2");
        serving(&s, &[endpoint("net", "10.0.0.1")], &asking(&["127.0.0.2"]), || {
            let socket = client();
            for bytes in [
                &[][..],
                &[0; 11],
                &[0xff; 4096],
                &[0xc0; 300],
                &question(1, "web", wire::A)[..20],
            ] {
                socket.send(bytes).unwrap();
            }
            socket.send(&vec![0; 60_000]).unwrap();
            // More than are let through at once; each is told so, nobody waits.
            for n in 0..1000_u16 {
                socket.send(&question(n, &format!("n{n}.example"), wire::A)).unwrap();
            }
            // Connections that say nothing, or half a thing.
            let idle: Vec<_> = (0..100).map(|_| TcpStream::connect(HERE).unwrap()).collect();
            for (n, mut stream) in idle.iter().enumerate() {
                let _ = stream.write_all(&[0, 40, 1, 2, 3][..n % 6]);
            }
            let mut huge = TcpStream::connect(HERE).unwrap();
            let _ = huge.write_all(&[0xff; 70_000]);
            assert_eq!(summary(&ask("web", wire::A)), found("10.0.0.2"));
            let mut stream = TcpStream::connect(HERE).unwrap();
            let reply = ask_tcp(&mut stream, &question(9, "web", wire::A));
            assert_eq!(summary(&reply), found("10.0.0.2"));
            // Many questions in one go over one connection.
            let one = question(5, "web", wire::A);
            let framed = [&u16::try_from(one.len()).unwrap().to_be_bytes()[..], &one].concat();
            stream.write_all(&framed.repeat(500)).unwrap();
            for _ in 0..500 {
                assert_eq!(summary(&read_framed(&mut stream)), found("10.0.0.2"));
            }
        });
    });
}

fn nft(line: &str) -> String {
    let output = std::process::Command::new("nft")
        .args(line.split(' '))
        .output()
        .unwrap();
    assert!(output.status.success(), "nft {line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Bound as strictly as can be: no sharing.
fn own_server() -> (UdpSocket, TcpListener) {
    let all = (Ipv4Addr::UNSPECIFIED, PORT);
    (UdpSocket::bind(all).unwrap(), TcpListener::bind(all).unwrap())
}

/// The whole port is the container's, and questions to the one address get to us all the same.
#[test]
fn a_name_server_in_the_container_may_listen() {
    alone(|| {
        let s = Scratch::new();
        put(&s, "web", "net", "10.0.0.2");
        let before = own_server();
        serving(&s, &[endpoint("net", "10.0.0.1")], &asking(&["127.0.0.2"]), || {
            for round in 0..2 {
                let unconnected = UdpSocket::bind("127.0.0.1:0").unwrap();
                unconnected.set_read_timeout(Some(Duration::from_secs(6))).unwrap();
                unconnected.send_to(&question(7, "web", wire::A), HERE).unwrap();
                let (n, from) = unconnected.recv_from(&mut [0; 512]).unwrap();
                assert!(n > 0);
                assert_eq!(from, HERE.parse().unwrap(), "round {round}");
                assert_eq!(summary(&ask("web", wire::A)), found("10.0.0.2"));
                let mut stream = TcpStream::connect(HERE).unwrap();
                assert_eq!(stream.peer_addr().unwrap(), HERE.parse().unwrap());
                let said = ask_tcp(&mut stream, &question(3, "web", wire::A));
                assert_eq!(summary(&said), found("10.0.0.2"));
                // What the container does with its own firewall.
                nft("flush ruleset");
            }
            let mut buffer = [0; 512];
            let own = UdpSocket::bind("127.0.0.1:0").unwrap();
            own.send_to(b"mine", "127.0.0.1:53").unwrap();
            assert_eq!(before.0.recv(&mut buffer).unwrap(), 4);
        });
        drop(before);
        own_server();
    });
}

#[test]
fn the_way_to_the_responder_is_a_table_of_its_own() {
    alone(|| {
        nft("add table ip barge-names");
        nft("add table inet barge-names");
        nft("add chain inet barge-names output { type filter hook output priority 0 ; policy drop ; }");
        for _ in 0..2 {
            let sockets = sockets().unwrap();
            let (udp, tcp) = (sockets.udp.local_addr().unwrap(), sockets.tcp.local_addr().unwrap());
            let flat = nft("list ruleset").split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(
                flat.starts_with("table ip barge-names { } table inet barge-names {"),
                "{flat}"
            );
            let rules = format!(
                "chain output {{ type nat hook output priority -101; policy accept; \
                 ip daddr 127.0.0.11 udp dport 53 dnat ip to {udp} \
                 ip daddr 127.0.0.11 tcp dport 53 dnat ip to {tcp} }} }}"
            );
            assert!(flat.ends_with(&rules), "{flat}");
            drop(sockets);
        }
    });
}

/// nf_tables refuses here because another socket owns the table.
#[test]
fn without_a_way_there_the_port_itself_is_taken() {
    alone(|| {
        let elsewhere = "127.0.0.11:9".parse().unwrap();
        let owner = redirect::open(elsewhere, elsewhere).unwrap();
        let taken = sockets().unwrap();
        assert_eq!(taken.udp.local_addr().unwrap(), HERE.parse().unwrap());
        assert_eq!(taken.tcp.local_addr().unwrap(), HERE.parse().unwrap());
        drop(taken);
        let own = own_server();
        let e = sockets().err().unwrap();
        assert_eq!(e.to_string(), "serve names at 127.0.0.11:53: address already in use");
        let hint = e.hint().unwrap();
        assert!(hint.contains("nf_tables") && hint.contains("not permitted"), "{hint}");
        drop((own, owner));
        // As Linux before 6.9 has it: owned by nobody.
        let mut channel = Channel::open().unwrap();
        channel.transact(redirect::batch(elsewhere, elsewhere, 0)).unwrap();
        assert!(nft("list ruleset").contains("tcp dport 53 dnat ip to 127.0.0.11:9"));
        assert_ne!(sockets().unwrap().udp.local_addr().unwrap().port(), PORT);
    });
}
