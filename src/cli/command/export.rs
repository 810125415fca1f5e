//! `export`: writes a container's file system as a tar.

use crate::cli::argument::{Values, value, word};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Codes, Spec};
use crate::container::export::export;
use crate::error::{Context as _, Error, Result};
use crate::model::id::ContainerId;
use crate::store::Store;
use clap::{ArgMatches, Command, ValueHint};
use rustix::fs::CWD;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

pub(super) const SPEC: Spec = Spec {
    name: "export",
    about: "Write a container's file system as a tar",
    examples: &[
        (
            "barge export web > web.tar",
            "without its volumes, whether it runs or not",
        ),
        ("barge export -o web.tar web", "into a file that is whole or not there"),
        ("barge export web | barge import - web:flat", "an image of one layer"),
    ],
    also: None,
    body: Body::Command {
        define,
        run,
        codes: Codes::Plain,
    },
};

fn define(command: Command) -> Command {
    command
        .arg(
            value("output", "FILE", "Write to a file instead of stdout")
                .short('o')
                .value_hint(ValueHint::FilePath),
        )
        .arg(word("CONTAINER", "Name or id"))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let container = store.resolve_container(m.text("CONTAINER").unwrap_or_default())?;
    match m.text("output").filter(|path| !path.is_empty()) {
        Some(path) => to_file(&store, &container, Path::new(path))?,
        None if session.console.is_terminal() => {
            return Err(
                Error::other("cowardly refusing to save to a terminal").with_hint("use the -o flag or redirect")
            );
        }
        None => {
            let mut out = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
            export(&store, &container, &mut out)?;
        }
    }
    Ok(0)
}

/// A file appears when it is whole; what is no file (a pipe, a device) is written as it is.
fn to_file(store: &Store, container: &ContainerId, path: &Path) -> Result<()> {
    let said = || format!("write {}", path.display());
    if path.metadata().is_ok_and(|meta| !meta.is_file()) {
        let mut out = File::options().write(true).open(path).with_context(said)?;
        return export(store, container, &mut out);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let part = path.with_file_name(name);
    let mut out = File::options()
        .write(true)
        // The files of a container, its secrets among them, in a directory that may be everybody's.
        .create_new(true)
        .mode(0o600)
        .open(&part)
        .with_context(said)?;
    let part = Part(part);
    export(store, container, &mut out)?;
    rustix::fs::renameat(CWD, &part.0, CWD, path).with_context(said)
}

/// A file in the making; after a rename there is nothing of that name.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
