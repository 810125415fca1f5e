//! How a container's root is made of its image's layers.

use crate::error::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driver {
    /// A mount of overlayfs: layers below, the container's own above.
    Overlay,
    /// A full copy of the layers for each container, where nothing can be stacked.
    Copy,
}

impl Driver {
    /// By barge's name of it or docker's.
    pub(crate) fn parse(text: &str) -> Result<Driver> {
        match text {
            "overlay" | "overlay2" => Ok(Driver::Overlay),
            "copy" | "vfs" => Ok(Driver::Copy),
            "aufs" => Err(Error::usage("--storage-driver aufs: AUFS is not supported yet")
                .with_hint("`copy` works on every kernel and filesystem; `overlay` on all but a few")),
            _ => Err(Error::usage(format!(
                "--storage-driver '{}': want overlay or copy",
                text.escape_debug()
            ))),
        }
    }

    /// What the root's record and messages say.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Driver::Overlay => "overlay",
            Driver::Copy => "copy",
        }
    }

    /// As docker calls it, for scripts that read it: `info`, `inspect`.
    pub(crate) fn docker_name(self) -> &'static str {
        match self {
            Driver::Overlay => "overlay2",
            Driver::Copy => "vfs",
        }
    }
}
