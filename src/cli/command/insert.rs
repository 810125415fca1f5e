//! `insert`: puts a file from the network into an image, as in 2013.

use crate::cli::access;
use crate::cli::argument::{Values, word};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::error::Result;
use crate::image::insert::insert;
use crate::output::progress::{self, To};
use clap::{ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "insert",
    about: "Fetch a file into a new image on top of another, and print its id",
    examples: &[(
        "barge insert debian https://example.com/tool /usr/local/bin/tool",
        "a new image without a name; `ADD` in a Dockerfile does it with the rest of a build",
    )],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    access::define(command)
        .arg(word("IMAGE", "Name or id"))
        .arg(word("URL", "What to fetch"))
        .arg(word("PATH", "Where to put it; with a / at the end, under its own name"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let text = |name| m.text(name).unwrap_or_default();
    let store = session.store()?;
    let progress = progress::for_command(false, To::Stderr);
    let id = insert(
        &store,
        text("IMAGE"),
        (text("URL"), text("PATH")),
        &access::of(m)?,
        &*progress,
    )?;
    session.console.line(&id.to_string())?;
    session.console.flush()?;
    session
        .console
        .note("barge: `insert` is kept for old scripts; ADD in a Dockerfile does the same (barge build)");
    Ok(0)
}
