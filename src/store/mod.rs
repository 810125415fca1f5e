//! What is on disk.
//!
//! ```text
//! /var/lib/barge/                 the root (-g)
//!   format                        layout version; written last, so its presence means that everything below exists
//!   driver                        what makes the containers' roots: overlay or copy (driver.rs)
//!   lock                          flock: shared while a writer adds references, exclusive while something is dropped
//!   tags.lock                     flock: around a change of tags.json
//!   blobs/sha256/<hex>            image configurations, manifests and layers as they came
//!   downloads/<hex>               a blob so far, flocked by whoever fetches it; <chain id>.layer: likewise, a layer
//!   layers/<chain id>/            diff/  layer.json {parent, diff_id, size, blobs}  tar-record (what rebuilds its tar)
//!   chowned/<map>/<chain id>/      a copy of the layer in the numbers of a user namespace (chowned.rs)
//!   images/<image id>.json        ImageRecord
//!   tags.json                     repository → tag or digest → images, one per platform
//!   containers/<id>/              config.json  exit.json (once it ended)  upper/  work/  tree/ (a copy)  log.json*  layer/ (while a
//!                                 commit makes one of upper/, adopt.rs); the directory
//!                                 itself is flocked by whoever changes the container
//!   names/<name>                  symlink → ../containers/<id>; the directory itself is flocked around a change
//!   volumes/<name>/               _data/  volume.json
//!   networks/<id>.json            Network
//!   events/log, log.1             what happened, one line each; rotated by a rename (events.rs)
//!   events/intents/<hex>          what is just being changed, with the events of it; flocked by whoever does (intents.rs)
//!   cache/steps/<family>/<key>.json   StepRecord: what a step of a build made
//!   cache/steps.lock              who makes a step right now (step_locks.rs)
//!   cache/mounts/<hash>/          mount.json  data/  data-<n>/: what RUN --mount=type=cache keeps; each flocked in use
//!   secrets/<id>.json, .data      what containers are told in secret
//!   mount-points/                 the lowest layer of every container: what the engine mounts on
//!   memos/<hex>                   digests of a build context's files, by their inodes and times
//!   staging/<random>              half-made or half-removed, flocked by its maker; unlocked means abandoned
//!   staging/<random>.claim        what a running transfer needs (claims.rs)
//! /run/barge/mounts/<image id>/   images that a person has mounted
//! /run/barge/<id>/                the run directory (tmpfs): state.json  attach.sock  hosts …
//! /run/barge/leases/<network>/    <address> (the container that has it)  next  lock
//! /run/barge/networks.lock        flock: around a change of networks and their links
//! ```
//!
//! Readers take no lock: every record is one small file that is only ever replaced by a rename, and every directory
//! comes and goes by a rename. Whatever they meet may be gone a moment later, or be damaged; neither stops a listing.
//! Writers stage, sync, rename. Locks are taken in this order: downloads, store, tags, container, names, networks,
//! leases, intents. A lock file of the root is never unlinked, and no lock but one of `downloads/` is held while waiting for a
//! process, the network or a person.

#![allow(clippy::disallowed_methods)] // this room is where files are staged and renamed

mod adopt;
mod blobs;
mod cache;
mod cache_mounts;
mod chowned;
mod claims;
mod container_mounts;
mod containers;
mod downloads;
mod driver;
mod event_tail;
pub(crate) mod events;
pub(crate) mod file;
mod gc;
mod images;
mod intents;
mod layers;
mod lock;
mod memos;
mod mount_points;
mod mounts;
mod names;
mod networks;
mod ports;
mod secrets;
mod staging;
mod step_locks;
mod tags;
mod views;
mod volumes;
mod wipe;

pub(crate) use cache::{CachedStep, FinishedStep, Inputs, StepKey, StepParent, StepRecord, finished as mark_finished};
pub(crate) use cache_mounts::{CacheMount, CacheMountEntry, Wanted as CacheMountWanted};
pub(crate) use claims::Claim;
pub(crate) use containers::DetachedContainer;
pub(crate) use downloads::{Download, LayerLock};
pub(crate) use event_tail::EventTail;
pub(crate) use file::Durability;
pub(crate) use gc::Dropped;
pub(crate) use images::no_such_image;
pub(crate) use intents::{Announced, Proof};
pub(crate) use layers::{LayerBlob, LayerRecord, SealedLayer, StagedLayer};
pub(crate) use lock::{ContainerLock, StoreLock};
pub(crate) use names::is_valid as is_valid_name;
pub(crate) use networks::{LeasesLock, NetworksLock};
pub(crate) use ports::FreePorts;
pub(crate) use secrets::{Notes, Taken};
pub(crate) use staging::{Stage, StagedFile};
pub(crate) use step_locks::StepLock;
pub(crate) use tags::{Tags, Target};

use crate::error::{Context, Error, Result};
use crate::model::digest::Digest;
use crate::model::id::{ChainId, ContainerId};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

pub(crate) const DEFAULT_ROOT: &str = "/var/lib/barge";
const FORMAT: &str = "1\n";
const DIRECTORIES: [&str; 7] = [
    "blobs/sha256",
    "layers",
    "images",
    "containers",
    "names",
    "volumes",
    "staging",
];

/// The engine's two root directories.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    root: PathBuf,
    run_root: PathBuf,
    /// Told in one line what is waited for, when a lock takes longer than a second.
    notice: fn(&str),
}

impl Store {
    /// Makes what is missing. Takes no lock and sweeps nothing; on an existing store this is a read and a mkdir.
    pub(crate) fn open(root: PathBuf, run_root: PathBuf) -> Result<Store> {
        let (mut root, mut run_root) = (std::path::absolute(root)?, std::path::absolute(run_root)?);
        match std::fs::read_to_string(root.join("format")) {
            Ok(format) if format == FORMAT => {}
            // A power cut may have taken what was in it.
            Ok(format) if format.is_empty() => {
                initialise(&root).with_context(|| format!("make store {}", root.display()))?;
            }
            Ok(format) => {
                let found = format.trim_end().chars().take(20).collect::<String>();
                let message = format!(
                    "store {}: layout '{found}', this program knows layout 1",
                    root.display()
                );
                return Err(Error::other(message).with_hint("it was made by another version of barge"));
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                initialise(&root).with_context(|| format!("make store {}", root.display()))?;
            }
            Err(e) => return Err(e).with_context(|| format!("open store {}", root.display())),
        }
        make_directory(&run_root).with_context(|| format!("make run directory {}", run_root.display()))?;
        if root != Path::new(DEFAULT_ROOT) {
            root = std::fs::canonicalize(&root)?;
            run_root = std::fs::canonicalize(&run_root)?;
        }
        Ok(Store {
            root,
            run_root,
            notice: |_| (),
        })
    }

    /// Who is told that a lock has been waited for longer than a second.
    #[must_use]
    pub(crate) fn with_notice(mut self, notice: fn(&str)) -> Store {
        self.notice = notice;
        self
    }

    /// Tells the person something that is no error.
    pub(crate) fn notify(&self, text: &str) {
        (self.notice)(text);
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn run_root(&self) -> &Path {
        &self.run_root
    }

    /// Six digits that tell this engine's kernel objects from those of an engine with another root; `None` for the
    /// default root, whose objects have plain names.
    pub(crate) fn instance(&self) -> Option<String> {
        use std::os::unix::ffi::OsStrExt;
        if self.root == Path::new(DEFAULT_ROOT) {
            return None;
        }
        let mut hex = Digest::of(self.root.as_os_str().as_bytes()).hex();
        hex.truncate(6);
        Some(hex)
    }

    pub(crate) fn container_dir(&self, id: &ContainerId) -> PathBuf {
        self.containers_root().join(id.as_str())
    }

    /// Exists only while the container runs, or was started since boot.
    pub(crate) fn run_dir(&self, id: &ContainerId) -> PathBuf {
        self.run_root.join(id.as_str())
    }

    /// The unpacked files of a layer.
    pub(crate) fn layer_dir(&self, id: &ChainId) -> PathBuf {
        self.root.join("layers").join(id.hex()).join("diff")
    }

    /// The files of a volume. `name` is a checked volume name.
    pub(crate) fn volume_dir(&self, name: &str) -> PathBuf {
        self.volumes_root().join(name).join("_data")
    }

    fn containers_root(&self) -> PathBuf {
        self.root.join("containers")
    }

    fn names_root(&self) -> PathBuf {
        self.root.join("names")
    }

    fn volumes_root(&self) -> PathBuf {
        self.root.join("volumes")
    }

    fn staging_root(&self) -> PathBuf {
        self.root.join("staging")
    }
}

/// Safe to run twice at once: `format`, written last, is the commit.
fn initialise(root: &Path) -> Result<()> {
    if let Some(parent) = root.parent() {
        std::fs::create_dir_all(parent)?;
    }
    make_directory(root)?;
    for directory in DIRECTORIES {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o710)
            .create(root.join(directory))?;
    }
    lock::open_lock_file(&root.join("tags.lock"))?;
    // Two at once would write into one file, of which one is in place before the other is done.
    let alone = lock::open_lock_file(&root.join("lock"))?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&alone, rustix::fs::FlockOperation::LockExclusive))?;
    match std::fs::read_to_string(root.join("format")) {
        Ok(format) if !format.is_empty() => Ok(()),
        _ => file::replace(root, "format", FORMAT.as_bytes(), Durability::Synced),
    }
}

/// One directory, if it isn't there; missing parents are made only then.
fn make_directory(path: &Path) -> std::io::Result<()> {
    let make = || std::fs::DirBuilder::new().mode(0o710).create(path);
    match make() {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            make()
        }
        done => done,
    }
}

/// 32 random bytes.
fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
            .context("read random bytes")?;
    }
    Ok(bytes)
}

impl Store {
    /// A fresh id, 64 hex digits: for a container, or as the name of an anonymous volume.
    pub(crate) fn random_id() -> Result<ContainerId> {
        Ok(ContainerId::from_random(&random()?))
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A store in a directory of its own, removed when dropped.

    use super::*;

    pub(crate) struct Scratch {
        pub(crate) store: Store,
        dir: PathBuf,
    }

    impl Scratch {
        pub(crate) fn new() -> Scratch {
            let mut unique = ContainerId::from_random(&random().unwrap()).as_str().to_owned();
            unique.truncate(16);
            let dir = std::env::temp_dir().join(format!("barge-store-{unique}"));
            let store = Store::open(dir.join("root"), dir.join("run")).unwrap();
            Scratch { store, dir }
        }
    }

    impl std::ops::Deref for Scratch {
        type Target = Store;

        fn deref(&self) -> &Store {
            &self.store
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Scratch;
    use super::*;

    #[test]
    fn opening_twice_finds_the_same_store() {
        let s = Scratch::new();
        let again = Store::open(s.root().join("../root"), s.run_root().to_owned()).unwrap();
        assert_eq!(again.root(), s.root());
        assert_eq!(again.instance(), s.instance());
        assert_eq!(s.instance().unwrap().len(), 6);
    }

    #[test]
    fn several_make_one_store() {
        let s = Scratch::new();
        for round in 0..20 {
            let root = s.root().join(format!("staging/{round}"));
            let open = || Store::open(root.clone(), s.run_root().to_owned()).map(drop);
            std::thread::scope(|threads| {
                let all: Vec<_> = (0..4).map(|_| threads.spawn(open)).collect();
                all.into_iter().for_each(|one| one.join().unwrap().unwrap());
            });
            std::fs::write(root.join("format"), "").unwrap();
            open().unwrap();
            assert_eq!(std::fs::read_to_string(root.join("format")).unwrap(), FORMAT);
        }
    }

    #[test]
    fn a_layout_of_the_future_is_refused() {
        let s = Scratch::new();
        std::fs::write(s.root().join("format"), "2\n").unwrap();
        let e = Store::open(s.root().to_owned(), s.run_root().to_owned()).unwrap_err();
        assert!(e.to_string().contains("layout '2'"), "{e}");
    }
}
