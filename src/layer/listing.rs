//! What a tar in a file has, and where: for archives of which only some members are wanted, in an order of one's own.
//! Content is not read, and nothing is unpacked.

use crate::error::{Context, Error, Result};
use crate::layer::archive::{Kind, checksum_is_right, kind, one_name, padding};
use crate::layer::number;
use crate::layer::pax::Records;
use crate::layer::shown;
use crate::layer::stream::{BLOCK, Block};
use std::fs::File;
use std::os::unix::fs::FileExt;
use tar::Header;

/// Records and long names are read into memory.
const LARGEST_EXTENSION: u64 = 1 << 20;
/// More is no archive of images. Paths, and where links lead, are bounded together, as one of them may be long.
const MOST_MEMBERS: usize = 1 << 20;
const MOST_PATHS: usize = 64 << 20;

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// As written.
    pub(crate) path: Vec<u8>,
    pub(crate) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    File {
        offset: u64,
        size: u64,
    },
    /// To a path in the archive.
    HardLink(Vec<u8>),
    /// To a path from where it stands.
    Symlink(Vec<u8>),
    /// Directories, devices.
    Other,
}

/// The members of the tar that `file` is, from its first byte on.
pub(crate) fn list(file: &File) -> Result<Vec<Listed>> {
    let end = file.metadata().context("read archive")?.len();
    let mut all = Vec::new();
    let (mut at, mut paths) = (0, 0);
    let mut extensions = Extensions::default();
    while let Some(block) = header(file, at, end, all.is_empty())? {
        let header = Header::from_byte_slice(&block);
        let flag = header.as_old().linkflag[0];
        let size = number::unsigned(&header.as_old().size).ok_or_else(|| damaged(at, "a bad size"))?;
        at += BLOCK as u64;
        if matches!(flag, b'x' | b'X' | b'g' | b'L' | b'K') {
            extensions.take(flag, read(file, at, size, end)?)?;
            at += size + padding(size);
            continue;
        }
        if flag == b'V' {
            continue;
        }
        let member = member(header, std::mem::take(&mut extensions), at, size)?;
        paths += member.path.len();
        if let What::HardLink(to) | What::Symlink(to) = &member.what {
            paths += to.len();
        }
        if all.len() == MOST_MEMBERS || paths > MOST_PATHS {
            return Err(Error::other("archive has too many members for one of images"));
        }
        if let What::File { size, .. } = member.what {
            let next = size.checked_add(padding(size)).and_then(|n| n.checked_add(at));
            // A last member need not be padded.
            at = match next {
                Some(next) if at.checked_add(size).is_some_and(|last| last <= end) => next,
                _ => {
                    let path = shown(&member.path);
                    return Err(Error::other(format!("archive ends in the middle of {path}")));
                }
            };
        }
        all.push(member);
    }
    Ok(all)
}

#[derive(Default)]
struct Extensions {
    records: Option<Records>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Extensions {
    fn take(&mut self, flag: u8, mut bytes: Vec<u8>) -> Result<()> {
        match flag {
            b'L' | b'K' => {
                if let Some(end) = bytes.iter().position(|b| *b == 0) {
                    bytes.truncate(end);
                }
                match flag {
                    b'L' => self.long_name = Some(bytes),
                    _ => self.long_link = Some(bytes),
                }
            }
            b'g' => {
                let records = Records::parse(&bytes)?;
                if records.path.is_some() || records.link.is_some() || records.size.is_some() {
                    return Err(Error::other("a global PAX header says something of one member"));
                }
            }
            _ => self.records = Some(Records::parse(&bytes)?),
        }
        Ok(())
    }
}

fn member(header: &Header, extensions: Extensions, offset: u64, size: u64) -> Result<Listed> {
    let records = extensions.records.unwrap_or_default();
    let path = one_name(records.path, extensions.long_name)?.unwrap_or_else(|| header.path_bytes().into_owned());
    let link = one_name(records.link, extensions.long_link)?
        .unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned());
    let flag = header.as_old().linkflag[0];
    if flag == b'S' || records.sparse.is_used() {
        return Err(Error::other(format!("{} is stored as a sparse file", shown(&path))));
    }
    let what = match kind(flag, &path).with_context(|| shown(&path))? {
        Kind::File => What::File {
            offset,
            size: records.size.unwrap_or(size),
        },
        Kind::HardLink => What::HardLink(link),
        Kind::Symlink => What::Symlink(link),
        Kind::Directory | Kind::Node(_) => What::Other,
    };
    Ok(Listed { path, what })
}

/// `None` at the end mark, or the end of the file.
fn header(file: &File, at: u64, end: u64, first: bool) -> Result<Option<Block>> {
    if at >= end {
        return match first {
            true => Err(Error::other("not a tar archive")),
            false => Ok(None),
        };
    }
    let mut block = [0; BLOCK];
    match file.read_exact_at(&mut block, at) {
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof && first => {
            return Err(Error::other("not a tar archive"));
        }
        other => other.context("read archive")?,
    }
    if block.iter().all(|b| *b == 0) {
        return Ok(None);
    }
    match checksum_is_right(&block) {
        true => Ok(Some(block)),
        false if first => Err(Error::other("not a tar archive")),
        false => Err(damaged(at, "a bad header checksum")),
    }
}

fn read(file: &File, at: u64, size: u64, end: u64) -> Result<Vec<u8>> {
    let length = usize::try_from(size).ok().filter(|_| size <= LARGEST_EXTENSION);
    let length = length.ok_or_else(|| damaged(at, "an extended header that is too large"))?;
    if at + size > end {
        return Err(Error::other("archive ends in the middle of a header"));
    }
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, at).context("read archive")?;
    Ok(bytes)
}

fn damaged(at: u64, what: &str) -> Error {
    Error::other(format!("damaged archive: {what} at byte {at}"))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, memfd_create};
    use std::io::Write;

    fn file(bytes: &[u8]) -> File {
        let mut file = File::from(memfd_create("listing", MemfdFlags::CLOEXEC).unwrap());
        file.write_all(bytes).unwrap();
        file
    }

    fn sample() -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |kind: tar::EntryType, path: &str, link: &str, content: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(content.len() as u64);
            if link.is_empty() {
                tar.append_data(&mut header, path, content).unwrap();
            } else {
                tar.append_link(&mut header, path, link).unwrap();
            }
        };
        add(tar::EntryType::Directory, "d/", "", b"");
        add(tar::EntryType::Regular, "d/file", "", b"0123456789");
        add(tar::EntryType::Symlink, "link", "d/file", b"");
        add(tar::EntryType::Link, "hard", "d/file", b"");
        add(tar::EntryType::Regular, &"long/n".repeat(60), "", b"x");
        tar.into_inner().unwrap()
    }

    #[test]
    fn members_and_where_they_are() {
        let bytes = sample();
        let all = list(&file(&bytes)).unwrap();
        assert_eq!(all.len(), 5);
        let What::File { offset, size } = all[1].what else {
            panic!("{all:?}")
        };
        let at = usize::try_from(offset).unwrap();
        assert_eq!((&bytes[at..at + 10], size), (&b"0123456789"[..], 10));
        assert_eq!(all[2].what, What::Symlink(b"d/file".to_vec()));
        assert_eq!(all[3].what, What::HardLink(b"d/file".to_vec()));
        assert_eq!(all[4].path, "long/n".repeat(60).as_bytes());
    }

    #[test]
    fn damage_is_told() {
        let whole = sample();
        for (bytes, why) in [
            (Vec::new(), "not a tar"),
            (b"hello".to_vec(), "not a tar"),
            (vec![7; 4096], "not a tar"),
            (whole[..1030].to_vec(), "ends in the middle of d/file"),
        ] {
            let e = list(&file(&bytes)).unwrap_err().to_string();
            assert!(e.contains(why), "{e}");
        }
        // Every cut and every changed byte of a header: an answer or an error, never more.
        for at in 0..whole.len() {
            let _ = list(&file(&whole[..at]));
            let mut bent = whole.clone();
            bent[at] = bent[at].wrapping_add(1);
            let _ = list(&file(&bent));
        }
    }
}
