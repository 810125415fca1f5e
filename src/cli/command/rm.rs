//! `rm`: removes containers.

use crate::cli::argument::{Values, flag, words};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::container::remove::{Options, remove};
use crate::error::Result;
use clap::{ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "rm",
    about: "Remove containers",
    examples: &[
        ("barge rm web", "one that has ended"),
        ("barge rm -f -v web", "even if it runs, and its anonymous volumes"),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command
        .arg(flag("force", "Kill what runs first; what is not there is no failure").short('f'))
        .arg(flag("volumes", "Remove anonymous volumes, too").short('v'))
        .arg(words("CONTAINER", "Names or ids"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let options = Options {
        force: m.on("force"),
        volumes: m.on("volumes"),
    };
    let names: Vec<&str> = m.texts("CONTAINER").collect();
    let store = session.store()?;
    let (there, missing): (Vec<&str>, Vec<&str>) = match options.force {
        true => names
            .into_iter()
            .partition(|name| store.resolve_container(name).is_ok()),
        false => (names, Vec::new()),
    };
    for name in missing {
        if let Err(e) = store.resolve_container(name) {
            session.console.error(&e);
        }
    }
    session.each_at_once(&there, &|store, id| remove(store, id, options))
}
