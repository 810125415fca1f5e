//! Which file is the Dockerfile, and which one says what is ignored.

use super::stream::text;
use super::{Context, shown};
use crate::build::ignore::{Ignore, LARGEST_FILE};
use crate::build::options::DockerfilePlace;
use crate::error::{Context as _, Error, Result};
use crate::registry::{Access, download};
use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// In this order.
const USUAL: [&str; 3] = ["Dockerfile", "dockerfile", "Containerfile"];
/// The second one is docker's; who has both means them for different programs.
const IGNORE_FILES: [&str; 2] = [".containerignore", ".dockerignore"];

/// The text of a Dockerfile.
pub(crate) struct Dockerfile {
    /// For messages.
    pub(crate) name: String,
    pub(crate) text: Vec<u8>,
    /// Where its own ignore file would be.
    pub(super) beside: Option<Beside>,
}

/// A file, whose name is to be continued.
pub(super) enum Beside {
    Host(PathBuf),
    /// Below the context's root.
    Inside(PathBuf),
}

pub(super) fn find(
    access: &Access,
    context: &Context,
    local: Option<&Path>,
    place: &DockerfilePlace,
) -> Result<Dockerfile> {
    match place {
        DockerfilePlace::Stdin => Ok(Dockerfile {
            name: "-".to_owned(),
            text: text(std::io::stdin()).context("read Dockerfile from stdin")?,
            beside: None,
        }),
        DockerfilePlace::Remote(address) => Ok(Dockerfile {
            name: address.clone(),
            text: text(download::get(address, access)?.reader).with_context(|| format!("fetch {address}"))?,
            beside: None,
        }),
        DockerfilePlace::Usual => usual(context, local),
        DockerfilePlace::File(path) => {
            // On the machine, if the context is: it may stand outside of the context.
            if local.is_some()
                && let Some(file) = open_host(path)?
            {
                return read(file, path, Beside::Host(path.clone()));
            }
            match open_inside(context, path)? {
                Some(file) => read(file, path, Beside::Inside(path.clone())),
                None => Err(no_dockerfile(&shown(path))),
            }
        }
    }
}

fn usual(context: &Context, local: Option<&Path>) -> Result<Dockerfile> {
    for name in USUAL.map(Path::new) {
        if let Some(file) = open_inside(context, name)? {
            return read(file, name, Beside::Inside(name.to_owned()));
        }
    }
    let name = local.map_or(PathBuf::from("Dockerfile"), |dir| dir.join("Dockerfile"));
    Err(no_dockerfile(&shown(&name)).with_hint("can't build a directory with no Dockerfile: -f names another one"))
}

fn no_dockerfile(name: &str) -> Error {
    Error::other(format!("open {name}: no such file or directory"))
}

fn read(file: File, name: &Path, beside: Beside) -> Result<Dockerfile> {
    Ok(Dockerfile {
        text: text(file).with_context(|| shown(name))?,
        name: shown(name),
        beside: Some(beside),
    })
}

/// `--ignorefile`, else the Dockerfile's own, else the context's.
pub(super) fn ignore_file(context: &Context, dockerfile: &Dockerfile, asked: Option<&Path>) -> Result<Ignore> {
    if let Some(path) = asked {
        let file = open_host(path)?.ok_or_else(|| Error::from(Errno::NOENT));
        return file.and_then(parse).with_context(|| shown(path));
    }
    for extension in [".containerignore", ".dockerignore"] {
        let longer = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(extension);
            PathBuf::from(name)
        };
        let (path, file) = match &dockerfile.beside {
            Some(Beside::Host(path)) => (longer(path), open_host(&longer(path))?),
            Some(Beside::Inside(path)) => (longer(path), open_inside(context, &longer(path))?),
            None => continue,
        };
        if let Some(file) = file {
            return parse(file).with_context(|| shown(&path));
        }
    }
    ignore_file_of_root(context)
}

pub(super) fn ignore_file_of_root(context: &Context) -> Result<Ignore> {
    for name in IGNORE_FILES {
        if let Some(file) = open_inside(context, Path::new(name))? {
            return parse(file).context(name);
        }
    }
    Ok(Ignore::default())
}

fn parse(file: File) -> Result<Ignore> {
    let mut text = Vec::new();
    file.take(LARGEST_FILE + 1).read_to_end(&mut text)?;
    match text.len() as u64 > LARGEST_FILE {
        true => Err(Error::other("more than 4 MiB")),
        false => Ignore::parse(&text),
    }
}

const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// `None`: there is none.
fn open_host(path: &Path) -> Result<Option<File>> {
    // A pipe or a device is fine, when it is the caller's own word: `-f <(generate)`.
    match rustix::fs::open(path, FILE.difference(OFlags::NONBLOCK), Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        file => {
            let file = File::from(file.with_context(|| shown(path))?);
            match file.metadata()?.is_dir() {
                true => Err(Error::from(Errno::ISDIR)).with_context(|| shown(path)),
                false => Ok(Some(file)),
            }
        }
    }
}

/// Inside of the context, links included.
fn open_inside(context: &Context, path: &Path) -> Result<Option<File>> {
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = match openat2(context.root.as_fd(), path, FILE, Mode::empty(), inside) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        file => file.with_context(|| shown(path))?,
    };
    match rustix::fs::FileType::from_raw_mode(fstat(&file)?.st_mode) {
        rustix::fs::FileType::RegularFile => Ok(Some(File::from(file))),
        rustix::fs::FileType::Directory => Err(Error::from(Errno::ISDIR)).with_context(|| shown(path)),
        _ => Err(Error::other("not a regular file")).with_context(|| shown(path)),
    }
}
