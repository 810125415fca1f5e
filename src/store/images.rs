//! `images/<image id>.json`: what the store knows of each image. The image exists as long as its record does; record
//! and configuration blob are written under the store's shared lock, after the layers are in place.

use super::containers::ambiguous;
use super::tags::Tags;
use super::{Durability, Proof, Store, StoreLock, file};
use crate::error::{Context, Error, Result};
use crate::model::digest::Digest;
use crate::model::event::{Event, EventKind};
use crate::model::id::{ChainId, ImageId, is_hex};
use crate::model::image::{ImageConfig, ImageRecord};
use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

impl Store {
    fn images_root(&self) -> PathBuf {
        self.root().join("images")
    }

    fn image_path(&self, id: &ImageId) -> PathBuf {
        self.images_root().join(format!("{}.json", id.hex()))
    }

    pub(crate) fn image(&self, id: &ImageId) -> Result<ImageRecord> {
        file::read_json(&self.image_path(id))?.ok_or_else(|| no_such_image(&id.to_string()))
    }

    /// The part of an image's record that a listing needs.
    pub(crate) fn image_part<T: serde::de::DeserializeOwned>(&self, id: &ImageId) -> Result<T> {
        file::read_json(&self.image_path(id))?.ok_or_else(|| no_such_image(&id.to_string()))
    }

    pub(crate) fn has_image(&self, id: &ImageId) -> bool {
        self.image_path(id).exists()
    }

    /// Every image, damaged ones included, in no order.
    pub(crate) fn image_ids(&self) -> Result<Vec<ImageId>> {
        let path = self.images_root();
        let entries = std::fs::read_dir(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(entries
            .flatten()
            .filter_map(|e| ImageId::from_hex(e.file_name().to_str()?.strip_suffix(".json")?))
            .collect())
    }

    /// The one image whose id begins with these hex digits; `None` if there is none, an error if there are several.
    pub(crate) fn image_by_prefix(&self, prefix: &str) -> Result<Option<ImageId>> {
        if let Some(id) = ImageId::from_hex(prefix) {
            return Ok(self.has_image(&id).then_some(id));
        }
        if !is_hex(prefix) || prefix.len() >= 64 {
            return Ok(None);
        }
        let mut matches: Vec<(String, ImageId)> = self.image_ids()?.into_iter().map(|id| (id.hex(), id)).collect();
        matches.retain(|(hex, _)| hex.starts_with(prefix));
        matches.sort();
        match matches.as_slice() {
            [] => Ok(None),
            [(_, only)] => Ok(Some(*only)),
            several => Err(ambiguous("image", prefix, several.iter().map(|(hex, _)| hex.as_str()))),
        }
    }

    /// Stores an image whose layers are in place, and changes the tags, for good. `blobs`: its configuration, then its
    /// manifests and indexes. Where the image is known, only the manifests are new. All of it with one journal commit.
    pub(crate) fn put_named_image(
        &self,
        record: &ImageRecord,
        blobs: &[&[u8]],
        held: &StoreLock,
        name: impl FnOnce(&mut Tags),
    ) -> Result<()> {
        for (n, blob) in blobs.iter().enumerate() {
            let digest = self.put_blob_unsynced(blob, held)?;
            if n == 0 && digest != record.id.0 {
                return Err(Error::other(format!(
                    "image {} has a configuration of digest {digest}",
                    record.id
                )));
            }
        }
        let locked = self.lock_tags()?;
        self.write_image(record)?;
        // The layers' names, too: they may have been put in place a moment ago, by whomever.
        file::sync_dirs(&[&self.layers_root(), &self.blobs_root()], &self.images_root())?;
        crate::sys::stop_point("image-committed");
        self.change_locked_tags(&locked, |tags| {
            name(tags);
            Ok(())
        })
    }

    /// The record, merged with what is known of the image already. In place, but not on the disk.
    fn write_image(&self, record: &ImageRecord) -> Result<()> {
        let mut record = record.clone();
        if let Ok(known) = self.image(&record.id) {
            let mut manifests = known.manifests.clone();
            manifests.retain(|m| !record.manifests.iter().any(|new| new.digest == m.digest));
            manifests.append(&mut record.manifests);
            record.manifests = manifests;
            record.stored = known.stored;
            record.parent = record.parent.or(known.parent);
            if record.v1.is_empty() {
                record.v1.clone_from(&known.v1);
            }
            if record == known {
                return Ok(());
            }
        }
        self.replace_image(&record)
    }

    fn replace_image(&self, record: &ImageRecord) -> Result<()> {
        let staged = self.stage_file()?;
        staged
            .file()
            .write_all(&file::to_json(record)?)
            .and_then(|()| file::settle(staged.file()))
            .context("write image record")?;
        staged
            .commit(
                &self.images_root(),
                &format!("{}.json", record.id.hex()),
                Durability::Volatile,
            )
            .with_context(|| format!("store image {}", record.id.short()))
    }

    /// Changes what is known of an image, for good.
    pub(crate) fn change_image(
        &self,
        id: &ImageId,
        _held: &StoreLock,
        change: impl FnOnce(&mut ImageRecord),
    ) -> Result<()> {
        let _locked = self.lock_tags()?;
        let before = self.image(id)?;
        let mut record = before.clone();
        change(&mut record);
        if record != before {
            self.replace_image(&record)?;
            file::sync_dir(&self.images_root())?;
        }
        Ok(())
    }

    /// Writes an image's record anew, for good, whatever was there.
    pub(crate) fn restore_image(&self, record: &ImageRecord, _held: &StoreLock) -> Result<()> {
        let _locked = self.lock_tags()?;
        self.replace_image(record)?;
        file::sync_dir(&self.images_root())
    }

    /// Forgets an image; [`Store::drop_unreferenced`] takes the layers that nothing needs any more. Tags are the
    /// caller's. Success if it isn't there.
    pub(crate) fn forget_image(&self, id: &ImageId, _exclusive: &StoreLock) -> Result<()> {
        let record = self.image_path(id);
        let event = Event::new(EventKind::Image, "delete", id).with("name", id);
        let told = Proof::Absent(self.below_root(&record)).of(event);
        self.telling(&object(id), vec![told], || match std::fs::remove_file(&record) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            other => other.map(Some).with_context(|| format!("remove {}", record.display())),
        })?;
        let config = self.blob_path(&id.0);
        match std::fs::remove_file(&config) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e).with_context(|| format!("remove {}", config.display())),
            _ => Ok(()),
        }
    }

    /// Makes an image by `change`, and tells of it as `event` says. Its names are told by themselves.
    pub(crate) fn telling_image(
        &self,
        id: &ImageId,
        event: Option<Event>,
        change: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let proof = Proof::Present(self.below_root(&self.image_path(id)));
        let told = event.map(|event| proof.of(event)).into_iter().collect();
        self.telling(&object(id), told, || change().map(Some)).map(drop)
    }

    /// The layers of every image, and its configuration, manifests and indexes. A damaged record's layers are taken
    /// from its configuration.
    pub(super) fn image_needs(&self) -> Result<(BTreeSet<ChainId>, BTreeSet<Digest>)> {
        let (mut layers, mut blobs) = (BTreeSet::new(), BTreeSet::new());
        for id in self.image_ids()? {
            blobs.insert(id.0);
            match self.image(&id) {
                Ok(record) => {
                    layers.extend(record.layers);
                    blobs.extend(record.v1.iter().map(|v1| v1.json));
                    for manifest in record.manifests {
                        blobs.insert(manifest.digest);
                        blobs.extend(manifest.indexes());
                    }
                }
                Err(_) => layers.extend(self.layers_by_configuration(&id).unwrap_or_default()),
            }
        }
        Ok((layers, blobs))
    }

    fn layers_by_configuration(&self, id: &ImageId) -> Result<Vec<ChainId>> {
        let config: ImageConfig = serde_json::from_slice(&self.read_blob(&id.0)?)?;
        Ok(ChainId::chain(&config.rootfs.diff_ids))
    }
}

/// What a change of an image is told under.
fn object(id: &ImageId) -> String {
    format!("image {id}")
}

pub(crate) fn no_such_image(what: &str) -> Error {
    Error::not_found(format!("No such image: {what}"))
}
