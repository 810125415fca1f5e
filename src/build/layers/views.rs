//! A build's trees as mounts: for reading, and for a step that writes; and what such a step has changed, in the directory
//! that is packed. The mounts go with the descriptors that hold them, the staged directories below them by a sweep.

use super::{Layers, Top, WORK};
use crate::error::{Context, Result};
use crate::layer::driver;
use crate::layer::overlay::Overlay;
use crate::model::driver::Driver;
use crate::store::StagedLayer;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

impl Layers<'_> {
    /// An empty directory.
    pub(crate) fn empty(&self) -> Result<PathBuf> {
        Ok(self.scratch()?.join("empty"))
    }

    pub(super) fn scratch(&self) -> Result<&Path> {
        if let Some(scratch) = self.scratch.get() {
            return Ok(scratch.path());
        }
        let scratch = self.store.stage_scratch()?;
        Ok(self.scratch.get_or_init(|| scratch).path())
    }

    /// A tree for reading, mounted nowhere else.
    pub(crate) fn view(&mut self, top: Top) -> Result<Rc<View>> {
        if let Some(view) = self.views.get(&top) {
            return Ok(Rc::clone(view));
        }
        self.bring(top)?;
        let view = Rc::new(self.look(top)?);
        self.views.insert(top, Rc::clone(&view));
        Ok(view)
    }

    /// The same for the caller alone. All of it must be here.
    pub(crate) fn look(&self, top: Top) -> Result<View> {
        let mut lowers = vec![self.empty()?];
        lowers.extend(self.dirs(top));
        let upper = match lowers.len() {
            1 => self.scratch()?.join("nothing"),
            _ => lowers.pop().unwrap_or_default(),
        };
        // A process beside the build has views of its own.
        let name = format!("view-{}-{}", std::process::id(), self.views.len());
        let work = self.scratch()?.join(name);
        make(&work)?;
        let stack = Overlay {
            lowers,
            upper,
            work,
            volatile: true,
            read_only: true,
        };
        View::of(driver::mount(self.driver, &stack)?)
    }

    /// Whether what is written into the upper directory itself is seen in the tree.
    pub(crate) fn upper_is_seen(&self) -> bool {
        matches!(self.driver, Driver::Overlay)
    }

    /// A tree whose changes go into the staged layer.
    pub(crate) fn writable(&self, top: Top, staged: &StagedLayer) -> Result<View> {
        let stack = self.stack_on(staged, self.dirs(top))?;
        make(&stack.work)?;
        View::of(driver::mount(self.driver, &stack)?)
    }

    pub(super) fn stack_on(&self, staged: &StagedLayer, above: Vec<PathBuf>) -> Result<Overlay> {
        Ok(Overlay {
            lowers: std::iter::once(self.empty()?).chain(above).collect(),
            upper: staged.place().join("diff"),
            work: staged.place().join(WORK),
            volatile: true,
            read_only: false,
        })
    }

    /// What a step has changed of `top`, in the directory that is packed. Below the layers it had `places`.
    pub(crate) fn settle_step(&self, top: Top, staged: &StagedLayer, places: Option<PathBuf>) -> Result<()> {
        let mut stack = self.stack_on(staged, self.dirs(top))?;
        stack.lowers[0] = self.store.mount_points()?;
        stack.lowers.splice(1..1, places);
        self.settle(&stack)
    }

    /// Nothing, where no stack was mounted or it was settled.
    pub(super) fn settle(&self, stack: &Overlay) -> Result<()> {
        if !stack.work.exists() {
            return Ok(());
        }
        driver::settle(self.driver, stack).context("collect what was changed")?;
        // What overlayfs has in there is its own.
        match self.driver {
            Driver::Overlay => Ok(()),
            _ => Ok(std::fs::remove_dir_all(&stack.work)?),
        }
    }
}

/// A mounted tree, by its root.
///
/// What fsmount(2) gives is a place only, and can't be read; and once it is closed, every look-up in the mount counts as
/// a change of mounts, so that the kernel gives up on each `..` (openat2(2), EAGAIN). So both are held.
#[derive(Debug)]
pub(crate) struct View {
    root: OwnedFd,
    mount: OwnedFd,
}

impl View {
    fn of(mount: OwnedFd) -> Result<View> {
        use rustix::fs::{Mode, OFlags, openat};
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(&mount, c".", flags, Mode::empty()).context("open a tree")?;
        Ok(View { root, mount })
    }

    /// Both, for a process that is to see the tree too.
    pub(crate) fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.root.as_fd(), self.mount.as_fd()]
    }
}

impl AsFd for View {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

fn make(dir: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().create(dir);
    made.with_context(|| format!("make {}", dir.display()))
}
