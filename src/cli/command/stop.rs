//! `stop`: asks programs to end, and kills what does not in time.

use crate::cli::argument::{Values, value, whole_number, words};
use crate::cli::container::stop_signal;
use crate::cli::session::Session;
use crate::cli::tree::{Body, Codes, Spec};
use crate::container::stop;
use crate::error::Result;
use clap::{Arg, ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "stop",
    about: "Ask the programs of containers to end, and kill them after a time",
    examples: &[
        ("barge stop web db", "both at once, 10 seconds for each"),
        ("barge stop -t 0 web", "at once, with SIGKILL"),
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
    session.each_at_once(&m.texts("CONTAINER").collect::<Vec<_>>(), &|store, id| {
        stop::stop(store, id, signal, timeout)
    })
}
