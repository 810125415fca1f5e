//! `mount-points/`: the lowest layer of every container, below its image. It has the directories and files that the
//! engine mounts on, so that an image without them needs none made in the container's own layer, where `diff` and
//! `commit` would find them (F281).

use super::{Store, file};
use crate::error::{Context as _, Result};
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::PathBuf;

const DIRECTORIES: [&str; 4] = ["dev", "proc", "sys", "etc"];
const FILES: [&str; 3] = ["etc/hosts", "etc/hostname", "etc/resolv.conf"];

const MOUNT_TABLE: &str = "etc/mtab";

impl Store {
    /// What is in it.
    pub(crate) fn mount_point_paths() -> impl Iterator<Item = &'static str> {
        DIRECTORIES.into_iter().chain(FILES).chain([MOUNT_TABLE])
    }

    /// Its path; made the first time.
    pub(crate) fn mount_points(&self) -> Result<PathBuf> {
        let path = self.root().join("mount-points");
        if !path.exists() {
            self.make_mount_points(&path).context("make mount-points")?;
        }
        Ok(path)
    }

    fn make_mount_points(&self, path: &std::path::Path) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let stage = self.stage()?;
        let below = stage.path();
        // The staging directory is ours alone; as the lowest layer it is the root of an image without one.
        std::fs::set_permissions(below, std::fs::Permissions::from_mode(0o755))?;
        for dir in DIRECTORIES {
            std::fs::DirBuilder::new().mode(0o755).create(below.join(dir))?;
            std::fs::set_permissions(below.join(dir), std::fs::Permissions::from_mode(0o755))?;
        }
        for name in FILES {
            let made = file::write_new(&below.join(name), b"", super::Durability::Volatile)?;
            made.set_permissions(std::fs::Permissions::from_mode(0o644))?;
        }
        symlink("/proc/mounts", below.join(MOUNT_TABLE))?;
        rustix::fs::syncfs(stage.dir())?;
        stage.commit(path)?;
        Ok(())
    }
}
