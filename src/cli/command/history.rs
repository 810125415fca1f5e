//! `history`: the steps an image was made in, newest first.

use crate::cli::argument::{Values, flag, value, word};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::cli::view::history::{COLUMNS, Shown, VIEW};
use crate::cli::view::{Look, show};
use crate::error::Result;
use crate::image;
use clap::{ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "history",
    about: "Show the steps that an image was made in",
    examples: &[
        ("barge history debian", "newest first"),
        ("barge history --no-trunc -H=false debian", "in full"),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command
        .arg(value(
            "format",
            "TEMPLATE",
            "A Go template for each, `table TEMPLATE`, or json",
        ))
        .arg(flag("human", "Sizes and times as people say them [default: true]").short('H'))
        .arg(flag("no-trunc", "Do not shorten ids and texts").alias("notrunc"))
        .arg(flag("quiet", "Only ids").short('q'))
        .arg(word("IMAGE", "Name or id"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let image = image::resolve(&store, m.text("IMAGE").unwrap_or_default())?;
    let (look, human) = (Look::new(m.on("no-trunc")), m.switch("human").unwrap_or(true));
    let steps = image::history::history(&store, &image);
    let rows: Vec<_> = steps
        .iter()
        .map(|step| Shown {
            step,
            look: &look,
            human,
        })
        .collect();
    show(session, m, (&VIEW, &COLUMNS), &rows)?;
    Ok(0)
}
