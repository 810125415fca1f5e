//! The engine's root on every filesystem that this kernel has, each in a mount namespace of its own: run, change, diff,
//! commit, copy, a user namespace, a quota, removal. What the kernel or the machine lacks is counted as skipped.

use crate::support::{Host, binary, busybox_tar, skip};
use std::fs;
use std::process::{Command, Output};

/// Runs in a mount namespace that ends with it.
fn script(host: &Host, setup: &str, steps: &str) -> Output {
    let dir = host.scratch();
    fs::write(dir.join("busybox.tar"), busybox_tar()).unwrap();
    let text = format!(
        "set -eu; mount --make-rprivate /; cd {dir}; mkdir -p m; {setup}; mkdir -p m/root m/run\n\
         b() {{ {barge} --root {dir}/m/root --run-root {dir}/m/run \"$@\"; }}\n\
         b import busybox.tar busybox > /dev/null\n{steps}\necho done\n",
        dir = dir.display(),
        barge = binary().display(),
    );
    Command::new("unshare")
        .args(["-m", "sh", "-c", &text])
        .output()
        .unwrap()
}

const LIFE: &str = r"
b run --name c busybox sh -c 'echo new > /new; rm /etc/group; rm -r /bin/ls; mkdir /d; chown 7:8 /d'
b diff c | grep -q 'A /new'
b diff c | grep -q 'D /etc/group'
b commit c made > /dev/null
test $(b run --rm made stat -c %u:%g /d) = 7:8
test $(b run --rm made cat /new) = new
if b run --rm made test -e /etc/group; then exit 9; fi
b cp busybox.tar c:/d/
b cp c:/new got
test $(cat got) = new
b volume create v > /dev/null
b run --rm -v v:/v busybox sh -c 'echo x > /v/f'
b rm c > /dev/null
";

const USERS: &str = "test $(b run --rm --userns auto busybox stat -c %u /etc/passwd) = 0\n";

fn lives(host: &Host, setup: &str, steps: &str, what: &str) -> String {
    let out = script(host, setup, steps);
    let (stdout, stderr) = (
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    assert!(
        out.status.success() && stdout.trim_end().ends_with("done"),
        "{what}: {stdout}{stderr}"
    );
    stdout.into_owned()
}

fn has(program: &str) -> bool {
    Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output()
        .unwrap()
        .status
        .success()
}

/// Whether a file can be mounted here as that filesystem.
fn mountable(host: &Host, kind: &str, make: &str) -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    if !known.lines().any(|l| l.split_whitespace().last() == Some(kind)) {
        skip(&format!("this kernel has no {kind}"));
        return false;
    }
    if !has(make) {
        skip(&format!("{make} is not installed"));
        return false;
    }
    let dir = host.scratch();
    let text = format!(
        "cd {}; mkdir -p m; truncate -s 400M try; {make} {} try > /dev/null 2>&1; mount -o loop try m",
        dir.display(),
        if kind == "ext4" { "-q" } else { "-f" }
    );
    let tried = Command::new("unshare")
        .args(["-m", "sh", "-c", &text])
        .output()
        .unwrap();
    let _ = fs::remove_file(dir.join("try"));
    if !tried.status.success() {
        skip(&format!(
            "no {kind} on a loop device: {}",
            String::from_utf8_lossy(&tried.stderr).trim()
        ));
    }
    tried.status.success()
}

#[test]
fn the_root_in_memory() {
    let host = Host::bare();
    lives(&host, "mount -t tmpfs x m", &format!("{LIFE}{USERS}"), "tmpfs");
}

/// Of a filesystem whose owners can't be mapped.
const COPIED_USERS: &str = r#"
r() { b run --rm --userns 100000:200000 -v w:/w busybox sh -c "$@"; }
test $(r 'echo x > /w/f; chown 9:9 /w/f; stat -c %u /etc/passwd') = 0
test $(r 'echo $(stat -c %u:%g /w/f /w)' | tr ' ' ,) = 9:9,0:0
test $(stat -c %u:%g m/root/volumes/w/_data/f) = 100009:200009
b volume create early > /dev/null
b run --rm --userns 100000:200000 -v early:/w busybox sh -c 'echo x > /w/f'
b create --name users --userns 100000:200000 -v w:/w busybox true > /dev/null
b cp busybox.tar users:/w/tar
b cp -a users:/w/f got9
test $(stat -c %u:%g got9) = 9:9
b cp busybox.tar users:/tar
b diff users | grep -q "A /tar"
test $(b run --rm --userns 100000:200000 -v w:/w busybox stat -c %u /w/tar) = 0
b start -a users
b commit users users > /dev/null
test $(b run --rm users stat -c %u:%g /tar) = 0:0
b rm users > /dev/null
"#;

#[test]
fn the_root_where_no_owner_can_be_mapped() {
    let host = Host::bare();
    lives(
        &host,
        "mount -t ramfs x m",
        &format!("{LIFE}{USERS}{COPIED_USERS}"),
        "ramfs",
    );
}

/// With project quotas where the kernel has them.
fn lives_with_a_quota(host: &Host, kind: &str, with: &str, without: &str) {
    let setup = format!("truncate -s 400M img; ({with}) 2> /dev/null || ({without})");
    let quota = "if grep -qE '/m (ext4|xfs) .*(prjquota|pquota|prjquota)' /proc/self/mounts; then \
        b run --rm --storage-opt size=5M busybox sh -c \
        'dd if=/dev/zero of=/small bs=1M count=3 2>/dev/null && ! dd if=/dev/zero of=/big bs=1M count=9 2>/dev/null'; \
        else echo no quotas; fi\n";
    let out = lives(host, &setup, &format!("{LIFE}{USERS}{quota}"), kind);
    if out.contains("no quotas") {
        skip(&format!("this kernel has no project quotas on {kind}"));
    }
}

#[test]
fn the_root_on_ext4() {
    let host = Host::bare();
    if mountable(&host, "ext4", "mkfs.ext4") {
        let with = "mkfs.ext4 -q -O quota,project -E quotatype=prjquota img; mount -o loop,prjquota img m";
        lives_with_a_quota(&host, "ext4", with, "mkfs.ext4 -q -F img; mount -o loop img m");
    }
}

#[test]
fn the_root_on_xfs() {
    let host = Host::bare();
    if mountable(&host, "xfs", "mkfs.xfs") {
        let with = "mkfs.xfs -q -f img; mount -o loop,pquota img m";
        lives_with_a_quota(&host, "xfs", with, "mount -o loop img m");
    }
}

#[test]
fn the_root_on_btrfs() {
    let host = Host::bare();
    if mountable(&host, "btrfs", "mkfs.btrfs") {
        let setup = "truncate -s 400M img; mkfs.btrfs -q -f img; mount -o loop img m";
        lives(&host, setup, &format!("{LIFE}{USERS}"), "btrfs");
    }
}

#[test]
fn a_root_on_an_overlay_has_copies() {
    let host = Host::bare();
    let setup = "mkdir -p o; mount -t tmpfs x o; mkdir o/l o/u o/w; mount -t overlay -o lowerdir=o/l,upperdir=o/u,workdir=o/w x m";
    let out = script(
        &host,
        setup,
        "if b --storage-driver overlay ps; then exit 9; fi; b run --rm busybox true; b info -f '{{.Driver}}'",
    );
    let (stdout, stderr) = (
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    let warnings = stderr.lines().filter(|l| l.contains("WARNING:")).count();
    assert!(stdout.ends_with("vfs\ndone\n") && warnings == 1, "{stdout}{stderr}");
    assert!(
        stderr.contains("is on an overlay itself") && stderr.contains("--root"),
        "{stderr}"
    );
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|n| n.parse::<u32>().unwrap_or(0));
    if (numbers.next(), numbers.next()) < (Some(6), Some(7)) {
        return skip("removed names in an image's layers on an overlay need Linux 6.7");
    }
    let host = Host::bare();
    // Linux maps no owners of an overlay.
    lives(&host, setup, &format!("{LIFE}{USERS}{COPIED_USERS}"), "overlay");
}

#[test]
fn a_quota_needs_a_filesystem_that_has_some() {
    let host = Host::busybox();
    host.run("run --rm --storage-opt size=x busybox true").fails(125);
    host.run("run --rm --storage-opt dm.size=1 busybox true")
        .fails(125)
        .says(&["unknown --storage-opt"]);
    let out = script(
        &host,
        "mount -t tmpfs x m",
        "b run --rm --storage-opt size=5M busybox true",
    );
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && stderr.contains("project quotas"), "{stderr}");
}
