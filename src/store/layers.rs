//! `layers/<chain id>/`: unpacked layers. A layer is unpacked into a staged directory without any lock; its record is
//! written beside `diff/`, all of it is synced, and the whole is renamed into place under the store's shared lock,
//! together with the image that refers to it. Where several processes bring the same layer, one wins and all succeed.

use super::{Durability, Stage, Store, StoreLock, file};
use crate::error::{Context, Error, Result};
use crate::model::id::{ChainId, DiffId};
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;

/// What rebuilds the layer's tar byte for byte, together with the files (`layer::tar_split`).
const RECORD: &str = "tar-record";

/// `layer.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<ChainId>,
    pub(crate) diff_id: DiffId,
    /// Bytes of its files, hard links counted once.
    pub(crate) size: u64,
}

impl LayerRecord {
    pub(crate) fn chain_id(&self) -> ChainId {
        ChainId::of(self.parent, self.diff_id)
    }
}

/// A layer that is being unpacked.
#[derive(Debug)]
pub(crate) struct StagedLayer {
    stage: Stage,
}

impl StagedLayer {
    /// The empty directory to unpack into, 0755, of root.
    pub(crate) fn diff(&self) -> Result<OwnedFd> {
        let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        rustix::fs::openat(self.stage.dir(), "diff", flags, rustix::fs::Mode::empty()).context("open staged layer")
    }

    /// Takes what rebuilds the tar.
    pub(crate) fn record(&self) -> Result<File> {
        file::write_new(&self.stage.path().join(RECORD), b"", Durability::Volatile).context("make tar record")
    }

    /// All of it is on the disk when this returns. One syncfs(2), as a layer has thousands of files.
    pub(crate) fn seal(self, record: LayerRecord) -> Result<SealedLayer> {
        file::write_new(
            &self.stage.path().join("layer.json"),
            &file::to_json(&record)?,
            Durability::Volatile,
        )
        .context("write layer record")?;
        rustix::fs::syncfs(self.stage.dir()).context("sync layer")?;
        Ok(SealedLayer {
            stage: self.stage,
            record,
        })
    }
}

/// A layer that waits for its image.
#[derive(Debug)]
pub(crate) struct SealedLayer {
    stage: Stage,
    record: LayerRecord,
}

impl SealedLayer {
    /// Puts it in place; if it is there already, this one is dropped.
    pub(crate) fn commit(self, store: &Store, _held: &StoreLock) -> Result<ChainId> {
        let id = self.record.chain_id();
        self.stage.commit(&store.layers_root().join(id.hex()))?;
        file::sync_dir(&store.layers_root())?;
        Ok(id)
    }
}

impl Store {
    pub(super) fn layers_root(&self) -> PathBuf {
        self.root().join("layers")
    }

    pub(crate) fn stage_layer(&self) -> Result<StagedLayer> {
        self.sweep_left_overs()?;
        let stage = self.stage()?;
        let diff = stage.path().join("diff");
        DirBuilder::new()
            .mode(0o755)
            .create(&diff)
            .and_then(|()| std::fs::set_permissions(&diff, Permissions::from_mode(0o755)))
            .context("make layer directory")?;
        Ok(StagedLayer { stage })
    }

    pub(crate) fn layer(&self, id: &ChainId) -> Result<LayerRecord> {
        let record = file::read_json(&self.layers_root().join(id.hex()).join("layer.json"))?;
        record.ok_or_else(|| Error::not_found(format!("No such layer: {id}")))
    }

    pub(crate) fn layer_ids(&self) -> Result<Vec<ChainId>> {
        let path = self.layers_root();
        let entries = std::fs::read_dir(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(entries
            .flatten()
            .filter_map(|e| ChainId::from_hex(e.file_name().to_str()?))
            .collect())
    }
}
