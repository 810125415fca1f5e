//! Gives a container another name.

use crate::error::{Error, Result};
use crate::model::id::ContainerId;
use crate::network;
use crate::store::Store;

pub(crate) fn rename(store: &Store, id: &ContainerId, name: &str) -> Result<()> {
    let name = name.strip_prefix('/').unwrap_or(name);
    if name.is_empty() {
        return Err(Error::usage("Neither old nor new names may be empty"));
    }
    let old = store.config(id)?.name;
    if old == name {
        let message = "Renaming a container with the same name as its current name";
        return Err(Error::conflict(message));
    }
    store.rename_container(id, name)?;
    // If it runs, others find it by the new name from now on.
    network::dns::rename(store, id, &old, name)
}
