//! From what an instruction says to the files that are meant: wildcards, links, addresses, heredocs.

use super::find::{Found, find};
use super::scan::{Filter, Scan, join};
use super::{Owners, Part, Request, Tree, Verb, shown};
use crate::build::git::{self, Repository};
use crate::build::ignore::{Above, Ignore};
use crate::build::pattern::{Pattern, Stars, clean, has_wildcards};
use crate::build::url;
use crate::error::{Context as _, Error, Result};
use crate::registry::Access;
use crate::store::{Stage, Store};
use rustix::fs::{FileType, Mode, OFlags, fchmod, openat};
use rustix::io::Errno;
use std::fs::File;
use std::io::Write as _;

pub(super) fn find_all(store: &Store, access: &Access, request: &Request, from: &Tree<'_>) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let remote = |source: &&String| request.verb == Verb::Add && (url::is_one(source) || Repository::is_remote(source));
    if request.checksum.is_some() && (request.sources.len() != 1 || !request.sources.iter().any(|s| remote(&s))) {
        return Err(Error::other("checksum requires exactly one remote source"));
    }
    for source in &request.sources {
        match remote(&source) {
            true => parts.push(fetch(store, access, request, source)?),
            false => local(request, from, source, &mut parts)?,
        }
    }
    for document in &request.documents {
        if document.name.is_empty() || document.name.contains('/') || document.name == "." || document.name == ".." {
            return Err(Error::other(format!(
                "'{}' can't be the name of a file",
                document.name.escape_debug()
            )));
        }
        let stage = store.stage()?;
        let file = new_file(&stage, document.name.as_bytes(), 0o644)?;
        (&file).write_all(&document.content).context("write")?;
        parts.push(staged(stage, document.name.as_bytes().to_vec(), false)?);
    }
    Ok(parts)
}

/// In a directory of its own, so that it is a source like any other.
pub(super) fn new_file(stage: &Stage, name: &[u8], mode: u32) -> Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(stage.dir(), name, flags, Mode::from(mode)).with_context(|| shown(name))?;
    fchmod(&file, Mode::from(mode))?;
    Ok(File::from(file))
}

fn staged(stage: Stage, name: Vec<u8>, unpack: bool) -> Result<Part> {
    let tree = own(&stage);
    let found = find(tree.root, &name)?;
    Ok(Part {
        scan: Scan::single(&tree, &found)?,
        name,
        unpack,
        staged: Some(stage),
    })
}

fn own(stage: &Stage) -> Tree<'_> {
    Tree {
        root: stage.dir(),
        ignore: None,
        memo: None,
        owners: Owners::Root,
    }
}

fn fetch(store: &Store, access: &Access, request: &Request, source: &str) -> Result<Part> {
    if let Some(repository) = Repository::parse(source)? {
        let checkout = git::fetch(store, &repository, request.keep_git_dir, request.checksum.as_deref())?;
        let tree = Tree {
            root: checkout.root(),
            ..own(checkout.stage())
        };
        let found = find(tree.root, b"")?;
        let filter = Filter {
            exclude: Ignore::of_patterns(request.exclude.iter().map(String::as_str))?,
            include: None,
        };
        return Ok(Part {
            scan: Scan::contents(&tree, &found, &filter)?,
            name: Vec::new(),
            unpack: false,
            staged: Some(checkout.into_stage()),
        });
    }
    let (_, directory) = request.destination();
    let (stage, name) = url::fetch_file(store, access, source, request.checksum.as_deref())?;
    let name = match name {
        Some(name) => name,
        None if directory => {
            return Err(Error::other(format!("cannot determine filename from url: {source}")));
        }
        None => url::UNNAMED.to_owned(),
    };
    staged(stage, name.into_bytes(), request.unpack == Some(true))
}

fn local(request: &Request, from: &Tree<'_>, source: &str, parts: &mut Vec<Part>) -> Result<()> {
    if from.owners == Owners::Root && leaves(source) {
        return Err(Error::other(format!(
            "forbidden path outside the build context: {source}"
        )));
    }
    if request.parents {
        return with_parents(request, from, source, parts);
    }
    let exclude = Ignore::of_patterns(request.exclude.iter().map(String::as_str))?;
    let filter = Filter { exclude, include: None };
    let path = clean(&format!("/{source}"));
    if !has_wildcards(&path) {
        let found = one(from, source)?;
        let name = path.rsplit('/').next().unwrap_or_default().as_bytes().to_vec();
        let part = part(request, from, &found, name, &filter)?;
        if part.as_ref().is_some_and(|p| is_ignored(request, from, &found, p)) {
            return Err(missing(source, from, &found));
        }
        parts.extend(part);
        return Ok(());
    }
    for path in expand(from, &path)? {
        let found = find(from.root, &path).with_context(|| shown(&path))?;
        if !found.missing.is_empty() {
            return Err(missing(&shown(&path), from, &found));
        }
        let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default().to_vec();
        let part = part(request, from, &found, name, &filter)?;
        parts.extend(part.filter(|p| !is_ignored(request, from, &found, p)));
    }
    Ok(())
}

/// An ignored directory, and nothing in it is excepted from that.
fn is_ignored(request: &Request, from: &Tree<'_>, found: &Found, part: &Part) -> bool {
    !part.scan.single
        && part.scan.entries.is_empty()
        && request.exclude.is_empty()
        && from.ignore.is_some_and(|i| i.ignores(&found.path()))
}

/// `None` if it is left out.
fn part(request: &Request, from: &Tree<'_>, found: &Found, name: Vec<u8>, filter: &Filter) -> Result<Option<Part>> {
    let unpack = match request.verb {
        Verb::Add => request.unpack != Some(false),
        Verb::Copy => false,
    };
    let scan = match found.is_directory() {
        true => Scan::contents(from, found, filter)?,
        false if filter.exclude.ignores(&name) => return Ok(None),
        false => Scan::single(from, found).with_context(|| shown(&name))?,
    };
    Ok(Some(Part {
        unpack: unpack && scan.single && found.kind() == FileType::RegularFile,
        scan,
        name,
        staged: None,
    }))
}

/// `--parents`: the source's directories come along, those behind a `/./` only.
fn with_parents(request: &Request, from: &Tree<'_>, source: &str, parts: &mut Vec<Part>) -> Result<()> {
    let (base, pattern) = match source.split_once("/./") {
        Some((base, pattern)) => (base, pattern),
        None => ("/", source),
    };
    let pattern = clean(&format!("/{pattern}"));
    let pattern = pattern.trim_start_matches('/');
    let mut bases = match has_wildcards(base) {
        true => expand(from, &clean(&format!("/{base}")))?,
        false => vec![base.as_bytes().to_vec()],
    };
    // All of it.
    let include = match pattern {
        "" => None,
        pattern => {
            let literal: Vec<&str> = pattern.split('/').take_while(|name| !has_wildcards(name)).collect();
            Some((Ignore::of_patterns([pattern])?, literal.join("/").into_bytes()))
        }
    };
    let required = !has_wildcards(pattern) && bases.len() == 1 && !has_wildcards(base);
    for base in bases.drain(..) {
        let found = find(from.root, &base).with_context(|| source.to_owned())?;
        if !found.is_directory() {
            return Err(missing(source, from, &found));
        }
        let filter = Filter {
            exclude: Ignore::of_patterns(request.exclude.iter().map(String::as_str))?,
            include: include.clone(),
        };
        let scan = Scan::contents(from, &found, &filter)?;
        if scan.entries.is_empty() && required && request.exclude.is_empty() {
            return Err(missing(source, from, &found));
        }
        parts.push(Part {
            scan,
            name: Vec::new(),
            unpack: false,
            staged: None,
        });
    }
    Ok(())
}

/// What `source`, without wildcards, is; an error if it is not there, or ignored.
pub(super) fn one(from: &Tree<'_>, source: &str) -> Result<Found> {
    let path = clean(&format!("/{source}"));
    let found = find(from.root, path.as_bytes()).with_context(|| source.to_owned())?;
    if !found.missing.is_empty() {
        return Err(missing(source, from, &found));
    }
    if source.ends_with('/') && !found.is_directory() {
        return Err(Error::from(Errno::NOTDIR)).with_context(|| source.to_owned());
    }
    if let Some(ignore) = from.ignore.filter(|i| i.ignores(&found.path())) {
        // It may have something in it that is not ignored.
        if !found.is_directory() || ignore.is_final() {
            return Err(missing(source, from, &found));
        }
    }
    Ok(found)
}

fn missing(source: &str, from: &Tree<'_>, found: &Found) -> Error {
    let error = Error::other(format!("{source}: no such file or directory"));
    match from
        .ignore
        .is_some_and(|i| found.missing.is_empty() && i.ignores(&found.path()))
    {
        true => error.with_hint("it is there, but the ignore file (.dockerignore) excludes it"),
        false => error,
    }
}

/// Whether `..` leads out at some point.
fn leaves(source: &str) -> bool {
    let mut depth = 0i64;
    source.split('/').any(|name| {
        depth += match name {
            "" | "." => 0,
            ".." => -1,
            _ => 1,
        };
        depth < 0
    })
}

/// The paths that an absolute pattern matches, in order. None is no error: docker allows that.
fn expand(from: &Tree<'_>, pattern: &str) -> Result<Vec<Vec<u8>>> {
    let names: Vec<&str> = pattern.split('/').filter(|n| !n.is_empty()).collect();
    let literal = names.iter().take_while(|n| !has_wildcards(n)).count();
    let start = names[..literal].join("/");
    let found = find(from.root, start.as_bytes()).with_context(|| start.clone())?;
    let none = Ignore::default();
    let ignore = from.ignore.unwrap_or(&none);
    let mut at: Vec<(Vec<u8>, Above)> = Vec::new();
    if found.is_directory() {
        let path = found.path();
        let (ignored, above) = ignore.look_from_root(&path);
        if !ignored || !ignore.is_final() {
            at.push((path, above));
        }
    }
    for (depth, name) in names.iter().enumerate().skip(literal) {
        let pattern = Pattern::new(name, Stars::One)?;
        let last = depth + 1 == names.len();
        let mut next = Vec::new();
        for (dir, above) in at {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let path = if dir.is_empty() { &b"."[..] } else { &dir };
            let fd = match rustix::fs::openat2(from.root, path, flags, Mode::empty(), super::scan::INSIDE) {
                Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => continue,
                fd => fd.with_context(|| shown(&dir))?,
            };
            for name in super::scan::names(&fd)?.into_iter().filter(|n| pattern.matches(n)) {
                let path = join(&dir, &name);
                let (ignored, above) = ignore.look(&path, &above);
                if ignored && (ignore.is_final() || last && !is_directory(&fd, &name)) {
                    continue;
                }
                next.push((path, above));
            }
        }
        at = next;
    }
    Ok(at.into_iter().map(|(path, _)| path).collect())
}

fn is_directory(dir: &impl std::os::fd::AsFd, name: &[u8]) -> bool {
    rustix::fs::statat(dir, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory)
}
