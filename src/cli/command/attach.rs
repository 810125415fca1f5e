//! `attach`: connects to the streams of a running container.

use super::run::{code_of, detach_keys, keys_of, sig_proxy};
use crate::cli::argument::{Values, flag, word};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::container::attach::{Options, attach};
use crate::error::Result;
use crate::model::container::Streams;
use clap::{ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "attach",
    about: "Connect to the stdin, stdout and stderr of a running container",
    examples: &[
        ("barge attach shell", "leave it with ctrl-p ctrl-q"),
        ("barge attach --no-stdin web", "only look on"),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command
        .arg(detach_keys())
        .arg(flag("no-stdin", "Do not attach to stdin").alias("nostdin"))
        .arg(sig_proxy())
        .arg(word("CONTAINER", "Name or id"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let detach_keys = keys_of(m)?;
    let store = session.store()?;
    let id = store.resolve_container(m.text("CONTAINER").unwrap_or_default())?;
    let stdin = !m.on("no-stdin") && store.config(&id)?.process.open_stdin;
    let options = Options {
        streams: Streams {
            stdin,
            stdout: true,
            stderr: true,
        },
        sig_proxy: m.switch("sig-proxy").unwrap_or(true),
        detach_keys,
    };
    attach(&store, &id, &options).map(code_of)
}
