//! Lines of several sources on one output: each whole, and with the name of its source in front.

use super::terminal::clean;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

/// Of a line without an end so much is kept; then it is written as it is.
const LONGEST: usize = 64 * 1024;
/// SGR colours of the foreground (ECMA-48): cyan, yellow, green, magenta, blue, and the bright ones of these.
const COLOURS: [u8; 10] = [36, 33, 32, 35, 34, 96, 93, 92, 95, 94];

/// `web  | `, as wide as the longest.
pub(crate) fn prefixes(names: &[String], colour: bool) -> Vec<String> {
    let cleaned: Vec<_> = names.iter().map(|n| clean(n)).collect();
    let width = cleaned.iter().map(|n| n.chars().count()).max().unwrap_or(0);
    let one = |(n, name)| {
        let plain = format!("{name:width$}  |");
        match colour {
            true => format!("\x1b[{}m{plain}\x1b[0m ", COLOURS[n % COLOURS.len()]),
            false => format!("{plain} "),
        }
    };
    cleaned.iter().enumerate().map(one).collect()
}

/// Writes whole lines, each behind the prefix, while no other of the same lock does.
pub(crate) struct Prefixed<'a, W: Write> {
    prefix: &'a str,
    alone: &'a Mutex<()>,
    to: W,
    /// A line so far.
    line: Vec<u8>,
}

impl<'a, W: Write> Prefixed<'a, W> {
    pub(crate) fn new(prefix: &'a str, alone: &'a Mutex<()>, to: W) -> Self {
        Prefixed {
            prefix,
            alone,
            to,
            line: Vec::new(),
        }
    }

    fn put(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut text = Vec::with_capacity(lines.len() + 64);
        for line in lines.split_inclusive(|b| *b == b'\n') {
            text.extend_from_slice(self.prefix.as_bytes());
            text.extend_from_slice(line);
        }
        if text.last() != Some(&b'\n') {
            text.push(b'\n');
        }
        let _alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        self.to.write_all(&text)?;
        self.to.flush()
    }
}

impl<W: Write> Write for Prefixed<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        let whole = match memchr::memrchr(b'\n', &self.line) {
            Some(at) => at + 1,
            None if self.line.len() > LONGEST => self.line.len(),
            None => 0,
        };
        let rest = self.line.split_off(whole);
        let lines = std::mem::replace(&mut self.line, rest);
        self.put(&lines)?;
        Ok(bytes.len())
    }

    /// A line without an end waits for it.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> Drop for Prefixed<'_, W> {
    fn drop(&mut self) {
        let rest = std::mem::take(&mut self.line);
        // Nobody can be told any more.
        let _ = self.put(&rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_whole() {
        let alone = Mutex::new(());
        let mut out = Vec::new();
        {
            let mut one = Prefixed::new("a | ", &alone, &mut out);
            for part in ["x", "y\nz", "\n\n", "end"] {
                one.write_all(part.as_bytes()).unwrap();
                one.flush().unwrap();
            }
        }
        assert_eq!(String::from_utf8(out).unwrap(), "a | xy\na | z\na | \na | end\n");
    }

    #[test]
    fn prefixes_are_of_one_width() {
        let names = ["web".to_owned(), "db".to_owned()];
        assert_eq!(prefixes(&names, false), ["web  | ", "db   | "]);
        assert_eq!(prefixes(&names, true)[1], "\x1b[33mdb   |\x1b[0m ");
    }
}
