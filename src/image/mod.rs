//! What can be done to an image.

pub(crate) mod change;
pub(crate) mod check;
pub(crate) mod commit;
pub(crate) mod disk;
pub(crate) mod glob;
pub(crate) mod hello;
pub(crate) mod history;
pub(crate) mod import;
pub(crate) mod insert;
pub(crate) mod inspect;
pub(crate) mod intake;
pub(crate) mod list;
pub(crate) mod load;
pub(crate) mod manifest;
pub(crate) mod mount;
mod nesting;
pub(crate) mod progress;
pub(crate) mod prune;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod remote;
pub(crate) mod removal;
pub(crate) mod remove;
pub(crate) mod report;
pub(crate) mod resolve;
pub(crate) mod save;
pub(crate) mod tag;
pub(crate) mod tree;
mod v1;

pub(crate) use resolve::{provide, resolve};
