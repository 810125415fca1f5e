//! `rename`: gives a container another name.

use crate::cli::argument::{Values, word};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::container::rename::rename;
use crate::error::Result;
use clap::{ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "rename",
    about: "Give a container another name",
    examples: &[("barge rename web web-old", "running or not")],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command
        .arg(word("CONTAINER", "Name or id"))
        .arg(word("NEW_NAME", "Its name from now on"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let id = store.resolve_container(m.text("CONTAINER").unwrap_or_default())?;
    rename(&store, &id, m.text("NEW_NAME").unwrap_or_default())?;
    Ok(0)
}
