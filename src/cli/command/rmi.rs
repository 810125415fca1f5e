//! `rmi`: takes names from images, and removes those that have none left.

use crate::cli::argument::{Values, flag, words};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Codes, Spec};
use crate::container::status::status;
use crate::error::Result;
use crate::image::remove::remove;
use crate::model::state::Status;
use clap::{ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "rmi",
    about: "Remove images",
    examples: &[
        ("barge rmi debian:11", "this name, and the image if it was its last"),
        ("barge rmi -f 3f2a9c", "an image by its id, with all its names"),
    ],
    also: None,
    body: Body::Command {
        define,
        run,
        codes: Codes::Plain,
    },
};

fn define(command: Command) -> Command {
    command
        .arg(flag("force", "Also with several names, or stopped containers").short('f'))
        .arg(words("IMAGE", "Names or ids"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let force = m.on("force");
    let store = session.store()?;
    let runs = |id: &_| matches!(status(&store, id), Status::Running(_));
    session.each_name(m.texts("IMAGE"), |name| {
        let removed = remove(&store, name, force, runs)?;
        Ok(removed.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}
