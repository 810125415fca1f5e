//! What an older barge has written is read by this one. `tests/data/root-0.1.tar.gz` is a root that barge wrote on
//! 2026-11-22, before health checks, events, builds and storage drivers; it is never made again, and never changed.

use crate::support::{Host, tiny};
use std::fs::{self, File};
use std::process::Command;

fn old_root() -> Host {
    let host = Host::bare();
    fs::create_dir(&host.root).unwrap();
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/root-0.1.tar.gz");
    let unpacked = Command::new("tar")
        .args(["--numeric-owner", "--xattrs", "--xattrs-include=*", "-xzf", "-", "-C"])
        .arg(&host.root)
        .stdin(File::open(fixture).unwrap())
        .status()
        .unwrap();
    assert!(unpacked.success());
    // The program is in a volume, so that the fixture is small.
    fs::copy(tiny(), host.root.join("volumes/prog/_data/tiny")).unwrap();
    host
}

#[test]
fn an_older_root_is_shown_as_it_was() {
    let host = old_root();
    let containers = host.text("ps -a --format {{.Names}}:{{.Image}}:{{.State}} --no-trunc");
    let expected = "web:old/base:1:created\nfailed:old/base:1:exited\nwrote:old/base:1:exited\ndone:old/base:1:exited";
    assert_eq!(containers, expected);
    assert_eq!(host.text("wait failed"), "7");
    assert_eq!(host.text("logs done"), "hello");
    let images = host.text("images --format {{.Repository}}:{{.Tag}}");
    assert_eq!(images, "old/kept:2\nold/base:1");
    let web = host.text([
        "inspect",
        "-f",
        "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.Memory}} {{.HostConfig.PortBindings}} {{.HostConfig.CapDrop}} \
         {{.Config.Labels.a}}",
        "web",
    ]);
    assert_eq!(
        web,
        "on-failure 67108864 map[80/tcp:[map[HostIp: HostPort:8080]]] [ALL] b"
    );
    assert_eq!(host.text("network inspect -f {{.Driver}} front"), "bridge");
    assert_eq!(host.text("volume ls -q"), "prog");
    host.run("system check").ok();
}

#[test]
fn an_older_root_goes_on_working() {
    let host = old_root();
    assert_eq!(host.text("start -a done"), "hello");
    host.run("start web").ok();
    assert_eq!(host.status("web"), "running");
    assert_eq!(host.text("port web 80"), "0.0.0.0:8080\n[::]:8080");
    host.run("stop -t 0 web").ok();
    let kept = host.text("run --rm --net none -v prog:/prog old/kept:2 /prog/tiny cat /tmp/kept");
    assert_eq!(kept, "text");
    host.run("commit done newer/done:1").ok();
    host.run("rm web failed wrote done").ok();
    host.run("rmi newer/done:1 old/kept:2 old/base:1").ok();
    host.run("network rm front").ok();
    host.run("volume rm prog").ok();
}
