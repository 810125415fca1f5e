//! What storage drivers other than overlayfs keep beside the layers: `layers/<chain id>/aufs/`, a layer as AUFS reads it,
//! and `image-copies/<image id>/`, a mounted image (`mounts.rs`). Both are other names of the layers' files, made again
//! whenever they are needed; what a driver that the root has no more, a killed process or a boot has left of them is
//! dropped by a prune.

use super::{Store, staging};
use crate::error::{Context as _, Result};
use crate::model::driver::Driver;
use crate::model::id::ImageId;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

const BRANCH: &str = "aufs";

/// One of them.
#[derive(Debug)]
pub(crate) struct View {
    path: PathBuf,
    /// Bytes that are not a layer's as well.
    pub(crate) size: u64,
    pub(crate) used: bool,
}

impl Store {
    /// All of them.
    pub(crate) fn views(&self) -> Result<Vec<View>> {
        let has_aufs = self.driver()? == Some(Driver::Aufs);
        let mut views = Vec::new();
        for layer in entries(&self.layers_root())? {
            for path in entries(&layer)? {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let used = match name.strip_prefix(BRANCH).map(|rest| rest.strip_prefix('.')) {
                    Some(None) if name == BRANCH => has_aufs,
                    // Half made, by the process of this number.
                    Some(Some(pid)) => Path::new("/proc").join(pid).exists(),
                    _ => continue,
                };
                views.push(view(path, used)?);
            }
        }
        for path in entries(&self.root().join("image-copies"))? {
            let id = path.file_name().and_then(|name| ImageId::from_hex(name.to_str()?));
            let used = id.is_some_and(|id| crate::sys::mount::is_mounted(&self.image_mount_root(&id)));
            views.push(view(path, used)?);
        }
        Ok(views)
    }

    /// Drops those that nothing uses. How many, and their bytes.
    pub(crate) fn prune_views(&self) -> Result<(usize, u64)> {
        // No layer goes, and none becomes another, meanwhile.
        let held = self.lock_exclusive()?;
        let unused: Vec<View> = self.views()?.into_iter().filter(|view| !view.used).collect();
        for view in unused.iter().filter(|view| view.path.starts_with(self.layers_root())) {
            staging::remove_path(&view.path)?;
        }
        drop(held);
        // Whoever is about to mount an image has its own lock.
        self.sweep_image_copies()?;
        let gone = unused.iter().filter(|view| !view.path.exists());
        Ok(gone.fold((0, 0), |(count, bytes), view| (count + 1, bytes + view.size)))
    }
}

fn view(path: PathBuf, used: bool) -> Result<View> {
    let size = own_bytes(&path)?;
    Ok(View { path, size, used })
}

/// Of files that have no other name. What goes away meanwhile counts nothing.
fn own_bytes(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for path in entries(dir)? {
        match std::fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => bytes += own_bytes(&path)?,
            Ok(meta) if meta.is_file() && meta.nlink() == 1 => bytes += meta.len(),
            _ => {}
        }
    }
    Ok(bytes)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    match std::fs::read_dir(dir) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Vec::new()),
        entries => {
            let entries = entries.with_context(|| format!("read {}", dir.display()))?;
            Ok(entries.flatten().map(|entry| entry.path()).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::store::testing::Scratch;

    #[test]
    fn what_is_left_over_goes() {
        let s = Scratch::new();
        let layer = s.layers_root().join("0".repeat(64));
        let copy = s.root().join("image-copies").join("1".repeat(64));
        for dir in [
            layer.join("diff/d"),
            layer.join("aufs/d"),
            layer.join("aufs.0/d"),
            copy.join("tree"),
        ] {
            std::fs::create_dir_all(dir).unwrap();
        }
        std::fs::write(layer.join("diff/d/f"), "shared").unwrap();
        std::fs::hard_link(layer.join("diff/d/f"), layer.join("aufs/d/f")).unwrap();
        std::fs::write(copy.join("tree/f"), "alone").unwrap();
        let own = format!("aufs.{}", std::process::id());
        std::fs::create_dir(layer.join(&own)).unwrap();
        let views = s.views().unwrap();
        assert_eq!((views.len(), views.iter().map(|v| v.size).sum::<u64>()), (4, 5));
        assert_eq!(views.iter().filter(|v| v.used).count(), 1);
        assert_eq!(s.prune_views().unwrap(), (3, 5));
        assert!(layer.join("diff/d/f").exists() && layer.join(own).exists());
        assert!(!layer.join("aufs").exists() && !copy.exists());
        assert_eq!(s.prune_views().unwrap(), (0, 0));
    }
}
