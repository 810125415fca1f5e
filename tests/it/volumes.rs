//! Volumes, binds, tmpfs: every form, copy-up, inheritance, and that none of it can be tricked out of the root.

use crate::support::{Host, Tar, tiny};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

/// An image whose `/data` has content with owners, modes, links and an attribute worth copying.
fn furnished(host: &Host) {
    let archive = Tar::new()
        .file("tiny", 0o755, fs::read(tiny()).unwrap())
        .dir("data", 0o2750)
        .owned("data/file", 0o640, (7, 8), b"content")
        .pax(&[("SCHILY.xattr.user.note", b"kept")])
        .file("data/noted", 0o600, "x")
        .symlink("data/link", "file")
        .hard_link("data/same", "data/file")
        .dir("data/sub", 0o700)
        .file("data/sub/deep", 0o444, "deep")
        .bytes();
    host.import("furnished", &archive);
}

#[test]
fn a_nameless_volume_lives_as_long_as_its_container() {
    let host = Host::new();
    host.run("run --name x1 -v /data tiny /tiny write /data/f kept").ok();
    assert_eq!(host.text("volume ls -q").len(), 64);
    assert_eq!(
        host.run("run --rm --volumes-from x1 tiny /tiny cat /data/f")
            .ok()
            .stdout,
        b"kept"
    );
    host.text("rm -v x1");
    assert_eq!(host.text("volume ls -q"), "");
    // --rm takes its nameless volumes along; nobody waits for their deletion.
    host.tiny("-v /data", "write /data/f x").ok();
    crate::support::wait_until("the volume to go", || host.text("volume ls -q").is_empty());
}

#[test]
fn a_named_volume_stays() {
    let host = Host::new();
    host.tiny("-v store:/data", "write /data/f kept").ok();
    assert_eq!(host.text("volume ls -q"), "store");
    assert_eq!(
        host.tiny("-v store:/elsewhere", "cat /elsewhere/f").ok().stdout,
        b"kept"
    );
    host.text("create --name user -v store:/x tiny");
    host.run("volume rm store").fails(1).says(&["store"]);
    host.text("rm -v user");
    assert_eq!(host.text("volume ls -q"), "store");
    assert_eq!(host.text("volume rm store"), "store");
    host.run("volume rm store").fails(1).says(&["store"]);
}

#[test]
fn volume_commands() {
    let host = Host::new();
    assert_eq!(host.text("volume create --label a=b made"), "made");
    assert_eq!(host.text("volume create made"), "made");
    assert_eq!(host.text("volume create").len(), 64);
    assert_eq!(
        host.text(["volume", "inspect", "-f", "{{.Name}} {{.Labels.a}}", "made"]),
        "made b"
    );
    let path = host.text(["volume", "inspect", "-f", "{{.Mountpoint}}", "made"]);
    assert!(fs::metadata(path).unwrap().is_dir());
    host.run("volume create a/b").fails(125).says(&["a/b"]);
    host.run("volume inspect none").fails(1);
    let nameless = host
        .text("volume ls -q")
        .lines()
        .find(|l| l.len() == 64)
        .unwrap()
        .to_owned();
    host.text(format!("volume rm {nameless} made"));
}

#[test]
fn copy_up_keeps_owner_mode_links_and_attributes() {
    let host = Host::bare();
    furnished(&host);
    for flags in [
        "-v named:/data",
        "-v /data",
        "--mount type=volume,source=other,target=/data",
    ] {
        let stat = host.text(format!(
            "run --rm {flags} furnished /tiny stat /data /data/file /data/link /data/sub/deep"
        ));
        assert!(stat.contains("/data dir 2750 0:0"), "{stat}");
        assert!(stat.contains("/data/file file 0640 7:8 7 0:0 2"), "{stat}");
        assert!(
            stat.contains("/data/link link") && stat.contains("/data/sub/deep file 0444"),
            "{stat}"
        );
        let note = host.text(format!("run --rm {flags} furnished /tiny xattr /data/noted user.note"));
        assert_eq!(note, "kept");
    }
    // What is in the volume already is not touched.
    host.run("run --rm -v named:/data furnished /tiny rm /data/file").ok();
    host.run("run --rm -v named:/data furnished /tiny exists /data/file")
        .fails(1);
    host.run("run --rm -v fresh:/data:nocopy furnished /tiny exists /data/file")
        .fails(1);
}

#[test]
fn binds_in_all_forms() {
    let host = Host::new();
    let dir = host.scratch();
    fs::write(dir.join("f"), "of the host").unwrap();
    let path = dir.to_str().unwrap();
    let forms = [
        format!("-v {path}:/x"),
        format!("-v {path}:/x:rw"),
        format!("--mount type=bind,source={path},target=/x"),
        format!("--mount type=bind,src={path},dst=/x"),
    ];
    for form in forms {
        assert_eq!(host.tiny(form.as_str(), "cat /x/f").ok().stdout, b"of the host");
        host.tiny(form.as_str(), "write /x/g inside").ok();
        assert_eq!(fs::read(dir.join("g")).unwrap(), b"inside");
    }
    for form in [
        format!("-v {path}:/x:ro"),
        format!("--mount type=bind,source={path},target=/x,readonly"),
    ] {
        assert_eq!(host.tiny(form.as_str(), "open /x/f w").ok().text(), "EROFS");
    }
    // A single file, and a file over a file.
    let file = dir.join("f");
    assert_eq!(
        host.tiny(format!("-v {}:/new/place", file.display()), "cat /new/place")
            .ok()
            .stdout,
        b"of the host"
    );
    assert_eq!(
        host.tiny(format!("-v {}:/etc/passwd", file.display()), "cat /etc/passwd")
            .ok()
            .stdout,
        b"of the host"
    );
}

#[test]
fn a_missing_source_is_made_by_v_and_refused_by_mount() {
    let host = Host::new();
    let path = host.scratch().join("made/by/v");
    host.tiny(format!("-v {}:/x", path.display()), "write /x/f y").ok();
    assert_eq!(fs::read(path.join("f")).unwrap(), b"y");
    let line = format!("--mount type=bind,source={}/none,target=/x", path.display());
    host.tiny(line, "exit 0").fails(125).says(&["none"]);
}

#[test]
fn wrap_a_command_in_the_current_directory() {
    let host = Host::new();
    let dir = host.scratch();
    fs::write(dir.join("f"), "seen").unwrap();
    let path = dir.to_str().unwrap();
    let output = host.run([
        "run",
        "--rm",
        "-v",
        &format!("{path}:{path}"),
        "-w",
        path,
        "tiny",
        "/tiny",
        "cat",
        "f",
    ]);
    assert_eq!(output.ok().stdout, b"seen");
}

#[test]
fn bad_volume_arguments() {
    let host = Host::new();
    for bad in [
        "relative/path",
        "/a:/b:ro:x",
        "/a:/b:nonsense",
        "/a:/",
        "/a:relative",
        "-:/x",
        "a/b:/x",
    ] {
        host.run(["run", "--rm", "-v", bad, "tiny", "/true"]).fails(125);
    }
    for bad in [
        "type=bind",
        "type=nonsense,target=/x",
        "target=relative",
        "type=bind,source=rel,target=/x",
    ] {
        host.run(["run", "--rm", "--mount", bad, "tiny", "/true"]).fails(125);
    }
    assert_eq!(host.text("volume ls -q"), "");
    host.run("run --rm -v one:/data -v two:/data tiny /true")
        .fails(125)
        .says(&["/data"]);
}

#[test]
fn volumes_from_several_with_their_modes() {
    let host = Host::new();
    let dir = host.scratch();
    fs::write(dir.join("f"), "host").unwrap();
    host.text(format!("create --name one -v /a -v {}:/ro:ro tiny", dir.display()));
    host.text("create --name two -v shared:/b -v /a tiny");
    host.run("run --rm --volumes-from one --volumes-from two tiny /tiny write /a/of one")
        .ok();
    host.run("run --rm --volumes-from one tiny /tiny cat /a/of").ok();
    host.run("run --rm --volumes-from two tiny /tiny exists /a/of").fails(1);
    assert_eq!(
        host.text("run --rm --volumes-from one tiny /tiny open /ro/f w"),
        "EROFS"
    );
    let refused = host
        .run("run --rm --volumes-from two:ro tiny /tiny write /b/x y")
        .fails(1);
    assert!(refused.err().contains("EROFS"), "{}", refused.err());
    // A path of one's own is not replaced.
    host.run("run --rm --volumes-from one -v mine:/a tiny /tiny exists /a/of")
        .fails(1);
    host.run("run --rm --volumes-from none tiny /true")
        .fails(125)
        .says(&["none"]);
    host.text("volume rm mine");
    // Started again with what it inherited.
    host.text("create --name heir --volumes-from one tiny /tiny cat /a/of");
    assert_eq!(host.run("start -a heir").ok().stdout, b"one");
    assert_eq!(host.run("start -a heir").ok().stdout, b"one");
}

#[test]
fn inherited_volumes_outlive_the_first_owner() {
    let host = Host::new();
    host.run("run --name db -v /data tiny /tiny write /data/f kept").ok();
    host.text("create --name heir --volumes-from db tiny /tiny cat /data/f");
    host.text("rm -v db");
    assert_eq!(host.run("start -a heir").ok().stdout, b"kept");
}

#[test]
fn the_backup_example() {
    // A second container saves the volumes of the first, running or not.
    let host = Host::busybox();
    let dir = host.scratch();
    host.text([
        "run",
        "-d",
        "--name",
        "db",
        "-v",
        "/data",
        "busybox",
        "sh",
        "-c",
        "echo rows >/data/table; exec sleep 1000",
    ]);
    crate::support::wait_until("the table", || host.run("exec db test -s /data/table").code == 0);
    let backup = format!(
        "run -d --volumes-from db -v {}:/backup busybox tar -cf /backup/all.tar /data",
        dir.display()
    );
    for _ in 0..2 {
        let id = host.text(backup.as_str());
        assert_eq!(host.text(format!("wait {id}")), "0");
        let listing = std::process::Command::new("tar")
            .arg("-tf")
            .arg(dir.join("all.tar"))
            .output()
            .unwrap();
        assert!(String::from_utf8(listing.stdout).unwrap().contains("data/table"));
        host.text("stop -t 0 db");
    }
}

#[test]
fn image_volumes_are_made_for_every_container() {
    let host = Host::bare();
    let archive = crate::support::tiny_tar();
    host.barge(["import", "-c", r#"VOLUME ["/data"]"#, "-", "declares"])
        .stdin(&archive)
        .run()
        .ok();
    host.run("run --name x1 declares /tiny write /data/f x").ok();
    assert_eq!(host.text("volume ls -q").len(), 64);
    host.run("run --rm declares /tiny exists /data/f").fails(1);
    host.run("run --rm -v named:/data declares /tiny write /data/f y").ok();
    assert_eq!(host.text("volume ls -q").lines().count(), 2);
}

#[test]
fn copy_up_does_not_leave_the_image() {
    // The image's directory is a symlink to the host's: what is copied is the container's own, or nothing.
    let host = Host::bare();
    let secret = host.scratch().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("key"), "of the host").unwrap();
    let archive = Tar::new()
        .file("tiny", 0o755, fs::read(tiny()).unwrap())
        .symlink("data", secret.to_str().unwrap())
        .symlink("up", &format!("../../../../../../../..{}", secret.display()))
        .bytes();
    host.import("thief", &archive);
    for target in ["/data", "/up"] {
        let _ = host.run(format!("run --rm -v {target} thief /true"));
        let output = host.run(format!("run --rm -v {target} thief /tiny exists {target}/key"));
        assert_ne!(output.code, 0, "{target}");
    }
    assert_eq!(fs::read_dir(&secret).unwrap().count(), 1);
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o755);
}

#[test]
fn a_volume_with_a_symlink_is_no_way_out() {
    // A container plants a link in its volume; the next mounts below it.
    let host = Host::busybox();
    let target = host.scratch().join("target");
    fs::create_dir(&target).unwrap();
    let plant = format!("ln -s {} /v/link", target.display());
    host.run(["run", "--rm", "-v", "shared:/v", "busybox", "sh", "-c", &plant])
        .ok();
    let _ = host.run("run --rm -v shared:/v -v /v/link/inner busybox true");
    let _ = host.run("run --rm -v shared:/v -w /v/link/inner busybox true");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
}

#[test]
fn a_bind_source_that_is_a_link_is_followed_on_the_host() {
    let host = Host::new();
    let dir = host.scratch();
    fs::write(dir.join("real"), "r").unwrap();
    symlink(dir.join("real"), dir.join("link")).unwrap();
    assert_eq!(
        host.tiny(format!("-v {}:/x", dir.join("link").display()), "cat /x")
            .ok()
            .stdout,
        b"r"
    );
}

#[test]
fn volume_content_is_no_part_of_the_container() {
    let host = Host::new();
    let id = host.text("create --name x1 -v /data tiny /tiny write /data/f y");
    host.run("start -a x1").ok();
    let upper = host.root.join("containers").join(&id).join("upper");
    let inside = fs::read_dir(upper.join("data")).map(Iterator::count).unwrap_or(0);
    assert_eq!(inside, 0, "what is in the volume is not in the writable layer");
}

#[test]
fn ownership_of_a_volume_follows_the_image() {
    let host = Host::bare();
    let archive = Tar::new()
        .file("tiny", 0o755, fs::read(tiny()).unwrap())
        .dir("mine", 0o700)
        .bytes();
    host.import("image", &archive);
    host.run("run --rm -v kept:/mine image /tiny exit 0").ok();
    let path = host.text(["volume", "inspect", "-f", "{{.Mountpoint}}", "kept"]);
    let meta = fs::metadata(path).unwrap();
    assert_eq!((meta.uid(), meta.permissions().mode() & 0o7777), (0, 0o700));
}
