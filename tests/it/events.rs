//! `events`: docker's words, each once, also when whoever was to write them is killed.

use crate::support::{Host, kill, wait_until};
use nix::sys::signal::Signal;

/// `type action` of all that is recorded, in order.
fn story(host: &Host, filters: &[&str]) -> Vec<String> {
    let mut line = vec!["events", "--no-stream", "--format", "{{.Type}} {{.Action}}"];
    for filter in filters {
        line.extend(["--filter", filter]);
    }
    host.run(line).ok().lines()
}

fn count(story: &[String], what: &str) -> usize {
    story.iter().filter(|line| *line == what).count()
}

#[test]
fn the_life_of_a_container() {
    let host = Host::new();
    host.run("run --name x1 -l tier=1 -v data:/d tiny /tiny exit 3")
        .fails(3);
    host.run("rename x1 y1").ok();
    host.run("rm y1").ok();
    let told = story(&host, &["container=y1", "type=container"]);
    assert_eq!(told, ["container rename", "container destroy"]);
    let id = host.text("events --no-stream --filter event=destroy --format {{.Actor.ID}}");
    assert_eq!(id.len(), 64);
    let all = story(&host, &[&format!("container={id}")]);
    assert_eq!(
        all,
        ["create", "attach", "start", "die", "rename", "destroy"].map(|a| format!("container {a}"))
    );
    let volume = story(&host, &["volume=data"]);
    assert_eq!(volume, ["create", "mount", "unmount"].map(|a| format!("volume {a}")));
    let network = story(&host, &["type=network", "event=connect", "event=disconnect"]);
    assert_eq!(network, ["connect", "disconnect"].map(|a| format!("network {a}")));
    let die = host.text("events --no-stream --filter event=die --format json");
    let die: serde_json::Value = serde_json::from_str(&die).unwrap();
    assert_eq!(die["status"], "die");
    assert_eq!(die["from"], "tiny");
    assert_eq!(die["Actor"]["Attributes"]["exitCode"], "3");
    assert_eq!(die["Actor"]["Attributes"]["tier"], "1");
    assert_eq!(
        die["timeNano"].as_i64().unwrap() / 1_000_000_000,
        die["time"].as_i64().unwrap()
    );
    let text = host.text("events --no-stream --filter event=rename");
    assert!(
        text.contains("container rename ") && text.contains("name=y1, oldName=/x1"),
        "{text}"
    );
    assert_eq!(story(&host, &["label=tier=2"]), [""; 0]);
    host.run("events --filter nonsense=1").fails(125);
    assert_eq!(host.text("events --since 2000-01-01 --until 2001-01-01"), "");
    host.run("volume rm data").ok();
}

#[test]
fn images_volumes_and_networks() {
    let host = Host::new();
    host.run("tag tiny other:1").ok();
    host.run("rmi other:1").ok();
    host.run("volume create v1").ok();
    host.run("volume rm v1").ok();
    host.run("network create n1").ok();
    host.run("network rm n1").ok();
    let told = story(&host, &[]);
    for once in [
        "image import",
        "image untag",
        "volume create",
        "volume destroy",
        "network create",
        "network destroy",
    ] {
        assert_eq!(count(&told, once), 1, "{once}: {told:?}");
    }
    assert_eq!(count(&told, "image tag"), 2, "{told:?}");
    host.run("rmi tiny").ok();
    assert_eq!(count(&story(&host, &["type=image"]), "image delete"), 1);
}

#[test]
fn what_people_do_to_a_running_container() {
    let host = Host::new();
    host.detached("x1", "", "trap");
    host.run("pause x1").ok();
    host.run("unpause x1").ok();
    host.run("exec x1 /tiny exit 4").fails(4);
    host.run("top x1").ok();
    host.run("update --restart always x1").ok();
    host.run("update --restart no x1").ok();
    host.run("stop -t 0 x1").ok();
    host.run("restart -t 0 x1").ok();
    let told = story(&host, &["container=x1"]);
    for (what, times) in [
        ("pause", 1),
        ("unpause", 1),
        ("exec_create: /tiny exit 4", 1),
        ("exec_start: /tiny exit 4", 1),
        ("exec_die", 1),
        ("top", 1),
        ("update", 2),
        ("kill", 1),
        ("stop", 1),
        ("die", 1),
        ("start", 2),
        ("restart", 1),
    ] {
        assert_eq!(count(&told, &format!("container {what}")), times, "{what}: {told:?}");
    }
    host.text("rm -f x1");
}

#[test]
fn a_killed_monitor_costs_no_event_and_doubles_none() {
    let host = Host::new();
    host.detached("x1", "-v data:/d", "trap");
    kill(host.monitor_pid("x1"), Signal::SIGKILL);
    wait_until("x1 to be seen dead", || host.status("x1") == "exited");
    // A reader waits for nobody: while its processes are on their way out, the end is not told yet.
    wait_until("the end to be told", || count(&story(&host, &[]), "container die") > 0);
    let told = story(&host, &[]);
    for once in [
        "container start",
        "container die",
        "network connect",
        "network disconnect",
        "volume mount",
        "volume unmount",
    ] {
        assert_eq!(count(&told, once), 1, "{once}: {told:?}");
    }
    let code = host.text([
        "events",
        "--no-stream",
        "--filter",
        "event=die",
        "--format",
        r#"{{index .Actor.Attributes "exitCode"}}"#,
    ]);
    assert_eq!(code, "137");
    host.text("rm -v x1");
    host.run("volume rm data").ok();
    assert_eq!(count(&story(&host, &[]), "container destroy"), 1);
}

#[test]
fn followers_see_all_of_many() {
    let host = Host::new();
    let follower = host
        .barge("events --filter type=volume --format {{.Actor.ID}}:{{.Action}}")
        .spawn();
    // It watches when it has seen something.
    host.run("volume create first").ok();
    let begin = std::time::Instant::now();
    let mut n = 0;
    while follower.stdout.text().is_empty() {
        assert!(begin.elapsed().as_secs() < 20);
        n += 1;
        host.run(format!("volume create probe{n}").as_str()).ok();
    }
    std::thread::scope(|scope| {
        for part in 0..4 {
            let host = &host;
            scope.spawn(move || {
                for n in 0..10 {
                    host.run(format!("volume create v{part}-{n}").as_str()).ok();
                    host.run(format!("volume rm v{part}-{n}").as_str()).ok();
                }
            });
        }
    });
    host.run("volume create last").ok();
    follower.wait_for("last:create");
    follower.signal(Signal::SIGTERM);
    let lines = follower.wait().lines();
    for part in 0..4 {
        for n in 0..10 {
            for action in ["create", "destroy"] {
                let line = format!("v{part}-{n}:{action}");
                assert_eq!(lines.iter().filter(|l| **l == line).count(), 1, "{line}");
            }
        }
    }
    host.run("volume prune -af").ok();
}
