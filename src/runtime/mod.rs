//! Description → kernel: from a container's configuration to a running init.

pub(crate) mod capability;
pub(crate) mod cgroup;
pub(crate) mod seccomp;
