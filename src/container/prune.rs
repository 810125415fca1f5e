//! Removes what nobody uses any more: containers that have ended, volumes that no container mounts.

use crate::container::list::{Selection, list};
use crate::container::remove::{self, remove};
use crate::error::{Kind, Result};
use crate::layer;
use crate::model::event::{Event, EventKind};
use crate::model::mount::Source;
use crate::model::prune::Filters;
use crate::model::state::Status;
use crate::store::Store;
use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::path::Path;

/// What went.
#[derive(Debug, Default)]
pub(crate) struct Reclaimed {
    /// Ids of containers, names of volumes.
    pub(crate) names: Vec<String>,
    /// Their bytes on disk.
    pub(crate) bytes: u64,
}

/// Removes the containers that do not run, in the order they were made. One that starts meanwhile, or that another
/// command removes, is passed over.
pub(crate) fn containers(store: &Store, filters: &Filters) -> Result<Reclaimed> {
    let everything = Selection {
        all: true,
        ..Selection::default()
    };
    let none = Default::default();
    let mut reclaimed = Reclaimed::default();
    for entry in list(store, &everything)?.into_iter().rev() {
        let labels = entry.summary.as_ref().map_or(&none, |s| &s.labels);
        if matches!(entry.status, Status::Running(_)) || !filters.matches(entry.created, labels) {
            continue;
        }
        let bytes = bytes_below(&store.upper_dir(&entry.id)) + bytes_below(&store.tree_dir(&entry.id));
        match remove(store, &entry.id, remove::Options::default()) {
            Ok(()) => {
                reclaimed.names.push(entry.id.to_string());
                reclaimed.bytes += bytes;
            }
            Err(e) if matches!(e.kind(), Kind::NotFound | Kind::Conflict) => {}
            Err(e) => return Err(e),
        }
    }
    store.event(&Event::new(EventKind::Container, "prune", "").with("reclaimed", reclaimed.bytes));
    Ok(reclaimed)
}

/// Removes the volumes that no container mounts: those without a name of their own, or `all`.
pub(crate) fn volumes(store: &Store, all: bool, filters: &Filters) -> Result<Reclaimed> {
    let used = used_volumes(store)?;
    let mut reclaimed = Reclaimed::default();
    for name in store.volume_names()? {
        // A damaged one is the administrator's to look at.
        let Ok(volume) = store.volume(&name) else { continue };
        if used.contains(&name) || !(all || volume.anonymous) || !filters.matches(volume.created, &volume.labels) {
            continue;
        }
        let bytes = bytes_below(&store.volume_dir(&name));
        match store.remove_volume(&name) {
            Ok(()) => {
                reclaimed.names.push(name);
                reclaimed.bytes += bytes;
            }
            Err(e) if matches!(e.kind(), Kind::NotFound | Kind::Conflict) => {}
            Err(e) => return Err(e),
        }
    }
    store.event(&Event::new(EventKind::Volume, "prune", "").with("reclaimed", reclaimed.bytes));
    Ok(reclaimed)
}

/// The volumes that containers mount, running or not.
pub(crate) fn used_volumes(store: &Store) -> Result<BTreeSet<String>> {
    let mut used = BTreeSet::new();
    for id in store.container_ids()? {
        if let Ok(config) = store.config(&id) {
            used.extend(config.mounts.into_iter().filter_map(|m| match m.source {
                Source::Volume { name, .. } => Some(name),
                _ => None,
            }));
        }
    }
    Ok(used)
}

fn bytes_below(path: &Path) -> u64 {
    let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let Ok(dir) = rustix::fs::open(path, flags, rustix::fs::Mode::empty()) else {
        return 0;
    };
    layer::size(dir.as_fd()).unwrap_or(0)
}
