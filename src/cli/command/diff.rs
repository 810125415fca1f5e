//! `diff`: which files a container has added, changed or deleted.

use crate::cli::argument::{Values, word};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::container::diff::diff;
use crate::error::Result;
use crate::output::terminal::clean;
use clap::{ArgMatches, Command};
use std::io::Write as _;

pub(super) const SPEC: Spec = Spec {
    name: "diff",
    about: "Show which files a container has added (A), changed (C) or deleted (D)",
    examples: &[("barge diff web", "of its image; volumes are no part of it")],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command.arg(word("CONTAINER", "Name or id"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let id = store.resolve_container(m.text("CONTAINER").unwrap_or_default())?;
    let terminal = session.console.is_terminal();
    for (path, change) in diff(&store, &id)? {
        if terminal {
            let path = String::from_utf8_lossy(&path);
            session.console.line(&format!("{change} /{}", clean(&path)))?;
        } else {
            let line = [change.to_string().as_bytes(), b" /", &path, b"\n"].concat();
            session.console.out().write_all(&line)?;
        }
    }
    Ok(0)
}
