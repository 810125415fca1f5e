//! `cp`: docker's table, both ways, in every state of a container, and what must not lead out of it.

use crate::support::{Host, contains};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

/// `/src/file`, `/src/dir/inner`, and what they say.
fn furnished(host: &Host, container: &str) {
    let script = "mkdir -p /src/dir /dst; echo file > /src/file; echo inner > /src/dir/inner; chmod 640 /src/file; \
        chown 7:8 /src/file; touch -d @1000000000 /src/file; ln -s file /src/link; ln -s dir /src/dirlink; \
        ln /src/dir/inner /src/dir/same; ln -s /dst /to; echo old > /dst/old";
    host.run(["run", "--name", container, "busybox", "sh", "-c", script])
        .ok();
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref()).unwrap_or_else(|e| format!("{}: {e}", path.as_ref().display()))
}

#[test]
fn dockers_table_out_of_a_container() {
    let host = Host::busybox();
    furnished(&host, "c");
    let out = host.scratch();
    let cp = |source: &str, to: &str| host.run(["cp", source, &format!("{}/{to}", out.display())]);
    // Files.
    cp("c:/src/file", "name").ok();
    assert_eq!(text(out.join("name")), "file\n");
    let meta = fs::metadata(out.join("name")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o640, 1_000_000_000));
    assert_eq!((meta.uid(), meta.gid()), (0, 0));
    cp("c:src/file", "missing/")
        .fails(1)
        .says(&["directory", "does not exist"]);
    cp("c:/src/file", "no/where").fails(1).says(&["does not exist"]);
    cp("c:/src/dir/inner", "name").ok();
    assert_eq!(text(out.join("name")), "inner\n");
    fs::create_dir(out.join("d")).unwrap();
    cp("c:/src/file", "d").ok();
    assert_eq!(text(out.join("d/file")), "file\n");
    cp("c:/src/file", "name/").fails(125).says(&["not a directory"]);
    cp("c:/src/file/", "x").fails(125).says(&["not a directory"]);
    cp("c:/nothing", "x")
        .fails(1)
        .says(&["Could not find the file /nothing in container c"]);
    // Directories.
    cp("c:/src/dir", "new").ok();
    assert_eq!(text(out.join("new/inner")), "inner\n");
    assert_eq!(fs::metadata(out.join("new/inner")).unwrap().nlink(), 2);
    cp("c:/src/dir", "d").ok();
    assert_eq!(text(out.join("d/dir/inner")), "inner\n");
    cp("c:/src/dir/.", "d").ok();
    assert_eq!(text(out.join("d/inner")), "inner\n");
    cp("c:/src/dir/", "slash/").ok();
    assert_eq!(text(out.join("slash/inner")), "inner\n");
    cp("c:/src/dir", "name").fails(125).says(&["cannot copy a directory"]);
    fs::create_dir_all(out.join("e/dir/inner")).unwrap();
    cp("c:/src/dir", "e").fails(1).says(&["cannot overwrite a directory"]);
    // Links: themselves, what they lead to, and under the link's name.
    cp("c:/src/link", "l").ok();
    assert_eq!(fs::read_link(out.join("l")).unwrap(), Path::new("file"));
    host.run(["cp", "-L", "c:/src/link", &format!("{}/d", out.display())])
        .ok();
    assert_eq!(text(out.join("d/link")), "file\n");
    cp("c:/src/dirlink/.", "dl").ok();
    assert_eq!(text(out.join("dl/inner")), "inner\n");
    // With owners.
    host.run(["cp", "-a", "c:/src/file", &format!("{}/owned", out.display())])
        .ok();
    let meta = fs::metadata(out.join("owned")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (7, 8));
    // A link of the host's as the destination is followed.
    symlink("d", out.join("tod")).unwrap();
    cp("c:/src/file", "tod").ok();
    assert!(out.join("tod").is_symlink());
    symlink("dangling-target", out.join("dangling")).unwrap();
    cp("c:/src/file", "dangling").ok();
    assert_eq!(text(out.join("dangling-target")), "file\n");
}

#[test]
fn into_containers_in_every_state() {
    let host = Host::busybox();
    let dir = host.scratch();
    fs::create_dir_all(dir.join("site/sub")).unwrap();
    fs::write(dir.join("site/index"), "hello").unwrap();
    fs::write(dir.join("site/sub/page"), "page").unwrap();
    std::os::unix::fs::chown(dir.join("site/index"), Some(11), Some(12)).unwrap();
    let site = format!("{}/site", dir.display());
    host.run("create --name created -v vol:/data busybox true").ok();
    host.run("run -d --name running -v vol2:/data --tmpfs /mem busybox sleep 1000")
        .ok();
    host.run("run -d --name paused busybox sleep 1000").ok();
    host.text("pause paused");
    furnished(&host, "ended");
    for name in ["created", "running", "paused", "ended"] {
        let to = |path: &str| format!("{name}:{path}");
        host.run(["cp", &site, &to("/new")]).ok();
        host.run(["cp", &site, &to("/tmp/")]).ok();
        host.run(["cp", &format!("{site}/."), &to("tmp")]).ok();
        host.run(["cp", "-a", &format!("{site}/index"), &to("/tmp/kept")]).ok();
        host.run(["cp", &site, &to("/no/where")])
            .fails(1)
            .says(&[&format!("Could not find the file /no/where in container {name}")]);
        let listed = host.barge(["cp", &to("/tmp"), "-"]).run().ok().stdout;
        for part in ["tmp/site/sub/page", "tmp/sub/page", "tmp/kept"] {
            assert!(contains(&listed, part.as_bytes()), "{name} {part}");
        }
        let back = dir.join(name);
        host.run(["cp", "-a", &to("/new"), &back.display().to_string()]).ok();
        assert_eq!(text(back.join("sub/page")), "page");
        assert_eq!(fs::metadata(back.join("index")).unwrap().uid(), 0);
        host.run(["cp", "-a", &to("/tmp/kept"), &back.display().to_string()])
            .ok();
        assert_eq!(fs::metadata(back.join("kept")).unwrap().uid(), 11);
    }
    assert_eq!(host.status("created"), "created");
    assert_eq!(host.status("paused"), "paused");
    // Volumes as the container sees them, also before its first start.
    for name in ["created", "running"] {
        host.run(["cp", &site, &format!("{name}:/data")]).ok();
    }
    for volume in ["vol", "vol2"] {
        assert_eq!(
            text(host.root.join("volumes").join(volume).join("_data/site/index")),
            "hello"
        );
    }
    host.run(["cp", "created:/data/site/index", &format!("{}/one", dir.display())])
        .ok();
    assert_eq!(text(dir.join("one")), "hello");
    // What is in memory, and a file that is mounted.
    host.run(["cp", &site, "running:/mem"]).ok();
    assert_eq!(host.text("exec running cat /mem/site/sub/page"), "page");
    fs::write(dir.join("hosts"), "10.1.1.1 mine\n").unwrap();
    host.run(["cp", &format!("{}/hosts", dir.display()), "running:/etc/hosts"])
        .ok();
    assert_eq!(host.text("exec running cat /etc/hosts"), "10.1.1.1 mine");
    host.run(["cp", "running:/proc/version", &format!("{}/version", dir.display())])
        .ok();
    assert!(text(dir.join("version")).starts_with("Linux"));
    // Completion knows the containers, and their files.
    let complete = |word: &str| {
        let asked = host
            .barge(["cp", word])
            .env("COMPLETE", "bash")
            .env("BARGE_COMPLETE_INDEX", "6");
        asked.run().ok().text()
    };
    assert_eq!(complete("runn"), "running:");
    assert_eq!(
        complete("running:/etc/hos").lines().next(),
        Some("running:/etc/hostname")
    );
    assert_eq!(complete("created:/dat"), "created:/data/");
    // From one to another, and within one.
    host.run("cp running:/tmp/site ended:/dst").ok();
    host.run("cp ended:/dst/site ended:/again").ok();
    host.run(["cp", "ended:/again/index", &format!("{}/two", dir.display())])
        .ok();
    assert_eq!(text(dir.join("two")), "hello");
    host.run("cp ended:/dst ended:/dst/inside")
        .fails(125)
        .says(&["into itself"]);
    host.text("rm -f running paused");
}

#[test]
fn streams() {
    let host = Host::busybox();
    furnished(&host, "c");
    let tar = host.run("cp c:/src -").ok().stdout;
    let inner = host.run("cp c:/src/. -").ok().stdout;
    assert!(
        contains(&tar, b"src/dir/inner") && contains(&inner, b"./dir/inner"),
        "names"
    );
    host.run("create --name d busybox true").ok();
    host.barge("cp - d:/tmp").stdin(&tar).run().ok();
    host.barge("cp - d:/tmp").stdin(&tar).run().ok();
    let out = host.scratch();
    host.run(["cp", "-a", "d:/tmp/src", &format!("{}/back", out.display())])
        .ok();
    let meta = fs::metadata(out.join("back/file")).unwrap();
    assert_eq!(
        (meta.uid(), meta.mode() & 0o777, meta.mtime()),
        (7, 0o640, 1_000_000_000)
    );
    assert_eq!(fs::metadata(out.join("back/dir/same")).unwrap().nlink(), 2);
    host.barge("cp - d:/tmp/src/file")
        .stdin(&tar)
        .run()
        .fails(125)
        .says(&["must be a directory"]);
    host.barge("cp - d:/missing")
        .stdin(&tar)
        .run()
        .fails(1)
        .says(&["Could not find the file /missing"]);
    host.barge("cp - d:/tmp").stdin(b"no tar at all").run().fails(1);
    // A name that means something in an image's layer means nothing here.
    let marks = crate::support::Tar::new()
        .file(".wh.motd", 0o600, "x")
        .file(".wh..wh..opq", 0o600, "y")
        .bytes();
    host.barge("cp - d:/tmp/src").stdin(&marks).run().ok();
    assert!(contains(&host.run("cp d:/tmp/src -").ok().stdout, b"src/.wh.motd"));
    // A directory stays one.
    let clash = crate::support::Tar::new().file("dir", 0o600, "x").bytes();
    host.barge("cp - d:/tmp/src")
        .stdin(&clash)
        .run()
        .fails(1)
        .says(&["cannot overwrite a directory"]);
    assert!(contains(&host.run("cp d:/tmp/src -").ok().stdout, b"src/dir/inner"));
    // An archive that climbs is refused, and nothing is written outside.
    let climbs = crate::support::Tar::new().file("../../escaped", 0o600, "x").bytes();
    host.barge("cp - d:/tmp").stdin(&climbs).run().fails(1).says(&[".."]);
}

#[test]
fn links_lead_nowhere_but_into_the_container() {
    let host = Host::busybox();
    let dir = host.scratch();
    fs::write(dir.join("secret"), "of the host").unwrap();
    fs::write(dir.join("evil"), "evil").unwrap();
    let secret = dir.join("secret").display().to_string();
    let script = format!(
        "mkdir -p {0}; ln -s {0} /out; ln -s {1} /stolen; ln -s /../../../../../..{0} /up; ln -s loop /loop; exec sleep 1000",
        dir.display(),
        secret
    );
    host.run(["run", "-d", "--name", "c", "busybox", "sh", "-c", &script])
        .ok();
    crate::support::wait_until("the links", || host.run("exec c test -L /loop").code == 0);
    let evil = format!("{}/evil", dir.display());
    for round in 0..2 {
        for to in ["c:/out", "c:/up", "c:/out/x", "c:/stolen"] {
            host.run(["cp", &evil, to]).ok();
        }
        host.run(["cp", "-L", "c:/stolen", &format!("{}/got{round}", dir.display())])
            .ok();
        assert_eq!(text(dir.join(format!("got{round}"))), "evil");
        host.run(["cp", &evil, "c:/loop/x"]).fails(1).says(&["symbolic links"]);
        if round == 0 {
            host.run(["cp", &evil, "c:/dev/full"])
                .fails(125)
                .says(&["must be a directory or a regular file"]);
            host.text("stop -t 0 c");
        }
    }
    assert_eq!(text(dir.join("secret")), "of the host");
    assert!(!dir.join("x").exists());
    host.text("rm -f c");
}

#[test]
fn what_is_read_only_stays_so() {
    let host = Host::busybox();
    let dir = host.scratch();
    fs::write(dir.join("f"), "x").unwrap();
    let file = format!("{}/f", dir.display());
    host.run("run -d --name ro --read-only -v v:/rw -v w:/locked:ro busybox sleep 1000")
        .ok();
    for _ in 0..2 {
        host.run(["cp", &file, "ro:/f"])
            .fails(1)
            .says(&["container rootfs is marked read-only"]);
        host.run(["cp", &file, "ro:/locked/f"])
            .fails(1)
            .says(&["mounted volume is marked read-only"]);
        host.run(["cp", &file, "ro:/rw/f"]).ok();
        host.run(["cp", "ro:/etc/passwd", &format!("{}/p", dir.display())]).ok();
        host.run("stop -t 0 ro");
    }
    assert_eq!(text(host.root.join("volumes/v/_data/f")), "x");
}

#[test]
fn bad_lines() {
    let host = Host::new();
    for (line, code, says) in [
        (&["cp", "a", "b"][..], 125, "at least one container source"),
        (&["cp", "-", "-"], 125, "one side must be a container's"),
        (&["cp", "nobody:/x", "y"], 1, "No such container: nobody"),
        (&["cp", "nobody:", "y"], 125, "no path after nobody:"),
        (&["cp", "", "y"], 125, "empty"),
    ] {
        host.run(line.to_vec()).fails(code).says(&[says]);
    }
}
