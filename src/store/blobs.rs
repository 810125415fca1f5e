//! `blobs/sha256/<hex>`: bytes by their digest. They are put in place under the store's shared lock, together with the
//! record that refers to them, or claimed by who will write one; so under the exclusive lock all others are left-overs.

use super::staging::StagedFile;
use super::{Durability, Store, StoreLock, file};
use crate::error::{Context, Error, Result};
use crate::model::digest::Digest;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

impl Store {
    pub(super) fn blobs_root(&self) -> PathBuf {
        self.root().join("blobs/sha256")
    }

    /// Where the blob is, or would be.
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs_root().join(digest.hex())
    }

    /// The whole blob, for small ones; its digest is checked.
    pub(crate) fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        match file::read(&self.blob_path(digest))? {
            Some(bytes) if Digest::of(&bytes) == *digest => Ok(bytes),
            Some(_) => Err(Error::other(format!("blob {digest} is damaged"))),
            None => Err(Error::not_found(format!("No such blob: {digest}"))),
        }
    }

    pub(crate) fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_path(digest).exists()
    }

    /// `None` if it isn't there.
    pub(crate) fn blob_size(&self, digest: &Digest) -> Option<u64> {
        std::fs::metadata(self.blob_path(digest)).ok().map(|meta| meta.len())
    }

    /// For a large one; nothing is checked.
    pub(crate) fn open_blob(&self, digest: &Digest) -> Result<File> {
        match File::open(self.blob_path(digest)) {
            Err(e) if e.kind() == ErrorKind::NotFound => Err(Error::not_found(format!("No such blob: {digest}"))),
            opened => opened.with_context(|| format!("open blob {digest}")),
        }
    }

    /// Takes one away, damaged or not needed. Success if it isn't there.
    pub(crate) fn remove_blob(&self, digest: &Digest, _exclusive: &StoreLock) -> Result<()> {
        super::staging::remove_path(&self.blob_path(digest))
    }

    /// Every blob, with its size, in no order.
    pub(crate) fn blobs(&self) -> Result<Vec<(Digest, u64)>> {
        let path = self.blobs_root();
        let entries = std::fs::read_dir(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(entries
            .flatten()
            .filter_map(|e| Some((Digest::from_hex(e.file_name().to_str()?)?, e.metadata().ok()?.len())))
            .collect())
    }

    /// Stores a small blob, for good. One that is there and whole is left alone.
    pub(crate) fn put_blob(&self, bytes: &[u8], held: &StoreLock) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.read_blob(&digest).is_err() {
            self.write_blob(bytes, &digest, held)?;
            file::sync_dir(&self.blobs_root())?;
        }
        Ok(digest)
    }

    /// The same, but on the disk only with the next sync of `blobs/` or of the store.
    pub(super) fn put_blob_unsynced(&self, bytes: &[u8], held: &StoreLock) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.read_blob(&digest).is_err() {
            self.write_blob(bytes, &digest, held)?;
        }
        Ok(digest)
    }

    fn write_blob(&self, bytes: &[u8], digest: &Digest, held: &StoreLock) -> Result<()> {
        let staged = self.stage_file()?;
        staged.file().write_all(bytes).context("write blob")?;
        self.commit_blob(staged, digest, held)
    }

    /// Takes one away that is damaged.
    pub(crate) fn discard_blob(&self, digest: &Digest, _held: &StoreLock) -> Result<()> {
        super::staging::remove_path(&self.blob_path(digest))
    }

    /// Puts a large blob in place, whose bytes were written and hashed by the caller; on the disk with the next sync of
    /// the store.
    pub(crate) fn commit_blob(&self, staged: StagedFile, digest: &Digest, _held: &StoreLock) -> Result<()> {
        file::settle(staged.file()).context("sync blob")?;
        staged.commit(&self.blobs_root(), &digest.hex(), Durability::Volatile)
    }
}

#[cfg(test)]
mod tests {
    use crate::store::testing::Scratch;

    #[test]
    fn a_damaged_blob_is_told_and_replaced() {
        let s = Scratch::new();
        let held = s.lock_shared().unwrap();
        let digest = s.put_blob(b"abc", &held).unwrap();
        assert_eq!(s.read_blob(&digest).unwrap(), b"abc");
        std::fs::write(s.blob_path(&digest), "abd").unwrap();
        assert_eq!(
            s.read_blob(&digest).unwrap_err().to_string(),
            format!("blob {digest} is damaged")
        );
        s.put_blob(b"abc", &held).unwrap();
        assert_eq!(s.read_blob(&digest).unwrap(), b"abc");
    }
}
