//! All containers at once: after a boot, those that their restart policies ask for; for a shutdown, all that run. What
//! needs another container is started after it and ended before it; what needs nothing of each other is done at the
//! same time, also while one of them waits for another to be healthy.

use crate::container::order;
use crate::container::start;
use crate::container::status::status;
use crate::container::stop;
use crate::container::wait::Watch;
use crate::error::Result;
use crate::model::container::{ContainerConfig, NetworkMode, RestartPolicy};
use crate::model::id::ContainerId;
use crate::model::namespace::Whose;
use crate::model::state::{Exit, Status};
use crate::monitor::launch::{self, Pending};
use crate::store::Store;
use rustix::event::{PollFd, PollFlags, Timespec};
use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, OwnedFd};

/// Starts that wait for their monitors at a time, for each processor.
const AT_ONCE: usize = 2;

/// Starts what ran, or should have, when the machine went down. `told` hears of each.
pub(crate) fn start_all(store: &Store, told: &mut dyn FnMut(&ContainerConfig, Result<()>)) -> Result<()> {
    let configs = configs(store)?;
    let wanted: Vec<_> = configs
        .into_iter()
        .filter(|config| match status(store, &config.id) {
            Status::Exited(exit) => is_wanted(config, &exit),
            Status::Created | Status::Running(_) | Status::Damaged(_) => false,
        })
        .collect();
    let width = AT_ONCE * std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut order = Order::new(&wanted, Direction::NeededFirst);
    let mut pending: Vec<(usize, Pending)> = Vec::new();
    let mut held: Vec<Held> = Vec::new();
    loop {
        while pending.len() < width.max(4)
            && let Some(n) = order.next(pending.is_empty() && held.is_empty())
        {
            match begin(store, &wanted[n].id, None) {
                Ok(Begun::Pending(begun)) => pending.push((n, begun)),
                Ok(Begun::Held(awaited, watch)) => held.push(Held { n, awaited, watch }),
                other => {
                    order.done(n);
                    told(&wanted[n], other.map(|_| ()));
                }
            }
        }
        if pending.is_empty() && held.is_empty() {
            return Ok(());
        }
        let begun = pending.iter().map(|(_, p)| p.as_fd());
        let there = ready(begun.chain(held.iter().map(|h| h.watch.as_fd())), !held.is_empty())?;
        // Also those whose watch is silent: what they wait for may show in no file.
        for held_back in std::mem::take(&mut held) {
            let n = held_back.n;
            match begin(store, &wanted[n].id, Some(&held_back.awaited)) {
                Ok(Begun::Pending(begun)) => pending.push((n, begun)),
                Ok(Begun::Held(awaited, watch)) => held.push(Held { n, awaited, watch }),
                other => {
                    order.done(n);
                    told(&wanted[n], other.map(|_| ()));
                }
            }
        }
        let count = pending.len();
        for n in there.into_iter().rev().filter(|n| *n < count) {
            let (n, begun) = pending.swap_remove(n);
            let warned = |warnings: Vec<String>| {
                for warning in warnings {
                    store.notify(&format!("WARNING: {}: {warning}", wanted[n].name));
                }
            };
            let started = begun.finish().map(warned);
            order.done(n);
            told(&wanted[n], started);
        }
    }
}

/// A container that can't start before another one is healthy.
struct Held {
    n: usize,
    awaited: ContainerId,
    watch: Watch,
}

enum Begun {
    /// Its monitor is starting it.
    Pending(Pending),
    Held(ContainerId, Watch),
    /// It runs already.
    Done,
}

/// What it requires runs by now, if it can; that one of them has to be healthy first is not waited for here.
fn begin(store: &Store, id: &ContainerId, awaited: Option<&ContainerId>) -> Result<Begun> {
    let mut awaited = awaited.cloned();
    loop {
        // Before the look: what changes after it is told of.
        let watch = match &awaited {
            Some(other) => Some(Watch::new(store, other)?),
            None => None,
        };
        match (order::advance(store, id, awaited.as_ref())?, watch) {
            (None, _) => break,
            (Some(other), Some(watch)) if awaited.as_ref() == Some(&other) => return Ok(Begun::Held(other, watch)),
            (Some(other), _) => awaited = Some(other),
        }
    }
    match start::ready(store, id)? {
        Some(lock) => {
            let passed = start::passed(store, id, Vec::new())?;
            launch::begin(store, id, lock, None, &passed).map(Begun::Pending)
        }
        None => Ok(Begun::Done),
    }
}

/// Ends everything that runs as its stop signal and timeout have it. Nobody has stopped it in the sense of its restart
/// policy: after the boot it runs again. Returns when all have ended.
pub(crate) fn stop_all(store: &Store, told: &mut dyn FnMut(&ContainerConfig, Result<()>)) -> Result<()> {
    let running: Vec<_> = configs(store)?
        .into_iter()
        // A unit ends what it has started.
        .filter(|c| c.service.unit.is_none() && matches!(status(store, &c.id), Status::Running(_)))
        .collect();
    let mut order = Order::new(&running, Direction::NeededLast);
    let mut pending: Vec<(usize, OwnedFd)> = Vec::new();
    loop {
        while let Some(n) = order.next(pending.is_empty()) {
            match stop::ask_monitor(store, &running[n].id) {
                Ok(Some(monitor)) => pending.push((n, monitor)),
                other => {
                    order.done(n);
                    told(&running[n], other.map(|_| ()));
                }
            }
        }
        if pending.is_empty() {
            return Ok(());
        }
        for n in ready(pending.iter().map(|(_, p)| p.as_fd()), false)?.into_iter().rev() {
            let (n, _) = pending.swap_remove(n);
            order.done(n);
            told(&running[n], Ok(()));
        }
    }
}

/// Waits until one can be read, a second at most if there is something that no descriptor tells of, and gives the places
/// of those that can.
fn ready<'a>(fds: impl Iterator<Item = std::os::fd::BorrowedFd<'a>>, look_again: bool) -> Result<Vec<usize>> {
    let mut fds: Vec<_> = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    let second = Timespec { tv_sec: 1, tv_nsec: 0 };
    match rustix::event::poll(&mut fds, look_again.then_some(&second)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(e) => return Err(e.into()),
    }
    let ready = fds.iter().enumerate().filter(|(_, fd)| !fd.revents().is_empty());
    Ok(ready.map(|(n, _)| n).collect())
}

/// Those whose records can be read.
fn configs(store: &Store) -> Result<Vec<ContainerConfig>> {
    let mut configs: Vec<_> = store
        .container_ids()?
        .iter()
        .filter_map(|id| store.config(id).ok())
        .collect();
    configs.sort_by_key(|config| config.created);
    Ok(configs)
}

/// As docker's daemon does when it starts: `always` whatever has become of it, `unless-stopped` unless a person stopped
/// it; `on-failure` is about the program's failures, which a boot is not. What a unit has started is that unit's to
/// start again.
fn is_wanted(config: &ContainerConfig, exit: &Exit) -> bool {
    let ours = config.service.unit.is_none() && !config.auto_remove;
    ours && match config.restart {
        RestartPolicy::Always => true,
        RestartPolicy::UnlessStopped => !exit.stopped_by_user,
        RestartPolicy::OnFailure { .. } | RestartPolicy::No => false,
    }
}

/// The containers that this one can't run without.
fn needs(config: &ContainerConfig) -> impl Iterator<Item = &ContainerId> {
    let network = match &config.network {
        NetworkMode::Container(other) => Some(other),
        _ => None,
    };
    let namespaces = [&config.namespaces.ipc, &config.namespaces.pid, &config.namespaces.uts];
    let shared = namespaces.into_iter().filter_map(|whose| match whose {
        Whose::Container(other) => Some(other),
        Whose::Private | Whose::Host => None,
    });
    let links = config.names.links.iter().map(|link| &link.container);
    network
        .into_iter()
        .chain(shared)
        .chain(links)
        .chain(config.requires.iter().map(|r| &r.container))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    NeededFirst,
    NeededLast,
}

/// Who comes next: a container whose predecessors are done.
#[derive(Debug)]
struct Order {
    /// For each: who has to be done before it.
    before: Vec<BTreeSet<usize>>,
    waiting: BTreeSet<usize>,
}

impl Order {
    fn new(configs: &[ContainerConfig], direction: Direction) -> Order {
        let mut before = vec![BTreeSet::new(); configs.len()];
        for (n, config) in configs.iter().enumerate() {
            for id in needs(config) {
                let Some(needed) = configs.iter().position(|c| c.id == *id).filter(|m| *m != n) else {
                    continue;
                };
                match direction {
                    Direction::NeededFirst => before[n].insert(needed),
                    Direction::NeededLast => before[needed].insert(n),
                };
            }
        }
        Order {
            before,
            waiting: (0..configs.len()).collect(),
        }
    }

    /// `alone`: nothing is under way that could make another one free. Then those that need each other go all the same.
    fn next(&mut self, alone: bool) -> Option<usize> {
        let free = self.waiting.iter().find(|n| self.before[**n].is_empty()).copied();
        let next = free.or_else(|| self.waiting.first().copied().filter(|_| alone))?;
        self.waiting.remove(&next);
        Some(next)
    }

    fn done(&mut self, n: usize) {
        for before in &mut self.before {
            before.remove(&n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(before: &[&[usize]]) -> Order {
        Order {
            before: before.iter().map(|b| b.iter().copied().collect()).collect(),
            waiting: (0..before.len()).collect(),
        }
    }

    #[test]
    fn what_is_needed_comes_first() {
        let mut order = order(&[&[1, 2], &[2], &[], &[]]);
        assert_eq!(order.next(true), Some(2));
        assert_eq!(order.next(false), Some(3));
        assert_eq!(order.next(false), None);
        order.done(2);
        assert_eq!(order.next(false), Some(1));
        order.done(3);
        assert_eq!(order.next(false), None);
        order.done(1);
        assert_eq!(order.next(false), Some(0));
        order.done(0);
        assert_eq!(order.next(true), None);
    }

    #[test]
    fn a_circle_ends() {
        let mut order = order(&[&[1], &[0]]);
        assert_eq!(order.next(false), None);
        assert_eq!(order.next(true), Some(0));
        order.done(0);
        assert_eq!(order.next(true), Some(1));
    }
}
