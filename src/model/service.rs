//! What ties a container to the host's service manager (systemd.service(5), sd_notify(3)).

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// `--sdnotify`: who tells the service manager that the service is ready.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SdNotify {
    /// The program: it gets a socket of its own, and what it says there is passed on.
    #[default]
    Container,
    /// The monitor, as soon as the program is executed.
    Monitor,
    /// The monitor, at the first good health check.
    Healthy,
    /// Nobody.
    Ignore,
}

/// `--cgroups`: where the container's control group is made (v2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CgroupMode {
    /// As the host's rules have it: in the unit that starts the container if that unit has delegated its group, else in
    /// a scope of its own below systemd, else in the engine's own group.
    #[default]
    Enabled,
    /// In the group of the unit that starts it.
    Split,
    /// It has none of its own: it stays where its monitor is.
    Disabled,
}

/// How a container lives under a service manager.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Service {
    #[serde(default)]
    pub(crate) notify: SdNotify,
    /// The unit whose command started it (`web.service`): that unit starts it again, nobody else does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<String>,
    /// Where the monitor's pid is written, for `PIDFile=` of a unit with `Type=forking`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) monitor_pidfile: Option<PathBuf>,
    #[serde(default)]
    pub(crate) cgroups: CgroupMode,
    /// `--cgroup-parent`: a slice, or a control group's path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cgroup_parent: Option<String>,
}

impl Service {
    pub(crate) fn is_default(&self) -> bool {
        *self == Service::default()
    }
}
