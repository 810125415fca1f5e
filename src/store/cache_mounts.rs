//! `cache/mounts/<hash of the id>/`: directories that RUN steps of different builds share (`--mount=type=cache`). Whoever
//! uses one holds its flock: shared, or exclusively where nobody else may. A mount that wants to be alone and finds its
//! directory in use gets the next: `data`, `data-1`, ….

use super::{Durability, Store, file, lock, staging};
use crate::error::{Context, Error, Result};
use crate::model::digest::Digest;
use crate::model::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const DESCRIPTION: &str = "mount.json";
/// More directories for one id than builds at once.
const MOST: usize = 64;

/// How several builds go about one cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Shared,
    /// Another directory, if this is in use.
    Private,
    /// Alone; `None` is returned while somebody else has it.
    Locked,
}

/// A cache directory in use.
#[derive(Debug)]
pub(crate) struct CacheMount {
    path: PathBuf,
    /// It has just been made.
    pub(crate) fresh: bool,
    _lock: File,
}

impl CacheMount {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Description {
    id: String,
    created: Timestamp,
}

/// What is known of a cache directory, for people.
#[derive(Debug, Clone)]
pub(crate) struct CacheMountEntry {
    pub(crate) id: String,
    pub(crate) path: PathBuf,
    pub(crate) last_used: Timestamp,
    pub(crate) in_use: bool,
}

impl Store {
    fn cache_mounts_root(&self) -> PathBuf {
        self.root().join("cache/mounts")
    }

    /// The directory of a cache, locked as wanted. `None`: it has to be waited for.
    pub(crate) fn cache_mount(&self, id: &str, wanted: Wanted) -> Result<Option<CacheMount>> {
        let base = self.cache_mounts_root().join(Digest::of(id.as_bytes()).hex());
        let make = |path: &Path| DirBuilder::new().recursive(true).mode(0o710).create(path);
        make(&base).with_context(|| format!("make {}", base.display()))?;
        let described = || base.join(DESCRIPTION).exists();
        if !described() {
            // Two builds may want the first of it at once; a file is written by one at a time.
            let _one_at_a_time = self.lock_tags()?;
            let description = Description {
                id: id.to_owned(),
                created: Timestamp::now(),
            };
            if !described() {
                file::replace(&base, DESCRIPTION, &file::to_json(&description)?, Durability::Volatile)?;
            }
        }
        for n in 0..MOST {
            let place = match n {
                0 => base.join("data"),
                n => base.join(format!("data-{n}")),
            };
            // The directory that is mounted lies in the one that is locked: its owner and mode are the mount's.
            let path = place.join("root");
            let (lock, fresh) = loop {
                let fresh = !path.exists();
                make(&place).with_context(|| format!("make {}", place.display()))?;
                let lock = File::open(&place).with_context(|| format!("open {}", place.display()))?;
                let got = match wanted {
                    Wanted::Shared => try_shared(&lock)?,
                    Wanted::Private | Wanted::Locked => lock::try_exclusive(&lock)?,
                };
                if got && !staging::in_place(&place, &lock) {
                    // Pruned meanwhile.
                    continue;
                }
                break (got.then_some(lock), fresh);
            };
            match (lock, wanted) {
                (Some(lock), _) => {
                    if fresh {
                        let made = DirBuilder::new().mode(0o755).create(&path);
                        if let Err(e) = made
                            && e.kind() != ErrorKind::AlreadyExists
                        {
                            return Err(e).with_context(|| format!("make {}", path.display()));
                        }
                    }
                    self.touch(&place);
                    return Ok(Some(CacheMount {
                        path,
                        fresh,
                        _lock: lock,
                    }));
                }
                (None, Wanted::Private) => {}
                // Somebody has it for himself.
                (None, Wanted::Locked | Wanted::Shared) => return Ok(None),
            }
        }
        Err(Error::other(format!("cache {id}: {MOST} builds use it at once")))
    }

    /// Notes that it was used now.
    fn touch(&self, place: &Path) {
        if let Ok(dir) = File::open(place) {
            let _ = dir.set_times(std::fs::FileTimes::new().set_modified(std::time::SystemTime::now()));
        }
    }

    /// All of them, in no order.
    pub(crate) fn cache_mounts(&self) -> Result<Vec<CacheMountEntry>> {
        let root = self.cache_mounts_root();
        let entries = match std::fs::read_dir(&root) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("read {}", root.display()))?,
        };
        let mut found = Vec::new();
        for base in entries.flatten().map(|e| e.path()) {
            let description: Option<Description> = file::read_json(&base.join(DESCRIPTION)).unwrap_or_default();
            let Ok(inner) = std::fs::read_dir(&base) else { continue };
            for entry in inner.flatten().filter(|e| e.file_name() != DESCRIPTION) {
                let path = entry.path();
                let time = |t: std::io::Result<std::time::SystemTime>| t.ok().and_then(|t| Timestamp::try_from(t).ok());
                let used = entry.metadata().ok().and_then(|m| time(m.modified()));
                let in_use = File::open(&path).is_ok_and(|dir| matches!(lock::try_exclusive(&dir), Ok(false)));
                found.push(CacheMountEntry {
                    id: description.as_ref().map_or_else(String::new, |d| d.id.clone()),
                    last_used: used.unwrap_or(Timestamp::UNIX_EPOCH),
                    path,
                    in_use,
                });
            }
        }
        Ok(found)
    }

    /// Deletes one, unless it is in use; whether it did.
    pub(crate) fn remove_cache_mount(&self, entry: &CacheMountEntry) -> Result<bool> {
        let Ok(dir) = File::open(&entry.path) else {
            return Ok(false);
        };
        if !lock::try_exclusive(&dir)? || !staging::in_place(&entry.path, &dir) {
            return Ok(false);
        }
        let removed = self.unstage(&entry.path)?.map(super::Stage::delete).transpose()?;
        if let Some(base) = entry.path.parent() {
            // The last one takes the description along; a build that makes a new one writes it again.
            let alone = std::fs::read_dir(base).is_ok_and(|d| d.flatten().all(|e| e.file_name() == DESCRIPTION));
            if alone {
                staging::remove_path(base)?;
            }
        }
        Ok(removed.is_some())
    }

    /// Waits until somebody else gives the cache back, or for as long as that.
    pub(crate) fn cache_mount_within(&self, id: &str, wanted: Wanted, time: Duration) -> Result<Option<CacheMount>> {
        let deadline = Instant::now() + time;
        loop {
            if let Some(mount) = self.cache_mount(id, wanted)? {
                return Ok(Some(mount));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn try_shared(file: &File) -> Result<bool> {
    match rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(e.into()),
    }
}
