//! Layers in the numbers of a user namespace, by copies: where the kernel can't show a filesystem's files as others'
//! (idmapped mounts: Linux 5.12, and 5.19 below an overlay; ext4, xfs, btrfs and tmpfs can, ramfs, nfs and an overlay
//! can't). Each layer is copied once for each map, with its owners changed; what the container makes has the host's
//! numbers on disk too, and is translated when it is read. A container keeps to the way it was made with.

use crate::error::{Context as _, Error, Result};
use crate::layer::copy;
use crate::layer::overlay::{self, Overlay};
use crate::model::driver::Driver;
use crate::model::idmap::IdMap;
use crate::monitor::root;
use crate::store::Store;
use crate::sys;
use rustix::fs::CWD;
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

/// Whether a container with these users has to have copies in the engine's root: a mapped root was tried and refused,
/// and another not.
pub(crate) fn are_needed(store: &Store, ids: &IdMap) -> Result<bool> {
    if sys::is_refused("idmapped-layers") {
        return Ok(true);
    }
    // What else is in the way is told by the start.
    let Ok(users) = root::user_namespace(ids) else {
        return Ok(false);
    };
    let scratch = store.stage_scratch()?;
    let place = |name| scratch.path().join(name);
    let needed = match store.driver()? {
        Some(Driver::Aufs) => false,
        Some(Driver::Copy) => !can_map(scratch.path(), users.as_fd()),
        Some(Driver::Overlay) | None => {
            let stack = Overlay {
                lowers: vec![place("empty")],
                upper: place("upper"),
                work: place("work"),
                volatile: false,
                read_only: false,
            };
            root::mapped(&stack, scratch.path(), users.as_fd(), ids).is_err() && overlay::mount(&stack).is_ok()
        }
    };
    scratch.delete()?;
    Ok(needed)
}

/// Whether all that is mounted at and below `path` can be shown in the numbers of `users`.
pub(super) fn can_map(path: &Path, users: BorrowedFd<'_>) -> bool {
    sys::mount::clone_tree(CWD, path, true).is_ok_and(|tree| sys::mount::map_owners(tree.as_fd(), users, true).is_ok())
}

/// The copies of `layers`; made where there are none yet, all of them or none.
pub(super) fn copies(store: &Store, layers: &[PathBuf], ids: &IdMap) -> Result<Vec<PathBuf>> {
    let (mut places, mut made) = (Vec::new(), Vec::new());
    for layer in layers {
        let name = name(layer).ok_or_else(|| Error::other(format!("{}: no layer", layer.display())))?;
        let place = store.chowned_dir(ids, name);
        if !place.exists() {
            let said = || format!("copy {} for the container's users", layer.display());
            let (stage, files) = store.stage_chowned()?;
            copy::layer(layer, &files, ids).with_context(said)?;
            made.push((name.to_owned(), stage));
        }
        places.push(place);
    }
    sys::stop_point("layers-chowned");
    store.place_chowned(ids, made)?;
    sys::stop_point("chowned-placed");
    Ok(places)
}

/// `layers/<chain id>/diff` is known by its chain id, `mount-points` by its own name.
fn name(layer: &Path) -> Option<&str> {
    let own = layer.file_name().and_then(OsStr::to_str)?;
    match own {
        "diff" => layer.parent()?.file_name()?.to_str(),
        own => Some(own),
    }
}
