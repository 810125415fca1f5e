//! Ends a container's program: stop, kill, restart.
//!
//! Signals go straight to the program by pidfd, so they arrive also when the monitor is stopped. That a person wants
//! the end is said by a file in the run directory before the signal, for the restart policy to see.

use crate::container::connection::Connection;
use crate::container::pause::tell;
use crate::container::start;
use crate::container::status::{self, Seen};
use crate::error::{Context as _, Error, Result};
use crate::model::container::ContainerConfig;
use crate::model::event::Event;
use crate::model::id::ContainerId;
use crate::model::state::{LiveState, ProcessRef, Status};
use crate::monitor::frame::Hello;
use crate::monitor::{KEEP_REQUEST, STOP_REQUEST};
use crate::network;
use crate::runtime::cgroup;
use crate::store::{Durability, Store, file};
use crate::sys;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

/// A monitor that has seen its init end needs milliseconds; a stopped one would need for ever.
pub(super) const MONITOR_PATIENCE: Duration = Duration::from_secs(10);

/// Sends the stop signal, after the timeout SIGKILL, and returns when the container has ended. `None`: as the
/// container was configured. Seconds; negative waits for ever. Success if it does not run.
pub(crate) fn stop(store: &Store, id: &ContainerId, signal: Option<i32>, timeout: Option<i64>) -> Result<()> {
    let Some(live) = living(store, id) else { return Ok(()) };
    let config = store.config(id)?;
    let timeout = timeout.unwrap_or(config.stop_timeout);
    let monitor = Connection::open(store, id, Hello(Hello::LAST_EXIT))?;
    request(store, id, STOP_REQUEST)?;
    let Some(init) = first_process(&live)? else {
        return wake(&live, monitor);
    };
    if timeout != 0 {
        let signal = signal.unwrap_or(config.stop_signal);
        sys::process::pidfd_signal(init.as_fd(), signal).context("send the stop signal")?;
        store.event(&killed(&config, signal));
        go_on(&live)?;
        let patience = u64::try_from(timeout).ok().map(Duration::from_secs);
        if sys::process::pidfd_wait(init.as_fd(), patience)? {
            return ended(monitor, &live).map(|()| store.event(&Event::container("stop", &config)));
        }
    }
    sys::process::pidfd_signal(init.as_fd(), libc::SIGKILL).context("send SIGKILL")?;
    store.event(&killed(&config, libc::SIGKILL));
    go_on(&live)?;
    sys::process::pidfd_wait(init.as_fd(), None)?;
    ended(monitor, &live).map(|()| store.event(&Event::container("stop", &config)))
}

fn killed(config: &ContainerConfig, signal: i32) -> Event {
    Event::container("kill", config).with("signal", signal)
}

/// Sends a signal; SIGKILL waits for the end.
pub(crate) fn kill(store: &Store, id: &ContainerId, signal: i32) -> Result<()> {
    let not_running = || Error::conflict(format!("Container {id} is not running"));
    let Some(live) = living(store, id) else {
        return Err(not_running());
    };
    let ends = signal == libc::SIGKILL || store.config(id).is_ok_and(|c| c.stop_signal == signal);
    let monitor = match signal {
        libc::SIGKILL => Connection::open(store, id, Hello(Hello::LAST_EXIT))?,
        _ => None,
    };
    if ends {
        request(store, id, STOP_REQUEST)?;
    }
    let Some(init) = first_process(&live)? else {
        return if ends { wake(&live, monitor) } else { Err(not_running()) };
    };
    let config = store.config(id);
    sys::process::pidfd_signal(init.as_fd(), signal).context("send the signal")?;
    if let Ok(config) = &config {
        store.event(&killed(config, signal));
    }
    if ends {
        go_on(&live)?;
    }
    if signal == libc::SIGKILL {
        sys::process::pidfd_wait(init.as_fd(), None)?;
        ended(monitor, &live)?;
    }
    Ok(())
}

/// Also a container that would go with its end stays for this.
pub(crate) fn restart(store: &Store, id: &ContainerId, signal: Option<i32>, timeout: Option<i64>) -> Result<()> {
    if living(store, id).is_some() && store.config(id)?.auto_remove {
        request(store, id, KEEP_REQUEST)?;
    }
    stop(store, id, signal, timeout)?;
    start::start(store, id)?;
    tell(store, id, "restart");
    Ok(())
}

/// The state of a container that has a monitor: it runs, or is about to end or to start again.
fn living(store: &Store, id: &ContainerId) -> Option<LiveState> {
    match status::look(store, id) {
        Seen::Is(Status::Running(live)) | Seen::Ending(live, _) => Some(live),
        Seen::Lost(_) => {
            status::status(store, id);
            None
        }
        Seen::Is(_) | Seen::Gone => None,
    }
}

/// For a shutdown: asks the monitor to end its container, and gives a descriptor that can be read when it has. `None` if
/// there is none any more.
pub(super) fn ask_monitor(store: &Store, id: &ContainerId) -> Result<Option<OwnedFd>> {
    let Some(live) = living(store, id) else { return Ok(None) };
    let Some(monitor) = alive(live.monitor)? else {
        return Ok(None);
    };
    sys::process::pidfd_signal(monitor.as_fd(), libc::SIGTERM).context("ask the monitor to end")?;
    go_on(&live)?;
    Ok(Some(monitor))
}

/// For `rm -f`: whatever it is doing, and whatever state its monitor is in, it ends now.
pub(super) fn end_now(store: &Store, id: &ContainerId) -> Result<()> {
    let live = match store.live(id) {
        Ok(Some(live)) => live,
        Ok(None) => return Ok(()),
        // A damaged state: the groups have their names from the id, and with init its monitor ends.
        Err(_) => {
            let _ = request(store, id, STOP_REQUEST);
            let host = cgroup::Host::probe()?;
            let service = store.config(id).map(|c| c.service).unwrap_or_default();
            let base = cgroup::base(store.instance().as_deref());
            cgroup::kill_and_remove(&cgroup::place::guess(&service, &host, &base, id))?;
            if let Some(mut monitor) = Connection::open(store, id, Hello(Hello::LAST_EXIT))? {
                let _ = monitor.exit(Some(MONITOR_PATIENCE));
            }
            network::release(store, id, &[], &[], network::Namespace::Unknown)?;
            return store.clear_live(id);
        }
    };
    let Some(monitor) = alive(live.monitor)? else {
        return Ok(());
    };
    // Before the kill: a monitor that has ended listens no more.
    let connection = Connection::open(store, id, Hello(Hello::LAST_EXIT))?;
    // On a full disk the request can't be written; then a restart policy finds its monitor killed.
    let requested = request(store, id, STOP_REQUEST).is_ok();
    match first_process(&live)? {
        Some(init) => {
            sys::process::pidfd_signal(init.as_fd(), libc::SIGKILL)?;
            go_on(&live)?;
        }
        None => sys::process::pidfd_signal(monitor.as_fd(), libc::SIGTERM)?,
    }
    let patient = requested && !sys::process::is_stopped(live.monitor.pid);
    if !patient || !released(connection, &monitor)? {
        sys::process::pidfd_signal(monitor.as_fd(), libc::SIGKILL)?;
        sys::process::pidfd_wait(monitor.as_fd(), None)?;
    }
    Ok(())
}

/// A paused program takes a signal only when it goes on; under v1's freezer even SIGKILL waits.
fn go_on(live: &LiveState) -> Result<()> {
    match cgroup::is_frozen(&live.cgroups) {
        true => cgroup::thaw(&live.cgroups),
        false => Ok(()),
    }
}

/// Whether the monitor has let go of the container in time: it has ended, or only serves slow clients.
fn released(connection: Option<Connection>, monitor: &OwnedFd) -> Result<bool> {
    match connection.map(|mut c| c.exit(Some(MONITOR_PATIENCE))) {
        Some(Ok(answer)) => Ok(answer.is_some()),
        None | Some(Err(_)) => Ok(sys::process::pidfd_wait(monitor.as_fd(), Some(MONITOR_PATIENCE))?),
    }
}

/// Where no group could be made, an init that has shaken off its parent-death signal outlives its monitor.
pub(super) fn kill_first_process(live: &LiveState) -> Result<()> {
    if let Some(init) = first_process(live)? {
        sys::process::pidfd_signal(init.as_fd(), libc::SIGKILL)?;
    }
    Ok(())
}

/// Waits a moment for the end of a monitor.
pub(super) fn wait_for_monitor(live: &LiveState, moment: Duration) -> Result<()> {
    if let Some(monitor) = alive(live.monitor)? {
        sys::process::pidfd_wait(monitor.as_fd(), Some(moment))?;
    }
    Ok(())
}

/// A monitor whose program has ended, and that does nothing about it.
pub(super) fn silent_monitor(live: &LiveState) -> Error {
    Error::other(format!(
        "the container's monitor (process {}) does not answer",
        live.monitor.pid
    ))
    .with_hint("the program has ended; if the monitor was stopped, let it go on with `kill -CONT`")
}

fn request(store: &Store, id: &ContainerId, what: &str) -> Result<()> {
    match file::write_new(&store.run_dir(id).join(what), b"", Durability::Volatile) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        // It has just ended, and its run directory is gone.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map(|_| ()).context("ask the container to end"),
    }
}

/// The program of a running container; `None` while there is none (starting, or between two restarts).
fn first_process(live: &LiveState) -> Result<Option<OwnedFd>> {
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
            Ok(None) => Err(silent_monitor(live)),
            // Lost with its socket: the next look heals it.
            Ok(Some(_)) | Err(_) => Ok(()),
        };
    }
    if let Some(process) = alive(live.monitor)? {
        sys::process::pidfd_wait(process.as_fd(), Some(MONITOR_PATIENCE))?;
    }
    Ok(())
}
