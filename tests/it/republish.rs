//! `update --publish-add`, `--publish-rm`: published ports of a container that runs.

use crate::publish::{listening, serve, tcp};
use crate::support::net::Net;
use crate::support::{Host, seconds, wait_until};

const SERVER: &str = "exec socat TCP6-LISTEN:80,fork,reuseaddr,ipv6only=0 'SYSTEM:echo here'";

fn here(at: &str) -> bool {
    tcp(at).is_ok_and(|said| said.starts_with("here"))
}

#[test]
fn ports_change_while_it_runs() {
    let host = Host::busybox();
    let net = Net::around(&host);
    serve(&host, "web", &["-p", "8080:80"], SERVER);
    listening(&host, "web", 80);
    assert!(here("127.0.0.1:8080") && !here("127.0.0.1:8081"));
    host.run("update --publish-add 8081:80 --publish-add 127.0.0.1:8082:80 web")
        .ok();
    for at in ["127.0.0.1:8080", "127.0.0.1:8081", "[::1]:8081", "127.0.0.1:8082"] {
        assert!(here(at), "{at}");
    }
    net.client.enter(|| assert!(here(&format!("{}:8081", Net::HOST))));
    let ports = host.text("port web");
    for part in [
        "80/tcp -> 0.0.0.0:8080",
        "80/tcp -> 0.0.0.0:8081",
        "80/tcp -> 127.0.0.1:8082",
    ] {
        assert!(ports.contains(part), "{ports}");
    }
    // Another port of the host in the place of the first, in one go.
    host.run("update --publish-rm 8080:80 --publish-add 8083:80 web").ok();
    assert!(!here("127.0.0.1:8080") && !here("[::1]:8080") && here("127.0.0.1:8083"));
    net.client.enter(|| assert!(!here(&format!("{}:8080", Net::HOST))));
    // Free at once.
    host.run("run --rm -p 8080:81 busybox true").ok();
    // The record has it: so it is after a restart.
    host.run("restart -t 0 web").ok();
    listening(&host, "web", 80);
    assert!(here("127.0.0.1:8081") && here("127.0.0.1:8083") && !here("127.0.0.1:8080"));
    // All of it or nothing.
    host.run("run -d --name other -p 9000:80 busybox sleep 1000").ok();
    host.run("update --publish-rm 8081:80 --publish-add 9000:80 web")
        .fails(1)
        .says(&["port is already allocated", "other"]);
    assert!(here("127.0.0.1:8081") && here("127.0.0.1:8083"));
    host.run("update --publish-rm 81 web")
        .fails(1)
        .says(&["container web does not publish port 81/tcp"]);
    host.run("update --publish-add nonsense web")
        .fails(125)
        .says(&["nonsense"]);
    host.run("update --publish-rm 80 web").ok();
    assert_eq!(host.text("port web"), "");
    assert!(!here("127.0.0.1:8081") && !here("[::1]:8083"));
    host.run("rm -f web other").ok();
}

#[test]
fn ports_change_for_the_next_start() {
    let host = Host::busybox();
    let create = [
        "create", "--name", "web", "-P", "--expose", "80", "--expose", "81", "busybox", "sleep", "1000",
    ];
    host.run(create).ok();
    host.run("update --publish-rm 81 --publish-add 8090:90 web").ok();
    host.run("start web").ok();
    let ports = host.text("port web");
    assert!(
        ports.contains("80/tcp") && ports.contains("0.0.0.0:8090") && !ports.contains("81/tcp"),
        "{ports}"
    );
    host.run("rm -f web").ok();
    host.run("run -d --name alone --net none busybox sleep 1000").ok();
    host.run("update --publish-add 8090:90 alone")
        .fails(1)
        .says(&["has no network to publish ports of"]);
    host.run("rm -f alone").ok();
}

#[test]
#[cfg_attr(not(feature = "stop-points"), ignore = "needs --features stop-points")]
fn a_monitor_killed_while_ports_change() {
    for point in crate::crash::MORE_PORT_POINTS {
        let host = Host::busybox();
        let run = host.barge("run -d --name web -p 8080:80 busybox sleep 1000");
        run.env("BARGE_STOP_AT", *point).timeout(seconds(20)).run().ok();
        assert_ne!(host.run("update --publish-add 8081:80 web").code, 0, "{point}");
        wait_until(&format!("nothing to run after {point}"), || {
            host.text("ps -q").is_empty()
        });
        // Both ports are free, and lead nowhere.
        host.run("run --rm -p 8080:80 -p 8081:80 busybox true").ok();
        host.run("start web").ok();
        assert!(!host.text("port web").contains("8081"), "{point}");
        host.run("rm -f web").ok();
    }
}
