//! Where a tar goes: a file that is whole or not there, a pipe or device, or standard output, but never a terminal.

use crate::cli::session::Session;
use crate::error::{Context as _, Error, Result};
use rustix::fs::CWD;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Lets `write` write to the file of `-o`, if there is one.
pub(crate) fn write_to(
    session: &Session,
    output: Option<&str>,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    match output.filter(|path| !path.is_empty()) {
        Some(path) => to_file(Path::new(path), write),
        None if session.console.is_terminal() => {
            Err(Error::other("cowardly refusing to save to a terminal").with_hint("use the -o flag or redirect"))
        }
        None => write(&mut File::from(std::io::stdout().as_fd().try_clone_to_owned()?)),
    }
}

/// A file appears when it is whole; what is no file (a pipe, a device) is written as it is.
fn to_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let said = || format!("write {}", path.display());
    if path.metadata().is_ok_and(|meta| !meta.is_file()) {
        return write(&mut File::options().write(true).open(path).with_context(said)?);
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
    write(&mut out)?;
    rustix::fs::renameat(CWD, &part.0, CWD, path).with_context(said)
}

/// A file in the making; after a rename there is nothing of that name.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
