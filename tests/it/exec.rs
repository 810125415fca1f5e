//! exec and attach: more processes in, and more clients on, a running container.

use crate::support::{Host, wait_until};
use nix::sys::signal::Signal;

#[test]
fn exec_runs_beside_the_program() {
    let host = Host::new();
    host.detached("x1", "-h inside -e A=b", "block");
    assert_eq!(host.text("exec x1 /tiny print hello"), "hello");
    host.run("exec x1 /tiny exit 9").fails(9);
    assert!(host.text("exec x1 /tiny uname").starts_with("inside"));
    let environment = host.text("exec -e C=d x1 /tiny env");
    assert!(
        environment.contains("A=b") && environment.contains("C=d"),
        "{environment}"
    );
    assert_eq!(host.text("exec -w /etc x1 /tiny cwd"), "/etc");
    assert!(host.text("exec -u web x1 /tiny ids").starts_with("uid 1000"));
    for kind in ["pid", "mnt", "uts", "ipc", "net", "cgroup"] {
        let same = host.text(format!("exec x1 /tiny link /proc/self/ns/{kind} /proc/1/ns/{kind}"));
        let lines: Vec<_> = same.lines().collect();
        assert_eq!(lines[0], lines[1], "{kind}");
    }
    assert_eq!(host.text("exec x1 /tiny link /proc/self/root"), "/");
}

#[test]
fn exec_has_the_containers_restrictions() {
    let host = Host::new();
    host.detached("x1", "", "block");
    let of_exec = host.text("exec x1 /tiny status CapEff CapBnd Seccomp NoNewPrivs");
    let of_run = host.tiny("", "status CapEff CapBnd Seccomp NoNewPrivs").ok().text();
    assert_eq!(of_exec, of_run);
    assert!(
        host.text("exec --privileged x1 /tiny status CapBnd")
            .contains("000001ff")
    );
    assert_eq!(host.text("exec x1 /tiny refused mount"), "mount EPERM");
    // In the container's groups, so that its limits hold.
    assert_eq!(
        host.text("exec x1 /tiny cat /proc/self/cgroup"),
        host.text("exec x1 /tiny cat /proc/1/cgroup")
    );
}

#[test]
fn exec_streams() {
    let host = Host::new();
    host.detached("x1", "", "block");
    assert_eq!(
        host.barge("exec -i x1 /tiny cat")
            .stdin(b"in\x00\xff")
            .run()
            .ok()
            .stdout,
        b"in\x00\xff"
    );
    assert_eq!(host.barge("exec x1 /tiny cat").stdin(b"in").run().ok().stdout, b"");
    let both = host.run("exec x1 /tiny both out err").ok();
    assert_eq!(
        (both.stdout.as_slice(), both.stderr.as_slice()),
        (&b"out\n"[..], &b"err\n"[..])
    );
    assert_eq!(host.run("exec x1 /tiny burst 10000000").ok().stdout.len(), 10_000_000);
}

#[test]
fn exec_detached() {
    let host = Host::new();
    host.detached("x1", "", "block");
    host.run("exec -d x1 /tiny write /done yes").ok();
    wait_until("the detached process", || {
        host.run("exec x1 /tiny exists /done").code == 0
    });
}

#[test]
fn exec_needs_a_running_container() {
    let host = Host::new();
    host.text("create --name x1 tiny");
    host.run("exec x1 /true").fails(125).says(&["not running"]);
    host.run("exec").fails(125);
    host.run("exec x1").fails(125);
}

#[test]
fn exec_ends_with_its_client_or_its_container() {
    let host = Host::new();
    host.detached("x1", "", "block");
    let client = host.barge("exec x1 /tiny trap 15 3").spawn();
    client.wait_for("ready");
    client.signal(Signal::SIGTERM);
    let code = client.wait().code;
    assert!(code == 3 || code == 143, "{code}");
    let client = host.barge("exec x1 /tiny deaf").spawn();
    client.wait_for("ready");
    host.text("rm -f x1");
    assert_eq!(client.wait().code, 137);
}

#[test]
fn attach_sees_what_comes_and_gives_the_code() {
    let host = Host::new();
    host.detached("x1", "", "trap 15 4");
    host.wait_log("x1", "ready");
    let clients = [
        host.barge("attach x1").spawn(),
        host.barge("attach x1").spawn(),
        host.barge("attach x1").spawn(),
    ];
    // A client that has shown something has its signals in hand.
    for client in &clients {
        wait_until("the client to be on", || {
            host.text("kill -s WINCH x1");
            client.stdout.text().contains("got WINCH")
        });
    }
    for (client, signal, shown) in [
        (&clients[0], Signal::SIGHUP, "got HUP"),
        (&clients[1], Signal::SIGUSR1, "got USR1"),
        (&clients[2], Signal::SIGUSR2, "got USR2"),
    ] {
        wait_until("the signal to be passed on", || {
            client.signal(signal);
            client.stdout.text().contains(shown)
        });
    }
    host.text("kill -s TERM x1");
    for client in clients {
        let output = client.wait().fails(4);
        assert!(output.text().contains("got TERM"), "{}", output.text());
    }
    host.run("attach x1").fails(1).says(&["stopped container"]);
    host.run("attach none").fails(1).says(&["No such container: none"]);
}

#[test]
fn attached_input_reaches_an_interactive_container() {
    let host = Host::new();
    host.text("run -d -i --name x1 tiny /tiny cat");
    let mut client = host.barge("attach x1").spawn();
    client.send(b"typed\n");
    client.wait_for("typed");
    // The container was started on its own: it outlives the client and the client's input.
    client.signal(Signal::SIGKILL);
    client.wait().fails(137);
    let mut again = host.barge("attach x1").spawn();
    again.send(b"more\n");
    again.wait_for("more");
    assert_eq!(host.status("x1"), "running");
}

#[test]
fn input_for_a_container_without_i_is_dropped() {
    let host = Host::new();
    host.detached("x1", "", "trap 15 4");
    host.wait_log("x1", "ready");
    let mut client = host.barge("attach x1").spawn();
    client.send(b"nobody reads this\n");
    wait_until("the client to be attached", || {
        host.text("kill -s WINCH x1");
        client.stdout.text().contains("got WINCH")
    });
    host.text("kill -s TERM x1");
    client.wait().fails(4);
}

#[test]
fn detaching_from_attach_leaves_the_container() {
    let host = Host::new();
    host.text("run -d -it --name x1 tiny /tiny keys");
    let mut one = host.barge("attach x1").terminal(80, 24);
    let mut two = host.barge("attach x1").terminal(80, 24);
    wait_until("both to be attached", || {
        one.send(b"a");
        one.output.text().contains("61") && two.output.text().contains("61")
    });
    one.send(&[0x10, 0x11]);
    assert_eq!(one.wait().0, 0);
    two.send(b"b");
    two.wait_for("62");
    two.send(b"Z");
    assert_eq!(two.wait().0, 0);
}

#[test]
fn an_interactive_program_ends_when_its_only_client_dies() {
    let host = Host::new();
    let mut client = host.barge("run -i --name x1 tiny /tiny cat").spawn();
    client.send(b"x\n");
    client.wait_for("x");
    client.signal(Signal::SIGKILL);
    client.wait().fails(137);
    assert_eq!(host.text("wait x1"), "0");
}
