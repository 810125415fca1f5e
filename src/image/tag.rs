//! Gives an image a further name.

use crate::error::{Error, Result};
use crate::image::resolve::resolve_id;
use crate::model::reference::Reference;
use crate::store::Store;

/// `tag SOURCE TARGET`: the target moves here if another image has it.
pub(crate) fn tag(store: &Store, source: &str, target: &Reference) -> Result<()> {
    if target.digest.is_some() {
        return Err(Error::other("refusing to create a tag with a digest reference"));
    }
    let held = store.lock_shared()?;
    let id = resolve_id(store, source)?;
    let target = target.clone().or_latest();
    store.change_tags(&held, |tags| {
        tags.set(&target, id);
        Ok(())
    })
}
