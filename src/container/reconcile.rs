//! Before events are read: what dead processes have left untold is told (`store/intents.rs`, `container/reap.rs`, the
//! sweep of staging). Then what the log says exists is compared with what does, since a power cut may have taken the
//! log's last lines and not the changes they tell of: without a lock at first, and again under the lock under which
//! both change if something seems to be missing.

use crate::error::Result;
use crate::model::container::ContainerConfig;
use crate::model::event::{Event, EventKind};
use crate::model::id::ContainerId;
use crate::store::Store;
use std::collections::BTreeMap;

/// What the log says of one thing that has not gone: the last values of [`KEPT`].
type Attributes = BTreeMap<String, String>;
/// Things by their ids or names.
type Known = BTreeMap<String, Attributes>;

/// What the event of an end says again.
const KEPT: [&str; 3] = ["name", "image", "type"];
/// What is compared.
const KINDS: [EventKind; 3] = [EventKind::Container, EventKind::Network, EventKind::Volume];

/// Never fails: a log that can't be mended can still be read.
pub(super) fn reconcile(store: &Store) {
    // Containers whose monitor is dead are healed first, as by any other reader.
    for id in store.container_ids().unwrap_or_default() {
        if store.run_dir(&id).exists() || store.running_mark(&id).is_some() {
            super::status::status(store, &id);
        }
    }
    let _ = store.sweep_left_overs();
    store.settle_intents();
    let known = known(store);
    let _ = containers(store, &known);
    let _ = volumes(store, &known);
    let _ = networks(store, &known);
}

/// What the log says is there.
fn known(store: &Store) -> BTreeMap<EventKind, Known> {
    // `None`: it has gone. What comes after that is about its end, unless it is made again.
    let mut known: BTreeMap<EventKind, BTreeMap<String, Option<Attributes>>> = BTreeMap::new();
    store.each_event(|mut event| {
        if !KINDS.contains(&event.kind) || event.action == "prune" {
            return;
        }
        let of_kind = known.entry(event.kind).or_default();
        event.attributes.retain(|name, _| KEPT.contains(&name.as_str()));
        match (event.action.as_str(), of_kind.get(&event.actor)) {
            ("destroy", _) => drop(of_kind.insert(event.actor, None)),
            ("create", _) | (_, None | Some(Some(_))) => drop(of_kind.insert(event.actor, Some(event.attributes))),
            (_, Some(None)) => {}
        }
    });
    let there = |(kind, all): (EventKind, BTreeMap<String, Option<Attributes>>)| {
        let there = all.into_iter().filter_map(|(actor, last)| Some((actor, last?)));
        (kind, there.collect())
    };
    known.into_iter().map(there).collect()
}

fn containers(store: &Store, known: &BTreeMap<EventKind, Known>) -> Result<()> {
    if missing_containers(store, known).is_empty() {
        return Ok(());
    }
    store.with_names_locked(|| {
        for event in missing_containers(store, &self::known(store)) {
            store.event(&event);
        }
    })
}

fn missing_containers(store: &Store, known: &BTreeMap<EventKind, Known>) -> Vec<Event> {
    let mut missing = Vec::new();
    for (actor, attributes) in known.get(&EventKind::Container).into_iter().flatten() {
        let Some(id) = ContainerId::parse(actor) else { continue };
        match store.config(&id) {
            Ok(config) => missing.extend(renamed(&config, attributes)),
            Err(_) if store.container_dir(&id).exists() => {}
            Err(_) => missing.push(gone(EventKind::Container, actor, attributes)),
        }
    }
    missing
}

fn renamed(config: &ContainerConfig, before: &Attributes) -> Option<Event> {
    let old = before.get("name").filter(|old| **old != config.name)?;
    Some(Event::container("rename", config).with("oldName", format!("/{old}")))
}

fn gone(kind: EventKind, actor: &str, attributes: &Attributes) -> Event {
    let mut event = Event::new(kind, "destroy", actor);
    event.attributes = attributes.clone();
    event
}

fn volumes(store: &Store, known: &BTreeMap<EventKind, Known>) -> Result<()> {
    let missing = |known: &BTreeMap<EventKind, Known>| -> Vec<Event> {
        let names = known.get(&EventKind::Volume).into_iter().flat_map(BTreeMap::keys);
        let gone = names.filter(|name| !store.volume_dir(name).exists());
        gone.map(|name| Event::new(EventKind::Volume, "destroy", name).with("driver", "local"))
            .collect()
    };
    if missing(known).is_empty() {
        return Ok(());
    }
    store.with_volumes_settled(|| {
        for event in missing(&self::known(store)) {
            store.event(&event);
        }
    })
}

fn networks(store: &Store, known: &BTreeMap<EventKind, Known>) -> Result<()> {
    let missing = |known: &BTreeMap<EventKind, Known>| -> Vec<Event> {
        let networks = known.get(&EventKind::Network).into_iter().flatten();
        let gone = networks.filter(|(id, _)| !store.has_network(id));
        gone.map(|(id, attributes)| self::gone(EventKind::Network, id, attributes))
            .collect()
    };
    if missing(known).is_empty() {
        return Ok(());
    }
    // One that is just being removed is its remover's to tell of.
    let _held = store.lock_networks()?;
    for event in missing(&self::known(store)) {
        store.event(&event);
    }
    Ok(())
}
