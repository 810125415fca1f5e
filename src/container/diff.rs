//! `diff`: what a container has changed of its image. What a commit has made a layer of counts as its own.

use crate::error::{Context as _, Error, Result};
use crate::layer::changes::{Changes, changes, compose};
use crate::model::container::RootSource;
use crate::model::id::ContainerId;
use crate::store::Store;
use std::fs::File;
use std::os::fd::AsFd as _;

pub(crate) fn diff(store: &Store, id: &ContainerId) -> Result<Changes> {
    // One that a commit has left half done is healed by taking its lock.
    drop(store.try_lock_container(id)?);
    let config = store.config(id)?;
    if matches!(config.root, RootSource::Directory(_)) {
        let why = "its files are a directory of the host (--rootfs), which has no image to compare with";
        return Err(Error::usage(format!("diff {}: {why}", config.name)));
    }
    let mut stack = store.lower_dirs(&config);
    let base = stack.len().saturating_sub(config.image.committed);
    stack.push(store.upper_dir(id));
    let mut all = Changes::new();
    for top in base..stack.len() {
        let dir = File::open(&stack[top]).with_context(|| format!("open {}", stack[top].display()))?;
        all = compose(all, changes(dir.as_fd(), &stack[..top])?);
    }
    Ok(all)
}
