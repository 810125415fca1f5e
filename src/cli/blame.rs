//! Which flag an error is about. Values are read by functions that know no flag, and say what docker says of them; the
//! flag is the one whose value is in what they say.

use crate::error::Error;
use clap::ArgMatches;

/// Puts the flag before an error that names none.
pub(super) fn flag(m: &ArgMatches, error: Error) -> Error {
    let text = error.to_string();
    if text.contains("--") {
        return error;
    }
    let values = m
        .ids()
        .map(clap::Id::as_str)
        // Positionals have names in capitals.
        .filter(|id| id.starts_with(|c: char| c.is_ascii_lowercase()))
        .filter_map(|id| Some((id, m.get_raw(id)?)))
        .flat_map(|(id, values)| values.map(move |value| (id, value.to_string_lossy().into_owned())));
    match named(&text, values) {
        Some(flag) => error.wrap(format!("--{flag}")),
        None => error,
    }
}

/// The flag with the longest value, or part of one, that stands in the text; best in quotes.
fn named<'a>(text: &str, values: impl Iterator<Item = (&'a str, String)>) -> Option<&'a str> {
    let mut best: Option<((bool, usize), &str)> = None;
    for (flag, value) in values {
        let parts = [Some(&*value)]
            .into_iter()
            .chain(
                ['=', ':', ',', '.']
                    .iter()
                    .flat_map(|separator| match value.split_once(*separator) {
                        Some((before, after)) => [Some(before), Some(after)],
                        None => [None, None],
                    }),
            )
            .flatten();
        let shown = parts.filter(|part| !part.is_empty());
        let shown = shown.filter_map(|part| Some((stands_in(text, part)?, part.len())));
        if let Some(found) = shown.max()
            && best.is_none_or(|(other, _)| found > other)
        {
            best = Some((found, flag));
        }
    }
    best.map(|(_, flag)| flag)
}

/// Whether it stands there as a word of its own, as it is or as errors show it; and then, whether in quotes.
fn stands_in(text: &str, word: &str) -> Option<bool> {
    let around = |at: usize, length: usize| {
        let before = text[..at].chars().next_back();
        let after = text[at + length..].chars().next();
        let alone = [before, after].iter().flatten().all(|c| !c.is_alphanumeric());
        alone.then_some(matches!(before, Some('\'' | '"')))
    };
    [word.to_owned(), word.escape_debug().to_string()]
        .iter()
        .flat_map(|shown| text.match_indices(shown.as_str()))
        .filter_map(|(at, shown)| around(at, shown.len()))
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_whose_value_is_shown() {
        for (text, values, expected) in [
            (
                "invalid signal: FOO",
                &[("stop-signal", "FOO")][..],
                Some("stop-signal"),
            ),
            ("invalid signal: FOO", &[("name", "O"), ("user", "sign")], None),
            (
                "unknown log opt 'x' for json-file",
                &[("log-driver", "json-file"), ("log-opt", "x=y")],
                Some("log-opt"),
            ),
            ("read a\\nb: gone", &[("env-file", "a\nb")], Some("env-file")),
            (
                "/a is no place",
                &[("tmpfs", "/a:size=1"), ("volume", "/ab")],
                Some("tmpfs"),
            ),
            ("", &[("x", "")], None),
        ] {
            let values = values.iter().map(|(flag, value)| (*flag, (*value).to_owned()));
            assert_eq!(named(text, values), expected, "{text}");
        }
    }
}
