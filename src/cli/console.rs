//! What a command says: data on stdout, everything else on stderr. Stdout is buffered, and flushed once at the end.

use crate::error::{Error, Kind, Result};
use crate::output::terminal::clean_lines;
use std::io::{BufWriter, IsTerminal, Stdout, Write};

pub(crate) struct Console {
    out: BufWriter<Stdout>,
}

impl Console {
    pub(crate) fn new() -> Self {
        Console {
            out: BufWriter::with_capacity(32 << 10, std::io::stdout()),
        }
    }

    /// Where data goes.
    pub(crate) fn out(&mut self) -> &mut impl Write {
        &mut self.out
    }

    /// One line of data.
    pub(crate) fn line(&mut self, text: &str) -> Result<()> {
        Ok(writeln!(self.out, "{text}")?)
    }

    /// Data reaches its reader now; before something that writes to stdout by itself, or blocks.
    pub(crate) fn flush(&mut self) -> Result<()> {
        // Rust's own stdout is line-buffered: it must be emptied too.
        self.out.flush()?;
        Ok(self.out.get_mut().flush()?)
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.out.get_ref().is_terminal()
    }

    /// One argument's failure, where the others go on.
    pub(crate) fn error(&self, error: &Error) {
        report(error);
    }

    /// A remark on stderr.
    pub(crate) fn note(&self, text: &str) {
        say(&format!("{}\n", clean_lines(text)));
    }
}

/// `barge: what: why`, and what can be done about it.
pub(crate) fn report(error: &Error) {
    if matches!(error.kind(), Kind::Status(_) | Kind::BrokenPipe) {
        return;
    }
    // Whatever foreign text got into it on the way.
    let shown = error.shown().map(|lines| format!("{}\n", clean_lines(lines)));
    let hint = error.hint().map(|h| format!("  hint: {}\n", clean_lines(h)));
    say(&format!(
        "barge: {}\n{}{}",
        clean_lines(&error.to_string()),
        shown.unwrap_or_default(),
        hint.unwrap_or_default()
    ));
}

/// Text on stderr, in one piece. Nobody can be told if that fails.
pub(crate) fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
