//! `chowned/<map>/<chain id>/diff/`: copies of layers whose owners are the host's numbers for a container's, where the
//! kernel can't show the layers themselves so (`monitor/chowned.rs` makes them). Containers with the same map share them;
//! they go with their layer, and with a prune when no container has the map any more.

use super::{Stage, Store, StoreLock};
use crate::error::{Context as _, Result};
use crate::model::id::ChainId;
use crate::model::idmap::IdMap;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

const NAME: &str = "chowned";
const FILES: &str = "diff";

/// The copies of one map.
#[derive(Debug)]
pub(crate) struct ChownedCopies {
    path: PathBuf,
    pub(crate) count: usize,
    /// Bytes of their files, as the layers' records have it.
    pub(crate) size: u64,
    /// A container has the map.
    pub(crate) used: bool,
}

/// The copy of one layer.
#[derive(Debug)]
pub(crate) struct ChownedLayer {
    pub(crate) ids: IdMap,
    pub(crate) layer: ChainId,
    /// Its files.
    pub(crate) path: PathBuf,
}

impl Store {
    /// Those of layers, as far as a container has their map.
    pub(crate) fn chowned_layers(&self) -> Result<Vec<ChownedLayer>> {
        let mut maps = BTreeMap::new();
        for id in self.container_ids()? {
            // A damaged container can't be started, so it needs none.
            let Ok(config) = self.config(&id) else { continue };
            maps.extend(config.namespaces.on_disk().map(|ids| (ids.key(), ids.clone())));
        }
        let mut all = Vec::new();
        for (key, ids) in maps {
            for path in entries(&self.chowned_root().join(key))? {
                let layer = path.file_name().and_then(|name| ChainId::from_hex(name.to_str()?));
                all.extend(layer.map(|layer| ChownedLayer {
                    ids: ids.clone(),
                    layer,
                    path: path.join(FILES),
                }));
            }
        }
        Ok(all)
    }

    fn chowned_root(&self) -> PathBuf {
        self.root().join(NAME)
    }

    /// The copy of what has this name, a layer's or another; it may not be there yet.
    pub(crate) fn chowned_dir(&self, ids: &IdMap, name: &str) -> PathBuf {
        self.chowned_root().join(ids.key()).join(name).join(FILES)
    }

    /// An empty directory for a copy, of root, and its staging directory.
    pub(crate) fn stage_chowned(&self) -> Result<(Stage, PathBuf)> {
        let stage = self.stage()?;
        let files = stage.path().join(FILES);
        DirBuilder::new()
            .mode(0o755)
            .create(&files)
            .context("make a layer's copy")?;
        Ok((stage, files))
    }

    /// Puts copies in their places, when they are on the disk. Where another process was first, they are dropped.
    pub(crate) fn place_chowned(&self, ids: &IdMap, copies: Vec<(String, Stage)>) -> Result<()> {
        let Some((_, first)) = copies.first() else {
            return Ok(());
        };
        rustix::fs::syncfs(first.dir()).context("sync the layers' copies")?;
        let dir = self.chowned_root().join(ids.key());
        let made = DirBuilder::new().mode(0o700).recursive(true).create(&dir);
        made.with_context(|| format!("make {}", dir.display()))?;
        for (name, stage) in copies {
            stage.commit(&dir.join(name))?;
        }
        Ok(())
    }

    /// All of them, by map.
    pub(crate) fn chowned_copies(&self) -> Result<Vec<ChownedCopies>> {
        let mut used = BTreeSet::new();
        let maps = entries(&self.chowned_root())?;
        if maps.is_empty() {
            return Ok(Vec::new());
        }
        for id in self.container_ids()? {
            // A damaged container can't be started, so it needs none.
            let Ok(config) = self.config(&id) else { continue };
            used.extend(config.namespaces.on_disk().map(IdMap::key));
        }
        let of_map = |path: PathBuf| {
            let layers = entries(&path)?;
            let id = |path: &PathBuf| ChainId::from_hex(path.file_name()?.to_str()?);
            let sizes = layers.iter().filter_map(id).filter_map(|id| self.layer(&id).ok());
            Ok(ChownedCopies {
                count: layers.len(),
                size: sizes.map(|layer| layer.size).sum(),
                used: path
                    .file_name()
                    .and_then(|key| key.to_str())
                    .is_some_and(|key| used.contains(key)),
                path,
            })
        };
        maps.into_iter().map(of_map).collect()
    }

    /// Deletes those of maps that no container has. How many, and their bytes.
    pub(crate) fn prune_chowned(&self) -> Result<(usize, u64)> {
        // Nobody makes a container meanwhile.
        let held = self.lock_exclusive()?;
        let (mut count, mut bytes, mut doomed) = (0, 0, Vec::new());
        for copies in self.chowned_copies()?.into_iter().filter(|copies| !copies.used) {
            doomed.extend(self.unstage(&copies.path)?);
            count += copies.count;
            bytes += copies.size;
        }
        drop(held);
        doomed.into_iter().try_for_each(Stage::delete)?;
        Ok((count, bytes))
    }

    /// Deletes one.
    pub(crate) fn remove_chowned(&self, id: &ChainId, key: &str, exclusive: StoreLock) -> Result<()> {
        let doomed = self.unstage(&self.chowned_root().join(key).join(id.hex()))?;
        drop(exclusive);
        doomed.map_or(Ok(()), Stage::delete)
    }

    /// Takes the copies of a layer out of the store.
    pub(super) fn drop_chowned_of(&self, id: &ChainId, _exclusive: &StoreLock) -> Result<Vec<Stage>> {
        let copies = entries(&self.chowned_root())?.into_iter().map(|map| map.join(id.hex()));
        copies.filter_map(|copy| self.unstage(&copy).transpose()).collect()
    }
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    match std::fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        entries => {
            let entries = entries.with_context(|| format!("read {}", dir.display()))?;
            Ok(entries.flatten().map(|entry| entry.path()).collect())
        }
    }
}
