//! `save`: writes images into an archive.

use crate::cli::argument::{Values, list, value, words};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Codes, Spec};
use crate::error::{Context, Error, Result};
use crate::image::save::{Output, Save, save};
use crate::model::platform::Platform;
use clap::{ArgMatches, Command, ValueHint};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
use std::fs::File;
use std::io::{ErrorKind, IsTerminal};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

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
    body: Body::Command {
        define,
        run,
        codes: Codes::Plain,
    },
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
    };
    let store = session.store()?;
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
        (Some(path), false) => into_file(&PathBuf::from(path), |output| save(&store, &wanted, output)),
    }?;
    Ok(0)
}

/// A new file, put in place when it is whole. What is there and is no plain file is written to as it is.
fn into_file(path: &Path, write: impl FnOnce(&mut Output<'_>) -> Result<()>) -> Result<()> {
    let said = || path.display().to_string();
    let special = match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(Error::other(format!("{}: is a directory", said()))),
        Ok(found) => !found.is_file(),
        Err(_) => false,
    };
    if special {
        let file = File::options().write(true).open(path).with_context(said)?;
        let mut output = Output::tar(Box::new(file));
        return write(&mut output).and_then(|()| output.finish()).with_context(said);
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
    let mut output = Output::tar(Box::new(file.try_clone().with_context(said)?));
    let done = write(&mut output)
        .and_then(|()| output.finish())
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
fn into_directory(path: &Path, write: impl FnOnce(&mut Output<'_>) -> Result<()>) -> Result<()> {
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
