//! Names: the responder of each container, its hosts and resolv.conf, and links, asked by Debian's dig, host and getent
//! from inside the containers' namespaces. Name servers of the outside are played here, in the test's own namespace.

use crate::readme_2013::programs;
use crate::support::{Host, Output, Place, Tar, memory, seconds, wait_until};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A host with the network `net` and nobody on it.
fn with_network() -> Host {
    let host = Host::busybox();
    host.run("network create net").ok();
    host
}

fn sleeper(host: &Host, name: &str, flags: &str) -> String {
    host.text(format!("run -d --name {name} {flags} busybox /tiny trap"))
}

fn address(host: &Host, container: &str, network: &str) -> String {
    let path = format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}");
    let found = host.text(["inspect", "--format", &path, container]);
    found.parse::<Ipv4Addr>().unwrap();
    found
}

/// Runs a program of this machine's in the container's network namespace.
fn inside(host: &Host, container: &str, line: &str) -> Output {
    Place::of(host.init_pid(container)).run(line)
}

/// What `dig` prints of an answer in short form, sorted.
fn dig(host: &Host, container: &str, question: &str) -> Vec<String> {
    let line = format!("dig @127.0.0.11 +short +tries=1 +time=6 {question}");
    let mut lines = inside(host, container, &line).ok().lines();
    lines.sort();
    lines
}

/// The code and the number of answers.
fn status(host: &Host, container: &str, question: &str) -> (String, String) {
    let line = format!("dig @127.0.0.11 +tries=1 +time=6 {question}");
    let text = inside(host, container, &line).ok().text();
    let after = |mark: &str| {
        let rest = text.split(mark).nth(1).unwrap_or_else(|| panic!("{text}"));
        rest.split([',', '\n']).next().unwrap().trim().to_owned()
    };
    (after("status:"), after("ANSWER:"))
}

fn file(host: &Host, container: &str, path: &str) -> String {
    host.text(["exec", container, "cat", path])
}

/// A server of the outside world: every name is 9.9.9.9, `long…` has a hundred addresses, `none…` does not exist.
struct Outside {
    asked: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    place: SocketAddr,
}

impl Outside {
    fn at(address: &str) -> Outside {
        let place: SocketAddr = format!("{address}:53").parse().unwrap();
        let (udp, tcp) = (UdpSocket::bind(place).unwrap(), TcpListener::bind(place).unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let over = Arc::new(AtomicBool::new(false));
        let (count, end) = (asked.clone(), over.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((n, client)) = udp.recv_from(&mut buffer) {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                count.fetch_add(1, Ordering::Relaxed);
                let mut reply = answer(&buffer[..n]);
                if reply.len() > 512 {
                    // Only the question, and the mark that there is more.
                    reply.truncate(question_end(&buffer[..n]));
                    reply[2] |= 2;
                    reply[6..8].fill(0);
                }
                udp.send_to(&reply, client).unwrap();
            }
        });
        let end = over.clone();
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                let mut stream = stream.unwrap();
                let mut length = [0; 2];
                if stream.read_exact(&mut length).is_ok() {
                    let mut message = vec![0; u16::from_be_bytes(length).into()];
                    stream.read_exact(&mut message).unwrap();
                    let reply = answer(&message);
                    let length = u16::try_from(reply.len()).unwrap().to_be_bytes();
                    let _ = stream.write_all(&[&length[..], &reply].concat());
                }
            }
        });
        Outside { asked, over, place }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Outside {
    /// Lets both threads see that it is over: their sockets would keep the test's namespace.
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let any = UdpSocket::bind((self.place.ip(), 0)).unwrap();
        any.send_to(b"end", self.place).unwrap();
        drop(std::net::TcpStream::connect(self.place));
    }
}

fn question_end(message: &[u8]) -> usize {
    let mut at = 12;
    while message[at] != 0 {
        at += usize::from(message[at]) + 1;
    }
    at + 5
}

fn answer(message: &[u8]) -> Vec<u8> {
    let end = question_end(message);
    let mut reply = message[..end].to_vec();
    reply[2] |= 0x80;
    reply[3] |= 0x80;
    reply[8..12].fill(0);
    let name = message[13..].to_ascii_lowercase();
    let count: u8 = match () {
        () if name.starts_with(b"long") => 100,
        () if name.starts_with(b"none") => {
            reply[3] |= 3;
            0
        }
        () if message[end - 3] == 1 => 1,
        () => 0,
    };
    reply[7] = count;
    for n in 0..count {
        let last = if count == 1 { 9 } else { n };
        reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 9, 9, 9, last]);
    }
    reply
}

#[test]
fn containers_find_each_other() {
    let host = with_network();
    let outside = Outside::at("127.0.0.2");
    let flags = "--network net --dns 127.0.0.2";
    let id = sleeper(&host, "Db", &format!("{flags} --network-alias store -h data.example"));
    sleeper(&host, "web", flags);
    let db = address(&host, "Db", "net");
    for name in [
        "db",
        "DB",
        "store",
        "data",
        "data.example",
        "db.net",
        &id[..12],
        &id[..20],
        &id[..63],
    ] {
        assert_eq!(dig(&host, "web", name), [db.as_str()], "{name}");
        assert_eq!(
            dig(&host, "web", &format!("{name} +tcp")),
            [db.as_str()],
            "{name} over TCP"
        );
    }
    assert_eq!(dig(&host, "web", "web"), [address(&host, "web", "net")]);
    assert_eq!(dig(&host, "web", &format!("-x {db}")), ["db.net."]);
    assert_eq!(status(&host, "web", "db AAAA"), ("NOERROR".to_owned(), "0".to_owned()));
    assert_eq!(status(&host, "web", "db MX"), ("NOERROR".to_owned(), "0".to_owned()));
    assert_eq!(status(&host, "web", "none.example").0, "NXDOMAIN");
    assert_eq!(outside.asked(), 1, "what is known here is not asked outside");
    assert_eq!(dig(&host, "web", "example.org"), ["9.9.9.9"]);
    let said = inside(&host, "web", "host db 127.0.0.11").ok().text();
    assert!(said.contains(&format!("db has address {db}")), "{said}");
    host.run("exec web ping -c 1 -W 5 db").ok();
    assert!(host.text("exec web nslookup store").contains(&db));
}

/// The C library's own resolver, by the container's own resolv.conf.
#[test]
fn getent_finds_containers() {
    let host = with_network();
    let libc = Tar::new().file("etc/nsswitch.conf", 0o644, "hosts: files dns\n");
    host.import("libc", &programs(&["/usr/bin/getent"], libc));
    sleeper(&host, "db", "--network net");
    let line = "run --rm --network net libc /usr/bin/getent";
    let db = address(&host, "db", "net");
    assert!(host.text(format!("{line} ahostsv4 db")).contains(&db));
    assert!(host.text(format!("{line} hosts {db}")).contains("db.net"));
    host.run(format!("{line} hosts localhost")).ok();
    host.run("network rm net").fails(1).says(&["db"]);
}

#[test]
fn names_are_known_at_once_and_after_restarts() {
    let host = with_network();
    sleeper(&host, "web", "--network net --dns 127.0.0.2");
    let _outside = Outside::at("127.0.0.2");
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..4 {
        match round {
            0 => drop(sleeper(&host, "db", "--network net")),
            1 => drop(host.run("restart -t 0 db").ok()),
            2 => {
                crate::support::kill(host.monitor_pid("db"), nix::sys::signal::Signal::SIGKILL);
                wait_until("the end of db", || host.status("db") == "exited");
                host.run("start db").ok();
            }
            _ => {
                host.run("stop -t 0 db").ok();
                assert_eq!(dig(&host, "web", "db"), ["9.9.9.9"], "a stopped one has no name here");
                host.run("rm db").ok();
                sleeper(&host, "db", "--network net");
            }
        }
        let now = address(&host, "db", "net");
        assert_eq!(dig(&host, "web", "db"), [now.as_str()], "round {round}");
        host.run("exec web ping -c 1 -W 5 db").ok();
        seen.insert(now);
    }
    assert!(seen.len() > 1, "addresses are not re-used at once: {seen:?}");
    // Who asks may have been started anew as well.
    host.run("restart -t 0 web").ok();
    assert_eq!(dig(&host, "web", "db"), [address(&host, "db", "net")]);
}

#[test]
fn a_container_that_was_killed_has_no_name_any_more() {
    let host = with_network();
    let _outside = Outside::at("127.0.0.2");
    sleeper(&host, "web", "--network net --dns 127.0.0.2");
    sleeper(&host, "db", "--network net");
    assert_eq!(dig(&host, "web", "db"), [address(&host, "db", "net")]);
    let monitor = host.monitor_pid("db");
    crate::support::kill(monitor, nix::sys::signal::Signal::SIGKILL);
    wait_until("the monitor's end", || !crate::support::alive(monitor));
    // Nobody has looked at db since, so its entry is still in the book.
    wait_until("db to be unknown", || dig(&host, "web", "db") == ["9.9.9.9"]);
}

#[test]
fn a_renamed_container_has_the_new_name() {
    let host = with_network();
    let _outside = Outside::at("127.0.0.2");
    sleeper(&host, "web", "--network net --dns 127.0.0.2");
    sleeper(&host, "old", "--network net --network-alias alias");
    host.run("rename old new").ok();
    let address = address(&host, "new", "net");
    for name in ["new", "alias"] {
        assert_eq!(dig(&host, "web", name), [address.as_str()]);
    }
    assert_eq!(dig(&host, "web", "old"), ["9.9.9.9"]);
}

#[test]
fn an_alias_of_many_has_many_addresses() {
    let host = with_network();
    sleeper(&host, "web", "--network net");
    let mut all: Vec<String> = Vec::new();
    for n in 0..3 {
        sleeper(&host, &format!("w{n}"), "--network net --network-alias pool");
        all.push(address(&host, &format!("w{n}"), "net"));
    }
    all.sort();
    assert_eq!(dig(&host, "web", "pool"), all);
}

#[test]
fn networks_do_not_know_each_other() {
    let host = with_network();
    let _outside = Outside::at("127.0.0.2");
    host.run("network create other").ok();
    sleeper(&host, "db", "--network other --network-alias x");
    sleeper(&host, "web", "--network net --dns 127.0.0.2");
    assert_eq!(dig(&host, "web", "db"), ["9.9.9.9"]);
    let before = file(&host, "web", "/etc/hosts");
    host.run("network connect --alias front other web").ok();
    let (db, web) = (address(&host, "db", "other"), address(&host, "web", "other"));
    assert_eq!(dig(&host, "web", "db"), [db.as_str()]);
    assert_eq!(dig(&host, "db", "front"), [web.as_str()]);
    assert!(file(&host, "web", "/etc/hosts").contains(&format!("{web}\t")));
    host.run("exec web ping -c 1 -W 5 x").ok();
    host.run("network disconnect other web").ok();
    assert_eq!(dig(&host, "web", "db"), ["9.9.9.9"]);
    assert_eq!(file(&host, "web", "/etc/hosts"), before);
}

/// From the default network, where nobody has a name, to one where all do, and back.
#[test]
fn a_responder_comes_with_a_network() {
    let host = with_network();
    sleeper(&host, "db", "--network net");
    sleeper(&host, "web", "");
    let (resolv, hosts) = (file(&host, "web", "/etc/resolv.conf"), file(&host, "web", "/etc/hosts"));
    assert!(!resolv.contains("127.0.0.11"));
    host.run(["exec", "web", "sh", "-c", "echo '10.1.1.1 mine' >>/etc/hosts"])
        .ok();
    for _ in 0..2 {
        host.run("network connect net web").ok();
        assert!(file(&host, "web", "/etc/resolv.conf").contains("nameserver 127.0.0.11\n"));
        assert!(
            file(&host, "web", "/etc/hosts").contains("10.1.1.1 mine"),
            "a person's own line stays"
        );
        host.run("exec web ping -c 1 -W 5 db").ok();
        host.run("network disconnect net web").ok();
        assert_eq!(file(&host, "web", "/etc/resolv.conf"), resolv);
    }
    host.run("restart -t 0 web").ok();
    let again = file(&host, "web", "/etc/hosts");
    assert_eq!(
        again.lines().count(),
        hosts.lines().count(),
        "files are made anew at each start"
    );
}

/// Port 53 is the container's own, on all its addresses, and names are found all the same.
#[test]
fn a_container_may_be_a_name_server() {
    let host = with_network();
    host.run("network create other").ok();
    let outside = Outside::at("127.0.0.2");
    sleeper(&host, "db", "--network net --dns 127.0.0.2");
    // Debian's busybox listens over TCP alone.
    host.run("run -d --name first --network net busybox nc -l -p 53").ok();
    let heard = |kind: &str| file(&host, "first", &format!("/proc/net/{kind}")).contains("0000:0035 ");
    wait_until("it listens", || heard("tcp") || heard("tcp6"));
    let db = address(&host, "db", "net");
    for more in ["", "+tcp", "+tcp +short"] {
        assert_eq!(dig(&host, "first", &format!("db {more}")), [db.as_str()]);
    }

    sleeper(&host, "later", "--dns 127.0.0.2");
    let place = Place::of(host.init_pid("later"));
    let own = place.enter(|| Outside::at("0.0.0.0"));
    for round in 1..=3 {
        host.run("network connect net later").ok();
        if round == 2 {
            host.run("network connect other later").ok();
            host.run("network disconnect other later").ok();
        }
        assert_eq!(dig(&host, "later", "db"), [db.as_str()]);
        assert_eq!(dig(&host, "later", "db +tcp"), [db.as_str()]);
        assert!(host.text("exec later nslookup db").contains(&db));
        let before = (own.asked(), outside.asked());
        assert_eq!(
            dig(&host, "later", "long.example").len(),
            100,
            "truncated, then over TCP"
        );
        assert!(outside.asked() > before.1);
        assert_eq!(own.asked(), before.0);
        let here = address(&host, "later", "net");
        for at in ["127.0.0.1", &here] {
            let said = place.run(&format!("dig @{at} +short +tries=1 +time=6 db")).ok();
            assert_eq!(said.text().trim(), "9.9.9.9", "{at}");
        }
        let said = inside(&host, "db", &format!("dig @{here} +short +tries=1 +time=6 x.y"));
        assert_eq!(said.ok().text().trim(), "9.9.9.9", "from a neighbour");
        host.run("network disconnect net later").ok();
    }
    place.enter(|| drop(own));
}

#[test]
fn the_outside_is_asked_over_udp_and_tcp() {
    let host = with_network();
    let outside = Outside::at("127.0.0.2");
    // The first one is not there.
    sleeper(&host, "web", "--network net --dns 127.0.0.3 --dns 127.0.0.2");
    assert_eq!(dig(&host, "web", "example.org"), ["9.9.9.9"]);
    assert_eq!(dig(&host, "web", "example.org +tcp"), ["9.9.9.9"]);
    assert_eq!(dig(&host, "web", "long.example").len(), 100, "truncated, then over TCP");
    assert!(status(&host, "web", "long.example +ignore").1 == "0");
    drop(outside);
    assert_eq!(status(&host, "web", "example.org").0, "SERVFAIL");
    assert_eq!(status(&host, "web", "example.org +tcp").0, "SERVFAIL");
}

#[test]
fn nothing_is_asked_from_an_internal_network() {
    let host = Host::busybox();
    host.run("network create --internal quiet").ok();
    let outside = Outside::at("127.0.0.2");
    sleeper(&host, "db", "--network quiet --dns 127.0.0.2");
    sleeper(&host, "web", "--network quiet --dns 127.0.0.2");
    assert_eq!(dig(&host, "web", "db"), [address(&host, "db", "quiet")]);
    assert_eq!(status(&host, "web", "secret.example.org").0, "SERVFAIL");
    assert_eq!(outside.asked(), 0);
}

/// Runs `line` where /etc/resolv.conf is `resolv`, and systemd-resolved's own file `behind`.
fn with_resolv(host: &Host, resolv: &str, behind: Option<&str>, line: &str) -> Output {
    let dir = host.scratch();
    std::fs::write(dir.join("resolv"), resolv).unwrap();
    let mut script = format!("mount --bind {0}/resolv /etc/resolv.conf; ", dir.display());
    if let Some(behind) = behind {
        std::fs::write(dir.join("behind"), behind).unwrap();
        script += "mount -t tmpfs none /run/systemd; mkdir /run/systemd/resolve; ";
        script += &format!("cp {}/behind /run/systemd/resolve/resolv.conf; ", dir.display());
    }
    let script = format!("set -e; mkdir -p /run/systemd; {script} exec \"$@\"");
    host.barge(line)
        .shell(&script)
        .wrapped(["unshare", "-m", "--propagation", "private"])
        .run()
}

#[test]
fn a_resolver_on_the_hosts_loopback() {
    let host = with_network();
    let outside = Outside::at("127.0.0.53");
    let stub = "nameserver 127.0.0.53\noptions edns0\nsearch example.test\n";
    let cat = "busybox cat /etc/resolv.conf";
    // F171: nobody can ask it from another namespace.
    let run = with_resolv(&host, stub, None, &format!("run --rm {cat}")).ok();
    assert_eq!(
        run.text(),
        "nameserver 8.8.8.8\nnameserver 8.8.4.4\nsearch example.test\noptions edns0"
    );
    assert!(run.err().contains("127.0.0.53"), "{}", run.err());
    let run = with_resolv(&host, stub, Some("nameserver 10.9.8.7\n"), &format!("run --rm {cat}")).ok();
    assert_eq!(run.text(), "nameserver 10.9.8.7\nsearch example.test\noptions edns0");
    assert_eq!(run.err(), "");
    for (mode, warns) in [("none", false), ("host", false)] {
        let run = with_resolv(&host, stub, None, &format!("run --rm --net {mode} {cat}")).ok();
        assert_eq!(
            (run.text(), run.err().is_empty()),
            (stub.trim_end().to_owned(), !warns),
            "{mode}"
        );
    }
    let run = with_resolv(&host, "# nothing\n", None, &format!("run --rm {cat}")).ok();
    assert!(run.text().contains("8.8.8.8") && !run.err().is_empty());
    // A responder asks from the host's own.
    let run = with_resolv(&host, stub, None, "run -d --name web --network net busybox /tiny trap").ok();
    assert_eq!(run.err(), "");
    assert_eq!(dig(&host, "web", "example.org"), ["9.9.9.9"]);
    assert_eq!(outside.asked(), 1);
    assert_eq!(
        file(&host, "web", "/etc/resolv.conf"),
        "nameserver 127.0.0.11\nsearch example.test\noptions edns0 ndots:0"
    );
}

#[test]
fn wishes_about_name_servers() {
    let host = with_network();
    for (flags, expected) in [
        ("-dns 1.2.3.4 --dns fd00::1", "nameserver 1.2.3.4\nnameserver fd00::1"),
        (
            "--dns=1.2.3.4 --dns-search a.example --dns-search b.example --dns-option ndots:3 --dns-opt debug",
            "nameserver 1.2.3.4\nsearch a.example b.example\noptions ndots:3 debug",
        ),
        (
            "--network net --dns-search a.example --dns 1.2.3.4",
            "nameserver 127.0.0.11\nsearch a.example\noptions ndots:0",
        ),
        (
            "--network net --dns-option ndots:1",
            "nameserver 127.0.0.11\noptions ndots:1",
        ),
        ("--net host --dns 1.2.3.4", "nameserver 1.2.3.4"),
    ] {
        let plain = "nameserver 10.0.0.1\n";
        let line = format!("run --rm {flags} busybox cat /etc/resolv.conf");
        assert_eq!(with_resolv(&host, plain, None, &line).ok().text(), expected, "{flags}");
    }
    let plain = "nameserver 10.0.0.1\nsearch host.example\n";
    let line = "run --rm --dns-search . busybox cat /etc/resolv.conf";
    assert_eq!(with_resolv(&host, plain, None, line).ok().text(), "nameserver 10.0.0.1");
    // A domain that was asked for stands for the container's own networks.
    sleeper(&host, "db", "--network net");
    sleeper(&host, "web", "--network net --dns-search a.example");
    assert_eq!(dig(&host, "web", "db.a.example"), [address(&host, "db", "net")]);
    let shown = host.text(["inspect", "-f", "{{json .HostConfig.DnsSearch}}", "web"]);
    assert_eq!(shown, "[\"a.example\"]");
}

/// F172: by the settings, the environment, and the option before the command; a container's own wish wins.
#[test]
fn name_servers_for_every_container() {
    let host = Host::busybox();
    let settings = host.scratch().join("etc");
    std::fs::create_dir_all(settings.join("config.d")).unwrap();
    std::fs::write(
        settings.join("config.toml"),
        "dns = ['10.0.0.1']\ndns-search = ['a.example']\n",
    )
    .unwrap();
    let show = |before: &str, flags: &str| {
        let line = format!("{before} run --rm {flags} busybox cat /etc/resolv.conf");
        let run = host.barge(line.as_str()).env("BARGE_CONFIG", settings.as_os_str());
        run.run()
    };
    let all = "nameserver 10.0.0.1\nsearch a.example";
    assert!(show("", "").ok().text().starts_with(all));
    std::fs::write(settings.join("config.d/50.toml"), "dns = ['10.0.0.3', '10.0.0.4']\n").unwrap();
    assert!(
        show("", "")
            .ok()
            .text()
            .starts_with("nameserver 10.0.0.3\nnameserver 10.0.0.4\nsearch a.example")
    );
    assert!(
        show("--dns 10.0.0.5", "")
            .ok()
            .text()
            .starts_with("nameserver 10.0.0.5\nsearch")
    );
    assert!(
        show("-dns=10.0.0.5", "-dns 10.0.0.6")
            .ok()
            .text()
            .starts_with("nameserver 10.0.0.6\n")
    );
    std::fs::write(settings.join("config.d/60.toml"), "\nnonsense = 1\n").unwrap();
    show("", "")
        .fails(125)
        .says(&["60.toml: line 2: unknown setting 'nonsense'"]);
}

#[test]
fn the_hosts_file() {
    let host = with_network();
    let own = |network: &str| format!("--network {network} -h box.example.org");
    sleeper(
        &host,
        "one",
        &format!("{} --add-host db:10.1.1.1 --add-host up:host-gateway", own("net")),
    );
    let (hosts, ip) = (file(&host, "one", "/etc/hosts"), address(&host, "one", "net"));
    let gateway = host.text("inspect --format {{.NetworkSettings.Networks.net.Gateway}} one");
    assert!(hosts.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"));
    assert!(
        hosts.ends_with(&format!("10.1.1.1\tdb\n{gateway}\tup\n{ip}\tbox.example.org box")),
        "{hosts}"
    );
    host.run("exec one ping -c 1 -W 5 up").ok();
    assert_eq!(file(&host, "one", "/etc/hostname"), "box");
    assert_eq!(host.text("exec one hostname -f"), "box.example.org");
    host.run("restart -t 0 one").ok();
    let after = address(&host, "one", "net");
    assert!(file(&host, "one", "/etc/hosts").ends_with(&format!("{after}\tbox.example.org box")));
    let joined = host.text("run --rm --net container:one busybox cat /etc/hosts /etc/hostname");
    assert_eq!(joined, format!("{}\nbox", file(&host, "one", "/etc/hosts")));
    let none = host.text("run --rm --net none -h a.b busybox cat /etc/hosts");
    assert!(none.starts_with("127.0.0.1\tlocalhost a.b a\n::1\tlocalhost ip6-localhost ip6-loopback a.b a\n"));
    let shared = host.text("run --rm --net host --add-host x:1.2.3.4 busybox cat /etc/hosts");
    let machine = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    assert_eq!(shared, format!("{}\n1.2.3.4\tx", machine.trim_end()).trim_start());
    assert_eq!(
        host.text("run --rm --no-hosts busybox cat /etc/hosts"),
        "",
        "what the image has, which is nothing"
    );
    let base = host.scratch().join("base");
    std::fs::write(&base, "10.7.7.7 other\n").unwrap();
    let text = host.text(format!(
        "run --rm -h x --hosts-file {} busybox cat /etc/hosts",
        base.display()
    ));
    assert!(text.starts_with("10.7.7.7 other\n") && text.ends_with("\tx"), "{text}");
    let shown = host.text(["inspect", "-f", "{{json .HostConfig.ExtraHosts}}", "one"]);
    assert_eq!(shown, r#"["db:10.1.1.1","up:host-gateway"]"#);
}

#[test]
fn links_as_in_2013() {
    let host = with_network();
    host.run("run -d --name redis --expose 6379 -e SECRET=x busybox /tiny trap")
        .ok();
    let id = host.id("redis");
    sleeper(&host, "web", "--link redis:db");
    let line = |now: &str| format!("{now}\tdb {} redis", &id[..12]);
    let first = address(&host, "redis", "bridge");
    assert!(file(&host, "web", "/etc/hosts").contains(&line(&first)));
    let env = host.text("exec web env");
    for wanted in [
        format!("DB_PORT=tcp://{first}:6379"),
        format!("DB_PORT_6379_TCP=tcp://{first}:6379"),
        format!("DB_PORT_6379_TCP_ADDR={first}"),
        "DB_PORT_6379_TCP_PORT=6379".to_owned(),
        "DB_PORT_6379_TCP_PROTO=tcp".to_owned(),
        "DB_NAME=/web/db".to_owned(),
        "DB_ENV_SECRET=x".to_owned(),
    ] {
        assert!(env.lines().any(|l| l == wanted), "{wanted} in\n{env}");
    }
    host.run("exec web ping -c 1 -W 5 db").ok();
    // Its new address is in the file at once.
    host.run("restart -t 0 redis").ok();
    let second = address(&host, "redis", "bridge");
    assert_ne!(first, second);
    let hosts = file(&host, "web", "/etc/hosts");
    assert!(
        hosts.contains(&line(&second)) && !hosts.contains(&line(&first)),
        "{hosts}"
    );
    host.run("exec web ping -c 1 -W 5 db").ok();
    assert_eq!(
        host.text(["inspect", "-f", "{{json .HostConfig.Links}}", "web"]),
        r#"["/redis:/web/db"]"#
    );
    host.run("stop -t 0 redis").ok();
    host.run("run --rm --link redis busybox true")
        .fails(125)
        .says(&["Cannot link to a non running container: /redis AS /"]);
    // On a network with names, the alias is this container's alone, and follows the other.
    sleeper(&host, "cache", "--network net");
    sleeper(&host, "app", "--network net --link cache:mem");
    sleeper(&host, "other", "--network net --dns 127.0.0.2");
    let _outside = Outside::at("127.0.0.2");
    assert_eq!(dig(&host, "app", "mem"), [address(&host, "cache", "net")]);
    assert_eq!(dig(&host, "other", "mem"), ["9.9.9.9"]);
    host.run("restart -t 0 cache").ok();
    assert_eq!(dig(&host, "app", "mem"), [address(&host, "cache", "net")]);
}

#[test]
fn wrong_flags_about_names() {
    let host = with_network();
    sleeper(&host, "web", "");
    for (flags, says) in [
        ("--dns nonsense", "nonsense is not an ip address"),
        ("--dns-search a..b", "a..b is not a valid domain"),
        ("--add-host x", "bad format for add-host: \"x\""),
        ("--add-host x:y", "invalid IP address in add-host: \"y\""),
        ("--link a:b:c", "bad format for links: a:b:c"),
        (
            "--link nobody",
            "could not get container for nobody: No such container: nobody",
        ),
        (
            "--link web:x --link web:x --net host",
            "host type networking can't be used with links",
        ),
        (
            "--net container:web --link web",
            "container type network can't be used with links",
        ),
        (
            "--net container:web --dns 1.2.3.4",
            "conflicting options: dns and the network mode",
        ),
        (
            "--net container:web --add-host a:1.2.3.4",
            "conflicting options: custom host-to-IP mapping and the network mode",
        ),
        (
            "--no-hosts --add-host a:1.2.3.4",
            "--no-hosts and --add-host cannot be set together",
        ),
        ("--hosts-file /no/such/file", "/no/such/file"),
        ("--network net --network-alias a/b", "a/b"),
    ] {
        host.run(format!("run --rm {flags} busybox true"))
            .fails(125)
            .says(&[says]);
    }
}

/// Thousands of questions leave the monitor as small as it was, and its container's log as quick.
#[test]
fn many_questions_cost_no_memory() {
    let host = with_network();
    sleeper(&host, "db", "--network net");
    sleeper(&host, "web", "--network net");
    let expected: Ipv4Addr = address(&host, "db", "net").parse().unwrap();
    let (monitor, place) = (host.monitor_pid("web"), Place::of(host.init_pid("web")));
    let mut question = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2];
    question.extend_from_slice(b"db\0\0\x01\0\x01");
    let rate = |count: u32| {
        place.enter(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect("127.0.0.11:53").unwrap();
            socket.set_read_timeout(Some(seconds(5))).unwrap();
            let begin = Instant::now();
            let mut buffer = [0; 512];
            for _ in 0..count {
                socket.send(&question).unwrap();
                let n = socket.recv(&mut buffer).unwrap();
                assert_eq!(buffer[n - 4..n], expected.octets());
            }
            f64::from(count) / begin.elapsed().as_secs_f64()
        })
    };
    rate(100);
    std::thread::sleep(Duration::from_millis(50));
    let before = memory(monitor);
    let rate = rate(30_000);
    let grown = memory(monitor).saturating_sub(before);
    println!("{rate:.0} questions a second, {grown} kB more");
    assert!(grown < 100, "{grown} kB more after 30,000 questions");
}

#[test]
fn nothing_is_left_of_names() {
    let host = with_network();
    sleeper(&host, "db", "");
    for n in 0..3 {
        sleeper(&host, &format!("w{n}"), "--network net");
        sleeper(&host, &format!("l{n}"), "--link db");
    }
    let names = |what: &str| {
        let mut found = Vec::new();
        for dir in std::fs::read_dir(host.run_root.join(what))
            .into_iter()
            .flatten()
            .flatten()
        {
            found.extend(std::fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.path()));
        }
        found
    };
    assert_eq!((names("names").len(), names("links").len()), (3, 3));
    for container in ["w0", "l0"] {
        crate::support::kill(host.monitor_pid(container), nix::sys::signal::Signal::SIGKILL);
    }
    host.run("rm -f w0 w1 w2 l0 l1 l2 db").ok();
    assert_eq!((names("names"), names("links")), (Vec::new(), Vec::new()));
    host.run("network rm net").ok();
    let left = host.run_root.join("names");
    assert_eq!(std::fs::read_dir(&left).unwrap().count(), 0);
    assert!(Path::new(&left).exists());
}
