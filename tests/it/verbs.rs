//! pause, unpause, rename, top, stats, update, prune, exists.

use crate::support::{Host, alive};
use std::fs;

#[test]
fn a_paused_container_stands_still() {
    let host = Host::busybox();
    host.run([
        "run",
        "-d",
        "--name",
        "x1",
        "busybox",
        "sh",
        "-c",
        "while :; do echo tick; usleep 10000; done",
    ])
    .ok();
    host.wait_log("x1", "tick");
    assert_eq!(host.text("pause x1"), "x1");
    assert_eq!(host.status("x1"), "paused");
    assert!(host.text("ps").contains("(Paused)"));
    assert_eq!(host.text("ps -q --filter status=paused --no-trunc"), host.id("x1"));
    assert_eq!(host.text("inspect -f {{.State.Paused}} x1"), "true");
    let ticks = |host: &Host| host.run("logs x1").ok().lines().len();
    // What was on its way when it stopped may still arrive in the log; after that nothing comes.
    let seen = ticks(&host);
    let after = ticks(&host);
    assert!(after - seen <= 1, "{seen} {after}");
    host.run("pause x1").fails(1).says(&["is already paused"]);
    host.run("exec x1 true")
        .fails(125)
        .says(&["is paused, unpause the container before exec"]);
    host.run("attach x1")
        .fails(1)
        .says(&["You cannot attach to a paused container, unpause it first"]);
    host.run("start x1")
        .fails(1)
        .says(&["cannot start a paused container, try unpause instead"]);
    host.run("rm x1").fails(1);
    assert_eq!(host.text("unpause x1"), "x1");
    assert_eq!(host.status("x1"), "running");
    crate::support::wait_until("it goes on", || ticks(&host) > after);
    host.run("unpause x1").fails(1).says(&["is not paused"]);
    host.run("pause none").fails(1).says(&["No such container: none"]);
    host.run("kill x1").ok();
    host.run("pause x1").fails(1).says(&["is not running"]);
}

#[test]
fn a_paused_container_can_be_ended() {
    let host = Host::new();
    for (name, end, code) in [("x1", "stop", "3"), ("x2", "kill", "137"), ("x3", "restart -t 5", "")] {
        host.detached(name, "", "trap 15 3");
        host.wait_log(name, "ready");
        let pid = host.init_pid(name);
        host.text(format!("pause {name}"));
        host.run(format!("{end} {name}")).ok();
        if code.is_empty() {
            assert_eq!(host.status(name), "running");
        } else {
            assert_eq!(host.text(format!("wait {name}")), code);
        }
        assert!(!alive(pid));
    }
    host.detached("x4", "--rm", "block 0");
    host.text("pause x4");
    host.run("rm -f x4 x3").ok();
    assert_eq!(host.text("ps -q"), "");
}

#[test]
fn a_container_gets_another_name() {
    let host = Host::new();
    host.detached("x1", "", "block 0");
    let id = host.id("x1");
    host.run("rename x1 y1").ok();
    assert_eq!(host.id("y1"), id);
    host.run("inspect x1").fails(1);
    host.run("create --name x1 tiny /tiny exit 0").ok();
    host.run("rename x1 y1")
        .fails(1)
        .says(&["is already in use by container"]);
    host.run("rename x1 x1")
        .fails(1)
        .says(&["same name as its current name"]);
    host.run("rename x1 /z/1")
        .fails(125)
        .says(&["Invalid container name (z/1)"]);
    host.run("rename none z1").fails(1).says(&["No such container: none"]);
    // Also a container that goes by itself takes its new name along.
    host.detached("a1", "--rm", "block 0");
    host.run("rename a1 a2").ok();
    host.run("kill a2").ok();
    crate::support::wait_until("the container to go", || host.run("container exists a2").code == 1);
    host.run("run --rm --name a2 tiny /tiny exit 0").ok();
}

#[test]
fn top_shows_the_processes_of_one_container() {
    let host = Host::busybox();
    let line = "sleep 601 & exec sleep 602";
    host.run(["run", "-d", "--name", "x1", "busybox", "sh", "-c", line])
        .ok();
    host.run("run -d --name x2 busybox sleep 603").ok();
    crate::support::wait_until("both processes", || {
        host.run("top x1").ok().text().contains("sleep 601")
    });
    let lines = host.run("top x1").ok().lines();
    let titles: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(titles, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines.iter().any(|l| l.ends_with("sleep 601")) && lines.iter().any(|l| l.ends_with("sleep 602")));
    let first: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!((first[0], first[1].parse()), ("root", Ok(host.init_pid("x1"))));
    let by_ps = host.run("top x1 -o pid,args").ok().lines();
    assert_eq!(by_ps.len(), 3, "{by_ps:?}");
    host.run("top x1 -o args")
        .fails(125)
        .says(&["Couldn't find PID field in ps output"]);
    host.run("top x1 --nonsense").fails(1).says(&["ps: "]);
    host.run("kill x1").ok();
    host.run("top x1").fails(1).says(&["is not running"]);
}

#[test]
fn stats_are_of_what_runs() {
    let host = Host::new();
    host.detached("x1", "-m 64m", "block 0");
    host.run("create --name x2 tiny /tiny exit 0").ok();
    let lines = host
        .run(["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}"])
        .ok()
        .lines();
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].starts_with("x1 1 ") && lines[0].ends_with(" / 64MiB"),
        "{lines:?}"
    );
    let lines = host.run("stats --no-stream --format {{.Name}} -a").ok().lines();
    assert_eq!(lines, ["x2", "x1"]);
    let json: serde_json::Value = serde_json::from_str(&host.text("stats --no-stream --format json x1")).unwrap();
    assert_eq!(json["ID"], host.id("x1")[..12]);
    for field in ["CPUPerc", "MemPerc", "NetIO", "BlockIO"] {
        assert!(!json[field].as_str().unwrap().is_empty(), "{field}");
    }
    host.run("stats --no-stream none")
        .fails(1)
        .says(&["No such container: none"]);
    assert_eq!(json["Container"], "x1", "as it was typed");
    host.run("stats -i 0 x1").fails(125).says(&["--interval"]);
    // Again and again, until it is told to stop.
    let client = host.barge("stats x1").spawn();
    client.wait_for("x1");
    client.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(client.wait().code, 143);
    // What is removed goes out of the table, and with the last one the table ends.
    let client = host.barge("stats --no-reset x1 x2").spawn();
    client.wait_for("x2");
    host.run("rm -f x1 x2").ok();
    let ended = client.wait();
    assert_eq!((ended.code, ended.err()), (0, String::new()));
}

#[test]
fn limits_change_while_it_runs() {
    let host = Host::new();
    host.detached("x1", "-m 64m", "block 0");
    let limit = |host: &Host| host.text("stats --no-stream --format {{.MemUsage}} x1");
    assert_eq!(host.text("update -m 128m --restart always x1"), "x1");
    assert!(limit(&host).ends_with("/ 128MiB"));
    // Down again, which needs the other order of v1's two limits.
    host.text("update -m 32m --cpu-shares 512 --pids-limit 50 x1");
    assert!(limit(&host).ends_with("/ 32MiB"));
    let fields = "{{.HostConfig.Memory}} {{.HostConfig.CpuShares}} {{.HostConfig.RestartPolicy.Name}}";
    assert_eq!(host.text(["inspect", "-f", fields, "x1"]), "33554432 512 always");
    // The new policy holds for the run that is on.
    let pid = host.init_pid("x1");
    crate::support::kill(pid, nix::sys::signal::Signal::SIGKILL);
    crate::support::wait_until("it is started again", || {
        host.status("x1") == "running" && host.init_pid("x1") != pid
    });
    assert!(limit(&host).ends_with("/ 32MiB"));
    host.text("update --restart no x1");
    host.text("stop -t 0 x1");
    host.text("update -m 16m x1");
    host.run("update x1")
        .fails(125)
        .says(&["You must provide one or more flags"]);
    host.run("update -m 1k x1").fails(1).says(&["Memory limit"]);
    host.run("update -m 32m none x1")
        .fails(1)
        .says(&["No such container: none"]);
    assert_eq!(host.text("inspect -f {{.HostConfig.Memory}} x1"), "33554432");
    host.detached("x2", "--rm", "block 0");
    host.run("update --restart always x2")
        .fails(1)
        .says(&["AutoRemove is enabled"]);
}

#[test]
fn what_nobody_uses_goes() {
    let host = Host::new();
    host.detached("runs", "-v used:/u", "block 0");
    host.run("run --name old --label app=web -v /data tiny /tiny write /f 0123456789")
        .ok();
    host.run("create --name new tiny /tiny exit 0").ok();
    for name in ["used", "free"] {
        host.text(format!("volume create {name}"));
    }
    let asked = host.barge("container prune").stdin(b"n\n").run().ok();
    assert!(
        asked
            .text()
            .contains("WARNING! This will remove all stopped containers.\n")
    );
    assert_eq!(host.run("ps -aq").ok().lines().len(), 3);
    let id = host.id("old");
    let gone = host.run("container prune -f --filter label=app").ok();
    assert_eq!(
        gone.text(),
        format!("Deleted Containers:\n{id}\n\nTotal reclaimed space: 10B")
    );
    let gone = host.barge("container prune").stdin(b"y\n").run().ok();
    assert!(gone.text().ends_with("Total reclaimed space: 0B"));
    assert_eq!(host.text("ps -a --format {{.Names}}"), "runs");
    // The nameless volume of the container that went, and nothing with a name.
    let gone = host.run("volume prune -f").ok().lines();
    assert_eq!(
        (gone.len(), gone[0].as_str(), gone[1].len()),
        (4, "Deleted Volumes:", 64)
    );
    let gone = host.run("volume prune -f -a --filter label!=keep").ok().lines();
    assert_eq!(gone[1], "free");
    assert_eq!(host.text("volume ls -q"), "used");
    host.run("container prune -f --filter colour=red")
        .fails(125)
        .says(&["invalid filter 'colour=red'"]);
    host.run("container exists runs").ok();
    host.run("container exists none").fails(1);
    host.run("volume exists used").ok();
    host.run("volume exists none").fails(1);
}

#[test]
fn a_rename_that_was_killed_can_be_done_again() {
    let host = Host::new();
    host.run("create --name x1 tiny /tiny exit 0").ok();
    let killed = host.barge("rename x1 y1").env("BARGE_STOP_AT", "rename-claimed").run();
    assert_ne!(killed.code, 0);
    assert_eq!(host.id("x1"), host.id("y1"));
    host.run("rename x1 y1").ok();
    host.run("container exists x1").fails(1);
    host.run("rm y1").ok();
    host.run("create --name x1 tiny /tiny exit 0").ok();
    let names = fs::read_dir(host.root.join("names")).unwrap().count();
    assert_eq!(names, 1);
}
