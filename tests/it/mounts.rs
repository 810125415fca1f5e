//! `mount`, `unmount`, `volume export`, `volume import`.

use crate::support::{Host, Tar, contains};
use std::fs;
use std::path::PathBuf;

#[test]
fn a_container_on_the_host() {
    let host = Host::busybox();
    host.run([
        "create",
        "--name",
        "c",
        "busybox",
        "sh",
        "-c",
        "cat /from-host; echo x > /from-inside; exec sleep 1000",
    ])
    .ok();
    let place = PathBuf::from(host.text("mount c"));
    assert_eq!(host.text("container mount c"), place.display().to_string());
    fs::write(place.join("from-host"), "hello\n").unwrap();
    // It starts on what was mounted, and both see the same.
    host.text("start c");
    host.wait_log("c", "hello");
    crate::support::wait_until("the file", || place.join("from-inside").exists());
    fs::write(place.join("later"), "now").unwrap();
    assert_eq!(host.text("exec c cat /later"), "now");
    let listed = host.text("mount");
    assert!(
        listed.contains(&host.id("c")[..12]) && listed.ends_with(&place.display().to_string()),
        "{listed}"
    );
    // Still after its end, and through another start.
    host.text("stop -t 0 c");
    fs::write(place.join("between"), "1").unwrap();
    host.text("commit c made");
    assert_eq!(host.text("run --rm made cat /later /between"), "now1");
    host.text("start c");
    assert_eq!(host.text("exec c cat /between"), "1");
    let held = fs::File::open(place.join("later")).unwrap();
    host.run("unmount c").fails(1).says(&["is in use"]);
    host.text("umount -f c");
    assert!(!place.exists());
    // As long as somebody is in it, there is no second mount of the same files.
    host.text("stop -t 0 c");
    let refused = host.run("start c");
    assert!(
        refused.code != 0 && refused.err().contains("unmounted by force"),
        "{}",
        refused.err()
    );
    drop(held);
    host.text("start c");
    assert_eq!(host.text("mount"), "");
    // One that runs is mounted as it is; it goes with its container.
    let place = PathBuf::from(host.text("mount c"));
    assert_eq!(fs::read_to_string(place.join("between")).unwrap(), "1");
    host.text("rm -f c");
    assert!(!place.exists());
    host.run("mount c").fails(1).says(&["No such container: c"]);
    host.run("unmount").fails(125).says(&["name a container"]);
}

#[test]
fn a_volume_as_a_tar() {
    let host = Host::busybox();
    host.run([
        "run",
        "--rm",
        "-v",
        "one:/v",
        "busybox",
        "sh",
        "-c",
        "mkdir /v/d; echo x > /v/d/f; chown 7:8 /v/d/f; ln -s f /v/d/l",
    ])
    .ok();
    let file = host.scratch().join("one.tar");
    host.run(["volume", "export", "-o", &file.display().to_string(), "one"])
        .ok();
    let tar = host.run("volume export one").ok().stdout;
    assert_eq!(fs::read(&file).unwrap(), tar);
    assert!(contains(&tar, b"d/f"));
    host.text("volume create two");
    host.run(["volume", "import", "two", &file.display().to_string()]).ok();
    host.barge("volume import two").stdin(&tar).run().ok();
    let seen = host.text([
        "run",
        "--rm",
        "-v",
        "two:/v",
        "busybox",
        "sh",
        "-c",
        "cat /v/d/l; stat -c %u:%g /v/d/f",
    ]);
    assert_eq!(seen, "x\n7:8");
    host.run("volume import nobody -")
        .fails(1)
        .says(&["No such volume: nobody"]);
    host.run("volume export nobody")
        .fails(1)
        .says(&["No such volume: nobody"]);
    host.barge("volume import two -").stdin(b"nonsense").run().fails(1);
    let climbs = Tar::new().file("../../../escaped", 0o600, "x").bytes();
    host.barge("volume import two")
        .stdin(&climbs)
        .run()
        .fails(1)
        .says(&[".."]);
    // A link in the volume leads nowhere else.
    host.run(["run", "--rm", "-v", "two:/v", "busybox", "ln", "-s", "/etc", "/v/out"])
        .ok();
    let through = Tar::new().file("out/barge-was-here", 0o600, "x").bytes();
    host.barge("volume import two").stdin(&through).run().ok();
    assert!(!std::path::Path::new("/etc/barge-was-here").exists());
    assert!(host.root.join("volumes/two/_data/etc/barge-was-here").exists());
}
