//! What is mounted into a container: binds, volumes, tmpfs, images.

use crate::model::container::ImageUse;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One mount of a container, resolved: a volume has its name, also if it is anonymous.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mount {
    pub(crate) source: Source,
    /// Absolute and clean (no `.`, `..` or double slash), never `/`.
    pub(crate) target: PathBuf,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) read_only: bool,
    #[serde(default)]
    pub(crate) propagation: Propagation,
    /// In a user namespace the container's root is the owner of what the host's root owns (`idmap`); volumes with a name
    /// always are so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) idmap: bool,
    /// The source with all that is in it is given to the container's user at each start (`U`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) chown: bool,
}

impl Mount {
    /// Writable, and private as docker's are.
    pub(crate) fn new(source: Source, target: PathBuf) -> Mount {
        Mount {
            source,
            target,
            read_only: false,
            propagation: Propagation::default(),
            idmap: false,
            chown: false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    Bind {
        /// Absolute path on the host.
        path: PathBuf,
        /// Only the directory itself, not what is mounted below it (`bind-nonrecursive`).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        non_recursive: bool,
        /// `-v` makes a missing source directory, `--mount` refuses it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        create: bool,
    },
    Volume {
        name: String,
        /// Made for this container without a name given: goes with `rm -v` and `--rm`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        anonymous: bool,
        /// An empty volume takes the image's content at the target.
        copy_up: bool,
        /// A path below the volume's root instead of the root (`volume-subpath`).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<PathBuf>,
    },
    Tmpfs {
        /// Bytes; `None` is the kernel's half of memory.
        size: Option<u64>,
        /// Octal mode of its root.
        mode: Option<u32>,
        /// `noexec,nosuid,nodev` unless the user asked otherwise.
        #[serde(default)]
        options: Vec<String>,
    },
    /// An image's layers, as a stack of their own. What is written there is gone with the next start.
    Image {
        image: ImageUse,
        /// What of it is mounted, resolved inside; `None` for all of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<PathBuf>,
    },
}

/// mount_namespaces(7). Docker's default is `rprivate`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Propagation {
    #[default]
    Rprivate,
    Private,
    Rshared,
    Shared,
    Rslave,
    Slave,
}

impl Propagation {
    pub(crate) const NAMES: [(&'static str, Propagation); 6] = [
        ("rprivate", Propagation::Rprivate),
        ("private", Propagation::Private),
        ("rshared", Propagation::Rshared),
        ("shared", Propagation::Shared),
        ("rslave", Propagation::Rslave),
        ("slave", Propagation::Slave),
    ];

    pub(crate) fn parse(name: &str) -> Option<Propagation> {
        Propagation::NAMES.iter().find(|(n, _)| *n == name).map(|(_, p)| *p)
    }

    pub(crate) fn as_str(self) -> &'static str {
        Propagation::NAMES
            .iter()
            .find(|(_, p)| *p == self)
            .map_or("rprivate", |(n, _)| n)
    }
}
