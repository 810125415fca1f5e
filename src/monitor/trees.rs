//! Images that are mounted in a container, and layers of a build's other stages and of contexts in a step's: each a stack
//! of its own, which is mounted here and nowhere else, so that a link in it leads nowhere but into it.

use crate::error::{Context as _, Error, Result};
use crate::layer::driver;
use crate::layer::overlay::Overlay;
use crate::model::bytes::ByteString;
use crate::model::container::{ContainerConfig, TreeMount};
use crate::model::driver::Driver;
use crate::model::idmap::IdMap;
use crate::model::mount::Source;
use crate::monitor::{chowned, root};
use crate::runtime::plan;
use crate::runtime::rootfs::{self, Links};
use crate::store::Store;
use crate::sys;
use nix::sched::CloneFlags;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The mounts, shorter targets first. `users`: of the container.
pub(super) fn open(
    store: &Store,
    config: &ContainerConfig,
    users: Option<BorrowedFd<'_>>,
) -> Result<Vec<(plan::Tree, OwnedFd)>> {
    let mut trees = images(store, config)?;
    trees.extend(config.build.iter().flat_map(|step| step.trees.iter().cloned()));
    trees.sort_by_key(|tree| tree.target.components().count());
    let place = Place {
        how: store.driver()?.unwrap_or(Driver::Overlay),
        dir: store.run_dir(&config.id),
        // Files that have the host's numbers on disk need no view.
        users: users
            .zip(config.namespaces.user.as_ref())
            .filter(|_| !config.namespaces.chowned),
    };
    let one = |tree: &TreeMount| {
        let (mount, directory) = mount(&place, tree).with_context(|| format!("mount on {}", tree.target.display()))?;
        let known = plan::Tree {
            target: tree.target.clone(),
            directory,
            read_only: !tree.writable,
        };
        Ok((known, mount))
    };
    trees.iter().map(one).collect()
}

/// The images that are mounted in it, each with an empty place for what is written to it.
fn images(store: &Store, config: &ContainerConfig) -> Result<Vec<TreeMount>> {
    let mut trees = Vec::new();
    for mount in &config.mounts {
        let Source::Image { image, subpath } = &mount.source else {
            continue;
        };
        let mut lowers: Vec<_> = image.layers.iter().map(|layer| store.layer_dir(layer)).collect();
        let scratch = store.image_scratch(&config.id, trees.len())?;
        if let Some(ids) = config.namespaces.on_disk() {
            lowers = chowned::copies(store, &lowers, ids)?;
            let (user, group) = ids.root()?;
            std::os::unix::fs::lchown(scratch.join("upper"), Some(user), Some(group))?;
        }
        trees.push(TreeMount {
            target: mount.target.clone(),
            lowers: match lowers.is_empty() {
                true => vec![scratch.join("nothing")],
                false => lowers,
            },
            subpath: subpath.clone().unwrap_or_default(),
            scratch,
            writable: !mount.read_only,
        });
    }
    Ok(trees)
}

/// Where and how trees are mounted.
struct Place<'a> {
    how: Driver,
    /// A directory to attach a mount on, where nobody sees it.
    dir: PathBuf,
    users: Option<(BorrowedFd<'a>, &'a IdMap)>,
}

/// In the run directory of a step's container: variables that are in no record, each ended by a NUL.
pub(crate) const SECRET_VARIABLES: &str = "secret-variables";

pub(super) fn secret_variables(store: &Store, config: &ContainerConfig) -> Result<Vec<ByteString>> {
    match std::fs::read(store.run_dir(&config.id).join(SECRET_VARIABLES)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        text => {
            let text = text.context("read secret variables")?;
            let variables = text.split(|b| *b == 0).filter(|v| !v.is_empty());
            Ok(variables.map(|v| v.to_vec().into()).collect())
        }
    }
}

/// The mount, and whether it is a directory.
fn mount(place: &Place<'_>, tree: &TreeMount) -> Result<(OwnedFd, bool)> {
    // The kernel takes no stack of one that is read-only.
    let lowers = std::iter::once(tree.scratch.join("empty")).chain(tree.lowers.iter().cloned());
    let mut lowers: Vec<PathBuf> = lowers.collect();
    let upper = match tree.writable {
        true => tree.scratch.join("upper"),
        false => lowers.pop().ok_or_else(|| Error::other("no layers"))?,
    };
    let stack = Overlay {
        lowers,
        upper,
        work: tree.scratch.join("work"),
        volatile: true,
        read_only: !tree.writable,
    };
    let root = match place.users {
        Some((users, ids)) if place.how == Driver::Overlay => root::mapped(&stack, &tree.scratch, users, ids)?,
        users => {
            let root = driver::mount(place.how, &stack)?;
            if let Some((users, _)) = users {
                sys::mount::map_owners(root.as_fd(), users, false).map_err(root::can_not_map)?;
            }
            root
        }
    };
    if tree
        .subpath
        .components()
        .all(|c| !matches!(c, std::path::Component::Normal(_)))
    {
        return Ok((root, true));
    }
    let inside =
        rootfs::open(root.as_fd(), &tree.subpath, Links::Follow).with_context(|| tree.subpath.display().to_string())?;
    let directory = rootfs::is_directory(inside.as_fd());
    drop(inside);
    Ok((part(&root, &tree.subpath, &place.dir)?, directory))
}

/// A part of a mount that is attached nowhere. Before Linux 6.15 such a mount can't be cloned (`check_mnt`), so it is
/// attached for that, in a mount namespace that ends with the thread.
fn part(root: &OwnedFd, subpath: &Path, place: &Path) -> Result<OwnedFd> {
    let inside = || -> Result<OwnedFd> {
        nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
        sys::mount::make_all_private()?;
        let place = rustix::fs::open(
            place,
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?;
        sys::mount::attach(root.as_fd(), place.as_fd())?;
        let part = rootfs::open(root.as_fd(), subpath, Links::Follow)?;
        Ok(sys::mount::clone_tree(part.as_fd(), Path::new(""), false)?)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, inside)?;
        thread.join().map_err(|_| Error::other("a thread panicked"))?
    })
    .context("clone a part of the tree")
}
