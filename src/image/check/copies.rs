//! Copies of layers for the users of some containers (`store/chowned.rs`): whether each is still what its layer says.

use super::{Damage, Object};
use crate::error::{Context as _, Error, Result};
use crate::image::remove::Runs;
use crate::layer::pack;
use crate::model::id::{ChainId, DiffId};
use crate::model::idmap::{IdMap, NOBODY};
use crate::store::Store;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;

pub(super) fn scan(store: &Store, found: &mut dyn FnMut(Damage) -> Result<()>) -> Result<()> {
    for copy in store.chowned_layers()? {
        // Where an image's owner is not among the users, and there is no nobody, who he was can't be told.
        if copy
            .ids
            .outside_user(NOBODY)
            .zip(copy.ids.outside_group(NOBODY))
            .is_none()
        {
            continue;
        }
        let what = match differs(&copy.path, &store.layer_dir(&copy.layer), &copy.ids) {
            Ok(false) => continue,
            Ok(true) => "it is not what its layer is".to_owned(),
            Err(e) => e.to_string(),
        };
        // Not if it was removed while it was looked at; a damaged layer is told by itself.
        if copy.path.exists() && store.has_layer(&copy.layer) {
            let object = Object::Copy(copy.layer, copy.ids.key());
            found(Damage { object, what })?;
        }
    }
    Ok(())
}

/// Compares the archives of both, each in the container's numbers.
fn differs(copy: &Path, layer: &Path, ids: &IdMap) -> Result<bool> {
    let digest = |dir: &Path, ids: &IdMap| -> Result<DiffId> {
        let open = File::open(dir).with_context(|| format!("open {}", dir.display()))?;
        let options = pack::Options {
            root: true,
            ids: Some(ids),
            ..pack::Options::default()
        };
        Ok(pack::pack(open.as_fd(), None, &options)?.diff_id)
    };
    Ok(digest(copy, ids)? != digest(layer, &ids.within())?)
}

/// The next start makes it anew.
pub(super) fn repair(store: &Store, layer: &ChainId, key: &str, runs: Runs<'_>) -> Result<String> {
    let held = store.lock_exclusive()?;
    let has_map = |id: &_| {
        let config = store.config(id).ok();
        config.is_some_and(|config| config.namespaces.on_disk().is_some_and(|ids| ids.key() == key))
    };
    let user = store.container_ids()?.into_iter().find(|id| has_map(id) && runs(id));
    if let Some(user) = user {
        let user = user.short();
        return Err(Error::other(format!("container {user} runs on it")).with_hint(format!("barge stop {user}")));
    }
    store.remove_chowned(layer, key, held)?;
    Ok("removed: it is made anew when it is needed".to_owned())
}
