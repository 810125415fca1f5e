//! Files and directories of a person that something is saved into: there when they are whole, and not before.

use super::Output;
use crate::error::{Context, Error, Result};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A new file, put in place when it is whole. What is there and is no plain file is written to as it is.
pub(crate) fn into_file(path: &Path, write: impl FnOnce(Box<dyn Write + Send>) -> Result<()>) -> Result<()> {
    let said = || path.display().to_string();
    let special = match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(Error::other(format!("{}: is a directory", said()))),
        Ok(found) => !found.is_file(),
        Err(_) => false,
    };
    if special {
        let file = File::options().write(true).open(path).with_context(said)?;
        return write(Box::new(file)).with_context(said);
    }
    let mut staged = path.as_os_str().to_owned();
    staged.push(format!(".{}.part", std::process::id()));
    let staged = PathBuf::from(staged);
    // Without a name, where the file system can: then nothing is left of a save that is stopped.
    let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let nameless = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o600);
    let (file, is_nameless) = match open(parent.unwrap_or(Path::new(".")), nameless, mode) {
        Ok(file) => (File::from(file), true),
        Err(_) => {
            let mut options = File::options();
            let file = options.write(true).create_new(true).mode(0o600).open(&staged);
            (file.with_context(said)?, false)
        }
    };
    let done = write(Box::new(file.try_clone().with_context(said)?))
        .and_then(|()| match is_nameless {
            true => give_name(&file, &staged).with_context(said),
            false => Ok(()),
        })
        .and_then(|()| rustix::fs::rename(&staged, path).with_context(said));
    if done.is_err() {
        let _ = std::fs::remove_file(&staged);
    }
    done
}

fn give_name(file: &File, path: &Path) -> rustix::io::Result<()> {
    // linkat(2) with AT_EMPTY_PATH needs a capability; this way needs /proc.
    let from = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(CWD, from, CWD, path, AtFlags::SYMLINK_FOLLOW)
}

/// A new directory, or an empty one.
pub(crate) fn into_directory(path: &Path, write: impl FnOnce(&mut Output<'_>) -> Result<()>) -> Result<()> {
    let said = || path.display().to_string();
    let made = match std::fs::create_dir(path) {
        Ok(()) => true,
        Err(e) if e.kind() == ErrorKind::AlreadyExists => false,
        Err(e) => return Err(e).with_context(said),
    };
    if !made && std::fs::read_dir(path).with_context(said)?.next().is_some() {
        return Err(Error::conflict(format!("{}: directory is not empty", said())));
    }
    let dir = open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).with_context(said)?;
    let mut output = Output::directory(dir);
    match write(&mut output) {
        Ok(()) => output.finish(),
        Err(e) => {
            output.abandon();
            if made {
                let _ = std::fs::remove_dir(path);
            }
            Err(e)
        }
    }
}
