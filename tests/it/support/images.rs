//! The images of the tests: `tiny` (one program, built here), `busybox` (Debian's static one), `debian` (debootstrap).
//! Made once and kept in `data_dir()`.

use super::{Tar, sha2_hex};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

const SOURCE: &str = include_str!("../../data/tiny.c");
const PASSWD: &str = "root:x:0:0:root:/root:/tiny\ndaemon:x:1:1:daemon:/usr/sbin:/tiny\n\
    web:x:1000:1000:web:/home/web:/tiny\n";
const GROUP: &str = "root:x:0:\ndaemon:x:1:\nweb:x:1000:\nlogs:x:1001:web,daemon\nextra:x:1002:web\n";

/// Where test data is kept between runs.
pub fn data_dir() -> PathBuf {
    let dir = std::env::var_os("BARGE_TEST_DATA").map_or_else(|| "/var/tmp/barge-test/data".into(), PathBuf::from);
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// `make`s the file under a name of its own and renames it, unless it is there. `make` must not ask for another.
fn made(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _held = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let path = data_dir().join(name);
    if !path.exists() {
        let part = data_dir().join(format!("{name}.{}", std::process::id()));
        make(&part);
        fs::rename(&part, &path).unwrap();
    }
    path
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// The static test program. Its verbs are in `tests/data/tiny.c`.
pub fn tiny() -> PathBuf {
    made(&format!("tiny-{}", &sha2_hex(SOURCE.as_bytes())[..12]), |part| {
        let source = part.with_extension("c");
        fs::write(&source, SOURCE).unwrap();
        run(Command::new("gcc")
            .args(["-O1", "-static", "-s", "-o"])
            .arg(part)
            .arg(&source));
        fs::remove_file(source).unwrap();
    })
}

fn base() -> Tar {
    Tar::new()
        .file("tiny", 0o755, fs::read(tiny()).unwrap())
        .dir("etc", 0o755)
        .file("etc/passwd", 0o644, PASSWD)
        .file("etc/group", 0o644, GROUP)
        .dir("tmp", 0o1777)
}

pub fn tiny_tar() -> Vec<u8> {
    base().hard_link("true", "tiny").hard_link("false", "tiny").bytes()
}

pub fn busybox_tar() -> Vec<u8> {
    let base = base();
    let path = made("busybox.tar", |part| {
        let program = ["/bin/busybox", "/usr/bin/busybox"]
            .into_iter()
            .find(|p| Path::new(p).exists());
        let program = program.expect("Debian's busybox-static");
        let applets = String::from_utf8(run(Command::new(program).arg("--list"))).unwrap();
        let mut archive = base
            .dir("bin", 0o755)
            .dir("root", 0o700)
            .dir("var", 0o755)
            .dir("home", 0o755);
        archive = archive.file("bin/busybox", 0o755, fs::read(program).unwrap());
        for applet in applets.lines().filter(|a| *a != "busybox") {
            archive = archive.symlink(&format!("bin/{applet}"), "busybox");
        }
        fs::write(part, archive.bytes()).unwrap();
    });
    fs::read(path).unwrap()
}

/// A whole distribution; takes a minute and Debian's packages the first time.
pub fn debian_tar() -> Vec<u8> {
    let path = made("debian.tar", |part| {
        let tree = part.with_extension("tree");
        run(Command::new("debootstrap")
            .args(["--variant=minbase", "bookworm"])
            .arg(&tree));
        run(Command::new("tar")
            .arg("-C")
            .arg(&tree)
            .args(["--numeric-owner", "--xattrs", "-cf"])
            .arg(part)
            .arg("."));
        fs::remove_dir_all(tree).unwrap();
    });
    fs::read(path).unwrap()
}
