//! How a container's root is made of its image's layers.

use crate::error::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driver {
    /// A mount of overlayfs: layers below, the container's own above.
    Overlay,
    /// The same by AUFS, where the kernel has it: as docker did in 2013.
    Aufs,
    /// A full copy of the layers for each container, where nothing can be stacked.
    Copy,
}

impl Driver {
    /// By barge's name of it or docker's.
    pub(crate) fn parse(text: &str) -> Result<Driver> {
        match text {
            "overlay" | "overlay2" => Ok(Driver::Overlay),
            "copy" | "vfs" => Ok(Driver::Copy),
            "aufs" => Ok(Driver::Aufs),
            _ => Err(Error::usage(format!(
                "--storage-driver '{}': want overlay, aufs or copy",
                text.escape_debug()
            ))),
        }
    }

    /// What the root's record and messages say.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Driver::Overlay => "overlay",
            Driver::Aufs => "aufs",
            Driver::Copy => "copy",
        }
    }

    /// As docker calls it, for scripts that read it: `info`, `inspect`.
    pub(crate) fn docker_name(self) -> &'static str {
        match self {
            Driver::Overlay => "overlay2",
            Driver::Aufs => "aufs",
            Driver::Copy => "vfs",
        }
    }
}
