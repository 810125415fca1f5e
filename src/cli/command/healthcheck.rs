//! `healthcheck`: asks a container now whether it works.

use crate::cli::argument::{Values, flag, word};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Codes, Spec};
use crate::container::healthcheck::check;
use crate::error::{Error, Result};
use clap::{ArgMatches, Command};
use std::io::Write as _;

pub(super) const SPEC: Spec = Spec {
    name: "healthcheck",
    about: "Ask containers whether they work",
    examples: &[],
    also: None,
    body: Body::Noun(&[RUN]),
};

const RUN: Spec = Spec {
    name: "run",
    about: "Run a container's health check now: exit with 0 if it is healthy, with 1 if it is not, with 125 if it can't be asked",
    examples: &[(
        "barge healthcheck run web && echo fine",
        "the same check that runs by itself",
    )],
    also: None,
    body: Body::Command {
        define,
        run,
        codes: Codes::Program,
    },
};

fn define(command: Command) -> Command {
    command
        .arg(flag("ignore-result", "Exit with 0 whatever the answer is"))
        .arg(word("CONTAINER", "Name or id"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let id = store.resolve_container(m.text("CONTAINER").unwrap_or_default())?;
    let result = check(&store, &id)?;
    if result.exit_code != 0 {
        session.console.line("unhealthy")?;
    }
    if session.debug {
        let said = crate::output::terminal::clean_lines(&result.output).into_owned();
        session.console.flush()?;
        session.console.note(&said);
    }
    session.console.out().flush()?;
    match result.exit_code == 0 || m.on("ignore-result") {
        true => Ok(0),
        false => Err(Error::status(1)),
    }
}
