//! A blob in the making: one thread writes it, another sends what is there already. It goes through the file that will be
//! kept, and not from hand to hand, so that a slow network never holds up the compressing, however large the layer is.

use crate::model::digest::Digest;
use crate::sys::writeback::begin_write_back;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// So much is written to the disk while the next is compressed, that little is left to wait for at the end.
const AT_ONCE: u64 = 8 << 20;

pub(super) struct Growing {
    file: File,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    written: u64,
    end: Option<End>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Whole { digest: Digest, size: u64 },
    Abandoned,
}

impl Growing {
    /// `file` is empty.
    pub(super) fn new(file: File) -> Growing {
        Growing {
            file,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Waits for its end.
    pub(super) fn end(&self) -> End {
        self.wait(|state| state.end)
    }

    /// Waits until `bytes` are there, or the end is; whether it is the end.
    pub(super) fn ends_within(&self, bytes: u64) -> bool {
        self.wait(|state| match state.end {
            Some(_) => Some(true),
            None => (state.written >= bytes).then_some(false),
        })
    }

    fn wait<T>(&self, mut done: impl FnMut(&State) -> Option<T>) -> T {
        let mut state = self.state();
        loop {
            if let Some(found) = done(&state) {
                return found;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writing end. Dropped before [`Writer::finish`], the blob is abandoned.
pub(super) struct Writer<'a> {
    to: &'a Growing,
    hasher: Sha256,
    size: u64,
    /// Up to here the disk has been told to write.
    begun: u64,
    finished: bool,
}

impl<'a> Writer<'a> {
    pub(super) fn new(to: &'a Growing) -> Writer<'a> {
        Writer {
            to,
            hasher: Sha256::new(),
            size: 0,
            begun: 0,
            finished: false,
        }
    }

    /// All of it is there.
    pub(super) fn finish(mut self) -> (Digest, u64) {
        let digest = Digest::from_hasher(std::mem::take(&mut self.hasher));
        let size = self.size;
        self.finished = true;
        self.to.change(|state| state.end = Some(End::Whole { digest, size }));
        (digest, size)
    }
}

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = &self.to.file;
        let n = file.write(bytes)?;
        self.size += n as u64;
        let size = self.size;
        self.to.change(|state| state.written = size);
        // Who sends it has it by now.
        self.hasher.update(&bytes[..n]);
        if self.size - self.begun >= AT_ONCE {
            // A filesystem that can't is as good, and slower.
            let _ = begin_write_back(self.to.file.as_fd());
            self.begun = self.size;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.to.change(|state| state.end = Some(End::Abandoned));
        }
    }
}

/// Reads from the start, and waits for what is not there yet.
pub(super) struct Follower {
    from: Arc<Growing>,
    at: u64,
}

impl Follower {
    pub(super) fn new(from: Arc<Growing>) -> Follower {
        Follower { from, at: 0 }
    }
}

impl Read for Follower {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let there = self.from.wait(|state| match state.end {
            _ if state.written > self.at => Some(Ok(state.written - self.at)),
            Some(End::Whole { .. }) => Some(Ok(0)),
            Some(End::Abandoned) => Some(Err(io::Error::other("the layer could not be compressed"))),
            None => None,
        })?;
        let most = usize::try_from(there).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.from.file.read_at(&mut buffer[..most], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, memfd_create};

    fn growing() -> Arc<Growing> {
        let file = memfd_create("growing", MemfdFlags::CLOEXEC).unwrap();
        Arc::new(Growing::new(file.into()))
    }

    #[test]
    fn who_follows_gets_all_of_it() {
        let blob = growing();
        let follow = |blob: &Arc<Growing>| {
            let mut follower = Follower::new(blob.clone());
            std::thread::spawn(move || {
                let mut all = Vec::new();
                follower.read_to_end(&mut all).map(|_| all)
            })
        };
        let early = follow(&blob);
        let bytes: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut writer = Writer::new(&blob);
        for piece in bytes.chunks(77_777) {
            writer.write_all(piece).unwrap();
        }
        assert!(!blob.ends_within(4_000_000));
        let told = writer.finish();
        assert_eq!(told, (Digest::of(&bytes), 4_000_000));
        let (digest, size) = told;
        assert_eq!(blob.end(), End::Whole { digest, size });
        assert!(blob.ends_within(4_000_001));
        assert!(early.join().unwrap().unwrap() == bytes);
        assert!(follow(&blob).join().unwrap().unwrap() == bytes);
    }

    #[test]
    fn what_is_abandoned_has_no_end() {
        let blob = growing();
        let mut writer = Writer::new(&blob);
        writer.write_all(b"some").unwrap();
        drop(writer);
        assert_eq!(blob.end(), End::Abandoned);
        let mut all = Vec::new();
        let e = Follower::new(blob).read_to_end(&mut all).unwrap_err();
        assert_eq!(
            (all.as_slice(), e.to_string().as_str()),
            (&b"some"[..], "the layer could not be compressed")
        );
    }
}
