//! `version`: this program and the kernel it runs on.

use crate::cli::session::Session;
use crate::cli::tree::{Body, Codes, Spec};
use crate::cli::{COMMIT, VERSION};
use crate::error::Result;
use clap::{ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "version",
    about: "Show the version of barge and of the kernel",
    examples: &[("barge version", "`barge --version` is the short form")],
    also: None,
    body: Body::Command {
        define,
        run,
        codes: Codes::Plain,
    },
};

fn define(command: Command) -> Command {
    command
}

fn run(_: &ArgMatches, session: &mut Session) -> Result<u8> {
    session.console.line(VERSION)?;
    session.console.line(COMMIT)?;
    Ok(0)
}
