//! `system reset`: the engine as it was before its first command.

use crate::cli::argument::{Values, flag};
use crate::cli::prune::confirm;
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::container::mount;
use crate::container::remove::{self, Options};
use crate::error::{Context as _, Error, Result};
use crate::image::mount::{mounted, unmount_image};
use crate::network;
use clap::{ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "reset",
    about: "Remove everything: containers, images, volumes, networks, and what they have in the kernel",
    examples: &[("barge system reset", "asks first; nothing can be had back")],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command.arg(flag("force", "Do not ask").short('f'))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    // Opening it would make a store of it, whose names may be those of somebody's files.
    if session.root_is_foreign() {
        return Err(Error::not_found("the root is no store of barge's").with_hint("--root says where it is"));
    }
    let store = session.store()?;
    let warning = format!(
        "This will remove:\n  - all containers, also those that run\n  - all images and the build cache\n  \
         - all volumes, with what is in them\n  - all networks and secrets\n  \
         - the firewall table, also the rules in its chain `user`\nof the engine at {}",
        store.root().display()
    );
    if !confirm(session, &warning, m.on("force"))? {
        return Ok(0);
    }
    let everything = Options {
        force: true,
        volumes: true,
    };
    for id in store.container_ids()? {
        mount::unmount(&store, &id, true)?;
        remove::remove(&store, &id, everything).with_context(|| format!("remove {}", id.short()))?;
    }
    for (id, _) in mounted(&store)? {
        unmount_image(&store, &id.to_string(), true)?;
    }
    network::remove_all(&store)?;
    store.wipe()?;
    Ok(0)
}
