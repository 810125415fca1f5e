//! Removes containers.

use crate::container::reap;
use crate::container::status::{self, Seen};
use crate::container::stop;
use crate::error::{Error, Kind, Result};
use crate::model::id::ContainerId;
use crate::model::state::{Phase, Status};
use crate::store::{ContainerLock, Store};
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    /// Kill it first if it runs.
    pub(crate) force: bool,
    /// Its anonymous volumes too.
    pub(crate) volumes: bool,
}

pub(crate) fn remove(store: &Store, id: &ContainerId, options: Options) -> Result<()> {
    let begin = Instant::now();
    loop {
        if options.force {
            stop::end_now(store, id)?;
        }
        let lock = match store.lock_container(id) {
            // It went by itself when it ended, or by another `rm -f`.
            Err(e) if options.force && e.kind() == Kind::NotFound => return Ok(()),
            other => other?,
        };
        match status::look(store, id) {
            Seen::Is(Status::Running(_)) if !options.force => {
                let name = store.config(id).map_or_else(|_| id.short().to_owned(), |c| c.name);
                let message = format!("Impossible to remove a running container, please stop it first: {name}");
                return Err(Error::conflict(message).with_hint("or remove it by force: barge rm -f"));
            }
            // Started again between our kill and our lock.
            Seen::Is(Status::Running(_)) if begin.elapsed() < stop::MONITOR_PATIENCE => {}
            // All is recorded, and the monitor only unmounts: that needs none of the names that are removed here.
            Seen::Ending(live, _) if matches!(live.phase, Phase::Stopping { last: true, .. }) => {
                return discard(store, id, options.volumes, &lock);
            }
            Seen::Ending(live, _) => {
                drop(lock);
                if begin.elapsed() > stop::MONITOR_PATIENCE {
                    return Err(stop::silent_monitor(&live));
                }
                stop::wait_for_monitor(&live, Duration::from_millis(50))?;
            }
            Seen::Is(_) | Seen::Gone => return discard(store, id, options.volumes, &lock),
            // What is removed needs no record of its exit: a full disk might have no room for one.
            Seen::Lost(live) => {
                reap::release(store, id, &live)?;
                reap::tell(store, id, &live);
                return discard(store, id, options.volumes, &lock);
            }
        }
    }
}

/// Removes a container that does not run. A damaged record is no reason to keep what it was about.
pub(super) fn discard(store: &Store, id: &ContainerId, volumes: bool, held: &ContainerLock) -> Result<()> {
    let config = store.config(id).ok();
    if volumes {
        store.doom_volumes(id);
    }
    let removed = store.detach_container(id, config.as_ref().map(|c| c.name.as_str()), held)?;
    // With `--rm` they go as well. One that another container uses stays.
    for config in config.iter().filter(|c| volumes || c.auto_remove) {
        for name in config.anonymous_volumes() {
            let _ = store.remove_volume(name);
        }
    }
    removed.delete(store)
}
