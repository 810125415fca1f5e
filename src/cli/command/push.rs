//! `push`: sends an image to a registry.

use super::login;
use crate::cli::access;
use crate::cli::argument::{Values, bytes, flag, value, whole_number};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::error::{Context as _, Error, Result};
use crate::format::manifest::Dialect;
use crate::image::progress::Event;
use crate::image::push::{Options, Packing, push};
use crate::model::platform::Platform;
use crate::model::reference::Reference;
use crate::output::progress::{self, To};
use clap::{Arg, ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "push",
    about: "Send an image to a registry",
    examples: &[
        (
            "barge push registry.example.org/team/app:1.2",
            "under the name it has here",
        ),
        ("barge push app localhost:5000/app:test", "under another one"),
        ("barge push -a localhost:5000/app", "all its tags"),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    access::define(command)
        .arg(flag("all-tags", "Send every tag of the repository").short('a'))
        .arg(value(
            "compression-format",
            "FORMAT",
            "For layers made here: gzip, zstd or none [default: gzip]",
        ))
        .arg(
            value("compression-level", "LEVEL", "How hard to compress them")
                .value_parser(|text: &str| whole_number(text)),
        )
        .arg(bytes("digestfile", "FILE", "Write the digest to this file"))
        .arg(flag("disable-content-trust", "Taken for docker's sake").hide(true))
        .arg(
            value(
                "format",
                "FORMAT",
                "Kind of manifest: oci or v2s2 [default: as it came, or v2s2]",
            )
            .short('f'),
        )
        .arg(value("platform", "OS/ARCH", "Only the image for this platform"))
        .arg(flag("quiet", "Print only the digest").short('q'))
        .arg(Arg::new("NAME[:TAG]").help("What to send").required(true))
        .arg(Arg::new("DESTINATION").help("Under which name, if another one"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let quiet = m.on("quiet");
    let mut packing = m.text("compression-format").map(str::parse::<Packing>).transpose()?;
    if let Some(level) = m.get_one::<i64>("compression-level") {
        let level = i32::try_from(*level).map_err(|_| Error::usage(format!("invalid compression level {level}")))?;
        let asked = packing.unwrap_or_default();
        packing = Some(Packing {
            level: Some(level),
            ..asked
        });
    }
    let options = Options {
        all_tags: m.on("all-tags"),
        platform: m.text("platform").map(Platform::parse).transpose()?,
        dialect: m.text("format").map(dialect).transpose()?,
        packing,
        access: access::of(m)?,
    };
    let destination = m.text("DESTINATION").map(destination).transpose()?;
    let name = m.text("NAME[:TAG]").unwrap_or_default();
    let store = session.store()?;
    let progress = progress::for_command(quiet, To::Stdout);
    if !options.all_tags && Reference::parse(name).is_ok_and(|r| r.tag.is_none() && r.digest.is_none()) {
        progress.event(Event::Line("Using default tag: latest"));
    }
    let send = || push(&store, name, destination.as_ref(), &options, &*progress);
    let there = destination
        .as_ref()
        .map_or_else(|| name.to_owned(), Reference::to_string);
    let pushed = match send() {
        Err(e) if login::offer(&e, &there, &options.access, session)? => send()?,
        other => other?,
    };
    let digests: Vec<String> = pushed.into_iter().map(|pushed| pushed.known_as).collect();
    if let Some(file) = m.raw("digestfile") {
        std::io::Write::write_all(
            &mut std::fs::File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .open(file)
                .with_context(|| format!("open {}", file.display()))?,
            digests.join("\n").as_bytes(),
        )?;
    }
    if quiet {
        digests.iter().try_for_each(|digest| session.console.line(digest))?;
    }
    Ok(0)
}

/// `docker://` is podman's way to say that a registry is meant.
fn destination(text: &str) -> Result<Reference> {
    Reference::parse(text.strip_prefix("docker://").unwrap_or(text))
}

fn dialect(text: &str) -> Result<Dialect> {
    match text {
        "oci" => Ok(Dialect::Oci),
        "v2s2" | "docker" => Ok(Dialect::Docker),
        other => Err(Error::usage(format!(
            "unknown format '{}': want oci or v2s2",
            other.escape_debug()
        ))),
    }
}
