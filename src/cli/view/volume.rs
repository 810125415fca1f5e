//! Volumes as `volume ls` and `volume inspect` show them.

use super::labels;
use crate::error::Result;
use crate::model::mount::Source;
use crate::model::volume::Volume;
use crate::output::listing::{Fields, View};
use crate::store::Store;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const VIEW: View = View {
    headings: &[
        ("Driver", "DRIVER"),
        ("Name", "VOLUME NAME"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Availability", "AVAILABILITY"),
        ("Group", "GROUP"),
        ("Status", "STATUS"),
    ],
    id: "Name",
};

pub(crate) const COLUMNS: [&str; 2] = ["Driver", "Name"];

/// A volume in a list. A damaged one has its name only.
pub(crate) struct Shown<'a> {
    pub(crate) store: &'a Store,
    pub(crate) name: String,
    pub(crate) volume: Option<Volume>,
}

impl Fields for Shown<'_> {
    fn field(&self, name: &str) -> String {
        match name {
            "Driver" | "Scope" => "local".to_owned(),
            "Name" => self.name.clone(),
            "Mountpoint" => self.store.volume_dir(&self.name).display().to_string(),
            "Labels" => self.labels().map(labels).unwrap_or_default(),
            // Docker knows the rest only of `system df` and of swarm.
            _ => "N/A".to_owned(),
        }
    }

    fn labels(&self) -> Option<&BTreeMap<String, String>> {
        self.volume.as_ref().map(|volume| &volume.labels)
    }
}

/// `volume inspect`.
pub(crate) fn inspect(store: &Store, name: &str) -> Result<Value> {
    let volume = store.volume(name)?;
    let labels = if volume.labels.is_empty() {
        Value::Null
    } else {
        json!(volume.labels)
    };
    Ok(json!({
        "CreatedAt": volume.created.to_string(),
        "Driver": "local",
        "Labels": labels,
        "Mountpoint": store.volume_dir(name).display().to_string(),
        "Name": volume.name,
        "Options": null,
        "Scope": "local",
    }))
}

/// The names of volumes that a container mounts, running or not.
pub(crate) fn in_use(store: &Store) -> Result<BTreeSet<String>> {
    let configs = store
        .container_ids()?
        .into_iter()
        .filter_map(|id| store.config(&id).ok());
    let volumes = configs
        .flat_map(|config| config.mounts)
        .filter_map(|mount| match mount.source {
            Source::Volume { name, .. } => Some(name),
            Source::Bind { .. } | Source::Tmpfs { .. } | Source::Image { .. } => None,
        });
    Ok(volumes.collect())
}
