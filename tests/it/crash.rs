//! Killed at an instruction: for every named point (`sys::stop_point`) a process of the engine dies there as by
//! `kill -9`; the next command must find sound records and clear what is left.

use crate::support::{Host, seconds};

/// Every point in the source; `tests/layout.rs` compares.
const POINTS: &[&str] = &[
    "cidfile-claimed",
    "name-claimed",
    "container-recorded",
    "monitor-started",
    "monitor-begins",
    "start-recorded",
    "network-recorded",
    "bridge-made",
    "bridge-up",
    "lease-taken",
    "netns-made",
    "veth-made",
    "network-connected",
    "network-link-removed",
    "volume-filled",
    "volume-made",
    "root-mounted",
    "cgroups-made",
    "init-cloned",
    "init-executed",
    "running-recorded",
    "exit-seen",
    "exit-released",
    "exit-recorded",
    "exit-cleared",
    "container-detached",
    "rename-claimed",
];

/// Those on the way of a published port.
const PORT_POINTS: &[&str] = &["ports-reserved", "ports-published"];

/// Those of another published port of a running container (`republish.rs`).
pub const MORE_PORT_POINTS: &[&str] = &["more-ports-recorded", "more-ports-published"];

/// Those on the way of an image.
const IMAGE_POINTS: &[&str] = &[
    "layer-compressed",
    "blob-partly-fetched",
    "blob-fetched",
    "blob-committed",
    "layer-committed",
    "image-committed",
];

/// Those of a build.
const BUILD_POINTS: &[&str] = &[
    "step-prepared",
    "step-created",
    "step-ended",
    "files-copied",
    "steps-synced",
    "step-placed",
];

/// Those of a cache that goes to other engines and comes from there (`build_cache_elsewhere.rs`).
pub const CACHE_POINTS: &[&str] = &["cache-blob-written", "cache-brought"];

/// Those of a commit, of a stopped container and of a running one.
const COMMIT_POINTS: &[&str] = &[
    "upper-hashed",
    "adoption-begun",
    "upper-moved",
    "layer-named",
    "layer-placed",
];
const LIVE_COMMIT_POINTS: &[&str] = &["frozen", "changes-copied"];

/// Those between a change and its event.
const EVENT_POINTS: &[&str] = &[
    "creation-told",
    "destruction-untold",
    "destruction-told",
    "start-untold",
    "end-untold",
];

/// Those of every other change with an event (`store/intents.rs`).
const CHANGE_POINTS: &[&str] = &["change-announced", "change-untold", "change-told"];

/// Those of a health check and of secrets.
const OTHER_POINTS: &[&str] = &[
    "check-started",
    "health-untold",
    "secret-written",
    "secret-doubled",
    "secret-dropped",
];

/// Those of its mount.
const MOUNT_POINTS: &[&str] = &["image-mount-made", "image-viewed", "image-unmounted"];

/// Those of a container's.
const CONTAINER_MOUNT_POINTS: &[&str] = &["container-mount-made", "container-unmounted"];

/// Of a push to a registry of 2013 (`old_registries.rs`).
pub const OLD_PUSH_POINTS: &[&str] = &["v1-layer-sent"];

/// Those of a container's copy of its image (`copies.rs`).
pub const COPY_POINTS: &[&str] = &["image-copied", "copy-placed"];

/// Those of the layers' copies for a container's users (`chowned.rs`).
pub const CHOWNED_POINTS: &[&str] = &["layers-chowned", "chowned-placed"];

/// Of a reset.
const RESET_POINTS: &[&str] = &["store-wiped"];

/// Those on its way out.
const REMOVAL_POINTS: &[&str] = &["untagged", "image-forgotten"];

/// Between a container and its volumes.
const CREATE_POINTS: &[&str] = &["volume-made-early"];

/// Runs `line` with that point armed, in the foreground or detached; it must not hang, whatever it answers.
fn killed(host: &Host, point: &str, line: &str) {
    host.barge(line).env("BARGE_STOP_AT", point).timeout(seconds(60)).run();
}

/// What must be true after any crash: nothing runs, other containers start, the name is usable or listed.
fn sound(host: &Host, point: &str, name: &str) {
    crate::support::wait_until(&format!("nothing to run after {point}"), || {
        host.text("ps -q").is_empty()
    });
    host.run("ps -a").ok();
    host.tiny("", "exit 4").fails(4);
    let listed = host.run(["ps", "-a", "--format", "{{.Names}}"]).ok().lines();
    if listed.iter().any(|n| n == name) {
        let status = host.status(name);
        assert!(["created", "exited"].contains(&status.as_str()), "{point}: {status}");
        let wrong = host.run(["start", "-a", name]);
        // With --rm it may go by itself while `start` looks: removed by whoever met it first.
        let gone = wrong.err().contains("No such container") && host.text("ps -aq").is_empty();
        assert!(wrong.code == 3 || gone, "{point}: started again: {}", wrong.err());
        host.run(["rm", "-v", name]);
        assert_eq!(host.text("ps -aq"), "", "{point}");
    }
    host.run(["run", "--name", name, "-v", "/data", "tiny", "/tiny", "exit", "3"])
        .fails(3);
    host.text(["rm", "-v", name]);
    // An abandoned volume has no user any more; what has a name is the person's.
    crate::support::wait_until(&format!("abandoned volumes to go after {point}"), || {
        host.text("volume ls -q").replace("named", "").is_empty()
    });
}

#[test]
#[cfg_attr(not(feature = "stop-points"), ignore = "needs --features stop-points")]
fn a_run_killed_anywhere() {
    for point in POINTS {
        let host = Host::new();
        killed(&host, point, "run --name x1 -v /data -v named:/named tiny /tiny exit 3");
        sound(&host, point, "x1");
    }
}

#[test]
#[cfg_attr(not(feature = "stop-points"), ignore = "needs --features stop-points")]
fn a_run_with_ports_killed_anywhere() {
    for point in PORT_POINTS
        .iter()
        .chain(["init-cloned", "exit-seen", "exit-released"].iter())
    {
        let host = Host::new();
        killed(&host, point, "run --name x1 -p 8080:80 -p 53/udp tiny /tiny exit 3");
        sound(&host, point, "x1");
        host.run("run --rm -p 8080:80 tiny /tiny exit 3").fails(3);
    }
}

#[test]
#[cfg_attr(not(feature = "stop-points"), ignore = "needs --features stop-points")]
fn a_detached_run_killed_anywhere() {
    for point in POINTS {
        let host = Host::new();
        killed(&host, point, "run -d --name x1 -v /data tiny /tiny exit 3");
        sound(&host, point, "x1");
    }
}

#[test]
#[cfg_attr(not(feature = "stop-points"), ignore = "needs --features stop-points")]
fn a_run_with_rm_killed_anywhere() {
    for point in POINTS {
        let host = Host::new();
        let file = host.scratch().join("cid");
        killed(
            &host,
            point,
            &format!(
                "run --rm --name x1 -v /data --cidfile {} tiny /tiny exit 3",
                file.display()
            ),
        );
        sound(&host, point, "x1");
    }
}

#[test]
#[cfg_attr(not(feature = "stop-points"), ignore = "needs --features stop-points")]
fn a_removal_killed_anywhere() {
    for point in POINTS {
        let host = Host::new();
        host.detached("x1", "-v /data", "deaf");
        killed(&host, point, "rm -f -v x1");
        host.run("rm -f -v x1");
        sound(&host, point, "x1");
    }
}

#[test]
#[cfg_attr(not(feature = "stop-points"), ignore = "needs --features stop-points")]
fn a_start_killed_anywhere() {
    for point in POINTS {
        let host = Host::new();
        host.run("run --name x1 -v /data tiny /tiny exit 3").fails(3);
        killed(&host, point, "start x1");
        sound(&host, point, "x1");
    }
}

#[test]
#[cfg_attr(not(feature = "stop-points"), ignore = "needs --features stop-points")]
fn an_rmi_killed_anywhere() {
    for point in REMOVAL_POINTS {
        let host = Host::new();
        host.import("second", &crate::support::busybox_tar());
        let id = host.text("images -q --no-trunc second");
        killed(&host, point, "rmi second");
        assert_eq!(host.run("images second -q").ok().lines().len(), 0, "{point}");
        // Nameless at most, and then removed by its id.
        host.run(["rmi", "-f", &id]).ok();
        assert_eq!(host.run("images -aq").ok().lines().len(), 1, "{point}");
        host.import("second", &crate::support::busybox_tar());
        host.run("run --rm second true").ok();
        host.text("rmi second");
        assert_eq!(
            std::fs::read_dir(host.root.join("layers")).unwrap().count(),
            1,
            "{point}"
        );
    }
}

#[test]
#[cfg_attr(not(feature = "stop-points"), ignore = "needs --features stop-points")]
fn an_import_killed_at_a_point() {
    for point in IMAGE_POINTS {
        let host = Host::new();
        let archive = crate::support::busybox_tar();
        let mut import = host
            .barge("import - second")
            .env("BARGE_STOP_AT", *point)
            .timeout(seconds(20))
            .spawn();
        import.feed(&archive);
        import.wait();
        host.import("second", &archive);
        host.run("run --rm second true").ok();
    }
}

#[test]
#[cfg_attr(not(feature = "stop-points"), ignore = "needs --features stop-points")]
fn an_import_killed_anywhere() {
    // No point inside an import is named: it is killed by the clock, at many moments.
    for delay in (0..20).map(|n| std::time::Duration::from_micros(n * 400)) {
        let host = Host::new();
        let mut import = host.barge("import - second").spawn();
        let archive = crate::support::busybox_tar();
        let pid = import.pid();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(delay);
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        });
        import.feed(&archive);
        killer.join().unwrap();
        import.wait();
        host.tiny("", "exit 4").fails(4);
        let names = host.run(["images", "--format", "{{.Repository}}"]).ok().lines();
        if names.iter().any(|n| n == "second") {
            host.run("run --rm second true").ok();
        }
        host.import("second", &archive);
        host.run("run --rm second true").ok();
    }
}

#[test]
#[cfg_attr(not(feature = "stop-points"), ignore = "needs --features stop-points")]
fn a_commit_killed_anywhere() {
    for point in COMMIT_POINTS {
        let host = Host::busybox();
        let script = "rm /etc/group; mkdir /d; echo one > /d/file; chmod 1777 /; touch -d @5 /d";
        host.run(["run", "--name", "x1", "busybox", "sh", "-c", script]).ok();
        killed(&host, point, "commit x1 made");
        // The container is what it was, whoever looks first.
        let seen = "cat /d/file; ls /etc/group 2>&1; stat -c '%a' /; stat -c %Y /d";
        let export = host.barge("export x1").shell(r#""$@" | tar -tv"#).run().ok().text();
        assert!(
            export.contains("d/file") && !export.contains("etc/group"),
            "{point}: {export}"
        );
        host.text("commit x1 made");
        let made = host.text(["run", "--rm", "made", "sh", "-c", seen]);
        assert!(
            made.starts_with("one\n") && made.ends_with("\n1777\n5"),
            "{point}: {made}"
        );
        host.text("rmi -f made");
        let again = host.text(["commit", "x1", "again"]);
        assert_eq!(
            host.text(["run", "--rm", again.as_str(), "sh", "-c", seen]),
            made,
            "{point}"
        );
        host.text("rm x1");
        host.text("rmi again");
        let layers = std::fs::read_dir(host.root.join("layers")).unwrap().count();
        assert_eq!(layers, 1, "{point}: the base alone is left");
    }
}

#[test]
#[cfg_attr(not(feature = "stop-points"), ignore = "needs --features stop-points")]
fn a_commit_of_a_running_container_killed_anywhere() {
    for point in LIVE_COMMIT_POINTS {
        let host = Host::busybox();
        let script = "echo one > /file; i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done";
        host.run(["run", "-d", "--name", "x1", "busybox", "sh", "-c", script])
            .ok();
        host.wait_log("x1", "1");
        killed(&host, point, "commit x1 made");
        // It goes on.
        let last = host.run("logs x1").lines().len();
        crate::support::wait_until(&format!("the container to go on after {point}"), || {
            host.run("logs x1").lines().len() > last + 2
        });
        host.text("commit x1 made");
        assert_eq!(host.text("run --rm made cat /file"), "one", "{point}");
        host.text("rm -f x1");
        host.text("rmi made");
        let layers = std::fs::read_dir(host.root.join("layers")).unwrap().count();
        assert_eq!(layers, 1, "{point}: the base alone is left");
    }
}

#[test]
#[cfg_attr(not(feature = "stop-points"), ignore = "needs --features stop-points")]
fn an_image_mount_killed_anywhere() {
    for point in MOUNT_POINTS {
        let host = Host::new();
        killed(&host, point, "image mount tiny");
        let root = host.text("image mount tiny");
        assert!(std::path::Path::new(&root).join("tiny").exists(), "{point}");
        killed(&host, point, "image unmount tiny");
        host.run("image unmount tiny");
        assert_eq!(host.text("image mount"), "", "{point}");
    }
}

#[test]
#[cfg_attr(not(feature = "stop-points"), ignore = "needs --features stop-points")]
fn a_build_killed_anywhere() {
    use crate::build_run::{build, context, nothing_is_left};
    let dockerfile = "FROM busybox\nRUN echo one > /one\nCOPY Dockerfile /two\nRUN echo three > /three\nCMD [\"cat\", \"/one\", \"/three\"]\n";
    let host = Host::busybox();
    let dir = context(&host, dockerfile);
    for point in BUILD_POINTS
        .iter()
        .chain(["running-recorded", "exit-seen", "container-detached"].iter())
    {
        killed(&host, point, &format!("build --network none -t made {}", dir.display()));
        nothing_is_left(&host);
        build(&host, &["--network", "none"], dockerfile).ok();
        assert_eq!(host.text("run --rm --net none made"), "one\nthree", "{point}");
        // The next one begins anew.
        host.text("rmi made");
        host.text("builder prune -af");
    }
    nothing_is_left(&host);
}

#[test]
#[cfg_attr(not(feature = "stop-points"), ignore = "needs --features stop-points")]
fn killed_while_a_container_is_mounted() {
    for point in CONTAINER_MOUNT_POINTS {
        let host = Host::new();
        host.text("create --name c tiny");
        killed(&host, point, "mount c");
        let root = host.text("mount c");
        assert!(std::path::Path::new(&root).join("tiny").exists(), "{point}");
        killed(&host, point, "unmount c");
        host.run("unmount c").ok();
        assert_eq!(host.text("mount"), "", "{point}");
        host.text("mount c");
        host.text("rm c");
        assert!(!std::path::Path::new(&root).exists(), "{point}");
    }
}

#[test]
#[cfg_attr(not(feature = "stop-points"), ignore = "needs --features stop-points")]
fn every_change_is_told_once_whoever_is_killed() {
    for point in EVENT_POINTS {
        let host = Host::new();
        killed(&host, point, "run --rm --net none --name x1 tiny /tiny exit 3");
        killed(&host, point, "run --net none --name y1 tiny /tiny exit 3");
        crate::support::wait_until("nothing to run", || host.text("ps -q").is_empty());
        for name in ["x1", "y1"] {
            host.run(["rm", "-f", name]);
            // What a killed creation has claimed is swept.
            host.run([
                "run", "--rm", "--net", "none", "--name", name, "tiny", "/tiny", "exit", "3",
            ])
            .fails(3);
        }
        assert_eq!(host.text("ps -aq"), "", "{point}");
        let told = || host.text("events --no-stream --filter type=container --format {{.Actor.ID}}:{{.Action}}");
        let once = told();
        assert_eq!(told(), once, "{point}: mended twice");
        let ids: std::collections::BTreeSet<&str> = once.lines().filter_map(|l| l.split(':').next()).collect();
        assert!(!ids.is_empty(), "{point}");
        for id in ids {
            let times = |action: &str| once.lines().filter(|l| *l == format!("{id}:{action}")).count();
            assert_eq!((times("create"), times("destroy")), (1, 1), "{point}: {once}");
            assert_eq!(times("start"), times("die"), "{point}: {once}");
            assert!(times("start") <= 1, "{point}: {once}");
        }
    }
}

#[test]
#[cfg_attr(not(feature = "stop-points"), ignore = "needs --features stop-points")]
fn a_reset_killed_and_done_again() {
    for point in RESET_POINTS {
        let host = Host::new();
        host.detached("x1", "-v data:/data", "block");
        killed(&host, point, "system reset -f");
        assert_eq!(host.text("ps -aq"), "", "{point}");
        host.run("system reset -f").ok();
        assert_eq!(host.text("volume ls -q"), "", "{point}");
    }
}

#[test]
#[cfg_attr(not(feature = "stop-points"), ignore = "needs --features stop-points")]
fn checks_and_secrets_killed_anywhere() {
    for point in OTHER_POINTS {
        let host = Host::busybox();
        let with_stdin = |line: &str| {
            host.barge(line)
                .env("BARGE_STOP_AT", point)
                .stdin(b"word")
                .timeout(seconds(20))
                .run();
        };
        with_stdin("secret create s1 -");
        with_stdin("secret create --replace s1 -");
        with_stdin("secret rm s1");
        killed(
            &host,
            point,
            "run -d --net none --name x1 --health-cmd true --health-interval 50ms busybox sleep 1000",
        );
        if ["check-started", "health-untold"].contains(point) {
            crate::support::wait_until("the end", || host.status("x1") == "exited");
            crate::support::wait_until("it to be told", || told(&host, "container die") == 1);
            let healthy = told(&host, "container health_status: healthy");
            assert_eq!(healthy, usize::from(*point == "health-untold"), "{point}");
        }
        host.run("rm -f x1").ok();
        host.barge("secret create --replace s1 -").stdin(b"new").run().ok();
        assert_eq!(
            host.text("secret inspect --showsecret -f {{.SecretData}} s1"),
            "new",
            "{point}"
        );
        host.run("secret rm s1").ok();
        assert_eq!(host.text("secret ls -q"), "", "{point}");
    }
}

/// Every kind of change: how it is made, how it is undone, and its event.
const CHANGES: &[(&str, &str, &str)] = &[
    ("volume create v1", "volume rm v1", "volume create"),
    ("volume rm v2", "volume create v2", "volume destroy"),
    ("network create n1", "network rm n1", "network create"),
    ("network rm n2", "network create n2", "network destroy"),
    ("secret create s1 SECRET", "secret rm s1", "secret create"),
    ("secret rm s2", "secret create s2 SECRET", "secret remove"),
    ("tag tiny t1", "rmi t1", "image tag"),
    ("rmi t2", "tag tiny t2", "image untag"),
    ("rmi NAMELESS", "import TAR", "image delete"),
    ("import TAR i1", "rmi i1", "image import"),
    ("commit x1 c1", "rmi c1", "container commit"),
    ("pause x1", "unpause x1", "container pause"),
    ("unpause x2", "pause x2", "container unpause"),
    ("rename y1 y2", "inspect y2", "container rename"),
    ("update --restart always y2", "inspect y2", "container update"),
];

/// What they need.
const BEFORE_CHANGES: &[&str] = &[
    "volume create v2",
    "network create n2",
    "secret create s2 SECRET",
    "tag tiny t2",
    "run -d --net none --name x1 tiny /tiny trap",
    "run -d --net none --name x2 tiny /tiny trap",
    "pause x2",
    "create --net none --name y1 tiny",
];

#[test]
#[cfg_attr(not(feature = "stop-points"), ignore = "needs --features stop-points")]
fn every_kind_of_change_is_told_once_whoever_is_killed() {
    for point in CHANGE_POINTS {
        let host = Host::new();
        let path = |name: &str| host.scratch().join(name).display().to_string();
        std::fs::write(path("secret"), "word").unwrap();
        std::fs::write(path("tar"), crate::support::busybox_tar()).unwrap();
        let nameless = host.text(["import", &path("tar")]);
        let line = |line: &str| {
            let line = line.replace("SECRET", &path("secret")).replace("TAR", &path("tar"));
            line.replace("NAMELESS", &nameless)
        };
        for before in BEFORE_CHANGES {
            host.run(line(before).as_str()).ok();
        }
        for (n, &(change, back, event)) in CHANGES.iter().enumerate() {
            let at_first = told(&host, event);
            killed(&host, point, &line(change));
            let done = usize::from(*point != "change-announced");
            // Either the reader settles it, or whoever changes the thing next.
            if n % 2 == 0 {
                assert_eq!(told(&host, event) - at_first, done, "{point}: {change}, by a reader");
            }
            // Done now, if it was not; making it the same again is an act of its own for some.
            host.run(line(change).as_str());
            let again = ["container update", "image import", "container commit"].contains(&event);
            let times = if again { 1 + done } else { 1 };
            let story = || host.text("events --no-stream");
            assert_eq!(told(&host, event) - at_first, times, "{point}: {change}: {}", story());
            host.run(line(back).as_str()).ok();
            assert_eq!(told(&host, event) - at_first, times, "{point}: {back}: {}", story());
            let left = std::fs::read_dir(host.root.join("events/intents")).unwrap().count();
            assert_eq!(left, 0, "{point}: {change}");
        }
        for line in [
            "rm -f x1 x2 y2",
            "volume prune -af",
            "network prune -f",
            "secret rm --all",
        ] {
            host.run(line).ok();
        }
    }
}

fn told(host: &Host, event: &str) -> usize {
    let all = host
        .run(["events", "--no-stream", "--format", "{{.Type}} {{.Action}}"])
        .ok();
    all.lines().iter().filter(|line| *line == event).count()
}

#[test]
#[cfg_attr(not(feature = "stop-points"), ignore = "needs --features stop-points")]
fn a_creation_killed_between_its_volumes() {
    let host = Host::new();
    for point in CREATE_POINTS {
        killed(
            &host,
            point,
            "create --name c -v one:/one -v two:/two tiny /tiny exit 3",
        );
        assert_eq!(host.text("volume ls -q"), "one", "{point}");
        // The start makes the other.
        host.run("start -a c").fails(3);
        assert_eq!(host.text("volume ls -q"), "one\ntwo", "{point}");
        host.text("rm c");
        host.text("volume rm one two");
        sound(&host, point, "c");
    }
}
