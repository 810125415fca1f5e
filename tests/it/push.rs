//! `push`: what goes out keeps its digests, what is there is not sent, and what was killed is gone on with.

use crate::support::content::{gzip, noise};
use crate::support::faults::{Fault, Faults};
use crate::support::registry::{Registry, Setup, barge};
use crate::support::{Host, Tar, seconds, tiny_tar};
use std::fs;
use std::io::Write;

#[test]
fn a_pulled_image_goes_out_as_it_came() {
    let host = Host::bare();
    let registry = Registry::new(&host);
    let image = registry.publish("a", "1");
    barge(&host, ["pull", "-q", &image.name]).run().ok();
    let there = registry.name("b:2");
    host.text(["tag", &image.name, &there]);
    let lines = barge(&host, ["push", &there]).run().ok().lines();
    assert_eq!(
        lines[0],
        format!("The push refers to repository [{}]", registry.name("b"))
    );
    assert!(lines[1].ends_with(": Preparing"), "{lines:?}");
    assert!(lines[2].ends_with(": Mounted from a"), "{lines:?}");
    assert!(
        lines[3].starts_with(&format!("2: digest: {} size: ", image.digest)),
        "{lines:?}"
    );
    let again = barge(&host, ["push", &there]).run().ok().lines();
    assert!(again[2].ends_with(": Layer already exists"), "{again:?}");
    let digests = host.text(["image", "inspect", "-f", "{{.RepoDigests}}", &there]);
    assert!(digests.contains(&format!("b@{}", image.digest)), "{digests}");
    // Also without its compressed form: the registry has it.
    host.text("system prune -f --blobs");
    let digest = barge(&host, ["push", "-q", &there]).run().ok().text();
    assert_eq!(digest, image.digest);
    barge(&host, ["push", &registry.name("b:3")])
        .run()
        .fails(1)
        .says(&["An image does not exist locally with the tag"]);
}

#[test]
fn a_made_image_is_compressed_once() {
    let host = Host::new();
    let registry = Registry::new(&host);
    let faults = Faults::before(&registry);
    let push = |to: &str| barge(&host, ["push", "-q", "tiny", to]).run().ok().text();
    let digest = push(&faults.name("a:1"));
    let uploads = |lines: Vec<String>| lines.into_iter().filter(|l| l.starts_with("PUT")).count();
    // Layer, configuration, manifest.
    assert_eq!(uploads(faults.lines()), 3);
    assert_eq!(push(&faults.name("a:1")), digest);
    assert_eq!(uploads(faults.lines()), 1);
    // Made anew, it is the same.
    host.text("system prune -f --blobs");
    assert_eq!(push(&registry.name("other:1")), digest);
    // A registry that is busy, or that loses the connection, is asked again.
    faults.fail("PUT", "/blobs/", 1, Fault::status(503));
    faults.fail("POST", "/blobs/", 1, Fault::busy(1));
    host.import("second", &crate::support::busybox_tar());
    barge(&host, ["push", "-q", "second", &faults.name("c:1")]).run().ok();
    host.text("image prune -a -f");
    barge(&host, ["pull", "-q", &registry.name("c:1")]).run().ok();
    host.run(["run", "--rm", &registry.name("c:1"), "true"]).ok();
}

#[test]
fn a_layer_is_sent_while_it_is_made() {
    let host = Host::bare();
    let registry = Registry::new(&host);
    let proxy = Faults::before(&registry);
    let tar = Tar::new().file("noise", 0o644, noise(5_000_000)).bytes();
    host.import("made", &tar);
    let push = |faults: &[(&str, &str, Fault)], name: &str| {
        host.text("system prune -f --blobs");
        faults
            .iter()
            .for_each(|(method, path, fault)| proxy.fail(method, path, 1, fault.clone()));
        let digest = barge(&host, ["push", "-q", "made", &proxy.name(name)])
            .run()
            .ok()
            .text();
        proxy.clear();
        let lines = proxy.lines();
        let blobs = |method: &str| {
            let of = |l: &&String| l.starts_with(method) && l.contains("/blobs/uploads/");
            lines.iter().filter(of).count()
        };
        (digest, blobs("PATCH"), blobs("PUT"))
    };
    // The layer in a PATCH that a PUT ends; the configuration in a PUT of its own.
    let (digest, patches, puts) = push(&[], "streamed:1");
    assert_eq!((patches, puts), (1, 2));
    let blobs = registry.blobs();
    let uploads = "/blobs/uploads/";
    // What was sent once cannot be sent there.
    let elsewhere = format!("http://{}/elsewhere", registry.host);
    for (what, faults, puts) in [
        ("wants a length", vec![("PATCH", uploads, Fault::status(411))], 2),
        ("is busy", vec![("PATCH", uploads, Fault::status(503))], 2),
        ("loses the answer", vec![("PATCH", uploads, Fault::CutAfter(0))], 2),
        ("does not like it", vec![("PUT", uploads, Fault::status(400))], 3),
        (
            "is elsewhere",
            vec![("PATCH", uploads, Fault::Redirect(elsewhere.clone()))],
            2,
        ),
        (
            "lost it and does not like it",
            vec![
                ("PATCH", uploads, Fault::CutAfter(0)),
                ("PUT", uploads, Fault::status(400)),
            ],
            3,
        ),
    ] {
        let name = format!("{}:1", what.replace(' ', "-").replace("'", ""));
        assert_eq!(push(&faults, &name), (digest.clone(), 1, puts), "{what}");
        assert_eq!(registry.blobs(), blobs, "{what}");
        barge(&host, ["pull", "-q", &registry.name(&name)]).run().ok();
    }
    // Its compressed form is dropped, and known: where the registry has it, nothing is made.
    let (again, patches, puts) = push(&[], "streamed:2");
    assert_eq!((again, patches, puts), (digest, 0, 0));
    host.run("system check").ok();
    // The files are not any more what they were.
    let file = fs::read_dir(host.root.join("layers"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path()
        .join("diff/noise");
    let mut content = fs::read(&file).unwrap();
    content[4_000_000] ^= 1;
    fs::write(&file, content).unwrap();
    host.text("system prune -f --blobs");
    let damaged = ["is damaged: its files have changed"];
    let to = registry.name("damaged:1");
    barge(&host, ["push", "made", &to]).run().fails(1).says(&damaged);
    assert_eq!(registry.blobs(), blobs);
    barge(&host, ["pull", &to]).run().fails(1);
}

#[test]
#[cfg_attr(not(feature = "stop-points"), ignore = "needs --features stop-points")]
fn a_push_killed_on_its_way() {
    let host = Host::new();
    let registry = Registry::new(&host);
    let to = registry.name("a:1");
    for point in ["layer-compressed", "image-committed"] {
        barge(&host, ["push", "tiny", &to])
            .env("BARGE_STOP_AT", point)
            .timeout(seconds(20))
            .run();
        host.run("system check").ok();
    }
    barge(&host, ["push", "tiny", &to]).run().ok();
    host.text("image prune -a -f");
    for folder in ["layers", "images", "blobs/sha256", "staging"] {
        assert_eq!(fs::read_dir(host.root.join(folder)).unwrap().count(), 0, "{folder}");
    }
    barge(&host, ["run", "--rm", &to, "/tiny", "print", "x"]).run().ok();
}

#[test]
fn pulls_pushes_and_removals_at_once() {
    let host = Host::new();
    let registry = Registry::new(&host);
    let name = registry.name("a:1");
    barge(&host, ["push", "-q", "tiny", &name]).run().ok();
    std::thread::scope(|scope| {
        for client in 0..5 {
            let (host, name) = (&host, &name);
            scope.spawn(move || {
                for _ in 0..5 {
                    match client {
                        0 => drop(barge(host, ["pull", "-q", name]).run().ok()),
                        1 => drop(host.run(["rmi", "-f", name])),
                        2 => drop(barge(host, ["push", "-q", "tiny", name]).run().ok()),
                        3 => drop(
                            barge(host, ["run", "--rm", "-q", name, "/tiny", "print", "x"])
                                .run()
                                .ok(),
                        ),
                        _ => drop(host.run("system prune -f --blobs").ok()),
                    }
                }
            });
        }
    });
    host.run("system check").ok();
    barge(&host, ["run", "--rm", &name, "/tiny", "print", "x"]).run().ok();
}

/// The same layer, compressed by two people, and built here without compression.
#[test]
fn every_form_of_a_layer_goes_out_as_it_came() {
    let host = Host::bare();
    let registry = Registry::new(&host);
    let other = Registry::start(
        &host,
        Setup {
            port: Some(5001),
            ..Setup::default()
        },
    );
    let layer = tiny_tar();
    let packed = |level: u32| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
        encoder.write_all(&layer).unwrap();
        encoder.finish().unwrap()
    };
    let forms = [packed(1), packed(9), zstd::encode_all(&layer[..], 3).unwrap()];
    host.import("plain", &layer);
    let chain = only(&host, "layers");
    let mut images = Vec::new();
    for (n, form) in forms.iter().enumerate() {
        let image = registry.publish_packed(&format!("a{n}"), "1", &layer, form);
        let lines = barge(&host, ["pull", &image.name]).run().ok().lines();
        assert!(lines.iter().any(|line| line.ends_with(": Pull complete")), "{lines:?}");
        images.push(image);
    }
    assert_eq!(only(&host, "layers"), chain);
    let faults = Faults::before(&registry);
    for (n, image) in images.iter().enumerate() {
        // It is all here now.
        barge(&host, ["pull", "-q", &faults.name(&format!("a{n}:1"))])
            .run()
            .ok();
        let to = other.name(&format!("b{n}:1"));
        let digest = barge(&host, ["push", "-q", &image.name, &to]).run().ok().text();
        assert_eq!(digest, image.digest);
    }
    let fetched = faults.lines();
    assert!(!fetched.iter().any(|line| line.contains("/blobs/")), "{fetched:?}");
    // Another image's bytes under the layer's name are no form of it.
    let wrong = gzip(&Tar::new().file("x", 0o644, "x").bytes());
    let image = registry.publish_packed("wrong", "1", &layer, &wrong);
    barge(&host, ["pull", "-q", &image.name])
        .run()
        .fails(1)
        .says(&["layer has the diff id sha256:", ", its image says sha256:"]);
    assert!(
        !host
            .root
            .join("blobs/sha256")
            .join(&image.layer.0["sha256:".len()..])
            .exists()
    );
    // What was dropped, and is not there, is said to go out otherwise.
    host.text("system prune -f --blobs");
    let said = barge(&host, ["push", "-q", &images[0].name, &other.name("c:1")])
        .run()
        .ok();
    assert!(
        said.err().contains("goes out with another digest than it had"),
        "{}",
        said.err()
    );
}

fn only(host: &Host, below: &str) -> String {
    let mut entries = fs::read_dir(host.root.join(below)).unwrap().flatten();
    let one = entries.next().unwrap().file_name().into_string().unwrap();
    assert!(entries.next().is_none());
    one
}
