//! Empties the engine's two roots. Only what is the engine's own goes: a root may have been laid over somebody's
//! directory. The lock files stay, as somebody may be waiting for one of them.

use super::staging::remove_path;
use super::{ContainerId, Store};
use crate::error::{Context, Error, Result};
use crate::sys;

/// What is in the root. `format` goes first: without it the rest counts for nothing.
const ROOT: [&str; 22] = [
    "format",
    "blobs",
    "cache",
    "chowned",
    "containers",
    "downloads",
    "driver",
    "events",
    "firewall",
    "firewall-told",
    "image-copies",
    "images",
    "layers",
    "memos",
    "mount-points",
    "names",
    "networks",
    "secrets",
    "staging",
    "tags.json",
    "tags.json.damaged",
    "volumes",
];
/// What is in the run root, besides containers' directories.
const RUN_ROOT: [&str; 7] = ["firewall", "leases", "links", "mounted", "mounts", "names", "ports"];

impl Store {
    /// Removes all that is in the store, of which nothing may be in use. Waits for whoever refers to something now.
    pub(crate) fn wipe(&self) -> Result<()> {
        let _held = self.lock_exclusive()?;
        if let Some(id) = self.container_ids()?.first() {
            return Err(Error::conflict(format!("container {} was made meanwhile", id.short())));
        }
        let runs = std::fs::read_dir(self.run_root()).with_context(|| format!("read {}", self.run_root().display()))?;
        let runs = runs.flatten().map(|entry| entry.path()).filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| RUN_ROOT.contains(&name) || ContainerId::parse(name).is_some())
        });
        for path in ROOT.iter().map(|name| self.root().join(name)).chain(runs) {
            remove_path(&path)?;
            sys::stop_point("store-wiped");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::store::Store;
    use crate::store::testing::Scratch;

    #[test]
    fn only_the_engines_own_goes() {
        let s = Scratch::new();
        let held = s.lock_shared().unwrap();
        s.put_blob(b"x", &held).unwrap();
        drop(held);
        s.ensure_volume("data", false).unwrap();
        std::fs::write(s.root().join("letter"), "dear").unwrap();
        s.wipe().unwrap();
        let mut left: Vec<_> = std::fs::read_dir(s.root())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["letter", "lock", "tags.lock"]);
        let again = Store::open(s.root().to_owned(), s.run_root().to_owned()).unwrap();
        assert_eq!(again.volume_names().unwrap(), [""; 0]);
    }
}
