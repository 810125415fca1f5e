//! `save`: writes images into an archive.

use crate::cli::argument::{Values, list, value, words};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::error::{Error, Result};
use crate::image::progress::Event;
use crate::image::save::{Output, Save, into_directory, into_file, left_out, save};
use crate::model::platform::Platform;
use crate::output::progress::{self, To};
use clap::{ArgMatches, Command, ValueHint};
use std::io::IsTerminal;
use std::path::PathBuf;

pub(super) const SPEC: Spec = Spec {
    name: "save",
    about: "Write images into an archive",
    examples: &[
        (
            "barge save -o web.tar web:1 db",
            "into a file, for `load` of barge, docker or podman",
        ),
        ("barge save web | gzip > web.tar.gz", "to stdout"),
        (
            "barge save --format oci-dir -o layout web",
            "as an OCI layout, with manifests and compressed layers as they came",
        ),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command
        .arg(
            value("output", "FILE", "Write to this file or directory instead of stdout")
                .short('o')
                .value_hint(ValueHint::AnyPath),
        )
        .arg(value(
            "format",
            "FORMAT",
            "docker-archive, oci-archive, oci-dir or docker-dir [default: docker-archive]",
        ))
        .arg(list(
            "platform",
            "OS/ARCH[/VARIANT]",
            "Of images for several platforms, save the one for this",
        ))
        .arg(
            crate::cli::argument::flag("quiet", "Accepted for podman's sake: nothing is told anyway")
                .short('q')
                .hide(true),
        )
        .arg(
            crate::cli::argument::flag("multi-image-archive", "Accepted for podman's sake: it always is one")
                .short('m')
                .hide(true),
        )
        .arg(words("IMAGE", "Names, names without a tag for all of them, or ids"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let platforms = m.texts("platform").flat_map(|text| text.split(','));
    let wanted = Save {
        images: m.texts("IMAGE").collect(),
        form: m.text("format").unwrap_or("docker-archive").parse()?,
        platforms: platforms.map(Platform::parse).collect::<Result<_>>()?,
        names: Vec::new(),
    };
    let store = session.store()?;
    for line in left_out(&store, &wanted)? {
        progress::lines(To::Stderr).event(Event::Notice(&line));
    }
    match (m.text("output"), wanted.form.is_directory()) {
        (None, true) => Err(Error::usage("a directory has no stdout: name it with --output")),
        (None, false) => {
            let stdout = std::io::stdout();
            if stdout.is_terminal() {
                return Err(Error::other(
                    "cowardly refusing to save to a terminal. Use the -o flag or redirect",
                ));
            }
            let mut output = Output::tar(Box::new(stdout));
            save(&store, &wanted, &mut output)?;
            output.finish()
        }
        (Some(path), true) => into_directory(&PathBuf::from(path), |output| save(&store, &wanted, output)),
        (Some(path), false) => into_file(&PathBuf::from(path), |file| {
            let mut output = Output::tar(file);
            save(&store, &wanted, &mut output)?;
            output.finish()
        }),
    }?;
    Ok(0)
}
