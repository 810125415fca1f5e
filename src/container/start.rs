//! Starts a container: starts its monitor, and waits for one message from it.

use crate::container::attach::{End, Options};
use crate::error::{Error, Result};
use crate::model::id::ContainerId;
use crate::store::Store;

/// Returns when the program has been executed.
pub(crate) fn start(_store: &Store, _id: &ContainerId) -> Result<()> {
    Err(Error::other("not there yet"))
}

/// Starts with this command attached from the first byte on, and stays until the end.
pub(crate) fn start_attached(_store: &Store, _id: &ContainerId, _options: &Options) -> Result<End> {
    Err(Error::other("not there yet"))
}
