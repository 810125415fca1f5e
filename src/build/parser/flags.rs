//! `--name=value` before an instruction's arguments.

use crate::build::lexer::Line;
use crate::build::place::Word;
use crate::build::words;
use crate::error::{Error, Result};
use crate::model::near::nearest;
use std::ops::Range;

struct Flag {
    name: String,
    value: Option<Word>,
    range: Range<usize>,
}

/// The flags of one instruction. Each is taken out by name.
pub(super) struct Flags<'a> {
    line: &'a Line,
    all: Vec<Flag>,
}

impl<'a> Flags<'a> {
    /// Reads flags at the begin of `within`; the rest are the arguments. `known` are those that the instruction has, the
    /// `repeated` ones may come several times.
    pub(super) fn split(
        line: &'a Line,
        within: Range<usize>,
        keyword: &str,
        known: &[&'static str],
        repeated: &[&'static str],
    ) -> Result<(Flags<'a>, Range<usize>)> {
        let mut flags = Flags { line, all: Vec::new() };
        let mut rest = words::trimmed(&line.text, within);
        while line.text[rest.clone()].starts_with("--") {
            let found = words::quoted(&line.text, rest.clone(), '\\');
            let Some(word) = found.words.first().cloned() else {
                break;
            };
            rest = words::trimmed(&line.text, word.end..rest.end);
            let raw = &line.text[word.clone()];
            if raw == "--" {
                break;
            }
            let text = words::unquote(raw, '\\');
            let (name, value) = match text[2..].split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (text[2..].to_owned(), None),
            };
            if !known.contains(&name.as_str()) {
                let e = line.error(word, format!("unknown flag --{name}"));
                return Err(match (nearest(&name, known.iter().copied()), known) {
                    (Some(near), _) => e.with_hint(format!("did you mean --{near}?")),
                    (None, []) => e.with_hint(format!("{keyword} has no flags")),
                    (None, _) => e.with_hint(format!("{keyword} has --{}", known.join(", --"))),
                });
            }
            if !repeated.contains(&name.as_str()) && flags.all.iter().any(|f| f.name == name) {
                return Err(line.error(word, format!("--{name} stands there twice")));
            }
            let at = raw.find('=').map_or(word.start, |at| word.start + at + 1);
            flags.all.push(Flag {
                value: value.map(|text| Word {
                    text,
                    place: line.place(at),
                }),
                name,
                range: word,
            });
        }
        Ok((flags, rest))
    }

    /// The value of a flag that must have one.
    pub(super) fn value(&mut self, name: &str) -> Result<Option<Word>> {
        Ok(self.values(name)?.pop())
    }

    pub(super) fn values(&mut self, name: &str) -> Result<Vec<Word>> {
        let mut values = Vec::new();
        for flag in self.all.extract_if(.., |f| f.name == name) {
            match flag.value {
                Some(value) => values.push(value),
                None => {
                    return Err(self
                        .line
                        .error(flag.range, format!("--{name} needs a value"))
                        .with_hint(format!("write it like --{name}=VALUE")));
                }
            }
        }
        Ok(values)
    }

    /// `--name`, `--name=true`, `--name=false`.
    pub(super) fn switch(&mut self, name: &str) -> Result<Option<bool>> {
        let Some(at) = self.all.iter().position(|f| f.name == name) else {
            return Ok(None);
        };
        let flag = self.all.remove(at);
        let bad = |value: &str| -> Error {
            self.line
                .error(flag.range.clone(), format!("--{name} is true or false, not '{value}'"))
        };
        match flag.value.as_ref().map(|v| v.to_ascii_lowercase()).as_deref() {
            None | Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(bad(other)),
        }
    }
}
