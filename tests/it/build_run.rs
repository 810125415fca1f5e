//! Builds, as far as they run something: RUN with its mounts, stages, what is in the layers, what is left of a build that
//! fails or is killed.

use crate::support::registry::{Registry, barge};
use crate::support::{Host, Output, seconds, wait_until};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// Writes a Dockerfile into a context of its own.
pub fn context(host: &Host, dockerfile: &str) -> PathBuf {
    let dir = host.scratch().join("context");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("Dockerfile"), dockerfile).unwrap();
    dir
}

/// Builds it, under the name `made`.
pub fn build(host: &Host, flags: &[&str], dockerfile: &str) -> Output {
    let dir = context(host, dockerfile);
    let mut line = vec!["build", "-t", "made"];
    line.extend_from_slice(flags);
    let dir = dir.to_str().unwrap().to_owned();
    line.push(&dir);
    host.barge(&*line.join(" ")).timeout(seconds(60)).run()
}

pub fn inspect(host: &Host, image: &str) -> Value {
    let text = host.text(["image", "inspect", image]);
    serde_json::from_str::<Value>(&text).unwrap()[0].clone()
}

/// The entries of the image's topmost layer directory, sorted.
fn top_layer(host: &Host, image: &str) -> Vec<String> {
    let image = inspect(host, image);
    let dir = image["GraphDriver"]["Data"]["UpperDir"].as_str().unwrap().to_owned();
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from(&dir)];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                open.push(path.clone());
            }
            found.push(path.strip_prefix(&dir).unwrap().display().to_string());
        }
    }
    found.sort();
    found
}

/// Nothing of a build is in the kernel or half-made on disk.
pub fn nothing_is_left(host: &Host) {
    nothing_is_left_with(host, "busybox");
}

/// The same where that is the image to be run.
pub fn nothing_is_left_with(host: &Host, image: &str) {
    // What was made and not started goes with the next command that makes something.
    wait_until("the build's containers to be gone", || {
        host.run(["run", "--rm", "--net", "none", image, "true"]).ok();
        host.run("ps -aq --external").text().is_empty()
    });
    wait_until("the staging directory to be empty", || {
        fs::read_dir(host.root.join("staging")).unwrap().count() == 0
    });
}

#[test]
fn a_build_from_begin_to_end() {
    let host = Host::busybox();
    let dockerfile = "FROM busybox\nLABEL a=b\nENV X=1\nRUN echo $X > /x && mkfifo /fifo\nWORKDIR /app/sub\n\
        COPY Dockerfile file\nRUN cat file | head -1 > from && pwd >> from\nUSER 5:6\nRUN id -u > /tmp/id\n\
        EXPOSE 80 90-91/udp\nVOLUME /v\nSTOPSIGNAL SIGINT\nENTRYPOINT [\"cat\"]\nCMD [\"from\"]\n";
    host.run(["run", "--name", "c", "busybox", "chmod", "1777", "/tmp"])
        .ok();
    host.text("commit c busybox");
    host.text("rm c");
    build(&host, &[], dockerfile).ok();
    assert_eq!(host.text("run --rm made"), "FROM busybox\n/app/sub");
    assert_eq!(host.text("run --rm made /x /tmp/id"), "1\n5");
    let image = inspect(&host, "made");
    let config = &image["Config"];
    assert_eq!(config["Labels"]["a"], "b");
    assert_eq!(config["User"], "5:6");
    assert_eq!(config["WorkingDir"], "/app/sub");
    assert_eq!(config["StopSignal"], "SIGINT");
    let ports: Vec<_> = config["ExposedPorts"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(ports, ["80/tcp", "90/udp", "91/udp"]);
    let history = host.text(["history", "--no-trunc", "--format", "{{.CreatedBy}}", "made"]);
    let lines: Vec<_> = history.lines().collect();
    assert_eq!(lines[0], r#"/bin/sh -c #(nop)  CMD ["from"]"#);
    assert_eq!(lines[1], r#"/bin/sh -c #(nop)  ENTRYPOINT ["cat"]"#);
    assert_eq!(lines[2], "/bin/sh -c #(nop)  STOPSIGNAL SIGINT");
    assert_eq!(lines[3], "/bin/sh -c #(nop)  VOLUME [/v]");
    assert_eq!(lines[6], "/bin/sh -c #(nop)  USER 5:6");
    assert!(lines[8].starts_with("/bin/sh -c #(nop) COPY file:"), "{}", lines[8]);
    assert_eq!(lines[9], "/bin/sh -c #(nop) WORKDIR /app/sub");
    assert_eq!(lines[10], "/bin/sh -c echo $X > /x && mkfifo /fifo");
    // A second build is the same image, and takes nothing but the cache.
    let id = image["Id"].as_str().unwrap().to_owned();
    build(&host, &[], dockerfile).ok();
    assert_eq!(inspect(&host, "made")["Id"], id.as_str());
    nothing_is_left(&host);
    host.run("system check").ok();
}

#[test]
fn mounts_leave_nothing_in_the_layer() {
    let host = Host::busybox();
    fs::write(host.scratch().join("secret"), "s3cr3t-content").unwrap();
    let secret = format!("id=s,src={}", host.scratch().join("secret").display());
    let dockerfile = "FROM busybox AS base\nRUN mkdir -p /out/deep && echo b > /out/deep/b && ln -s /etc/passwd /out/link\n\
        FROM busybox\nRUN --mount=type=bind,from=base,source=/out,target=/mnt/b/c,rw \
        --mount=type=cache,target=/var/cache/x --mount=type=tmpfs,target=/t \
        --mount=type=secret,id=s,env=SEEN --mount=type=secret,id=s,mode=0444 --mount=target=/src \
        cat /mnt/b/c/deep/b /run/secrets/s && echo && echo $SEEN && ls /src && cat /mnt/b/c/link && \
        echo > /mnt/b/c/new && echo one >> /var/cache/x/f && echo > /t/t && touch /made\n";
    let out = build(&host, &["--secret", &secret, "--progress", "plain"], dockerfile).ok();
    let said = format!("{}{}", out.text(), out.err());
    assert!(said.contains("s3cr3t-content") && said.contains("root:"), "{said}");
    assert_eq!(top_layer(&host, "made"), ["made"]);
    // Neither in a record, nor in a key, nor in a layer.
    let found = std::process::Command::new("grep")
        .args(["-rl", "s3cr3t-content"])
        .arg(&host.root)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    // The cache is still there, whatever else changes.
    let again = "FROM busybox\nRUN --mount=type=cache,target=/var/cache/x cat /var/cache/x/f > /f\n";
    build(&host, &[], again).ok();
    assert_eq!(host.text("run --rm made cat /f"), "one");
    build(
        &host,
        &[],
        "FROM busybox\nRUN --mount=type=secret,id=none,required cat /run/secrets/none\n",
    )
    .fails(1);
    nothing_is_left(&host);
}

#[test]
fn a_bind_mount_leads_nowhere_else() {
    let host = Host::busybox();
    fs::write(host.scratch().join("outside"), "outside").unwrap();
    let dir = context(&host, "");
    std::os::unix::fs::symlink("../outside", dir.join("up")).unwrap();
    std::os::unix::fs::symlink(host.scratch().join("outside"), dir.join("absolute")).unwrap();
    for from in ["up", "absolute", "../outside"] {
        let out = build(
            &host,
            &[],
            &format!("FROM busybox\nRUN --mount=source={from},target=/x cat /x\n"),
        );
        assert_ne!(out.code, 0, "{from}");
    }
    let dockerfile = "FROM busybox AS a\nRUN ln -s / /root-link && ln -s /../../.. /up\n\
        FROM busybox\nRUN --mount=from=a,source=/root-link,target=/x ls /x > /seen\n";
    build(&host, &[], dockerfile).ok();
    let seen = host.text("run --rm made cat /seen");
    assert!(seen.contains("root-link") && !seen.contains("sys\n"), "{seen}");
    // Above its root is its root: never the host's.
    let up = "FROM busybox AS a\nRUN ln -s /../../.. /up\nFROM busybox\nRUN --mount=from=a,source=/up,target=/y ls -a /y > /seen\n";
    build(&host, &[], up).ok();
    let seen = host.text("run --rm made cat /seen");
    assert!(seen.lines().any(|l| l == "up") && !seen.contains("work"), "{seen}");
    // A link of the image: the place to work in is inside of it.
    let dockerfile =
        "FROM busybox\nRUN ln -s /../../../w /link && mkdir /w\nWORKDIR /link/sub\nRUN pwd > /pwd && touch here\n";
    build(&host, &[], dockerfile).ok();
    assert_eq!(host.text("run --rm made ls /w/sub"), "here");
    assert!(!std::path::Path::new("/w/sub").exists());
}

#[test]
fn a_failing_step_says_so_and_keeps_what_was_before() {
    let host = Host::busybox();
    let failing = "FROM busybox\nRUN echo one > /one\nRUN echo out && exit 7\n";
    let out = build(&host, &[], failing).fails(7);
    assert!(
        out.err()
            .contains("The command '/bin/sh -c echo out && exit 7' returned a non-zero code: 7"),
        "{}",
        out.err()
    );
    assert_ne!(host.run("image inspect made").code, 0);
    let out = build(
        &host,
        &["--progress", "plain"],
        "FROM busybox\nRUN echo one > /one\nRUN true\n",
    )
    .ok();
    let said = format!("{}{}", out.text(), out.err());
    assert!(said.to_lowercase().contains("cache"), "{said}");
    build(&host, &[], "FROM busybox\nRUN [\"/no/such/program\"]\n").fails(127);
    nothing_is_left(&host);
}

#[test]
fn stages_that_need_not_wait_do_not() {
    let host = Host::busybox();
    // Each waits for the other's cache mount to have its file: one after the other they would wait for ever.
    let wait = |own: &str, other: &str| {
        format!(
            "RUN --mount=type=cache,target=/c touch /c/{own}; n=0; while [ ! -e /c/{other} ] && [ $n -lt 200 ]; \
             do sleep 0.1; n=$((n+1)); done; [ -e /c/{other} ] && echo {own} > /{own}\n"
        )
    };
    let dockerfile = format!(
        "FROM busybox AS a\n{}FROM busybox AS b\n{}FROM busybox AS never\nRUN exit 9\nFROM busybox\n\
         COPY --from=a /a /\nCOPY --from=b /b /\n",
        wait("a", "b"),
        wait("b", "a")
    );
    build(&host, &[], &dockerfile).ok();
    assert_eq!(host.text("run --rm made cat /a /b"), "a\nb");
}

#[test]
fn a_killed_build_leaves_nothing_and_loses_nothing() {
    let host = Host::busybox();
    let dockerfile = "FROM busybox\nRUN date +%N > /one\nRUN touch /begun && sleep 1000\n";
    for signal in [nix::sys::signal::Signal::SIGKILL, nix::sys::signal::Signal::SIGTERM] {
        let dir = context(&host, dockerfile);
        let building = host.barge(["build", dir.to_str().unwrap()]).spawn();
        let sleeps = || {
            host.run(["ps", "-a", "--external", "--format", "{{.Command}}", "--no-trunc"])
                .text()
        };
        wait_until("the second step", || sleeps().contains("sleep 1000"));
        assert_eq!(host.text("ps -aq"), "");
        crate::support::kill(building.pid(), signal);
        building.wait();
        nothing_is_left(&host);
    }
    // The first step is there, once for all.
    let steps = fs::read_dir(host.root.join("cache/steps")).unwrap().count();
    assert_eq!(steps, 1);
    build(
        &host,
        &["--progress", "plain"],
        "FROM busybox\nRUN date +%N > /one\nRUN cat /one > /two\n",
    )
    .ok();
    assert_eq!(fs::read_dir(host.root.join("cache/steps")).unwrap().count(), 2);
}

#[test]
fn squashed_is_one_layer_with_the_same_files() {
    let host = Host::busybox();
    let dockerfile =
        "FROM busybox\nRUN echo a > /a && ln /a /b && mkdir /d && ln /a /d/c\nRUN echo x > /x && rm /etc/passwd\n";
    build(&host, &["--squash", "--network", "none"], dockerfile).ok();
    let image = inspect(&host, "made");
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    let files = host.text("run --rm --net none made stat -c %h /a /b /d/c /x");
    assert_eq!(files, "3\n3\n3\n1");
    host.run("run --rm --net none made test -e /etc/passwd").fails(1);
    build(&host, &["--squash-all", "--network", "none"], dockerfile).ok();
    let image = inspect(&host, "made");
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 1);
    assert_eq!(host.text("run --rm --net none made cat /x /d/c"), "x\na");
}

#[test]
fn outputs_are_what_was_built() {
    let host = Host::busybox();
    let dockerfile = "FROM busybox\nRUN echo a > /a\nFROM scratch\nCOPY --from=0 /a /a\n";
    let at = |name: &str| host.scratch().join(name).display().to_string();
    let to = |output: &str| build(&host, &["--network", "none", "-o", output], dockerfile).ok();
    to(&format!("type=local,dest={}", at("tree")));
    assert_eq!(fs::read_to_string(at("tree/a")).unwrap(), "a\n");
    assert_eq!(fs::read_dir(at("tree")).unwrap().count(), 1);
    to(&format!("type=tar,dest={}", at("tar")));
    let list = |archive: &str| {
        let tar = std::process::Command::new("tar")
            .args(["tf", archive])
            .output()
            .unwrap();
        String::from_utf8(tar.stdout).unwrap()
    };
    assert_eq!(list(&at("tar")), "a\n");
    // None of these is an image of the engine.
    assert_ne!(host.run("image inspect made").code, 0);
    for kind in ["oci", "docker"] {
        to(&format!("type={kind},dest={}", at(kind)));
        host.text(["load", "-q", "-i", &at(kind)]);
        assert_eq!(inspect(&host, "made")["RootFS"]["Layers"].as_array().unwrap().len(), 1);
        host.text("rmi made");
    }
    let files = format!("--iidfile {} --metadata-file {}", at("iid"), at("meta"));
    let flags: Vec<&str> = files.split(' ').chain(["--network", "none"]).collect();
    build(&host, &flags, dockerfile).ok();
    let id = inspect(&host, "made")["Id"].as_str().unwrap().to_owned();
    assert_eq!(fs::read_to_string(at("iid")).unwrap(), id);
    let meta: Value = serde_json::from_str(&fs::read_to_string(at("meta")).unwrap()).unwrap();
    assert_eq!(meta["containerimage.config.digest"], id.as_str());
    assert_eq!(meta["image.name"], "made:latest");
    // One image for each platform, under one name.
    let foreign = "FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /$TARGETARCH\n";
    build(&host, &["--platform", "linux/amd64,linux/arm64"], foreign).ok();
    let platforms = host.text(["images", "--format", "{{.Platform}}", "made"]);
    assert!(
        platforms.contains("linux/amd64") && platforms.contains("linux/arm64"),
        "{platforms}"
    );
}

#[test]
fn what_is_pushed_has_its_annotations() {
    let host = Host::busybox();
    let registry = Registry::new(&host);
    let dir = context(&host, "FROM busybox\nCOPY Dockerfile /x\n")
        .display()
        .to_string();
    let name = registry.name("built:1");
    barge(&host, ["build", "-t", &name, "--annotation", "a.b=c", "--push", &dir])
        .run()
        .ok();
    let manifest = barge(&host, ["manifest", "inspect", &name]).run().ok().text();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["annotations"]["a.b"], "c", "{manifest}");
    let refused = barge(&host, ["build", "--push", &dir]).run();
    assert_ne!(refused.code, 0);
}

#[test]
fn triggers_come_first() {
    let host = Host::busybox();
    let base = "FROM busybox\nONBUILD RUN echo one > /one\nONBUILD COPY Dockerfile /two\nRUN ! test -e /one\n";
    let out = build(&host, &["--network", "none"], base).ok();
    // Of what is shown only images have ids.
    let shown = format!("{}{}", out.text(), out.err());
    let ids: Vec<&str> = shown.lines().filter_map(|l| l.strip_prefix(" ---> ")).collect();
    for id in ids.iter().filter(|id| !id.contains(' ')) {
        inspect(&host, id);
    }
    host.text("tag made base");
    build(&host, &["--network", "none"], "FROM base\nRUN cat /one /two > /three\n").ok();
    let three = host.text("run --rm --net none made cat /three");
    assert!(three.starts_with("one\nFROM base"), "{three}");
    assert_eq!(inspect(&host, "made")["Config"]["OnBuild"], Value::Null);
}

#[test]
fn sockets_and_caches_of_a_step() {
    let host = Host::busybox();
    let agent = host.scratch().join("agent");
    let _listener = std::os::unix::net::UnixListener::bind(&agent).unwrap();
    let ssh = format!("default={}", agent.display());
    let dockerfile = "FROM busybox\nRUN --mount=type=ssh test -S $SSH_AUTH_SOCK\n";
    build(&host, &["--network", "none", "--ssh", &ssh], dockerfile).ok();
    build(&host, &[], "FROM busybox\nRUN --mount=type=ssh,required true\n")
        .fails(1)
        .says(&["ssh default: no agent is given"]);
    // A locked cache is for one at a time: neither sees what the other has begun.
    let locked = "FROM busybox\nRUN --mount=type=cache,sharing=locked,target=/c \
        mkdir /c/busy && sleep 0.3 && rmdir /c/busy\n";
    let dir = context(&host, locked).display().to_string();
    let two: Vec<_> = (0..2)
        .map(|_| host.barge(["build", "--no-cache", "--network", "none", &dir]).spawn())
        .collect();
    for build in two {
        build.wait().ok();
    }
    // Nor does a build wait for itself.
    let step = "RUN --mount=type=cache,sharing=locked,target=/c mkdir /c/busy && sleep 0.1 && rmdir /c/busy && touch";
    let stages = format!("FROM busybox AS a\n{step} /a\nFROM busybox AS b\n{step} /b\nFROM a\nCOPY --from=b /b /\n");
    build(&host, &["--network", "none", "--no-cache"], &stages).ok();
}
