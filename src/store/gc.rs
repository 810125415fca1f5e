//! Drops what nothing refers to: layers that neither an image, a container nor a claim has, and blobs likewise. Under the
//! store's exclusive lock nobody adds a reference, so what is unreferenced then stays so; the files are deleted after
//! the lock is given back.

use super::{Stage, Store, StoreLock, lock};
use crate::error::{Context, Result};
use crate::model::container::ImageUse;
use crate::model::digest::Digest;
use crate::model::id::ChainId;
use std::collections::BTreeSet;

/// Layers that exist no more, and wait for being deleted.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    layers: Vec<(ChainId, Stage)>,
    /// Of those layers, for the users of some containers.
    copies: Vec<Stage>,
    blobs: Vec<Stage>,
    /// Of all of it.
    bytes: u64,
}

/// As much of an index as says what it refers to.
#[derive(serde::Deserialize)]
struct Listed {
    manifests: Vec<ListedManifest>,
}

#[derive(serde::Deserialize)]
struct ListedManifest {
    digest: Digest,
}

impl Dropped {
    pub(crate) fn ids(&self) -> impl Iterator<Item = ChainId> + '_ {
        self.layers.iter().map(|(id, _)| *id)
    }

    /// Bytes that become free.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Deletes their files. Better done without the lock: it takes time.
    pub(crate) fn delete(self) -> Result<()> {
        let mut result = Ok(());
        let layers = self.layers.into_iter().map(|(_, stage)| stage);
        for stage in layers.chain(self.copies).chain(self.blobs) {
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
    pub(crate) fn drop_unreferenced(&self, exclusive: &StoreLock) -> Result<Dropped> {
        let claimed = self.claimed()?;
        let (mut needed, mut blobs) = self.image_needs()?;
        needed.extend(claimed.layers);
        needed.extend(self.mounted_layers()?);
        needed.extend(self.cached_layers()?);
        blobs.extend(claimed.blobs);
        blobs.extend(self.listed()?);
        for id in self.container_ids()? {
            // A damaged container can't be started, so it needs none.
            if let Ok(config) = self.config(&id) {
                needed.extend(config.layers());
            }
        }
        let mut dropped = Dropped::default();
        for id in self.layer_ids()? {
            let record = self.layer(&id);
            if needed.contains(&id) {
                // A damaged record names none: they are fetched or made again.
                blobs.extend(record.into_iter().flat_map(|l| l.blobs).map(|b| b.digest));
            } else if let Some(stage) = self.unstage(&self.layers_root().join(id.hex()))? {
                let size = record.map_or(0, |layer| layer.size);
                let copies = self.drop_chowned_of(&id, exclusive)?;
                dropped.bytes += size * (1 + copies.len() as u64);
                dropped.copies.extend(copies);
                dropped.layers.push((id, stage));
            }
        }
        self.drop_blobs(&blobs, &mut dropped)?;
        Ok(dropped)
    }

    /// Out of the way, to be deleted later: that takes its time for large ones.
    fn drop_blobs(&self, needed: &BTreeSet<Digest>, dropped: &mut Dropped) -> Result<()> {
        let path = self.blobs_root();
        for entry in std::fs::read_dir(&path)
            .with_context(|| format!("read {}", path.display()))?
            .flatten()
        {
            let digest = entry.file_name().to_str().and_then(Digest::from_hex);
            if digest.is_none_or(|digest| !needed.contains(&digest))
                && let Some(stage) = self.unstage(&entry.path())?
            {
                dropped.bytes += entry.metadata().map_or(0, |meta| meta.len());
                dropped.blobs.push(stage);
            }
        }
        Ok(())
    }

    /// The indexes of the manifest lists made here, and the manifests they name.
    fn listed(&self) -> Result<BTreeSet<Digest>> {
        let mut blobs = BTreeSet::new();
        // Damaged tags keep nothing from being dropped, but lists are then unknown: nothing else refers to them.
        for index in self.tags().unwrap_or_default().lists.into_values() {
            blobs.insert(index);
            let Ok(index) = self.read_blob(&index) else { continue };
            if let Ok(index) = serde_json::from_slice::<Listed>(&index) {
                blobs.extend(index.manifests.into_iter().map(|m| m.digest));
            }
        }
        Ok(blobs)
    }

    /// After the last container of an image that was removed with force, and after one whose own changes became layers:
    /// those have no one left, maybe. Waits for no lock, since the caller may hold a container's, which comes after the store's; the next `rmi` does it then.
    pub(super) fn drop_orphans_of(&self, images: &[ImageUse]) -> Result<()> {
        if images
            .iter()
            .all(|image| image.committed == 0 && self.has_image(&image.id))
        {
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
        self.sweep_image_copies()
    }
}
