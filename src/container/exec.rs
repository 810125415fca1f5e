//! Runs a further program in a running container.

use crate::container::attach::DetachKeys;
use crate::error::{Error, Result};
use crate::model::bytes::ByteString;
use crate::model::id::ContainerId;
use crate::store::Store;

#[derive(Debug, Clone)]
pub(crate) struct ExecArgs {
    pub(crate) argv: Vec<ByteString>,
    pub(crate) detach: bool,
    pub(crate) interactive: bool,
    pub(crate) tty: bool,
    /// `NAME=value`, added to the container's own.
    pub(crate) env: Vec<ByteString>,
    /// Instead of the container's.
    pub(crate) user: Option<String>,
    pub(crate) workdir: Option<ByteString>,
    pub(crate) privileged: bool,
    pub(crate) detach_keys: DetachKeys,
}

/// The program's exit code; 0 at once if detached.
pub(crate) fn exec(_store: &Store, _id: &ContainerId, _args: &ExecArgs) -> Result<u8> {
    Err(Error::other("not there yet"))
}
