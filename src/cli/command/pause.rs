//! `pause`: stops the processes of containers where they stand.

use crate::cli::argument::{Values, words};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Codes, Spec};
use crate::container::pause;
use crate::error::Result;
use clap::{ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "pause",
    about: "Stop all processes of containers where they stand",
    examples: &[("barge pause web", "until `barge unpause web`")],
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
    session.each_at_once(&m.texts("CONTAINER").collect::<Vec<_>>(), &|store, id| {
        pause::pause(store, id)
    })
}
