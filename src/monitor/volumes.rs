//! Where a container's mounts come from: host paths, and volumes, which a first use fills with the image's content.

use crate::error::{Context as _, Error, Result};
use crate::layer;
use crate::model::container::ContainerConfig;
use crate::model::id::ContainerId;
use crate::model::idmap::IdMap;
use crate::model::mount::{Mount, Source};
use crate::monitor::chowned;
use crate::runtime::plan::VolumeSource;
use crate::runtime::rootfs::{self, Links};
use crate::store::Store;
use crate::sys;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Where a container's mounts come from.
pub(super) struct Sources {
    /// In the order of the configuration's mounts; `None` for a tmpfs and an image.
    pub(super) of_mounts: Vec<Option<VolumeSource>>,
    /// What some of the paths lead through; to be kept until the mounts are made.
    pub(super) held: Vec<OwnedFd>,
}

/// What volumes are filled from and given to.
#[derive(Clone, Copy)]
pub(super) struct Into<'a> {
    /// The container's root, for copy-up, where owners are seen in the numbers of `users`, and that user namespace.
    pub(super) root: BorrowedFd<'a>,
    pub(super) users: Option<(&'a IdMap, BorrowedFd<'a>)>,
    /// The container's own number of its user and group: `U`.
    pub(super) user: Option<(u32, u32)>,
}

/// Looks for the sources, and makes what may be made.
pub(super) fn sources(store: &Store, config: &ContainerConfig, into: Into<'_>) -> Result<Sources> {
    let mut held = Vec::new();
    let of_mounts = config
        .mounts
        .iter()
        .map(|m| source(store, config, m, (into, &mut held)))
        .collect::<Result<_>>()?;
    Ok(Sources { of_mounts, held })
}

fn source(
    store: &Store,
    config: &ContainerConfig,
    mount: &Mount,
    (into, held): (Into<'_>, &mut Vec<OwnedFd>),
) -> Result<Option<VolumeSource>> {
    // A container whose layers must be copied may have volumes that can be shown in its numbers, and others that can't.
    let shown = |dir: &Path| {
        let is_shown = |(_, users)| !config.namespaces.chowned || chowned::can_map(dir, users);
        into.users.is_none_or(is_shown)
    };
    let mut mapped = mount.idmap;
    let path = match &mount.source {
        Source::Tmpfs { .. } | Source::Image { .. } => return Ok(None),
        Source::Bind { path, create, .. } => bind(path, *create)?,
        Source::Volume {
            name,
            anonymous,
            copy_up,
            subpath,
        } => {
            let fill = copy_up.then_some((into.root, mount.target.as_path()));
            let dir = store.volume_dir(name);
            let ids = into.users.map(|(ids, _)| ids);
            // One that is to be made will be where the engine's root is.
            mapped = shown(if dir.exists() { &dir } else { store.root() });
            let options = layer::copy::Options {
                from: ids,
                to: ids.filter(|_| !mapped),
                ..Default::default()
            };
            volume(store, config, (name, *anonymous), fill, &options)
                .with_context(|| format!("prepare volume {name}"))?;
            match subpath {
                None => dir,
                Some(sub) => {
                    let place =
                        below(&dir, sub).with_context(|| format!("volume {name}, subpath {}", sub.display()))?;
                    // By its descriptor: another container that has the volume could swap the path for a link to the
                    // host's root before it is mounted (CVE-2021-25741's class).
                    let path = PathBuf::from(format!("/proc/self/fd/{}", place.as_raw_fd()));
                    held.push(place);
                    path
                }
            }
        }
    };
    let directory = std::fs::metadata(&path)
        .with_context(|| format!("mount {}", path.display()))?
        .is_dir();
    if let (true, Some((user, group))) = (mount.chown, into.user) {
        // What is seen through a mapped mount has the container's own numbers on disk.
        let (user, group) = match config.namespaces.user.as_ref().filter(|_| !mapped) {
            Some(ids) => (ids.outside_user(user), ids.outside_group(group)),
            None => (Some(user), Some(group)),
        };
        let owner = user
            .zip(group)
            .ok_or_else(|| Error::usage("its user is not one of the user namespace"));
        owner
            .and_then(|owner| layer::copy::give(&path, owner))
            .with_context(|| format!("give {} to the container's user", path.display()))?;
    }
    Ok(Some(VolumeSource {
        path,
        directory,
        mapped,
    }))
}

/// `-v` makes a directory of what is missing, as docker does.
fn bind(path: &Path, create: bool) -> Result<PathBuf> {
    if create && !path.exists() {
        std::fs::create_dir_all(path).with_context(|| format!("make bind source {}", path.display()))?;
    }
    Ok(path.to_owned())
}

/// A subpath that a link would lead out of the volume is refused.
fn below(dir: &Path, sub: &Path) -> Result<OwnedFd> {
    let root = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let flags = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(
        &root,
        sub,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        flags,
    )?)
}

/// Makes the volume if there is none. An empty one takes what the image has at the mount point, once (F142).
fn volume(
    store: &Store,
    config: &ContainerConfig,
    (name, anonymous): (&str, bool),
    fill: Option<(BorrowedFd<'_>, &Path)>,
    options: &layer::copy::Options<'_>,
) -> Result<()> {
    let exists = store.volume_dir(name).exists();
    let content = match fill {
        Some((root, target)) => image_content(root, target)?,
        None => None,
    };
    let is_new = || -> Result<bool> {
        let is_empty = std::fs::read_dir(store.volume_dir(name))?.next().is_none();
        // Who runs has the empty directory itself.
        let runs = |user: &ContainerId| !matches!(store.live(user), Ok(None));
        let is_used = |users: Vec<ContainerId>| users.iter().any(|u| *u != config.id && runs(u));
        Ok(is_empty && !store.volume_users(name).map_or(true, is_used))
    };
    let Some(content) = content else {
        store.ensure_volume(name, anonymous)?;
        return match options.to {
            Some(ids) if is_new()? => layer::copy::give(&store.volume_dir(name), ids.root()?),
            _ => Ok(()),
        };
    };
    if !exists {
        let staged = store.stage_volume(name, std::collections::BTreeMap::new(), anonymous)?;
        layer::copy::tree(content.as_fd(), staged.data()?.as_fd(), options)?;
        sys::stop_point("volume-filled");
        rustix::fs::syncfs(staged.data()?)?;
        staged.commit(store)?;
        sys::stop_point("volume-made");
        return Ok(());
    }
    if is_new()? {
        store.fill_volume(name, |data| layer::copy::tree(content.as_fd(), data, options).map(drop))?;
    }
    Ok(())
}

/// The image's directory at the mount point, if it has one that is worth copying.
fn image_content(root: BorrowedFd<'_>, target: &Path) -> Result<Option<OwnedFd>> {
    let place = match rootfs::open(root, target, Links::Follow) {
        Ok(place) if rootfs::is_directory(place.as_fd()) => place,
        Ok(_) => {
            return Err(Error::other(format!(
                "{} is not a directory in the container",
                target.display()
            )));
        }
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("look at {}", target.display())),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(Some(rustix::fs::openat(&place, ".", flags, Mode::empty())?))
}
