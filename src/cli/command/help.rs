//! `help`: the list of commands, or one of them.

use crate::cli::argument::Values;
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec, displayed};
use crate::cli::unknown;
use crate::error::Result;
use clap::{Arg, ArgMatches, Command};
use std::io::Write as _;

pub(super) const SPEC: Spec = Spec {
    name: "help",
    about: "Show the commands, or what one of them takes",
    examples: &[("barge help run", "the same as `barge run --help`")],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command.arg(
        Arg::new("COMMAND")
            .help("A command, such as `run` or `volume ls`")
            .num_args(0..),
    )
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let path: Vec<&str> = m.texts("COMMAND").collect();
    let mut command = displayed(&path).ok_or_else(|| unknown(&path))?;
    write!(session.console.out(), "{}", command.render_help())?;
    Ok(0)
}
