//! `pull` and `run --pull`: what is asked of a registry, what is kept of it, and what is left when it ends early.

use crate::support::faults::{Fault, Faults};
use crate::support::registry::{Registry, barge};
use crate::support::{Cmd, Host, Tar, kill, seconds, tiny, tiny_tar, wait_until};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;

/// Where an image may be killed on its way in.
const POINTS: [&str; 5] = [
    "blob-partly-fetched",
    "blob-fetched",
    "blob-committed",
    "layer-committed",
    "image-committed",
];

/// A layer that does not compress, with `/tiny`.
fn bulky(size: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let noise: Vec<u8> = (0..size)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect();
    Tar::new()
        .file("tiny", 0o755, fs::read(tiny()).unwrap())
        .file("noise", 0o644, noise)
        .bytes()
}

/// Bytes in `downloads/`.
fn partial(host: &Host) -> u64 {
    let entries = fs::read_dir(host.root.join("downloads"))
        .into_iter()
        .flatten()
        .flatten();
    entries.filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum()
}

fn runs(host: &Host, image: &str) {
    let line = ["run", "--rm", "--pull", "never", image, "/tiny", "print", "x"];
    assert_eq!(host.text(line), "x");
}

#[test]
fn docker_s_words_and_one_request_for_what_is_here() {
    let host = Host::bare();
    let registry = Registry::new(&host);
    let image = registry.publish("team/a", "1");
    let faults = Faults::before(&registry);
    let name = faults.name("team/a:1");
    let short = &image.layer.0["sha256:".len()..][..12];
    let digest = format!("Digest: {}", image.digest);
    let lines = barge(&host, ["pull", &name]).run().ok().lines();
    assert_eq!(
        lines,
        [
            "1: Pulling from team/a".to_owned(),
            format!("{short}: Pulling fs layer"),
            format!("{short}: Download complete"),
            format!("{short}: Pull complete"),
            digest.clone(),
            format!("Status: Downloaded newer image for {name}"),
            name.clone(),
        ]
    );
    assert_eq!(barge(&host, ["pull", "-q", &name]).run().ok().text(), image.config);
    faults.seen();
    let lines = barge(&host, ["pull", &name]).run().ok().lines();
    assert_eq!(
        lines[1..],
        [digest, format!("Status: Image is up to date for {name}"), name.clone()]
    );
    assert_eq!(faults.lines(), ["HEAD /v2/team/a/manifests/1"]);
    // A digest stands for the same for ever.
    let by_digest = format!("{}@{}", faults.name("team/a"), image.digest);
    barge(&host, ["pull", &by_digest]).run().ok();
    assert_eq!(faults.lines(), Vec::<String>::new());
    runs(&host, &by_digest);
}

#[test]
fn run_fetches_what_is_not_here() {
    let host = Host::bare();
    let registry = Registry::new(&host);
    let name = registry.publish("a", "latest").name;
    let typed = registry.name("a");
    let run = |flags: &[&str]| {
        barge(
            &host,
            [&["run", "--rm"], flags, &[&typed, "/tiny", "print", "x"]].concat(),
        )
        .run()
    };
    run(&["--pull", "never"]).fails(125).says(&["No such image", &typed]);
    let first = run(&[]).ok();
    assert_eq!(first.text(), "x");
    let err = first.err();
    assert!(
        err.starts_with(&format!(
            "Unable to find image '{name}' locally\nlatest: Pulling from a\n"
        )),
        "{err}"
    );
    assert_eq!(run(&[]).ok().err(), "");
    let err = run(&["--pull", "always"]).ok().err();
    assert!(err.contains("Status: Image is up to date for"), "{err}");
    assert_eq!(run(&["--pull=newer", "-q"]).ok().err(), "");
    run(&["--pull", "often"]).fails(125).says(&["must be one of"]);
    drop(registry);
    run(&["--pull", "newer"]).ok();
    run(&["--pull", "always"]).fails(125);
}

#[test]
fn what_was_fetched_before_a_kill_is_not_fetched_again() {
    let host = Host::bare();
    let registry = Registry::new(&host);
    let image = registry.publish_layer("a", "1", &bulky(3 << 20));
    let faults = Faults::before(&registry);
    let name = faults.name("a:1");
    for signal in [Signal::SIGKILL, Signal::SIGINT] {
        let before = partial(&host);
        faults.fail("GET", "/blobs/", 4, Fault::Slow(20_000));
        // Whoever runs the tests in the background may have it ignored.
        let pull = barge(&host, ["pull", &name])
            .wrapped(["env", "--default-signal=INT"])
            .spawn();
        wait_until("some of the layer", || partial(&host) > before + 300_000);
        kill(pull.pid(), signal);
        pull.wait();
        faults.clear();
    }
    let there = partial(&host);
    assert!(there > 600_000 && there < image.layer.1, "{there}");
    assert_eq!(host.text("images -aq"), "");
    faults.seen();
    barge(&host, ["pull", &name]).run().ok();
    let ranges: Vec<String> = faults.seen().into_iter().filter_map(|seen| seen.range).collect();
    assert_eq!(ranges, [format!("bytes={there}-")]);
    assert_eq!(partial(&host), 0);
    runs(&host, &name);
    host.run("system check").ok();
}

#[test]
fn what_a_power_cut_left_of_a_download_is_noticed() {
    let host = Host::bare();
    let registry = Registry::new(&host);
    let image = registry.publish_layer("a", "1", &bulky(1 << 20));
    let downloads = host.root.join("downloads");
    fs::create_dir_all(&downloads).unwrap();
    for size in [1000, usize::try_from(image.layer.1).unwrap(), 5 << 20] {
        fs::write(downloads.join(&image.layer.0["sha256:".len()..]), vec![0; size]).unwrap();
        barge(&host, ["pull", &image.name]).run().ok();
        runs(&host, &image.name);
        host.text(["rmi", &image.name]);
    }
    // What nobody will ask for again goes with a prune.
    fs::write(downloads.join("0".repeat(64)), "x").unwrap();
    host.run("system prune -f").ok();
    assert_eq!(partial(&host), 0);
}

#[test]
fn a_bad_registry_gives_nothing_to_see() {
    let host = Host::bare();
    let registry = Registry::new(&host);
    let image = registry.publish_layer("a", "1", &bulky(1 << 20));
    let faults = Faults::before(&registry);
    let name = faults.name("a:1");
    for (path, fault, says) in [
        ("/blobs/", Fault::Corrupt(500_000), "digest mismatch"),
        ("/blobs/", Fault::html(), "web page"),
        ("/blobs/", Fault::status(404), "404"),
        ("/manifests/", Fault::html(), "web page"),
    ] {
        faults.fail("GET", path, 20, fault.clone());
        let output = barge(&host, ["pull", "--retry", "1", &name]).run().fails(1);
        let err = output.err().to_lowercase();
        assert!(err.contains(&says.to_lowercase()), "{fault:?}: {err}");
        faults.clear();
        assert_eq!(host.text("images -aq"), "", "{fault:?}");
        assert_eq!(fs::read_dir(host.root.join("layers")).unwrap().count(), 0, "{fault:?}");
        assert_eq!(fs::read_dir(host.root.join("staging")).unwrap().count(), 0, "{fault:?}");
    }
    // A configuration that promises another layer.
    let config = registry.put_blob(
        "a",
        json!({"os": "linux", "architecture": "amd64", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", "1".repeat(64))]}})
        .to_string()
        .as_bytes(),
    );
    let size = fs::metadata(registry.blob(&config)).unwrap().len();
    registry.put_manifest(
        "a",
        "liar",
        &json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": size},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": image.layer.0,
                "size": image.layer.1}]}),
    );
    barge(&host, ["pull", &registry.name("a:liar")])
        .run()
        .fails(1)
        .says(&["diff id"]);
    assert_eq!(host.text("images -aq"), "");
    barge(&host, ["pull", &name]).run().ok();
    runs(&host, &name);
}

#[test]
fn two_processes_fetch_a_layer_once() {
    let host = Host::bare();
    let registry = Registry::new(&host);
    registry.publish_layer("a", "1", &bulky(1 << 20));
    let faults = Faults::before(&registry);
    let name = faults.name("a:1");
    faults.fail("GET", "/blobs/", 3, Fault::Slow(20_000));
    let first = barge(&host, ["pull", &name]).spawn();
    wait_until("some of the layer", || partial(&host) > 100_000);
    let others: Vec<_> = (0..3).map(|_| barge(&host, ["pull", &name]).spawn()).collect();
    first.wait().ok();
    let mut waited = 0;
    for other in others {
        let output = other.wait().ok();
        waited += usize::from(output.text().contains("already being pulled by another client"));
    }
    assert_eq!(waited, 3);
    let layers = |line: &String| line.starts_with("GET") && line.contains("/blobs/");
    // The configuration is small: several may have fetched it at once.
    let mut fetched: Vec<String> = faults.lines().into_iter().filter(layers).collect();
    fetched.sort();
    let layer = fetched
        .iter()
        .filter(|l| fetched.iter().filter(|m| m == l).count() == 1)
        .count();
    assert!(layer >= 1, "{fetched:?}");
    runs(&host, &name);
}

#[test]
#[cfg_attr(not(feature = "stop-points"), ignore = "needs --features stop-points")]
fn a_pull_killed_anywhere() {
    for point in POINTS {
        let host = Host::bare();
        let registry = Registry::new(&host);
        let name = registry.publish_layer("a", "1", &bulky(1 << 20)).name;
        let killed = barge(&host, ["pull", &name])
            .env("BARGE_STOP_AT", point)
            .timeout(seconds(20))
            .run();
        assert_ne!(killed.code, 0, "{point}");
        host.run("images -a").ok();
        host.run("system check").ok();
        barge(&host, ["pull", &name]).run().ok();
        runs(&host, &name);
        host.run("system check").ok();
        host.text(["rmi", &name]);
        let left = |folder: &str| fs::read_dir(host.root.join(folder)).unwrap().count();
        for folder in ["layers", "images", "blobs/sha256", "downloads"] {
            assert_eq!(left(folder), 0, "{point}: {folder}");
        }
        // A large removal goes on behind the command that asked for it.
        wait_until("the removal's end", || left("staging") == 0);
    }
}

#[test]
fn platforms_gather_under_a_name() {
    let host = Host::bare();
    let registry = Registry::new(&host);
    let mut entries = Vec::new();
    for (n, architecture) in ["amd64", "arm64", "s390x"].iter().enumerate() {
        let archive = Tar::new()
            .file("tiny", 0o755, fs::read(tiny()).unwrap())
            .file("n", 0o644, n.to_string().into_bytes())
            .bytes();
        let platform = format!("linux/{architecture}");
        host.barge(["import", "--platform", &platform, "-", architecture])
            .stdin(&archive)
            .run()
            .ok();
        let to = registry.name(&format!("multi:{architecture}"));
        let digest = barge(&host, ["push", "-q", architecture, &to]).run().ok().text();
        let size = fs::metadata(registry.blob(&digest)).unwrap().len();
        entries.push(
            json!({"mediaType": "application/vnd.docker.distribution.manifest.v2+json", "digest": digest,
            "size": size, "platform": {"os": "linux", "architecture": architecture}}),
        );
    }
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
        "manifests": entries});
    let digest = registry.put_manifest("multi", "1", &index);
    host.text("image prune -a -f");
    let name = registry.name("multi:1");
    let architecture = |flags: &[&str]| {
        let line = [&["run", "--pull=never", "--rm"], flags, &[&name, "/tiny", "cat", "/n"]].concat();
        host.text(line)
    };
    barge(&host, ["pull", "--platform", "linux/arm64", &name]).run().ok();
    assert_eq!(architecture(&[]), "1");
    barge(&host, ["pull", &name]).run().ok();
    assert_eq!(architecture(&[]), "0");
    assert_eq!(architecture(&["--platform", "arm64"]), "1");
    barge(&host, ["pull", "--platform", "riscv64", &name])
        .run()
        .fails(1)
        .says(&["no matching manifest for linux/riscv64"]);
    barge(&host, ["pull", "--all-platforms", &name]).run().ok();
    assert_eq!(architecture(&["--platform", "linux/s390x"]), "2");
    assert_eq!(architecture(&[]), "0");
    assert_eq!(host.run("images -q").ok().lines().len(), 3);
    // All of it goes out as it came.
    let there = registry.name("copy:1");
    host.text(["tag", &name, &there]);
    let pushed = barge(&host, ["push", "-q", &name]).run().ok().text();
    assert_eq!(pushed, digest);
    // An index that leads there by way of another, and one that does so alone.
    let size = fs::metadata(registry.blob(&digest)).unwrap().len();
    let inner = json!({"mediaType": "application/vnd.docker.distribution.manifest.list.v2+json", "digest": digest,
        "size": size});
    host.barge("import --platform linux/riscv64 - beside")
        .stdin(&tiny_tar())
        .run()
        .ok();
    let beside = barge(&host, ["push", "-q", "beside", &registry.name("multi:beside")])
        .run()
        .ok()
        .text();
    let size = fs::metadata(registry.blob(&beside)).unwrap().len();
    let beside = json!({"mediaType": "application/vnd.docker.distribution.manifest.v2+json", "digest": beside,
        "size": size, "platform": {"os": "linux", "architecture": "riscv64"}});
    for (tag, entries) in [("alone", vec![inner.clone()]), ("outer", vec![inner, beside])] {
        host.text("image prune -a -f");
        let outer = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": entries});
        let digest = registry.put_manifest("multi", tag, &outer);
        let name = registry.name(&format!("multi:{tag}"));
        barge(&host, ["pull", "--all-platforms", &name]).run().ok();
        let said = barge(&host, ["pull", &name]).run().ok().text();
        assert!(said.contains("up to date"), "{said}");
        let there = registry.name(&format!("nested-{tag}:1"));
        let pushed = barge(&host, ["push", "-q", &name, &there]).run().ok().text();
        let sent = || fs::read_to_string(registry.blob(&pushed)).unwrap();
        assert_eq!(pushed, digest, "{tag}: {}", sent());
        // With all that is on the way, also by way of an archive.
        let archive = host.scratch().join(tag);
        host.text([
            "save",
            "--format",
            "oci-archive",
            "-o",
            archive.to_str().unwrap(),
            &name,
        ]);
        host.text("image prune -a -f");
        host.text(["load", "-i", archive.to_str().unwrap()]);
        assert_eq!(barge(&host, ["push", "-q", &name, &there]).run().ok().text(), digest);
        host.text("image prune -a -f");
        barge(&host, ["pull", "--all-platforms", &there]).run().ok();
        host.run("system check").ok();
    }
}

#[test]
fn every_tag_and_every_compression() {
    let host = Host::bare();
    let registry = Registry::new(&host);
    host.import("made", &bulky(200_000));
    for (tag, flags) in [
        ("gzip", "--format v2s2"),
        ("zstd", "--format oci --compression-format zstd"),
        ("none", "--format oci --compression-format none"),
    ] {
        let line = format!("push {flags} made {}", registry.name(&format!("a:{tag}")));
        barge(&host, line.as_str()).run().ok();
        // Others can read it.
        let line = format!(
            "copy --quiet --insecure-policy --src-tls-verify=false docker://{} oci:{}:{tag}",
            registry.name(&format!("a:{tag}")),
            host.scratch().join("out").display()
        );
        Cmd::new("skopeo", line.split(' ').map(Into::into).collect()).run().ok();
        host.text("image prune -a -f");
        host.import("made", &bulky(200_000));
    }
    host.text("image prune -a -f");
    let output = barge(&host, ["pull", "-q", "-a", &registry.name("a")]).run().ok();
    assert_eq!(output.lines().len(), 3);
    for tag in ["gzip", "zstd", "none"] {
        runs(&host, &registry.name(&format!("a:{tag}")));
    }
    for tag in ["gzip", "zstd", "none"] {
        let name = registry.name(&format!("a:{tag}"));
        host.text("image prune -a -f");
        barge(&host, ["pull", "-q", &name]).run().ok();
        runs(&host, &name);
        host.run("system check").ok();
    }
}
