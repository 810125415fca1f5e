//! Log records → the container's bytes, each stream to its own output and in the order they were written.

use super::Span;
use crate::error::Result;
use crate::model::log::{Record, Stream};
use std::io::Write;

/// Bytes collected before they are written.
const BLOCK: usize = 64 * 1024;

pub(super) struct Printer<'a> {
    span: Span,
    timestamps: bool,
    out: Output<'a>,
    err: Output<'a>,
    /// Text of `stream` that has not been written yet. A change of streams writes it, so that both can go to one
    /// terminal in order.
    buffer: Vec<u8>,
    stream: Stream,
    /// A damaged line has been met, and told of.
    damaged: bool,
}

struct Output<'a> {
    to: &'a mut dyn Write,
    /// The last record ended within a line.
    in_line: bool,
}

impl<'a> Printer<'a> {
    pub(super) fn new(span: Span, timestamps: bool, out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        let output = |to| Output { to, in_line: false };
        let (out, err) = (output(out), output(err));
        Printer {
            span,
            timestamps,
            out,
            err,
            buffer: Vec::new(),
            stream: Stream::Stdout,
            damaged: false,
        }
    }

    /// Goes on where another one has ended, on the same outputs.
    pub(super) fn resume(&mut self, (out, err): (bool, bool)) {
        self.out.in_line = out;
        self.err.in_line = err;
    }

    /// Whether the outputs are within a line.
    pub(super) fn in_lines(&self) -> (bool, bool) {
        (self.out.in_line, self.err.in_line)
    }

    pub(super) fn span(&self) -> Span {
        self.span
    }

    /// Takes one line of the log file. `false` if what follows is later than what is wanted.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<bool> {
        let Some(record) = Record::parse(line) else {
            return self.damaged_line(line);
        };
        if !self.span.contains(record.time) {
            return Ok(!self.span.is_long_after(record.time));
        }
        if record.stream != self.stream {
            self.write()?;
            self.stream = record.stream;
        }
        let before = self.buffer.len();
        if self.timestamps && !self.output().in_line {
            self.buffer.extend_from_slice(record.time.as_bytes());
            self.buffer.push(b' ');
        }
        if record.decode(&mut self.buffer).is_none() {
            self.buffer.truncate(before);
            return self.damaged_line(line);
        }
        self.output().in_line = self.buffer.last() != Some(&b'\n');
        if self.buffer.len() >= BLOCK {
            self.write()?;
        }
        Ok(true)
    }

    /// Everything taken so far is out when this returns.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.write()?;
        self.out.to.flush()?;
        self.err.to.flush()?;
        Ok(())
    }

    fn output(&mut self) -> &mut Output<'a> {
        match self.stream {
            Stream::Stdout => &mut self.out,
            Stream::Stderr => &mut self.err,
        }
    }

    fn write(&mut self) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        let output = self.output();
        output.to.write_all(&buffer)?;
        output.to.flush()?;
        self.buffer = buffer;
        self.buffer.clear();
        Ok(())
    }

    fn damaged_line(&mut self, line: &[u8]) -> Result<bool> {
        if !self.damaged && !line.is_empty() {
            self.damaged = true;
            self.write()?;
            writeln!(self.err.to, "barge: the log has a damaged line, which is left out")?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::log::Encoder;

    const NO_SPAN: Span = Span {
        since: None,
        until: None,
        early: None,
        late: None,
    };

    fn record(stream: Stream, second: i64, text: &str) -> Vec<u8> {
        let mut line = Vec::new();
        let at = crate::model::time::Timestamp::from_second(second).unwrap();
        Encoder::new(stream, at).record(text.as_bytes(), &mut line);
        line.pop();
        line
    }

    fn print(span: Span, timestamps: bool, lines: &[Vec<u8>]) -> (String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut printer = Printer::new(span, timestamps, &mut out, &mut err);
        for line in lines {
            printer.line(line).unwrap();
        }
        printer.flush().unwrap();
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn streams_stay_apart_and_damage_is_told_once() {
        let (o, e) = (Stream::Stdout, Stream::Stderr);
        let lines = [
            record(o, 0, "a\n"),
            record(e, 0, "b\n"),
            b"{\"log\":\"x".to_vec(),
            b"junk".to_vec(),
            record(o, 0, "c"),
        ];
        let (out, err) = print(NO_SPAN, false, &lines);
        assert_eq!(out, "a\nc");
        assert_eq!(err, "b\nbarge: the log has a damaged line, which is left out\n");
    }

    #[test]
    fn times_stand_before_lines_not_before_pieces() {
        let lines = [
            record(Stream::Stdout, 0, "a"),
            record(Stream::Stdout, 1, "b\n"),
            record(Stream::Stdout, 2, "c\n"),
        ];
        let (out, _) = print(NO_SPAN, true, &lines);
        assert_eq!(
            out,
            "1970-01-01T00:00:00.000000000Z ab\n1970-01-01T00:00:02.000000000Z c\n"
        );
    }

    #[test]
    fn since_is_included_until_is_not() {
        let at = |s| Some(crate::model::time::Timestamp::from_second(s).unwrap());
        let lines: Vec<_> = (0..5).map(|s| record(Stream::Stdout, s, &format!("{s}\n"))).collect();
        assert_eq!(print(Span::new(at(1), at(3)), false, &lines).0, "1\n2\n");
    }
}
