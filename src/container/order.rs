//! `--requires`: which containers start before which, and stop after them.

use crate::container::start;
use crate::container::status::status;
use crate::container::wait::{self, Condition};
use crate::error::{Context as _, Error, Result};
use crate::model::container::Requirement;
use crate::model::health::HealthStatus;
use crate::model::id::ContainerId;
use crate::model::state::{Phase, Status};
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet};

/// Containers and what each of them requires.
pub(crate) type Requirements = BTreeMap<ContainerId, Vec<Requirement>>;

/// Starts what the container requires, what that requires first, and waits for those that are to be healthy.
pub(super) fn start_required(store: &Store, id: &ContainerId) -> Result<()> {
    let mut awaited = None;
    while let Some(other) = advance(store, id, awaited.as_ref())? {
        wait::wait_for(store, &other, &[Condition::Healthy, Condition::Unhealthy])
            .with_context(|| required(store, &other))?;
        awaited = Some(other);
    }
    Ok(())
}

/// The same as far as it goes without waiting: the container that has to be healthy before it can go on. `awaited` is
/// the one that the last call gave: it was started by then, and is not started a second time.
pub(super) fn advance(store: &Store, id: &ContainerId, awaited: Option<&ContainerId>) -> Result<Option<ContainerId>> {
    if store.config(id)?.requires.is_empty() {
        return Ok(None);
    }
    let all = gather(store, std::slice::from_ref(id))?;
    for other in order(&all, id)?.iter().filter(|other| *other != id) {
        let health = match status(store, other) {
            Status::Running(live) if matches!(live.phase, Phase::Running { .. }) => live.health,
            // Between two runs.
            Status::Running(_) if awaited == Some(other) => None,
            _ if awaited == Some(other) => {
                let message = format!("{} has ended before it was healthy", required(store, other));
                return Err(Error::conflict(message));
            }
            _ => {
                start::start_alone(store, other).with_context(|| format!("start {}", required(store, other)))?;
                None
            }
        };
        let to_be_healthy = all.values().flatten().any(|r| r.container == *other && r.healthy);
        match health {
            _ if !to_be_healthy => {}
            Some(HealthStatus::Healthy) => {}
            Some(HealthStatus::Unhealthy) => {
                return Err(Error::conflict(format!("{} is unhealthy", required(store, other))));
            }
            _ if store.config(other)?.health.is_none() => {
                return Err(Error::conflict(format!(
                    "{} has no health check",
                    required(store, other)
                )));
            }
            _ => return Ok(Some(other.clone())),
        }
    }
    Ok(None)
}

fn required(store: &Store, id: &ContainerId) -> String {
    let name = store.config(id).map_or_else(|_| id.short().to_owned(), |c| c.name);
    format!("{name}, which is required,")
}

/// What these containers require, and what that does.
fn gather(store: &Store, ids: &[ContainerId]) -> Result<Requirements> {
    let mut all = Requirements::new();
    let mut open = ids.to_vec();
    while let Some(id) = open.pop() {
        if all.contains_key(&id) {
            continue;
        }
        let requires = store
            .config(&id)
            .with_context(|| format!("required container {}", id.short()))?
            .requires;
        open.extend(requires.iter().map(|r| r.container.clone()));
        all.insert(id, requires);
    }
    Ok(all)
}

/// `id` and all it requires: each after what it requires itself.
///
/// # Errors
/// If one requires itself, by way of others.
pub(crate) fn order(all: &Requirements, id: &ContainerId) -> Result<Vec<ContainerId>> {
    let (mut done, mut path) = (Vec::new(), Vec::new());
    visit(all, id, &mut done, &mut path)?;
    Ok(done)
}

fn visit(all: &Requirements, id: &ContainerId, done: &mut Vec<ContainerId>, path: &mut Vec<ContainerId>) -> Result<()> {
    if done.contains(id) {
        return Ok(());
    }
    if let Some(at) = path.iter().position(|p| p == id) {
        let names: Vec<&str> = path[at..].iter().chain([id]).map(ContainerId::short).collect();
        return Err(Error::conflict(format!(
            "containers require each other in a circle: {}",
            names.join(" → ")
        )));
    }
    path.push(id.clone());
    for required in all.get(id).into_iter().flatten() {
        visit(all, &required.container, done, path)?;
    }
    path.pop();
    done.push(id.clone());
    Ok(())
}

/// Groups of `ids` to be stopped one after the other: who requires another of them stops before it. The order within a
/// group does not matter; one whose record can't be read requires nothing.
pub(crate) fn stop_order(store: &Store, ids: &[ContainerId]) -> Vec<Vec<ContainerId>> {
    groups(&gather(store, ids).unwrap_or_default(), ids)
}

fn groups(all: &Requirements, ids: &[ContainerId]) -> Vec<Vec<ContainerId>> {
    let mut left: Vec<ContainerId> = ids.to_vec();
    let mut groups = Vec::new();
    while !left.is_empty() {
        let mut needed: BTreeSet<ContainerId> = BTreeSet::new();
        for id in &left {
            // By way of others that stay, too. A circle stops in any order.
            let below = order(all, id).unwrap_or_default();
            needed.extend(below.into_iter().filter(|other| other != id));
        }
        let (later, now): (Vec<_>, Vec<_>) = left.into_iter().partition(|id| needed.contains(id));
        if now.is_empty() {
            groups.push(later);
            break;
        }
        groups.push(now);
        left = later;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> ContainerId {
        ContainerId::from_random(&[n; 32])
    }

    fn requirements(of: &[(u8, &[u8])]) -> Requirements {
        let requires = |ids: &[u8]| {
            let one = |n: &u8| Requirement {
                container: id(*n),
                healthy: false,
            };
            ids.iter().map(one).collect()
        };
        of.iter().map(|(n, ids)| (id(*n), requires(ids))).collect()
    }

    #[test]
    fn what_is_required_comes_first() {
        let all = requirements(&[(1, &[2, 3]), (2, &[4]), (3, &[4]), (4, &[])]);
        assert_eq!(order(&all, &id(1)).unwrap(), [id(4), id(2), id(3), id(1)]);
        assert_eq!(order(&all, &id(4)).unwrap(), [id(4)]);
    }

    #[test]
    fn a_circle_is_refused() {
        let all = requirements(&[(1, &[2]), (2, &[3]), (3, &[2])]);
        let e = order(&all, &id(1)).unwrap_err().to_string();
        assert!(
            e.contains("in a circle: 020202020202 → 030303030303 → 020202020202"),
            "{e}"
        );
        assert_eq!(groups(&all, &[id(2), id(3)]).concat().len(), 2);
    }

    #[test]
    fn stopped_the_other_way_round() {
        let all = requirements(&[(1, &[2]), (2, &[3]), (3, &[]), (4, &[])]);
        let of = |ids: &[u8]| groups(&all, &ids.iter().map(|n| id(*n)).collect::<Vec<_>>());
        assert_eq!(of(&[3, 1, 4]), [vec![id(1), id(4)], vec![id(3)]]);
        assert_eq!(of(&[1, 2, 3]).len(), 3);
        assert_eq!(of(&[3, 4]).len(), 1);
    }
}
