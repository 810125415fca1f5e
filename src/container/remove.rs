//! Removes containers.

use crate::container::{reap, status, stop};
use crate::error::{Error, Result};
use crate::model::container::ContainerConfig;
use crate::model::id::ContainerId;
use crate::model::state::Status;
use crate::store::{ContainerLock, Store};

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    /// Kill it first if it runs.
    pub(crate) force: bool,
    /// Its anonymous volumes too.
    pub(crate) volumes: bool,
}

pub(crate) fn remove(store: &Store, id: &ContainerId, options: Options) -> Result<()> {
    if options.force {
        stop::end_now(store, id)?;
    }
    let lock = store.lock_container(id)?;
    match status::look(store, id) {
        status::Seen::Is(Status::Running(_)) => {
            return Err(
                Error::conflict("Impossible to remove a running container, please stop it first")
                    .with_hint("or remove it by force: barge rm -f"),
            );
        }
        status::Seen::Is(_) => {}
        status::Seen::Lost(_) => {
            reap::reap(store, id, &lock)?;
            if !store.container_dir(id).exists() {
                return Ok(());
            }
        }
    }
    // A damaged record is no reason to keep what it was about.
    let config = store.config(id).ok();
    store.remove_container(id, config.as_ref().map(|c| c.name.as_str()), &lock)?;
    if options.volumes
        && let Some(config) = &config
    {
        remove_anonymous_volumes(store, config);
    }
    Ok(())
}

/// Removes a container that goes with its end (`--rm`), its anonymous volumes too.
pub(super) fn discard(store: &Store, config: &ContainerConfig, held: &ContainerLock) -> Result<()> {
    store.remove_container(&config.id, Some(&config.name), held)?;
    remove_anonymous_volumes(store, config);
    Ok(())
}

/// One that another container uses stays.
fn remove_anonymous_volumes(store: &Store, config: &ContainerConfig) {
    for name in config.anonymous_volumes() {
        let _ = store.remove_volume(name);
    }
}
