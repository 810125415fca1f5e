//! COPY, ADD and WORKDIR: steps that change files without running anything.

use crate::error::{Context as _, Error, Result};
use crate::layer;
use crate::layer::stack;
use crate::store::StagedLayer;
use rustix::fs::{FileType, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

/// Makes a directory of a tree, in the staged layer on top of it. Its parents are as they are below; what is missing is
/// root's, 0755. `false` if the directory is there.
pub(crate) fn make_directory(below: &[PathBuf], path: &str, staged: &StagedLayer) -> Result<bool> {
    let place = resolve(below, path)?;
    let Some(place) = place else { return Ok(false) };
    let mut at: OwnedFd = staged.diff()?;
    let mut walked: Vec<u8> = Vec::new();
    let mut known = Vec::new();
    for name in place.split(|b| *b == b'/').filter(|n| !n.is_empty()) {
        if !walked.is_empty() {
            walked.push(b'/');
        }
        walked.extend_from_slice(name);
        if stack::find(below, &walked)?.kind.is_some() {
            known.push(walked.clone());
        }
        match mkdirat(&at, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e).with_context(|| format!("make {path}")),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        at = openat(&at, name, flags, Mode::empty())?;
    }
    layer::inherit(staged.diff()?.as_fd(), &known, below)?;
    Ok(true)
}

/// After `--link`, whose files are put into an empty directory: on the way to `dest`, what is a directory in the tree too
/// stays as it is there. What the tree has a link for is another directory now.
pub(crate) fn keep_directories(below: &[PathBuf], dest: &str, staged: &StagedLayer) -> Result<()> {
    let diff = staged.diff()?;
    let mut walked: Vec<u8> = Vec::new();
    let mut known = Vec::new();
    for name in dest.bytes().collect::<Vec<_>>().split(|b| *b == b'/') {
        if name.is_empty() {
            continue;
        }
        if !walked.is_empty() {
            walked.push(b'/');
        }
        walked.extend_from_slice(name);
        let made = rustix::fs::statat(&diff, walked.as_slice(), rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
        let is_directory = made.is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory);
        let place = stack::find(below, &walked)?;
        if !is_directory || place.kind != Some(FileType::Directory) || place.path != walked {
            break;
        }
        known.push(walked.clone());
    }
    layer::inherit(diff.as_fd(), &known, below)
}

/// Where a directory is to be made, without links; `None` if there is one.
fn resolve(below: &[PathBuf], path: &str) -> Result<Option<Vec<u8>>> {
    let mut path = path.as_bytes().to_vec();
    // A link at the end leads where it would in a container.
    for _ in 0..40 {
        let place = stack::find(below, &path)?;
        match place.kind {
            None => return Ok(Some(place.path)),
            Some(FileType::Directory) => return Ok(None),
            // With something behind it, it is on the way, and is followed.
            Some(FileType::Symlink) if !path.ends_with(b"/.") => path.extend_from_slice(b"/."),
            Some(_) => break,
        }
    }
    let shown = String::from_utf8_lossy(&path).trim_end_matches("/.").to_owned();
    Err(Error::other(format!("{shown} is no directory")))
}

/// Takes out of a step's layer what was only made to be mounted on: empty entries that the tree below has not. Most of
/// them are in a layer of their own (`mounts::places`); a link on the way in the image makes them be here.
pub(crate) fn remove_places(below: &[PathBuf], staged: &StagedLayer, targets: &[PathBuf]) -> Result<()> {
    use rustix::fs::{AtFlags, unlinkat};
    for target in targets {
        let Some(path) = target.to_str() else { continue };
        let place = stack::find(below, path.as_bytes())?;
        if place.kind.is_some() {
            continue;
        }
        let parts: Vec<&[u8]> = place.path.split(|b| *b == b'/').filter(|p| !p.is_empty()).collect();
        for depth in (1..=parts.len()).rev() {
            let path = parts[..depth].join(&b'/');
            if stack::find(below, &path)?.kind.is_some() {
                break;
            }
            let diff = staged.diff()?;
            let Some((parent, name)) = open_parent(&diff, &parts[..depth]) else {
                break;
            };
            let is_file = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile && s.st_size == 0);
            let removed = match is_file && depth == parts.len() {
                true => unlinkat(&parent, name, AtFlags::empty()),
                false => unlinkat(&parent, name, AtFlags::REMOVEDIR),
            };
            if removed.is_err() {
                break;
            }
        }
    }
    Ok(())
}

fn open_parent<'a>(diff: &OwnedFd, parts: &[&'a [u8]]) -> Option<(OwnedFd, &'a [u8])> {
    let (name, parents) = parts.split_last()?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = openat(diff, c".", flags, Mode::empty()).ok()?;
    for parent in parents {
        at = openat(&at, *parent, flags, Mode::empty()).ok()?;
    }
    Some((at, name))
}
