//! `--userns` where the kernel can't show layers in a container's numbers: copies with other owners. Whatever reads the
//! container must not tell the difference.

use crate::support::{Host, Output, wait_until};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// This kernel maps layers; the engine is told otherwise when a container is made.
const REFUSE: (&str, &str) = ("BARGE_REFUSE", "idmapped-layers");
const USERS: &str = "--userns=100000:200000";

fn refused(host: &Host, line: &str) -> Output {
    host.barge(line).env(REFUSE.0, REFUSE.1).run().ok()
}

fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let meta = fs::symlink_metadata(path.as_ref()).unwrap_or_else(|e| panic!("{}: {e}", path.as_ref().display()));
    (meta.uid(), meta.gid())
}

/// By map, the copies of layers.
fn copies(host: &Host) -> Vec<Vec<PathBuf>> {
    let list = |dir: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    list(&host.root.join("chowned")).iter().map(|map| list(map)).collect()
}

/// An image whose layers have marks of both kinds.
fn image(host: &Host) {
    let steps = [
        "mkdir -p /old/in /old/gone; echo o > /old/in/f; echo g > /old/gone/g; chown 3:4 /old/in/f; chown 5 /old",
        "rm -r /old/in /old/gone; mkdir /old/in; echo new > /old/in/new; chown 6:6 /old/in/new; chmod 4755 /bin/busybox",
    ];
    let mut from = "busybox".to_owned();
    for (n, step) in steps.iter().enumerate() {
        host.run(["run", "--name", "base", &from, "sh", "-c", step]).ok();
        from = format!("base:{n}");
        host.text(format!("commit base {from}"));
        host.text("rm base");
    }
    host.text("tag base:1 base:latest");
}

const WORK: &str = "set -e; test -e /made && exec sleep 1000; stat -c %u:%g /etc/passwd /old /old/in /old/in/new; ls /old /old/in; \
    echo x > /made; chown 7:8 /made; chmod 4755 /made; ln /made /hard; ln -s made /link; mkfifo /pipe; \
    mkdir -p /dir/sub; chown 70:80 /dir/sub; rm /etc/group; rm -r /old/in; mkdir /old/in; chown 9 /old/in; \
    chmod 600 /etc/passwd; echo v > /vol/v; chown 9 /vol/v; echo ready; exec sleep 1000";

#[test]
fn nobody_can_tell_copies_from_maps() {
    let host = Host::busybox();
    image(&host);
    let run = |name: &str| format!("run -d --name {name} {USERS} -v {name}:/vol -w /new/work base sh -c");
    let line = |name: &str| {
        run(name)
            .split(' ')
            .map(str::to_owned)
            .chain([WORK.to_owned()])
            .collect::<Vec<_>>()
    };
    host.barge(line("copied")).env(REFUSE.0, REFUSE.1).run().ok();
    host.run(line("mapped")).ok();
    for name in ["copied", "mapped"] {
        host.wait_log(name, "ready");
    }
    assert_eq!(host.text("logs copied"), host.text("logs mapped"));
    let log = host.text("logs copied");
    assert!(
        log.starts_with("0:0\n5:0\n0:0\n6:6\n/old:\nin\n\n/old/in:\nnew"),
        "{log}"
    );
    let upper = |name: &str| host.root.join("containers").join(host.id(name)).join("upper");
    assert_eq!(owner(upper("copied").join("made")), (100_007, 200_008));
    assert_eq!(owner(upper("mapped").join("made")), (7, 8));
    // Volumes of this filesystem can be mapped all the same.
    assert_eq!(owner(host.root.join("volumes/copied/_data/v")), (9, 0));
    // An attribute with a number in it: file capabilities of this host's.
    let dir = host.scratch();
    fs::write(dir.join("in"), "in").unwrap();
    std::os::unix::fs::chown(dir.join("in"), Some(11), Some(12)).unwrap();
    let words = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    let capability = words(&[0x0200_0001, 0x2000, 0, 0, 0]);
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(dir.join("in"), "security.capability", &capability, flags).unwrap();
    let attribute = |path: &Path| {
        let mut value = vec![0; 64];
        let length = rustix::fs::getxattr(path, "security.capability", &mut value).unwrap();
        value.truncate(length);
        value
    };
    let file = dir.join("in").display().to_string();
    let mut told = Vec::new();
    for name in ["copied", "mapped"] {
        let mut story = String::new();
        for state in ["running", "exited"] {
            host.run(["cp", &file, &format!("{name}:/plain-{state}")]).ok();
            host.run(["cp", "-a", &file, &format!("{name}:/kept-{state}")]).ok();
            host.run(["cp", "-a", &file, &format!("{name}:/vol/kept-{state}")]).ok();
            let out = dir.join(format!("{name}-{state}"));
            host.run(["cp", "-a", &format!("{name}:/kept-{state}"), &out.display().to_string()])
                .ok();
            assert_eq!(
                (owner(&out), attribute(&out)),
                ((11, 12), capability.clone()),
                "{name} {state}"
            );
            host.run(["cp", "-a", &format!("{name}:/vol/v"), &out.display().to_string()])
                .ok();
            assert_eq!(owner(&out), (9, 0), "{name} {state}");
            fs::write(dir.join("tar"), host.run(["export", name]).ok().stdout).unwrap();
            let list = std::process::Command::new("tar")
                .arg("tvf")
                .arg(dir.join("tar"))
                .output()
                .unwrap();
            let list = String::from_utf8_lossy(&list.stdout).into_owned();
            let owners = |line: &str| {
                let words: Vec<&str> = line.split_whitespace().collect();
                format!("{} {} {}\n", words[0], words[1], words[5..].join(" "))
            };
            story.extend(list.lines().map(owners));
            story.push_str(&host.text(["diff", name]));
            let image = format!("{name}:{state}");
            host.barge(["commit", name, &image])
                .env("SOURCE_DATE_EPOCH", "1000000000")
                .run()
                .ok();
            story.push_str(&host.text(["inspect", "-f", "{{json .RootFS.Layers}}", &image]));
            let squashed = ["commit", "--squash", name, &format!("{image}-flat")];
            host.barge(squashed).env("SOURCE_DATE_EPOCH", "1000000000").run().ok();
            story.push_str(&host.text(["inspect", "-f", "{{json .RootFS.Layers}}", &format!("{image}-flat")]));
            assert!(host.text("ps -as").contains(name));
            if state == "running" {
                host.text(["stop", "-t", "0", name]);
            }
        }
        told.push(story);
    }
    let second = told.pop().unwrap();
    for (a, b) in told[0].lines().zip(second.lines()) {
        assert_eq!(a, b);
    }
    assert_eq!(told[0].len(), second.len());
    assert_eq!(owner(upper("copied").join("plain-exited")), (100_000, 200_000));
    let kept = attribute(&upper("copied").join("kept-exited"));
    assert_eq!(kept, words(&[0x0300_0001, 0x2000, 0, 0, 0, 100_000]));
    // What was committed becomes a layer with other owners again.
    let again = refused(
        &host,
        &format!("run --rm {USERS} copied:exited stat -c %u:%g /made /kept-exited /old/in"),
    );
    assert_eq!(again.text(), "7:8\n11:12\n9:0");
    // Started again it is who it was.
    host.text("start copied");
    assert_eq!(host.text("exec copied stat -c %u:%g:%a /made"), "7:8:4755");
    assert_eq!(
        host.text("exec copied stat -c %u /new/work /dev/shm /etc/hosts"),
        "0\n0\n0"
    );
    let place = PathBuf::from(host.text("mount copied"));
    assert_eq!(owner(place.join("made")), (100_007, 200_008));
    host.text("unmount copied");
    assert_eq!(host.run("system check").ok().code, 0);
    host.text("rm -f copied mapped");
}

#[test]
fn a_copy_is_made_once_for_a_map() {
    let host = Host::busybox();
    image(&host);
    refused(&host, &format!("run --name a {USERS} base true"));
    let first = copies(&host);
    // Three layers, and the places that the engine mounts on.
    assert_eq!(first.iter().map(Vec::len).collect::<Vec<_>>(), [4], "{first:?}");
    let made = |path: &Path| fs::metadata(path.join("diff")).unwrap().ino();
    let numbers = || first[0].iter().map(|path| made(path)).collect::<Vec<_>>();
    let before = numbers();
    refused(&host, &format!("run --rm {USERS} base true"));
    assert_eq!(numbers(), before);
    // A damaged one is found, and made anew.
    let checked = || host.run("system check");
    assert_eq!(checked().code, 0);
    let passwd = first[0]
        .iter()
        .map(|path| path.join("diff/etc/passwd"))
        .find(|path| path.exists());
    let passwd = passwd.unwrap();
    fs::write(&passwd, "spoilt").unwrap();
    checked().fails(1);
    assert!(checked().text().contains("it is not what its layer is"));
    host.run("system check --repair").ok();
    assert!(!passwd.exists());
    refused(&host, &format!("run --rm {USERS} base true"));
    assert!(passwd.exists());
    assert_eq!(checked().code, 0);
    refused(&host, "run --name b --userns 300000:300000 busybox true");
    let both = copies(&host);
    let counts = || {
        let mut counts: Vec<_> = copies(&host).iter().map(Vec::len).collect();
        counts.sort_unstable();
        counts
    };
    assert_eq!(counts(), [2, 4], "{both:?}");
    let df = || host.text("system df --format {{.Type}}:{{.TotalCount}}:{{.Active}}");
    assert!(df().lines().any(|line| line == "Layer Copies:6:6"), "{}", df());
    // Those of a map that no container has go with a prune, and those of a layer with the layer.
    host.text("rm b");
    assert!(df().lines().any(|line| line == "Layer Copies:6:4"), "{}", df());
    host.text("create --name plain busybox true");
    refused(&host, &format!("create --name c {USERS} busybox true"));
    host.text("rm a");
    host.text("rmi base:latest base:0 base:1");
    assert_eq!(counts(), [2, 2]);
    let unused = copies(&host);
    let said = host.text("rm plain c");
    assert!(said.contains("plain"), "{said}");
    let said = host.text("system prune -f");
    assert!(said.contains("Deleted Layer Copies:\n4 for users"), "{said} {unused:?}");
    assert!(copies(&host).is_empty());
    assert!(!df().contains("Layer Copies"));
}

#[test]
fn killed_while_layers_are_copied() {
    for point in crate::crash::CHOWNED_POINTS {
        let host = Host::busybox();
        refused(
            &host,
            &format!("create --name c {USERS} busybox stat -c %u /bin/busybox"),
        );
        let killed = host.barge("start -a c").env("BARGE_STOP_AT", *point).run();
        assert_ne!(killed.code, 0, "{point}");
        wait_until("the end of the start", || host.status("c") != "running");
        assert_eq!(host.text("start -a c"), "0", "{point}");
        assert_eq!(host.text("diff c"), "", "{point}");
        host.text("rm c");
        // Whoever makes something next takes away what was half copied.
        host.text("run --rm busybox true");
    }
}
