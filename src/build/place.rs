//! Where something stands in a Dockerfile, and errors that show it: `Dockerfile:3:5: …`, the line below.

use crate::error::Error;
use std::fmt;
use std::sync::Arc;

/// Longest piece of a line that an error shows, in characters.
const SHOWN: usize = 160;

/// The text that places point into.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// As errors call it: `Dockerfile`, `docker/web.Dockerfile`, `-`, `ONBUILD of debian:12`.
    pub(crate) name: String,
    pub(crate) lines: Vec<String>,
}

/// A character of a Dockerfile.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) source: Arc<Source>,
    /// From 1.
    pub(crate) line: usize,
    /// Bytes before it in its line. Columns are counted only when somebody is told: a line may have very many places.
    pub(crate) offset: usize,
}

impl Place {
    /// `message`, with the place before it and the line below it.
    pub(crate) fn error(&self, message: impl fmt::Display) -> Error {
        self.show(Error::other(format!("{self}: {message}")), 1)
    }

    /// The same, with `width` characters marked.
    pub(crate) fn error_at(&self, width: usize, message: impl fmt::Display) -> Error {
        self.show(Error::other(format!("{self}: {message}")), width)
    }

    /// What stands in the line, without its end.
    pub(crate) fn text(&self) -> &str {
        self.source
            .lines
            .get(self.line.saturating_sub(1))
            .map_or("", String::as_str)
    }

    /// The comment right above it, without its `#`: what it is for, perhaps.
    pub(crate) fn comment_above(&self) -> Option<String> {
        let above = self.source.lines.get(self.line.checked_sub(2)?)?;
        let comment = above.trim().strip_prefix('#')?.trim_start_matches('#').trim();
        (!comment.is_empty()).then(|| comment.to_owned())
    }

    /// In characters, from 1.
    pub(crate) fn column(&self) -> usize {
        let text = self.text();
        text.get(..self.offset).unwrap_or(text).chars().count() + 1
    }

    fn show(&self, error: Error, width: usize) -> Error {
        let text = self.text();
        let column = self.column();
        if text.is_empty() {
            return error;
        }
        // A very long line is shown around the place.
        let from = (column - 1).saturating_sub(SHOWN / 2);
        let piece: String = text
            .chars()
            .skip(if text.chars().count() > SHOWN { from } else { 0 })
            .take(SHOWN)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let before = if text.chars().count() > SHOWN {
            column - 1 - from
        } else {
            column - 1
        };
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let marks = "^".repeat(width.clamp(1, SHOWN.saturating_sub(before).max(1)));
        error.with_shown(format!(
            "  {number} | {piece}\n  {margin} | {}{marks}",
            " ".repeat(before)
        ))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.source.name, self.line, self.column())
    }
}

/// Short: a parsed Dockerfile has thousands of them.
impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.offset)
    }
}

/// A piece of text with its place.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) place: Place,
}

impl std::ops::Deref for Word {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, column: usize) -> Place {
        Place {
            source: Arc::new(Source {
                name: "Dockerfile".into(),
                lines: vec!["FROM x".into(), text.into()],
            }),
            line: 2,
            offset: column - 1,
        }
    }

    #[test]
    fn an_error_shows_its_line() {
        let e = place("RUNN make", 1).error_at(4, "unknown instruction 'RUNN'");
        assert_eq!(e.to_string(), "Dockerfile:2:1: unknown instruction 'RUNN'");
        assert_eq!(e.shown().unwrap(), "  2 | RUNN make\n    | ^^^^");
        let e = place("COPY --form=x a\tb", 6).error("x");
        assert_eq!(e.shown().unwrap(), "  2 | COPY --form=x a b\n    |      ^");
    }

    #[test]
    fn a_very_long_line_is_shown_around_the_place() {
        let text = format!("{}X{}", "a".repeat(5000), "b".repeat(5000));
        let e = place(&text, 5001).error("x");
        let shown = e.shown().unwrap();
        assert!(shown.len() < 400, "{shown}");
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0].find('X'), lines[1].find('^'));
    }
}
