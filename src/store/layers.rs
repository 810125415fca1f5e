//! `layers/<chain id>/`: unpacked layers. A layer is unpacked into a staged directory without any lock; its record is
//! written beside `diff/`, all of it is synced, and the whole is renamed into place under the store's shared lock,
//! together with the image that refers to it. Where several processes bring the same layer, one wins and all succeed.

use super::{Durability, Stage, Store, StoreLock, file};
use crate::error::{Context, Error, Result};
use crate::model::digest::Digest;
use crate::model::id::{ChainId, DiffId};
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File, Permissions};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;

/// What rebuilds the layer's tar byte for byte, together with the files (`layer::tar_split`).
pub(super) const RECORD: &str = "tar-record";
pub(super) const JSON: &str = "layer.json";

/// `layer.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<ChainId>,
    pub(crate) diff_id: DiffId,
    /// Bytes of its files, hard links counted once.
    pub(crate) size: u64,
    /// Known compressed forms of its tar, newest last. Their blobs may have been dropped since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) blobs: Vec<LayerBlob>,
}

/// A compressed form of a layer's tar, as a registry or an archive had it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerBlob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) media_type: String,
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
    /// Its staging directory.
    pub(crate) fn place(&self) -> &std::path::Path {
        self.stage.path()
    }

    /// The directory itself, flocked: whoever has a copy keeps it from being swept.
    pub(crate) fn lock(&self) -> std::os::fd::BorrowedFd<'_> {
        self.stage.dir()
    }

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
        let sealed = self.close(record)?;
        rustix::fs::syncfs(sealed.stage.dir()).context("sync layer")?;
        Ok(sealed)
    }

    /// The same of a build's step: what else is in its directory goes.
    pub(crate) fn close_step(self, record: LayerRecord) -> Result<SealedLayer> {
        super::cache::clean(self.stage.path())?;
        self.close(record)
    }

    /// The same without the sync: the caller syncs the store before it commits, once for several layers.
    pub(crate) fn close(self, record: LayerRecord) -> Result<SealedLayer> {
        file::write_new(
            &self.stage.path().join(JSON),
            &file::to_json(&record)?,
            Durability::Volatile,
        )
        .context("write layer record")?;
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
    /// Puts it in place; if it is there already, this one is dropped. Its name is on the disk with the next sync of the
    /// store, as that of an image is.
    pub(crate) fn place(self, store: &Store, held: &StoreLock) -> Result<ChainId> {
        let id = self.record.chain_id();
        if !self.stage.commit(&store.layers_root().join(id.hex()))? {
            for blob in self.record.blobs {
                store.add_layer_blob(&id, blob, held)?;
            }
        }
        Ok(id)
    }

    /// Puts it in place of a damaged one, or where none is.
    pub(crate) fn replace(self, store: &Store, exclusive: &StoreLock) -> Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        let id = self.record.chain_id();
        let target = store.layers_root().join(id.hex());
        let path = self.stage.path().to_owned();
        // What was made of it is made anew when it is needed.
        drop(store.drop_chowned_of(&id, exclusive)?);
        match renameat_with(CWD, &path, CWD, &target, RenameFlags::EXCHANGE) {
            // What is staged now is the damaged one.
            Ok(()) => {
                drop(self.stage);
                file::sync_dir(&store.layers_root())
            }
            Err(rustix::io::Errno::NOENT) => {
                self.stage.commit(&target)?;
                file::sync_dir(&store.layers_root())
            }
            Err(e) => Err(e).with_context(|| format!("put layer {id} in place")),
        }
    }

    pub(crate) fn record(&self) -> &LayerRecord {
        &self.record
    }

    /// Its files, until it is committed.
    pub(crate) fn path(&self) -> PathBuf {
        self.stage.path().join("diff")
    }
}

impl Store {
    pub(super) fn layers_root(&self) -> PathBuf {
        self.root().join("layers")
    }

    pub(crate) fn stage_layer(&self) -> Result<StagedLayer> {
        let stage = self.stage()?;
        let diff = stage.path().join("diff");
        DirBuilder::new()
            .mode(0o755)
            .create(&diff)
            .and_then(|()| std::fs::set_permissions(&diff, Permissions::from_mode(0o755)))
            .context("make layer directory")?;
        Ok(StagedLayer { stage })
    }

    /// A layer whose root begins as that of the one below, to be the upper of an overlay.
    pub(crate) fn stage_upper(&self, below: Option<&std::path::Path>) -> Result<StagedLayer> {
        let staged = self.stage_layer()?;
        if let Some(below) = below {
            super::adopt::dress(&staged.stage.path().join("diff"), below).context("make layer directory")?;
        }
        Ok(staged)
    }

    pub(crate) fn layer(&self, id: &ChainId) -> Result<LayerRecord> {
        let record = file::read_json(&self.layers_root().join(id.hex()).join(JSON))?;
        record.ok_or_else(|| Error::not_found(format!("No such layer: {id}")))
    }

    pub(crate) fn has_layer(&self, id: &ChainId) -> bool {
        self.layers_root().join(id.hex()).exists()
    }

    /// What rebuilds the layer's tar; `None` if that was not kept.
    pub(crate) fn open_tar_record(&self, id: &ChainId) -> Result<Option<File>> {
        match File::open(self.layers_root().join(id.hex()).join(RECORD)) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            opened => opened
                .map(Some)
                .with_context(|| format!("open tar record of layer {id}")),
        }
    }

    /// Remembers one more compressed form of a layer. The blob is in place, or claimed by the caller.
    pub(crate) fn add_layer_blob(&self, id: &ChainId, blob: LayerBlob, _held: &StoreLock) -> Result<()> {
        self.change_layer(id, |blobs| {
            blobs.retain(|known| known.digest != blob.digest);
            blobs.push(blob);
        })
    }

    /// Under the layer's own lock, since the store's may be shared.
    fn change_layer(&self, id: &ChainId, change: impl FnOnce(&mut Vec<LayerBlob>)) -> Result<()> {
        let path = self.layers_root().join(id.hex());
        let open = File::open(&path).with_context(|| format!("open layer {id}"))?;
        self.wait_for_layer(&open, id)?;
        let mut record = self.layer(id)?;
        let before = record.blobs.clone();
        change(&mut record.blobs);
        match record.blobs == before {
            true => Ok(()),
            false => file::replace(&path, JSON, &file::to_json(&record)?, Durability::Synced),
        }
    }

    /// Drops compressed layers that can be made again from their files. Returns what went.
    pub(crate) fn drop_layer_blobs(&self, _exclusive: &StoreLock) -> Result<Vec<(Digest, u64)>> {
        let claimed = self.claimed()?;
        let mut dropped = Vec::new();
        for id in self.layer_ids()? {
            let Ok(record) = self.layer(&id) else { continue };
            if record.blobs.is_empty() || self.open_tar_record(&id)?.is_none() {
                continue;
            }
            for blob in record.blobs.iter().filter(|blob| !claimed.blobs.contains(&blob.digest)) {
                if let Some(size) = self.blob_size(&blob.digest) {
                    super::staging::remove_path(&self.blob_path(&blob.digest))?;
                    dropped.push((blob.digest, size));
                }
            }
        }
        Ok(dropped)
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
