//! The storage driver copy: a container's files are a full copy of its image.

use crate::support::{Host, wait_until};

fn host() -> Host {
    let host = Host::busybox();
    host.run("--storage-driver copy ps").ok();
    host
}

#[test]
fn a_container_lives_on_a_copy() {
    let host = host();
    let script = "echo new > /new; rm -f /etc/group; trap exit TERM; while :; do sleep 0.1; done";
    host.run(["run", "-d", "--name", "c", "busybox", "sh", "-c", script])
        .ok();
    host.run("exec c mkdir -p /d").ok();
    host.run("exec c chown 7:8 /d").ok();
    wait_until("what it writes", || host.run("exec c test -e /new").code == 0);
    let told = host.text("diff c");
    for line in ["A /new", "A /d", "D /etc/group", "C /etc"] {
        assert!(told.lines().any(|l| l == line), "{line}: {told}");
    }
    assert_eq!(told.lines().count(), 4, "{told}");
    // Of one that runs, and of one that does not; the copy stays through a restart.
    for name in ["running", "stopped"] {
        host.run(format!("commit c {name}")).ok();
        assert_eq!(host.text(format!("run --rm {name} stat -c %u:%g /d")), "7:8");
        assert_eq!(host.text(format!("run --rm {name} cat /new")), "new");
        host.run(format!("run --rm {name} test -e /etc/group")).fails(1);
        host.run("restart -t 5 c").ok();
        wait_until("the start", || host.run("exec c test -d /d").code == 0);
        host.run("stop -t 5 c").ok();
    }
    let got = host.scratch().join("got");
    host.run(format!("cp c:/new {}", got.display())).ok();
    assert_eq!(std::fs::read_to_string(&got).unwrap(), "new\n");
    std::fs::write(&got, "put").unwrap();
    host.run(format!("cp {} c:/d/put", got.display())).ok();
    assert!(host.text("diff c").contains("A /d/put"));
    let tar = host.scratch().join("c.tar");
    host.run(format!("export -o {} c", tar.display())).ok();
    let list = std::process::Command::new("tar").arg("tf").arg(&tar).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    assert!(list.lines().any(|l| l == "d/put"), "{list}");
    assert!(!list.lines().any(|l| l.starts_with("etc/resolv.conf")), "{list}");
    assert_eq!(host.text("inspect -f {{.Driver}}/{{.GraphDriver.Name}} c"), "vfs/vfs");
    host.run("rm c").ok();
    // One that has never run has nothing of its own, and can be read and written to.
    host.run("create --name never busybox true").ok();
    assert_eq!(host.text("diff never"), "");
    host.run(format!("cp never:/etc/passwd {}", got.display())).ok();
    host.run(format!("cp {} never:/own", got.display())).ok();
    assert_eq!(host.text("diff never"), "A /own");
    host.run("start -a never").ok();
    host.run("run --rm --userns auto busybox test -O /etc/passwd").ok();
    host.run("run --rm --read-only busybox touch /x").fails(1);
    host.run("rm never").ok();
}

#[test]
fn a_root_keeps_its_driver() {
    let host = host();
    host.run("--storage-driver overlay ps")
        .fails(1)
        .says(&["made with copy"]);
    host.run("--storage-driver zfs ps")
        .fails(125)
        .says(&["want overlay, aufs or copy"]);
    host.run("run --rm --storage-opt size=5M busybox true")
        .fails(125)
        .says(&["driver copy"]);
    host.run("--storage-driver vfs run --rm busybox true").ok();
    let other = Host::busybox();
    other.run("run --rm busybox true").ok();
    other.run("-s copy ps").fails(1).says(&["made with overlay"]);
    other.run("-s overlay2 ps").ok();
    assert_eq!(other.text("info -f {{.Driver}}"), "overlay2");
}

#[test]
fn killed_while_an_image_is_copied() {
    for point in crate::crash::COPY_POINTS {
        let host = host();
        host.run("create --name c busybox echo whole").ok();
        let killed = host.barge("start -a c").env("BARGE_STOP_AT", *point).run();
        assert_ne!(killed.code, 0, "{point}");
        assert_eq!(host.text("start -a c"), "whole", "{point}");
        assert_eq!(host.text("diff c"), "", "{point}");
        host.run("rm c").ok();
        // Whoever makes something next takes away what was half copied.
        host.run("run --rm busybox true").ok();
    }
}

/// What every driver must make the same layers of: files that are new, changed, replaced by others, removed, removed and
/// made again, moved, given to somebody, linked, or touched so that size and time stay.
const DOCKERFILE: &str = r#"FROM busybox AS one
COPY a /data/
WORKDIR /work/deep
RUN echo new > /new && rm -r /etc/group && mkdir -p /d/e && chown 7:8 /d && chmod 4755 /bin/busybox
RUN printf 12345678 > /same && touch -d @1000000000 /same
RUN printf 87654321 > /same && touch -d @1000000000 /same && ln /same /other && ln -s /nowhere /link && mkfifo /pipe
RUN --mount=type=bind,from=busybox,target=/mnt/image --mount=type=bind,target=/mnt/context \
    --mount=type=tmpfs,target=/scratch cat /mnt/context/a > /from-context && ls /mnt/image/etc > /from-image
RUN --mount=type=bind,rw,target=/mnt/rw echo x > /mnt/rw/a && rm /data/a && rmdir /data && echo file > /data
RUN true
FROM busybox
COPY --from=one /data /d /moved/
ADD --link a /linked/a
RUN --mount=type=cache,target=/cache echo c > /cache/c && mkdir -p /home && mv /moved /home/moved
COPY a /same
"#;

#[test]
fn builds_are_the_same_on_every_driver() {
    let mut made = Vec::new();
    for driver in ["overlay", "copy"] {
        let host = Host::busybox();
        host.run(["--storage-driver", driver, "ps"]).ok();
        let dir = crate::build_run::context(&host, DOCKERFILE);
        std::fs::write(dir.join("a"), "context\n").unwrap();
        let line = format!(
            "build --build-arg SOURCE_DATE_EPOCH=1700000000 -t made {}",
            dir.display()
        );
        for flags in ["", " --target one", " --squash-all"] {
            let out = host
                .barge(format!("{line}{flags}").as_str())
                .timeout(crate::support::seconds(60))
                .run()
                .ok();
            drop(out);
            made.push((
                driver,
                flags,
                host.text(["inspect", "-f", "{{json .RootFS.Layers}}", "made"]),
            ));
        }
        assert_eq!(std::fs::read_to_string(dir.join("a")).unwrap(), "context\n");
        assert_eq!(host.text("run --rm made cat /linked/a /same"), "context\ncontext");
    }
    let (one, other) = made.split_at(made.len() / 2);
    for (a, b) in one.iter().zip(other) {
        assert_eq!(a.2, b.2, "{:?} {:?}", (a.0, a.1), (b.0, b.1));
    }
}

#[test]
fn an_image_is_mounted_from_a_copy() {
    let host = host();
    let place = std::path::PathBuf::from(host.text("image mount busybox"));
    assert!(place.join("bin/busybox").exists());
    assert!(std::fs::write(place.join("new"), "").is_err());
    assert_eq!(host.text("image mount busybox"), place.display().to_string());
    host.run("image unmount busybox").ok();
    let copies = host.root.join("image-copies");
    assert_eq!(std::fs::read_dir(&copies).unwrap().count(), 0);
    // One that is killed leaves a copy without a mount, which the next command that makes something takes away.
    let killed = host
        .barge("image mount busybox")
        .env("BARGE_STOP_AT", "image-viewed")
        .run();
    assert_ne!(killed.code, 0);
    host.run("run --rm busybox true").ok();
    assert_eq!(std::fs::read_dir(&copies).unwrap().count(), 0);
}

#[test]
fn what_is_left_of_views_is_counted_and_goes() {
    let host = host();
    let df = || {
        host.text([
            "system",
            "df",
            "--format",
            "{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}}",
        ])
    };
    assert!(!df().contains("Layer Copies"), "{}", df());
    // An image as a mount in a container, read-only and not.
    for mode in ["", ",rw"] {
        let mount = format!("type=image,src=busybox,dst=/m{mode}");
        let written = host.run([
            "run",
            "--rm",
            "--mount",
            &mount,
            "busybox",
            "sh",
            "-c",
            "ls -d /m/bin; touch /m/new",
        ]);
        assert_eq!(
            (written.text().as_str(), written.code == 0),
            ("/m/bin", mode == ",rw"),
            "{}",
            written.err()
        );
    }
    // One that is mounted, and what a boot or a driver of before has left.
    host.text("image mount busybox");
    let copies = host.root.join("image-copies");
    let layer = std::fs::read_dir(host.root.join("layers"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let old = copies.join("0".repeat(64));
    for dir in [old.join("tree"), layer.join("aufs"), layer.join("aufs.0")] {
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("f"), [0; 500]).unwrap();
    }
    assert!(df().contains("Layer Copies 4 1 1.5kB"), "{}", df());
    let said = host.text("system prune -f");
    assert!(said.contains("of images and layers that are not mounted so"), "{said}");
    assert!(df().contains("Layer Copies 1 1 0B"), "{}", df());
    assert!(layer.join("diff").exists() && !layer.join("aufs").exists() && !old.exists());
    host.text("system check");
    host.text("image unmount busybox");
}
