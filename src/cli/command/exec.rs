//! `exec`: runs a further program in a running container.

use super::run::{detach_keys, keys_of, preserve_fds, preserved};
use crate::cli::argument::{Values, bytes, bytes_list, flag, rest, value, word};
use crate::cli::container::workdir;
use crate::cli::environment::environment;
use crate::cli::session::Session;
use crate::cli::tree::{Body, Codes, Spec};
use crate::container::exec::{ExecArgs, exec};
use crate::error::{Context as _, Error, Result};
use crate::model::bytes::ByteString;
use clap::{ArgMatches, Command};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Of an id or a name, with white space around it.
const LONGEST_ID: u64 = 1024;

pub(super) const SPEC: Spec = Spec {
    name: "exec",
    about: "Run a further program in a running container",
    examples: &[
        ("barge exec -i -t web sh", "a shell beside the program"),
        (
            "barge exec -d -u www-data -w /srv web ./reindex",
            "in the background, as another user",
        ),
    ],
    also: None,
    body: Body::Command {
        define,
        run,
        codes: Codes::Program,
    },
};

fn define(command: Command) -> Command {
    command
        .arg(bytes(
            "cidfile",
            "FILE",
            "Read the container's id from this file; what comes then is the command",
        ))
        .arg(flag("detach", "Run in the background").short('d'))
        .arg(detach_keys())
        .arg(
            bytes_list(
                "env",
                "NAME=VALUE",
                "Set an environment variable; NAME alone takes the caller's value",
            )
            .short('e'),
        )
        .arg(bytes_list("env-file", "FILE", "Read environment variables from a file"))
        .arg(flag("interactive", "Keep stdin open and pass it on").short('i'))
        .arg(preserve_fds())
        .arg(flag("privileged", "Give the program all capabilities"))
        .arg(flag("tty", "Give the program a terminal").short('t'))
        .arg(value("user", "USER[:GROUP]", "Run as this user instead of the container's").short('u'))
        .arg(bytes("workdir", "DIR", "Working directory instead of the container's").short('w'))
        .arg(word("CONTAINER", "Name or id"))
        .arg(
            rest("COMMAND", "The program and its arguments")
                .required_unless_present("cidfile")
                .num_args(1..),
        )
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let mut env = environment(m.raws("env-file"), m.raws("env"), |name| std::env::var_os(name))?;
    env.retain(|pair| pair.split_env().1.is_some());
    let first = m.text("CONTAINER").unwrap_or_default();
    let mut argv: Vec<ByteString> = m.raws("COMMAND").map(|w| w.to_owned().into()).collect();
    let container = match m.raw("cidfile") {
        Some(file) => {
            argv.insert(0, first.into());
            id_in(Path::new(file))?
        }
        None => first.to_owned(),
    };
    let args = ExecArgs {
        argv,
        detach: m.on("detach"),
        interactive: m.on("interactive"),
        tty: m.on("tty"),
        env,
        user: m.text("user").filter(|u| !u.is_empty()).map(str::to_owned),
        workdir: workdir(m)?,
        privileged: m.on("privileged"),
        detach_keys: keys_of(m)?,
    };
    let passed = preserved(m)?;
    let store = session.store()?;
    let id = store.resolve_container(&container)?;
    exec(&store, &id, &args, &passed)
}

/// What `run --cidfile` has written.
fn id_in(file: &Path) -> Result<String> {
    let said = || format!("--cidfile {}", file.display());
    let mut text = String::new();
    let opened = File::open(file).with_context(said)?;
    opened.take(LONGEST_ID).read_to_string(&mut text).with_context(said)?;
    match text.trim() {
        "" => Err(Error::usage(format!("{}: it is empty", said()))),
        id => Ok(id.to_owned()),
    }
}
