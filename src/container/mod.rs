//! What can be done to a container: one file per verb.

pub(crate) mod attach;
pub(crate) mod config;
pub(crate) mod connect;
mod connection;
pub(crate) mod create;
pub(crate) mod detach;
pub(crate) mod exec;
pub(crate) mod filter;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod network;
pub(crate) mod pause;
pub(crate) mod port;
pub(crate) mod prune;
mod reap;
pub(crate) mod remove;
pub(crate) mod rename;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod top;
pub(crate) mod update;
pub(crate) mod wait;
