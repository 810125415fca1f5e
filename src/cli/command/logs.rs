//! `logs`: what a container has written.

use crate::cli::argument::{Values, flag, value, words};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::container::logs::{self, Options, Sink, logs};
use crate::error::{Error, Kind, Result};
use crate::model::id::ContainerId;
use crate::model::time::{Timestamp, parse_when};
use crate::output::prefix::{Prefixed, prefixes};
use crate::store::Store;
use clap::{ArgMatches, Command};
use jiff::tz::TimeZone;
use std::sync::Mutex;

pub(super) const SPEC: Spec = Spec {
    name: "logs",
    about: "Print what a container has written to stdout and stderr",
    examples: &[
        ("barge logs web", "all of it"),
        ("barge logs -f --tail 10 web", "the last ten lines, and then on"),
        (
            "barge logs -t --since 15m --until 5m web",
            "ten minutes of it, with times",
        ),
        (
            "barge logs -f web db",
            "of both in the order of time, each line with its name",
        ),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command
        .arg(flag(
            "details",
            "Show what the log driver adds to lines (json-file: nothing)",
        ))
        .arg(flag("follow", "Go on until the container ends").short('f'))
        .arg(value(
            "since",
            "TIME",
            "Only what was written since then: RFC 3339, a date, Unix seconds, or 10m",
        ))
        .arg(value("tail", "NUMBER", "Only so many last lines [default: all]").short('n'))
        .arg(flag("timestamps", "Put its time before each line").short('t'))
        .arg(value("until", "TIME", "Only what was written before then"))
        .arg(flag(
            "color",
            "Give each container's prefix a colour of its own [default: on a terminal]",
        ))
        .arg(flag(
            "names",
            "Begin each line with the container's name [default: with several containers]",
        ))
        .arg(words("CONTAINER", "Names or ids"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let now = Timestamp::now();
    let when = |name| {
        m.text(name)
            .map(|t| parse_when(t, now, &TimeZone::system()))
            .transpose()
    };
    let options = Options {
        follow: m.on("follow"),
        tail: m.text("tail").map(tail).transpose()?.flatten(),
        since: when("since")?,
        until: when("until")?,
        timestamps: m.on("timestamps"),
    };
    let store = session.store()?;
    let find = |name: &str| store.resolve_container(name);
    let ids = m.texts("CONTAINER").map(find).collect::<Result<Vec<_>>>()?;
    let prefixed = m.switch("names").unwrap_or(ids.len() > 1);
    if let ([id], false) = (ids.as_slice(), prefixed) {
        logs(&store, id, &options, session.console.out(), &mut std::io::stderr())?;
        return Ok(0);
    }
    let colour = m
        .switch("color")
        .unwrap_or_else(|| session.console.is_terminal() && colours_are_welcome());
    session.console.flush()?;
    several(&store, &ids, &options, colour)
}

/// https://no-color.org, and terminals that have none.
fn colours_are_welcome() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    set("NO_COLOR").is_none() && set("CLICOLOR").is_none_or(|v| v != "0") && set("TERM").is_none_or(|v| v != "dumb")
}

/// What there is by its times, what is still to come as it comes.
fn several(store: &Store, ids: &[ContainerId], options: &Options, colour: bool) -> Result<u8> {
    let name = |id: &ContainerId| store.config(id).map_or_else(|_| id.short().to_owned(), |c| c.name);
    let names: Vec<String> = ids.iter().map(name).collect();
    let prefixes = prefixes(&names, colour);
    let alone = Mutex::new(());
    let mut sinks: Vec<Sink<'_>> = Vec::new();
    for prefix in &prefixes {
        sinks.push(Sink {
            out: Box::new(Prefixed::new(prefix, &alone, std::io::stdout())),
            err: Box::new(Prefixed::new(prefix, &alone, std::io::stderr())),
        });
    }
    let done = logs::several(store, ids, options, &mut sinks);
    drop(sinks);
    let mut code = 0;
    for failed in done.into_iter().filter_map(Result::err) {
        if failed.kind() == Kind::BrokenPipe {
            return Err(failed);
        }
        crate::cli::report(&failed);
        code = 1;
    }
    Ok(code)
}

/// `all`, or a number; docker takes a negative one for all, too.
fn tail(text: &str) -> Result<Option<u64>> {
    match (text, text.parse::<i64>()) {
        ("all", _) => Ok(None),
        (_, Ok(n)) => Ok(u64::try_from(n).ok()),
        (_, Err(_)) => Err(Error::usage(format!(
            "invalid number of lines '{text}': want a number or all"
        ))),
    }
}
