//! The compressed forms of a layer. It is unpacked once, but each image's manifest may name a blob of its own for it, and
//! the image goes out with that again: so every form that came is kept, as it came.

use super::Intake;
use crate::error::{Context, Error, Result};
use crate::layer::compress;
use crate::model::digest::Digest;
use crate::model::id::{ChainId, DiffId};
use crate::store::LayerBlob;
use sha2::{Digest as _, Sha256};
use std::io::Read;

impl Intake<'_> {
    /// Whether a layer that is in place is known as this blob, or is one without compression. Its bytes may have been
    /// dropped since: who did was told what that costs.
    pub(in crate::image) fn has_form(&self, chain: &ChainId, blob: &Digest) -> Result<bool> {
        let layer = self.store.layer(chain)?;
        Ok(layer.diff_id.0 == *blob || layer.blobs.iter().any(|known| known.digest == *blob))
    }

    /// Another form of a layer that is in place. It is in place itself, claimed, and checked to be one.
    pub(in crate::image) fn add_form(&self, chain: &ChainId, blob: LayerBlob) -> Result<()> {
        self.store.add_layer_blob(chain, blob, &self.store.lock_shared()?)
    }
}

/// Reads a blob, and tells whether it is a form of the layer: other images have the layer, too, and would be pushed with
/// what one manifest says is its compressed form.
pub(in crate::image) fn check_is_of(blob: impl Read, diff_id: &DiffId) -> Result<()> {
    let mut hasher = Sha256::new();
    let mut tar = compress::reader(blob)?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match tar.read(&mut buffer).context("read blob")? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    check_diff_id(&DiffId(Digest::from_hasher(hasher)), diff_id)
}

pub(super) fn check_diff_id(found: &DiffId, expected: &DiffId) -> Result<()> {
    match found == expected {
        true => Ok(()),
        false => Err(Error::other(format!(
            "layer has the diff id {found}, its image says {expected}"
        ))),
    }
}
