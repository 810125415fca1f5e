//! The storage drivers: which one a root has, and a stack of layers as it makes it. Which one: what is recorded there,
//! else what was asked for, else the first that works.
//!
//! A stack is mounted, used, and settled: after that its upper directory has what was changed, in the form that all
//! layers have, overlayfs' own. With copies, the files are in `work/` of the stack in between; whoever is killed leaves
//! them there, in a directory of the store's that the next command sweeps.

use crate::error::{Context as _, Error, Result};
use crate::layer::copy::{self, Files};
use crate::layer::overlay::{self, Overlay};
use crate::layer::{aufs, difference};
use crate::model::driver::Driver;
use crate::sys;
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

/// In `work/`: the copy of the stack, and when it was complete.
const TREE: &str = "tree";
const COMPLETE: &str = "complete";

/// Mounts the stack, attached nowhere. It needs `work`, a directory of its own, also where nothing is written.
pub(crate) fn mount(driver: Driver, stack: &Overlay) -> Result<OwnedFd> {
    match driver {
        Driver::Overlay => overlay::mount(stack),
        Driver::Aufs => aufs::mount(stack),
        Driver::Copy => copied(stack).context("copy the layers"),
    }
}

fn copied(stack: &Overlay) -> Result<OwnedFd> {
    let tree = stack.work.join(TREE);
    if !stack.work.join(COMPLETE).exists() {
        let mut layers = stack.lowers.clone();
        let files = match stack.read_only {
            true => {
                layers.push(stack.upper.clone());
                Files::Linked
            }
            false => Files::Copied,
        };
        match std::fs::remove_dir_all(&tree) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
            _ => std::fs::create_dir(&tree)?,
        }
        let into = openat(CWD, &tree, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        copy::stack(&layers, into.as_fd(), (files, None))?;
        difference::write_moment(&stack.work.join(COMPLETE))?;
    }
    let root = sys::mount::clone_tree(CWD, &tree, false)?;
    let attributes = sys::mount::Attributes {
        set: if stack.read_only { libc::MOUNT_ATTR_RDONLY } else { 0 },
        propagation: libc::MS_PRIVATE,
        recursive: false,
    };
    sys::mount::set_attributes(root.as_fd(), attributes)?;
    Ok(root)
}

/// Brings what was changed in a writable stack, which is mounted no more, into its upper directory.
pub(crate) fn settle(driver: Driver, stack: &Overlay) -> Result<()> {
    let changed = match driver {
        Driver::Overlay => return Ok(()),
        Driver::Copy => stack.work.join(TREE),
        Driver::Aufs => stack.work.join("branch"),
    };
    let open = || -> Result<OwnedFd> {
        Ok(openat(
            CWD,
            &stack.upper,
            OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?)
    };
    match driver {
        Driver::Copy => {
            let since = difference::read_moment(&stack.work.join(COMPLETE));
            difference::of_copy(&changed, &stack.lowers, since, open()?.as_fd())?;
            std::fs::remove_file(stack.work.join(COMPLETE))?;
        }
        _ => {
            // What AUFS has written to is the upper directory itself.
            rustix::fs::rename(&stack.upper, &changed)?;
            std::fs::create_dir(&stack.upper)?;
            difference::of_branch(&changed, &stack.lowers, open()?.as_fd())?;
        }
    }
    Ok(std::fs::remove_dir_all(changed)?)
}

/// What is known of a root before it has a driver.
#[derive(Debug)]
pub(crate) struct Facts {
    /// `--storage-driver`, or the setting of that name.
    pub(crate) asked: Option<Driver>,
    /// What the root's containers are made with.
    pub(crate) recorded: Option<Driver>,
    /// Why overlayfs does not work on the root's filesystem.
    pub(crate) no_overlay: Option<String>,
    pub(crate) has_aufs: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) driver: Driver,
    /// One line for the person.
    pub(crate) warning: Option<String>,
}

pub(crate) fn choose(facts: &Facts) -> Result<Choice> {
    let silent = |driver| Choice { driver, warning: None };
    match (facts.recorded, facts.asked, &facts.no_overlay) {
        (Some(recorded), Some(asked), _) if recorded != asked => Err(Error::conflict(format!(
            "--storage-driver {}: the containers of this root are made with {}",
            asked.name(),
            recorded.name()
        ))
        .with_hint("a root keeps its driver: leave the flag out, or take another root (--root)")),
        (Some(recorded), _, _) => Ok(silent(recorded)),
        (None, Some(Driver::Overlay), Some(why)) => Err(Error::other(format!("--storage-driver overlay: {why}"))
            .with_hint("put the engine's root on ext4, xfs, btrfs or tmpfs (--root), or take --storage-driver copy")),
        (None, Some(Driver::Aufs), _) if !facts.has_aufs => Err(Error::other(
            "--storage-driver aufs: this kernel has no AUFS (/proc/filesystems)",
        )
        .with_hint("`overlay` works on ext4, xfs, btrfs and tmpfs, `copy` everywhere")),
        (None, Some(asked), _) => Ok(silent(asked)),
        (None, None, None) => Ok(silent(Driver::Overlay)),
        (None, None, Some(_)) if facts.has_aufs => Ok(silent(Driver::Aufs)),
        (None, None, Some(why)) => Ok(Choice {
            driver: Driver::Copy,
            warning: Some(format!(
                "WARNING: {why}: every container gets a full copy of its image (storage driver copy); a root on ext4, \
                 xfs, btrfs or tmpfs has none of that (--root)"
            )),
        }),
    }
}

/// Whether this kernel has AUFS, by what it says itself.
pub(crate) fn has_aufs() -> bool {
    std::fs::read_to_string("/proc/filesystems").is_ok_and(|list| aufs::is_known(&list))
}

/// Why an overlay can't be mounted in `scratch`, a directory of the root that is empty and goes away afterwards; `None`
/// if it can, or if something else than kernel and filesystem is in the way.
pub(crate) fn overlay_refused(scratch: &Path) -> Result<Option<String>> {
    let make = |name: &str| {
        let path = scratch.join(name);
        std::fs::DirBuilder::new()
            .create(&path)
            .with_context(|| format!("make {}", path.display()))
            .map(|()| path)
    };
    let stack = Overlay {
        lowers: vec![make("lower")?],
        upper: make("upper")?,
        work: make("work")?,
        volatile: false,
        read_only: false,
    };
    Ok(overlay::refused(&stack))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_keeps_what_it_has() {
        use Driver::{Aufs, Copy, Overlay};
        let refused = "this kernel has no overlayfs";
        // Asked for, recorded, whether overlayfs works, whether there is AUFS.
        for (asked, recorded, works, has_aufs, expected) in [
            (None, None, true, false, Ok(Overlay)),
            (None, None, true, true, Ok(Overlay)),
            (None, None, false, false, Ok(Copy)),
            (None, None, false, true, Ok(Aufs)),
            (Some(Overlay), None, true, false, Ok(Overlay)),
            (Some(Aufs), None, true, true, Ok(Aufs)),
            (Some(Aufs), None, true, false, Err("no AUFS")),
            (Some(Copy), None, true, false, Ok(Copy)),
            (Some(Copy), None, false, true, Ok(Copy)),
            (Some(Overlay), None, false, false, Err(refused)),
            (Some(Overlay), None, false, true, Err(refused)),
            (None, Some(Overlay), false, true, Ok(Overlay)),
            (None, Some(Aufs), true, true, Ok(Aufs)),
            (None, Some(Copy), true, true, Ok(Copy)),
            (Some(Copy), Some(Copy), true, false, Ok(Copy)),
            (Some(Overlay), Some(Copy), true, false, Err("made with copy")),
            (Some(Aufs), Some(Copy), true, true, Err("made with copy")),
            (Some(Copy), Some(Overlay), true, false, Err("made with overlay")),
        ] {
            let said = format!("{asked:?} {recorded:?} {works} {has_aufs}");
            let facts = Facts {
                asked,
                recorded,
                no_overlay: (!works).then(|| refused.to_owned()),
                has_aufs,
            };
            match (choose(&facts), expected) {
                (Ok(choice), Ok(driver)) => {
                    assert_eq!(choice.driver, driver, "{said}");
                    let falls_back = asked.is_none() && recorded.is_none() && driver == Copy;
                    assert_eq!(choice.warning.is_some(), falls_back, "{said}");
                }
                (Err(e), Err(text)) => {
                    assert!(e.to_string().contains(text), "{said}: {e}");
                    assert!(e.hint().is_some(), "{said}");
                }
                (other, _) => panic!("{said}: {other:?}"),
            }
        }
    }
}
