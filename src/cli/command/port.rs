//! `port`: where a container's ports are on the host.

use crate::cli::argument::{Values, word};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::container::port;
use crate::error::Result;
use crate::model::port::PortNumber;
use clap::{ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "port",
    about: "Show where a container's ports are published",
    examples: &[
        ("barge port web", "all of them"),
        ("barge port web 80", "the addresses of port 80/tcp: 0.0.0.0:8080"),
        ("barge port dns 53/udp", "another protocol"),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command
        .arg(word("CONTAINER", "Name or id"))
        .arg(word("PORT", "A port of the container, such as 80 or 53/udp").required(false))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let wanted = m.text("PORT").map(str::parse::<PortNumber>).transpose()?;
    let name = m.text("CONTAINER").unwrap_or_default();
    let store = session.store()?;
    let id = store.resolve_container(name)?;
    for line in port::lines(&store, &id, name, wanted)? {
        session.console.line(&line)?;
    }
    Ok(0)
}
