//! `image prune`, `system prune`, `system df`.

use crate::support::{Host, Tar};
use std::fs;

fn small(host: &Host, name: &str, content: &str) -> String {
    let archive = Tar::new().file("file", 0o644, content.repeat(1000)).bytes();
    host.barge(["import", "-", name]).stdin(&archive).run().ok().text()
}

#[test]
fn only_nameless_images_go() {
    let host = Host::new();
    let old = small(&host, "a", "1");
    small(&host, "a", "2");
    // A container keeps its image.
    host.text("create --name keeper tiny");
    let lines = host.run("image prune -f").ok().lines();
    assert_eq!(lines[0], "Deleted Images:");
    assert_eq!(lines[1], format!("deleted: {old}"));
    assert!(lines[2].starts_with("deleted: sha256:"), "{lines:?}");
    assert_eq!(lines[3..], ["", "Total reclaimed space: 1kB"]);
    assert_eq!(host.text("image prune -f"), "Total reclaimed space: 0B");
    assert_eq!(host.run("images -q").ok().lines().len(), 2);
    host.run("start -a keeper");
}

#[test]
fn all_that_no_container_uses() {
    let host = Host::new();
    small(&host, "a:1", "1");
    host.text("tag a:1 b:2");
    host.text("create --name keeper tiny");
    assert_eq!(
        host.text("image prune -a -f --filter until=1h"),
        "Total reclaimed space: 0B"
    );
    assert_eq!(
        host.text("image prune -a -f --filter label=none"),
        "Total reclaimed space: 0B"
    );
    let said = host.text("image prune -a -f --filter until=0 --filter label!=none");
    assert!(
        said.contains("untagged: a:1\nuntagged: b:2\ndeleted: sha256:"),
        "{said}"
    );
    assert_eq!(
        host.run(["images", "--format", "{{.Repository}}"]).ok().lines(),
        ["tiny"]
    );
}

#[test]
fn a_prune_asks() {
    let host = Host::bare();
    small(&host, "a", "1");
    for (answer, goes) in [("", false), ("n\n", false), ("maybe\n", false), ("y\n", true)] {
        let output = host.barge("image prune -a").stdin(answer.as_bytes()).run().ok();
        assert!(
            output.text().contains("Are you sure you want to continue? [y/N]"),
            "{}",
            output.text()
        );
        assert_eq!(host.text("images -q").is_empty(), goes, "{answer:?}");
    }
}

#[test]
fn a_system_prune() {
    let host = Host::new();
    let old = small(&host, "a", "1");
    small(&host, "a", "2");
    host.run("run --name ended -v /data tiny /tiny write /data/x 12345")
        .ok();
    host.detached("alive", "", "block");
    host.text("network create unused");
    // What a killed pull leaves.
    fs::create_dir_all(host.root.join("downloads")).unwrap();
    fs::write(host.root.join("downloads").join("0".repeat(64)), "half of it").unwrap();
    let said = host.text("system prune -f");
    for part in [
        "Deleted Containers:\n",
        &format!("deleted: {old}"),
        "Deleted Networks:\nunused",
        "1 unfinished",
        "Total reclaimed space: ",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(!said.contains("Volumes"), "{said}");
    assert_eq!(host.text(["ps", "-a", "--format", "{{.Names}}"]), "alive");
    assert_eq!(host.run("volume ls -q").ok().lines().len(), 1);
    let said = host.text("system prune -f -a --volumes --blobs");
    assert!(
        said.contains("Deleted Volumes:\n") && said.contains("untagged: a:latest"),
        "{said}"
    );
    assert_eq!(host.text("volume ls -q"), "");
    assert_eq!(
        host.run(["images", "--format", "{{.Repository}}"]).ok().lines(),
        ["tiny"]
    );
    assert_eq!(fs::read_dir(host.root.join("downloads")).unwrap().count(), 0);
    let output = host.barge("system prune --blobs --volumes").stdin(b"n\n").run().ok();
    assert!(output.text().contains("Costs: pushing or saving"), "{}", output.text());
}

#[test]
fn what_is_on_disk() {
    let host = Host::new();
    small(&host, "a", "1");
    host.run("run --name ended -v data:/data tiny /tiny write /data/x 12345")
        .ok();
    host.detached("alive", "", "block");
    let lines = host.run("system df").ok().lines();
    assert!(
        lines[0].starts_with("TYPE") && lines[0].ends_with("RECLAIMABLE"),
        "{lines:?}"
    );
    let row = |name: &str| -> Vec<String> {
        let line = lines.iter().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(row("Images")[..2], ["2", "1"]);
    assert_eq!(row("Images")[3], "1kB");
    assert_eq!(row("Containers")[..2], ["2", "1"]);
    assert_eq!(row("Local Volumes"), ["1", "1", "5B", "0B", "(0%)"]);
    assert_eq!(row("Build Cache")[..3], ["0", "0", "0B"]);
    assert_eq!(row("Blobs")[0], "2");
    let json = host.run("system df --format json").ok().lines();
    let first: serde_json::Value = serde_json::from_str(&json[0]).unwrap();
    assert_eq!(
        (first["Type"].as_str(), first["TotalCount"].as_str()),
        (Some("Images"), Some("2"))
    );
    let verbose = host.text("system df -v");
    for part in [
        "SHARED SIZE",
        "UNIQUE SIZE",
        "LOCAL VOLUMES",
        "VOLUME NAME",
        "Build cache usage: 0B",
    ] {
        assert!(verbose.contains(part), "{part} in {verbose}");
    }
    let names = host.text([
        "system",
        "df",
        "-v",
        "--format",
        "{{range .Volumes}}{{.Name}} {{.Links}}{{end}}",
    ]);
    assert_eq!(names, "data 1");
}

#[test]
fn prune_and_import_and_run_at_once() {
    let host = Host::bare();
    let archive = crate::support::tiny_tar();
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (host, archive) = (&host, &archive);
            scope.spawn(move || {
                for _ in 0..6 {
                    match client {
                        0 => drop(host.run("image prune -a -f").ok()),
                        1 => drop(host.run("system df").ok()),
                        2 => drop(host.barge("import - shared").stdin(archive).run().ok()),
                        _ => {
                            let output = host.run("run --rm shared /tiny print whole");
                            assert!(output.code == 125 || output.text() == "whole", "{}", output.err());
                        }
                    }
                }
            });
        }
    });
    host.text("image prune -a -f");
    assert_eq!(fs::read_dir(host.root.join("layers")).unwrap().count(), 0);
}

/// A store with something of everything in it.
fn everything(host: &Host) {
    let context = host.scratch();
    fs::write(context.join("Dockerfile"), "FROM tiny\nCOPY Dockerfile /x\n").unwrap();
    host.run(["build", "-q", "-t", "made", context.to_str().unwrap()]).ok();
    host.text("network create lan");
    host.barge("secret create word -").stdin(b"x").run().ok();
    host.detached("web", "-p 127.0.0.1::80 -v data:/data --network lan", "block");
    host.detached("job", "--restart always --rm=false", "block");
    host.text("create --name still tiny");
    host.text("mount still");
    host.text("image mount made");
}

#[test]
fn a_reset_leaves_nothing() {
    let host = Host::new();
    everything(&host);
    let monitors = [host.monitor_pid("web"), host.monitor_pid("job")];
    let refused = host.barge("system reset").stdin(b"n\n").run().ok();
    assert!(refused.text().contains("all containers"), "{}", refused.text());
    assert_eq!(host.run("ps -aq").ok().lines().len(), 3);
    host.run("system reset -f").ok();
    assert!(monitors.iter().all(|pid| !crate::support::alive(*pid)));
    let left = |dir: &std::path::Path| -> Vec<_> {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(left(&host.root), ["lock", "tags.lock"]);
    assert_eq!(left(&host.run_root), ["networks.lock"]);
    let links = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let suffix = host.instance.trim_start_matches("barge-");
    assert!(!links.contains(suffix), "{links}");
    let tables = std::process::Command::new("nft")
        .args(["list", "tables"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(tables.stdout).unwrap(), "");
    // And it is an engine as any new one, whose root somebody deletes by hand.
    host.import("tiny", &crate::support::tiny_tar());
    host.text("run --rm tiny /true");
    let ours = || {
        fs::read_to_string("/proc/thread-self/net/dev")
            .unwrap()
            .contains(suffix)
    };
    assert!(ours());
    fs::remove_dir_all(&host.root).unwrap();
    host.run("system reset --force").ok();
    assert!(!ours());
}

#[test]
fn a_reset_of_no_store_touches_nothing() {
    let host = Host::bare();
    fs::create_dir_all(host.root.join("images")).unwrap();
    fs::write(host.root.join("images/holiday"), "x").unwrap();
    host.run("system reset -f").fails(1).says(&["no store"]);
    assert_eq!(fs::read_dir(&host.root).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(host.root.join("images/holiday")).unwrap(), "x");
    fs::remove_dir_all(&host.root).unwrap();
}
