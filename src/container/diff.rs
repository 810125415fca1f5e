//! `diff`: what a container has changed of its image. What a commit has made a layer of counts as its own.

use crate::error::{Context as _, Error, Result};
use crate::layer::changes::{Change, Changes, Form, changes, compare, compose};
use crate::model::container::{ContainerConfig, RootSource};
use crate::model::driver::Driver;
use crate::model::id::ContainerId;
use crate::store::Store;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;

pub(crate) fn diff(store: &Store, id: &ContainerId) -> Result<Changes> {
    // One that a commit has left half done is healed by taking its lock.
    drop(store.try_lock_container(id)?);
    let config = store.config(id)?;
    if matches!(config.root, RootSource::Directory(_)) {
        let why = "its files are a directory of the host (--rootfs), which has no image to compare with";
        return Err(Error::usage(format!("diff {}: {why}", config.name)));
    }
    let driver = store.driver()?;
    if driver == Some(Driver::Copy) {
        return of_copy(store, &config);
    }
    let mut stack = store.lower_dirs(&config);
    let base = stack.len().saturating_sub(config.image.committed);
    stack.push(store.upper_dir(id));
    let ids = config.namespaces.on_disk();
    let mut all = Changes::new();
    for top in base..stack.len() {
        let dir = File::open(&stack[top]).with_context(|| format!("open {}", stack[top].display()))?;
        let form = match driver {
            Some(Driver::Aufs) if top + 1 == stack.len() => Form::Aufs,
            _ => Form::Overlay,
        };
        all = compose(all, changes(dir.as_fd(), &stack[..top], (form, ids))?);
    }
    Ok(all)
}

/// What a container that has a copy of its image differs from it in. Nothing, as long as there is no copy.
pub(super) fn of_copy(store: &Store, config: &ContainerConfig) -> Result<Changes> {
    let tree = store.tree_dir(&config.id);
    let dir = match File::open(&tree) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Changes::new()),
        opened => opened.with_context(|| format!("open {}", tree.display()))?,
    };
    let mut layers = vec![store.mount_points()?];
    layers.extend(store.lower_dirs(config));
    compare(dir.as_fd(), &layers, (None, config.namespaces.on_disk()))
}

/// The bytes of the files that are its own, or are changed.
pub(super) fn size_in_copy(store: &Store, id: &ContainerId) -> Result<u64> {
    let tree = store.tree_dir(id);
    let config = store.config(id)?;
    let changes = match config.root {
        RootSource::Directory(_) => Changes::new(),
        _ => of_copy(store, &config)?,
    };
    let sizes = changes.into_iter().filter_map(|(path, change)| {
        let stat = tree.join(OsStr::from_bytes(&path)).symlink_metadata().ok()?;
        (change != Change::Deleted && !stat.is_dir()).then_some(stat.len())
    });
    Ok(sizes.sum())
}
