//! `create`: what `run` does before it starts anything.

use crate::cli::container as flags;
use crate::cli::fetch;
use crate::cli::session::Session;
use crate::cli::tree::{Body, Codes, Spec};
use crate::error::Result;
use clap::{ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "create",
    about: "Create a container without starting it, and print its id",
    examples: &[(
        "barge create --name db -v data:/var/lib/db debian dbserver",
        "ready for `barge start db`",
    )],
    also: None,
    body: Body::Command {
        define,
        run,
        codes: Codes::Program,
    },
};

fn define(command: Command) -> Command {
    fetch::define(flags::define(command))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let mut args = flags::run_args(m, false)?;
    args.command_line = std::env::args_os().map(Into::into).collect();
    session.complete(&mut args);
    let config = fetch::of(m)?.create(&session.store()?, &args)?;
    session.console.line(config.id.as_str())?;
    Ok(0)
}
