//! `*` and `?` in `${V#pattern}`, `${V%pattern}` and `${V/pattern/…}` (pure). Time grows with value × pattern at most.

/// Longest pattern, in characters.
const LONGEST: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Any,
    One,
    Char(char),
}

/// A pattern that was read.
#[derive(Debug)]
pub(super) struct Pattern(Vec<Token>);

impl Pattern {
    /// `\` escapes `*`, `?` and itself; before `}` and `/` it is there only for the braces around.
    pub(super) fn parse(text: &str) -> Result<Pattern, String> {
        let mut tokens = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Any,
                '?' => Token::One,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\' | '}' | '/')) => Token::Char(c),
                    Some(other) => return Err(format!("invalid escape '\\{other}' in the pattern")),
                    None => return Err("the pattern ends with an escape".to_owned()),
                },
                c => Token::Char(c),
            });
        }
        if tokens.len() > LONGEST {
            return Err(format!("a pattern of more than {LONGEST} characters"));
        }
        tokens.dedup_by(|a, b| *a == Token::Any && *b == Token::Any);
        Ok(Pattern(tokens))
    }

    fn reversed(&self) -> Pattern {
        Pattern(self.0.iter().rev().copied().collect())
    }

    /// How many characters from the begin on it matches: the fewest, or the most.
    fn prefix(&self, value: &[char], longest: bool) -> Option<usize> {
        // The states that are possible after each character; a state is how many tokens are done.
        let mut now = vec![false; self.0.len() + 1];
        now[0] = true;
        self.skip_stars(&mut now);
        let mut found = now[self.0.len()].then_some(0);
        for (done, c) in value.iter().enumerate() {
            if found.is_some() && !longest {
                return found;
            }
            let mut next = vec![false; now.len()];
            let mut alive = false;
            for (i, token) in self.0.iter().enumerate().filter(|(i, _)| now[*i]) {
                let to = match token {
                    Token::Any => i,
                    Token::One => i + 1,
                    Token::Char(want) if want == c => i + 1,
                    Token::Char(_) => continue,
                };
                next[to] = true;
                alive = true;
            }
            if !alive {
                return found;
            }
            self.skip_stars(&mut next);
            now = next;
            if now[self.0.len()] {
                found = Some(done + 1);
            }
        }
        found
    }

    fn skip_stars(&self, states: &mut [bool]) {
        for i in 0..self.0.len() {
            if states[i] && self.0[i] == Token::Any {
                states[i + 1] = true;
            }
        }
    }

    pub(super) fn trim_prefix(&self, value: &str, longest: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let cut = self.prefix(&chars, longest).unwrap_or(0);
        chars[cut..].iter().collect()
    }

    pub(super) fn trim_suffix(&self, value: &str, longest: bool) -> String {
        let chars: Vec<char> = value.chars().rev().collect();
        let cut = self.reversed().prefix(&chars, longest).unwrap_or(0);
        chars[cut..].iter().rev().collect()
    }

    /// The leftmost longest match is replaced, or every one.
    pub(super) fn replace(&self, value: &str, replacement: &str, all: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let mut out = String::new();
        let mut at = 0;
        let mut after_match = false;
        let mut searching = true;
        while at <= chars.len() {
            match searching.then(|| self.prefix(&chars[at..], true)).flatten() {
                // Nothing is not replaced right behind something that was.
                Some(0) if after_match => {}
                Some(length) => {
                    out.push_str(replacement);
                    searching = all;
                    if length > 0 {
                        at += length;
                        after_match = true;
                        continue;
                    }
                }
                None => {}
            }
            after_match = false;
            out.extend(chars.get(at));
            at += 1;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_and_replaced() {
        let value = "foo.tar.gz";
        let p = |text| Pattern::parse(text).unwrap();
        for (pattern, prefix, longest_prefix, suffix, longest_suffix) in [
            ("*.", "tar.gz", "gz", value, value),
            (".*", value, value, "foo.tar", "foo"),
            ("*", value, "", value, ""),
            ("", value, value, value, value),
            ("f?o", ".tar.gz", ".tar.gz", value, value),
            ("?z", value, value, "foo.tar.", "foo.tar."),
            ("\\*", value, value, value, value),
        ] {
            let p = p(pattern);
            assert_eq!(p.trim_prefix(value, false), prefix, "{pattern}");
            assert_eq!(p.trim_prefix(value, true), longest_prefix, "{pattern}");
            assert_eq!(p.trim_suffix(value, false), suffix, "{pattern}");
            assert_eq!(p.trim_suffix(value, true), longest_suffix, "{pattern}");
        }
        for (value, pattern, with, one, every) in [
            ("a/b/c", "\\/", "-", "a-b/c", "a-b-c"),
            ("aaa", "a", "bb", "bbaa", "bbbbbb"),
            ("abc", "*", "x", "x", "x"),
            ("", "*", "x", "x", "x"),
            ("abc", "x", "y", "abc", "abc"),
            ("abc", "", "-", "-abc", "-a-b-c-"),
            ("héllo", "?l*", "X", "hX", "hX"),
        ] {
            assert_eq!(p(pattern).replace(value, with, false), one, "{value} {pattern}");
            assert_eq!(p(pattern).replace(value, with, true), every, "{value} {pattern}");
        }
        assert!(Pattern::parse("\\a").is_err() && Pattern::parse("a\\").is_err());
        assert!(Pattern::parse(&"a".repeat(2000)).is_err());
    }

    #[test]
    fn many_stars_take_no_time() {
        let value = "a".repeat(20_000);
        let p = Pattern::parse(&format!("{}b", "*a".repeat(30))).unwrap();
        let start = std::time::Instant::now();
        assert_eq!(p.trim_prefix(&value, true), value);
        assert!(start.elapsed().as_secs() < 20);
    }
}
