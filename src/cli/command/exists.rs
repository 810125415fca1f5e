//! `container exists`, `image exists`: answers by the exit code alone.

use crate::cli::argument::{Values, word};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Codes, Spec};
use crate::error::{Error, Kind, Result};
use crate::image::resolve::resolve_id;
use crate::store::Store;
use clap::ArgMatches;

pub(super) const CONTAINER: Spec = Spec {
    name: "exists",
    about: "Tell by the exit code whether there is a container: 0 or 1",
    examples: &[(
        "barge container exists web || barge run -d --name web nginx",
        "starts it unless it is there",
    )],
    also: None,
    body: Body::Command {
        define: |command| command.arg(word("CONTAINER", "Name or id")),
        run: |m, session| {
            answer(m, session, "CONTAINER", |store, what| {
                store.resolve_container(what).map(drop)
            })
        },
        codes: Codes::Plain,
    },
};

pub(super) const IMAGE: Spec = Spec {
    name: "exists",
    about: "Tell by the exit code whether an image is here: 0 or 1",
    examples: &[(
        "barge image exists debian:12 || barge pull debian:12",
        "pulls it unless it is here",
    )],
    also: None,
    body: Body::Command {
        define: |command| command.arg(word("IMAGE", "Name or id")),
        run: |m, session| answer(m, session, "IMAGE", |store, what| resolve_id(store, what).map(drop)),
        codes: Codes::Plain,
    },
};

fn answer(m: &ArgMatches, session: &mut Session, argument: &str, find: fn(&Store, &str) -> Result<()>) -> Result<u8> {
    match find(&session.store()?, m.text(argument).unwrap_or_default()) {
        Err(e) if e.kind() == Kind::NotFound => Err(Error::status(1)),
        found => found.map(|()| 0),
    }
}
