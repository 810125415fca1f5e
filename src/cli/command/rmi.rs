//! `rmi`: takes names from images, and removes those that have none left.

use crate::cli::access;
use crate::cli::argument::{Values, flag, words};
use crate::cli::prune::confirm;
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::container::status::status;
use crate::error::{Kind, Result};
use crate::image::remote::Remote;
use crate::image::removal::Options;
use crate::image::remove::{delete, remove};
use crate::model::state::Status;
use clap::{ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "rmi",
    about: "Remove images",
    examples: &[
        ("barge rmi debian:11", "this name, and the image if it was its last"),
        ("barge rmi -f 3f2a9c", "an image by its id, with all its names"),
        (
            "barge rmi --remote registry.example.com/app:old",
            "not here, but at the registry; asks first",
        ),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    access::define(command)
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
        .arg(flag(
            "remote",
            "Delete at the registry, with every tag of the same image there; nothing here",
        ))
        .arg(
            flag(
                "all-tags",
                "With --remote, at a registry of 2013: the repository with all its tags",
            )
            .short('a')
            .requires("remote"),
        )
        .arg(words("IMAGE", "Names or ids"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    if m.on("remote") {
        return remote(m, session);
    }
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
    delete(removed)?;
    Ok(code)
}

/// Asks "Are you sure?" for each, unless forced (F240).
fn remote(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let access = access::of(m)?;
    let mut code = 0;
    for name in m.texts("IMAGE") {
        let mut delete = || -> Result<()> {
            let remote = Remote::find(name, m.on("all-tags"), &access)?;
            if confirm(session, &remote.warning(), m.on("force"))? {
                remote.delete()?;
                session.console.line(&format!("Deleted: {}", remote.described()))?;
                session.console.flush()?;
            }
            Ok(())
        };
        if let Err(e) = delete() {
            session.console.error(&e);
            code = 1;
        }
    }
    Ok(code)
}
