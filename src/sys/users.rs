//! A user namespace as a descriptor: what an idmapped mount is made with, and what a container's processes enter
//! (user_namespaces(7), mount_setattr(2)).

use super::clone::{Fork, clone3};
use nix::sched::CloneFlags;
use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// Makes one with these maps, in the form of /proc/PID/uid_map. The process must have one thread.
pub(crate) fn create(users: &str, groups: &str) -> io::Result<OwnedFd> {
    let (wait, release) = io::pipe()?;
    match clone3(libc::CLONE_NEWUSER, None)? {
        Fork::Child => {
            // The namespace lives by whoever is in it, until it is open.
            drop(release);
            let _ = (&wait).read(&mut [0]);
            super::process::exit_now(0)
        }
        Fork::Parent { pid, pidfd } => {
            drop(wait);
            let write = |name: &str, text: &str| {
                let file = OpenOptions::new().write(true).open(format!("/proc/{pid}/{name}"));
                file?.write_all(text.as_bytes())
            };
            let made = write("uid_map", users)
                .and_then(|()| write("gid_map", groups))
                .and_then(|()| std::fs::File::open(format!("/proc/{pid}/ns/user")));
            drop(release);
            super::process::reap(pidfd.as_fd())?;
            Ok(made?.into())
        }
    }
}

/// Makes namespaces that belong to the user namespace `users`: who has rights there has them over these too
/// (user_namespaces(7)). Each by /proc's name of it and its flag. The process must have one thread.
pub(crate) fn namespaces(users: BorrowedFd<'_>, kinds: &[(&str, CloneFlags)]) -> io::Result<Vec<OwnedFd>> {
    let (wait, release) = io::pipe()?;
    let (made, told) = io::pipe()?;
    let all = kinds.iter().fold(CloneFlags::empty(), |all, (_, flag)| all | *flag);
    match clone3(0, None)? {
        Fork::Child => {
            drop((release, made));
            let done = nix::sched::setns(users, CloneFlags::CLONE_NEWUSER).and_then(|()| nix::sched::unshare(all));
            let errno = done.err().map_or(0, |e| e as i32);
            let _ = (&told).write_all(&errno.to_ne_bytes());
            let _ = (&wait).read(&mut [0]);
            super::process::exit_now(0)
        }
        Fork::Parent { pid, pidfd } => {
            drop((wait, told));
            let mut errno = [0; 4];
            let open = |(name, _): &(&str, CloneFlags)| std::fs::File::open(format!("/proc/{pid}/ns/{name}"));
            let opened = (&made)
                .read_exact(&mut errno)
                .and_then(|()| match i32::from_ne_bytes(errno) {
                    0 => kinds.iter().map(|kind| Ok(open(kind)?.into())).collect(),
                    errno => Err(io::Error::from_raw_os_error(errno)),
                });
            drop(release);
            super::process::reap(pidfd.as_fd())?;
            opened
        }
    }
}

/// From here on this thread makes files as `user` and `group`, and may do what it could: who makes something through an
/// idmapped mount must be one of those that it maps.
pub(crate) fn act_as(user: u32, group: u32) -> io::Result<()> {
    let effective = caps::read(None, caps::CapSet::Effective).map_err(io::Error::other)?;
    nix::unistd::setfsgid(nix::unistd::Gid::from_raw(group));
    nix::unistd::setfsuid(nix::unistd::Uid::from_raw(user));
    // setfsuid(2) has taken those about files (capabilities(7)).
    caps::set(None, caps::CapSet::Effective, &effective).map_err(io::Error::other)
}
