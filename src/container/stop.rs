//! Ends a container's program: stop, kill, restart.
//!
//! Signals go straight to the program by pidfd, so they arrive also when the monitor is stopped. That a person wants
//! the end is said by a file in the run directory before the signal, for the restart policy to see.

use crate::container::connection::Connection;
use crate::container::{reap, start, status};
use crate::error::{Context as _, Error, Result};
use crate::model::id::ContainerId;
use crate::model::state::{LiveState, Phase, ProcessRef, Status};
use crate::monitor::STOP_REQUEST;
use crate::monitor::frame::Hello;
use crate::runtime::cgroup;
use crate::store::{Durability, Store, file};
use crate::sys;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

/// A monitor that has seen its init end needs milliseconds; a stopped one would need for ever.
const MONITOR_PATIENCE: Duration = Duration::from_secs(10);

/// Sends the stop signal, after the timeout SIGKILL, and returns when the container has ended. `None`: as the
/// container was configured. Seconds; negative waits for ever. Success if it does not run.
pub(crate) fn stop(store: &Store, id: &ContainerId, signal: Option<i32>, timeout: Option<i64>) -> Result<()> {
    let Status::Running(live) = status::status(store, id) else {
        return Ok(());
    };
    let config = store.config(id)?;
    let timeout = timeout.unwrap_or(config.stop_timeout);
    let monitor = Connection::open(store, id, Hello(Hello::LAST_EXIT))?;
    request(store, id)?;
    let Some(init) = alive_process(&live)? else {
        return wake(&live, monitor);
    };
    if timeout != 0 {
        sys::process::pidfd_signal(init.as_fd(), signal.unwrap_or(config.stop_signal))
            .context("send the stop signal")?;
        let patience = u64::try_from(timeout).ok().map(Duration::from_secs);
        if sys::process::pidfd_wait(init.as_fd(), patience)? {
            return ended(monitor, &live);
        }
    }
    sys::process::pidfd_signal(init.as_fd(), libc::SIGKILL).context("send SIGKILL")?;
    sys::process::pidfd_wait(init.as_fd(), None)?;
    ended(monitor, &live)
}

/// Sends a signal; SIGKILL waits for the end.
pub(crate) fn kill(store: &Store, id: &ContainerId, signal: i32) -> Result<()> {
    let not_running = || Error::conflict(format!("Container {id} is not running"));
    let Status::Running(live) = status::status(store, id) else {
        return Err(not_running());
    };
    let ends = signal == libc::SIGKILL || store.config(id).is_ok_and(|c| c.stop_signal == signal);
    let monitor = match signal {
        libc::SIGKILL => Connection::open(store, id, Hello(Hello::LAST_EXIT))?,
        _ => None,
    };
    if ends {
        request(store, id)?;
    }
    let Some(init) = alive_process(&live)? else {
        return match live.phase {
            Phase::Restarting { .. } if ends => wake(&live, monitor),
            _ => Err(not_running()),
        };
    };
    sys::process::pidfd_signal(init.as_fd(), signal).context("send the signal")?;
    if signal == libc::SIGKILL {
        sys::process::pidfd_wait(init.as_fd(), None)?;
        ended(monitor, &live)?;
    }
    Ok(())
}

pub(crate) fn restart(store: &Store, id: &ContainerId, signal: Option<i32>, timeout: Option<i64>) -> Result<()> {
    stop(store, id, signal, timeout)?;
    start::start(store, id)
}

/// For `rm -f`: whatever it is doing, and whatever state its monitor is in, it ends now.
pub(super) fn end_now(store: &Store, id: &ContainerId) -> Result<()> {
    let Ok(Some(live)) = store.live(id) else { return Ok(()) };
    // On a full disk the request can't be written; then a restart policy finds its monitor killed.
    let requested = request(store, id).is_ok();
    let monitor = alive(live.monitor)?;
    match alive_process(&live)? {
        Some(init) => sys::process::pidfd_signal(init.as_fd(), libc::SIGKILL)?,
        None => {
            if let Some(monitor) = &monitor {
                sys::process::pidfd_signal(monitor.as_fd(), libc::SIGTERM)?;
            }
        }
    }
    let Some(monitor) = monitor else { return Ok(()) };
    let patience = if requested && !sys::process::is_stopped(live.monitor.pid) {
        MONITOR_PATIENCE
    } else {
        Duration::ZERO
    };
    if !released(store, id, &monitor, patience)? {
        sys::process::pidfd_signal(monitor.as_fd(), libc::SIGKILL)?;
        sys::process::pidfd_wait(monitor.as_fd(), None)?;
        cgroup::kill_and_remove(&live.cgroups)?;
        if let Some(lock) = store.try_lock_container(id)? {
            reap::reap(store, id, &lock)?;
        }
    }
    Ok(())
}

/// Whether the monitor has let go of the container in time: it has ended, or only serves slow clients.
fn released(store: &Store, id: &ContainerId, monitor: &OwnedFd, patience: Duration) -> Result<bool> {
    if patience.is_zero() {
        return Ok(false);
    }
    if let Some(mut connection) = Connection::open(store, id, Hello(Hello::LAST_EXIT))? {
        match connection.exit(Some(patience)) {
            Ok(Some(_)) => return Ok(true),
            Ok(None) => return Ok(false),
            Err(_) => {}
        }
    }
    Ok(sys::process::pidfd_wait(monitor.as_fd(), Some(patience))?)
}

fn request(store: &Store, id: &ContainerId) -> Result<()> {
    match file::write_new(&store.run_dir(id).join(STOP_REQUEST), b"", Durability::Volatile) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        // It has just ended, and its run directory is gone.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map(|_| ()).context("ask the container to end"),
    }
}

/// The program of a running container; `None` while there is none (starting, or between two restarts).
fn alive_process(live: &LiveState) -> Result<Option<OwnedFd>> {
    live.running().map_or(Ok(None), alive)
}

/// A pidfd of exactly this process: the start time is compared after the open, so a re-used pid is not taken for it.
fn alive(process: ProcessRef) -> Result<Option<OwnedFd>> {
    let fd = sys::process::pidfd_open(process.pid)?;
    Ok(fd.filter(|_| sys::process::start_time(process.pid) == Some(process.start_time)))
}

/// Ends a wait between two restarts.
fn wake(live: &LiveState, monitor: Option<Connection>) -> Result<()> {
    if let Some(process) = alive(live.monitor)? {
        sys::process::pidfd_signal(process.as_fd(), libc::SIGTERM)?;
    }
    ended(monitor, live)
}

/// Returns when the end has been recorded, so that the next command finds the container ended.
fn ended(monitor: Option<Connection>, live: &LiveState) -> Result<()> {
    if let Some(mut monitor) = monitor {
        return match monitor.exit(Some(MONITOR_PATIENCE)) {
            Ok(None) => Err(Error::other(format!(
                "the container's monitor (process {}) does not answer",
                live.monitor.pid
            ))
            .with_hint("the program has ended; if the monitor was stopped, let it go on with `kill -CONT`")),
            // Lost with its socket: the next look heals it.
            Ok(Some(_)) | Err(_) => Ok(()),
        };
    }
    if let Some(process) = alive(live.monitor)? {
        sys::process::pidfd_wait(process.as_fd(), Some(MONITOR_PATIENCE))?;
    }
    Ok(())
}
