//! Description → kernel: from a container's configuration to a running init.
//!
//! [`plan`] lists the steps (pure), [`prepare`] opens what they name, [`spawn`] clones once, [`apply`] is the child.

pub(crate) mod apply;
pub(crate) mod capability;
pub(crate) mod cdi;
pub(crate) mod cgroup;
pub(crate) mod dbus;
pub(crate) mod device;
mod init;
pub(crate) mod join;
pub(crate) mod plan;
pub(crate) mod prepare;
pub(crate) mod rootfs;
pub(crate) mod seccomp;
pub(crate) mod spawn;
pub(crate) mod step;
pub(crate) mod user;
