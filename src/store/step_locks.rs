//! `cache/steps.lock`: that of two builds with the same step one makes it, and the other waits and finds it in the cache.
//! One byte of the file is locked for each step (fcntl(2), open file description locks), so that no file has to be made
//! or removed for it; the file has no bytes. Who dies gives his locks back. Two keys may fall on one byte: then a step is
//! waited for that is of no use, and nothing else comes of it.
//!
//! A build that waits goes on with what it has locked itself, so no two wait for each other for ever.

use super::{StepKey, Store, lock};
use crate::error::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

/// The width that flock has them in.
#[allow(clippy::cast_possible_truncation)] // 1 and 0
const WRITE: libc::c_short = libc::F_WRLCK as libc::c_short;
#[allow(clippy::cast_possible_truncation)]
const FROM_START: libc::c_short = libc::SEEK_SET as libc::c_short;

/// The right to make a step, or, before [`StepLock::wait`] has returned, the wish for it.
#[derive(Debug)]
pub(crate) struct StepLock {
    file: File,
    key: StepKey,
}

impl StepLock {
    pub(crate) fn is_of(&self, key: &StepKey) -> bool {
        self.key == *key
    }

    /// The description that is locked: whoever has a copy waits, and locks, for all.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Returns when it is this one's.
    pub(crate) fn wait(&self) -> Result<()> {
        loop {
            match fcntl(&self.file, FcntlArg::F_OFD_SETLKW(&self.range())) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e).context("wait for another build"),
            }
        }
    }

    fn range(&self) -> libc::flock {
        let digest = self.key.whole.hex();
        // 60 bits: an offset is signed.
        let at = i64::from_str_radix(&digest[..15], 16).unwrap_or_default();
        libc::flock {
            l_type: WRITE,
            l_whence: FROM_START,
            l_start: at,
            l_len: 1,
            l_pid: 0,
        }
    }
}

impl Store {
    /// The lock of a step, and whether it is the caller's at once.
    pub(crate) fn step_lock(&self, key: &StepKey) -> Result<(StepLock, bool)> {
        let dir = self.root().join("cache");
        let path = dir.join("steps.lock");
        let opened = lock::open_lock_file(&path).or_else(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                use std::os::unix::fs::DirBuilderExt as _;
                std::fs::DirBuilder::new().recursive(true).mode(0o710).create(&dir)?;
                lock::open_lock_file(&path)
            }
            _ => Err(e),
        });
        let lock = StepLock {
            file: opened.with_context(|| format!("open {}", path.display()))?,
            key: *key,
        };
        match fcntl(&lock.file, FcntlArg::F_OFD_SETLK(&lock.range())) {
            Ok(_) => Ok((lock, true)),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok((lock, false)),
            Err(e) => Err(e).with_context(|| format!("lock {}", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::digest::Digest;
    use crate::store::testing::Scratch;

    #[test]
    fn one_at_a_time_for_each_step() {
        let s = Scratch::new();
        let key = |text: &[u8]| StepKey::new(None, Digest::of(text), Digest::of(text));
        let (one, got) = s.step_lock(&key(b"1")).unwrap();
        assert!(got && one.is_of(&key(b"1")));
        assert!(s.step_lock(&key(b"2")).unwrap().1, "another step");
        let (second, got) = s.step_lock(&key(b"1")).unwrap();
        assert!(!got);
        drop(one);
        second.wait().unwrap();
        assert!(!s.step_lock(&key(b"1")).unwrap().1);
        drop(second);
        assert!(s.step_lock(&key(b"1")).unwrap().1);
    }
}
