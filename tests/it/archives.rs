//! `save` and `load`, with the archives of others: umoci, skopeo and podman as they write them, docker before 1.10 byte
//! for byte as it wrote them. What barge saves they read, and every digest stays what it was.

use crate::support::content::{config, gzip};
use crate::support::{Cmd, Host, Output, Tar, busybox_tar, contains, seconds, sha2_hex, tiny};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// A counterpart, which must succeed.
fn tool(dir: &Path, line: &str) -> Output {
    let mut words = line.split_whitespace().map(OsString::from);
    let program = PathBuf::from(words.next().unwrap());
    Cmd::new(program, words.collect())
        .dir(dir)
        .timeout(seconds(120))
        .run()
        .ok()
}

fn layers() -> [Vec<u8>; 3] {
    let program = fs::read(tiny()).unwrap();
    [
        Tar::new()
            .file("tiny", 0o755, program)
            .dir("d", 0o750)
            .file("d/gone", 0o600, "gone")
            .file("d/kept", 0o644, "kept")
            .bytes(),
        Tar::new()
            .file("d/.wh.gone", 0o644, "")
            .owned("d/owned", 0o4755, (1000, 1001), b"owned")
            .bytes(),
        Tar::new()
            .file("d/kept", 0o600, "changed")
            .symlink("l", "d/kept")
            .bytes(),
    ]
}

/// An OCI layout `layout:one` that umoci has made of [`layers`], compressed by it.
fn umoci_layout(dir: &Path) {
    tool(dir, "umoci init --layout layout");
    tool(dir, "umoci new --image layout:one");
    for (n, layer) in layers().iter().enumerate() {
        fs::write(dir.join("layer.tar"), layer).unwrap();
        tool(
            dir,
            &format!("umoci raw add-layer --image layout:one layer.tar --history.comment step{n}"),
        );
    }
    tool(
        dir,
        "umoci config --image layout:one --config.cmd /tiny --config.env A=b --config.label x=y --author me",
    );
}

fn inspect(dir: &Path, place: &str) -> Value {
    serde_json::from_slice(&tool(dir, &format!("skopeo inspect {place}")).stdout).unwrap()
}

/// What skopeo says the configuration's digest is: the image's id.
fn config_digest(dir: &Path, place: &str) -> String {
    sha2_hex(&tool(dir, &format!("skopeo inspect --config --raw {place}")).stdout)
}

fn ids(host: &Host) -> Vec<String> {
    host.run("images -aq --no-trunc").ok().lines()
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().unwrap().to_owned()
}

#[test]
fn what_others_write_is_loaded() {
    let maker = Host::bare();
    let dir = maker.scratch();
    umoci_layout(&dir);
    let id = format!("sha256:{}", config_digest(&dir, "oci:layout:one"));
    for to in [
        "docker-archive:docker.tar:team/app:1",
        "oci-archive:oci.tar:docker.io/team/app:1",
        "dir:flat",
    ] {
        tool(&dir, &format!("skopeo copy -q oci:layout:one {to}"));
    }
    for line in [
        "gzip -k docker.tar",
        "zstd -q docker.tar",
        "xz -k -0 docker.tar",
        "bzip2 -k docker.tar",
    ] {
        tool(&dir, line);
    }
    let named = "Loaded image: team/app:1";
    let unnamed = format!("Loaded image ID: {id}");
    for (file, says) in [
        ("docker.tar", named),
        ("docker.tar.gz", named),
        ("docker.tar.zst", named),
        ("docker.tar.xz", named),
        ("docker.tar.bz2", named),
        ("oci.tar", named),
        ("layout", &unnamed),
        ("flat", &unnamed),
    ] {
        let host = Host::bare();
        let said = host.barge(["load", "-i", &path(&dir, file)]).run().ok();
        assert_eq!(said.text(), says, "{file}");
        assert_eq!(ids(&host), [id.as_str()], "{file}");
        if let Ok(bytes) = fs::read(dir.join(file)) {
            let said = host.barge("load -q").stdin(&bytes).run().ok();
            assert_eq!(said.text(), says, "{file} through a pipe");
        }
        let shown: Value = serde_json::from_str(&host.text(["inspect", &id])).unwrap();
        assert_eq!(shown[0]["Config"]["Labels"]["x"], "y", "{file}");
        assert_eq!(shown[0]["RootFS"]["Layers"].as_array().unwrap().len(), 3, "{file}");
        let what = host.run(["run", "--rm", "--network", "none", &id, "/tiny", "exit", "7"]);
        assert_eq!(what.code, 7, "{file}: {}", what.err());
    }
}

#[test]
fn podman_s_archive_of_several_images() {
    let host = Host::bare();
    let dir = host.scratch();
    umoci_layout(&dir);
    let podman = "podman --root storage --runroot run --storage-driver vfs --tmpdir tmp";
    let podman = podman
        .replace("storage ", &format!("{} ", path(&dir, "storage")))
        .replace("run ", &format!("{} ", path(&dir, "podman-run")))
        .replace("tmpdir tmp", &format!("tmpdir {}", path(&dir, "podman-tmp")));
    tool(
        &dir,
        "skopeo copy -q oci:layout:one oci-archive:one.tar:docker.io/team/one:1",
    );
    tool(&dir, "umoci tag --image layout:one two");
    tool(&dir, "umoci config --image layout:two --config.cmd /other");
    tool(
        &dir,
        "skopeo copy -q oci:layout:two oci-archive:two.tar:docker.io/team/two:2",
    );
    for file in ["one.tar", "two.tar"] {
        tool(&dir, &format!("{podman} load -q -i {file}"));
    }
    tool(
        &dir,
        &format!("{podman} save -q -m -o both.tar docker.io/team/one:1 docker.io/team/two:2"),
    );
    let said = host.barge(["load", "-i", &path(&dir, "both.tar")]).run().ok();
    let mut lines = said.lines();
    lines.sort();
    assert_eq!(lines, ["Loaded image: team/one:1", "Loaded image: team/two:2"]);
    // And back: podman knows the images by the same ids.
    for form in ["docker-archive", "oci-archive"] {
        let file = path(&dir, &format!("{form}.tar"));
        host.run(["save", "--format", form, "-o", &file, "team/one", "team/two"])
            .ok();
        for name in ["one:1", "two:2"] {
            tool(&dir, &format!("{podman} rmi -f docker.io/team/{name}"));
        }
        match form {
            "docker-archive" => drop(tool(&dir, &format!("{podman} load -q -i {file}"))),
            // Podman loads one image of an OCI archive.
            _ => {
                for name in ["one:1", "two:2"] {
                    tool(
                        &dir,
                        &format!("skopeo inspect oci-archive:{file}:docker.io/team/{name}"),
                    );
                }
                continue;
            }
        }
        for name in ["one:1", "two:2"] {
            let theirs = tool(&dir, &format!("{podman} inspect --format {{{{.Id}}}} team/{name}")).text();
            let ours = host.text(["inspect", "--format", "{{.Id}}", &format!("team/{name}")]);
            assert_eq!(format!("sha256:{theirs}"), ours, "{form} {name}");
        }
    }
}

/// One image as docker 0.6.7 to 1.9 kept it.
fn v1(tar: Tar, id: &str, json: &Value, layer: &[u8]) -> Tar {
    tar.dir(&format!("{id}/"), 0o755)
        .file(&format!("{id}/VERSION"), 0o644, "1.0")
        .file(&format!("{id}/json"), 0o644, json.to_string())
        .file(&format!("{id}/layer.tar"), 0o644, layer)
}

#[test]
fn archives_of_docker_before_1_10() {
    let id = |c: &str| c.repeat(64);
    let [one, two, three] = layers();
    let base = json!({"id": id("a"), "created": "2013-03-23T22:24:18.818426-07:00", "container_config": {"Cmd": null}});
    let middle = json!({"id": id("b"), "parent": id("a"), "created": "2013-06-15T10:00:00Z", "docker_version": "0.6.7",
        "container_config": {"Cmd": ["/bin/sh", "-c", "rm gone"]}, "architecture": "x86_64", "Size": 24576});
    let top = json!({"id": id("c"), "parent": id("b"), "created": "2013-06-16T10:00:00Z", "comment": "third",
        "config": {"Cmd": ["/tiny", "exit", "9"], "PortSpecs": ["80"], "Env": ["A=b"], "User": ""},
        "container_config": {"Cmd": ["x"]}, "architecture": "x86_64"});
    let side = json!({"id": id("d"), "parent": id("a"), "config": {"Cmd": ["/tiny", "exit", "8"]}});
    // The names stand last, and the top before its base.
    let tar = v1(Tar::new(), &id("c"), &top, &three);
    let tar = v1(tar, &id("b"), &middle, &two);
    let tar = v1(tar, &id("d"), &side, &two);
    let tar = v1(tar, &id("a"), &base, &one);
    let names = json!({"team/app": {"1": id("c"), "old": id("b")}});
    let tar = tar.file("repositories", 0o644, names.to_string()).bytes();

    let host = Host::bare();
    let said = host.barge("load").stdin(&tar).run().ok().lines();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said.contains(&"Loaded image: team/app:1".to_owned()), "{said:?}");
    assert!(said.contains(&"Loaded image: team/app:old".to_owned()), "{said:?}");
    assert!(
        said.iter().any(|line| line.starts_with("Loaded image ID: sha256:")),
        "{said:?}"
    );
    host.run("run --rm --network none team/app:1").fails(9);
    let shown: Value = serde_json::from_str(&host.text("inspect team/app:1")).unwrap();
    assert_eq!(shown[0]["Architecture"], "amd64");
    assert_eq!(shown[0]["Config"]["ExposedPorts"], json!({"80/tcp": {}}));
    assert_eq!(shown[0]["RootFS"]["Layers"].as_array().unwrap().len(), 3);
    let history = host.text("history --no-trunc team/app:1");
    assert!(history.contains("rm gone") && history.contains("third"), "{history}");

    // The same again is the same; and what is saved of it, docker of that time reads by the same layers.
    let before = ids(&host);
    host.barge("load").stdin(&tar).run().ok();
    assert_eq!(ids(&host), before);
    let saved = host.run("save team/app:1").ok().stdout;
    let files = listing(&saved);
    let names: Value = serde_json::from_slice(&files["repositories"]).unwrap();
    let mut next = names["team/app"]["1"].as_str().map(str::to_owned);
    let mut chain = 0;
    while let Some(id) = next {
        assert_eq!(files[&format!("{id}/VERSION")], b"1.0");
        assert!(files.contains_key(&format!("{id}/layer.tar")), "{id}");
        let json: Value = serde_json::from_slice(&files[&format!("{id}/json")]).unwrap();
        assert_eq!(json["id"], id.as_str());
        next = json["parent"].as_str().map(str::to_owned);
        chain += 1;
    }
    assert_eq!(chain, 3);
}

/// Files and links by name; a link's content is where it leads.
fn listing(tar: &[u8]) -> std::collections::BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(tar);
    let mut all = std::collections::BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut content = Vec::new();
        match entry.link_name().unwrap() {
            Some(to) => content.extend_from_slice(to.to_str().unwrap().as_bytes()),
            None => drop(std::io::Read::read_to_end(&mut entry, &mut content).unwrap()),
        }
        all.insert(name, content);
    }
    all
}

#[test]
fn what_is_saved_others_read() {
    let host = Host::bare();
    let dir = host.scratch();
    umoci_layout(&dir);
    tool(
        &dir,
        "skopeo copy -q oci:layout:one oci-archive:oci.tar:docker.io/team/app:1",
    );
    let original = inspect(&dir, "oci:layout:one");
    let id = config_digest(&dir, "oci:layout:one");
    host.run(["load", "-i", &path(&dir, "oci.tar")]).ok();
    for (form, file, place) in [
        ("docker-archive", "out.tar", "docker-archive:out.tar:team/app:1"),
        ("oci-archive", "out.oci", "oci-archive:out.oci"),
        ("oci-dir", "out", "oci:out"),
        ("docker-dir", "flat", "dir:flat"),
    ] {
        host.run(["save", "--format", form, "-o", &path(&dir, file), "team/app:1"])
            .ok();
        assert_eq!(config_digest(&dir, place), id, "{form}");
        let shown = inspect(&dir, place);
        let plain: Vec<Value> = layers()
            .iter()
            .map(|l| json!(format!("sha256:{}", sha2_hex(l))))
            .collect();
        match form {
            // The layers' own tars, to the byte.
            "docker-archive" => assert_eq!(shown["Layers"], Value::Array(plain)),
            "docker-dir" => assert_eq!(shown["Layers"], original["Layers"]),
            _ => assert_eq!(
                (&shown["Digest"], &shown["Layers"]),
                (&original["Digest"], &original["Layers"])
            ),
        }
        // All blobs are there, and are what they are called.
        tool(&dir, &format!("skopeo copy -q {place} dir:copy-of-{form}"));
    }
    tool(&dir, "umoci unpack --image out:docker.io/team/app:1 bundle");
    let rootfs = dir.join("bundle/rootfs");
    assert_eq!(fs::read(rootfs.join("d/kept")).unwrap(), b"changed");
    assert!(!rootfs.join("d/gone").exists());
    use std::os::unix::fs::MetadataExt;
    let owned = fs::metadata(rootfs.join("d/owned")).unwrap();
    assert_eq!((owned.uid(), owned.gid(), owned.mode() & 0o7777), (1000, 1001, 0o4755));
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn saving_is_stable() {
    let host = Host::busybox();
    host.import("team/other:2", &layers()[0]);
    host.run("tag busybox busybox:again").ok();
    let words = "busybox team/other:2";
    let first = host.run(format!("save {words}")).ok().stdout;
    assert!(first.len() > 1_000_000);
    let file = path(&host.scratch(), "second.tar");
    host.run(format!("save -o {file} {words}")).ok();
    assert!(fs::read(&file).unwrap() == first, "a second save differs");
    let oci = host.run(format!("save --format oci-archive {words}")).ok().stdout;
    for archive in [&first, &oci] {
        let other = Host::bare();
        let said = other.barge("load").stdin(archive).run().ok();
        let mut lines = said.lines();
        lines.sort();
        assert_eq!(
            lines,
            [
                "Loaded image: busybox:again",
                "Loaded image: busybox:latest",
                "Loaded image: team/other:2"
            ]
        );
        assert_eq!(sorted(ids(&other)), sorted(ids(&host)));
        assert!(
            other.run(format!("save {words}")).ok().stdout == first,
            "a save of what was loaded differs"
        );
        assert!(
            other.run(format!("save --format oci-archive {words}")).ok().stdout == oci,
            "an OCI save of what was loaded differs"
        );
    }
    // An id has no name in the archive.
    let id = ids(&host).remove(0);
    let listed = listing(&host.run(["save", &id]).ok().stdout);
    let manifest: Value = serde_json::from_slice(&listed["manifest.json"]).unwrap();
    assert_eq!(manifest[0]["RepoTags"], Value::Null);
    assert!(!listed.contains_key("repositories"));
}

fn sorted(mut list: Vec<String>) -> Vec<String> {
    list.sort();
    list
}

/// An OCI layout as a tar, from its blobs; `index` is `index.json`.
pub fn layout(blobs: &[Vec<u8>], index: &Value) -> Vec<u8> {
    let mut tar = Tar::new().file("index.json", 0o644, index.to_string());
    for blob in blobs {
        tar = tar.file(&format!("blobs/sha256/{}", sha2_hex(blob)), 0o644, blob);
    }
    tar.file("oci-layout", 0o644, r#"{"imageLayoutVersion":"1.0.0"}"#)
        .bytes()
}

pub fn descriptor(kind: &str, blob: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": format!("sha256:{}", sha2_hex(blob)), "size": blob.len()})
}

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Configuration, manifest and layer of an image of one layer.
pub fn image(architecture: &str, layer: Vec<u8>) -> [Vec<u8>; 3] {
    let config = json!({"os": "linux", "architecture": architecture, "config": {"Cmd": ["/tiny"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha2_hex(&layer))]}});
    let config = config.to_string().into_bytes();
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor(LAYER, &layer)]});
    [config, manifest.to_string().into_bytes(), layer]
}

#[test]
fn several_platforms_under_one_name() {
    let mut blobs = Vec::new();
    let mut entries = Vec::new();
    let mut manifests = Vec::new();
    for (architecture, layer) in ["s390x", "amd64", "arm64"].iter().zip(layers()) {
        let parts = image(architecture, layer);
        let mut entry = descriptor(MANIFEST, &parts[1]);
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entries.push(entry);
        manifests.push(parts[1].clone());
        blobs.extend(parts);
    }
    let inner = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
        .to_string()
        .into_bytes();
    let mut outer = descriptor(INDEX, &inner);
    outer["annotations"] = json!({"org.opencontainers.image.ref.name": "docker.io/team/app:1"});
    blobs.push(inner.clone());
    let archive = layout(&blobs, &json!({"schemaVersion": 2, "manifests": [outer]}));

    let host = Host::bare();
    let said = host.barge("load").stdin(&archive).run().ok();
    assert_eq!(said.lines(), ["Loaded image: team/app:1"; 3]);
    assert_eq!(ids(&host).len(), 3);
    let native = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        _ => "arm64",
    };
    // The one for this machine is the one that is meant.
    let shown = host.text(["inspect", "--format", "{{.Architecture}}", "team/app:1"]);
    assert_eq!(shown, native);
    // The same index comes out, and all of it.
    let saved = host.run("save --format oci-archive team/app:1").ok().stdout;
    let files = listing(&saved);
    let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
    assert_eq!(index["manifests"][0]["digest"], format!("sha256:{}", sha2_hex(&inner)));
    for blob in &blobs {
        assert!(files.contains_key(&format!("blobs/sha256/{}", sha2_hex(blob))));
    }
    // One of them.
    let one = host
        .run("save --format oci-archive --platform linux/s390x team/app:1")
        .ok();
    let index: Value = serde_json::from_slice(&listing(&one.stdout)["index.json"]).unwrap();
    assert_eq!(
        index["manifests"][0]["digest"],
        format!("sha256:{}", sha2_hex(&manifests[0]))
    );
    // Docker's form has one, and says which; others are asked for.
    let plain = host.run("save team/app:1").ok();
    plain.says(&[
        &format!("saving the image for linux/{native}"),
        "linux/s390x",
        "--platform",
    ]);
    let two = host.run("save --platform linux/s390x,linux/amd64 team/app:1").ok();
    assert!(two.stderr.is_empty());
    let listed: Value = serde_json::from_slice(&listing(&two.stdout)["manifest.json"]).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    let foreign = Host::bare();
    foreign.barge("load --platform linux/s390x").stdin(&archive).run().ok();
    let warned = foreign.run("create team/app:1 /x").ok().err();
    let words = "WARNING: The requested image's platform (linux/s390x) does not match the detected host platform";
    assert!(warned.starts_with(words) && warned.lines().count() == 1, "{warned}");
    let asked = foreign.run("create --platform linux/s390x team/app:1 /x").ok();
    assert!(asked.stderr.is_empty());
    host.run("save --platform linux/ppc64le team/app:1")
        .fails(1)
        .says(&["does not provide the specified platform (linux/ppc64le)"]);
    let other = Host::bare();
    other.barge("load --platform linux/arm64").stdin(&archive).run().ok();
    assert_eq!(
        other.text(["inspect", "--format", "{{.Architecture}}", "team/app:1"]),
        "arm64"
    );
    assert_eq!(ids(&other).len(), 1);
    other
        .barge("load --platform linux/mips")
        .stdin(&archive)
        .run()
        .fails(1)
        .says(&["the archive has no image for linux/mips"]);
}

#[test]
fn a_layer_that_is_there_is_not_read() {
    let host = Host::bare();
    let [one, two, _] = layers();
    let [config, manifest, layer] = image("amd64", one.clone());
    let mut named = descriptor(MANIFEST, &manifest);
    named["annotations"] = json!({"org.opencontainers.image.ref.name": "docker.io/team/app:1"});
    let index = json!({"schemaVersion": 2, "manifests": [named]});
    let whole = layout(&[config.clone(), manifest.clone(), layer], &index);
    let without = layout(&[config, manifest], &index);
    host.barge("load")
        .stdin(&without)
        .run()
        .fails(1)
        .says(&["is missing from the archive"]);
    assert!(ids(&host).is_empty());
    host.barge("load").stdin(&whole).run().ok();
    host.barge("load").stdin(&without).run().ok();
    // Another image of the same base, and a new layer.
    let both = json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers",
        "diff_ids": [format!("sha256:{}", sha2_hex(&one)), format!("sha256:{}", sha2_hex(&two))]}});
    let list = json!([{"Config": "config.json", "RepoTags": ["team/more:1"], "Layers": ["absent", "two/layer.tar"]}]);
    let archive = Tar::new()
        .symlink("two/layer.tar", "../blob")
        .file("blob", 0o644, &two)
        .file("config.json", 0o644, both.to_string())
        .file("manifest.json", 0o644, list.to_string())
        .bytes();
    host.barge("load").stdin(&archive).run().ok();
    assert_eq!(fs::read_dir(host.root.join("layers")).unwrap().count(), 2);
}

/// Two images of one layer, each with a compression of its own.
#[test]
fn every_form_of_a_layer_stays() {
    let host = Host::bare();
    let [one, _, _] = layers();
    let forms = [gzip(&one), zstd::encode_all(&one[..], 3).unwrap()];
    let mut blobs = Vec::new();
    let mut named = Vec::new();
    for (n, packed) in forms.iter().enumerate() {
        let config = config(&[&one], &[["/one", "/two"][n]]);
        let kind = [
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.oci.image.layer.v1.tar+zstd",
        ][n];
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": [descriptor(kind, packed)]})
        .to_string()
        .into_bytes();
        let mut entry = descriptor(MANIFEST, &manifest);
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": format!("docker.io/team/app:{n}")});
        named.push(entry);
        blobs.extend([config, manifest, packed.clone()]);
    }
    let archive = layout(&blobs, &json!({"schemaVersion": 2, "manifests": named}));
    host.barge("load").stdin(&archive).run().ok();
    assert_eq!(fs::read_dir(host.root.join("layers")).unwrap().count(), 1);
    let saved = host.run("save --format oci-archive team/app:0 team/app:1").ok().stdout;
    let saved = listing(&saved);
    for blob in &blobs {
        assert!(saved.contains_key(&format!("blobs/sha256/{}", sha2_hex(blob))));
    }
}

#[test]
fn bad_archives_leave_nothing() {
    let [one, two, _] = layers();
    let hash = |bytes: &[u8]| format!("sha256:{}", sha2_hex(bytes));
    let config = |diffs: &[String]| {
        json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diffs}}).to_string()
    };
    let list = |layers: &[&str]| json!([{"Config": "c.json", "RepoTags": ["x:1"], "Layers": layers}]).to_string();
    let docker = |config: &str, list: &str| {
        Tar::new()
            .file("manifest.json", 0o644, list)
            .file("c.json", 0o644, config)
    };
    let good = config(&[hash(&one)]);
    let [c, m, l] = image("amd64", one.clone());
    let with_index =
        |descriptor: Value, blobs: &[Vec<u8>]| layout(blobs, &json!({"schemaVersion": 2, "manifests": [descriptor]}));
    let named = |name: &str| json!([{"Config": "c.json", "RepoTags": [name], "Layers": ["l"]}]).to_string();
    let id = |c: &str| c.repeat(64);
    let circle = v1(
        v1(Tar::new(), &id("a"), &json!({"id": id("a"), "parent": id("b")}), &one),
        &id("b"),
        &json!({"id": id("b"), "parent": id("a")}),
        &two,
    );
    let deep = (0..1100).fold(Tar::new(), |tar, n| {
        let id = format!("{n:064x}");
        let mut json = json!({"id": id});
        if n > 0 {
            json["parent"] = json!(format!("{:064x}", n - 1));
        }
        tar.file(&format!("{id}/json"), 0o644, json.to_string())
    });
    let mut cut = docker(&good, &list(&["l"])).file("l", 0o644, &one).bytes();
    cut.truncate(cut.len() - 8192);
    let mut short = descriptor(MANIFEST, &m);
    short["size"] = json!(m.len());
    let mut lying: Value = serde_json::from_slice(&m).unwrap();
    lying["layers"][0]["size"] = json!(7);
    let lying = lying.to_string().into_bytes();
    let artifact = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
        "config": descriptor("application/vnd.cncf.helm.config.v1+json", b"{}")})
    .to_string()
    .into_bytes();
    let mut bomb = vec![0u8; 5 << 20];
    bomb[0] = b'[';
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (Vec::new(), "empty archive"),
        (b"hello".to_vec(), "not a tar archive"),
        (busybox_tar(), "not an archive of images"),
        (
            Tar::new().file("manifest.json", 0o644, "[").bytes(),
            "manifest.json is damaged",
        ),
        (
            Tar::new().file("manifest.json", 0o644, "[]").bytes(),
            "the archive has no image",
        ),
        (
            Tar::new().file("manifest.json", 0o644, bomb).bytes(),
            "larger than 4 MiB",
        ),
        (docker("{", &list(&["l"])).bytes(), "image configuration is damaged"),
        (
            docker(&good, &list(&[])).bytes(),
            "the manifest has 0 layers, the configuration 1",
        ),
        (docker(&good, &list(&["l"])).bytes(), "l is missing from the archive"),
        (
            docker(&good, &list(&["l"])).file("l", 0o644, &two).bytes(),
            "layer has the diff id",
        ),
        (
            docker(&good, &list(&["l"])).symlink("l", "/etc/passwd").bytes(),
            "missing from the archive",
        ),
        (
            docker(&good, &list(&["l"])).symlink("l", "../../etc/passwd").bytes(),
            "leads out of the archive",
        ),
        (
            docker(&good, &list(&["../../etc/passwd"])).bytes(),
            "leads out of the archive",
        ),
        (
            docker(&good, &list(&["l"])).symlink("l", "k").symlink("k", "l").bytes(),
            "too many links",
        ),
        (docker(&good, &list(&["l"])).dir("l", 0o755).bytes(), "is no file"),
        (docker(&good, &list(&["l"])).device("l", 1, 3).bytes(), "is no file"),
        (
            docker(&good, &named("x\u{1b}[2J")).file("l", 0o644, &one).bytes(),
            "invalid image name",
        ),
        (cut, "archive ends"),
        (
            docker(&good, &list(&["l"])).file("manifest.json", 0o644, "[]").bytes(),
            "the archive has manifest.json twice",
        ),
        (
            circle
                .file("repositories", 0o644, json!({"x": {"1": id("a")}}).to_string())
                .bytes(),
            "circle",
        ),
        (circle_only(&id, &one), "circle"),
        (deep.bytes(), "more than 1000 layers"),
        (
            v1(Tar::new(), &id("a"), &json!({"id": id("a"), "parent": id("b")}), &one).bytes(),
            "is missing from the archive",
        ),
        (
            v1(Tar::new(), &id("a"), &json!({"id": id("b")}), &one).bytes(),
            "is of another image",
        ),
        (
            Tar::new()
                .file("repositories", 0o644, json!({"x": {"1": "../../x"}}).to_string())
                .bytes(),
            "not an archive of images",
        ),
        (
            with_index(descriptor(MANIFEST, b"other"), &[c.clone(), l.clone()]),
            "is missing from the archive",
        ),
        (
            with_index(descriptor(MANIFEST, &lying), &[c.clone(), lying, l.clone()]),
            "bytes, want 7",
        ),
        (
            with_index(descriptor(MANIFEST, &artifact), &[artifact]),
            "is an OCI artifact (type application/vnd.cncf.helm",
        ),
        (
            with_index(json!({"mediaType": MANIFEST, "digest": "sha256:../x", "size": 1}), &[]),
            "invalid digest",
        ),
        (
            Tar::new()
                .file(
                    "index.json",
                    0o644,
                    json!({"schemaVersion": 2, "manifests": [short]}).to_string(),
                )
                .file(&format!("blobs/sha256/{}", sha2_hex(&m)), 0o644, b"other")
                .bytes(),
            "has another digest",
        ),
        (
            Tar::new()
                .file("oci-layout", 0o644, r#"{"imageLayoutVersion":"9"}"#)
                .file("index.json", 0o644, "{}")
                .bytes(),
            "OCI layout of version 9",
        ),
    ];
    let host = Host::bare();
    for (archive, why) in cases {
        let said = host.barge("load").stdin(&archive).run();
        assert_eq!(said.code, 1, "{why}: {}", said.err());
        assert!(said.err().contains(why), "{why}: {}", said.err());
        assert!(!contains(&said.stderr, b"\x1b"), "{}", said.err());
        assert_eq!(
            said.err().lines().filter(|line| line.starts_with("barge:")).count(),
            1,
            "{}",
            said.err()
        );
        for dir in ["layers", "images", "blobs/sha256", "staging"] {
            let left = fs::read_dir(host.root.join(dir)).unwrap().count();
            assert_eq!(left, 0, "{why}: {dir}");
        }
    }
    host.run("load -i /nowhere/x.tar")
        .fails(1)
        .says(&["/nowhere/x.tar", "no such file"]);
}

fn circle_only(id: &dyn Fn(&str) -> String, layer: &[u8]) -> Vec<u8> {
    let tar = v1(Tar::new(), &id("a"), &json!({"id": id("a"), "parent": id("b")}), layer);
    v1(tar, &id("b"), &json!({"id": id("b"), "parent": id("a")}), layer).bytes()
}

#[test]
fn what_save_refuses() {
    let host = Host::new();
    let dir = host.scratch();
    host.run("save nope").fails(1).says(&["No such image: nope"]);
    host.run("save").fails(125);
    host.run("save --format zip tiny")
        .fails(125)
        .says(&["unknown format 'zip'"]);
    host.run("save --format oci-dir tiny")
        .fails(125)
        .says(&["name it with --output"]);
    fs::create_dir(dir.join("full")).unwrap();
    fs::write(dir.join("full/x"), "x").unwrap();
    host.run(["save", "--format", "oci-dir", "-o", &path(&dir, "full"), "tiny"])
        .fails(1)
        .says(&["directory is not empty"]);
    host.run(["save", "-o", &path(&dir, "full"), "tiny"])
        .fails(1)
        .says(&["is a directory"]);
    host.import("other", &layers()[0]);
    let flat = path(&dir, "flat");
    host.run(["save", "--format", "docker-dir", "-o", &flat, "tiny", "other"])
        .fails(1)
        .says(&["docker-dir holds one image"]);
    assert!(!Path::new(&flat).exists());
    let (code, said) = host.barge("save tiny").terminal(80, 24).wait();
    assert_eq!(code, 1);
    assert!(said.contains("cowardly refusing to save to a terminal"), "{said}");
    let (code, said) = host.barge("load").terminal(80, 24).wait();
    assert_eq!(code, 1);
    assert!(said.contains("requested load from stdin, but stdin is empty"), "{said}");
    // A full disk, and what was there before stays.
    let kept = path(&dir, "kept.tar");
    fs::write(&kept, "kept").unwrap();
    host.run("save -o /dev/full tiny")
        .fails(1)
        .says(&["no space left on device"]);
    host.run(["save", "-o", &kept, "nope"]).fails(1);
    assert_eq!(fs::read(&kept).unwrap(), b"kept");
    host.run(["save", "-o", &kept, "tiny"]).ok();
    assert!(fs::read(&kept).unwrap().len() > 1000);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "nothing but full/ and kept.tar");
    host.run(["save", "-o", &path(&dir, "no/where.tar"), "tiny"])
        .fails(1)
        .says(&["no such file or directory"]);
}

#[test]
fn a_damaged_layer_is_not_handed_on() {
    let host = Host::bare();
    host.import("app", &layers()[0]);
    let chain = fs::read_dir(host.root.join("layers"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    fs::write(chain.join("diff/d/kept"), "KEPT").unwrap();
    let file = path(&host.scratch(), "out.tar");
    host.run(["save", "-o", &file, "app"]).fails(1).says(&["is damaged"]);
    assert!(!Path::new(&file).exists());
}
