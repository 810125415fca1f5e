//! What surrounds a program besides its files: namespaces shared with others, kernel parameters, groups, masks, time.

use crate::support::{Host, seconds, wait_until};
use std::fs;
use std::time::Instant;

#[test]
fn namespaces_of_another_container() {
    let host = Host::busybox();
    host.run("run -d --name a busybox sleep 600").ok();
    host.run(["exec", "a", "sh", "-c", "echo shared >/dev/shm/x"]).ok();
    let script = "cat /dev/shm/x; ps; hostname";
    let seen = host
        .run([
            "run",
            "--rm",
            "--ipc",
            "container:a",
            "--pid",
            "container:a",
            "--uts",
            "container:a",
            "busybox",
            "sh",
            "-c",
            script,
        ])
        .ok()
        .text();
    assert!(seen.starts_with("shared\n") && seen.contains("sleep 600"), "{seen}");
    assert!(seen.ends_with(&host.id("a")[..12]), "{seen}");
    // Started again by its policy it is among them again.
    let line = "run -d --name b --restart on-failure:2 --pid container:a busybox sh -c";
    let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    words.push("ps | grep -c 'sleep 60[0]'; exit 1".to_owned());
    host.run(words).ok();
    wait_until("three runs", || host.run("logs b").ok().lines().len() == 3);
    assert_eq!(host.run("logs b").ok().lines(), ["1", "1", "1"]);
    host.run("kill a").ok();
    host.run("run --rm --ipc container:a busybox true")
        .fails(125)
        .says(&["it is not running"]);
    host.run("run --rm --pid container:none busybox true")
        .fails(125)
        .says(&["No such container: none"]);
}

#[test]
fn namespaces_of_the_host() {
    let host = Host::busybox();
    let own = |kind: &str| {
        fs::read_link(format!("/proc/self/ns/{kind}"))
            .unwrap()
            .display()
            .to_string()
    };
    let links = "for n in ipc pid uts cgroup; do readlink /proc/self/ns/$n; done";
    let shared = host
        .run([
            "run",
            "--rm",
            "--ipc=host",
            "--pid=host",
            "--uts=host",
            "--cgroupns=host",
            "busybox",
            "sh",
            "-c",
            links,
        ])
        .ok()
        .lines();
    assert_eq!(shared, ["ipc", "pid", "uts", "cgroup"].map(own));
    let private = host.run(["run", "--rm", "busybox", "sh", "-c", links]).ok().lines();
    assert!(private.iter().all(|p| !shared.contains(p)), "{private:?}");
    host.run("run --rm --ipc none busybox grep /dev/shm /proc/mounts")
        .fails(1);
    host.run("run --rm --init --pid host busybox sh -c true").ok();
    for bad in ["--pid foo", "--ipc container:", "--uts shareable", "--cgroupns mine"] {
        host.run(format!("run --rm {bad} busybox true"))
            .fails(125)
            .says(&["invalid mode"]);
    }
    host.run("run --rm --uts host -h x busybox true")
        .fails(125)
        .says(&["conflicting options: hostname and the UTS mode"]);
}

#[test]
fn kernel_parameters_of_its_own() {
    let host = Host::busybox();
    let read =
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_unprivileged_port_start";
    let flags = ["--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.msgmax=4096"];
    let line: Vec<&str> = ["run", "--rm", "--net=none"]
        .into_iter()
        .chain(flags)
        .chain(["busybox", "sh", "-c", read])
        .collect();
    assert_eq!(host.run(line).ok().lines(), ["1", "4096", "0"]);
    for (bad, why) in [
        ("kernel.panic=1", "it is the whole machine's"),
        ("net.nope=1", "this kernel has no such parameter"),
        ("net.ipv4.ip_forward", "want NAME=VALUE"),
        ("net.../../kernel.panic=1", "is not allowed"),
        ("net.ipv4.ip_forward=x", "invalid argument"),
    ] {
        host.run(["run", "--rm", "--sysctl", bad, "busybox", "true"])
            .fails(125)
            .says(&[why]);
    }
    host.run("run --rm --net host --sysctl net.ipv4.ip_forward=1 busybox true")
        .fails(125)
        .says(&["with the host's network"]);
}

#[test]
fn groups_masks_and_scores() {
    let host = Host::new();
    host.detached(
        "x1",
        "--group-add 44 --group-add 4000 --umask 0077 --oom-score-adj 321",
        "block 0",
    );
    let status = host.text("exec x1 /tiny status Groups Umask");
    assert!(status.contains("44 4000") && status.contains("0077"), "{status}");
    let pid = host.init_pid("x1");
    assert_eq!(
        fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap(),
        "321\n"
    );
    for (bad, why) in [
        ("--group-add nobodys", "unable to find group nobodys"),
        ("--group-add keep-groups", "no groups to keep"),
        ("--umask 8", "invalid umask '8'"),
        ("--umask 1000", "invalid umask '1000'"),
        ("--oom-score-adj 1001", "[-1000, 1000]"),
    ] {
        host.tiny(bad, "exit 0").fails(125).says(&[why]);
    }
}

#[test]
fn its_time_is_limited() {
    let host = Host::new();
    let started = Instant::now();
    host.tiny("--timeout 1", "block 0").fails(137);
    assert!(started.elapsed() >= std::time::Duration::from_secs(1) && started.elapsed() < seconds(10));
    host.tiny("--timeout 60", "exit 4").fails(4);
}

#[test]
fn a_pid_file_is_there_while_it_runs() {
    let host = Host::new();
    let file = host.scratch().join("pid");
    host.detached("x1", format!("--pidfile {}", file.display()), "block 0");
    let pid: i32 = fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    assert_eq!(pid, host.init_pid("x1"));
    host.text("stop -t 0 x1");
    assert!(!file.exists());
    host.tiny("--pidfile /none/where/pid", "exit 0")
        .fails(125)
        .says(&["write pid file /none/where/pid"]);
}

#[test]
fn a_name_is_taken_over() {
    let host = Host::new();
    let old = host.detached("x1", "", "block 0");
    let new = host.detached("x1", "--replace", "block 0");
    assert_ne!(old, new);
    assert_eq!(host.run("ps -aq --no-trunc").ok().lines(), [new]);
    host.run("create --replace --name y1 tiny /tiny exit 0").ok();
    // An image that is not there takes nothing away.
    host.run("run --replace --pull never --name y1 nothing true").fails(125);
    assert_eq!(host.status("y1"), "created");
}

#[test]
fn the_caller_s_environment_and_time_zone() {
    let host = Host::busybox();
    let env = host
        .barge("run --rm --env-host --unsetenv HOSTNAME -e B=2 busybox env")
        .env("A_OF_CALLER", "1")
        .run()
        .ok()
        .lines();
    assert!(env.contains(&"A_OF_CALLER=1".to_owned()) && env.contains(&"B=2".to_owned()));
    assert!(!env.iter().any(|l| l.starts_with("HOSTNAME=")), "{env:?}");
    assert_eq!(host.text("run --rm --annotation a.b=c busybox true"), "");
    let zone = host.run("run --rm --tz Asia/Tokyo busybox date +%z").ok().text();
    assert_eq!(zone.trim(), "+0900");
    for (bad, why) in [
        ("../x", "invalid time zone '../x'"),
        ("No/Where", "unknown time zone 'No/Where'"),
    ] {
        host.run(["run", "--rm", "--tz", bad, "busybox", "true"])
            .fails(125)
            .says(&[why]);
    }
}
