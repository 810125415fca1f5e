//! `export`: writes a container's file system as a tar.

use crate::cli::archive_output::write_to;
use crate::cli::argument::{Values, value, word};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::container::export::export;
use crate::error::Result;
use clap::{ArgMatches, Command, ValueHint};

pub(super) const SPEC: Spec = Spec {
    name: "export",
    about: "Write a container's file system as a tar",
    examples: &[
        (
            "barge export web > web.tar",
            "without its volumes, whether it runs or not",
        ),
        ("barge export -o web.tar web", "into a file that is whole or not there"),
        ("barge export web | barge import - web:flat", "an image of one layer"),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command
        .arg(
            value("output", "FILE", "Write to a file instead of stdout")
                .short('o')
                .value_hint(ValueHint::FilePath),
        )
        .arg(word("CONTAINER", "Name or id"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let container = store.resolve_container(m.text("CONTAINER").unwrap_or_default())?;
    write_to(session, m.text("output"), |out| export(&store, &container, out))?;
    Ok(0)
}
