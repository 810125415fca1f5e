//! How a container is confined, as asked for.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// `--privileged`, `--cap-add`, `--security-opt` and the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Security {
    pub(crate) privileged: bool,
    /// Names as `CHOWN`, or `ALL`.
    pub(crate) cap_add: Vec<String>,
    pub(crate) cap_drop: Vec<String>,
    pub(crate) seccomp: Seccomp,
    pub(crate) no_new_privileges: bool,
    /// `systempaths=unconfined`: nothing in /proc and /sys is masked or read-only.
    pub(crate) unmasked: bool,
    /// Further paths that are hidden.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) mask: Vec<PathBuf>,
    /// Paths that are neither hidden nor read-only, though they are by default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) unmask: Vec<PathBuf>,
    /// The AppArmor profile that the program runs under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) apparmor: Option<String>,
    /// The SELinux context that the program runs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) selinux: Option<String>,
    pub(crate) read_only: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Seccomp {
    /// The built-in profile (unconfined if privileged).
    #[default]
    Default,
    Unconfined,
    /// A profile in docker's JSON form: its text, read when the container was made.
    Profile(String),
}
