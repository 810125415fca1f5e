//! Processes with a deadline: run to the end, or kept and talked to. Their output is read by threads, so that no pipe
//! ever fills, and whoever waits is woken by what comes.

use super::{contains, seconds, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A command line that can still be changed.
pub struct Cmd {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    input: Option<Vec<u8>>,
    timeout: Duration,
}

impl Cmd {
    pub fn new(program: impl Into<PathBuf>, arguments: Vec<OsString>) -> Cmd {
        Cmd {
            program: program.into(),
            arguments,
            environment: Vec::new(),
            directory: None,
            input: None,
            timeout: seconds(60),
        }
    }

    /// Bytes for its standard input, which then ends. Without: /dev/null.
    pub fn stdin(mut self, bytes: &[u8]) -> Cmd {
        self.input = Some(bytes.to_vec());
        self
    }

    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Cmd {
        self.environment.push((name.into(), value.into()));
        self
    }

    pub fn dir(mut self, path: &Path) -> Cmd {
        self.directory = Some(path.to_owned());
        self
    }

    pub fn timeout(mut self, limit: Duration) -> Cmd {
        self.timeout = limit;
        self
    }

    /// Put another program in front: `nice -n 5 barge …`.
    pub fn wrapped<S: Into<OsString>>(mut self, prefix: impl IntoIterator<Item = S>) -> Cmd {
        let mut all: Vec<OsString> = prefix.into_iter().map(Into::into).collect();
        let program = PathBuf::from(all.remove(0));
        all.push(std::mem::replace(&mut self.program, program).into());
        all.append(&mut self.arguments);
        self.arguments = all;
        self
    }

    /// One string for a shell that runs the command line as `"$@"`: `bash -c 'exec 9</etc/passwd; exec "$@"' bash …`.
    pub fn shell(self, script: &str) -> Cmd {
        self.wrapped(["bash", "-c", script, "bash"])
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(k, v)| (k, v)));
        if let Some(dir) = &self.directory {
            command.current_dir(dir);
        }
        command
    }

    pub fn shown(&self) -> String {
        let words = std::iter::once(self.program.as_os_str()).chain(self.arguments.iter().map(OsString::as_os_str));
        words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
    }

    pub fn spawn(self) -> Process {
        let mut command = self.command();
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", self.shown()));
        let stdin = child.stdin.take();
        let (stdout, out_reader) = Stream::read(child.stdout.take().unwrap());
        let (stderr, err_reader) = Stream::read(child.stderr.take().unwrap());
        let readers = vec![out_reader, err_reader];
        Process {
            shown: self.shown(),
            child,
            stdin,
            stdout,
            stderr,
            readers,
            timeout: self.timeout,
        }
    }

    pub fn run(mut self) -> Output {
        let input = self.input.take().unwrap_or_default();
        let mut process = self.spawn();
        let mut stdin = process.stdin.take().unwrap();
        let writer = std::thread::spawn(move || {
            // A reader that ends early is no failure of the writer.
            let _ = stdin.write_all(&input);
        });
        let output = process.wait();
        let _ = writer.join();
        output
    }
}

/// What a stream has given so far.
#[derive(Clone, Default)]
pub struct Stream(Arc<(Mutex<Vec<u8>>, Condvar, AtomicBool)>);

impl Stream {
    pub fn read(mut source: impl Read + Send + 'static) -> (Stream, JoinHandle<()>) {
        let stream = Stream::default();
        let shared = stream.clone();
        let reader = std::thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            loop {
                match source.read(&mut buffer) {
                    Ok(0) => break,
                    // A pty whose other side is closed answers EIO.
                    Err(e) if e.kind() != std::io::ErrorKind::Interrupted => break,
                    Err(_) => {}
                    Ok(n) => {
                        shared.0.0.lock().unwrap().extend_from_slice(&buffer[..n]);
                        shared.0.1.notify_all();
                    }
                }
            }
            drop(source);
            shared.0.2.store(true, Ordering::Release);
        });
        (stream, reader)
    }

    /// Waits until the source has been read to its end, and closed.
    pub fn wait_for_end(&self) {
        wait_until("the end of a stream", || self.0.2.load(Ordering::Acquire));
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.0.0.lock().unwrap().clone()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// Waits until the stream has `text` somewhere.
    pub fn wait_for(&self, text: &str, shown: &str) {
        let deadline = Instant::now() + seconds(30);
        let mut data = self.0.0.lock().unwrap();
        while !contains(&data, text.as_bytes()) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "{shown}: waited in vain for {text:?}; got {:?}",
                String::from_utf8_lossy(&data)
            );
            data = self.0.1.wait_timeout(data, left).unwrap().0;
        }
    }
}

/// A process that runs; killed when dropped.
pub struct Process {
    pub shown: String,
    child: Child,
    stdin: Option<ChildStdin>,
    pub stdout: Stream,
    pub stderr: Stream,
    readers: Vec<JoinHandle<()>>,
    timeout: Duration,
}

impl Process {
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub fn send(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        stdin.write_all(bytes).unwrap();
        stdin.flush().unwrap();
    }

    /// Sends all, to a reader that may be gone.
    pub fn feed(&mut self, bytes: &[u8]) {
        let _ = self.stdin.as_mut().expect("standard input is open").write_all(bytes);
        self.stdin = None;
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub fn wait_for(&self, text: &str) {
        self.stdout.wait_for(text, &self.shown);
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Waits for the end, and for both streams to end: who still holds them after the process is a leak.
    pub fn wait(mut self) -> Output {
        self.stdin = None;
        let deadline = Instant::now() + self.timeout;
        let status = wait_child(&mut self.child, deadline);
        let Some(status) = status else {
            let (out, err) = (self.stdout.text(), self.stderr.text());
            panic!(
                "{}: still running after {:?}\nstdout: {out}\nstderr: {err}",
                self.shown, self.timeout
            );
        };
        for reader in self.readers.drain(..) {
            while !reader.is_finished() {
                let held = Instant::now() >= deadline;
                assert!(!held, "{}: has ended, but someone holds its output", self.shown);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Output {
            code: code(status),
            stdout: self.stdout.bytes(),
            stderr: self.stderr.bytes(),
            shown: std::mem::take(&mut self.shown),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The status at the deadline at the latest; a pidfd is what it waits on.
pub fn wait_child(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    let pid = rustix::process::Pid::from_child(child);
    let fd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty());
    while child.try_wait().unwrap().is_none() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        let Ok(fd) = &fd else { continue };
        let mut set = [rustix::event::PollFd::new(fd, rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: 0,
        };
        let limit = if left.as_secs() == 0 {
            rustix::event::Timespec {
                tv_sec: 0,
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        } else {
            limit
        };
        let _ = rustix::event::poll(&mut set, Some(&limit));
    }
    child.try_wait().unwrap()
}

/// The shell's number: 128 + n for a signal.
pub fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// How a command ended and what it said.
pub struct Output {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub shown: String,
}

impl Output {
    #[track_caller]
    pub fn ok(self) -> Output {
        self.fails(0)
    }

    /// Ended with this code.
    #[track_caller]
    pub fn fails(self, code: i32) -> Output {
        assert_eq!(
            self.code,
            code,
            "{}\nstdout: {}\nstderr: {}",
            self.shown,
            self.text(),
            self.err()
        );
        self
    }

    /// Standard output, without the newline at its end.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end_matches('\n').to_owned()
    }

    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim_end_matches('\n').to_owned()
    }

    pub fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }

    /// Nothing on standard output, one line of error (hints and the user's own line may follow) that has every one of
    /// `parts`.
    #[track_caller]
    pub fn says(self, parts: &[&str]) -> Output {
        let err = self.err();
        let mut lines = err.lines();
        let first = lines.next().unwrap_or_default().to_owned();
        let shown = |l: &str| {
            l.split_once(" | ")
                .is_some_and(|(margin, _)| margin.trim().bytes().all(|b| b.is_ascii_digit()))
        };
        let single = lines.all(|l| l.trim_start().starts_with("hint:") || shown(l));
        assert!(
            single && !first.is_empty(),
            "{}: one line of error expected, got: {err:?}",
            self.shown
        );
        for part in parts {
            assert!(first.contains(part), "{}: {part:?} is not in {first:?}", self.shown);
        }
        self
    }
}

/// Memory that a process has written to, in kB. Pages of its program do not count: they belong to it alone or not
/// according to which other barge processes run at the moment.
pub fn memory(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("Anonymous:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
