//! Volumes as `volume ls` and `volume inspect` show them.

use super::labels;
use crate::error::Result;
use crate::model::mount::Source;
use crate::model::volume::Volume;
use crate::output::listing::{Row, View};
use crate::store::Store;
use serde_json::{Value, json};
use std::collections::BTreeSet;

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

/// A damaged volume has its name only.
pub(crate) fn row(store: &Store, name: &str, volume: Option<&Volume>) -> Row {
    let known = volume.map(|volume| volume.labels.clone()).unwrap_or_default();
    let labels = labels(&known);
    let mountpoint = store.volume_dir(name).display().to_string();
    // Docker knows the last five only of `system df` and of swarm.
    Row::new(known)
        .with("Driver", "local")
        .with("Name", name)
        .with("Scope", "local")
        .with("Mountpoint", mountpoint)
        .with("Labels", labels)
        .with("Links", "N/A")
        .with("Size", "N/A")
        .with("Availability", "N/A")
        .with("Group", "N/A")
        .with("Status", "N/A")
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
            Source::Bind { .. } | Source::Tmpfs { .. } => None,
        });
    Ok(volumes.collect())
}
