//! The order in which layers are put in place, and then the image that they make.

use super::{Intake, NewImage, V1Document};
use crate::error::{Context, Error, Result};
use crate::image::progress::{Layer, Step};
use crate::layer;
use crate::model::digest::Digest;
use crate::model::id::{ChainId, ImageId};
use crate::model::image::{ImageRecord, ManifestRecord, V1Record};
use crate::model::time::Timestamp;
use crate::store::{LayerLock, SealedLayer, Store};
use crate::sys::stop_point;
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{MutexGuard, PoisonError};
use std::time::Instant;

/// Unpacked, and not yet in place.
pub(super) struct Waiting {
    pub(super) chain: ChainId,
    pub(super) parent: Option<ChainId>,
    pub(super) sealed: SealedLayer,
    pub(super) implied: Vec<Vec<u8>>,
    /// Nobody else brings it.
    pub(super) _lock: Option<LayerLock>,
    pub(super) label: Option<String>,
}

impl Intake<'_> {
    /// Puts in place what can be: each after its parent.
    pub(super) fn commit(&self, _committing: &MutexGuard<'_, ()>) -> Result<()> {
        let batch = self.take_ready();
        if batch.is_empty() {
            return Ok(());
        }
        let mut places = HashMap::new();
        for waiting in &batch {
            places.insert(waiting.chain, (waiting.sealed.path(), waiting.parent));
            let lowers = match waiting.implied.is_empty() {
                true => Vec::new(),
                false => self.lowers(waiting.parent, &places)?,
            };
            let diff = File::open(waiting.sealed.path()).context("open staged layer")?;
            layer::inherit(diff.as_fd(), &waiting.implied, &lowers)?;
        }
        self.store.sync()?;
        for waiting in batch {
            let held = self.store.lock_shared()?;
            waiting.sealed.place(self.store, &held)?;
            stop_point("layer-committed");
            if let Some(label) = &waiting.label {
                Layer::new(self.progress, label).step(Step::Complete);
            }
        }
        self.state().last_commit = Instant::now();
        Ok(())
    }

    /// Those whose parents are in place, or among them; base first.
    fn take_ready(&self) -> Vec<Waiting> {
        let mut state = self.state();
        let mut batch: Vec<Waiting> = Vec::new();
        while let Some(at) = state.waiting.iter().position(|w| {
            w.parent
                .is_none_or(|p| batch.iter().any(|b| b.chain == p) || self.store.has_layer(&p))
        }) {
            batch.push(state.waiting.swap_remove(at));
        }
        batch
    }

    /// The directories of a layer and of those below it, base first.
    fn lowers(
        &self,
        top: Option<ChainId>,
        places: &HashMap<ChainId, (PathBuf, Option<ChainId>)>,
    ) -> Result<Vec<PathBuf>> {
        let mut lowers = Vec::new();
        let mut at = top;
        while let Some(chain) = at {
            let (path, parent) = match places.get(&chain) {
                Some(place) => place.clone(),
                None => (self.store.layer_dir(&chain), self.store.layer(&chain)?.parent),
            };
            lowers.push(path);
            at = parent;
        }
        lowers.reverse();
        Ok(lowers)
    }

    /// Puts every layer in place that was taken in.
    pub(in crate::image) fn commit_all(&self) -> Result<()> {
        let committing = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        self.commit(&committing)
    }

    /// Puts in place what can be, unless that is being done. To be called while another process is waited for: it may
    /// wait for a layer that is ready here, and nobody else would put it in place.
    pub(in crate::image) fn commit_ready(&self) -> Result<()> {
        match self.committing.try_lock() {
            Ok(committing) => self.commit(&committing),
            Err(_) => Ok(()),
        }
    }

    /// Makes the image of layers that were taken in, or found there, and names it. Survives a power cut when it
    /// returns. May be called for several images.
    pub(crate) fn finish(&self, new: &NewImage<'_>) -> Result<ImageId> {
        let config = crate::format::config::parse(new.config)?;
        let id = ImageId(Digest::of(new.config));
        let layers = ChainId::chain(&config.rootfs.diff_ids);
        let mut blobs = vec![new.config];
        blobs.extend(new.manifest.map(|(manifest, _)| manifest));
        blobs.extend(new.indexes);
        blobs.extend(new.v1.iter().map(|v1| v1.json));
        self.claim(&layers, &[])?;
        self.commit_all()?;
        let record = ImageRecord {
            id,
            size: layers.iter().map(|chain| self.size(chain)).sum::<Result<u64>>()?,
            layers,
            config,
            stored: Timestamp::now(),
            manifests: manifest_record(new).into_iter().collect(),
            parent: new.parent,
            v1: new.v1.iter().map(V1Document::record).collect(),
            annotations: new.annotations.clone(),
        };
        let held = self.store.lock_shared()?;
        for layer in &record.layers {
            if !self.store.has_layer(layer) {
                return Err(Error::other(format!("image {}: layer {layer} is missing", id.short())));
            }
        }
        self.store.telling_image(&id, new.told.clone(), || {
            self.store
                .put_named_image(&record, &blobs, &held, |tags| self.name(tags, &record, new))
        })?;
        Ok(id)
    }

    fn name(&self, tags: &mut crate::store::Tags, record: &ImageRecord, new: &NewImage<'_>) {
        for name in new.names {
            match new.replace {
                true => _ = tags.set(name, record.id),
                false => tags.add(name, record.id, |other| same_platform(self.store, other, record)),
            }
        }
    }
}

/// Whether the other image takes the same place under a name.
pub(in crate::image) fn same_platform(store: &Store, other: &ImageId, image: &ImageRecord) -> bool {
    let of = |r: &ImageRecord| crate::model::platform::Platform::of(&r.config).normalized();
    // A damaged one makes room.
    store.image(other).map_or(true, |other| of(&other) == of(image))
}

impl V1Document<'_> {
    fn record(&self) -> V1Record {
        V1Record {
            id: self.id.to_owned(),
            json: Digest::of(self.json),
            host: self.host.to_owned(),
            empty: self.empty,
        }
    }
}

fn manifest_record(new: &NewImage<'_>) -> Option<ManifestRecord> {
    let (bytes, media_type) = new.manifest?;
    let mut outer: Vec<Digest> = new.indexes.iter().map(|index| Digest::of(index)).collect();
    let index = outer.pop();
    Some(ManifestRecord {
        digest: Digest::of(bytes),
        media_type: media_type.to_owned(),
        size: bytes.len() as u64,
        index,
        outer,
    })
}
