//! Layers stacked by AUFS, for kernels that have it and no overlayfs: what docker of 2013 ran on (F286).
//!
//! The kernel takes branches as the options of mount(2), topmost first: `br:UPPER=rw:LAYER=ro+wh:…`. What does not fit
//! into the one page of options is appended by remounts, branch after branch. `ro+wh` is a layer whose marks of removed
//! names count. `dio` lets programs open with O_DIRECT, as they can on an overlay; `plink` keeps the names of a file
//! one file when it is copied up; `xino` is the file with inode numbers, which AUFS takes away as soon as it is open.
//!
//! A store's layers have overlayfs' marks. What AUFS is to read is a branch beside them, `aufs/` next to `diff/`: its
//! files are other names of the layer's files, its marks are `.wh.` files. It is made by one rename when it is first
//! needed, and goes with the layer; one that was left half made is taken away by the next. An upper directory has AUFS'
//! own marks, and is read with them (`pack::write_branch`, `changes::Form::Aufs`). Mounts are made in a namespace of
//! their own, and go with their descriptors.

use crate::error::{Context as _, Error, Result};
use crate::layer::copy::{self, Files, Marks};
use crate::layer::overlay::{self, Overlay};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, OpenTreeFlags, mount_change, open_tree};
use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// mount(2) copies one page of options, and the last byte of it must be a NUL.
const MOST_OPTIONS: usize = 4095;
const LAYER: &str = "diff";
const BRANCH: &str = "aufs";

/// Whether /proc/filesystems, given as text, has it.
pub(super) fn is_known(filesystems: &str) -> bool {
    filesystems
        .lines()
        .any(|line| line.split_whitespace().last() == Some("aufs"))
}

/// Mounts the stack, attached nowhere.
pub(super) fn mount(stack: &Overlay) -> Result<OwnedFd> {
    let branches = branches(stack)?;
    let xino = stack.work.join(format!(".aufs.xino-{}", std::process::id()));
    let calls = options(&branches, xino.as_os_str().as_bytes()).map_err(Error::other)?;
    let flags = match stack.read_only {
        true => MountFlags::RDONLY,
        false => MountFlags::empty(),
    };
    let mounted = overlay::on_thread(|| {
        overlay::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
        mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
        for (n, text) in calls.iter().enumerate() {
            let text = CString::new(text.as_slice()).map_err(|_| Errno::INVAL)?;
            match n {
                0 => rustix::mount::mount("none", &stack.work, "aufs", flags, text.as_c_str())?,
                _ => rustix::mount::mount_remount(&stack.work, flags, text.as_c_str())?,
            }
        }
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        open_tree(CWD, &stack.work, flags)
    });
    mounted
        .map_err(|errno| explain(errno, branches.len()))
        .context("mount aufs")
}

fn explain(errno: Errno, branches: usize) -> Error {
    match errno {
        Errno::NODEV => Error::other("this kernel has no AUFS (/proc/filesystems)"),
        Errno::INVAL | Errno::TOOBIG => Error::from(errno).with_hint(format!(
            "{branches} branches; a kernel's AUFS is built for 127, 511, 1023 or 32767: flatten the image with `barge \
             export` and `barge import`"
        )),
        errno => errno.into(),
    }
}

/// One directory of the stack, as the kernel is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Branch {
    path: PathBuf,
    writable: bool,
}

/// Topmost first.
fn branches(stack: &Overlay) -> Result<Vec<Branch>> {
    let mut all = vec![Branch {
        path: branch(&stack.upper)?,
        writable: !stack.read_only,
    }];
    for lower in stack.lowers.iter().rev() {
        all.push(Branch {
            path: branch(lower)?,
            writable: false,
        });
    }
    Ok(all)
}

/// The options of the mount, then of each remount.
fn options(branches: &[Branch], xino: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let tail = [b",dio,plink,xino=", xino].concat();
    let mut calls = vec![b"br:".to_vec()];
    for branch in branches {
        let path = branch.path.as_os_str().as_bytes();
        let odd = |b: &u8| matches!(b, b':' | b',' | b'=' | b'\\' | 0);
        if path.iter().any(odd) {
            return Err(format!("{}: AUFS takes no such path", branch.path.display()));
        }
        let kind: &[u8] = if branch.writable { b"=rw" } else { b"=ro+wh" };
        let text = [path, kind].concat();
        let begun = !calls[0].ends_with(b":");
        if calls.len() == 1 && calls[0].len() + usize::from(begun) + text.len() + tail.len() <= MOST_OPTIONS {
            if begun {
                calls[0].push(b':');
            }
            calls[0].extend_from_slice(&text);
        } else if begun && b"append:".len() + text.len() <= MOST_OPTIONS {
            calls.push([b"append:", &text[..]].concat());
        } else {
            return Err(format!("{}: too long a path for AUFS", branch.path.display()));
        }
    }
    calls[0].extend_from_slice(&tail);
    Ok(calls)
}

/// What AUFS is to read instead of `dir`, if that is a store's layer; made if need be.
fn branch(dir: &Path) -> Result<PathBuf> {
    if dir.file_name().is_none_or(|name| name != LAYER) {
        return Ok(dir.to_owned());
    }
    let place = dir.with_file_name(BRANCH);
    if place.exists() {
        return Ok(place);
    }
    let said = || format!("make {}", place.display());
    let new = dir.with_file_name(format!("{BRANCH}.{}", std::process::id()));
    // Of a process that had this number and was killed.
    let _ = std::fs::remove_dir_all(&new);
    std::fs::create_dir(&new).with_context(said)?;
    translate(dir, &new).with_context(said)?;
    match rustix::fs::rename(&new, &place) {
        // Another process was first.
        Err(_) if place.exists() => std::fs::remove_dir_all(&new).with_context(said)?,
        renamed => renamed.with_context(said)?,
    }
    Ok(place)
}

fn translate(layer: &Path, into: &Path) -> Result<()> {
    let open = |path: &Path| rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let options = copy::Options {
        files: Files::Linked,
        marks: Marks::Aufs,
        ..copy::Options::default()
    };
    copy::tree(open(layer)?.as_fd(), open(into)?.as_fd(), &options).map(drop)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // test files need no staging
#[path = "tests/aufs.rs"]
mod tests;
