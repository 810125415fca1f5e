//! The service manager's notification protocol (sd_notify(3)): what the monitor says itself, and what it passes on of
//! the program's.
//!
//! The program never gets the service manager's socket: it gets one of the monitor's, whose messages are read line by
//! line. What could turn the manager against others (another main process, stored descriptors, access for everybody) is
//! left out; descriptors that come with a message are closed by the kernel, which is all that a barrier asks for.

use crate::error::{Context as _, Result};
use crate::model::service::SdNotify;
use crate::network::service::Service;
use serde::{Deserialize, Serialize};
use std::fs::Permissions;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::{Duration, Instant};

/// In the run directory: what the program talks to.
pub(crate) const SOCKET: &str = "notify.sock";
/// The longest message that is read; the rest of a longer one is lost.
const LONGEST: usize = 4096;
/// The longest status text.
const STATUS: usize = 512;
/// Messages read in a row.
const BURST: usize = 16;

/// What a unit wants that starts a container which was made for anything: its environment wins over the container's own
/// `--sdnotify`.
pub(crate) fn mode_of_caller(asked: SdNotify) -> SdNotify {
    match std::env::var("BARGE_SDNOTIFY").as_deref() {
        Ok("monitor") => SdNotify::Monitor,
        Ok("healthy") => SdNotify::Healthy,
        Ok("container") => SdNotify::Container,
        Ok("ignore") => SdNotify::Ignore,
        _ => asked,
    }
}

/// What a service manager has told the command that starts a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Notified {
    /// `/path` or `@abstract`.
    pub(crate) address: String,
    /// Microseconds within which it wants to hear of the service.
    pub(crate) watchdog: Option<u64>,
}

impl Notified {
    /// From the environment of this process. `None` if nobody wants to know, or the container is not to tell.
    pub(crate) fn of_caller(mode: SdNotify) -> Option<Notified> {
        let address = std::env::var("NOTIFY_SOCKET")
            .ok()
            .filter(|a| a.starts_with(['/', '@']))?;
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        (mode != SdNotify::Ignore).then(|| Notified {
            address,
            watchdog: number("WATCHDOG_USEC").filter(|usec| ours && *usec > 0),
        })
    }

    /// One message. Nobody waits for it: a manager that does not listen has other troubles.
    pub(crate) fn send(&self, message: &str) {
        let _ = Speaker::new(self).map(|speaker| speaker.say(message));
    }
}

/// The way to the service manager.
#[derive(Debug)]
struct Speaker {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Speaker {
    fn new(notified: &Notified) -> std::io::Result<Speaker> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let address = match notified.address.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&notified.address)?,
        };
        Ok(Speaker { socket, address })
    }

    fn say(&self, message: &str) {
        let _ = self.socket.send_to_addr(message.as_bytes(), &self.address);
    }
}

/// The program's socket, and the way on from there.
pub(super) struct Proxy {
    socket: UnixDatagram,
    on: Speaker,
}

impl Proxy {
    /// Anybody in the container may write to it: the program's user need not be root.
    pub(super) fn open(run_dir: &Path, notified: &Notified) -> Result<Proxy> {
        let path = run_dir.join(SOCKET);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
            _ => {}
        }
        // By way of the directory's descriptor: a socket's path may have 107 bytes (unix(7)), a run root may be longer.
        let dir = std::fs::File::open(run_dir)?;
        let short = format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd());
        let socket = UnixDatagram::bind(&short).with_context(|| format!("listen on {}", path.display()))?;
        std::fs::set_permissions(&short, Permissions::from_mode(0o666))?;
        socket.set_nonblocking(true)?;
        let on = Speaker::new(notified).context("the service manager's notification socket")?;
        Ok(Proxy { socket, on })
    }
}

impl Service for Proxy {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn ready(&mut self) {
        let mut buffer = [0; LONGEST];
        for _ in 0..BURST {
            let Ok(n) = self.socket.recv(&mut buffer) else { return };
            let passed = passed_on(&buffer[..n]);
            if !passed.is_empty() {
                self.on.say(&passed);
            }
        }
    }
}

/// What of a program's message the service manager gets to see.
fn passed_on(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    let lines = text.split('\n').filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        let number = || !value.is_empty() && value.len() <= 20 && value.bytes().all(|b| b.is_ascii_digit());
        match name {
            "READY" | "RELOADING" | "STOPPING" if value == "1" => Some(line.to_owned()),
            "WATCHDOG" if matches!(value, "1" | "trigger") => Some(line.to_owned()),
            "ERRNO" | "EXIT_STATUS" | "EXTEND_TIMEOUT_USEC" | "MONOTONIC_USEC" | "WATCHDOG_USEC" if number() => {
                Some(line.to_owned())
            }
            "STATUS" => {
                let shown: String = value.chars().filter(|c| !c.is_control()).collect();
                Some(format!("STATUS={}", &shown[..shown.floor_char_boundary(STATUS)]))
            }
            _ => None,
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Tells the service manager at intervals that the monitor is there.
pub(super) struct Watchdog {
    on: Speaker,
    every: Duration,
    next: Instant,
}

impl Watchdog {
    /// Twice in the manager's time, as sd_watchdog_enabled(3) recommends.
    pub(super) fn new(notified: &Notified) -> Option<Watchdog> {
        let every = Duration::from_micros(notified.watchdog? / 2);
        Some(Watchdog {
            on: Speaker::new(notified).ok()?,
            every,
            next: Instant::now(),
        })
    }
}

impl Service for Watchdog {
    fn fd(&self) -> BorrowedFd<'_> {
        self.on.socket.as_fd()
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.next)
    }

    fn ready(&mut self) {
        self.on.say("WATCHDOG=1");
        self.next = Instant::now() + self.every;
    }
}

/// The environment that a program finds the socket by.
pub(super) fn environment(notified: &Notified) -> Vec<String> {
    let mut env = vec![format!("NOTIFY_SOCKET={}", crate::runtime::plan::NOTIFY_SOCKET)];
    env.extend(notified.watchdog.map(|usec| format!("WATCHDOG_USEC={usec}")));
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_on() {
        for (message, passed) in [
            ("READY=1", "READY=1"),
            ("READY=1\nMAINPID=1\nSTATUS=up", "READY=1\nSTATUS=up"),
            ("MAINPID=4711", ""),
            ("FDSTORE=1\nFDNAME=x", ""),
            ("NOTIFYACCESS=all", ""),
            ("BARRIER=1", ""),
            ("WATCHDOG=1", "WATCHDOG=1"),
            ("WATCHDOG=trigger", "WATCHDOG=trigger"),
            ("WATCHDOG_USEC=x", ""),
            ("RELOADING=1\nMONOTONIC_USEC=12345", "RELOADING=1\nMONOTONIC_USEC=12345"),
            ("STATUS=a\x1b[31mb", "STATUS=a[31mb"),
            ("EXTEND_TIMEOUT_USEC=5000000\n", "EXTEND_TIMEOUT_USEC=5000000"),
            ("READY=0", ""),
            ("nonsense\0\n=\n\n", ""),
        ] {
            assert_eq!(passed_on(message.as_bytes()), passed, "{message}");
        }
        let long = format!("STATUS={}", "é".repeat(3000));
        assert!(passed_on(long.as_bytes()).len() < 600);
        assert_eq!(passed_on(b"STATUS=\xff"), "STATUS=\u{fffd}");
    }

    #[test]
    fn a_program_is_heard() {
        let dir = std::env::temp_dir().join(format!("barge-notify-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let manager = UnixDatagram::bind(dir.join("manager")).unwrap();
        let notified = Notified {
            address: dir.join("manager").to_str().unwrap().to_owned(),
            watchdog: Some(2_000_000),
        };
        let mut proxy = Proxy::open(&dir, &notified).unwrap();
        let program = UnixDatagram::unbound().unwrap();
        program.send_to(b"READY=1\nMAINPID=1", dir.join(SOCKET)).unwrap();
        proxy.ready();
        let mut buffer = [0; 64];
        let n = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..n], b"READY=1");
        let mut watchdog = Watchdog::new(&notified).unwrap();
        watchdog.ready();
        let n = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..n], b"WATCHDOG=1");
        assert!(watchdog.deadline().unwrap() > Instant::now());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
