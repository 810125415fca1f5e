//! Stops the processes of a container where they stand, and lets them go on.

use crate::container::status::status;
use crate::error::{Error, Result};
use crate::model::event::Event;
use crate::model::id::ContainerId;
use crate::model::state::{LiveState, Phase, Status};
use crate::runtime::cgroup;
use crate::store::{Proof, Store};

pub(crate) fn pause(store: &Store, id: &ContainerId) -> Result<()> {
    match running(store, id)? {
        live if live.paused => Err(Error::conflict(format!("Container {id} is already paused"))),
        live => change(store, id, &live, true),
    }
}

pub(crate) fn unpause(store: &Store, id: &ContainerId) -> Result<()> {
    match running(store, id)? {
        live if live.paused => change(store, id, &live, false),
        _ => Err(Error::conflict(format!("Container {id} is not paused"))),
    }
}

fn change(store: &Store, id: &ContainerId, live: &LiveState, pause: bool) -> Result<()> {
    let action = if pause { "pause" } else { "unpause" };
    let event = Event::container(action, &store.config(id)?);
    let told = cgroup::freezer_says(&live.cgroups, pause);
    let told = told.map(|(file, word)| Proof::Says(file, word.to_owned()).of(event));
    let frozen = || match pause {
        true => cgroup::freeze(&live.cgroups).map(Some),
        false => cgroup::thaw(&live.cgroups).map(Some),
    };
    store
        .telling(&format!("pause of container {id}"), told.into_iter().collect(), frozen)
        .map(drop)
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
