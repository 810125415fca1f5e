//! Devices by name, as the Container Device Interface has them (cncf-tags/container-device-interface, SPEC.md).

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a container was promised.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cdi {
    /// `vendor/class=name`.
    pub(crate) devices: Vec<String>,
    /// Where their descriptions are looked for, instead of the usual places.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) spec_dirs: Vec<PathBuf>,
}

impl Cdi {
    pub(crate) fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }
}
