//! gzip on all cores: blocks of a fixed size are deflated at once, each a member of its own, which is what a gzip file may
//! be made of (RFC 1952, section 2.2; lazily pulled layers are written so, and everybody reads them). What comes out
//! depends on the input and the level alone, not on how many threads there were, so that a layer has the same digest on
//! every machine.
//!
//! libdeflate, because a push is bound by nothing else: at the same size it needs half of zlib's time. It takes whole
//! buffers only, hence the members; what they lose at their borders is less than it gains.

use crate::error::{Context, Error, Result};
use crate::layer::Sum;
use libdeflater::{CompressionLvl, Compressor};
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};

/// Large enough that the bytes at its borders don't count, small enough for the cache.
const BLOCK: usize = 1024 * 1024;

/// A block to be deflated, and where the result goes.
struct Job {
    block: Vec<u8>,
    result: Sender<io::Result<Member>>,
}

/// A block, deflated.
struct Member {
    buffer: Vec<u8>,
    /// How much of the buffer it is.
    length: usize,
    /// Of what is in it.
    sum: Sum,
}

/// Buffers to be used again: fresh ones cost as much as a copy, page by page.
#[derive(Default)]
struct Buffers {
    blocks: Mutex<Vec<Vec<u8>>>,
    members: Mutex<Vec<Vec<u8>>>,
}

fn take(from: &Mutex<Vec<Vec<u8>>>) -> Vec<u8> {
    let mut spare = from.lock().unwrap_or_else(PoisonError::into_inner);
    spare.pop().unwrap_or_default()
}

fn put(into: &Mutex<Vec<Vec<u8>>>, buffer: Vec<u8>) {
    into.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
}

/// Gives `write` something to write to, whose gzip form goes to `out`. The sum is of what was written.
pub(crate) fn compress<T>(
    out: &mut (dyn Write + Send),
    level: u32,
    threads: usize,
    write: impl FnOnce(&mut (dyn Write + Send)) -> Result<T>,
) -> Result<(T, Sum)> {
    let (jobs, waiting) = sync_channel::<Job>(threads);
    let waiting = Mutex::new(waiting);
    let buffers = Buffers::default();
    let buffers = &buffers;
    let (results, in_order) = sync_channel(2 * threads);
    std::thread::scope(|scope| {
        for n in 0..threads {
            let waiting = &waiting;
            std::thread::Builder::new()
                .name(format!("gzip {n}"))
                .spawn_scoped(scope, move || work(waiting, level, buffers))
                .context("start a thread")?;
        }
        let writing = std::thread::Builder::new()
            .name("gzip out".to_owned())
            .spawn_scoped(scope, move || write_out(out, &in_order, buffers))
            .context("start a thread")?;
        let mut splitter = Splitter {
            jobs,
            results,
            block: Vec::with_capacity(BLOCK),
            buffers,
            written: false,
        };
        let done = write(&mut splitter);
        let ended = done.and_then(|done| splitter.end().map(|()| done));
        // Where nothing could be written, that is why the rest failed.
        let sum = writing
            .join()
            .map_err(|_| Error::other("the writing thread panicked"))?
            .context("write archive")?;
        ended.map(|done| (done, sum))
    })
}

fn work(waiting: &Mutex<Receiver<Job>>, level: u32, buffers: &Buffers) {
    let level = i32::try_from(level).ok().and_then(|l| CompressionLvl::new(l).ok());
    let mut deflate = Compressor::new(level.unwrap_or_default());
    let mut store = CompressionLvl::new(0).ok().map(Compressor::new);
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        // Nobody waits for it any more after an error.
        let how = match &mut store {
            Some(store) if is_dense(&mut deflate, &job.block) => store,
            _ => &mut deflate,
        };
        let buffer = take(&buffers.members);
        let _ = job.result.send(member(how, &job.block, buffer));
        put(&buffers.blocks, job.block);
    }
}

/// Whether deflate would gain nothing: packages, pictures, archives. It takes longest with just these, so a few samples are
/// tried first; all of them have to be dense, that a block is stored.
fn is_dense(deflate: &mut Compressor, block: &[u8]) -> bool {
    const SAMPLE: usize = 4096;
    let mut out = [0; 2 * SAMPLE];
    block.len() >= 16 * SAMPLE
        && block.chunks(block.len() / 4).take(4).all(|quarter| {
            let sample = &quarter[..SAMPLE.min(quarter.len())];
            let length = deflate.deflate_compress(sample, &mut out).unwrap_or(SAMPLE);
            length * 100 > sample.len() * 98
        })
}

/// No time, no name: the header is the same for every block.
fn member(deflate: &mut Compressor, block: &[u8], mut buffer: Vec<u8>) -> io::Result<Member> {
    buffer.resize(deflate.gzip_compress_bound(block.len()).max(buffer.len()), 0);
    let length = deflate.gzip_compress(block, &mut buffer).map_err(io::Error::other)?;
    // It ends with the sum of what is in it (RFC 1952, section 2.3.1).
    let crc = buffer[..length]
        .last_chunk::<8>()
        .and_then(|end| end.first_chunk::<4>());
    let crc = crc.ok_or_else(|| io::Error::other("a gzip member without an end"))?;
    let sum = Sum {
        crc: u32::from_le_bytes(*crc),
        length: block.len() as u64,
    };
    Ok(Member { buffer, length, sum })
}

fn write_out(
    out: &mut (dyn Write + Send),
    in_order: &Receiver<Receiver<io::Result<Member>>>,
    buffers: &Buffers,
) -> io::Result<Sum> {
    let mut whole = Sum::default();
    while let Ok(result) = in_order.recv() {
        match result.recv() {
            Ok(member) => {
                let member = member?;
                out.write_all(&member.buffer[..member.length])?;
                whole = whole.then(member.sum);
                put(&buffers.members, member.buffer);
            }
            Err(_) => return Err(io::Error::other("a compressing thread ended")),
        }
    }
    Ok(whole)
}

/// Cuts what is written into blocks.
struct Splitter<'a> {
    jobs: SyncSender<Job>,
    results: SyncSender<Receiver<io::Result<Member>>>,
    block: Vec<u8>,
    buffers: &'a Buffers,
    written: bool,
}

impl Splitter<'_> {
    fn hand_over(&mut self) -> io::Result<()> {
        let mut next = take(&self.buffers.blocks);
        next.clear();
        next.reserve(BLOCK);
        let block = std::mem::replace(&mut self.block, next);
        let (result, waiting) = channel();
        let ended = || io::Error::other("the other side ended");
        self.results.send(waiting).map_err(|_| ended())?;
        self.jobs.send(Job { block, result }).map_err(|_| ended())?;
        self.written = true;
        Ok(())
    }

    /// The last block. Of nothing, there is one member with nothing in it.
    fn end(mut self) -> Result<()> {
        if self.written && self.block.is_empty() {
            return Ok(());
        }
        self.hand_over().context("compress")
    }
}

impl Write for Splitter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.len() == BLOCK {
            self.hand_over()?;
        }
        let n = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::MultiGzDecoder;
    use std::io::Read;

    fn text(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let word = format!("word{} ", state >> 22);
            bytes.extend_from_slice(word.as_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    fn packed(input: &[u8], threads: usize) -> Vec<u8> {
        let mut out = Vec::new();
        compress(&mut out, 5, threads, |to| {
            input.chunks(100_001).try_for_each(|piece| to.write_all(piece))?;
            Ok(())
        })
        .unwrap();
        out
    }

    #[test]
    fn the_same_with_any_number_of_threads() {
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 77] {
            let input = text(length);
            let one = packed(&input, 1);
            assert!(one == packed(&input, 3), "{length}");
            let mut back = Vec::new();
            MultiGzDecoder::new(&one[..]).read_to_end(&mut back).unwrap();
            assert!(back == input, "{length}");
        }
        let random: Vec<u8> = (0..3 * BLOCK)
            .map(|n| u8::try_from((n * n / 7) % 251).unwrap())
            .collect();
        let mut back = Vec::new();
        MultiGzDecoder::new(&packed(&random, 2)[..])
            .read_to_end(&mut back)
            .unwrap();
        assert!(back == random);
    }

    #[test]
    fn members_cost_little() {
        let input = text(8 * BLOCK);
        let mut deflate = Compressor::new(CompressionLvl::new(5).unwrap());
        let whole = member(&mut deflate, &input, Vec::new()).unwrap();
        let (ours, whole) = (packed(&input, 2).len(), whole.length);
        assert!(ours < whole + whole / 50, "{ours} {whole}");
    }

    #[test]
    fn what_is_dense_is_stored_and_nothing_else() {
        let mut state = 7_u64;
        let mut noise = || -> Vec<u8> {
            let next = |_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()
            };
            (0..BLOCK / 8).flat_map(next).collect()
        };
        let dense = noise();
        assert!(packed(&dense, 1).len() > BLOCK);
        let mut half = noise();
        half[BLOCK / 2..].fill(b'x');
        let length = packed(&half, 1).len();
        assert!((BLOCK / 2..BLOCK * 51 / 100).contains(&length), "{length}");
    }

    #[test]
    fn errors_of_either_end_are_told() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let input = text(20 * BLOCK);
        let e = compress(&mut Full, 5, 2, |to| Ok(to.write_all(&input)?)).unwrap_err();
        assert!(e.to_string().contains("no storage space"), "{e}");
        let e = compress::<()>(&mut Vec::new(), 5, 2, |_| Err(Error::other("why"))).unwrap_err();
        assert_eq!(e.to_string(), "why");
    }
}
