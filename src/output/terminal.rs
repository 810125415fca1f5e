//! What a terminal must be protected from.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Text of foreign origin (labels, commands, names of files), fit for a terminal or a table: control characters, which
/// could move the cursor, change the title or type for the user, and the ones that turn the direction of writing are
/// shown as escapes. JSON stays JSON.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unfit) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => clean.push_str("\\n"),
            '\t' => clean.push_str("\\t"),
            c if is_unfit(c) => {
                let _ = match u32::from(c) {
                    code @ 0..0x20 => write!(clean, "\\x{code:02x}"),
                    code => write!(clean, "\\u{code:04x}"),
                };
            }
            c => clean.push(c),
        }
    }
    Cow::Owned(clean)
}

/// [`clean`], but for the line ends and tabs of a text that has several lines.
pub(crate) fn clean_lines(text: &str) -> Cow<'_, str> {
    let unfit = |c| is_unfit(c) && c != '\n' && c != '\t';
    if !text.contains(unfit) {
        return Cow::Borrowed(text);
    }
    text.split_inclusive(['\n', '\t'])
        .map(|part| match part.strip_suffix(['\n', '\t']) {
            Some(body) => clean(body).into_owned() + &part[body.len()..],
            None => clean(part).into_owned(),
        })
        .collect::<String>()
        .into()
}

fn is_unfit(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_shown_not_sent() {
        assert_eq!(clean("caf\u{e9} \u{1f6a2}"), "caf\u{e9} \u{1f6a2}");
        assert_eq!(
            clean("a\x1b[2Jb\n\t\r\u{9b}\u{202e}"),
            "a\\x1b[2Jb\\n\\t\\x0d\\u009b\\u202e"
        );
        assert_eq!(clean_lines("a\tb\n\x07c"), "a\tb\n\\x07c");
        assert_eq!(clean_lines("\x07a\tb\n"), "\\x07a\tb\n");
    }
}
