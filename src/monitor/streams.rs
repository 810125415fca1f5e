//! The monitor's one loop: a container's output into the log and to its clients, clients' input to the container, and
//! the events that end a wait. Level-triggered poll(2), one thread, nothing in it blocks.
//!
//! Memory is bounded whatever the container writes: output is read only while every attached client has taken all of
//! the last read, and input only while the container has taken all of the last frame.

use crate::error::{Context as _, Result};
use crate::model::log::Stream;
use crate::model::network::Endpoint;
use crate::model::port::PublishedPort;
use crate::monitor::client::{Client, Said};
use crate::monitor::frame::{self, Hello, Kind, Size};
use crate::monitor::log::LogWriter;
use crate::network::service::Service;
use crate::sys;
use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

/// Reads in a row before other events get their turn.
const BURST: usize = 16;
/// Bytes that a terminal, which is no pipe, may still hold.
const PIPE_LIMIT: usize = 1 << 20;
/// After this long without output, buffers go back to the kernel.
const IDLE: Duration = Duration::from_secs(1);

/// What ends a turn of the loop.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The watched process has ended.
    Ended,
    /// A client sends the container a signal.
    Deliver(i32),
    /// The last client is gone for which the container stood still.
    Thaw,
    /// A client, told by its descriptor, wants a change of networks.
    Network(RawFd, Vec<u8>),
    /// A client, told by its descriptor, wants the health check run.
    Check(RawFd),
    /// What is watched has something to say.
    Watched,
    /// The monitor itself got a signal.
    Signal(i32),
    Timeout,
}

/// The container's ends of its streams, as the monitor holds them.
#[derive(Default)]
pub(super) struct Channels {
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
    /// A pipe, or another descriptor of the terminal.
    pub(super) stdin: Option<OwnedFd>,
    pub(super) terminal: Option<OwnedFd>,
    /// Our own opening of the terminal's other side: without one, a read fails while nobody else has it open.
    pub(super) slave: Option<OwnedFd>,
    /// stdin closes when the first attached client's ends.
    pub(super) stdin_once: bool,
}

pub(super) struct Streams {
    log: LogWriter,
    channels: Channels,
    clients: Vec<Client>,
    listener: Option<UnixListener>,
    signals: SignalFd,
    /// Input that the container has not taken yet.
    input: Vec<u8>,
    end_of_input: bool,
    buffer: Vec<u8>,
    size: Option<Size>,
    pending: VecDeque<Event>,
    /// A client is gone that let the container stand still.
    goes_on: bool,
    services: Vec<Box<dyn Service>>,
    /// Told of by [`Event::Watched`].
    watched: Option<OwnedFd>,
}

impl Streams {
    pub(super) fn new(log: LogWriter, signals: SignalFd) -> Streams {
        Streams {
            log,
            channels: Channels::default(),
            clients: Vec::new(),
            listener: None,
            signals,
            input: Vec::new(),
            end_of_input: false,
            buffer: Vec::new(),
            size: None,
            pending: VecDeque::new(),
            goes_on: false,
            services: Vec::new(),
            watched: None,
        }
    }

    /// One more descriptor to wait for, or none.
    pub(super) fn watch(&mut self, fd: Option<OwnedFd>) {
        self.watched = fd;
    }

    /// What is served until the cycle ends.
    pub(super) fn serve_also(&mut self, services: Vec<Box<dyn Service>>) {
        self.services = services;
    }

    /// One more of them.
    pub(super) fn serve_too(&mut self, service: Box<dyn Service>) {
        self.services.push(service);
    }

    /// Tells the services where the container is now.
    pub(super) fn endpoints_changed(&mut self, endpoints: &[Endpoint]) {
        self.services.iter_mut().for_each(|s| s.endpoints_changed(endpoints));
    }

    /// Tells the services which ports of the host are the container's no more.
    pub(super) fn unpublished(&mut self, ports: &[PublishedPort]) {
        self.services.iter_mut().for_each(|s| s.unpublished(ports));
    }

    pub(super) fn listen(&mut self, listener: UnixListener) {
        self.listener = Some(listener);
    }

    pub(super) fn add_client(&mut self, socket: OwnedFd, wants: Hello) {
        self.clients.push(Client::new(socket, Some(wants)));
    }

    /// The size that a terminal gets, now and when a new one is opened.
    pub(super) fn resize(&mut self, size: Size) {
        self.size = Some(size);
        resize(&self.channels, size);
    }

    /// The last size that a client has told.
    pub(super) fn size(&self) -> Option<Size> {
        self.size
    }

    /// The streams of a new cycle.
    pub(super) fn connect(&mut self, channels: Channels) -> Result<()> {
        for fd in [&channels.stdout, &channels.stderr, &channels.stdin]
            .into_iter()
            .flatten()
        {
            rustix::io::ioctl_fionbio(fd, true).context("make the streams non-blocking")?;
        }
        self.channels = channels;
        self.input.clear();
        self.end_of_input = false;
        if let Some(size) = self.size {
            self.resize(size);
        }
        Ok(())
    }

    /// Serves streams and clients until something happens that is not about them.
    pub(super) fn wait(&mut self, process: Option<BorrowedFd<'_>>, timeout: Option<Duration>) -> Result<Event> {
        let deadline = timeout.map(|t| Instant::now() + t);
        let mut active = Instant::now();
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(event);
            }
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            let wake = [left, self.log.quiet_after(), self.idle_after(), self.service_after()]
                .into_iter()
                .flatten()
                .min();
            let ready = self.poll(process, wake)?;
            self.serve_overdue();
            if ready.is_empty() {
                self.settle(active);
                if left.is_some_and(|l| l.is_zero()) {
                    return Ok(Event::Timeout);
                }
                continue;
            }
            active = Instant::now();
            if let Some(event) = self.serve(&ready)? {
                return Ok(event);
            }
            // Also while the container never stops talking.
            if left.is_some_and(|l| l.is_zero()) && self.pending.is_empty() {
                return Ok(Event::Timeout);
            }
        }
    }

    fn service_after(&self) -> Option<Duration> {
        let next = self.services.iter().filter_map(|s| s.deadline()).min();
        next.map(|at| at.saturating_duration_since(Instant::now()))
    }

    fn serve_overdue(&mut self) {
        for service in &mut self.services {
            if service.deadline().is_some_and(|at| at <= Instant::now()) {
                service.ready();
            }
        }
    }

    fn idle_after(&self) -> Option<Duration> {
        (self.buffer.capacity() > 0).then_some(IDLE)
    }

    /// Nothing happened for a while.
    fn settle(&mut self, active: Instant) {
        if self.log.quiet_after().is_some() {
            self.log.quiet();
        }
        if active.elapsed() >= IDLE {
            self.buffer = Vec::new();
            self.input.shrink_to_fit();
            sys::process::give_back_memory();
        }
    }

    /// The sources that are ready, in the order they are to be served.
    fn poll(&self, process: Option<BorrowedFd<'_>>, timeout: Option<Duration>) -> Result<Vec<Source>> {
        let mut sources = Vec::with_capacity(6 + self.clients.len());
        let mut fds = Vec::with_capacity(6 + self.clients.len());
        let mut add = |source, fd, flags| {
            sources.push(source);
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        };
        if !self.clients.iter().any(Client::is_behind) {
            for (source, fd) in [
                (Source::Stdout, &self.channels.stdout),
                (Source::Stderr, &self.channels.stderr),
            ] {
                if let Some(fd) = fd {
                    add(source, fd.as_fd(), PollFlags::IN);
                }
            }
        }
        if let Some(stdin) = self.channels.stdin.as_ref().filter(|_| !self.input.is_empty()) {
            add(Source::Stdin, stdin.as_fd(), PollFlags::OUT);
        }
        for (n, client) in self.clients.iter().enumerate() {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::OUT, client.is_behind());
            flags.set(
                PollFlags::IN,
                self.input.is_empty() || !client.wants.wants(Hello::STDIN),
            );
            add(Source::Client(n, false), client.fd(), flags);
        }
        if let Some(listener) = &self.listener {
            add(Source::Listener, listener.as_fd(), PollFlags::IN);
        }
        add(Source::Signals, self.signals.as_fd(), PollFlags::IN);
        for (n, service) in self.services.iter().enumerate() {
            add(Source::Service(n), service.fd(), PollFlags::IN);
        }
        if let Some(watched) = &self.watched {
            add(Source::Watched, watched.as_fd(), PollFlags::IN);
        }
        if let Some(process) = process {
            add(Source::Process, process, PollFlags::IN);
        }
        let timespec = timeout.and_then(|t| Timespec::try_from(t).ok());
        match rustix::event::poll(&mut fds, timespec.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e).context("poll"),
        }
        let ready = sources.into_iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
        Ok(ready
            .map(|(source, fd)| match source {
                Source::Client(n, _) => Source::Client(
                    n,
                    fd.revents().intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR),
                ),
                other => other,
            })
            .collect())
    }

    fn serve(&mut self, ready: &[Source]) -> Result<Option<Event>> {
        let mut ended = false;
        for source in ready {
            match source {
                Source::Stdout => self.read_output(Stream::Stdout, BURST),
                Source::Stderr => self.read_output(Stream::Stderr, BURST),
                Source::Stdin => self.write_input(),
                Source::Client(n, readable) => self.serve_client(*n, *readable),
                Source::Listener => self.accept(),
                Source::Signals => {
                    if let Some(info) = self.signals.read_signal().context("read a signal")? {
                        self.pending.push_back(Event::Signal(info.ssi_signo.cast_signed()));
                    }
                }
                Source::Process => ended = true,
                Source::Watched => self.pending.push_back(Event::Watched),
                Source::Service(n) => {
                    if let Some(service) = self.services.get_mut(*n) {
                        service.ready();
                    }
                }
            }
        }
        self.drop_clients();
        Ok(ended.then_some(Event::Ended))
    }

    /// Up to `reads` reads of one output, as long as everyone keeps up.
    fn read_output(&mut self, stream: Stream, reads: usize) {
        if self.buffer.is_empty() {
            self.buffer = vec![0; frame::MAX];
        }
        for _ in 0..reads {
            if self.clients.iter().any(Client::is_behind) {
                return;
            }
            let channel = match stream {
                Stream::Stdout => &mut self.channels.stdout,
                Stream::Stderr => &mut self.channels.stderr,
            };
            let Some(fd) = channel else { return };
            match rustix::io::read(&*fd, &mut self.buffer) {
                Ok(n) if n > 0 => {
                    let bytes = &self.buffer[..n];
                    self.log.write(stream, bytes);
                    tell(&mut self.clients, stream, bytes);
                    if n < self.buffer.len() / 4 {
                        return;
                    }
                }
                Err(Errno::AGAIN | Errno::INTR) => return,
                // EIO is how a terminal without another side ends.
                Ok(_) | Err(_) => {
                    *channel = None;
                    return;
                }
            }
        }
    }

    fn serve_client(&mut self, n: usize, readable: bool) {
        let Some(client) = self.clients.get_mut(n) else { return };
        if client.is_behind() {
            client.flush();
        }
        if !readable {
            return;
        }
        for said in client.receive() {
            match said {
                Said::Bytes(bytes) if client.wants.wants(Hello::STDIN) => self.input.extend_from_slice(&bytes),
                Said::EndOfInput if client.wants.wants(Hello::STDIN) => self.end_of_input |= self.channels.stdin_once,
                Said::Bytes(_) | Said::EndOfInput => {}
                Said::Resize(size) => {
                    self.size = Some(size);
                    resize(&self.channels, size);
                }
                Said::Signal(signal) => self.pending.push_back(Event::Deliver(signal)),
                Said::Check => self.pending.push_back(Event::Check(client.fd().as_raw_fd())),
                Said::Network(request) => {
                    let client = client.fd().as_raw_fd();
                    self.pending.push_back(Event::Network(client, request));
                }
            }
        }
        self.write_input();
    }

    fn write_input(&mut self) {
        let Some(stdin) = &self.channels.stdin else {
            self.input = Vec::new();
            return;
        };
        while !self.input.is_empty() {
            match rustix::io::write(stdin, &self.input) {
                Ok(n) => drop(self.input.drain(..n)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.input = Vec::new();
                    self.channels.stdin = None;
                    return;
                }
            }
        }
        if self.end_of_input {
            self.channels.stdin = None;
        }
    }

    fn accept(&mut self) {
        if let Some(Ok((socket, _))) = self.listener.as_ref().map(UnixListener::accept) {
            self.clients.push(Client::new(socket.into(), None));
        }
    }

    /// A client that has gone takes the container's stdin with it if that was meant for one client (F119).
    fn drop_clients(&mut self) {
        let before = self.clients.len();
        let mut had_stdin = false;
        let (goes_on, pending) = (&mut self.goes_on, &mut self.pending);
        self.clients.retain(|c| {
            if c.gone && c.wants.wants(Hello::LIFELINE) {
                pending.push_back(Event::Deliver(libc::SIGKILL));
            }
            had_stdin |= c.gone && c.wants.wants(Hello::STDIN);
            *goes_on |= c.gone && c.wants.wants(Hello::THAW);
            !c.gone
        });
        if self.goes_on && !self.clients.iter().any(|c| c.wants.wants(Hello::FREEZE)) {
            self.goes_on = false;
            self.pending.push_back(Event::Thaw);
        }
        if self.clients.len() < before && had_stdin && self.channels.stdin_once && self.channels.terminal.is_none() {
            self.end_of_input = true;
            self.write_input();
        }
    }

    /// The program has ended: takes what is in the pipes now and closes them. Not more than fits into a pipe: somebody
    /// who was given the other end may go on writing. Slow clients get it later.
    pub(super) fn drain(&mut self) {
        self.services.clear();
        self.channels.slave = None;
        for stream in [Stream::Stdout, Stream::Stderr] {
            let channel = match stream {
                Stream::Stdout => self.channels.stdout.take(),
                Stream::Stderr => self.channels.stderr.take(),
            };
            let Some(fd) = channel else { continue };
            let mut left = rustix::pipe::fcntl_getpipe_size(&fd)
                .unwrap_or(PIPE_LIMIT)
                .max(frame::MAX);
            if self.buffer.is_empty() {
                self.buffer = vec![0; frame::MAX];
            }
            while left > 0 {
                match rustix::io::read(&fd, &mut self.buffer) {
                    Ok(n) if n > 0 => {
                        left = left.saturating_sub(n);
                        self.log.write(stream, &self.buffer[..n]);
                        tell(&mut self.clients, stream, &self.buffer[..n]);
                    }
                    Err(Errno::INTR) => {}
                    Ok(_) | Err(_) => break,
                }
            }
        }
        self.channels = Channels::default();
        self.log.finish();
    }

    /// Answers a client that is still there.
    pub(super) fn answer(&mut self, client: RawFd, answer: &[u8]) {
        if let Some(client) = self.clients.iter_mut().find(|c| c.fd().as_raw_fd() == client) {
            client.send(Kind::Answer, answer);
        }
    }

    /// Tells the clients how it ended; those that want the last exit only if this is it.
    pub(super) fn tell_exit(&mut self, code: u8, last: bool) {
        for client in &mut self.clients {
            // One that has not said yet what it wants may want the last exit only.
            if last || (client.said_hello && !client.wants.wants(Hello::LAST_EXIT)) {
                client.send(Kind::Exit, &[code]);
                client.wants = Hello(0);
            }
        }
    }

    /// Nobody can connect any more.
    pub(super) fn stop_listening(&mut self) {
        while let Some(listener) = &self.listener {
            // Who is in the queue already gets the exit like the others.
            match listener.accept() {
                Ok((socket, _)) => self.clients.push(Client::new(socket.into(), None)),
                Err(_) => self.listener = None,
            }
        }
    }

    /// Stays until every client has got everything or is gone, or the time is over, or the system wants this process to
    /// end. `true` if there is nobody left.
    pub(super) fn linger(&mut self, time: Option<Duration>) -> Result<bool> {
        let deadline = time.map(|t| Instant::now() + t);
        loop {
            self.clients.retain(|c| c.is_behind() && !c.gone);
            if self.clients.is_empty() {
                return Ok(true);
            }
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            let timespec = left.and_then(|l| Timespec::try_from(l).ok());
            let mut fds = vec![PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN)];
            fds.extend(
                self.clients
                    .iter()
                    .map(|c| PollFd::from_borrowed_fd(c.fd(), PollFlags::OUT)),
            );
            match rustix::event::poll(&mut fds, timespec.as_ref()) {
                Ok(0) => return Ok(false),
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e).context("poll"),
            }
            if !fds[0].revents().is_empty() {
                return Ok(false);
            }
            self.clients.iter_mut().for_each(Client::flush);
        }
    }
}

/// One source of events.
#[derive(Debug, Clone, Copy)]
enum Source {
    Stdout,
    Stderr,
    Stdin,
    /// And whether it has something to say, or is gone.
    Client(usize, bool),
    Listener,
    Signals,
    Process,
    Watched,
    Service(usize),
}

fn tell(clients: &mut [Client], stream: Stream, bytes: &[u8]) {
    let (kind, wish) = match stream {
        Stream::Stdout => (Kind::Stdout, Hello::STDOUT),
        Stream::Stderr => (Kind::Stderr, Hello::STDERR),
    };
    for client in clients.iter_mut().filter(|c| c.wants.wants(wish)) {
        client.send(kind, bytes);
    }
}

fn resize(channels: &Channels, size: Size) {
    if let Some(terminal) = &channels.terminal {
        set_size(terminal.as_fd(), size);
    }
}

/// A terminal that is just going needs no size: errors are dropped.
pub(super) fn set_size(terminal: BorrowedFd<'_>, size: Size) {
    let size = rustix::termios::Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let _ = rustix::termios::tcsetwinsize(terminal, size);
}
