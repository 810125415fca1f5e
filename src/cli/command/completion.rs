//! `completion`: the script that makes a shell ask this program.

use crate::cli::argument::Values as _;
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::error::Result;
use clap::{Arg, ArgMatches, Command};
use std::io::Write as _;

pub(super) const SPEC: Spec = Spec {
    name: "completion",
    about: "Print the completion script of a shell",
    examples: &[
        (
            "barge completion bash > /etc/bash_completion.d/barge",
            "for all new shells",
        ),
        (
            "barge completion zsh > /usr/local/share/zsh/site-functions/_barge",
            "the same of zsh",
        ),
        (
            "barge completion fish > ~/.config/fish/completions/barge.fish",
            "of fish",
        ),
    ],
    also: None,
    body: Body::plain(define, run),
};

/// The files that packages install; they know nothing but how to ask.
const BASH: &str = include_str!("../../../completions/barge.bash");
const FISH: &str = include_str!("../../../completions/barge.fish");
const ZSH: &str = include_str!("../../../completions/_barge");

fn define(command: Command) -> Command {
    command.arg(
        Arg::new("SHELL")
            .help("The shell")
            .value_parser(["bash", "fish", "zsh"])
            .required(true),
    )
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let script = match m.text("SHELL") {
        Some("fish") => FISH,
        Some("zsh") => ZSH,
        _ => BASH,
    };
    session.console.out().write_all(script.as_bytes())?;
    Ok(0)
}
