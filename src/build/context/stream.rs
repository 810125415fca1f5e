//! A context that comes as a stream: a Dockerfile, or a tar in any compression. The first bytes tell.

use super::{Context, open_root};
use crate::error::{Context as _, Error, Result};
use crate::layer::compress::{self, Format};
use crate::layer::{self, Onto, Options};
use crate::store::Store;
use rustix::fs::{Mode, mkdirat};
use std::io::{Cursor, Read};

/// More than any Dockerfile has.
pub(super) const LARGEST_DOCKERFILE: u64 = 16 << 20;

pub(super) enum Sniffed {
    Context(Context),
    Dockerfile(Vec<u8>),
}

pub(super) fn open(store: &Store, mut stream: impl Read + Send) -> Result<Sniffed> {
    let mut first = Vec::new();
    (&mut stream).take(512).read_to_end(&mut first).context("read")?;
    let compressed = !first.is_empty() && compress::reader(first.as_slice()).is_ok_and(|d| d.format() != Format::Plain);
    let is_tar = compressed || layer::is_archive(first.as_slice());
    let whole = Cursor::new(first).chain(stream);
    match is_tar {
        true => unpack(store, whole).map(Sniffed::Context),
        false => text(whole).map(Sniffed::Dockerfile),
    }
}

/// All of a Dockerfile.
pub(super) fn text(stream: impl Read) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    stream
        .take(LARGEST_DOCKERFILE + 1)
        .read_to_end(&mut text)
        .context("read")?;
    match text.len() as u64 > LARGEST_DOCKERFILE {
        true => Err(Error::other("the Dockerfile has more than 16 MiB")),
        false => Ok(text),
    }
}

/// Into staging, which nobody but root can enter.
fn unpack(store: &Store, stream: impl Read + Send) -> Result<Context> {
    let stage = store.stage()?;
    mkdirat(stage.dir(), c"files", Mode::from(0o755)).context("make directory")?;
    let files = rustix::fs::openat(
        stage.dir(),
        c"files",
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let files_fd = std::os::fd::AsFd::as_fd(&files);
    let options = Options {
        onto: Onto::Stage,
        ..Options::default()
    };
    layer::unpack(compress::reader(stream)?, files_fd, &options).context("unpack context")?;
    let root = open_root(files_fd)?;
    Ok(Context::staged(stage, root))
}
