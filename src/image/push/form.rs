//! In which form an image goes out: the manifest it came with, if its layers can be had in that form, or one of our own.

use super::{Push, config_type};
use crate::error::{Error, Result};
use crate::format::descriptor::Descriptor;
use crate::format::manifest::{self, Dialect, ImageManifest, Manifest};
use crate::format::media::{self, Compression};
use crate::model::digest::Digest;
use crate::model::id::{ChainId, DiffId};
use crate::model::image::ImageRecord;
use crate::store::LayerBlob;
use std::str::FromStr;

/// How layers are compressed that are not yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packing {
    pub(crate) compression: Compression,
    /// `None`: what is a good one for it.
    pub(crate) level: Option<i32>,
}

impl FromStr for Packing {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let compression = match text {
            "gzip" => Compression::Gzip,
            "zstd" => Compression::Zstd,
            "none" | "uncompressed" => Compression::None,
            other => {
                return Err(Error::usage(format!(
                    "unknown compression format '{}': want gzip, zstd or none",
                    other.escape_debug()
                )));
            }
        };
        Ok(Packing {
            compression,
            level: None,
        })
    }
}

impl Default for Packing {
    fn default() -> Self {
        Packing {
            compression: Compression::Gzip,
            level: None,
        }
    }
}

/// A layer on its way out.
pub(super) struct Layer {
    pub(super) chain: ChainId,
    pub(super) diff_id: DiffId,
    /// `None`: it has to be compressed first.
    pub(super) blob: Option<Descriptor>,
}

/// An image on its way out.
pub(super) struct Form {
    pub(super) manifest: ImageManifest,
    /// Of the manifest; empty while a layer is not compressed yet.
    pub(super) bytes: Vec<u8>,
    pub(super) config: Vec<u8>,
    pub(super) layers: Vec<Layer>,
    pub(super) packing: Packing,
    /// It came with a manifest that names this layer, which is nowhere.
    lacking: Option<Digest>,
}

impl Form {
    /// Why it is known by another digest from now on, if it is.
    pub(super) fn departure(&self, image: &ImageRecord) -> Option<String> {
        let lacking = self.lacking?;
        let own = self.descriptor().digest;
        // A layer made here is often made again as it was.
        let known = image.manifests.iter().any(|known| known.digest == own);
        (!known).then(|| {
            format!(
                "image {} goes out with another digest than it had: its layer {lacking} was dropped here, and is not there",
                image.id.short()
            )
        })
    }

    pub(super) fn descriptor(&self) -> Descriptor {
        Descriptor::of(self.manifest.media_type(), &self.bytes)
    }

    /// When every layer is what it will be: the manifest of them, unless it came with one.
    pub(super) fn complete(&mut self) -> Result<()> {
        if !self.bytes.is_empty() {
            return Ok(());
        }
        self.manifest.layers = self.layers.iter().filter_map(|layer| layer.blob.clone()).collect();
        self.bytes = self.manifest.render()?;
        Ok(())
    }
}

pub(super) fn choose(push: &Push<'_>, image: &ImageRecord) -> Result<Form> {
    let config = push.store.read_blob(&image.id.0)?;
    let came = as_it_came(push, image)?;
    let lacking = match &came {
        Came::Lacking(layer) => Some(layer.digest),
        Came::With(..) | Came::Otherwise => None,
    };
    if let Came::With(bytes, manifest) = came {
        let layers = stack(image)
            .zip(&manifest.layers)
            .map(|((chain, diff_id), descriptor)| Layer {
                chain,
                diff_id,
                blob: Some(descriptor.clone()),
            })
            .collect();
        return Ok(Form {
            manifest,
            bytes,
            config,
            layers,
            packing: Packing::default(),
            lacking: None,
        });
    }
    let packing = push.options.packing.unwrap_or_default();
    let dialect = push.options.dialect.unwrap_or(match packing.compression {
        Compression::Zstd => Dialect::Oci,
        // Docker's manifests have no annotations.
        _ if !image.annotations.is_empty() => Dialect::Oci,
        Compression::Gzip | Compression::None => Dialect::Docker,
    });
    if dialect == Dialect::Docker && packing.compression == Compression::Zstd {
        return Err(Error::usage("docker's manifests have no zstd: want --format oci"));
    }
    let mut layers = Vec::new();
    for (chain, diff_id) in stack(image) {
        layers.push(Layer {
            blob: known(push, &chain, &diff_id, dialect)?,
            chain,
            diff_id,
        });
    }
    Ok(Form {
        manifest: ImageManifest {
            dialect,
            config: Descriptor::of(config_type(dialect), &config),
            layers: Vec::new(),
            annotations: image.annotations.clone(),
        },
        bytes: Vec::new(),
        config,
        layers,
        packing,
        lacking,
    })
}

fn stack(image: &ImageRecord) -> impl Iterator<Item = (ChainId, DiffId)> + '_ {
    image
        .layers
        .iter()
        .copied()
        .zip(image.config.rootfs.diff_ids.iter().copied())
}

/// What is known of an image that came, or went out before.
enum Came {
    With(Vec<u8>, ImageManifest),
    /// With a manifest that names this layer, which is nowhere.
    Lacking(Descriptor),
    /// With none that is what was asked for.
    Otherwise,
}

/// The newest manifest of the image that is what was asked for, and whose layers are here, or there.
fn as_it_came(push: &Push<'_>, image: &ImageRecord) -> Result<Came> {
    let mut lacking = None;
    for record in image.manifests.iter().rev() {
        let Ok(bytes) = push.store.read_blob(&record.digest) else {
            continue;
        };
        let Ok(Manifest::Image(manifest)) = manifest::parse(&bytes, Some(&record.media_type)) else {
            continue;
        };
        let diffs = &image.config.rootfs.diff_ids;
        let asked = push.options.dialect.is_none_or(|dialect| dialect == manifest.dialect)
            && push
                .options
                .packing
                .is_none_or(|packing| manifest.layers.iter().all(|l| is_of(l, packing.compression)));
        let annotated = image
            .annotations
            .iter()
            .all(|(k, v)| manifest.annotations.get(k) == Some(v));
        if !asked || !annotated || manifest.config.digest != image.id.0 || manifest.layers.len() != diffs.len() {
            continue;
        }
        let mut missing = None;
        for (layer, diff) in manifest.layers.iter().zip(diffs) {
            let can_be_had = push.store.has_blob(&layer.digest) || layer.digest == diff.0 || is_foreign(layer);
            if missing.is_none() && !can_be_had && !push.remote.has_blob(&layer.digest)? {
                missing = Some(layer.clone());
            }
        }
        match missing {
            None => return Ok(Came::With(bytes, manifest)),
            Some(layer) => lacking = lacking.or(Some(layer)),
        }
    }
    Ok(lacking.map_or(Came::Otherwise, Came::Lacking))
}

fn is_of(layer: &Descriptor, compression: Compression) -> bool {
    media::layer(&layer.media_type).is_some_and(|media| media.compression == compression)
}

/// Is fetched from elsewhere, and not to be handed on.
pub(super) fn is_foreign(layer: &Descriptor) -> bool {
    !layer.urls.is_empty() && media::layer(&layer.media_type).is_some_and(|media| media.foreign)
}

/// A compressed form of the layer that is here and fits.
fn known(push: &Push<'_>, chain: &ChainId, diff_id: &DiffId, dialect: Dialect) -> Result<Option<Descriptor>> {
    let record = push.store.layer(chain)?;
    let wanted = push.options.packing.map(|packing| packing.compression);
    let found = record.blobs.iter().rev().find_map(|blob| {
        let media_type = dialect_form(blob, dialect)?;
        let descriptor = Descriptor::new(media_type, blob.digest, blob.size);
        let fits = match wanted {
            Some(compression) => is_of(&descriptor, compression),
            None => true,
        };
        let here = push.store.has_blob(&blob.digest) || (wanted == Some(Compression::None) && blob.digest == diff_id.0);
        (fits && here).then_some(descriptor)
    });
    Ok(found)
}

fn dialect_form(blob: &LayerBlob, dialect: Dialect) -> Option<&str> {
    media::layer(&blob.media_type).filter(|media| !media.foreign)?;
    match dialect {
        Dialect::Oci => Some(media::oci_form(&blob.media_type)),
        Dialect::Docker => media::docker_form(&blob.media_type),
    }
}

/// What a layer is called that was compressed for this push.
pub(super) fn made(dialect: Dialect, compression: Compression, digest: Digest, size: u64) -> Descriptor {
    let media_type = match dialect {
        Dialect::Oci => media::oci_layer(compression),
        Dialect::Docker => media::docker_layer(compression),
    };
    Descriptor::new(media_type, digest, size)
}
