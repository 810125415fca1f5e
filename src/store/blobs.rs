//! `blobs/sha256/<hex>`: bytes by their digest. They are put in place under the store's shared lock, together with the
//! record that refers to them; so under the exclusive lock a blob without one is a left-over.

use super::{Durability, Store, StoreLock, file};
use crate::error::{Error, Result};
use crate::model::digest::Digest;
use std::io::Write;
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

    /// Stores a small blob, for good. One that is there and whole is left alone.
    pub(crate) fn put_blob(&self, bytes: &[u8], _held: &StoreLock) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.read_blob(&digest).is_err() {
            let staged = self.stage_file()?;
            staged.file().write_all(bytes)?;
            staged.commit(&self.blobs_root(), &digest.hex(), Durability::Synced)?;
        }
        Ok(digest)
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
