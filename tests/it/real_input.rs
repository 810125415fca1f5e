//! What a pull meets outside: manifests of docker 1.x, layers that are somebody else's, a full disk, a machine that comes
//! from docker, an archive at an address.

use crate::support::content::{digest, gzip};
use crate::support::faults::{Fault, Faults};
use crate::support::old::listener;
use crate::support::registry::{Registry, barge, home};
use crate::support::{Host, Tar, tiny_tar};
use serde_json::{Value, json};
use std::fs;

fn answer(proxy: &Faults, manifest: &Value) {
    let kind = manifest["mediaType"]
        .as_str()
        .unwrap_or("application/vnd.docker.distribution.manifest.v1+json");
    let headers = vec![("Content-Type".into(), kind.into())];
    let body = manifest.to_string().into_bytes();
    proxy.fail("", "/manifests/", 9, Fault::Answer(200, headers, body));
}

#[test]
fn an_image_of_schema_1() {
    let host = Host::bare();
    let registry = Registry::new(&host);
    let proxy = Faults::before(&registry);
    let top = Tar::new().file("new", 0o644, b"top").bytes();
    let (base, top) = (gzip(&tiny_tar()), gzip(&top));
    let empty = gzip(&Tar::new().bytes());
    let blobs = [&base, &top, &empty].map(|blob| registry.put_blob("a", blob));
    let id = |c: &str| c.repeat(64);
    let step = |json: Value| json!({"v1Compatibility": json.to_string()});
    let config = json!({"Cmd": ["/tiny", "cat", "/new"], "Env": null});
    let manifest = json!({
        "schemaVersion": 1, "name": "a", "tag": "1", "architecture": "amd64",
        "fsLayers": [{"blobSum": blobs[2]}, {"blobSum": blobs[1]}, {"blobSum": blobs[0]}],
        "history": [
            step(json!({"id": id("c"), "parent": id("b"), "throwaway": true, "architecture": "amd64", "os": "linux",
                "config": config, "created": "2015-01-03T00:00:00Z"})),
            step(json!({"id": id("b"), "parent": id("a"), "created": "2015-01-02T00:00:00Z"})),
            step(json!({"id": id("a"), "created": "2015-01-01T00:00:00Z"})),
        ]
    });
    answer(&proxy, &manifest);
    let name = proxy.name("a:1");
    barge(&host, ["pull", &name]).run().ok();
    let shown: Value = serde_json::from_str(&host.text(["inspect", "--type", "image", &name])).unwrap();
    assert_eq!(shown[0]["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    assert_eq!(host.text(["run", "--rm", &name]), "top");
    // What a power cut made of a blob is fetched again; a tag that is moved makes the engine look.
    let blob = host.root.join("blobs/sha256").join(&blobs[0]["sha256:".len()..]);
    let whole = fs::read(&blob).unwrap();
    fs::write(&blob, vec![0; whole.len()]).unwrap();
    let moved = proxy.name("a:2");
    barge(&host, ["pull", &moved]).run().ok();
    assert!(fs::read(&blob).unwrap() == whole);
    host.text(["rmi", &moved]);
    // A blob that is another one than its manifest says.
    let mut wrong = manifest.clone();
    wrong["fsLayers"][1]["blobSum"] = registry.put_blob("a", b"no tar").into();
    host.text(["rmi", &name]);
    proxy.clear();
    answer(&proxy, &wrong);
    barge(&host, ["pull", &name]).run().fails(1).says(&["layer sha256:"]);
    assert_eq!(host.text("images -aq"), "");
}

#[test]
fn layers_that_are_somebody_elses() {
    let host = Host::bare();
    let registry = Registry::new(&host);
    let proxy = Faults::before(&registry);
    let (layer, plain) = (gzip(&tiny_tar()), tiny_tar());
    let (_service, told) = listener(5105, 200, layer.clone());
    let config = crate::support::content::config(&[&plain], &["/tiny", "print", "x"]);
    let config_digest = registry.put_blob("a", &config);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": config_digest,
            "size": config.len()},
        "layers": [{"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "size": layer.len(),
            "digest": digest(&layer), "urls": ["http://127.0.0.1:5105/base.tar.gz"]}],
    });
    answer(&proxy, &manifest);
    let name = proxy.name("a:1");
    barge(&host, ["pull", &name]).run().ok();
    assert_eq!(host.text(["run", "--rm", &name]), "x");
    assert!(told.lock().unwrap()[0].starts_with("GET /base.tar.gz"));
    // A size of nothing is a lie.
    host.text(["rmi", &name]);
    let mut wrong = manifest;
    wrong["layers"][0]["size"] = 0.into();
    proxy.clear();
    answer(&proxy, &wrong);
    barge(&host, ["pull", &name]).run().fails(1).says(&["empty"]);
}

#[test]
fn a_disk_that_is_full() {
    let host = Host::bare();
    let registry = Registry::new(&host);
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    let bytes: Vec<u8> = (0..9 << 20).map(|_| noise()).collect();
    let image = registry.publish_layer("big", "1", &Tar::new().file("noise", 0o644, bytes).bytes());
    let small = registry.publish("small", "1");
    fs::create_dir_all(&host.root).unwrap();
    // A disk of 6 MiB for this command alone, which then says what it sees there.
    let root = host.root.display();
    let script = format!(
        "mount -t tmpfs -o size=6m none {root} && \"$@\"; code=$?; \"$0\" --root {root} --run-root {} images -aq; \
         find {root}/layers {root}/staging -mindepth 1; exit $code",
        host.run_root.display()
    );
    let pull = |name: &str| {
        let program = crate::support::binary();
        let prefix = [
            "unshare".into(),
            "-m".into(),
            "sh".into(),
            "-c".into(),
            script.clone().into(),
            program.into_os_string(),
        ];
        barge(&host, ["pull", "-q", name]).wrapped(prefix).run()
    };
    let full = pull(&image.name).fails(1);
    assert!(
        full.err().to_lowercase().contains("no space left on device"),
        "{}",
        full.err()
    );
    assert_eq!(full.text(), "", "{}", full.text());
    assert!(pull(&small.name).ok().text().contains("sha256:"));
}

#[test]
fn a_machine_that_comes_from_docker() {
    let host = Host::bare();
    let registry = Registry::new(&host);
    registry.publish("team/a", "1");
    let etc = host.scratch().join("etc");
    fs::create_dir_all(etc.join("docker")).unwrap();
    let mirrors = json!({"registry-mirrors": [format!("http://{}", registry.host)]});
    fs::write(etc.join("docker/daemon.json"), mirrors.to_string()).unwrap();
    // Its configuration, for this command alone.
    let script = format!(
        "mount -t overlay none -o lowerdir={}:/etc /etc && exec \"$@\"",
        etc.display()
    );
    let prefix = ["unshare", "-m", "sh", "-c", &script, "sh"];
    barge(&host, "pull team/a:1").wrapped(prefix).run().ok();
    assert_eq!(host.text("images --format {{.Repository}}"), "team/a");
    // What registries.conf says makes docker's file void.
    fs::write(
        home(&host).join("registries.conf"),
        "[[registry]]\nprefix = \"h.example\"\nlocation = \"h.example\"\n",
    )
    .unwrap();
    host.text("rmi team/a:1");
    barge(&host, "pull --retry 0 team/a:1").wrapped(prefix).run().fails(1);
}

#[test]
fn an_archive_at_an_address() {
    let host = Host::bare();
    let (_service, told) = listener(5110, 200, gzip(&tiny_tar()));
    let (_missing, _) = listener(5111, 404, b"no".to_vec());
    let command = r#"CMD ["/tiny", "print", "x"]"#;
    barge(
        &host,
        [
            "import",
            "-c",
            command,
            "http://127.0.0.1:5110/dir/root.tar.gz",
            "fetched",
        ],
    )
    .run()
    .ok();
    assert_eq!(host.text("run --rm fetched"), "x");
    assert!(told.lock().unwrap()[0].starts_with("GET /dir/root.tar.gz"));
    barge(&host, "import http://127.0.0.1:5111/root.tar x")
        .run()
        .fails(1)
        .says(&["404"]);
    barge(&host, "import http://127.0.0.1:5112/root.tar x")
        .run()
        .fails(1)
        .says(&["connection refused"]);
}
