//! `rmi`: takes names from images, and removes those that have none left.

use crate::cli::argument::{Values, flag, words};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Codes, Spec};
use crate::container::status::status;
use crate::error::{Kind, Result};
use crate::image::removal::Options;
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
        .arg(
            flag(
                "force",
                "Also with several names, or stopped containers; what is not there is no failure",
            )
            .short('f'),
        )
        .arg(flag(
            "no-prune",
            "Keep the nameless images that a removed one was made from",
        ))
        .arg(words("IMAGE", "Names or ids"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let options = Options {
        force: m.on("force"),
        parents: !m.on("no-prune"),
    };
    let store = session.store()?;
    let runs = |id: &_| matches!(status(&store, id), Status::Running(_));
    let (mut removed, mut code) = (Vec::new(), 0);
    for name in m.texts("IMAGE") {
        match remove(&store, name, options, &runs) {
            Ok(removal) => {
                for line in &removal.lines {
                    session.console.line(&line.to_string())?;
                }
                session.console.flush()?;
                removed.push(removal);
            }
            Err(e) => {
                session.console.error(&e);
                code |= u8::from(!(options.force && e.kind() == Kind::NotFound));
            }
        }
    }
    // The images are gone since their lines were said; their files need some more time.
    for removal in removed {
        removal.delete()?;
    }
    Ok(code)
}
