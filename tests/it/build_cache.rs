//! The build cache: what it takes for the same and what not, whom it keeps layers for, and how it goes.

use crate::build_run::{build, context, inspect};
use crate::support::Host;
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
