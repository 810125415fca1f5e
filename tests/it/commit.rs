//! Containers that become images, and tars.

use crate::support::{Host, alive, seconds, wait_until};
use std::fs;

fn config(host: &Host, image: &str) -> serde_json::Value {
    let text = host.text(["image", "inspect", "--format", "{{json .Config}}", image]);
    serde_json::from_str(&text).unwrap()
}

fn layers(host: &Host, image: &str) -> Vec<String> {
    let text = host.text(["image", "inspect", "--format", "{{json .RootFS.Layers}}", image]);
    serde_json::from_str(&text).unwrap()
}

/// The layer's tar as `save` or a push would give it; the engine itself re-hashes it.
fn upper_is_empty(host: &Host, container: &str) -> bool {
    let upper = host.root.join("containers").join(host.id(container)).join("upper");
    fs::read_dir(upper).unwrap().count() == 0
}

const CHANGES: &str = "echo new > /new; rm /etc/group; rm -r /var; mkdir /var; echo v > /var/v; \
    echo root:x:0:0::/root:/bin/sh > /etc/passwd; ln /new /same; mkfifo /fifo; \
    find /new /var /etc /fifo -exec touch -d @1000000000 {} +; touch -d @1000000000 / /etc";

#[test]
fn a_stopped_container_becomes_an_image_without_a_copy() {
    let host = Host::busybox();
    host.run([
        "run", "--name", "c", "-e", "A=1", "-w", "/tmp", "busybox", "sh", "-c", CHANGES,
    ])
    .ok();
    let inode = |path: &std::path::Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let upper = host.root.join("containers").join(host.id("c")).join("upper");
    let before = inode(&upper.join("new"));
    let id = host.text("commit -m why -a me c made:1");
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    // The very file is in the layer now.
    let top = host.text(["inspect", "--format", "{{.GraphDriver.Data.UpperDir}}", "made:1"]);
    assert_eq!(inode(&std::path::Path::new(&top).join("new")), before);
    assert!(upper_is_empty(&host, "c"));
    // They are the container's changes still.
    let size = host.text("inspect --type container --size --format {{.SizeRw}} c");
    assert!(size.parse::<u64>().unwrap() > 0, "{size}");
    assert_eq!(layers(&host, "made:1").len(), 2);
    let see = "cat /new /var/v; ls /var /etc; stat -c '%h %Y' /same; pwd";
    let seen = host.text(["run", "--rm", "made:1", "sh", "-c", see]);
    assert!(seen.starts_with("new\nv\n") && !seen.contains("group"), "{seen}");
    assert!(seen.contains("2 1000000000") && seen.ends_with("/tmp"), "{seen}");
    // The container has what it had, and changes no image when it goes on.
    host.text("start -a c");
    host.run(["run", "--rm", "made:1", "cat", "/new"]).ok();
    let config = config(&host, "made:1");
    assert_eq!(config["Env"], serde_json::json!(["A=1"]));
    assert_eq!(config["Cmd"][2], CHANGES);
    assert_eq!(config["WorkingDir"], "/tmp");
    assert_eq!(
        host.text(["inspect", "--format", "{{.Author}} {{.Comment}}", "made:1"]),
        "me why"
    );
    host.text("rm c");
    host.text("rmi made:1");
}

#[test]
fn the_same_tree_is_the_same_layer() {
    let host = Host::busybox();
    let mut seen = Vec::new();
    for name in ["one", "two"] {
        host.run(["run", "--name", name, "busybox", "sh", "-c", CHANGES]).ok();
        host.text(["commit", name, name]);
        seen.push(layers(&host, name));
    }
    // Copied from a running one: by another way to the same bytes.
    let script = format!("{CHANGES}; exec sleep 1000");
    host.run(["run", "-d", "--name", "live", "busybox", "sh", "-c", &script])
        .ok();
    wait_until("the changes", || {
        host.run("exec live stat -c %Y /etc").text() == "1000000000"
    });
    wait_until("the last touch", || host.run("exec live pidof sleep").code == 0);
    host.text("commit live live");
    seen.push(layers(&host, "live"));
    host.text("commit --pause=false live unpaused");
    seen.push(layers(&host, "unpaused"));
    assert!(seen.iter().all(|l| *l == seen[0]), "{seen:?}");
    // What is later than SOURCE_DATE_EPOCH is not.
    let mut dated = Vec::new();
    for name in ["a", "b"] {
        host.run(["run", "--name", name, "busybox", "sh", "-c", "date > /x; echo y > /x"])
            .ok();
        let commit = host
            .barge(["commit", name, "dated"])
            .env("SOURCE_DATE_EPOCH", "1234567890");
        let id = commit.run().ok().text();
        dated.push(layers(&host, "dated"));
        assert_eq!(host.text("run --rm dated stat -c %Y /x"), "1234567890");
        assert_eq!(
            host.text(["inspect", "--format", "{{.Created}}", id.as_str()]),
            "2009-02-13T23:31:30Z"
        );
    }
    assert_eq!(dated[0], dated[1]);
    host.text("rm -f one two live a b");
}

#[test]
fn a_running_container_goes_on_and_is_whole() {
    let host = Host::busybox();
    // Two files that are never different for a reader who sees them at one moment.
    let script = "mkdir /d; i=0; while :; do i=$((i+1)); echo $i > /d/new; mv /d/new /d/a; cp /d/a /d/b; done";
    host.run(["run", "-d", "--name", "c", "busybox", "sh", "-c", script])
        .ok();
    wait_until("files", || host.run("exec c cat /d/b").code == 0);
    for _ in 0..3 {
        host.text("commit c made");
        let pid = host.init_pid("c");
        assert!(alive(pid));
        let frozen = host.text("exec c cat /d/a");
        wait_until("the container to go on", || host.text("exec c cat /d/a") != frozen);
        host.run("run --rm made ls /d/a").ok();
    }
    host.text("rm -f c");
    host.text("rmi made");
}

#[test]
fn the_configuration_can_be_changed() {
    let host = Host::busybox();
    host.run("run --name c -h myhost --expose 80 -l a=b -v /data -t busybox true")
        .ok();
    host.text("commit c plain");
    let plain = config(&host, "plain");
    assert_eq!(plain["Cmd"], serde_json::json!(["true"]));
    assert_eq!(plain["Labels"], serde_json::json!({"a": "b"}));
    assert_eq!(plain["ExposedPorts"], serde_json::json!({"80/tcp": {}}));
    assert_eq!(plain["Volumes"], serde_json::json!({"/data": {}}));
    assert!(
        plain
            .get("Env")
            .is_none_or(|env| env.as_array().is_none_or(Vec::is_empty)),
        "{plain}"
    );
    assert!(!plain.to_string().contains("myhost"), "{plain}");
    host.run([
        "commit",
        "-run",
        r#"{"Cmd": ["echo", "2013"], "PortSpecs": ["22"]}"#,
        "c",
        "old",
        "tag",
    ])
    .ok();
    assert_eq!(host.text("run --rm old:tag"), "2013");
    host.run([
        "commit",
        "-c",
        "ENTRYPOINT [\"echo\", \"hi\"]",
        "--change",
        "ENV X=1",
        "c",
        "new",
    ])
    .ok();
    assert_eq!(host.text("run --rm new there"), "hi there");
    assert_eq!(config(&host, "new")["Env"], serde_json::json!(["X=1"]));
    for bad in [
        &["commit", "-run", "{", "c", "wrong"][..],
        &["commit", "-c", "RUN x", "c", "wrong"],
        &["commit", "c", "BAD"],
        &["commit", "nobody", "wrong"],
    ] {
        let code = host.run(bad.to_vec()).code;
        assert!(code == 1 || code == 125, "{bad:?}: {code}");
        assert_ne!(host.run("image exists wrong").code, 0);
    }
    // Nothing was changed: no layer, only a configuration.
    assert_eq!(
        layers(&host, "plain").len(),
        1 + usize::from(layers(&host, "plain") != layers(&host, "busybox"))
    );
    host.text("rm -v c");
}

#[test]
fn a_created_container_has_no_changes() {
    let host = Host::new();
    host.run("create --name c tiny /tiny exit 7").ok();
    host.text("commit c made");
    assert_eq!(layers(&host, "made"), layers(&host, "tiny"));
    host.run("run --rm made").fails(7);
    host.text("rm c");
}

#[test]
fn again_and_again_and_all_in_one() {
    let host = Host::busybox();
    host.run([
        "run",
        "--name",
        "c",
        "busybox",
        "sh",
        "-c",
        "date >> /log; rm -f /gone; ls /made || touch /made /gone",
    ]);
    for n in 1..=4 {
        host.text(["commit", "c", &format!("made:{n}")]);
        host.run("start -a c");
    }
    assert_eq!(layers(&host, "made:4").len(), 5);
    assert_eq!(host.text("run --rm made:4 wc -l /log"), "4 /log");
    host.text("commit --squash c flat");
    assert_eq!(layers(&host, "flat").len(), 1);
    assert_eq!(host.text("run --rm flat wc -l /log"), "5 /log");
    host.run("run --rm flat ls /gone").fails(1);
    let entries = host.barge("export c").shell(r#""$@" | tar -t"#).run().ok().text();
    assert!(
        entries.contains("made") && !entries.contains("gone") && !entries.contains("etc/hosts"),
        "{entries}"
    );
    host.text("rm c");
}

#[test]
fn an_export_is_what_the_container_sees_without_volumes() {
    let host = Host::busybox();
    let script = "echo own > /own; echo data > /data/file; chown 7:8 /own; echo ready; exec sleep 1000";
    host.run(["run", "-d", "--name", "c", "-v", "/data", "busybox", "sh", "-c", script])
        .ok();
    host.wait_log("c", "ready");
    let file = host.scratch().join("c.tar");
    for state in ["running", "stopped"] {
        host.text(["export", "-o", file.to_str().unwrap(), "c"]);
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600, "whoever may read it has the container's secrets");
        let list = host
            .barge("export c")
            .shell(r#""$@" | tar -tv --numeric-owner"#)
            .run()
            .ok()
            .text();
        assert!(list.contains("7/8"), "{state}: {list}");
        assert!(
            list.contains(" data/\n") && !list.contains("data/file"),
            "{state}: {list}"
        );
        assert!(
            !list.contains("resolv.conf") && !list.contains("proc/"),
            "{state}: {list}"
        );
        assert_eq!(fs::read(&file).unwrap(), host.run("export c").ok().stdout, "{state}");
        host.text("stop -t 0 c");
    }
    // Back in, as one layer.
    host.import("flat", &fs::read(&file).unwrap());
    assert_eq!(host.text("run --rm flat cat /own"), "own");
    // Nothing half done is left.
    let bad = host.scratch().join("missing/c.tar");
    host.run(["export", "-o", bad.to_str().unwrap(), "c"]).fails(1);
    let terminal = host
        .barge("export c")
        .shell(r#"script -qec "$*" /dev/null < /dev/null"#)
        .run();
    assert!(
        terminal.text().contains("refusing to save to a terminal"),
        "{}",
        terminal.text()
    );
    host.text("rm -v c");
}

#[test]
fn a_commit_and_everything_else_at_once() {
    let host = Host::busybox();
    host.run("run --name c busybox touch /x").ok();
    std::thread::scope(|threads| {
        for n in 0..4 {
            let host = &host;
            threads.spawn(move || {
                for round in 0..3 {
                    let name = format!("made{n}:{round}");
                    host.barge(["commit", "c", &name]).timeout(seconds(60)).run().ok();
                    host.barge("start -a c").timeout(seconds(60)).run();
                    host.run(["run", "--rm", &name, "ls", "/x"]).ok();
                    host.run(["rmi", &name]);
                }
            });
        }
    });
    host.text("rm c");
}

#[test]
fn a_diff_tells_what_docker_tells() {
    let host = Host::busybox();
    let script = "echo x > /new; rm /etc/group; mkdir -p /d/e; echo y >> /etc/passwd; rm -r /home; mkdir /home; \
        chmod 700 /var; echo hi > /var/v; rm /bin/wget; ln -s x /bin/wget; echo ready; exec sleep 1000";
    host.run(["run", "-d", "--name", "c", "-v", "/data", "busybox", "sh", "-c", script])
        .ok();
    host.wait_log("c", "ready");
    let expected = "C /bin\nC /bin/wget\nA /d\nA /d/e\nA /data\nC /etc\nD /etc/group\nC /etc/passwd\nC /home\n\
        A /new\nC /var\nA /var/v";
    assert_eq!(host.text("diff c"), expected);
    host.text("stop -t 0 c");
    assert_eq!(host.text("diff c"), expected);
    // Committed, it is still what the container has changed.
    host.text("commit c made");
    assert_eq!(host.text("diff c"), expected);
    host.text("rm -v c");
    host.run(["run", "--name", "c", "made", "true"]).ok();
    assert_eq!(host.text("diff c"), "");
    host.run("diff nobody").fails(1);
    host.text("rm -v c");
}
