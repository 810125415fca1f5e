//! `--filter` of lists: of the values under one key one must match, and every key must; of labels, all.

use crate::error::{Error, Result};
use regex_lite::Regex;
use std::collections::BTreeMap;

/// What each `KEY=VALUE` asks for, with its key.
#[derive(Debug, Clone)]
pub(crate) struct Filters<F>(Vec<(String, Vec<F>)>);

impl<F> Default for Filters<F> {
    fn default() -> Self {
        Filters(Vec::new())
    }
}

impl<F> Filters<F> {
    /// From the words of the command line. `parse` gets a key that is one of `keys`, and a value; it fails with what the
    /// key takes.
    pub(crate) fn parse<'a>(
        words: impl IntoIterator<Item = &'a str>,
        keys: &[&str],
        parse: impl Fn(&str, &'a str) -> Result<F, &'static str>,
    ) -> Result<Self> {
        let mut filters: Vec<(String, Vec<F>)> = Vec::new();
        for word in words {
            let (key, value) = split(word, keys)?;
            let filter = parse(&key, value).map_err(|wanted| bad_value(word, wanted))?;
            match filters.iter_mut().find(|(k, _)| *k == key && key != "label") {
                Some((_, same)) => same.push(filter),
                None => filters.push((key, vec![filter])),
            }
        }
        Ok(Filters(filters))
    }

    /// Whether one of these keys was given.
    pub(crate) fn ask_for(&self, keys: &[&str]) -> bool {
        self.0.iter().any(|(key, _)| keys.contains(&key.as_str()))
    }

    /// Whether something passes of which `matches` says what each filter makes of it.
    pub(crate) fn pass(&self, matches: impl Fn(&F) -> bool) -> bool {
        self.0.iter().all(|(_, any)| any.iter().any(&matches))
    }

    /// The same filters in another form.
    pub(crate) fn try_map<G>(&self, turn: impl Fn(&F) -> Result<G>) -> Result<Filters<G>> {
        let turned = |(key, any): &(String, Vec<F>)| Ok((key.clone(), any.iter().map(&turn).collect::<Result<_>>()?));
        Ok(Filters(self.0.iter().map(turned).collect::<Result<_>>()?))
    }
}

/// The key, which is one of `keys`, and the value of a `KEY=VALUE`.
pub(crate) fn split<'a>(word: &'a str, keys: &[&str]) -> Result<(String, &'a str)> {
    let Some((key, value)) = word.split_once('=') else {
        return Err(Error::usage(format!(
            "invalid filter '{}': want KEY=VALUE",
            word.escape_debug()
        )));
    };
    let key = key.trim().to_lowercase();
    match keys.contains(&key.as_str()) {
        true => Ok((key, value.trim())),
        false => Err(Error::usage(format!("invalid filter '{}'", word.escape_debug()))
            .with_hint(format!("there are {}", keys.join(", ")))),
    }
}

/// For a value that its key does not take.
pub(crate) fn bad_value(word: &str, wanted: &str) -> Error {
    Error::usage(format!("invalid filter '{}': want {wanted}", word.escape_debug()))
}

pub(crate) fn boolean(value: &str) -> Result<bool, &'static str> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("true or false"),
    }
}

/// `label=NAME` or `label=NAME=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    name: String,
    value: Option<String>,
}

impl From<&str> for Label {
    fn from(text: &str) -> Self {
        match text.split_once('=') {
            Some((name, value)) => Label {
                name: name.to_owned(),
                value: Some(value.to_owned()),
            },
            None => Label {
                name: text.to_owned(),
                value: None,
            },
        }
    }
}

impl Label {
    pub(crate) fn is_in(&self, labels: &BTreeMap<String, String>) -> bool {
        labels
            .get(&self.name)
            .is_some_and(|found| self.value.as_ref().is_none_or(|wanted| wanted == found))
    }
}

/// `name=PATTERN`: as in docker a regular expression, which matches a part of a name unless it says `^` and `$`.
#[derive(Debug, Clone)]
pub(crate) struct Name(Regex);

impl Name {
    pub(crate) fn parse(pattern: &str) -> Result<Name, &'static str> {
        Regex::new(pattern)
            .map(Name)
            .map_err(|_| "a name, a part of one, or a regular expression")
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(words: &[&str], name: &str) -> Result<bool> {
        let filters = Filters::parse(
            words.iter().copied(),
            &["name", "label", "end"],
            |key, value| match key {
                "end" if value.is_empty() => Err("a letter"),
                key => Ok((key.to_owned(), value)),
            },
        )?;
        Ok(filters.pass(|(key, value)| match key.as_str() {
            "end" => name.ends_with(value),
            _ => name.contains(value),
        }))
    }

    #[test]
    fn names_by_pattern() {
        for (pattern, matching, other) in [
            ("web", "my-web-1", "wb"),
            ("^web$", "web", "web1"),
            ("^web-[0-9]+$", "web-12", "web-x"),
            ("db|web", "web", "cache"),
            ("", "anything", "\u{0}"),
            ("a.c", "abc", "ac"),
        ] {
            let name = Name::parse(pattern).unwrap();
            assert!(name.matches(matching), "{pattern} {matching}");
            assert_eq!(name.matches(other), pattern.is_empty(), "{pattern} {other}");
        }
        for bad in ["[", "(", "a{", "*"] {
            assert!(Name::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_of_each_key_and_every_label() {
        for (words, pass) in [
            (&[][..], true),
            (&["name=w"], true),
            (&["name=x", "NAME= w "], true),
            (&["name=w", "end=x"], false),
            (&["name=w", "end=x", "end=b"], true),
            (&["label=w", "label=b"], true),
            (&["label=w", "label=x"], false),
        ] {
            assert_eq!(passes(words, "web").unwrap(), pass, "{words:?}");
        }
    }

    #[test]
    fn a_bad_filter_is_told_with_what_there_is() {
        for (word, message, hint) in [
            ("name", "invalid filter 'name': want KEY=VALUE", None),
            ("end=", "invalid filter 'end=': want a letter", None),
            (
                "colour=red",
                "invalid filter 'colour=red'",
                Some("there are name, label, end"),
            ),
        ] {
            let error = passes(&[word], "web").unwrap_err();
            assert_eq!((error.to_string().as_str(), error.hint()), (message, hint));
        }
    }

    #[test]
    fn labels() {
        let labels = BTreeMap::from([("a".to_owned(), "1=2".to_owned())]);
        for (text, is_in) in [("a", true), ("a=1=2", true), ("a=", false), ("b", false)] {
            assert_eq!(Label::from(text).is_in(&labels), is_in, "{text}");
        }
    }
}
