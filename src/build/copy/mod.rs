//! COPY and ADD: which files they mean, by what they are known to the cache, and how they come into a stage.
//!
//! [`select`] looks at every file once ([`scan`]), [`Selection::digest`] reads those that the context's memo does not
//! know, [`Selection::write`] copies. Sources and the stage are seen through descriptors of their roots only, nothing is
//! followed out of them (CVE-2019-14271, CVE-2024-23651 and their kin), and what changes meanwhile spoils no cache:
//! `write` says what it has really written.

mod find;
mod mode;
mod scan;
mod sources;
#[cfg(test)]
mod tests;
mod unpack;
mod write;

use crate::build::content::{Content, Fold, Memo, digest_of_xattrs};
use crate::build::ignore::Ignore;
use crate::build::instruction::Transfer;
use crate::error::{Context as _, Error, Result};
use crate::layer::xattr;
use crate::model::digest::Digest;
use crate::registry::Access;
use crate::store::{Stage, Store};
use mode::Chmod;
use scan::{Entry, Filter, Scan};
use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};

/// A path for people: it may have anything in it, also what a terminal obeys.
pub(super) fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(if path.is_empty() { b"/" } else { path });
    match text.chars().any(char::is_control) {
        true => text.escape_debug().to_string(),
        false => text.into_owned(),
    }
}

/// Who owns the copies, unless `--chown` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owners {
    /// 0:0, whoever has them: of a context.
    Root,
    /// Who owns the original: of a stage or an image.
    Kept,
}

/// Where sources are taken from.
#[derive(Clone, Copy)]
pub(crate) struct Tree<'a> {
    pub(crate) root: BorrowedFd<'a>,
    pub(crate) ignore: Option<&'a Ignore>,
    /// For a tree that is there the next time as well.
    pub(crate) memo: Option<&'a Memo>,
    pub(crate) owners: Owners,
}

impl<'a> Tree<'a> {
    /// A stage or an image.
    pub(crate) fn of(root: BorrowedFd<'a>) -> Tree<'a> {
        Tree {
            root,
            ignore: None,
            memo: None,
            owners: Owners::Kept,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Verb {
    #[default]
    Copy,
    /// Fetches addresses, unpacks archives.
    Add,
}

/// A file whose content stands in the Dockerfile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Document {
    pub(crate) name: String,
    pub(crate) content: Vec<u8>,
}

/// An instruction with its variables replaced.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) verb: Verb,
    pub(crate) sources: Vec<String>,
    pub(crate) documents: Vec<Document>,
    pub(crate) dest: String,
    /// Absolute; `dest` may be relative to it.
    pub(crate) workdir: String,
    pub(crate) chown: Option<String>,
    pub(crate) chmod: Option<String>,
    pub(crate) parents: bool,
    pub(crate) exclude: Vec<String>,
    pub(crate) unpack: Option<bool>,
    pub(crate) checksum: Option<String>,
    pub(crate) keep_git_dir: bool,
}

impl Request {
    /// From an expanded instruction.
    pub(crate) fn of(verb: Verb, transfer: &Transfer, workdir: &str) -> Request {
        let text = |word: &crate::build::place::Word| word.to_string();
        let document = |h: &crate::build::instruction::Heredoc| Document {
            name: h.name.clone(),
            content: h.content().into_bytes(),
        };
        Request {
            verb,
            sources: transfer.sources.iter().map(text).collect(),
            documents: transfer.inline.iter().map(document).collect(),
            dest: text(&transfer.target),
            workdir: workdir.to_owned(),
            chown: transfer.chown.as_ref().map(text),
            chmod: transfer.chmod.as_ref().map(text),
            parents: transfer.parents,
            exclude: transfer.excludes.iter().map(text).collect(),
            unpack: transfer.unpack,
            checksum: transfer.checksum.as_ref().map(text),
            keep_git_dir: transfer.keep_git_dir.unwrap_or(false),
        }
    }

    /// Where it goes: absolute, and whether it says that this is a directory.
    pub(crate) fn destination(&self) -> (String, bool) {
        let dest = self.dest.as_str();
        let directory = dest.is_empty() || dest == "." || dest.ends_with('/') || dest.ends_with("/.");
        let whole = match dest.starts_with('/') {
            true => dest.to_owned(),
            false => format!("{}/{dest}", self.workdir),
        };
        (crate::build::pattern::clean(&format!("/{whole}")), directory)
    }

    fn name(&self) -> &'static str {
        match self.verb {
            Verb::Copy => "COPY",
            Verb::Add => "ADD",
        }
    }
}

/// Where files go.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    /// The root of the tree that they are put into.
    pub(crate) tree: BorrowedFd<'a>,
    /// If that is an overlay: its upper directory. What is in a new directory is written there, for a fraction of the
    /// time; nothing of it has been looked up through the overlay.
    pub(crate) upper: Option<BorrowedFd<'a>>,
    /// The root in which `--chown` looks up users and groups.
    pub(crate) names: BorrowedFd<'a>,
    /// So many more bytes are written.
    pub(crate) told: &'a (dyn Fn(u64) + Sync),
}

impl<'a> Target<'a> {
    /// A directory, for nobody who waits.
    pub(crate) fn of(tree: BorrowedFd<'a>) -> Target<'a> {
        Target {
            tree,
            upper: None,
            names: tree,
            told: &|_| {},
        }
    }
}

/// One source: a file, or what is in a directory.
struct Part {
    scan: Scan,
    /// What a file is called if the destination is a directory.
    name: Vec<u8>,
    /// If it is an archive, it is unpacked.
    unpack: bool,
    /// What was fetched or written for this instruction alone.
    staged: Option<Stage>,
}

impl Part {
    /// A directory is known by what is in it alone.
    fn known_as(&self) -> &[u8] {
        if self.scan.single { &self.name } else { b"" }
    }

    fn fold(&self, fold: &mut Fold, owners: Owners, of: impl Fn(usize, &Entry) -> Option<Content>) {
        fold.add(self.known_as());
        // The same file from an address is not unpacked.
        if self.unpack {
            fold.add(b"unpack");
        }
        self.scan.fold(fold, owners, of);
    }
}

/// The sources of one instruction.
pub(crate) struct Selection<'a> {
    request: &'a Request,
    from: Tree<'a>,
    chmod: Option<Chmod>,
    parts: Vec<Part>,
}

/// Finds the sources, fetches what is elsewhere.
pub(crate) fn select<'a>(
    store: &Store,
    access: &Access,
    request: &'a Request,
    from: Tree<'a>,
) -> Result<Selection<'a>> {
    let chmod = request.chmod.as_deref().map(Chmod::parse).transpose()?;
    let parts = sources::find_all(store, access, request, &from)?;
    let (_, directory) = request.destination();
    let several = request.sources.len() + request.documents.len() > 1;
    let files = parts.iter().filter(|p| p.scan.single).count();
    if !directory && (several || files > 1) {
        return Err(Error::other(format!(
            "When using {} with more than one source file, the destination must be a directory and end with a /",
            request.name()
        )));
    }
    Ok(Selection {
        request,
        from,
        chmod,
        parts,
    })
}

impl Selection<'_> {
    /// Of everything that docker's cache looks at: names, content, modes, links, attributes; owners where they are
    /// kept; no times.
    pub(crate) fn digest(&self) -> Result<Digest> {
        for part in &self.parts {
            part.scan.read(self.memo_of(part))?;
        }
        let mut fold = Fold::default();
        for part in &self.parts {
            part.fold(&mut fold, self.from.owners, |_, entry| entry.content.get().copied());
        }
        Ok(fold.finish())
    }

    /// Copies. Returns the digest of what was written, as [`Selection::digest`] would have it.
    pub(crate) fn write(&self, target: &Target<'_>) -> Result<Digest> {
        let owner = match &self.request.chown {
            Some(text) => Some(write::owner(target.names, text).with_context(|| format!("--chown={text}"))?),
            None => None,
        };
        let mut fold = Fold::default();
        for part in &self.parts {
            let written = write::Writer {
                part,
                request: self.request,
                memo: self.memo_of(part),
                owners: self.from.owners,
                owner,
                chmod: self.chmod.as_ref(),
            }
            .write(target)?;
            part.fold(&mut fold, self.from.owners, |n, _| written[n]);
        }
        Ok(fold.finish())
    }

    /// Files of this instruction alone are not met again.
    fn memo_of(&self, part: &Part) -> Option<&Memo> {
        self.from.memo.filter(|_| part.staged.is_none())
    }
}

/// Of a directory (or file) that is mounted: owners count too, and what the directory itself is like.
pub(crate) fn digest_tree(from: Tree<'_>, path: &str) -> Result<Digest> {
    let found = sources::one(&from, path)?;
    let scan = match found.is_directory() {
        true => Scan::contents(&from, &found, &Filter::default())?,
        false => Scan::single(&from, &found)?,
    };
    scan.read(from.memo)?;
    let mut fold = Fold::default();
    if found.is_directory() {
        for number in [found.stat.st_mode, found.stat.st_uid, found.stat.st_gid] {
            fold.add(&number.to_le_bytes());
        }
        let xattrs = xattr::of_open_archive(&File::from(scan.dir.try_clone()?))?;
        fold.add(&digest_of_xattrs(&xattrs));
    }
    scan.fold(&mut fold, Owners::Kept, |_, entry| entry.content.get().copied());
    Ok(fold.finish())
}

/// What is at `path`, to be mounted: in its place, or a copy without what is ignored, which goes with its stage.
pub(crate) fn bindable(store: &Store, from: Tree<'_>, path: &str) -> Result<(OwnedFd, Option<Stage>)> {
    let found = sources::one(&from, path)?;
    let in_place = || -> Result<OwnedFd> { Ok(found.fd().try_clone_to_owned()?) };
    if !found.is_directory() || from.ignore.is_none() {
        return Ok((in_place()?, None));
    }
    let scan = Scan::contents(&from, &found, &Filter::default())?;
    if !scan.left_out {
        return Ok((in_place()?, None));
    }
    let stage = store.stage()?;
    // The stage's own mode is its protection.
    rustix::fs::mkdirat(stage.dir(), c"files", rustix::fs::Mode::from(0o755)).context("make directory")?;
    let request = Request {
        dest: "/files/".to_owned(),
        ..Request::default()
    };
    let part = Part {
        scan,
        name: Vec::new(),
        unpack: false,
        staged: None,
    };
    write::Writer {
        part: &part,
        request: &request,
        memo: from.memo,
        owners: Owners::Kept,
        owner: None,
        chmod: None,
    }
    .write(&Target::of(stage.dir()))?;
    let made = sources::one(&Tree::of(stage.dir()), "files")?;
    Ok((made.fd().try_clone_to_owned()?, Some(stage)))
}
