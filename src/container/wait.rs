//! Waits for a container's end, or for something else to become of it.

use crate::container::connection::Connection;
use crate::container::status::{Seen, look, status};
use crate::error::{Error, Kind, Result};
use crate::model::health::HealthStatus;
use crate::model::id::ContainerId;
use crate::model::state::{Phase, Status};
use crate::monitor::frame::Hello;
use crate::store::Store;
use crate::sys;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::os::fd::{AsFd, BorrowedFd};

/// What can be waited for: docker's words, and podman's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Created,
    Running,
    Paused,
    Healthy,
    Unhealthy,
    /// At once if it does not run.
    NotRunning,
    /// Of a container that does not run, the one after its next start.
    NextExit,
    Removed,
}

impl Condition {
    pub(crate) const NAMES: [(&'static str, Condition); 11] = [
        ("not-running", Condition::NotRunning),
        ("next-exit", Condition::NextExit),
        ("removed", Condition::Removed),
        ("running", Condition::Running),
        ("healthy", Condition::Healthy),
        ("unhealthy", Condition::Unhealthy),
        ("stopped", Condition::NotRunning),
        ("exited", Condition::NotRunning),
        ("paused", Condition::Paused),
        ("created", Condition::Created),
        ("configured", Condition::Created),
    ];
}

/// Returns when one of the conditions holds: the exit code where it is about an end, else `None`.
pub(crate) fn wait_for(store: &Store, id: &ContainerId, conditions: &[Condition]) -> Result<Option<u8>> {
    match conditions {
        [] | [Condition::NotRunning] => return wait(store, id).map(Some),
        [Condition::Removed] => return removed(store, id).map(Some),
        [Condition::NextExit] => {
            return next_exit(store, id).map(Some);
        }
        _ => {}
    }
    if conditions
        .iter()
        .any(|c| matches!(c, Condition::Removed | Condition::NextExit))
    {
        return Err(Error::usage(
            "next-exit and removed can't be waited for together with others",
        ));
    }
    holds(store, id, conditions)
}

fn holds(store: &Store, id: &ContainerId, conditions: &[Condition]) -> Result<Option<u8>> {
    let only_health = conditions
        .iter()
        .all(|c| matches!(c, Condition::Healthy | Condition::Unhealthy));
    if only_health && store.config(id)?.health.is_none() {
        return Err(Error::conflict(format!("container {id} has no defined healthcheck")));
    }
    loop {
        // Before the look: what changes after it is told of.
        let watch = Watch::new(store, id)?;
        let now = status(store, id);
        for condition in conditions {
            if let Some(code) = is(&now, *condition) {
                return Ok(code);
            }
        }
        match &now {
            Status::Damaged(why) => return Err(Error::new(Kind::NotFound, why.clone())),
            // It ran, and so it had its time.
            Status::Exited(exit) if only_health => {
                return Err(Error::conflict(format!(
                    "container {} has exited ({}) before it was {}",
                    id.short(),
                    exit.code,
                    if conditions == [Condition::Unhealthy] {
                        "unhealthy"
                    } else {
                        "healthy"
                    }
                )));
            }
            _ => {}
        }
        watch.wait()?;
    }
}

/// Whether the condition holds; with the exit code if it is about an end.
fn is(status: &Status, condition: Condition) -> Option<Option<u8>> {
    let running = match status {
        Status::Running(live) if matches!(live.phase, Phase::Running { .. }) => Some(live),
        _ => None,
    };
    let health = running.and_then(|live| live.health);
    let holds = match condition {
        Condition::Created => matches!(status, Status::Created),
        Condition::Running => running.is_some_and(|live| !live.paused),
        Condition::Paused => running.is_some_and(|live| live.paused),
        Condition::Healthy => health == Some(HealthStatus::Healthy),
        Condition::Unhealthy => health == Some(HealthStatus::Unhealthy),
        Condition::NotRunning => {
            return match status {
                Status::Created => Some(Some(0)),
                Status::Exited(exit) => Some(Some(exit.code)),
                _ => None,
            };
        }
        Condition::NextExit | Condition::Removed => false,
    };
    holds.then_some(None)
}

/// Of the run there is, or of the next one, which may be over before it is seen.
fn next_exit(store: &Store, id: &ContainerId) -> Result<u8> {
    let before = store.exit(id)?;
    loop {
        let watch = Watch::new(store, id)?;
        match status(store, id) {
            Status::Running(_) => return wait(store, id),
            Status::Exited(exit) if Some(&exit) != before.as_ref() => return Ok(exit.code),
            Status::Damaged(why) => return Err(Error::new(Kind::NotFound, why)),
            _ => watch.wait()?,
        }
    }
}

/// Its end, and then that it is gone.
fn removed(store: &Store, id: &ContainerId) -> Result<u8> {
    let code = wait(store, id)?;
    loop {
        let watch = Watch::new(store, id)?;
        if !store.container_dir(id).exists() {
            return Ok(code);
        }
        watch.wait()?;
    }
}

/// The kernel's word that something may have changed.
pub(super) struct Watch(Inotify);

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Watch {
    pub(super) fn new(store: &Store, id: &ContainerId) -> Result<Watch> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let changes = AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        let run_dir = store.run_dir(id);
        let own = store.container_dir(id);
        for path in [run_dir.as_path(), own.as_path(), store.run_root()] {
            // One that is not there yet is seen to come above.
            let _ = inotify.add_watch(path, changes);
        }
        Ok(Watch(inotify))
    }

    /// At the latest after a second: being paused shows in no file of ours.
    fn wait(&self) -> Result<()> {
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        let mut fds = [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&second)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

/// The exit code; at once if it does not run (0 if it never ran).
pub(crate) fn wait(store: &Store, id: &ContainerId) -> Result<u8> {
    loop {
        if let Some(mut monitor) = Connection::open(store, id, Hello(Hello::LAST_EXIT))?
            && let Ok(Some(code)) = monitor.exit(None)
        {
            return Ok(code);
        }
        match look(store, id) {
            Seen::Is(Status::Created) => return Ok(0),
            Seen::Is(Status::Exited(exit)) => return Ok(exit.code),
            Seen::Is(Status::Damaged(why)) => return Err(Error::other(why)),
            Seen::Gone => return Err(Error::not_found(format!("No such container: {id}"))),
            Seen::Lost(_) => {
                if let Status::Exited(exit) = status(store, id) {
                    return Ok(exit.code);
                }
            }
            // It listens from before it is seen: so it is on its way out, or has been lost this moment.
            Seen::Is(Status::Running(live)) | Seen::Ending(live, _) => {
                if let Some(monitor) = sys::process::pidfd_open(live.monitor.pid)? {
                    sys::process::pidfd_wait(monitor.as_fd(), Some(std::time::Duration::from_millis(50)))?;
                }
            }
        }
    }
}
