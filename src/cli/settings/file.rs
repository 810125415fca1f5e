//! The engine's own files: TOML → settings, checked against the tree of commands.

use super::{Setting, files_of, foreign, text_of};
use crate::cli::argument::is_switch;
use crate::cli::tree::{self, Body};
use crate::cli::usage;
use crate::error::{Context as _, Error, Result};
use crate::model::near::nearest;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command};
use std::borrow::Cow;
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// What the files of one directory say.
#[derive(Debug, Default)]
pub(super) struct Own {
    pub(super) settings: Vec<Setting>,
    /// `read`: which other engines' files count.
    pub(super) read: Option<Vec<foreign::Kind>>,
    /// There is a file.
    pub(super) found: bool,
}

pub(super) fn of_directory(directory: &Path) -> Result<Own> {
    let mut own = Own::default();
    let main = std::iter::once(directory.join("config.toml"));
    for file in main.chain(files_of(&directory.join("config.d"), "toml")) {
        if let Some(text) = text_of(&file)? {
            own.found = true;
            parse(&text, &file, &mut own).with_context(|| file.display().to_string())?;
        }
    }
    Ok(own)
}

/// Adds what `text` says; `file` is only told.
pub(super) fn parse(text: &str, file: &Path, own: &mut Own) -> Result<()> {
    let text = &*without_comments(text);
    let reader = Reader { text, file };
    let document = DeTable::parse(text).map_err(|e| {
        let at = e.span().map_or(0, |s| s.start);
        reader.at(
            at,
            e.message()
                .replace('\n', " ")
                .escape_debug()
                .to_string()
                .replace("\\'", "'")
                .replace("\\\"", "\""),
        )
    })?;
    reader.table(document.get_ref(), &[], own)
}

/// Every command reads the file, and most of the one that is shipped is comments: without those lines the parser has a
/// tenth to do. The lines stay, so that errors name them. Text over several lines may hold what looks like a comment.
fn without_comments(text: &str) -> Cow<'_, str> {
    if text.contains("\"\"\"") || text.contains("'''") {
        return Cow::Borrowed(text);
    }
    let mut kept = String::new();
    for line in text.split_inclusive('\n') {
        kept.push_str(if line.trim_start().starts_with('#') { "\n" } else { line });
    }
    Cow::Owned(kept)
}

struct Reader<'a> {
    text: &'a str,
    file: &'a Path,
}

impl Reader<'_> {
    fn line(&self, offset: usize) -> usize {
        self.text[..offset.min(self.text.len())].matches('\n').count() + 1
    }

    fn at(&self, offset: usize, what: impl std::fmt::Display) -> Error {
        Error::other(format!("line {}: {what}", self.line(offset)))
    }

    fn table(&self, table: &DeTable<'_>, path: &[&'static str], own: &mut Own) -> Result<()> {
        // In the order of the file: the table has its own.
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        // Made for those that set something: the shipped file has a table for every command, and nothing in them.
        let mut made = None;
        for (key, value) in entries {
            let (offset, name) = (key.span().start, key.get_ref().as_ref());
            let value = value.get_ref();
            if let (Some(below), Some(table)) = (child(path, name), value.as_table()) {
                self.table(table, &below, own)?;
                continue;
            }
            if path.is_empty() && name == "read" {
                own.read = Some(self.kinds(offset, value)?);
                continue;
            }
            let parser = match &made {
                Some(parser) => parser,
                None => {
                    let mut parser = tree::parser(path).ok_or_else(|| Error::other("no such command"))?;
                    parser.build();
                    &*made.insert(parser)
                }
            };
            if let Some(arg) = flag(parser, name).filter(|arg| !value.is_table() || takes_pairs(arg)) {
                let setting = self.setting(offset, path, arg, value)?;
                check(parser, &setting).map_err(|e| self.at(offset, e))?;
                own.settings.push(setting);
                continue;
            }
            return Err(match child(path, name) {
                Some(_) => self.at(offset, format!("[{name}] is a command: want a table")),
                None => self.unknown(offset, path, parser, name),
            });
        }
        Ok(())
    }

    fn setting(&self, offset: usize, path: &[&'static str], arg: &Arg, value: &DeValue<'_>) -> Result<Setting> {
        let long = arg.get_long().unwrap_or_default();
        let wrong = |want: &str| self.at(offset, format!("{long}: want {want}, not {}", value.type_str()));
        let is_switch = is_switch(arg);
        let is_list = matches!(arg.get_action(), ArgAction::Append);
        let one = |value: &DeValue<'_>| match value {
            DeValue::Boolean(b) if is_switch => Ok(b.to_string()),
            _ if is_switch => Err(wrong("true or false")),
            DeValue::String(text) => Ok(text.clone().into_owned()),
            DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix())
                .map(|n| n.to_string())
                .map_err(|_| wrong("a smaller number")),
            DeValue::Float(n) => Ok(n.as_str().to_owned()),
            _ => Err(wrong("a text or a number")),
        };
        let values = match value {
            DeValue::Array(items) if is_list => items.iter().map(|item| one(item.get_ref())).collect::<Result<_>>()?,
            DeValue::Array(_) => return Err(wrong("one value")),
            DeValue::Table(pairs) if takes_pairs(arg) => pairs
                .iter()
                .map(|(name, value)| Ok(format!("{}={}", name.get_ref(), one(value.get_ref())?)))
                .collect::<Result<_>>()?,
            value => vec![one(value)?],
        };
        Ok(Setting {
            command: path.to_vec(),
            flag: long.to_owned(),
            values,
            origin: format!("{}, line {}", self.file.display(), self.line(offset)),
        })
    }

    fn kinds(&self, offset: usize, value: &DeValue<'_>) -> Result<Vec<foreign::Kind>> {
        let wrong = || self.at(offset, "read: want a list of \"docker\" and \"containers\"");
        let items = value.as_array().ok_or_else(wrong)?;
        let kind = |text: &str| foreign::Kind::ALL.into_iter().find(|k| k.name() == text);
        let kinds = items.iter().map(|item| item.get_ref().as_str().and_then(kind));
        kinds.collect::<Option<_>>().ok_or_else(wrong)
    }

    fn unknown(&self, offset: usize, path: &[&str], parser: &Command, name: &str) -> Error {
        let flags = parser.get_arguments().filter(|a| is_settable(a) && !a.is_hide_set());
        let mut known: Vec<&str> = flags.filter_map(Arg::get_long).collect();
        known.extend(tree::level(path).iter().map(|s| s.name));
        let whose = match path {
            [] => String::new(),
            path => format!(" of '{}'", path.join(" ")),
        };
        let error = self.at(offset, format!("unknown setting '{}'{whose}", name.escape_debug()));
        match (nearest(name, known.iter().copied()), path) {
            (Some(near), _) => error.with_hint(format!("did you mean '{near}'?")),
            (None, []) => {
                error.with_hint("settings are long flags, those of a command in a table of its name: see barge.toml(5)")
            }
            (None, path) => error.with_hint(format!(
                "settings are its long flags: see 'barge {} --help'",
                path.join(" ")
            )),
        }
    }
}

/// The command or noun of that name below `path`, as the top level knows it.
fn child(path: &[&'static str], name: &str) -> Option<Vec<&'static str>> {
    let spec = tree::level(path).iter().find(|s| s.name == name)?;
    match (spec.also, &spec.body) {
        (Some(other), Body::Command { .. }) => Some(vec![other]),
        _ => Some([path, &[spec.name]].concat()),
    }
}

/// The flag with this long name, or another name of the same.
pub(super) fn flag<'a>(parser: &'a Command, name: &str) -> Option<&'a Arg> {
    let is = |arg: &&Arg| {
        arg.get_long() == Some(name)
            || arg
                .get_all_aliases()
                .is_some_and(|all| all.into_iter().any(|a| a == name))
    };
    parser.get_arguments().filter(|a| is_settable(a)).find(is)
}

/// Help and version are no defaults.
fn is_settable(arg: &Arg) -> bool {
    arg.get_long().is_some()
        && !matches!(
            arg.get_action(),
            ArgAction::Help | ArgAction::SetTrue | ArgAction::Version
        )
}

/// A repeated flag of names with values, such as `--env`: the settings' and the command line's come together.
pub(super) fn takes_pairs(arg: &Arg) -> bool {
    let name = arg.get_value_names().and_then(|names| names.first());
    matches!(arg.get_action(), ArgAction::Append) && name.is_some_and(|name| name.starts_with("NAME="))
}

/// As far as the command line's parser can tell; the rest is found out when the command runs.
fn check(parser: &Command, setting: &Setting) -> Result<()> {
    let words = std::iter::once("barge".to_owned()).chain(setting.words());
    match parser.clone().try_get_matches_from(words) {
        Err(e) if matches!(e.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) => {
            Err(usage::explain(&e, &setting.command.join(" "), "", &[]))
        }
        _ => Ok(()),
    }
}
