//! The one way in for everything that becomes an image: pull, load, import, commit and build all end here.
//!
//! A layer is unpacked without any lock, in whatever order and by however many threads. It is put in place when its
//! parents are, which may have to lend it the attributes of directories it does not name; and only after it is on the
//! disk, for which one sync does for all that are ready. Until an image refers to them, a claim keeps layers and blobs.

use crate::error::{Context, Error, Result};
use crate::format::media;
use crate::image::progress::{Layer, Progress, Step};
use crate::layer::{self, compress};
use crate::model::digest::Digest;
use crate::model::id::{ChainId, DiffId, ImageId};
use crate::model::image::{ImageRecord, ManifestRecord};
use crate::model::reference::Reference;
use crate::model::time::Timestamp;
use crate::store::{Claim, LayerBlob, LayerLock, LayerRecord, SealedLayer, StagedFile, StagedLayer, Store};
use crate::sys::stop_point;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
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
    /// The index that led to the manifest.
    pub(crate) index: Option<&'a [u8]>,
    /// Names with a digest and no tag are kept as digests.
    pub(crate) names: &'a [Reference],
    /// The names stand for this image alone; else it is one more platform under each.
    pub(crate) replace: bool,
    /// The image it was made on, here.
    pub(crate) parent: Option<ImageId>,
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

/// Unpacked, and not yet in place.
struct Waiting {
    chain: ChainId,
    parent: Option<ChainId>,
    sealed: SealedLayer,
    implied: Vec<Vec<u8>>,
    /// Nobody else brings it.
    _lock: Option<LayerLock>,
    label: Option<String>,
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

    fn keep_blob(&self, unpacked: Unpacked, slot: Slot, staged: StagedFile, mut blob: LayerBlob) -> Result<LayerDone> {
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
        let staged = self.store.stage_layer()?;
        let options = layer::Options {
            record: Some(staged.record()?),
            open_root: self.open_root,
            ..layer::Options::default()
        };
        let decoder = compress::reader(input)?;
        let compression = decoder.format();
        let inner = layer::unpack(decoder, staged.diff()?.as_fd(), &options)?;
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
        if let Some(expected) = slot.diff_id.filter(|expected| *expected != diff_id) {
            return Err(Error::other(format!(
                "layer has the diff id {diff_id}, its image says {expected}"
            )));
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

    /// Puts in place what can be: each after its parent.
    fn commit(&self, _committing: &MutexGuard<'_, ()>) -> Result<()> {
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
    pub(super) fn commit_all(&self) -> Result<()> {
        let committing = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        self.commit(&committing)
    }

    /// Puts in place what can be, unless that is being done. To be called while another process is waited for: it may
    /// wait for a layer that is ready here, and nobody else would put it in place.
    pub(super) fn commit_ready(&self) -> Result<()> {
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
        let (manifest, index) = (new.manifest.map(|(m, _)| m), new.index);
        let blobs: Vec<&[u8]> = [Some(new.config), manifest, index].into_iter().flatten().collect();
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
        };
        let held = self.store.lock_shared()?;
        for layer in &record.layers {
            if !self.store.has_layer(layer) {
                return Err(Error::other(format!("image {}: layer {layer} is missing", id.short())));
            }
        }
        self.store
            .put_named_image(&record, &blobs, &held, |tags| self.name(tags, &record, new))?;
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

/// Whether the other image takes the same place under a name.
pub(super) fn same_platform(store: &Store, other: &ImageId, image: &ImageRecord) -> bool {
    let of = |r: &ImageRecord| crate::model::platform::Platform::of(&r.config).normalized();
    // A damaged one makes room.
    store.image(other).map_or(true, |other| of(&other) == of(image))
}

fn manifest_record(new: &NewImage<'_>) -> Option<ManifestRecord> {
    let (bytes, media_type) = new.manifest?;
    Some(ManifestRecord {
        digest: Digest::of(bytes),
        media_type: media_type.to_owned(),
        size: bytes.len() as u64,
        index: new.index.map(Digest::of),
    })
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

/// Hashes and counts what is read, and may write it down.
pub(super) struct Tee<'a> {
    input: &'a mut (dyn Read + Send),
    sink: Option<&'a File>,
    hasher: Sha256,
    pub(super) count: u64,
    size: Option<u64>,
    pub(super) layer: Option<&'a Layer<'a>>,
}

impl<'a> Tee<'a> {
    /// `size`: no more than that may come.
    pub(super) fn new(input: &'a mut (dyn Read + Send), size: Option<u64>) -> Tee<'a> {
        Tee {
            input,
            sink: None,
            hasher: Sha256::new(),
            count: 0,
            size,
            layer: None,
        }
    }

    fn into_file(mut self, file: &'a File) -> Self {
        self.sink = Some(file);
        self
    }

    /// Of what was read so far.
    pub(super) fn digest(&self) -> Digest {
        Digest::from_hasher(self.hasher.clone())
    }

    /// Unpacks it, reads it to its end, and checks what it was. Where the digest is wrong, that is what is said, not
    /// what the bytes then looked like.
    pub(super) fn unpack_checked(&mut self, intake: &Intake<'_>, digest: Option<Digest>) -> Result<Unpacked> {
        let unpacked = intake.unpack(self);
        let rest = io::copy(self, &mut io::sink());
        if let Err(e) = rest {
            return Err(match unpacked {
                // Said by the unpacking already, perhaps with the member's name.
                Err(told) => told,
                Ok(_) => Error::from(e),
            });
        }
        if let Some(size) = self.size.filter(|size| *size != self.count) {
            return Err(Error::other(format!(
                "size mismatch: got {} bytes, want {size}",
                self.count
            )));
        }
        let found = self.digest();
        match digest.filter(|digest| *digest != found) {
            Some(want) => Err(Error::other(format!("digest mismatch: got {found}, want {want}"))),
            None => unpacked,
        }
    }
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        self.count += n as u64;
        if let Some(size) = self.size.filter(|size| *size < self.count) {
            return Err(io::Error::other(format!("size mismatch: more than {size} bytes")));
        }
        if let Some(mut sink) = self.sink {
            sink.write_all(&buffer[..n])?;
        }
        if let (Some(layer), true) = (self.layer, n > 0) {
            layer.step(Step::Loading {
                done: self.count,
                total: self.size,
            });
        }
        Ok(n)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use crate::image::progress::Silent;
    use crate::image::resolve;
    use crate::model::image::{ImageConfig, RootFs};
    use crate::store::testing::Scratch;
    use flate2::write::GzEncoder;

    fn tar_of(files: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(if path.ends_with('/') { 0o1777 } else { 0o644 });
            if path.ends_with('/') {
                header.set_entry_type(tar::EntryType::Directory);
            }
            tar.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn config(layers: &[DiffId], architecture: &str) -> Vec<u8> {
        let config = ImageConfig {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            rootfs: RootFs {
                diff_ids: layers.to_vec(),
                ..RootFs::default()
            },
            ..ImageConfig::default()
        };
        serde_json::to_vec(&config).unwrap()
    }

    fn blob<'a>(input: &'a mut (dyn Read + Send), bytes: &[u8]) -> LayerSource<'a> {
        LayerSource::Blob {
            input,
            expected: Some((Digest::of(bytes), bytes.len() as u64)),
            media_type: Some(media::OCI_LAYER_GZIP),
        }
    }

    #[test]
    fn layers_come_in_any_order_and_lend_their_directories() {
        let s = Scratch::new();
        let (base, top) = (tar_of(&[("tmp/", "")]), tar_of(&[("tmp/x", "1")]));
        let (base_id, top_id) = (DiffId(Digest::of(&base)), DiffId(Digest::of(&top)));
        let packed = gzip(&top);
        let intake = Intake::new(&s, &Silent).unwrap();
        let parent = ChainId::of(None, base_id);
        let done = intake
            .layer(Some(parent), Some(top_id), blob(&mut &packed[..], &packed))
            .unwrap();
        assert_eq!(done.size, 1);
        intake.commit_all().unwrap();
        assert!(s.layer_ids().unwrap().is_empty(), "not before its parent");
        intake
            .layer(None, Some(base_id), LayerSource::Tar(&mut &base[..]))
            .unwrap();
        let name = Reference::parse("x:1").unwrap();
        let config = config(&[base_id, top_id], "amd64");
        let image = NewImage {
            config: &config,
            manifest: Some((b"{}", "m")),
            names: std::slice::from_ref(&name),
            ..NewImage::default()
        };
        let id = intake.finish(&image).unwrap();
        let record = resolve::resolve(&s, "x:1").unwrap();
        assert_eq!(
            (record.id, record.size, record.layers),
            (id, 1, ChainId::chain(&[base_id, top_id]))
        );
        assert_eq!(s.read_blob(&record.manifests[0].digest).unwrap(), b"{}");
        let top = s.layer(&done.chain).unwrap();
        assert_eq!(top.blobs[0].digest, Digest::of(&packed));
        assert_eq!(s.read_blob(&top.blobs[0].digest).unwrap(), packed);
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(s.layer_dir(&done.chain).join("tmp"))
                .unwrap()
                .permissions(),
        );
        assert_eq!(mode & 0o7777, 0o1777, "the layer names no tmp/");
        drop(intake);
        let held = s.lock_exclusive().unwrap();
        assert_eq!(s.drop_unreferenced(&held).unwrap().ids().count(), 0);
        assert_eq!(s.blobs().unwrap().len(), 3);
    }

    #[test]
    fn what_is_there_is_not_read_again_and_stays_while_claimed() {
        let s = Scratch::new();
        let tar = tar_of(&[("a", "1")]);
        let diff = DiffId(Digest::of(&tar));
        let first = Intake::new(&s, &Silent).unwrap();
        first.layer(None, None, LayerSource::Tar(&mut &tar[..])).unwrap();
        first.commit_all().unwrap();
        let second = Intake::new(&s, &Silent).unwrap();
        assert!(second.has_layer(&ChainId::of(None, diff)).unwrap());
        drop(first);
        let held = s.lock_exclusive().unwrap();
        assert_eq!(s.drop_unreferenced(&held).unwrap().ids().count(), 0);
        drop(held);
        let mut unread = std::io::empty();
        let done = second.layer(None, Some(diff), LayerSource::Tar(&mut unread)).unwrap();
        assert_eq!(done.size, 1);
    }

    /// Two pulls that have one layer each, and wait for the other's.
    #[test]
    fn a_layer_that_is_ready_is_not_kept_from_others() {
        let s = Scratch::new();
        let tar = tar_of(&[("a", "1")]);
        let chain = ChainId::of(None, DiffId(Digest::of(&tar)));
        let intake = Intake::new(&s, &Silent).unwrap();
        let mut busy = || Err(Error::other("busy"));
        let lock = s.lock_layer(&chain, &mut busy).unwrap();
        let slot = Slot {
            parent: None,
            diff_id: None,
        };
        let unpacked = intake.unpack(&mut &tar[..]).unwrap();
        let lock = Some((lock, String::new()));
        intake.keep_unpacked(unpacked, slot, None, lock).unwrap();
        assert!(s.lock_layer(&chain, &mut busy).is_err() && !s.has_layer(&chain));
        intake.commit_ready().unwrap();
        assert!(s.lock_layer(&chain, &mut busy).is_ok() && s.has_layer(&chain));
    }

    #[test]
    fn every_lie_is_found_and_leaves_nothing() {
        let s = Scratch::new();
        let tar = tar_of(&[("a", "1")]);
        let (packed, diff) = (gzip(&tar), DiffId(Digest::of(&tar)));
        let other = DiffId(Digest::of(b"other"));
        for (bytes, digest, size, diff, why) in [
            (
                &packed[..],
                Digest::of(b""),
                packed.len() as u64,
                diff,
                "digest mismatch",
            ),
            (
                b"<html>nothing here</html>",
                Digest::of(&packed),
                25,
                diff,
                "digest mismatch",
            ),
            (&packed[..], Digest::of(&packed), 1, diff, "more than 1 bytes"),
            (&packed[..], Digest::of(&packed), 1 << 20, diff, "size mismatch: got"),
            (
                &packed[..20],
                Digest::of(&packed),
                packed.len() as u64,
                diff,
                "size mismatch: got 20",
            ),
            (&packed[..], Digest::of(&packed), packed.len() as u64, other, "diff id"),
        ] {
            let intake = Intake::new(&s, &Silent).unwrap();
            let source = LayerSource::Blob {
                input: &mut &bytes[..],
                expected: Some((digest, size)),
                media_type: None,
            };
            let e = intake.layer(None, Some(diff), source).unwrap_err().to_string();
            assert!(e.contains(why), "{why}: {e}");
        }
        let intake = Intake::new(&s, &Silent).unwrap();
        let config = config(&[other], "amd64");
        let missing = NewImage {
            config: &config,
            ..NewImage::default()
        };
        assert!(intake.finish(&missing).is_err());
        drop(intake);
        s.drop_unreferenced(&s.lock_exclusive().unwrap()).unwrap();
        for dir in ["layers", "images", "blobs/sha256", "staging"] {
            assert_eq!(std::fs::read_dir(s.root().join(dir)).unwrap().count(), 0, "{dir}");
        }
    }

    #[test]
    fn platforms_gather_under_a_name() {
        let s = Scratch::new();
        let intake = Intake::new(&s, &Silent).unwrap();
        let name = Reference::parse("x:1").unwrap();
        let tar = tar_of(&[("a", "1")]);
        let done = intake.layer(None, None, LayerSource::Tar(&mut &tar[..])).unwrap();
        let finish = |architecture: &str, replace| {
            let config = config(&[done.diff_id], architecture);
            let image = NewImage {
                config: &config,
                names: std::slice::from_ref(&name),
                replace,
                ..NewImage::default()
            };
            intake.finish(&image).unwrap()
        };
        let (arm, amd) = (finish("arm64", false), finish("amd64", false));
        assert_eq!(s.tags().unwrap().target(&name).unwrap().images(), [arm, amd]);
        finish("arm64", false);
        assert_eq!(s.tags().unwrap().target(&name).unwrap().images(), [amd, arm]);
        finish("amd64", true);
        assert_eq!(s.tags().unwrap().target(&name).unwrap().images(), [amd]);
    }
}
