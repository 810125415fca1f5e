//! `<run root>/mounts/<image id>/`: images that a person has mounted (`image mount`). On the run directory, since mounts
//! too are gone with a boot. `layers` lists the layers under the mount, which garbage collection leaves alone, whatever
//! becomes of the image; `root/` is what is mounted on; `empty/` is the lowest layer. The directory is flocked around a
//! change.
//!
//! `image-copies/<image id>/` of the store has what such a mount needs where overlayfs does not work: names of the
//! layers' files. It is used under the same lock, and goes with the unmount; what a boot or a crash has left of it
//! without a mount, the next sweep takes.
//!
//! `containers/<id>/images/<number>/` is for an image that is mounted in a container: what is written to it, and the
//! directories that its stack needs. Each start has it anew.

use super::{Durability, Store, StoreLock, file, lock, staging};
use crate::error::{Context, Error, Result};
use crate::model::id::{ChainId, ContainerId, ImageId};
use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const LAYERS: &str = "layers";
/// Whoever mounts or unmounts needs milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The place where an image is mounted or will be, locked.
#[derive(Debug)]
pub(crate) struct ImageMount {
    dir: PathBuf,
    copy: PathBuf,
    _lock: File,
}

impl ImageMount {
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    pub(crate) fn empty(&self) -> PathBuf {
        self.dir.join("empty")
    }

    /// After the unmount.
    pub(crate) fn remove(self) -> Result<()> {
        staging::remove_path(&self.copy)?;
        staging::remove_path(&self.dir)
    }
}

impl Store {
    fn mounts_root(&self) -> PathBuf {
        self.run_root().join("mounts")
    }

    /// For the image mount of this number in a container that is about to start.
    pub(crate) fn image_scratch(&self, id: &ContainerId, number: usize) -> Result<PathBuf> {
        let scratch = self.container_dir(id).join("images").join(number.to_string());
        staging::remove_path(&scratch)?;
        for name in ["empty", "nothing", "upper", "work"] {
            let dir = scratch.join(name);
            let made = DirBuilder::new().recursive(true).mode(0o755).create(&dir);
            made.with_context(|| format!("make {}", dir.display()))?;
        }
        Ok(scratch)
    }

    /// Images that are mounted or were about to be, in no order.
    pub(crate) fn mounted_images(&self) -> Result<Vec<ImageId>> {
        let path = self.mounts_root();
        let entries = match std::fs::read_dir(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("read {}", path.display()))?,
        };
        Ok(entries
            .flatten()
            .filter_map(|e| ImageId::from_hex(e.file_name().to_str()?))
            .collect())
    }

    /// Where the image is mounted, if it is.
    pub(crate) fn image_mount_root(&self, id: &ImageId) -> PathBuf {
        self.mounts_root().join(id.hex()).join("root")
    }

    /// Makes the place, and keeps its layers from here on.
    pub(crate) fn make_image_mount(&self, id: &ImageId, layers: &[ChainId], _held: &StoreLock) -> Result<ImageMount> {
        let dir = self.mounts_root().join(id.hex());
        let said = || format!("make {}", dir.display());
        let make = |path: &PathBuf, mode| DirBuilder::new().recursive(true).mode(mode).create(path);
        make(&self.mounts_root(), 0o711).with_context(said)?;
        make(&dir, 0o711).with_context(said)?;
        let mount = self.locked(dir.clone(), id)?;
        for path in [mount.root(), mount.empty()] {
            make(&path, 0o755)
                .and_then(|()| match path.ends_with("empty") {
                    true => std::fs::set_permissions(&path, Permissions::from_mode(0o755)),
                    // May be mounted on already.
                    false => Ok(()),
                })
                .with_context(said)?;
        }
        let text: String = layers.iter().map(|layer| layer.hex() + "\n").collect();
        file::replace(&dir, LAYERS, text.as_bytes(), Durability::Volatile)?;
        Ok(mount)
    }

    /// The place of an image that is mounted.
    pub(crate) fn image_mount(&self, id: &ImageId) -> Result<Option<ImageMount>> {
        let dir = self.mounts_root().join(id.hex());
        match dir.exists() {
            true => self.locked(dir, id).map(Some),
            false => Ok(None),
        }
    }

    fn locked(&self, dir: PathBuf, id: &ImageId) -> Result<ImageMount> {
        let copy = self.image_copies_root().join(id.hex());
        let lock = File::open(&dir).with_context(|| format!("open {}", dir.display()))?;
        let deadline = Instant::now() + PATIENCE;
        while !lock::try_exclusive(&lock)? {
            if Instant::now() >= deadline {
                return Err(Error::other(format!("{} is locked by another process", dir.display())));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        match dir.exists() {
            true => Ok(ImageMount { dir, copy, _lock: lock }),
            false => Err(Error::conflict(format!("{} was removed meanwhile", dir.display()))),
        }
    }

    fn image_copies_root(&self) -> PathBuf {
        self.root().join("image-copies")
    }

    /// A directory for what a mount of the image needs; what is in it already was made for the same layers.
    pub(crate) fn make_image_copy(&self, id: &ImageId) -> Result<PathBuf> {
        let dir = self.image_copies_root().join(id.hex());
        let made = DirBuilder::new().recursive(true).mode(0o711).create(&dir);
        made.with_context(|| format!("make {}", dir.display()))?;
        Ok(dir)
    }

    /// Takes away the copies of images that are not mounted, nor about to be.
    pub(crate) fn sweep_image_copies(&self) -> Result<()> {
        let Ok(entries) = std::fs::read_dir(self.image_copies_root()) else {
            return Ok(());
        };
        for entry in entries.flatten() {
            let id = entry.file_name().to_str().and_then(ImageId::from_hex);
            let Some(id) = id else { continue };
            let place = File::open(self.mounts_root().join(id.hex()));
            let held = place.as_ref().map_or(Ok(true), lock::try_exclusive)?;
            // Whoever else holds it goes on to mount.
            if held && !crate::sys::mount::is_mounted(&self.image_mount_root(&id)) {
                staging::remove_path(&entry.path())?;
            }
        }
        Ok(())
    }

    /// The layers under every mounted image.
    pub(super) fn mounted_layers(&self) -> Result<BTreeSet<ChainId>> {
        let mut layers = BTreeSet::new();
        for id in self.mounted_images()? {
            let path = self.mounts_root().join(id.hex()).join(LAYERS);
            if let Some(text) = file::read(&path)? {
                layers.extend(String::from_utf8_lossy(&text).lines().filter_map(ChainId::from_hex));
            }
        }
        Ok(layers)
    }
}
