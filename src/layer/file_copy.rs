//! The content of one file into another: by the filesystem itself where it can share or move blocks, by hand where its
//! digest is wanted as well, so that it is read once. Holes stay holes.

use crate::error::{Context as _, Error, Result};
use crate::sys::writeback::begin_write_back;
use rustix::fs::{SeekFrom, copy_file_range, fstat, ftruncate, ioctl_ficlone, seek};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};

const CHUNK: usize = 1 << 20;
/// Less is read and written at once: it is not worth asking the filesystem, and a hole in it saves nothing.
const SMALL: u64 = 64 * 1024;
/// More is hashed on a thread beside the one that writes.
const LARGE: u64 = 8 << 20;
/// Bytes after which the disk is told to begin: what is synced in the end is mostly written by then.
const WRITTEN_BACK: u64 = 64 << 20;
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Copy,
    /// Of what is written.
    Digest,
}

/// Copies one file after the other.
#[derive(Default)]
pub(crate) struct FileCopy {
    buffer: Vec<u8>,
    /// The filesystems have told that blocks can't be shared.
    no_clones: bool,
}

/// Who hashes.
enum Hasher {
    None,
    Here(Box<Sha256>),
    Beside {
        full: SyncSender<Piece>,
        spent: Receiver<Vec<u8>>,
    },
}

enum Piece {
    Bytes(Vec<u8>),
    Zeros(u64),
}

impl FileCopy {
    /// All that is in `from`, whatever its size says (which one of /proc does not know), into the empty file `to`.
    /// `told` hears of so many more bytes.
    pub(crate) fn copy(
        &mut self,
        from: &File,
        to: &File,
        wanted: Wanted,
        told: &dyn Fn(u64),
    ) -> Result<Option<[u8; 32]>> {
        let stat = fstat(from)?;
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        let blocks = u64::try_from(stat.st_blocks).unwrap_or_default();
        let sparse = size > SMALL && blocks.saturating_mul(512) < size;
        match wanted {
            Wanted::Copy => {
                if size > SMALL && self.clones(from, to) {
                    told(size);
                    return Ok(None);
                }
                self.write((from, to), (size, sparse), &mut Hasher::None, told)?;
                Ok(None)
            }
            Wanted::Digest if size >= LARGE => self.beside((from, to), (size, sparse), told).map(Some),
            Wanted::Digest => {
                let mut hasher = Hasher::Here(Box::default());
                self.write((from, to), (size, sparse), &mut hasher, told)?;
                match hasher {
                    Hasher::Here(hasher) => Ok(Some(hasher.finalize().into())),
                    _ => Ok(None),
                }
            }
        }
    }

    fn clones(&mut self, from: &File, to: &File) -> bool {
        self.no_clones = self.no_clones || ioctl_ficlone(to, from).is_err();
        !self.no_clones
    }

    fn beside(&mut self, files: (&File, &File), what: (u64, bool), told: &dyn Fn(u64)) -> Result<[u8; 32]> {
        let (full, pieces) = sync_channel(2);
        let (spent_in, spent) = channel();
        std::thread::scope(|scope| {
            let hashing = std::thread::Builder::new()
                .name("hash".to_owned())
                .spawn_scoped(scope, move || {
                    let mut hasher = Sha256::new();
                    for piece in pieces {
                        match piece {
                            Piece::Bytes(bytes) => {
                                hasher.update(&bytes);
                                let _ = spent_in.send(bytes);
                            }
                            Piece::Zeros(length) => zeros(&mut hasher, length),
                        }
                    }
                    hasher.finalize().into()
                })
                .context("start a thread")?;
            let mut hasher = Hasher::Beside { full, spent };
            let written = self.write(files, what, &mut hasher, told);
            drop(hasher);
            let digest = hashing.join();
            written?;
            digest.map_err(|_| Error::other("the hashing thread panicked"))
        })
    }

    fn write(
        &mut self,
        (from, to): (&File, &File),
        (size, sparse): (u64, bool),
        hasher: &mut Hasher,
        told: &dyn Fn(u64),
    ) -> Result<()> {
        self.buffer.resize(CHUNK, 0);
        let mut by_kernel = matches!(hasher, Hasher::None) && size > SMALL;
        let mut at = 0;
        let mut begun = 0;
        loop {
            let end = match sparse {
                true => match data(from, at)? {
                    Some((start, end)) => {
                        hasher.zeros(start - at);
                        at = start;
                        end
                    }
                    None => break,
                },
                false => u64::MAX,
            };
            let mut ended = false;
            while at < end && !ended {
                let most = usize::try_from(end - at).unwrap_or(usize::MAX);
                let mut n = 0;
                if by_kernel {
                    n = some_by_kernel((from, to), at, most);
                    by_kernel = n > 0;
                }
                if n == 0 {
                    let most = most.min(CHUNK);
                    n = match from.read_at(&mut self.buffer[..most], at) {
                        Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                        n => n?,
                    };
                    to.write_all_at(&self.buffer[..n], at)?;
                    hasher.bytes(&mut self.buffer, n);
                }
                at += n as u64;
                told(n as u64);
                // A small file that is as long as it says has been read to its end.
                ended = n == 0 || !sparse && size <= SMALL && size > 0 && at == size;
                if at - begun >= WRITTEN_BACK {
                    begun = at;
                    let _ = begin_write_back(to.as_fd());
                }
            }
            if ended {
                break;
            }
        }
        if sparse {
            let whole = u64::try_from(fstat(from)?.st_size).unwrap_or_default();
            if whole > at {
                hasher.zeros(whole - at);
                ftruncate(to, whole)?;
            }
        }
        Ok(())
    }
}

impl Hasher {
    /// The first `n` of `buffer`, which has room for [`CHUNK`] again afterwards.
    fn bytes(&mut self, buffer: &mut Vec<u8>, n: usize) {
        match self {
            Hasher::None => {}
            Hasher::Here(hasher) => hasher.update(&buffer[..n]),
            Hasher::Beside { full, spent } => {
                let mut next = spent.try_recv().unwrap_or_default();
                next.resize(CHUNK, 0);
                let mut bytes = std::mem::replace(buffer, next);
                bytes.truncate(n);
                // The thread ends only when this side does.
                let _ = full.send(Piece::Bytes(bytes));
            }
        }
    }

    fn zeros(&mut self, length: u64) {
        match self {
            Hasher::Here(hasher) => zeros(hasher, length),
            Hasher::Beside { full, .. } => drop(full.send(Piece::Zeros(length))),
            Hasher::None => {}
        }
    }
}

/// The next piece of a file that is no hole, from `at`.
fn data(file: &File, at: u64) -> Result<Option<(u64, u64)>> {
    let start = match seek(file, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(Errno::INVAL) => return Ok(Some((at, u64::MAX))),
        Err(e) => return Err(e.into()),
    };
    Ok(Some((start, seek(file, SeekFrom::Hole(start))?)))
}

fn zeros(hasher: &mut Sha256, mut length: u64) {
    while length > 0 {
        let n = usize::try_from(length).unwrap_or(usize::MAX).min(ZEROS.len());
        hasher.update(&ZEROS[..n]);
        length -= n as u64;
    }
}

/// 0: not between these two (filesystems of two kinds), or the end; reading will say.
fn some_by_kernel((from, to): (&File, &File), at: u64, most: usize) -> usize {
    let (mut read, mut write) = (at, at);
    let most = most.min(32 << 20);
    copy_file_range(from, Some(&mut read), to, Some(&mut write), most).unwrap_or(0)
}
