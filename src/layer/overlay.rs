//! Layers stacked by overlayfs: lowers below one upper, as a mount that is attached nowhere yet.
//!
//! The kernel takes a stack in three ways, tried in this order:
//!
//! 1. `lowerdir+` appends one directory at a time (6.7 and newer): any number up to the kernel's 500.
//! 2. One `lowerdir=` string by fsconfig: 255 bytes.
//! 3. mount(2), whose options fit one page: on a thread with a working directory of its own in `/proc/thread-self/fd`,
//!    where a layer's name is the number of its descriptor, so that 500 of them fit too.
//!
//! Options are docker's: `redirect_dir=nofollow` and `metacopy=off` keep an upper readable as a plain difference (a
//! renamed directory is copied, a file has its content where its name is) and keep xattrs of a hostile image from
//! pointing elsewhere; `index=off` lets an upper move to other lowers. All are known to kernel 5.10.
//!
//! A volatile mount never syncs its upper, and leaves `work/incompat` in its work directory for good: the kernel
//! refuses to mount such an upper again, as a crash may have damaged it. So it is for containers whose content nobody
//! keeps (`--rm`, build steps); when one of them is started again, the mark is taken away.

use crate::error::{Context, Error, Result};
use nix::sched::CloneFlags;
use rustix::fs::{CWD, Mode, OFlags, statfs};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change, open_tree,
};
use rustix::process::chdir;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The kernel's `OVL_MAX_STACK`.
const MOST_LOWERS: usize = 500;
/// fsconfig(2) takes strings of 256 bytes, the closing NUL included.
const LONGEST_VALUE: usize = 255;
const OPTIONS: [(&str, &str); 3] = [("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off")];
const VOLATILE_MARK: &str = "work/incompat";
const OVERLAYFS_MAGIC: i64 = 0x794c_7630;

/// What to stack.
#[derive(Debug, Clone)]
pub(crate) struct Overlay {
    /// Unpacked layers, base first; at least one (an image without layers gets an empty directory).
    pub(crate) lowers: Vec<PathBuf>,
    pub(crate) upper: PathBuf,
    /// An empty directory beside `upper`, for the kernel's use.
    pub(crate) work: PathBuf,
    /// Never sync the upper: see above.
    pub(crate) volatile: bool,
    /// A view that writes nothing, not even to `work`: `upper` becomes the topmost lower, so that any number of views
    /// can stand beside each other. A container with a read-only root needs its mount points made first: it is
    /// mounted writable, and made read-only last.
    pub(crate) read_only: bool,
}

/// The ways of giving the stack to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Append,
    String,
    MountCall,
}

/// Mounts the stack, attached nowhere; move_mount(2) puts it in its place, and dropping the descriptor undoes it.
pub(crate) fn mount(overlay: &Overlay) -> Result<OwnedFd> {
    check(overlay)?;
    let once = || choose(stack(overlay).0.len()).and_then(|way| detached(overlay, way));
    forgiving(overlay, once)
        .map_err(|e| explain(overlay, e))
        .context("mount overlay")
}

/// Why this kernel, or the filesystem of `overlay`, can't stack anything; `None` if the mount works
/// or fails for any other reason.
pub(crate) fn refused(overlay: &Overlay) -> Option<String> {
    match choose(stack(overlay).0.len()).and_then(|way| detached(overlay, way)) {
        Err(errno @ (Errno::NODEV | Errno::INVAL | Errno::OPNOTSUPP)) => Some(explain(overlay, errno).to_string()),
        _ => None,
    }
}

/// Mounts the stack on `target`, by mount(2): for a sandbox that forbids the newer calls.
pub(crate) fn mount_at(overlay: &Overlay, target: &Path) -> Result<()> {
    check(overlay)?;
    forgiving(overlay, || on_thread(|| by_mount_call(overlay, target)))
        .map_err(|e| explain(overlay, e))
        .with_context(|| format!("mount overlay on {}", target.display()))
}

/// The stack as the kernel wants it: topmost lower first, and the upper if it is one.
fn stack(overlay: &Overlay) -> (Vec<&Path>, Option<(&Path, &Path)>) {
    let lowers = overlay.lowers.iter().rev().map(PathBuf::as_path);
    if overlay.read_only {
        (std::iter::once(overlay.upper.as_path()).chain(lowers).collect(), None)
    } else {
        (lowers.collect(), Some((&overlay.upper, &overlay.work)))
    }
}

fn check(overlay: &Overlay) -> Result<()> {
    let count = stack(overlay).0.len();
    if overlay.lowers.is_empty() {
        return Err(Error::other("mount overlay: no layers"));
    }
    if count > MOST_LOWERS {
        return Err(
            Error::other(format!("mount overlay: too many layers ({count}, limit {MOST_LOWERS})"))
                .with_hint("flatten the image with `barge export` and `barge import`"),
        );
    }
    Ok(())
}

/// Tries `mount` again without the mark that an earlier volatile mount left, if this one is volatile too.
fn forgiving<T>(overlay: &Overlay, mount: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
    match mount() {
        Err(Errno::INVAL) if overlay.volatile && std::fs::remove_dir_all(overlay.work.join(VOLATILE_MARK)).is_ok() => {
            mount()
        }
        result => result,
    }
}

/// What this kernel offers for `lowers` directories.
fn choose(lowers: usize) -> Result<Way, Errno> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // Before 6.5 a context swallows any option until the mount is made; since then a known option without its value is
    // refused at once, as an unknown one is.
    let checks_options = fsconfig_set_flag(&context, "lowerdir+").is_err();
    if checks_options && fsconfig_set_string(&context, "lowerdir+", "/").is_ok() {
        Ok(Way::Append)
    } else if lowers * "/proc/self/fd/999:".len() <= LONGEST_VALUE {
        Ok(Way::String)
    } else {
        Ok(Way::MountCall)
    }
}

fn detached(overlay: &Overlay, way: Way) -> Result<OwnedFd, Errno> {
    if way == Way::MountCall {
        // In a mount namespace that ends with the thread; the clone of the mount stays.
        return on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
            by_mount_call(overlay, &overlay.upper)?;
            open_tree(
                CWD,
                &overlay.upper,
                OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
            )
        });
    }
    let (lowers, upper) = stack(overlay);
    let mut names = Names::default();
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    if way == Way::Append {
        for lower in lowers {
            fsconfig_set_string(&context, "lowerdir+", names.of(lower)?)?;
        }
    } else {
        let lowers = lowers
            .into_iter()
            .map(|l| names.by_fd(l))
            .collect::<Result<Vec<_>, _>>()?;
        fsconfig_set_string(&context, "lowerdir", lowers.join(&b':'))?;
    }
    if let Some((upper, work)) = upper {
        fsconfig_set_string(&context, "upperdir", names.of(upper)?)?;
        fsconfig_set_string(&context, "workdir", names.of(work)?)?;
    } else {
        fsconfig_set_flag(&context, "ro")?;
    }
    for (key, value) in OPTIONS {
        fsconfig_set_string(&context, key, value)?;
    }
    if overlay.volatile && !overlay.read_only {
        fsconfig_set_flag(&context, "volatile")?;
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// Paths as option values. A path that is too long or has a character with a meaning there goes by the name of its
/// descriptor.
#[derive(Default)]
struct Names(Vec<OwnedFd>);

impl Names {
    fn of(&mut self, path: &Path) -> Result<Vec<u8>, Errno> {
        let bytes = path.as_os_str().as_bytes();
        let plain = bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(b));
        if plain && bytes.len() <= LONGEST_VALUE {
            Ok(bytes.to_vec())
        } else {
            self.by_fd(path)
        }
    }

    fn by_fd(&mut self, path: &Path) -> Result<Vec<u8>, Errno> {
        Ok(format!("/proc/self/fd/{}", self.number(path)?).into_bytes())
    }

    fn number(&mut self, path: &Path) -> Result<i32, Errno> {
        let fd = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let number = fd.as_raw_fd();
        self.0.push(fd);
        Ok(number)
    }
}

/// Runs `f` on a thread that has ended when this returns: what `f` unshares is gone then.
pub(super) fn on_thread<T: Send>(f: impl FnOnce() -> Result<T, Errno> + Send) -> Result<T, Errno> {
    std::thread::scope(|s| {
        let thread = std::thread::Builder::new()
            .spawn_scoped(s, f)
            .map_err(|_| Errno::AGAIN)?;
        thread.join().unwrap_or(Err(Errno::FAULT))
    })
}

/// mount(2) with short relative names; changes the working directory of the calling thread, and so of no other.
fn by_mount_call(overlay: &Overlay, target: &Path) -> Result<(), Errno> {
    let (lowers, upper) = stack(overlay);
    let mut names = Names::default();
    let mut data = Vec::new();
    for lower in lowers {
        data.extend_from_slice(if data.is_empty() { b"lowerdir=" } else { b":" });
        data.extend_from_slice(names.number(lower)?.to_string().as_bytes());
    }
    if let Some((upper, work)) = upper {
        data.extend_from_slice(format!(",upperdir={}", names.number(upper)?).as_bytes());
        data.extend_from_slice(format!(",workdir={}", names.number(work)?).as_bytes());
    }
    for (key, value) in OPTIONS {
        data.extend_from_slice(format!(",{key}={value}").as_bytes());
    }
    let mut flags = MountFlags::empty();
    if overlay.read_only {
        flags |= MountFlags::RDONLY;
    } else if overlay.volatile {
        data.extend_from_slice(b",volatile");
    }
    let target = names.number(target)?.to_string();
    let data = CString::new(data).map_err(|_| Errno::INVAL)?;
    unshare(CloneFlags::CLONE_FS)?;
    chdir("/proc/thread-self/fd")?;
    rustix::mount::mount("overlay", target, "overlay", flags, data.as_c_str())
}

pub(super) fn unshare(what: CloneFlags) -> Result<(), Errno> {
    nix::sched::unshare(what).map_err(|e| Errno::from_raw_os_error(e as i32))
}

/// The kernel's errno in words, as far as overlayfs gives it a meaning of its own.
fn explain(overlay: &Overlay, errno: Errno) -> Error {
    let (lowers, upper) = stack(overlay);
    let mut directories = lowers
        .into_iter()
        .chain(upper.map(|(u, _)| u))
        .chain(upper.map(|(_, w)| w));
    let on_overlay = |path: &Path| statfs(path).is_ok_and(|s| s.f_type == OVERLAYFS_MAGIC);
    match errno {
        Errno::NODEV => Error::other("this kernel has no overlayfs").with_hint("try `modprobe overlay`"),
        Errno::NOENT | Errno::NOTDIR => match directories.find(|d| !d.is_dir()) {
            Some(missing) => Error::other(format!("{}: no such directory", missing.display())),
            None => errno.into(),
        },
        Errno::LOOP => Error::other("two directories of the stack are the same, or one is inside another"),
        Errno::BUSY => Error::other(format!("{} is in use by another mount", overlay.upper.display())),
        Errno::NOSPC => Error::from(errno).with_hint("the disk is full, or fs.mount-max is reached"),
        Errno::INVAL | Errno::OPNOTSUPP if upper.is_some_and(|(u, _)| on_overlay(u)) => Error::other(format!(
            "upper filesystem not supported: {} is on an overlay itself",
            overlay.upper.display()
        ))
        .with_hint("put the engine's root on ext4, xfs, btrfs or tmpfs (--root)"),
        Errno::INVAL if upper.is_some_and(|(_, w)| w.join(VOLATILE_MARK).exists()) => Error::other(format!(
            "{} was mounted volatile before: its content may be damaged",
            overlay.upper.display()
        )),
        _ => errno.into(),
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // test files need no staging
mod tests {
    use super::*;
    use rustix::fs::openat;
    use std::fs;

    /// A directory of its own that is gone with the value.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = PathBuf::from(format!("/tmp/layer/overlay-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Scratch(path)
        }

        /// `count` layers of one file each, which also all write `last`.
        fn stack(&self, count: usize) -> Overlay {
            let lowers = (0..count)
                .map(|i| {
                    let dir = self.0.join(format!("{i}"));
                    fs::create_dir(&dir).unwrap();
                    fs::write(dir.join(format!("file{i}")), "").unwrap();
                    fs::write(dir.join("last"), format!("{i}")).unwrap();
                    dir
                })
                .collect();
            let (upper, work) = (self.0.join("upper"), self.0.join("work"));
            fs::create_dir(&upper).unwrap();
            fs::create_dir(&work).unwrap();
            Overlay {
                lowers,
                upper,
                work,
                volatile: false,
                read_only: false,
            }
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn read(mount: &OwnedFd, name: &str) -> std::io::Result<String> {
        let file = openat(mount, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        std::io::read_to_string(fs::File::from(file))
    }

    fn write(mount: &OwnedFd, name: &str) -> Result<(), Errno> {
        openat(
            mount,
            name,
            OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC,
            Mode::from(0o644),
        )
        .map(drop)
    }

    #[test]
    fn every_way_takes_deep_stacks() {
        for (way, count) in [
            (Way::Append, 1),
            (Way::Append, 200),
            (Way::Append, 500),
            (Way::String, 1),
            (Way::String, 14),
            (Way::MountCall, 1),
            (Way::MountCall, 200),
            (Way::MountCall, 500),
        ] {
            if way == Way::Append && choose(1).unwrap() != way {
                continue;
            }
            let scratch = Scratch::new(&format!("{way:?}{count}"));
            let overlay = scratch.stack(count);
            let mount = detached(&overlay, way).unwrap_or_else(|e| panic!("{way:?} {count}: {e}"));
            assert_eq!(
                read(&mount, "last").unwrap(),
                (count - 1).to_string(),
                "{way:?} {count}"
            );
            read(&mount, "file0").unwrap();
            write(&mount, "new").unwrap();
            assert!(overlay.upper.join("new").exists());
        }
        // And whichever way this kernel has.
        for count in [1, 14, 15, 128, 400] {
            let scratch = Scratch::new(&format!("any{count}"));
            let mount = mount(&scratch.stack(count)).unwrap();
            assert_eq!(read(&mount, "last").unwrap(), (count - 1).to_string(), "{count}");
        }
    }

    #[test]
    fn the_kernel_limit_is_named() {
        let scratch = Scratch::new("limit");
        let mut overlay = scratch.stack(1);
        overlay.lowers = vec![overlay.lowers[0].clone(); 501];
        assert_eq!(
            mount(&overlay).unwrap_err().to_string(),
            "mount overlay: too many layers (501, limit 500)"
        );
    }

    #[test]
    fn a_view_writes_nothing() {
        let scratch = Scratch::new("view");
        let mut overlay = scratch.stack(2);
        fs::write(overlay.upper.join("last"), "upper").unwrap();
        let writable = mount(&overlay).unwrap();
        overlay.read_only = true;
        let (one, two) = (mount(&overlay).unwrap(), mount(&overlay).unwrap());
        for view in [&one, &two] {
            assert_eq!(read(view, "last").unwrap(), "upper");
            assert_eq!(write(view, "new").unwrap_err(), Errno::ROFS);
        }
        drop(writable);
    }

    #[test]
    fn any_path_will_do() {
        let scratch = Scratch::new("odd,na:me\\");
        let long = Scratch(scratch.0.join("x".repeat(250)));
        fs::create_dir(&long.0).unwrap();
        let overlay = long.stack(3);
        for way in [choose(3).unwrap(), Way::String, Way::MountCall] {
            assert_eq!(read(&detached(&overlay, way).unwrap(), "last").unwrap(), "2", "{way:?}");
        }
    }

    #[test]
    fn an_attached_mount_is_seen_by_the_whole_process() {
        let scratch = Scratch::new("at");
        let overlay = scratch.stack(2);
        let target = scratch.0.join("target");
        fs::create_dir(&target).unwrap();
        mount_at(&overlay, &target).unwrap();
        let seen = fs::read_to_string(target.join("last"));
        rustix::mount::unmount(&target, rustix::mount::UnmountFlags::empty()).unwrap();
        assert_eq!(seen.unwrap(), "1");
    }

    #[test]
    fn errors_name_what_is_wrong() {
        let scratch = Scratch::new("errors");
        let good = scratch.stack(1);

        let mut missing = good.clone();
        missing.lowers.push(scratch.0.join("gone"));
        let text = mount(&missing).unwrap_err().to_string();
        assert_eq!(
            text,
            format!("mount overlay: {}: no such directory", scratch.0.join("gone").display())
        );

        let outer = scratch.0.join("outer");
        fs::create_dir(&outer).unwrap();
        mount_at(&good, &outer).unwrap();
        let mut nested = good.clone();
        (nested.upper, nested.work) = (outer.join("upper"), outer.join("work"));
        fs::create_dir(&nested.upper).unwrap();
        fs::create_dir(&nested.work).unwrap();
        let nested = mount(&nested).map(drop);
        rustix::mount::unmount(&outer, rustix::mount::UnmountFlags::empty()).unwrap();
        let nested = nested.unwrap_err();
        assert!(
            nested.to_string().contains("upper filesystem not supported"),
            "{nested}"
        );
        assert!(nested.hint().is_some());
    }

    #[test]
    fn a_volatile_upper_is_kept_by_nobody() {
        let scratch = Scratch::new("volatile");
        let mut overlay = scratch.stack(1);
        overlay.volatile = true;
        drop(mount(&overlay).unwrap());
        drop(mount(&overlay).unwrap());
        overlay.volatile = false;
        let e = mount(&overlay).unwrap_err();
        assert!(e.to_string().contains("was mounted volatile before"), "{e}");
    }
}
