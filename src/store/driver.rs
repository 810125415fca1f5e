//! `driver`: how the roots of this store's containers are made; written once. And the copies of one that makes them so.

use super::{Durability, Stage, Store, file};
use crate::error::{Error, Result};
use crate::model::driver::Driver;
use crate::model::id::ContainerId;
use std::path::PathBuf;

const NAME: &str = "driver";
const TREE: &str = "tree";

impl Store {
    /// `None` in a store that has made no container yet. One with containers and without a record is of a barge that
    /// knew overlays only.
    pub(crate) fn driver(&self) -> Result<Option<Driver>> {
        let path = self.root().join(NAME);
        match file::read(&path)? {
            // A power cut may have taken what was in it.
            Some(text) if !text.is_empty() => match text.trim_ascii_end() {
                b"overlay" => Ok(Some(Driver::Overlay)),
                b"aufs" => Ok(Some(Driver::Aufs)),
                b"copy" => Ok(Some(Driver::Copy)),
                _ => Err(Error::other(format!("{}: unknown storage driver", path.display()))
                    .with_hint("it was made by another version of barge")),
            },
            _ if self.container_ids()?.is_empty() => Ok(None),
            _ => Ok(Some(Driver::Overlay)),
        }
    }

    pub(crate) fn record_driver(&self, driver: Driver) -> Result<()> {
        // Of several first containers, each comes to the same, but a file is written by one at a time.
        let _one_at_a_time = self.lock_tags()?;
        let line = format!("{}\n", driver.name());
        file::replace(self.root(), NAME, line.as_bytes(), Durability::Synced)
    }

    /// A container's copy of its image, with what it has changed. Not there before its files are first needed.
    pub(crate) fn tree_dir(&self, id: &ContainerId) -> PathBuf {
        self.container_dir(id).join(TREE)
    }

    /// Puts a copy in its place; `false` if another process was first. With `durability`, it survives a power cut.
    pub(crate) fn place_tree(&self, id: &ContainerId, tree: Stage, durability: Durability) -> Result<bool> {
        if durability == Durability::Synced {
            rustix::fs::syncfs(tree.dir())?;
        }
        tree.commit(&self.tree_dir(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Scratch;

    #[test]
    fn written_once_and_read_back() {
        let scratch = Scratch::new();
        assert_eq!(scratch.store.driver().unwrap(), None);
        for driver in [Driver::Overlay, Driver::Aufs, Driver::Copy] {
            scratch.store.record_driver(driver).unwrap();
            assert_eq!(scratch.store.driver().unwrap(), Some(driver));
            assert_eq!(Driver::parse(driver.name()).unwrap(), driver);
            assert_eq!(Driver::parse(driver.docker_name()).unwrap(), driver);
        }
        std::fs::write(scratch.store.root().join(NAME), "zfs\n").unwrap();
        assert!(scratch.store.driver().is_err());
        std::fs::write(scratch.store.root().join(NAME), "").unwrap();
        assert_eq!(scratch.store.driver().unwrap(), None);
    }
}
