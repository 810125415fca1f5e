//! Releases what a dead monitor left, by name: the same functions that release it on the normal way.
//!
//! ```text
//!   processes, cgroups   recorded in state.json before they were made: killed, removed
//!   links, addresses      by the names in state.json, and whatever lease bears its id
//!   mounts, namespaces   went with their last process
//!   exit                 recorded now, unless the monitor had come to it
//!   run directory        dropped last: while it is there, somebody has to come here
//! ```

use crate::error::{Context as _, Result};
use crate::model::id::ContainerId;
use crate::model::state::{Exit, LiveState, Phase};
use crate::model::time::Timestamp;
use crate::network;
use crate::runtime::cgroup;
use crate::store::{ContainerLock, Durability, Store};

/// Whether whoever reaps may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// A reader: what can't be had at once is left to others.
    None,
    /// A command that is about this container.
    Some,
}

/// Reaps the container if its monitor is dead. What is told of it afterwards is [`last_exit`].
pub(super) fn reap(store: &Store, id: &ContainerId, held: &ContainerLock, patience: Patience) -> Result<()> {
    // Looked at again under the lock: another command may have been here, and a new monitor may run.
    let super::status::Seen::Lost(live) = super::status::look(store, id) else {
        return Ok(());
    };
    if patience == Patience::None && !(cgroup::pids(&live.cgroups).is_empty() && store.names_are_free()) {
        return Ok(());
    }
    super::stop::kill_first_process(&live)?;
    release(store, id, &live).with_context(|| format!("release container {}", id.short()))?;
    tell(store, id, &live);
    let config = store.config(id);
    if let Ok(config) = &config
        && config.auto_remove
    {
        return super::remove::discard(store, &config.id, true, held);
    }
    store.save_exit(id, &last_exit(&live), Durability::Synced)?;
    store.unmark_running(id);
    store.clear_live(id)
}

/// Writes the events that its monitor has not come to.
pub(super) fn tell(store: &Store, id: &ContainerId, live: &LiveState) {
    let exit = last_exit(live);
    if let Ok(config) = store.config(id) {
        for event in crate::monitor::events::missing(store, &config, &exit, live.health) {
            store.event(&event);
        }
    }
}

/// What the kernel and the run root still have of it.
pub(super) fn release(store: &Store, id: &ContainerId, live: &LiveState) -> Result<()> {
    cgroup::kill_and_remove(&live.cgroups)?;
    network::release(store, id, &live.endpoints, &live.ports, network::Namespace::Unknown)
}

/// How a container whose monitor is dead has ended.
pub(super) fn last_exit(live: &LiveState) -> Exit {
    let started = match &live.phase {
        Phase::Stopping { exit, .. } | Phase::Restarting { exit } => return exit.clone(),
        Phase::Running { started, .. } => Some(*started),
        Phase::Starting => None,
    };
    Exit {
        code: 137,
        signal: Some(libc::SIGKILL),
        oom_killed: false,
        started,
        finished: Timestamp::now(),
        error: "the container's monitor was lost".to_owned(),
        stopped_by_user: false,
        restarts: live.restarts,
    }
}
