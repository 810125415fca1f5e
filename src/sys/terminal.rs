//! The caller's terminal in raw mode, or without echo for a password, restored on every way out of the process: by dropping, or by a signal's handler
//! where nothing is dropped.

use rustix::termios::{OptionalActions, Termios};
use std::io;

/// stdin in raw mode; dropped, it is as it was.
#[derive(Debug)]
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    /// cfmakeraw(3): keys such as Ctrl-C come as bytes and make no signals (F125).
    pub(crate) fn enter() -> io::Result<Raw> {
        let before = rustix::termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Raw { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// stdin without echo; everything else stays as it is, line editing and Ctrl-C too. Dropped, it is as it was.
#[derive(Debug)]
pub(crate) struct Silent {
    before: Termios,
}

impl Silent {
    pub(crate) fn enter() -> io::Result<Silent> {
        let before = rustix::termios::tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(rustix::termios::LocalModes::ECHO);
        // What was typed before the prompt stays: a script that types ahead is not robbed.
        rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, &silent)?;
        Ok(Silent { before })
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
