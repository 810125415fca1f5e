//! Raw system calls behind safe functions: the only unsafe code of the engine. Knows no container.

pub(crate) mod bpf;
pub(crate) mod seccomp;
pub(crate) mod tree;
pub(crate) mod writeback;
