//! The layers of a build on their way into the store. A step's files are written into a staged directory, which the next
//! step is done on at once; meanwhile a process of its own hashes them. Layers that are digested are synced and renamed
//! into place together, each with what the cache remembers of it; nothing is copied.

use crate::build::cache::import::Imports;
use crate::build::task::{self, Task};
use crate::error::{Context, Error, Result};
use crate::layer::{self, pack};
use crate::model::digest::Digest;
use crate::model::driver::Driver;
use crate::model::id::{ChainId, DiffId};
use crate::model::time::Timestamp;
use crate::store::{
    Claim, FinishedStep, Inputs, LayerRecord, Stage, StagedLayer, StepKey, StepLock, StepParent, StepRecord, Store,
    mark_finished,
};
use crate::sys;
use rustix::fs::fstat;
use std::cell::OnceCell;
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

mod views;

pub(crate) use views::View;

/// Digested layers wait so long for others, before they are synced together.
const GATHERING: Duration = Duration::from_millis(1500);
/// Beside `diff/` of a step: the driver's own.
pub(crate) const WORK: &str = "work";
/// Processes that hash at once; the next step waits for one to end.
const MOST_HASHING: usize = 4;

/// One of the build's layers: with those below it, a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LayerRef(usize);

/// A tree: its topmost layer, or nothing at all.
pub(crate) type Top = Option<LayerRef>;

/// What is said of a step when its files are there.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) inputs: Inputs,
    pub(crate) created: Timestamp,
    pub(crate) description: String,
    /// Of the files it has read, where its description says that.
    pub(crate) content: Option<Digest>,
    /// No file of it is younger.
    pub(crate) latest: Option<i64>,
}

struct Layer {
    parent: Top,
    state: State,
}

enum State {
    /// In the store, and claimed.
    Placed(ChainId),
    /// Known from a cache elsewhere, and not here until its files are needed.
    Elsewhere(DiffId),
    Hashing {
        /// Dropped first: it writes into the other one.
        task: Task,
        staged: StagedLayer,
        made: Made,
    },
    /// `None`: it changed nothing.
    Hashed {
        staged: StagedLayer,
        layer: Option<(DiffId, u64)>,
        made: Made,
    },
    /// It changed nothing, and is what its parent is.
    Nothing,
    /// On its way from one of these to another.
    Moving,
}

/// What the cache is told of a step that has changed no files.
pub(crate) struct Note {
    pub(crate) inputs: Inputs,
    pub(crate) created: Timestamp,
    pub(crate) description: String,
}

/// What the cache has of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    /// The tree after it.
    pub(crate) top: Top,
    pub(crate) changed: bool,
    pub(crate) created: Timestamp,
    pub(crate) content: Option<Digest>,
}

pub(crate) struct Layers<'a> {
    pub(crate) store: &'a Store,
    claim: Claim,
    list: Vec<Layer>,
    boot_id: String,
    last_commit: Instant,
    /// Directories that are of no use any more, but that a container may still be on.
    spare: Vec<StagedLayer>,
    /// Steps without files of their own, for the cache.
    notes: Vec<(Top, Note)>,
    /// That nobody else makes a step, until its layer is in place.
    locks: HashMap<LayerRef, StepLock>,
    /// Directories of layers that are not in place, for a process beside the build: see [`Layers::hold`].
    held: HashMap<LayerRef, OwnedFd>,
    /// Caches elsewhere.
    pub(crate) imports: Rc<Imports<'a>>,
    /// Mounted trees, for reading.
    views: HashMap<Top, Rc<View>>,
    /// Has `empty/`: the kernel wants a second directory below a view. Made when it is needed first.
    scratch: OnceCell<Stage>,
    driver: Driver,
}

impl<'a> Layers<'a> {
    pub(crate) fn new(store: &'a Store, imports: Rc<Imports<'a>>) -> Result<Layers<'a>> {
        Ok(Layers {
            store,
            claim: store.claim()?,
            list: Vec::new(),
            boot_id: sys::process::boot_id().context("read the boot id")?,
            last_commit: Instant::now(),
            spare: Vec::new(),
            notes: Vec::new(),
            locks: HashMap::new(),
            held: HashMap::new(),
            imports,
            views: HashMap::new(),
            scratch: OnceCell::new(),
            driver: store.driver()?.unwrap_or(Driver::Overlay),
        })
    }

    fn push(&mut self, parent: Top, state: State) -> LayerRef {
        self.list.push(Layer { parent, state });
        LayerRef(self.list.len() - 1)
    }

    /// Layers of the store, base first. They are claimed, and must then be there.
    pub(crate) fn found(&mut self, chains: &[ChainId]) -> Result<Top> {
        self.claim.add(self.store, chains, &[])?;
        let mut top = None;
        for chain in chains {
            if !self.store.has_layer(chain) {
                return Err(Error::not_found(format!("No such layer: {chain}")));
            }
            top = Some(self.push(top, State::Placed(*chain)));
        }
        Ok(top)
    }

    /// What the cache has for a step on `top`, claimed: this engine's, or else one from elsewhere.
    pub(crate) fn cached(&mut self, top: Top, family: Digest, form: Digest) -> Result<Option<Known>> {
        let chain = self.chain(top)?;
        let key = StepKey::new(chain, family, form);
        if let Some(found) = self.cached_here(top, chain, &key)? {
            return Ok(Some(found));
        }
        let Some(step) = self.imports.step(&key) else {
            return Ok(None);
        };
        let after = match step.layer {
            None => top,
            Some(diff_id) => {
                let own = ChainId::of(chain, diff_id);
                self.claim.add(self.store, &[own], &[])?;
                Some(match self.store.has_layer(&own) {
                    true => self.push_placed(top, own)?,
                    false => self.push(top, State::Elsewhere(diff_id)),
                })
            }
        };
        Ok(Some(Known {
            top: after,
            changed: step.layer.is_some(),
            created: step.created,
            content: step.content,
        }))
    }

    fn cached_here(&mut self, top: Top, chain: Option<ChainId>, key: &StepKey) -> Result<Option<Known>> {
        let Some(record) = self.store.step(key) else {
            return Ok(None);
        };
        let after = match (record.changed, record.top) {
            (false, same) if same == chain => top,
            (true, Some(own)) => {
                self.claim.add(self.store, &[own], &[])?;
                if !self.store.has_layer(&own) || self.store.layer(&own)?.parent != chain {
                    return Ok(None);
                }
                Some(self.push_placed(top, own)?)
            }
            _ => return Ok(None),
        };
        self.store.use_step(key);
        Ok(Some(Known {
            top: after,
            changed: record.changed,
            created: record.created,
            content: record.content,
        }))
    }

    /// A layer of the store on a tree of which some may not be in place: then what is in place is the same.
    fn push_placed(&mut self, parent: Top, chain: ChainId) -> Result<LayerRef> {
        let mut below = Vec::new();
        let mut at = parent;
        while let Some(LayerRef(n)) = at {
            below.push(n);
            at = self.list[n].parent;
        }
        for n in below.into_iter().rev() {
            let before = self.chain(self.list[n].parent)?;
            let state = std::mem::replace(&mut self.list[n].state, State::Moving);
            self.list[n].state = match state {
                State::Hashed { staged, layer, made } => {
                    self.locks.remove(&LayerRef(n));
                    self.put(before, staged, layer, &made)?
                }
                State::Elsewhere(diff_id) => {
                    let own = ChainId::of(before, diff_id);
                    self.claim.add(self.store, &[own], &[])?;
                    match self.store.has_layer(&own) {
                        true => State::Placed(own),
                        false => State::Elsewhere(diff_id),
                    }
                }
                other => other,
            };
        }
        Ok(self.push(parent, State::Placed(chain)))
    }

    /// Brings what of a tree is elsewhere.
    pub(crate) fn bring(&mut self, top: Top) -> Result<()> {
        let mut missing = Vec::new();
        let mut at = top;
        while let Some(LayerRef(n)) = at {
            if let State::Elsewhere(diff_id) = self.list[n].state {
                missing.push((n, diff_id));
            }
            at = self.list[n].parent;
        }
        if missing.is_empty() {
            return Ok(());
        }
        missing.reverse();
        let mut wanted = Vec::new();
        for (n, diff_id) in &missing {
            let parent = self.chain(self.list[*n].parent)?;
            self.claim.add(self.store, &[ChainId::of(parent, *diff_id)], &[])?;
            wanted.push((parent, *diff_id));
        }
        self.imports.bring(&wanted)?;
        for ((n, _), (parent, diff_id)) in missing.iter().zip(&wanted) {
            self.list[*n].state = State::Placed(ChainId::of(*parent, *diff_id));
        }
        Ok(())
    }

    /// A staged directory for what a step on `top` changes, with the owner and mode of the tree's root.
    pub(crate) fn stage(&mut self, top: Top) -> Result<StagedLayer> {
        self.bring(top)?;
        self.store.stage_upper(self.dirs(top).last().map(PathBuf::as_path))
    }

    /// The layers of a tree, topmost first.
    pub(crate) fn stack(&self, top: Top) -> Vec<LayerRef> {
        let mut found = Vec::new();
        let mut at = top;
        while let Some(layer) = at {
            found.push(layer);
            at = self.list[layer.0].parent;
        }
        found
    }

    pub(crate) fn is_elsewhere(&self, LayerRef(n): LayerRef) -> bool {
        matches!(self.list[n].state, State::Elsewhere(_))
    }

    /// What a layer is that changes something. Waits for its digest.
    pub(crate) fn diff_id(&mut self, LayerRef(n): LayerRef) -> Result<DiffId> {
        self.chain(Some(LayerRef(n)))?;
        match &self.list[n].state {
            State::Elsewhere(diff_id)
            | State::Hashed {
                layer: Some((diff_id, _)),
                ..
            } => Ok(*diff_id),
            State::Placed(chain) => Ok(self.store.layer(chain)?.diff_id),
            _ => Err(Error::other("a layer of the build is not digested")),
        }
    }

    /// Nobody else makes the step of this layer until it is in place.
    pub(crate) fn keep_lock(&mut self, layer: LayerRef, lock: StepLock) {
        self.locks.insert(layer, lock);
    }

    /// The directories of a tree that is here (see [`Layers::bring`]), base first; none of what changed nothing.
    pub(crate) fn dirs(&self, top: Top) -> Vec<PathBuf> {
        let mut dirs = Vec::new();
        let mut at = top;
        while let Some(LayerRef(n)) = at {
            let layer = &self.list[n];
            dirs.extend(match &layer.state {
                State::Placed(chain) => Some(self.store.layer_dir(chain)),
                State::Hashing { staged, .. } | State::Hashed { staged, .. } => {
                    let held = self.held.get(&LayerRef(n));
                    Some(held.map_or_else(|| staged.place().join("diff"), by_descriptor))
                }
                State::Elsewhere(_) | State::Nothing | State::Moving => None,
            });
            at = layer.parent;
        }
        dirs.reverse();
        dirs
    }

    /// Whoever is started now may use the tree for as long as it likes, whether or not its layers are put in place
    /// meanwhile: [`Layers::dirs`] names them by descriptors ([`Layers::held`]) until [`Layers::let_go`].
    pub(crate) fn hold(&mut self, top: Top) -> Result<()> {
        // Made by this process, so that it ends with it.
        self.scratch()?;
        if let Driver::Aufs = self.driver {
            // Its branches are beside a layer's directory, which has to be known by its name.
            return self.place(top).map(|_| ());
        }
        for layer in self.stack(top) {
            if let State::Hashing { staged, .. } | State::Hashed { staged, .. } = &self.list[layer.0].state {
                self.held.insert(layer, staged.diff()?);
            }
        }
        Ok(())
    }

    pub(crate) fn held(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.held.values().map(AsFd::as_fd)
    }

    pub(crate) fn let_go(&mut self) {
        self.held.clear();
    }

    /// The same in two parts: layers in place, and directories above them.
    pub(crate) fn parts(&self, top: Top) -> (Vec<ChainId>, Vec<PathBuf>) {
        let (mut chains, mut above) = (Vec::new(), Vec::new());
        let mut at = top;
        while let Some(LayerRef(n)) = at {
            let layer = &self.list[n];
            match &layer.state {
                State::Placed(chain) => chains.push(*chain),
                State::Hashing { staged, .. } | State::Hashed { staged, .. } => above.push(staged.place().join("diff")),
                State::Elsewhere(_) | State::Nothing | State::Moving => {}
            }
            at = layer.parent;
        }
        chains.reverse();
        above.reverse();
        (chains, above)
    }

    /// Takes a step's files, and has them hashed. What is in `staged` besides them goes.
    pub(crate) fn take(&mut self, top: Top, staged: StagedLayer, made: Made) -> Result<LayerRef> {
        while self.hashing().count() >= MOST_HASHING {
            self.finish_one()?;
        }
        let below = self.dirs(top);
        self.settle(&self.stack_on(&staged, below.clone())?)?;
        let diff = staged.diff()?;
        let own_root = match below.last() {
            Some(below) => pack::roots_differ(diff.as_fd(), open(below)?.as_fd())?,
            None => !is_plain_root(diff.as_fd())?,
        };
        if !own_root {
            layer::inherit(diff.as_fd(), &[Vec::new()], &below)?;
        } else if let Some(latest) = made.latest {
            clamp_root(diff.as_fd(), latest)?;
        }
        let (place, lock) = (staged.place().to_owned(), staged.lock());
        let mut word = FinishedStep {
            boot_id: self.boot_id.clone(),
            inputs: made.inputs.clone(),
            parent: self.step_parent(top),
            layer: None,
            created: made.created,
            description: made.description.clone(),
            content: made.content,
        };
        let record = staged.record()?;
        let latest = made.latest;
        let task = task::start(&[lock, diff.as_fd(), record.as_fd()], || {
            layer::settle(diff.as_fd(), latest)?;
            let options = pack::Options {
                record: Some(&record),
                root: own_root,
                ..pack::Options::default()
            };
            let packed = pack::pack(diff.as_fd(), None, &options)?;
            word.layer = (packed.members > 0).then_some((packed.diff_id, packed.size));
            mark_finished(&place, &word)?;
            Ok(word.layer)
        })?;
        Ok(self.push(top, State::Hashing { staged, task, made }))
    }

    fn step_parent(&self, top: Top) -> StepParent {
        let mut at = top;
        while let Some(LayerRef(n)) = at {
            match &self.list[n].state {
                State::Placed(chain) => return StepParent::Top(Some(*chain)),
                State::Hashing { staged, .. } | State::Hashed { staged, .. } => {
                    return StepParent::Staged(stage_name(staged));
                }
                State::Elsewhere(_) | State::Nothing | State::Moving => at = self.list[n].parent,
            }
        }
        StepParent::Top(None)
    }

    fn hashing(&self) -> impl Iterator<Item = (usize, &Task)> {
        self.list
            .iter()
            .enumerate()
            .filter_map(|(n, layer)| match &layer.state {
                State::Hashing { task, .. } => Some((n, task)),
                _ => None,
            })
    }

    /// Descriptors that are readable when a layer is hashed: then call [`Layers::hashed`].
    pub(crate) fn fds(&self) -> impl Iterator<Item = (LayerRef, BorrowedFd<'_>)> {
        self.hashing().filter_map(|(n, task)| Some((LayerRef(n), task.fd()?)))
    }

    /// Takes the digest of a layer, waiting for it if need be.
    pub(crate) fn hashed(&mut self, LayerRef(n): LayerRef) -> Result<()> {
        let state = std::mem::replace(&mut self.list[n].state, State::Moving);
        self.list[n].state = match state {
            State::Hashing { staged, task, made } => {
                let layer = task.finish().context("digest a layer")?;
                State::Hashed { staged, layer, made }
            }
            other => other,
        };
        if self.last_commit.elapsed() > GATHERING {
            self.commit()?;
        }
        Ok(())
    }

    fn finish_one(&mut self) -> Result<()> {
        let first = self.hashing().next().map(|(n, _)| n);
        first.map_or(Ok(()), |n| self.hashed(LayerRef(n)))
    }

    /// The chain id of a tree. Waits for digests.
    pub(crate) fn chain(&mut self, top: Top) -> Result<Option<ChainId>> {
        let Some(LayerRef(n)) = top else { return Ok(None) };
        if let State::Hashing { .. } = self.list[n].state {
            self.hashed(LayerRef(n))?;
        }
        let parent = self.list[n].parent;
        match &self.list[n].state {
            State::Placed(chain) => Ok(Some(*chain)),
            State::Elsewhere(diff_id) => {
                let diff_id = *diff_id;
                Ok(Some(ChainId::of(self.chain(parent)?, diff_id)))
            }
            State::Hashed {
                layer: Some((diff_id, _)),
                ..
            } => {
                let diff_id = *diff_id;
                Ok(Some(ChainId::of(self.chain(parent)?, diff_id)))
            }
            _ => self.chain(parent),
        }
    }

    /// Whether the layer changes anything. Waits for its digest.
    pub(crate) fn changes(&mut self, LayerRef(n): LayerRef) -> Result<bool> {
        if let State::Hashing { .. } = self.list[n].state {
            self.hashed(LayerRef(n))?;
        }
        Ok(!matches!(
            self.list[n].state,
            State::Nothing | State::Moving | State::Hashed { layer: None, .. }
        ))
    }

    /// The layers of a tree, base first, all of them in place when this returns.
    pub(crate) fn place(&mut self, top: Top) -> Result<Vec<DiffId>> {
        self.bring(top)?;
        self.chain(top)?;
        self.commit()?;
        let (chains, _) = self.parts(top);
        chains
            .iter()
            .map(|chain| Ok(self.store.layer(chain)?.diff_id))
            .collect()
    }

    /// Puts every layer in place whose digest is known, with what the cache is to know of it.
    pub(crate) fn commit(&mut self) -> Result<()> {
        let ready: Vec<usize> = (0..self.list.len())
            .filter(|n| matches!(self.list[*n].state, State::Hashed { .. }))
            .collect();
        if ready.is_empty() {
            return self.write_notes();
        }
        self.store.sync()?;
        sys::stop_point("steps-synced");
        for n in ready {
            let parent = self.list[n].parent;
            if !self.is_placed(parent) {
                continue;
            }
            let before = self.chain(parent)?;
            let State::Hashed { staged, layer, made } = std::mem::replace(&mut self.list[n].state, State::Moving)
            else {
                continue;
            };
            self.list[n].state = self.put(before, staged, layer, &made)?;
            self.locks.remove(&LayerRef(n));
            sys::stop_point("step-placed");
        }
        self.last_commit = Instant::now();
        self.write_notes()
    }

    fn is_placed(&self, top: Top) -> bool {
        let mut at = top;
        while let Some(LayerRef(n)) = at {
            match self.list[n].state {
                State::Placed(_) => return true,
                State::Nothing => at = self.list[n].parent,
                _ => return false,
            }
        }
        true
    }

    fn put(
        &mut self,
        before: Option<ChainId>,
        staged: StagedLayer,
        layer: Option<(DiffId, u64)>,
        made: &Made,
    ) -> Result<State> {
        let mut remembered = StepRecord {
            top: before,
            changed: false,
            created: made.created,
            description: made.description.clone(),
            content: made.content,
            stage: Some(stage_name(&staged)),
        };
        let state = match layer {
            None => {
                self.spare.push(staged);
                State::Nothing
            }
            Some((diff_id, size)) => {
                let record = LayerRecord {
                    parent: before,
                    diff_id,
                    size,
                    blobs: Vec::new(),
                };
                let chain = record.chain_id();
                (remembered.top, remembered.changed) = (Some(chain), true);
                self.claim.add(self.store, &[chain], &[])?;
                if self.store.has_layer(&chain) {
                    self.spare.push(staged);
                } else {
                    let held = self.store.lock_shared()?;
                    staged.close_step(record)?.place(self.store, &held)?;
                }
                State::Placed(chain)
            }
        };
        let held = self.store.lock_shared()?;
        for key in made.inputs.keys(before) {
            self.store.put_step(&key, &remembered, &held)?;
        }
        Ok(state)
    }

    /// Remembers a step without files of its own.
    pub(crate) fn note(&mut self, top: Top, note: Note) {
        self.notes.push((top, note));
    }

    /// Writes down what is remembered of steps whose layers are in place.
    fn write_notes(&mut self) -> Result<()> {
        let (ready, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.notes)
            .into_iter()
            .partition(|(top, _)| self.is_placed(*top));
        self.notes = rest;
        if ready.is_empty() {
            return Ok(());
        }
        let held = self.store.lock_shared()?;
        for (top, note) in ready {
            let chain = self.chain(top)?;
            let record = StepRecord {
                top: chain,
                changed: false,
                created: note.created,
                description: note.description,
                content: None,
                stage: None,
            };
            for key in note.inputs.keys(chain) {
                self.store.put_step(&key, &record, &held)?;
            }
        }
        Ok(())
    }

    /// How long digested layers may still wait for others; `None` if there are none.
    pub(crate) fn commit_due(&self) -> Option<Duration> {
        let any = self
            .list
            .iter()
            .any(|layer| matches!(layer.state, State::Hashed { .. }));
        any.then(|| GATHERING.saturating_sub(self.last_commit.elapsed()))
    }

    /// After a failure: what was finished is kept.
    pub(crate) fn rescue(&mut self) -> Result<()> {
        while self.hashing().next().is_some() {
            self.finish_one()?;
        }
        self.commit()
    }
}

fn by_descriptor(dir: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}/.", dir.as_raw_fd()).into()
}

fn stage_name(staged: &StagedLayer) -> String {
    let name = staged.place().file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("open {}", path.display()))
}

/// What the root of an image is whose layers say nothing of it.
fn is_plain_root(dir: BorrowedFd<'_>) -> Result<bool> {
    let stat = fstat(dir)?;
    Ok((stat.st_mode & 0o7777, stat.st_uid, stat.st_gid) == (0o755, 0, 0))
}

fn clamp_root(dir: BorrowedFd<'_>, latest: i64) -> Result<()> {
    use rustix::fs::{Timespec, Timestamps, futimens};
    let time = Timespec {
        tv_sec: latest,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    Ok(futimens(dir, &times)?)
}
