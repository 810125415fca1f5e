//! Drops what nothing refers to: layers that neither an image nor a container has, blobs without an image. Under the
//! store's exclusive lock nobody adds a reference, so what is unreferenced then stays so; the files are deleted after
//! the lock is given back.

use super::{Stage, Store, StoreLock, lock, staging};
use crate::error::{Context, Result};
use crate::model::digest::Digest;
use crate::model::id::{ChainId, ImageId};

/// Layers that exist no more, and wait for being deleted.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    layers: Vec<(ChainId, Stage)>,
}

impl Dropped {
    pub(crate) fn ids(&self) -> impl Iterator<Item = ChainId> + '_ {
        self.layers.iter().map(|(id, _)| *id)
    }

    /// Deletes their files. Better done without the lock: it takes time.
    pub(crate) fn delete(self) -> Result<()> {
        let mut result = Ok(());
        for (_, stage) in self.layers {
            let deleted = stage.delete();
            if result.is_ok() {
                result = deleted;
            }
        }
        result
    }
}

impl Store {
    /// Takes every unreferenced layer and blob out of the store.
    pub(crate) fn drop_unreferenced(&self, _exclusive: &StoreLock) -> Result<Dropped> {
        let mut needed = self.image_layers()?;
        for id in self.container_ids()? {
            // A damaged container can't be started, so it needs none.
            if let Ok(config) = self.config(&id) {
                needed.extend(config.image.layers);
            }
        }
        let mut dropped = Dropped::default();
        for id in self.layer_ids()? {
            if !needed.contains(&id)
                && let Some(stage) = self.unstage(&self.layers_root().join(id.hex()))?
            {
                dropped.layers.push((id, stage));
            }
        }
        self.drop_blobs()?;
        Ok(dropped)
    }

    fn drop_blobs(&self) -> Result<()> {
        let path = self.blobs_root();
        for entry in std::fs::read_dir(&path)
            .with_context(|| format!("read {}", path.display()))?
            .flatten()
        {
            let digest = entry.file_name().to_str().and_then(Digest::from_hex);
            if !digest.is_some_and(|digest| self.has_image(&ImageId(digest))) {
                staging::remove_path(&entry.path())?;
            }
        }
        Ok(())
    }

    /// After the last container of an image that was removed with force: its layers have no one left. Waits for no
    /// lock, since the caller may hold a container's, which comes after the store's; the next `rmi` does it then.
    pub(super) fn drop_orphans_of(&self, image: &ImageId) -> Result<()> {
        if self.has_image(image) {
            return Ok(());
        }
        let Some(held) = self.try_lock_exclusive()? else {
            return Ok(());
        };
        let dropped = self.drop_unreferenced(&held)?;
        drop(held);
        dropped.delete()
    }

    /// `None` if another process refers to something right now.
    pub(super) fn try_lock_exclusive(&self) -> Result<Option<StoreLock>> {
        let file = lock::open_lock_file(&self.root().join("lock"))?;
        Ok(lock::try_exclusive(&file)?.then(|| StoreLock::from_locked(file)))
    }

    /// Before something is made: deletes what dead processes left.
    pub(crate) fn sweep_left_overs(&self) -> Result<()> {
        if self.sweep()? {
            self.sweep_names()?;
        }
        Ok(())
    }
}
