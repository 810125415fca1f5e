//! The content of one file into another: by the filesystem itself where it can share or move blocks, by hand where its
//! digest is wanted as well, so that it is read once. Holes stay holes.

use crate::error::Result;
use rustix::fs::{SeekFrom, copy_file_range, fstat, ftruncate, ioctl_ficlone, seek};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::os::unix::fs::FileExt;

const CHUNK: usize = 1 << 20;
/// Less is not worth asking the filesystem for.
const SMALL: u64 = 64 * 1024;
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Copies `size` bytes, or as many as there are. With `Wanted::Digest` the digest of what was written.
pub(super) fn copy(
    from: &File,
    to: &File,
    size: u64,
    wanted: Wanted,
    buffer: &mut Vec<u8>,
) -> Result<Option<[u8; 32]>> {
    buffer.resize(CHUNK, 0);
    let stat = fstat(from)?;
    let sparse = u64::try_from(stat.st_blocks).unwrap_or_default().saturating_mul(512) < size;
    if wanted == Wanted::Copy && size > SMALL {
        if ioctl_ficlone(to, from).is_ok() {
            return Ok(None);
        }
        if !sparse && by_kernel(from, to, size)? {
            return Ok(None);
        }
    }
    let mut hasher = (wanted == Wanted::Digest).then(Sha256::new);
    let mut at = 0;
    loop {
        let end = match sparse {
            true => match data(from, at)? {
                Some((start, end)) => {
                    zeros(hasher.as_mut(), start - at);
                    at = start;
                    end
                }
                None => break,
            },
            false => u64::MAX,
        };
        let mut ended = false;
        while at < end && !ended {
            let most = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let n = match from.read_at(&mut buffer[..most], at) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                n => n?,
            };
            ended = n == 0;
            to.write_all_at(&buffer[..n], at)?;
            if let Some(hasher) = &mut hasher {
                hasher.update(&buffer[..n]);
            }
            at += n as u64;
        }
        if ended {
            break;
        }
    }
    if sparse {
        let whole = u64::try_from(fstat(from)?.st_size).unwrap_or_default();
        if whole > at {
            zeros(hasher.as_mut(), whole - at);
            ftruncate(to, whole)?;
        }
    }
    Ok(hasher.map(|h| h.finalize().into()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Copy,
    Digest,
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

fn zeros(hasher: Option<&mut Sha256>, mut length: u64) {
    let Some(hasher) = hasher else { return };
    while length > 0 {
        let n = usize::try_from(length).unwrap_or(usize::MAX).min(ZEROS.len());
        hasher.update(&ZEROS[..n]);
        length -= n as u64;
    }
}

/// `false`: not between these two; nothing is written then.
fn by_kernel(from: &File, to: &File, size: u64) -> Result<bool> {
    let (mut read, mut write) = (0, 0);
    loop {
        let most = usize::try_from(size.saturating_sub(read)).unwrap_or(usize::MAX).max(1);
        match copy_file_range(from, Some(&mut read), to, Some(&mut write), most) {
            Ok(0) => return Ok(read > 0),
            Ok(_) => {}
            Err(_) if read == 0 => return Ok(false),
            Err(e) => return Err(e.into()),
        }
    }
}
