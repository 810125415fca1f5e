//! `--cache-to` and `--cache-from`: what one engine has built is not built by another, whatever it goes through; and what
//! a cache can't keep its word about is made.

use crate::build_run::{build, context, inspect};
use crate::support::registry::{Registry, barge};
use crate::support::{Host, Output, seconds};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const STAMP: &str = "cat /proc/sys/kernel/random/uuid >";

/// An archive of a base image, which is the same wherever it is loaded.
struct Base(PathBuf);

impl Base {
    fn of(host: &Host) -> Base {
        let path = host.scratch().join("base.tar");
        host.text("tag busybox base");
        host.text(["save", "-o", path.to_str().unwrap(), "base"]);
        Base(path)
    }

    /// Another engine that has it.
    fn engine(&self) -> Host {
        let host = Host::new();
        host.text(["load", "-q", "-i", self.0.to_str().unwrap()]);
        host
    }
}

fn dockerfile() -> String {
    format!(
        "FROM base AS one\nRUN {STAMP} /stamp\nRUN echo more > /more\n\
         FROM base\nLABEL a=b\nCOPY --from=one /stamp /stamp\nCOPY file /file\nWORKDIR /w\nRUN {STAMP} /second\nCMD x\n"
    )
}

fn with_file(host: &Host, content: &str) {
    fs::write(context(host, "").join("file"), content).unwrap();
}

fn made(host: &Host, flags: &[&str], dockerfile: &str) -> Output {
    build(host, &[&["--network", "none"], flags].concat(), dockerfile).ok()
}

fn read(host: &Host, path: &str) -> String {
    host.text(["run", "--rm", "--net", "none", "made", "cat", path])
}

fn layers(host: &Host) -> usize {
    fs::read_dir(host.root.join("layers")).unwrap().count()
}

/// The document that says which steps there are, and the manifest's own.
fn documents(dir: &Path) -> (PathBuf, Value) {
    let blob = |digest: &Value| dir.join("blobs").join(digest.as_str().unwrap().replace(':', "/"));
    let json = |path: &Path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
    let index = json(&dir.join("index.json"));
    let manifest = json(&blob(&index["manifests"][0]["digest"]));
    (blob(&manifest["config"]["digest"]), manifest)
}

#[test]
fn a_directory_of_it() {
    let a = Host::busybox();
    let base = Base::of(&a);
    let dir = a.scratch().join("cache");
    let to = format!("type=local,dest={}", dir.display());
    let from = format!("type=local,src={}", dir.display());
    with_file(&a, "one");
    made(&a, &["--cache-to", &to], &dockerfile());
    let (id, stamp, second) = (
        inspect(&a, "made")["Id"].clone(),
        read(&a, "/stamp"),
        read(&a, "/second"),
    );
    // Again, with nothing new: the same documents.
    let before = documents(&dir).0;
    made(&a, &["--cache-to", &to], &dockerfile());
    assert_eq!(documents(&dir).0, before);

    let b = base.engine();
    with_file(&b, "one");
    let told = made(&b, &["--cache-from", &from], &dockerfile());
    assert_eq!(inspect(&b, "made")["Id"], id, "{}", told.err());
    // The test's own image, the base, and four more: nothing of the other stage was needed.
    assert_eq!(layers(&b), 6);
    assert_eq!(read(&b, "/second"), second);
    // It is not believed any longer than it is named.
    made(&b, &[], &dockerfile());
    assert_ne!(read(&b, "/stamp"), stamp);

    let c = base.engine();
    with_file(&c, "two");
    made(&c, &["--cache-from", &from], &dockerfile());
    assert_eq!(read(&c, "/stamp"), stamp, "before what has changed");
    assert_ne!(read(&c, "/second"), second, "behind it");

    // What nobody exported is needed: that is told, and made.
    let d = base.engine();
    with_file(&d, "one");
    let more = dockerfile().replace("COPY file", "COPY --from=one /more /more\nCOPY file");
    let told = made(&d, &["--cache-from", &from], &more).err();
    assert!(told.contains("begins again"), "{told}");
    assert_eq!(read(&d, "/more"), "more");
    // With all stages it is there.
    let to = format!("{to},mode=max,tag=all");
    made(&a, &["--cache-to", &to], &dockerfile());
    let e = base.engine();
    with_file(&e, "one");
    let told = made(&e, &["--cache-from", &format!("{from},tag=all")], &more).err();
    assert!(!told.contains("again"), "{told}");
    assert_eq!((read(&e, "/more"), read(&e, "/stamp")), ("more".to_owned(), stamp));
}

#[test]
fn what_is_no_cache_is_told_and_none() {
    let a = Host::busybox();
    let base = Base::of(&a);
    let dir = a.scratch().join("cache");
    let to = format!("type=local,dest={},mode=max", dir.display());
    with_file(&a, "one");
    made(&a, &["--cache-to", &to], &dockerfile());
    let stamp = read(&a, "/stamp");
    let (config, manifest) = documents(&dir);
    let layer = |n: usize| {
        let digest = manifest["layers"][n]["digest"].as_str().unwrap();
        dir.join("blobs").join(digest.replace(':', "/"))
    };
    // On B, each time another engine: one line, and a build that is right.
    let spoilt = |what: &str, says: &str| {
        let b = base.engine();
        with_file(&b, "one");
        let from = format!("type=local,src={}", dir.display());
        let told = made(&b, &["--cache-from", &from], &dockerfile()).err();
        let lines: Vec<&str> = told.lines().filter(|l| l.contains("--cache-from")).collect();
        assert_eq!(lines.len(), 1, "{what}: {told}");
        assert!(lines[0].contains(says), "{what}: {}", lines[0]);
        assert_ne!(read(&b, "/stamp"), stamp, "{what}");
        assert_eq!(read(&b, "/file"), "one");
    };
    let with = |path: &Path, bytes: &[u8], what: &str, says: &str| {
        let before = fs::read(path).unwrap();
        fs::write(path, bytes).unwrap();
        spoilt(what, says);
        fs::write(path, before).unwrap();
    };
    let all: Vec<PathBuf> = (0..manifest["layers"].as_array().unwrap().len()).map(layer).collect();
    let sound: Vec<Vec<u8>> = all.iter().map(|path| fs::read(path).unwrap()).collect();
    for (path, bytes) in all.iter().zip(&sound) {
        let mut bytes = bytes.clone();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    spoilt("damaged layers", "layer");
    for (path, bytes) in all.iter().zip(&sound) {
        fs::write(path, bytes).unwrap();
    }
    with(&config, b"{}", "no records", "damaged");
    let huge = fs::OpenOptions::new().write(true).open(&config).unwrap();
    huge.set_len(1 << 33).unwrap();
    spoilt("records without end", "MiB");
    let index = dir.join("index.json");
    with(&index, b"{", "half an index", "index.json");
    with(
        &index,
        br#"{"schemaVersion":2,"manifests":[]}"#,
        "nothing in it",
        "no cache",
    );
    fs::remove_file(&index).unwrap();
    spoilt("nothing at all", "index.json");
}

#[test]
fn a_registry_of_it() {
    let a = Host::busybox();
    let registry = Registry::new(&a);
    let base = Base::of(&a);
    let run = |host: &Host, flags: &[&str], dockerfile: &str| {
        let dir = context(host, dockerfile).display().to_string();
        let line = [&["build", "--network", "none", "-t", "made"], flags, &[dir.as_str()]].concat();
        barge(host, &*line.join(" ")).timeout(seconds(60)).run().ok()
    };
    with_file(&a, "one");
    let to = format!("type=registry,ref={},mode=max", registry.name("app:cache"));
    let repository = registry.name("other");
    let both = ["--progress", "plain", "--cache-to", &to, "--cache-to", &repository];
    for word in ["Pushed", "Layer already exists"] {
        let told = run(&a, &both, &dockerfile());
        let told = format!("{}\n{}", told.text(), told.err());
        assert!(
            told.contains(&format!("Exporting cache to {}", registry.name("app:cache"))),
            "{told}"
        );
        assert!(told.contains(&format!(": {word}")), "{told}");
    }
    let id = inspect(&a, "made")["Id"].clone();
    for from in [
        format!("type=registry,ref={}", registry.name("app:cache")),
        registry.name("app:cache"),
        // As podman names it: what is behind it is no image of that name.
        repository.clone(),
    ] {
        let b = base.engine();
        with_file(&b, "one");
        let told = run(&b, &["--cache-from", &from], &dockerfile()).err();
        assert_eq!(inspect(&b, "made")["Id"], id, "{from}: {told}");
        assert_eq!(layers(&b), 6, "{from}");
    }
    // Handed on by who never fetched the other stage.
    let b = base.engine();
    with_file(&b, "one");
    let from = registry.name("app:cache");
    run(&b, &["--cache-from", &from, "--cache-to", &to], &dockerfile());
    assert_eq!(layers(&b), 6);
    // Several, of which one is not there.
    let b = base.engine();
    with_file(&b, "one");
    let nothing = registry.name("nothing:1");
    let told = run(&b, &["--cache-from", &nothing, "--cache-from", &from], &dockerfile()).err();
    assert!(told.contains(&nothing), "{told}");
    assert_eq!(inspect(&b, "made")["Id"], id);
    // It is no image.
    let refused = barge(&b, ["pull", &from]).run();
    assert_ne!(refused.code, 0);

    // In the image itself.
    let name = registry.name("app:1");
    run(&a, &["--cache-to", "type=inline"], &dockerfile());
    let push = |name: &str| {
        a.text(["tag", "made", name]);
        barge(&a, ["push", "-q", name]).run().ok();
    };
    push(&name);
    let b = base.engine();
    with_file(&b, "one");
    let told = run(&b, &["--cache-from", &name], &dockerfile()).err();
    assert_eq!(inspect(&b, "made")["Id"], id, "{told}");
    // An image without it.
    let plain = registry.name("plain:1");
    run(&a, &[], "FROM base\nRUN echo plain > /plain\n");
    push(&plain);
    let b = base.engine();
    with_file(&b, "one");
    let told = run(&b, &["--cache-from", &plain], &dockerfile()).err();
    assert!(told.contains("carries no cache"), "{told}");
    // A registry that is not there: the image is made, and the build says that its cache is not.
    let gone = "type=registry,ref=127.0.0.1:1/x:1";
    let dir = context(&b, &dockerfile()).display().to_string();
    let failed = barge(&b, ["build", "-q", "--network", "none", "--cache-to", gone, &dir]).run();
    assert_eq!(failed.code, 1, "{}", failed.err());
    assert!(failed.err().contains("--cache-to 127.0.0.1:1/x:1"), "{}", failed.err());
    let ignored = format!("{gone},ignore-error=true");
    let told = barge(&b, ["build", "-q", "--network", "none", "--cache-to", &ignored, &dir])
        .run()
        .ok()
        .err();
    assert!(told.contains("--cache-to 127.0.0.1:1/x:1"), "{told}");
}

/// Of each platform the steps go into the cache, also where the build of another has to begin again.
#[test]
fn of_several_platforms() {
    let short = "FROM scratch AS one\nARG TARGETARCH\nCOPY $TARGETARCH /f\nFROM scratch\nCOPY --from=one /f /g\n";
    let long = format!("{short}COPY --from=one /f /h\n");
    let engine = || {
        let host = Host::bare();
        for platform in ["amd64", "arm64"] {
            fs::write(context(&host, "").join(platform), platform).unwrap();
        }
        host
    };
    let images = |host: &Host| -> Vec<_> {
        let entries = fs::read_dir(host.root.join("images")).unwrap().flatten();
        let mut names: Vec<_> = entries.map(|e| e.file_name()).collect();
        names.sort();
        names
    };
    let a = engine();
    let dir = |name: &str| a.scratch().join(name).display().to_string();
    let (arm, both) = (dir("arm"), dir("both"));
    let to = format!("type=local,dest={arm}");
    made(&a, &["--platform", "linux/arm64", "--cache-to", &to], short);
    let b = engine();
    let (from, to) = (format!("type=local,src={arm}"), format!("type=local,dest={both}"));
    let two = ["--platform", "linux/amd64,linux/arm64"];
    let told = made(
        &b,
        &[&two[..], &["--cache-from", &from, "--cache-to", &to]].concat(),
        &long,
    )
    .err();
    assert!(told.contains("begins again"), "{told}");
    let c = engine();
    let from = format!("type=local,src={both}");
    made(&c, &[&two[..], &["--cache-from", &from]].concat(), &long);
    // Made anew, they would have other times.
    assert_eq!(images(&c), images(&b));
    assert_eq!(images(&c).len(), 2);
}

#[test]
#[cfg_attr(not(feature = "stop-points"), ignore = "needs --features stop-points")]
fn killed_on_its_way() {
    let a = Host::busybox();
    let base = Base::of(&a);
    let dir = a.scratch().join("cache");
    let flags = ["build", "-q", "--network", "none", "-t", "made", "--cache-to"];
    let to = format!("type=local,dest={},mode=max", dir.display());
    let from = format!("type=local,src={}", dir.display());
    with_file(&a, "one");
    let context = context(&a, &dockerfile()).display().to_string();
    let [writing, bringing] = crate::crash::CACHE_POINTS else {
        panic!("the points");
    };
    let line = [&flags[..], &[to.as_str(), context.as_str()]].concat();
    let killed = a.barge(&*line.join(" ")).env("BARGE_STOP_AT", *writing).run();
    assert_ne!(killed.code, 0);
    assert!(!dir.join("index.json").exists());
    made(&a, &["--cache-to", &to], &dockerfile());
    let id = inspect(&a, "made")["Id"].clone();
    let b = base.engine();
    with_file(&b, "one");
    let line = ["build", "-q", "--network", "none", "--cache-from", &from, &context];
    let killed = b.barge(&*line.join(" ")).env("BARGE_STOP_AT", *bringing).run();
    assert_ne!(killed.code, 0);
    made(&b, &["--cache-from", &from], &dockerfile());
    assert_eq!(inspect(&b, "made")["Id"], id);
    crate::build_run::nothing_is_left_with(&b, "base");
}
