//! `restart`: stop, then start.

use super::stop::{signal_flag, timeout_flag};
use crate::cli::argument::{Values, words};
use crate::cli::container::stop_signal;
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::container::stop;
use crate::error::Result;
use clap::{ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "restart",
    about: "Stop containers and start them again",
    examples: &[("barge restart -t 2 web", "with two seconds to end")],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command
        .arg(signal_flag())
        .arg(timeout_flag())
        .arg(words("CONTAINER", "Names or ids"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let signal = m.text("signal").map(stop_signal).transpose()?;
    let timeout = m.get_one::<i64>("timeout").copied();
    session.each(m.texts("CONTAINER"), |store, id| {
        stop::restart(store, id, signal, timeout).map(|()| None)
    })
}
