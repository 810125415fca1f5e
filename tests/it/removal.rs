//! What `rmi` takes away, says and refuses; which images are listed, and how.

use crate::support::{Host, Tar, tiny, tiny_tar};
use std::fs;

/// An image of one small layer of its own.
fn small(host: &Host, name: &str, content: &str) -> String {
    let archive = Tar::new().file("file", 0o644, content).bytes();
    host.barge(["import", "-", name]).stdin(&archive).run().ok().text()
}

fn store_is_empty(host: &Host) {
    for folder in ["layers", "images", "blobs/sha256", "staging"] {
        let left = fs::read_dir(host.root.join(folder)).unwrap().count();
        assert_eq!(left, 0, "{folder}");
    }
}

#[test]
fn the_lines_are_dockers() {
    let host = Host::bare();
    let id = small(&host, "a:1", "one");
    host.text("tag a:1 example.org/b:2");
    assert_eq!(host.text("rmi a:1"), "Untagged: a:1");
    let lines = host.run("rmi example.org/b:2").ok().lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(lines[0], "Untagged: example.org/b:2");
    assert_eq!(lines[1], format!("Deleted: {id}"));
    assert!(
        lines[2].starts_with("Deleted: sha256:") && lines[2] != lines[1],
        "{lines:?}"
    );
    store_is_empty(&host);
}

#[test]
fn one_failure_does_not_stop_the_others() {
    let host = Host::bare();
    small(&host, "a", "one");
    small(&host, "b", "two");
    let output = host.run("rmi a none b").fails(1).says(&["No such image: none"]);
    assert!(output.text().contains("Untagged: a:latest") && output.text().contains("Untagged: b:latest"));
    store_is_empty(&host);
    let output = host.run("rmi -f none").ok();
    assert!(output.err().contains("No such image: none"), "{}", output.err());
}

#[test]
fn by_id_all_names_go_only_by_force() {
    let host = Host::bare();
    let id = small(&host, "a:1", "one");
    host.text("tag a:1 b:2");
    host.run(["rmi", &id]).fails(1).says(&[
        "conflict: unable to delete",
        "(must be forced) - image is referenced in multiple repositories",
    ]);
    let lines = host.run(["rmi", "-f", &id[7..15]]).ok().lines();
    assert_eq!(
        lines[..3],
        [
            "Untagged: a:1".to_owned(),
            "Untagged: b:2".to_owned(),
            format!("Deleted: {id}")
        ]
    );
    store_is_empty(&host);
}

#[test]
fn images_in_use() {
    let host = Host::new();
    let id = host.text("images -q --no-trunc tiny");
    host.detached("running", "", "block");
    host.run("rmi tiny").fails(1).says(&[
        "conflict: unable to remove repository reference \"tiny\" (must force)",
        "is using its referenced image",
    ]);
    host.run(["rmi", "-f", &id])
        .fails(1)
        .says(&["(cannot be forced) - image is being used by running container"]);
    // By name and with force it loses the name, no more.
    assert_eq!(host.text("rmi -f tiny"), "Untagged: tiny:latest");
    assert_eq!(host.text("exec running /tiny print on"), "on");
    assert_eq!(host.text("images -q --no-trunc"), id);
    host.text("stop -t 0 running");
    host.run(["rmi", &id])
        .fails(1)
        .says(&["(must be forced) - image is being used by stopped container"]);
    assert!(host.text(["rmi", "-f", &id]).contains(&format!("Deleted: {id}")));
    // Its layers stay for the container, and go with it.
    host.text("start running");
    assert_eq!(host.text("exec running /tiny print on"), "on");
    host.text("rm -f running");
    assert_eq!(fs::read_dir(host.root.join("layers")).unwrap().count(), 0);
}

#[test]
fn shared_layers_stay() {
    let host = Host::bare();
    host.import("one", &tiny_tar());
    host.barge(["import", "-c", "ENV A=1", "-", "two"])
        .stdin(&tiny_tar())
        .run()
        .ok();
    let said = host.text("rmi one");
    assert_eq!(said.matches("Deleted:").count(), 1, "{said}");
    assert_eq!(host.text("run --rm two /tiny print x"), "x");
    assert_eq!(host.text("rmi two").matches("Deleted:").count(), 2);
}

#[test]
fn exists_answers_by_its_code() {
    let host = Host::new();
    host.text("create --name x1 tiny");
    for (line, code) in [
        ("image exists tiny", 0),
        ("image exists none", 1),
        ("image exists UPPER", 1),
        ("container exists x1", 0),
        ("container exists x2", 1),
    ] {
        let output = host.run(line).fails(code);
        assert_eq!((output.text(), output.err()), (String::new(), String::new()), "{line}");
    }
}

#[test]
fn lists_and_filters() {
    let host = Host::bare();
    let old = small(&host, "team/a:1", "one");
    host.barge(["import", "-c", "LABEL tier=web", "-", "team/b:2"])
        .stdin(&Tar::new().file("x", 0o644, "two").bytes())
        .run()
        .ok();
    let new = small(&host, "team/a:1", "three");
    let names = |line: &str| {
        let words = line.split_whitespace().map(str::to_owned);
        let line: Vec<String> = words
            .chain(["--format".into(), "{{.Repository}}:{{.Tag}}".into()])
            .collect();
        host.run(line).ok().lines()
    };
    assert_eq!(names("images"), ["team/a:1", "team/b:2", "<none>:<none>"]);
    assert_eq!(names("images team/*"), ["team/a:1", "team/b:2"]);
    assert_eq!(names("images *"), Vec::<String>::new());
    assert_eq!(names("image ls team/a"), ["team/a:1"]);
    assert_eq!(names("images --filter label=tier=web"), ["team/b:2"]);
    assert_eq!(names("images --filter since=team/b:2"), ["team/a:1"]);
    assert_eq!(names("images --filter before=team/b:2"), ["<none>:<none>"]);
    assert_eq!(names("images --filter until=1h"), Vec::<String>::new());
    assert_eq!(names("images --filter until=0").len(), 3);
    assert_eq!(names("images --filter reference=*/*:2"), ["team/b:2"]);
    assert_eq!(host.text("images -q --no-trunc --filter dangling=true"), old);
    host.run("images --filter nonsense=1")
        .fails(125)
        .says(&["invalid filter 'nonsense=1'"]);
    let json = host.text("images team/a --format json");
    let row: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(row["ID"], new[7..19], "{row}");
    assert_eq!(row["Platform"].as_str().map(|p| p.starts_with("linux/")), Some(true));
}

#[test]
fn trees_and_graphs() {
    let host = Host::bare();
    host.import("one", &tiny_tar());
    let id = host.text("images -q one");
    for spelling in ["--tree", "-tree"] {
        let tree = host.text(["images", spelling]);
        assert!(
            tree.starts_with(&format!("└─{id} Size: ")) && tree.ends_with("Tags: one:latest"),
            "{tree}"
        );
    }
    let graph = host.text("images -viz");
    assert!(
        graph.starts_with("digraph images {") && graph.contains(&format!("base -> \"{id}\" [style=invis]")),
        "{graph}"
    );
}

#[test]
fn rmi_and_run_of_one_image_at_once() {
    let host = Host::bare();
    let archive = Tar::new().file("tiny", 0o755, fs::read(tiny()).unwrap()).bytes();
    std::thread::scope(|scope| {
        for client in 0..3 {
            let (host, archive) = (&host, &archive);
            scope.spawn(move || {
                for _ in 0..8 {
                    match client {
                        0 => drop(host.barge("import - shared").stdin(archive).run().ok()),
                        1 => {
                            let output = host.run("rmi shared");
                            let known = ["No such image", "is using its referenced image"];
                            assert!(
                                output.code == 0 || known.iter().any(|k| output.err().contains(k)),
                                "{}",
                                output.err()
                            );
                        }
                        _ => {
                            let output = host.run("run --rm shared /tiny print whole");
                            match output.code {
                                0 => assert_eq!(output.text(), "whole"),
                                code => assert!(code == 125 && output.err().contains("shared"), "{}", output.err()),
                            }
                        }
                    }
                }
            });
        }
    });
    host.run("rmi -f shared");
    for id in host.run("images -aq").ok().lines() {
        host.text(["rmi", &id]);
    }
    store_is_empty(&host);
}
