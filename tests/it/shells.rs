//! Completion in the real shells: what is offered there, and what a person's line becomes. (bash: tests/generated.rs)

use crate::support::{Cmd, Host, binary, skip, wait_until};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

fn installed(shell: &str) -> bool {
    let found = Path::new("/usr/bin").join(shell).exists();
    if !found {
        skip(&format!("no {shell}"));
    }
    found
}

/// A host with names to offer, and the variables by which a shell finds it and the program.
fn prepared() -> (Host, Vec<(&'static str, OsString)>) {
    let host = Host::new();
    host.run("volume create data-one").ok();
    host.run("create --name stopped-one tiny").ok();
    host.run("tag tiny image:one").ok();
    let mut path = OsString::from(binary().parent().unwrap());
    path.push(":/usr/bin:/bin");
    let environment = vec![
        ("PATH", path),
        ("BARGE_ROOT", host.root.clone().into()),
        ("BARGE_RUN_ROOT", host.run_root.clone().into()),
        ("HOME", host.scratch().into()),
        ("TERM", "dumb".into()),
    ];
    (host, environment)
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("completions").join(name)
}

#[test]
fn fish() {
    if !installed("fish") {
        return;
    }
    let (host, environment) = prepared();
    let offered = |line: &str| {
        let ask = format!("source {}; complete -C '{line}'", script("barge.fish").display());
        let words: Vec<OsString> = ["--no-config", "-c", &ask].map(Into::into).to_vec();
        let mut command = Cmd::new(Path::new("/usr/bin/fish"), words);
        for (name, value) in &environment {
            command = command.env(*name, value);
        }
        command.run().ok().lines()
    };
    for (line, want) in [
        ("barge sto", "stop\t"),
        ("barge volume rm da", "data-one"),
        ("barge start ", "stopped-one"),
        ("barge run image:", "image:one"),
        ("barge run -volumes", "--volumes-from\t"),
        ("barge run --rm --netw", "--network\t"),
    ] {
        let lines = offered(line);
        assert!(lines.iter().any(|l| l.starts_with(want)), "{line}: {lines:?}");
    }
    host.run("rm stopped-one").ok();
    host.run("volume rm data-one").ok();
}

#[test]
fn zsh() {
    if !installed("zsh") {
        return;
    }
    let (host, environment) = prepared();
    let seen = host.scratch().join("seen");
    // What the line is after a tab, told by a key of its own: the screen is full of other things.
    let setup = format!(
        "autoload -Uz compinit; compinit -u -D; source {}; \
         tell() {{ print -r -- \"$BUFFER|\" >>{}; BUFFER= }}; zle -N tell; bindkey '^X' tell; PS1='READY> '\n",
        script("_barge").display(),
        seen.display()
    );
    let mut command = Cmd::new(Path::new("/usr/bin/zsh"), vec!["-f".into(), "-i".into()]);
    for (name, value) in &environment {
        command = command.env(*name, value);
    }
    let mut terminal = command.terminal(200, 50);
    terminal.send(setup.as_bytes());
    terminal.wait_for("READY> ");
    let table = [
        ("barge unpa", "barge unpause |"),
        ("barge volume rm da", "barge volume rm data-one |"),
        ("barge start st", "barge start stopped-one |"),
        ("barge run image:o", "barge run image\\:one |"),
        ("barge run -volumes", "barge run --volumes-from |"),
        ("barge -D versi", "barge -D version |"),
    ];
    for (n, (typed, _)) in table.iter().enumerate() {
        terminal.send(format!("{typed}\t\x18").as_bytes());
        wait_until(&format!("an answer to {typed}"), || {
            std::fs::read_to_string(&seen).is_ok_and(|text| text.lines().count() > n)
        });
    }
    let lines = std::fs::read_to_string(&seen).unwrap();
    for ((typed, want), got) in table.iter().zip(lines.lines()) {
        assert_eq!(got.replace("\\:", ":"), want.replace("\\:", ":"), "{typed}");
    }
    terminal.send(b"exit\n");
    terminal.wait();
    host.run("rm stopped-one").ok();
    host.run("volume rm data-one").ok();
}
