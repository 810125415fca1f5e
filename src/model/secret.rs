//! What a container is told without its image, its record or its log knowing: passwords, keys.

use crate::model::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `secrets/<id>.json`: what there is to know of a secret but its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Secret {
    /// 25 hex digits.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    #[serde(default)]
    pub(crate) updated: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) driver_options: BTreeMap<String, String>,
}

/// `--secret`: one that a container gets, as it is when the container is created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SecretUse {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) place: SecretPlace,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SecretPlace {
    /// A file in memory.
    File {
        /// Absolute; by default below /run/secrets.
        target: PathBuf,
        uid: u32,
        gid: u32,
        mode: u32,
    },
    /// A variable of the program's environment.
    Env(String),
}
