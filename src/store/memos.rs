//! `memos/<hex>`: what is known of a build context's files, so that unchanged ones are not read again. Losing one costs
//! time and nothing else; one that nobody used for a month goes.

use super::{Durability, Store, file};
use crate::error::{Context, Result};
use crate::model::digest::Digest;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

impl Store {
    pub(crate) fn memo(&self, context: &Digest) -> Option<Vec<u8>> {
        file::read(&self.memos_root().join(context.hex())).ok().flatten()
    }

    /// Replaces it, and drops those that are too old.
    pub(crate) fn keep_memo(&self, context: &Digest, bytes: &[u8]) -> Result<()> {
        let root = self.memos_root();
        let made = std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&root);
        made.with_context(|| format!("make {}", root.display()))?;
        for entry in std::fs::read_dir(&root)?.flatten() {
            let age = entry
                .metadata()
                .and_then(|m| m.modified())
                .ok()
                .and_then(|t| t.elapsed().ok());
            if age.is_some_and(|age| age > KEPT) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        // Two builds of one context at once: either's is right.
        let staged = self.stage_file()?;
        std::io::Write::write_all(&mut staged.file(), bytes).context("write memo")?;
        staged.commit(&root, &context.hex(), Durability::Volatile)
    }

    fn memos_root(&self) -> PathBuf {
        self.root().join("memos")
    }
}
