//! Pipes that bulk data goes through without being copied to this program (splice(2)). They are few, whoever is busy
//! has one; without one, data is copied.

use std::os::fd::OwnedFd;

const MOST: usize = 32;
/// Bytes in one, if the kernel allows it.
pub(super) const SIZE: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) read: OwnedFd,
    pub(super) write: OwnedFd,
}

#[derive(Debug, Default)]
pub(super) struct Pipes {
    idle: Vec<Pipe>,
    lent: usize,
}

impl Pipes {
    /// `None` if all are in use, or none can be made.
    pub(super) fn lend(&mut self) -> Option<Pipe> {
        if self.lent >= MOST {
            return None;
        }
        let pipe = self.idle.pop().or_else(make)?;
        self.lent += 1;
        Some(pipe)
    }

    /// Takes one back. One that is not empty is of no more use to anyone.
    pub(super) fn give_back(&mut self, pipe: Pipe, empty: bool) {
        self.lent -= 1;
        if empty {
            self.idle.push(pipe);
        }
    }

    pub(super) fn clear(&mut self) {
        self.idle = Vec::new();
    }
}

fn make() -> Option<Pipe> {
    use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
    let _ = fcntl_setpipe_size(&write, SIZE);
    Some(Pipe { read, write })
}
