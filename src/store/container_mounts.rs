//! `<run root>/mounted/<container id>/root`: containers that a person has mounted (`mount`). On the run directory, since
//! mounts too are gone with a boot. Whoever mounts or unmounts holds the container's lock, if it does not run. `left`
//! beside `root` names the devices of those that were unmounted while somebody was in them: as long as he is, another
//! mount of the same files would damage them.

use super::Store;
use crate::error::{Context, Result};
use crate::model::id::ContainerId;
use crate::sys;
use rustix::mount::{UnmountFlags, unmount};
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

const LEFT: &str = "left";

impl Store {
    fn container_mounts_root(&self) -> PathBuf {
        self.run_root().join("mounted")
    }

    /// Where the container is mounted, if it is.
    pub(crate) fn container_mount(&self, id: &ContainerId) -> PathBuf {
        self.container_mounts_root().join(id.as_str()).join("root")
    }

    /// Containers that are mounted, and those that were about to be or are no more; in no order.
    pub(crate) fn container_mounts(&self) -> Result<Vec<ContainerId>> {
        let path = self.container_mounts_root();
        let entries = match std::fs::read_dir(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("read {}", path.display()))?,
        };
        let names = entries.flatten().map(|e| e.file_name());
        Ok(names.filter_map(|n| ContainerId::parse(n.to_str()?)).collect())
    }

    /// Makes the place.
    pub(crate) fn make_container_mount(&self, id: &ContainerId) -> Result<PathBuf> {
        let root = self.container_mount(id);
        let made = DirBuilder::new().recursive(true).mode(0o711).create(&root);
        made.with_context(|| format!("make {}", root.display()))?;
        Ok(root)
    }

    /// Notes that the mount, of this device, is about to be unmounted while somebody is in it.
    pub(crate) fn leave_container_mount(&self, id: &ContainerId, device: u64) -> Result<()> {
        let mut devices = self.left_container_mounts(id);
        devices.push(device);
        let text: Vec<String> = devices.iter().map(u64::to_string).collect();
        let dir = self.container_mounts_root().join(id.as_str());
        super::file::replace(&dir, LEFT, text.join("\n").as_bytes(), super::Durability::Volatile)
    }

    /// The devices of those that were unmounted so.
    pub(crate) fn left_container_mounts(&self, id: &ContainerId) -> Vec<u64> {
        let path = self.container_mounts_root().join(id.as_str()).join(LEFT);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Nobody is in them any more.
    pub(crate) fn forget_left_container_mounts(&self, id: &ContainerId) {
        let dir = self.container_mounts_root().join(id.as_str());
        let _ = std::fs::remove_file(dir.join(LEFT));
        let _ = std::fs::remove_dir(dir);
    }

    /// Unmounts, also while somebody is in it, and takes the place away; not the note of who is left in it. Success if
    /// there is none.
    pub(crate) fn drop_container_mount(&self, id: &ContainerId) -> Result<()> {
        let root = self.container_mount(id);
        if !root.exists() {
            return Ok(());
        }
        while sys::mount::is_mounted(&root) {
            unmount(&root, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
                .with_context(|| format!("unmount {}", root.display()))?;
        }
        for dir in [Some(root.as_path()), root.parent()].into_iter().flatten() {
            match std::fs::remove_dir(dir) {
                Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
                    return Err(e).with_context(|| format!("remove {}", dir.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
