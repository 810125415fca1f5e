//! `--userns`, `--rootfs`: whose files are whose, at rest and while a container runs.

use crate::support::Host;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let meta = fs::symlink_metadata(path.as_ref()).unwrap_or_else(|e| panic!("{}: {e}", path.as_ref().display()));
    (meta.uid(), meta.gid())
}

const WORK: &str = "id -u; stat -c %u:%g /etc/passwd; echo x > /made; mkdir /dir; chown 7:8 /made; rm /etc/group; \
    echo v > /vol/v; chown 9 /vol/v; cat /proc/self/uid_map; exec sleep 1000";

#[test]
fn a_range_of_its_own() {
    let host = Host::busybox();
    host.run([
        "run",
        "-d",
        "--name",
        "c",
        "--userns",
        "100000:200000",
        "-v",
        "vol:/vol",
        "-w",
        "/new/work",
        "busybox",
        "sh",
        "-c",
        WORK,
    ])
    .ok();
    host.wait_log("c", "65536");
    let log = host.text("logs c");
    assert!(log.starts_with("0\n0:0\n"), "{log}");
    // A process of the host's sees the range; files at rest have the image's numbers.
    let pid = host.init_pid("c");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Uid:\t100000\t100000"), "{status}");
    let upper = host.root.join("containers").join(host.id("c")).join("upper");
    assert_eq!(owner(upper.join("made")), (7, 8));
    assert_eq!(owner(upper.join("new/work")), (0, 0));
    assert_eq!(owner(host.root.join("volumes/vol/_data/v")), (9, 0));
    // exec, with a terminal too, is one of them.
    assert_eq!(host.text("exec c id -u"), "0");
    assert_eq!(host.text("exec -u 5:6 c id -u"), "5");
    assert_eq!(host.text("exec c stat -c %u:%g /made"), "7:8");
    assert_eq!(host.text("exec c stat -c %u /etc/hosts /dev/shm"), "0\n0");
    assert_eq!(host.text("exec c pwd"), "/new/work");
    host.run("exec -u 70000 c id")
        .fails(125)
        .says(&["user 70000 is not one of"]);
    host.run("exec c chown 70000 /made").fails(1);
    let mut terminal = host.barge("exec -t c stat -c %u /dev/pts/0").run();
    terminal = terminal.ok();
    assert_eq!(terminal.text().trim(), "0");
    // cp both ways, export, diff and commit speak the container's numbers.
    let dir = host.scratch();
    fs::write(dir.join("in"), "in").unwrap();
    std::os::unix::fs::chown(dir.join("in"), Some(11), Some(12)).unwrap();
    let file = dir.join("in").display().to_string();
    for state in ["running", "exited"] {
        host.run(["cp", &file, "c:/plain"]).ok();
        host.run(["cp", "-a", &file, "c:/kept"]).ok();
        assert_eq!(
            (owner(upper.join("plain")), owner(upper.join("kept"))),
            ((0, 0), (11, 12)),
            "{state}"
        );
        let out = dir.join(state);
        host.run(["cp", "-a", "c:/made", &out.display().to_string()]).ok();
        assert_eq!(owner(&out), (7, 8));
        let tar = host.run("export c").ok().stdout;
        fs::write(dir.join("tar"), tar).unwrap();
        let list = std::process::Command::new("tar")
            .args(["tvf"])
            .arg(dir.join("tar"))
            .args(["made", "kept", "bin"])
            .output()
            .unwrap();
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        assert!(
            list.contains("7/8") && list.contains("11/12") && list.contains("0/0"),
            "{list}"
        );
        let diff = host.text("diff c");
        assert!(
            diff.contains("A /made") && diff.contains("D /etc/group") && !diff.contains("/bin"),
            "{diff}"
        );
        host.text(["commit", "c", &format!("made:{state}")]);
        assert_eq!(
            host.text([
                "run",
                "--rm",
                &format!("made:{state}"),
                "stat",
                "-c",
                "%u:%g",
                "/made",
                "/dir",
                "/kept"
            ]),
            "7:8\n0:0\n11:12"
        );
        if state == "running" {
            host.text("stop -t 0 c");
        }
    }
    // Started again it is who it was.
    host.text("start c");
    host.wait_log("c", "65536");
    assert_eq!(host.text("exec c stat -c %u:%g /made"), "7:8");
    host.text("rm -f c");
    // Its network is its own: rights over that have power there, and nobody has them unasked.
    let change = ["busybox", "sh", "-c", "ip addr add 10.9.9.9/32 dev lo || exit 7"];
    let line = ["run", "--rm", "--userns", "100000:200000", "--cap-add", "NET_ADMIN"];
    host.run([&line[..], &change].concat()).ok();
    host.run([&line[..4], &change].concat()).fails(7);
    // So are its mounts, its names and its messages: with the right, and not without.
    let change = [
        "busybox",
        "sh",
        "-c",
        "mkdir -p /mnt && mount -t tmpfs t /mnt && hostname other && test $(hostname) = other || exit 7",
    ];
    let line = ["run", "--rm", "--userns", "100000:200000", "--cap-add", "SYS_ADMIN"];
    host.run([&line[..], &change].concat()).ok();
    host.run([&line[..4], &change].concat()).fails(7);
    host.run([&line[..], &["--network", "none"], &change].concat()).ok();
}

#[test]
fn ranges_that_nobody_else_has() {
    let host = Host::busybox();
    let map = |name: &str| {
        host.text(["exec", name, "cat", "/proc/self/uid_map"])
            .split_whitespace()
            .map(|n| n.parse::<u64>().unwrap())
            .collect::<Vec<_>>()
    };
    for name in ["a", "b"] {
        host.run([
            "run",
            "-d",
            "--name",
            name,
            "--userns",
            "auto:size=2000",
            "busybox",
            "sleep",
            "1000",
        ])
        .ok();
    }
    host.run("run -d --name same --userns container:a busybox sleep 1000")
        .ok();
    let (a, b) = (map("a"), map("b"));
    assert_eq!((a[0], a[2], b[2]), (0, 2000, 2000));
    assert!(a[1] + 2000 <= b[1] || b[1] + 2000 <= a[1], "{a:?} {b:?}");
    assert_eq!(map("same"), a);
    // Given back, and given again.
    host.text("rm -f same");
    host.text("rm -f a");
    host.run("run -d --name c --userns auto:size=2000 busybox sleep 1000")
        .ok();
    assert_eq!(map("c"), a);
    // Bind mounts by request: the numbers on disk, or their mapped view.
    let dir = host.scratch();
    fs::write(dir.join("f"), "x").unwrap();
    let of = |options: &str| {
        let volume = format!("{}:/v{options}", dir.display());
        host.text([
            "run", "--rm", "--userns", "auto", "-v", &volume, "busybox", "stat", "-c", "%u", "/v/f",
        ])
    };
    assert_eq!(of(""), "65534");
    assert_eq!(of(":idmap"), "0");
    assert_eq!(of(":U"), "0");
    assert_ne!(owner(dir.join("f")).0, 0);
    assert_eq!(
        host.text([
            "run",
            "--rm",
            "-u",
            "5:6",
            "-v",
            &format!("{}:/v:U", dir.display()),
            "busybox",
            "stat",
            "-c",
            "%u:%g",
            "/v/f"
        ]),
        "5:6"
    );
    host.run("run --rm --userns auto --privileged busybox true")
        .fails(125)
        .says(&["incompatible with user namespaces"]);
    host.run("run --rm -v /tmp:/v:idmap busybox true")
        .fails(125)
        .says(&["idmap is for a container with a user namespace"]);
    host.run("run --rm --userns keep-id busybox true")
        .fails(125)
        .says(&["without root"]);
    host.run("run --rm --userns auto:size=10 -u 100 busybox true")
        .fails(125)
        .says(&["user 100 is not one of"]);
    host.text("rm -f b c");
}

#[test]
fn a_directory_of_the_host_is_the_root() {
    let host = Host::busybox();
    let dir = host.scratch().join("tree");
    fs::create_dir(&dir).unwrap();
    let tar = crate::support::busybox_tar();
    let unpacked = host.scratch().join("tar");
    fs::write(&unpacked, tar).unwrap();
    let status = std::process::Command::new("tar")
        .arg("xf")
        .arg(&unpacked)
        .arg("-C")
        .arg(&dir)
        .status()
        .unwrap();
    assert!(status.success());
    let tree = dir.display().to_string();
    let run = |root: &str, name: &str| {
        host.run([
            "run",
            "--name",
            name,
            "--rootfs",
            root,
            "sh",
            "-c",
            "echo x > /made; cat /etc/hostname",
        ])
    };
    run(&format!("{tree}:O"), "over").ok();
    assert!(!dir.join("made").exists());
    assert!(host.text("diff over").contains("A /made"));
    assert!(host.text("ps -a --no-trunc").contains(&format!("{tree}:O")));
    run(&tree, "plain").ok();
    assert_eq!(fs::read_to_string(dir.join("made")).unwrap(), "x\n");
    host.run("diff plain").fails(125).says(&["--rootfs"]);
    host.run("commit plain x").fails(125).says(&["no image below it"]);
    host.text("commit --squash plain flat");
    assert_eq!(host.text("run --rm flat cat /made"), "x");
    host.run(["cp", "plain:/made", &format!("{tree}/copied")]).ok();
    host.run([
        "run", "--rm", "--userns", "auto", "--rootfs", &tree, "stat", "-c", "%u", "/made",
    ])
    .ok();
    host.text("start plain");
    host.text("inspect plain");
    host.run(["run", "--rm", "--rootfs", "/does/not/exist", "true"])
        .fails(125)
        .says(&["--rootfs /does/not/exist"]);
    host.run(["run", "--rm", "--rootfs", &format!("{tree}:Q"), "true"])
        .fails(125)
        .says(&["unknown option 'Q'"]);
    host.run(["run", "--rm", "--rootfs", &tree])
        .fails(125)
        .says(&["No command specified"]);
    assert!(host.text("system check").len() < 4000);
    host.text("rm plain over");
    assert!(dir.join("made").exists());
}

#[test]
fn images_and_memory_as_mounts() {
    let host = Host::busybox();
    let files = crate::support::Tar::new()
        .dir("d", 0o755)
        .owned("d/f", 0o600, (7, 8), b"x");
    host.import("files", &files.bytes());
    let look = "stat -c %u:%g /m/d /m/d/f; touch /m/new 2>&1; stat -c %u /m/new";
    let run = |flags: &str| {
        let mut words = vec!["run", "--rm", "--userns", "auto"];
        words.extend(flags.split_whitespace());
        words.extend(["busybox", "sh", "-c", look]);
        host.run(words).text()
    };
    assert_eq!(run("--mount type=image,src=files,dst=/m,rw"), "0:0\n7:8\n0");
    let said = run("--mount type=image,src=files,dst=/m");
    assert!(said.starts_with("0:0\n7:8\n") && said.contains("Read-only"), "{said}");
    let owner = "run --rm --userns auto --tmpfs /t:uid=5,gid=6 busybox stat -c %u:%g /t";
    assert_eq!(host.text(owner), "5:6");
    host.run("run --rm --userns auto:size=100 --tmpfs /t:uid=500 busybox true")
        .fails(125)
        .says(&["uid=500 is not of the container's user namespace"]);
}
