//! A group and the groups below it: a privileged container may make its own, as deep as it likes, so they are reached
//! by directory descriptors, never by long paths.

use crate::runtime::cgroup::file;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType};
use rustix::io::Errno;
use std::ffi::CString;
use std::path::{Path, PathBuf};

/// Calls `visit` with every directory of the tree, the deepest first. Missing ones are passed over: groups may go at
/// any time.
pub(crate) fn walk(path: &Path, visit: &mut dyn FnMut(BorrowedFd<'_>)) {
    if let Ok(dir) = file::open_dir(CWD, path) {
        walk_below(&dir, visit);
    }
}

fn walk_below(dir: &OwnedFd, visit: &mut dyn FnMut(BorrowedFd<'_>)) {
    for name in subgroups(dir.as_fd()) {
        if let Ok(sub) = file::open_dir(dir, &name) {
            walk_below(&sub, visit);
        }
    }
    visit(dir.as_fd());
}

fn subgroups(dir: BorrowedFd<'_>) -> Vec<CString> {
    let Ok(entries) = file::list_dir(dir) else {
        return Vec::new();
    };
    let is_group = |e: &rustix::fs::DirEntry| {
        e.file_type() == FileType::Directory && !matches!(e.file_name().to_bytes(), b"." | b"..")
    };
    entries
        .filter_map(|e| e.ok().filter(is_group))
        .map(|e| e.file_name().to_owned())
        .collect()
}

/// Removes the group and those below it. EBUSY if one still has processes; a missing one is as good as removed.
pub(crate) fn remove(path: &Path) -> Result<(), Errno> {
    match rmdir(CWD, path) {
        Err(Errno::BUSY | Errno::NOTEMPTY) => {}
        result => return result,
    }
    remove_below(&file::open_dir(CWD, path)?)?;
    rmdir(CWD, path)
}

fn remove_below(dir: &OwnedFd) -> Result<(), Errno> {
    for name in subgroups(dir.as_fd()) {
        let sub = file::open_dir(dir, &name);
        if let Ok(sub) = sub {
            remove_below(&sub)?;
        }
        rmdir(dir, &name)?;
    }
    Ok(())
}

fn rmdir(dir: impl AsFd, name: impl rustix::path::Arg) -> Result<(), Errno> {
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        // ENODEV: the hierarchy's file was of a group that went in between.
        Err(Errno::NOENT | Errno::NODEV) => Ok(()),
        result => result,
    }
}

/// The processes in the trees of these groups, each once.
pub(crate) fn members(paths: &[PathBuf]) -> Vec<i32> {
    let mut pids = Vec::new();
    for path in paths {
        walk(path, &mut |dir| {
            let text = file::read(dir, "cgroup.procs").unwrap_or_default();
            // A process of a pid namespace that we don't see into reads as 0.
            pids.extend(text.split(|b| *b == b'\n').filter_map(parse_pid).filter(|pid| *pid > 0));
        });
    }
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// The processes of a container, in ascending order.
pub(crate) fn pids(paths: &[PathBuf]) -> Vec<i32> {
    // All hierarchies agree on who belongs to the container: the first one that is still there will do.
    paths
        .iter()
        .find(|p| p.exists())
        .map(|p| members(std::slice::from_ref(p)))
        .unwrap_or_default()
}

fn parse_pid(line: &[u8]) -> Option<i32> {
    std::str::from_utf8(line).ok()?.parse().ok()
}
