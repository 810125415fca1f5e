//! The client's side of a container's streams: terminal, detach keys, signals, resize.

use crate::error::{Error, Result};
use crate::model::container::Streams;
use crate::model::id::ContainerId;
use crate::store::Store;

/// Keys that detach, as bytes to be typed one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys(pub(crate) Vec<u8>);

impl DetachKeys {
    /// Docker's form: `ctrl-p,ctrl-q`; each a letter, or `ctrl-` and one of `a-z@[\]^_`. Empty never detaches.
    pub(crate) fn parse(_keys: &str) -> Result<Self> {
        Err(Error::other("not there yet"))
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) streams: Streams,
    /// Pass every signal that this command gets on to the container's program.
    pub(crate) sig_proxy: bool,
    pub(crate) detach_keys: DetachKeys,
}

/// How an attached command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The program ended with this code.
    Exited(u8),
    /// The person typed the detach keys.
    Detached,
    /// Only stdin was attached, and it is at its end (F121).
    StdinClosed,
}

/// `attach`: connects to the streams of a running container.
pub(crate) fn attach(_store: &Store, _id: &ContainerId, _options: &Options) -> Result<End> {
    Err(Error::other("not there yet"))
}
