//! `ps`: lists containers.

use crate::cli::argument::{Values, flag, list, value, whole_number};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::cli::view::Look;
use crate::cli::view::container::{COLUMNS, Shown, VIEW};
use crate::container::filter::Filters;
use crate::container::list::{Selection, list as find};
use crate::error::Result;
use crate::output::listing::{self, Style};
use crate::output::template::mentions;
use clap::{ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "ps",
    about: "List containers",
    examples: &[
        ("barge ps", "what runs"),
        (
            "barge ps -a --filter exited=1 --filter label=app",
            "what ended with an error, of one kind",
        ),
        ("barge ps -a --format '{{.Names}} {{.Status}}'", "only these fields"),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command
        .arg(flag("all", "Show what does not run, too").short('a'))
        .arg(
            value("before", "CONTAINER", "Only those created before this one")
                .alias("beforeId")
                .hide(true),
        )
        .arg(list("filter", "KEY=VALUE", "Only those that match; may be repeated").short('f'))
        .arg(value(
            "format",
            "TEMPLATE",
            "A Go template for each, `table TEMPLATE`, or json",
        ))
        .arg(
            value("last", "NUMBER", "The newest so many, running or not")
                .short('n')
                .value_parser(whole_number),
        )
        .arg(flag("latest", "The newest one, running or not").short('l'))
        .arg(flag("no-trunc", "Do not shorten ids and texts").alias("notrunc"))
        .arg(flag("quiet", "Only ids").short('q'))
        .arg(
            value("since", "CONTAINER", "Only those created after this one")
                .alias("sinceId")
                .hide(true),
        )
        .arg(flag("size", "Show sizes on disk").short('s'))
        .arg(flag("external", "Show the containers of builds, too"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let mut words: Vec<String> = m.texts("filter").map(str::to_owned).collect();
    // 0.6's -sinceId and -beforeId mean all containers, running or not.
    let mut all = m.on("all");
    for key in ["since", "before"] {
        if let Some(container) = m.text(key).filter(|c| !c.is_empty()) {
            words.push(format!("{key}={container}"));
            all = true;
        }
    }
    let last = match m.on("latest") {
        true => Some(1),
        false => m
            .get_one::<i64>("last")
            .and_then(|n| usize::try_from(*n).ok())
            .filter(|n| *n > 0),
    };
    let (size, format) = (m.on("size"), m.text("format"));
    let selection = Selection {
        all,
        last,
        filters: Filters::parse(words.iter().map(String::as_str))?,
        external: m.on("external"),
        // As docker has it: the walk is worth it if the template shows what it finds.
        size: size || format.is_some_and(|format| mentions(format, "Size") && m.switch("size").is_none()),
    };
    let store = session.store()?;
    let look = Look::new(m.on("no-trunc"));
    let entries = find(&store, &selection)?;
    let rows: Vec<_> = entries.iter().map(|entry| Shown { entry, look: &look }).collect();
    let mut columns = COLUMNS.to_vec();
    if size {
        columns.push("Size");
    }
    let style = Style {
        format,
        quiet: m.on("quiet"),
        columns: &columns,
        terminal: session.console.is_terminal(),
    };
    listing::list(&VIEW, &rows, style, session.console.out())?;
    Ok(0)
}
