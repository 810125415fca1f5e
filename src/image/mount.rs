//! `image mount`: an image's file system as a directory, read-only, until it is unmounted or the machine goes down.

use crate::error::{Context, Error, Result};
use crate::image::resolve::resolve;
use crate::layer::driver;
use crate::layer::overlay::Overlay;
use crate::model::driver::Driver;
use crate::model::id::ImageId;
use crate::store::Store;
use crate::sys;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use std::os::fd::AsFd;
use std::path::PathBuf;

/// Where it is mounted; one that is mounted already stays so.
pub(crate) fn mount(store: &Store, what: &str) -> Result<PathBuf> {
    let held = store.lock_shared()?;
    let image = resolve(store, what)?;
    let place = store.make_image_mount(&image.id, &image.layers, &held)?;
    drop(held);
    let root = place.root();
    if sys::mount::is_mounted(&root) {
        return Ok(root);
    }
    sys::stop_point("image-mount-made");
    let mut lowers: Vec<_> = image.layers.iter().map(|layer| store.layer_dir(layer)).collect();
    // A view needs two directories, and an image without layers has none.
    let upper = lowers.pop().unwrap_or_else(|| root.clone());
    lowers.insert(0, place.empty());
    let driver = store.driver()?.unwrap_or(Driver::Overlay);
    let stack = Overlay {
        lowers,
        upper,
        work: match driver {
            Driver::Overlay => PathBuf::new(),
            _ => store.make_image_copy(&image.id)?,
        },
        volatile: false,
        read_only: true,
    };
    let view = driver::mount(driver, &stack)?;
    sys::stop_point("image-viewed");
    let target = openat(
        CWD,
        &root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    sys::mount::attach(view.as_fd(), target.as_fd()).with_context(|| format!("mount on {}", root.display()))?;
    Ok(root)
}

/// Every image that is mounted, and where.
pub(crate) fn mounted(store: &Store) -> Result<Vec<(ImageId, PathBuf)>> {
    let images = store.mounted_images()?.into_iter();
    let mut mounted: Vec<_> = images.map(|id| (id, store.image_mount_root(&id))).collect();
    mounted.retain(|(_, root)| sys::mount::is_mounted(root));
    mounted.sort();
    Ok(mounted)
}

/// Unmounts an image, by name or id, also one that was removed meanwhile. With `force`, also while somebody is in it.
pub(crate) fn unmount_image(store: &Store, what: &str, force: bool) -> Result<ImageId> {
    let id = match resolve(store, what) {
        Ok(image) => image.id,
        Err(e) => by_prefix(store, what)?.ok_or(e)?,
    };
    let not_mounted = || Error::not_found(format!("image {what} is not mounted"));
    let place = store.image_mount(&id)?.ok_or_else(not_mounted)?;
    let root = place.root();
    if !sys::mount::is_mounted(&root) {
        // Left by a mount that was killed.
        place.remove()?;
        return Err(not_mounted());
    }
    let flags = if force {
        UnmountFlags::DETACH
    } else {
        UnmountFlags::empty()
    };
    match unmount(&root, flags | UnmountFlags::NOFOLLOW) {
        Err(Errno::BUSY) => {
            return Err(Error::conflict(format!("image {what} is in use: {}", root.display()))
                .with_hint("--force unmounts it when nobody uses it any more"));
        }
        done => done.with_context(|| format!("unmount {}", root.display()))?,
    }
    sys::stop_point("image-unmounted");
    place.remove()?;
    Ok(id)
}

fn by_prefix(store: &Store, what: &str) -> Result<Option<ImageId>> {
    let what = what.strip_prefix("sha256:").unwrap_or(what);
    let mut found = store.mounted_images()?;
    found.retain(|id| !what.is_empty() && id.hex().starts_with(what));
    match found.as_slice() {
        [only] => Ok(Some(*only)),
        _ => Ok(None),
    }
}
