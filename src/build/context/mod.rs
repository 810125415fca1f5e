//! What a build may read: a directory in its place, or what comes by stdin, http or git, unpacked into staging.
//!
//! A directory is used where it is: nothing is copied that no instruction asks for. Its root is a descriptor, its
//! ignore file a filter that every look goes through. What had to be unpacked goes away with the value; after a crash
//! the next command sweeps it.

mod dockerfile;
mod stream;
#[cfg(test)]
mod tests;

pub(crate) use dockerfile::Dockerfile;

use crate::build::content::{Memo, is_trusted};
use crate::build::copy::{self, Owners, Tree};
use crate::build::git::{self, Repository};
use crate::build::ignore::Ignore;
use crate::build::options::{ContextPlace, DockerfilePlace, NamedPlace};
use crate::error::{Context as _, Error, Result};
use crate::model::digest::Digest;
use crate::registry::{Access, download};
use crate::store::{Stage, Store};
use rustix::fs::{Mode, OFlags, openat};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use stream::Sniffed;

/// What was asked for.
pub(crate) struct Asked<'a> {
    pub(crate) place: &'a ContextPlace,
    pub(crate) dockerfile: &'a DockerfilePlace,
    /// `--ignorefile`
    pub(crate) ignore_file: Option<&'a Path>,
    pub(crate) access: &'a Access,
    /// Of a git repository (`BUILDKIT_CONTEXT_KEEP_GIT_DIR=1`).
    pub(crate) keep_git_dir: bool,
}

pub(crate) struct Opened {
    pub(crate) context: Context,
    pub(crate) dockerfile: Dockerfile,
}

/// Files that instructions may ask for.
pub(crate) struct Context {
    root: OwnedFd,
    ignore: Ignore,
    memo: Memo,
    /// Under which the memo is kept; what is unpacked anew each time has none.
    key: Option<Digest>,
    /// Holds what was unpacked.
    _stage: Option<Stage>,
}

/// What a bind mount of a context shows: without what is ignored.
pub(crate) struct Bound {
    fd: OwnedFd,
    _stage: Option<Stage>,
}

impl Bound {
    /// A directory, or a file; `O_PATH`.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Context {
    /// Without any file: the Dockerfile came alone.
    pub(crate) fn empty(store: &Store) -> Result<Context> {
        let stage = store.stage()?;
        let root = open_root(stage.dir())?;
        Ok(Context::staged(stage, root))
    }

    fn staged(stage: Stage, root: OwnedFd) -> Context {
        Context {
            root,
            ignore: Ignore::default(),
            memo: Memo::default(),
            key: None,
            _stage: Some(stage),
        }
    }

    fn directory(store: &Store, path: &Path) -> Result<Context> {
        let said = || format!("path \"{}\"", shown(path));
        let root = match rustix::fs::open(
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        ) {
            Err(rustix::io::Errno::NOENT) => {
                return Err(Error::other(format!("{} not found", said()))).context("unable to prepare context");
            }
            Err(rustix::io::Errno::NOTDIR) => {
                return Err(Error::other(format!("{} is not a directory", said()))
                    .with_hint("-f FILE names the Dockerfile, the argument the directory with the files"))
                .context("unable to prepare context");
            }
            root => root.with_context(said).context("unable to prepare context")?,
        };
        let real = std::fs::canonicalize(path).with_context(said)?;
        let key = Digest::of(real.as_os_str().as_bytes());
        let memo = match is_trusted(root.as_fd()) {
            true => store
                .memo(&key)
                .map(|bytes| Memo::from_bytes(&bytes))
                .unwrap_or_default(),
            false => Memo::default(),
        };
        Ok(Context {
            root,
            ignore: Ignore::default(),
            memo,
            key: Some(key),
            _stage: None,
        })
    }

    /// For COPY, ADD and digests.
    pub(crate) fn tree(&self) -> Tree<'_> {
        Tree {
            root: self.root.as_fd(),
            ignore: Some(&self.ignore).filter(|i| !i.is_empty()),
            memo: Some(&self.memo),
            owners: Owners::Root,
        }
    }

    /// What was learnt about the files since this was asked last, for [`Context::learn`] of another process.
    pub(crate) fn news(&self) -> Vec<u8> {
        self.memo.news()
    }

    pub(crate) fn learn(&self, news: &[u8]) {
        self.memo.learn(news);
    }

    /// Keeps what is known of the files for the next build. Nothing depends on it.
    pub(crate) fn remember(&self, store: &Store) {
        if let (Some(key), Some(bytes)) = (&self.key, self.memo.to_bytes()) {
            let _ = store.keep_memo(key, &bytes);
        }
    }

    /// What is at `path`, without ignored files, to be mounted: in its place if nothing is ignored there, else a copy.
    pub(crate) fn bindable(&self, store: &Store, path: &str) -> Result<Bound> {
        let (fd, stage) = copy::bindable(store, self.tree(), path)?;
        Ok(Bound { fd, _stage: stage })
    }
}

/// Opens the context, and finds the Dockerfile and the ignore file.
pub(crate) fn open(store: &Store, asked: &Asked<'_>) -> Result<Opened> {
    if *asked.place == ContextPlace::Stdin && *asked.dockerfile == DockerfilePlace::Stdin {
        return Err(Error::usage("can't use stdin for both build context and dockerfile"));
    }
    let sniffed = match asked.place {
        ContextPlace::Directory(path) => Sniffed::Context(Context::directory(store, path)?),
        ContextPlace::Stdin => stream::open(store, std::io::stdin()).context("unable to prepare context")?,
        ContextPlace::Remote(address) => remote(store, asked.access, address, asked.keep_git_dir)
            .with_context(|| format!("unable to prepare context {address}"))?,
    };
    let (mut context, text) = match sniffed {
        Sniffed::Context(context) => (context, None),
        Sniffed::Dockerfile(text) => (Context::empty(store)?, Some(text)),
    };
    let local = match asked.place {
        ContextPlace::Directory(path) => Some(path.as_path()),
        _ => None,
    };
    let dockerfile = match (text, asked.dockerfile) {
        // A Dockerfile alone is the Dockerfile, whatever -f says, as in docker.
        (Some(text), _) => Dockerfile {
            name: match asked.place {
                ContextPlace::Remote(address) => address.clone(),
                _ => "-".to_owned(),
            },
            text,
            beside: None,
        },
        (None, place) => dockerfile::find(asked.access, &context, local, place)?,
    };
    context.ignore = dockerfile::ignore_file(&context, &dockerfile, asked.ignore_file)?;
    Ok(Opened { context, dockerfile })
}

fn remote(store: &Store, access: &Access, address: &str, keep_git_dir: bool) -> Result<Sniffed> {
    if let Some(repository) = Repository::parse(address)? {
        let (stage, root) = git::fetch(store, &repository, keep_git_dir, None)?.into_parts();
        return Ok(Sniffed::Context(Context::staged(stage, root)));
    }
    stream::open(store, download::get(address, access)?.reader)
}

/// `--build-context`: a directory, or what is fetched; `None` for what is an image or a stage.
pub(crate) fn open_named(store: &Store, place: &NamedPlace, access: &Access) -> Result<Option<Context>> {
    let mut context = match place {
        NamedPlace::Directory(path) => Context::directory(store, path)?,
        NamedPlace::Remote(address) => match remote(store, access, address, false)
            .with_context(|| format!("unable to prepare context {address}"))?
        {
            Sniffed::Context(context) => context,
            Sniffed::Dockerfile(_) => return Err(Error::other(format!("{address}: neither a repository nor a tar"))),
        },
        NamedPlace::Image(_) | NamedPlace::OciLayout { .. } | NamedPlace::Stage(_) => return Ok(None),
    };
    context.ignore = dockerfile::ignore_file_of_root(&context)?;
    Ok(Some(context))
}

fn open_root(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(dir, c".", flags, Mode::empty())?)
}

fn shown(path: &Path) -> String {
    copy::shown(path.as_os_str().as_bytes())
}
