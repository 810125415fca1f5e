//! The archive that is loaded, by the paths in it: a tar or a directory. Nothing of it is ever unpacked under a name of
//! its own, so what its names and links say can't reach outside.
//!
//! Members may stand in any order and be wanted in another one, so a tar has to be a file that can be read anywhere:
//! the given one, or, if that is compressed or comes through a pipe, a copy in the store's staging directory.

use crate::error::{Context, Error, Result};
use crate::format::{MAX_BYTES, shown};
use crate::layer::compress::{self, Decoder};
use crate::layer::listing::{self, What};
use crate::model::digest::Digest;
use crate::store::{StagedFile, Store};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// Of all lists and configurations of an archive together: they are read into memory.
const LARGEST_TOTAL: u64 = 64 << 20;
/// A link to a link to a link.
const MOST_LINKS: usize = 8;
const PIECE: usize = 256 * 1024;

/// Where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    Stdin,
    Path(PathBuf),
}

pub(super) struct Archive {
    place: Place,
    /// What has been read into memory so far.
    read: AtomicU64,
}

enum Place {
    Tar {
        file: File,
        members: HashMap<String, What>,
        /// The copy, which goes when this is dropped.
        _copy: Option<StagedFile>,
    },
    Directory(OwnedFd),
}

/// The bytes of one member.
pub(super) struct Content {
    file: File,
    offset: u64,
    left: u64,
}

impl Content {
    pub(super) fn length(&self) -> u64 {
        self.left
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.file.read_at(&mut buffer[..most], self.offset)?;
        if n == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "archive became shorter"));
        }
        self.offset += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

impl Archive {
    pub(super) fn open(store: &Store, input: &Input) -> Result<Archive> {
        let file = match input {
            Input::Stdin if io::stdin().is_terminal() => {
                return Err(Error::other("requested load from stdin, but stdin is empty")
                    .with_hint("name a file with --input, or pipe one in"));
            }
            Input::Stdin => File::from(io::stdin().as_fd().try_clone_to_owned().context("open stdin")?),
            Input::Path(path) => File::options()
                .read(true)
                .custom_flags(OFlags::CLOEXEC.bits().cast_signed())
                .open(path)
                .with_context(|| format!("open {}", path.display()))?,
        };
        let found = file.metadata().context("read archive")?;
        let place = match found.is_dir() {
            true => Place::Directory(file.into()),
            false => tar(store, file, found.is_file())?,
        };
        Ok(Archive {
            place,
            read: AtomicU64::new(0),
        })
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self.place, Place::Directory(_))
    }

    /// A file's content; `None` if there is no such file.
    pub(super) fn find(&self, path: &str) -> Result<Option<Content>> {
        let (file, members) = match &self.place {
            Place::Tar { file, members, .. } => (file, members),
            Place::Directory(dir) => return in_directory(dir, path),
        };
        let mut path = clean("", path).ok_or_else(|| outside(path))?;
        for _ in 0..MOST_LINKS {
            path = match members.get(&path) {
                Some(What::File { offset, size }) => {
                    return Ok(Some(Content {
                        file: file.try_clone().context("open archive")?,
                        offset: *offset,
                        left: *size,
                    }));
                }
                Some(What::HardLink(to)) => follow("", to)?,
                Some(What::Symlink(to)) => follow(&path, to)?,
                Some(What::Other) => {
                    return Err(Error::other(format!("{} in the archive is no file", shown(&path))));
                }
                None => return Ok(None),
            };
        }
        Err(Error::other(format!("{}: too many links in the archive", shown(&path))))
    }

    /// A list or a configuration, whole.
    pub(super) fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let Some(content) = self.find(path)? else {
            return Ok(None);
        };
        let length = content.length();
        let name = || shown(path);
        if length > MAX_BYTES as u64 {
            return Err(Error::other(format!(
                "{} is larger than {} MiB",
                name(),
                MAX_BYTES >> 20
            )));
        }
        if self.read.fetch_add(length, Ordering::Relaxed) + length > LARGEST_TOTAL {
            return Err(Error::other("the archive has too many lists and configurations"));
        }
        let mut bytes = Vec::new();
        content.take(length).read_to_end(&mut bytes).with_context(name)?;
        Ok(Some(bytes))
    }

    /// The same, where it has to be.
    pub(super) fn need(&self, path: &str) -> Result<Vec<u8>> {
        self.read(path)?.ok_or_else(|| missing(path))
    }

    /// The same, of a known digest.
    pub(super) fn need_blob(&self, path: &str, digest: &Digest) -> Result<Vec<u8>> {
        let bytes = self.need(path)?;
        match Digest::of(&bytes) == *digest {
            true => Ok(bytes),
            false => Err(Error::other(format!(
                "{} in the archive has another digest: {}",
                shown(path),
                Digest::of(&bytes)
            ))),
        }
    }

    /// Directories at the top with a file `name` in them, in order.
    pub(super) fn directories_with(&self, name: &str) -> Result<Vec<String>> {
        let mut found: Vec<String> = match &self.place {
            Place::Tar { members, .. } => members
                .keys()
                .filter_map(|path| {
                    let (dir, file) = path.split_once('/')?;
                    (file == name).then(|| dir.to_owned())
                })
                .collect(),
            Place::Directory(dir) => {
                let entries = rustix::fs::Dir::read_from(dir).context("read directory")?;
                let mut all = Vec::new();
                for entry in entries {
                    let entry = entry.context("read directory")?;
                    if let Ok(text) = entry.file_name().to_str()
                        && in_directory(dir, &format!("{text}/{name}")).is_ok_and(|found| found.is_some())
                    {
                        all.push(text.to_owned());
                    }
                }
                all
            }
        };
        found.sort();
        Ok(found)
    }
}

pub(super) fn missing(path: &str) -> Error {
    Error::other(format!("{} is missing from the archive", shown(path)))
}

fn outside(path: &str) -> Error {
    Error::other(format!("{}: leads out of the archive", shown(path)))
}

fn tar(store: &Store, file: File, regular: bool) -> Result<Place> {
    let mut again = file.try_clone().context("open archive")?;
    // Somebody may have read a part of what is given as stdin.
    let at_start = regular && again.stream_position().is_ok_and(|at| at == 0);
    let decoder = compress::reader(file)?;
    if at_start && matches!(decoder, Decoder::Plain(_)) {
        again.rewind().context("read archive")?;
        return Ok(Place::Tar {
            members: members(&again)?,
            file: again,
            _copy: None,
        });
    }
    let copy = store.stage_file()?;
    spill(decoder, copy.file())?;
    let file = copy.file().try_clone().context("open copy of the archive")?;
    Ok(Place::Tar {
        members: members(&file)?,
        file,
        _copy: Some(copy),
    })
}

fn spill(mut from: impl Read, mut to: &File) -> Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => to.write_all(&buffer[..n]).context("copy archive to the store")?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e).context("read archive"),
        }
    }
}

/// By clean path; what stands outside is not looked at, as nothing asks for it. Of two members with one name the last
/// counts, but for the lists that say what the others are.
fn members(file: &File) -> Result<HashMap<String, What>> {
    let mut members = HashMap::new();
    for member in listing::list(file)? {
        let Some(path) = std::str::from_utf8(&member.path).ok().and_then(|path| clean("", path)) else {
            continue;
        };
        let is_list = matches!(
            path.as_str(),
            "manifest.json" | "repositories" | "index.json" | "oci-layout"
        );
        if is_list && members.contains_key(&path) {
            return Err(Error::other(format!("the archive has {path} twice")));
        }
        members.insert(path, member.what);
    }
    Ok(members)
}

/// `path` as seen from the directory `base`, without `.`, `..` and double slashes; `None` if it leads out.
fn clean(base: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    if path.starts_with('/') {
        parts.clear();
    }
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Where a link leads: `from` is the path of a symbolic one, and empty for hard links.
fn follow(from: &str, to: &[u8]) -> Result<String> {
    let base = from.rsplit_once('/').map_or("", |(base, _)| base);
    let text = String::from_utf8_lossy(to);
    clean(base, &text).ok_or_else(|| outside(&text))
}

fn in_directory(dir: &OwnedFd, path: &str) -> Result<Option<Content>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = match openat2(dir, path, flags, Mode::empty(), beneath) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(rustix::io::Errno::XDEV) => return Err(outside(path)),
        Err(e) => return Err(e).with_context(|| shown(path)),
    };
    let found = file.metadata().with_context(|| shown(path))?;
    match found.is_file() {
        true => Ok(Some(Content {
            file,
            offset: 0,
            left: found.len(),
        })),
        false => Err(Error::other(format!("{} is no file", shown(path)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        for (base, path, whole) in [
            ("", "./a//b/", Some("a/b")),
            ("", "/a", Some("a")),
            ("", "../a", None),
            ("a/b", "../c", Some("a/c")),
            ("a", "../../c", None),
            ("a/b", "/c", Some("c")),
            ("", "", Some("")),
        ] {
            assert_eq!(clean(base, path).as_deref(), whole, "{base} {path}");
        }
        assert_eq!(follow("x/layer.tar", b"../y.tar").unwrap(), "y.tar");
        assert!(follow("x/layer.tar", b"../../y.tar").is_err());
        assert_eq!(follow("", b"x/y").unwrap(), "x/y");
    }
}
