//! `events`: what happened to containers, images, volumes and networks.

use crate::cli::argument::{Values, flag, list, value};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::cli::view::event::{as_json, as_object, as_text};
use crate::container::events::{Filters, Options, events};
use crate::error::Result;
use crate::model::time::{Timestamp, parse_when};
use crate::output::template::Template;
use crate::output::terminal::clean_lines;
use clap::{ArgMatches, Command};
use jiff::tz::TimeZone;
use std::io::Write as _;

pub(super) const SPEC: Spec = Spec {
    name: "events",
    about: "Show what happens to containers, images, volumes and networks",
    examples: &[
        ("barge events", "from now on"),
        (
            "barge events --since 1h --no-stream --filter type=container --filter event=die",
            "what has ended in the last hour",
        ),
        ("barge events --format json", "one JSON object a line"),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command
        .arg(
            list(
                "filter",
                "KEY=VALUE",
                "Only some: container, event, image, label, network, type, volume, …",
            )
            .short('f'),
        )
        .arg(value("format", "TEMPLATE", "A Go template for each, or json"))
        .arg(flag("no-stream", "End when the past has been shown"))
        .arg(flag("no-trunc", "Show whole ids, which is the default"))
        .arg(flag("stream", "Go on with what happens [default: true]"))
        .arg(value(
            "since",
            "TIME",
            "Begin there: RFC 3339, a date, Unix seconds, or 10m ago",
        ))
        .arg(value("until", "TIME", "End there"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let now = Timestamp::now();
    let zone = TimeZone::system();
    let when = |name| m.text(name).map(|t| parse_when(t, now, &zone)).transpose();
    let options = Options {
        since: when("since")?,
        until: when("until")?,
        follow: !m.on("no-stream") && m.switch("stream").unwrap_or(true),
        filters: Filters::parse(m.texts("filter"))?,
    };
    let short = m.switch("no-trunc") == Some(false);
    let format = m.text("format").map(str::trim).filter(|f| !f.is_empty());
    let json = matches!(format, Some("json" | "{{json .}}"));
    let template = format.filter(|_| !json).map(Template::parse).transpose()?;
    let terminal = session.console.is_terminal();
    let store = session.store()?;
    let console = &mut session.console;
    events(&store, &options, &mut |event| {
        let line = match &template {
            _ if json => as_json(event).to_string(),
            Some(template) => template.render_labelled(&as_object(event), &event.attributes)?,
            None => as_text(event, &zone, short),
        };
        let line = if terminal {
            clean_lines(&line)
        } else {
            line.as_str().into()
        };
        writeln!(console.out(), "{line}")?;
        // Whoever reads from a pipe wants it now, too.
        console.flush()
    })?;
    Ok(0)
}
