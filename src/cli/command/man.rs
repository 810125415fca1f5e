//! `man`: writes the manual pages into a directory, for packagers and for the test that `man/` is current.

use crate::cli::argument::Values;
use crate::cli::manual;
use crate::cli::session::Session;
use crate::cli::tree::{Body, Codes, Spec};
use crate::error::{Context as _, Result};
use clap::{Arg, ArgMatches, Command, value_parser};
use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

pub(super) const SPEC: Spec = Spec {
    name: "man",
    about: "Write the manual pages into a directory",
    examples: &[
        ("barge man man/", "one file for each command"),
        ("barge man packaging/config.toml", "all settings, none of them set"),
    ],
    also: None,
    body: Body::Command {
        define,
        run,
        codes: Codes::Hidden,
    },
};

fn define(command: Command) -> Command {
    command.arg(
        Arg::new("DIR")
            .help("Made if it is absent; NAME.toml is a file with all settings")
            .required(true)
            .value_parser(value_parser!(OsString)),
    )
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let dir = PathBuf::from(m.raw("DIR").unwrap_or_default());
    if dir.extension().is_some_and(|e| e == "toml") {
        return write(&dir, manual::settings().as_bytes()).map(|()| 0);
    }
    std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    for (name, page) in manual::pages() {
        let file = dir.join(&name);
        write(&file, &page)?;
        session.console.line(&name)?;
    }
    Ok(0)
}

fn write(file: &Path, text: &[u8]) -> Result<()> {
    let opened = File::options().write(true).create(true).truncate(true).open(file);
    let written = opened.and_then(|mut f| f.write_all(text));
    written.with_context(|| format!("write {}", file.display()))
}
