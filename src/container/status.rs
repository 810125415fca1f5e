//! What a container is doing, derived from what is on disk and alive: never "running" of something dead.
//!
//! Readers take no lock. Whoever meets a container whose monitor is gone tries its lock without waiting, and with it
//! releases what is left ([`super::reap`]); without it, another command is at it already.

use crate::container::reap;
use crate::model::id::ContainerId;
use crate::model::state::{Exit, LiveState, Phase, ProcessRef, Status};
use crate::model::time::Timestamp;
use crate::runtime::cgroup;
use crate::store::Store;
use crate::sys;

/// Takes no lock and waits for nothing. A container whose monitor is gone is healed if its lock is free, and reported
/// as exited either way; one that is gone altogether is `Damaged`.
pub(crate) fn status(store: &Store, id: &ContainerId) -> Status {
    tell(store, id, look(store, id))
}

/// The same of a container that had no run directory, and so no monitor, a moment ago.
pub(super) fn status_without_monitor(store: &Store, id: &ContainerId) -> Status {
    tell(store, id, at_rest(store, id).unwrap_or_else(|| look(store, id)))
}

fn tell(store: &Store, id: &ContainerId, seen: Seen) -> Status {
    match seen {
        Seen::Is(status) => status,
        Seen::Ending(_, exit) => Status::Exited(exit),
        Seen::Gone => Status::Damaged(format!("No such container: {id}")),
        Seen::Lost(live) => {
            let exit = reap::last_exit(&live);
            if let Ok(Some(lock)) = store.try_lock_container(id) {
                // What can't be released now stays for the next command; what is reported is true either way.
                let _ = reap::reap(store, id, &lock, reap::Patience::None);
            }
            Status::Exited(exit)
        }
    }
}

/// What can be seen without changing anything.
#[derive(Debug)]
pub(super) enum Seen {
    Is(Status),
    /// Its program has ended, and its living monitor is still at it: releasing, or about to start it again.
    Ending(LiveState, Exit),
    /// Its monitor is dead, or from before the last boot.
    Lost(LiveState),
    /// There is no such container any more.
    Gone,
}

pub(super) fn look(store: &Store, id: &ContainerId) -> Seen {
    loop {
        match store.live(id) {
            Err(e) => return Seen::Is(Status::Damaged(e.to_string())),
            Ok(None) => {
                if let Some(seen) = at_rest(store, id) {
                    return seen;
                }
            }
            Ok(Some(live)) => {
                let seen = seen_with(live.clone());
                // What was read may be old by now: a monitor that has ended meanwhile has left a newer word.
                if matches!(seen, Seen::Is(_)) || matches!(store.live(id), Ok(Some(again)) if again == live) {
                    return seen;
                }
            }
        }
    }
}

/// No monitor has anything to say; `None` if one has by now.
fn at_rest(store: &Store, id: &ContainerId) -> Option<Seen> {
    // A monitor removes its mark before its state: a mark alone is from before a reboot.
    if let Some(started) = store.running_mark(id) {
        return matches!(store.live(id), Ok(None)).then(|| Seen::Lost(before_the_boot(started)));
    }
    Some(match store.exit(id) {
        Ok(None) if !store.container_dir(id).exists() => Seen::Gone,
        Ok(None) => Seen::Is(Status::Created),
        Ok(Some(exit)) => Seen::Is(Status::Exited(exit)),
        Err(e) => Seen::Is(Status::Damaged(e.to_string())),
    })
}

fn before_the_boot(started: Timestamp) -> LiveState {
    let nobody = ProcessRef { pid: 0, start_time: 0 };
    LiveState {
        boot_id: String::new(),
        monitor: nobody,
        phase: Phase::Running { init: nobody, started },
        restarts: 0,
        cgroups: Vec::new(),
        device_filter: false,
        paused: false,
        endpoints: Vec::new(),
        ports: Vec::new(),
        health: None,
    }
}

fn seen_with(live: LiveState) -> Seen {
    let this_boot = crate::monitor::boot_id().is_ok_and(|b| b == live.boot_id);
    if !this_boot || sys::process::start_time(live.monitor.pid) != Some(live.monitor.start_time) {
        return Seen::Lost(live);
    }
    match &live.phase {
        Phase::Stopping { exit, .. } => {
            let exit = exit.clone();
            Seen::Ending(live, exit)
        }
        // The monitor lives, but may be stopped and not know yet.
        Phase::Running { init, started } if sys::process::start_time(init.pid) != Some(init.start_time) => {
            let (code, signal) = sys::process::zombie_status(init.pid, init.start_time).unwrap_or((137, None));
            let exit = Exit {
                code,
                signal,
                oom_killed: false,
                started: Some(*started),
                finished: Timestamp::now(),
                error: String::new(),
                stopped_by_user: false,
                restarts: live.restarts,
            };
            Seen::Ending(live, exit)
        }
        Phase::Running { .. } => {
            let paused = cgroup::is_frozen(&live.cgroups);
            Seen::Is(Status::Running(LiveState { paused, ..live }))
        }
        _ => Seen::Is(Status::Running(live)),
    }
}
