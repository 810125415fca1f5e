//! `push`: what goes out keeps its digests, what is there is not sent, and what was killed is gone on with.

use crate::support::content::noise;
use crate::support::faults::{Fault, Faults};
use crate::support::registry::{Registry, barge};
use crate::support::{Host, Tar, seconds};
use std::fs;

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
