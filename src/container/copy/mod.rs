//! `cp`: files into containers, out of them, and from one to another, or as a tar by way of `-`.
//!
//! A container's files are those that it sees, volumes and mounts included, whether it runs, stands still or has never
//! run. Nothing of the container is executed or loaded for it (CVE-2019-14271).

mod place;
mod plan;

use crate::container::whole::{self, Whole};
use crate::error::{Context as _, Error, Result};
use crate::layer::copy::{Options, Owner, There};
use crate::layer::{self, Mounts, Onto, compress, copy, pack};
use crate::model::id::ContainerId;
use crate::model::idmap::IdMap;
use crate::monitor::root::Access;
use crate::store::Store;
use crate::sys;
use place::{Base, Place, Written, find};
use plan::{Destination, Refusal, Source, Target};
use rustix::fs::{FileType, Mode, OFlags, StatVfsMountFlags, fstat, fstatvfs, mkdirat, openat};
use std::ffi::{CStr, CString, OsStr};
use std::io::{Read, Write};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// More than a person reads.
const MOST_LISTED: usize = 10_000;

/// One side of a copy.
#[derive(Debug)]
pub(crate) enum End {
    /// As typed.
    Host(PathBuf),
    /// In a container; a relative path begins at its root.
    Container(ContainerId, PathBuf),
    /// `-`.
    Stream,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    /// `-a`: who owns the original owns the copy.
    pub(crate) owners: bool,
    /// `-L`: of a link at the end of the source's path, what it leads to.
    pub(crate) follow: bool,
}

/// Copies; the bytes of files. A stream is read from `input` or written to `output`.
pub(crate) fn copy(
    store: &Store,
    (from, to): (&End, &End),
    wish: Wish,
    (input, output): (&mut (dyn Read + Send), &mut dyn Write),
) -> Result<u64> {
    let destination_side = Side::open(store, to, Access::Write, None)?;
    let source_side = Side::open(store, from, Access::Read, destination_side.as_ref())?;
    let (source, from_place) = match &source_side {
        None => (Source::Stream, None),
        Some(side) => {
            let (source, place) = side.source(wish.follow)?;
            (source, Some(place))
        }
    };
    let Some(destination) = &destination_side else {
        let (Some(side), Some(place)) = (&source_side, from_place) else {
            return Err(Error::usage(
                "copying from standard input to standard output is no copy",
            ));
        };
        return side.to_stream(source, place, output);
    };
    let (there, place) = destination.destination()?;
    let target = plan::plan(source, there, destination.written().directory);
    let target = target.map_err(|refusal| destination.refused(refusal))?;
    destination.check_writable(&place)?;
    if let Some(ids) = destination.ids() {
        // Nobody else can make files there.
        let (user, group) = ids.root()?;
        sys::users::act_as(user, group).context("act as the container's root")?;
    }
    let into = destination.ready(place, target)?;
    match (&source_side, from_place) {
        (Some(side), Some(from)) => side.copy_to(destination, from, into, wish),
        _ => {
            let ids = destination.ids().cloned();
            let options = layer::Options {
                onto: Onto::Existing { ids },
                ..layer::Options::default()
            };
            let unpacked = layer::unpack(compress::reader(input)?, into.fd.as_fd(), &options);
            Ok(unpacked.with_context(|| destination.shown())?.size)
        }
    }
}

/// What is in a directory of a container, for completion: names that are text, directories with a closing slash, in
/// order. Nothing is waited for or changed, but that of a container that does not run the root is mounted.
pub(crate) fn entries(store: &Store, id: &ContainerId, dir: &Path) -> Result<Vec<String>> {
    let whole = whole::whole(store, id, Access::Read)?;
    let base = Base {
        root: whole.root(),
        host: false,
    };
    let Place::Directory { fd, .. } = find(base, &Written::of(dir), true)? else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&fd)?.take(MOST_LISTED) {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if matches!(name, "." | "..") || name.chars().any(char::is_control) {
            continue;
        }
        let slash = if entry.file_type() == FileType::Directory {
            "/"
        } else {
            ""
        };
        names.push(format!("{name}{slash}"));
    }
    names.sort();
    Ok(names)
}

/// Where the copy goes.
struct Into {
    fd: OwnedFd,
    /// Under this name.
    name: Option<CString>,
    /// Under the source's own name.
    inside: bool,
    /// A directory that was made for what is in the source, and gets what belongs to it.
    made: bool,
}

/// A side that has files.
struct Side {
    files: Files,
    /// Absolute.
    path: PathBuf,
    typed: String,
}

enum Files {
    /// The root.
    Host(OwnedFd),
    Container(Rc<Whole>),
}

impl Side {
    /// `None` of a stream. What `other` has open already of the same container is not opened twice.
    fn open(store: &Store, end: &End, access: Access<'_>, other: Option<&Side>) -> Result<Option<Side>> {
        let (files, path, typed) = match end {
            End::Stream => return Ok(None),
            End::Host(path) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                // Not `std::path::absolute`, which drops a closing dot.
                let absolute = match path.is_absolute() {
                    true => path.clone(),
                    false => {
                        let here = std::env::current_dir()?;
                        [here.as_os_str(), path.as_os_str()].join(OsStr::new("/")).into()
                    }
                };
                (
                    Files::Host(rustix::fs::open("/", flags, Mode::empty())?),
                    absolute,
                    path,
                )
            }
            End::Container(id, path) => {
                let whole = match other.map(|side| &side.files) {
                    Some(Files::Container(whole)) if whole.config.id == *id => whole.clone(),
                    _ => Rc::new(whole::whole(store, id, access)?),
                };
                (Files::Container(whole), path.clone(), path)
            }
        };
        Ok(Some(Side {
            files,
            path,
            typed: typed.display().to_string(),
        }))
    }

    fn base(&self) -> Base<'_> {
        match &self.files {
            Files::Host(root) => Base {
                root: root.as_fd(),
                host: true,
            },
            Files::Container(whole) => Base {
                root: whole.root(),
                host: false,
            },
        }
    }

    fn whole(&self) -> Option<&Whole> {
        match &self.files {
            Files::Host(_) => None,
            Files::Container(whole) => Some(whole),
        }
    }

    fn written(&self) -> Written<'_> {
        Written::of(&self.path)
    }

    fn ids(&self) -> Option<&IdMap> {
        self.whole()?.ids()
    }

    /// For messages: docker's way of writing it.
    fn shown(&self) -> String {
        match self.whole() {
            Some(whole) => format!("{}:{}", whole.config.name, self.typed),
            None => self.typed.clone(),
        }
    }

    fn not_found(&self) -> Error {
        Error::not_found(match self.whole() {
            Some(whole) => format!(
                "Could not find the file {} in container {}",
                self.typed, whole.config.name
            ),
            None => format!("lstat {}: no such file or directory", self.typed),
        })
    }

    fn source(&self, follow: bool) -> Result<(Source, Place)> {
        let written = self.written();
        let place = find(self.base(), &written, follow).with_context(|| self.shown())?;
        match &place {
            Place::Free { .. } | Place::Nowhere => Err(self.not_found()),
            Place::Entry { .. } if written.directory => Err(Error::usage(format!("{}: not a directory", self.shown()))),
            Place::Entry {
                kind: FileType::Socket, ..
            } => Err(Error::usage(format!(
                "{}: a socket can't be copied: nobody listens behind a copy",
                self.shown()
            ))),
            Place::Entry { .. } => Ok((Source::File, place)),
            Place::Directory { name, .. } => {
                let contents = written.contents || name.is_none();
                Ok((Source::Directory { contents }, place))
            }
        }
    }

    fn destination(&self) -> Result<(Destination, Place)> {
        let place = find(self.base(), &self.written(), true).with_context(|| self.shown())?;
        let there = match &place {
            Place::Directory { .. } => Destination::Directory,
            Place::Entry {
                kind: FileType::RegularFile,
                ..
            } => Destination::File,
            Place::Entry { .. } => Destination::Special,
            Place::Free { .. } => Destination::Missing { parent: false },
            Place::Nowhere => Destination::Missing { parent: true },
        };
        Ok((there, place))
    }

    fn refused(&self, refusal: Refusal) -> Error {
        let shown = self.shown();
        match refusal {
            Refusal::NoDirectory if self.whole().is_some() => self.not_found(),
            Refusal::NoDirectory => Error::not_found(format!(
                "invalid output path: directory \"{}\" does not exist",
                match self.written().directory {
                    true => Path::new(&self.typed),
                    false => Path::new(&self.typed).parent().unwrap_or(Path::new("/")),
                }
                .display()
            )),
            Refusal::NotADirectory => Error::usage(format!("{shown}: not a directory")),
            Refusal::DirectoryOntoFile => Error::usage(format!("cannot copy a directory onto the file {shown}")),
            Refusal::SpecialFile => {
                Error::usage(format!("destination \"{shown}\" must be a directory or a regular file"))
            }
            Refusal::StreamNeedsDirectory => Error::usage(format!("destination \"{shown}\" must be a directory")),
        }
    }

    /// Docker's words for a mount that nobody may write to; without this the first file would say it.
    fn check_writable(&self, place: &Place) -> Result<()> {
        let (Some(fd), Some(whole)) = (place_fd(place), self.whole()) else {
            return Ok(());
        };
        let read_only = |fd: BorrowedFd<'_>| fstatvfs(fd).map(|s| s.f_flag.contains(StatVfsMountFlags::RDONLY));
        if !read_only(fd)? {
            return Ok(());
        }
        let of_root = fstat(fd)?.st_dev == fstat(whole.root())?.st_dev;
        let what = match of_root {
            true => "container rootfs is marked read-only",
            false => "mounted volume is marked read-only",
        };
        Err(Error::conflict(format!("{}: {what}", self.shown())))
    }

    /// The directory to write into, and under what name.
    fn ready(&self, place: Place, target: Target) -> Result<Into> {
        let nowhere = || Error::other(format!("{}: changed meanwhile", self.shown()));
        let into = |fd| Into {
            fd,
            name: None,
            inside: false,
            made: false,
        };
        Ok(match (place, target) {
            (Place::Directory { fd, .. }, Target::Inside) => Into {
                inside: true,
                ..into(fd)
            },
            (Place::Directory { fd, .. }, _) => into(fd),
            (Place::Free { parent, name }, Target::Contents) => {
                let made = mkdirat(&parent, &name, Mode::from(0o755));
                made.with_context(|| format!("make {}", self.shown()))?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                Into {
                    made: true,
                    ..into(openat(&parent, &name, flags, Mode::empty())?)
                }
            }
            (Place::Free { parent, name } | Place::Entry { parent, name, .. }, Target::Itself) => Into {
                name: Some(name),
                ..into(parent)
            },
            _ => return Err(nowhere()),
        })
    }

    fn copy_to(&self, destination: &Side, from: Place, into: Into, wish: Wish) -> Result<u64> {
        let options = Options {
            owner: match wish.owners {
                true => Owner::Kept,
                // Root's in a container; on the host the caller's, who is root.
                false => Owner::Fixed { user: 0, group: 0 },
            },
            from: self.ids(),
            to: destination.ids(),
            mounts: Mounts::Enter,
            there: There::Merge,
            ..Options::default()
        };
        let dest = into.fd.as_fd();
        let copied = match from {
            Place::Entry { parent, name, .. } => {
                let as_name = into
                    .name
                    .as_deref()
                    .map_or_else(|| self.own_name(&name), CStr::to_owned);
                copy::entry((parent.as_fd(), &name), (dest, &as_name), &options)
            }
            Place::Directory { fd, name } => match (into.inside, name) {
                (true, Some(name)) => copy::directory(fd.as_fd(), (dest, &name), &options),
                _ if into.made => copy::tree(fd.as_fd(), dest, &options),
                _ => copy::contents(fd.as_fd(), dest, &options),
            },
            Place::Free { .. } | Place::Nowhere => return Err(self.not_found()),
        };
        copied.with_context(|| format!("copy to {}", destination.shown()))
    }

    /// The name of a copy: as typed, also of what a link leads to.
    fn own_name(&self, found: &CStr) -> CString {
        let typed = self.path.file_name().map(OsStr::as_bytes);
        typed
            .and_then(|name| CString::new(name).ok())
            .unwrap_or_else(|| found.to_owned())
    }

    fn to_stream(&self, source: Source, place: Place, output: &mut dyn Write) -> Result<u64> {
        let options = pack::Options {
            mounts: Mounts::Enter,
            ids: self.ids(),
            ..pack::Options::default()
        };
        let written = match place {
            Place::Entry { parent, name, .. } => {
                let as_name = self.own_name(&name);
                pack::export_entry(parent.as_fd(), &name, as_name.to_bytes(), output, &options)
            }
            Place::Directory { fd, name } => {
                let name = name.filter(|_| source != (Source::Directory { contents: true }));
                let as_name = name.map_or_else(|| b".".to_vec(), CString::into_bytes);
                pack::export_entry(fd.as_fd(), c".", &as_name, output, &options)
            }
            Place::Free { .. } | Place::Nowhere => return Err(self.not_found()),
        };
        written.with_context(|| self.shown())
    }
}

fn place_fd(place: &Place) -> Option<BorrowedFd<'_>> {
    match place {
        Place::Directory { fd, .. } => Some(fd.as_fd()),
        Place::Entry { parent, .. } | Place::Free { parent, .. } => Some(parent.as_fd()),
        Place::Nowhere => None,
    }
}
