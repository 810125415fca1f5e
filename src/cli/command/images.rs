//! `images`: lists images.

use crate::cli::argument::{Values, flag, list, value};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Codes, Spec};
use crate::cli::view::Look;
use crate::cli::view::image::{COLUMNS, COLUMNS_WITH_DIGEST, Shown, VIEW};
use crate::error::{Error, Result};
use crate::image::list::{Filter, list as find};
use crate::image::resolve::resolve_id;
use crate::output::listing::{self, Fields as _, Style};
use crate::store::Store;
use clap::{Arg, ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "images",
    about: "List images",
    examples: &[
        (
            "barge images",
            "all with a name, and those without that nothing is built on",
        ),
        (
            "barge images 'team/*' --format '{{.Repository}}:{{.Tag}} {{.Size}}'",
            "some, and only these fields",
        ),
        ("barge images -q --filter dangling=true", "ids of images without a name"),
    ],
    also: None,
    body: Body::Command {
        define,
        run,
        codes: Codes::Plain,
    },
};

fn define(command: Command) -> Command {
    command
        .arg(flag("all", "Show intermediate images, too").short('a'))
        .arg(flag("digests", "Show digests"))
        .arg(
            list(
                "filter",
                "KEY=VALUE",
                "Only those that match: dangling, label, before, since, reference",
            )
            .short('f'),
        )
        .arg(value(
            "format",
            "TEMPLATE",
            "A Go template for each, `table TEMPLATE`, or json",
        ))
        .arg(flag("no-trunc", "Do not shorten ids").alias("notrunc"))
        .arg(flag("quiet", "Only ids").short('q'))
        .arg(Arg::new("NAME").help("Only names like this; a shell pattern, where * does not cross a /"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let filter = filter(&store, m.texts("filter"), m.text("NAME"))?;
    let look = Look::new(m.on("no-trunc"));
    let images = find(&store, &filter)?;
    let mut rows: Vec<_> = images.iter().map(|image| Shown { image, look: &look }).collect();
    let quiet = m.on("quiet");
    if quiet {
        // One image has one line, whatever its names.
        let mut seen = std::collections::BTreeSet::new();
        rows.retain(|row| seen.insert(row.field(VIEW.id)));
    }
    let columns = if m.on("digests") {
        &COLUMNS_WITH_DIGEST[..]
    } else {
        &COLUMNS[..]
    };
    let style = Style {
        format: m.text("format"),
        quiet,
        columns,
        terminal: session.console.is_terminal(),
    };
    listing::list(&VIEW, &rows, style, session.console.out())?;
    Ok(0)
}

fn filter<'a>(store: &Store, words: impl Iterator<Item = &'a str>, name: Option<&str>) -> Result<Filter> {
    let mut filter = Filter::default();
    filter
        .patterns
        .extend(name.filter(|n| !n.is_empty()).map(str::to_owned));
    for word in words {
        let bad = || Error::usage(format!("invalid filter '{word}'"));
        let (key, value) = word.split_once('=').ok_or_else(bad)?;
        match (key.trim(), value.trim()) {
            ("reference", pattern) => filter.patterns.push(pattern.to_owned()),
            ("label", label) => filter.labels.push(label.to_owned()),
            ("dangling", "true" | "1") => filter.dangling = Some(true),
            ("dangling", "false" | "0") => filter.dangling = Some(false),
            ("before", image) => filter.before = Some(resolve_id(store, image)?),
            ("since", image) => filter.since = Some(resolve_id(store, image)?),
            _ => return Err(bad()),
        }
    }
    Ok(filter)
}
