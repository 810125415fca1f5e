//! `exec`: runs a further program in a running container.

use super::run::{detach_keys, keys_of, preserve_fds, preserved};
use crate::cli::argument::{Values, bytes, bytes_list, flag, rest, value, word};
use crate::cli::container::workdir;
use crate::cli::environment::environment;
use crate::cli::session::Session;
use crate::cli::tree::{Body, Codes, Spec};
use crate::container::exec::{ExecArgs, exec};
use crate::error::Result;
use clap::{ArgMatches, Command};

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
                .required(true)
                .num_args(1..),
        )
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let mut env = environment(m.raws("env-file"), m.raws("env"), |name| std::env::var_os(name))?;
    env.retain(|pair| pair.split_env().1.is_some());
    let args = ExecArgs {
        argv: m.raws("COMMAND").map(|w| w.to_owned().into()).collect(),
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
    let id = store.resolve_container(m.text("CONTAINER").unwrap_or_default())?;
    exec(&store, &id, &args, &passed)
}
