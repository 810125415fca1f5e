//! Ends a container's program: stop, kill, restart.

use crate::error::{Error, Result};
use crate::model::id::ContainerId;
use crate::store::Store;

/// Sends the stop signal, after the timeout SIGKILL, and returns when the container has ended. `None`: as the
/// container was configured. Seconds; negative waits for ever. Success if it does not run.
pub(crate) fn stop(_store: &Store, _id: &ContainerId, _signal: Option<i32>, _timeout: Option<i64>) -> Result<()> {
    Err(Error::other("not there yet"))
}

/// Sends a signal; SIGKILL waits for the end.
pub(crate) fn kill(_store: &Store, _id: &ContainerId, _signal: i32) -> Result<()> {
    Err(Error::other("not there yet"))
}

pub(crate) fn restart(_store: &Store, _id: &ContainerId, _signal: Option<i32>, _timeout: Option<i64>) -> Result<()> {
    Err(Error::other("not there yet"))
}
