//! argv → typed arguments → one call → text. The tree of commands is in `tree`, what each of them takes and does in
//! `command`.

mod access;
mod archive_output;
mod argument;
mod blame;
mod build;
mod cdi;
mod command;
mod compat;
mod complete;
mod console;
mod container;
mod environment;
mod extra;
mod fetch;
mod files;
mod health;
mod lxc;
mod manual;
mod missing;
mod mount;
mod names;
mod network;
mod prompt;
mod prune;
mod recorded;
mod resource;
mod secret;
mod security;
mod service;
mod session;
mod settings;
mod tree;
mod unit;
mod usage;
mod view;

pub(crate) use console::report;

use crate::error::{Context as _, Error, Kind, Result};
use clap::ArgMatches;
use clap::error::ErrorKind;
use session::Session;
use settings::{Setting, Settings};
use std::ffi::OsString;
use tree::{Body, Codes, Spec};

/// The version, and the commit it was built from.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
pub(crate) const COMMIT: &str = match option_env!("BARGE_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// What `main` reports, and the exit code.
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) code: u8,
}

/// Runs the command line `args`, the program's own name included. The exit code.
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> Result<u8, Failure> {
    let args: Vec<OsString> = args.skip(1).collect();
    let plain = |error: Error| Failure {
        code: exit_code(&error, Codes::Plain),
        error,
    };
    if let Some(done) = complete::answer(&args) {
        return done.map(|()| 0).map_err(plain);
    }
    let top = match parse(&[], &args).map_err(plain)? {
        Parsed::Help(text) => return show(&text).map_err(plain),
        Parsed::Typed(top) => top,
    };
    if top.matches.get_flag("version") {
        return show(&version_line()).map_err(plain);
    }
    let Some((first, rest)) = top.matches.subcommand() else {
        console::say(&tree::displayed(&[]).map(help_of).unwrap_or_default());
        return Ok(125);
    };
    let (first, rest) = (
        first.to_owned(),
        rest.get_many::<OsString>("").into_iter().flatten().cloned(),
    );
    let rest: Vec<OsString> = rest.collect();
    dispatch(*top, &first, &rest)
}

/// The options of the top level with the settings for them, and all settings.
fn session(top: Typed) -> Result<Session> {
    let settings = Settings::read()?;
    let origins = settings.origins(&top.matches);
    let (matches, chosen) = top.with(&settings)?;
    let session = Session::of(&matches, settings.clone(), origins);
    session.map_err(|e| settings::blame(e, &chosen))
}

/// For completion: what the words before the command say.
pub(crate) fn session_of(words: &[OsString]) -> Result<Session> {
    match parse(&[], words)? {
        Parsed::Typed(top) => session(*top),
        Parsed::Help(_) => Err(Error::usage("help")),
    }
}

pub(crate) fn version_line() -> String {
    format!("barge version {VERSION}, build {COMMIT}\n")
}

/// Follows nouns to the command, and runs it.
fn dispatch(top: Typed, first: &str, rest: &[OsString]) -> Result<u8, Failure> {
    let plain = |error: Error| Failure {
        code: exit_code(&error, Codes::Plain),
        error,
    };
    let mut path = vec![first];
    let mut rest = rest;
    loop {
        let Some(spec) = tree::find(&path) else {
            return Err(plain(unknown(&path)));
        };
        let Body::Command { run, codes, .. } = spec.body else {
            match rest.split_first().map(|(word, tail)| (word.to_str(), tail)) {
                Some((Some(word), tail)) if !word.starts_with('-') => {
                    path.push(word);
                    rest = tail;
                    continue;
                }
                Some(_) => return noun(&path, rest).map_err(plain),
                None => {
                    console::say(&tree::displayed(&path).map(help_of).unwrap_or_default());
                    return Ok(125);
                }
            }
        };
        let failed = |error: Error| Failure {
            code: exit_code(&error, codes),
            error,
        };
        // Before any settings: what is wrong with them must not keep help from being shown.
        let typed = match parse(&path, rest).map_err(failed)? {
            Parsed::Help(text) => return show(&text).map_err(failed),
            Parsed::Typed(typed) => typed,
        };
        let mut session = match session(top) {
            Err(_) if WITHOUT_SETTINGS.contains(&first) => Session::plain(),
            other => other.map_err(failed)?,
        };
        let settings = session.settings.clone();
        let (matches, chosen) = typed.with(&settings).map_err(failed)?;
        let outcome = run(&matches, &mut session).map_err(|e| settings::blame(e, &chosen));
        return finish(&mut session, outcome).map_err(failed);
    }
}

/// Commands that work however wrong the settings are.
const WITHOUT_SETTINGS: [&str; 4] = ["completion", "help", "man", "version"];

/// Options of a noun: there is only `--help`.
fn noun(path: &[&str], rest: &[OsString]) -> Result<u8> {
    match parse(path, rest)? {
        Parsed::Help(text) => show(&text),
        Parsed::Typed(_) => Err(usage::in_command(Error::usage("missing COMMAND"), &path.join(" "))),
    }
}

fn unknown(path: &[&str]) -> Error {
    let (word, above) = path.split_last().unwrap_or((&"", &[]));
    let level = match tree::find(above).map(|s| &s.body) {
        Some(Body::Noun(children)) => children,
        _ => command::COMMANDS,
    };
    let known: Vec<&str> = level.iter().map(|s: &Spec| s.name).collect();
    usage::in_command(usage::unknown_command(word, &known), &above.join(" "))
}

enum Parsed {
    Help(String),
    Typed(Box<Typed>),
}

/// A command line as it was typed, and what it means.
struct Typed {
    path: Vec<String>,
    parser: clap::Command,
    words: Vec<OsString>,
    matches: ArgMatches,
}

fn parse(path: &[&str], args: &[OsString]) -> Result<Parsed> {
    let mut parser = tree::parser(path).ok_or_else(|| unknown(path))?;
    parser.build();
    let words = compat::normalise(&parser, args);
    match matches(&mut parser, path, &words)? {
        Some(matches) => Ok(Parsed::Typed(Box::new(Typed {
            path: path.iter().map(|&word| word.to_owned()).collect(),
            parser,
            words,
            matches,
        }))),
        None => Ok(Parsed::Help(tree::displayed(path).map(help_of).unwrap_or_default())),
    }
}

impl Typed {
    /// With what the settings add, which is named too.
    fn with(mut self, settings: &Settings) -> Result<(ArgMatches, Vec<&Setting>)> {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let chosen = settings.chosen(&path, &self.parser, &self.matches);
        if chosen.is_empty() {
            return Ok((self.matches, chosen));
        }
        let words = [settings::words(&chosen), self.words].concat();
        match matches(&mut self.parser, &path, &words) {
            Ok(all) => Ok((all.unwrap_or(self.matches), chosen)),
            Err(e) => Err(settings::blame(e, &chosen)),
        }
    }
}

/// `None` if help is asked for.
fn matches(parser: &mut clap::Command, path: &[&str], words: &[OsString]) -> Result<Option<ArgMatches>> {
    match parser.try_get_matches_from_mut(std::iter::once(&OsString::from("barge")).chain(words)) {
        Ok(matches) => Ok(Some(matches)),
        Err(e) if e.kind() == ErrorKind::DisplayHelp => Ok(None),
        Err(e) => {
            let usage = parser.render_usage().to_string().replacen("Usage: ", "usage: ", 1);
            Err(usage::explain(&e, &path.join(" "), &usage, words))
        }
    }
}

/// The help text of a displayed command.
fn help_of(mut command: clap::Command) -> String {
    command.render_help().to_string()
}

fn show(text: &str) -> Result<u8> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.context("write to stdout").map(|()| 0)
}

/// What the command said must have reached its reader before the code counts.
fn finish(session: &mut Session, outcome: Result<u8>) -> Result<u8> {
    match (outcome, session.console.flush()) {
        (Ok(code), Ok(())) => Ok(code),
        // The program's own code is worth more than a reader that went away.
        (Ok(code), Err(e)) if e.kind() == Kind::BrokenPipe => Ok(code),
        (Ok(_), Err(e)) => Err(e).context("write to stdout"),
        (Err(e), _) => Err(e),
    }
}

fn exit_code(error: &Error, codes: Codes) -> u8 {
    match (error.kind(), codes) {
        (Kind::Status(code) | Kind::Step(code), _) => code,
        (Kind::BrokenPipe, _) => 0,
        (Kind::CannotExecute, Codes::Program) => 126,
        (Kind::CommandNotFound, Codes::Program) => 127,
        (Kind::Usage, _) | (_, Codes::Program) => 125,
        (_, Codes::Plain | Codes::Hidden) => 1,
    }
}

#[cfg(test)]
#[path = "bad_values_tests.rs"]
mod bad_values_tests;
