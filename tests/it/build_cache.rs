//! The build cache: what it takes for the same and what not, whom it keeps layers for, and how it goes.

use crate::build_run::{build, context, inspect};
use crate::support::{Host, seconds, wait_until};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

/// What the last RUN of a build wrote, which is another thing each time it is executed.
fn built(host: &Host, flags: &[&str], dockerfile: &str) -> String {
    build(host, flags, dockerfile).ok();
    host.text("run --rm --net none made cat /stamp")
}

const STAMP: &str = "cat /proc/sys/kernel/random/uuid > /stamp";

#[test]
fn each_input_alone_makes_another_step() {
    let host = Host::busybox();
    let plain = format!("FROM busybox\nRUN {STAMP}\n");
    let first = built(&host, &[], &plain);
    assert_eq!(built(&host, &[], &plain), first, "the same again");
    for (what, other) in [
        (
            "the command",
            format!("FROM busybox\nRUN {STAMP} \n RUN true && {STAMP}\n"),
        ),
        ("the environment", format!("FROM busybox\nENV A=1\nRUN {STAMP}\n")),
        ("the user", format!("FROM busybox\nUSER 0:0\nRUN {STAMP}\n")),
        ("the directory", format!("FROM busybox\nWORKDIR /root\nRUN {STAMP}\n")),
        (
            "the shell",
            format!("FROM busybox\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN {STAMP}\n"),
        ),
        (
            "a mount",
            format!("FROM busybox\nRUN --mount=type=tmpfs,target=/t {STAMP}\n"),
        ),
        ("the network", format!("FROM busybox\nRUN --network=none {STAMP}\n")),
        ("what is below", format!("FROM busybox\nRUN echo > /x\nRUN {STAMP}\n")),
    ] {
        assert_ne!(built(&host, &[], &other), first, "{what}");
    }
    assert_eq!(built(&host, &[], &plain), first, "after all of them");
    // What can't matter to a command does not.
    assert_eq!(
        built(&host, &[], &format!("FROM busybox\nLABEL a=b\nCMD x\nRUN {STAMP}\n")),
        first
    );
    let args = format!("FROM busybox\nARG A=1\nRUN {STAMP}\n");
    let one = built(&host, &[], &args);
    assert_ne!(built(&host, &["--build-arg", "A=2"], &args), one);
    assert_eq!(built(&host, &["--build-arg", "A=1"], &args), one);
    assert_ne!(built(&host, &["--no-cache"], &plain), first);
}

#[test]
fn content_counts_and_times_do_not() {
    let host = Host::busybox();
    let dir = context(&host, "");
    let file = dir.join("file");
    let text = format!("FROM busybox\nCOPY file /file\nRUN {STAMP}\n");
    let write = |content: &str| fs::write(&file, content).unwrap();
    let touch = |second: u64| {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(second);
        fs::File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_modified(time)
            .unwrap();
    };
    write("one");
    let first = built(&host, &[], &text);
    touch(1_000_000);
    assert_eq!(built(&host, &[], &text), first, "another time");
    write("two");
    let second = built(&host, &[], &text);
    assert_ne!(second, first, "another content");
    // The same length, and a time that was there before.
    write("ten");
    touch(1_000_000);
    assert_ne!(built(&host, &[], &text), second);
    write("one");
    assert_eq!(built(&host, &[], &text), first, "back on the other branch");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    assert_ne!(built(&host, &[], &text), first, "another mode");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(dir.join("other"), "x").unwrap();
    assert_eq!(built(&host, &[], &text), first, "a file that nothing uses");
    let mounted = format!("FROM busybox\nRUN --mount=source=file,target=/f {STAMP}\n");
    let first = built(&host, &[], &mounted);
    write("more");
    let second = built(&host, &[], &mounted);
    assert_ne!(second, first, "what a bind mount reads");
    assert_eq!(built(&host, &[], &mounted), second);
}

#[test]
fn a_stage_counts_by_what_is_in_it() {
    let host = Host::busybox();
    let text = |first: &str| {
        format!(
            "FROM busybox AS a\nRUN {first}\nRUN echo same > /same\nFROM busybox\nCOPY --from=a /same /\nRUN {STAMP}\n"
        )
    };
    let first = built(&host, &[], &text("true"));
    assert_eq!(built(&host, &[], &text("echo changed > /elsewhere")), first);
}

#[test]
fn it_outlives_its_image_and_goes_when_told() {
    let host = Host::busybox();
    let text = format!("FROM busybox\nRUN --mount=type=cache,target=/c echo > /c/f; {STAMP}\n");
    let first = built(&host, &[], &text);
    let id = inspect(&host, "made")["Id"].clone();
    host.text("rmi made");
    assert_eq!(built(&host, &[], &text), first);
    assert_eq!(inspect(&host, "made")["Id"], id);
    let df = host.text("system df");
    assert!(
        df.lines().any(|l| l.starts_with("Build Cache") && !l.contains(" 0 ")),
        "{df}"
    );
    let verbose = host.text("system df -v");
    for part in ["CACHE ID", "regular", "exec.cachemount", "uuid"] {
        assert!(verbose.contains(part), "{part} in {verbose}");
    }
    // So much may stay: nothing has to go.
    host.text("builder prune -af --max-used-space 10gb");
    assert_eq!(built(&host, &[], &text), first);
    // What the image needs stays, and is no longer known.
    host.text("builder prune -af");
    assert_eq!(host.text("run --rm --net none made cat /stamp"), first);
    assert_ne!(built(&host, &[], &text), first);
    host.text("rmi made");
    host.text("image prune -f");
    host.text("builder prune -f");
    assert_eq!(fs::read_dir(host.root.join("layers")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(host.root.join("cache/mounts")).unwrap().count(), 0);
}

#[test]
fn elsewhere_it_is_the_same_image() {
    let dockerfile = "FROM busybox\nRUN echo x > /x && mkdir /d && touch /d/y\nCOPY Dockerfile /z\nWORKDIR /w\n";
    let ids: Vec<_> = (0..2)
        .map(|n| {
            let host = Host::busybox();
            // The base is the same in both.
            let archive = std::env::temp_dir().join(format!("barge-same-{}", std::process::id()));
            let path = archive.display().to_string();
            if n == 0 {
                host.text("tag busybox base");
                host.text(["save", "-o", &path, "base"]);
            } else {
                host.text(["load", "-q", "-i", &path]);
                fs::remove_file(&archive).unwrap();
            }
            let flags = ["--network", "none", "--timestamp", "1700000000"];
            build(&host, &flags, &dockerfile.replace("busybox", "base")).ok();
            inspect(&host, "made")["Id"].clone()
        })
        .collect();
    assert_eq!(ids[0], ids[1]);
}

/// The image's id, which is another one if the RUN that writes the stamp was executed.
fn made(host: &Host, flags: &[&str], dockerfile: &str) -> String {
    let flags = [&["-q", "--network", "none"], flags].concat();
    build(host, &flags, dockerfile).ok().text()
}

/// Each flag and each part of the Dockerfile or the context that a step could see, changed alone and changed back.
#[test]
fn never_stale() {
    let host = Host::busybox();
    let dir = context(&host, "");
    let other = host.scratch().join("named");
    fs::create_dir_all(&other).unwrap();
    fs::write(other.join("f"), "1").unwrap();
    let named = format!("n={}", other.display());
    let plain = format!("FROM busybox\nRUN {STAMP}\n");
    let of = |flags: &[&str]| made(&host, flags, &plain);
    let first = of(&[]);
    for flags in [
        &["--add-host", "a:1.2.3.4"][..],
        &["--ulimit", "nofile=100"],
        &["--shm-size", "1m"],
    ] {
        assert_ne!(of(flags), first, "{flags:?}");
        assert_eq!(of(&[]), first, "back from {flags:?}");
    }
    assert_ne!(build(&host, &["-q"], &plain).ok().text(), first, "the network");
    // Limits decide how fast something is made, not what.
    for flags in [&["--memory", "64m"][..], &["--build-arg", "UNUSED=1"]] {
        assert_eq!(of(flags), first, "{flags:?}");
    }
    let labelled = of(&["--label", "a=b"]);
    assert_ne!(labelled, first);
    assert_eq!(of(&["--label", "a=b"]), labelled, "a label is a step as any");
    // What bind mounts and COPY read, of each kind of place.
    let reads = [
        ("RUN --mount=source=f,target=/f", "context"),
        ("RUN --mount=from=n,source=f,target=/f", "named context"),
        ("COPY f /f\nRUN", "context"),
        ("COPY --from=n f /f\nRUN", "named context"),
    ];
    for (line, what) in reads {
        let text = format!("FROM busybox\n{line} {STAMP}\n");
        let now = |content: &str| {
            fs::write(dir.join("f"), content).unwrap();
            fs::write(other.join("f"), content).unwrap();
            made(&host, &["--build-context", &named], &text)
        };
        let first = now("1");
        assert_ne!(now("2"), first, "{line} {what}");
        assert_eq!(now("1"), first, "{line} {what}");
    }
    // What is ignored is not read; and where a link leads is content.
    let text = format!("FROM busybox\nCOPY d /d\nRUN {STAMP}\n");
    fs::create_dir_all(dir.join("d")).unwrap();
    fs::write(dir.join("d/one"), "1").unwrap();
    let first = made(&host, &[], &text);
    fs::write(dir.join("d/two"), "2").unwrap();
    assert_ne!(made(&host, &[], &text), first, "one more file");
    fs::write(dir.join(".dockerignore"), "d/two\n").unwrap();
    assert_eq!(made(&host, &[], &text), first, "which is ignored");
    fs::remove_file(dir.join(".dockerignore")).unwrap();
    fs::remove_file(dir.join("d/two")).unwrap();
    std::os::unix::fs::symlink("one", dir.join("d/l")).unwrap();
    let linked = made(&host, &[], &text);
    fs::remove_file(dir.join("d/l")).unwrap();
    std::os::unix::fs::symlink("none", dir.join("d/l")).unwrap();
    assert_ne!(made(&host, &[], &text), linked, "where a link leads");
    // A secret is no input; a tag that has moved is.
    let secret = host.scratch().join("secret");
    let flag = format!("id=s,src={}", secret.display());
    let text = format!("FROM busybox\nRUN --mount=type=secret,id=s {STAMP}\n");
    fs::write(&secret, "1").unwrap();
    let first = made(&host, &["--secret", &flag], &text);
    fs::write(&secret, "2").unwrap();
    assert_eq!(made(&host, &["--secret", &flag], &text), first);
    let text = format!("FROM moved\nRUN {STAMP}\n");
    host.text("tag busybox moved");
    let first = made(&host, &[], &text);
    build(&host, &[], "FROM busybox\nRUN echo > /base\n").ok();
    host.text("tag made moved");
    assert_ne!(made(&host, &[], &text), first, "the tag has moved");
    host.text("tag busybox moved");
    assert_eq!(made(&host, &[], &text), first);
}

/// What a file and a mount are like besides their content, and what the build's own surroundings leave in files.
#[test]
fn never_stale_in_the_small() {
    let host = Host::busybox();
    let dir = context(&host, "");
    let at = |path: &str| dir.join(path);
    fs::create_dir_all(at("d")).unwrap();
    for (path, content) in [("f", "1"), ("d/a", "1"), ("d/b", "1")] {
        fs::write(at(path), content).unwrap();
    }
    let mode = |path: &str, mode| fs::set_permissions(at(path), fs::Permissions::from_mode(mode)).unwrap();
    let copy = format!("FROM busybox\nCOPY f /f\nRUN {STAMP}\n");
    let first = made(&host, &[], &copy);
    rustix::fs::setxattr(at("f"), "user.x", b"y", rustix::fs::XattrFlags::empty()).unwrap();
    assert_ne!(made(&host, &[], &copy), first, "an attribute");
    rustix::fs::removexattr(at("f"), "user.x").unwrap();
    assert_eq!(made(&host, &[], &copy), first, "without it again");
    // Names of one file, and a file that is the same.
    let text = format!("FROM busybox\nCOPY d /d\nRUN {STAMP}\n");
    let first = made(&host, &[], &text);
    fs::remove_file(at("d/b")).unwrap();
    fs::hard_link(at("d/a"), at("d/b")).unwrap();
    assert_ne!(made(&host, &[], &text), first, "names of one file");
    let text = format!("FROM busybox\nRUN --mount=source=d,target=/d {STAMP}\n");
    let first = made(&host, &[], &text);
    mode("d", 0o700);
    assert_ne!(made(&host, &[], &text), first, "the mode of what is mounted");
    mode("d", 0o755);
    // What a mount is asked for, each beside the first.
    let secret = host.scratch().join("secret");
    fs::write(&secret, "1").unwrap();
    let flag = format!("id=s,src={}", secret.display());
    for mounts in [
        &[
            "type=secret,id=s",
            "type=secret,id=s,mode=0444",
            "type=secret,id=s,uid=5",
        ][..],
        &["type=tmpfs,target=/t", "type=tmpfs,target=/t,size=4096"],
        &[
            "type=cache,target=/c",
            "type=cache,target=/c,id=other",
            "type=cache,target=/c,mode=0700",
            "type=cache,target=/c,from=busybox,source=/etc",
        ],
    ] {
        let mut seen = Vec::new();
        for mount in mounts {
            let text = format!("FROM busybox\nRUN --mount={mount} {STAMP}\n");
            let id = made(&host, &["--secret", &flag], &text);
            assert!(!seen.contains(&id), "{mount}");
            seen.push(id);
        }
    }
    // A secret that has to be there, after a build that went without.
    let text = |more: &str| format!("FROM busybox\nRUN --mount=type=secret,id=none{more} {STAMP}\n");
    made(&host, &[], &text(""));
    let missing = build(&host, &["--network", "none"], &text(",required=true"));
    assert_ne!(missing.code, 0, "a secret that is required");
    // A proxy is no input unless it is declared.
    let plain = format!("FROM busybox\nRUN {STAMP}\n");
    let first = made(&host, &[], &plain);
    assert_eq!(made(&host, &["--build-arg", "HTTP_PROXY=http://a"], &plain), first);
    let text = format!("FROM busybox\nARG HTTP_PROXY\nRUN {STAMP}\n");
    let first = made(&host, &["--build-arg", "HTTP_PROXY=http://a"], &text);
    assert_ne!(made(&host, &["--build-arg", "HTTP_PROXY=http://b"], &text), first);
}

/// The times that a build gives to files, and the mask of the shell it is called from.
#[test]
fn what_one_build_is_told_is_not_for_others() {
    let host = Host::busybox();
    let text = "FROM busybox\nRUN echo > /r\nCOPY Dockerfile /c\nWORKDIR /w\n";
    let times = || host.text("run --rm --net none made stat -c %Y /r /c /w");
    made(&host, &[], text);
    made(&host, &["--timestamp", "1000"], text);
    assert_eq!(times(), "1000\n1000\n1000");
    made(&host, &["--timestamp", "500"], text);
    assert_eq!(times(), "500\n500\n500");
    let text = "FROM busybox\nRUN echo 2 > /r\nCOPY Dockerfile /c\nWORKDIR /w\n";
    made(&host, &["--timestamp", "1000"], text);
    made(&host, &[], text);
    assert!(times().lines().all(|time| time.len() > 4), "{}", times());
    let created = inspect(&host, "made")["Created"].to_string();
    assert!(!created.contains("1970"), "{created}");
    let text = "FROM busybox\nWORKDIR /u/w\nCOPY d /c/d\nUSER 1000\n\
        RUN --mount=source=d,target=/b/c --mount=source=d/a,target=/b/a cat /b/c/a /b/a > /tmp/read\n";
    let dir = context(&host, text);
    fs::create_dir_all(dir.join("d")).unwrap();
    fs::write(dir.join("d/a"), "1").unwrap();
    let line = ["build", "-q", "--network", "none", "-t", "made", dir.to_str().unwrap()];
    let masked = host.barge(line).wrapped(["sh", "-c", "umask 077; exec \"$@\"", "sh"]);
    masked.timeout(seconds(60)).run().ok();
    let modes = host.text("run --rm --net none made stat -c %a / /u /u/w /c /c/d /c/d/a");
    assert_eq!(modes, "755\n755\n755\n755\n755\n644");
}

#[test]
fn a_system_prune_takes_what_no_image_uses() {
    let host = Host::busybox();
    let text = format!("FROM busybox\nRUN {STAMP}\n");
    let first = built(&host, &[], &text);
    let usage = host.text("builder du");
    for part in ["ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED", "Reclaimable:", "Total:"] {
        assert!(usage.contains(part), "{part} in {usage}");
    }
    assert!(
        host.text("buildx du --verbose").contains("Description:\t"),
        "each of them"
    );
    let said = host.text("system prune -f");
    assert!(!said.contains("Deleted build cache"), "the image has it: {said}");
    assert_eq!(built(&host, &[], &text), first);
    host.text("rmi made");
    let other = host.text("system prune -f --filter label=x");
    assert!(!other.contains("Deleted build cache"), "it has no labels: {other}");
    let said = host.text("system prune -f");
    assert!(said.contains("Deleted build cache objects:\n"), "{said}");
    assert_eq!(fs::read_dir(host.root.join("layers")).unwrap().count(), 1);
    assert_eq!(host.text(["builder", "du", "--format", "{{.ID}}"]), "");
    let asked = host.barge("system prune").stdin(b"n\n").run().ok();
    assert!(asked.text().contains("  - unused build cache\n"), "{}", asked.text());
}

/// A step that had to be made, and whose files are what they were, makes no other step be made.
#[test]
fn what_comes_after_a_step_without_a_change() {
    let host = Host::busybox();
    let text = |first: &str| format!("FROM busybox\nRUN {first}\nENV A=1\nRUN {STAMP}\nCOPY Dockerfile /d\n");
    let first = built(&host, &[], &text("true"));
    assert_eq!(built(&host, &[], &text("true && true")), first);
    assert_ne!(built(&host, &[], &text("echo > /other")), first);
    // The layers below count, not the names that they came by.
    let staged = format!("FROM busybox AS a\nRUN true\nFROM a\nENV A=1\nRUN {STAMP}\n");
    assert_eq!(built(&host, &[], &staged), first);
}

/// Of two builds with one step, one makes it; and if that one is killed, the other does.
#[test]
fn two_builds_of_one_step() {
    let host = Host::busybox();
    let gate = host.scratch().join("gate");
    fs::create_dir_all(&gate).unwrap();
    // Every execution leaves a line; it goes on when the test says so.
    let text = "FROM busybox\nRUN --mount=type=cache,target=/c echo run >> /c/log; \
        while [ ! -e /c/go ]; do sleep 0.05; done; cat /proc/sys/kernel/random/uuid > /stamp\nRUN echo $A > /after\n";
    let dir = context(&host, text);
    let start = |name: &str| {
        host.barge(["build", "-q", "--network", "none", "-t", name, dir.to_str().unwrap()])
            .timeout(seconds(60))
            .spawn()
    };
    let cache = || {
        let all = fs::read_dir(host.root.join("cache/mounts")).into_iter().flatten();
        all.flatten().map(|e| e.path().join("data/root")).find(|p| p.exists())
    };
    let lines = || {
        let log = cache().and_then(|dir| fs::read_to_string(dir.join("log")).ok());
        log.map_or(0, |log| log.lines().count())
    };
    let waits = |pid: i32| {
        // Its helper waits for the lock: that is a child, and no container.
        let children = format!("/proc/{pid}/task/{pid}/children");
        let children = fs::read_to_string(children).unwrap_or_default();
        children.split_whitespace().any(|child| {
            let call = fs::read_to_string(format!("/proc/{child}/syscall")).unwrap_or_default();
            call.starts_with("72 ") || call.starts_with("25 ")
        })
    };
    let one = start("one");
    wait_until("the first to run it", || lines() == 1);
    let two = start("two");
    wait_until("the second to wait", || waits(two.pid()));
    // The second can be ended while it waits, and leaves nothing.
    two.signal(nix::sys::signal::Signal::SIGTERM);
    assert_ne!(two.wait().code, 0);
    let two = start("two");
    wait_until("the second to wait again", || waits(two.pid()));
    fs::write(cache().unwrap().join("go"), "").unwrap();
    one.wait().ok();
    two.wait().ok();
    assert_eq!(lines(), 1, "it was made once");
    assert_eq!(inspect(&host, "one")["Id"], inspect(&host, "two")["Id"]);
    // Killed while it is at it: then the other one is.
    host.text("rmi one two");
    host.text("builder prune -af");
    let one = start("one");
    wait_until("the first to run it", || lines() == 1);
    let two = start("two");
    wait_until("the second to wait", || waits(two.pid()));
    one.signal(nix::sys::signal::Signal::SIGKILL);
    one.wait();
    wait_until("the second to run it", || lines() == 2);
    fs::write(cache().unwrap().join("go"), "").unwrap();
    two.wait().ok();
    crate::build_run::nothing_is_left(&host);
}
