//! Network namespaces that stand for hosts. A test's own thread is in one of its own from its first `Host` to the end of
//! it: whatever the test starts is there as well, and the machine's links, addresses and rules are never touched.
//!
//! ```
//! let host = Host::new();
//! let net = Net::around(&host);       // client — router — host
//! net.client.run("ping -c1 203.0.113.2").ok();
//! ```

use super::{Cmd, Host, Output};
use nix::sched::{CloneFlags, setns, unshare};
use std::cell::Cell;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::thread::ThreadId;

thread_local! {
    /// This thread is in a namespace made for its test.
    static AWAY: Cell<bool> = const { Cell::new(false) };
    /// Hosts that share it.
    static HOSTS: Cell<u32> = const { Cell::new(0) };
}

/// The thread's own namespace for as long as this lives. The first one of a thread counts.
pub struct OwnNamespace {
    back: Option<(File, ThreadId)>,
}

impl OwnNamespace {
    pub fn enter() -> OwnNamespace {
        HOSTS.set(HOSTS.get() + 1);
        if AWAY.get() {
            return OwnNamespace { back: None };
        }
        let machine = File::open("/proc/thread-self/ns/net").unwrap();
        unshare(CloneFlags::CLONE_NEWNET).expect("the tests run as root");
        AWAY.set(true);
        ip("link set lo up");
        // A host that has run containers before: nothing is said about it.
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        OwnNamespace {
            back: Some((machine, std::thread::current().id())),
        }
    }
}

impl Drop for OwnNamespace {
    fn drop(&mut self) {
        HOSTS.set(HOSTS.get().saturating_sub(1));
        if let Some((machine, thread)) = &self.back
            && *thread == std::thread::current().id()
        {
            setns(machine, CloneFlags::CLONE_NEWNET).unwrap();
            AWAY.set(false);
        }
    }
}

/// A machine on the network: a namespace and nothing else.
pub struct Place {
    netns: File,
}

impl Place {
    /// A new one, with its loopback up.
    pub fn new() -> Place {
        let netns = std::thread::scope(|scope| {
            let made = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).unwrap();
                ip("link set lo up");
                File::open("/proc/thread-self/ns/net").unwrap()
            });
            made.join().unwrap()
        });
        Place { netns }
    }

    /// Where the calling thread is.
    pub fn here() -> Place {
        Place {
            netns: File::open("/proc/thread-self/ns/net").unwrap(),
        }
    }

    /// Where a process is.
    pub fn of(pid: i32) -> Place {
        Place {
            netns: File::open(format!("/proc/{pid}/ns/net")).unwrap(),
        }
    }

    /// A path by which other programs find it while this lives.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.netns.as_raw_fd()).into()
    }

    /// Does something there: sockets made, and processes started, belong to it.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let done = scope.spawn(|| {
                setns(&self.netns, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            done.join().unwrap()
        })
    }

    /// Runs a program there to its end.
    pub fn run(&self, line: &str) -> Output {
        self.enter(|| command(line).run())
    }

    pub fn ip(&self, line: &str) {
        self.enter(|| ip(line));
    }

    /// A cable to another one: `name` here, `theirs` there, both up.
    pub fn cable(&self, name: &str, other: &Place, theirs: &str) {
        let peer = other.path();
        self.ip(&format!(
            "link add {name} type veth peer name {theirs} netns {}",
            peer.display()
        ));
        self.ip(&format!("link set {name} up"));
        other.ip(&format!("link set {theirs} up"));
    }
}

fn command(line: &str) -> Cmd {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap();
    Cmd::new(program, words.map(Into::into).collect())
}

/// `ip LINE` where the calling thread is.
pub fn ip(line: &str) {
    command(&format!("ip {line}")).run().ok();
}

/// `ip -j LINE` where the calling thread is, parsed.
pub fn ip_json(line: &str) -> serde_json::Value {
    let text = command(&format!("ip -j {line}")).run().ok().text();
    serde_json::from_str(if text.is_empty() { "[]" } else { &text }).unwrap()
}

/// Two more machines around the test's host:
///
/// ```text
///   client  198.51.100.2 ── 198.51.100.1  router  203.0.113.1 ── 203.0.113.2  the thread's own namespace, where barge runs
///           2001:db8:1::2 ─ 2001:db8:1::1         2001:db8:2::1 ─ 2001:db8:2::2
/// ```
pub struct Net {
    pub client: Place,
    pub router: Place,
    pub host: Place,
}

impl Net {
    pub const CLIENT: &str = "198.51.100.2";
    pub const HOST: &str = "203.0.113.2";
    pub const HOST6: &str = "2001:db8:2::2";

    pub fn around(_host: &Host) -> Net {
        let net = Net {
            client: Place::new(),
            router: Place::new(),
            host: Place::here(),
        };
        net.client.cable("up0", &net.router, "down0");
        net.host.cable("up0", &net.router, "down1");
        for (place, link, four, six) in [
            (&net.client, "up0", "198.51.100.2/24", "2001:db8:1::2/64"),
            (&net.router, "down0", "198.51.100.1/24", "2001:db8:1::1/64"),
            (&net.router, "down1", "203.0.113.1/24", "2001:db8:2::1/64"),
            (&net.host, "up0", "203.0.113.2/24", "2001:db8:2::2/64"),
        ] {
            place.ip(&format!("addr add {four} dev {link}"));
            place.ip(&format!("addr add {six} dev {link} nodad"));
        }
        for (place, four, six) in [
            (&net.client, "198.51.100.1", "2001:db8:1::1"),
            (&net.host, "203.0.113.1", "2001:db8:2::1"),
        ] {
            place.ip(&format!("route add default via {four}"));
            place.ip(&format!("-6 route add default via {six}"));
        }
        net.router.enter(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        });
        net
    }
}

/// Links of containers in the thread's namespace. As long as another host shares it, they may be that one's.
pub fn links_left() -> Vec<String> {
    if HOSTS.get() > 1 {
        return Vec::new();
    }
    let links = ip_json("link show");
    let names = links.as_array().into_iter().flatten();
    names
        .filter_map(|l| l["ifname"].as_str())
        .filter(|name| name.starts_with("veth"))
        .map(|name| format!("link {name}"))
        .collect()
}

/// Elements of rules that bear a container's id, and rules of chains that are no longer ours.
pub fn rules_left() -> Vec<String> {
    let rules = command("nft list ruleset").run();
    let by_container = |line: &&str| {
        let owner = line.split("comment \"").nth(1).and_then(|rest| rest.split('"').next());
        owner.is_some_and(|o| o.len() == 64 && o.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    let text = rules.text();
    text.lines()
        .filter(by_container)
        .map(|l| format!("rule {}", l.trim()))
        .collect()
}
