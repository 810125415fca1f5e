//! `--filter` of the prune commands: what may go.

use crate::error::{Error, Result};
use crate::model::filter::Label;
use crate::model::time::{Timestamp, parse_when};
use jiff::tz::TimeZone;
use std::collections::BTreeMap;

/// All of these must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filters {
    /// Only what was made before.
    pub(crate) until: Option<Timestamp>,
    labels: Vec<Label>,
    without: Vec<Label>,
    /// What else was asked for, as key and value: the caller knows these.
    pub(crate) other: Vec<(String, String)>,
}

impl Filters {
    /// From `KEY=VALUE` words; besides `until`, `label` and `label!` these keys.
    pub(crate) fn parse<'a>(words: impl IntoIterator<Item = &'a str>, known: &[&str]) -> Result<Filters> {
        let mut filters = Filters::default();
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                _ if value.is_empty() => {
                    return Err(Error::usage(format!("invalid filter '{word}': want KEY=VALUE")));
                }
                "until" => filters.until = Some(parse_when(value, Timestamp::now(), &TimeZone::system())?),
                "label" => filters.labels.push(value.into()),
                "label!" => filters.without.push(value.into()),
                key if known.contains(&key) => filters.other.push((key.to_owned(), value.to_owned())),
                _ => {
                    let keys = [&["until", "label", "label!"], known].concat().join(", ");
                    return Err(Error::usage(format!("invalid filter '{word}'")).with_hint(format!("there are {keys}")));
                }
            }
        }
        Ok(filters)
    }

    /// Whether a thing without labels can match.
    pub(crate) fn takes_unlabelled(&self) -> bool {
        self.labels.is_empty()
    }

    pub(crate) fn matches(&self, created: Timestamp, labels: &BTreeMap<String, String>) -> bool {
        let has = |label: &Label| label.is_in(labels);
        self.until.is_none_or(|until| created < until) && self.labels.iter().all(has) && !self.without.iter().any(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_go() {
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let made: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (words, goes) in [
            (&[][..], true),
            (&["until=2026-01-02"], true),
            (&["until=2025-01-02"], false),
            (&["until=0"], true),
            (&["label=app"], true),
            (&["label=app=web", "label!=other"], true),
            (&["label=app=db"], false),
            (&["label!=app"], false),
            (&["label!=app=db"], true),
        ] {
            let filters = Filters::parse(words.iter().copied(), &[]).unwrap();
            assert_eq!(filters.matches(made, &labels), goes, "{words:?}");
        }
        assert_eq!(
            Filters::parse(["all=true"], &["all"]).unwrap().other,
            [("all".to_owned(), "true".to_owned())]
        );
        for bad in ["", "label", "until=", "until=soon", "colour=red"] {
            assert!(Filters::parse([bad], &["all"]).is_err(), "{bad}");
        }
    }
}
