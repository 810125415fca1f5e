//! Which compression an archive has is told by its first bytes, never by its name or what a registry calls it.
//!
//! Several gzip members, zstd frames, xz or bzip2 streams in a row are one archive, and zstd's skippable frames are
//! passed over. What comes out is bounded by nothing but the disk; what it takes to get it out, by [`MOST_MEMORY`].

use crate::error::{Context, Error, Result};
use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use std::io::{self, BufReader, Chain, Cursor, Read};

/// Enough for every magic.
const PEEKED: usize = 10;
const BUFFER: usize = 128 * 1024;

/// For a dictionary: `xz -9` wants half of it, and only who asks for more gets one that is larger. zstd's own limit is
/// the same (windowLog 27).
const MOST_MEMORY: u32 = 128 << 20;

type Input<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// An archive, decompressed as it is read.
pub(crate) enum Decoder<R: Read> {
    Plain(Input<R>),
    Gzip(Box<MultiGzDecoder<Input<R>>>),
    Zstd(zstd::Decoder<'static, Input<R>>),
    Xz(Box<XzReader<Input<R>>>),
    Bzip2(Box<MultiBzDecoder<Input<R>>>),
}

/// What a file's first bytes say it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Plain,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
}

/// Looks at the first bytes of `input`, and decompresses if they say so.
pub(crate) fn reader<R: Read>(mut input: R) -> Result<Decoder<R>> {
    let mut first = Vec::with_capacity(PEEKED);
    (&mut input)
        .take(PEEKED as u64)
        .read_to_end(&mut first)
        .context("read archive")?;
    if first.is_empty() {
        return Err(Error::other("empty archive"));
    }
    let format = format(&first);
    let input = BufReader::with_capacity(BUFFER, Cursor::new(first).chain(input));
    match format {
        Format::Plain => Ok(Decoder::Plain(input)),
        Format::Gzip => Ok(Decoder::Gzip(Box::new(MultiGzDecoder::new(input)))),
        Format::Zstd => Ok(Decoder::Zstd(
            zstd::Decoder::with_buffer(input).context("read zstd archive")?,
        )),
        // What the decoder needs beside the dictionary is little.
        Format::Xz => Ok(Decoder::Xz(Box::new(XzReader::new_mem_limit(
            input,
            true,
            MOST_MEMORY / 1024 + 1024,
        )))),
        Format::Bzip2 => Ok(Decoder::Bzip2(Box::new(MultiBzDecoder::new(input)))),
    }
}

impl<R: Read> Decoder<R> {
    /// What the input was.
    pub(crate) fn format(&self) -> Format {
        match self {
            Decoder::Plain(_) => Format::Plain,
            Decoder::Gzip(_) => Format::Gzip,
            Decoder::Zstd(_) => Format::Zstd,
            Decoder::Xz(_) => Format::Xz,
            Decoder::Bzip2(_) => Format::Bzip2,
        }
    }
}

fn format(first: &[u8]) -> Format {
    match first {
        [0x1f, 0x8b, ..] => Format::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Format::Zstd,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Format::Xz,
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..] => Format::Bzip2,
        _ => Format::Plain,
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoder::Plain(input) => input.read(buffer),
            Decoder::Gzip(input) => input.read(buffer),
            Decoder::Zstd(input) => input.read(buffer),
            Decoder::Xz(input) => input.read(buffer).map_err(|e| match e.kind() {
                io::ErrorKind::OutOfMemory => {
                    io::Error::other(format!("its xz dictionary is larger than {} MiB", MOST_MEMORY >> 20))
                }
                _ => e,
            }),
            Decoder::Bzip2(input) => input.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ::zstd::encode_all(bytes, 1).unwrap()
    }

    /// By the program: the decoder's crate has no encoder here.
    fn xz(bytes: &[u8]) -> Vec<u8> {
        use std::process::{Command, Stdio};
        let mut command = Command::new("xz");
        command.arg("-1c").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(bytes).unwrap());
            child.wait_with_output().unwrap().stdout
        })
    }

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ::bzip2::write::BzEncoder::new(Vec::new(), ::bzip2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        reader(bytes)
            .map_err(|e| io::Error::other(e.to_string()))?
            .read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn every_format_and_several_parts() {
        let text = "a layer ".repeat(100_000).into_bytes();
        let skippable = [0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, b'a', b'b', b'c'];
        for (name, bytes) in [
            ("plain", text.clone()),
            ("gzip", gzip(&text)),
            (
                "gzip members",
                [gzip(&text[..1000]), gzip(b""), gzip(&text[1000..])].concat(),
            ),
            ("zstd", zstd(&text)),
            (
                "zstd frames",
                [zstd(&text[..1000]), skippable.to_vec(), zstd(&text[1000..])].concat(),
            ),
            ("zstd behind a skippable frame", [&skippable[..], &zstd(&text)].concat()),
            ("xz", xz(&text)),
            ("xz streams", [xz(&text[..1000]), xz(&text[1000..])].concat()),
            ("bzip2", bzip2(&text)),
            ("bzip2 streams", [bzip2(&text[..1000]), bzip2(&text[1000..])].concat()),
        ] {
            assert!(read(&bytes).unwrap() == text, "{name}");
        }
        assert_eq!(read(b"short").unwrap(), b"short");
    }

    #[test]
    fn what_is_cut_off_or_damaged_is_an_error() {
        let text = "a layer ".repeat(10_000).into_bytes();
        for whole in [gzip(&text), zstd(&text), xz(&text), bzip2(&text)] {
            assert!(read(&whole[..whole.len() - 3]).is_err());
        }
        let mut damaged = gzip(&text);
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0xff;
        assert!(read(&damaged).is_err());
    }

    #[test]
    fn nothing_is_no_archive() {
        assert_eq!(reader(&b""[..]).map(drop).unwrap_err().to_string(), "empty archive");
    }

    #[test]
    fn a_dictionary_has_a_limit() {
        // `xz --lzma2=dict=1536MiB`: the first block's header, with its checksum.
        let mut bytes = b"\xfd7zXZ\0\0\x01\x69\x22\xde\x36\x02\0\x21\x01\x27\0\0\0".to_vec();
        bytes.extend_from_slice(&crc32(&bytes[12..20]).to_le_bytes());
        bytes.extend_from_slice(&[0; 64]);
        let e = read(&bytes).unwrap_err().to_string();
        assert_eq!(e, "its xz dictionary is larger than 128 MiB");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum()
    }
}
