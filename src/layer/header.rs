//! The headers of a tar member: ustar, and PAX records in front of it for what ustar can't say (long and foreign names,
//! large numbers, nanoseconds, extended attributes). The same member always has the same bytes: no field depends on the
//! machine or the time of writing.

use crate::layer::archive::Kind;
use crate::layer::pax::Time;
use crate::layer::stream::BLOCK;
use crate::layer::xattr::Xattr;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rustix::fs::FileType;

/// Bytes of the name field, and of the link's.
const NAME: usize = 100;

/// What a header says of a member.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    /// Without a slash at either end; `.` is the root.
    pub(super) path: &'a [u8],
    pub(super) kind: Kind,
    /// What a symbolic link says, or the path of a hard link's other name.
    pub(super) link: &'a [u8],
    /// Permission bits.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    pub(super) size: u64,
    pub(super) device: (u32, u32),
    pub(super) xattrs: &'a [Xattr],
}

/// A file without content that root owns: what stands for a whiteout.
pub(super) fn marker(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let entry = Entry {
        path,
        kind: Kind::File,
        link: b"",
        mode: 0,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        size: 0,
        device: (0, 0),
        xattrs: &[],
    };
    append(&entry, &mut out);
    out
}

/// Adds the member's header blocks to `out`; its content comes next, filled up to a whole block.
pub(super) fn append(entry: &Entry<'_>, out: &mut Vec<u8>) {
    let path: Vec<u8> = match entry.kind {
        Kind::Directory => [entry.path, b"/"].concat(),
        _ => entry.path.to_vec(),
    };
    let records = records(entry, &path);
    if !records.is_empty() {
        let name = [b"PaxHeaders.0/", &plain(last_name(entry.path))[..]].concat();
        block(out, &name[..name.len().min(NAME)], b'x', |h| {
            octal(&mut h[100..108], 0o644);
            octal(&mut h[124..136], records.len() as u64);
        });
        out.extend_from_slice(&records);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    let name = match fits(&path) {
        true => path,
        false => {
            let plain = plain(&path);
            plain[..plain.len().min(NAME)].to_vec()
        }
    };
    block(out, &name, flag(entry.kind), |h| {
        octal(&mut h[100..108], u64::from(entry.mode));
        octal(&mut h[108..116], u64::from(entry.uid));
        octal(&mut h[116..124], u64::from(entry.gid));
        octal(&mut h[124..136], entry.size);
        octal(&mut h[136..148], u64::try_from(entry.mtime.seconds).unwrap_or_default());
        if fits(entry.link) {
            h[157..157 + entry.link.len()].copy_from_slice(entry.link);
        }
        octal(&mut h[329..337], u64::from(entry.device.0));
        octal(&mut h[337..345], u64::from(entry.device.1));
    });
}

/// What the header block can't hold.
fn records(entry: &Entry<'_>, path: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    let mut add = |key: &[u8], value: &[u8]| records.extend_from_slice(&record(key, value));
    let number = |n: u64| n.to_string().into_bytes();
    if !fits(path) {
        add(b"path", path);
    }
    if !fits(entry.link) {
        add(b"linkpath", entry.link);
    }
    if !has_room(8, u64::from(entry.uid)) {
        add(b"uid", &number(entry.uid.into()));
    }
    if !has_room(8, u64::from(entry.gid)) {
        add(b"gid", &number(entry.gid.into()));
    }
    if !has_room(12, entry.size) {
        add(b"size", &number(entry.size));
    }
    let whole = u64::try_from(entry.mtime.seconds).is_ok_and(|s| has_room(12, s));
    if !whole || entry.mtime.nanoseconds != 0 {
        add(b"mtime", time(entry.mtime).as_bytes());
    }
    for xattr in entry.xattrs {
        let name = xattr.name.to_bytes();
        if name.contains(&b'=') {
            // A record's key ends at the first one; libarchive's form has its names escaped.
            let value = STANDARD_NO_PAD.encode(&xattr.value);
            add(&[b"LIBARCHIVE.xattr.", &escape(name)[..]].concat(), value.as_bytes());
        } else {
            add(&[b"SCHILY.xattr.", name].concat(), &xattr.value);
        }
    }
    records
}

/// One header block with its checksum.
fn block(out: &mut Vec<u8>, name: &[u8], flag: u8, fill: impl FnOnce(&mut [u8])) {
    let mut header = [0; BLOCK];
    header[..name.len()].copy_from_slice(name);
    for field in [100..108, 108..116, 116..124, 124..136, 136..148, 329..337, 337..345] {
        octal(&mut header[field], 0);
    }
    header[156] = flag;
    header[257..265].copy_from_slice(b"ustar\x0000");
    fill(&mut header);
    header[148..156].fill(b' ');
    let sum: u64 = header.iter().map(|b| u64::from(*b)).sum();
    octal(&mut header[148..155], sum);
    out.extend_from_slice(&header);
}

fn flag(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::Node(FileType::CharacterDevice) => b'3',
        Kind::Node(FileType::BlockDevice) => b'4',
        Kind::Directory => b'5',
        Kind::Node(_) => b'6',
    }
}

/// Digits that fill the field up to a closing NUL; 0 for what does not fit, and is in a record.
fn octal(field: &mut [u8], value: u64) {
    let mut value = if has_room(field.len(), value) { value } else { 0 };
    let (end, digits) = match field.split_last_mut() {
        Some(parts) => parts,
        None => return,
    };
    *end = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value & 7).unwrap_or_default();
        value >>= 3;
    }
}

/// Whether an octal field of this many bytes holds the number.
fn has_room(field: usize, value: u64) -> bool {
    value >> (3 * (field - 1)) == 0
}

/// Names in the header block are plain text; the rest goes by record, where any byte is itself.
fn fits(name: &[u8]) -> bool {
    name.len() <= NAME && name.is_ascii()
}

/// What is left of a name for readers that know no records.
fn plain(name: &[u8]) -> Vec<u8> {
    name.iter()
        .map(|b| if b.is_ascii_graphic() || *b == b' ' { *b } else { b'_' })
        .collect()
}

fn last_name(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or_default()
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// Seconds with as much of a fraction as there is.
fn time(time: Time) -> String {
    let (sign, seconds, nanoseconds) = match (time.seconds, time.nanoseconds) {
        (s @ 0.., n) => ("", s.unsigned_abs(), n),
        (s, 0) => ("-", s.unsigned_abs(), 0),
        // The fraction counts towards the future, and is written away from 0.
        (s, n) => ("-", s.unsigned_abs() - 1, 1_000_000_000 - n),
    };
    match nanoseconds {
        0 => format!("{sign}{seconds}"),
        _ => format!("{sign}{seconds}.{}", format!("{nanoseconds:09}").trim_end_matches('0')),
    }
}

fn escape(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'%' | b'=' => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            _ => out.push(*byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_they_are_read() {
        for (seconds, nanoseconds, text) in [
            (0, 0, "0"),
            (1, 500_000_000, "1.5"),
            (1, 1, "1.000000001"),
            (-1, 0, "-1"),
            (-2, 500_000_000, "-1.5"),
            (-1, 750_000_000, "-0.25"),
            (8_589_934_592, 0, "8589934592"),
        ] {
            assert_eq!(time(Time { seconds, nanoseconds }), text);
        }
    }

    #[test]
    fn a_short_plain_member_is_one_block() {
        let mut out = Vec::new();
        let mut entry = Entry {
            path: b"etc/passwd",
            kind: Kind::File,
            link: b"",
            mode: 0o644,
            uid: 0o777_7777,
            gid: 5,
            mtime: Time {
                seconds: 1_000_000_000,
                nanoseconds: 0,
            },
            size: 0o777_7777_7777,
            device: (0, 0),
            xattrs: &[],
        };
        append(&entry, &mut out);
        assert_eq!(out.len(), BLOCK);
        let header = tar::Header::from_byte_slice(&out);
        assert_eq!(header.path_bytes().as_ref(), b"etc/passwd");
        assert_eq!(
            (header.size().unwrap(), header.uid().unwrap()),
            (0o777_7777_7777, 0o777_7777)
        );
        assert_eq!(header.mtime().unwrap(), 1_000_000_000);
        for change in [
            |e: &mut Entry<'_>| e.uid = 0o1000_0000,
            |e: &mut Entry<'_>| e.size = 0o1_0000_0000_0000,
            |e: &mut Entry<'_>| e.mtime.nanoseconds = 1,
            |e: &mut Entry<'_>| e.path = b"b\xffd",
        ] {
            change(&mut entry);
            out.clear();
            append(&entry, &mut out);
            assert_eq!(out.len(), 3 * BLOCK);
        }
    }
}
