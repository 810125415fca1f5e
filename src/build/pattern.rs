//! Shell patterns on paths, as Go's `filepath.Match` and docker's ignore files have them (pure).
//!
//! A pattern becomes tokens, and all ways of matching are followed at once, so that no pattern needs more than
//! tokens × characters steps, whatever a hostile hand wrote.

use crate::error::{Error, Result};

/// What `**` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stars {
    /// As one `*`: COPY's sources.
    One,
    /// Any number of directories: ignore files, `--exclude`, `--parents`.
    Deep,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(u32),
    /// `?`
    Any,
    /// `*`
    Star,
    /// `**/`: nothing, or anything that ends with a slash. Two tokens: its entrance and its inside.
    Deep,
    Inside,
    /// `**` at the end or the start of a pattern: anything.
    All,
    Class {
        negated: bool,
        ranges: Vec<(u32, u32)>,
    },
}

/// A pattern, checked and taken apart.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
    /// No token but literals: the text itself.
    exact: Option<Vec<u8>>,
}

const SLASH: u32 = '/' as u32;

/// Whether a text has anything in it that a pattern has and a name has not.
pub(super) fn has_wildcards(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        match b {
            b'\\' => drop(bytes.next()),
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

impl Pattern {
    pub(super) fn new(text: &str, stars: Stars) -> Result<Pattern> {
        let bad = || Error::other(format!("syntax error in pattern '{}'", text.escape_debug()));
        let mut tokens = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '*' if stars == Stars::Deep && chars.peek() == Some(&'*') => {
                    chars.next();
                    let first = tokens.is_empty();
                    let slash = chars.next_if_eq(&'/').is_some();
                    // docker takes `**x` for any path that ends with x, as long as nothing else is special in it; `a**x`
                    // and `**x*` have only whole directories in the place of the stars.
                    let suffix = first && !slash && !chars.clone().any(|c| "*?[]\\".contains(c));
                    match chars.peek().is_none() || suffix {
                        true => tokens.push(Token::All),
                        false => tokens.extend([Token::Deep, Token::Inside]),
                    }
                }
                '*' => {
                    if tokens.last() != Some(&Token::Star) {
                        tokens.push(Token::Star);
                    }
                }
                '?' => tokens.push(Token::Any),
                '[' => tokens.push(class(&mut chars).ok_or_else(bad)?),
                '\\' => tokens.push(Token::Literal(chars.next().ok_or_else(bad)?.into())),
                c => tokens.push(Token::Literal(c.into())),
            }
        }
        let literal = |t: &Token| match t {
            Token::Literal(c) => char::from_u32(*c),
            _ => None,
        };
        let exact = tokens.iter().map(literal).collect::<Option<String>>();
        Ok(Pattern {
            tokens,
            exact: exact.map(String::into_bytes),
        })
    }

    pub(super) fn matches(&self, path: &[u8]) -> bool {
        match &self.exact {
            Some(exact) => exact == path,
            None => self.follow(path),
        }
    }

    fn follow(&self, path: &[u8]) -> bool {
        let end = self.tokens.len();
        let (mut now, mut next) = (vec![false; end + 1], vec![false; end + 1]);
        now[0] = true;
        self.close(&mut now);
        for c in Characters(path) {
            next.fill(false);
            let mut alive = false;
            for (at, token) in self.tokens.iter().enumerate().filter(|(at, _)| now[*at]) {
                let (stays, goes) = match token {
                    Token::Literal(l) => (false, *l == c),
                    Token::Any => (false, c != SLASH),
                    Token::Star => (c != SLASH, false),
                    Token::All => (true, false),
                    Token::Deep => (false, false),
                    Token::Inside => (true, c == SLASH),
                    Token::Class { negated, ranges } => {
                        let hit = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                        (false, c != SLASH && hit != *negated)
                    }
                };
                next[at] |= stays;
                next[at + 1] |= goes;
                alive |= stays || goes;
            }
            if !alive {
                return false;
            }
            self.close(&mut next);
            std::mem::swap(&mut now, &mut next);
        }
        now[end]
    }

    /// Adds what is reached without a character.
    fn close(&self, states: &mut [bool]) {
        for (at, token) in self.tokens.iter().enumerate() {
            if !states[at] {
                continue;
            }
            match token {
                Token::Star | Token::All => states[at + 1] = true,
                Token::Deep => {
                    states[at + 1] = true;
                    // Behind its inside: entered and left with nothing in it.
                    states[at + 2] = true;
                }
                _ => {}
            }
        }
    }
}

/// Behind the `[`; `None` if it has no end. Go's rules: `^` negates, `\` quotes, `]` and `-` must be quoted.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if chars.peek() == Some(&']') && !ranges.is_empty() {
            chars.next();
            return Some(Token::Class { negated, ranges });
        }
        let low = one(chars)?;
        let high = match chars.next_if_eq(&'-') {
            Some(_) => one(chars)?,
            None => low,
        };
        ranges.push((low, high));
    }
}

fn one(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<u32> {
    match chars.next()? {
        '-' | ']' => None,
        '\\' => chars.next().map(Into::into),
        c => Some(c.into()),
    }
}

/// A path's characters; a byte that is no UTF-8 stands for itself, outside of Unicode.
struct Characters<'a>(&'a [u8]);

impl Iterator for Characters<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (&first, rest) = self.0.split_first()?;
        let width = match first {
            0..=0x7f => {
                self.0 = rest;
                return Some(first.into());
            }
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            _ => 4,
        };
        let decoded = self.0.get(..width).and_then(|b| std::str::from_utf8(b).ok());
        match decoded.and_then(|s| s.chars().next()) {
            Some(c) => {
                self.0 = &self.0[width..];
                Some(c.into())
            }
            None => {
                self.0 = rest;
                Some(0x11_0000 + u32::from(first))
            }
        }
    }
}

/// Go's `filepath.Clean`: the shortest path that says the same, `.` for nothing; purely by its text.
pub(super) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." if names.last().is_some_and(|n| *n != "..") => drop(names.pop()),
            ".." if rooted => {}
            name => names.push(name),
        }
    }
    let joined = names.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_star() {
        for (pattern, path, want) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[^b-d]", "abc", false),
            ("ab[^c]", "abd", true),
            (r"a\*b", "a*b", true),
            (r"a\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("a[^x]b", "a/b", false),
            (r"[\]a]", "]", true),
            (r"[x\-]", "-", true),
            ("arr[[]0].txt", "arr[0].txt", true),
            ("**/x", "a/x", true),
            ("**/x", "a/b/x", false),
        ] {
            let pattern_ = Pattern::new(pattern, Stars::One).unwrap();
            assert_eq!(pattern_.matches(path.as_bytes()), want, "{pattern} {path}");
        }
        for bad in [
            "[]a]", "[-]", "[x-]", "[-x]", "[", "[^", "[^bc", "a[", r"\", "[a-b-c]", "[]", "[!]",
        ] {
            assert_eq!(Pattern::new(bad, Stars::One).is_err(), bad != "[!]", "{bad}");
        }
        let odd = Pattern::new("a?b", Stars::One).unwrap();
        assert!(odd.matches(b"a\xffb") && !odd.matches(b"a\xff\xffb"));
    }

    #[test]
    fn deep_stars() {
        for (pattern, path, want) in [
            ("**", "file", true),
            ("**", "dir/file", true),
            ("**/", "dir/file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir", false),
            ("dir/**", "dir/dir2/file", true),
            ("dir/**", "dir2/file", false),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/*", "dir/dir2/dir2/file", true),
            ("**/dir2/**", "dir/dir2/dir2/file", true),
            ("**file", "file", true),
            ("**file", "dir/file", true),
            ("**file", "dir/myfile", true),
            ("**file*", "dir/myfile", false),
            ("**file*", "dir/file1", true),
            ("***", "a/b", true),
            ("**/file", "dir/dir/file", true),
            ("**/file", "file", true),
            ("**/file", "myfile", false),
            ("**/file*", "dir/dir/file.txt", true),
            ("**/file*txt", "dir/dir/file.txt", true),
            ("**/**/*.txt", "dir/dir/file.txt", true),
            ("**/**/*.txt2", "dir/dir/file.txt", false),
            ("**/*.txt", "file.txt", true),
            ("**/**/*.txt", "file.txt", true),
            ("a**/*.txt", "a/file.txt", true),
            ("a**/*.txt", "a/dir/file.txt", true),
            ("a**/*.txt", "a/dir/dir/file.txt", true),
            ("a/*.txt", "a/dir/file.txt", false),
            ("a/*.txt", "a/file.txt", true),
            ("a/*.txt**", "a/file.txt", true),
            ("a[b-d]e", "ae", false),
            (".*", ".foo", true),
            (".*", "foo", false),
            ("abc.def", "abcdef", false),
            ("abc?def", "abcZdef", true),
            ("**/foo/bar", "foo/bar", true),
            ("**/foo/bar", "dir/dir2/foo/bar", true),
            ("abc/**", "abc/def/ghi", true),
            ("**/.foo", "bar.foo", false),
            ("a(b)c/def", "a(b)c/xyz", false),
            ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
            (
                "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl",
                "dist/x",
                false,
            ),
        ] {
            let pattern_ = Pattern::new(pattern, Stars::Deep).unwrap();
            assert_eq!(pattern_.matches(path.as_bytes()), want, "{pattern} {path}");
        }
    }

    #[test]
    fn a_hostile_pattern_ends() {
        let pattern = Pattern::new(&"*a".repeat(2000), Stars::Deep).unwrap();
        assert!(!pattern.matches("a".repeat(1500).as_bytes()));
        let pattern = Pattern::new(&"**/a*".repeat(500), Stars::Deep).unwrap();
        assert!(!pattern.matches("a/".repeat(400).as_bytes()));
    }

    #[test]
    fn cleaned() {
        for (path, want) in [
            ("", "."),
            ("a/../b", "b"),
            ("/../a", "/a"),
            ("../a", "../a"),
            ("a//./b/", "a/b"),
            ("/", "/"),
            ("a/..", "."),
            ("../../a/..", "../.."),
        ] {
            assert_eq!(clean(path), want, "{path}");
        }
    }
}
