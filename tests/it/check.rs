//! `system check`: what is damaged is found and named, and repaired as far as anything can make it again.

use crate::support::{Host, Tar, tiny, tiny_tar};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// The only layer's files.
fn diff(host: &Host) -> PathBuf {
    let mut layers = fs::read_dir(host.root.join("layers")).unwrap();
    let diff = layers.next().unwrap().unwrap().path().join("diff");
    assert!(layers.next().is_none());
    diff
}

fn image_file(host: &Host) -> PathBuf {
    fs::read_dir(host.root.join("images"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path()
}

#[test]
fn a_sound_store() {
    let host = Host::new();
    host.text("create --name x1 -v data:/data tiny");
    let said = host.text("system check");
    assert_eq!(
        said,
        "Checked 1 image, 1 layer, 1 blob, 1 container, 1 volume: nothing is wrong"
    );
    assert!(host.text("system check --quick").ends_with("nothing is wrong"));
    assert!(host.text("system check --repair").ends_with("nothing is wrong"));
    host.tiny("", "print x").ok();
}

#[test]
fn each_damage_is_named() {
    type Spoil<'a> = &'a dyn Fn(&Host);
    let damages: [(&str, Spoil<'_>, &str); 7] = [
        (
            "content",
            &|host| fs::write(diff(host).join("etc/passwd"), "root::0:0::/:\n").unwrap(),
            "layer sha256:",
        ),
        (
            "added",
            &|host| fs::write(diff(host).join("new"), "x").unwrap(),
            "new was added",
        ),
        (
            "missing",
            &|host| fs::remove_dir(diff(host).join("tmp")).unwrap(),
            "tmp is missing",
        ),
        (
            "record",
            &|host| fs::write(image_file(host), "{\"id\":").unwrap(),
            "is damaged",
        ),
        (
            "configuration",
            &|host| {
                let blob = fs::read_dir(host.root.join("blobs/sha256"))
                    .unwrap()
                    .next()
                    .unwrap()
                    .unwrap();
                fs::write(blob.path(), "{}").unwrap();
            },
            "its configuration: blob sha256:",
        ),
        (
            "tags",
            &|host| fs::write(host.root.join("tags.json"), "{\"repositories\":").unwrap(),
            "tags.json is damaged",
        ),
        (
            "blob",
            &|host| fs::write(host.root.join("blobs/sha256").join("0".repeat(64)), "x").unwrap(),
            "blob sha256:0000",
        ),
    ];
    for (name, damage, expected) in damages {
        let host = Host::new();
        damage(&host);
        let output = host.run("system check").fails(1);
        assert!(output.text().contains(expected), "{name}: {}", output.text());
        assert!(output.text().contains(" damaged"), "{name}: {}", output.text());
        let output = host.run("system check --repair");
        assert!(output.text().contains("repaired: "), "{name}: {}", output.text());
        host.run("system check").ok();
        if name == "content" {
            // Nothing can make it again.
            assert_eq!(host.text("images -q"), "");
        } else {
            let id = host.text("images -q");
            host.run(["run", "--rm", &id, "/tiny", "print", "x"]).ok();
        }
    }
}

#[test]
fn modes_and_owners_come_back() {
    let host = Host::new();
    let file = diff(&host).join("tiny");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let said = host.run("system check").fails(1).text();
    assert!(said.contains("tiny: has another mode"), "{said}");
    // Not below a container that runs.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o700)).unwrap();
    host.detached("alive", "", "block");
    let said = host.run("system check --repair").fails(1).text();
    assert!(
        said.contains("not repaired: container alive runs on it") && said.contains("hint: barge stop alive"),
        "{said}"
    );
    host.text("rm -f alive");
    let said = host.text("system check --repair");
    assert!(said.contains("repaired: unpacked again from its own record"), "{said}");
    assert_eq!(
        fs::metadata(diff(&host).join("tiny")).unwrap().permissions().mode() & 0o777,
        0o755
    );
    host.run("system check").ok();
}

#[test]
fn what_a_container_needs_is_not_removed() {
    let host = Host::new();
    host.text("create --name x1 tiny");
    fs::write(diff(&host).join("etc/passwd"), "root::0:0::/:\n").unwrap();
    let said = host.run("system check --repair").fails(1).text();
    assert!(
        said.contains("not repaired: nothing can make it again, and container"),
        "{said}"
    );
    assert_eq!(host.run("images -q").ok().lines().len(), 1);
    host.text("rm x1");
    let said = host.text("system check --repair");
    assert!(said.contains("removed image tiny:latest"), "{said}");
    host.import("tiny", &tiny_tar());
    host.tiny("", "print x").ok();
}

#[test]
fn names_without_an_image_and_containers_without_a_record() {
    let host = Host::new();
    host.import(
        "other",
        &Tar::new().file("tiny", 0o755, fs::read(tiny()).unwrap()).bytes(),
    );
    let other = host.text("images -q --no-trunc other");
    fs::remove_file(host.root.join(format!("images/{}.json", &other[7..]))).unwrap();
    let said = host.run("system check").fails(1).text();
    assert!(said.contains("name other:latest: its image"), "{said}");
    let said = host.text("system check --repair");
    assert!(said.contains("`barge pull other:latest` brings it back"), "{said}");
    host.text("create --name x1 tiny");
    let id = host.id("x1");
    fs::write(host.root.join(format!("containers/{id}/config.json")), "{").unwrap();
    let said = host.run("system check --repair").fails(1).text();
    assert!(
        said.contains(&format!("container {id}")) && said.contains("hint: barge rm -f"),
        "{said}"
    );
    host.text(["rm", "-f", &id]);
    host.run("system check").ok();
}

#[test]
fn a_check_beside_others() {
    let host = Host::bare();
    let archive = tiny_tar();
    std::thread::scope(|scope| {
        for client in 0..3 {
            let (host, archive) = (&host, &archive);
            scope.spawn(move || {
                for _ in 0..6 {
                    match client {
                        0 => drop(host.run("system check").ok()),
                        1 => drop(host.barge("import - shared").stdin(archive).run().ok()),
                        _ => drop(host.run("image prune -a -f").ok()),
                    }
                }
            });
        }
    });
    host.text("image prune -a -f");
}
