//! Which compression an archive has is told by its first bytes, never by its name or what a registry calls it.
//!
//! Several gzip members or zstd frames in a row are one archive, and zstd's skippable frames are passed over. What comes
//! out is bounded by nothing but the disk.

use crate::error::{Context, Error, Result};
use flate2::bufread::MultiGzDecoder;
use std::io::{self, BufReader, Chain, Cursor, Read};

/// Enough for every magic.
const PEEKED: usize = 10;
const BUFFER: usize = 128 * 1024;

type Input<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// An archive, decompressed as it is read.
pub(crate) enum Decoder<R: Read> {
    Plain(Input<R>),
    Gzip(Box<MultiGzDecoder<Input<R>>>),
    Zstd(zstd::Decoder<'static, Input<R>>),
}

/// What a file's first bytes say it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
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
        Format::Xz => Err(unsupported("xz")),
        Format::Bzip2 => Err(unsupported("bzip2")),
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

fn unsupported(name: &str) -> Error {
    Error::other(format!("{name} archives are not supported"))
        .with_hint(format!("decompress it first: `{name} -dc FILE | …`"))
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoder::Plain(input) => input.read(buffer),
            Decoder::Gzip(input) => input.read(buffer),
            Decoder::Zstd(input) => input.read(buffer),
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
        ] {
            assert!(read(&bytes).unwrap() == text, "{name}");
        }
        assert_eq!(read(b"short").unwrap(), b"short");
    }

    #[test]
    fn what_is_cut_off_or_damaged_is_an_error() {
        let text = "a layer ".repeat(10_000).into_bytes();
        for whole in [gzip(&text), zstd(&text)] {
            assert!(read(&whole[..whole.len() - 3]).is_err());
        }
        let mut damaged = gzip(&text);
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0xff;
        assert!(read(&damaged).is_err());
    }

    #[test]
    fn formats_to_come_are_named() {
        for (bytes, text) in [
            (&b"\xfd7zXZ\0\0\0\0\0"[..], "xz archives are not supported"),
            (b"BZh91AY&SY\0", "bzip2 archives are not supported"),
            (b"", "empty archive"),
        ] {
            assert_eq!(reader(bytes).map(drop).unwrap_err().to_string(), text);
        }
    }
}
