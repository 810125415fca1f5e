//! The kinds of arguments that commands are made of.

use clap::builder::{BoolishValueParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, ValueHint, value_parser};
use std::any::TypeId;
use std::ffi::{OsStr, OsString};

/// A boolean: `--name`, `--name=true`, `--name=false`; the last one wins.
pub(crate) fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .help(help)
        .action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .value_parser(BoolishValueParser::new())
}

/// Whether `arg` is made by [`flag`].
pub(crate) fn is_switch(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == TypeId::of::<bool>()
}

/// A flag with one value that is text; the last one wins.
pub(crate) fn value(name: &'static str, value_name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name(value_name)
        .help(help)
        .action(ArgAction::Set)
        .allow_hyphen_values(true)
}

/// A flag with one value of any bytes.
pub(crate) fn bytes(name: &'static str, value_name: &'static str, help: &'static str) -> Arg {
    let hint = match value_name {
        "FILE" => ValueHint::FilePath,
        "DIR" => ValueHint::DirPath,
        _ => ValueHint::Unknown,
    };
    value(name, value_name, help)
        .value_parser(value_parser!(OsString))
        .value_hint(hint)
}

/// A flag that may be repeated, each time with a text.
pub(crate) fn list(name: &'static str, value_name: &'static str, help: &'static str) -> Arg {
    value(name, value_name, help).action(ArgAction::Append)
}

/// A flag that may be repeated, each time with any bytes.
pub(crate) fn bytes_list(name: &'static str, value_name: &'static str, help: &'static str) -> Arg {
    bytes(name, value_name, help).action(ArgAction::Append)
}

/// One positional word that must be there.
pub(crate) fn word(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .value_name(name)
        .help(help)
        .required(true)
        .value_parser(ValueParser::string())
}

/// One or more positional words.
pub(crate) fn words(name: &'static str, help: &'static str) -> Arg {
    word(name, help).num_args(1..).action(ArgAction::Append)
}

/// Any number of positional words, none among them.
pub(crate) fn optional_words(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).help(help).action(ArgAction::Append).num_args(0..)
}

/// The rest of the line, which is another program's.
pub(crate) fn rest(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .value_name(name)
        .help(help)
        .num_args(0..)
        .trailing_var_arg(true)
        .allow_hyphen_values(true)
        .value_parser(value_parser!(OsString))
}

/// The value of a flag that is a number.
pub(crate) fn whole_number(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| "want a whole number".to_owned())
}

/// Reading what was parsed.
pub(crate) trait Values {
    /// Whether a boolean was given and true.
    fn on(&self, name: &str) -> bool;
    /// A boolean, if it was given.
    fn switch(&self, name: &str) -> Option<bool>;
    fn text(&self, name: &str) -> Option<&str>;
    fn raw(&self, name: &str) -> Option<&OsStr>;
    fn texts(&self, name: &str) -> impl Iterator<Item = &str> + Clone;
    fn raws(&self, name: &str) -> impl Iterator<Item = &OsStr>;
}

impl Values for ArgMatches {
    fn on(&self, name: &str) -> bool {
        self.switch(name).unwrap_or(false)
    }

    fn switch(&self, name: &str) -> Option<bool> {
        self.get_one::<bool>(name).copied()
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.get_one::<String>(name).map(String::as_str)
    }

    fn raw(&self, name: &str) -> Option<&OsStr> {
        self.get_one::<OsString>(name).map(OsString::as_os_str)
    }

    fn texts(&self, name: &str) -> impl Iterator<Item = &str> + Clone {
        self.get_many::<String>(name).into_iter().flatten().map(String::as_str)
    }

    fn raws(&self, name: &str) -> impl Iterator<Item = &OsStr> {
        self.get_many::<OsString>(name)
            .into_iter()
            .flatten()
            .map(OsString::as_os_str)
    }
}
