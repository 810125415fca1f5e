//! Images: import in every form, hostile archives, tags, listing, removal; deep stacks of layers.

use crate::support::{Host, Tar, debian_tar, tiny, tiny_tar};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn import_from_file_directory_and_stdin() {
    let host = Host::bare();
    let file = host.scratch().join("image.tar");
    fs::write(&file, tiny_tar()).unwrap();
    let id = host.text(format!("import {} from-file", file.display()));
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    assert_eq!(host.text("run --rm from-file /tiny print x"), "x");
    host.barge("import - from-stdin:v1").stdin(&tiny_tar()).run().ok();
    assert_eq!(host.text("run --rm from-stdin:v1 /tiny print x"), "x");
    // Without a name: by its id.
    let id = host.barge("import -").stdin(&tiny_tar()).run().ok().text();
    assert_eq!(host.text(["run", "--rm", &id, "/tiny", "print", "x"]), "x");
    host.run("import /none/image.tar x").fails(1).says(&["/none/image.tar"]);
}

#[test]
fn compressed_archives() {
    let host = Host::bare();
    for program in ["gzip", "zstd", "xz", "bzip2"] {
        let Ok(mut child) = Command::new(program)
            .arg("-c")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
        else {
            crate::support::skip(&format!("{program} is not installed"));
            continue;
        };
        let mut stdin = child.stdin.take().unwrap();
        let writer = std::thread::spawn(move || stdin.write_all(&tiny_tar()).unwrap());
        let packed = child.wait_with_output().unwrap().stdout;
        writer.join().unwrap();
        let output = host.barge(["import", "-", program]).stdin(&packed).run();
        if output.code != 0 && ["xz", "bzip2"].contains(&program) {
            output.fails(1).says(&[program]);
            continue;
        }
        output.ok();
        assert_eq!(host.text(["run", "--rm", program, "/tiny", "print", "x"]), "x");
    }
}

#[test]
fn import_with_changes() {
    let host = Host::bare();
    let changes = [
        "ENTRYPOINT [\"/tiny\"]",
        "CMD print \"a b\"",
        "ENV K=v L=w",
        "EXPOSE 80/tcp",
        "LABEL a=b",
        "USER 5:6",
        "VOLUME /data",
        "WORKDIR /tmp",
        "STOPSIGNAL USR1",
    ];
    let mut line = vec!["import".to_owned()];
    line.extend(changes.iter().flat_map(|c| ["-c".to_owned(), (*c).to_owned()]));
    line.extend(["-m".to_owned(), "said".to_owned(), "-".to_owned(), "changed".to_owned()]);
    host.barge(line).stdin(&tiny_tar()).run().ok();
    let document: serde_json::Value = serde_json::from_slice(&host.run("image inspect changed").ok().stdout).unwrap();
    let config = &document[0]["Config"];
    assert_eq!(config["Entrypoint"][0], "/tiny");
    assert_eq!(config["WorkingDir"], "/tmp");
    assert_eq!(config["User"], "5:6");
    assert_eq!(config["Labels"]["a"], "b");
    assert!(config["ExposedPorts"]["80/tcp"].is_object() && config["Volumes"]["/data"].is_object());
    assert!(config["Env"].as_array().unwrap().contains(&"K=v".into()));
    host.barge(["import", "-c", "NONSENSE x", "-", "y"])
        .stdin(&tiny_tar())
        .run()
        .fails(1)
        .says(&["NONSENSE"]);
    assert_eq!(host.run("images -q").ok().lines().len(), 1);
}

#[test]
fn tags_and_removal() {
    let host = Host::new();
    host.text("tag tiny other:v2");
    host.text("tag tiny example.org/deep/name");
    let id = host.text("images -q --no-trunc tiny");
    let lines = host
        .run(["images", "--format", "{{.Repository}}:{{.Tag}}"])
        .ok()
        .lines();
    for name in ["tiny:latest", "other:v2", "example.org/deep/name:latest"] {
        assert!(lines.contains(&name.to_owned()), "{lines:?}");
    }
    let said = host.text("rmi other:v2");
    assert!(
        said.contains("Untagged: other:v2") && !said.contains("Deleted"),
        "{said}"
    );
    host.run("rmi none").fails(1).says(&["No such image: none"]);
    host.text("create --name user tiny /tiny");
    host.text("rmi example.org/deep/name");
    host.run("rmi tiny")
        .fails(1)
        .says(&["(must force)", "is using its referenced image"]);
    host.text("rm user");
    let said = host.text("rmi tiny");
    assert!(
        said.contains("Untagged: tiny:latest") && said.contains(&format!("Deleted: {id}")),
        "{said}"
    );
    assert_eq!(host.text("images -q"), "");
    for folder in ["layers", "images"] {
        assert_eq!(fs::read_dir(host.root.join(folder)).unwrap().count(), 0, "{folder}");
    }
}

#[test]
fn bad_names() {
    let host = Host::new();
    for bad in ["UPPER", "a//b", "-x", "a:b:c", "a b", "a:-x", ""] {
        host.run(["tag", "tiny", bad])
            .fails(if bad.starts_with('-') { 125 } else { 1 });
    }
    host.run("tag none x").fails(1).says(&["No such image: none"]);
}

#[test]
fn importing_the_same_twice_is_one_image_and_one_layer() {
    let host = Host::bare();
    host.import("a", &tiny_tar());
    host.import("b", &tiny_tar());
    assert_eq!(fs::read_dir(host.root.join("layers")).unwrap().count(), 1);
    host.text("rmi a");
    assert_eq!(host.text("run --rm b /tiny print still"), "still");
}

#[test]
fn a_tag_that_moves_leaves_the_old_image_nameless() {
    let host = Host::new();
    let old = host.text("images -q tiny");
    host.detached("user", "", "block");
    host.import(
        "tiny",
        &Tar::new().file("tiny", 0o755, fs::read(tiny()).unwrap()).bytes(),
    );
    assert_ne!(host.text("images -q tiny"), old);
    assert_eq!(host.text("images -q --filter dangling=true"), old);
    assert_eq!(host.text("exec user /tiny print lives"), "lives");
}

/// One archive that must not get out: imported (and then harmless) or refused with one line; never anything outside.
fn hostile(name: &str, archive: &[u8]) {
    let host = Host::bare();
    let canary = host.scratch().join("canary");
    fs::write(&canary, "untouched").unwrap();
    let output = host.barge("import - hostile").stdin(archive).run();
    if output.code != 0 {
        output.fails(1).says(&[]);
        assert_eq!(host.text("images -q"), "", "{name}");
        assert_eq!(
            fs::read_dir(host.root.join("layers")).map(Iterator::count).unwrap_or(0),
            0,
            "{name}"
        );
    }
    assert_eq!(fs::read(&canary).unwrap(), b"untouched", "{name}");
    for path in ["/tmp/barge-escape", "/barge-escape", "/var/tmp/barge-escape"] {
        assert!(fs::symlink_metadata(path).is_err(), "{name}: {path}");
    }
    for folder in [&host.root, &host.root.join("layers"), host.root.parent().unwrap()] {
        assert!(
            fs::symlink_metadata(folder.join("barge-escape")).is_err(),
            "{name}: in {}",
            folder.display()
        );
    }
}

#[test]
fn archives_that_try_to_get_out() {
    let up = "../".repeat(12);
    hostile(
        "dot dot",
        &Tar::new().file(&format!("{up}tmp/barge-escape"), 0o644, "x").bytes(),
    );
    hostile("absolute", &Tar::new().file("/tmp/barge-escape", 0o644, "x").bytes());
    hostile(
        "inner dot dot",
        &Tar::new()
            .dir("a", 0o755)
            .file(&format!("a/{up}barge-escape"), 0o644, "x")
            .bytes(),
    );
    hostile(
        "through a link",
        &Tar::new()
            .symlink("l", "/tmp")
            .file("l/barge-escape", 0o644, "x")
            .bytes(),
    );
    hostile(
        "through two links",
        &Tar::new()
            .symlink("a", "b")
            .symlink("b", "/tmp")
            .file("a/barge-escape", 0o644, "x")
            .bytes(),
    );
    hostile(
        "through dot dot link",
        &Tar::new()
            .symlink("l", &up)
            .file("l/tmp/barge-escape", 0o644, "x")
            .bytes(),
    );
    hostile(
        "link over file",
        &Tar::new()
            .symlink("f", "/tmp/barge-escape")
            .file("f", 0o644, "x")
            .bytes(),
    );
    hostile(
        "hard link out",
        &Tar::new().hard_link("h", "/etc/passwd").file("h", 0o666, "x").bytes(),
    );
    hostile(
        "hard link up",
        &Tar::new().hard_link("h", &format!("{up}etc/passwd")).bytes(),
    );
    hostile(
        "hard link through a link",
        &Tar::new().symlink("e", "/etc").hard_link("h", "e/passwd").bytes(),
    );
    hostile(
        "directory over a link",
        &Tar::new()
            .symlink("d", "/tmp")
            .dir("d", 0o777)
            .file("d/barge-escape", 0o644, "x")
            .bytes(),
    );
    hostile(
        "whiteout of the parent",
        &Tar::new().dir("a", 0o755).file("a/.wh...", 0o644, "").bytes(),
    );
    hostile(
        "whiteout of itself",
        &Tar::new()
            .dir("a", 0o755)
            .file("a/.wh..", 0o644, "")
            .file(".wh.", 0o644, "")
            .bytes(),
    );
    hostile("device", &Tar::new().device("disk", 8, 0).bytes());
    hostile("empty name", &Tar::new().file("", 0o644, "x").bytes());
    let long = "d/".repeat(40);
    hostile("deep", &Tar::new().file(&format!("{long}f"), 0o644, "x").bytes());
    hostile("sticky bits", &Tar::new().file("s", 0o6777, "x").bytes());
    hostile(
        "pax path",
        &Tar::new()
            .pax(&[("path", format!("{up}tmp/barge-escape").as_bytes())])
            .file("f", 0o644, "x")
            .bytes(),
    );
    hostile(
        "pax link",
        &Tar::new()
            .pax(&[("linkpath", b"/etc/passwd")])
            .hard_link("h", "x")
            .bytes(),
    );
    hostile(
        "pax nonsense",
        &Tar::new().pax(&[("size", b"-1")]).file("f", 0o644, "x").bytes(),
    );
    assert!(fs::metadata("/etc/passwd").unwrap().permissions().readonly() || fs::read("/etc/passwd").unwrap() != b"x");
}

#[test]
fn archives_that_are_broken() {
    let host = Host::bare();
    let good = tiny_tar();
    let mut broken = good.clone();
    broken[100] ^= 0xff;
    let mut header = vec![0xff_u8; 512];
    header.extend([0; 1024]);
    let garbage: Vec<u8> = (0..4096_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0])
        .collect();
    let cases: [(&str, &[u8]); 6] = [
        ("cut in a file", &good[..5000]),
        ("cut in a header", &good[..300]),
        ("checksum", &broken),
        ("garbage", &garbage),
        ("0xff", &header),
        ("gzip of nothing", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"),
    ];
    for (name, archive) in cases {
        let output = host.barge(["import", "-", "broken"]).stdin(archive).run();
        assert_eq!(output.code, 1, "{name}: {}", output.err());
        output.says(&[]);
        assert_eq!(host.text("images -q"), "", "{name}");
    }
    for folder in ["layers", "blobs/sha256", "staging"] {
        assert_eq!(
            fs::read_dir(host.root.join(folder)).map(Iterator::count).unwrap_or(0),
            0,
            "{folder}"
        );
    }
}

#[test]
fn owners_modes_links_and_attributes_survive() {
    let host = Host::bare();
    let archive = Tar::new()
        .file("tiny", 0o755, fs::read(tiny()).unwrap())
        .owned("owned", 0o6711, (12, 34), b"12345")
        .symlink("link", "nowhere")
        .hard_link("same", "owned")
        .pax(&[("SCHILY.xattr.user.a", b"b"), ("path", b"renamed")])
        .file("x", 0o600, "")
        .dir("sticky", 0o1777)
        .bytes();
    host.import("image", &archive);
    let stat = host.text("run --rm image /tiny stat /owned /link /sticky /renamed");
    assert!(stat.contains("/owned file 6711 12:34 5 0:0 2"), "{stat}");
    assert!(
        stat.contains("/sticky dir 1777") && stat.contains("/renamed file 0600"),
        "{stat}"
    );
    assert_eq!(host.text("run --rm image /tiny link /link"), "nowhere");
    assert_eq!(host.text("run --rm image /tiny xattr /renamed user.a"), "b");
}

#[test]
fn a_whole_distribution() {
    let host = Host::bare();
    host.import("debian", &debian_tar());
    assert_eq!(
        host.text("run --rm debian cat /etc/debian_version").split('.').next(),
        Some("12")
    );
    assert_eq!(
        host.text(["run", "--rm", "debian", "bash", "-c", "id -un; echo $((6*7))"]),
        "root\n42"
    );
    let (code, text) = host.barge("run --rm -i -t debian bash -c tty").terminal(80, 24).wait();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("/dev/pts/") || text.contains("/dev/console"), "{text}");
    // A package manager's usual needs: setuid, chown, file capabilities.
    host.run([
        "run",
        "--rm",
        "debian",
        "sh",
        "-ec",
        "chown 5:5 /etc/hostname; chmod 4755 /bin/true; mkdir /x; mv /x /y",
    ]);
    assert_eq!(
        host.text(["run", "--rm", "-u", "nobody", "debian", "id", "-un"]),
        "nobody"
    );
}

#[test]
fn file_capabilities_can_be_set_inside() {
    let host = Host::bare();
    let value = b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let archive = Tar::new()
        .pax(&[("SCHILY.xattr.security.capability", value)])
        .file("tiny", 0o755, fs::read(tiny()).unwrap())
        .bytes();
    host.import("capable", &archive);
    // net_bind_service in the file: a plain user's process has it.
    let status = host.text("run --rm -u 1000 capable /tiny status CapEff");
    assert!(status.ends_with("0000000000000400"), "{status}");
}
