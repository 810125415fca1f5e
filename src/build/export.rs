//! `--output`: what was built leaves the engine, as files, as a tar, or as an image in an archive.

use crate::build::options::{Destination, Output};
use crate::error::{Context as _, Error, Result};
use crate::image::save::{self, Form, Save, into_directory, into_file, save};
use crate::layer::{self, copy, pack};
use crate::model::id::ImageId;
use crate::model::reference::Reference;
use crate::store::Store;
use rustix::fs::{Mode, OFlags, open};
use std::io::{BufWriter, IsTerminal as _, Write};
use std::os::fd::{AsFd as _, BorrowedFd};

/// What an output is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// The target's files: [`export_tree`].
    Tree,
    /// The finished image: [`export_image`].
    Image,
    Nothing,
}

impl Output {
    pub(crate) fn needs(&self) -> Needs {
        match self {
            Output::Local { .. } | Output::Tar { .. } => Needs::Tree,
            Output::Image { .. } | Output::Oci { .. } | Output::Docker { .. } => Needs::Image,
            Output::Nothing => Needs::Nothing,
        }
    }

    /// What can be known to be wrong before anything is built.
    pub(crate) fn check(&self) -> Result<()> {
        let stdout = match self {
            Output::Tar { dest } | Output::Oci { dest, .. } | Output::Docker { dest: Some(dest), .. } => {
                *dest == Destination::Stdout
            }
            _ => false,
        };
        match stdout && std::io::stdout().is_terminal() {
            true => Err(Error::usage(
                "refusing to write output to a terminal: name a file with dest=",
            )),
            false => Ok(()),
        }
    }
}

/// The files below `root`, as the target's stage has them. With `epoch` no file of a tar is younger.
///
/// As with docker, files in a directory are the caller's, what is there already stays, and a link that is there is
/// never followed.
pub(crate) fn export_tree(output: &Output, root: BorrowedFd<'_>, epoch: Option<i64>) -> Result<()> {
    match output {
        Output::Local { dest } => {
            let said = || dest.display().to_string();
            std::fs::create_dir_all(dest).with_context(said)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let into = open(dest, flags, Mode::empty()).with_context(said)?;
            let options = copy::Options {
                owner: copy::Owner::Fixed {
                    user: rustix::process::geteuid().as_raw(),
                    group: rustix::process::getegid().as_raw(),
                },
                there: copy::There::Merge,
                mounts: layer::Mounts::Refuse,
                ..copy::Options::default()
            };
            copy::contents(root, into.as_fd(), &options)
                .map(drop)
                .with_context(said)
        }
        Output::Tar { dest } => {
            let options = pack::Options {
                epoch,
                ..pack::Options::default()
            };
            to(dest, |out| {
                let mut out = BufWriter::with_capacity(256 * 1024, out);
                pack::export(root, &mut out, &options)?;
                Ok(out.flush()?)
            })
        }
        _ => Ok(()),
    }
}

/// The image `id`, under the names of the output, else under `tags`. What stays in the store, or goes to a registry, is
/// not done here.
pub(crate) fn export_image(store: &Store, output: &Output, id: &ImageId, tags: &[Reference]) -> Result<()> {
    let (dest, names, form) = match output {
        Output::Oci { dest, names, directory } => match directory {
            true => (dest, names, Form::OciDir),
            false => (dest, names, Form::OciArchive),
        },
        Output::Docker {
            dest: Some(dest),
            names,
        } => (dest, names, Form::DockerArchive),
        _ => return Ok(()),
    };
    let text = id.to_string();
    let wanted = Save {
        images: vec![&text],
        form,
        platforms: Vec::new(),
        names: if names.is_empty() { tags.to_vec() } else { names.clone() },
    };
    match (dest, form.is_directory()) {
        (Destination::File(path), true) => into_directory(path, |output| save(store, &wanted, output)),
        (Destination::Stdout, true) => Err(Error::usage("a directory has no stdout: name it with dest=")),
        (dest, false) => to(dest, |out| {
            let mut output = save::Output::tar(out);
            save(store, &wanted, &mut output)?;
            output.finish()
        }),
    }
}

fn to(dest: &Destination, write: impl FnOnce(Box<dyn Write + Send>) -> Result<()>) -> Result<()> {
    match dest {
        Destination::Stdout => write(Box::new(std::io::stdout())),
        Destination::File(path) => into_file(path, write),
    }
}
