//! `images`: lists images.

use crate::cli::argument::{Values, flag, list, value};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::cli::view::image::{Shown, VIEW, columns};
use crate::cli::view::{Look, tree as drawing};
use crate::error::Result;
use crate::image::list::{Filter, list as find};
use crate::image::resolve::resolve_id;
use crate::image::tree::nodes;
use crate::model::filter::{bad_value, boolean, split};
use crate::model::time::parse_when;
use crate::output::listing::{self, Fields as _, Style};
use crate::store::Store;
use clap::{Arg, ArgMatches, Command};
use std::io::Write as _;

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
        ("barge images --tree", "which image stands on which"),
        ("barge images -viz | dot -Tpng -o images.png", "the same as a picture"),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command
        .arg(flag("all", "Show intermediate images, too").short('a'))
        .arg(flag("digests", "Show digests"))
        .arg(
            list(
                "filter",
                "KEY=VALUE",
                "Only those that match: dangling, label, before, since, until, reference",
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
        .arg(flag("tree", "Show which image stands on which").conflicts_with("viz"))
        .arg(flag("viz", "The same as a graph, in Graphviz' language"))
        .arg(Arg::new("NAME").help("Only names like this; a shell pattern, where * does not cross a /"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let look = Look::new(m.on("no-trunc"));
    if m.on("viz") || m.on("tree") {
        let draw = if m.on("viz") { drawing::graph } else { drawing::tree };
        write!(session.console.out(), "{}", draw(&nodes(&store)?, look.short))?;
        session.console.flush()?;
        return Ok(0);
    }
    let filter = Filter {
        all: m.on("all"),
        digests: m.on("digests"),
        ..filter(&store, &look, m.texts("filter"), m.text("NAME"))?
    };
    let images = find(&store, &filter)?;
    let mut rows: Vec<_> = images.iter().map(|image| Shown { image, look: &look }).collect();
    let quiet = m.on("quiet");
    if quiet {
        // One image has one line, whatever its names.
        let mut seen = std::collections::BTreeSet::new();
        rows.retain(|row| seen.insert(row.field(VIEW.id)));
    }
    let columns = columns(m.on("digests"), images.iter().any(|image| image.one_of_many));
    let style = Style {
        format: m.text("format"),
        quiet,
        columns: &columns,
        terminal: session.console.is_terminal(),
    };
    listing::list(&VIEW, &rows, style, session.console.out())?;
    Ok(0)
}

const KEYS: [&str; 6] = ["before", "dangling", "label", "reference", "since", "until"];

fn filter<'a>(store: &Store, look: &Look, words: impl Iterator<Item = &'a str>, name: Option<&str>) -> Result<Filter> {
    let mut filter = Filter::default();
    filter
        .patterns
        .extend(name.filter(|n| !n.is_empty()).map(str::to_owned));
    for word in words {
        let (key, value) = split(word, &KEYS)?;
        match key.as_str() {
            "reference" => filter.patterns.push(value.to_owned()),
            "label" => filter.labels.push(value.to_owned()),
            "dangling" => filter.dangling = Some(boolean(value).map_err(|wanted| bad_value(word, wanted))?),
            "before" => filter.before = Some(resolve_id(store, value)?),
            "until" => filter.until = Some(parse_when(value, look.now, &look.zone)?),
            _ => filter.since = Some(resolve_id(store, value)?),
        }
    }
    Ok(filter)
}
