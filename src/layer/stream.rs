//! An archive's bytes on their way: one thread reads (and decompresses) and hashes them, the other takes them apart.
//!
//! The digest is of the whole stream to its end, also of what stands behind the archive's end mark.

use crate::error::{Context, Error, Result};
use crate::layer::tar_split::Recorder;
use crate::model::digest::Digest;
use sha2::{Digest as _, Sha256};
use std::io::{self, Read};
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Large enough that handing over costs nothing, small enough that four of them stay in the cache.
const CHUNK: usize = 256 * 1024;
pub(super) const BLOCK: usize = 512;
pub(super) type Block = [u8; BLOCK];

/// What comes where a block should.
#[allow(clippy::large_enum_variant)] // taken apart at once
pub(super) enum Next {
    Block(Block),
    End,
    /// The stream's last bytes, fewer than a block.
    Torn,
}

/// Where the bytes of a file's content are found again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The file's path below the root, free of symbolic links.
    pub(super) path: &'a [u8],
    pub(super) offset: u64,
}

/// The taking-apart end.
pub(super) struct Stream<'a> {
    chunks: Receiver<io::Result<Vec<u8>>>,
    spent: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
    pub(super) recorder: Option<Recorder<'a>>,
}

/// Feeds `reader` through `take`, on this thread, while another one reads and hashes. The digest is of everything that
/// `reader` had.
pub(super) fn run<T>(
    reader: impl Read + Send,
    recorder: Option<Recorder<'_>>,
    take: impl FnOnce(&mut Stream<'_>) -> Result<T>,
) -> Result<(T, Digest)> {
    let (chunks_in, chunks) = sync_channel(2);
    let (spent, spent_out) = channel();
    std::thread::scope(|scope| {
        let hashing = std::thread::Builder::new()
            .name("hash".to_owned())
            .spawn_scoped(scope, move || pump(reader, &chunks_in, &spent_out))
            .context("start a thread")?;
        let mut stream = Stream {
            chunks,
            spent,
            chunk: Vec::new(),
            at: 0,
            recorder,
        };
        let taken = take(&mut stream).and_then(|t| stream.finish().map(|()| t));
        drop(stream);
        let digest = hashing
            .join()
            .map_err(|_| Error::other("the reading thread panicked"))?;
        Ok((taken?, digest))
    })
}

/// The reading end: until the end of the input, an error, or the other side's.
fn pump(mut reader: impl Read, chunks: &SyncSender<io::Result<Vec<u8>>>, spent: &Receiver<Vec<u8>>) -> Digest {
    let mut hasher = Sha256::new();
    loop {
        let mut chunk = spent.try_recv().unwrap_or_else(|_| vec![0; CHUNK]);
        let mut filled = 0;
        let mut end = false;
        while filled < CHUNK && !end {
            match reader.read(&mut chunk[filled..]) {
                Ok(0) => end = true,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    let _ = chunks.send(Err(e));
                    return Digest::from_hasher(hasher);
                }
            }
        }
        hasher.update(&chunk[..filled]);
        chunk.truncate(filled);
        if filled > 0 && chunks.send(Ok(chunk)).is_err() || end {
            return Digest::from_hasher(hasher);
        }
    }
}

impl Stream<'_> {
    /// The next bytes in the chunk, at most `most` of them; empty at the end.
    fn some(&mut self, most: u64) -> Result<Range<usize>> {
        if self.at == self.chunk.len() {
            match self.chunks.recv() {
                Ok(Ok(next)) => {
                    let mut old = std::mem::replace(&mut self.chunk, next);
                    if old.capacity() >= CHUNK {
                        old.resize(CHUNK, 0);
                        let _ = self.spent.send(old);
                    }
                    self.at = 0;
                }
                Ok(Err(e)) => return Err(e).context("read archive"),
                Err(_) => return Ok(0..0),
            }
        }
        let start = self.at;
        self.at += usize::try_from(most)
            .unwrap_or(usize::MAX)
            .min(self.chunk.len() - start);
        Ok(start..self.at)
    }

    /// Hands `length` bytes to `sink`, piece by piece. Short only at the end of the stream: returns what is missing.
    fn pass(
        &mut self,
        length: u64,
        place: Option<Place<'_>>,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<u64> {
        let mut left = length;
        while left > 0 {
            let range = self.some(left)?;
            if range.is_empty() {
                break;
            }
            let piece = &self.chunk[range];
            left -= piece.len() as u64;
            sink(piece)?;
            if let Some(recorder) = &mut self.recorder {
                recorder.sum(piece);
                if place.is_none() {
                    recorder.bytes(piece)?;
                }
            }
        }
        if let (Some(recorder), Some(place)) = (&mut self.recorder, place) {
            recorder.content(place.path, place.offset, length - left)?;
        }
        Ok(left)
    }

    pub(super) fn block(&mut self) -> Result<Next> {
        let mut block = [0; BLOCK];
        let mut at = 0;
        self.pass(BLOCK as u64, None, &mut |piece| {
            block[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
            Ok(())
        })?;
        Ok(match at {
            BLOCK => Next::Block(block),
            0 => Next::End,
            _ => Next::Torn,
        })
    }

    /// `length` bytes in memory: the caller has seen that they are few. `None` where the stream ends before.
    pub(super) fn bytes(&mut self, length: u64) -> Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        let missing = self.pass(length, None, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok((missing == 0).then_some(bytes))
    }

    /// Passes over `length` bytes; `false` where the stream ends before.
    pub(super) fn skip(&mut self, length: u64) -> Result<bool> {
        Ok(self.pass(length, None, &mut |_| Ok(()))? == 0)
    }

    /// Content of the file at `place`, to `sink`; `false` where the stream ends before.
    pub(super) fn content(
        &mut self,
        length: u64,
        place: Place<'_>,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<bool> {
        Ok(self.pass(length, Some(place), sink)? == 0)
    }

    /// Passes over everything that is left.
    fn finish(&mut self) -> Result<()> {
        self.skip(u64::MAX)?;
        match self.recorder.take() {
            Some(recorder) => recorder.finish(),
            None => Ok(()),
        }
    }
}
