//! Raw system calls behind safe functions: the only unsafe code of the engine. Knows no container.

pub(crate) mod bpf;
pub(crate) mod clone;
pub(crate) mod exe;
pub(crate) mod interface;
pub(crate) mod mount;
pub(crate) mod netlink;
pub(crate) mod nfnetlink;
pub(crate) mod open_files;
pub(crate) mod process;
pub(crate) mod quota;
pub(crate) mod seccomp;
mod stop;
pub(crate) mod terminal;
pub(crate) mod tree;
pub(crate) mod users;
pub(crate) mod writeback;

pub(crate) use stop::{is_refused, stop_point};
