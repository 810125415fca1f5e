//! `builder prune`: forgets what builds have cached.

use crate::build::prune::{self, Wanted};
use crate::cli::argument::{Values, flag, list, value};
use crate::cli::prune::confirm;
use crate::cli::resource;
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::error::{Error, Result};
use crate::model::prune::Filters;
use crate::model::time::{Timestamp, parse_duration};
use crate::output::units;
use clap::{ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "prune",
    about: "Remove what builds have cached: layers that no image has, and cache mounts that no build uses",
    examples: &[
        (
            "barge builder prune --filter until=168h",
            "what was not used for a week",
        ),
        (
            "barge builder prune --keep-storage 10gb",
            "the longest unused, until 10 GB are left",
        ),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command
        .arg(flag("all", "Also what images have the layers of").short('a'))
        .arg(flag("force", "Do not ask").short('f'))
        .arg(filter())
        .arg(
            value("keep-storage", "SIZE", "Keep so much of it")
                .alias("reserved-space")
                .alias("max-used-space"),
        )
}

/// What the filters say of when it was last used.
pub(super) fn until(m: &ArgMatches) -> Result<Option<Timestamp>> {
    let filters = Filters::parse(m.texts("filter"), &["unused-for"])?;
    let mut until = filters.until;
    for (_, age) in &filters.other {
        let age = parse_duration(age).ok_or_else(|| Error::usage(format!("invalid filter 'unused-for={age}'")))?;
        until = Timestamp::now().checked_sub(age).ok();
    }
    Ok(until)
}

/// `--filter` of those who look at the cache.
pub(super) fn filter() -> clap::Arg {
    list(
        "filter",
        "KEY=VALUE",
        "Only what was last used so long ago (until=24h), or before (until=2026-01-31)",
    )
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let until = until(m)?;
    let keep = m.text("keep-storage").map(resource::bytes).transpose()?;
    let wanted = Wanted {
        all: m.on("all"),
        until,
        keep,
    };
    let warning = match wanted.all {
        true => "This will remove all build cache.",
        false => "This will remove all build cache that no image uses.",
    };
    if !confirm(session, warning, m.on("force"))? {
        return Ok(0);
    }
    let store = session.store()?;
    let pruned = prune::prune(&store, &wanted)?;
    for id in &pruned.removed {
        session.console.line(id)?;
    }
    session
        .console
        .line(&format!("Total reclaimed space: {}", units::size(pruned.bytes)))?;
    Ok(0)
}
