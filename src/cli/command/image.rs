//! `image`: the commands for images under their noun, and those that have no other name.

use super::container::exit_code;
use super::{build, history, image_mount, images, import, inspect, load, pull, push, rmi, save, tag};
use crate::cli::argument::{Values, flag, word};
use crate::cli::prune::{confirm, prune_flags, say_reclaimed};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::container::status::status;
use crate::error::{Error, Result};
use crate::image::prune;
use crate::image::remove::Removal;
use crate::image::resolve::resolve_id;
use crate::model::prune::Filters;
use crate::model::state::Status;
use crate::store::Store;
use clap::{ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "image",
    about: "Work with images: the same commands, under their noun",
    examples: &[],
    also: None,
    body: Body::Noun(&[
        build::SPEC.under_noun("build"),
        EXISTS,
        history::SPEC.under_noun("history"),
        import::SPEC.under_noun("import"),
        inspect::IMAGE,
        load::SPEC.under_noun("load"),
        images::SPEC.under_noun("ls"),
        image_mount::MOUNT,
        PRUNE,
        pull::SPEC.under_noun("pull"),
        push::SPEC.under_noun("push"),
        rmi::SPEC.under_noun("rm"),
        save::SPEC.under_noun("save"),
        tag::SPEC.under_noun("tag"),
        UMOUNT,
        image_mount::UNMOUNT,
    ]),
};

const EXISTS: Spec = Spec {
    name: "exists",
    about: "Exit with 0 if there is such an image, else with 1",
    examples: &[("barge image exists debian:12 || barge pull debian:12", "fetch it once")],
    also: None,
    body: Body::plain(
        |command| command.arg(word("IMAGE", "Name or id")),
        |m, session| exit_code(resolve_id(&session.store()?, m.text("IMAGE").unwrap_or_default())),
    ),
};

const PRUNE: Spec = Spec {
    name: "prune",
    about: "Remove images without a name; with -a, all that no container uses",
    examples: &[
        ("barge image prune", "those that a newer image has taken the name of"),
        (
            "barge image prune -a -f --filter until=240h",
            "all that are ten days old and not in use, without asking",
        ),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    prune_flags(command).arg(flag("all", "Also those with a name, if no container uses them").short('a'))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let (all, filters) = scope(m)?;
    let warning = match all {
        true => "This will remove all images without at least one container associated to them.",
        false => "This will remove all dangling images.",
    };
    if confirm(session, warning, m.on("force"))? {
        let removal = prune_images(&session.store()?, all, &filters)?;
        say_reclaimed(session, "Deleted Images:", &lines(&removal), removal.bytes())?;
        session.console.flush()?;
        removal.delete()?;
    }
    Ok(0)
}

/// `-a`, or docker's other spelling of it, and what else must hold.
fn scope(m: &ArgMatches) -> Result<(bool, Filters)> {
    let filters = Filters::parse(m.texts("filter"), &["dangling"])?;
    let mut all = m.on("all");
    for (_, value) in &filters.other {
        match value.as_str() {
            "true" | "1" => all = false,
            "false" | "0" => all = true,
            _ => return Err(Error::usage(format!("invalid filter 'dangling={value}'"))),
        }
    }
    Ok((all, filters))
}

/// Removes them; what is left to do is [`Removal::delete`].
pub(super) fn prune_images(store: &Store, all: bool, filters: &Filters) -> Result<Removal> {
    prune::images(store, all, filters, &|id| {
        matches!(status(store, id), Status::Running(_))
    })
}

/// Docker's words, small here.
pub(super) fn lines(removal: &Removal) -> Vec<String> {
    let small = |line: String| {
        line.replacen("Untagged", "untagged", 1)
            .replacen("Deleted", "deleted", 1)
    };
    removal.lines.iter().map(|line| small(line.to_string())).collect()
}

const UMOUNT: Spec = Spec {
    name: "umount",
    also: Some("image unmount"),
    ..image_mount::UNMOUNT
};
