//! Bytes of a Dockerfile → logical lines: comments and continuations are gone, every character still knows its place.

use crate::build::place::{Place, Source, Word};
use crate::error::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// Of a whole Dockerfile. Docker's parser takes lines of 64 kB; generated ones are longer.
pub(crate) const MAX_BYTES: usize = 4 << 20;
/// Of one instruction, without its heredocs.
const MAX_LINE: usize = 1 << 20;

/// One instruction as text.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) text: String,
    source: Arc<Source>,
    /// From which byte of `text` on a piece of a physical line stands, and where that piece begins.
    pieces: Vec<Piece>,
    /// An empty line that was skipped in a continuation.
    pub(super) empty_continuation: Option<Place>,
}

#[derive(Debug)]
struct Piece {
    offset: usize,
    line: usize,
    /// Bytes before it in its physical line.
    skipped: usize,
}

impl Line {
    /// Where the byte at `offset` of the text stands.
    pub(super) fn place(&self, offset: usize) -> Place {
        let at = self.pieces.partition_point(|p| p.offset <= offset).saturating_sub(1);
        let Some(piece) = self.pieces.get(at) else {
            return place(&self.source, 0, 0);
        };
        let physical = self.source.lines.get(piece.line).map_or("", String::as_str);
        let byte = (piece.skipped + offset - piece.offset).min(physical.len());
        place(&self.source, piece.line, byte)
    }

    pub(super) fn word(&self, range: Range<usize>) -> Word {
        Word {
            place: self.place(range.start),
            text: self.text[range].to_owned(),
        }
    }

    /// An error about a range.
    pub(super) fn error(&self, range: Range<usize>, message: impl std::fmt::Display) -> Error {
        let width = self.text.get(range.clone()).map_or(1, |t| t.chars().count());
        self.place(range.start).error_at(width, message)
    }
}

fn place(source: &Arc<Source>, line: usize, offset: usize) -> Place {
    Place {
        source: Arc::clone(source),
        line: line + 1,
        offset,
    }
}

/// Reads line by line. The parser asks for heredocs, since only it knows whether an instruction may have them.
pub(super) struct Lexer {
    source: Arc<Source>,
    /// Comments that were not UTF-8: no part of a heredoc.
    damaged: Vec<usize>,
    next: usize,
    pub(super) escape: char,
}

impl Lexer {
    pub(super) fn new(name: &str, bytes: &[u8]) -> Result<Lexer> {
        if bytes.len() > MAX_BYTES {
            return Err(Error::other(format!(
                "{name}: larger than {} MiB, which no Dockerfile is",
                MAX_BYTES >> 20
            )));
        }
        if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
            return Err(Error::other(format!("{name}: it is UTF-16")).with_hint("save it as UTF-8"));
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut source = Source {
            name: name.to_owned(),
            lines: Vec::new(),
        };
        let mut damaged = Vec::new();
        let mut bad = None;
        let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        for (number, line) in body.split(|b| *b == b'\n').enumerate() {
            source.lines.push(match std::str::from_utf8(line) {
                Ok(text) => text.to_owned(),
                Err(e) => {
                    if line.trim_ascii_start().starts_with(b"#") {
                        damaged.push(number);
                    } else if bad.is_none() {
                        bad = Some((number, e.valid_up_to(), line[e.valid_up_to()]));
                    }
                    String::from_utf8_lossy(line).into_owned()
                }
            });
        }
        let source = Arc::new(source);
        if let Some((line, column, byte)) = bad {
            return Err(place(&source, line, column)
                .error(format!("byte {byte:#04x} is not UTF-8"))
                .with_hint("a Dockerfile is text in UTF-8"));
        }
        if let Some((number, column)) = source
            .lines
            .iter()
            .enumerate()
            .find_map(|(n, line)| Some((n, line.find('\0')?)))
        {
            return Err(place(&source, number, column)
                .error("a NUL character")
                .with_hint("a Dockerfile is text"));
        }
        Ok(Lexer {
            source,
            damaged,
            next: 0,
            escape: '\\',
        })
    }

    /// The physical line that comes next, without moving on.
    pub(super) fn peek(&self) -> Option<(Place, &str)> {
        let text = self.source.lines.get(self.next)?;
        Some((place(&self.source, self.next, 0), text))
    }

    pub(super) fn skip(&mut self) {
        self.next += 1;
    }

    /// The next instruction.
    pub(super) fn line(&mut self) -> Result<Option<Line>> {
        let mut line = Line {
            text: String::new(),
            source: Arc::clone(&self.source),
            pieces: Vec::new(),
            empty_continuation: None,
        };
        let source = Arc::clone(&self.source);
        let mut empty = None;
        let mut continued = false;
        while let Some(physical) = source.lines.get(self.next) {
            let number = self.next;
            self.next += 1;
            let text = physical.trim_end_matches('\r');
            let inner = text.trim_start();
            if inner.starts_with('#') {
                continue;
            }
            if inner.is_empty() {
                if continued && empty.is_none() {
                    empty = Some(place(&source, number, 0));
                }
                continue;
            }
            // Only at the beginning of an instruction blanks do not count.
            let skipped = if line.text.is_empty() {
                text.len() - inner.len()
            } else {
                0
            };
            let (kept, goes_on) = continuation(&text[skipped..], self.escape);
            if continued && line.empty_continuation.is_none() {
                line.empty_continuation = empty.take();
            }
            line.pieces.push(Piece {
                offset: line.text.len(),
                line: number,
                skipped,
            });
            line.text.push_str(kept);
            if line.text.len() > MAX_LINE {
                return Err(line
                    .place(0)
                    .error(format!("an instruction of more than {} MiB", MAX_LINE >> 20)));
            }
            continued = goes_on;
            if !goes_on {
                break;
            }
        }
        Ok((!line.text.trim().is_empty()).then_some(line))
    }

    /// The lines up to `name`; with `strip_tabs` it may be indented by tabs. `None` if it does not come.
    pub(super) fn heredoc(&mut self, name: &str, strip_tabs: bool) -> Result<Option<String>> {
        let source = Arc::clone(&self.source);
        let mut text = String::new();
        while let Some(line) = source.lines.get(self.next) {
            let number = self.next;
            self.next += 1;
            let mut end = line.trim_end_matches('\r');
            if strip_tabs {
                end = end.trim_start_matches('\t');
            }
            if end == name {
                return Ok(Some(text));
            }
            if self.damaged.binary_search(&number).is_ok() {
                return Err(place(&source, number, 0).error("text that is not UTF-8"));
            }
            text.push_str(line);
            text.push('\n');
        }
        Ok(None)
    }
}

/// The line without its continuation character, and whether it had one. Two of them at the end are none.
fn continuation(text: &str, escape: char) -> (&str, bool) {
    let bare = text.trim_end_matches([' ', '\t']);
    match bare.strip_suffix(escape) {
        Some(before) if !before.ends_with(escape) => (before, true),
        _ => (text, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        let mut lexer = Lexer::new("Dockerfile", text.as_bytes()).unwrap();
        let mut all = Vec::new();
        while let Some(line) = lexer.line().unwrap() {
            all.push(line.text);
        }
        all
    }

    #[test]
    fn continuations_and_comments() {
        for (text, want) in [
            ("FROM a\nRUN b", &["FROM a", "RUN b"][..]),
            ("\n\n  FROM a  \n", &["FROM a  "]),
            ("RUN a \\\n  b", &["RUN a   b"]),
            ("RUN a\\\nb\\  \nc", &["RUN abc"]),
            ("RUN a \\\n# no\n  # no\n b\n# c\nRUN d", &["RUN a  b", "RUN d"]),
            ("RUN a \\\n\n\n b", &["RUN a  b"]),
            ("RUN a \\", &["RUN a "]),
            ("RUN a \\\\\nb", &["RUN a \\\\", "b"]),
            ("\\\nRUN a", &["RUN a"]),
            ("\\", &[]),
            ("RUN a # b", &["RUN a # b"]),
            ("RUN a\r\nRUN b \\\r\n c\r\n", &["RUN a", "RUN b  c"]),
            ("\u{feff}FROM a", &["FROM a"]),
            ("# c", &[]),
            ("", &[]),
            ("RUN a\\n\\n", &["RUN a\\n\\n"]),
        ] {
            assert_eq!(lines(text), want, "{text:?}");
        }
    }

    #[test]
    fn places_survive_joining() {
        let mut lexer = Lexer::new("D", "# c\n  RUN é \\\n\n   wörld x".as_bytes()).unwrap();
        let line = lexer.line().unwrap().unwrap();
        assert_eq!(line.text, "RUN é    wörld x");
        let at = |what: &str| line.place(line.text.find(what).unwrap()).to_string();
        assert_eq!(at("RUN"), "D:2:3");
        assert_eq!(at("é"), "D:2:7");
        assert_eq!(at("wörld"), "D:4:4");
        assert_eq!(at("x"), "D:4:10");
        assert_eq!(line.empty_continuation.unwrap().to_string(), "D:3:1");
    }

    #[test]
    fn what_is_no_text_is_refused_with_its_place() {
        for (bytes, why) in [
            (&b"FROM a\nRUN \xff"[..], "Dockerfile:2:5: byte 0xff is not UTF-8"),
            (b"FROM a\nRUN a\0b", "Dockerfile:2:6: a NUL character"),
            (b"\xff\xfeF\0", "Dockerfile: it is UTF-16"),
        ] {
            let e = Lexer::new("Dockerfile", bytes).err().unwrap();
            assert_eq!(e.to_string(), why);
        }
        assert!(Lexer::new("D", b"# caf\xe9\nFROM a").is_ok());
        let huge = vec![b'a'; MAX_BYTES + 1];
        assert!(Lexer::new("D", &huge).err().unwrap().to_string().contains("4 MiB"));
        let mut long = Lexer::new("D", &vec![b'a'; MAX_LINE + 1]).unwrap();
        assert!(long.line().unwrap_err().to_string().contains("1 MiB"));
    }

    #[test]
    fn heredocs_end_at_their_name() {
        let text = "RUN <<A\nx\r\n A\n\tA\nA\r\nRUN b";
        let mut lexer = Lexer::new("D", text.as_bytes()).unwrap();
        lexer.line().unwrap();
        assert_eq!(lexer.heredoc("A", false).unwrap().unwrap(), "x\r\n A\n\tA\n");
        assert_eq!(lexer.line().unwrap().unwrap().text, "RUN b");
        let mut lexer = Lexer::new("D", text.as_bytes()).unwrap();
        lexer.line().unwrap();
        assert_eq!(lexer.heredoc("A", true).unwrap().unwrap(), "x\r\n A\n");
        assert_eq!(lexer.heredoc("B", true).unwrap(), None);
    }
}
