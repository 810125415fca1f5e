//! `wait`: blocks until something becomes of containers, one after the other, and prints their exit codes.

use crate::cli::argument::{Values, flag, list, value, words};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::container::wait::{Condition, wait_for};
use crate::error::{Error, Result};
use clap::{ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "wait",
    about: "Wait until containers end, or for something else, and print their exit codes",
    examples: &[
        ("barge wait web", "0 if all went well"),
        (
            "barge wait --condition healthy db && barge start web",
            "one after the other",
        ),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command
        .arg(list(
            "condition",
            "WHAT",
            "Wait for this instead: healthy, unhealthy, running, paused, not-running, next-exit, removed, …",
        ))
        .arg(flag("ignore", "One that is not there is no error: -1"))
        .arg(
            value(
                "interval",
                "TIME",
                "Accepted for podman's sake: nothing is asked again and again",
            )
            .short('i')
            .hide(true),
        )
        .arg(words("CONTAINER", "Names or ids"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let conditions = m
        .texts("condition")
        .flat_map(|c| c.split(','))
        .map(condition)
        .collect::<Result<Vec<_>>>()?;
    let ignore = m.on("ignore");
    let store = session.store()?;
    // What does not end has no code.
    let said = |code: Option<u8>| code.map_or_else(|| "-1".to_owned(), |c| c.to_string());
    session.each_name(m.texts("CONTAINER"), |name| match store.resolve_container(name) {
        Err(_) if ignore => Ok(said(None)),
        id => Ok(said(wait_for(&store, &id?, &conditions)?)),
    })
}

fn condition(text: &str) -> Result<Condition> {
    let known = Condition::NAMES.iter().find(|(name, _)| *name == text);
    known.map(|(_, c)| *c).ok_or_else(|| {
        let names: Vec<&str> = Condition::NAMES.iter().map(|(name, _)| *name).collect();
        Error::usage(format!("invalid condition '{text}'")).with_hint(format!("there are {}", names.join(", ")))
    })
}
