//! `image prune`, and what `system prune` drops besides: compressed layers that can be made again, and downloads that
//! nobody goes on with.

use crate::error::Result;
use crate::image::list::summaries;
use crate::image::removal::plan_prune;
use crate::image::remove::{Removal, Runs, carry_out, state, users};
use crate::model::event::{Event, EventKind};
use crate::model::id::ImageId;
use crate::model::prune::Filters;
use crate::store::Store;
use std::collections::BTreeSet;

/// Removes nameless images that no container uses; with `all`, every image that none uses.
pub(crate) fn images(store: &Store, all: bool, filters: &Filters, runs: Runs<'_>) -> Result<Removal> {
    let held = store.lock_exclusive()?;
    let mut state = state(store)?;
    state.users = users(store, runs)?;
    let matching = matching(store, filters)?;
    let steps = plan_prune(&mut state, all, &|id| matching.contains(id));
    let removal = carry_out(store, &steps, held)?;
    store.event(&Event::new(EventKind::Image, "prune", "").with("reclaimed", removal.bytes()));
    Ok(removal)
}

/// A damaged image has no labels, and no time.
fn matching(store: &Store, filters: &Filters) -> Result<BTreeSet<ImageId>> {
    let any = *filters == Filters::default();
    let ids = store.image_ids()?;
    let matches = summaries(store, &ids).into_iter().filter(|(_, summary)| match summary {
        Ok(summary) => filters.matches(summary.created(), summary.labels()),
        Err(_) => any,
    });
    Ok(matches.map(|(id, _)| id).collect())
}

/// Drops every compressed layer that its files can make again. Bytes that became free.
pub(crate) fn blobs(store: &Store) -> Result<(usize, u64)> {
    let held = store.lock_exclusive()?;
    let dropped = store.drop_layer_blobs(&held)?;
    Ok((dropped.len(), dropped.iter().map(|(_, size)| size).sum()))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use crate::image::intake::{Intake, LayerSource};
    use crate::image::progress::Silent;
    use crate::store::testing::Scratch;

    #[test]
    fn what_a_transfer_left_goes_without_any_image() {
        let s = Scratch::new();
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(3);
        header.set_mode(0o644);
        tar.append_data(&mut header, "a", &b"abc"[..]).unwrap();
        let tar = tar.into_inner().unwrap();
        let intake = Intake::new(&s, &Silent).unwrap();
        intake.layer(None, None, LayerSource::Tar(&mut &tar[..])).unwrap();
        intake.commit_all().unwrap();
        let prune = || images(&s, false, &Filters::default(), &|_| false).unwrap();
        assert_eq!(prune().bytes(), 0, "it is wanted");
        drop(intake);
        assert_eq!(prune().bytes(), 3);
        assert!(s.layer_ids().unwrap().is_empty());
    }
}
