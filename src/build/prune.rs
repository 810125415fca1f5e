//! `builder prune`, and the build cache's part of `system df`.

use crate::error::Result;
use crate::image::disk::Tally;
use crate::layer;
use crate::model::id::ChainId;
use crate::model::time::Timestamp;
use crate::store::{CacheMountEntry, CachedStep, StepKey, Store};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd as _;

/// Which of the cache goes. Without any of these: what no image has the layers of.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    /// Also steps whose layers an image has.
    pub(crate) all: bool,
    /// Only what was last used before.
    pub(crate) until: Option<Timestamp>,
    /// Bytes that may stay: the longest unused goes first.
    pub(crate) keep: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pruned {
    /// Keys of steps, ids of cache mounts.
    pub(crate) removed: Vec<String>,
    /// What became free.
    pub(crate) bytes: u64,
}

/// One thing that the cache keeps.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) what: Thing,
    /// Bytes that only the cache keeps.
    pub(crate) size: u64,
    pub(crate) last_used: Timestamp,
    /// A build or an image has it.
    pub(crate) in_use: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Thing {
    Step(CachedStep),
    Mount(CacheMountEntry),
}

/// All of it, the longest unused first.
pub(crate) fn list(store: &Store) -> Result<Vec<Kept>> {
    let mut used: BTreeSet<ChainId> = BTreeSet::new();
    for id in store.image_ids()? {
        used.extend(store.image(&id).map(|record| record.layers).unwrap_or_default());
    }
    for id in store.container_ids()? {
        if let Ok(config) = store.config(&id) {
            used.extend(config.layers());
        }
    }
    let mut counted = BTreeSet::new();
    let mut all = Vec::new();
    for step in store.cached_steps()? {
        let own = step.record.top.filter(|_| step.record.changed);
        let in_use = step.record.top.is_some_and(|top| used.contains(&top));
        let counts = own.filter(|top| !used.contains(top) && counted.insert(*top));
        let size = counts
            .and_then(|top| store.layer(&top).ok())
            .map_or(0, |layer| layer.size);
        all.push(Kept {
            last_used: step.last_used,
            what: Thing::Step(step),
            size,
            in_use,
        });
    }
    for mount in store.cache_mounts()? {
        let size = File::open(&mount.path)
            .ok()
            .and_then(|dir| layer::size(dir.as_fd()).ok());
        all.push(Kept {
            last_used: mount.last_used,
            in_use: mount.in_use,
            size: size.unwrap_or(0),
            what: Thing::Mount(mount),
        });
    }
    all.sort_by_key(|kept| kept.last_used);
    Ok(all)
}

/// The row of `system df`.
pub(crate) fn tally(all: &[Kept]) -> Tally {
    let mut tally = Tally::default();
    for kept in all {
        tally.total += 1;
        tally.size += kept.size;
        match kept.in_use {
            true => tally.active += 1,
            false => tally.reclaimable += kept.size,
        }
    }
    tally
}

/// What of it goes (pure).
fn choose<'a>(all: &'a [Kept], wanted: &Wanted) -> Vec<&'a Kept> {
    let may_go = |kept: &&Kept| {
        let unused = match &kept.what {
            Thing::Step(_) => wanted.all || !kept.in_use,
            Thing::Mount(_) => !kept.in_use,
        };
        unused && wanted.until.is_none_or(|until| kept.last_used < until)
    };
    let mut left: u64 = all.iter().map(|kept| kept.size).sum();
    let mut gone = Vec::new();
    for kept in all.iter().filter(may_go) {
        if wanted.keep.is_some_and(|keep| left <= keep) {
            break;
        }
        left -= kept.size;
        gone.push(kept);
    }
    gone
}

/// Forgets steps, deletes cache mounts that no build uses, and layers that are nobody's then.
pub(crate) fn prune(store: &Store, wanted: &Wanted) -> Result<Pruned> {
    store.sweep_left_overs()?;
    let all = list(store)?;
    let mut pruned = Pruned::default();
    let mut keys: Vec<StepKey> = Vec::new();
    for kept in choose(&all, wanted) {
        match &kept.what {
            Thing::Step(step) => {
                keys.push(step.key);
                pruned.removed.push(step.key.whole.hex());
            }
            Thing::Mount(mount) => {
                if store.remove_cache_mount(mount)? {
                    pruned.bytes += kept.size;
                    pruned.removed.push(mount.id.clone());
                }
            }
        }
    }
    let held = store.lock_exclusive()?;
    for key in &keys {
        store.forget_step(key, &held)?;
    }
    store.forget_dead_steps(&held)?;
    let dropped = store.drop_unreferenced(&held)?;
    drop(held);
    pruned.bytes += dropped.bytes();
    dropped.delete()?;
    Ok(pruned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::digest::Digest;
    use crate::store::StepRecord;

    fn step(second: i64, size: u64, in_use: bool) -> Kept {
        let time = Timestamp::from_second(second).unwrap();
        let record = StepRecord {
            top: None,
            changed: false,
            created: time,
            description: String::new(),
            content: None,
            stage: None,
        };
        Kept {
            what: Thing::Step(CachedStep {
                key: StepKey::new(None, Digest::of(&second.to_le_bytes()), Digest::of(b"")),
                record,
                last_used: time,
            }),
            size,
            last_used: time,
            in_use,
        }
    }

    #[test]
    fn the_longest_unused_goes_first() {
        let all = [step(1, 10, false), step(2, 10, true), step(3, 10, false)];
        let chosen =
            |wanted: Wanted| -> Vec<i64> { choose(&all, &wanted).iter().map(|k| k.last_used.as_second()).collect() };
        let none = Wanted::default();
        assert_eq!(chosen(none), [1, 3]);
        assert_eq!(chosen(Wanted { all: true, ..none }), [1, 2, 3]);
        assert_eq!(chosen(Wanted { keep: Some(20), ..none }), [1]);
        assert_eq!(chosen(Wanted { keep: Some(30), ..none }), Vec::<i64>::new());
        let until = Some(Timestamp::from_second(3).unwrap());
        assert_eq!(chosen(Wanted { until, ..none }), [1]);
    }
}
