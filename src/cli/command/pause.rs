//! `pause`, `unpause`: stops the processes of containers where they stand, and lets them go on.

use crate::cli::argument::{Values, words};
use crate::cli::tree::{Body, Spec};
use crate::container::pause::{pause, unpause};
use clap::Command;

pub(super) const PAUSE: Spec = Spec {
    name: "pause",
    about: "Stop all processes of containers where they stand",
    examples: &[("barge pause web", "until `barge unpause web`")],
    also: None,
    body: Body::plain(define, |m, session| {
        session.each_at_once(&m.texts("CONTAINER").collect::<Vec<_>>(), &pause)
    }),
};

pub(super) const UNPAUSE: Spec = Spec {
    name: "unpause",
    about: "Let the processes of paused containers go on",
    examples: &[("barge unpause web", "what `barge pause web` has stopped")],
    also: None,
    body: Body::plain(define, |m, session| {
        session.each_at_once(&m.texts("CONTAINER").collect::<Vec<_>>(), &unpause)
    }),
};

fn define(command: Command) -> Command {
    command.arg(words("CONTAINER", "Names or ids"))
}
