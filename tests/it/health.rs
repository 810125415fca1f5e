//! Health checks by the monitor: states, history, actions, what they leave (nothing), and who waits for them.

use crate::support::{Host, alive, kill, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

fn health(host: &Host, name: &str) -> Value {
    let text = host.text(["inspect", "-f", "{{json .State.Health}}", name]);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn wait_for(host: &Host, name: &str, status: &str) {
    wait_until(&format!("{name} to be {status}"), || {
        health(host, name)["Status"] == status
    });
}

fn start(host: &Host, name: &str, flags: &[&str]) {
    let mut line = vec!["run", "-d", "--net", "none", "--name", name];
    line.extend(flags);
    line.extend(["busybox", "sleep", "1000"]);
    host.run(line).ok();
}

#[test]
fn a_container_becomes_unhealthy_and_healthy_again() {
    let host = Host::busybox();
    start(
        &host,
        "h1",
        &[
            "--health-cmd",
            "echo asked $HOME; test -e /ok",
            "--health-interval",
            "100ms",
            "--health-retries",
            "2",
            "--health-start-period",
            "1ms",
        ],
    );
    wait_for(&host, "h1", "unhealthy");
    assert!(host.status("h1") == "running");
    assert!(host.text("ps --format {{.Status}}").ends_with("(unhealthy)"));
    assert_eq!(host.text("ps -q --filter health=healthy"), "");
    let state = health(&host, "h1");
    let last = state["Log"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (&last["ExitCode"], &last["Output"]),
        (&1.into(), &"asked /root\n".into()),
        "{state}"
    );
    assert!(state["FailingStreak"].as_u64().unwrap() >= 2);
    host.run("healthcheck run h1").fails(1);
    host.run("exec h1 touch /ok").ok();
    host.run("healthcheck run h1").ok();
    assert_eq!(health(&host, "h1")["FailingStreak"], 0);
    assert_eq!(host.text("ps -q --filter health=healthy").len(), 12);
    wait_until("five results", || {
        health(&host, "h1")["Log"].as_array().unwrap().len() == 5
    });
    let check = host.text(["inspect", "-f", "{{json .Config.Healthcheck}}", "h1"]);
    assert!(check.starts_with(r#"{"Test":["CMD-SHELL","echo asked"#), "{check}");
    // What was known stays, and a restart begins anew.
    host.text("kill h1");
    assert_eq!(health(&host, "h1")["Status"], "healthy");
    host.run("start h1").ok();
    wait_for(&host, "h1", "healthy");
    let events = host.text("events --no-stream --filter event=health_status --format {{.Action}}");
    let first: Vec<_> = events.lines().take(2).collect();
    assert_eq!(
        first,
        ["health_status: unhealthy", "health_status: healthy"],
        "{events}"
    );
    host.text("rm -f h1");
}

#[test]
fn of_an_image_and_none_of_it() {
    let host = Host::busybox();
    host.run([
        "import",
        "-c",
        "HEALTHCHECK --interval=50ms --retries=1 CMD false",
        "/dev/null",
        "x",
    ]);
    host.run(["run", "--name", "c1", "busybox", "true"]).ok();
    host.run([
        "commit",
        "-c",
        r#"HEALTHCHECK --interval=50ms --retries=1 CMD ["false"]"#,
        "c1",
        "sick",
    ])
    .ok();
    host.run("run -d --net none --name h1 sick sleep 1000").ok();
    wait_for(&host, "h1", "unhealthy");
    host.run("run -d --net none --no-healthcheck --name h2 sick sleep 1000")
        .ok();
    assert_eq!(health(&host, "h2"), Value::Null);
    host.run("healthcheck run h2")
        .fails(125)
        .says(&["has no defined healthcheck"]);
    host.run("run -d --net none --health-cmd true --name h3 sick sleep 1000")
        .ok();
    wait_for(&host, "h3", "healthy");
    host.run("run --no-healthcheck --health-cmd true busybox true")
        .fails(125);
    host.text("rm -f h1 h2 h3");
}

#[test]
fn too_slow_a_check_is_ended_with_all_it_has_started() {
    let host = Host::busybox();
    start(
        &host,
        "h1",
        &[
            "--health-cmd",
            "setsid sleep 777 & sleep 778",
            "--health-interval",
            "50ms",
            "--health-timeout",
            "300ms",
            "--health-retries",
            "1",
        ],
    );
    wait_for(&host, "h1", "unhealthy");
    let result = health(&host, "h1")["Log"][0].clone();
    assert_eq!(result["ExitCode"], -1);
    assert!(
        result["Output"]
            .as_str()
            .unwrap()
            .starts_with("Health check exceeded timeout (300ms)"),
        "{result}"
    );
    // Another one may be under way: of those that are over, nobody is left.
    host.run(["exec", "h1", "sh", "-c", "test $(ps | grep -c 'sleep 77[7]') -le 1"])
        .ok();
    host.text("rm -f h1");
}

#[test]
fn output_is_bounded_and_a_talker_blocks_nobody() {
    let host = Host::busybox();
    start(
        &host,
        "h1",
        &["--health-cmd", "yes | head -c 3000000", "--health-interval", "50ms"],
    );
    wait_for(&host, "h1", "healthy");
    let output = health(&host, "h1")["Log"][0]["Output"].as_str().unwrap().to_owned();
    assert_eq!(output.len(), 4096 + 3);
    assert!(output.ends_with("..."));
    host.text("rm -f h1");
}

#[test]
fn what_is_paused_is_not_asked() {
    let host = Host::busybox();
    start(
        &host,
        "h1",
        &["--health-cmd", "echo x >> /asked", "--health-interval", "50ms"],
    );
    wait_for(&host, "h1", "healthy");
    host.run("pause h1").ok();
    let asked = || {
        std::fs::metadata(host.root.join(format!("containers/{}/upper/asked", host.id("h1")))).map_or(0, |m| m.len())
    };
    let before = asked();
    host.run("healthcheck run h1").fails(125).says(&["is paused"]);
    // The monitor answers meanwhile.
    host.run("logs h1").ok();
    assert!(asked() <= before + 2, "{} {before}", asked());
    assert_eq!(health(&host, "h1")["Status"], "healthy");
    host.run("unpause h1").ok();
    wait_until("to be asked again", || asked() > before + 2);
    host.text("rm -f h1");
}

#[test]
fn what_becomes_of_the_unhealthy() {
    let host = Host::busybox();
    let sick = [
        "--health-cmd",
        "false",
        "--health-interval",
        "50ms",
        "--health-retries",
        "1",
    ];
    let with = |action: &'static str| [&sick[..], &["--health-on-failure", action, "--stop-timeout", "0"]].concat();
    start(&host, "killed", &with("kill"));
    start(&host, "stopped", &with("stop"));
    start(&host, "again", &with("restart"));
    for name in ["killed", "stopped"] {
        wait_until(&format!("{name} to end"), || host.status(name) == "exited");
        assert_eq!(health(&host, name)["Status"], "unhealthy");
    }
    wait_until("two restarts", || {
        host.text("inspect -f {{.RestartCount}} again").parse::<u32>().unwrap() >= 2
    });
    host.run("run --health-on-failure kill busybox true")
        .fails(125)
        .says(&["without a health check"]);
    host.text("rm -f killed stopped again");
}

#[test]
fn a_startup_check_comes_first() {
    let host = Host::busybox();
    start(
        &host,
        "h1",
        &[
            "--health-startup-cmd",
            "test -e /up",
            "--health-startup-interval",
            "50ms",
            "--health-cmd",
            "echo regular",
            "--health-interval",
            "50ms",
        ],
    );
    wait_until("a failed start check", || {
        !health(&host, "h1")["Log"].as_array().unwrap().is_empty()
    });
    assert_eq!(health(&host, "h1")["Status"], "starting");
    host.run("exec h1 touch /up").ok();
    wait_for(&host, "h1", "healthy");
    host.text("rm -f h1");
}

#[test]
fn a_monitor_killed_in_a_check_leaves_nothing() {
    let host = Host::busybox();
    for victim in ["monitor", "health"] {
        start(
            &host,
            "h1",
            &[
                "--health-cmd",
                "sleep 779",
                "--health-interval",
                "50ms",
                "--health-retries",
                "1",
            ],
        );
        let id = host.id("h1");
        let title = format!("barge: {victim} {id}");
        let pid = || pid_of(&title);
        let check = format!("barge: health {id}");
        wait_until("the check", || pid_of(&check).is_some());
        wait_until("its program", || host.run("exec h1 ps").text().contains("sleep 779"));
        let killed = pid().unwrap();
        kill(killed, Signal::SIGKILL);
        if victim == "monitor" {
            wait_until("the end", || host.status("h1") == "exited");
        } else {
            // It counts as a failure, and the next one comes.
            wait_for(&host, "h1", "unhealthy");
        }
        assert!(!alive(killed));
        host.text("rm -f h1");
        wait_until("no process of the check", || pid_of(&check).is_none());
    }
}

fn pid_of(title: &str) -> Option<i32> {
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        line.starts_with(title.as_bytes()).then_some(pid)
    })
}

#[test]
fn waiting_for_conditions() {
    let host = Host::busybox();
    start(
        &host,
        "h1",
        &["--health-cmd", "test -e /ok", "--health-interval", "50ms"],
    );
    let healthy = host.barge("wait --condition healthy h1").spawn();
    host.run("exec h1 touch /ok").ok();
    assert_eq!(healthy.wait().ok().text().trim(), "-1");
    assert_eq!(host.text("wait --condition=running h1"), "-1");
    let removed = host.barge("wait --condition removed h1").spawn();
    host.text("rm -f h1");
    assert_eq!(removed.wait().ok().text().trim(), "137");
    host.run("create --name c1 busybox sh -c 'exit 7'");
    host.run(["create", "--name", "c2", "busybox", "sh", "-c", "exit 7"])
        .ok();
    let next = host.barge("wait --condition next-exit c2").spawn();
    let running = host.barge("wait --condition running,stopped c2").spawn();
    assert_eq!(running.wait().ok().text().trim(), "0", "created is not running");
    host.run("start c2").ok();
    assert_eq!(next.wait().ok().text().trim(), "7");
    host.run("wait --condition healthy c2")
        .fails(1)
        .says(&["has no defined healthcheck"]);
    host.run("wait --condition nonsense c2")
        .fails(125)
        .says(&["invalid condition"]);
    start(&host, "dies", &["--health-cmd", "false", "--health-interval", "10s"]);
    let never = host.barge("wait --condition healthy dies").spawn();
    host.text("kill dies");
    never.wait().fails(1).says(&["has exited (137) before it was healthy"]);
    host.text("rm -f dies c2");
    host.run("rm c1");
}

#[test]
fn required_containers_start_first_and_stop_last() {
    let host = Host::busybox();
    host.run(
        "create --net none --name db --stop-timeout 0 --health-cmd true --health-interval 100ms busybox sleep 1000",
    )
    .ok();
    host.run("create --net none --name mid --stop-timeout 0 --requires db:healthy busybox sleep 1000")
        .ok();
    host.run("run -d --net none --name web --stop-timeout 0 --requires mid busybox sleep 1000")
        .ok();
    let order = |action: &str| {
        let filter = format!("event={action}");
        host.text(["events", "--no-stream", "--filter", &filter, "--format", "{{.Name}}"])
            .replace('\n', " ")
    };
    assert_eq!(order("start"), "db mid web");
    assert_eq!(health(&host, "db")["Status"], "healthy");
    host.run("stop db web mid").ok();
    assert_eq!(order("die"), "web mid db");
    host.text("rm -f db");
    host.run("start web").fails(1).says(&["required container"]);
    host.run("run --requires nobody busybox true")
        .fails(125)
        .says(&["required container nobody"]);
    host.text("rm mid web");
    start(
        &host,
        "sick",
        &[
            "--health-cmd",
            "false",
            "--health-interval",
            "100ms",
            "--health-retries",
            "1",
        ],
    );
    host.run("run --net none --requires sick:healthy busybox true")
        .fails(125)
        .says(&["sick, which is required, is unhealthy"]);
    host.text("rm -f sick");
    host.run("container prune -f").ok();
}

#[test]
fn a_service_manager_hears_of_the_healthy_service_alone() {
    let host = Host::busybox();
    let path = host.scratch().join("manager");
    let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    host.run("create --net none --name db --stop-timeout 0 busybox sleep 1000")
        .ok();
    host.run("create --net none --sdnotify healthy busybox true")
        .fails(125)
        .says(&["with a health check"]);
    host.barge(
        "run -d --net none --name web --requires db --sdnotify healthy --health-cmd true --health-interval 100ms \
         busybox sleep 1000",
    )
    .env("NOTIFY_SOCKET", path.to_str().unwrap())
    .run()
    .ok();
    wait_for(&host, "web", "healthy");
    manager
        .set_read_timeout(Some(std::time::Duration::from_secs(20)))
        .unwrap();
    let mut said = Vec::new();
    let mut buffer = [0; 256];
    while said.last().is_none_or(|last| last != "READY=1") {
        let n = manager.recv(&mut buffer).unwrap();
        said.push(String::from_utf8_lossy(&buffer[..n]).into_owned());
    }
    let [pid, ready] = said.as_slice() else {
        panic!("{said:?}")
    };
    assert!(pid.starts_with("MAINPID=") && ready == "READY=1", "{said:?}");
    host.text("rm -f web db");
    std::fs::remove_file(&path).unwrap();
}
