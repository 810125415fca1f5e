//! `image prune`, and what `system prune` drops besides: compressed layers that can be made again, and downloads that
//! nobody goes on with.

use crate::error::Result;
use crate::image::list::summaries;
use crate::image::removal::plan_prune;
use crate::image::remove::{Removal, Runs, carry_out, state, users};
use crate::model::id::ImageId;
use crate::model::time::Timestamp;
use crate::store::Store;
use std::collections::BTreeSet;

/// Which images may go. All of it has to hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// Not only nameless ones: all that no container uses.
    pub(crate) all: bool,
    /// Made before this time.
    pub(crate) until: Option<Timestamp>,
    /// `KEY` or `KEY=VALUE`.
    pub(crate) labels: Vec<String>,
    /// Those that have one of these stay.
    pub(crate) without: Vec<String>,
}

pub(crate) fn images(store: &Store, wanted: &Wanted, runs: Runs<'_>) -> Result<Removal> {
    let held = store.lock_exclusive()?;
    let mut state = state(store)?;
    state.users = users(store, runs)?;
    let matching = matching(store, wanted)?;
    let steps = plan_prune(&mut state, wanted.all, &|id| {
        matching.as_ref().is_none_or(|ids| ids.contains(id))
    });
    carry_out(store, &steps, held)
}

/// `None`: every image. A damaged one has no labels, and no time.
fn matching(store: &Store, wanted: &Wanted) -> Result<Option<BTreeSet<ImageId>>> {
    if wanted.until.is_none() && wanted.labels.is_empty() && wanted.without.is_empty() {
        return Ok(None);
    }
    let ids = store.image_ids()?;
    let matches = summaries(store, &ids).into_iter().filter(|(_, summary)| match summary {
        Ok(summary) => {
            wanted.until.is_none_or(|until| summary.created() < until)
                && wanted.labels.iter().all(|label| summary.has_label(label))
                && !wanted.without.iter().any(|label| summary.has_label(label))
        }
        Err(_) => false,
    });
    Ok(Some(matches.map(|(id, _)| id).collect()))
}

/// Drops every compressed layer that its files can make again. Bytes that became free.
pub(crate) fn blobs(store: &Store) -> Result<(usize, u64)> {
    let held = store.lock_exclusive()?;
    let dropped = store.drop_layer_blobs(&held)?;
    Ok((dropped.len(), dropped.iter().map(|(_, size)| size).sum()))
}
