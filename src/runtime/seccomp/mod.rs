//! System call filters: the built-in profile, or one in docker's JSON form, made into a program for the kernel.

mod arch;
mod bpf;
mod compile;
mod default;
mod json;
mod rule;
mod table;

#[cfg(test)]
mod interpret;
#[cfg(test)]
mod json_tests;
#[cfg(test)]
mod tests;

use crate::error::{Context, Error, Result};
use crate::model::security::{Seccomp, Security};
use crate::runtime::capability::Capabilities;
use arch::Arch;
use libc::sock_filter;

/// The filter of a container with these capabilities; `None` if it is not to have one. It is loaded by
/// `sys::seccomp::load`.
pub(crate) fn program(security: &Security, capabilities: Capabilities) -> Result<Option<Vec<sock_filter>>> {
    let program = match &security.seccomp {
        Seccomp::Unconfined => return Ok(None),
        Seccomp::Default if security.privileged => return Ok(None),
        Seccomp::Default => default::rules(Arch::NATIVE, capabilities).compile(),
        Seccomp::Profile(text) => {
            let release = nix::sys::utsname::uname()?.release().to_string_lossy().into_owned();
            let kernel = json::version(&release).unwrap_or_default();
            let host = json::Host {
                arches: Arch::NATIVE,
                kernel,
                capabilities,
            };
            json::Profile::parse(text, &host)
                .context("seccomp profile")?
                .rules()
                .compile()
        }
    };
    program
        .ok_or_else(|| Error::other("seccomp profile: too many rules for the kernel"))
        .map(Some)
}
