//! A command on a pseudo terminal, with this process as the person in front of it.

use super::process::{Stream, code, wait_child};
use super::{Cmd, seconds};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::{File, OpenOptions};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Child;
use std::time::Instant;

pub struct Terminal {
    shown: String,
    /// `None` when the person has hung up.
    master: Option<File>,
    child: Child,
    pub output: Stream,
    stop: Option<PipeWriter>,
}

/// Reads the terminal until the other end of `stop` is closed; then it is no holder of the terminal any more.
struct Until {
    source: File,
    stop: PipeReader,
}

impl Read for Until {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut set = [
            PollFd::new(&self.source, PollFlags::IN),
            PollFd::new(&self.stop, PollFlags::IN),
        ];
        poll(&mut set, None)?;
        if !set[1].revents().is_empty() {
            return Ok(0);
        }
        self.source.read(buffer)
    }
}

impl Cmd {
    /// Starts the command as the leader of a session on a new terminal of that size.
    pub fn terminal(self, columns: u16, rows: u16) -> Terminal {
        let master: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
        let open = || {
            let flags = libc::O_NOCTTY | libc::O_CLOEXEC;
            OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(flags)
                .open(path)
                .unwrap()
        };
        tcsetwinsize(&master, size(columns, rows)).unwrap();
        let shown = self.shown();
        // setsid(1) makes its standard input the controlling terminal, then becomes the command: the pid stays.
        let mut command = self.wrapped(["setsid", "--ctty"]).command();
        let child = command.stdin(open()).stdout(open()).stderr(open()).spawn().unwrap();
        drop(command);
        let master = File::from(master);
        let (hang_up, stop) = std::io::pipe().unwrap();
        let source = master.try_clone().unwrap();
        let (output, _) = Stream::read(Until { source, stop: hang_up });
        Terminal {
            shown,
            master: Some(master),
            child,
            output,
            stop: Some(stop),
        }
    }
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize {
        ws_col: columns,
        ws_row: rows,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

impl Terminal {
    fn master(&self) -> &File {
        self.master.as_ref().expect("nobody has hung up")
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// What of the terminal is switched on: echo, line editing, keys that make signals.
    pub fn modes(&self) -> rustix::termios::LocalModes {
        rustix::termios::tcgetattr(self.master()).unwrap().local_modes
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.master().write_all(bytes).unwrap();
    }

    pub fn resize(&self, columns: u16, rows: u16) {
        tcsetwinsize(self.master(), size(columns, rows)).unwrap();
    }

    pub fn wait_for(&self, text: &str) {
        self.output.wait_for(text, &self.shown);
    }

    /// Whether the terminal is in canonical mode with echo, as it was before the command.
    pub fn cooked(&self) -> bool {
        self.modes()
            .contains(rustix::termios::LocalModes::ICANON | rustix::termios::LocalModes::ECHO)
    }

    /// Closes the terminal, as when its window goes away: its session gets SIGHUP, and reads end.
    pub fn hang_up(mut self) -> i32 {
        self.stop = None;
        self.output.wait_for_end();
        self.master = None;
        self.end()
    }

    pub fn wait(mut self) -> (i32, String) {
        let code = self.end();
        // The last holder of the other side is gone: what it wrote is read to the end.
        self.output.wait_for_end();
        (code, self.output.text())
    }

    fn end(&mut self) -> i32 {
        let status = wait_child(&mut self.child, Instant::now() + seconds(60));
        let Some(status) = status else {
            panic!("{}: still running; got {:?}", self.shown, self.output.text())
        };
        code(status)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
