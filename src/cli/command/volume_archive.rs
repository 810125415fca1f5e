//! `volume export`, `volume import`: what is in a volume as a tar.

use crate::cli::archive_output::write_to;
use crate::cli::argument::{Values, value, word};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::container::volume;
use crate::error::{Context as _, Error, Result};
use clap::{Arg, ArgMatches, Command, ValueHint};
use std::fs::File;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;

pub(super) const EXPORT: Spec = Spec {
    name: "export",
    about: "Write what is in a volume as a tar",
    examples: &[
        (
            "barge volume export data -o data.tar",
            "into a file that is whole or not there",
        ),
        ("barge volume export data | zstd > data.tar.zst", "to standard output"),
    ],
    also: None,
    body: Body::plain(define_export, run_export),
};

pub(super) const IMPORT: Spec = Spec {
    name: "import",
    about: "Put what is in a tar into a volume, beside what it has",
    examples: &[
        ("barge volume import data data.tar", "also of gzip, bzip2, xz or zstd"),
        (
            "ssh other barge volume export data | barge volume import data -",
            "from another machine",
        ),
    ],
    also: None,
    body: Body::plain(define_import, run_import),
};

fn define_export(command: Command) -> Command {
    command
        .arg(
            value("output", "FILE", "Write to a file instead of stdout")
                .short('o')
                .value_hint(ValueHint::FilePath),
        )
        .arg(word("VOLUME", "Its name"))
}

fn run_export(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let name = m.text("VOLUME").unwrap_or_default();
    store.volume(name)?;
    write_to(session, m.text("output"), |out| volume::export(&store, name, out))?;
    Ok(0)
}

fn define_import(command: Command) -> Command {
    command.arg(word("VOLUME", "Its name")).arg(
        Arg::new("SOURCE")
            .help("A file, or - for standard input")
            .default_value("-")
            .value_hint(ValueHint::FilePath),
    )
}

fn run_import(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let (name, source) = (m.text("VOLUME").unwrap_or_default(), m.text("SOURCE").unwrap_or("-"));
    store.volume(name)?;
    let input = match source {
        "-" => File::from(std::io::stdin().as_fd().try_clone_to_owned()?),
        path => File::open(path).with_context(|| format!("open {path}"))?,
    };
    if input.is_terminal() {
        return Err(Error::other("standard input is a terminal, and no tar").with_hint("name a file"));
    }
    volume::import(&store, name, input)?;
    Ok(0)
}
