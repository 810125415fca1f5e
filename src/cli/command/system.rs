//! `system`: the engine as a whole: what takes how much room (`df`), less of it (`prune`), and whether all is sound
//! (`check`).

use super::image::{lines, prune_images};
use super::info;
use super::network::prune_unused;
use crate::build;
use crate::cli::argument::{Values, flag, value};
use crate::cli::prune::{confirm, prune_flags};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::cli::view::disk::{self, COLUMNS, Shown, VIEW};
use crate::cli::view::{Look, show};
use crate::container;
use crate::container::status::status;
use crate::error::Result;
use crate::image;
use crate::image::check::{Counts, Outcome};
use crate::model::prune::Filters;
use crate::model::state::Status;
use crate::output::terminal::clean;
use crate::output::units;
use crate::store::Store;
use clap::{ArgMatches, Command};
use std::fmt::Write as _;
use std::io::Write as _;

pub(super) const SPEC: Spec = Spec {
    name: "system",
    about: "Work with the engine as a whole",
    examples: &[],
    also: None,
    body: Body::Noun(&[
        CHECK,
        DF,
        info::SPEC.under_noun("info"),
        PRUNE,
        super::reset::SPEC,
        super::boot::START,
        super::boot::STOP,
    ]),
};

const CHECK: Spec = Spec {
    name: "check",
    about: "Check every image, layer, blob, container and volume; exit with 1 if something is wrong",
    examples: &[
        ("barge system check", "rebuilds and hashes every layer"),
        ("barge system check --quick", "only whether all is there"),
        (
            "barge system check --repair",
            "unpacks, fetches or removes what is damaged",
        ),
    ],
    also: None,
    body: Body::plain(define_check, check),
};

const DF: Spec = Spec {
    name: "df",
    about: "Show what images, containers, volumes and downloads take on disk",
    examples: &[
        ("barge system df", "and what could be freed"),
        ("barge system df -v", "each of them"),
    ],
    also: None,
    body: Body::plain(define_df, df),
};

const PRUNE: Spec = Spec {
    name: "prune",
    about: "Remove what is not in use",
    examples: &[
        (
            "barge system prune",
            "containers that ended, images without a name, build cache that no image uses, unfinished downloads",
        ),
        (
            "barge system prune -a --volumes -f",
            "all that no container uses, without asking",
        ),
        (
            "barge system prune --blobs",
            "also compressed layers that can be made again",
        ),
    ],
    also: None,
    body: Body::plain(define_prune, prune),
};

fn define_check(command: Command) -> Command {
    command
        .arg(flag("quick", "Hash nothing: only look whether all is there and can be read").short('q'))
        .arg(flag(
            "repair",
            "Unpack or fetch again what is damaged; remove what nothing can make again, unless a container needs it",
        ))
}

fn check(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let options = image::check::Options {
        quick: m.on("quick"),
        repair: m.on("repair"),
    };
    let runs = |id: &_| matches!(status(&store, id), Status::Running(_));
    let (mut wrong, mut repaired) = (0, 0);
    let counts = image::check::check(&store, options, &runs, &mut |damage, outcome| {
        wrong += 1;
        let line = format!("{}: {}", damage.object, clean(&damage.what));
        match outcome {
            Outcome::Found => session.console.line(&line)?,
            Outcome::Repaired(how) => {
                repaired += 1;
                session.console.line(&format!("{line}\n  repaired: {how}"))?;
            }
            Outcome::Left(e) => {
                let hint = e.hint().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
                session.console.line(&format!("{line}\n  not repaired: {e}{hint}"))?;
            }
        }
        session.console.flush()
    })?;
    session.console.line(&summary(&counts, wrong, repaired))?;
    Ok(u8::from(wrong > repaired))
}

fn summary(counts: &Counts, wrong: usize, repaired: usize) -> String {
    let several = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let mut text = format!(
        "Checked {}, {}, {}, {}, {}: ",
        several(counts.images, "image"),
        several(counts.layers, "layer"),
        several(counts.blobs, "blob"),
        several(counts.containers, "container"),
        several(counts.volumes, "volume")
    );
    match (wrong, repaired) {
        (0, _) => text.push_str("nothing is wrong"),
        (wrong, 0) => _ = write!(text, "{wrong} damaged"),
        (wrong, repaired) => _ = write!(text, "{wrong} damaged, {repaired} repaired"),
    }
    if counts.unverified > 0 {
        let _ = write!(
            text,
            " ({} without a record of its tar)",
            several(counts.unverified, "layer")
        );
    }
    text
}

fn define_df(command: Command) -> Command {
    command
        .arg(flag("verbose", "Each image, container and volume").short('v'))
        .arg(value(
            "format",
            "TEMPLATE",
            "A Go template for each row, `table TEMPLATE`, or json; with -v, for all at once",
        ))
}

fn df(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let usage = disk::Usage::of(&store)?;
    if m.on("verbose") {
        let text = disk::verbose(&usage, &Look::new(false), m.text("format"))?;
        session.console.out().write_all(text.as_bytes())?;
        session.console.flush()?;
        return Ok(0);
    }
    let rows: Vec<_> = usage
        .tallies()
        .into_iter()
        .map(|(kind, tally)| Shown { kind, tally })
        .collect();
    show(session, m, (&VIEW, &COLUMNS), &rows)?;
    Ok(0)
}

fn define_prune(command: Command) -> Command {
    prune_flags(command)
        .arg(flag("all", "Also images with a name that no container uses").short('a'))
        .arg(flag("volumes", "Also volumes without a name that no container uses"))
        .arg(flag(
            "blobs",
            "Also compressed layers whose files are here: pushing or saving compresses them anew",
        ))
}

/// Copies of layers, and other views of them, that nothing has a use for; their bytes.
fn prune_copies(store: &Store, session: &mut Session) -> Result<u64> {
    let (chowned, chowned_bytes) = store.prune_chowned()?;
    let (views, view_bytes) = store.prune_views()?;
    let lines = [
        (chowned, "for users that no container has"),
        (views, "of images and layers that are not mounted so"),
    ];
    let lines: Vec<String> = lines
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, which)| format!("{count} {which}"))
        .collect();
    say(session, "Deleted Layer Copies:", &lines)?;
    Ok(chowned_bytes + view_bytes)
}

fn prune(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let filters = Filters::parse(m.texts("filter"), &[])?;
    let store = session.store()?;
    let (all, volumes, blobs) = (m.on("all"), m.on("volumes"), m.on("blobs"));
    if !confirm(session, &warning(&store, all, volumes, blobs), m.on("force"))? {
        return Ok(0);
    }
    let mut bytes = 0;
    let containers = container::prune::containers(&store, &filters)?;
    bytes += containers.bytes;
    say(session, "Deleted Containers:", &containers.names)?;
    say(session, "Deleted Networks:", &prune_unused(&store, &filters)?)?;
    if volumes {
        let volumes = container::prune::volumes(&store, false, &filters)?;
        bytes += volumes.bytes;
        say(session, "Deleted Volumes:", &volumes.names)?;
    }
    let images = prune_images(&store, all, &filters)?;
    bytes += images.bytes();
    say(session, "Deleted Images:", &lines(&images))?;
    if filters.takes_unlabelled() {
        let wanted = build::prune::Wanted {
            all,
            until: filters.until,
            keep: None,
        };
        let cache = build::prune::prune(&store, &wanted)?;
        bytes += cache.bytes;
        say(session, "Deleted build cache objects:", &cache.removed)?;
    }
    bytes += prune_copies(&store, session)?;
    let (count, size) = store.prune_downloads()?;
    bytes += size;
    if count > 0 {
        say(session, "Deleted Downloads:", &[format!("{count} unfinished")])?;
    }
    if blobs {
        let (count, size) = image::prune::blobs(&store)?;
        bytes += size;
        if count > 0 {
            say(session, "Deleted Blobs:", &[format!("{count} compressed layers")])?;
        }
    }
    session
        .console
        .line(&format!("Total reclaimed space: {}", units::size(bytes)))?;
    session.console.flush()?;
    images.delete()?;
    Ok(0)
}

/// What goes, and what that costs.
fn warning(store: &Store, all: bool, volumes: bool, blobs: bool) -> String {
    let mut text = String::from(
        "This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n",
    );
    if volumes {
        text.push_str("  - all anonymous volumes not used by at least one container\n");
    }
    text.push_str(match all {
        true => "  - all images without at least one container associated to them\n",
        false => "  - all dangling images\n",
    });
    text.push_str(match all {
        true => "  - all build cache\n",
        false => "  - unused build cache\n",
    });
    text.push_str("  - all unfinished downloads\n");
    if store.chowned_copies().is_ok_and(|copies| !copies.is_empty()) {
        text.push_str("  - all copies of layers for users that no container has\n");
    }
    if blobs {
        let size = image::disk::usage(store).map_or(0, |usage| usage.blobs.reclaimable);
        let _ = writeln!(
            text,
            "  - compressed layers as they came from registries and archives ({})\n    \
               Costs: pushing or saving these images compresses them again, and their manifests get other digests.",
            units::size(size)
        );
    }
    text
}

fn say(session: &mut Session, heading: &str, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    session.console.line(heading)?;
    for name in names {
        session.console.line(name)?;
    }
    session.console.line("")
}
