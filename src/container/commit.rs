//! `commit`: what a container has changed becomes a layer, and with its configuration an image.
//!
//! The changes of a stopped container are hashed once, and moved: the layer goes below the container
//! (`store/adopt.rs`). Those of a running one are copied once, by way of the layer's tar, while its processes stand
//! still. So are a stopped one's, where the tar says less than the tree: sockets are in no archive, and with
//! `SOURCE_DATE_EPOCH` times are earlier.

use crate::container::freeze::Freeze;
use crate::container::{diff, start, view};
use crate::error::{Context as _, Error, Kind, Result};
use crate::image::commit::{Described, Draft, draft};
use crate::image::intake::{Intake, LayerSource};
use crate::image::progress::Silent;
use crate::layer::{self, difference, pack};
use crate::model::container::ContainerConfig;
use crate::model::driver::Driver;
use crate::model::id::{ChainId, ContainerId, DiffId, ImageId};
use crate::store::{ContainerLock, LayerRecord, StagedLayer, Store};
use crate::sys;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

/// More layers than any engine starts.
const MOST_LAYERS: usize = 480;

/// A container may end while it is made to stand still, and another command may start it at once.
const ATTEMPTS: usize = 20;

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) described: Described,
    /// The processes stand still while files are copied.
    pub(crate) pause: bool,
    /// One layer of all that the container sees.
    pub(crate) squash: bool,
}

/// When it returns, the image survives a power cut.
pub(crate) fn commit(store: &Store, id: &ContainerId, options: Options) -> Result<ImageId> {
    let config = store.config(id)?;
    let base = store.image(&config.image.id).ok();
    if !config.root.is_default() && !options.squash {
        let error = Error::usage(format!(
            "commit: container {} has no image below it (--rootfs)",
            config.name
        ));
        return Err(error.with_hint("make an image of all that it sees: `barge commit --squash`"));
    }
    let comment = options.described.message.clone();
    let draft = draft(&config, base.as_ref(), options.described)?.told_of(&config, comment);
    if config.image.layers.len() >= MOST_LAYERS {
        let many = config.image.layers.len();
        return Err(
            Error::other(format!("commit: too many layers ({many}, limit {MOST_LAYERS})"))
                .with_hint("make one of all: `barge commit --squash`"),
        );
    }
    let intake = Intake::new(store, &Silent)?;
    if options.squash {
        let layer = squash(store, id, options.pause, &intake)?;
        return draft.squashed().finish(&intake, vec![layer]);
    }
    for _ in 0..ATTEMPTS {
        let lock = match view::running(store, id)? {
            None => match start::ready(store, id) {
                // Started meanwhile, and paused by another commit.
                Err(e) if e.kind() == Kind::Conflict => None,
                lock => lock?,
            },
            Some(_) => None,
        };
        if let Some(lock) = lock {
            let config = match adopt(store, id, &lock)? {
                Some(config) => config,
                None => return copy(store, &store.config(id)?, None, draft, &intake),
            };
            return draft.finish(&intake, diff_ids(store, &config)?);
        }
        let frozen = options.pause.then(|| Freeze::take(store, id)).transpose()?.flatten();
        if frozen.is_some() || !options.pause {
            return copy(store, &store.config(id)?, frozen, draft, &intake);
        }
        // It has just ended, or is about to start again.
    }
    Err(
        Error::conflict(format!("container {} starts and ends all the time", id.short()))
            .with_hint("--pause=false copies its files as they are"),
    )
}

/// The layers below a container.
fn diff_ids(store: &Store, config: &ContainerConfig) -> Result<Vec<DiffId>> {
    let layers = config.image.layers.iter();
    layers.map(|layer| Ok(store.layer(layer)?.diff_id)).collect()
}

/// Moves a stopped container's changes below it, and gives what it is then. `None` if they must be copied.
fn adopt(store: &Store, id: &ContainerId, lock: &ContainerLock) -> Result<Option<ContainerConfig>> {
    // Of a container with a limit, what it has written stays counted as its own; and a layer has the image's owners.
    let kept = store.config(id)?;
    let own = kept.quota.is_some() || kept.namespaces.chowned;
    let stacked = store.driver()? == Some(Driver::Overlay);
    if own || !stacked || pack::source_date_epoch()?.is_some() || sys::mount::is_mounted(&store.container_mount(id)) {
        return Ok(None);
    }
    // As it is now that nobody else changes it.
    let config = store.config(id)?;
    let upper = open_directory(&store.upper_dir(id))?;
    let root = has_own_root(store, &config, &upper)?;
    let record = store.begin_adoption(id, lock)?;
    let options = pack::Options {
        record: Some(&record),
        root,
        ..pack::Options::default()
    };
    let packed = pack::pack(upper.as_fd(), None, &options);
    let packed = match packed {
        Ok(packed) if packed.exact && packed.members > 0 => packed,
        other => {
            store.abandon_adoption(id, lock)?;
            return match other?.members {
                0 => Ok(Some(config)),
                _ => Ok(None),
            };
        }
    };
    sys::stop_point("upper-hashed");
    let parent = config.image.layers.last().copied();
    let record = LayerRecord {
        parent,
        diff_id: packed.diff_id,
        size: packed.size,
        blobs: Vec::new(),
    };
    let references = store.lock_shared()?;
    let config = store.adopt_upper(&config, &record, lock, &references)?;
    if !root {
        settle_root(store, &config)?;
    }
    Ok(Some(config))
}

/// A layer that says nothing of its root has the one below, wherever it is unpacked; so also here.
fn settle_root(store: &Store, config: &ContainerConfig) -> Result<()> {
    let mut lowers = store.lower_dirs(config);
    match lowers.pop() {
        Some(top) => layer::inherit(open_directory(&top)?.as_fd(), &[Vec::new()], &lowers),
        None => Ok(()),
    }
}

/// Copies a container's changes, if there are any, into a layer for the image. It stands still no longer than that.
fn copy(
    store: &Store,
    config: &ContainerConfig,
    frozen: Option<Freeze>,
    draft: Draft,
    intake: &Intake<'_>,
) -> Result<ImageId> {
    let driver = store.driver()?;
    let only = match driver {
        Some(Driver::Copy) => Some(diff::of_copy(store, config)?),
        _ => None,
    };
    let upper = match (&only, store.tree_dir(&config.id)) {
        (Some(_), tree) if tree.exists() => open_directory(&tree)?,
        _ => open_directory(&store.upper_dir(&config.id))?,
    };
    let options = pack::Options {
        record: None,
        root: has_own_root(store, config, &upper)?,
        epoch: pack::source_date_epoch()?,
        only: only.as_ref(),
        ids: config.namespaces.on_disk(),
        ..pack::Options::default()
    };
    let staged = store.stage_layer()?;
    sys::stop_point("frozen");
    let copied = pipe(&staged, |out| match only {
        Some(_) => pack::export(upper.as_fd(), out, &options),
        None if driver == Some(Driver::Aufs) => pack::write_branch(upper.as_fd(), out, &options),
        None => pack::write(upper.as_fd(), out, &options),
    });
    drop(frozen);
    let (members, unpacked) = copied.map_err(|e| view::or_gone(store, &config.id, e))?;
    let mut layers = diff_ids(store, config)?;
    if members > 0 {
        layer::inherit(staged.diff()?.as_fd(), &unpacked.implied, &store.lower_dirs(config))?;
        layers.push(keep(intake, staged, config.image.layers.last().copied(), &unpacked)?);
    }
    draft.finish(intake, layers)
}

/// Copies all that a container sees into one layer.
fn squash(store: &Store, id: &ContainerId, pause: bool, intake: &Intake<'_>) -> Result<DiffId> {
    let view = view::view(store, id)?;
    let options = pack::Options {
        record: None,
        root: true,
        epoch: pack::source_date_epoch()?,
        without: view.placeholders,
        ids: view.ids.as_ref(),
        ..pack::Options::default()
    };
    let staged = store.stage_layer()?;
    let frozen = pause.then(|| Freeze::take(store, id)).transpose()?.flatten();
    let copied = pipe(&staged, |out| pack::export(view.root.as_fd(), out, &options));
    drop(frozen);
    let (_, unpacked) = copied.map_err(|e| view::or_gone(store, id, e))?;
    layer::inherit(staged.diff()?.as_fd(), &unpacked.implied, &[])?;
    keep(intake, staged, None, &unpacked)
}

/// Runs what `write` writes, a tar, into the staged layer.
fn pipe(
    staged: &StagedLayer,
    write: impl FnOnce(&mut (dyn Write + Send)) -> Result<u64> + Send,
) -> Result<(u64, layer::Unpacked)> {
    let options = layer::Options {
        record: Some(staged.record()?),
        ..layer::Options::default()
    };
    difference::carry(write, staged.diff()?.as_fd(), &options)
}

/// Gives the layer to the intake, which keeps it until the image refers to it.
fn keep(
    intake: &Intake<'_>,
    staged: StagedLayer,
    parent: Option<ChainId>,
    unpacked: &layer::Unpacked,
) -> Result<DiffId> {
    sys::stop_point("changes-copied");
    let (diff_id, size) = (unpacked.diff_id, unpacked.size);
    let source = LayerSource::Staged { staged, diff_id, size };
    Ok(intake.layer(parent, Some(diff_id), source)?.diff_id)
}

/// Whether the container's root directory is another than its image's.
fn has_own_root(store: &Store, config: &ContainerConfig, upper: &OwnedFd) -> Result<bool> {
    match store.lower_dirs(config).last() {
        Some(below) => {
            let below = open_directory(below)?;
            pack::roots_differ_for(upper.as_fd(), below.as_fd(), config.namespaces.on_disk())
        }
        None => Ok(true),
    }
}

fn open_directory(path: &std::path::Path) -> Result<OwnedFd> {
    let open = File::options().read(true).open(path);
    Ok(open.with_context(|| format!("open {}", path.display()))?.into())
}
