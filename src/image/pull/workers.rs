//! Layers that are brought several at a time.

use crate::error::{Context, Error, Result};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Two of them keep two cores busy; the others wait for the network meanwhile.
const AT_ONCE: usize = 4;

/// Does `work` for each of `items`. They are begun in order, so that locks are taken parents first. After a failure, which
/// is told to those under way by the flag, no further one is begun. The first failure is given: it is what made the others
/// stop.
pub(super) fn for_each<T: Sync>(items: &[T], work: impl Fn(&T, &AtomicBool) -> Result<()> + Sync) -> Option<Error> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let fail = |e: Error| {
        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
        stop.store(true, Ordering::Relaxed);
    };
    let serve = || {
        while !stop.load(Ordering::Relaxed)
            && let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed))
        {
            if let Err(e) = work(item, &stop) {
                fail(e);
            }
        }
    };
    std::thread::scope(|scope| {
        for n in 1..AT_ONCE.min(items.len()) {
            let thread = std::thread::Builder::new().name(format!("layer {n}"));
            if let Err(e) = thread.spawn_scoped(scope, serve).context("start a thread") {
                return fail(e);
            }
        }
        serve();
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn all_of_them_or_the_first_failure() {
        let items: Vec<usize> = (0..100).collect();
        let done = Mutex::new(BTreeSet::new());
        let note = |n: &usize, _: &AtomicBool| {
            done.lock().unwrap().insert(*n);
            Ok(())
        };
        assert!(for_each(&items, note).is_none());
        assert_eq!(done.into_inner().unwrap().len(), 100);
        let done = AtomicUsize::new(0);
        let fails = |n: &usize, _: &AtomicBool| match done.fetch_add(1, Ordering::Relaxed) {
            10 => Err(Error::other(format!("item {n}"))),
            _ => Ok(()),
        };
        assert!(for_each(&items, fails).unwrap().to_string().starts_with("item "));
        assert!(done.into_inner() < 20);
        assert!(for_each(&[] as &[usize], |_, _| Err(Error::other("never"))).is_none());
    }
}
