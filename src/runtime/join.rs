//! The way into a running container: `exec`'s program joins the namespaces of init and enters its groups.
//!
//! Two clones: the first child moves itself (into the v1 groups, and the namespaces, of which a pid namespace counts
//! only for children); the second is born inside, in the v2 group, as a sibling (`CLONE_PARENT`), so that the caller can
//! wait for it. The cgroup namespace comes last: from inside it the caller's own group could not be seen, and the kernel
//! would refuse the move out of it (`nsdelegate`, cgroups(7)).

use crate::error::{Context as _, Error, Result};
use crate::runtime::apply::{self, Lifelines};
use crate::runtime::prepare::Prepared;
use crate::runtime::spawn::{self, Starting};
use crate::runtime::step::Step;
use crate::sys::{self, clone::Fork};
use nix::sched::CloneFlags;
use rustix::pipe::PipeFlags;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Starts `steps` in the namespaces of the process behind `init`.
pub(crate) fn join(init: BorrowedFd<'_>, steps: &[Step], prepared: Prepared) -> Result<Starting> {
    let (errors, child_errors) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let (pids, child_pids) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let (child_alive, alive) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    match sys::clone::clone3(0, None).context("clone the joining process")? {
        Fork::Parent { pidfd, .. } => {
            drop((child_errors, child_pids, child_alive, prepared));
            let mut pid = Vec::new();
            std::fs::File::from(pids).read_to_end(&mut pid)?;
            sys::process::reap(pidfd.as_fd())?;
            let pid: Option<[u8; 4]> = pid.try_into().ok();
            let Some(pid) = pid.map(i32::from_ne_bytes) else {
                let mut error = Vec::new();
                std::fs::File::from(errors).read_to_end(&mut error)?;
                if error.is_empty() {
                    return Err(Error::conflict("the container has just ended"));
                }
                return Err(spawn::decode(&error));
            };
            // It is our child and nobody has reaped it, so the pid is still its.
            let pidfd = sys::process::pidfd_open(pid)?.ok_or_else(|| Error::other("the joining process is gone"))?;
            Ok(Starting::new(pid, pidfd, errors, alive))
        }
        Fork::Child => {
            drop((errors, alive, pids));
            let _ = nix::sys::prctl::set_dumpable(false);
            let error = match enter(init, &prepared, child_pids) {
                Err(e) => e,
                Ok(()) => apply::apply(
                    steps,
                    &prepared,
                    Lifelines {
                        alive: child_alive.as_fd(),
                        errors: child_errors.as_fd(),
                    },
                ),
            };
            let _ = std::fs::File::from(child_errors).write_all(&spawn::encode(&error));
            sys::process::exit_now(i32::from(spawn::exit_code(&error)));
        }
    }
}

/// Returns in the second child only.
fn enter(init: BorrowedFd<'_>, prepared: &Prepared, pids: OwnedFd) -> Result<()> {
    sys::process::reset_signals()?;
    apply::enter_cgroups(&prepared.tasks)?;
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNET;
    nix::sched::setns(init, namespaces).context("join the container's namespaces")?;
    let cgroup = prepared.cgroup.as_ref().map(AsFd::as_fd);
    match sys::clone::clone3(libc::CLONE_PARENT, cgroup).context("clone into the container")? {
        Fork::Parent { pid, .. } => {
            let _ = std::fs::File::from(pids).write_all(&pid.to_ne_bytes());
            sys::process::exit_now(0);
        }
        Fork::Child => {
            drop(pids);
            nix::sched::setns(init, CloneFlags::CLONE_NEWCGROUP).context("join the container's cgroup namespace")
        }
    }
}
