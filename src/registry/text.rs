//! Foreign text on its way into a message: what a registry answers must not write to a terminal what it likes.

use std::fmt::Write as _;

/// Longest piece of an answer that is worth showing.
const LONGEST: usize = 300;

/// One line without control characters, at most 300 characters.
pub(crate) fn clean(text: &str) -> String {
    let mut out = String::new();
    for (count, c) in text.trim().chars().enumerate() {
        if count == LONGEST {
            out.push('…');
            break;
        }
        match c {
            '\n' | '\t' => out.push(' '),
            // The directional marks can make a line read backwards.
            c if c.is_control()
                || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                let _ = write!(out, "{}", c.escape_unicode());
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_a_terminal_raw() {
        assert_eq!(
            clean(" a\nb\u{1b}[2J\r\u{9b}\u{202e}ü "),
            "a b\\u{1b}[2J\\u{d}\\u{9b}\\u{202e}ü"
        );
        assert_eq!(clean(&"x".repeat(9999)).chars().count(), 301);
    }
}
