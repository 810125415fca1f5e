//! `create`: what `run` does before it starts anything.

use super::run::{detach_keys, keys_of, sig_proxy};
use crate::cli::argument::flag;
use crate::cli::container as flags;
use crate::cli::fetch;
use crate::cli::session::Session;
use crate::cli::tree::{Body, Codes, Spec};
use crate::container::create;
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

/// What says how to attach is taken for the sake of lines that were a `run`; `start` has its own.
fn define(command: Command) -> Command {
    let command = command
        .arg(
            flag("detach", "Nothing is attached to, in any case")
                .short('d')
                .hide(true),
        )
        .arg(detach_keys().hide(true))
        .arg(sig_proxy().hide(true));
    fetch::define(flags::define(command))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let mut args = flags::run_args(m, false)?;
    args.command_line = std::env::args_os().map(Into::into).collect();
    session.complete(&mut args);
    keys_of(m)?;
    let store = session.store()?;
    let config = fetch::of(m)?.create(&store, &args)?;
    create::make_volumes(&store, &config)?;
    session.console.line(config.id.as_str())?;
    Ok(0)
}
