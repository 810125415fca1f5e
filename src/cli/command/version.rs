//! `version`: this program and the kernel it runs on.

use crate::cli::argument::{Values, value};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::cli::view::info::{version, version_text};
use crate::error::Result;
use crate::output::template::Template;
use clap::{ArgMatches, Command};
use std::io::Write as _;

pub(super) const SPEC: Spec = Spec {
    name: "version",
    about: "Show the version of barge and of the kernel",
    examples: &[
        ("barge version", "`barge --version` is the short form"),
        ("barge version --format '{{.Client.Version}}'", "one field"),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command.arg(value("format", "TEMPLATE", "A Go template, or json").short('f'))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let version = version()?;
    match m.text("format").filter(|f| !f.is_empty()) {
        Some("json") => session.console.line(&version.to_string())?,
        Some(format) => session.console.line(&Template::parse(format)?.render(&version)?)?,
        None => write!(session.console.out(), "{}", version_text(&version))?,
    }
    Ok(0)
}
