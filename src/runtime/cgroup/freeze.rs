//! Stopping all processes of a container where they stand, so that none forks away while they are killed.
//!
//! v2's freezer is part of every group (Linux 5.2) and lets a frozen process be killed; v1's is a controller of its own
//! under which even SIGKILL waits for the thaw. Where there are both, v2's is used.

use crate::error::{Context, Error, Result};
use crate::runtime::cgroup::file;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::CWD;
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long processes may take to stand still: those that wait for a disk do so when it answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// Stops all processes of the container where they stand.
pub(crate) fn freeze(paths: &[PathBuf]) -> Result<()> {
    super::trust(paths)?;
    freeze_until(paths, Instant::now() + PATIENCE)
}

/// Lets them go on. What the container itself has frozen below stays so.
pub(crate) fn thaw(paths: &[PathBuf]) -> Result<()> {
    super::trust(paths)?;
    for path in paths {
        for (name, value) in [("cgroup.freeze", &b"0"[..]), ("freezer.state", b"THAWED")] {
            match file::write(CWD, path.join(name), value) {
                // Of a group that goes between open and write, the kernel says that there is no such device.
                Ok(()) | Err(Errno::NOENT | Errno::NODEV) => {}
                Err(e) => return Err(e).with_context(|| format!("thaw {}", path.display())),
            }
        }
    }
    Ok(())
}

/// Whether the container stands still, or is about to.
pub(crate) fn is_frozen(paths: &[PathBuf]) -> bool {
    for path in paths {
        if let Ok(text) = file::read_record(&path.join("cgroup.freeze")) {
            return text.trim_ascii() == b"1";
        }
    }
    let state = |path: &PathBuf| file::read_record(&path.join("freezer.state")).ok();
    paths
        .iter()
        .find_map(state)
        .is_some_and(|text| text.trim_ascii() != b"THAWED")
}

/// Which of the kernel's files says whether the container stands still, and how.
pub(crate) fn says(paths: &[PathBuf], frozen: bool) -> Option<(PathBuf, &'static str)> {
    let (v2, v1) = match frozen {
        true => ("1", "FROZEN"),
        false => ("0", "THAWED"),
    };
    let file = |name: &str| paths.iter().map(|path| path.join(name)).find(|file| file.exists());
    let of_v2 = file("cgroup.freeze").map(|file| (file, v2));
    of_v2.or_else(|| file("freezer.state").map(|file| (file, v1)))
}

/// Whether they go on by the deadline. What is gone has nothing to go on with.
pub(crate) fn wait_thawed(paths: &[PathBuf], deadline: Instant) -> bool {
    paths.iter().filter(|path| path.exists()).all(|path| {
        if path.join("cgroup.freeze").exists() {
            return wait_event(path, "frozen", 0, deadline);
        }
        let state = path.join("freezer.state");
        while file::read(CWD, &state).is_ok_and(|s| s.trim_ascii() != b"THAWED") {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    })
}

/// Returns when all processes of the container stand still, or at the deadline with an error.
pub(super) fn freeze_until(paths: &[PathBuf], deadline: Instant) -> Result<()> {
    for path in paths {
        match file::write(CWD, path.join("cgroup.freeze"), b"1") {
            Ok(()) => return wait_v2(path, deadline),
            Err(Errno::NOENT) => {}
            Err(e) => return Err(e).with_context(|| format!("freeze {}", path.display())),
        }
    }
    for path in paths {
        match freeze_v1(path, deadline) {
            Err(Errno::NOENT) => {}
            Err(Errno::TIMEDOUT) => {
                // Half a freeze would leave the container hanging.
                let _ = file::write(CWD, path.join("freezer.state"), b"THAWED");
                return Err(Error::other("freeze: processes that wait in the kernel don't stop"));
            }
            result => return result.with_context(|| format!("freeze {}", path.display())),
        }
    }
    Err(Error::other("freeze: no freezer is mounted"))
}

/// v1 says FREEZING while processes are still on their way, and tells nobody when they have arrived.
fn freeze_v1(path: &Path, deadline: Instant) -> Result<(), Errno> {
    let state = path.join("freezer.state");
    loop {
        // Written again each time: that also catches what was born in between.
        file::write(CWD, &state, b"FROZEN")?;
        if file::read(CWD, &state)?.trim_ascii() == b"FROZEN" {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Errno::TIMEDOUT);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn wait_v2(path: &Path, deadline: Instant) -> Result<()> {
    if wait_event(path, "frozen", 1, deadline) {
        return Ok(());
    }
    let _ = file::write(CWD, path.join("cgroup.freeze"), b"0");
    Err(Error::other("freeze: processes that wait in the kernel don't stop"))
}

/// Waits until `key` of a v2 group's cgroup.events is `value`; false at the deadline.
pub(super) fn wait_event(path: &Path, key: &str, value: u64, deadline: Instant) -> bool {
    loop {
        // The descriptor is opened before the reading: a change after that wakes the poll.
        let Ok(events) = std::fs::File::open(path.join("cgroup.events")) else {
            return false;
        };
        let mut text = Vec::new();
        if std::io::Read::read_to_end(&mut &events, &mut text).is_err() {
            return false;
        }
        if file::value_of(&text, key) == Some(value) {
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        poll_priority(events.as_fd(), left);
    }
}

fn poll_priority(fd: BorrowedFd<'_>, timeout: Duration) {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::PRI)];
    // An early return, by a signal or an error, only means one more look.
    let _ = rustix::event::poll(&mut fds, Timespec::try_from(timeout).ok().as_ref());
}
