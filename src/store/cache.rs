//! `cache/steps/<family>/<key>.json`: what a step of a build made, found again by what went into it. A record names
//! layers, and keeps them and those below from being dropped; one whose layer is gone is no record. Its time of change is
//! when it was last used.
//!
//! A family is what is known of a step before its parent is digested and before any file is read. Where the cache has
//! none of a step's family, nothing of that need be waited for.
//!
//! A finished step is in `staging/` until its layer is synced and in place: `step.json` there says all that is needed for
//! that. So the step of a build that was killed is not lost: whoever sweeps its directory puts it in place. After a
//! power cut it is swept like anything else, as nobody knows what of it reached the disk.

use super::layers::{JSON, LayerRecord, RECORD};
use super::{Durability, Store, StoreLock, file, staging};
use crate::error::{Context, Result};
use crate::model::digest::Digest;
use crate::model::id::{ChainId, ContainerId, DiffId};
use crate::model::time::Timestamp;
use crate::sys;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// In a staged layer: a step that is done but for being put in place.
const FINISHED: &str = "step.json";
/// In a staged layer: the id of the container that writes it.
const CONTAINER: &str = "container";

/// What a step made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepRecord {
    /// The topmost layer after it; `None` while there is none.
    pub(crate) top: Option<ChainId>,
    /// Whether that is its own.
    pub(crate) changed: bool,
    /// When it was done.
    pub(crate) created: Timestamp,
    /// For people.
    pub(crate) description: String,
    /// Of the files it read, where its text in the history says that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<Digest>,
    /// The staging directory it was made in, by which a later step of a killed build finds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stage: Option<String>,
}

/// A record with its key and when it was last used.
#[derive(Debug, Clone)]
pub(crate) struct CachedStep {
    pub(crate) key: StepKey,
    pub(crate) record: StepRecord,
    pub(crate) last_used: Timestamp,
}

/// What a step was done on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StepParent {
    /// A layer in place, or nothing.
    Top(Option<ChainId>),
    /// A layer that is itself in `staging/`, by its directory's name.
    Staged(String),
}

/// A step whose layer is digested, and not yet in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FinishedStep {
    /// It is on the disk only as far as this boot knows.
    pub(crate) boot_id: String,
    /// What went into it besides its parent.
    pub(crate) inputs: Inputs,
    pub(crate) parent: StepParent,
    /// `None` if it changed nothing.
    pub(crate) layer: Option<(DiffId, u64)>,
    pub(crate) created: Timestamp,
    pub(crate) description: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<Digest>,
}

/// What goes into a step besides its parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inputs {
    pub(crate) family: Digest,
    /// All of it, in every form by which it may be looked for.
    pub(crate) forms: Vec<Digest>,
}

impl Inputs {
    /// Of a step that reads no files of the build's.
    pub(crate) fn only(family: Digest) -> Inputs {
        Inputs {
            family,
            forms: vec![family],
        }
    }

    /// The same whichever forms there are.
    pub(crate) fn id(&self) -> String {
        self.forms.first().unwrap_or(&self.family).hex()
    }

    /// A key of the cache for each form, with the topmost layer that the step is done on.
    pub(crate) fn keys(&self, top: Option<ChainId>) -> impl Iterator<Item = StepKey> + '_ {
        self.forms.iter().map(move |form| StepKey::new(top, self.family, *form))
    }
}

/// What a step is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct StepKey {
    pub(crate) family: Digest,
    /// Of everything, the family included.
    pub(crate) whole: Digest,
}

impl StepKey {
    pub(crate) fn new(top: Option<ChainId>, family: Digest, form: Digest) -> StepKey {
        let top = top.map_or_else(|| "nothing".to_owned(), |top| top.hex());
        let text = format!("step 2\n{top}\n{}\n{}\n", family.hex(), form.hex());
        StepKey {
            family,
            whole: Digest::of(text.as_bytes()),
        }
    }
}

impl Store {
    fn steps_root(&self) -> PathBuf {
        self.root().join("cache/steps")
    }

    fn family_path(&self, family: &Digest) -> PathBuf {
        self.steps_root().join(family.hex())
    }

    fn step_path(&self, key: &StepKey) -> PathBuf {
        self.family_path(&key.family).join(format!("{}.json", key.whole.hex()))
    }

    /// Whether any step of the family is known.
    pub(crate) fn has_family(&self, family: &Digest) -> bool {
        self.family_path(family).exists()
    }

    /// What a step with this key has made, if all of its layers are there. The caller has claimed them when it goes on;
    /// see [`Store::use_step`].
    pub(crate) fn step(&self, key: &StepKey) -> Option<StepRecord> {
        let record: StepRecord = file::read_json(&self.step_path(key)).ok()??;
        record.top.is_none_or(|top| self.has_layer(&top)).then_some(record)
    }

    /// Notes that it was used now.
    pub(crate) fn use_step(&self, key: &StepKey) {
        use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};
        let time = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
        let times = Timestamps {
            last_access: time(UTIME_OMIT),
            last_modification: time(UTIME_NOW),
        };
        // One that is gone meanwhile was not needed.
        let _ = utimensat(CWD, self.step_path(key), &times, AtFlags::empty());
    }

    /// Remembers a step, whose layers are in place and synced. Not synced itself: what is lost is only made again.
    pub(crate) fn put_step(&self, key: &StepKey, record: &StepRecord, _held: &StoreLock) -> Result<()> {
        let family = self.family_path(&key.family);
        let name = format!("{}.json", key.whole.hex());
        let json = file::to_json(record)?;
        match file::replace(&family, &name, &json, Durability::Volatile) {
            Ok(()) => Ok(()),
            Err(_) if !family.exists() => {
                let make = DirBuilder::new().recursive(true).mode(0o710).create(&family);
                make.with_context(|| format!("make {}", family.display()))?;
                file::replace(&family, &name, &json, Durability::Volatile)
            }
            Err(e) => Err(e),
        }
    }

    /// Forgets a step. Success if it is not there.
    pub(crate) fn forget_step(&self, key: &StepKey, _exclusive: &StoreLock) -> Result<()> {
        staging::remove_path(&self.step_path(key))?;
        // The last one of its family takes the directory along.
        let _ = std::fs::remove_dir(self.family_path(&key.family));
        Ok(())
    }

    /// All of them, in no order; damaged ones and those without their layers are left out.
    pub(crate) fn cached_steps(&self) -> Result<Vec<CachedStep>> {
        let root = self.steps_root();
        let entries = match std::fs::read_dir(&root) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("read {}", root.display()))?,
        };
        let digest = |name: &str| name.strip_suffix(".json").and_then(Digest::from_hex);
        let mut steps = Vec::new();
        for family in entries.flatten() {
            let Some(family_digest) = family.file_name().to_str().and_then(Digest::from_hex) else {
                continue;
            };
            // Forgotten meanwhile.
            let Ok(records) = std::fs::read_dir(family.path()) else {
                continue;
            };
            for entry in records.flatten() {
                let Some(whole) = entry.file_name().to_str().and_then(digest) else {
                    continue;
                };
                let key = StepKey {
                    family: family_digest,
                    whole,
                };
                let Some(record) = self.step(&key) else { continue };
                let last_used = entry.metadata().and_then(|m| m.modified()).ok();
                let last_used = last_used.and_then(|t| Timestamp::try_from(t).ok());
                steps.push(CachedStep {
                    last_used: last_used.unwrap_or(record.created),
                    key,
                    record,
                });
            }
        }
        Ok(steps)
    }

    /// Forgets every record that says nothing any more: damaged ones, those whose layers are gone, those of an older
    /// form of keys, and what a write that was killed has left.
    pub(crate) fn forget_dead_steps(&self, _exclusive: &StoreLock) -> Result<()> {
        let Ok(entries) = std::fs::read_dir(self.steps_root()) else {
            return Ok(());
        };
        let alive: BTreeSet<PathBuf> = self.cached_steps()?.iter().map(|s| self.step_path(&s.key)).collect();
        for entry in entries.flatten().map(|e| e.path()) {
            let Ok(records) = std::fs::read_dir(&entry) else {
                staging::remove_path(&entry)?;
                continue;
            };
            for record in records.flatten().map(|e| e.path()).filter(|r| !alive.contains(r)) {
                staging::remove_path(&record)?;
            }
            let _ = std::fs::remove_dir(&entry);
        }
        Ok(())
    }

    /// The layers of all cached steps and those below them.
    pub(crate) fn cached_layers(&self) -> Result<BTreeSet<ChainId>> {
        let mut layers = BTreeSet::new();
        for step in self.cached_steps()? {
            let mut at = step.record.top;
            while let Some(chain) = at {
                if !layers.insert(chain) {
                    break;
                }
                at = self.layer(&chain).ok().and_then(|layer| layer.parent);
            }
        }
        Ok(layers)
    }

    /// Says, in the staged layer that `upper` is of, which container writes it: that one goes with the stage.
    pub(crate) fn mark_step(&self, upper: &Path, id: &ContainerId) -> Result<()> {
        let stage = upper.parent().unwrap_or(upper);
        file::replace(stage, CONTAINER, id.as_str().as_bytes(), Durability::Volatile)
    }

    /// Takes what the container of a dead build is, unless its monitor is still at it: that one ends it.
    pub(super) fn drop_step_container(&self, stage: &Path) -> Result<()> {
        let Ok(Some(id)) = file::read(&stage.join(CONTAINER)) else {
            return Ok(());
        };
        let Some(id) = std::str::from_utf8(&id).ok().and_then(ContainerId::parse) else {
            return Ok(());
        };
        if self.live(&id)?.is_some() {
            return Ok(());
        }
        if !self.container_dir(&id).exists() {
            return self.clear_live(&id);
        }
        match self.try_lock_container(&id) {
            Ok(Some(held)) => self.detach_container(&id, None, &held)?.delete(self),
            // It has a command's or a monitor's attention.
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// Puts the finished step in place that a dead build has left. `false` if there is none.
    pub(super) fn rescue_step(&self, stage: &Path, dir: &File) -> Result<bool> {
        let Ok(Some(step)) = file::read_json::<FinishedStep>(&stage.join(FINISHED)) else {
            return Ok(false);
        };
        if sys::process::boot_id().ok().as_ref() != Some(&step.boot_id) {
            return Ok(false);
        }
        if step.layer.is_some() && !(stage.join("diff").is_dir() && stage.join(RECORD).exists()) {
            return Ok(false);
        }
        let top = match &step.parent {
            StepParent::Top(top) => *top,
            StepParent::Staged(name) => {
                // The step before may be waiting for the same.
                let before = self.staging_root().join(name);
                if before.exists() {
                    self.sweep_entry(&before)?;
                }
                match self
                    .cached_steps()?
                    .into_iter()
                    .find(|s| s.record.stage.as_ref() == Some(name))
                {
                    Some(found) => found.record.top,
                    None => return Ok(false),
                }
            }
        };
        if top.is_some_and(|top| !self.has_layer(&top)) {
            return Ok(false);
        }
        let Ok(held) = self.lock_shared() else { return Ok(false) };
        let mut chain = top;
        if let Some((diff_id, size)) = step.layer {
            let record = LayerRecord {
                parent: top,
                diff_id,
                size,
                blobs: Vec::new(),
            };
            chain = Some(record.chain_id());
            clean(stage)?;
            file::replace(stage, JSON, &file::to_json(&record)?, Durability::Volatile)?;
            rustix::fs::syncfs(dir).context("sync layer")?;
            let place = self.layers_root().join(record.chain_id().hex());
            match std::fs::rename(stage, &place) {
                Err(e) if !place.exists() => return Err(e).with_context(|| format!("rename to {}", place.display())),
                Err(_) => discard(stage)?,
                Ok(()) => file::sync_dir(&self.layers_root())?,
            }
        } else {
            staging::remove_path(stage)?;
        }
        let record = StepRecord {
            top: chain,
            changed: step.layer.is_some(),
            created: step.created,
            description: step.description,
            content: step.content,
            stage: stage.file_name().and_then(|n| n.to_str()).map(str::to_owned),
        };
        for key in step.inputs.keys(top) {
            self.put_step(&key, &record, &held)?;
        }
        Ok(true)
    }
}

/// What a staged layer has besides what a layer has.
pub(super) fn clean(stage: &Path) -> Result<()> {
    for entry in std::fs::read_dir(stage)
        .with_context(|| format!("read {}", stage.display()))?
        .flatten()
    {
        let name = entry.file_name();
        if name != "diff" && name != RECORD && name != JSON {
            staging::remove_path(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a staging directory, what says that its step is done before everything else: half of a layer is none.
pub(super) fn discard(stage: &Path) -> Result<()> {
    match std::fs::remove_file(stage.join(FINISHED)) {
        Err(e)
            if !matches!(
                e.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            Err(e).with_context(|| format!("remove {}", stage.display()))
        }
        _ => staging::remove_path(stage),
    }
}

/// Leaves word that the step is done, in the staging directory of its layer.
pub(crate) fn finished(stage: &Path, step: &FinishedStep) -> Result<()> {
    file::replace(stage, FINISHED, &file::to_json(step)?, Durability::Volatile)
}
