//! `images/<image id>.json`: what the store knows of each image. The image exists as long as its record does; record
//! and configuration blob are written under the store's shared lock, after the layers are in place.

use super::containers::ambiguous;
use super::{Durability, Store, StoreLock, file};
use crate::error::{Context, Error, Result};
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

    /// Stores an image whose layers are in place, for good. `config` is the configuration, byte for byte.
    pub(crate) fn put_image(&self, record: &ImageRecord, config: &[u8], held: &StoreLock) -> Result<()> {
        let digest = self.put_blob(config, held)?;
        if digest != record.id.0 {
            return Err(Error::other(format!(
                "image {} has a configuration of digest {digest}",
                record.id
            )));
        }
        let staged = self.stage_file()?;
        staged.file().write_all(&file::to_json(record)?)?;
        staged
            .commit(
                &self.images_root(),
                &format!("{}.json", record.id.hex()),
                Durability::Synced,
            )
            .with_context(|| format!("store image {}", record.id.short()))
    }

    /// Forgets an image; [`Store::drop_unreferenced`] takes the layers that nothing needs any more. Tags are the
    /// caller's. Success if it isn't there.
    pub(crate) fn forget_image(&self, id: &ImageId, _exclusive: &StoreLock) -> Result<()> {
        for path in [self.image_path(id), self.blob_path(&id.0)] {
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(e).with_context(|| format!("remove {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The layers of every image. A damaged record's are taken from its configuration.
    pub(super) fn image_layers(&self) -> Result<BTreeSet<ChainId>> {
        let mut layers = BTreeSet::new();
        for id in self.image_ids()? {
            match self.image(&id) {
                Ok(record) => layers.extend(record.layers),
                Err(_) => layers.extend(self.layers_by_configuration(&id).unwrap_or_default()),
            }
        }
        Ok(layers)
    }

    fn layers_by_configuration(&self, id: &ImageId) -> Result<Vec<ChainId>> {
        let config: ImageConfig = serde_json::from_slice(&self.read_blob(&id.0)?)?;
        Ok(ChainId::chain(&config.rootfs.diff_ids))
    }
}

pub(crate) fn no_such_image(what: &str) -> Error {
    Error::not_found(format!("No such image: {what}"))
}
