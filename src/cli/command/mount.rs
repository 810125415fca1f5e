//! `mount`, `unmount`: a container's files as a directory of the host.

use crate::cli::argument::{Values, flag, optional_words};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Codes, Spec};
use crate::container::mount::{mount, mounted, unmount};
use crate::error::{Error, Result};
use clap::{ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "mount",
    about: "Mount containers' files on the host, and print where; without a name, list those that are mounted",
    examples: &[
        (
            "ls $(barge mount web)/etc",
            "whether it runs or not; without its volumes",
        ),
        ("barge mount", "which containers are mounted, and where"),
    ],
    also: None,
    body: Body::Command {
        define: |command| {
            command
                .arg(flag("all", "All containers").short('a'))
                .arg(optional_words("CONTAINER", "Names or ids"))
        },
        run: run_mount,
        codes: Codes::Plain,
    },
};

pub(super) const UNMOUNT: Spec = Spec {
    name: "unmount",
    about: "Unmount containers' files from the host",
    examples: &[
        ("barge unmount web", "nobody may be in it"),
        ("barge unmount -af", "all of them"),
    ],
    also: None,
    body: Body::plain(
        |command| unmount_flags(command).arg(optional_words("CONTAINER", "Names or ids")),
        run_unmount,
    ),
};

/// What `unmount` and `image unmount` are told.
pub(super) fn unmount_flags(command: Command) -> Command {
    command.arg(flag("all", "All that are mounted").short('a')).arg(
        flag(
            "force",
            "Also while somebody uses them: they are gone when nobody does any more",
        )
        .short('f'),
    )
}

fn run_mount(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let mut names: Vec<String> = m.texts("CONTAINER").map(str::to_owned).collect();
    if m.on("all") {
        names = store.container_ids()?.into_iter().map(String::from).collect();
    } else if names.is_empty() {
        for (id, root) in mounted(&store)? {
            session.console.line(&format!("{} {}", id.short(), root.display()))?;
        }
        return Ok(0);
    }
    session.each(names.iter().map(String::as_str), |store, id| {
        Ok(Some(mount(store, id)?.display().to_string()))
    })
}

fn run_unmount(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let force = m.on("force");
    let names: Vec<String> = match m.on("all") {
        true => mounted(&store)?.into_iter().map(|(id, _)| id.into()).collect(),
        false => m.texts("CONTAINER").map(str::to_owned).collect(),
    };
    if names.is_empty() && !m.on("all") {
        return Err(Error::usage("name a container, or use --all"));
    }
    session.each(names.iter().map(String::as_str), |store, id| {
        unmount(store, id, force).map(|()| None)
    })
}
