//! The form an image is handed on in: its manifest, and for each layer the bytes that the manifest names.
//!
//! A manifest it came with, or was pushed with, is used as long as all its layers are here in that form. Otherwise one is
//! made: of the compressed layers that are known, and of plain tars where none is.

use super::{image_manifest, is_docker};
use crate::error::{Context, Result};
use crate::format::descriptor::Descriptor;
use crate::format::manifest::{Dialect, ImageManifest};
use crate::format::media;
use crate::layer::{Sum, pack, tar_split};
use crate::model::digest::Digest;
use crate::model::id::{ChainId, DiffId};
use crate::model::image::ImageRecord;
use crate::model::platform::Platform;
use crate::store::Store;
use rustix::fs::{Mode, OFlags, open};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

/// One image, described.
pub(super) struct Formed {
    pub(super) manifest: Descriptor,
    pub(super) bytes: Vec<u8>,
    pub(super) config: Vec<u8>,
    pub(super) layers: Vec<FormedLayer>,
    /// The indexes that led to the manifest, where it came from; the outermost first.
    pub(super) indexes: Vec<Digest>,
}

pub(super) struct FormedLayer {
    pub(super) chain: ChainId,
    pub(super) diff_id: DiffId,
    pub(super) descriptor: Descriptor,
}

impl FormedLayer {
    /// Whether its bytes are the layer's own tar.
    pub(super) fn is_plain(&self) -> bool {
        self.descriptor.digest == self.diff_id.0
    }
}

/// Which forms will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// As it came, else OCI's.
    AsItCame,
    /// As it came if that was docker's, else made in docker's words.
    Docker,
    /// Plain tars, in OCI's words.
    Plain,
}

pub(super) fn form(store: &Store, image: &ImageRecord, wish: Wish) -> Result<Formed> {
    let config = store.read_blob(&image.id.0)?;
    if wish != Wish::Plain
        && let Some(formed) = as_it_came(store, image, &config, wish)?
    {
        return Ok(formed);
    }
    let dialect = match wish {
        Wish::Docker => Dialect::Docker,
        Wish::AsItCame | Wish::Plain => Dialect::Oci,
    };
    let mut layers = Vec::with_capacity(image.layers.len());
    for (chain, diff_id) in image.layers.iter().zip(&image.config.rootfs.diff_ids) {
        layers.push(FormedLayer {
            chain: *chain,
            diff_id: *diff_id,
            descriptor: describe(store, chain, diff_id, wish)?,
        });
    }
    let manifest = ImageManifest {
        dialect,
        config: Descriptor::of(
            match dialect {
                Dialect::Oci => media::OCI_CONFIG,
                Dialect::Docker => media::DOCKER_CONFIG,
            },
            &config,
        ),
        layers: layers.iter().map(|layer| layer.descriptor.clone()).collect(),
        annotations: image.annotations.clone(),
    };
    let bytes = manifest.render()?;
    Ok(Formed {
        manifest: described(manifest.media_type(), &bytes, image),
        bytes,
        config,
        layers,
        indexes: Vec::new(),
    })
}

fn described(media_type: &str, bytes: &[u8], image: &ImageRecord) -> Descriptor {
    Descriptor {
        platform: Some(Platform::new(
            &image.config.os,
            &image.config.architecture,
            &image.config.variant,
        )),
        ..Descriptor::of(media_type, bytes)
    }
}

pub(super) fn has_its_own(store: &Store, image: &ImageRecord) -> Result<bool> {
    Ok(as_it_came(store, image, &[], Wish::AsItCame)?.is_some())
}

fn as_it_came(store: &Store, image: &ImageRecord, config: &[u8], wish: Wish) -> Result<Option<Formed>> {
    for record in image.manifests.iter().rev() {
        let Some((bytes, manifest)) = image_manifest(store, &record.digest, &record.media_type) else {
            continue;
        };
        let diffs = &image.config.rootfs.diff_ids;
        let here = |layer: &Descriptor, diff: &DiffId| layer.digest == diff.0 || store.has_blob(&layer.digest);
        let fits = manifest.config.digest == image.id.0
            && manifest.layers.len() == diffs.len()
            && manifest.layers.iter().zip(diffs).all(|(layer, diff)| here(layer, diff))
            && image
                .annotations
                .iter()
                .all(|(k, v)| manifest.annotations.get(k) == Some(v))
            && (wish == Wish::AsItCame || is_docker(manifest.dialect));
        if !fits {
            continue;
        }
        let layers = image.layers.iter().zip(diffs).zip(&manifest.layers);
        return Ok(Some(Formed {
            manifest: described(manifest.media_type(), &bytes, image),
            bytes,
            config: config.to_vec(),
            layers: layers
                .map(|((chain, diff_id), descriptor)| FormedLayer {
                    chain: *chain,
                    diff_id: *diff_id,
                    descriptor: descriptor.clone(),
                })
                .collect(),
            indexes: record.indexes().collect(),
        }));
    }
    Ok(None)
}

fn describe(store: &Store, chain: &ChainId, diff_id: &DiffId, wish: Wish) -> Result<Descriptor> {
    let record = store.layer(chain)?;
    let known = record.blobs.iter().rev().find_map(|blob| {
        let media_type = match wish {
            Wish::Plain => None,
            Wish::AsItCame => Some(media::oci_form(&blob.media_type)).filter(|kind| media::layer(kind).is_some()),
            Wish::Docker => media::docker_form(&blob.media_type),
        }?;
        let packed = blob.digest != diff_id.0 && store.has_blob(&blob.digest);
        packed.then(|| Descriptor::new(media_type, blob.digest, blob.size))
    });
    match known {
        Some(descriptor) => Ok(descriptor),
        None => {
            let plain = match wish {
                Wish::Docker => media::DOCKER_LAYER,
                Wish::AsItCame | Wish::Plain => media::OCI_LAYER,
            };
            Ok(Descriptor::new(plain, diff_id.0, plain_length(store, chain)?))
        }
    }
}

fn diff_dir(store: &Store, chain: &ChainId) -> Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    open(store.layer_dir(chain), flags, Mode::empty()).with_context(|| format!("open layer {chain}"))
}

/// How long a layer's own tar is.
pub(crate) fn plain_length(store: &Store, chain: &ChainId) -> Result<u64> {
    if let Some(record) = store.open_tar_record(chain)? {
        return tar_split::length(&record).with_context(|| format!("layer {chain}"));
    }
    let mut counted = Counted(0);
    pack::pack(
        diff_dir(store, chain)?.as_fd(),
        Some(&mut counted),
        &pack::Options::default(),
    )?;
    Ok(counted.0)
}

struct Counted(u64);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a layer's own tar, byte for byte; an error at its end if it is not the one that `diff_id` is of.
pub(crate) fn write_plain(store: &Store, chain: &ChainId, out: &mut (dyn Write + Send)) -> Result<()> {
    let diff_id = store.layer(chain)?.diff_id;
    let dir = diff_dir(store, chain)?;
    if let Some(record) = store.open_tar_record(chain)? {
        return tar_split::rebuild_verified(&record, dir.as_fd(), diff_id, out).map(drop);
    }
    let packed = pack::pack(dir.as_fd(), Some(out), &pack::Options::default())?;
    match packed.diff_id == diff_id {
        true => Ok(()),
        false => Err(tar_split::damaged(
            diff_id,
            &format!("its files have the digest {}", packed.diff_id),
        )),
    }
}

/// The same for somebody who sums what is written anyway: what its sum has to be. `None`: it has been hashed instead.
pub(crate) fn write_summed(store: &Store, chain: &ChainId, out: &mut (dyn Write + Send)) -> Result<Option<Sum>> {
    if let Some(record) = store.open_tar_record(chain)?
        && let Some(sum) = tar_split::sum(&record)
    {
        let dir = diff_dir(store, chain)?;
        tar_split::rebuild_unchecked(&record, dir.as_fd(), out)?;
        return Ok(Some(sum));
    }
    write_plain(store, chain, out).map(|()| None)
}
