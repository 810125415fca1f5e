//! One record of a container's log (`containers/<id>/log.json`), in the form of docker's json-file driver, one line each:
//!
//! ```text
//! {"log":"text\n","stream":"stdout","time":"2026-01-02T03:04:05.123456789Z"}
//! ```
//!
//! The keys have this order, the time always nine digits and `Z`, so that records compare by their bytes. Output is
//! bytes: UTF-8 stands as it is, quotes, backslashes and control characters are escaped, and a byte that is not part of
//! UTF-8 becomes the lone surrogate `\udc80` to `\udcff` (Python's "surrogateescape"), which UTF-8 can't contain: what
//! is read is what was written. A record without `\n` at its end is a piece of a line that goes on in the next record
//! of the same stream.

use crate::model::time::Timestamp;

/// Which of the container's outputs. A terminal has only `Stdout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

const HEAD: &[u8] = b"{\"log\":\"";
/// Bytes of a time.
const TIME: usize = 30;
const STDOUT: &[u8] = b"\",\"stream\":\"stdout\",\"time\":\"";
const STDERR: &[u8] = b"\",\"stream\":\"stderr\",\"time\":\"";
const END: &[u8] = b"\"}";

impl Stream {
    fn middle(self) -> &'static [u8] {
        match self {
            Stream::Stdout => STDOUT,
            Stream::Stderr => STDERR,
        }
    }
}

/// A point in time as records have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp([u8; TIME]);

impl Stamp {
    pub(crate) fn new(at: Timestamp) -> Self {
        let text = format!("{at:.9}");
        let mut stamp = *b"0000-00-00T00:00:00.000000000Z";
        // Years before 0 or after 9999 have another length; no clock says so.
        if text.len() == TIME {
            stamp.copy_from_slice(text.as_bytes());
        }
        Stamp(stamp)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Any RFC 3339 time, as other writers of the format have it.
    fn parse(text: &[u8]) -> Option<Self> {
        std::str::from_utf8(text).ok()?.parse().ok().map(Stamp::new)
    }
}

/// Writes records of one stream and one moment.
#[derive(Debug)]
pub(crate) struct Encoder {
    pub(crate) stream: Stream,
    /// What follows the text, newline included.
    tail: [u8; STDOUT.len() + TIME + END.len() + 1],
}

impl Encoder {
    pub(crate) fn new(stream: Stream, at: Timestamp) -> Self {
        let mut tail = [b'\n'; STDOUT.len() + TIME + END.len() + 1];
        let (middle, rest) = tail.split_at_mut(STDOUT.len());
        middle.copy_from_slice(stream.middle());
        rest[..TIME].copy_from_slice(Stamp::new(at).as_bytes());
        rest[TIME..TIME + END.len()].copy_from_slice(END);
        Encoder { stream, tail }
    }

    /// Appends a record.
    pub(crate) fn record(&self, text: &[u8], to: &mut Vec<u8>) {
        to.reserve(HEAD.len() + text.len() + 2 + self.tail.len());
        to.extend_from_slice(HEAD);
        let (line, newline) = match text.split_last() {
            Some((b'\n', line)) => (line, true),
            _ => (text, false),
        };
        if is_plain(line) {
            to.extend_from_slice(line);
        } else {
            escape(line, to);
        }
        if newline {
            to.extend_from_slice(b"\\n");
        }
        to.extend_from_slice(&self.tail);
    }
}

/// Whether JSON takes a byte of a string as it is, ASCII being the simple case.
fn is_plain_byte(b: u8) -> bool {
    (0x20..0x80).contains(&b) && b != b'"' && b != b'\\'
}

/// Without a branch per byte, so that the compiler can use vectors.
fn is_plain(text: &[u8]) -> bool {
    text.chunks(64)
        .all(|block| block.iter().fold(true, |all, b| all & is_plain_byte(*b)))
}

fn escape(text: &[u8], to: &mut Vec<u8>) {
    let mut rest = text;
    while !rest.is_empty() {
        let (valid, invalid) = match std::str::from_utf8(rest) {
            Ok(_) => (rest, &[][..]),
            Err(e) => {
                let (valid, after) = rest.split_at(e.valid_up_to());
                (valid, &after[..e.error_len().unwrap_or(after.len())])
            }
        };
        escape_utf8(valid, to);
        for b in invalid {
            hex_escape(b"\\udc", *b, to);
        }
        rest = &rest[valid.len() + invalid.len()..];
    }
}

fn escape_utf8(text: &[u8], to: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|b| *b < 0x20 || *b == b'"' || *b == b'\\') {
        to.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'\n' => to.extend_from_slice(b"\\n"),
            b'\r' => to.extend_from_slice(b"\\r"),
            b'\t' => to.extend_from_slice(b"\\t"),
            b @ (b'"' | b'\\') => to.extend_from_slice(&[b'\\', b]),
            b => hex_escape(b"\\u00", b, to),
        }
        rest = &rest[at + 1..];
    }
    to.extend_from_slice(rest);
}

fn hex_escape(prefix: &[u8; 4], b: u8, to: &mut Vec<u8>) {
    let digit = |n: u8| b"0123456789abcdef"[usize::from(n & 15)];
    to.extend_from_slice(prefix);
    to.extend_from_slice(&[digit(b >> 4), digit(b)]);
}

/// A record without its text, which is left encoded: skipping and counting need no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) stream: Stream,
    pub(crate) time: Stamp,
    /// Between the quotes.
    encoded: &'a [u8],
}

impl<'a> Record<'a> {
    /// From a line without its newline. `None` if it is not a whole record.
    pub(crate) fn parse(line: &'a [u8]) -> Option<Self> {
        Record::parse_own(line).or_else(|| Record::parse_any(line))
    }

    /// The form this engine writes, where everything but the text has a fixed length.
    fn parse_own(line: &'a [u8]) -> Option<Self> {
        let rest = line.strip_prefix(HEAD)?.strip_suffix(END)?;
        let (rest, time) = rest.split_last_chunk::<TIME>()?;
        let (encoded, middle) = rest.split_at_checked(rest.len().checked_sub(STDOUT.len())?)?;
        let stream = match middle {
            STDOUT => Stream::Stdout,
            STDERR => Stream::Stderr,
            _ => return None,
        };
        (time[TIME - 1] == b'Z' && time[19] == b'.').then_some(Record {
            stream,
            time: Stamp(*time),
            encoded,
        })
    }

    /// Any JSON object with these three keys, as docker writes it (shorter times, further keys).
    fn parse_any(line: &'a [u8]) -> Option<Self> {
        let mut scan = Scan { rest: line };
        let (mut encoded, mut stream, mut time) = (None, None, None);
        scan.expect(b'{')?;
        loop {
            let key = scan.string()?;
            scan.expect(b':')?;
            match key {
                b"log" => encoded = Some(scan.string()?),
                b"stream" => {
                    stream = match scan.string()? {
                        b"stdout" => Some(Stream::Stdout),
                        b"stderr" => Some(Stream::Stderr),
                        _ => return None,
                    }
                }
                b"time" => time = Some(Stamp::parse(scan.string()?)?),
                _ => scan.skip_value()?,
            }
            if scan.expect(b',').is_none() {
                break;
            }
        }
        scan.expect(b'}')?;
        scan.rest.trim_ascii().is_empty().then_some(())?;
        Some(Record {
            stream: stream?,
            time: time?,
            encoded: encoded?,
        })
    }

    /// Whether the text ends a line.
    pub(crate) fn ends_line(&self) -> bool {
        // `\\n` is a backslash and an n.
        self.encoded
            .strip_suffix(b"\\n")
            .is_some_and(|before| before.iter().rev().take_while(|b| **b == b'\\').count() % 2 == 0)
    }

    /// Appends the text's bytes. `None`, with nothing appended, if it is not a JSON string.
    #[must_use]
    pub(crate) fn decode(&self, to: &mut Vec<u8>) -> Option<()> {
        let start = to.len();
        let mut rest = self.encoded;
        while let Some(at) = memchr::memchr2(b'\\', b'"', rest) {
            to.extend_from_slice(&rest[..at]);
            let Some(after) = unescape(&rest[at..], to) else {
                to.truncate(start);
                return None;
            };
            rest = after;
        }
        to.extend_from_slice(rest);
        Some(())
    }
}

/// Takes one escape sequence off `text`, which starts with a backslash.
fn unescape<'a>(text: &'a [u8], to: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (b'\\', [kind, rest @ ..]) = text.split_first()? else {
        return None;
    };
    to.push(match kind {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'f' => 0x0c,
        b'"' | b'\\' | b'/' => *kind,
        b'u' => return unescape_unit(rest, to),
        _ => return None,
    });
    Some(rest)
}

/// `rest` starts with the four digits.
fn unescape_unit<'a>(rest: &'a [u8], to: &mut Vec<u8>) -> Option<&'a [u8]> {
    let unit = |text: &'a [u8]| {
        let (digits, rest) = text.split_first_chunk::<4>()?;
        let digits = std::str::from_utf8(digits).ok()?;
        Some((u32::from(u16::from_str_radix(digits, 16).ok()?), rest))
    };
    let (first, rest) = unit(rest)?;
    let (code, rest) = match first {
        0xdc80..=0xdcff => {
            to.push(u8::try_from(first - 0xdc00).ok()?);
            return Some(rest);
        }
        0xd800..=0xdbff => match rest.strip_prefix(b"\\u").and_then(unit) {
            Some((second @ 0xdc00..=0xdfff, after)) => (0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00), after),
            _ => (0xfffd, rest),
        },
        _ => (first, rest),
    };
    let text = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    to.extend_from_slice(text.encode_utf8(&mut [0; 4]).as_bytes());
    Some(rest)
}

/// Just enough of JSON to find a string in an object.
struct Scan<'a> {
    rest: &'a [u8],
}

impl<'a> Scan<'a> {
    fn expect(&mut self, b: u8) -> Option<()> {
        self.rest = self.rest.trim_ascii_start().strip_prefix(&[b])?;
        Some(())
    }

    /// A string, still encoded.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let text = self.rest;
        let mut at = 0;
        loop {
            at += memchr::memchr2(b'\\', b'"', &text[at..])?;
            if text[at] == b'"' {
                self.rest = &text[at + 1..];
                return Some(&text[..at]);
            }
            at += 2;
            text.get(at..)?;
        }
    }

    fn skip_value(&mut self) -> Option<()> {
        let mut depth = 0;
        loop {
            self.rest = self.rest.trim_ascii_start();
            match *self.rest.first()? {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.rest = &self.rest[1..];
                }
                b'}' | b']' if depth > 0 => {
                    depth -= 1;
                    self.rest = &self.rest[1..];
                }
                b',' | b':' if depth > 0 => self.rest = &self.rest[1..],
                b'+' | b'-' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'E' => {
                    let len = self
                        .rest
                        .iter()
                        .take_while(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b))
                        .count();
                    self.rest = &self.rest[len..];
                }
                _ => return None,
            }
            if depth == 0 {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(text: &[u8]) -> String {
        let mut line = Vec::new();
        Encoder::new(Stream::Stderr, Timestamp::UNIX_EPOCH).record(text, &mut line);
        String::from_utf8(line).unwrap()
    }

    fn decode(line: &str) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        Record::parse(line.trim_end().as_bytes())?
            .decode(&mut text)
            .map(|()| text)
    }

    #[test]
    fn a_record_is_dockers() {
        let at = "2026-01-02T03:04:05.1Z".parse().unwrap();
        let mut line = Vec::new();
        Encoder::new(Stream::Stdout, at).record(b"hi \"x\"\n", &mut line);
        let expected = r#"{"log":"hi \"x\"\n","stream":"stdout","time":"2026-01-02T03:04:05.100000000Z"}"#;
        assert_eq!(String::from_utf8(line).unwrap(), format!("{expected}\n"));
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let every: Vec<u8> = (0..=255).collect();
        let cases: [&[u8]; 12] = [
            b"",
            b"\n",
            b"plain\n",
            b"no newline",
            b"tab\there\r\n",
            b"\\n",
            b"\\\\n",
            b"nul\0esc\x1b[0m\n",
            "caf\u{e9} \u{1f6a2} \u{ffff}\n".as_bytes(),
            b"\xff\xfe\xc3",
            b"\xed\xb2\x80",
            &every,
        ];
        for text in cases {
            let line = encode(text);
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert_eq!(decode(&line).as_deref(), Some(text), "{line}");
            let record = Record::parse(line.trim_end().as_bytes()).unwrap();
            assert_eq!(record.ends_line(), text.ends_with(b"\n"), "{line}");
            assert_eq!(record.stream, Stream::Stderr);
        }
    }

    #[test]
    fn the_escapes() {
        assert!(encode(b"\x1b\x00\x7f").starts_with("{\"log\":\"\\u001b\\u0000\x7f\""));
        assert!(encode(b"a\xffb").starts_with(r#"{"log":"a\udcffb""#));
        let valid: serde_json::Value = serde_json::from_str(&encode("\u{e9}\t\"\n".as_bytes())).unwrap();
        assert_eq!(valid["log"], "\u{e9}\t\"\n");
    }

    #[test]
    fn records_of_docker_are_read() {
        let line = r#"{"log":"\u003ca\u003e \ud83d\udea2\n","attrs":{"a":["b",-1.5e3,null,{}]},"stream":"stdout","time":"2026-01-02T03:04:05.5Z"}"#;
        assert_eq!(decode(line).as_deref(), Some("<a> \u{1f6a2}\n".as_bytes()));
        let record = Record::parse(line.as_bytes()).unwrap();
        assert_eq!(record.time.as_bytes(), b"2026-01-02T03:04:05.500000000Z");
    }

    #[test]
    fn damaged_lines_are_not_records() {
        let whole = encode(b"some text\n");
        for cut in 1..whole.len() - 1 {
            assert_eq!(decode(&whole[..cut]), None, "{}", &whole[..cut]);
        }
        let twice = format!("{}{}", &whole[..20], whole);
        for line in [
            "",
            "{}",
            "[]",
            "null",
            "{\"log\":1}",
            &twice,
            &whole.replace("text", "te\\xt"),
            &"{".repeat(5000),
        ] {
            assert_eq!(decode(line), None, "{line}");
        }
    }
}
