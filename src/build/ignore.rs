//! `.dockerignore`: which files of a context no instruction sees.
//!
//! Docker's rules: one pattern a line, `#` at the line's start is a comment, `!` takes back what a line before it
//! ignored, the last line that matches a path or a directory above it decides. Leading and closing slashes mean
//! nothing, `.` neither, and `**` is any number of directories.

use crate::build::pattern::{Pattern, Stars, clean};
use crate::error::{Context as _, Error, Result};

/// Files of this kind are written by hand.
pub(crate) const LARGEST_FILE: u64 = 4 << 20;

#[derive(Debug, Clone)]
struct Rule {
    pattern: Pattern,
    /// `!`
    keeps: bool,
}

/// The rules of an ignore file, of `--exclude`, or of nothing at all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ignore {
    rules: Vec<Rule>,
    /// Some rule takes back: an ignored directory may have something in it that is not.
    exceptions: bool,
}

/// Which rules match a directory or one above it; what is in it inherits them.
#[derive(Debug, Clone, Default)]
pub(super) struct Above(Vec<bool>);

impl Ignore {
    /// From the text of an ignore file.
    pub(crate) fn parse(text: &[u8]) -> Result<Ignore> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let text = String::from_utf8_lossy(text);
        let mut rules = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.starts_with('#')) {
            let line = line.trim();
            let (keeps, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            if line.is_empty() {
                continue;
            }
            let said = || format!("line {}", number + 1);
            if pattern.is_empty() {
                return Err(Error::other("illegal exclusion pattern: \"!\"")).with_context(said);
            }
            rules.push(Rule::new(pattern, keeps).with_context(said)?);
        }
        Ok(Ignore::of(rules))
    }

    /// From patterns that stand alone, as those of `--exclude`.
    pub(super) fn of_patterns<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Ignore> {
        let rule = |text: &str| match text.trim().strip_prefix('!') {
            Some("") => Err(Error::other("illegal exclusion pattern: \"!\"")),
            Some(rest) => Rule::new(rest, true),
            None => Rule::new(text.trim(), false),
        };
        Ok(Ignore::of(patterns.into_iter().map(rule).collect::<Result<_>>()?))
    }

    fn of(rules: Vec<Rule>) -> Ignore {
        Ignore {
            exceptions: rules.iter().any(|r| r.keeps),
            rules,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether everything in an ignored directory is ignored too, so that nobody needs to look into it.
    pub(super) fn is_final(&self) -> bool {
        !self.exceptions
    }

    /// Whether `path`, relative to the context and without dots, is ignored; with what its content inherits.
    pub(super) fn look(&self, path: &[u8], above: &Above) -> (bool, Above) {
        let mut ignored = false;
        let mut hits = Vec::with_capacity(self.rules.len());
        for (n, rule) in self.rules.iter().enumerate() {
            let hit = above.0.get(n).copied().unwrap_or_default() || rule.pattern.matches(path);
            if hit {
                ignored = !rule.keeps;
            }
            hits.push(hit);
        }
        (ignored, Above(hits))
    }

    /// The same for a path by itself: the directories above it are looked at first.
    pub(super) fn look_from_root(&self, path: &[u8]) -> (bool, Above) {
        let mut last = (false, Above::default());
        if path.is_empty() {
            return last;
        }
        for end in (0..=path.len()).filter(|end| path.get(*end).is_none_or(|b| *b == b'/')) {
            last = self.look(&path[..end], &last.1);
        }
        last
    }

    /// Whether `path` is ignored.
    pub(super) fn ignores(&self, path: &[u8]) -> bool {
        self.look_from_root(path).0
    }
}

impl Rule {
    fn new(text: &str, keeps: bool) -> Result<Rule> {
        let text = clean(text);
        let text = match text.strip_prefix('/') {
            Some(rest) if !rest.is_empty() => rest,
            _ => &text,
        };
        Ok(Rule {
            pattern: Pattern::new(text, Stars::Deep)?,
            keeps,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_rules() {
        for (file, path, ignored) in [
            ("# comment\n*/temp*", "somedir/temporary.txt", true),
            ("*/temp*", "somedir/temp/x", true),
            ("*/temp*", "temp", false),
            ("*/*/temp*", "somedir/subdir/temporary.txt", true),
            ("temp?", "tempa", true),
            ("temp?", "temp", false),
            ("**/*.go", "a/b/c.go", true),
            ("**/*.go", "c.go", true),
            ("*.md\n!README.md", "README.md", false),
            ("*.md\n!README.md", "other.md", true),
            ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true),
            ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", false),
            ("*\n!src", "src/main.rs", false),
            ("*\n!src", "target/x", true),
            ("*\n!src/main.rs", "src/main.rs", false),
            ("*\n!src/main.rs", "src/lib.rs", true),
            ("/foo/bar", "foo/bar", true),
            ("foo/bar/", "foo/bar/x", true),
            ("foo/../bar", "bar", true),
            (".", "x", false),
            ("/", "x", false),
            ("  foo  ", "foo", true),
            (" # no comment", "# no comment", true),
            ("\u{feff}foo", "foo", true),
            ("! foo", "foo", false),
            ("foo\n! /foo/keep ", "foo/keep", false),
            ("foo\n!/foo/keep", "foo/other", true),
            ("node_modules", "a/node_modules", false),
            ("**/node_modules", "a/node_modules/b/c", true),
            ("../foo", "foo", false),
            ("docs\n!docs/*\ndocs/private", "docs/private/x", true),
            ("foo/**\n!foo/a", "foo", false),
            (r"a\*b", "a*b", true),
            ("a b", "a b", true),
            ("foo\r\nbar\r\n", "foo", true),
        ] {
            let ignore = Ignore::parse(file.as_bytes()).unwrap();
            assert_eq!(ignore.ignores(path.as_bytes()), ignored, "{file:?} {path}");
        }
    }

    #[test]
    fn bad_lines_are_told() {
        for (file, said) in [
            ("a\n!\n", "line 2: illegal exclusion pattern: \"!\""),
            ("[a", "line 1: syntax error in pattern '[a'"),
        ] {
            assert_eq!(Ignore::parse(file.as_bytes()).unwrap_err().to_string(), said);
        }
    }

    #[test]
    fn what_is_inherited_is_what_is_looked_up() {
        // Any rules and any path: going down step by step says the same as asking each rule for each prefix.
        let mut seed = 7u64;
        let mut random = |most: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % most
        };
        let words = ["a", "b", "*", "**", "?", "a*", "[ab]", "c"];
        for _ in 0..2000 {
            let mut text = String::new();
            for _ in 0..=random(4) {
                if random(3) == 0 {
                    text.push('!');
                }
                let depth = random(3);
                for n in 0..=depth {
                    let pick = usize::try_from(random(words.len() as u64)).unwrap();
                    text.push_str(words[pick]);
                    text.push(if n == depth { '\n' } else { '/' });
                }
            }
            let ignore = Ignore::parse(text.as_bytes()).unwrap();
            let names: Vec<&str> = (0..=random(3))
                .map(|_| ["a", "b", "c", "ab"][usize::try_from(random(4)).unwrap()])
                .collect();
            let path = names.join("/");
            let mut want = false;
            for rule in &ignore.rules {
                if (1..=names.len()).any(|n| rule.pattern.matches(names[..n].join("/").as_bytes())) {
                    want = !rule.keeps;
                }
            }
            assert_eq!(ignore.ignores(path.as_bytes()), want, "{text:?} {path}");
        }
    }
}
