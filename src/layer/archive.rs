//! A tar as a sequence of members, each with what its headers say of it: ustar, GNU, PAX and the oldest form.
//!
//! Everything that could make two readers see two different archives is an error here: a member named twice, a size in
//! a global header, a block after a lone end mark. What stands behind the end mark (two blocks of zeros) is no member.

use crate::error::{Context, Error, Result};
use crate::layer::number;
use crate::layer::pax::{self, Records, Time};
use crate::layer::shown;
use crate::layer::sparse::Map;
use crate::layer::stream::{BLOCK, Block, Next, Stream};
use crate::layer::xattr::Xattr;
use rustix::fs::FileType;
use tar::Header;

/// Records and long names are read into memory.
const LARGEST_EXTENSION: u64 = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    HardLink,
    Symlink,
    Directory,
    /// A device, or a named pipe.
    Node(FileType),
}

#[derive(Debug)]
pub(super) struct Member {
    /// As written: with `./`, double and closing slashes, or whatever a hostile hand wrote.
    pub(super) path: Vec<u8>,
    /// What a link points to, as written.
    pub(super) link: Vec<u8>,
    pub(super) kind: Kind,
    /// Permission bits.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    pub(super) device: (u32, u32),
    pub(super) xattrs: Vec<Xattr>,
    /// Bytes of content in the stream; only files have any.
    pub(super) size: u64,
    pub(super) sparse: Option<Map>,
}

/// What comes in front of a member, and says more of it.
#[derive(Default)]
struct Extensions {
    records: Option<Records>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.records.is_none() && self.long_name.is_none() && self.long_link.is_none()
    }
}

/// Reads members off a stream. The caller takes each one's content before it asks for the next.
#[derive(Default)]
pub(super) struct Archive {
    global: Records,
    /// The member before, for messages.
    last: Option<Vec<u8>>,
    /// Zeros that fill the last block of the content before.
    padding: u64,
}

impl Archive {
    /// The next member; `None` at the end.
    pub(super) fn next(&mut self, stream: &mut Stream<'_>) -> Result<Option<Member>> {
        if !stream.skip(std::mem::take(&mut self.padding))? {
            return Err(self.ends_early());
        }
        let mut extensions = Extensions::default();
        loop {
            let Some(block) = self.header(stream)? else {
                return match extensions.is_empty() {
                    true => Ok(None),
                    false => Err(Error::other(
                        "archive ends between a header and the member it describes",
                    )),
                };
            };
            let header = Header::from_byte_slice(&block);
            let extended = header.as_old().linkflag[0];
            match extended {
                b'x' | b'X' | b'g' | b'L' | b'K' => {
                    let bytes = self.extension(header, stream)?;
                    self.extend(&mut extensions, extended, bytes)?;
                }
                // A volume's label.
                b'V' if extensions.is_empty() => {}
                _ => return self.member(header, extensions, stream).map(Some),
            }
        }
    }

    /// One header block, its checksum verified; `None` at the end mark or the end of the stream.
    fn header(&self, stream: &mut Stream<'_>) -> Result<Option<Block>> {
        let block = match stream.block()? {
            Next::Block(block) => block,
            Next::End => return Ok(None),
            Next::Torn if self.last.is_none() => return Err(not_a_tar()),
            Next::Torn => {
                return Err(Error::other(format!(
                    "archive ends in the middle of a header {}",
                    self.after()
                )));
            }
        };
        if block.iter().all(|b| *b == 0) {
            return match stream.block()? {
                Next::Block(second) if second.iter().any(|b| *b != 0) => Err(Error::other(format!(
                    "damaged archive: a lone block of zeros {}",
                    self.after()
                ))),
                _ => Ok(None),
            };
        }
        match checksum_is_right(&block) {
            true => Ok(Some(block)),
            false if self.last.is_none() => Err(not_a_tar()),
            false => Err(Error::other(format!(
                "damaged archive: bad header checksum {}",
                self.after()
            ))),
        }
    }

    /// The content of a header that describes the next member.
    fn extension(&self, header: &Header, stream: &mut Stream<'_>) -> Result<Vec<u8>> {
        let size = number::unsigned(&header.as_old().size)
            .ok_or_else(|| Error::other(format!("bad size in an extended header {}", self.after())))?;
        if size > LARGEST_EXTENSION {
            return Err(Error::other(format!(
                "extended header of {size} bytes {}",
                self.after()
            )));
        }
        let bytes = stream.bytes(size)?.ok_or_else(|| self.ends_early())?;
        match stream.skip(padding(size))? {
            true => Ok(bytes),
            false => Err(self.ends_early()),
        }
    }

    fn extend(&mut self, extensions: &mut Extensions, flag: u8, mut bytes: Vec<u8>) -> Result<()> {
        let twice = match flag {
            b'L' | b'K' => {
                if let Some(end) = bytes.iter().position(|b| *b == 0) {
                    bytes.truncate(end);
                }
                let name = if flag == b'L' {
                    &mut extensions.long_name
                } else {
                    &mut extensions.long_link
                };
                name.replace(bytes).is_some()
            }
            b'g' => {
                let records = Records::parse(&bytes)?;
                if records.path.is_some() || records.link.is_some() || records.size.is_some() {
                    return Err(Error::other("a global PAX header says something of one member"));
                }
                self.global.uid = records.uid.or(self.global.uid);
                self.global.gid = records.gid.or(self.global.gid);
                self.global.mtime = records.mtime.or(self.global.mtime);
                false
            }
            _ => extensions.records.replace(Records::parse(&bytes)?).is_some(),
        };
        match twice {
            true => Err(Error::other(format!(
                "two extended headers of one kind {}",
                self.after()
            ))),
            false => Ok(()),
        }
    }

    fn member(&mut self, header: &Header, extensions: Extensions, stream: &mut Stream<'_>) -> Result<Member> {
        let records = extensions.records.unwrap_or_default();
        let written = header.path_bytes().into_owned();
        let path = one_name(records.path, extensions.long_name)?.unwrap_or(written);
        let path = records
            .sparse
            .name
            .clone()
            .filter(|_| records.sparse.is_used())
            .unwrap_or(path);
        let said = || shown(&path);
        let link = one_name(records.link, extensions.long_link)?
            .unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned());
        let flag = header.as_old().linkflag[0];
        let kind = kind(flag, &path).with_context(said)?;
        let old = header.as_old();
        let bad = |what: &str| Error::other(format!("{}: bad {what} in its header", said()));

        let declared = records
            .size
            .or_else(|| number::unsigned(&old.size))
            .ok_or_else(|| bad("size"))?;
        let mut size = if kind == Kind::File { declared } else { 0 };
        self.padding = padding(size);
        let sparse = sparse(header, &records.sparse, &mut size, stream).with_context(said)?;
        if i64::try_from(size).is_err() {
            return Err(bad("size"));
        }
        let id = |pax: Option<u64>, field: &[u8], what| {
            let id = match pax {
                Some(id) => Some(id),
                None => number::unsigned(field),
            };
            // The last one means "leave it" to chown(2).
            id.and_then(|id| u32::try_from(id).ok())
                .filter(|id| *id != u32::MAX)
                .ok_or_else(|| bad(what))
        };
        let member = Member {
            link,
            kind,
            mode: number::signed(&old.mode)
                .and_then(|m| u32::try_from(m & 0o7777).ok())
                .ok_or_else(|| bad("mode"))?,
            uid: id(records.uid.or(self.global.uid), &old.uid, "owner")?,
            gid: id(records.gid.or(self.global.gid), &old.gid, "group")?,
            mtime: match records.mtime.or(self.global.mtime) {
                Some(time) => time,
                None => Time {
                    seconds: number::signed(&old.mtime).ok_or_else(|| bad("time"))?,
                    nanoseconds: 0,
                },
            },
            device: match kind {
                Kind::Node(FileType::CharacterDevice | FileType::BlockDevice) => {
                    device(header).ok_or_else(|| bad("device number"))?
                }
                _ => (0, 0),
            },
            xattrs: records.xattrs,
            size,
            sparse,
            path,
        };
        self.last = Some(member.path.clone());
        Ok(member)
    }

    fn after(&self) -> String {
        match &self.last {
            Some(path) => format!("after {}", shown(path)),
            None => "at its start".to_owned(),
        }
    }

    pub(super) fn ends_early(&self) -> Error {
        match &self.last {
            Some(path) => Error::other(format!("archive ends in the middle of {}", shown(path))),
            None => Error::other("archive ends in the middle of its first header"),
        }
    }
}

/// Whether what `reader` has begins as an archive with something in it does.
pub(crate) fn is_archive(mut reader: impl std::io::Read) -> bool {
    let mut block = [0; BLOCK];
    reader.read_exact(&mut block).is_ok() && block.iter().any(|b| *b != 0) && checksum_is_right(&block)
}

fn not_a_tar() -> Error {
    Error::other("not a tar archive")
}

/// The map of a sparse file; takes what it reads off `size`.
fn sparse(header: &Header, records: &pax::Sparse, size: &mut u64, stream: &mut Stream<'_>) -> Result<Option<Map>> {
    if header.as_old().linkflag[0] == b'S' {
        let header = header
            .as_gnu()
            .ok_or_else(|| Error::other("sparse file without a GNU header"))?;
        return Map::from_old_header(header, *size, stream).map(Some);
    }
    if records.map_in_data {
        let (map, taken) = Map::from_data(records, *size, stream)?;
        *size -= taken;
        return Ok(Some(map));
    }
    match records.is_used() {
        true => Map::from_records(records, *size).map(Some),
        false => Ok(None),
    }
}

/// Bytes up to the next block.
pub(super) fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

/// GNU's and PAX' way of giving a long name, of which an honest archive uses one.
pub(super) fn one_name(pax: Option<Vec<u8>>, gnu: Option<Vec<u8>>) -> Result<Option<Vec<u8>>> {
    match (pax, gnu) {
        (Some(pax), Some(gnu)) if pax != gnu => Err(Error::other(format!(
            "one member has two names, {} and {}",
            shown(&pax),
            shown(&gnu)
        ))),
        (pax, gnu) => Ok(pax.or(gnu)),
    }
}

/// The sum of all bytes with the checksum's own as spaces. Some old programs summed signed bytes.
pub(super) fn checksum_is_right(block: &Block) -> bool {
    let (mut unsigned, mut signed) = (0i64, 0i64);
    for (i, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&i) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    number::signed(&block[148..156]).is_some_and(|sum| sum == unsigned || sum == signed)
}

pub(super) fn kind(flag: u8, path: &[u8]) -> Result<Kind> {
    Ok(match flag {
        // The oldest form has directories as files whose name ends with a slash.
        b'\0' | b'0' if path.ends_with(b"/") => Kind::Directory,
        b'\0' | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::Node(FileType::CharacterDevice),
        b'4' => Kind::Node(FileType::BlockDevice),
        b'5' => Kind::Directory,
        b'6' => Kind::Node(FileType::Fifo),
        b'M' => return Err(Error::other("part of a file whose start is in another archive")),
        other => return Err(Error::other(format!("unknown member type '{}'", other.escape_ascii()))),
    })
}

fn device(header: &Header) -> Option<(u32, u32)> {
    let (major, minor) = match (header.as_ustar(), header.as_gnu()) {
        (Some(h), _) => (&h.dev_major, &h.dev_minor),
        (_, Some(h)) => (&h.dev_major, &h.dev_minor),
        _ => return None,
    };
    Some((
        u32::try_from(number::unsigned(major)?).ok()?,
        u32::try_from(number::unsigned(minor)?).ok()?,
    ))
}
