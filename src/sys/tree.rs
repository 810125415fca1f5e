//! Directory trees that a container has written: looks paths up in them, and removes them: follows no symlink, enters no mount, needs a bounded number of
//! descriptors however deep the tree is, and goes on past what it can't remove.

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, renameat, unlinkat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Directories open at once. A directory further down is moved up to the root of the tree, and has its turn there.
const DEPTH: usize = 32;

/// Removes `name` in `dir`, whatever it is. Success if it isn't there; else the first error, after all that could be
/// removed is.
pub(crate) fn remove(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // POSIX has EPERM for a directory, Linux EISDIR.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e.into()),
    }
    match open_directory(dir, name) {
        Ok(tree) => Removal {
            tree,
            first_error: None,
            moved: 0,
        }
        .run()?,
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(e.into()),
    }
    match unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// openat2(2), again while the kernel gives up on a `..` because something was renamed or mounted elsewhere meanwhile
/// (EAGAIN): not for ever, as whoever renames without pause must not keep anybody from going on.
pub(crate) fn look_up<P: rustix::path::Arg + Copy>(
    dir: BorrowedFd<'_>,
    path: P,
    flags: OFlags,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    const TRIES: u32 = 10_000;
    let mut opened = Err(Errno::AGAIN);
    for _ in 0..TRIES {
        opened = openat2(dir, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
        if !matches!(opened, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    opened
}

fn open_directory(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    openat2(
        dir,
        name,
        OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_XDEV,
    )
}

struct Removal {
    tree: OwnedFd,
    first_error: Option<Errno>,
    /// Directories moved up so far.
    moved: u64,
}

/// A directory being emptied, and its name in the one above.
struct Frame {
    dir: Dir,
    name: CString,
}

impl Removal {
    fn run(mut self) -> io::Result<()> {
        loop {
            let moved = self.moved;
            self.pass()?;
            if self.moved == moved {
                break;
            }
        }
        match self.first_error {
            Some(e) => Err(e.into()),
            None => Ok(()),
        }
    }

    /// Empties the tree's root once.
    fn pass(&mut self) -> io::Result<()> {
        let mut stack = vec![Frame {
            dir: Dir::read_from(&self.tree)?,
            name: CString::default(),
        }];
        while let Some(frame) = stack.last_mut() {
            match frame.dir.read() {
                Some(Ok(entry)) => {
                    let name = entry.file_name();
                    if name != c"."
                        && name != c".."
                        && let Some(below) = self.remove_entry(frame, name, entry.file_type())?
                    {
                        self.descend(&mut stack, below, name.to_owned())?;
                    }
                }
                Some(Err(e)) => {
                    self.note(e);
                    self.leave(&mut stack);
                }
                None => self.leave(&mut stack),
            }
        }
        Ok(())
    }

    /// Removes one entry; a directory that has entries of its own is returned, open.
    fn remove_entry(&mut self, frame: &Frame, name: &CStr, kind: FileType) -> io::Result<Option<OwnedFd>> {
        let dir = frame.dir.fd()?;
        if kind != FileType::Directory {
            match unlinkat(dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => return Ok(None),
                Err(Errno::ISDIR) => {}
                Err(e) => {
                    self.note(e);
                    return Ok(None);
                }
            }
        }
        match unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTEMPTY | Errno::EXIST) => match open_directory(dir, name) {
                Ok(below) => Ok(Some(below)),
                Err(e) => {
                    self.note(e);
                    Ok(None)
                }
            },
            Err(e) => {
                self.note(e);
                Ok(None)
            }
        }
    }

    fn descend(&mut self, stack: &mut Vec<Frame>, below: OwnedFd, name: CString) -> io::Result<()> {
        if stack.len() < DEPTH {
            stack.push(Frame {
                dir: Dir::new(below)?,
                name,
            });
            return Ok(());
        }
        let Some(frame) = stack.last() else { return Ok(()) };
        let up = CString::new(format!(".moved-up-{}-{}", std::process::id(), self.moved))?;
        match renameat(frame.dir.fd()?, &name, self.tree.as_fd(), &up) {
            Ok(()) => self.moved += 1,
            Err(Errno::NOENT) => {}
            Err(e) => self.note(e),
        }
        Ok(())
    }

    /// The top directory has been read to its end.
    fn leave(&mut self, stack: &mut Vec<Frame>) {
        let Some(done) = stack.pop() else { return };
        let Some(above) = stack.last() else { return };
        let Ok(dir) = above.dir.fd() else { return };
        match unlinkat(dir, &done.name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => self.note(e),
        }
    }

    fn note(&mut self, e: Errno) {
        self.first_error.get_or_insert(e);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::PermissionsExt;

    fn scratch(name: &str) -> (std::path::PathBuf, File) {
        let dir = std::env::temp_dir().join(format!("barge-tree-{}-{name}", std::process::id()));
        std::fs::create_dir_all(dir.join("t")).unwrap();
        let fd = File::open(&dir).unwrap();
        (dir, fd)
    }

    #[test]
    fn links_are_not_followed_and_modes_do_not_matter() {
        let (dir, fd) = scratch("links");
        std::fs::create_dir_all(dir.join("keep/inner")).unwrap();
        std::fs::create_dir_all(dir.join("t/a/b")).unwrap();
        std::os::unix::fs::symlink(dir.join("keep"), dir.join("t/a/link")).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.join("t/dangling")).unwrap();
        std::fs::write(dir.join("t/a/b/file"), "x").unwrap();
        std::fs::set_permissions(dir.join("t/a/b"), std::fs::Permissions::from_mode(0o000)).unwrap();
        remove(fd.as_fd(), c"t").unwrap();
        assert!(!dir.join("t").exists() && dir.join("keep/inner").exists());
        remove(fd.as_fd(), c"t").unwrap();
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_is_mounted_in_the_tree_stays() {
        let (dir, fd) = scratch("mount");
        std::fs::create_dir_all(dir.join("keep/inner")).unwrap();
        std::fs::create_dir_all(dir.join("t/a/b")).unwrap();
        let inside = dir.clone();
        // In a mount namespace that ends with its thread.
        let result = std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            let flags = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
            rustix::mount::mount_change("/", flags).unwrap();
            rustix::mount::mount_bind(inside.join("keep"), inside.join("t/a/b")).unwrap();
            remove(std::fs::File::open(&inside).unwrap().as_fd(), c"t")
        });
        assert!(result.join().unwrap().is_err());
        assert!(dir.join("keep/inner").exists());
        remove(fd.as_fd(), c"t").unwrap();
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_tree_deeper_than_the_descriptors_go() {
        let (dir, fd) = scratch("deep");
        let mut at = rustix::fs::open(dir.join("t"), OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..DEPTH * 40 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            rustix::fs::openat(&at, "f", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap();
            at = open_directory(at.as_fd(), c"d").unwrap();
        }
        remove(fd.as_fd(), c"t").unwrap();
        assert!(!dir.join("t").exists());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
