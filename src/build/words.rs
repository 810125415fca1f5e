//! Words of an instruction, as ranges of its text, so that each of them keeps its place (pure).

use std::ops::Range;

/// What [`quoted`] found.
pub(super) struct Quoted {
    pub(super) words: Vec<Range<usize>>,
    /// Whether all quotes were closed.
    pub(super) closed: bool,
}

/// Blanks between words that know no quotes. Not every blank that Unicode has.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0b' | '\x0c' | '\r')
}

/// Split at blanks, nothing else.
pub(super) fn blank(text: &str, within: Range<usize>) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    for (i, c) in text[within.clone()].char_indices() {
        let at = within.start + i;
        match (is_blank(c), start) {
            (true, Some(from)) => {
                words.push(from..at);
                start = None;
            }
            (false, None) => start = Some(at),
            _ => {}
        }
    }
    words.extend(start.map(|from| from..within.end));
    words
}

/// The first word and what follows, without the blanks between and at the end.
pub(super) fn first(text: &str, within: Range<usize>) -> (Range<usize>, Range<usize>) {
    let within = trimmed(text, within);
    let body = &text[within.clone()];
    let end = body.find(is_blank).map_or(within.end, |at| within.start + at);
    (within.start..end, trimmed(text, end..within.end))
}

/// Without blanks at both ends.
pub(super) fn trimmed(text: &str, within: Range<usize>) -> Range<usize> {
    let body = &text[within.clone()];
    let start = within.start + (body.len() - body.trim_start().len());
    let end = within.start + body.trim_end().len();
    start..end.max(start)
}

/// Split at blanks outside of `'…'` and `"…"`; the quotes and escapes stay in the words.
pub(super) fn quoted(text: &str, within: Range<usize>, escape: char) -> Quoted {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut chars = text[within.clone()].char_indices();
    while let Some((i, c)) = chars.next() {
        let at = within.start + i;
        match quote {
            None if c.is_whitespace() => {
                words.extend(start.take().map(|from| from..at));
                continue;
            }
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(q) if c == q => quote = None,
            // Nothing is escaped between single quotes.
            Some('\'') => {}
            _ if c == escape => {
                chars.next();
            }
            _ => {}
        }
        start.get_or_insert(at);
    }
    words.extend(start.map(|from| from..within.end));
    Quoted {
        words,
        closed: quote.is_none(),
    }
}

/// A word without its quotes and escapes; `$` is nothing special.
pub(super) fn unquote(word: &str, escape: char) -> String {
    let mut out = String::with_capacity(word.len());
    let mut quote = None;
    let mut chars = word.chars();
    while let Some(c) = chars.next() {
        match quote {
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(q) if c == q => quote = None,
            Some('\'') => out.push(c),
            _ if c == escape => out.extend(chars.next()),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_quotes() {
        let all = |text: &str| {
            let found = quoted(text, 0..text.len(), '\\');
            found.words.into_iter().map(|r| text[r].to_owned()).collect::<Vec<_>>()
        };
        for (text, want) in [
            ("a b  c", &["a", "b", "c"][..]),
            ("a=\"b c\" d", &["a=\"b c\"", "d"]),
            ("a='b \\' c", &["a='b \\'", "c"]),
            ("a=b\\ c", &["a=b\\ c"]),
            ("a=\"b\\\" c\" d", &["a=\"b\\\" c\"", "d"]),
            ("'' x", &["''", "x"]),
            ("a\\", &["a\\"]),
            ("\"open it", &["\"open it"]),
            ("  ", &[]),
        ] {
            assert_eq!(all(text), want, "{text}");
        }
        assert!(!quoted("'a", 0..2, '\\').closed);
        let text = "a\u{a0}b\tc";
        assert_eq!(blank(text, 0..text.len()).len(), 2);
        assert_eq!(first("  RUN\t x y ", 0..11), (2..5, 7..10));
        assert_eq!(first("RUN", 0..3), (0..3, 3..3));
        assert_eq!(unquote("a\"b 'c\"'d\\'\\e", '\\'), "ab 'cd\\e");
    }
}
