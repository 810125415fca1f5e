//! Starting a program and what comes back of it: exit codes, `--rm`, cidfiles, names, entry points.

use crate::support::{Host, seconds};
use std::fs;
use std::time::Instant;

#[test]
fn exit_code_of_the_program_is_that_of_run() {
    let host = Host::new();
    for code in [0, 1, 3, 42, 124, 255] {
        host.tiny("", format!("exit {code}")).fails(code);
    }
}

#[test]
fn death_by_signal_is_128_and_the_signal() {
    let host = Host::new();
    host.detached("victim", "", "block");
    let waiting = host.barge("wait victim").spawn();
    host.text("kill victim");
    assert_eq!(waiting.wait().ok().text(), "137");
    // As pid 2 a signal without a handler kills; the init repeats it.
    host.tiny("--init", "raise 15").fails(143);
    host.tiny("--init", "raise 9").fails(137);
}

#[test]
fn missing_program_is_127() {
    let host = Host::new();
    host.run("run --rm tiny /none").fails(127).says(&["/none"]);
    host.run("run --rm tiny none").fails(127).says(&["none"]);
    host.run("run -d --name gone tiny /none").fails(127).says(&["/none"]);
    host.run("rm -f gone");
    host.detached("up", "", "block");
    host.run("exec up /none").fails(127).says(&["/none"]);
}

#[test]
fn program_that_cannot_run_is_126() {
    let host = Host::new();
    host.run("run --rm tiny /etc/passwd").fails(126).says(&["/etc/passwd"]);
    host.run("run --rm tiny /etc").fails(126).says(&["/etc"]);
    host.detached("up", "", "block");
    host.run("exec up /etc/passwd").fails(126).says(&["/etc/passwd"]);
}

#[test]
fn engine_errors_are_125() {
    let host = Host::new();
    host.run("run --rm --pull never none /tiny").fails(125).says(&["none"]);
    host.run("run --rm --no-such-flag tiny").fails(125);
    host.run("run --rm -w relative tiny /tiny")
        .fails(125)
        .says(&["relative"]);
    host.run("run --rm -u nobody-here tiny /tiny")
        .fails(125)
        .says(&["nobody-here"]);
    host.run("run").fails(125);
    host.run("exec none /tiny")
        .fails(125)
        .says(&["No such container: none"]);
}

#[test]
fn a_failed_start_with_rm_leaves_no_container() {
    let host = Host::new();
    host.run("run --rm --name x1 tiny /none").fails(127);
    assert_eq!(host.text("ps -aq"), "");
    host.run("run --rm --name x1 tiny /true").ok();
}

#[test]
fn a_failed_start_without_rm_is_listed_with_its_code() {
    let host = Host::new();
    host.run("run --name x1 tiny /none").fails(127);
    assert_eq!(host.text(["inspect", "-f", "{{.State.ExitCode}}", "x1"]), "127");
    assert_ne!(host.text(["inspect", "-f", "{{.State.Error}}", "x1"]), "");
}

#[test]
fn a_finished_command_is_finished() {
    // The same name and cidfile again and again: when a command has returned, they are free.
    let host = Host::new();
    let file = host.scratch().join("cid");
    let path = file.to_str().unwrap().to_owned();
    for _ in 0..10 {
        host.run(["run", "--rm", "--name", "same", "--cidfile", &path, "tiny", "/true"])
            .ok();
        let id = fs::read_to_string(&file).unwrap();
        assert_eq!(id.len(), 64, "the cidfile has the whole id and nothing else: {id:?}");
        fs::remove_file(&file).unwrap();
    }
}

#[test]
fn cidfile_that_exists_is_refused_before_anything_is_made() {
    let host = Host::new();
    let file = host.scratch().join("cid");
    fs::write(&file, "").unwrap();
    let path = file.to_str().unwrap();
    host.run(["run", "--rm", "--cidfile", path, "tiny", "/true"])
        .fails(125)
        .says(&[path]);
    host.run(["run", "--rm", &format!("-cidfile={path}"), "tiny", "/true"])
        .fails(125)
        .says(&[path]);
    host.run(["run", "--rm", "--cidfile", "/none/cid", "tiny", "/true"])
        .fails(125)
        .says(&["/none/cid"]);
    assert_eq!(host.text("ps -aq"), "");
    // An empty file of a failed run is not left behind.
    fs::remove_file(&file).unwrap();
    host.run(["run", "--cidfile", path, "none", "/true"]).fails(125);
    assert!(!file.exists());
}

#[test]
fn detached_returns_at_once_and_prints_the_id() {
    let host = Host::new();
    let started = Instant::now();
    let id = host.detached("up", "", "block");
    assert!(started.elapsed() < seconds(5));
    assert_eq!(id.len(), 64);
    assert_eq!(host.id("up"), id);
    assert_eq!(host.status(&id[..12]), "running");
}

#[test]
fn detached_with_rm_is_gone_after_its_end() {
    let host = Host::new();
    host.detached("short", "--rm", "exit 3");
    host.barge("wait short").run();
    crate::support::wait_until("the container to go", || host.text("ps -aq").is_empty());
}

#[test]
fn spellings_of_2013_mean_the_same() {
    let host = Host::new();
    host.run("run -rm -name old -h a.b tiny /tiny uname").ok();
    let id = host.text("run -d -name=old tiny /tiny block");
    assert_eq!(host.text("ps -q -notrunc"), id);
    assert_eq!(host.text("ps -q --no-trunc"), id);
    // What stands after the image belongs to the program.
    assert_eq!(
        host.run("run -rm tiny /tiny print -rm -name x1").ok().text(),
        "-rm -name x1"
    );
}

#[test]
fn names_and_ids_resolve() {
    let host = Host::new();
    let id = host.detached("first", "", "block");
    for name in ["first", &id, &id[..12], &id[..6]] {
        assert_eq!(host.id(name), id);
    }
    host.run("run --rm --name first tiny /true").fails(125).says(&["first"]);
    host.run(["run", "--rm", "--name", "a/b", "tiny", "/true"])
        .fails(125)
        .says(&["a/b"]);
    host.run(["run", "--rm", "--name", "", "tiny", "/true"]);
    host.run("inspect nobody").fails(1);
}

#[test]
fn entrypoint_and_command_of_the_image() {
    let host = Host::new();
    host.barge([
        "import",
        "-c",
        r#"ENTRYPOINT ["/tiny", "print"]"#,
        "-c",
        r#"CMD ["a", "b"]"#,
        "-",
        "shouter",
    ])
    .stdin(&crate::support::tiny_tar())
    .run()
    .ok();
    assert_eq!(host.text("run --rm shouter"), "a b");
    assert_eq!(host.text("run --rm shouter x"), "x");
    assert_eq!(host.text("run --rm --entrypoint /tiny shouter print only"), "only");
    // Another entry point means the image's command is not for it.
    assert_eq!(host.text("run --rm --entrypoint /tiny shouter"), "tiny");
}

#[test]
fn create_then_start() {
    let host = Host::new();
    let id = host.text("create --name later tiny /tiny exit 7");
    assert_eq!(id.len(), 64);
    assert_eq!(host.status("later"), "created");
    assert_eq!(host.text("start later"), "later");
    assert_eq!(host.text("wait later"), "7");
    host.run("start -a later").fails(7);
}

#[test]
fn the_built_in_image_needs_nothing() {
    let host = Host::bare();
    let said = host.run("run --rm hello").ok().text();
    for part in ["first process", "seccomp", "cgroup"] {
        assert!(said.to_lowercase().contains(part), "{part:?} is not in {said}");
    }
}

#[test]
fn init_reaps_orphans_and_forwards_signals() {
    let host = Host::new();
    assert_eq!(host.tiny("--init", "orphans 20").ok().text(), "zombies 0");
    host.detached("trapper", "--init", "trap 15 5");
    host.wait_log("trapper", "ready");
    host.text("stop trapper");
    assert_eq!(host.text("wait trapper"), "5");
}

#[test]
fn children_of_the_program_end_with_it() {
    let host = Host::new();
    host.tiny("", "leave 4").fails(4);
    host.tiny("--init", "leave 4").fails(4);
}
