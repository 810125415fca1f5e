//! The arguments of an instruction: JSON arrays, pairs, lists, health checks.

use super::{Arguments, Parser};
use crate::build::instruction::{CommandLine, HealthRule, Oddity, Pair};
use crate::build::parser::flags::Flags;
use crate::build::place::Word;
use crate::build::words;
use crate::error::Result;
use crate::model::bytes::ByteString;
use crate::model::health::HealthCheck;
use crate::model::time::parse_duration;
use std::ops::Range;

/// What stands where a JSON array may stand.
enum Json {
    Array(Vec<String>),
    /// Not even a bracket.
    No,
    /// Begins like one.
    Broken,
}

impl Parser {
    /// A JSON array, or anything else.
    fn json(a: &Arguments<'_>, range: &Range<usize>) -> Result<Json> {
        let text = a.line.text[range.clone()].trim_start();
        if !text.starts_with('[') {
            return Ok(Json::No);
        }
        let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else {
            return Ok(Json::Broken);
        };
        let words: Option<Vec<String>> = values
            .into_iter()
            .map(|v| match v {
                serde_json::Value::String(text) => Some(text),
                _ => None,
            })
            .collect();
        match words {
            Some(words) if words.iter().any(|w| w.contains('\0')) => {
                Err(a.line.error(range.clone(), "a NUL character in a JSON array"))
            }
            Some(words) => Ok(Json::Array(words)),
            None => Err(a.line.error(
                range.clone(),
                "when using JSON array syntax, arrays must be comprised of strings only",
            )),
        }
    }

    fn json_or_note(&mut self, a: &Arguments<'_>, range: &Range<usize>) -> Result<Option<Vec<String>>> {
        Ok(match Parser::json(a, range)? {
            Json::Array(words) => Some(words),
            Json::No => None,
            Json::Broken => {
                let place = a.line.place(range.start);
                self.oddities.push((place, Oddity::BrokenJson(a.keyword)));
                None
            }
        })
    }

    /// RUN, CMD, ENTRYPOINT, SHELL. Nothing at all is an empty array.
    pub(super) fn command(&mut self, a: &Arguments<'_>) -> Result<CommandLine> {
        self.command_in(a, &a.rest)
    }

    fn command_in(&mut self, a: &Arguments<'_>, range: &Range<usize>) -> Result<CommandLine> {
        if range.is_empty() {
            return Ok(CommandLine::Exec(Vec::new()));
        }
        Ok(match self.json_or_note(a, range)? {
            Some(words) => CommandLine::Exec(words),
            None => CommandLine::Shell(a.line.text[range.clone()].to_owned()),
        })
    }

    /// COPY, ADD, VOLUME: the words, and whether they stood in a JSON array.
    pub(super) fn list(&mut self, a: &Arguments<'_>) -> Result<(Vec<Word>, bool)> {
        if let Some(words) = self.json_or_note(a, &a.rest)? {
            let place = a.line.place(a.rest.start);
            let word = |text| Word {
                text,
                place: place.clone(),
            };
            return Ok((words.into_iter().map(word).collect(), true));
        }
        let words = words::blank(&a.line.text, a.rest.clone());
        Ok((words.iter().map(|r| a.word(r)).collect(), false))
    }

    pub(super) fn volumes(&mut self, a: &Arguments<'_>) -> Result<Vec<Word>> {
        let (mut words, _) = self.list(a)?;
        if words.is_empty() {
            return Err(a.error("VOLUME requires at least one argument"));
        }
        for word in &mut words {
            word.text = word.text.trim().to_owned();
            if word.is_empty() {
                return Err(a.error("VOLUME specified can not be an empty string"));
            }
        }
        Ok(words)
    }

    /// ENV and LABEL: `NAME=value…`, or the old `NAME the rest`.
    pub(super) fn pairs(&mut self, a: &Arguments<'_>) -> Result<Vec<Pair>> {
        a.at_least_one()?;
        let found = words::quoted(&a.line.text, a.rest.clone(), self.lexer.escape);
        let is_pair = |r: &Range<usize>| a.line.text[r.clone()].contains('=');
        if !found.words.first().is_some_and(is_pair) {
            let (name, value) = words::first(&a.line.text, a.rest.clone());
            if value.is_empty() {
                return Err(a
                    .error(format!("{} must have two arguments", a.keyword))
                    .with_hint(format!("write it like {} NAME=value", a.keyword)));
            }
            self.oddities
                .push((a.line.place(a.at.start), Oddity::OldPair(a.keyword)));
            return Ok(vec![Pair {
                name: a.word(&name),
                value: a.word(&value),
            }]);
        }
        let mut pairs = Vec::new();
        for range in found.words {
            let text = &a.line.text[range.clone()];
            let Some(at) = text.find('=') else {
                let shown: String = text.chars().take(60).collect();
                return Err(a
                    .line
                    .error(
                        range,
                        format!("can't find = in '{shown}': it must be of the form name=value"),
                    )
                    .with_hint("a value with blanks in it stands in quotes"));
            };
            if at == 0 {
                return Err(a.line.error(range, format!("{} names can not be blank", a.keyword)));
            }
            pairs.push(Pair {
                name: a.word(&(range.start..range.start + at)),
                value: a.word(&(range.start + at + 1..range.end)),
            });
        }
        Ok(pairs)
    }
}

/// `HEALTHCHECK [flags] CMD …` and `HEALTHCHECK NONE`.
pub(super) fn health(parser: &mut Parser, a: &Arguments<'_>, flags: &mut Flags<'_>) -> Result<HealthRule> {
    a.at_least_one()?;
    let (kind, rest) = words::first(&a.line.text, a.rest.clone());
    let mut check = HealthCheck::default();
    for (name, field) in [
        ("interval", &mut check.interval),
        ("timeout", &mut check.timeout),
        ("start-period", &mut check.start_period),
        ("start-interval", &mut check.start_interval),
    ] {
        if let Some(word) = flags.value(name)? {
            *field = interval(name, &word)?;
        }
    }
    if let Some(word) = flags.value("retries")? {
        let number: Option<i64> = word.parse().ok().filter(|n| (0..=i64::from(i32::MAX)).contains(n));
        check.retries = number.ok_or_else(|| {
            word.place.error_at(
                word.chars().count(),
                format!("--retries is a number from 0 on, not '{word}'"),
            )
        })?;
    }
    match a.line.text[kind.clone()].to_ascii_uppercase().as_str() {
        "NONE" if rest.is_empty() => Ok(HealthRule::None),
        "NONE" => Err(a.line.error(rest, "HEALTHCHECK NONE takes no arguments")),
        "CMD" => {
            let words = match parser.command_in(a, &rest)? {
                CommandLine::Exec(words) if words.is_empty() => {
                    return Err(a.error("Missing command after HEALTHCHECK CMD"));
                }
                CommandLine::Exec(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
                CommandLine::Shell(line) => vec!["CMD-SHELL".to_owned(), line],
            };
            check.test = words.into_iter().map(ByteString::from).collect();
            Ok(HealthRule::Check(check))
        }
        other => Err(a
            .line
            .error(kind, format!("unknown type '{other}' in HEALTHCHECK"))
            .with_hint("write it like HEALTHCHECK CMD command, or HEALTHCHECK NONE")),
    }
}

/// Nanoseconds; docker takes nothing below a millisecond but 0.
fn interval(name: &str, word: &Word) -> Result<i64> {
    let bad = |why: &str| {
        word.place
            .error_at(word.chars().count().max(1), format!("--{name} '{word}': {why}"))
            .with_hint("write it like 30s or 1m30s")
    };
    let time = parse_duration(word).ok_or_else(|| bad("not a duration"))?;
    let nanos = i64::try_from(time.as_nanos()).map_err(|_| bad("too long"))?;
    match nanos {
        1..1_000_000 => Err(bad("cannot be less than 1ms")),
        nanos => Ok(nanos),
    }
}
