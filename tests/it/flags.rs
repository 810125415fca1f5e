//! Flags of `run` and `create` that have no area of their own.

use crate::support::Host;

#[test]
fn descriptors_of_the_caller() {
    let host = Host::busybox();
    let file = host.scratch().join("given");
    std::fs::write(&file, "from outside\n").unwrap();
    let open = format!("exec 3<{0} 4<{0}; exec \"$@\"", file.display());
    let line = |flags: &str, script: &str| {
        let mut words: Vec<std::ffi::OsString> = ["run", "--rm"].map(Into::into).to_vec();
        words.extend(flags.split_whitespace().map(Into::into));
        words.extend(["busybox", "sh", "-c", script].map(Into::into));
        host.barge(words).shell(&open).run()
    };
    // What is not asked for is not there, whatever the engine itself has open.
    for (flags, script, want) in [
        (
            "--preserve-fds 1",
            "cat <&3; ls /proc/self/fd | wc -w",
            "from outside\n5",
        ),
        ("--preserve-fds=2 --init", "cat <&4", "from outside"),
        ("", "cat <&3 2>/dev/null || echo none", "none"),
        ("--preserve-fds 2 -u 1000", "cat <&4", "from outside"),
    ] {
        assert_eq!(line(flags, script).ok().text(), want, "{flags}");
    }
    // So also of an exec.
    host.run("run -d --name c busybox sleep 1000").ok();
    let exec = |flags: &str, script: &str| {
        let mut words: Vec<std::ffi::OsString> = vec!["exec".into()];
        words.extend(flags.split_whitespace().map(Into::into));
        words.extend(["c", "sh", "-c", script].map(Into::into));
        host.barge(words).shell(&open).run()
    };
    for (flags, script, want) in [
        (
            "--preserve-fds 1",
            "cat <&3; ls /proc/self/fd | wc -w",
            "from outside\n5",
        ),
        ("--preserve-fds=2 -u 1000", "cat <&4", "from outside"),
        ("", "cat <&3 2>/dev/null || echo none", "none"),
    ] {
        assert_eq!(exec(flags, script).ok().text(), want, "exec {flags}");
    }
    exec("--preserve-fds 3", "true")
        .fails(125)
        .says(&["--preserve-fds: file descriptor 5 is not available"]);
    host.run("rm -f c").ok();
    line("--preserve-fds 3", "true")
        .fails(125)
        .says(&["--preserve-fds: file descriptor 5 is not available"]);
    line("--preserve-fds -1", "true").fails(125).says(&["--preserve-fds"]);
    assert_eq!(host.text("ps -aq"), "");
}

#[test]
fn streams_of_the_caller() {
    let host = Host::busybox();
    let (input, output) = (host.scratch().join("in"), host.scratch().join("out"));
    std::fs::write(&input, "typed\n").unwrap();
    let redirect = format!("exec <{} >{}; exec \"$@\"", input.display(), output.display());
    let line = [
        "run",
        "--name",
        "direct",
        "--log-driver",
        "passthrough",
        "busybox",
        "sh",
        "-c",
        "cat; echo err >&2; exit 3",
    ];
    let run = host.barge(line).shell(&redirect).run();
    assert_eq!((run.code, run.err()), (3, "err".to_owned()));
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "typed\n");
    host.run("logs direct")
        .fails(1)
        .says(&["configured logging driver does not support reading"]);
    assert_eq!(
        host.text("inspect -f {{.HostConfig.LogConfig.Type}} direct"),
        "passthrough"
    );
    // Every start has the streams of the command that starts it.
    let again = host.barge("start -a direct").shell(&redirect).run();
    assert_eq!(again.code, 3);
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "typed\n");
    host.run("rm direct").ok();
    host.run("run --rm -t --log-driver passthrough busybox true")
        .fails(125)
        .says(&["Conflicting options: --log-driver passthrough and --tty"]);
    host.run("run --name local --log-driver local --log-opt max-size=1m busybox echo kept")
        .ok();
    assert_eq!(host.text("logs local"), "kept");
    host.run("rm local").ok();
}

#[test]
fn small_ones() {
    let host = Host::busybox();
    for (flags, script, want) in [
        (
            "--read-only --read-only-tmpfs",
            "touch /tmp/a /run/b /var/tmp/c && ! touch /d 2>/dev/null && echo ok",
            "ok",
        ),
        ("--lxc-conf lxc.utsname=box", "hostname", "box"),
        ("-lxc-conf=lxc.prlimit.nofile=64:64", "ulimit -n", "64"),
        ("--security-opt mask=/etc/passwd", "wc -c </etc/passwd", "0"),
        (
            "--security-opt unmask=/proc/sys:/proc/keys",
            "grep -c -E ' /proc/(sys|keys) ' /proc/mounts || true",
            "0",
        ),
        ("", "grep -c -E ' /proc/(sys|keys) ' /proc/mounts", "2"),
        (
            "--systemd=always",
            "mount | grep -c -E ' on (/run|/run/lock|/tmp|/var/log/journal) type tmpfs'",
            "4",
        ),
        ("--arch amd64 --os linux", "echo ok", "ok"),
    ] {
        let line = [
            &["run", "--rm"][..],
            &flags.split_whitespace().collect::<Vec<_>>(),
            &["busybox", "sh", "-c", script],
        ];
        assert_eq!(host.text(line.concat()), want, "{flags}");
    }
    let proxied = host
        .barge("run --rm --http-proxy busybox env")
        .env("HTTP_PROXY", "http://p:1")
        .run()
        .ok();
    assert!(proxied.text().contains("HTTP_PROXY=http://p:1"));
    let id = host
        .text("create --device-read-bps /dev/sda:1mb --blkio-weight-device /dev/sda:200 --systemd=always busybox true");
    for (field, want) in [
        (
            "{{json .HostConfig.BlkioDeviceReadBps}}",
            r#"[{"Path":"/dev/sda","Rate":1048576}]"#,
        ),
        (
            "{{json .HostConfig.BlkioWeightDevice}}",
            r#"[{"Path":"/dev/sda","Weight":200}]"#,
        ),
        ("{{.Config.StopSignal}}", "SIGRTMIN+3"),
    ] {
        assert_eq!(host.text(["inspect", "-f", field, &id]), want);
    }
    host.run(["rm", &id]).ok();
    host.run("run --rm --device-read-bps /dev/null:1mb busybox true")
        .fails(125)
        .says(&["/dev/null is not a block device"]);
    host.run("run --rm --lxc-conf lxc.network.type=veth busybox true")
        .fails(125)
        .says(&["--lxc-conf: 'lxc.network.type' has no counterpart here"]);
    host.run("run --rm --cgroups=disabled -m 64m busybox true")
        .fails(125)
        .says(&["--cgroups=disabled"]);
}

/// With a device of blocks, where the machine has one that may be read.
#[test]
fn a_limited_device() {
    let host = Host::busybox();
    let block = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let named = block.filter_map(|e| e.file_name().into_string().ok());
    let device = named
        .map(|n| format!("/dev/{n}"))
        .find(|d| std::fs::metadata(d).is_ok());
    let Some(device) = device else {
        crate::support::skip("no block device");
        return;
    };
    let line = format!("run --rm --device-write-iops {device}:50 busybox echo ran");
    assert_eq!(host.run(line.as_str()).ok().text(), "ran");
}
