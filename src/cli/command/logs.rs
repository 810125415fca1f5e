//! `logs`: what a container has written.

use crate::cli::argument::{Values, flag, value, word};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Codes, Spec};
use crate::container::logs::{Options, logs};
use crate::error::{Error, Result};
use crate::model::time::{Timestamp, parse_when};
use clap::{ArgMatches, Command};
use jiff::tz::TimeZone;

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
        .arg(word("CONTAINER", "Name or id"))
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
    let id = store.resolve_container(m.text("CONTAINER").unwrap_or_default())?;
    logs(&store, &id, &options, session.console.out(), &mut std::io::stderr())?;
    Ok(0)
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
