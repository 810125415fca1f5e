//! The one way in for everything that becomes an image: pull, load, import, commit and build all end here.
//!
//! A layer is unpacked without any lock, in whatever order and by however many threads. It is put in place when its
//! parents are, which may have to lend it the attributes of directories it does not name; and only after it is on the
//! disk, for which one sync does for all that are ready. Until an image refers to them, a claim keeps layers and blobs.

mod commit;
mod form;
mod tee;

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests;

pub(super) use form::check_is_of;
pub(super) use tee::Tee;

use crate::error::Result;
use crate::format::media;
use crate::image::progress::{Layer, Progress, Step};
use crate::layer::{self, TarSum, compress};
use crate::model::digest::Digest;
use crate::model::event::Event;
use crate::model::id::{ChainId, DiffId, ImageId};
use crate::model::reference::Reference;
use crate::store::{Claim, LayerBlob, LayerLock, LayerRecord, StagedFile, StagedLayer, Store};
use commit::Waiting;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Unpacked layers wait so long for others, before they are synced together.
const GATHERING: Duration = Duration::from_millis(1500);

/// Where a layer comes from.
pub(crate) enum LayerSource<'a> {
    /// As a registry or an archive has it, whatever its compression. Kept as a blob if it is compressed; otherwise its
    /// files and the tar record are as good.
    Blob {
        input: &'a mut (dyn Read + Send),
        expected: Option<(Digest, u64)>,
        media_type: Option<&'a str>,
    },
    /// A tar, perhaps compressed, of which only the tree matters.
    Tar(&'a mut (dyn Read + Send)),
    /// A directory that is ready.
    Staged {
        staged: StagedLayer,
        diff_id: DiffId,
        size: u64,
    },
}

/// A layer that is in place, or will be when the image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LayerDone {
    pub(crate) chain: ChainId,
    pub(crate) diff_id: DiffId,
    /// Bytes of its files.
    pub(crate) size: u64,
}

/// What makes layers an image.
#[derive(Default)]
pub(crate) struct NewImage<'a> {
    /// The configuration, byte for byte; its diff ids say which layers.
    pub(crate) config: &'a [u8],
    /// The manifest it came with, and its media type.
    pub(crate) manifest: Option<(&'a [u8], &'a str)>,
    /// The indexes that led to the manifest, the outermost first.
    pub(crate) indexes: &'a [&'a [u8]],
    /// Names with a digest and no tag are kept as digests.
    pub(crate) names: &'a [Reference],
    /// The names stand for this image alone; else it is one more platform under each.
    pub(crate) replace: bool,
    /// The image it was made on, here.
    pub(crate) parent: Option<ImageId>,
    /// What it was called at a registry of 2013, base first.
    pub(crate) v1: &'a [V1Document<'a>],
    /// Of the manifests that will be made for it.
    pub(crate) annotations: BTreeMap<String, String>,
    /// What is told when it is made.
    pub(crate) told: Option<Event>,
}

/// An image of a chain of 2013, and its document.
#[derive(Clone, Copy)]
pub(crate) struct V1Document<'a> {
    pub(crate) id: &'a str,
    pub(crate) json: &'a [u8],
    /// Who called it so.
    pub(crate) host: &'a str,
    /// It has no layer among those of the image.
    pub(crate) empty: bool,
}

/// Layers on their way into the store, and then images.
pub(crate) struct Intake<'a> {
    store: &'a Store,
    progress: &'a dyn Progress,
    claim: Claim,
    open_root: bool,
    state: Mutex<State>,
    /// Held by who commits.
    committing: Mutex<()>,
}

struct State {
    done: HashMap<ChainId, LayerDone>,
    waiting: Vec<Waiting>,
    last_commit: Instant,
}

/// Where a layer belongs, and what it has to be, if that is known.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) parent: Option<ChainId>,
    pub(super) diff_id: Option<DiffId>,
}

/// An unpacked layer, and what its bytes were.
pub(super) struct Unpacked {
    staged: StagedLayer,
    inner: layer::Unpacked,
    pub(super) compression: compress::Format,
}

impl<'a> Intake<'a> {
    pub(crate) fn new(store: &'a Store, progress: &'a dyn Progress) -> Result<Intake<'a>> {
        Ok(Intake {
            store,
            progress,
            claim: store.claim()?,
            open_root: false,
            state: Mutex::new(State {
                done: HashMap::new(),
                waiting: Vec::new(),
                last_commit: Instant::now(),
            }),
            committing: Mutex::new(()),
        })
    }

    /// Lets everybody into the root directory, whatever its tar says of it (see [`layer::Options`]).
    #[must_use]
    pub(crate) fn open_root(mut self) -> Self {
        self.open_root = true;
        self
    }

    /// Whether the layer is there, and then stays until the intake is dropped.
    pub(crate) fn has_layer(&self, chain: &ChainId) -> Result<bool> {
        if self.state().done.contains_key(chain) {
            return Ok(true);
        }
        self.claim(&[*chain], &[])?;
        self.find(chain)
    }

    /// What is there of these when this has returned, or comes later, stays until the intake is dropped.
    pub(super) fn claim(&self, chains: &[ChainId], blobs: &[Digest]) -> Result<()> {
        self.claim.add(self.store, chains, blobs)
    }

    /// Whether a claimed layer is there.
    pub(super) fn find(&self, chain: &ChainId) -> Result<bool> {
        if self.state().done.contains_key(chain) {
            return Ok(true);
        }
        if !self.store.has_layer(chain) {
            return Ok(false);
        }
        let record = self.store.layer(chain)?;
        let done = LayerDone {
            chain: *chain,
            diff_id: record.diff_id,
            size: record.size,
        };
        self.state().done.insert(*chain, done);
        Ok(true)
    }

    /// Takes a layer in. `diff_id`: what it has to be, if that is known; one that is there then is not read at all.
    pub(crate) fn layer(
        &self,
        parent: Option<ChainId>,
        diff_id: Option<DiffId>,
        source: LayerSource<'_>,
    ) -> Result<LayerDone> {
        if let Some(diff_id) = diff_id {
            let chain = ChainId::of(parent, diff_id);
            if self.has_layer(&chain)? {
                return Ok(LayerDone {
                    size: self.size(&chain)?,
                    chain,
                    diff_id,
                });
            }
        }
        let slot = Slot { parent, diff_id };
        match source {
            LayerSource::Staged { staged, diff_id, size } => {
                let record = LayerRecord {
                    parent,
                    diff_id,
                    size,
                    blobs: Vec::new(),
                };
                self.keep(staged, record, Vec::new(), None)
            }
            LayerSource::Tar(input) => {
                let unpacked = self.unpack(input)?;
                self.keep_unpacked(unpacked, slot, None, None)
            }
            LayerSource::Blob {
                input,
                expected,
                media_type,
            } => self.blob(slot, input, expected, media_type),
        }
    }

    fn blob(
        &self,
        slot: Slot,
        input: &mut (dyn Read + Send),
        expected: Option<(Digest, u64)>,
        media_type: Option<&str>,
    ) -> Result<LayerDone> {
        let named = expected.map(|(digest, _)| digest).or(slot.diff_id.map(|d| d.0));
        let label = named.map(|digest| Layer::new(self.progress, &digest.hex()));
        let staged = self.store.stage_file()?;
        let mut tee = Tee::new(input, expected.map(|(_, size)| size)).into_file(staged.file());
        tee.layer = label.as_ref();
        let unpacked = tee.unpack_checked(self, expected.map(|(digest, _)| digest))?;
        let blob = LayerBlob {
            digest: tee.digest(),
            size: tee.count,
            media_type: media_type.unwrap_or_default().to_owned(),
        };
        let done = self.keep_blob(unpacked, slot, staged, blob)?;
        if let Some(label) = &label {
            label.step(Step::Loaded);
        }
        Ok(done)
    }

    /// Keeps a compressed blob beside what it was unpacked to.
    pub(super) fn keep_blob(
        &self,
        unpacked: Unpacked,
        slot: Slot,
        staged: StagedFile,
        mut blob: LayerBlob,
    ) -> Result<LayerDone> {
        let Some(own) = media_type_of(unpacked.compression) else {
            return self.keep_unpacked(unpacked, slot, None, None);
        };
        if unpacked.compression != compress::Format::Plain {
            self.claim(&[], &[blob.digest])?;
            let held = self.store.lock_shared()?;
            self.store.commit_blob(staged, &blob.digest, &held)?;
        }
        if blob.media_type.is_empty() {
            own.clone_into(&mut blob.media_type);
        }
        self.keep_unpacked(unpacked, slot, Some(blob), None)
    }

    /// Into a staged directory, whatever its compression.
    pub(super) fn unpack(&self, input: &mut (dyn Read + Send)) -> Result<Unpacked> {
        self.unpack_watched(input, None)
    }

    /// The same, and computes docker's checksum of the tar on the way.
    pub(super) fn unpack_watched(
        &self,
        input: &mut (dyn Read + Send),
        tarsum: Option<&mut TarSum>,
    ) -> Result<Unpacked> {
        let staged = self.store.stage_layer()?;
        let options = layer::Options {
            record: Some(staged.record()?),
            open_root: self.open_root,
            ..layer::Options::default()
        };
        let decoder = compress::reader(input)?;
        let compression = decoder.format();
        let inner = match tarsum {
            None => layer::unpack(decoder, staged.diff()?.as_fd(), &options)?,
            Some(tarsum) => layer::unpack(tarsum.watch(decoder), staged.diff()?.as_fd(), &options)?,
        };
        Ok(Unpacked {
            staged,
            inner,
            compression,
        })
    }

    /// `blob` is its compressed form, in place or to be rebuilt; `lock`, that nobody else brings it, and its label.
    pub(super) fn keep_unpacked(
        &self,
        unpacked: Unpacked,
        slot: Slot,
        blob: Option<LayerBlob>,
        lock: Option<(LayerLock, String)>,
    ) -> Result<LayerDone> {
        let layer::Unpacked { diff_id, size, implied } = unpacked.inner;
        if let Some(expected) = &slot.diff_id {
            form::check_diff_id(&diff_id, expected)?;
        }
        let record = LayerRecord {
            parent: slot.parent,
            diff_id,
            size,
            blobs: blob.into_iter().collect(),
        };
        self.keep(unpacked.staged, record, implied, lock)
    }

    fn keep(
        &self,
        staged: StagedLayer,
        record: LayerRecord,
        implied: Vec<Vec<u8>>,
        lock: Option<(LayerLock, String)>,
    ) -> Result<LayerDone> {
        let (lock, label) = lock.unzip();
        let done = LayerDone {
            chain: record.chain_id(),
            diff_id: record.diff_id,
            size: record.size,
        };
        let waiting = Waiting {
            chain: done.chain,
            parent: record.parent,
            sealed: staged.close(record)?,
            implied,
            _lock: lock,
            label,
        };
        self.claim(&[done.chain], &[])?;
        let mut state = self.state();
        state.done.insert(done.chain, done);
        state.waiting.push(waiting);
        let due = state.last_commit.elapsed() > GATHERING;
        drop(state);
        if due && let Ok(committing) = self.committing.try_lock() {
            self.commit(&committing)?;
        }
        Ok(done)
    }

    fn size(&self, chain: &ChainId) -> Result<u64> {
        if let Some(done) = self.state().done.get(chain) {
            return Ok(done.size);
        }
        Ok(self.store.layer(chain)?.size)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn store(&self) -> &'a Store {
        self.store
    }
}

/// What a blob is called that came without a media type. `None`: no registry would take it.
fn media_type_of(compression: compress::Format) -> Option<&'static str> {
    match compression {
        compress::Format::Plain => Some(media::OCI_LAYER),
        compress::Format::Gzip => Some(media::OCI_LAYER_GZIP),
        compress::Format::Zstd => Some(media::OCI_LAYER_ZSTD),
        compress::Format::Xz | compress::Format::Bzip2 => None,
    }
}
