//! What a container is to know of names: its servers, its own hosts, and whom it is linked to.

use crate::model::id::ContainerId;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;

/// `--dns`, `--add-host` and their kin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct NameOptions {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) dns: Vec<IpAddr>,
    /// A single `.` clears what the host has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) dns_search: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) dns_options: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) extra_hosts: Vec<ExtraHost>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) links: Vec<Link>,
    /// The image's own /etc/hosts stays as it is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) no_hosts: bool,
    /// The image's own /etc/hostname stays as it is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) no_hostname: bool,
    /// What the hosts file begins with, instead of the usual names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hosts_file: Option<PathBuf>,
}

/// `--add-host NAME:ADDRESS`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExtraHost {
    pub(crate) name: String,
    /// `None` is `host-gateway`: the host, as the container reaches it.
    pub(crate) address: Option<IpAddr>,
}

/// `--link CONTAINER:ALIAS`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link {
    pub(crate) container: ContainerId,
    /// The container's name when the link was made.
    pub(crate) name: String,
    pub(crate) alias: String,
}
