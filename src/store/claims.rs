//! What a running transfer needs: `staging/<random>.claim`, the chain ids and blob digests that must not be dropped while
//! it lives. Layers and blobs of a pull are put in place one by one, before any image refers to them; the claim is what
//! refers to them until then. It is flocked by its maker as everything under `staging/`, so that it ends with its process.
//!
//! A claim is written under the store's shared lock, and before anyone looks whether what it names is there: so whoever
//! drops things, under the exclusive lock, sees it whole, or has dropped them before they were looked for.

use super::{StagedFile, Store, lock};
use crate::error::{Context, Result};
use crate::model::digest::Digest;
use crate::model::id::ChainId;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

pub(super) const EXTENSION: &str = "claim";

/// Keeps what it names from being dropped, while it lives.
#[derive(Debug, Default)]
pub(crate) struct Claim {
    /// None until there is something to claim.
    file: Mutex<Option<StagedFile>>,
}

impl Claim {
    /// Claims more. What is there when this has returned stays, until the claim is dropped.
    pub(crate) fn add(&self, store: &Store, chains: &[ChainId], blobs: &[Digest]) -> Result<()> {
        let chains = chains.iter().map(|id| format!("layer {}\n", id.hex()));
        let text: String = chains
            .chain(blobs.iter().map(|digest| format!("blob {}\n", digest.hex())))
            .collect();
        if text.is_empty() {
            return Ok(());
        }
        let _held = store.lock_shared()?;
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match &mut *file {
            Some(file) => file,
            none => none.insert(store.stage_claim()?),
        };
        file.file().write_all(text.as_bytes()).context("write claim")
    }
}

/// What all living transfers claim.
#[derive(Debug, Default)]
pub(super) struct Claimed {
    pub(super) layers: BTreeSet<ChainId>,
    pub(super) blobs: BTreeSet<Digest>,
}

impl Claimed {
    fn read(&mut self, text: &str) {
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("layer", hex)) => self.layers.extend(ChainId::from_hex(hex)),
                Some(("blob", hex)) => self.blobs.extend(Digest::from_hex(hex)),
                _ => {}
            }
        }
    }
}

impl Store {
    pub(crate) fn claim(&self) -> Result<Claim> {
        self.sweep_left_overs()?;
        self.sweep_downloads()?;
        Ok(Claim::default())
    }

    /// Under the exclusive lock: no claim is being written.
    pub(super) fn claimed(&self) -> Result<Claimed> {
        let mut claimed = Claimed::default();
        let root = self.staging_root();
        let entries = std::fs::read_dir(&root).with_context(|| format!("read {}", root.display()))?;
        let paths = entries.flatten().map(|e| e.path());
        for path in paths.filter(|path| path.extension() == Some(OsStr::new(EXTENSION))) {
            let Ok(text) = std::fs::read_to_string(&path) else {
                continue;
            };
            // Whose lock is free is dead.
            let alive = File::open(&path).is_ok_and(|file| matches!(lock::try_exclusive(&file), Ok(false)));
            if alive {
                claimed.read(&text);
            }
        }
        Ok(claimed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Scratch;

    #[test]
    fn a_claim_holds_while_it_lives() {
        let s = Scratch::new();
        let held = s.lock_shared().unwrap();
        let (one, two) = (s.put_blob(b"1", &held).unwrap(), s.put_blob(b"2", &held).unwrap());
        drop(held);
        let claim = s.claim().unwrap();
        claim.add(&s, &[ChainId(one)], &[]).unwrap();
        claim.add(&s, &[], &[one]).unwrap();
        let exclusive = s.lock_exclusive().unwrap();
        s.drop_unreferenced(&exclusive).unwrap();
        assert!(s.has_blob(&one) && !s.has_blob(&two));
        assert_eq!(s.claimed().unwrap().layers.len(), 1);
        drop(claim);
        s.drop_unreferenced(&exclusive).unwrap();
        assert!(!s.has_blob(&one));
    }

    #[test]
    fn a_dead_claim_counts_for_nothing() {
        let s = Scratch::new();
        let dead = s.staging_root().join("dead").with_extension(EXTENSION);
        std::fs::write(dead, format!("blob {}\n", Digest::of(b"").hex())).unwrap();
        assert!(s.claimed().unwrap().blobs.is_empty());
    }
}
