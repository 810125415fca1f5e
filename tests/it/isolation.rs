//! What a container sees, and what it can't reach or keep: namespaces, /proc, /sys, /dev, capabilities, seccomp, and
//! everything a process usually inherits from its caller.

use crate::support::{Host, binary, cgroup_v2, sha2_hex};
use std::collections::BTreeMap;
use std::fs;

/// The 14 of docker, as the kernel prints them.
const DEFAULT_CAPABILITIES: &str = "00000000a80425fb";

fn facts(text: &str) -> BTreeMap<String, String> {
    let split = |line: &str| {
        line.split_once([' ', ':'])
            .map(|(k, v)| (k.to_owned(), v.trim().to_owned()))
    };
    text.lines().filter_map(split).collect()
}

#[test]
fn every_namespace_is_its_own() {
    let host = Host::new();
    let names = ["pid", "mnt", "uts", "ipc", "net", "cgroup"];
    let paths = names.map(|n| format!("/proc/self/ns/{n}"));
    let inside = host.tiny("", format!("link {}", paths.join(" "))).ok().lines();
    for (path, inside) in paths.iter().zip(inside) {
        let ours = path.replace("/self/", "/thread-self/");
        assert_ne!(fs::read_link(ours).unwrap().to_str().unwrap(), inside);
    }
    // --net host shares that one.
    let net = host.tiny("--net host", "link /proc/self/ns/net").ok().text();
    assert_eq!(
        fs::read_link("/proc/thread-self/ns/net").unwrap().to_str().unwrap(),
        net
    );
}

#[test]
fn container_network_is_shared_on_request() {
    let host = Host::new();
    host.detached("owner", "", "block");
    let of_owner = host.text("exec owner /tiny link /proc/self/ns/net");
    assert_eq!(
        host.tiny("--net container:owner", "link /proc/self/ns/net").ok().text(),
        of_owner
    );
    host.tiny("--net container:none", "exit 0").fails(125).says(&["none"]);
}

#[test]
fn loopback_is_up_and_nothing_else() {
    let host = Host::busybox();
    for network in ["-n=false", "--net none"] {
        let links = host.text(format!("run --rm {network} busybox ip -o link"));
        assert_eq!(links.lines().count(), 1, "{links}");
        assert!(links.contains("lo:") && links.contains("UP"), "{links}");
    }
    host.run("run --rm busybox ping -c 1 -w 5 127.0.0.1").ok();
}

#[test]
fn hostname_and_domain() {
    let host = Host::new();
    assert_eq!(host.tiny("-h web", "uname").ok().text(), "web (none)");
    let output = host.run("run --name x1 -h a.b.c tiny /tiny uname").ok().text();
    assert!(output.starts_with('a'), "{output}");
    let id = host.text("create --name y1 tiny /tiny uname");
    let output = host.run("start -a y1").ok().text();
    assert!(output.starts_with(&id[..12]), "{output}");
    assert!(host.tiny("-h web", "cat /etc/hosts").ok().text().contains("web"));
    assert_eq!(host.tiny("-h web", "cat /etc/hostname").ok().text(), "web");
}

#[test]
fn only_the_three_streams_are_open() {
    let host = Host::new();
    // The caller has more: an open file, a directory, a socket's worth of numbers.
    let run = |line: &str| {
        host.barge(line)
            .shell("exec 7</etc/passwd 8</ 150</dev/null; exec \"$@\"")
            .run()
            .ok()
    };
    for line in [
        "run --rm tiny /tiny fds",
        "run --rm --init tiny /tiny fds",
        "run --rm -i tiny /tiny fds",
    ] {
        let lines = run(line).lines();
        let numbers: Vec<_> = lines.iter().map(|l| l.split(' ').next().unwrap().to_owned()).collect();
        assert_eq!(numbers, ["0", "1", "2"], "{lines:?}");
        assert!(
            lines.iter().all(|l| l.contains("pipe:") || l.contains("/dev/null")),
            "{lines:?}"
        );
    }
    host.detached("up", "", "block");
    assert_eq!(run("exec up /tiny fds").lines().len(), 3);
    assert_eq!(run("exec -i up /tiny fds").lines().len(), 3);
}

#[test]
fn the_monitor_keeps_nothing_of_its_caller() {
    let host = Host::new();
    let work = host.scratch();
    let script = "umask 077; exec 7</etc/passwd; exec env --block-signal=USR1 --ignore-signal=HUP --ignore-signal=PIPE \
                  nice -n 5 \"$@\"";
    host.barge("run -d --name up tiny /tiny block")
        .dir(&work)
        .shell(script)
        .run()
        .ok();
    let monitor = host.monitor_pid("up");
    let links = fs::read_dir(format!("/proc/{monitor}/fd")).unwrap();
    for link in links {
        let target = fs::read_link(link.unwrap().path()).unwrap();
        assert!(!target.ends_with("passwd"), "{target:?}");
    }
    assert_eq!(
        fs::read_link(format!("/proc/{monitor}/cwd")).unwrap().to_str(),
        Some("/")
    );
    let stat = fs::read_to_string(format!("/proc/{monitor}/stat")).unwrap();
    let fields: Vec<_> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    // State ppid pgrp session tty … nice is the 17th.
    assert_eq!(fields[3], fields[2], "the leader of its group leads its session");
    assert_ne!(fields[3], "0");
    assert_eq!(fields[4], "0", "no controlling terminal");
    assert_eq!(fields[16], "0", "nice");
}

#[test]
fn the_program_keeps_nothing_of_its_caller() {
    let host = Host::new();
    let script = "umask 077; exec env --block-signal=USR1 --ignore-signal=HUP --ignore-signal=INT nice -n 5 \"$@\"";
    host.detached("up", "", "block");
    for line in ["run --rm tiny /tiny inherited", "exec up /tiny inherited"] {
        let facts = facts(&host.barge(line).env("SECRET", "x").shell(script).run().ok().text());
        assert_eq!(facts["umask"], "022", "{line}");
        assert_eq!(facts["nice"], "0", "{line}");
        assert_eq!(facts["oom"], "0", "{line}");
        assert_eq!(facts["SigBlk"], "0000000000000000", "{line}");
        assert_eq!(facts["SigIgn"], "0000000000000000", "{line}");
        assert_ne!(facts["tty"], "yes", "{line}");
        assert_eq!(facts["keyring"], "refused", "{line}");
        assert_eq!(facts["sid"], facts["pid"], "{line}: a session of its own");
    }
    let environment = host
        .barge("run --rm tiny /tiny env")
        .env("SECRET", "x")
        .run()
        .ok()
        .text();
    assert!(!environment.contains("SECRET"), "{environment}");
}

#[test]
fn capabilities_are_the_default_14_and_change_on_request() {
    let host = Host::new();
    let of = |flags: &str| {
        facts(
            &host
                .tiny(flags, "status CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs")
                .ok()
                .text(),
        )
    };
    let default = of("");
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(default[set], DEFAULT_CAPABILITIES);
    }
    assert_eq!(default["CapAmb"], "0000000000000000");
    let none = of("--cap-drop ALL");
    assert_eq!(none["CapBnd"], "0000000000000000");
    assert_eq!(
        of("--cap-drop all --cap-add net_bind_service")["CapEff"],
        "0000000000000400"
    );
    assert_eq!(of("--cap-add CAP_SYS_ADMIN")["CapEff"], "00000000a82425fb");
    assert_eq!(of("--cap-drop chown")["CapEff"], "00000000a80425fa");
    // Another user has none in effect, and the same bound.
    let user = of("-u 1000");
    assert_eq!(
        (user["CapEff"].as_str(), user["CapBnd"].as_str()),
        ("0000000000000000", DEFAULT_CAPABILITIES)
    );
    assert_eq!(of("--security-opt no-new-privileges")["NoNewPrivs"], "1");
    host.tiny("--cap-add nonsense", "exit 0").fails(125).says(&["nonsense"]);
}

#[test]
fn seccomp_refuses_what_docker_refuses() {
    let host = Host::new();
    let asked = "refused userns mount umount setns clone-userns keyctl add_key io_uring bpf perf userfaultfd swapon vsock \
                 settime clone3 unknown inet chroot ptrace";
    let answers = facts(&host.tiny("", asked).ok().text());
    for name in [
        "mount",
        "umount",
        "setns",
        "userns",
        "clone-userns",
        "keyctl",
        "add_key",
        "bpf",
        "perf",
        "swapon",
    ] {
        assert_eq!(answers[name], "EPERM", "{name}");
    }
    for name in ["io_uring", "userfaultfd", "settime"] {
        assert_eq!(answers[name], "EPERM", "{name}");
    }
    assert_ne!(answers["vsock"], "ok");
    assert_eq!(answers["clone3"], "ENOSYS");
    assert_eq!(answers["unknown"], "ENOSYS");
    for name in ["inet", "chroot", "ptrace"] {
        assert_eq!(answers[name], "ok", "{name}");
    }
    assert_eq!(facts(&host.tiny("", "status Seccomp").ok().text())["Seccomp"], "2");
    // With the capability that covers it a call is let through.
    let admin = facts(&host.tiny("--cap-add SYS_ADMIN", "refused mount clone3").ok().text());
    assert_eq!((admin["mount"].as_str(), admin["clone3"].as_str()), ("ok", "ok"));
    let off = "--security-opt seccomp=unconfined";
    assert_eq!(facts(&host.tiny(off, "status Seccomp").ok().text())["Seccomp"], "0");
}

#[test]
fn a_seccomp_profile_from_a_file() {
    let host = Host::new();
    let file = host.scratch().join("profile.json");
    fs::write(
        &file,
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["chroot"],"action":"SCMP_ACT_ERRNO"}]}"#,
    )
    .unwrap();
    let option = format!("--security-opt seccomp={}", file.display());
    let answers = facts(&host.tiny(option.as_str(), "refused chroot keyctl").ok().text());
    assert_eq!(answers["chroot"], "EPERM");
    fs::write(&file, "{").unwrap();
    host.tiny(option.as_str(), "exit 0")
        .fails(125)
        .says(&[file.to_str().unwrap()]);
}

#[test]
fn proc_is_masked_and_read_only_where_docker_does_so() {
    let host = Host::new();
    let masked = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug"];
    for path in masked.iter().filter(|p| fs::metadata(p).is_ok()) {
        let stat = host.tiny("", ["stat", path]).ok().text();
        assert!(stat.contains("char 0666") && stat.contains("1:3"), "{stat}");
    }
    for path in ["/proc/acpi", "/proc/scsi", "/sys/firmware"]
        .iter()
        .filter(|p| fs::metadata(p).is_ok())
    {
        assert_eq!(host.tiny("", ["ls", path]).ok().text(), "", "{path}");
    }
    for path in [
        "/proc/sys/kernel/hostname",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
    ] {
        if fs::metadata(path).is_ok() {
            assert_eq!(host.tiny("", ["open", path, "w"]).ok().text(), "EROFS", "{path}");
        }
    }
    let mounts = host.tiny("", "cat /proc/self/mountinfo").ok().text();
    let line = |point: &str| {
        mounts
            .lines()
            .find(|l| l.split(' ').nth(4) == Some(point))
            .unwrap_or_default()
            .to_owned()
    };
    for flag in ["nosuid", "nodev", "noexec"] {
        assert!(line("/proc").contains(flag) && line("/sys").contains(flag), "{mounts}");
    }
    assert!(line("/sys").split(' ').nth(5).unwrap().starts_with("ro"), "{mounts}");
    assert!(!mounts.contains("master:") && !mounts.contains("shared:"), "{mounts}");
}

#[test]
fn only_its_own_processes_are_in_proc() {
    let host = Host::new();
    let entries = host.tiny("", "ls /proc").ok().lines();
    let pids: Vec<_> = entries.iter().filter(|n| n.parse::<u32>().is_ok()).collect();
    assert_eq!(pids, ["1"]);
}

#[test]
fn dev_has_what_programs_need_and_no_more() {
    let host = Host::new();
    let names = host.tiny("", "ls /dev").ok().lines();
    let expected = [
        "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom",
        "zero",
    ];
    let without_core: Vec<_> = names.iter().filter(|n| *n != "core").collect();
    assert_eq!(without_core, expected);
    for (path, kind) in [
        ("null", "1:3"),
        ("zero", "1:5"),
        ("full", "1:7"),
        ("random", "1:8"),
        ("urandom", "1:9"),
    ] {
        let stat = host.tiny("", format!("stat /dev/{path}")).ok().text();
        assert!(stat.contains("char 0666 0:0") && stat.contains(kind), "{stat}");
        assert_eq!(host.tiny("", format!("open /dev/{path} r")).ok().text(), "ok");
    }
    assert_eq!(
        host.tiny("", "link /dev/fd /dev/ptmx").ok().lines(),
        ["/proc/self/fd", "pts/ptmx"]
    );
    let with_terminal = host.barge("run --rm -t tiny /tiny ls /dev").run().ok().text();
    assert!(with_terminal.contains("console"), "{with_terminal}");
}

#[test]
fn devices_are_refused_by_the_cgroup() {
    let host = Host::new();
    // Made with CAP_MKNOD, but not opened: a disk, the kernel's memory, a loop control.
    let open = |flags: &str, major: u32, minor: u32| {
        let name = format!("run --rm {flags} --name dev tiny");
        let script = format!("{name} /tiny mknod /tmp/x c {major} {minor}");
        host.run(script.as_str()).ok().text()
    };
    assert_eq!(open("", 1, 3), "ok");
    host.detached("up", "", "block");
    host.run("exec up /tiny mknod /tmp/memory c 1 1");
    host.run("exec up /tiny mknod /tmp/null c 1 3").ok();
    assert_eq!(host.text("exec up /tiny open /tmp/null rw"), "ok");
    assert_eq!(host.text("exec up /tiny open /tmp/memory r"), "EPERM");
    host.run("exec up /tiny mknod /tmp/fuse c 10 229");
    assert_eq!(host.text("exec up /tiny open /tmp/fuse r"), "EPERM");
    let kmsg = "--device /dev/kmsg";
    assert_eq!(
        host.tiny(format!("{kmsg} --cap-add SYSLOG").as_str(), "open /dev/kmsg r")
            .ok()
            .text(),
        "ok"
    );
    assert_eq!(
        host.tiny("--device /dev/kmsg:/dev/other:r", "open /dev/other w")
            .ok()
            .text(),
        "EPERM"
    );
    host.tiny("--device /dev/none", "exit 0")
        .fails(125)
        .says(&["/dev/none"]);
}

#[test]
fn privileged_has_everything() {
    let host = Host::new();
    let status = facts(&host.tiny("--privileged", "status CapEff Seccomp").ok().text());
    let own = facts(&fs::read_to_string("/proc/self/status").unwrap());
    assert_eq!(status["CapEff"], own["CapBnd"]);
    assert_eq!(status["Seccomp"], "0");
    assert_eq!(
        facts(&host.tiny("--privileged", "refused mount").ok().text())["mount"],
        "ok"
    );
    assert_eq!(
        host.tiny("--privileged", "open /proc/sys/kernel/domainname w")
            .ok()
            .text(),
        "ok"
    );
    assert!(host.tiny("--privileged", "ls /dev").ok().lines().len() > 20);
}

#[test]
fn read_only_root() {
    let host = Host::new();
    host.tiny("--read-only", "write /x y").fails(1);
    host.tiny("--read-only --tmpfs /tmp", "write /tmp/x y").ok();
    host.tiny("--read-only", "write /dev/shm/x y").ok();
    let stat = host
        .tiny("--tmpfs /scratch:size=64k,mode=1700", "stat /scratch")
        .ok()
        .text();
    assert!(stat.contains("dir 1700"), "{stat}");
}

#[test]
fn shared_memory_has_its_size() {
    let host = Host::busybox();
    let size = |flags: &str| host.text(format!("run --rm {flags} busybox df -k /dev/shm"));
    assert!(size("").contains("65536"), "64 MiB by default");
    assert!(size("--shm-size 1m").contains("1024"));
}

#[test]
fn its_cgroup_is_the_root_it_sees() {
    let host = Host::new();
    for line in host.tiny("", "cat /proc/self/cgroup").ok().lines() {
        let path = line.rsplit(':').next().unwrap().to_owned();
        assert!(path == "/" || !path.contains("barge"), "{line}");
    }
    if cgroup_v2() {
        assert_eq!(host.tiny("", "cat /proc/self/cgroup").ok().text(), "0::/");
        let names = host.tiny("", "ls /sys/fs/cgroup").ok().text();
        assert!(names.contains("memory.max"), "{names}");
        host.tiny("", "write /sys/fs/cgroup/memory.max max").fails(1);
    }
}

#[test]
fn the_engines_own_program_cannot_be_changed_from_inside() {
    let host = Host::new();
    let before = sha2_hex(&fs::read(binary()).unwrap());
    host.detached("victim", "", "engine");
    host.wait_log("victim", "ready");
    // The engine enters as /proc/self/exe: what runs then inside is the engine itself.
    for _ in 0..3 {
        let _ = host.barge("exec victim /proc/self/exe --version").run();
    }
    let _ = host.barge("run --rm tiny /proc/self/exe --version").run();
    let logs = host.text("logs victim");
    assert!(!logs.contains("write ok"), "{logs}");
    assert_eq!(sha2_hex(&fs::read(binary()).unwrap()), before);
}

#[test]
fn mounts_of_the_container_stay_in_it() {
    let host = Host::new();
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    host.detached("up", "", "block");
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
}

#[test]
fn mount_targets_are_resolved_inside() {
    // The image has symlinks that point out of it; what is mounted there lands inside.
    let host = Host::bare();
    let archive = crate::support::Tar::new()
        .file("tiny", 0o755, fs::read(crate::support::tiny()).unwrap())
        .symlink("proc", "/../../../../tmp")
        .symlink("data", "../../../../../../../../tmp/barge-must-not-exist")
        .symlink("etc", "/../../etc")
        .bytes();
    host.import("tricky", &archive);
    let _ = host.run("run --rm -v /data tricky /true");
    let _ = host.run("run --rm -w /data/deep tricky /tiny cwd");
    assert!(fs::symlink_metadata("/tmp/barge-must-not-exist").is_err());
    assert!(fs::symlink_metadata("/tmp/deep").is_err());
}
