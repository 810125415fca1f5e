//! Wrong command lines and wrong files: one clear line, the right exit code, nothing left behind.

use crate::archives::{INDEX, MANIFEST, descriptor, image, layout};
use crate::support::{Host, Tar};
use serde_json::json;

/// An index that is large, and leads to the same small image a thousand times: it is in memory once.
#[test]
fn an_archive_that_repeats_itself() {
    let host = Host::bare();
    let [config, manifest, layer] = image("amd64", Tar::new().file("a", 0o644, "a").bytes());
    let entries = vec![descriptor(MANIFEST, &manifest); 1000];
    let inner = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries,
        "annotations": {"padding": "x".repeat(3_000_000)}})
    .to_string()
    .into_bytes();
    let index = json!({"schemaVersion": 2, "manifests": [descriptor(INDEX, &inner)]});
    let archive = layout(&[config, manifest, layer, inner], &index);
    host.barge("load")
        .wrapped(["prlimit", "--as=1000000000"])
        .stdin(&archive)
        .run()
        .ok();
    assert_eq!(host.text("images -aq").lines().count(), 1);
}

#[test]
fn wrong_command_lines() {
    let host = Host::new();
    // (command line, exit code, what the line must name)
    let table: &[(&str, i32, &str)] = &[
        ("nonsense", 125, "nonsense"),
        ("run --nonsense tiny", 125, "nonsense"),
        ("run -Z tiny", 125, "-Z"),
        ("ps --nonsense", 125, "nonsense"),
        ("ps extra", 125, "extra"),
        ("run -d -a stdout tiny /true", 125, "-a"),
        ("run --rm -a nonsense tiny /true", 125, "nonsense"),
        ("run --rm --name UPPER/slash tiny /true", 125, "UPPER/slash"),
        ("run --rm -m 0x10 tiny /true", 125, "0x10"),
        ("run --rm --cpus nonsense tiny /true", 125, "nonsense"),
        ("run --rm --pids-limit x tiny /true", 125, "x"),
        ("run --rm --ulimit nofile tiny /true", 125, "nofile"),
        ("run --rm --net nonsense:x tiny /true", 125, "nonsense"),
        ("run --rm --security-opt nonsense=1 tiny /true", 125, "nonsense"),
        ("run --rm --security-opt seccomp=/none tiny /true", 125, "/none"),
        ("run --rm -h bad_host! tiny /true", 125, "bad_host!"),
        ("run --rm --tmpfs relative tiny /true", 125, "relative"),
        ("run --rm --shm-size nonsense tiny /true", 125, "nonsense"),
        ("run --rm -e =x tiny /true", 125, "=x"),
        ("run --rm --stop-timeout x tiny /true", 125, "x"),
        ("run --rm UPPER /true", 125, "UPPER"),
        ("create --init=maybe tiny", 125, "maybe"),
        ("inspect", 125, ""),
        ("rm", 125, ""),
        ("stop -t x y1", 125, "x"),
        ("logs --tail", 125, "tail"),
        ("volume nonsense", 125, "nonsense"),
        ("volume rm", 125, ""),
        ("image inspect none", 1, "none"),
        ("start none", 1, "No such container: none"),
        ("restart none", 1, "No such container: none"),
        ("rm none", 1, "No such container: none"),
    ];
    for (line, code, named) in table {
        let output = host.run(*line);
        assert_eq!(output.code, *code, "{line}: {}", output.err());
        output.says(&[named]);
    }
    assert_eq!(host.text("ps -aq"), "");
    assert_eq!(host.text("volume ls -q"), "");
}

#[test]
fn an_image_without_a_command() {
    let host = Host::bare();
    host.import("tiny", &crate::support::tiny_tar());
    host.run("run --rm tiny").fails(125).says(&["o command"]);
    assert_eq!(host.text("ps -aq"), "");
}

#[test]
fn ids_that_match_twice() {
    let host = Host::new();
    let mut seen = std::collections::BTreeMap::<char, u32>::new();
    let twice = loop {
        let first = host.text("create tiny").chars().next().unwrap();
        let count = seen.entry(first).or_default();
        *count += 1;
        if *count == 2 {
            break first;
        }
    };
    let output = host.run(["inspect", &twice.to_string()]).fails(1);
    assert!(
        output.err().to_lowercase().contains("multiple") || output.err().contains("ambiguous"),
        "{}",
        output.err()
    );
    host.run(["rm", &twice.to_string()]).fails(1);
}

#[test]
fn a_root_directory_of_another_format_or_kind() {
    let host = Host::bare();
    std::fs::write(&host.root, "a file").unwrap();
    host.run("ps").fails(1).says(&[host.root.to_str().unwrap()]);
    std::fs::remove_file(&host.root).unwrap();
    std::fs::create_dir(&host.root).unwrap();
    std::fs::write(host.root.join("format"), "99\n").unwrap();
    host.run("ps").fails(1).says(&["99"]);
    std::fs::remove_file(host.root.join("format")).unwrap();
}

#[test]
fn not_root() {
    let host = Host::new();
    let dir = host.scratch();
    // The binary may stand where only root can read it.
    let copy = dir.join("barge");
    std::fs::copy(crate::support::binary(), &copy).unwrap();
    let line: Vec<std::ffi::OsString> = vec!["run".into(), "--rm".into(), "tiny".into(), "/true".into()];
    let output = crate::support::Cmd::new(&copy, line)
        .wrapped(["setpriv", "--reuid=65534", "--clear-groups"])
        .run();
    assert!(output.code != 0 && output.err().contains("root"), "{}", output.err());
    let version: Vec<std::ffi::OsString> = vec!["--version".into()];
    crate::support::Cmd::new(&copy, version)
        .wrapped(["setpriv", "--reuid=65534", "--clear-groups"])
        .run()
        .ok();
}

#[test]
fn help_and_version() {
    let host = Host::bare();
    assert!(host.text("--version").starts_with("barge version "));
    for line in ["--help", "help", "run --help", "help run", "volume --help"] {
        let output = host.run(line).ok();
        assert!(output.text().contains("barge"), "{line}");
        assert_eq!(output.err(), "");
    }
    assert!(host.run("version").ok().text().contains("Version"));
    assert!(!host.root.exists(), "asking for help makes no directories");
}

#[test]
fn output_to_a_full_device_is_an_error() {
    let host = Host::new();
    let output = host.barge("ps -a").shell("exec \"$@\" >/dev/full").run();
    assert_ne!(output.code, 0);
    assert_eq!(output.err().lines().count(), 1, "{}", output.err());
}

#[test]
fn what_a_value_may_be_is_told() {
    let host = Host::bare();
    for (line, says) in [
        ("inspect --type odd x", &["--type", "there are container"][..]),
        ("run --image-volume odd x", &["--image-volume", "there are anonymous"]),
        ("completion tcsh", &["'tcsh'", "there are bash"]),
        ("stats -i 0", &["--interval", "1 or more"]),
        ("update --restart odd x", &["--restart", "invalid restart policy"]),
        ("volume create --driver nfs v", &["plugin \"nfs\" not found"]),
        (
            "run --runtime runc x",
            &["invalid runtime name: runc", "leave --runtime out"],
        ),
    ] {
        let wrong = host.run(line).fails(125);
        for part in says {
            assert!(wrong.err().contains(part), "{line}: {}", wrong.err());
        }
    }
    assert_eq!(host.text("volume create -d local v"), "v");
}
