//! `run`: creates a container, starts it, and stays attached to it unless told otherwise.

use crate::cli::argument::{Values, flag, value, whole_number};
use crate::cli::container as flags;
use crate::cli::fetch;
use crate::cli::session::Session;
use crate::cli::tree::{Body, Codes, Spec};
use crate::container::attach::{DetachKeys, End, Options};
use crate::container::config::RunArgs;
use crate::container::start;
use crate::container::status::status;
use crate::error::{Error, Kind, Result};
use crate::image;
use crate::model::container::{LogDriver, RestartPolicy, Streams};
use crate::model::state::Status;
use crate::store::Store;
use clap::{Arg, ArgMatches, Command};
use std::io::IsTerminal as _;
use std::os::fd::OwnedFd;

pub(super) const SPEC: Spec = Spec {
    name: "run",
    about: "Create a container and run a program in it",
    examples: &[
        ("barge run hello", "run the built-in image's program"),
        (
            "barge run -i -t --rm debian bash",
            "a shell in a container that is gone when it ends",
        ),
        (
            "barge run -d --name web -v site:/srv -m 256m debian httpd",
            "in the background, with a volume and a memory limit",
        ),
    ],
    also: None,
    body: Body::Command {
        define,
        run,
        codes: Codes::Program,
    },
};

/// Docker's keys to leave an attached container running.
pub(super) const DETACH_KEYS: &str = "ctrl-p,ctrl-q";

fn define(command: Command) -> Command {
    let command = command
        .arg(flag("detach", "Run in the background and print the new container's id").short('d'))
        .arg(detach_keys())
        .arg(sig_proxy())
        .arg(preserve_fds())
        .arg(flag(
            "rmi",
            "Remove the image, too, when the container ends, unless another uses it; includes --rm",
        ));
    fetch::define(flags::define(command))
}

pub(super) fn preserve_fds() -> Arg {
    value(
        "preserve-fds",
        "NUMBER",
        "Give the program so many open descriptors of this command's, from 3 on",
    )
    .value_parser(whole_number)
}

pub(super) fn detach_keys() -> Arg {
    value("detach-keys", "KEYS", "Keys to detach with [default: ctrl-p,ctrl-q]")
}

pub(super) fn sig_proxy() -> Arg {
    flag("sig-proxy", "Pass signals on to the program [default: true]")
}

pub(super) fn keys_of(m: &ArgMatches) -> Result<DetachKeys> {
    DetachKeys::parse(m.text("detach-keys").unwrap_or(DETACH_KEYS))
}

/// The exit code of a command that was attached.
pub(super) fn code_of(end: End) -> u8 {
    match end {
        End::Exited(code) => code,
        End::Detached | End::StdinClosed => 0,
    }
}

/// The descriptors that this command was left with for the program.
pub(super) fn preserved(m: &ArgMatches) -> Result<Vec<OwnedFd>> {
    let count = m.get_one::<i64>("preserve-fds").copied().unwrap_or(0);
    let count = i32::try_from(count)
        .ok()
        .filter(|n| (0..=1024).contains(n))
        .ok_or_else(|| {
            Error::usage(format!(
                "invalid value '{count}' for '--preserve-fds': want a number from 0 to 1024"
            ))
        })?;
    let one = |number| {
        crate::sys::process::left_open(number)
            .map_err(|_| Error::usage(format!("--preserve-fds: file descriptor {number} is not available")))
    };
    (3..3 + count).map(one).collect()
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let detach = m.on("detach");
    let mut args = flags::run_args(m, detach)?;
    if m.on("rmi") {
        with_rmi(&mut args, detach)?;
    }
    args.command_line = std::env::args_os().map(Into::into).collect();
    session.complete(&mut args);
    let detach_keys = keys_of(m)?;
    if args.tty && args.attach.stdin && !std::io::stdin().is_terminal() {
        let error = Error::usage("the input device is not a TTY");
        return Err(error.with_hint("without -t a program reads what is piped to it"));
    }
    let passed = preserved(m)?;
    let fetch = fetch::of(m)?;
    let store = session.store()?;
    let config = fetch.create(&store, &args)?;
    // Then the program has this command's own streams.
    let direct = args.log.driver == LogDriver::Passthrough;
    let streams = if direct { Streams::default() } else { args.attach };
    let attached = args.attach;
    if !attached.stdin && !attached.stdout && !attached.stderr {
        start::start_with(&store, &config.id, passed)?;
        session.console.line(config.id.as_str())?;
        return Ok(0);
    }
    let sig_proxy = m.switch("sig-proxy").unwrap_or(true);
    let end = start::start_attached(
        &store,
        &config.id,
        &Options {
            streams,
            sig_proxy,
            detach_keys,
        },
        passed,
    )?;
    if !direct && !streams.stdout && !streams.stderr {
        // Nothing of the program is shown, so its id is what there is to say (F121).
        session.console.line(config.id.as_str())?;
    }
    if m.on("rmi") && matches!(end, End::Exited(_)) {
        remove_image(&store, &args.image, session);
    }
    Ok(code_of(end))
}

/// The container's image goes after it, by this command.
fn with_rmi(args: &mut RunArgs, detach: bool) -> Result<()> {
    let conflict = |with| Err(Error::usage(format!("Conflicting options: --rmi and {with}")));
    match () {
        () if detach => conflict("--detach"),
        () if !args.root.is_default() => conflict("--rootfs"),
        () if args.restart != RestartPolicy::No => conflict("--restart"),
        () => {
            args.auto_remove = true;
            Ok(())
        }
    }
}

/// One that somebody else needs stays; the program's exit code is the command's either way.
fn remove_image(store: &Store, image: &str, session: &Session) {
    let options = image::removal::Options {
        force: false,
        parents: true,
    };
    let runs = |id: &_| matches!(status(store, id), Status::Running(_));
    let removed =
        image::remove::remove(store, image, options, &runs).and_then(|removal| image::remove::delete(vec![removal]));
    match removed {
        Err(e) if !matches!(e.kind(), Kind::Conflict | Kind::NotFound) => session.console.error(&e),
        _ => {}
    }
}
