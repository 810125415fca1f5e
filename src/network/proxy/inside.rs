//! Sockets towards the container: of the host, or made inside another network namespace by a thread that goes there. A
//! socket stays where it was made, so a few are made at once and kept.

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Made by one visit.
const AT_ONCE: usize = 16;

pub(super) struct Sockets {
    inside: Option<OwnedFd>,
    kept: Vec<(SocketType, OwnedFd)>,
}

impl Sockets {
    pub(super) fn new(inside: Option<OwnedFd>) -> Sockets {
        Sockets {
            inside,
            kept: Vec::new(),
        }
    }

    pub(super) fn stream(&mut self, to: SocketAddr) -> Result<OwnedFd, Errno> {
        self.socket(SocketType::STREAM, to)
    }

    pub(super) fn datagram(&mut self, to: SocketAddr) -> Result<OwnedFd, Errno> {
        self.socket(SocketType::DGRAM, to)
    }

    fn socket(&mut self, kind: SocketType, to: SocketAddr) -> Result<OwnedFd, Errno> {
        let Some(inside) = &self.inside else {
            return make(kind, to);
        };
        if !self.kept.iter().any(|(k, _)| *k == kind) {
            let made = visit(inside.as_fd(), kind, to)?;
            self.kept.extend(made.into_iter().map(|fd| (kind, fd)));
        }
        let at = self.kept.iter().position(|(k, _)| *k == kind).ok_or(Errno::NOBUFS)?;
        Ok(self.kept.swap_remove(at).1)
    }
}

fn make(kind: SocketType, to: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if to.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

fn visit(inside: BorrowedFd<'_>, kind: SocketType, to: SocketAddr) -> Result<Vec<OwnedFd>, Errno> {
    let there = || {
        nix::sched::setns(inside, nix::sched::CloneFlags::CLONE_NEWNET)
            .map_err(|e| Errno::from_raw_os_error(e as i32))?;
        (0..AT_ONCE).map(|_| make(kind, to)).collect()
    };
    std::thread::scope(|scope| scope.spawn(there).join().unwrap_or(Err(Errno::IO)))
}
