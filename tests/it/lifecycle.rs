//! start, stop, restart, kill, rm, wait, ps, inspect; restart policies.

use crate::support::{Host, alive, seconds, wait_until};
use nix::sys::signal::Signal;
use std::time::Instant;

#[test]
fn stop_asks_then_kills() {
    let host = Host::new();
    host.detached("polite", "", "block 7");
    host.wait_log("polite", "ready");
    assert_eq!(host.text("stop polite"), "polite");
    assert_eq!(host.text("wait polite"), "7");
    host.detached("deaf", "", "deaf");
    host.wait_log("deaf", "ready");
    let started = Instant::now();
    assert_eq!(host.text("stop -t 1 deaf"), "deaf");
    assert!(started.elapsed() >= std::time::Duration::from_secs(1));
    assert_eq!(host.text("wait deaf"), "137");
    // Stopped already: fine. Unknown: not.
    assert_eq!(host.text("stop deaf"), "deaf");
    host.run("stop none").fails(1).says(&["No such container: none"]);
}

#[test]
fn stop_uses_the_signal_that_was_asked_for() {
    let host = Host::new();
    host.detached("x1", "--stop-signal USR1 --stop-timeout 20", "trap 10 9");
    host.wait_log("x1", "ready");
    host.text("stop x1");
    assert_eq!(host.text("wait x1"), "9");
    host.tiny("--stop-signal NONSENSE", "exit 0")
        .fails(125)
        .says(&["NONSENSE"]);
}

#[test]
fn kill_sends_any_signal() {
    let host = Host::new();
    host.detached("x1", "", "trap 15 4");
    host.wait_log("x1", "ready");
    for (spelling, shown) in [("HUP", "got HUP"), ("SIGUSR1", "got USR1"), ("12", "got USR2")] {
        host.text(format!("kill -s {spelling} x1"));
        host.wait_log("x1", shown);
    }
    host.run("kill -s NONSENSE x1").fails(1).says(&["NONSENSE"]);
    host.text("kill --signal TERM x1");
    assert_eq!(host.text("wait x1"), "4");
    host.run("kill none").fails(1).says(&["No such container: none"]);
}

#[test]
fn signals_of_the_foreground_client_reach_the_program() {
    let host = Host::new();
    let client = host.barge("run --rm tiny /tiny trap 15 6").spawn();
    client.wait_for("ready");
    for (signal, shown) in [
        (Signal::SIGHUP, "got HUP"),
        (Signal::SIGINT, "got INT"),
        (Signal::SIGUSR2, "got USR2"),
    ] {
        client.signal(signal);
        client.wait_for(shown);
    }
    client.signal(Signal::SIGTERM);
    client.wait().fails(6);
}

#[test]
fn without_sig_proxy_the_client_alone_dies() {
    let host = Host::new();
    let client = host
        .barge("run --name x1 --sig-proxy=false tiny /tiny trap 15 6")
        .spawn();
    client.wait_for("ready");
    client.signal(Signal::SIGTERM);
    assert_eq!(client.wait().code, 143);
    assert_eq!(host.status("x1"), "running");
}

#[test]
fn restart_keeps_what_was_asked_and_what_was_written() {
    let host = Host::new();
    host.detached("x1", "-h kept -e A=b", "block");
    host.wait_log("x1", "ready");
    host.run("exec x1 /tiny write /file content").ok();
    let first = host.init_pid("x1");
    assert_eq!(host.text("restart -t 5 x1"), "x1");
    assert_ne!(host.init_pid("x1"), first);
    assert_eq!(host.text("exec x1 /tiny cat /file"), "content");
    assert!(host.text("exec x1 /tiny uname").starts_with("kept"));
    host.text("stop x1");
    assert_eq!(host.text("restart x1"), "x1");
    assert_eq!(host.status("x1"), "running");
}

#[test]
fn start_says_what_it_started_and_what_it_could_not() {
    let host = Host::new();
    host.text("create --name a1 tiny /tiny block");
    host.text("create --name b1 tiny /tiny block");
    let output = host.run("start a1 none b1").fails(1);
    assert_eq!(output.lines(), ["a1", "b1"]);
    assert!(output.err().contains("No such container: none"), "{}", output.err());
    assert_eq!(
        (host.status("a1"), host.status("b1")),
        ("running".into(), "running".into())
    );
    // Running already: docker says nothing and succeeds.
    host.run("start a1").ok();
}

#[test]
fn rm_removes_what_is_not_running_and_f_everything() {
    let host = Host::new();
    host.detached("x1", "", "deaf");
    host.wait_log("x1", "ready");
    host.run("rm x1").fails(1).says(&["x1", "running"]);
    let started = Instant::now();
    assert_eq!(host.text("rm -f x1"), "x1");
    assert!(started.elapsed() < seconds(5));
    host.run("rm x1").fails(1).says(&["No such container: x1"]);
    host.run("inspect x1").fails(1);
    // The name is free at once.
    host.text("create --name x1 tiny");
    assert_eq!(host.text("rm x1"), "x1");
    host.text("create --name one tiny");
    host.text("create --name two tiny");
    assert_eq!(host.run("rm one none two").fails(1).lines(), ["one", "two"]);
    assert_eq!(host.text("ps -aq"), "");
}

#[test]
fn wait_gives_every_code() {
    let host = Host::new();
    host.detached("a1", "", "exit 3");
    host.detached("b1", "", "exit 4");
    assert_eq!(host.run("wait a1 b1").ok().lines(), ["3", "4"]);
    // Long over: the recorded code.
    assert_eq!(host.text("wait a1"), "3");
    host.run("wait none").fails(1).says(&["No such container: none"]);
    host.detached("c1", "", "block 5");
    host.wait_log("c1", "ready");
    let waiting = host.barge("wait c1").spawn();
    host.text("stop c1");
    assert_eq!(waiting.wait().ok().text(), "5");
}

#[test]
fn ps_shows_what_docker_shows() {
    let host = Host::new();
    host.detached("up", "", "block");
    host.run("run --name done tiny /tiny exit 3").fails(3);
    host.text("create --name fresh tiny");
    let running = host.text("ps");
    let header = running.lines().next().unwrap();
    for column in [
        "CONTAINER ID",
        "IMAGE",
        "COMMAND",
        "CREATED",
        "STATUS",
        "PORTS",
        "NAMES",
    ] {
        assert!(header.contains(column), "{header}");
    }
    assert!(
        running.contains("up") && running.contains("Up ") && !running.contains("done"),
        "{running}"
    );
    let all = host.text("ps -a");
    assert!(all.contains("Exited (3)") && all.contains("Created"), "{all}");
    assert_eq!(
        host.run("ps -a --format {{.Names}}").ok().lines(),
        ["fresh", "done", "up"]
    );
    assert_eq!(host.text("ps -a --filter status=exited --format {{.Names}}"), "done");
    assert_eq!(host.text("ps -a --filter name=fre --format {{.Names}}"), "fresh");
    assert_eq!(host.text("ps -a -l --format {{.Names}}"), "fresh");
    assert_eq!(
        host.run("ps -a -n 2 --format {{.Names}}").ok().lines(),
        ["fresh", "done"]
    );
    assert_eq!(host.text("ps -aq --filter exited=3").len(), 12);
    host.run("ps --filter nonsense=1").fails(125);
    host.run(["ps", "--format", "{{.Nonsense}}"]).fails(1);
}

#[test]
fn inspect_has_dockers_fields() {
    let host = Host::new();
    let id = host.detached("x1", "-e A=b -m 64m", "block");
    let document: serde_json::Value = serde_json::from_slice(&host.run("inspect x1").ok().stdout).unwrap();
    let entry = &document[0];
    assert_eq!(entry["Id"], id);
    assert_eq!(entry["Name"], "/x1");
    assert_eq!(entry["State"]["Status"], "running");
    assert_eq!(entry["State"]["Running"], true);
    assert_eq!(entry["State"]["ExitCode"], 0);
    assert_eq!(entry["HostConfig"]["Memory"], 64 << 20);
    assert_eq!(entry["Path"], "/tiny");
    assert_eq!(entry["Args"][0], "block");
    let environment = entry["Config"]["Env"].as_array().unwrap();
    assert!(environment.contains(&"A=b".into()), "{environment:?}");
    for field in [
        "Created",
        "Image",
        "Mounts",
        "NetworkSettings",
        "RestartCount",
        "LogPath",
        "Driver",
        "HostnamePath",
    ] {
        assert!(!entry[field].is_null(), "{field}");
    }
    assert_eq!(host.text(["inspect", "-f", "{{json .State.Running}}", "x1"]), "true");
    let both = host.run("inspect x1 nobody").fails(1);
    assert!(both.err().contains("nobody"));
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&both.stdout)
            .unwrap()
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn on_failure_restarts_that_often() {
    let host = Host::new();
    host.detached("x1", "--restart on-failure:2", "both tried err");
    assert_eq!(host.text("wait x1"), "0");
    host.detached("y1", "--restart on-failure:2", "exit 3");
    wait_until("the last try", || {
        host.status("y1") == "exited" && host.text(["inspect", "-f", "{{.RestartCount}}", "y1"]) == "2"
    });
    assert_eq!(host.text("wait y1"), "3");
}

#[test]
fn always_restarts_until_stopped() {
    let host = Host::new();
    host.detached("x1", "--restart always", "block");
    host.wait_log("x1", "ready");
    let first = host.init_pid("x1");
    crate::support::kill(first, Signal::SIGKILL);
    wait_until("another init", || {
        let pid = host.text(["inspect", "-f", "{{.State.Pid}}", "x1"]);
        pid != "0" && pid != first.to_string()
    });
    host.text("stop -t 5 x1");
    assert_eq!(host.status("x1"), "exited");
    // It stays so.
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(host.status("x1"), "exited");
}

#[test]
fn a_container_that_keeps_ending_can_be_stopped_and_removed() {
    let host = Host::new();
    host.detached("x1", "--restart always", "exit 1");
    wait_until("a few restarts", || {
        host.text(["inspect", "-f", "{{.RestartCount}}", "x1"])
            .parse::<u32>()
            .unwrap()
            > 1
    });
    host.text("stop x1");
    assert_eq!(host.status("x1"), "exited");
    host.text("start x1");
    assert_eq!(host.text("rm -f x1"), "x1");
}

#[test]
fn bad_restart_policies() {
    let host = Host::new();
    for bad in ["sometimes", "on-failure:x", "on-failure:-1", "always:3"] {
        host.run(["run", "--rm=false", "--restart", bad, "tiny", "/true"])
            .fails(125);
    }
    host.run("run --rm --restart always tiny /true").fails(125);
}

#[test]
fn the_init_dies_with_its_monitor() {
    let host = Host::new();
    host.detached("x1", "", "deaf");
    let (monitor, init) = (host.monitor_pid("x1"), host.init_pid("x1"));
    crate::support::kill(monitor, Signal::SIGKILL);
    wait_until("the init to end", || !alive(init));
    assert_eq!(host.status("x1"), "exited");
    assert_eq!(host.text("wait x1"), "137");
}

#[test]
fn the_monitor_is_named_and_small() {
    let host = Host::new();
    let id = host.detached("x1", "", "block");
    let monitor = host.monitor_pid("x1");
    let title = std::fs::read_to_string(format!("/proc/{monitor}/cmdline")).unwrap();
    assert!(title.starts_with(&format!("barge: monitor {}", &id[..12])), "{title:?}");
    let smaps = std::fs::read_to_string(format!("/proc/{monitor}/smaps_rollup")).unwrap();
    let own = smaps.lines().find_map(|l| l.strip_prefix("Anonymous:")).unwrap();
    let own: u32 = own.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(own < 1536, "{own} KiB that are no pages of the program file");
}

#[test]
fn the_monitor_survives_its_callers_terminal() {
    let host = Host::new();
    let (code, text) = host.barge("run -d --name x1 tiny /tiny block").terminal(80, 24).wait();
    assert_eq!(code, 0, "{text}");
    host.wait_log("x1", "ready");
    assert_eq!(host.status("x1"), "running");
}
