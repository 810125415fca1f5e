//! Images that came from registries: their digests as names, what goes and what is repaired with them; `insert`.

use crate::support::http::{self, Service};
use crate::support::registry::{Registry, Setup, barge};
use crate::support::{Cmd, Host, Tar, tiny, tiny_tar};
use std::fs;

/// Puts an archive's image into the registry with skopeo, so that no push of ours is needed.
fn publish(host: &Host, registry: &Registry, local: &str, name: &str) {
    let file = host.scratch().join("publish.tar");
    host.run(["save", "-o", file.to_str().unwrap(), local]).ok();
    let from = format!("docker-archive:{}", file.display());
    let to = format!("docker://{}", registry.name(name));
    let line = [
        "copy",
        "--quiet",
        "--insecure-policy",
        "--dest-tls-verify=false",
        &from,
        &to,
    ];
    Cmd::new("skopeo", line.map(Into::into).to_vec()).run().ok();
    fs::remove_file(file).unwrap();
}

/// The digest by which the image of a name is known.
fn repo_digest(host: &Host, name: &str) -> String {
    host.text(["image", "inspect", "-f", "{{index .RepoDigests 0}}", name])
}

/// A registry that has `tiny` as `a:1`, and it alone pulled.
fn pulled(setup: Setup) -> (Host, Registry, String) {
    let host = Host::new();
    let registry = Registry::start(&host, setup);
    publish(&host, &registry, "tiny", "a:1");
    host.text("rmi tiny");
    let name = registry.name("a:1");
    barge(&host, ["pull", "-q", &name]).run().ok();
    (host, registry, name)
}

#[test]
fn digests_are_names() {
    let (host, registry, name) = pulled(Setup::default());
    let digest = repo_digest(&host, &name);
    assert!(digest.starts_with(&registry.name("a@sha256:")), "{digest}");
    let id = host.text(["images", "-q", "--no-trunc"]);
    assert_eq!(host.text(["image", "inspect", "-f", "{{.Id}}", &digest]), id);
    let row = host.text([
        "images",
        "--digests",
        "--format",
        "{{.Repository}}:{{.Tag}} {{.Digest}}",
    ]);
    assert_eq!(row, format!("{name} {}", digest.split('@').nth(1).unwrap()));
    // The tag goes, and with it the digest that nothing else stands for.
    let lines = host.run(["rmi", &name]).ok().lines();
    assert_eq!(
        lines[..3],
        [
            format!("Untagged: {name}"),
            format!("Untagged: {digest}"),
            format!("Deleted: {id}"),
        ]
    );
    for folder in ["layers", "images", "blobs/sha256", "staging"] {
        assert_eq!(fs::read_dir(host.root.join(folder)).unwrap().count(), 0, "{folder}");
    }
    // By digest alone: no tag to show.
    barge(&host, ["pull", "-q", &digest]).run().ok();
    let row = host.text(["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert_eq!(row, format!("{}:<none>", registry.name("a")));
    assert_eq!(host.text("images -q --filter dangling=true --no-trunc"), id);
    let lines = host.run(["rmi", &digest]).ok().lines();
    assert_eq!(lines[..2], [format!("Untagged: {digest}"), format!("Deleted: {id}")]);
}

#[test]
fn deleted_at_the_registry() {
    let (host, registry, name) = pulled(Setup::default());
    let ask = |answer: &str, line: &[&str]| {
        barge(&host, [&["rmi", "--remote"], line].concat())
            .stdin(answer.as_bytes())
            .run()
    };
    let output = ask("n\n", &[&name]).ok();
    assert!(output.text().contains("Are you sure"), "{}", output.text());
    barge(&host, ["pull", "-q", &name]).run().ok();
    let said = ask("y\n", &[&name]).ok().text();
    assert!(said.contains(&format!("Deleted: {name} (sha256:")), "{said}");
    barge(&host, ["pull", "-q", &name]).run().fails(1).says(&["not found"]);
    // Nothing has happened here.
    host.run(["image", "exists", &name]).ok();
    ask("", &["-f", &name])
        .fails(1)
        .says(&["No such image at its registry"]);
    drop(registry);
}

#[test]
fn a_registry_that_keeps_all() {
    let (host, _registry, name) = pulled(Setup {
        keeps_all: true,
        ..Setup::default()
    });
    barge(&host, ["rmi", "--remote", "-f", &name])
        .run()
        .fails(1)
        .says(&["delete"]);
}

#[test]
fn a_damaged_layer_is_fetched_again() {
    let (host, registry, name) = pulled(Setup::default());
    let layer = fs::read_dir(host.root.join("layers"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let spoil = || fs::write(layer.join("diff/etc/passwd"), "root::0:0::/:\n").unwrap();
    // Its compressed form is here.
    spoil();
    let said = host.text("system check --repair");
    assert!(said.contains("repaired: unpacked again from blob sha256:"), "{said}");
    host.run("system check").ok();
    // Not any more: from the registry.
    let said = host.text("system prune -f --blobs");
    assert!(said.contains("1 compressed layers"), "{said}");
    spoil();
    let said = barge(&host, "system check --repair").run().ok().text();
    assert!(
        said.contains(&format!("repaired: fetched again from {}", registry.name("a"))),
        "{said}"
    );
    host.run("system check").ok();
    // A whole layer that is gone.
    fs::remove_dir_all(&layer).unwrap();
    host.run("system check").fails(1);
    barge(&host, "system check --repair").run().ok();
    host.run(["run", "--rm", &name, "/tiny", "print", "x"]).ok();
    // No registry, no blob: left as it is, since it may come back.
    host.text("system prune -f --blobs");
    spoil();
    drop(registry);
    let said = barge(&host, "system check --repair").run().fails(1).text();
    assert!(said.contains("not repaired: fetch it again: "), "{said}");
    assert_eq!(host.run("images -q").ok().lines().len(), 1);
}

#[test]
fn damaged_blobs_and_manifests() {
    let (host, _registry, name) = pulled(Setup::default());
    let blobs: Vec<_> = fs::read_dir(host.root.join("blobs/sha256"))
        .unwrap()
        .flatten()
        .collect();
    assert_eq!(blobs.len(), 3);
    for blob in blobs {
        let kept = fs::read(blob.path()).unwrap();
        fs::write(blob.path(), b"{}").unwrap();
        host.run("system check").fails(1);
        let said = barge(&host, "system check --repair").run().ok().text();
        assert!(said.contains("repaired: "), "{said}");
        host.run("system check").ok();
        host.run(["run", "--rm", &name, "/tiny", "print", "x"]).ok();
        fs::write(blob.path(), kept).unwrap();
    }
}

#[test]
fn rmi_and_prune_beside_pulls() {
    let (host, _registry, name) = pulled(Setup::default());
    std::thread::scope(|scope| {
        for client in 0..3 {
            let (host, name) = (&host, &name);
            scope.spawn(move || {
                // Threads made in a namespace are in it.
                for _ in 0..6 {
                    match client {
                        0 => drop(barge(host, ["pull", "-q", name]).run().ok()),
                        1 => drop(host.run(["rmi", "-f", name])),
                        _ => drop(host.run("image prune -a -f").ok()),
                    }
                }
            });
        }
    });
    barge(&host, ["pull", "-q", &name]).run().ok();
    host.run(["run", "--rm", &name, "/tiny", "print", "x"]).ok();
    host.run("system check").ok();
    host.text("image prune -a -f");
    assert_eq!(fs::read_dir(host.root.join("layers")).unwrap().count(), 0);
}

#[test]
fn insert_puts_a_file_into_a_new_image() {
    let host = Host::bare();
    let archive = Tar::new()
        .file("tiny", 0o755, fs::read(tiny()).unwrap())
        .dir("usr/bin", 0o750)
        .symlink("bin", "usr/bin")
        .bytes();
    host.barge(["import", "-c", "ENV A=1", "-", "base"])
        .stdin(&archive)
        .run()
        .ok();
    // The thread is in a namespace of its own from here.
    let _registry = Registry::new(&host);
    let service = Service::start(0, |request, stream| match request.path.as_str() {
        "/tool" => http::respond(stream, 200, &[], b"fetched"),
        _ => http::respond(stream, 404, &[], b""),
    });
    let url = format!("http://127.0.0.1:{}/tool", service.port());
    let output = barge(&host, ["insert", "base", &url, "/bin/tool"]).run().ok();
    let id = output.text();
    assert!(output.err().contains("barge build"), "{}", output.err());
    let run = |id: &str, verb: &str| host.text(["run", "--rm", id, "/tiny", verb, "/bin/tool"]);
    assert_eq!(run(&id, "cat"), "fetched");
    assert_eq!(host.text(["run", "--rm", &id, "/tiny", "link", "/bin"]), "usr/bin");
    assert!(
        host.text(["run", "--rm", &id, "/tiny", "stat", "/usr/bin"])
            .contains("dir 0750")
    );
    let parent = host.text(["image", "inspect", "-f", "{{.Parent}} {{.Config.Env}}", &id]);
    assert_eq!(parent, format!("{} [A=1]", host.text("images -q --no-trunc base")));
    // A directory takes the address's name; nothing is replaced.
    let second = barge(&host, ["insert", &id, &url, "/deep/er/"]).run().ok().text();
    assert_eq!(
        host.text(["run", "--rm", &second, "/tiny", "cat", "/deep/er/tool"]),
        "fetched"
    );
    barge(&host, ["insert", &second, &url, "/deep/er/tool"])
        .run()
        .fails(1)
        .says(&["/deep/er/tool exists in"]);
    barge(&host, ["insert", "base", &format!("{url}s"), "/x"])
        .run()
        .fails(1)
        .says(&["404"]);
    barge(&host, ["insert", "base", &url, "/tiny/x"])
        .run()
        .fails(1)
        .says(&["/tiny is no directory"]);
    // Nameless images on the way are hidden, and can't go before what stands on them.
    assert_eq!(host.run("images -q").ok().lines().len(), 2);
    assert_eq!(host.run("images -aq").ok().lines().len(), 3);
    host.run(["rmi", &id])
        .fails(1)
        .says(&["(cannot be forced) - image has dependent child images"]);
    let said = host.text(["rmi", &second]);
    assert!(
        said.contains(&format!("Deleted: {second}")) && said.contains(&format!("Deleted: {id}")),
        "{said}"
    );
    assert_eq!(host.run("images -aq").ok().lines().len(), 1);
    host.run("system check").ok();
}

#[test]
fn a_tree_of_images() {
    let host = Host::bare();
    host.import("base", &tiny_tar());
    host.run("run --name c1 base /tiny write /new x").ok();
    host.text("commit c1 top:1");
    let tree = host.run("images -tree").ok().lines();
    assert!(
        tree[0].starts_with("└─") && tree[0].ends_with("Tags: base:latest"),
        "{tree:?}"
    );
    assert!(
        tree[1].starts_with("  └─") && tree[1].ends_with("Tags: top:1"),
        "{tree:?}"
    );
    // By name, its base loses that only.
    assert_eq!(host.text("rmi -f base"), "Untagged: base:latest");
    host.text("rm c1");
    assert_eq!(host.run("rmi top:1").ok().lines().len(), 5);
    assert_eq!(host.text("images -aq"), "");
}
