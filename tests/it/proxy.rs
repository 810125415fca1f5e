//! The userland proxy inside a real monitor, by way of `[::1]`; what it does alone is tested beside it
//! (`src/network/proxy/tests.rs`).

use crate::publish::{listening, serve, tcp, udp};
use crate::support::net::Place;
use crate::support::{Host, memory, seconds, wait_until};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

const ECHO: &str = "socat TCP4-LISTEN:80,fork,reuseaddr,backlog=1000 EXEC:/bin/cat & exec sleep 1000";

fn descriptors(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn connect(at: &str) -> TcpStream {
    let stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(seconds(20))).unwrap();
    stream.set_write_timeout(Some(seconds(20))).unwrap();
    stream
}

#[test]
fn data_and_half_close() {
    let host = Host::busybox();
    serve(&host, "echo", &["-p", "8080:80"], ECHO);
    listening(&host, "echo", 80);
    let monitor = host.monitor_pid("echo");
    let before = descriptors(monitor);
    let sent: Vec<u8> = (0..6_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut stream = connect("[::1]:8080");
    let mut writer = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        assert!(got == sent, "{} bytes", got.len());
    });
    drop(stream);
    drop(writer);
    wait_until("all descriptors to be closed", || descriptors(monitor) == before);
    // The container ends, and its connections with it.
    let mut open = connect("[::1]:8080");
    host.run("rm -f echo").ok();
    assert_eq!(open.read(&mut [0; 10]).unwrap_or(0), 0);
}

#[test]
fn a_thousand_connections_in_little_memory() {
    let host = Host::busybox();
    let server = "exec socat -u TCP4-LISTEN:80,fork,reuseaddr,backlog=4000 OPEN:/dev/null";
    serve(&host, "sink", &["-p", "8080:80", "--pids-limit", "-1"], server);
    listening(&host, "sink", 80);
    let monitor = host.monitor_pid("sink");
    let before = memory(monitor);
    let many: Vec<TcpStream> = (0..400).map(|_| connect("[::1]:8080")).collect();
    wait_until("both ends of each", || descriptors(monitor) > 800);
    let grown = memory(monitor).saturating_sub(before);
    assert!(grown < 800, "{grown} kB for 400 connections");
    drop(many);
    wait_until("their end", || descriptors(monitor) < 100);
}

#[test]
fn out_of_descriptors_it_waits() {
    let host = Host::busybox();
    serve(&host, "echo", &["-p", "8080:80"], ECHO);
    listening(&host, "echo", 80);
    let monitor = host.monitor_pid("echo");
    let limit = descriptors(monitor) + 8;
    Place::here()
        .run(&format!("prlimit --pid {monitor} --nofile={limit}:{limit}"))
        .ok();
    let mut held: Vec<TcpStream> = (0..10).map(|_| connect("[::1]:8080")).collect();
    // Those that are through go on; time is not burnt on the others.
    held[0].write_all(b"x").unwrap();
    held[0].read_exact(&mut [0]).unwrap();
    let ticks = || -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{monitor}/stat")).unwrap();
        stat.rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|n| n.parse::<u64>().unwrap())
            .sum()
    };
    let before = ticks();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(ticks() - before < 20, "{} ticks in half a second", ticks() - before);
    // Room again: the next one is served.
    held.clear();
    wait_until("room", || {
        let mut next = connect("[::1]:8080");
        let _ = next.write_all(b"y");
        next.read_exact(&mut [0]).is_ok()
    });
    host.run("logs echo").ok();
}

#[test]
fn in_somebody_elses_namespace() {
    let host = Host::busybox();
    let there = Place::new();
    let path = there.path();
    let mode = format!("ns:{}", path.display());
    let script = "socat UDP4-RECVFROM:53,fork 'SYSTEM:read x; echo $x from inside' & \
                  exec socat TCP4-LISTEN:80,fork,reuseaddr 'SYSTEM:echo hello'";
    serve(
        &host,
        "web",
        &["--net", &mode, "-p", "8080:80", "-p", "5300:53/udp"],
        script,
    );
    wait_until("the server", || tcp("127.0.0.1:8080").is_ok_and(|s| s == "hello\n"));
    assert_eq!(tcp("[::1]:8080").unwrap(), "hello\n");
    wait_until("UDP", || udp("127.0.0.1:5300").is_ok_and(|s| s == "udp from inside\n"));
    host.run("rm -f web").ok();
}
