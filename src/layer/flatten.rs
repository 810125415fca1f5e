//! Several unpacked layers → one that does the same.

use crate::error::{Context, Result};
use crate::layer::{copy, inherit, shown, whiteout};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, linkat, mkdirat, openat, statat};
use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Merges `layers`, base first, into the empty directory `into`. Marks of what is removed below them all stay.
pub(crate) fn flatten(layers: &[PathBuf], into: BorrowedFd<'_>) -> Result<()> {
    let open =
        |layer: &PathBuf| openat(CWD, layer, DIRECTORY, Mode::empty()).with_context(|| layer.display().to_string());
    let dirs = layers.iter().rev().map(open).collect::<Result<Vec<_>>>()?;
    let mut merged = Merged {
        root: into,
        directories: vec![Vec::new()],
        links: HashMap::new(),
    };
    merge(dirs, into, &mut Vec::new(), &mut merged)?;
    // Their times were changed by what was put into them.
    inherit(into, &merged.directories, layers)
}

/// What was made so far.
struct Merged<'a> {
    root: BorrowedFd<'a>,
    directories: Vec<Vec<u8>>,
    /// Where a file with several names is: by its device and inode in the layer.
    links: HashMap<(u64, u64), Vec<u8>>,
}

/// `dirs`: the same directory of each layer that has it, topmost first.
fn merge(dirs: Vec<OwnedFd>, into: BorrowedFd<'_>, path: &mut Vec<u8>, all: &mut Merged<'_>) -> Result<()> {
    let mut names: BTreeMap<CString, Vec<usize>> = BTreeMap::new();
    for (n, dir) in dirs.iter().enumerate() {
        for entry in Dir::read_from(dir).with_context(|| shown(path))? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.entry(entry.file_name().to_owned()).or_default().push(n);
            }
        }
    }
    for (name, which) in names {
        let length = path.len();
        if length > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(name.to_bytes());
        one(&dirs, (&name, &which), into, path, all).with_context(|| shown(path))?;
        path.truncate(length);
    }
    Ok(())
}

fn one(
    dirs: &[OwnedFd],
    (name, which): (&CString, &[usize]),
    into: BorrowedFd<'_>,
    path: &mut Vec<u8>,
    all: &mut Merged<'_>,
) -> Result<()> {
    let mut same = Vec::new();
    let mut hides = false;
    for n in which {
        let dir = dirs[*n].as_fd();
        let stat = statat(dir, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let open = openat(dir, name.as_c_str(), DIRECTORY, Mode::empty())?;
            hides = whiteout::is_opaque(open.as_fd(), b"")?;
            same.push(open);
            if hides {
                break;
            }
            continue;
        }
        let removed = whiteout::hides(dir, name.to_bytes(), &stat)?;
        if !same.is_empty() {
            // Something that was no directory is under it.
            hides = true;
            break;
        }
        if removed {
            whiteout::make(into, name.to_bytes())?;
            return Ok(());
        }
        let file = (stat.st_dev, stat.st_ino);
        if let Some(first) = all.links.get(&file)
            // A path that is too long for the kernel: two files are better than none.
            && linkat(all.root, first.as_slice(), into, name.as_c_str(), AtFlags::empty()).is_ok()
        {
            return Ok(());
        }
        copy::entry((dir, name), (into, name), &copy::Options::default())?;
        if stat.st_nlink > 1 {
            all.links.insert(file, path.clone());
        }
        return Ok(());
    }
    mkdirat(into, name.as_c_str(), Mode::from_raw_mode(0o755))?;
    let made = openat(into, name.as_c_str(), DIRECTORY, Mode::empty())?;
    merge(same, made.as_fd(), path, all)?;
    all.directories.push(path.clone());
    if hides {
        whiteout::make_opaque(made.as_fd())?;
    }
    Ok(())
}
