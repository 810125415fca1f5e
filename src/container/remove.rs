//! Removes containers.

use crate::error::{Error, Result};
use crate::model::id::ContainerId;
use crate::store::Store;

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    /// Kill it first if it runs.
    pub(crate) force: bool,
    /// Its anonymous volumes too.
    pub(crate) volumes: bool,
}

pub(crate) fn remove(_store: &Store, _id: &ContainerId, _options: Options) -> Result<()> {
    Err(Error::other("not there yet"))
}
