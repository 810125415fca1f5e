//! What a program has changed, as a layer's directory has it: where the driver's own form is another than overlayfs'.

use crate::error::{Context as _, Error, Kind, Result};
use crate::layer::changes::{Moment, changed_at, compare};
use crate::layer::{Options, Unpacked, inherit, pack, unpack};
use rustix::fs::{CWD, Mode, OFlags, fstat, openat};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Runs what `write` writes, a tar, into the empty directory `into`. The number of members.
pub(crate) fn carry(
    write: impl FnOnce(&mut (dyn Write + Send)) -> Result<u64> + Send,
    into: BorrowedFd<'_>,
    options: &Options,
) -> Result<(u64, Unpacked)> {
    // A socket: who writes into one without a reader gets an error and no signal.
    let (mut sender, receiver) = UnixStream::pair()?;
    std::thread::scope(|scope| {
        let writer = std::thread::Builder::new().spawn_scoped(scope, move || write(&mut sender))?;
        let unpacked = unpack(receiver, into, options);
        let written = writer.join().map_err(|_| Error::other("a thread panicked"))?;
        match (written, unpacked) {
            (Ok(members), Ok(unpacked)) => Ok((members, unpacked)),
            // Whichever failed first is the cause of the other's broken pipe.
            (Err(e), Ok(_)) => Err(e),
            (Ok(_), Err(e)) => Err(e),
            (Err(written), Err(unpacked)) => match written.kind() {
                Kind::BrokenPipe => Err(unpacked),
                _ => Err(written),
            },
        }
    })
}

/// Fills `into` with what `tree`, a copy of `lowers` that was made at `since`, differs from them in.
pub(super) fn of_copy(tree: &Path, lowers: &[PathBuf], since: Option<Moment>, into: BorrowedFd<'_>) -> Result<()> {
    let tree = open(tree)?;
    let only = compare(tree.as_fd(), lowers, (since, None))?;
    let options = pack::Options {
        root: true,
        only: Some(&only),
        ..pack::Options::default()
    };
    let (_, unpacked) = carry(
        |out| pack::export(tree.as_fd(), out, &options),
        into,
        &Options::default(),
    )?;
    inherit(into, &unpacked.implied, lowers)
}

/// Fills `into` with what AUFS has written to `branch`.
pub(super) fn of_branch(branch: &Path, lowers: &[PathBuf], into: BorrowedFd<'_>) -> Result<()> {
    let branch = open(branch)?;
    let options = pack::Options {
        root: true,
        ..pack::Options::default()
    };
    let write = |out: &mut (dyn Write + Send)| pack::write_branch(branch.as_fd(), out, &options);
    let (_, unpacked) = carry(write, into, &Options::default())?;
    inherit(into, &unpacked.implied, lowers)
}

/// A moment of the filesystem's clock, written down as a file at `path`: what is there has changed before it or then,
/// and what changes from now on changes after it.
pub(super) fn write_moment(path: &Path) -> Result<()> {
    let marked = changed_at(&fstat(&create(path).with_context(|| path.display().to_string())?)?);
    let probe = path.with_extension("next");
    loop {
        // Its clock ticks every few milliseconds.
        let now = changed_at(&fstat(&create(&probe)?)?);
        std::fs::remove_file(&probe)?;
        if now > marked {
            return Ok(());
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

fn create(path: &Path) -> std::io::Result<File> {
    File::options().write(true).create(true).truncate(true).open(path)
}

/// What [`write_moment`] has written.
pub(super) fn read_moment(path: &Path) -> Option<Moment> {
    Some(changed_at(&fstat(&File::open(path).ok()?).ok()?))
}

fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).with_context(|| format!("open {}", path.display()))
}
