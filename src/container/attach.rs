//! The client's side of a container's streams: terminal, detach keys, signals, resize.

use crate::container::connection::{Connection, Message};
pub(crate) use crate::container::detach::DetachKeys;
use crate::container::detach::Matcher;
use crate::container::pause::tell;
use crate::container::status::status;
use crate::container::wait;
use crate::error::{Context as _, Error, Result};
use crate::model::container::Streams;
use crate::model::event::Event;
use crate::model::id::ContainerId;
use crate::model::state::Status;
use crate::monitor::frame::{self, Hello, Kind, Size};
use crate::store::Store;
use crate::sys::terminal::Raw;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd as _, BorrowedFd};

#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) streams: Streams,
    /// Pass every signal that this command gets on to the container's program.
    pub(crate) sig_proxy: bool,
    pub(crate) detach_keys: DetachKeys,
}

/// How an attached command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The program ended with this code.
    Exited(u8),
    /// The person typed the detach keys.
    Detached,
    /// Only stdin was attached, and it is at its end (F121).
    StdinClosed,
}

/// `attach`: connects to the streams of a running container.
pub(crate) fn attach(store: &Store, id: &ContainerId, options: &Options) -> Result<End> {
    let config = store.config(id)?;
    match status(store, id) {
        Status::Running(live) if live.paused => {
            return Err(Error::conflict(
                "You cannot attach to a paused container, unpause it first",
            ));
        }
        Status::Running(_) => {}
        _ => {
            return Err(Error::conflict(
                "Impossible to attach to a stopped container, start it first",
            ));
        }
    }
    let mut options = options.clone();
    // Without -i the container has no stdin to write to (F120).
    options.streams.stdin &= config.process.open_stdin;
    let session = Session::open(store, id, &options, config.process.tty)?;
    let connection = Connection::open(store, id, hello(options.streams))?;
    let connection =
        connection.ok_or_else(|| Error::conflict("Impossible to attach to a stopped container, start it first"))?;
    if let Some(size) = terminal_size().filter(|_| config.process.tty) {
        connection.send(&frame::frame(Kind::Resize, &size.encode()))?;
    }
    tell(store, id, "attach");
    session.run(connection)
}

fn tell_size(store: &Store, id: &ContainerId, size: Size) {
    if let Ok(config) = store.config(id) {
        let event = Event::container("resize", &config);
        store.event(&event.with("height", size.rows).with("width", size.columns));
    }
}

pub(super) fn hello(streams: Streams) -> Hello {
    let bit = |on, bit| if on { bit } else { 0 };
    Hello(bit(streams.stdin, Hello::STDIN) | bit(streams.stdout, Hello::STDOUT) | bit(streams.stderr, Hello::STDERR))
}

/// The size of the terminal that this command is typed in.
pub(super) fn terminal_size() -> Option<Size> {
    let of = |fd: BorrowedFd<'_>| rustix::termios::tcgetwinsize(fd).ok();
    let size = of(std::io::stdin().as_fd()).or_else(|| of(std::io::stdout().as_fd()))?;
    (size.ws_row > 0 || size.ws_col > 0).then_some(Size {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}

/// Signals that tell of this command itself, and not of what is to happen to the container.
const OWN: [Signal; 5] = [
    Signal::SIGCHLD,
    Signal::SIGPIPE,
    Signal::SIGURG,
    Signal::SIGWINCH,
    Signal::SIGCONT,
];

/// A command's terminal and signals while it is attached.
pub(super) struct Session<'a> {
    store: &'a Store,
    id: &'a ContainerId,
    options: &'a Options,
    tty: bool,
    signals: SignalFd,
    raw: Option<Raw>,
    /// Signals go by a connection of their own: behind input that the program does not read they would wait for ever.
    control: Option<Connection>,
    /// Input that the monitor has not taken yet.
    output: Vec<u8>,
    reading: bool,
    keys: Matcher,
    /// The streams of the container itself, not of an `exec` in it.
    of_container: bool,
}

impl<'a> Session<'a> {
    /// Terminal and signals are this session's from here on, until it is dropped.
    pub(super) fn open(store: &'a Store, id: &'a ContainerId, options: &'a Options, tty: bool) -> Result<Session<'a>> {
        let mut mask = SigSet::all();
        for signal in [
            Signal::SIGPIPE,
            Signal::SIGSEGV,
            Signal::SIGBUS,
            Signal::SIGFPE,
            Signal::SIGILL,
            Signal::SIGABRT,
        ] {
            mask.remove(signal);
        }
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let stdin_is_terminal = rustix::termios::isatty(std::io::stdin());
        let raw = (tty && options.streams.stdin && stdin_is_terminal && std::env::var_os("NORAW").is_none())
            .then(Raw::enter)
            .transpose()
            .context("set the terminal to raw mode")?;
        Ok(Session {
            store,
            id,
            options,
            tty,
            signals,
            raw,
            control: None,
            output: Vec::new(),
            reading: options.streams.stdin,
            keys: Matcher::new(&options.detach_keys),
            of_container: true,
        })
    }

    /// This session is about an `exec`.
    pub(super) fn of_exec(self) -> Session<'a> {
        Session {
            of_container: false,
            ..self
        }
    }

    /// Serves both directions until the end.
    pub(super) fn run(mut self, mut connection: Connection) -> Result<End> {
        let only_stdin = !self.options.streams.stdout && !self.options.streams.stderr;
        loop {
            let ready = self.poll(&connection)?;
            if ready.signals {
                self.handle_signals(&connection)?;
            }
            if ready.writable {
                let waiting = std::mem::take(&mut self.output);
                self.send(&connection, &waiting);
            }
            if ready.input && self.read_input(&connection)? {
                if self.of_container {
                    tell(self.store, self.id, "detach");
                }
                return Ok(End::Detached);
            }
            if only_stdin && self.options.streams.stdin && !self.reading && self.output.is_empty() && !self.tty {
                return Ok(End::StdinClosed);
            }
            if ready.messages {
                if !connection.fill()? {
                    drop(self.raw.take());
                    return Ok(End::Exited(self.lost()));
                }
                while let Some(message) = connection.next()? {
                    match message {
                        Message::Stdout(range) => write_all(std::io::stdout().as_fd(), connection.bytes(range))?,
                        Message::Stderr(range) => write_all(std::io::stderr().as_fd(), connection.bytes(range))?,
                        Message::Exit(code) => return Ok(End::Exited(code)),
                        Message::Answer(_) => {}
                    }
                }
            }
        }
    }

    /// The other side went without saying how it ended: the container's record knows, or it was killed.
    fn lost(&self) -> u8 {
        let of_container = self.of_container.then(|| wait::wait(self.store, self.id).ok());
        of_container.flatten().unwrap_or(137)
    }

    fn poll(&self, connection: &Connection) -> Result<Ready> {
        let stdin = std::io::stdin();
        let mut from_monitor = PollFlags::IN;
        from_monitor.set(PollFlags::OUT, !self.output.is_empty());
        let signals = self.signals.as_fd();
        let socket = connection.fd();
        let mut fds = vec![PollFd::new(&socket, from_monitor), PollFd::new(&signals, PollFlags::IN)];
        if self.reading && self.output.is_empty() {
            fds.push(PollFd::new(&stdin, PollFlags::IN));
        }
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e).context("poll"),
        }
        let some = |n: usize, mask: PollFlags| fds.get(n).is_some_and(|fd| fd.revents().intersects(mask));
        let readable = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        Ok(Ready {
            messages: some(0, readable),
            writable: some(0, PollFlags::OUT),
            signals: some(1, PollFlags::IN),
            input: some(2, readable | PollFlags::NVAL),
        })
    }

    /// Reads what was typed or piped in; `true` if it was the detach keys.
    fn read_input(&mut self, connection: &Connection) -> Result<bool> {
        let mut buffer = [0; frame::MAX / 2];
        let read = match rustix::io::read(std::io::stdin(), &mut buffer) {
            Ok(n) => n,
            Err(Errno::INTR | Errno::AGAIN) => return Ok(false),
            // A closed or unreadable stdin is at its end.
            Err(_) => 0,
        };
        if read == 0 {
            self.reading = false;
            self.queue(connection, &frame::frame(Kind::Stdin, b""));
            return Ok(false);
        }
        if !self.tty {
            self.queue(connection, &frame::frame(Kind::Stdin, &buffer[..read]));
            return Ok(false);
        }
        let (bytes, detached) = self.keys.feed(&buffer[..read]);
        if !bytes.is_empty() {
            self.queue(connection, &frame::frame(Kind::Stdin, &bytes));
        }
        Ok(detached)
    }

    /// Sends after what is waiting already.
    fn queue(&mut self, connection: &Connection, bytes: &[u8]) {
        let mut waiting = std::mem::take(&mut self.output);
        waiting.extend_from_slice(bytes);
        self.send(connection, &waiting);
    }

    /// Sends what the monitor takes now, and keeps the rest.
    fn send(&mut self, connection: &Connection, bytes: &[u8]) {
        match connection.try_send(bytes) {
            Some(sent) => self.output = bytes[sent..].to_vec(),
            None => self.reading = false,
        }
    }

    fn handle_signals(&mut self, connection: &Connection) -> Result<()> {
        while let Some(info) = self.signals.read_signal().context("read a signal")? {
            let number = info.ssi_signo.cast_signed();
            if number == libc::SIGWINCH {
                if let Some(size) = terminal_size().filter(|_| self.tty) {
                    let resize = frame::frame(Kind::Resize, &size.encode());
                    self.queue(connection, &resize);
                    if self.of_container {
                        tell_size(self.store, self.id, size);
                    }
                }
            } else if !OWN.iter().any(|s| *s as i32 == number) {
                self.deliver(number)?;
            }
        }
        Ok(())
    }

    /// Passes a signal on; without `--sig-proxy` it does to this command what it does to any.
    fn deliver(&mut self, signal: i32) -> Result<()> {
        // With a terminal, keys reach the program as bytes; what comes as a signal is meant for this command, above all
        // the hang-up of its terminal, which the container is to survive.
        if !self.options.sig_proxy || self.tty {
            drop(self.raw.take());
            return match Signal::try_from(signal) {
                Ok(Signal::SIGTSTP | Signal::SIGTTIN | Signal::SIGTTOU) => Ok(()),
                _ => Err(Error::status(u8::try_from(128 + signal).unwrap_or(255))),
            };
        }
        if self.control.is_none() {
            self.control = Connection::open(self.store, self.id, Hello(0))?;
        }
        if let Some(control) = &self.control {
            // The container may just have ended: then there is nobody to tell.
            let _ = control.send(&frame::frame(Kind::Signal, &signal.to_be_bytes()));
        }
        Ok(())
    }
}

struct Ready {
    messages: bool,
    writable: bool,
    signals: bool,
    input: bool,
}

/// Past Rust's line buffer: bytes go out as they came.
fn write_all(stream: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(stream, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            // Whoever shares this descriptor with us made it non-blocking.
            Err(Errno::AGAIN) => {
                rustix::event::poll(&mut [PollFd::from_borrowed_fd(stream, PollFlags::OUT)], None)?;
            }
            Err(e) => return Err(e).context("write output"),
        }
    }
    Ok(())
}
