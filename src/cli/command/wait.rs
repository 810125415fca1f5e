//! `wait`: blocks until containers end, one after the other, and prints their exit codes.

use crate::cli::argument::{Values, words};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Codes, Spec};
use crate::container::wait::wait;
use crate::error::Result;
use clap::{ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "wait",
    about: "Wait until containers end, and print their exit codes",
    examples: &[("barge wait web", "0 if all went well")],
    also: None,
    body: Body::Command {
        define,
        run,
        codes: Codes::Plain,
    },
};

fn define(command: Command) -> Command {
    command.arg(words("CONTAINER", "Names or ids"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    session.each(m.texts("CONTAINER"), |store, id| Ok(Some(wait(store, id)?.to_string())))
}
