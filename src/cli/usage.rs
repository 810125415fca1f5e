//! What is wrong with a command line, in the engine's words.

use crate::error::{Context as _, Error, Result};
use crate::model::near::nearest;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::error::Error as _;
use std::ffi::OsString;

/// Clap's complaint about `barge PATH …` as one line with a hint. `usage` is the line that shows how it should be.
pub(crate) fn explain(error: &clap::Error, path: &str, usage: &str, words: &[OsString]) -> Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(all)) => Some(all.join(" ")),
        _ => None,
    };
    let arg = text(ContextKind::InvalidArg)
        .map(|a| name_of(&a).to_owned())
        .unwrap_or_default();
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    let message = match error.kind() {
        ErrorKind::UnknownArgument if arg.starts_with('-') => format!("unknown flag '{arg}'{}", cluster(&arg, words)),
        ErrorKind::UnknownArgument | ErrorKind::TooManyValues => format!("unexpected argument '{arg}'"),
        ErrorKind::MissingRequiredArgument => {
            format!("missing {}", bare(&text(ContextKind::InvalidArg).unwrap_or_default()))
        }
        ErrorKind::InvalidValue if value.is_empty() => format!("flag '{arg}' needs a value"),
        ErrorKind::InvalidUtf8 => "an argument is not UTF-8".to_owned(),
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => match error.source() {
            Some(cause) => format!("invalid value '{value}' for '{arg}': {cause}"),
            None => format!("invalid value '{value}' for '{arg}'"),
        },
        ErrorKind::ArgumentConflict => {
            format!(
                "Conflicting options: {arg} and {}",
                text(ContextKind::PriorArg).as_deref().map_or("another", name_of)
            )
        }
        _ => error.kind().as_str().unwrap_or("bad command line").to_owned(),
    };
    let suggestion = text(ContextKind::SuggestedArg);
    let hint = match (&suggestion, error.kind()) {
        (Some(other), _) => format!("did you mean '{}'? 'barge {path} --help' lists all", name_of(other)),
        (None, ErrorKind::MissingRequiredArgument) => usage.to_owned(),
        (None, ErrorKind::InvalidValue) if !possible(error).is_empty() => format!("there are {}", possible(error)),
        (None, _) => format!("see 'barge {path} --help'"),
    };
    in_command(Error::usage(message).with_hint(hint.replace("  ", " ")), path)
}

/// The values that an argument takes, if they are known.
fn possible(error: &clap::Error) -> String {
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(all)) => all.join(", "),
        _ => String::new(),
    }
}

/// Where a short flag was found, if it was not alone: ` in '-abc'`.
fn cluster(arg: &str, words: &[OsString]) -> String {
    let Some(letter) = arg.strip_prefix('-').filter(|l| l.chars().count() == 1) else {
        return String::new();
    };
    let words = words.iter().filter_map(|w| w.to_str()).take_while(|w| *w != "--");
    let found = words
        .filter(|w| w.starts_with('-') && !w.starts_with("--") && w.len() > 2)
        .find(|w| w.contains(letter));
    found.map(|w| format!(" in '{w}'")).unwrap_or_default()
}

/// The error with the command's name before it.
pub(crate) fn in_command(error: Error, path: &str) -> Error {
    if path.is_empty() {
        return error;
    }
    let wrapped: Result<()> = Err(error).context(path);
    wrapped.err().unwrap_or_else(|| Error::usage(path))
}

/// An unknown command, with the nearest of those that exist.
pub(crate) fn unknown_command(word: &str, known: &[&str]) -> Error {
    let error = Error::usage(format!("unknown command '{word}'"));
    match nearest(word, known.iter().copied()) {
        Some(name) => error.with_hint(format!("did you mean 'barge {name}'?")),
        None => error.with_hint("'barge help' lists all commands"),
    }
}

/// `--name` of `--name <NAME>`.
fn name_of(arg: &str) -> &str {
    arg.split([' ', '=', '[']).next().unwrap_or(arg)
}

/// `IMAGE` of `<IMAGE>...`.
fn bare(arg: &str) -> String {
    let arg = arg.replace(['<', '>', '[', ']'], "").replace("...", "");
    // A boolean's `=VALUE` is its own name.
    match arg.split_once('=') {
        Some((flag, value)) if flag.strip_prefix("--") == Some(value) => flag.to_owned(),
        _ => arg,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_commands_are_offered() {
        let known = ["run", "rm", "start", "version"];
        for (word, hint) in [
            ("rnu", "'barge run'"),
            ("sart", "'barge start'"),
            ("vresion", "'barge version'"),
            ("xyzzy", "lists all"),
        ] {
            let e = unknown_command(word, &known);
            assert_eq!(e.to_string(), format!("unknown command '{word}'"));
            assert!(e.hint().unwrap().contains(hint), "{word}: {:?}", e.hint());
        }
    }
}
