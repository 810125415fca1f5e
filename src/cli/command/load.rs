//! `load`: brings in the images of an archive.

use crate::cli::argument::{Values, flag, list, value};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::error::Result;
use crate::image::load::{Input, Load, load};
use crate::model::platform::Platform;
use crate::output::progress::{self, To};
use clap::{ArgMatches, Command, ValueHint};
use std::path::PathBuf;

pub(super) const SPEC: Spec = Spec {
    name: "load",
    about: "Load images from an archive, of docker, podman or an OCI layout",
    examples: &[
        ("barge load -i images.tar.gz", "of any age and compression"),
        ("ssh other barge save web | barge load", "from stdin"),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command
        .arg(
            value(
                "input",
                "FILE",
                "Read this archive or directory instead of stdin; - is stdin",
            )
            .short('i')
            .value_hint(ValueHint::AnyPath),
        )
        .arg(flag("quiet", "Show no progress").short('q'))
        .arg(list(
            "platform",
            "OS/ARCH[/VARIANT]",
            "Load only images for this platform",
        ))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let input = match m.text("input") {
        None | Some("-") => Input::Stdin,
        Some(path) => Input::Path(PathBuf::from(path)),
    };
    let platforms = m.texts("platform").flat_map(|text| text.split(','));
    let wanted = Load {
        input,
        platforms: platforms.map(Platform::parse).collect::<Result<_>>()?,
    };
    // As docker: without a terminal only what has been loaded is told.
    let progress = progress::for_command(m.on("quiet") || !session.console.is_terminal(), To::Stdout);
    for image in load(&session.store()?, &wanted, &*progress)? {
        for name in &image.names {
            session.console.line(&format!("Loaded image: {name}"))?;
        }
        if image.names.is_empty() {
            session.console.line(&format!("Loaded image ID: {}", image.id))?;
        }
    }
    Ok(0)
}
