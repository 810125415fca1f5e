//! A host to test on: an engine of its own (`--root`, `--run-root`) that drives the real binary as root, in a network
//! namespace of the test's own (`net.rs`), test images, and at its end the residue check (`residue.rs`).
//!
//! ```
//! let host = Host::new();
//! host.run("run --rm tiny exit 3").fails(3);
//! ```
//!
//! Nothing here sleeps for its own sake: every wait names what it waits for and has a deadline.
//! Environment: `BARGE_TEST_BINARY` (another binary), `BARGE_TEST_DATA` (where test images are kept),
//! `BARGE_TEST_SLOW` (a factor for every deadline), `BARGE_TEST_SKIPS` (a file that collects what was skipped and why).

pub mod content;
pub mod faults;
pub mod http;
mod images;
pub mod net;
pub mod old;
mod process;
pub mod registry;
mod residue;
mod tar;
mod terminal;
pub mod tls;
pub mod tokens;

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub use images::{busybox_tar, debian_tar, tiny, tiny_tar};
pub use net::{Net, OwnNamespace, Place, ip, ip_json};
pub use process::{Cmd, Output, memory};
pub use tar::Tar;
pub use terminal::Terminal;

/// An engine of its own, with nothing in it that a test did not put there.
pub struct Host {
    dir: PathBuf,
    pub root: PathBuf,
    pub run_root: PathBuf,
    /// The suffix every name outside the roots carries: `barge-<6 hex>`.
    pub instance: String,
    checked: bool,
    _namespace: OwnNamespace,
}

impl Host {
    /// With the image `tiny`: one static program at `/tiny`, `/etc/passwd`, `/etc/group`.
    pub fn new() -> Host {
        let host = Host::bare();
        let command = r#"CMD ["/tiny"]"#;
        host.barge(["import", "-c", command, "-", "tiny"])
            .stdin(&tiny_tar())
            .run()
            .ok();
        host
    }

    /// With the image `busybox`, a shell and its tools beside `/tiny`.
    pub fn busybox() -> Host {
        let host = Host::bare();
        host.import("busybox", &busybox_tar());
        host
    }

    /// Without any image.
    pub fn bare() -> Host {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "barge-test-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir(&dir).unwrap();
        // Memory, like /run everywhere; a directory of the disk where there is no such file system.
        let memory = Path::new("/dev/shm");
        let run_root = if memory.is_dir() {
            memory.join(&name)
        } else {
            dir.join("run")
        };
        let root = dir.join("root");
        let digest = sha2_hex(root.as_os_str().as_bytes());
        Host {
            instance: format!("barge-{}", &digest[..6]),
            dir,
            root,
            run_root,
            checked: false,
            _namespace: OwnNamespace::enter(),
        }
    }

    /// A directory of this host that is no part of the engine, for volumes, cidfiles and the like.
    pub fn scratch(&self) -> PathBuf {
        let scratch = self.dir.join("scratch");
        fs::create_dir_all(&scratch).unwrap();
        scratch
    }

    /// The engine with its two directories and `args`; nothing has happened yet.
    pub fn barge(&self, args: impl Args) -> Cmd {
        let mut all: Vec<OsString> = vec![
            "--root".into(),
            self.root.clone().into(),
            "--run-root".into(),
            self.run_root.clone().into(),
        ];
        all.extend(args.args());
        Cmd::new(binary(), all)
    }

    /// Runs the engine to its end.
    pub fn run(&self, args: impl Args) -> Output {
        self.barge(args).run()
    }

    /// Runs the engine, which must succeed, and gives its standard output without the last newline.
    pub fn text(&self, args: impl Args) -> String {
        self.barge(args).run().ok().text()
    }

    /// `run --rm FLAGS tiny /tiny VERB`, to its end.
    pub fn tiny(&self, flags: impl Args, verb: impl Args) -> Output {
        self.barge(tiny_line("--rm", flags, verb)).run()
    }

    /// `run -d --name NAME FLAGS tiny /tiny VERB`; gives the id it printed.
    pub fn detached(&self, name: &str, flags: impl Args, verb: impl Args) -> String {
        let named = vec!["--name".into(), name.into()]
            .into_iter()
            .chain(flags.args())
            .collect::<Vec<OsString>>();
        self.text(tiny_line("-d", named, verb))
    }

    pub fn import(&self, name: &str, archive: &[u8]) {
        self.barge(["import", "-", name]).stdin(archive).run().ok();
    }

    /// The status that `inspect` reports: created, running, exited…
    pub fn status(&self, container: &str) -> String {
        self.text(["inspect", "--format", "{{.State.Status}}", container])
    }

    /// The host's pid of the container's init.
    pub fn init_pid(&self, container: &str) -> i32 {
        self.text(["inspect", "--format", "{{.State.Pid}}", container])
            .parse()
            .unwrap()
    }

    /// The full id.
    pub fn id(&self, container: &str) -> String {
        self.text(["inspect", "--format", "{{.Id}}", container])
    }

    /// The monitor of a running container: the parent of its init.
    pub fn monitor_pid(&self, container: &str) -> i32 {
        let init = self.init_pid(container);
        let status = fs::read_to_string(format!("/proc/{init}/status")).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("PPid:")).unwrap();
        let monitor = line.trim().parse().unwrap();
        let title = fs::read_to_string(format!("/proc/{monitor}/cmdline")).unwrap();
        assert!(
            title.starts_with("barge: monitor "),
            "the parent of the init is {title:?}"
        );
        monitor
    }

    /// Waits until `logs` of the container has `text`.
    pub fn wait_log(&self, container: &str, text: &str) {
        wait_until(&format!("{text:?} in the log of {container}"), || {
            let logs = self.run(["logs", container]);
            contains(&logs.stdout, text.as_bytes()) || contains(&logs.stderr, text.as_bytes())
        });
    }

    /// Removes every container and checks that nothing is left of this engine.
    fn end(&mut self) {
        if std::mem::replace(&mut self.checked, true) {
            return;
        }
        let broken = std::thread::panicking();
        let left = residue::clear_and_check(self);
        if broken {
            return;
        }
        assert!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.end();
    }
}

fn tiny_line(mode: &str, flags: impl Args, verb: impl Args) -> Vec<OsString> {
    let mut line: Vec<OsString> = vec!["run".into(), mode.into()];
    line.extend(flags.args());
    line.extend(["tiny".into(), "/tiny".into()]);
    line.extend(verb.args());
    line
}

/// The binary under test.
pub fn binary() -> PathBuf {
    std::env::var_os("BARGE_TEST_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_barge").into(), PathBuf::from)
}

/// What can stand for a command line: a list, or one string without quoting.
pub trait Args {
    fn args(self) -> Vec<OsString>;
}

impl Args for &str {
    fn args(self) -> Vec<OsString> {
        self.split_whitespace().map(Into::into).collect()
    }
}

impl Args for String {
    fn args(self) -> Vec<OsString> {
        self.as_str().args()
    }
}

impl<S: Into<OsString>, const N: usize> Args for [S; N] {
    fn args(self) -> Vec<OsString> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<S: Into<OsString>> Args for Vec<S> {
    fn args(self) -> Vec<OsString> {
        self.into_iter().map(Into::into).collect()
    }
}

/// `seconds`, longer where the machine is known to be slow.
pub fn seconds(seconds: u64) -> Duration {
    let slow = std::env::var("BARGE_TEST_SLOW")
        .ok()
        .and_then(|v| v.parse().ok())
        .unwrap_or(1);
    Duration::from_secs(seconds * slow)
}

/// Asks again until the answer is yes, at most half a minute.
pub fn wait_until(what: &str, mut met: impl FnMut() -> bool) {
    let deadline = Instant::now() + seconds(30);
    while !met() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}

/// A process that still exists and is no zombie.
pub fn alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
}

pub fn kill(pid: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}

pub fn sha2_hex(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Whether this machine's cgroup tree is the unified one alone.
pub fn cgroup_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Says why the rest of a test can't run here. The reason is printed, and counted by `.ci/run`.
pub fn skip(reason: &str) {
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    println!("skipped: {name}: {reason}");
    if let Some(list) = std::env::var_os("BARGE_TEST_SKIPS") {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(list).unwrap();
        writeln!(file, "{name}: {reason}").unwrap();
    }
}

/// The test images exist; `tests/vm/run` calls this to have them made.
#[test]
fn prepare() {
    assert!(tiny().is_file());
    assert!(!busybox_tar().is_empty());
    if std::env::var_os("BARGE_TEST_DEBIAN").is_some() {
        assert!(!debian_tar().is_empty());
    }
}
