//! Creates a container: a record on disk, nothing in the kernel.

use crate::container::config::RunArgs;
use crate::error::{Error, Result};
use crate::model::container::ContainerConfig;
use crate::store::Store;

/// Resolves image, name, volumes and cidfile, merges, and writes the record. Warnings go to stderr by the caller.
pub(crate) fn create(_store: &Store, _args: &RunArgs) -> Result<ContainerConfig> {
    Err(Error::other("not there yet"))
}
