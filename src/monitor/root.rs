//! A container's root: the image's layers under the container's own, as one mount; and the same with its volumes, for
//! who reads or changes the files of a container that does not run.

use crate::error::{Context as _, Error, Result};
use crate::layer::overlay::{self, Overlay};
use crate::layer::{copy, driver};
use crate::model::container::{ContainerConfig, RootSource};
use crate::model::driver::Driver;
use crate::model::idmap::IdMap;
use crate::model::mount::Propagation;
use crate::monitor::{chowned, volumes};
use crate::runtime::plan::{self, Attachment};
use crate::runtime::prepare;
use crate::runtime::rootfs::{self, Links};
use crate::store::{Durability, Store};
use crate::sys;
use nix::sched::CloneFlags;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What a root is mounted for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Access<'a> {
    /// To run the container. In a user namespace, which is given, all owners are seen as the host has them.
    Run(Option<BorrowedFd<'a>>),
    /// Only under the container's lock, and while it does not run.
    Write,
    /// Any number beside each other and beside a start; nothing is written, not even by the kernel.
    Read,
}

/// The user namespace of a container that has one.
pub(crate) fn users(config: &ContainerConfig) -> Result<Option<OwnedFd>> {
    let Some(ids) = &config.namespaces.user else {
        return Ok(None);
    };
    user_namespace(ids).map(Some)
}

pub(super) fn user_namespace(ids: &IdMap) -> Result<OwnedFd> {
    let made = sys::users::create(&IdMap::text(&ids.users), &IdMap::text(&ids.groups));
    made.context("make the user namespace")
}

/// The stack of the image's layers and the container's own, or the directory that stands for them, attached nowhere.
pub(crate) fn mount(store: &Store, config: &ContainerConfig, access: Access<'_>) -> Result<OwnedFd> {
    let users = match access {
        // Files that have the host's numbers on disk need no view.
        Access::Run(users) => users.filter(|_| !config.namespaces.chowned),
        Access::Write | Access::Read => None,
    };
    let mounted = store.container_mount(&config.id);
    if !matches!(access, Access::Read) && sys::mount::is_mounted(&mounted) {
        // The one writable mount there is (`container/mount.rs`).
        let root = sys::mount::clone_tree(CWD, &mounted, false).context("take the mounted root")?;
        // Unmounted since, it would be a directory of the engine's.
        if mounted.parent().is_none_or(|around| !same_device(&root, around)) {
            return Ok(root);
        }
    }
    if let RootSource::Directory(dir) = &config.root {
        return directory(dir, access, users).with_context(|| format!("mount the root {}", dir.display()));
    }
    let driver = store.driver()?.unwrap_or(Driver::Overlay);
    if driver == Driver::Copy && config.build.is_none() {
        let tree = copied(store, config)?;
        return directory(&tree, access, users).context("mount the container's copy of its image");
    }
    if !matches!(access, Access::Read) {
        check_nobody_is_left(store, config)?;
    }
    let overlay = stack(store, config, access, driver)?;
    if driver != Driver::Overlay {
        if users.is_some() {
            let message = format!("--userns: not with the storage driver {}", driver.name());
            return Err(Error::other(message).with_hint("its files can't be shown to a container as others'"));
        }
        return driver::mount(driver, &overlay).context("mount the root");
    }
    if let Some((users, ids)) = users.zip(config.namespaces.user.as_ref()) {
        return mapped(&overlay, &store.container_dir(&config.id), users, ids).context("mount the root");
    }
    overlay::mount(&overlay)
        .or_else(|first| by_old_call(&overlay, &store.container_dir(&config.id)).map_err(|_| first))
        .context("mount the root")
}

fn same_device(mount: &OwnedFd, around: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let around = std::fs::symlink_metadata(around).map(|meta| meta.dev());
    matches!((rustix::fs::fstat(mount), around), (Ok(stat), Ok(device)) if stat.st_dev == device)
}

/// Two mounts of one upper directory would damage what is written: whoever was left in one that was unmounted by force
/// has to go first.
fn check_nobody_is_left(store: &Store, config: &ContainerConfig) -> Result<()> {
    let left = store.left_container_mounts(&config.id);
    let Some(pid) = left.iter().find_map(|device| sys::open_files::user_of(*device)) else {
        if !left.is_empty() {
            store.forget_left_container_mounts(&config.id);
        }
        return Ok(());
    };
    let message = format!(
        "container {} was unmounted by force, and process {pid} still uses its files",
        config.name
    );
    Err(Error::conflict(message).with_hint("end that process: two mounts of the same files would damage them"))
}

/// The container's copy of its image, made where there is none yet: in one rename, so that a reader may make it as well
/// as a start, and a crash leaves nothing half copied. The places that the engine mounts on come first, as in a stack.
fn copied(store: &Store, config: &ContainerConfig) -> Result<PathBuf> {
    let tree = store.tree_dir(&config.id);
    if tree.exists() {
        return Ok(tree);
    }
    let mut layers = vec![store.mount_points()?];
    layers.extend(store.lower_dirs(config));
    let stage = store.stage()?;
    let to = config.namespaces.on_disk();
    copy::stack(&layers, stage.dir(), (copy::Files::Copied, to)).context("copy the image")?;
    sys::stop_point("image-copied");
    let durability = match config.auto_remove {
        true => Durability::Volatile,
        false => Durability::Synced,
    };
    store.place_tree(&config.id, stage, durability)?;
    sys::stop_point("copy-placed");
    Ok(tree)
}

fn directory(dir: &Path, access: Access<'_>, users: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    let root = sys::mount::clone_tree(CWD, dir, false)?;
    let set = |set, propagation| {
        let attributes = sys::mount::Attributes {
            set,
            propagation,
            recursive: false,
        };
        sys::mount::set_attributes(root.as_fd(), attributes)
    };
    set(0, libc::MS_PRIVATE)?;
    if let Some(users) = users {
        sys::mount::map_owners(root.as_fd(), users, false).map_err(can_not_map)?;
    }
    if matches!(access, Access::Read) {
        set(libc::MOUNT_ATTR_RDONLY, 0)?;
    }
    Ok(root)
}

pub(super) fn can_not_map(e: std::io::Error) -> Error {
    let error = Error::from(e);
    error.with_hint(
        "this kernel, or their filesystem, can't show files to a container as others' (idmapped mounts, Linux 5.19 for \
         layers): a container that is made now gets copies of its layers; a directory (--rootfs) can't be used with --userns",
    )
}

/// The stack with every directory of it seen through the container's user namespace: what root owns on disk is owned by
/// the container's root, and so is what that makes. On a thread that has a mount namespace of its own, where each
/// directory is covered by its mapped view, and that acts as the container's root, since the kernel makes whiteouts
/// and work files as whoever mounted (ovl_setup_cred in fs/overlayfs).
pub(super) fn mapped(overlay: &Overlay, own: &Path, users: BorrowedFd<'_>, ids: &IdMap) -> Result<OwnedFd> {
    let (user, group) = ids.root()?;
    let inside = || -> Result<OwnedFd> {
        nix::sched::unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
        sys::mount::make_all_private()?;
        let top = overlay.read_only.then_some(&overlay.upper);
        for dir in overlay.lowers.iter().chain(top).map(PathBuf::as_path).chain([own]) {
            let said = || format!("map the owners of {}", dir.display());
            let view = sys::mount::clone_tree(CWD, dir, false).with_context(said)?;
            sys::mount::map_owners(view.as_fd(), users, false)
                .map_err(can_not_map)
                .with_context(said)?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let place = rustix::fs::open(dir, flags, Mode::empty())?;
            sys::mount::attach(view.as_fd(), place.as_fd()).with_context(said)?;
        }
        sys::users::act_as(user, group)?;
        overlay::mount(overlay)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, inside)?;
        thread.join().map_err(|_| Error::other("a thread panicked"))?
    })
}

fn stack(store: &Store, config: &ContainerConfig, access: Access<'_>, driver: Driver) -> Result<Overlay> {
    let dir = store.container_dir(&config.id);
    let read_only = matches!(access, Access::Read);
    let mut lowers = match read_only {
        false => vec![store.mount_points()?],
        true => Vec::new(),
    };
    let (mut upper, mut work) = (dir.join("upper"), dir.join("work"));
    if let Some(step) = &config.build {
        lowers.extend(step.places.clone());
        upper.clone_from(&step.upper);
        if driver != Driver::Overlay {
            // The build takes from it what the step has changed, when the container is gone.
            work = upper.with_file_name("work");
            std::fs::create_dir(&work).with_context(|| format!("make {}", work.display()))?;
        }
    }
    lowers.extend(store.lower_dirs(config));
    lowers.extend(config.build.iter().flat_map(|step| step.above.iter().cloned()));
    if lowers.is_empty() {
        lowers.push(store.mount_points()?);
    }
    if let Some(ids) = config.namespaces.on_disk() {
        lowers = chowned::copies(store, &lowers, ids)?;
    }
    Ok(Overlay {
        lowers,
        upper,
        work,
        volatile: config.auto_remove && !read_only,
        read_only,
    })
}

/// mount(2), where fsopen(2) is refused or knows no overlay: in a mount namespace of this process's own, so that the
/// host never sees it, and from there cloned into a mount that is attached nowhere.
fn by_old_call(overlay: &Overlay, place: &Path) -> Result<OwnedFd> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
    sys::mount::make_all_private()?;
    overlay::mount_at(overlay, place)?;
    let root = sys::mount::clone_tree(CWD, place, false)?;
    rustix::mount::unmount(place, rustix::mount::UnmountFlags::DETACH)?;
    Ok(root)
}

/// The file system of a container that does not run, with its volumes where it will see them. Nobody else sees the
/// mounts, and they go with the value.
pub(crate) struct Assembled {
    pub(crate) root: OwnedFd,
    /// As long as this is open, the mounts are.
    _namespace: OwnedFd,
}

/// Mounts the root and its volumes. `None` if a volume has no place in the root, which [`Access::Read`] can't make.
pub(crate) fn assemble(store: &Store, config: &ContainerConfig, access: Access<'_>) -> Result<Option<Assembled>> {
    let is_mounted = sys::mount::is_mounted(&store.container_mount(&config.id));
    let ids = config.namespaces.on_disk();
    if is_mounted && config.namespaces.user.is_some() && ids.is_none() && !matches!(access, Access::Read) {
        let error = Error::conflict(format!("container {} is mounted", config.name));
        return Err(
            error.with_hint("`unmount` it first: its files are seen there in the numbers of its user namespace")
        );
    }
    let root = mount(store, config, access)?;
    let users = ids.map(user_namespace).transpose()?;
    let users = ids.zip(users.as_ref().map(|users| users.as_fd()));
    let place = store.container_dir(&config.id);
    // On a thread, that this process stays where it is.
    let inside = || -> Result<Option<Assembled>> {
        nix::sched::unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
        sys::mount::make_all_private()?;
        let namespace = File::open("/proc/thread-self/ns/mnt")?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let place = rustix::fs::open(&place, flags, Mode::empty())?;
        sys::mount::attach(root.as_fd(), place.as_fd())?;
        let into = volumes::Into {
            root: root.as_fd(),
            users,
            user: None,
        };
        if !attach_volumes(store, config, into, access)? {
            return Ok(None);
        }
        if config.security.read_only {
            let read_only = sys::mount::Attributes {
                set: libc::MOUNT_ATTR_RDONLY,
                ..Default::default()
            };
            sys::mount::set_attributes(root.as_fd(), read_only)?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Some(Assembled {
            root: openat(&root, c".", flags, Mode::empty())?,
            _namespace: namespace.into(),
        }))
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, inside)?;
        let assembled = thread.join().map_err(|_| Error::other("a thread panicked"))?;
        assembled.context("mount the container's file system")
    })
}

/// Whether all of them have a place. What is in memory has nothing in it before a start.
fn attach_volumes(
    store: &Store,
    config: &ContainerConfig,
    into: volumes::Into<'_>,
    access: Access<'_>,
) -> Result<bool> {
    let (root, ids) = (into.root, into.users.map(|(ids, _)| ids));
    let sources = volumes::sources(store, config, into)?;
    if let Some(ids) = ids {
        // Whose the places will be that are made.
        let (user, group) = ids.root()?;
        sys::users::act_as(user, group)?;
    }
    for (mount, source) in config.mounts.iter().zip(&sources.of_mounts) {
        if source.is_none() {
            continue;
        }
        let (what, node) = plan::of_volume(mount, source.as_ref(), ids)?;
        let place = match access {
            Access::Write | Access::Run(_) => rootfs::open_or_make(root, &mount.target, node, Links::Follow),
            Access::Read => match rootfs::open(root, &mount.target, Links::Follow) {
                Err(Errno::NOENT) => return Ok(false),
                opened => opened.map_err(Error::from),
            },
        };
        let said = || format!("mount on {}", mount.target.display());
        let place = place.with_context(said)?;
        let attachment = Attachment {
            what,
            read_only: mount.read_only,
            propagation: Propagation::Rprivate,
            map_owners: ids.is_some() && source.as_ref().is_some_and(|source| source.mapped),
        };
        let needs = prepare::Needs {
            users: into.users,
            ..prepare::Needs::default()
        };
        for volume in prepare::open_mounts(&[attachment], needs)?.0 {
            sys::mount::attach(volume.as_fd(), place.as_fd()).with_context(said)?;
        }
    }
    Ok(true)
}
