//! A stopped container's `upper/` becomes a layer: it is moved, not copied. The new layer goes below the container, which
//! gets an empty `upper/` and sees the same tree as before. (A hard-linked copy would not do: a container that is
//! started again writes into the very files. A reflink is not to be had on ext4.)
//!
//! `containers/<id>/layer/` is the layer in the making. In this order, each step a rename:
//!
//! ```text
//!   1  layer/{layer.json, tar-record}     on the disk, with all of upper/
//!   2  upper → layer/diff
//!   3  config.json                        the layer's chain id added: from here on it goes forward only
//!   4  layer → layers/<chain id>          or dropped, where the store has that layer already
//!   5  upper                              made anew
//! ```
//!
//! Whoever takes the container's lock next after a crash goes on or back, as it finds it. Garbage collection needs no
//! more than `config.json`: it names the layer before the store has it.

use super::layers::{JSON, LayerRecord, RECORD};
use super::{ContainerLock, Durability, Store, StoreLock, file, staging};
use crate::error::{Context, Error, Result};
use crate::model::container::{ContainerConfig, RootSource};
use crate::model::id::ContainerId;
use crate::sys;
use std::fs::{DirBuilder, File, FileTimes, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// In a container's directory.
const LAYER: &str = "layer";
const UPPER: &str = "upper";
const NEW_UPPER: &str = ".upper.new";

impl Store {
    /// What a container has changed.
    pub(crate) fn upper_dir(&self, id: &ContainerId) -> PathBuf {
        self.container_dir(id).join(UPPER)
    }

    /// The layers below a container's upper, base first.
    pub(crate) fn lower_dirs(&self, config: &ContainerConfig) -> Vec<PathBuf> {
        match &config.root {
            RootSource::OnDirectory(dir) => vec![dir.clone()],
            RootSource::Layers | RootSource::Directory(_) => {
                config.image.layers.iter().map(|l| self.layer_dir(l)).collect()
            }
        }
    }

    /// Begins with an empty file for what rebuilds the layer's tar.
    pub(crate) fn begin_adoption(&self, id: &ContainerId, _held: &ContainerLock) -> Result<File> {
        let layer = self.container_dir(id).join(LAYER);
        staging::remove_path(&layer)?;
        DirBuilder::new()
            .mode(0o700)
            .create(&layer)
            .and_then(|()| file::write_new(&layer.join(RECORD), b"", Durability::Volatile))
            .with_context(|| format!("make {}", layer.display()))
    }

    /// Leaves everything as it was before [`Store::begin_adoption`].
    pub(crate) fn abandon_adoption(&self, id: &ContainerId, _held: &ContainerLock) -> Result<()> {
        staging::remove_path(&self.container_dir(id).join(LAYER))
    }

    /// Makes the container's upper the layer that `record` describes. Returns the container's configuration, which has
    /// one layer more. `_references` is the store's shared lock; nobody waits for a container's with the store's in
    /// hand, so it may be taken after it.
    pub(crate) fn adopt_upper(
        &self,
        config: &ContainerConfig,
        record: &LayerRecord,
        held: &ContainerLock,
        _references: &StoreLock,
    ) -> Result<ContainerConfig> {
        let dir = self.container_dir(&config.id);
        let layer = dir.join(LAYER);
        file::write_new(&layer.join(JSON), &file::to_json(record)?, Durability::Volatile)
            .context("write layer record")?;
        rustix::fs::syncfs(std::os::fd::AsFd::as_fd(held)).context("sync layer")?;
        sys::stop_point("adoption-begun");
        rename(&dir.join(UPPER), &layer.join("diff"))?;
        sys::stop_point("upper-moved");
        let mut config = config.clone();
        config.image.layers.push(record.chain_id());
        config.image.committed += 1;
        let written =
            file::to_json(&config).and_then(|json| file::replace(&dir, "config.json", &json, Durability::Synced));
        if let Err(e) = written {
            // A full disk, for one. What the container is must be as it was.
            return match rename(&layer.join("diff"), &dir.join(UPPER)) {
                Ok(()) => Err(e),
                Err(second) => Err(e.and(&second)),
            };
        }
        sys::stop_point("layer-named");
        self.finish_adoption(&config)?;
        Ok(config)
    }

    /// Steps 4 and 5, as far as they are still to be done.
    fn finish_adoption(&self, config: &ContainerConfig) -> Result<()> {
        let dir = self.container_dir(&config.id);
        let (layer, upper) = (dir.join(LAYER), dir.join(UPPER));
        let top = config.image.layers.last().ok_or_else(|| Error::other("no layers"))?;
        let place = self.layers_root().join(top.hex());
        if layer.exists() && !place.exists() {
            rename(&layer, &place)?;
            file::sync_dir(&self.layers_root())?;
        }
        sys::stop_point("layer-placed");
        if !upper.exists() {
            // The same layer, whether it was in the store before or not: what it says of the root is the same.
            make_upper(&dir, &self.layer_dir(top))?;
        }
        staging::remove_path(&layer)?;
        file::sync_dir(&dir)
    }

    /// What a crash has left half done. Under the container's lock; success if there is nothing.
    pub(super) fn heal_adoption(&self, id: &ContainerId) -> Result<()> {
        let dir = self.container_dir(id);
        let (layer, upper) = (dir.join(LAYER), dir.join(UPPER));
        if upper.exists() && !layer.exists() {
            return Ok(());
        }
        let config = self.config(id)?;
        let record: Option<LayerRecord> = file::read_json(&layer.join(JSON)).unwrap_or_default();
        let chain = record.map(|r| r.chain_id());
        let named = chain.is_some() && chain == config.image.layers.last().copied();
        let diff = layer.join("diff");
        match (upper.exists(), diff.exists(), named) {
            // The name reached the disk and the move did not.
            (true, false, true) if !chain.is_some_and(|c| self.has_layer(&c)) => {
                rename(&upper, &diff)?;
                self.finish_adoption(&config)
            }
            (true, _, _) => staging::remove_path(&layer),
            (false, true, false) => {
                rename(&diff, &upper)?;
                staging::remove_path(&layer)
            }
            (false, ..) => self.finish_adoption(&config),
        }
    }
}

/// An empty upper with the owner, mode, times and attributes of what it is to cover.
fn make_upper(dir: &Path, model: &Path) -> Result<()> {
    let new = dir.join(NEW_UPPER);
    staging::remove_path(&new)?;
    let made = || -> Result<()> {
        DirBuilder::new().mode(0o755).create(&new)?;
        dress(&new, model)
    };
    made().with_context(|| format!("make {}", new.display()))?;
    rename(&new, &dir.join(UPPER))
}

/// Gives a directory owner, mode, attributes and times of another.
pub(super) fn dress(new: &Path, model: &Path) -> Result<()> {
    let meta = std::fs::symlink_metadata(model)?;
    std::os::unix::fs::lchown(new, Some(meta.uid()), Some(meta.gid()))?;
    std::fs::set_permissions(new, Permissions::from_mode(meta.mode() & 0o7777))?;
    copy_attributes(model, new)?;
    let times = FileTimes::new()
        .set_accessed(meta.accessed()?)
        .set_modified(meta.modified()?);
    Ok(File::open(new)?.set_times(times)?)
}

/// All but overlayfs' own.
fn copy_attributes(from: &Path, to: &Path) -> Result<()> {
    use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lsetxattr};
    let mut names = vec![0; 64 * 1024];
    let length = match llistxattr(from, &mut names[..]) {
        Err(rustix::io::Errno::NOTSUP) => return Ok(()),
        listed => listed?,
    };
    names.truncate(length);
    let mut value = vec![0; 64 * 1024];
    for name in names.split(|b| *b == 0).filter(|n| !n.is_empty()) {
        if !name.starts_with(b"trusted.overlay.") {
            let length = lgetxattr(from, name, &mut value[..])?;
            lsetxattr(to, name, &value[..length], XattrFlags::empty())?;
        }
    }
    Ok(())
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).with_context(|| format!("rename {} to {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::digest::Digest;
    use crate::model::id::{ChainId, DiffId};
    use crate::store::containers::testing::create;
    use crate::store::testing::Scratch;

    fn record(content: &[u8]) -> LayerRecord {
        LayerRecord {
            parent: None,
            diff_id: DiffId(Digest::of(content)),
            size: 1,
            blobs: Vec::new(),
        }
    }

    /// A container with `file` in its upper, up to and including the given step.
    fn up_to(s: &Store, step: u8) -> (ContainerId, ChainId) {
        let id = create(s, &format!("c{step}"));
        let dir = s.container_dir(&id);
        std::fs::write(dir.join("upper/file"), "x").unwrap();
        let record = record(&[step]);
        let chain = record.chain_id();
        let mut config = s.config(&id).unwrap();
        let held = s.lock_container(&id).unwrap();
        s.begin_adoption(&id, &held).unwrap();
        if step > 0 {
            std::fs::write(dir.join("layer/layer.json"), file::to_json(&record).unwrap()).unwrap();
        }
        if step > 1 {
            std::fs::rename(dir.join("upper"), dir.join("layer/diff")).unwrap();
        }
        if step > 2 {
            config.image.layers.push(chain);
            config.image.committed += 1;
            std::fs::write(dir.join("config.json"), file::to_json(&config).unwrap()).unwrap();
        }
        if step > 3 {
            std::fs::rename(dir.join("layer"), s.layers_root().join(chain.hex())).unwrap();
        }
        (id, chain)
    }

    #[test]
    fn it_goes_back_or_forward_from_anywhere() {
        let s = Scratch::new();
        for step in 0..=4 {
            let (id, chain) = up_to(&s, step);
            drop(s.lock_container(&id).unwrap());
            let dir = s.container_dir(&id);
            let forward = step > 2;
            assert_eq!(s.has_layer(&chain), forward, "{step}");
            assert_eq!(dir.join("upper/file").exists(), !forward, "{step}");
            assert!(dir.join("upper").exists() && !dir.join("layer").exists(), "{step}");
            let layers = s.config(&id).unwrap().image.layers;
            assert_eq!(layers.len(), usize::from(forward), "{step}");
            if forward {
                assert!(s.layer_dir(&chain).join("file").exists(), "{step}");
            }
        }
    }

    #[test]
    fn one_that_the_store_has_is_not_needed_twice() {
        let s = Scratch::new();
        for name in ["one", "two"] {
            let id = create(&s, name);
            std::fs::write(s.upper_dir(&id).join("file"), "x").unwrap();
            let held = s.lock_container(&id).unwrap();
            let references = s.lock_shared().unwrap();
            s.begin_adoption(&id, &held).unwrap();
            let config = s.config(&id).unwrap();
            let changed = s.adopt_upper(&config, &record(b"same"), &held, &references).unwrap();
            assert_eq!(s.config(&id).unwrap(), changed);
            assert_eq!((changed.image.layers.len(), changed.image.committed), (1, 1));
            assert_eq!(std::fs::read_dir(s.upper_dir(&id)).unwrap().count(), 0);
            assert!(!s.container_dir(&id).join("layer").exists());
        }
        assert_eq!(s.layer_ids().unwrap().len(), 1);
    }
}
