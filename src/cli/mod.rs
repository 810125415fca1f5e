//! argv → typed arguments → one call → text. The tree of commands is in `tree`, what each of them takes and does in
//! `command`.

mod access;
mod argument;
mod cdi;
mod command;
mod compat;
mod complete;
mod console;
mod container;
mod environment;
mod fetch;
mod health;
mod manual;
mod mount;
mod names;
mod network;
mod prompt;
mod prune;
mod resource;
mod secret;
mod security;
mod service;
mod session;
mod settings;
mod tree;
mod usage;
mod view;

pub(crate) use console::report;

use crate::error::{Context as _, Error, Kind, Result};
use clap::ArgMatches;
use clap::error::ErrorKind;
use session::Session;
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
    let matches = match parse(&[], &args).map_err(plain)? {
        Parsed::Help(text) => return show(&text).map_err(plain),
        Parsed::Matches(matches) => matches,
    };
    let mut session = Session::of(&matches).map_err(plain)?;
    if matches.get_flag("version") {
        return show(&version_line()).map_err(plain);
    }
    let Some((first, rest)) = matches.subcommand() else {
        console::say(&tree::displayed(&[]).map(help_of).unwrap_or_default());
        return Ok(125);
    };
    let rest: Vec<OsString> = rest.get_many::<OsString>("").into_iter().flatten().cloned().collect();
    dispatch(&mut session, first, &rest)
}

pub(crate) fn version_line() -> String {
    format!("barge version {VERSION}, build {COMMIT}\n")
}

/// Follows nouns to the command, and runs it.
fn dispatch(session: &mut Session, first: &str, rest: &[OsString]) -> Result<u8, Failure> {
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
        return match parse(&path, rest).map_err(failed)? {
            Parsed::Help(text) => show(&text).map_err(failed),
            Parsed::Matches(matches) => {
                let outcome = run(&matches, session);
                finish(session, outcome).map_err(failed)
            }
        };
    }
}

/// Options of a noun: there is only `--help`.
fn noun(path: &[&str], rest: &[OsString]) -> Result<u8> {
    match parse(path, rest)? {
        Parsed::Help(text) => show(&text),
        Parsed::Matches(_) => Err(usage::in_command(Error::usage("missing COMMAND"), &path.join(" "))),
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
    Matches(ArgMatches),
}

fn parse(path: &[&str], args: &[OsString]) -> Result<Parsed> {
    let mut parser = tree::parser(path).ok_or_else(|| unknown(path))?;
    parser.build();
    let words = compat::normalise(&parser, args);
    let usage_line = |parser: &mut clap::Command| parser.render_usage().to_string().replacen("Usage: ", "usage: ", 1);
    match parser.try_get_matches_from_mut(std::iter::once(&OsString::from("barge")).chain(&words)) {
        Ok(matches) => Ok(Parsed::Matches(matches)),
        Err(e) if e.kind() == ErrorKind::DisplayHelp => {
            Ok(Parsed::Help(tree::displayed(path).map(help_of).unwrap_or_default()))
        }
        Err(e) => Err(usage::explain(&e, &path.join(" "), &usage_line(&mut parser), &words)),
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
        (Kind::Status(code), _) => code,
        (Kind::BrokenPipe, _) => 0,
        (Kind::CannotExecute, Codes::Program) => 126,
        (Kind::CommandNotFound, Codes::Program) => 127,
        (Kind::Usage, _) | (_, Codes::Program) => 125,
        (_, Codes::Plain | Codes::Hidden) => 1,
    }
}
