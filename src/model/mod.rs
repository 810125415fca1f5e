//! The nouns of the engine as plain serde data: no I/O, no decisions. Every module may use them.

pub(crate) mod bytes;
pub(crate) mod cdi;
pub(crate) mod container;
pub(crate) mod digest;
pub(crate) mod event;
pub(crate) mod health;
pub(crate) mod id;
pub(crate) mod image;
pub(crate) mod log;
pub(crate) mod mount;
pub(crate) mod name;
pub(crate) mod namespace;
pub(crate) mod network;
pub(crate) mod platform;
pub(crate) mod port;
pub(crate) mod prune;
pub(crate) mod reference;
pub(crate) mod resources;
pub(crate) mod secret;
pub(crate) mod security;
pub(crate) mod service;
pub(crate) mod signal;
pub(crate) mod state;
pub(crate) mod time;
pub(crate) mod volume;
