//! `manifest`: lists made of what is here and of what is at registries, pushed, and read by skopeo.

use crate::support::registry::{Registry, Setup, barge};
use crate::support::{Cmd, Host, Output, sha2_hex};
use serde_json::Value;
use std::ffi::OsString;
use std::path::PathBuf;

fn skopeo(line: &str) -> Output {
    let words = line.split_whitespace().map(OsString::from);
    Cmd::new(PathBuf::from("skopeo"), words.collect()).run().ok()
}

fn run(host: &Host, line: &str) -> Output {
    barge(host, line).run()
}

fn text(host: &Host, line: &str) -> String {
    run(host, line).ok().text()
}

fn json(host: &Host, line: &str) -> Value {
    serde_json::from_str(&text(host, line)).unwrap()
}

/// `app:here` in the store, `team/app:oci` and `team/app:docker` at the registry.
fn with_images(host: &Host, registry: &Registry) {
    let dir = host.scratch();
    text(host, "tag tiny app:here");
    let archive = dir.join("app.tar");
    text(host, &format!("save -o {} app:here", archive.display()));
    for (tag, format) in [("oci", "oci"), ("docker", "v2s2")] {
        skopeo(&format!(
            "copy -q --dest-tls-verify=false --format {format} docker-archive:{} docker://{}",
            archive.display(),
            registry.name(&format!("team/app:{tag}"))
        ));
    }
}

#[test]
fn a_list_is_made_changed_and_forgotten() {
    let host = Host::new();
    let registry = Registry::new(&host);
    with_images(&host, &registry);
    let list = registry.name("team/app:all");
    let docker = registry.name("team/app:docker");
    let oci = registry.name("team/app:oci");
    assert_eq!(
        text(&host, &format!("manifest create {list} app:here {docker}")),
        format!("Created manifest list {list}")
    );
    run(&host, &format!("manifest create {list} {oci}"))
        .fails(1)
        .says(&["refusing to amend an existing manifest list"]);
    run(&host, &format!("manifest exists {list}")).ok();
    run(&host, "manifest exists other/list").fails(1);
    let digest = text(
        &host,
        &format!("manifest add --arch arm64 --variant v8 {list} docker://{oci}"),
    );
    assert!(digest.starts_with("sha256:"), "{digest}");
    text(
        &host,
        &format!("manifest annotate --arch arm --variant v7 --os-features a,b {list} {docker}"),
    );
    let shown = json(&host, &format!("manifest inspect {list}"));
    let entries = shown["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 3);
    assert_eq!(entries[1]["platform"]["variant"], "v7");
    assert_eq!(entries[1]["platform"]["os.features"], serde_json::json!(["a", "b"]));
    assert_eq!(
        (
            &entries[2]["platform"]["architecture"],
            &entries[2]["platform"]["variant"]
        ),
        (&"arm64".into(), &"v8".into())
    );
    // Nothing of where they came from.
    assert!(!shown.to_string().contains("barge"), "{shown}");
    text(&host, &format!("manifest remove {list} {docker}"));
    let one = entries[2]["digest"].as_str().unwrap();
    text(&host, &format!("manifest remove {list} {one}"));
    run(&host, &format!("manifest annotate --arch arm {list} {docker}"))
        .fails(1)
        .says(&["does not exist in"]);
    assert_eq!(
        json(&host, &format!("manifest inspect {list}"))["manifests"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    run(&host, &format!("manifest rm {list} nope"))
        .fails(1)
        .says(&["No such manifest: nope:latest"]);
    run(&host, &format!("manifest exists {list}")).fails(1);
    run(&host, "manifest create app:x@sha256:0").fails(1);
    run(&host, &format!("manifest push {list}"))
        .fails(1)
        .says(&["No such manifest"]);
}

#[test]
fn a_list_is_pushed_with_all_it_names() {
    let host = Host::new();
    let registry = Registry::new(&host);
    let second = Registry::start(
        &host,
        Setup {
            port: Some(5500),
            ..Setup::default()
        },
    );
    with_images(&host, &registry);
    let list = registry.name("team/app:all");
    text(
        &host,
        &format!(
            "manifest create {list} app:here {} {}",
            registry.name("team/app:docker"),
            registry.name("team/app:oci")
        ),
    );
    // Into the repository that has them, another one there (mounted), and another registry (handed over).
    let file = host.scratch().join("digest");
    for to in [list.clone(), registry.name("other/app:1"), second.name("team/app:all")] {
        let digest = text(
            &host,
            &format!("manifest push --digestfile {} {list} {to}", file.display()),
        );
        assert_eq!(std::fs::read_to_string(&file).unwrap(), digest);
        let raw = skopeo(&format!("inspect --raw --tls-verify=false docker://{to}"));
        assert_eq!(format!("sha256:{}", sha2_hex(&raw.stdout)), digest);
        let into = host.scratch().join(to.replace(['/', ':'], "-"));
        skopeo(&format!(
            "copy -q --all --src-tls-verify=false docker://{to} dir:{}",
            into.display()
        ));
        // What barge reads there is the same, to the byte.
        let raw = run(&host, &format!("manifest inspect --raw --insecure {to}")).ok();
        assert_eq!(format!("sha256:{}", sha2_hex(&raw.stdout)), digest);
    }
    let each = json(&host, &format!("manifest inspect -v {}", second.name("team/app:all")));
    assert_eq!(each.as_array().unwrap().len(), 3);
    // Of an image that had no compressed layers.
    let layer = &each[0]["OCIManifest"]["layers"][0];
    assert_eq!(
        layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip",
        "{each}"
    );
    assert!(each[1]["SchemaV2Manifest"]["config"].is_object(), "{each}");
    // A list of docker's manifests alone is docker's.
    let docker = registry.name("team/app:docker");
    text(&host, &format!("manifest create team/list {docker}"));
    let shown = json(&host, "manifest inspect team/list");
    assert_eq!(
        shown["mediaType"],
        "application/vnd.docker.distribution.manifest.list.v2+json"
    );
    text(
        &host,
        &format!("manifest push --rm team/list {}", registry.name("team/docker:1")),
    );
    run(&host, "manifest exists team/list").fails(1);
    // A list at a registry goes into another list: for this machine, or all of it.
    text(&host, &format!("manifest create team/again {list}"));
    assert_eq!(
        json(&host, "manifest inspect team/again")["manifests"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    text(&host, &format!("manifest create -a --all team/again {list}"));
    assert_eq!(
        json(&host, "manifest inspect team/again")["manifests"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
}

#[test]
fn what_is_not_there_is_said() {
    let host = Host::new();
    let registry = Registry::new(&host);
    let nope = registry.name("team/nope:1");
    run(&host, &format!("manifest inspect {nope}"))
        .fails(1)
        .says(&["No such manifest", "team/nope:1"]);
    run(&host, &format!("manifest create team/list {nope}"))
        .fails(1)
        .says(&["team/nope"]);
    run(&host, "manifest exists team/list").fails(1);
    text(&host, "manifest create team/list");
    run(&host, "manifest push team/list")
        .fails(1)
        .says(&["manifest list team/list:latest is empty"]);
    run(&host, "manifest add team/other tiny")
        .fails(1)
        .says(&["No such manifest: team/other:latest"]);
    run(&host, "manifest push -f zip team/list")
        .fails(125)
        .says(&["unknown format 'zip'"]);
}
