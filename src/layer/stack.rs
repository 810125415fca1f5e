//! What a path means in a stack of layers, without mounting it.

use super::inherit::hides;
use crate::error::{Error, Result};
use crate::layer::{shown, whiteout};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, readlinkat};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

const MOST_LINKS: usize = 40;
const FLAGS: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const INSIDE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Where something is, or would be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Below the root, free of symbolic links but for its last name.
    pub(crate) path: Vec<u8>,
    /// What is there already.
    pub(crate) kind: Option<FileType>,
}

enum Seen {
    Nothing,
    Link(Vec<u8>),
    Kind(FileType),
}

/// Looks `path` up in `layers`, base first. Links on the way lead where they would in a container; one at its end is not
/// followed. What is not there yet has the place it would have.
pub(crate) fn find(layers: &[PathBuf], path: &[u8]) -> Result<Place> {
    let open = |layer: &PathBuf| openat(CWD, layer, FLAGS | OFlags::DIRECTORY, Mode::empty());
    let layers = layers.iter().rev().map(open).collect::<Result<Vec<_>, _>>()?;
    let mut todo: Vec<Vec<u8>> = path.split(|b| *b == b'/').rev().map(<[u8]>::to_vec).collect();
    let mut place = Place {
        path: Vec::new(),
        kind: Some(FileType::Directory),
    };
    let mut links = 0;
    while let Some(name) = todo.pop() {
        match name.as_slice() {
            b"" | b"." => continue,
            b".." => {
                let up = place.path.iter().rposition(|b| *b == b'/').unwrap_or_default();
                place.path.truncate(up);
                place.kind = Some(FileType::Directory);
                continue;
            }
            _ => {}
        }
        if !matches!(place.kind, None | Some(FileType::Directory)) {
            return Err(Error::other(format!("/{} is no directory", shown(&place.path))));
        }
        let next = match place.path.is_empty() {
            true => name,
            false => [&place.path, &b"/"[..], &name].concat(),
        };
        let last = todo.iter().all(|rest| matches!(rest.as_slice(), b"" | b"."));
        place.kind = match look(&layers, &next)? {
            Seen::Nothing => None,
            Seen::Link(target) if !last => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::LOOP.into());
                }
                if target.first() == Some(&b'/') {
                    place.path.clear();
                }
                todo.extend(target.split(|b| *b == b'/').rev().map(<[u8]>::to_vec));
                continue;
            }
            Seen::Link(_) => Some(FileType::Symlink),
            Seen::Kind(kind) => Some(kind),
        };
        place.path = next;
    }
    Ok(place)
}

/// `layers`: topmost first.
fn look(layers: &[OwnedFd], path: &[u8]) -> Result<Seen> {
    for layer in layers {
        match openat2(layer, path, FLAGS, Mode::empty(), INSIDE) {
            Ok(found) => {
                let stat = fstat(&found)?;
                let kind = FileType::from_raw_mode(stat.st_mode);
                return Ok(match kind {
                    _ if whiteout::hides_open(&found, &stat)? => Seen::Nothing,
                    FileType::Symlink => Seen::Link(readlinkat(&found, c"", Vec::new())?.into_bytes()),
                    kind => Seen::Kind(kind),
                });
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(e) => return Err(e.into()),
        }
        if hides(layer, path)? {
            return Ok(Seen::Nothing);
        }
    }
    Ok(Seen::Nothing)
}
