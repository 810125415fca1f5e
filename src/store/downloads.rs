//! `downloads/`: what is being fetched, or was when its process died.
//!
//! ```text
//!   <hex>          bytes of a blob so far, from its beginning; flocked by whoever fetches it
//!   <hex>.layer    empty; flocked by whoever brings the layer of this chain id
//! ```
//!
//! A partial blob survives its process and a reboot: who fetches it next goes on where it ends. What a power cut did to
//! its content is found by its digest. Locks are waited for while the network is, so they come before the store's: first
//! a layer's, parents before children; then a blob's, whose holder waits for nobody.

use super::{Store, StoreLock, file, lock, staging};
use crate::error::{Context, Result};
use crate::model::digest::Digest;
use crate::model::id::ChainId;
use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const LAYER: &str = ".layer";
/// Between two looks whether another process is done.
const PAUSE: Duration = Duration::from_millis(10);

/// The right to bring a layer.
#[derive(Debug)]
pub(crate) struct LayerLock {
    path: PathBuf,
    _file: File,
}

impl Drop for LayerLock {
    fn drop(&mut self) {
        // Still locked: who opened it meanwhile sees that it is no longer in place.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The right to fetch a blob, and what of it is there. Dropped, it stays for the next one, unless there is nothing.
#[derive(Debug)]
pub(crate) struct Download {
    path: PathBuf,
    file: File,
    digest: Digest,
    gone: bool,
}

impl Download {
    /// Open for reading and writing.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Bytes that are there.
    pub(crate) fn len(&self) -> Result<u64> {
        Ok(self.file.metadata()?.size())
    }

    /// Begins anew.
    pub(crate) fn clear(&self) -> Result<()> {
        Ok(self.file.set_len(0)?)
    }

    /// Puts the whole blob, whose digest was checked, in place. On the disk with the next sync of the store.
    pub(crate) fn commit(mut self, store: &Store, _held: &StoreLock) -> Result<()> {
        let target = store.blob_path(&self.digest);
        file::settle(&self.file).with_context(|| format!("sync {}", target.display()))?;
        std::fs::rename(&self.path, &target).with_context(|| format!("rename to {}", target.display()))?;
        self.gone = true;
        Ok(())
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if !self.gone && matches!(self.len(), Ok(0)) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A partial blob, for `system df` and `system prune`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partial {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) modified: SystemTime,
    /// Somebody fetches it right now.
    pub(crate) busy: bool,
}

impl Store {
    fn downloads_root(&self) -> PathBuf {
        self.root().join("downloads")
    }

    /// Waits for the right to bring a layer. `wait` is called before each further look; its error ends the waiting.
    pub(crate) fn lock_layer(&self, id: &ChainId, wait: &mut dyn FnMut() -> Result<()>) -> Result<LayerLock> {
        let path = self.downloads_root().join(id.hex() + LAYER);
        let file = self.lock_in_downloads(&path, wait)?;
        Ok(LayerLock { path, _file: file })
    }

    /// Waits for the right to fetch a blob. It may be in place when this returns.
    pub(crate) fn download(&self, digest: &Digest, wait: &mut dyn FnMut() -> Result<()>) -> Result<Download> {
        let path = self.downloads_root().join(digest.hex());
        let file = self.lock_in_downloads(&path, wait)?;
        Ok(Download {
            path,
            file,
            digest: *digest,
            gone: false,
        })
    }

    fn lock_in_downloads(&self, path: &Path, wait: &mut dyn FnMut() -> Result<()>) -> Result<File> {
        loop {
            let file = match lock::open_lock_file(path) {
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    make_directory(&self.downloads_root())?;
                    continue;
                }
                opened => opened.with_context(|| format!("open {}", path.display()))?,
            };
            match lock::try_exclusive(&file)? {
                true if staging::in_place(path, &file) => return Ok(file),
                true => {}
                false => {
                    wait()?;
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    /// Partial blobs, in no order.
    pub(crate) fn downloads(&self) -> Result<Vec<Partial>> {
        let mut found = Vec::new();
        for (digest, path) in self.download_paths()? {
            // It may be in place, or gone, by now.
            let Ok(file) = File::open(&path) else { continue };
            let Ok(meta) = file.metadata() else { continue };
            found.push(Partial {
                digest,
                size: meta.size(),
                modified: meta.modified()?,
                busy: !lock::try_exclusive(&file)?,
            });
        }
        Ok(found)
    }

    /// Deletes the partial blobs that nobody fetches. How many, and their bytes.
    pub(crate) fn prune_downloads(&self) -> Result<(usize, u64)> {
        self.sweep_downloads()?;
        let (mut count, mut bytes) = (0, 0);
        for (_, path) in self.download_paths()? {
            let Ok(file) = File::open(&path) else { continue };
            if lock::try_exclusive(&file)? && staging::in_place(&path, &file) {
                let size = file.metadata()?.size();
                std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
                count += 1;
                bytes += size;
            }
        }
        Ok((count, bytes))
    }

    /// Deletes what dead processes left that has no bytes in it.
    pub(super) fn sweep_downloads(&self) -> Result<()> {
        let Ok(entries) = std::fs::read_dir(self.downloads_root()) else {
            return Ok(());
        };
        for path in entries.flatten().map(|e| e.path()) {
            let Ok(file) = File::open(&path) else { continue };
            if file.metadata()?.size() == 0 && lock::try_exclusive(&file)? && staging::in_place(&path, &file) {
                // Whoever opened it meanwhile sees that it is no longer in place.
                let _ = std::fs::remove_file(&path);
            }
        }
        Ok(())
    }

    fn download_paths(&self) -> Result<Vec<(Digest, PathBuf)>> {
        let root = self.downloads_root();
        let entries = match std::fs::read_dir(&root) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("read {}", root.display()))?,
        };
        Ok(entries
            .flatten()
            .filter_map(|e| Some((Digest::from_hex(e.file_name().to_str()?)?, e.path())))
            .collect())
    }
}

/// Not there in a store of an older engine.
fn make_directory(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(e).with_context(|| format!("make {}", path.display())),
        _ => Ok(()),
    }
}

impl Store {
    /// Everything written so far is on the disk when this returns.
    pub(crate) fn sync(&self) -> Result<()> {
        let root = File::open(self.root())?;
        rustix::fs::syncfs(&root).context("sync the store")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::store::testing::Scratch;
    use std::io::Write;

    fn no_wait() -> Result<()> {
        Err(Error::other("busy"))
    }

    #[test]
    fn a_partial_blob_stays_and_is_gone_on_with() {
        let s = Scratch::new();
        let digest = Digest::of(b"abcdef");
        let download = s.download(&digest, &mut no_wait).unwrap();
        download.file().write_all(b"abc").unwrap();
        assert_eq!(
            s.download(&digest, &mut no_wait).unwrap_err().to_string(),
            "busy",
            "one fetches at a time"
        );
        assert!(s.downloads().unwrap()[0].busy);
        assert_eq!(s.prune_downloads().unwrap(), (0, 0));
        drop(download);
        let download = s.download(&digest, &mut no_wait).unwrap();
        assert_eq!(download.len().unwrap(), 3);
        let mut file = download.file();
        std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
        file.write_all(b"def").unwrap();
        download.commit(&s, &s.lock_shared().unwrap()).unwrap();
        assert_eq!(s.read_blob(&digest).unwrap(), b"abcdef");
        assert!(s.downloads().unwrap().is_empty());
    }

    #[test]
    fn what_nobody_fetches_is_pruned() {
        let s = Scratch::new();
        assert_eq!(s.prune_downloads().unwrap(), (0, 0));
        let empty = s.download(&Digest::of(b"1"), &mut no_wait).unwrap();
        drop(empty);
        assert!(s.downloads().unwrap().is_empty(), "nothing was fetched");
        let some = s.download(&Digest::of(b"2"), &mut no_wait).unwrap();
        some.file().write_all(b"half").unwrap();
        drop(some);
        assert_eq!(s.prune_downloads().unwrap(), (1, 4));
    }

    #[test]
    fn one_brings_a_layer_and_the_next_waits() {
        let s = Scratch::new();
        let id = ChainId(Digest::of(b"layer"));
        let turns = std::sync::Mutex::new(0);
        std::thread::scope(|threads| {
            for _ in 0..4 {
                let (s, turns) = (&s.store, &turns);
                threads.spawn(move || {
                    for _ in 0..10 {
                        let _lock = s.lock_layer(&id, &mut || Ok(())).unwrap();
                        *turns.try_lock().expect("alone") += 1;
                    }
                });
            }
        });
        assert_eq!(*turns.lock().unwrap(), 40);
        assert_eq!(std::fs::read_dir(s.downloads_root()).unwrap().count(), 0);
    }
}
