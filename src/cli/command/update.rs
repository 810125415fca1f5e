//! `update`: other limits and another restart policy for containers.

use crate::cli::argument::{Values, value, words};
use crate::cli::container::{group_flags, resources};
use crate::cli::resource;
use crate::cli::session::Session;
use crate::cli::tree::{Body, Codes, Spec};
use crate::container::update::{Update, update};
use crate::error::{Error, Result};
use clap::{ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "update",
    about: "Change limits and restart policy of containers",
    examples: &[
        ("barge update -m 512m --cpus 1.5 web", "at once, if it runs"),
        ("barge update --restart unless-stopped web db", "for both"),
    ],
    also: None,
    body: Body::Command {
        define,
        run,
        codes: Codes::Plain,
    },
};

fn define(command: Command) -> Command {
    group_flags(command)
        .arg(value(
            "restart",
            "POLICY",
            "When to start again: no, on-failure[:max], always, unless-stopped",
        ))
        .arg(words("CONTAINER", "Names or ids"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let wanted = Update {
        resources: resources(m)?,
        restart: m.text("restart").map(resource::restart).transpose()?,
    };
    if wanted == Update::default() {
        return Err(
            Error::usage("You must provide one or more flags when using this command.")
                .with_hint("`barge help update` lists them"),
        );
    }
    session.each(m.texts("CONTAINER"), |store, id| {
        update(store, id, &wanted).map(|()| None)
    })
}
