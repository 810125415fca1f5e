//! A command on a pseudo terminal, with this process as the person in front of it.

use super::process::{Stream, code, wait_child};
use super::{Cmd, seconds};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Child;
use std::time::Instant;

pub struct Terminal {
    shown: String,
    master: File,
    child: Child,
    pub output: Stream,
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
        let (output, _) = Stream::read(master.try_clone().unwrap());
        Terminal {
            shown,
            master,
            child,
            output,
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
    pub fn send(&mut self, bytes: &[u8]) {
        self.master.write_all(bytes).unwrap();
    }

    pub fn resize(&self, columns: u16, rows: u16) {
        tcsetwinsize(&self.master, size(columns, rows)).unwrap();
    }

    pub fn wait_for(&self, text: &str) {
        self.output.wait_for(text, &self.shown);
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Whether the terminal is in canonical mode with echo, as it was before the command.
    pub fn cooked(&self) -> bool {
        let modes = rustix::termios::tcgetattr(&self.master).unwrap().local_modes;
        modes.contains(rustix::termios::LocalModes::ICANON | rustix::termios::LocalModes::ECHO)
    }

    /// Closes the terminal, as when its window goes away: the foreground gets SIGHUP.
    pub fn hang_up(mut self) -> i32 {
        // The reader's copy of the master has to go too; it ends when the command does.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), nix::sys::signal::Signal::SIGHUP);
        self.end()
    }

    pub fn wait(mut self) -> (i32, String) {
        let code = self.end();
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
