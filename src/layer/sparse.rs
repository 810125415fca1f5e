//! Which parts of a file an archive has: the rest are holes. GNU tar writes it in four forms (its manual, "Sparse
//! Formats"): in blocks behind the old header, in PAX records twice over, and in front of the data.

use crate::error::{Error, Result};
use crate::layer::number;
use crate::layer::pax;
use crate::layer::stream::{BLOCK, Next, Stream};
use tar::{GnuExtSparseHeader, GnuHeader, GnuSparseHeader};

/// More pieces than any real file has; a map in memory must have an end.
const MOST_PIECES: usize = 1 << 18;
/// Pieces in one extension block.
const SLOTS: usize = 21;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// The pieces, in order, and the size of the whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Map {
    pub(super) pieces: Vec<Piece>,
    pub(super) real_size: u64,
}

impl Map {
    /// From numbers that alternate between offset and length; together they must fill `data` bytes and overlap nowhere.
    fn new(numbers: &[u64], real_size: u64, data: u64) -> Result<Self> {
        let mut pieces = Vec::with_capacity(numbers.len() / 2);
        let (mut end, mut sum) = (0u64, 0u64);
        let (pairs, odd) = numbers.as_chunks::<2>();
        for &[offset, length] in pairs {
            let stop = offset
                .checked_add(length)
                .filter(|stop| offset >= end && *stop <= real_size);
            end = stop.ok_or_else(bad)?;
            sum += length;
            if length > 0 {
                pieces.push(Piece { offset, length });
            }
        }
        if sum != data || !odd.is_empty() || i64::try_from(real_size).is_err() {
            return Err(bad());
        }
        Ok(Map { pieces, real_size })
    }

    /// The old GNU form: four pieces in the header, and blocks of 21 behind it while one says that another follows.
    pub(super) fn from_old_header(header: &GnuHeader, data: u64, stream: &mut Stream<'_>) -> Result<Self> {
        let mut numbers = Vec::new();
        add(&mut numbers, &header.sparse)?;
        let mut more = header.isextended[0] != 0;
        let mut blocks = 0;
        while more {
            blocks += 1;
            limit(blocks * SLOTS)?;
            let Next::Block(block) = stream.block()? else {
                return Err(bad());
            };
            let mut extension = GnuExtSparseHeader::new();
            extension.as_mut_bytes().copy_from_slice(&block);
            add(&mut numbers, extension.sparse())?;
            more = extension.isextended[0] != 0;
        }
        Map::new(&numbers, number::unsigned(&header.realsize).ok_or_else(bad)?, data)
    }

    /// PAX versions 0.0 and 0.1.
    pub(super) fn from_records(sparse: &pax::Sparse, data: u64) -> Result<Self> {
        limit(sparse.map.len())?;
        Map::new(&sparse.map, sparse.real_size.ok_or_else(bad)?, data)
    }

    /// PAX version 1.0: decimal lines, how many pieces and then each, in blocks that count as data. Returns the map and
    /// how many bytes it took.
    pub(super) fn from_data(sparse: &pax::Sparse, data: u64, stream: &mut Stream<'_>) -> Result<(Self, u64)> {
        let mut numbers = Vec::new();
        let mut wanted = None;
        let mut digits = Vec::new();
        let mut taken = 0;
        while wanted.is_none_or(|n| numbers.len() < n) {
            taken += BLOCK as u64;
            let next = if taken <= data { stream.block()? } else { Next::End };
            let Next::Block(block) = next else { return Err(bad()) };
            for byte in block {
                if wanted.is_some_and(|n| numbers.len() >= n) {
                    break;
                }
                if byte != b'\n' {
                    digits.push(byte);
                    if digits.len() > 20 {
                        return Err(bad());
                    }
                    continue;
                }
                let value = pax::decimal(&digits).ok_or_else(bad)?;
                digits.clear();
                match wanted {
                    Some(_) => numbers.push(value),
                    None => {
                        let count = usize::try_from(value)
                            .ok()
                            .and_then(|n| n.checked_mul(2))
                            .ok_or_else(bad)?;
                        limit(count)?;
                        wanted = Some(count);
                    }
                }
            }
        }
        Ok((
            Map::new(&numbers, sparse.real_size.ok_or_else(bad)?, data - taken)?,
            taken,
        ))
    }
}

/// Pieces until the first empty slot.
fn add(numbers: &mut Vec<u64>, slots: &[GnuSparseHeader]) -> Result<()> {
    for slot in slots {
        if slot.offset[0] == 0 || slot.numbytes[0] == 0 {
            break;
        }
        numbers.push(number::unsigned(&slot.offset).ok_or_else(bad)?);
        numbers.push(number::unsigned(&slot.numbytes).ok_or_else(bad)?);
        limit(numbers.len())?;
    }
    Ok(())
}

fn limit(numbers: usize) -> Result<()> {
    match numbers > 2 * MOST_PIECES {
        true => Err(Error::other(format!("sparse file of more than {MOST_PIECES} pieces"))),
        false => Ok(()),
    }
}

fn bad() -> Error {
    Error::other("malformed map of a sparse file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_in_order_inside_the_file_and_fill_the_data() {
        let map = Map::new(&[0, 10, 100, 5, 200, 0], 200, 15).unwrap();
        assert_eq!(
            map.pieces,
            [Piece { offset: 0, length: 10 }, Piece { offset: 100, length: 5 }]
        );
        for (numbers, real_size, data) in [
            (&[0, 10, 5, 10][..], 100, 20),
            (&[50, 10, 0, 10], 100, 20),
            (&[0, 10, 95, 10], 100, 20),
            (&[0, 10], 100, 20),
            (&[0, 10, 20], 100, 10),
            (&[u64::MAX, 2], 100, 2),
            (&[0, 1], u64::MAX, 1),
        ] {
            assert!(Map::new(numbers, real_size, data).is_err(), "{numbers:?}");
        }
    }
}
