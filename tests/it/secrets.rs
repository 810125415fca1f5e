//! Secrets: stored for root alone, told to a container, and to nobody else.

use crate::support::Host;
use std::os::unix::fs::PermissionsExt;

const WORD: &str = "hunter2-very-secret";

#[test]
fn a_secret_is_told_and_shows_nowhere() {
    let host = Host::busybox();
    let id = host
        .barge("secret create -l team=a db -")
        .stdin(WORD.as_bytes())
        .run()
        .ok()
        .text();
    assert_eq!(id.trim().len(), 25);
    host.barge("secret create db -")
        .stdin(b"x")
        .run()
        .fails(1)
        .says(&["secret already exists"]);
    let line = "run --net none --name x1 --secret db --secret db,target=own,uid=7,mode=0400 --secret db,type=env,target=PW \
        --secret db,target=/etc/word busybox sh -c";
    let words: Vec<&str> = line.split_whitespace().collect();
    let script = "cat /run/secrets/db /etc/word; echo $PW; ls -ln /run/secrets/own; grep ' /run/secrets ' /proc/mounts; touch /run/secrets/x";
    let out = host.run([&words[..], &[script]].concat());
    let said = out.text();
    assert!(
        said.starts_with(&format!("{WORD}{WORD}{WORD}\n-r--------    1 7        0 ")),
        "{said}"
    );
    assert!(said.contains("tmpfs"), "{said}");
    assert!(out.err().contains("Read-only"), "{}", out.err());
    for command in [
        "inspect x1",
        "secret inspect db",
        "secret ls",
        "diff x1",
        "events --no-stream",
    ] {
        assert!(!host.text(command).contains(WORD), "{command}");
    }
    host.run("commit x1 with").ok();
    assert!(!host.text("inspect with").contains(WORD));
    let exported = host.run("export x1").stdout;
    assert!(!crate::support::contains(&exported, WORD.as_bytes()));
    let files = std::fs::read_dir(host.root.join("secrets")).unwrap();
    for file in files.flatten() {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert!(
        host.text("secret inspect --showsecret -f {{.SecretData}} db")
            .contains(WORD)
    );
    // It is looked up again at each start.
    host.run("secret rm db").ok();
    host.run("start x1").fails(1).says(&["secret db is gone"]);
    host.text("rm x1");
}

#[test]
fn lists_and_errors() {
    let host = Host::busybox();
    for name in ["one", "two"] {
        host.barge(["secret", "create", name, "-"]).stdin(b"x").run().ok();
    }
    assert_eq!(host.text("secret ls --format {{.Name}}"), "one\ntwo");
    assert_eq!(host.text("secret ls -q --filter name=tw").len(), 25);
    host.run("secret exists one").ok();
    host.run("secret exists none").fails(1);
    host.run("secret inspect none").fails(1).says(&["no such secret"]);
    host.run("run --secret none busybox true")
        .fails(125)
        .says(&["no such secret"]);
    host.run("run --secret one,mode=9 busybox true").fails(125);
    host.barge("secret create bad/name -").stdin(b"x").run().fails(125);
    host.barge("secret create empty -").run().fails(125);
    host.run("secret create --driver pass p -")
        .fails(125)
        .says(&["unknown secret driver"]);
    host.run("secret rm -a").ok();
    assert_eq!(host.text("secret ls -q"), "");
}

#[test]
fn a_restarted_container_has_its_secrets_and_exec_too() {
    let host = Host::busybox();
    host.barge("secret create db -").stdin(b"word").run().ok();
    host.run("run -d --net none --name x1 --secret db --secret db,type=env busybox sleep 1000")
        .ok();
    assert_eq!(
        host.text(["exec", "x1", "sh", "-c", "cat /run/secrets/db; echo $db"]),
        "wordword"
    );
    host.run("restart -t 0 x1").ok();
    assert_eq!(host.text("exec x1 cat /run/secrets/db"), "word");
    // What it was started with is its own.
    host.text("secret rm db");
    assert_eq!(host.text(["exec", "x1", "sh", "-c", "echo $db"]), "word");
    host.text("rm -f x1");
    host.barge("secret create db -").stdin(b"word").run().ok();
    // Whose it is in the container's numbers.
    let line = "run --rm --net none --userns 100000:200000 --secret db,uid=5,gid=6,mode=0400 busybox \
                stat -c %u:%g:%a /run/secrets/db";
    assert_eq!(host.text(line), "5:6:400");
    let left = std::fs::read_dir(&host.run_root)
        .unwrap()
        .flatten()
        .any(|e| e.path().join("secrets").exists());
    assert!(!left);
}
