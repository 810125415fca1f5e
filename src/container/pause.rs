//! Stops the processes of a container where they stand, and lets them go on.

use crate::container::status::status;
use crate::error::{Error, Result};
use crate::model::event::Event;
use crate::model::id::ContainerId;
use crate::model::state::{LiveState, Phase, Status};
use crate::runtime::cgroup;
use crate::store::Store;

pub(crate) fn pause(store: &Store, id: &ContainerId) -> Result<()> {
    match running(store, id)? {
        live if live.paused => Err(Error::conflict(format!("Container {id} is already paused"))),
        live => cgroup::freeze(&live.cgroups).map(|()| tell(store, id, "pause")),
    }
}

pub(crate) fn unpause(store: &Store, id: &ContainerId) -> Result<()> {
    match running(store, id)? {
        live if live.paused => cgroup::thaw(&live.cgroups).map(|()| tell(store, id, "unpause")),
        _ => Err(Error::conflict(format!("Container {id} is not paused"))),
    }
}

/// Writes an event about a container that has nothing to say but itself.
pub(super) fn tell(store: &Store, id: &ContainerId, action: &str) {
    if let Ok(config) = store.config(id) {
        store.event(&Event::container(action, &config));
    }
}

/// What a container's monitor says of it while the program runs, paused or not.
pub(super) fn running(store: &Store, id: &ContainerId) -> Result<LiveState> {
    match status(store, id) {
        Status::Running(live) if matches!(live.phase, Phase::Running { .. }) => Ok(live),
        Status::Damaged(why) => Err(Error::other(why)),
        _ => Err(Error::conflict(format!("Container {id} is not running"))),
    }
}
