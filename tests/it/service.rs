//! A container as a service: notifications, passed sockets, control groups by flag, boot and shutdown, units and
//! updates. What needs systemd itself is in tests/vm/units.

use crate::support::{Host, contains, seconds, tiny_tar, wait_until};
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

/// A service manager that only listens.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(host: &Host) -> Manager {
        let path = host.scratch().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(seconds(30))).unwrap();
        Manager { socket, path }
    }

    fn hears(&self) -> String {
        let mut buffer = [0; 4096];
        let n = self.socket.recv(&mut buffer).expect("a notification");
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    }

    fn hears_nothing(&self) {
        self.socket.set_nonblocking(true).unwrap();
        let mut buffer = [0; 4096];
        let heard = self.socket.recv(&mut buffer);
        assert!(
            heard.is_err(),
            "{:?}",
            heard.map(|n| String::from_utf8_lossy(&buffer[..n]).into_owned())
        );
        self.socket.set_nonblocking(false).unwrap();
    }
}

#[test]
fn the_program_tells_the_service_manager_that_it_is_ready() {
    let host = Host::new();
    let manager = Manager::new(&host);
    let line = "run -d --name x1 --net none --user 1:1 tiny /tiny service 1";
    let id = host
        .barge(line)
        .env("NOTIFY_SOCKET", &manager.path)
        .env("WATCHDOG_USEC", "200000")
        .run()
        .ok()
        .text();
    assert_eq!(manager.hears(), format!("MAINPID={}", host.monitor_pid("x1")));
    assert_eq!(manager.hears(), "READY=1\nSTATUS=tiny is there");
    assert_eq!(manager.hears(), "WATCHDOG=1");
    let env = host.text("exec x1 /tiny env");
    assert!(!env.contains("NOTIFY_SOCKET"), "{env}");
    host.text("stop x1");
    assert_eq!(manager.hears(), "STOPPING=1");
    manager.hears_nothing();
    // The next start is nobody's service.
    host.text("start x1");
    host.wait_log("x1", "ready");
    manager.hears_nothing();
    assert_eq!(host.id("x1"), id);
}

#[test]
fn the_monitor_tells_it_or_nobody_does() {
    let host = Host::new();
    let manager = Manager::new(&host);
    let run = |name: &str, flags: &str| {
        let line = format!("run -d --name {name} --net none {flags} tiny /tiny service");
        host.barge(line).env("NOTIFY_SOCKET", &manager.path).run().ok();
    };
    run("x1", "--sdnotify=monitor");
    assert_eq!(manager.hears(), format!("MAINPID={}", host.monitor_pid("x1")));
    assert_eq!(manager.hears(), "READY=1");
    // A unit that stops it tells the monitor.
    crate::support::kill(host.monitor_pid("x1"), nix::sys::signal::Signal::SIGTERM);
    assert_eq!(manager.hears(), "STOPPING=1");
    wait_until("the end", || host.status("x1") == "exited");
    run("x2", "--sdnotify=ignore");
    manager.hears_nothing();
    run("x3", "--sdnotify=healthy --health-cmd=/tiny --health-interval=1s");
    assert_eq!(manager.hears(), format!("MAINPID={}", host.monitor_pid("x3")));
    host.run("run --sdnotify=sometimes tiny")
        .fails(125)
        .says(&["invalid value 'sometimes'"]);
}

#[test]
fn sockets_of_a_service_manager_are_passed_on() {
    let host = Host::new();
    let file = host.scratch().join("passed");
    fs::write(&file, "").unwrap();
    // The pid is the shell's, which becomes the engine.
    let prefix = r#"exec 3<"$0" 4<"$0"; export LISTEN_FDS=2 LISTEN_FDNAMES=web:admin LISTEN_PID=$$; exec "$@""#;
    for flags in ["", "--init", "--pid host"] {
        let line = format!("run --rm --net none {flags} tiny /tiny env");
        let prefix = ["sh", "-c", prefix, file.to_str().unwrap()];
        let env = host.barge(line).wrapped(prefix).run().ok().text();
        assert!(
            env.contains("LISTEN_FDS=2\n") && env.contains("LISTEN_FDNAMES=web:admin"),
            "{env}"
        );
        let pid = env.lines().find_map(|l| l.strip_prefix("LISTEN_PID=")).unwrap();
        match flags {
            "" => assert_eq!(pid, "1"),
            "--init" => assert_eq!(pid, "2"),
            _ => assert!(pid.parse::<i32>().unwrap() > 2),
        }
    }
    let prefix = ["sh", "-c", prefix, file.to_str().unwrap()];
    let fds = host
        .barge("run --rm --net none tiny /tiny fds")
        .wrapped(prefix)
        .run()
        .ok();
    let numbers: Vec<_> = fds
        .lines()
        .iter()
        .filter_map(|l| l.split(' ').next().map(str::to_owned))
        .collect();
    assert_eq!(numbers, ["0", "1", "2", "3", "4"], "{:?}", fds.lines());
    // What was meant for another process is left alone.
    let env = host
        .barge("run --rm --net none tiny /tiny env")
        .env("LISTEN_FDS", "1")
        .env("LISTEN_PID", "1")
        .run();
    assert!(!env.ok().text().contains("LISTEN_"));
}

#[test]
fn control_groups_by_flag() {
    let host = Host::new();
    let parent = format!("{}-p", host.instance);
    host.text(format!(
        "run -d --name x1 --net none --cgroup-parent /{parent}/deep tiny /tiny service"
    ));
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", host.init_pid("x1"))).unwrap();
    assert!(
        groups.contains(&format!("/{parent}/deep/{}-{}", host.instance, host.id("x1"))),
        "{groups}"
    );
    let monitor = fs::read_to_string(format!("/proc/{}/cgroup", host.monitor_pid("x1"))).unwrap();
    assert!(monitor.lines().all(|l| l.ends_with(":/")), "{monitor}");
    assert!(host.text("stats --no-stream x1").contains("x1"));
    host.text("rm -f x1");
    // The groups above were named by a person, and are that person's.
    for line in groups.lines() {
        let names = line.split(':').nth(1).unwrap();
        let directory = names.strip_prefix("name=").unwrap_or(names);
        for base in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
            for group in [
                format!("{base}/{directory}/{parent}/deep"),
                format!("{base}/{directory}/{parent}"),
            ] {
                let _ = fs::remove_dir(group);
            }
        }
    }
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let out = host
        .run("run --rm --net none --cgroups=disabled --cgroupns host tiny /tiny cat /proc/self/cgroup")
        .ok();
    assert!(!out.text().contains(&host.instance), "{} {own}", out.text());
    for (flags, says) in [
        ("--cgroup-parent ../x", "invalid value"),
        ("--cgroup-parent a--b.slice", "invalid value"),
        ("--cgroups=many", "invalid value 'many'"),
    ] {
        host.run(format!("run --rm {flags} tiny")).fails(125).says(&[says]);
    }
}

#[test]
fn the_pid_file_of_a_monitor() {
    let host = Host::new();
    let file = host.scratch().join("monitor.pid");
    host.text(format!(
        "run -d --name x1 --net none --monitor-pidfile {} tiny /tiny service",
        file.display()
    ));
    assert_eq!(
        fs::read_to_string(&file).unwrap().trim(),
        host.monitor_pid("x1").to_string()
    );
    host.text("stop x1");
    wait_until("the file to go", || !file.exists());
}

#[test]
fn a_shutdown_and_a_boot() {
    let host = Host::new();
    let bound = host.scratch().join("bound");
    fs::create_dir(&bound).unwrap();
    let deaf = format!(
        "--restart always --stop-timeout 0 --mount type=bind,source={},target=/x",
        bound.display()
    );
    for (name, flags) in [
        ("first", "--restart always"),
        ("second", "--restart unless-stopped --net container:first"),
        ("stopped", "--restart unless-stopped"),
        ("plain", ""),
        ("deaf", deaf.as_str()),
    ] {
        let net = if flags.contains("--net") { "" } else { "--net none" };
        host.text(format!("run -d --name {name} {net} {flags} tiny /tiny service"));
    }
    host.text("create --name never --restart always tiny /tiny service");
    host.text("stop stopped");
    let mut ended = host.run("system stop").ok().lines();
    let at = |list: &[String], name: &str| list.iter().position(|n| n == name).unwrap();
    assert!(at(&ended, "second") < at(&ended, "first"), "{ended:?}");
    ended.sort();
    assert_eq!(ended, ["deaf", "first", "plain", "second"]);
    assert_eq!(host.text("ps -q"), "");
    assert!(host.text("logs first").ends_with("terminated"));
    let mut begun = host.run("system start").ok().lines();
    assert!(at(&begun, "first") < at(&begun, "second"), "{begun:?}");
    begun.sort();
    assert_eq!(begun, ["deaf", "first", "second"]);
    assert_eq!(host.run("system start").ok().text(), "", "what runs needs no start");
    // One that can't start holds up no other.
    host.text("system stop");
    fs::remove_dir(&bound).unwrap();
    let out = host.run("system start").fails(1);
    assert!(
        contains(&out.stderr, b"deaf") && out.lines().len() == 2,
        "{:?}",
        out.lines()
    );
}

#[test]
fn one_that_waits_for_health_holds_up_nobody_at_boot() {
    let host = Host::busybox();
    let run = |name: &str, flags: &[&str]| {
        let first = ["run", "-d", "--net", "none", "--restart", "always", "--name", name];
        let all = [&first, flags, &["busybox", "sleep", "1000"]].concat();
        host.run(all).ok();
    };
    let check = [
        "--health-cmd",
        "test -e /run/ok",
        "--health-interval",
        "50ms",
        "--health-retries",
        "10000",
    ];
    run("slow", &[&check[..], &["--tmpfs", "/run"]].concat());
    host.run("exec slow touch /run/ok").ok();
    run("web", &["--requires", "slow:healthy"]);
    run("other", &[]);
    host.run("system stop").ok();
    assert_eq!(host.text("ps -q"), "");
    let boot = host.barge("system start").spawn();
    wait_until("the other one to run", || host.status("other") == "running");
    wait_until("the slow one to run", || host.status("slow") == "running");
    assert_eq!(host.status("web"), "exited");
    host.run("exec slow touch /run/ok").ok();
    // Those that wait for nobody are told as they come.
    let mut started = boot.wait().ok().lines();
    assert_eq!(started.pop().as_deref(), Some("web"));
    started.sort();
    assert_eq!(started, ["other", "slow"]);
    assert_eq!(host.status("web"), "running");
    host.text("rm -f web other slow");
}

#[test]
fn a_unit_is_written_from_a_container() {
    let host = Host::new();
    host.barge([
        "create",
        "--name",
        "web",
        "-l",
        "a=b $c %d",
        "--restart=always",
        "-p",
        "8080:80",
        "tiny",
        "/tiny",
        "exit",
        "0",
    ])
    .run()
    .ok();
    let unit = host.text("generate systemd --new --name web --requires db.service --restart-policy always -t 5");
    for line in [
        "Requires=db.service",
        "Restart=always",
        "TimeoutStopSec=65",
        "Type=notify",
        "Delegate=yes",
        "KillMode=mixed",
        "WantedBy=multi-user.target",
    ] {
        assert!(unit.lines().any(|l| l == line), "{line}: {unit}");
    }
    let start = unit.lines().find(|l| l.starts_with("ExecStart=")).unwrap();
    for word in [
        " run --detach --replace --rm --name=web --stop-timeout=5 --sdnotify=monitor",
        "\"--label=a=b $$c %%d\"",
        "--publish=8080:80",
        " tiny /tiny exit 0",
    ] {
        assert!(start.contains(word), "{word}: {start}");
    }
    assert!(!start.contains("--restart"), "{start}");
    let unit = host.text("generate systemd web");
    assert!(unit.contains(&format!(" start {}", host.id("web"))), "{unit}");
    let scratch = host.scratch();
    let path = host
        .barge("generate systemd -f -n --separator _ web")
        .dir(&scratch)
        .run()
        .ok()
        .text();
    assert_eq!(path, scratch.join("container_web.service").to_str().unwrap());
    assert!(fs::read_to_string(path).unwrap().contains(" start web"));
    host.run("generate systemd --restart-policy never web")
        .fails(125)
        .says(&["invalid restart policy"]);
    host.run("generate systemd --after db web")
        .fails(125)
        .says(&["invalid unit"]);
}

#[test]
fn containers_are_updated_and_taken_back() {
    let host = Host::new();
    host.text("run -d --name web --net none --label barge.autoupdate=local --label x=y tiny /tiny service");
    host.text("run -d --name other --net none tiny /tiny service");
    let before = host.text("inspect -f {{.Image}} web");
    assert!(host.text("auto-update").contains("false"));
    let newer = |command: &str, tar: &[u8]| {
        host.barge(["import", "-c", command, "-", "tiny"]).stdin(tar).run().ok();
    };
    newer(r#"CMD ["/tiny", "env"]"#, &tiny_tar());
    assert!(host.text("auto-update --dry-run").contains("pending"));
    assert_eq!(host.text("inspect -f {{.Image}} web"), before);
    assert_eq!(
        host.text(["auto-update", "--format", "{{.ContainerName}} {{.Updated}}"]),
        "web true"
    );
    let after = host.text("inspect -f {{.Image}} web");
    assert_ne!(after, before);
    assert_eq!(host.text("inspect -f {{.Config.Labels.x}} web"), "y");
    assert_eq!(host.text("inspect -f {{.Image}} other"), before);
    // An image in which nothing can run.
    newer("LABEL empty=yes", &[0; 1024]);
    let out = host
        .run([
            "auto-update",
            "--rollback=false",
            "--format",
            "{{.ContainerName}} {{.Updated}}",
        ])
        .fails(1)
        .says(&["update web: "]);
    assert_eq!(out.text(), "web failed", "{}", out.err());
    assert_eq!(host.text("inspect -f {{.Image}} web"), after);
    let out = host
        .run(["auto-update", "--format", "{{.ContainerName}} {{.Updated}}"])
        .fails(1);
    assert_eq!(out.text(), "web rolled back", "{}", out.err());
    assert_eq!(host.text("inspect -f {{.Image}} web"), after);
    assert_eq!(host.status("web"), "running");
    assert_eq!(host.run("ps -aq").ok().lines().len(), 2);
    assert!(
        host.text("auto-update").contains("false"),
        "the name stands for the old image again"
    );
}

#[test]
fn the_journal_has_to_be_there() {
    if std::path::Path::new("/run/systemd/journal/socket").exists() {
        return crate::support::skip("this machine has a journal: tests/vm/units looks at it");
    }
    let host = Host::new();
    let out = host
        .run("run --rm --net none --log-driver journald tiny /tiny exit 0")
        .fails(125);
    out.says(&["journald", "no such file"]);
    host.run("run --log-driver journald --log-opt tag={{.Nonsense}} tiny")
        .fails(125)
        .says(&["Nonsense"]);
}
