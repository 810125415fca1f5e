//! One word with variables, quotes and escapes → its text (pure): docker's rules, which are nearly the shell's.

use super::pattern::Pattern;
use std::iter::Peekable;
use std::str::Chars;

/// `ENV a=$a$a` twenty times over is a million times a.
pub(super) const LONGEST_VALUE: usize = 1 << 20;
/// Of `${a:-${b:-…}}`.
const DEEPEST: usize = 50;
/// What `${V//…/…}` searches.
const LONGEST_SEARCHED: usize = 64 << 10;

/// How quotes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quotes {
    /// Taken away.
    Removed,
    /// Characters like others: in heredocs.
    Kept,
}

/// The value of a variable, if it is set.
pub(super) type Lookup<'a> = dyn FnMut(&str) -> Option<String> + 'a;

/// The text, and the same as words: blanks that came from variables separate them too, quoted ones do not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expanded {
    pub(super) text: String,
    pub(super) words: Vec<String>,
}

pub(super) fn expand(word: &str, escape: char, quotes: Quotes, lookup: &mut Lookup<'_>) -> Result<Expanded, String> {
    let mut reader = Reader {
        chars: word.chars().peekable(),
        escape,
        quotes,
        lookup,
        depth: 0,
    };
    let out = reader.until(None, false)?;
    Ok(out.finish())
}

#[derive(Default)]
struct Output {
    text: String,
    words: Vec<String>,
    word: Option<String>,
}

impl Output {
    /// May separate words.
    fn push(&mut self, c: char) {
        self.text.push(c);
        match c.is_whitespace() {
            true => self.words.extend(self.word.take().filter(|w| !w.is_empty())),
            false => self.word.get_or_insert_default().push(c),
        }
    }

    fn push_raw(&mut self, text: &str) {
        self.text.push_str(text);
        self.word.get_or_insert_default().push_str(text);
    }

    fn finish(mut self) -> Expanded {
        self.words.extend(self.word.take().filter(|w| !w.is_empty()));
        Expanded {
            text: self.text,
            words: self.words,
        }
    }
}

struct Reader<'a, 'l> {
    chars: Peekable<Chars<'a>>,
    escape: char,
    quotes: Quotes,
    lookup: &'a mut Lookup<'l>,
    depth: usize,
}

impl Reader<'_, '_> {
    /// Up to `stop`, which is taken, or to the end if there is none. `raw` keeps the escape characters.
    fn until(&mut self, stop: Option<char>, raw: bool) -> Result<Output, String> {
        let mut out = Output::default();
        while let Some(&c) = self.chars.peek() {
            if Some(c) == stop {
                self.chars.next();
                return Ok(out);
            }
            match c {
                '\'' if self.quotes == Quotes::Removed => {
                    let text = self.single_quoted()?;
                    out.push_raw(&text);
                }
                '"' if self.quotes == Quotes::Removed => {
                    let text = self.double_quoted(raw)?;
                    out.push_raw(&text);
                }
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|c| out.push(c));
                }
                _ => {
                    self.chars.next();
                    if c == self.escape {
                        let mut pair = String::new();
                        if raw {
                            pair.push(c);
                        }
                        // The last character of all escapes nothing.
                        pair.extend(self.chars.next());
                        out.push_raw(&pair);
                    } else {
                        out.push(c);
                    }
                }
            }
            if out.text.len() > LONGEST_VALUE {
                return Err(format!("a value of more than {} MiB", LONGEST_VALUE >> 20));
            }
        }
        match stop {
            None => Ok(out),
            Some('}') => Err("syntax error: missing '}'".to_owned()),
            Some(c) => Err(format!("syntax error: missing '{c}' in ${{}}")),
        }
    }

    fn single_quoted(&mut self) -> Result<String, String> {
        self.chars.next();
        let mut text = String::new();
        for c in self.chars.by_ref() {
            if c == '\'' {
                return Ok(text);
            }
            text.push(c);
        }
        Err("a single quote is not closed".to_owned())
    }

    fn double_quoted(&mut self, raw: bool) -> Result<String, String> {
        self.chars.next();
        let mut text = String::new();
        while let Some(&c) = self.chars.peek() {
            match c {
                '"' => {
                    self.chars.next();
                    return Ok(text);
                }
                '$' => {
                    text.push_str(&self.dollar()?);
                    continue;
                }
                _ => {}
            }
            self.chars.next();
            if c != self.escape {
                text.push(c);
                continue;
            }
            if raw {
                text.push(c);
            }
            match self.chars.peek() {
                None => {}
                // Others are not escaped by it: it stays.
                Some(&next) if next == '"' || next == '$' || next == self.escape => {
                    text.push(next);
                    self.chars.next();
                }
                Some(_) => text.push(c),
            }
        }
        Err("a double quote is not closed".to_owned())
    }

    fn dollar(&mut self) -> Result<String, String> {
        self.chars.next();
        if self.chars.peek() != Some(&'{') {
            let name = self.name();
            return Ok(match name.is_empty() {
                true => "$".to_owned(),
                false => (self.lookup)(&name).unwrap_or_default(),
            });
        }
        self.chars.next();
        if self.depth == DEEPEST {
            return Err(format!("more than {DEEPEST} variables inside each other"));
        }
        self.depth += 1;
        let value = self.braces();
        self.depth -= 1;
        value
    }

    /// Behind `${`.
    fn braces(&mut self) -> Result<String, String> {
        match self.chars.peek() {
            None => return Err("syntax error: missing '}'".to_owned()),
            Some('{' | '}' | ':') => return Err("syntax error: bad substitution".to_owned()),
            Some(_) => {}
        }
        let name = self.name();
        let Some(mut modifier) = self.chars.next() else {
            return Err("syntax error: missing '}'".to_owned());
        };
        let null_is_unset = modifier == ':';
        if null_is_unset {
            modifier = self.chars.next().ok_or("syntax error: missing '}'")?;
        }
        match modifier {
            '}' if !null_is_unset => Ok((self.lookup)(&name).unwrap_or_default()),
            '-' | '+' | '?' => {
                let word = self.until(Some('}'), false)?.text;
                let value = (self.lookup)(&name);
                let counts = |v: &String| !(null_is_unset && v.is_empty());
                match (modifier, value.clone().filter(counts)) {
                    ('-', Some(value)) | ('?', Some(value)) => Ok(value),
                    ('-', None) | ('+', Some(_)) => Ok(word),
                    ('+', None) => Ok(String::new()),
                    (_, _) if !word.is_empty() => Err(format!("{name}: {word}")),
                    (_, _) if value.is_some() => Err(format!("{name}: is not allowed to be empty")),
                    (_, _) => Err(format!("{name}: is not allowed to be unset")),
                }
            }
            '#' | '%' if !null_is_unset => {
                let word = self.until(Some('}'), true)?.text;
                let value = (self.lookup)(&name).unwrap_or_default();
                let (longest, word) = match word.strip_prefix(modifier) {
                    Some(rest) => (true, rest),
                    None => (false, word.as_str()),
                };
                let pattern = Pattern::parse(word)?;
                Ok(match modifier {
                    '#' => pattern.trim_prefix(&value, longest),
                    _ => pattern.trim_suffix(&value, longest),
                })
            }
            '/' if !null_is_unset => {
                let all = self.chars.next_if_eq(&'/').is_some();
                let pattern = Pattern::parse(&self.until(Some('/'), true)?.text)?;
                let replacement = self.until(Some('}'), true)?.text;
                let value = (self.lookup)(&name).unwrap_or_default();
                if value.len() > LONGEST_SEARCHED {
                    return Err(format!("{name}: too long to be searched"));
                }
                let replaced = pattern.replace(&value, &replacement, all);
                Ok(replaced)
            }
            other => {
                let colon = if null_is_unset { ":" } else { "" };
                Err(format!(
                    "unsupported modifier ({colon}{}) in substitution",
                    other.escape_debug()
                ))
            }
        }
    }

    /// A name, a number, or one of the shell's special parameters (which are never set).
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.chars.peek() {
            Some(c) if c.is_numeric() => {
                while let Some(c) = self.chars.next_if(|c| c.is_numeric()) {
                    name.push(c);
                }
                return name;
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => {
                name.extend(self.chars.next());
                return name;
            }
            _ => {}
        }
        while let Some(c) = self.chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
            name.push(c);
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str) -> Option<String> {
        let value = match name {
            "X" => "x",
            "EMPTY" => "",
            "PATH" => "/bin:/usr/bin",
            "FILE" => "dir/foo.tar.gz",
            "TWO" => "a b",
            "PORT" => "80 81",
            "é" => "accent",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn one(word: &str) -> Result<String, String> {
        expand(word, '\\', Quotes::Removed, &mut value).map(|e| e.text)
    }

    #[test]
    fn every_form() {
        for (word, want) in [
            ("plain", "plain"),
            ("", ""),
            ("$X", "x"),
            ("${X}", "x"),
            ("a${X}b$X.c", "axbx.c"),
            ("$NONE-", "-"),
            ("$Xy", ""),
            ("\\$X", "$X"),
            ("\\${X}", "${X}"),
            ("\\\\$X", "\\x"),
            ("'$X'", "$X"),
            ("\"$X\"", "x"),
            ("\"\\$X\"", "$X"),
            ("\"a\\\"b\"", "a\"b"),
            ("\"a\\nb\"", "a\\nb"),
            ("a\\nb", "anb"),
            ("'a\\'", "a\\"),
            ("a\\", "a"),
            ("\"it's\"", "it's"),
            ("'a'\"b\"c", "abc"),
            ("$", "$"),
            ("a$", "a$"),
            ("$ a", "$ a"),
            ("$$X", "X"),
            ("$1", ""),
            ("$12a", "a"),
            ("$@", ""),
            ("$é", "accent"),
            ("${X:-d}", "x"),
            ("${NONE:-d}", "d"),
            ("${NONE-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${X:+d}", "d"),
            ("${EMPTY:+d}", ""),
            ("${EMPTY+d}", "d"),
            ("${NONE+d}", ""),
            ("${X?no}", "x"),
            ("${EMPTY?no}", ""),
            ("${NONE:-$X}", "x"),
            ("${NONE:-${ALSO:-'a b'}}", "a b"),
            ("${NONE:-\\}}", "}"),
            ("${NONE:-\"}\"}", "}"),
            ("${NONE:-}", ""),
            ("${FILE#*/}", "foo.tar.gz"),
            ("${FILE##*.}", "gz"),
            ("${FILE%.*}", "dir/foo.tar"),
            ("${FILE%%.*}", "dir/foo"),
            ("${FILE#nope}", "dir/foo.tar.gz"),
            ("${PATH/:/;}", "/bin;/usr/bin"),
            ("${PATH//\\//-}", "-bin:-usr-bin"),
            ("${PATH//bin/}", "/:/usr/"),
            ("${NONE/a/b}", ""),
            ("${FILE/$X/y}", "dir/foo.tar.gz"),
            ("${X/${X}/y}", "y"),
        ] {
            assert_eq!(one(word).as_deref(), Ok(want), "{word}");
        }
    }

    #[test]
    fn what_is_wrong() {
        for (word, why) in [
            ("${X", "missing '}'"),
            ("${", "missing '}'"),
            ("${}", "bad substitution"),
            ("${{X}}", "bad substitution"),
            ("${:-x}", "bad substitution"),
            ("${X:}", "unsupported modifier (:})"),
            ("${X:", "missing '}'"),
            ("${X^^}", "unsupported modifier (^)"),
            ("${X:=a}", "unsupported modifier (:=)"),
            ("${X-a", "missing '}'"),
            ("${X/a}", "missing '/'"),
            ("${X/a/b", "missing '}'"),
            ("${NONE?}", "NONE: is not allowed to be unset"),
            ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
            ("${NONE:?set it}", "NONE: set it"),
            ("'a", "a single quote"),
            ("\"a", "a double quote"),
            ("\"a$", "a double quote"),
            ("${FILE#\\a}", "invalid escape"),
        ] {
            let e = one(word).unwrap_err();
            assert!(e.contains(why), "{word}: {e}");
        }
        let deep = format!("{}x{}", "${N:-".repeat(100_000), "}".repeat(100_000));
        assert!(one(&deep).unwrap_err().contains("inside each other"));
        let mut long = |_: &str| Some("a".repeat(LONGEST_VALUE / 2));
        let grown = expand("$a$a$a", '\\', Quotes::Removed, &mut long).unwrap_err();
        assert!(grown.contains("1 MiB"), "{grown}");
    }

    #[test]
    fn words_and_heredocs() {
        let words = |text: &str| expand(text, '\\', Quotes::Removed, &mut value).unwrap().words;
        assert_eq!(words("$PORT 82"), ["80", "81", "82"]);
        assert_eq!(words("\"$PORT\" 'a b' c\\ d"), ["80 81", "a b", "c d"]);
        assert_eq!(words("$EMPTY"), Vec::<String>::new());
        let kept = |text: &str| expand(text, '\\', Quotes::Kept, &mut value).unwrap().text;
        assert_eq!(kept("it's \"$X\" \\$X\n"), "it's \"x\" $X\n");
        let tick = expand("`$X \\a", '`', Quotes::Removed, &mut value).unwrap().text;
        assert_eq!(tick, "$X \\a");
    }
}
