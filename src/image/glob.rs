//! Shell patterns on names, as Go's `path.Match` has them (pure).

/// Go's `path.Match`: `*` and `?` don't match `/`; `[a-z]`, `[^a]`; `\` quotes. A pattern that is not well formed
/// matches nothing.
pub(crate) fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', rest @ ..] => {
            let reach = text.iter().position(|b| *b == b'/').unwrap_or(text.len());
            (0..=reach).any(|n| glob(rest, &text[n..]))
        }
        [b'[', rest @ ..] => match text {
            [c, text @ ..] if *c != b'/' => class(rest, *c).is_some_and(|(hit, rest)| hit && glob(rest, text)),
            _ => false,
        },
        [b'?', rest @ ..] => matches!(text, [c, text @ ..] if *c != b'/' && glob(rest, text)),
        [b'\\', quoted, rest @ ..] => matches!(text, [c, text @ ..] if c == quoted && glob(rest, text)),
        [literal, rest @ ..] => matches!(text, [c, text @ ..] if c == literal && glob(rest, text)),
    }
}

/// After the `[`: whether `c` is in the class, and the pattern behind it.
fn class(pattern: &[u8], c: u8) -> Option<(bool, &[u8])> {
    let (negated, mut rest) = match pattern {
        [b'^', rest @ ..] => (true, rest),
        _ => (false, pattern),
    };
    let (mut hit, mut first) = (false, true);
    loop {
        match rest {
            [b']', after @ ..] if !first => return Some((hit != negated, after)),
            [low, b'-', high, after @ ..] if *high != b']' => {
                hit |= (*low..=*high).contains(&c);
                rest = after;
            }
            [one, after @ ..] => {
                hit |= *one == c;
                rest = after;
            }
            [] => return None,
        }
        first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, matches) in [
            ("utest*/*", "utest/docker", true),
            ("utest*/*", "utest:5000/docker", true),
            ("utest*", "utest/docker", false),
            ("utest*", "utest", true),
            ("deb?an", "debian", true),
            ("deb?an", "deb/an", false),
            ("[a-d]ebian", "debian", true),
            ("[^a-c]ebian", "debian", true),
            ("[^a-d]ebian", "debian", false),
            ("[debian", "debian", false),
            ("*:1*", "debian:12", true),
            (r"\*", "*", true),
            (r"\*", "x", false),
            ("", "", true),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), matches, "{pattern} {text}");
        }
    }
}
