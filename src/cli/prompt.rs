//! Questions to a person at a terminal. A signal that ends or stops us while a password is asked for finds the terminal
//! as it was before (F222).

use crate::cli::console;
use crate::error::{Context as _, Error, Result};
use crate::sys::terminal::Silent;
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use std::io::{IsTerminal, stdin};

/// What comes from a keyboard, a shell or a closed window.
const SIGNALS: [Signal; 5] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGTSTP,
];
const LONGEST: usize = 64 * 1024;

/// Whether there is anybody to ask.
pub(crate) fn possible() -> bool {
    stdin().is_terminal()
}

/// A line, blanks and all.
pub(crate) fn line(prompt: &str) -> Result<String> {
    console::say(prompt);
    read(&[])
}

/// A line that is not shown while it is typed.
pub(crate) fn secret(prompt: &str) -> Result<String> {
    let before = SigSet::thread_get_mask()?;
    let signals = SIGNALS.into_iter().collect::<SigSet>();
    signals.thread_block()?;
    let typed = silently(prompt, &signals, &before);
    before.thread_set_mask()?;
    typed
}

fn silently(prompt: &str, signals: &SigSet, before: &SigSet) -> Result<String> {
    let arrived = SignalFd::with_flags(signals, SfdFlags::SFD_CLOEXEC)?;
    loop {
        let silent = Silent::enter().context("switch the echo off")?;
        console::say(prompt);
        let typed = read(&[&arrived]);
        drop(silent);
        console::say("\n");
        let signal = match typed {
            Err(e) if e.kind() == WOKEN => arrived.read_signal()?,
            other => return other,
        };
        let number = signal.map_or(0, |s| s.ssi_signo.cast_signed());
        let signal = Signal::try_from(number)?;
        // As if nobody had asked: it ends or stops us, or is ignored.
        before.thread_set_mask()?;
        raise(signal)?;
        signals.thread_block()?;
        if signal != Signal::SIGTSTP {
            return Err(Error::status(u8::try_from(128 + number).unwrap_or(255)));
        }
    }
}

/// A kind no caller sees: something else than the keyboard wants attention.
const WOKEN: crate::error::Kind = crate::error::Kind::Status(0);

/// Reads a line byte by byte, so that nothing behind it is taken away; stops when one of `others` is ready.
fn read(others: &[&SignalFd]) -> Result<String> {
    let mut line = Vec::new();
    let input = stdin();
    loop {
        let mut fds = vec![PollFd::new(&input, PollFlags::IN)];
        fds.extend(others.iter().map(|fd| PollFd::new(*fd, PollFlags::IN)));
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        if fds[1..].iter().any(|fd| !fd.revents().is_empty()) {
            return Err(Error::new(WOKEN, "a signal"));
        }
        let mut byte = [0];
        match rustix::io::read(&input, &mut byte) {
            Ok(0) if line.is_empty() => return Err(Error::other("unexpected end of input")),
            Ok(0) => break,
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) if line.len() == LONGEST => return Err(Error::other("the line is too long")),
            Ok(_) => line.push(byte[0]),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e).context("read standard input"),
        }
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|_| Error::other("what was typed is not UTF-8"))
}
