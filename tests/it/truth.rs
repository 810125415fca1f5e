//! What is reported is what is so: after `kill -9` of anything, after a reboot, with damaged records.

use crate::support::{Host, alive, kill, wait_until};
use nix::sys::signal::Signal;
use std::fs;
use std::time::{Duration, Instant};

#[test]
fn a_dead_init_is_seen_at_once() {
    let host = Host::new();
    host.detached("x1", "", "block");
    kill(host.init_pid("x1"), Signal::SIGKILL);
    assert_eq!(host.text("wait x1"), "137");
    assert_eq!(host.status("x1"), "exited");
    assert_eq!(host.text("ps -q"), "");
}

#[test]
fn a_dead_monitor_is_seen_at_once_by_every_command() {
    for command in [
        "ps -a",
        "inspect x1",
        "wait x1",
        "start x1",
        "rm -v x1",
        "rm -f -v x1",
        "logs x1",
        "stop x1",
        "restart x1",
    ] {
        let host = Host::new();
        host.detached("x1", "-v /data", "deaf");
        let (monitor, init) = (host.monitor_pid("x1"), host.init_pid("x1"));
        kill(monitor, Signal::SIGKILL);
        wait_until("the monitor to be dead", || !alive(monitor));
        let output = host.run(command).ok();
        match command {
            "ps -a" => assert!(output.text().contains("Exited (137)"), "{}", output.text()),
            "wait x1" => assert_eq!(output.text(), "137"),
            _ => {}
        }
        wait_until("the init to end", || !alive(init));
        if !command.contains("start") {
            assert_eq!(host.text("ps -q"), "", "after {command}");
        }
    }
}

#[test]
fn waiting_commands_end_when_the_monitor_is_killed() {
    let host = Host::new();
    host.detached("x1", "", "deaf");
    let waiting = host.barge("wait x1").spawn();
    let attached = host.barge("attach x1").spawn();
    let following = host.barge("logs -f x1").spawn();
    following.wait_for("ready");
    wait_until("attach to be connected", || {
        host.text("events --no-stream --filter event=attach --since 1h")
            .contains("x1")
    });
    kill(host.monitor_pid("x1"), Signal::SIGKILL);
    assert_eq!(waiting.wait().ok().text(), "137");
    assert_eq!(attached.wait().code, 137);
    following.wait().ok();
}

#[test]
fn a_killed_foreground_client_leaves_a_sound_container() {
    let host = Host::new();
    let client = host.barge("run --name x1 tiny /tiny deaf").spawn();
    client.wait_for("ready");
    client.signal(Signal::SIGKILL);
    client.wait().fails(137);
    assert_eq!(host.status("x1"), "running");
    let client = host.barge("run --rm --name y1 tiny /tiny trap 15 0").spawn();
    client.wait_for("ready");
    client.signal(Signal::SIGKILL);
    client.wait().fails(137);
    host.text("kill -s TERM y1");
    wait_until("--rm to be honoured without its client", || {
        host.run("inspect y1").code == 1
    });
}

#[test]
fn after_a_reboot_nothing_runs() {
    let host = Host::new();
    host.detached("x1", "--restart always", "deaf");
    host.wait_log("x1", "ready");
    host.text("create --name fresh tiny");
    // What a reboot does: every process gone, the run directory empty.
    let (monitor, init) = (host.monitor_pid("x1"), host.init_pid("x1"));
    kill(monitor, Signal::SIGKILL);
    wait_until("the init to end", || !alive(init));
    fs::remove_dir_all(&host.run_root).unwrap();
    assert_eq!(host.status("x1"), "exited");
    assert_eq!(host.status("fresh"), "created");
    assert_eq!(host.text("wait x1"), "137");
    host.text("start x1");
    assert_eq!(host.status("x1"), "running");
}

#[test]
fn a_state_of_another_boot_is_not_believed() {
    let host = Host::new();
    let id = host.detached("x1", "", "deaf");
    let state = host.run_root.join(&id).join("state.json");
    let before = fs::read_to_string(&state).unwrap();
    kill(host.monitor_pid("x1"), Signal::SIGKILL);
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let other = before.replace(boot.trim(), "00000000-0000-0000-0000-000000000000");
    fs::create_dir_all(state.parent().unwrap()).unwrap();
    fs::write(&state, other).unwrap();
    assert_eq!(host.status("x1"), "exited");
}

#[test]
fn a_recycled_pid_is_not_taken_for_the_init() {
    let host = Host::new();
    let id = host.detached("x1", "", "deaf");
    let state = host.run_root.join(&id).join("state.json");
    let init = host.init_pid("x1");
    let before = fs::read_to_string(&state).unwrap();
    kill(host.monitor_pid("x1"), Signal::SIGKILL);
    wait_until("the init to end", || !alive(init));
    // The same pid, but of this test: a kill or rm -f must not touch it.
    let bystander = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let mut bystander = scopeguard(bystander);
    fs::create_dir_all(state.parent().unwrap()).unwrap();
    fs::write(&state, before.replace(&init.to_string(), &bystander.0.id().to_string())).unwrap();
    assert_eq!(host.status("x1"), "exited");
    host.run("kill x1");
    host.run("rm -f x1").ok();
    assert!(bystander.0.try_wait().unwrap().is_none(), "the bystander lives");
}

struct Ended(std::process::Child);
fn scopeguard(child: std::process::Child) -> Ended {
    Ended(child)
}
impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn one_damaged_container_stops_no_other() {
    for (file, content) in [
        ("config.json", ""),
        ("config.json", "{"),
        ("config.json", "[]"),
        ("exit.json", "{\"x\":"),
    ] {
        let host = Host::new();
        let id = host.text("create --name bad tiny");
        host.run("run --name good tiny /tiny exit 3").fails(3);
        let path = host.root.join("containers").join(&id).join(file);
        fs::write(&path, content).unwrap();
        let listed = host.run("ps -a").ok().text();
        assert!(listed.contains("good"), "{file} {content:?}: {listed}");
        host.run("run --rm tiny /tiny exit 0").ok();
        host.run("inspect good").ok();
        host.run(["rm", "-f", &id]).ok();
        assert_eq!(host.text(["ps", "-aq"]).lines().count(), 1);
        host.text("create --name bad tiny");
    }
}

#[test]
fn a_container_directory_without_anything_in_it() {
    let host = Host::new();
    let id = "0123456789abcdef".repeat(4);
    fs::create_dir_all(host.root.join("containers").join(&id)).unwrap();
    host.run("ps -a").ok();
    host.run("run --rm tiny /true").ok();
    host.run(["rm", "-f", &id]).ok();
    assert!(!host.root.join("containers").join(&id).exists());
}

#[test]
fn ps_and_inspect_answer_while_another_command_hangs() {
    let host = Host::new();
    host.detached("deaf", "", "deaf");
    host.wait_log("deaf", "ready");
    let stopping = host.barge("stop -t 20 deaf").spawn();
    wait_until("the stop to have begun", || {
        fs::read_to_string(format!("/proc/{}/wchan", stopping.pid())).is_ok()
    });
    for command in ["ps -a", "inspect deaf", "logs deaf", "images", "run --rm tiny /true"] {
        let started = Instant::now();
        host.run(command).ok();
        assert!(started.elapsed() < Duration::from_secs(5), "{command}");
    }
    host.text("rm -f deaf");
    stopping.wait();
}

#[test]
fn a_command_stopped_at_any_moment_blocks_no_reader() {
    let host = Host::new();
    host.detached("up", "", "block");
    for delay in [0_u64, 300, 700, 1500, 3000, 6000] {
        let name = format!("c{delay}");
        let frozen = host
            .barge(["run", "-d", "--name", &name, "tiny", "/tiny", "block"])
            .spawn();
        std::thread::sleep(Duration::from_micros(delay));
        frozen.signal(Signal::SIGSTOP);
        for command in ["ps -a", "inspect up", "images", "exec up /true", "run --rm tiny /true"] {
            let output = host.barge(command).timeout(crate::support::seconds(10)).run();
            assert_eq!(
                output.code,
                0,
                "{command} beside a command stopped after {delay} µs: {}",
                output.err()
            );
        }
        frozen.signal(Signal::SIGCONT);
        frozen.wait().ok();
    }
}

#[test]
fn a_full_disk_does_not_keep_a_container_from_being_removed() {
    // A small file system of its own, in a mount namespace of its own, filled to the last block.
    let host = Host::bare();
    let dir = host.scratch();
    fs::write(dir.join("tiny.tar"), crate::support::tiny_tar()).unwrap();
    let script = r#"
        set -e
        barge=$1; dir=$2
        mount -t tmpfs -o size=24m none "$dir/disk"
        b() { "$barge" --root "$dir/disk/root" --run-root "$dir/run" "$@"; }
        b import "$dir/tiny.tar" tiny >/dev/null
        b run -d --name x1 tiny /tiny deaf >/dev/null
        cat /dev/zero >"$dir/disk/full" 2>/dev/null || true
        if b run --rm tiny /true 2>"$dir/errors"; then echo "ran on a full disk"; fi
        [ "$(wc -l <"$dir/errors")" -le 2 ] || cat "$dir/errors"
        b ps -a >/dev/null
        b rm -f x1
        b ps -aq
    "#;
    fs::create_dir(dir.join("disk")).unwrap();
    let barge = crate::support::binary();
    let arguments = ["-m", "--propagation", "private", "bash", "-c", script, "bash"];
    let mut arguments: Vec<std::ffi::OsString> = arguments.map(Into::into).to_vec();
    arguments.extend([barge.into(), dir.into()]);
    let output = crate::support::Cmd::new("unshare", arguments).run().ok();
    assert_eq!(output.text(), "x1", "{}", output.err());
}
