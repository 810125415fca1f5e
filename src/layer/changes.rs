//! What a layer changes of those below it, as docker's `diff` tells it: a directory whose entries alone have changed is
//! told only for what is added to it or taken from it.

use crate::error::{Context, Result};
use crate::layer::inherit::hides;
use crate::layer::walk::{Step, walk_sorted};
use crate::layer::whiteout::Meaning;
use crate::layer::{shown, whiteout};
use crate::model::idmap::IdMap;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2, statat};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Changed,
    Added,
    Deleted,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Change::Changed => "C",
            Change::Added => "A",
            Change::Deleted => "D",
        })
    }
}

/// By path, without the first slash.
pub(crate) type Changes = BTreeMap<Vec<u8>, Change>;

const PLACE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const READ: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const INSIDE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Who has written the marks of removed names in an upper directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Overlay,
    Aufs,
}

/// What the directory `upper` changes of `lowers`, base first. Its owners are in the numbers of `ids`, as a tree's are.
pub(crate) fn changes(
    upper: BorrowedFd<'_>,
    lowers: &[PathBuf],
    (form, ids): (Form, Option<&IdMap>),
) -> Result<Changes> {
    let open = |lower: &PathBuf| {
        let opened = openat(CWD, lower, PLACE | OFlags::DIRECTORY, Mode::empty());
        opened.with_context(|| lower.display().to_string())
    };
    let lowers = lowers.iter().rev().map(open).collect::<Result<Vec<_>>>()?;
    let mut changes = Changes::new();
    walk_sorted(upper, &mut |step| match step {
        Step::Entry { path, .. } | Step::Enter { path, .. } if form == Form::Aufs && whiteout::is_bookkeeping(path) => {
            Ok(())
        }
        Step::Entry { name, path, .. } if form == Form::Aufs && whiteout::is_mark(name.to_bytes()) => {
            let around = &path[..path.len() - name.to_bytes().len()];
            if let Meaning::Removes(name) = whiteout::meaning(name.to_bytes()) {
                let path = [around, name].concat();
                if below(&changes, &path, &lowers).with_context(|| shown(&path))?.is_some() {
                    add(&mut changes, &path, Change::Deleted);
                }
            }
            Ok(())
        }
        Step::Entry { dir, name, path, .. } => {
            let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                // The container runs.
                Err(Errno::NOENT) => return Ok(()),
                result => result.with_context(|| shown(path))?,
            };
            let below = below(&changes, path, &lowers).with_context(|| shown(path))?.is_some();
            match (whiteout::hides(dir, name.to_bytes(), &stat)?, below) {
                (true, true) => add(&mut changes, path, Change::Deleted),
                (true, false) => {}
                (false, true) => add(&mut changes, path, Change::Changed),
                (false, false) => add(&mut changes, path, Change::Added),
            }
            Ok(())
        }
        Step::Enter { dir, name, path } => {
            let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => return Ok(()),
                result => result.with_context(|| shown(path))?,
            };
            match below(&changes, path, &lowers).with_context(|| shown(path))? {
                None => add(&mut changes, path, Change::Added),
                Some(old) if same(&seen(old, ids), &stat) => {}
                Some(_) => add(&mut changes, path, Change::Changed),
            }
            let mark = || [name.to_bytes(), b"/", whiteout::OPAQUE_MARK].concat();
            let opaque = match form {
                Form::Overlay => whiteout::is_opaque(dir, name.to_bytes())?,
                Form::Aufs => statat(dir, mark(), AtFlags::SYMLINK_NOFOLLOW).is_ok(),
            };
            if opaque {
                hidden(&mut changes, path, &lowers).with_context(|| shown(path))?;
            }
            Ok(())
        }
        Step::Leave { .. } => Ok(()),
    })?;
    Ok(changes)
}

/// What a full tree, made as a copy of `lowers`, base first, differs from them in: by kind, mode, owner, size, time and
/// where links lead; and in all that was touched after `since`, when the copy was made, if that is known.
pub(crate) fn compare(
    tree: BorrowedFd<'_>,
    lowers: &[PathBuf],
    (since, ids): (Option<Moment>, Option<&IdMap>),
) -> Result<Changes> {
    let open = |lower: &PathBuf| {
        let opened = openat(CWD, lower, PLACE | OFlags::DIRECTORY, Mode::empty());
        opened.with_context(|| lower.display().to_string())
    };
    let lowers = lowers.iter().rev().map(open).collect::<Result<Vec<_>>>()?;
    let mut changes = Changes::new();
    gone(
        &mut changes,
        b"",
        openat(tree, c".", READ, Mode::empty())?.as_fd(),
        &lowers,
    )?;
    walk_sorted(tree, &mut |step| match step {
        Step::Entry { dir, name, path, .. } => {
            let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => return Ok(()),
                result => result.with_context(|| shown(path))?,
            };
            match below(&changes, path, &lowers).with_context(|| shown(path))? {
                None => add(&mut changes, path, Change::Added),
                Some(old)
                    if unchanged(&seen(old, ids), &stat) && since.is_none_or(|then| changed_at(&stat) <= then) => {}
                Some(_) => add(&mut changes, path, Change::Changed),
            }
            Ok(())
        }
        Step::Enter { dir, name, path } => {
            let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => return Ok(()),
                result => result.with_context(|| shown(path))?,
            };
            let old = below(&changes, path, &lowers).with_context(|| shown(path))?;
            match &old {
                None => add(&mut changes, path, Change::Added),
                Some(old) if same(&seen(*old, ids), &stat) => {}
                Some(_) => add(&mut changes, path, Change::Changed),
            }
            if old.is_some_and(|old| FileType::from_raw_mode(old.st_mode) == FileType::Directory) {
                let inside = openat(dir, name, READ | OFlags::NOFOLLOW, Mode::empty())?;
                gone(&mut changes, path, inside.as_fd(), &lowers).with_context(|| shown(path))?;
            }
            Ok(())
        }
        Step::Leave { .. } => Ok(()),
    })?;
    Ok(changes)
}

/// Seconds and nanoseconds of a filesystem's clock.
pub(crate) type Moment = (i64, u64);

/// When the file, its owner or its names last changed: what no program can set.
pub(crate) fn changed_at(stat: &Stat) -> Moment {
    (stat.st_ctime, stat.st_ctime_nsec)
}

/// What the layers below have in the directory `path` and `dir` has not.
fn gone(changes: &mut Changes, path: &[u8], dir: BorrowedFd<'_>, lowers: &[OwnedFd]) -> Result<()> {
    let mut missing = Changes::new();
    hidden(&mut missing, path, lowers)?;
    for (path, change) in missing {
        let name = path.rsplit(|b| *b == b'/').next().unwrap_or(&path);
        if change == Change::Deleted && matches!(statat(dir, name, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT)) {
            add(changes, &path, Change::Deleted);
        }
    }
    Ok(())
}

/// What a layer has, as it is for the users of a namespace.
fn seen(mut old: Stat, ids: Option<&IdMap>) -> Stat {
    if let Some(ids) = ids {
        (old.st_uid, old.st_gid) = ids.outside_owner((old.st_uid, old.st_gid));
    }
    old
}

/// Whether anything but a directory is as it was.
fn unchanged(a: &Stat, b: &Stat) -> bool {
    let of = |s: &Stat| {
        let who = (s.st_mode, s.st_uid, s.st_gid, s.st_rdev);
        (who, s.st_size, s.st_mtime, s.st_mtime_nsec)
    };
    of(a) == of(b)
}

/// The changes of a layer and of another on top of it, as those of one.
pub(crate) fn compose(mut earlier: Changes, later: Changes) -> Changes {
    for (path, change) in later {
        let before = earlier.get(&path).copied();
        if change == Change::Deleted {
            let inside: Vec<_> = earlier
                .range([&path[..], b"/"].concat()..[&path[..], b"0"].concat())
                .map(|(p, _)| p.clone())
                .collect();
            for path in inside {
                earlier.remove(&path);
            }
        }
        let now = match (before, change) {
            (Some(Change::Added), Change::Deleted) => {
                earlier.remove(&path);
                continue;
            }
            (Some(Change::Added), Change::Changed) => Change::Added,
            (Some(Change::Deleted), Change::Added) => Change::Changed,
            (_, change) => change,
        };
        earlier.insert(path, now);
    }
    earlier
}

/// Also tells of the directory around it, as that has one entry more or less.
fn add(changes: &mut Changes, path: &[u8], change: Change) {
    if let (Some(cut), Change::Added | Change::Deleted) = (path.iter().rposition(|b| *b == b'/'), change) {
        changes.entry(path[..cut].to_vec()).or_insert(Change::Changed);
    }
    changes.insert(path.to_vec(), change);
}

/// What the layers below show at `path`. Nothing below a directory that is new.
fn below(changes: &Changes, path: &[u8], lowers: &[OwnedFd]) -> Result<Option<Stat>> {
    let parent = path.iter().rposition(|b| *b == b'/').map(|cut| &path[..cut]);
    if parent.is_some_and(|parent| changes.get(parent) == Some(&Change::Added)) {
        return Ok(None);
    }
    for lower in lowers {
        match openat2(lower, path, PLACE, Mode::empty(), INSIDE) {
            Ok(found) => {
                let stat = fstat(&found)?;
                return Ok((!whiteout::hides_open(&found, &stat)?).then_some(stat));
            }
            // A link at the end of the path.
            Err(Errno::LOOP) => {
                let at = openat(lower, c".", PLACE | OFlags::DIRECTORY, Mode::empty())?;
                let (parent, name) = match path.iter().rposition(|b| *b == b'/') {
                    Some(cut) => (&path[..cut], &path[cut + 1..]),
                    None => (&b"."[..], path),
                };
                if let Ok(parent) = openat2(&at, parent, PLACE | OFlags::DIRECTORY, Mode::empty(), INSIDE) {
                    return Ok(statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).ok());
                }
            }
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(e) => return Err(e.into()),
        }
        if hides(lower, path)? {
            return Ok(None);
        }
    }
    Ok(None)
}

/// What an opaque directory hides is deleted, unless the upper has something of that name.
fn hidden(changes: &mut Changes, path: &[u8], lowers: &[OwnedFd]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for lower in lowers {
        let here = if path.is_empty() { b"." } else { path };
        let dir = match openat2(lower, here, READ, Mode::empty(), INSIDE) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if hides(lower, path)? => break,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(e) => return Err(e.into()),
        };
        for entry in Dir::read_from(&dir)? {
            let name = entry?.file_name().to_owned();
            if name.as_c_str() == c"." || name.as_c_str() == c".." || !seen.insert(name.clone()) {
                continue;
            }
            let stat = statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            if !whiteout::hides(dir.as_fd(), name.to_bytes(), &stat)? {
                let parent = if path.is_empty() {
                    Vec::new()
                } else {
                    [path, b"/"].concat()
                };
                add(changes, &[&parent, name.to_bytes()].concat(), Change::Deleted);
            }
        }
        if whiteout::is_opaque(dir.as_fd(), b"")? {
            break;
        }
    }
    Ok(())
}

/// Whether a directory is as it was; its size says nothing.
fn same(a: &Stat, b: &Stat) -> bool {
    let of = |s: &Stat| (s.st_mode, s.st_uid, s.st_gid, s.st_mtime, s.st_mtime_nsec);
    FileType::from_raw_mode(a.st_mode) == FileType::Directory && of(a) == of(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_layers_tell_one_story() {
        let of = |text: &str| -> Changes {
            let change = |c| match c {
                "A" => Change::Added,
                "C" => Change::Changed,
                _ => Change::Deleted,
            };
            let pairs = text.split_whitespace().collect::<Vec<_>>();
            let pairs = pairs.as_chunks::<2>().0.iter();
            pairs.map(|[c, path]| (path.as_bytes().to_vec(), change(c))).collect()
        };
        for (first, second, both) in [
            ("A x", "C x", "A x"),
            ("A x", "D x", ""),
            ("D x", "A x", "C x"),
            ("C x", "D x", "D x"),
            ("C d A d/a A d/b", "D d", "D d"),
            ("A d A d/a A d0", "D d", "A d0"),
            ("C x", "A y", "A y C x"),
        ] {
            assert_eq!(compose(of(first), of(second)), of(both), "{first} then {second}");
        }
    }
}
