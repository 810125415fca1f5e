//! Where what is saved goes: a tar on a stream, or a directory. Both are written front to back, once.

use super::form::{FormedLayer, write_plain};
use crate::error::{Context, Error, Result};
use crate::model::digest::Digest;
use crate::store::Store;
use rustix::fs::{AtFlags, Mode, OFlags, fchmod, mkdirat, openat};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use tar::{EntryType, Header};

const PIECE: usize = 256 * 1024;

pub(crate) struct Output<'a> {
    place: Place<'a>,
    /// One path has one content: what is there already is not written again.
    written: BTreeSet<String>,
}

enum Place<'a> {
    Tar(BufWriter<Box<dyn Write + Send + 'a>>),
    /// An empty one.
    Directory(OwnedFd),
}

impl<'a> Output<'a> {
    pub(crate) fn tar(out: Box<dyn Write + Send + 'a>) -> Output<'a> {
        Output {
            place: Place::Tar(BufWriter::with_capacity(PIECE, out)),
            written: BTreeSet::new(),
        }
    }

    pub(crate) fn directory(dir: OwnedFd) -> Output<'a> {
        Output {
            place: Place::Directory(dir),
            written: BTreeSet::new(),
        }
    }

    pub(super) fn make_directory(&mut self, path: &str) -> Result<()> {
        if !self.written.insert(path.to_owned()) {
            return Ok(());
        }
        match &mut self.place {
            Place::Tar(out) => out.write_all(&header(EntryType::Directory, &format!("{path}/"), 0, "")?)?,
            Place::Directory(dir) => {
                let mode = Mode::from_raw_mode(0o755);
                mkdirat(&*dir, path, mode).with_context(|| format!("make {path}"))?;
            }
        }
        Ok(())
    }

    /// Only in a tar: no reader of a directory needs them.
    pub(super) fn link(&mut self, path: &str, to: &str) -> Result<()> {
        match &mut self.place {
            Place::Tar(out) if self.written.insert(path.to_owned()) => {
                Ok(out.write_all(&header(EntryType::Symlink, path, 0, to)?)?)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn file(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        self.stream(path, bytes.len() as u64, &mut |out| Ok(out.write_all(bytes)?))
    }

    /// `write` gives exactly `length` bytes.
    pub(super) fn stream(
        &mut self,
        path: &str,
        length: u64,
        write: &mut dyn FnMut(&mut (dyn Write + Send)) -> Result<()>,
    ) -> Result<()> {
        if !self.written.insert(path.to_owned()) {
            return Ok(());
        }
        match &mut self.place {
            Place::Tar(out) => {
                out.write_all(&header(EntryType::Regular, path, length, "")?)?;
                exactly(path, length, out, write)?;
                let padding = length.wrapping_neg() % 512;
                Ok(io::copy(&mut io::repeat(0).take(padding), out).map(drop)?)
            }
            Place::Directory(dir) => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                let mode = Mode::from_raw_mode(0o644);
                let file = openat(&*dir, path, flags, mode).with_context(|| format!("make {path}"))?;
                // Whatever the caller's umask.
                fchmod(&file, mode)?;
                let mut out = BufWriter::with_capacity(PIECE, File::from(file));
                exactly(path, length, &mut out, write)?;
                Ok(out.flush()?)
            }
        }
    }

    /// A layer's bytes, in the form its descriptor says, verified on the way.
    pub(super) fn layer(&mut self, store: &Store, path: &str, layer: &FormedLayer) -> Result<()> {
        let (digest, size) = (layer.descriptor.digest, layer.descriptor.size);
        match layer.is_plain() && !store.has_blob(&digest) {
            true => {
                // A manifest that came with it may say another size than the tar has: then it never was right.
                self.stream(path, size, &mut |out| write_plain(store, &layer.chain, out))
            }
            false => self.stream(path, size, &mut |out| copy_blob(store, &digest, out)),
        }
        .with_context(|| format!("layer {digest}"))
    }

    /// The end of a tar; flushed.
    pub(crate) fn finish(self) -> Result<()> {
        match self.place {
            Place::Tar(mut out) => {
                out.write_all(&[0; 1024])?;
                Ok(out.flush()?)
            }
            Place::Directory(_) => Ok(()),
        }
    }

    /// Takes away what was written into a directory that is not complete.
    pub(crate) fn abandon(self) {
        if let Place::Directory(dir) = self.place {
            // Files before the directories they are in. What remains is the caller's to see.
            for path in self.written.iter().rev() {
                let _ = rustix::fs::unlinkat(&dir, path, AtFlags::empty())
                    .or_else(|_| rustix::fs::unlinkat(&dir, path, AtFlags::REMOVEDIR));
            }
        }
    }
}

fn copy_blob(store: &Store, digest: &Digest, out: &mut (dyn Write + Send)) -> Result<()> {
    let mut file = store.open_blob(digest)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; PIECE];
    loop {
        let n = file.read(&mut buffer).context("read blob")?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        out.write_all(&buffer[..n])?;
    }
    match Digest::from_hasher(hasher) == *digest {
        true => Ok(()),
        false => Err(Error::other("its blob is damaged").with_hint("`barge system check` looks at all of them")),
    }
}

/// Counts what `write` gives, and says if it is not what the header has promised.
fn exactly(
    path: &str,
    length: u64,
    out: &mut (dyn Write + Send),
    write: &mut dyn FnMut(&mut (dyn Write + Send)) -> Result<()>,
) -> Result<()> {
    let mut bounded = Bounded { out, left: length };
    write(&mut bounded)?;
    match bounded.left {
        0 => Ok(()),
        left => Err(Error::other(format!("{path} is {left} bytes shorter than expected"))),
    }
}

struct Bounded<'a> {
    out: &'a mut (dyn Write + Send),
    left: u64,
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::other("longer than expected"));
        }
        let n = self.out.write(bytes)?;
        self.left -= n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Of root, 1970, and read by all.
fn header(kind: EntryType, path: &str, size: u64, link: &str) -> Result<[u8; 512]> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(match kind {
        EntryType::Directory => 0o755,
        EntryType::Symlink => 0o777,
        _ => 0o644,
    });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_path(path)?;
    if !link.is_empty() {
        header.set_link_name(link)?;
    }
    header.set_cksum();
    Ok(*header.as_bytes())
}
