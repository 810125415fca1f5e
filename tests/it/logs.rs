//! The json-file log: exact bytes, rotation, and `logs` with its options.

use crate::support::Host;
use std::fs;

#[test]
fn logs_of_the_dead_and_the_living() {
    let host = Host::new();
    host.run("run --name x1 tiny /tiny lines 5").ok();
    assert_eq!(host.run("logs x1").ok().lines().len(), 5);
    assert_eq!(host.run("logs --tail 2 x1").ok().lines(), ["4 line", "5 line"]);
    assert_eq!(host.run("logs --tail 0 x1").ok().lines().len(), 0);
    assert_eq!(host.run("logs --tail all x1").ok().lines().len(), 5);
    assert_eq!(host.run("logs -f x1").ok().lines().len(), 5);
    host.run("logs none").fails(1).says(&["No such container: none"]);
    host.run("logs --tail nonsense x1").fails(125);
}

#[test]
fn timestamps_and_since() {
    let host = Host::new();
    host.run("run --name x1 tiny /tiny lines 3").ok();
    let stamped = host.run("logs -t x1").ok().lines();
    let stamp = stamped[0].split(' ').next().unwrap();
    assert!(
        stamp.ends_with('Z') && stamp.contains('T') && stamp.len() >= 20,
        "{stamp}"
    );
    assert_eq!(host.run("logs --since 1h x1").ok().lines().len(), 3);
    assert_eq!(host.run("logs --since 2099-01-01T00:00:00Z x1").ok().lines().len(), 0);
    assert_eq!(host.run("logs --until 2000-01-01T00:00:00Z x1").ok().lines().len(), 0);
    host.run("logs --since nonsense x1").fails(125);
}

#[test]
fn following_gives_every_line_once_and_ends_with_the_container() {
    let host = Host::new();
    host.detached("x1", "", "ticks 2");
    let follower = host.barge("logs -f x1").spawn();
    follower.wait_for("tick 30\n");
    host.text("kill x1");
    let lines = follower.wait().ok().lines();
    for (i, line) in lines.iter().enumerate() {
        assert_eq!(*line, format!("tick {}", i + 1));
    }
}

#[test]
fn a_line_without_its_end_is_kept_as_it_is() {
    let host = Host::new();
    // "no end", then NUL and bytes that are no UTF-8.
    host.run("run --name x1 tiny /tiny hex 6e6f20656e64").ok();
    assert_eq!(host.run("logs x1").ok().stdout, b"no end");
    host.run("run --name y1 tiny /tiny hex 00ff0afe0080").ok();
    assert_eq!(host.run("logs y1").ok().stdout, b"\x00\xff\x0a\xfe\x00\x80");
    assert_eq!(host.run("logs --tail 1 y1").ok().stdout, b"\xfe\x00\x80");
}

#[test]
fn a_very_long_line_comes_back_whole() {
    let host = Host::new();
    host.run("run --name x1 tiny /tiny burst 1000000").ok();
    assert_eq!(host.run("logs x1").ok().stdout.len(), 1_000_000);
}

#[test]
fn the_log_goes_on_after_a_restart() {
    let host = Host::new();
    host.run("run --name x1 tiny /tiny print once").ok();
    host.run("start -a x1").ok();
    assert_eq!(host.run("logs x1").ok().lines(), ["once", "once"]);
}

#[test]
fn the_log_is_rotated() {
    let host = Host::new();
    let id = host.detached(
        "x1",
        "--log-opt max-size=64k --log-opt max-file=2",
        "lines 5000 0123456789012345678901234567890123456789",
    );
    host.text("wait x1");
    let dir = host.root.join("containers").join(&id);
    let files: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().contains("log"))
        .collect();
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(
        files.iter().all(|f| f.metadata().unwrap().len() <= 80 << 10),
        "{files:?}"
    );
    let lines = host.run("logs x1").ok().lines();
    assert!(lines.last().unwrap().starts_with("5000 "), "{:?}", lines.last());
    let numbers: Vec<u32> = lines.iter().filter_map(|l| l.split(' ').next()?.parse().ok()).collect();
    assert!(
        numbers.windows(2).all(|w| w[1] == w[0] + 1),
        "no line is missing between the first and the last"
    );
    for bad in ["max-size=nonsense", "max-file=0", "nonsense=1"] {
        host.run(["run", "--rm", "--log-opt", bad, "tiny", "/true"]).fails(125);
    }
}

#[test]
fn no_log_on_request() {
    let host = Host::new();
    assert_eq!(
        host.run("run --name x1 --log-driver none tiny /tiny print x")
            .ok()
            .text(),
        "x"
    );
    host.run("logs x1").fails(1).says(&["log"]);
    host.run("run --rm --log-driver nonsense tiny /true")
        .fails(125)
        .says(&["nonsense"]);
}

#[test]
fn the_log_is_dockers_format() {
    let host = Host::new();
    host.run("run --name x1 tiny /tiny both out err").ok();
    let path = host.text(["inspect", "-f", "{{.LogPath}}", "x1"]);
    let mut streams = Vec::new();
    for line in fs::read_to_string(path).unwrap().lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(entry["time"].as_str().unwrap().ends_with('Z'));
        streams.push((
            entry["stream"].as_str().unwrap().to_owned(),
            entry["log"].as_str().unwrap().to_owned(),
        ));
    }
    streams.sort();
    assert_eq!(
        streams,
        [("stderr".into(), "err\n".into()), ("stdout".into(), "out\n".into())]
    );
}

#[test]
fn several_containers_at_once() {
    let host = Host::new();
    host.run("run --name x1 tiny /tiny lines 2").ok();
    host.run("run --name long tiny /tiny lines 1").ok();
    let lines = host.run("logs x1 long").ok().lines();
    assert_eq!(lines, ["x1    | 1 line", "x1    | 2 line", "long  | 1 line"]);
    // Whoever is named first: it goes by the time.
    assert_eq!(host.run("logs long x1").ok().lines(), lines);
    assert_eq!(
        host.run("logs --tail 1 long x1").ok().lines(),
        ["x1    | 2 line", "long  | 1 line"]
    );
    assert_eq!(host.run("logs -f long x1").ok().lines(), lines);
    assert_eq!(host.run("logs --names long").ok().lines(), ["long  | 1 line"]);
    assert_eq!(host.run("logs --color long x1").ok().text().matches("\x1b[").count(), 6);
    host.run("logs x1 none").fails(1).says(&["No such container: none"]);
}

#[test]
fn several_followed_over_rotation_lose_and_double_nothing() {
    let host = Host::new();
    for name in ["x1", "y1"] {
        host.detached(name, "--log-opt max-size=4k --log-opt max-file=50", "ticks 2");
    }
    let follower = host.barge("logs -f x1 y1").spawn();
    follower.wait_for("tick 200\n");
    host.text("kill x1 y1");
    let lines = follower.wait().ok().lines();
    for name in ["x1", "y1"] {
        let own = lines.iter().filter_map(|l| l.strip_prefix(&format!("{name}  | ")));
        for (n, line) in own.enumerate() {
            assert_eq!(line, format!("tick {}", n + 1), "{name}");
        }
    }
    assert!(lines.len() > 300);
}
