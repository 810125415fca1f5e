//! `builder du`: what builds have cached, and what of it takes how much room.

use super::builder_prune::{filter, until};
use crate::build::prune::{self, Kept};
use crate::cli::argument::{Values, flag, value};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::cli::view::Look;
use crate::cli::view::disk::{CacheRow, KEPT, KEPT_COLUMNS};
use crate::error::Result;
use crate::output::listing::{self, Style};
use crate::output::units;
use clap::{ArgMatches, Command};
use std::io::Write as _;

pub(super) const SPEC: Spec = Spec {
    name: "du",
    about: "Show what builds have cached, the longest unused last",
    examples: &[
        ("barge builder du", "each step and cache mount, and what could be freed"),
        ("barge builder du --filter until=168h", "what was not used for a week"),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command
        .arg(filter())
        .arg(value(
            "format",
            "TEMPLATE",
            "A Go template for each row, `table TEMPLATE`, or json",
        ))
        .arg(flag("verbose", "All that is known of each"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let until = until(m)?;
    let store = session.store()?;
    let mut all = prune::list(&store)?;
    all.retain(|kept| until.is_none_or(|until| kept.last_used < until));
    all.reverse();
    let look = Look::new(false);
    let row = |kept| CacheRow { kept, look: &look };
    let rows: Vec<_> = all.iter().map(row).collect();
    let format = m.text("format");
    if m.on("verbose") && format.is_none() {
        let text: String = rows.iter().map(CacheRow::block).collect();
        session.console.out().write_all(text.as_bytes())?;
    } else {
        let style = Style {
            format,
            quiet: false,
            columns: &KEPT_COLUMNS,
            terminal: session.console.is_terminal(),
        };
        listing::list(&KEPT, &rows, style, session.console.out())?;
    }
    if format.is_none() {
        session.console.line(&totals(&all))?;
    }
    session.console.flush()?;
    Ok(0)
}

/// The last lines: what the cache alone keeps.
fn totals(all: &[Kept]) -> String {
    let tally = prune::tally(all);
    format!(
        "Reclaimable:\t{}\nTotal:\t\t{}",
        units::size(tally.reclaimable),
        units::size(tally.size)
    )
}
