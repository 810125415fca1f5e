//! What a container is doing, derived from what is on disk and alive: never "running" of something dead.
//!
//! Readers take no lock. Whoever meets a container whose monitor is gone tries its lock without waiting, and with it
//! releases what is left ([`super::reap`]); without it, another command is at it already.

use crate::container::reap;
use crate::model::id::ContainerId;
use crate::model::state::{Exit, LiveState, Phase, Status};
use crate::model::time::Timestamp;
use crate::store::Store;
use crate::sys;

/// Takes no lock and waits for nothing. A container whose monitor is gone is healed if its lock is free, and reported
/// as exited either way.
pub(crate) fn status(store: &Store, id: &ContainerId) -> Status {
    match look(store, id) {
        Seen::Is(status) => status,
        Seen::Lost(live) => {
            let exit = reap::last_exit(&live);
            if let Ok(Some(lock)) = store.try_lock_container(id) {
                // What can't be released now stays for the next command; what is reported is true either way.
                let _ = reap::reap(store, id, &lock);
            }
            Status::Exited(exit)
        }
    }
}

/// What can be seen without changing anything.
pub(super) enum Seen {
    Is(Status),
    /// Its monitor is dead, or from before the last boot.
    Lost(LiveState),
}

pub(super) fn look(store: &Store, id: &ContainerId) -> Seen {
    // A monitor drops its state after the exit is recorded: a state that is gone by the second look has an exit.
    match store.live(id) {
        Err(e) => Seen::Is(Status::Damaged(e.to_string())),
        Ok(None) => Seen::Is(match store.exit(id) {
            Ok(None) => Status::Created,
            Ok(Some(exit)) => Status::Exited(exit),
            Err(e) => Status::Damaged(e.to_string()),
        }),
        Ok(Some(live)) => {
            let this_boot = crate::monitor::boot_id().is_ok_and(|b| b == live.boot_id);
            if !this_boot || sys::process::start_time(live.monitor.pid) != Some(live.monitor.start_time) {
                return Seen::Lost(live);
            }
            Seen::Is(seen_alive(live))
        }
    }
}

/// The monitor lives; but its init may have ended a moment ago, or the monitor may be stopped and not know.
fn seen_alive(live: LiveState) -> Status {
    match &live.phase {
        Phase::Stopping { exit } => Status::Exited(exit.clone()),
        Phase::Running { init, started } if sys::process::start_time(init.pid) != Some(init.start_time) => {
            let (code, signal) = sys::process::zombie_status(init.pid, init.start_time).unwrap_or((137, None));
            Status::Exited(Exit {
                code,
                signal,
                oom_killed: false,
                started: Some(*started),
                finished: Timestamp::now(),
                error: String::new(),
                stopped_by_user: false,
                restarts: live.restarts,
            })
        }
        _ => Status::Running(live),
    }
}
