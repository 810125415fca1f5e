//! The one error type, printed once, in `main`.
//!
//! A lower layer returns what failed; every layer above adds, with [`Context`], the object it alone knows. The chain
//! reads from the outside in, as one line: `barge: start web: mount overlay on rootfs: too many layers`.
//! Wording: the bare operation and its object, lower case, no full stop; never "failed to" or "error:".
//! The kind decides the exit code, and exists for callers that branch; for everything else a string will do.

use std::fmt;

/// What went wrong, as far as an exit code or a caller cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Anything that has no kind of its own: exit 1, or 125 from run, create and exec.
    Other,
    /// A wrong command line: exit 125.
    Usage,
    /// No such container, image, volume or layer: exit 1 (run, create: 125).
    NotFound,
    /// The name is taken, the state is the wrong one: exit 1 (run, create: 125).
    Conflict,
    /// A registry wants somebody to log in, and nobody is: exit 1.
    LoginRequired,
    /// The container's program exists but can't be executed: exit 126.
    CannotExecute,
    /// The container's program does not exist: exit 127.
    CommandNotFound,
    /// The reader of our output went away: exit 0, nothing printed.
    BrokenPipe,
    /// Ends with this status and prints nothing: all has been said (a container's own exit code, `exists`).
    Status(u8),
    /// A command of a build ended with this code, which is the build's as well.
    Step(u8),
}

/// An error: kind, what happened from the outside in, and perhaps a hint what to do.
#[derive(Debug, Clone)]
pub(crate) struct Error {
    kind: Kind,
    /// Innermost first; printed in reverse.
    chain: Vec<String>,
    /// Lines between the message and the hint: what it is about.
    shown: Option<String>,
    hint: Option<String>,
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error {
            kind,
            chain: vec![message.into()],
            shown: None,
            hint: None,
        }
    }

    /// An error without a kind of its own.
    pub(crate) fn other(message: impl Into<String>) -> Self {
        Error::new(Kind::Other, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Error::new(Kind::Usage, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Error::new(Kind::NotFound, message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Error::new(Kind::Conflict, message)
    }

    /// Ends the program with `code`, silently.
    pub(crate) fn status(code: u8) -> Self {
        Error {
            kind: Kind::Status(code),
            chain: Vec::new(),
            shown: None,
            hint: None,
        }
    }

    /// One more line below the message: what the reader can do.
    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Lines below the message: the piece of the user's text that it is about.
    #[must_use]
    pub(crate) fn with_shown(mut self, lines: impl Into<String>) -> Self {
        self.shown = Some(lines.into());
        self
    }

    /// The hint, and what is shown, of another error that this one says in other words.
    #[must_use]
    pub(crate) fn with_hint_of(mut self, other: &Error) -> Self {
        self.hint = self.hint.or_else(|| other.hint.clone());
        self.shown = self.shown.or_else(|| other.shown.clone());
        self
    }

    pub(crate) fn shown(&self) -> Option<&str> {
        self.shown.as_deref()
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Adds a second failure (of a clean-up) beside this one; it never replaces it.
    #[must_use]
    pub(crate) fn and(mut self, other: &Error) -> Self {
        let joined = format!("{} (and then: {other})", self.chain.first().map_or("", String::as_str));
        match self.chain.first_mut() {
            Some(first) => *first = joined,
            None => self.chain.push(joined),
        }
        self
    }

    pub(crate) fn wrap(mut self, context: String) -> Self {
        if !matches!(self.kind, Kind::Status(_)) {
            self.chain.push(context);
        }
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.chain.iter().rev().enumerate() {
            if i > 0 {
                f.write_str(": ")?;
            }
            f.write_str(part)?;
        }
        Ok(())
    }
}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        let kind = match e.kind() {
            std::io::ErrorKind::BrokenPipe => Kind::BrokenPipe,
            _ => Kind::Other,
        };
        Error::new(kind, describe(&e))
    }
}

impl From<nix::errno::Errno> for Error {
    fn from(e: nix::errno::Errno) -> Self {
        std::io::Error::from(e).into()
    }
}

impl From<rustix::io::Errno> for Error {
    fn from(e: rustix::io::Errno) -> Self {
        std::io::Error::from(e).into()
    }
}

impl From<serde_json::Error> for Error {
    fn from(e: serde_json::Error) -> Self {
        Error::other(e.to_string())
    }
}

/// The kernel's words in lower case, without Rust's "(os error 2)".
fn describe(e: &std::io::Error) -> String {
    let text = e.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    let second_is_upper = text.chars().nth(1).is_some_and(char::is_uppercase);
    match chars.next() {
        Some(first) if !second_is_upper => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}

/// Adds what was being done, and to what, to an error on its way up.
pub(crate) trait Context<T> {
    fn context(self, what: &str) -> Result<T>;
    fn with_context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: &str) -> Result<T> {
        self.map_err(|e| e.into().wrap(what.to_owned()))
    }

    fn with_context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| e.into().wrap(what()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_reads_from_the_outside_in() {
        let inner: Result<()> = Err(nix::errno::Errno::ENOENT.into());
        let e = inner
            .context("open rootfs")
            .with_context(|| "start web".to_owned())
            .unwrap_err();
        assert_eq!(e.to_string(), "start web: open rootfs: no such file or directory");
        assert_eq!(e.kind(), Kind::Other);
    }

    #[test]
    fn a_clean_up_error_stands_beside_the_first_one() {
        let e = Error::other("mount").and(&Error::other("umount"));
        assert_eq!(e.to_string(), "mount (and then: umount)");
    }
}
