//! `top`: lists the processes of a container.

use crate::cli::argument::{Values, rest, word};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::container::top::top;
use crate::error::Result;
use crate::output::table::align;
use crate::output::terminal::clean;
use clap::{ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "top",
    about: "List the processes of a container",
    examples: &[
        ("barge top web", "as `ps -ef` would"),
        ("barge top web -o pid,rss,args", "with options for the host's ps"),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command
        .arg(word("CONTAINER", "Name or id"))
        .arg(rest("OPTIONS", "Options for ps(1); its column PID must be shown"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let id = store.resolve_container(m.text("CONTAINER").unwrap_or_default())?;
    let options: Vec<_> = m.raws("OPTIONS").map(ToOwned::to_owned).collect();
    let processes = top(&store, &id, &options)?;
    let mut text = processes.titles.join("\t");
    for row in processes.rows {
        text.push('\n');
        // What a process calls itself is its own affair, but it doesn't command the terminal.
        let cells: Vec<_> = row.iter().map(|cell| clean(cell)).collect();
        text.push_str(&cells.join("\t"));
    }
    align(&text, session.console.out())?;
    Ok(0)
}
