//! `completion`: the script that makes a shell ask this program.

use crate::cli::session::Session;
use crate::cli::tree::{Body, Codes, Spec};
use crate::error::Result;
use clap::{Arg, ArgMatches, Command};
use std::io::Write as _;

pub(super) const SPEC: Spec = Spec {
    name: "completion",
    about: "Print the completion script of a shell",
    examples: &[(
        "barge completion bash > /etc/bash_completion.d/barge",
        "for all new shells",
    )],
    also: None,
    body: Body::Command {
        define,
        run,
        codes: Codes::Plain,
    },
};

/// The file that packages install; it knows nothing but how to ask.
const BASH: &str = include_str!("../../../completions/barge.bash");

fn define(command: Command) -> Command {
    command.arg(
        Arg::new("SHELL")
            .help("The shell")
            .value_parser(["bash"])
            .required(true),
    )
}

fn run(_: &ArgMatches, session: &mut Session) -> Result<u8> {
    session.console.out().write_all(BASH.as_bytes())?;
    Ok(0)
}
