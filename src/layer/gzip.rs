//! gzip on all cores: blocks of a fixed size are deflated at once, each with the end of the one before as its
//! dictionary, and make one member. What comes out depends on the input and the level alone, not on how many threads
//! there were, so that a layer has the same digest on every machine.

use crate::error::{Context, Error, Result};
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Large enough that the few bytes at its end don't count, small enough for the cache.
const BLOCK: usize = 256 * 1024;
/// As far as deflate can look back.
const WINDOW: usize = 32 * 1024;
/// No time, no name, no system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// A block to be deflated, and where the result goes.
struct Job {
    block: Arc<Vec<u8>>,
    before: Option<Arc<Vec<u8>>>,
    last: bool,
    result: Sender<io::Result<Vec<u8>>>,
}

/// Gives `write` something to write to, whose gzip form goes to `out`.
pub(crate) fn compress<T>(
    out: &mut (dyn Write + Send),
    level: u32,
    threads: usize,
    write: impl FnOnce(&mut (dyn Write + Send)) -> Result<T>,
) -> Result<T> {
    let (jobs, waiting) = sync_channel::<Job>(threads);
    let waiting = Mutex::new(waiting);
    let (results, in_order) = sync_channel(2 * threads);
    std::thread::scope(|scope| {
        for n in 0..threads {
            let waiting = &waiting;
            std::thread::Builder::new()
                .name(format!("gzip {n}"))
                .spawn_scoped(scope, move || work(waiting, level))
                .context("start a thread")?;
        }
        let writing = std::thread::Builder::new()
            .name("gzip out".to_owned())
            .spawn_scoped(scope, move || write_out(out, &in_order))
            .context("start a thread")?;
        let mut splitter = Splitter {
            jobs,
            results,
            block: Vec::with_capacity(BLOCK),
            before: None,
            crc: Crc::new(),
        };
        let done = write(&mut splitter);
        let ended = done.and_then(|done| splitter.end().map(|trailer| (done, trailer)));
        let written = writing
            .join()
            .map_err(|_| Error::other("the writing thread panicked"))?;
        // Where nothing could be written, that is why the rest failed.
        let out = written.context("write archive")?;
        let (done, trailer) = ended?;
        out.write_all(&trailer).context("write archive")?;
        Ok(done)
    })
}

fn work(waiting: &Mutex<Receiver<Job>>, level: u32) {
    let mut deflate = Compress::new(Compression::new(level), false);
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        // Nobody waits for it any more after an error.
        let _ = job.result.send(deflated(&mut deflate, &job));
    }
}

fn deflated(deflate: &mut Compress, job: &Job) -> io::Result<Vec<u8>> {
    deflate.reset();
    if let Some(before) = &job.before {
        let from = before.len().saturating_sub(WINDOW);
        deflate.set_dictionary(&before[from..]).map_err(io::Error::other)?;
    }
    let flush = if job.last {
        FlushCompress::Finish
    } else {
        FlushCompress::Sync
    };
    let mut out = Vec::with_capacity(job.block.len() / 2 + 1024);
    let mut at = 0;
    loop {
        let before = deflate.total_in();
        let status = deflate
            .compress_vec(&job.block[at..], &mut out, flush)
            .map_err(io::Error::other)?;
        at += usize::try_from(deflate.total_in() - before).unwrap_or_default();
        // A flush is complete when it leaves room.
        let complete = match job.last {
            true => status == Status::StreamEnd,
            false => at == job.block.len() && out.len() < out.capacity(),
        };
        if complete {
            return Ok(out);
        }
        out.reserve(BLOCK / 4);
    }
}

fn write_out<'o>(
    out: &'o mut (dyn Write + Send),
    in_order: &Receiver<Receiver<io::Result<Vec<u8>>>>,
) -> io::Result<&'o mut (dyn Write + Send)> {
    out.write_all(&HEADER)?;
    while let Ok(result) = in_order.recv() {
        match result.recv() {
            Ok(block) => out.write_all(&block?)?,
            Err(_) => return Err(io::Error::other("a compressing thread ended")),
        }
    }
    Ok(out)
}

/// Cuts what is written into blocks.
struct Splitter {
    jobs: SyncSender<Job>,
    results: SyncSender<Receiver<io::Result<Vec<u8>>>>,
    block: Vec<u8>,
    before: Option<Arc<Vec<u8>>>,
    crc: Crc,
}

impl Splitter {
    fn hand_over(&mut self, last: bool) -> io::Result<()> {
        let block = Arc::new(std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK)));
        let (result, waiting) = channel();
        let ended = || io::Error::other("the other side ended");
        self.results.send(waiting).map_err(|_| ended())?;
        let job = Job {
            block: block.clone(),
            before: self.before.replace(block),
            last,
            result,
        };
        self.jobs.send(job).map_err(|_| ended())
    }

    /// The last block; the member's trailer.
    fn end(mut self) -> Result<[u8; 8]> {
        self.hand_over(true).context("compress")?;
        let mut trailer = [0; 8];
        trailer[..4].copy_from_slice(&self.crc.sum().to_le_bytes());
        trailer[4..].copy_from_slice(&self.crc.amount().to_le_bytes());
        Ok(trailer)
    }
}

impl Write for Splitter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.len() == BLOCK {
            self.hand_over(false)?;
        }
        let n = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..n]);
        self.crc.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
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
    fn one_member_the_same_with_any_number_of_threads() {
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 77] {
            let input = text(length);
            let one = packed(&input, 1);
            assert!(one == packed(&input, 3), "{length}");
            let mut back = Vec::new();
            GzDecoder::new(&one[..]).read_to_end(&mut back).unwrap();
            assert!(back == input, "{length}");
        }
        let random: Vec<u8> = (0..3 * BLOCK)
            .map(|n| u8::try_from((n * n / 7) % 251).unwrap())
            .collect();
        let mut back = Vec::new();
        GzDecoder::new(&packed(&random, 2)[..]).read_to_end(&mut back).unwrap();
        assert!(back == random);
    }

    #[test]
    fn blocks_know_what_was_before() {
        let input = text(8 * BLOCK);
        let mut whole = flate2::write::GzEncoder::new(Vec::new(), Compression::new(5));
        whole.write_all(&input).unwrap();
        let (ours, theirs) = (packed(&input, 2).len(), whole.finish().unwrap().len());
        assert!(ours < theirs + theirs / 50, "{ours} {theirs}");
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
