//! `stop`: asks programs to end, and kills what does not in time.

use crate::cli::argument::{Values, value, whole_number, words};
use crate::cli::container::stop_signal;
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::container::{order, stop};
use crate::error::Result;
use crate::store::Store;
use clap::{Arg, ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "stop",
    about: "Ask the programs of containers to end, and kill them after a time",
    examples: &[
        ("barge stop web db", "both at once, 10 seconds for each"),
        ("barge stop -t 0 web", "at once, with SIGKILL"),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command
        .arg(signal_flag())
        .arg(timeout_flag())
        .arg(words("CONTAINER", "Names or ids"))
}

pub(super) fn signal_flag() -> Arg {
    value(
        "signal",
        "SIGNAL",
        "Signal to send instead of the container's stop signal",
    )
    .short('s')
}

pub(super) fn timeout_flag() -> Arg {
    value(
        "timeout",
        "SECONDS",
        "Time to end before SIGKILL; -1 waits for ever [default: the container's, 10]",
    )
    .short('t')
    .alias("time")
    .value_parser(whole_number)
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let signal = m.text("signal").map(stop_signal).transpose()?;
    let timeout = m.get_one::<i64>("timeout").copied();
    let names: Vec<&str> = m.texts("CONTAINER").collect();
    let mut code = 0;
    for group in in_order(&session.store()?, &names) {
        code |= session.each_at_once(&group, &|store, id| stop::stop(store, id, signal, timeout))?;
    }
    Ok(code)
}

/// Groups of names, in which those that require others come before them. A name of nothing is told of by the command.
fn in_order<'a>(store: &Store, names: &[&'a str]) -> Vec<Vec<&'a str>> {
    let ids: Vec<_> = names
        .iter()
        .filter_map(|name| Some((*name, store.resolve_container(name).ok()?)))
        .collect();
    let all: Vec<_> = ids.iter().map(|(_, id)| id.clone()).collect();
    let groups = order::stop_order(store, &all);
    if groups.len() < 2 {
        return vec![names.to_vec()];
    }
    let mut ordered: Vec<Vec<&str>> = groups
        .iter()
        .map(|group| {
            ids.iter()
                .filter(|(_, id)| group.contains(id))
                .map(|(name, _)| *name)
                .collect()
        })
        .collect();
    ordered.push(
        names
            .iter()
            .filter(|n| !ids.iter().any(|(known, _)| known == *n))
            .copied()
            .collect(),
    );
    ordered
}
