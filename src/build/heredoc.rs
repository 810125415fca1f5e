//! `<<NAME`: which words of an instruction open a heredoc (pure). Docker's rules: a word of its own, `[n]<<[-]NAME`.

use crate::build::words;

/// What a `<<NAME` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) name: String,
    pub(super) strip_tabs: bool,
    /// No part of the name was quoted.
    pub(super) expand: bool,
}

/// Reads a whole word.
pub(super) fn opening(word: &str) -> Option<Opening> {
    let rest = word
        .trim_start_matches(|c: char| c.is_ascii_digit())
        .strip_prefix("<<")?;
    let (strip_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    if rest.contains('<') {
        return None;
    }
    let whole = words::quoted(rest, 0..rest.len(), '\\');
    if !whole.closed || whole.words.len() != 1 {
        return None;
    }
    let name = words::unquote(rest, '\\');
    let expand = !rest.contains(['\'', '"']);
    (!name.is_empty() && !name.contains(char::is_whitespace)).then_some(Opening {
        name,
        strip_tabs,
        expand,
    })
}

/// All of a line, with the offset of each. A line whose quotes are not closed has none.
pub(super) fn openings(line: &str) -> Vec<(usize, Opening)> {
    let found = words::quoted(line, 0..line.len(), '\\');
    if !found.closed {
        return Vec::new();
    }
    let words = found.words.into_iter();
    words
        .filter_map(|range| Some((range.start, opening(&line[range])?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_words_open_one() {
        for (word, want) in [
            ("<<EOF", Some(("EOF", false, true))),
            ("<<-EOF", Some(("EOF", true, true))),
            ("<<'EOF'", Some(("EOF", false, false))),
            ("<<\"E O\"", None),
            ("<<-\"EOF\"", Some(("EOF", true, false))),
            ("3<<EOF", Some(("EOF", false, true))),
            ("<<E'O'F", Some(("EOF", false, false))),
            ("<<a.txt", Some(("a.txt", false, true))),
            ("<<", None),
            ("<<-", None),
            ("<<<EOF", None),
            ("x<<EOF", None),
            ("\"<<EOF\"", None),
            ("<<'EOF", None),
            ("<", None),
        ] {
            let got = opening(word);
            let got = got.as_ref().map(|o| (o.name.as_str(), o.strip_tabs, o.expand));
            assert_eq!(got, want, "{word}");
        }
    }

    #[test]
    fn which_lines_have_some() {
        for (line, want) in [
            ("RUN <<EOF", 1),
            ("RUN cat <<A >x && cat <<-B", 2),
            ("RUN echo '<<EOF'", 0),
            ("RUN echo \"a <<EOF b\"", 0),
            ("RUN echo it's <<EOF", 0),
            ("RUN echo $((1<<2))", 0),
            ("COPY <<a <<b /x/", 2),
        ] {
            assert_eq!(openings(line).len(), want, "{line}");
        }
    }
}
