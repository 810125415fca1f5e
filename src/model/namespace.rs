//! Whose namespaces a container's processes are in (namespaces(7)). Those of mounts and the network have models of their
//! own.

use crate::model::id::ContainerId;
use crate::model::idmap::IdMap;
use serde::{Deserialize, Serialize};

/// `--ipc`, `--pid`, `--uts`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Whose {
    /// Its own.
    #[default]
    Private,
    Host,
    Container(ContainerId),
}

/// The namespaces of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Namespaces {
    pub(crate) ipc: Whose,
    pub(crate) pid: Whose,
    pub(crate) uts: Whose,
    /// `--cgroupns host`: it sees the host's tree of control groups.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) host_cgroups: bool,
    /// `--ipc none`: no /dev/shm either.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) no_shm: bool,
    /// `--userns`: its users are others on the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<IdMap>,
    /// Its files have the host's numbers on disk too, as kernel or filesystem could not show them otherwise
    /// (`monitor/chowned.rs`) when it was made.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) chowned: bool,
}

impl Namespaces {
    pub(crate) fn is_default(&self) -> bool {
        *self == Namespaces::default()
    }

    /// In whose numbers its files are on disk, if those are not the image's own.
    pub(crate) fn on_disk(&self) -> Option<&IdMap> {
        self.user.as_ref().filter(|_| self.chowned)
    }

    /// Those of other containers that init enters on its way: /proc's name of each, and the container. That of
    /// processes is not among them: only a process born in it is in it.
    pub(crate) fn entered(&self) -> impl Iterator<Item = (&'static str, &ContainerId)> {
        [("ipc", &self.ipc), ("uts", &self.uts)]
            .into_iter()
            .filter_map(|(name, whose)| match whose {
                Whose::Container(id) => Some((name, id)),
                Whose::Private | Whose::Host => None,
            })
    }
}
