//! `image mount`, `image unmount`: an image's files as a directory of the host.

use super::mount::unmount_flags;
use crate::cli::argument::{Values, optional_words};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::container::driver;
use crate::error::{Error, Result};
use crate::image::mount::{mount, mounted, unmount_image};
use clap::ArgMatches;

pub(super) const MOUNT: Spec = Spec {
    name: "mount",
    about: "Mount images read-only, and print where; without a name, list those that are mounted",
    examples: &[
        (
            "ls $(barge image mount debian)/etc",
            "until `image unmount`, or the next boot",
        ),
        ("barge image mount", "which images are mounted, and where"),
    ],
    also: None,
    body: Body::plain(
        |command| command.arg(optional_words("IMAGE", "Names or ids")),
        run_mount,
    ),
};

pub(super) const UNMOUNT: Spec = Spec {
    name: "unmount",
    about: "Unmount images",
    examples: &[
        ("barge image unmount debian", "nobody may be in it"),
        ("barge image unmount -af", "all of them"),
    ],
    also: None,
    body: Body::plain(
        |command| unmount_flags(command).arg(optional_words("IMAGE", "Names or ids")),
        run_unmount,
    ),
};

fn run_mount(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    driver::settle(&store, None)?;
    let names: Vec<_> = m.texts("IMAGE").collect();
    if names.is_empty() {
        for (id, root) in mounted(&store)? {
            let tags = store.readable_tags().of(&id);
            let name = tags.first().map_or_else(|| id.short(), ToString::to_string);
            session.console.line(&format!("{name} {}", root.display()))?;
        }
        return Ok(0);
    }
    session.each_name(names.into_iter(), |name| Ok(mount(&store, name)?.display().to_string()))
}

fn run_unmount(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let force = m.on("force");
    let names: Vec<String> = match m.on("all") {
        true => mounted(&store)?.into_iter().map(|(id, _)| id.to_string()).collect(),
        false => m.texts("IMAGE").map(str::to_owned).collect(),
    };
    if names.is_empty() && !m.on("all") {
        return Err(Error::usage("name an image, or use --all"));
    }
    session.each_name(names.iter().map(String::as_str), |name| {
        Ok(unmount_image(&store, name, force)?.to_string())
    })
}
