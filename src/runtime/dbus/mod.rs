//! Calls to systemd: over its own socket, which is root's and needs no bus, else over the system bus.
//!
//! One connection, one caller, blocking with a deadline. What is sent waits in the socket's buffer while the other side
//! still greets: a call costs one way there and one back.

pub(crate) mod wire;

use crate::error::{Context as _, Error, Result};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use wire::{Body, Kind, Message, Method};

/// systemd's own; systemctl uses it as root.
const PRIVATE: &str = "/run/systemd/private";
const BUS: &str = "/run/dbus/system_bus_socket";
const SYSTEMD: &str = "org.freedesktop.systemd1";

/// Whether systemd is this machine's init (sd_booted(3)).
pub(crate) fn booted_with_systemd() -> bool {
    std::fs::symlink_metadata("/run/systemd/system").is_ok_and(|m| m.is_dir())
}

/// A way to systemd.
pub(crate) struct Connection {
    socket: UnixStream,
    /// What has come and is not read yet.
    received: Vec<u8>,
    greeted: bool,
    serial: u32,
}

impl Connection {
    pub(crate) fn open() -> Result<Connection> {
        if let Ok(socket) = UnixStream::connect(PRIVATE) {
            return Connection::greet(socket);
        }
        let socket = UnixStream::connect(BUS).context("connect to the system bus")?;
        let mut connection = Connection::greet(socket)?;
        let bus = |member, signature| Method {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member,
            signature,
        };
        connection.send(bus("Hello", ""), &Body::default())?;
        let mut rule = Body::default();
        rule.string("type='signal',sender='org.freedesktop.systemd1',member='JobRemoved'");
        connection.send(bus("AddMatch", "s"), &rule)?;
        connection.send(manager("Subscribe", ""), &Body::default())?;
        Ok(connection)
    }

    /// D-Bus Specification, "Authentication Protocol": who we are, the kernel tells the other side.
    fn greet(mut socket: UnixStream) -> Result<Connection> {
        let uid: String = nix::unistd::geteuid()
            .as_raw()
            .to_string()
            .bytes()
            .map(|b| format!("{b:02x}"))
            .collect();
        socket.write_all(format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n").as_bytes())?;
        Ok(Connection {
            socket,
            received: Vec::new(),
            greeted: false,
            serial: 0,
        })
    }

    /// Sends a call and gives its serial, by which the answer is known.
    pub(crate) fn send(&mut self, method: Method<'_>, body: &Body) -> Result<u32> {
        self.serial += 1;
        let message = wire::call(self.serial, method, body);
        self.socket.write_all(&message).context("write to systemd")?;
        Ok(self.serial)
    }

    /// The next message.
    pub(crate) fn receive(&mut self, deadline: Instant) -> Result<Message> {
        loop {
            if !self.greeted
                && let Some(end) = self.received.windows(2).position(|w| w == b"\r\n")
            {
                let line: Vec<u8> = self.received.drain(..end + 2).collect();
                if !line.starts_with(b"OK ") {
                    return Err(Error::other("systemd does not let us in"));
                }
                self.greeted = true;
            }
            if self.greeted
                && let Some((message, len)) = wire::parse(&self.received)?
            {
                self.received.drain(..len);
                return Ok(message);
            }
            self.read(deadline)?;
        }
    }

    fn read(&mut self, deadline: Instant) -> Result<()> {
        const LONGEST: usize = 2 << 20;
        let left = deadline.saturating_duration_since(Instant::now());
        let late = || Error::other("systemd does not answer");
        if left.is_zero() || self.received.len() > LONGEST {
            return Err(late());
        }
        self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let mut buffer = [0; 4096];
        match self.socket.read(&mut buffer) {
            Ok(0) => Err(Error::other("systemd closed the connection")),
            Ok(n) => {
                self.received.extend_from_slice(&buffer[..n]);
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => Ok(()),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(late()),
            Err(e) => Err(e).context("read from systemd"),
        }
    }
}

/// A method of systemd's manager.
pub(crate) fn manager<'a>(member: &'a str, signature: &'a str) -> Method<'a> {
    Method {
        destination: SYSTEMD,
        path: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.systemd1.Manager",
        member,
        signature,
    }
}

/// What became of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Job {
    Done,
    /// `failed`, `timeout`, `canceled`, `dependency` …
    Ended(String),
    /// The call itself was refused: the error's name, and its text.
    Refused(String, String),
}

/// Waits for the end of the job that the call `serial` has asked for. The answer names the job, a signal tells its end;
/// the signal may come first.
pub(crate) fn job(connection: &mut Connection, serial: u32, deadline: Instant) -> Result<Job> {
    let mut ended: Vec<(String, String)> = Vec::new();
    let mut path: Option<String> = None;
    loop {
        if let Some(path) = &path
            && let Some((_, result)) = ended.iter().find(|(job, _)| job == path)
        {
            return Ok(match result.as_str() {
                "done" => Job::Done,
                other => Job::Ended(other.to_owned()),
            });
        }
        let message = connection.receive(deadline)?;
        match message.kind {
            Kind::Return if message.answers == serial => path = Some(message.text(0).unwrap_or_default().to_owned()),
            Kind::Error if message.answers == serial => {
                let text = message.text(0).unwrap_or_default().to_owned();
                return Ok(Job::Refused(message.error, text));
            }
            Kind::Signal if message.member == "JobRemoved" => {
                let text = |n| message.text(n).unwrap_or_default().to_owned();
                ended.push((text(1), text(3)));
            }
            _ => {}
        }
    }
}
