//! /etc/localtime of a container that has a time zone of its own: a copy of the host's file.

use crate::error::{Context as _, Error, Result};
use crate::model::container::ContainerConfig;
use crate::store::{Durability, Store, file};
use std::path::Path;

const ZONES: &str = "/usr/share/zoneinfo";

/// Writes it into the run directory, unless the container has the image's.
pub(super) fn write(store: &Store, config: &ContainerConfig) -> Result<()> {
    let Some(zone) = &config.timezone else { return Ok(()) };
    let path = match zone.as_str() {
        "local" => Path::new("/etc/localtime").to_owned(),
        zone => Path::new(ZONES).join(zone),
    };
    let bytes = match std::fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let error = Error::usage(format!("unknown time zone '{zone}'"));
            return Err(error.with_hint(format!("names are those of the files below {ZONES} on the host")));
        }
        bytes => bytes.with_context(|| format!("read {}", path.display()))?,
    };
    let run_dir = store.run_dir(&config.id);
    file::replace(&run_dir, "localtime", &bytes, Durability::Volatile)
}
