//! Flags of `run` and `create` that have no area of their own.

use crate::support::{Host, Tar};

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

#[test]
fn an_image_as_a_mount() {
    let host = Host::busybox();
    let files = Tar::new().dir("d", 0o755).file("d/f", 0o644, "of the image\n");
    host.import("files", &files.bytes());
    let run = |mount: &str, script: &str| host.run(["run", "--rm", "--mount", mount, "busybox", "sh", "-c", script]);
    assert_eq!(
        run("type=image,source=files,target=/m", "cat /m/d/f").ok().text(),
        "of the image"
    );
    let refused = run("type=image,src=files,dst=/m", "touch /m/x");
    assert!(
        refused.code == 1 && refused.err().contains("Read-only"),
        "{}",
        refused.err()
    );
    for subpath in ["image-subpath=d", "subpath=/d"] {
        let text = run(&format!("type=image,src=files,dst=/m,{subpath}"), "ls /m; cat /m/f")
            .ok()
            .text();
        assert_eq!(text, "f\nof the image");
    }
    let file = run("type=image,src=files,dst=/one,subpath=d/f", "cat /one");
    assert_eq!(file.ok().text(), "of the image");
    assert_eq!(
        run(
            "type=image,src=files,dst=/m,rw",
            "echo x > /m/d/f; rm /m/d/f; ls /m/d | wc -l"
        )
        .ok()
        .text(),
        "0"
    );
    run("type=image,src=files,dst=/m,subpath=none", "true")
        .fails(125)
        .says(&["none", "/m"]);
    host.run("run --rm --pull never --mount type=image,src=absent-here,dst=/m busybox true")
        .fails(125)
        .says(&["No such image: absent-here"]);
    // What a container mounts is not removed under it; what is written there is gone with the next start.
    host.run([
        "create",
        "--name",
        "c",
        "--mount",
        "type=image,src=files,dst=/m,rw",
        "busybox",
        "sh",
        "-c",
        "ls /m; touch /m/new",
    ])
    .ok();
    host.run("rmi files").fails(1).says(&["c"]);
    for _ in 0..2 {
        assert_eq!(host.text("start -a c"), "d");
    }
    let told = host.text([
        "inspect",
        "-f",
        "{{range .Mounts}}{{.Type}} {{.Source}} {{.Destination}} {{.RW}}{{end}}",
        "c",
    ]);
    assert_eq!(told, "image files /m true");
    assert_eq!(host.text("ps -aq --no-trunc --filter volume=files"), host.id("c"));
    host.run("rmi -f files").ok();
    assert_eq!(host.text("start -a c"), "d");
    host.text("rm c");
    host.text("system check");
}

#[test]
fn another_init() {
    let host = Host::busybox();
    let init = host.scratch().join("init");
    // The busybox image is one static program; so is the engine's own test program.
    std::fs::copy(crate::support::binary(), &init).unwrap();
    let path = init.display().to_string();
    host.run(["run", "--rm", "--init", "--init-path", "/none", "busybox", "true"])
        .fails(125)
        .says(&["--init-path /none"]);
    host.run([
        "create",
        "--name",
        "c",
        "--init",
        "--init-path",
        &path,
        "busybox",
        "sleep",
        "1000",
    ])
    .ok();
    // The engine as an init is no init: what it says shows that it was called as one.
    let said = host.run("start -a c");
    assert!(said.err().contains("unknown command 'sleep'"), "{}", said.err());
    assert_eq!(
        host.text(["inspect", "-f", "{{.HostConfig.Init}} {{.Path}} {{.Args}}", "c"]),
        "true sleep [1000]"
    );
    // Without --init nothing asks for it.
    assert_eq!(
        host.text(["run", "--rm", "--init-path", &path, "busybox", "echo", "x"]),
        "x"
    );
}

#[test]
fn created_as_it_would_be_run() {
    let host = Host::busybox();
    host.run(
        "create -d --detach-keys ctrl-x --sig-proxy=false --name a -v data:/etc -v /anonymous busybox ls /etc/group",
    )
    .ok();
    host.run("create --detach-keys ctrl-nothing busybox")
        .fails(125)
        .says(&["ctrl-nothing"]);
    assert_eq!(host.text("volume ls -q --filter name=^data$"), "data");
    assert_eq!(host.text("volume ls -q").lines().count(), 2);
    // Another container that has the volume and did not run yet keeps nobody from filling it.
    host.run("create --name b -v data:/etc busybox ls /etc/group").ok();
    assert_eq!(host.text("start -a a"), "/etc/group");
    assert_eq!(host.text("start -a b"), "/etc/group");
    host.text("rm -v a b");
    assert_eq!(host.text("volume ls -q"), "data");
    host.text("volume rm data");
}

#[test]
fn what_templates_make_of_nothing() {
    let host = Host::busybox();
    host.run("create --name c busybox true").ok();
    for (format, want) in [
        (
            "{{.HostConfig.Binds}}{{.HostConfig.CapAdd}}{{.Config.OnBuild}}",
            "[][][]",
        ),
        (
            "{{.Config.Labels}}{{.Config.Volumes}}{{.HostConfig.PortBindings}}",
            "map[]map[]map[]",
        ),
        ("{{json .HostConfig.Binds}} {{json .HostConfig.Dns}}", "null []"),
        ("{{.Config.Labels.none}} {{.State.Health}}", "<no value> <nil>"),
        ("{{if .State.Health}}asked{{else}}not{{end}}", "not"),
    ] {
        assert_eq!(host.text(["inspect", "-f", format, "c"]), want, "{format}");
    }
    let image = "{{.Architecture}}{{.Variant}}{{.OsVersion}}{{.DockerVersion}}{{.Config.OnBuild}}";
    assert!(
        host.text(["image", "inspect", "-f", image, "busybox"])
            .ends_with("64[]")
    );
    assert_eq!(host.text(["ps", "-aq", "--format", "{{.Names}}"]), "c");
    assert_eq!(host.text(["ps", "-aq", "--format", "table"]), host.id("c")[..12]);
    for (pattern, count) in [("^c$", 1), ("^/c$", 1), ("[a-d]", 1), ("d|c", 1), ("^.{3}$", 0)] {
        let found = host.text(["ps", "-aq", "--filter", &format!("name={pattern}")]);
        assert_eq!(found.lines().count(), count, "{pattern}");
    }
    host.run(["ps", "--filter", "name=["])
        .fails(125)
        .says(&["invalid filter 'name=['"]);
}

#[test]
fn names_for_a_user_that_the_image_has_none_for() {
    let host = Host::busybox();
    let files = "grep -h 1234 /etc/passwd /etc/group; echo $HOME";
    for (flags, want) in [
        ("", "/"),
        (
            "--passwd",
            "1234:*:1234:1234:container user:/w:/bin/sh\n1234:x:1234:1234\n/w",
        ),
        (
            "--passwd-entry $USERNAME-x:*:$UID:$GID:$NAME:/h:/bin/ash --group-entry g$GROUPNAME:x:$GID:",
            "1234-x:*:1234:1234:container user:/h:/bin/ash\ng1234:x:1234:\n/h",
        ),
    ] {
        let mut words = vec!["run", "--rm", "-u", "1234:1234", "-w", "/w"];
        words.extend(flags.split_whitespace());
        words.extend(["busybox", "sh", "-c", files]);
        let said = host.run(words);
        assert_eq!(said.text(), want, "{flags}: {}", said.err());
    }
    // The image's own name for it stays, and without --user there is nothing to name.
    assert_eq!(host.text("run --rm --passwd -u root busybox grep -c : /etc/passwd"), {
        host.text("run --rm busybox grep -c : /etc/passwd")
    });
    host.run(["run", "--rm", "--passwd-entry", "x:y", "busybox", "true"])
        .fails(125)
        .says(&["--passwd-entry", "7 fields"]);
    host.run(["create", "--passwd=false", "--group-entry", "a:x:1:", "busybox"])
        .fails(125)
        .says(&["--passwd=false"]);
}

#[test]
fn what_comes_with_the_image() {
    let host = Host::busybox();
    let words = [
        "import",
        "-c",
        "VOLUME /data",
        "-c",
        "ENV PATH=/bin NAME=of-image",
        "-c",
        "CMD true",
        "-",
        "with-volume",
    ];
    host.barge(words).stdin(&crate::support::busybox_tar()).run().ok();
    let kinds = |flags: &str| {
        let id = host.text(format!("create {flags} with-volume"));
        let kinds = host.text([
            "inspect",
            "-f",
            "{{range .Mounts}}{{.Type}} {{.Destination}}{{end}}",
            &id,
        ]);
        host.text(["rm", "-v", &id]);
        kinds
    };
    for (mode, want) in [
        ("", "volume /data"),
        ("--image-volume bind", "volume /data"),
        ("--image-volume anonymous", "volume /data"),
        ("--image-volume tmpfs", "tmpfs /data"),
        ("--image-volume ignore", ""),
        ("--image-volume ignore -v named:/data", "volume /data"),
    ] {
        assert_eq!(kinds(mode), want, "{mode}");
    }
    host.run("create --image-volume odd with-volume")
        .fails(125)
        .says(&["--image-volume"]);
    assert_eq!(
        host.text("run --rm --image-volume tmpfs with-volume sh -c 'true'")
            .len(),
        0
    );
    let env = [
        "run",
        "--rm",
        "--env-merge",
        "NAME=${NAME}-more",
        "--env-merge",
        "X=$PATH",
        "with-volume",
        "sh",
        "-c",
        "echo $NAME $X",
    ];
    assert_eq!(host.text(env), "of-image-more /bin");
    // The image goes with the container, unless somebody else needs it.
    host.run("run --rmi -d with-volume true")
        .fails(125)
        .says(&["--rmi and --detach"]);
    host.run("run --rmi --restart always with-volume true")
        .fails(125)
        .says(&["--restart"]);
    host.run("create --name other with-volume").ok();
    host.run("run --rmi with-volume sh -c false").fails(1);
    assert_eq!(host.text("ps -aq --filter name=other").lines().count(), 1);
    host.run("image exists with-volume").ok();
    host.text("rm -v other");
    host.run("run --rmi with-volume true").ok();
    host.run("image exists with-volume").fails(1);
    host.text("volume rm named");
}

#[test]
fn small_flags_of_podman() {
    let host = Host::busybox();
    let name = [
        "run",
        "--rm",
        "-h",
        "web",
        "busybox",
        "sh",
        "-c",
        "cat /etc/hostname; hostname",
    ];
    assert_eq!(host.text(name), "web\nweb");
    let name = [
        "run",
        "--rm",
        "--no-hostname",
        "-h",
        "web",
        "busybox",
        "sh",
        "-c",
        "cat /etc/hostname; hostname",
    ];
    assert_eq!(host.run(name).text(), "web");
    host.run("run --rm --runtime runc busybox true")
        .fails(125)
        .says(&["invalid runtime name: runc"]);
    host.run("run --rm --runtime barge busybox true").ok();
    host.run("run --rm --cgroup-conf memory busybox true")
        .fails(125)
        .says(&["--cgroup-conf"]);
    let conf = host.run("run --rm --cgroup-conf memory.none=1 busybox true");
    conf.fails(125).says(&["--cgroup-conf: set memory.none to 1"]);
    host.run("pull --retry-delay soon busybox")
        .fails(125)
        .says(&["--retry-delay"]);
    // By its cidfile.
    let file = host.scratch().join("cid");
    let file = file.display().to_string();
    host.run(["run", "-d", "--cidfile", &file, "busybox", "sleep", "1000"])
        .ok();
    assert_eq!(host.text(["exec", "--cidfile", &file, "echo", "-n", "x"]), "x");
    host.run(["exec", "--cidfile", &file]).fails(125);
    host.run(["exec", "--cidfile", "/none", "true"])
        .fails(125)
        .says(&["--cidfile /none"]);
}

#[test]
fn results_of_checks_elsewhere() {
    let host = Host::busybox();
    let dir = host.scratch().display().to_string();
    host.run([
        "run",
        "-d",
        "--name",
        "c",
        "--health-cmd",
        "echo 0123456789",
        "--health-interval",
        "50ms",
        "--health-log-destination",
        &dir,
        "--health-max-log-count",
        "2",
        "--health-max-log-size",
        "4",
        "busybox",
        "sleep",
        "1000",
    ])
    .ok();
    for _ in 0..3 {
        host.run("healthcheck run c").ok();
    }
    let log = host.text([
        "inspect",
        "-f",
        "{{len .State.Health.Log}} {{(index .State.Health.Log 0).Output}}",
        "c",
    ]);
    assert_eq!(log, "2 0123...");
    let file = host.scratch().join(format!("{}-healthcheck.log", host.id("c")));
    assert!(std::fs::read_to_string(file).unwrap().contains("0123..."));
    host.run([
        "run",
        "-d",
        "--name",
        "e",
        "--health-cmd",
        "echo told",
        "--health-log-destination",
        "events_logger",
        "busybox",
        "sleep",
        "1000",
    ])
    .ok();
    host.run("healthcheck run e").ok();
    let events = host.text(["events", "--no-stream", "--since", "1m", "--format", "{{json .}}"]);
    assert!(
        events.lines().any(|e| e.contains("health_log") && e.contains("told")),
        "{events}"
    );
    host.text("rm -f c e");
}
