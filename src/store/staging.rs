//! `staging/`: where directories and files are made before they are renamed into place, and where removed ones go to be
//! deleted. Each entry is flocked by the process that works on it. An entry that is not locked was left by a process
//! that died, and the next writer removes it.
//!
//! Between making an entry and locking it, a sweeper may take it away; so whoever locks one, maker or sweeper, looks
//! afterwards whether it is still in place.

use super::cache;
use super::claims::EXTENSION;
use super::{Durability, Store, file, lock, random};
use crate::error::{Context, Error, Result};
use crate::sys::tree;
use std::ffi::CString;
use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A directory in the making. Dropped without [`Stage::commit`], it is deleted.
#[derive(Debug)]
pub(crate) struct Stage {
    path: PathBuf,
    /// Open and flocked.
    dir: File,
    committed: bool,
}

impl Stage {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Its own entries are on the disk before any change of names that follows; what is inside them is the caller's.
    pub(crate) fn settle(&self) -> Result<()> {
        match file::one_journal(self.dir()) {
            true => Ok(()),
            false => self
                .dir
                .sync_all()
                .with_context(|| format!("sync {}", self.path.display())),
        }
    }

    /// Deletes it now, and says if that did not work; a later command will try again.
    pub(crate) fn delete(mut self) -> Result<()> {
        self.committed = true;
        remove_path(&self.path)
    }

    /// Renames it into place. `false` if there is one already: then this one is deleted. `target` is never an empty
    /// directory, so that rename(2) does not replace it.
    pub(crate) fn commit(mut self, target: &Path) -> Result<bool> {
        match std::fs::rename(&self.path, target) {
            Ok(()) => {
                self.committed = true;
                Ok(true)
            }
            Err(e) if matches!(e.kind(), ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty) => Ok(false),
            Err(e) => Err(e).with_context(|| format!("rename {} to {}", self.path.display(), target.display())),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.committed {
            // What can't be deleted now is swept by a later command.
            let _ = cache::discard(&self.path);
        }
    }
}

/// A file in the making. Dropped without [`StagedFile::commit`], it is deleted.
#[derive(Debug)]
pub(crate) struct StagedFile {
    path: PathBuf,
    file: File,
    committed: bool,
}

impl StagedFile {
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Synced and renamed to `dir/name`; what was there is replaced.
    pub(crate) fn commit(mut self, dir: &Path, name: &str, durability: Durability) -> Result<()> {
        let target = dir.join(name);
        if durability == Durability::Synced {
            file::settle(&self.file).with_context(|| format!("sync {}", target.display()))?;
        }
        std::fs::rename(&self.path, &target).with_context(|| format!("rename to {}", target.display()))?;
        self.committed = true;
        match durability {
            Durability::Synced => file::sync_dir(dir),
            Durability::Volatile => Ok(()),
        }
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.committed {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Store {
    /// A new empty directory, mode 0700, on the store's file system.
    pub(crate) fn stage(&self) -> Result<Stage> {
        let (path, dir) = self.make_staged("", |path| {
            DirBuilder::new().mode(0o700).create(path)?;
            File::open(path)
        })?;
        Ok(Stage {
            path,
            dir,
            committed: false,
        })
    }

    /// A new directory with empty ones in it: `empty` and `nothing`, which nobody writes into, `upper` and `work`.
    pub(crate) fn stage_scratch(&self) -> Result<Stage> {
        let stage = self.stage()?;
        for name in ["empty", "nothing", "upper", "work"] {
            let path = stage.path().join(name);
            DirBuilder::new()
                .mode(0o755)
                .create(&path)
                .with_context(|| format!("make {}", path.display()))?;
        }
        Ok(stage)
    }

    /// A new empty file, mode 0600, on the store's file system, open for reading and writing.
    pub(crate) fn stage_file(&self) -> Result<StagedFile> {
        self.stage_file_with("")
    }

    /// A new empty file that [`Store::claimed`] reads.
    pub(super) fn stage_claim(&self) -> Result<StagedFile> {
        self.stage_file_with(EXTENSION)
    }

    fn stage_file_with(&self, extension: &str) -> Result<StagedFile> {
        let (path, file) = self.make_staged(extension, |path| {
            File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
        })?;
        Ok(StagedFile {
            path,
            file,
            committed: false,
        })
    }

    fn make_staged(&self, extension: &str, make: impl Fn(&Path) -> std::io::Result<File>) -> Result<(PathBuf, File)> {
        loop {
            let path = self.staging_name()?.with_extension(extension);
            match make(&path) {
                Ok(file) => {
                    if lock::try_exclusive(&file)? && in_place(&path, &file) {
                        return Ok((path, file));
                    }
                }
                // Swept before it could be opened.
                Err(e) if e.kind() == ErrorKind::NotFound && self.staging_root().exists() => {}
                Err(e) => return Err(e).with_context(|| format!("make {}", path.display())),
            }
        }
    }

    fn staging_name(&self) -> Result<PathBuf> {
        let mut name = super::ContainerId::from_random(&random()?).as_str().to_owned();
        name.truncate(16);
        Ok(self.staging_root().join(name))
    }

    /// Moves a directory of the store out of sight: from here on it does not exist, and is deleted when the returned
    /// stage is dropped. `None` if it isn't there.
    pub(super) fn unstage(&self, from: &Path) -> Result<Option<Stage>> {
        let open = File::open(from);
        let dir = match open {
            Ok(dir) => dir,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("open {}", from.display())),
        };
        lock::try_exclusive(&dir)?;
        let path = self.staging_name()?;
        match std::fs::rename(from, &path) {
            Ok(()) => Ok(Some(Stage {
                path,
                dir,
                committed: false,
            })),
            Err(e) if e.kind() == ErrorKind::NotFound && !from.exists() => Ok(None),
            Err(e) => Err(Error::from(e)).with_context(|| format!("rename {}", from.display())),
        }
    }

    /// Deletes what dead processes left in `staging/`, and says whether there was anything. With nothing there it is
    /// one look at a directory.
    pub(crate) fn sweep(&self) -> Result<bool> {
        let root = self.staging_root();
        let entries = std::fs::read_dir(&root).with_context(|| format!("read {}", root.display()))?;
        let mut found = false;
        for path in entries.flatten().map(|e| e.path()) {
            // Left by a process that died between two calls; never fatal to the command that meets it.
            found |= self.sweep_entry(&path).unwrap_or(false);
        }
        Ok(found)
    }

    pub(super) fn sweep_entry(&self, path: &Path) -> Result<bool> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let entry = match File::options().read(true).custom_flags(flags).open(path) {
            Ok(entry) => entry,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e.into()),
        };
        if !lock::try_exclusive(&entry)? || !in_place(path, &entry) {
            return Ok(false);
        }
        self.drop_step_container(path)?;
        if self.rescue_step(path, &entry)? {
            return Ok(true);
        }
        // A container that was being removed takes its volumes along; if they can't go now, it stays to say so.
        if self.drop_rest_of(path)? {
            cache::discard(path)?;
        }
        Ok(true)
    }
}

/// Whether `path` still names what is open as `file`.
pub(super) fn in_place(path: &Path, file: &File) -> bool {
    match (std::fs::symlink_metadata(path), file.metadata()) {
        (Ok(there), Ok(open)) => (there.dev(), there.ino()) == (open.dev(), open.ino()),
        _ => false,
    }
}

/// Removes a file or a whole tree of the store.
pub(super) fn remove_path(path: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let name = CString::new(name.as_bytes()).map_err(|_| Error::other("NUL in a file name"))?;
    let parent = match File::open(parent) {
        Ok(parent) => parent,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    tree::remove(parent.as_fd(), &name).with_context(|| format!("remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Scratch;

    fn staged(s: &Store) -> usize {
        std::fs::read_dir(s.staging_root()).unwrap().count()
    }

    #[test]
    fn a_dropped_stage_leaves_nothing() {
        let s = Scratch::new();
        let stage = s.stage().unwrap();
        std::fs::create_dir(stage.path().join("x")).unwrap();
        let file = s.stage_file().unwrap();
        assert_eq!(staged(&s), 2);
        drop((stage, file));
        assert_eq!(staged(&s), 0);
    }

    #[test]
    fn the_second_commit_to_a_name_loses() {
        let s = Scratch::new();
        let target = s.root().join("layers/x");
        for (n, won) in [(1, true), (2, false)] {
            let stage = s.stage().unwrap();
            std::fs::write(stage.path().join("n"), n.to_string()).unwrap();
            assert_eq!(stage.commit(&target).unwrap(), won);
        }
        assert_eq!(std::fs::read_to_string(target.join("n")).unwrap(), "1");
        assert_eq!(staged(&s), 0);
    }

    #[test]
    fn only_what_is_unlocked_is_swept() {
        let s = Scratch::new();
        assert!(!s.sweep().unwrap());
        let alive = s.stage().unwrap();
        std::fs::create_dir_all(s.staging_root().join("dead/inner")).unwrap();
        std::fs::write(s.staging_root().join("dead-file"), "x").unwrap();
        std::os::unix::fs::symlink("/", s.staging_root().join("dead-link")).unwrap();
        assert!(s.sweep().unwrap());
        assert!(alive.path().exists());
        assert!(!s.staging_root().join("dead").exists() && !s.staging_root().join("dead-file").exists());
    }

    #[test]
    fn makers_and_sweepers_together() {
        let s = Scratch::new();
        let target = |n: i32| s.root().join("layers").join(n.to_string());
        std::thread::scope(|threads| {
            for t in 0..4 {
                let s = &s.store;
                threads.spawn(move || {
                    for n in 0..50 {
                        let stage = s.stage().unwrap();
                        std::fs::write(stage.path().join("x"), "x").unwrap();
                        assert!(stage.commit(&target(t * 100 + n)).unwrap());
                    }
                });
            }
            for _ in 0..2 {
                threads.spawn(|| (0..200).for_each(|_| _ = s.sweep().unwrap()));
            }
        });
        assert_eq!(std::fs::read_dir(s.root().join("layers")).unwrap().count(), 200);
        assert_eq!(staged(&s), 0);
    }
}
