//! `start`: starts containers again, as they were created.

use super::run::{code_of, detach_keys, keys_of, sig_proxy};
use crate::cli::argument::{Values, flag, words};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::container::attach::Options;
use crate::container::start;
use crate::error::{Error, Result};
use crate::model::container::Streams;
use clap::{ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "start",
    about: "Start containers that are not running",
    examples: &[
        ("barge start web db", "both, in the background"),
        ("barge start -a -i shell", "attached, with stdin"),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command
        .arg(flag("attach", "Attach to stdout and stderr, and pass signals on").short('a'))
        .arg(detach_keys())
        .arg(flag("interactive", "Attach to stdin, too").short('i'))
        .arg(sig_proxy())
        .arg(words("CONTAINER", "Names or ids"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    if m.on("attach") || m.on("interactive") {
        return attached(m, session);
    }
    let names = m.texts("CONTAINER");
    let several = names.clone().count() > 1;
    match session.each(names, |store, id| start::start(store, id).map(|()| None))? {
        0 => Ok(0),
        code if !several => Ok(code),
        _ => Err(Error::other("failed to start one or more containers")),
    }
}

fn attached(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let mut names = m.texts("CONTAINER");
    let (Some(name), None) = (names.next(), names.next()) else {
        return Err(Error::usage("you cannot start and attach multiple containers at once"));
    };
    let detach_keys = keys_of(m)?;
    let store = session.store()?;
    let id = store.resolve_container(name)?;
    let stdin = m.on("interactive") && store.config(&id)?.process.open_stdin;
    let options = Options {
        streams: Streams {
            stdin,
            stdout: true,
            stderr: true,
        },
        sig_proxy: m.switch("sig-proxy").unwrap_or(true),
        detach_keys,
    };
    start::start_attached(&store, &id, &options, Vec::new()).map(code_of)
}
