//! System call filters: the built-in profile, or one in docker's JSON form, made into a program for the kernel.

mod arch;
mod bpf;
mod compile;
mod default;
mod rule;
mod table;

#[cfg(test)]
mod interpret;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::model::security::{Seccomp, Security};
use crate::runtime::capability::Capabilities;
use arch::Arch;
use libc::sock_filter;

/// The filter of a container with these capabilities; `None` if it is not to have one. It is loaded by
/// `sys::seccomp::load`.
pub(crate) fn program(security: &Security, capabilities: Capabilities) -> Result<Option<Vec<sock_filter>>> {
    let rules = match &security.seccomp {
        Seccomp::Default if security.privileged => return Ok(None),
        Seccomp::Unconfined => return Ok(None),
        Seccomp::Default => default::rules(Arch::NATIVE, capabilities),
        Seccomp::Profile(_) => return Err(Error::other("json")),
    };
    let too_long = || Error::other("seccomp profile: too many rules for the kernel");
    rules.compile().ok_or_else(too_long).map(Some)
}
