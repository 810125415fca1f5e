//! Docker's checksum of a layer's tar, as its first registries keep it (`tarsum+sha256:`, docker 0.5 to 1.x): SHA-256 of
//! each member (its header's fields by name and value, then its content), sorted, behind the image's JSON. So it is the
//! same in whatever order the members stand, and however the tar was compressed.

use crate::layer::archive::{checksum_is_right, padding};
use crate::layer::{number, pax};
use sha2::{Digest as _, Sha256};
use std::io::{self, Read};

const BLOCK: usize = 512;
/// Of a long name or of PAX records.
const LONGEST_META: u64 = 1 << 20;

/// Fed a tar in pieces of any size.
#[derive(Default)]
pub(crate) struct TarSum {
    state: State,
    header: Vec<u8>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    records: pax::Records,
    /// Hexadecimal, one for each member.
    sums: Vec<String>,
    /// It is no tar that this could be computed of.
    strange: bool,
}

#[derive(Default)]
enum State {
    #[default]
    Header,
    /// Of a member: bytes of content left, then of padding.
    Content(u64, u64, Target),
    End,
}

enum Target {
    Member(Sha256),
    /// What a header of this kind says of the next member.
    Meta(u8, Vec<u8>),
}

impl TarSum {
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.strange {
            bytes = match std::mem::take(&mut self.state) {
                State::End => {
                    self.state = State::End;
                    return;
                }
                State::Header => {
                    let (taken, rest) = bytes.split_at(bytes.len().min(BLOCK - self.header.len()));
                    self.header.extend_from_slice(taken);
                    if self.header.len() == BLOCK {
                        let header = std::mem::take(&mut self.header);
                        self.begin(&header);
                    }
                    rest
                }
                State::Content(left, after, target) => self.content(left, after, target, bytes),
            };
        }
    }

    /// Takes some of the content of a member, or of the padding behind it; what is left of `bytes`.
    fn content<'a>(&mut self, mut left: u64, mut after: u64, mut target: Target, bytes: &'a [u8]) -> &'a [u8] {
        let most = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(bytes.len());
        let rest = if left > 0 {
            let (taken, rest) = bytes.split_at(most(left));
            left -= taken.len() as u64;
            match &mut target {
                Target::Member(hasher) => hasher.update(taken),
                Target::Meta(_, text) => text.extend_from_slice(taken),
            }
            rest
        } else {
            let (taken, rest) = bytes.split_at(most(after));
            after -= taken.len() as u64;
            rest
        };
        match left + after {
            0 => self.close(target),
            _ => self.state = State::Content(left, after, target),
        }
        rest
    }

    fn begin(&mut self, header: &[u8]) {
        let Ok(block) = <&[u8; BLOCK]>::try_from(header) else {
            return;
        };
        if block.iter().all(|b| *b == 0) {
            self.state = State::End;
            return;
        }
        let flag = block[156];
        let size = number::unsigned(&block[124..136]);
        let meta = matches!(flag, b'L' | b'K' | b'x' | b'g');
        let size = match (meta, self.records.size) {
            (false, Some(size)) => Some(size),
            _ => size,
        };
        let Some(size) = size.filter(|size| checksum_is_right(block) && (!meta || *size <= LONGEST_META)) else {
            self.strange = true;
            return;
        };
        let target = match meta {
            true => Target::Meta(flag, Vec::new()),
            false => match self.member(block, size) {
                Some(hasher) => Target::Member(hasher),
                None => {
                    self.strange = true;
                    return;
                }
            },
        };
        match size {
            0 => self.close(target),
            _ => self.state = State::Content(size, padding(size), target),
        }
    }

    fn close(&mut self, target: Target) {
        self.state = State::Header;
        match target {
            Target::Member(hasher) => {
                use std::fmt::Write as _;
                let mut hex = String::with_capacity(64);
                for byte in hasher.finalize() {
                    let _ = write!(hex, "{byte:02x}");
                }
                self.sums.push(hex);
            }
            Target::Meta(b'L', text) => self.long_name = Some(until_nul(&text).to_vec()),
            Target::Meta(b'K', text) => self.long_link = Some(until_nul(&text).to_vec()),
            Target::Meta(b'x', text) => match pax::Records::parse(&text) {
                Ok(records) => self.records = records,
                Err(_) => self.strange = true,
            },
            Target::Meta(..) => {}
        }
    }

    /// The hash of a member so far: of its header.
    fn member(&mut self, block: &[u8; BLOCK], size: u64) -> Option<Sha256> {
        let records = std::mem::take(&mut self.records);
        let posix = &block[257..263] == b"ustar\0";
        let has_owner = block[257..].starts_with(b"ustar");
        let mut name = until_nul(&block[..100]).to_vec();
        let prefix = until_nul(&block[345..500]);
        if posix && !prefix.is_empty() {
            name = [prefix, b"/", &name].concat();
        }
        let name = records.path.or(self.long_name.take()).unwrap_or(name);
        let link = until_nul(&block[157..257]).to_vec();
        let link = records.link.or(self.long_link.take()).unwrap_or(link);
        let field = |from: usize, length: usize| number::signed(&block[from..from + length]);
        let id = |known: Option<u64>, from| known.map_or_else(|| field(from, 8), |id| i64::try_from(id).ok());
        let mtime = records.mtime.map_or_else(|| field(136, 12), |t| Some(t.seconds));
        let text = |from: usize| {
            if has_owner {
                until_nul(&block[from..from + 32])
            } else {
                b""
            }
        };
        let is_device = has_owner && matches!(block[156], b'3' | b'4');
        let device = |from| if is_device { field(from, 8) } else { Some(0) };
        let mut hasher = Sha256::new();
        let mut say = |key: &str, value: &[u8]| {
            hasher.update(key);
            hasher.update(value);
        };
        let decimal = |n: i64| n.to_string().into_bytes();
        say("name", &name);
        say("mode", &decimal(field(100, 8)?));
        say("uid", &decimal(id(records.uid, 108)?));
        say("gid", &decimal(id(records.gid, 116)?));
        say("size", size.to_string().as_bytes());
        say("mtime", &decimal(mtime?));
        say("typeflag", &block[156..157]);
        say("linkname", &link);
        say("uname", text(265));
        say("gname", text(297));
        say("devmajor", &decimal(device(329)?));
        say("devminor", &decimal(device(337)?));
        Some(hasher)
    }

    /// `tarsum+sha256:…` of all that was fed, for an image with this document. `None` if it was no whole tar.
    pub(crate) fn finish(mut self, json: &[u8]) -> Option<String> {
        if self.strange || matches!(self.state, State::Content(..)) {
            return None;
        }
        self.sums.sort();
        let mut hasher = Sha256::new();
        hasher.update(json);
        for sum in &self.sums {
            hasher.update(sum);
        }
        let digest = crate::model::digest::Digest::from_hasher(hasher);
        Some(format!("tarsum+{digest}"))
    }

    /// The same bytes, watched.
    pub(crate) fn watch<R: Read>(&mut self, inner: R) -> Watched<'_, R> {
        Watched { inner, sum: self }
    }
}

pub(crate) struct Watched<'a, R> {
    inner: R,
    sum: &'a mut TarSum,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.sum.update(&buffer[..n]);
        Ok(n)
    }
}

fn until_nul(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    &field[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, content: &[u8], kind: tar::EntryType) -> Vec<u8> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(1000);
        header.set_gid(5);
        header.set_mtime(1_371_000_000);
        header.set_entry_type(kind);
        header.set_username("u").unwrap();
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    fn sum(bytes: &[u8], pieces: usize) -> Option<String> {
        let mut sum = TarSum::default();
        bytes.chunks(pieces).for_each(|piece| sum.update(piece));
        sum.finish(b"{}")
    }

    /// By the words of the specification, step by step.
    #[test]
    fn as_specified() {
        let one = "namea/bmode420uid1000gid5size3mtime1371000000typeflag0linknameunameugnamedevmajor0devminor0abc";
        let two = "namec/mode420uid1000gid5size0mtime1371000000typeflag5linknameunameugnamedevmajor0devminor0";
        let hex = |text: &str| crate::model::digest::Digest::of(text.as_bytes()).hex();
        let mut sums = [hex(one), hex(two)];
        sums.sort();
        let want = format!("tarsum+sha256:{}", hex(&format!("{{}}{}{}", sums[0], sums[1])));
        let a = member("a/b", b"abc", tar::EntryType::Regular);
        let c = member("c/", b"", tar::EntryType::Directory);
        let end = vec![0; 1024];
        for pieces in [1, 7, 512, 100_000] {
            assert_eq!(
                sum(&[a.clone(), c.clone(), end.clone()].concat(), pieces).unwrap(),
                want
            );
            assert_eq!(
                sum(&[c.clone(), a.clone(), end.clone()].concat(), pieces).unwrap(),
                want
            );
        }
        assert_ne!(sum(&[&a[..], &end].concat(), 512).unwrap(), want);
        // Long names count as if they stood in the header.
        let mut long = tar::Builder::new(Vec::new());
        let name = format!("{}/x", "d".repeat(150));
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        long.append_data(&mut header, &name, &b"1"[..]).unwrap();
        let text = format!("name{name}mode0uid0gid0size1mtime0typeflag0linknameunamegnamedevmajor0devminor01");
        let want = format!("tarsum+sha256:{}", hex(&format!("{{}}{}", hex(&text))));
        assert_eq!(sum(&long.into_inner().unwrap(), 512).unwrap(), want);
    }

    #[test]
    fn what_is_no_tar_has_none() {
        let whole = [member("a", b"abc", tar::EntryType::Regular), vec![0; 1024]].concat();
        assert!(sum(&whole, 512).is_some());
        assert_eq!(sum(&whole[..600], 512), None);
        let mut damaged = whole.clone();
        damaged[3] ^= 1;
        assert_eq!(sum(&damaged, 512), None);
        assert!(sum(&[0; 1024], 512).is_some());
    }
}
