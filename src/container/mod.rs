//! What can be done to a container.

pub(crate) mod config;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod logs;
