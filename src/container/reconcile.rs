//! Events that are missing because whoever was to write them was killed right before: what the log says exists is
//! compared with what does, under the lock under which both change, and what is missing is added. Containers, volumes
//! and networks come and go so; how a container's runs ended is `container/reap.rs`'s to say.

use crate::model::container::ContainerConfig;
use crate::model::event::{Event, EventKind};
use crate::model::id::ContainerId;
use crate::store::Store;
use std::collections::BTreeMap;

/// The last word of the log about something.
struct Known {
    gone: bool,
    attributes: BTreeMap<String, String>,
}

/// Never fails: a log that can't be mended can still be read.
pub(super) fn reconcile(store: &Store) {
    // Containers whose monitor is dead are healed first, as by any other reader.
    for id in store.container_ids().unwrap_or_default() {
        if store.run_dir(&id).exists() || store.running_mark(&id).is_some() {
            super::status::status(store, &id);
        }
    }
    let _ = containers(store);
    let _ = volumes(store);
    let _ = networks(store);
}

/// What the log says of things of one kind.
fn known(store: &Store, kind: EventKind) -> BTreeMap<String, Known> {
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    store.each_event(|event| {
        if event.kind != kind || event.action == "prune" {
            return;
        }
        let gone = event.action == "destroy";
        match known.get_mut(&event.actor) {
            Some(before) => {
                before.gone |= gone;
                before.attributes = event.attributes;
            }
            None => drop(known.insert(
                event.actor,
                Known {
                    gone,
                    attributes: event.attributes,
                },
            )),
        }
    });
    known
}

fn containers(store: &Store) -> crate::error::Result<()> {
    store.with_names_locked(|| {
        let known = known(store, EventKind::Container);
        let there = store.container_ids().unwrap_or_default();
        for id in &there {
            let Ok(config) = store.config(id) else { continue };
            if let Some(before) = known.get(id.as_str()) {
                renamed(store, &config, before);
            }
        }
        for (actor, before) in known.into_iter().filter(|(_, k)| !k.gone) {
            let exists = ContainerId::parse(&actor).is_none_or(|id| there.contains(&id));
            if !exists {
                let mut event = Event::new(EventKind::Container, "destroy", actor);
                for name in ["name", "image"] {
                    if let Some(value) = before.attributes.get(name) {
                        event = event.with(name, value);
                    }
                }
                store.event(&event);
            }
        }
    })
}

fn renamed(store: &Store, config: &ContainerConfig, before: &Known) {
    if let Some(old) = before.attributes.get("name").filter(|old| **old != config.name) {
        store.event(&Event::container("rename", config).with("oldName", format!("/{old}")));
    }
}

fn volumes(store: &Store) -> crate::error::Result<()> {
    let there = store.volume_names()?;
    let known = known(store, EventKind::Volume);
    store.with_volumes_settled(|| {
        for (name, _) in known.iter().filter(|(name, k)| !k.gone && !there.contains(name)) {
            if !store.volume_dir(name).exists() {
                store.event(&Event::new(EventKind::Volume, "destroy", name).with("driver", "local"));
            }
        }
    })
}

fn networks(store: &Store) -> crate::error::Result<()> {
    let missing = || -> crate::error::Result<Vec<(String, Known)>> {
        let there = store.networks()?;
        let known = known(store, EventKind::Network).into_iter();
        let gone = known.filter(|(id, k)| !k.gone && there.iter().all(|n| n.id != *id));
        Ok(gone.collect())
    };
    if missing()?.is_empty() {
        return Ok(());
    }
    // One that is just being removed is its remover's to tell of.
    let _held = store.lock_networks()?;
    for (id, before) in missing()? {
        let mut event = Event::new(EventKind::Network, "destroy", id);
        for name in ["name", "type"] {
            if let Some(value) = before.attributes.get(name) {
                event = event.with(name, value);
            }
        }
        store.event(&event);
    }
    Ok(())
}
