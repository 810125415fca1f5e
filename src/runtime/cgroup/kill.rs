//! The end of a container's groups: whoever is in them is killed, then the directories go. The same for a normal
//! release, where nobody is left, and for what a killed monitor left behind.

use crate::error::{Error, Result};
use crate::runtime::cgroup::{file, freeze, host, tree, trust};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};
use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// After SIGKILL a process ends at once, unless it waits in the kernel for a device or a dead file server.
const PATIENCE: Duration = Duration::from_secs(10);

/// Kills every process in these groups and removes them; groups that are gone are fine. Returns when both is done.
pub(crate) fn kill_and_remove(paths: &[PathBuf]) -> Result<()> {
    trust(paths)?;
    let deadline = Instant::now() + PATIENCE;
    let mut left = paths.to_vec();
    let mut failed = None;
    for attempt in 0.. {
        left.retain(|path| match tree::remove(path) {
            Ok(()) => false,
            Err(Errno::BUSY | Errno::NOTEMPTY) => true,
            Err(e) => {
                failed = Some((path.clone(), e));
                false
            }
        });
        if left.is_empty() {
            break;
        }
        if Instant::now() >= deadline {
            return Err(lingering(&left));
        }
        kill(&left, deadline)?;
        settle(&left, attempt, deadline);
    }
    for base in paths.iter().filter_map(|p| host::parent_of_ours(p)) {
        // Stays while it has other containers' groups.
        let _ = rustix::fs::rmdir(base);
    }
    match failed {
        None => Ok(()),
        Some((path, e)) => Err(Error::other(format!(
            "remove control group {}: {}",
            path.display(),
            Error::from(e)
        ))),
    }
}

pub(super) fn kill(paths: &[PathBuf], deadline: Instant) -> Result<()> {
    // cgroup.kill (Linux 5.14) leaves out nobody, however fast they fork.
    let mut by_kernel = false;
    for path in paths {
        by_kernel |= file::write(CWD, path.join("cgroup.kill"), b"1").is_ok();
    }
    loop {
        let frozen = !by_kernel && freeze::freeze_until(paths, Instant::now() + Duration::from_secs(1)).is_ok();
        let victims = victims(paths);
        for victim in &victims {
            // One that has ended meanwhile is what we want.
            let _ = rustix::process::pidfd_send_signal(victim, Signal::KILL);
        }
        if frozen || !victims.is_empty() {
            thaw_all(paths);
        }
        if victims.is_empty() {
            return Ok(());
        }
        if !wait(&victims, deadline) || Instant::now() >= deadline {
            return Err(lingering(paths));
        }
    }
}

/// A descriptor for each process in the groups. It was opened before the process was seen there a second time, so a
/// stranger that got a dead member's pid in between is not among them.
fn victims(paths: &[PathBuf]) -> Vec<OwnedFd> {
    let open = |pid: i32| {
        Some((
            pid,
            rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?,
        ))
    };
    let opened: Vec<(i32, OwnedFd)> = tree::members(paths).into_iter().filter_map(open).collect();
    if opened.is_empty() {
        return Vec::new();
    }
    let still: HashSet<i32> = tree::members(paths).into_iter().collect();
    opened
        .into_iter()
        .filter(|(pid, _)| still.contains(pid))
        .map(|(_, fd)| fd)
        .collect()
}

/// Groups below may have been frozen one by one, by the container itself.
fn thaw_all(paths: &[PathBuf]) {
    for path in paths {
        tree::walk(path, &mut |dir| {
            let _ = file::write(dir, "cgroup.freeze", b"0");
            let _ = file::write(dir, "freezer.state", b"THAWED");
        });
    }
}

/// Waits for the end of all of them; false at the deadline.
fn wait(victims: &[OwnedFd], deadline: Instant) -> bool {
    for victim in victims {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::from_borrowed_fd(victim.as_fd(), PollFlags::IN)];
            match rustix::event::poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
                Ok(0) if left.is_zero() => return false,
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) | Err(_) => break,
            }
        }
    }
    true
}

/// Ended processes leave their groups a moment after their end is seen. v2 tells when, v1 does not.
fn settle(paths: &[PathBuf], attempt: u32, deadline: Instant) {
    let soon = deadline.min(Instant::now() + Duration::from_millis(50));
    let told = paths.iter().any(|path| freeze::wait_event(path, "populated", 0, soon));
    if !told || attempt > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn lingering(paths: &[PathBuf]) -> Error {
    let pids: Vec<String> = tree::members(paths).iter().map(i32::to_string).collect();
    let names: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
    if pids.is_empty() {
        return Error::other(format!(
            "remove control group {}: device or resource busy",
            names.join(", ")
        ));
    }
    Error::other(format!(
        "processes {} in {} don't end",
        pids.join(", "),
        names.join(", ")
    ))
    .with_hint("They wait in the kernel, for a device or a file server; try again when it answers.")
}
