//! `kill`: sends a signal, SIGKILL unless told otherwise.

use crate::cli::argument::{Values, value, words};
use crate::cli::container::stop_signal;
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::container::stop;
use crate::error::Result;
use crate::model::signal;
use clap::{ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "kill",
    about: "Kill containers, or send them a signal",
    examples: &[
        ("barge kill web", "SIGKILL"),
        ("barge kill -s HUP web", "another signal"),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command
        .arg(value("signal", "SIGNAL", "Signal to send [default: KILL]").short('s'))
        .arg(words("CONTAINER", "Names or ids"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let signal = m.text("signal").map(stop_signal).transpose()?.unwrap_or(signal::KILL);
    session.each_at_once(&m.texts("CONTAINER").collect::<Vec<_>>(), &|store, id| {
        stop::kill(store, id, signal)
    })
}
