//! Whether an unpacked layer still is what it was unpacked from. Its tar is rebuilt, which tells of every byte of
//! content by the digest; and what the tar's headers say is compared with the tree, entry by entry, which tells of
//! owners, modes, times, links, marks of what is hidden below, and of whatever is missing or was added. Directories that
//! the tar does not name are compared with those of the layers below, whose attributes they have (`inherit.rs`).

use crate::error::{Error, Kind, Result};
use crate::layer::archive::{self, Archive, Member};
use crate::layer::pax::Time;
use crate::layer::stream::{self, Stream};
use crate::layer::walk::{Step, walk};
use crate::layer::whiteout::{self, Meaning};
use crate::layer::xattr::{self, Xattr};
use crate::layer::{inherit, shown, tar_split};
use crate::model::id::DiffId;
use rustix::fs::{AtFlags, FileType, Stat, fstat, makedev, readlinkat, statat};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// Differences that are told; more of them are counted only.
const TOLD: usize = 5;
const MOST_LINKS: usize = 40;
/// Later times don't fit ext4's field.
const LAST_SECOND: i64 = 15_032_385_535;

/// What is wrong with the layer whose files are in `diff`, and whose tar `record` can rebuild; empty if nothing is.
/// `lowers`: the files of the layers below, base first, where all of them are there.
pub(crate) fn verify(
    record: &File,
    diff: BorrowedFd<'_>,
    expected: DiffId,
    lowers: Option<&[PathBuf]>,
) -> Result<Vec<String>> {
    let (reader, mut writer) = std::io::pipe()?;
    let (rebuilt, parsed) = std::thread::scope(|scope| {
        let rebuild = scope.spawn(move || tar_split::rebuild(record, diff, &mut writer));
        let parsed = stream::run(reader, None, |stream| {
            let mut tree = Tree::default();
            let mut archive = Archive::default();
            while let Some(member) = archive.next(stream)? {
                tree.member(&member, stream)?;
            }
            Ok(tree)
        });
        let rebuilt = rebuild
            .join()
            .unwrap_or_else(|_| Err(Error::other("a thread ended early")));
        (rebuilt, parsed)
    });
    let mut problems = Problems::default();
    match (rebuilt, parsed) {
        // It has lost its reader, which says why.
        (Err(e), Err(why)) if e.kind() == Kind::BrokenPipe => problems.add(why.to_string()),
        (Err(e), _) => problems.add(e.to_string()),
        (Ok(_), Err(e)) => problems.add(e.to_string()),
        (Ok(digest), Ok((tree, _))) => {
            if DiffId(digest) != expected {
                problems.add("its content has changed".to_owned());
            }
            let lowers = lowers.map(inherit::open).transpose()?;
            tree.compare(diff, lowers.as_deref(), &mut problems)?;
        }
    }
    Ok(problems.told())
}

#[derive(Default)]
struct Problems {
    first: Vec<String>,
    more: usize,
}

impl Problems {
    fn add(&mut self, what: String) {
        match self.first.len() < TOLD {
            true => self.first.push(what),
            false => self.more += 1,
        }
    }

    fn told(mut self) -> Vec<String> {
        if self.more > 0 {
            self.first.push(format!("and {} more", self.more));
        }
        self.first
    }
}

/// What the tree should have at a path.
#[derive(Clone)]
enum Entry {
    /// A name of the layers below that is gone.
    Removed,
    /// A directory that is there for what is in it, and looks like that of the layers below.
    Implied,
    /// One that hides that of the layers below.
    Anew,
    There(Attributes),
}

#[derive(Clone)]
struct Attributes {
    kind: FileType,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: Time,
    /// Of a regular file.
    size: u64,
    link: Vec<u8>,
    device: (u32, u32),
    xattrs: Vec<Xattr>,
}

/// What was unpacked, by path below the root; later members have replaced earlier ones.
#[derive(Default)]
struct Tree {
    entries: BTreeMap<Vec<u8>, Entry>,
    /// Directories that hide what the layers below have in them.
    opaque: BTreeSet<Vec<u8>>,
    /// What the tar says of the directory all is in.
    root: Option<Attributes>,
}

impl Tree {
    fn member(&mut self, member: &Member, stream: &mut Stream<'_>) -> Result<()> {
        let size = match &member.sparse {
            Some(map) => map.real_size,
            None => member.size,
        };
        let in_stream = match &member.sparse {
            Some(map) => map.pieces.iter().map(|piece| piece.length).sum(),
            None => member.size,
        };
        stream.skip(in_stream)?;
        let path: Vec<&[u8]> = parts(&member.path).collect();
        let Some((name, above)) = path.split_last() else {
            self.root = Some(Attributes::of(member, FileType::Directory, size));
            return Ok(());
        };
        let first_odd = path.iter().position(|part| whiteout::meaning(part) != Meaning::Plain);
        let is_aufs_own = |at: usize| whiteout::meaning(path[at]) == Meaning::Bookkeeping;
        if first_odd.is_some_and(|at| is_aufs_own(at) && (at, path[at]) != (0, whiteout::LINKED_FILES)) {
            return Ok(());
        }
        let parent = self.real(&above.join(&b'/'));
        match whiteout::meaning(name) {
            Meaning::Opaque => {
                self.imply(&parent);
                self.opaque.insert(parent);
            }
            Meaning::Removes(hidden) => {
                self.imply(&parent);
                self.hide(joined(&parent, hidden));
            }
            Meaning::Plain | Meaning::Bookkeeping | Meaning::Invalid => {
                self.imply(&parent);
                self.place(joined(&parent, name), member, size);
            }
        }
        Ok(())
    }

    /// What this layer itself has of that name stays, and alone.
    fn hide(&mut self, path: Vec<u8>) {
        match self.entries.get_mut(&path) {
            None => drop(self.entries.insert(path, Entry::Removed)),
            Some(entry) if entry.is_directory() => {
                if let Entry::Implied = entry {
                    *entry = Entry::Anew;
                }
                self.opaque.insert(path);
            }
            Some(_) => {}
        }
    }

    fn place(&mut self, path: Vec<u8>, member: &Member, size: u64) {
        let kind = match member.kind {
            archive::Kind::File => FileType::RegularFile,
            archive::Kind::Symlink => FileType::Symlink,
            archive::Kind::Directory => FileType::Directory,
            archive::Kind::Node(kind) => kind,
            archive::Kind::HardLink => {
                let target: Vec<&[u8]> = parts(&member.link).collect();
                let linked = target.split_last().and_then(|(name, above)| {
                    let parent = self.real(&above.join(&b'/'));
                    self.entries.get(&joined(&parent, name)).cloned()
                });
                return match linked {
                    Some(entry) => self.replace(path, entry),
                    None => drop(self.entries.remove(&path)),
                };
            }
        };
        self.replace(path, Entry::There(Attributes::of(member, kind, size)));
    }

    /// Only a directory in the place of a directory leaves what is in it.
    fn replace(&mut self, path: Vec<u8>, entry: Entry) {
        let before = self.entries.get(&path);
        if matches!(before, Some(Entry::Removed)) && entry.is_directory() {
            self.opaque.insert(path.clone());
        }
        if before.is_some_and(Entry::is_directory) && !entry.is_directory() {
            let below = joined(&path, b"");
            let inside: Vec<Vec<u8>> = self
                .entries
                .range(below.clone()..)
                .take_while(|(other, _)| other.starts_with(&below))
                .map(|(other, _)| other.clone())
                .collect();
            for other in &inside {
                self.entries.remove(other);
                self.opaque.remove(other);
            }
            self.opaque.remove(&path);
        }
        self.entries.insert(path, entry);
    }

    /// The path with the symbolic links resolved that the layer has on the way, as where it was unpacked.
    fn real(&self, path: &[u8]) -> Vec<u8> {
        let mut todo: Vec<Vec<u8>> = path.split(|b| *b == b'/').rev().map(<[u8]>::to_vec).collect();
        let mut at = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    at.truncate(at.iter().rposition(|b| *b == b'/').unwrap_or_default());
                    continue;
                }
                _ => {}
            }
            let next = joined(&at, &name);
            match self.entries.get(&next) {
                Some(Entry::There(link)) if link.kind == FileType::Symlink && links < MOST_LINKS => {
                    links += 1;
                    if link.link.first() == Some(&b'/') {
                        at.clear();
                    }
                    todo.extend(link.link.split(|b| *b == b'/').rev().map(<[u8]>::to_vec));
                }
                _ => at = next,
            }
        }
        at
    }

    /// The directories on the way to something.
    fn imply(&mut self, path: &[u8]) {
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        for end in ends.chain([path.len()]).filter(|end| *end > 0) {
            let entry = self.entries.entry(path[..end].to_vec()).or_insert(Entry::Implied);
            if let Entry::Removed = entry {
                *entry = Entry::Anew;
                self.opaque.insert(path[..end].to_vec());
            }
        }
    }

    fn compare(mut self, diff: BorrowedFd<'_>, lowers: Option<&[OwnedFd]>, problems: &mut Problems) -> Result<()> {
        // Only links to them are left.
        let below = joined(whiteout::LINKED_FILES, b"");
        self.entries
            .retain(|path, _| path != whiteout::LINKED_FILES && !path.starts_with(&below));
        if let Some(what) = self.root_differs(diff)? {
            problems.add(format!("{}: {what}", shown(b"")));
        }
        walk(diff, &mut |step| {
            let (dir, name, path) = match step {
                // No archive has any: a container that was committed may have left some.
                Step::Entry {
                    kind: FileType::Socket, ..
                }
                | Step::Enter { .. } => return Ok(()),
                Step::Entry { dir, name, path, .. } | Step::Leave { dir, name, path } => (dir, name, path),
            };
            match self.entries.remove(path) {
                None => problems.add(format!("{} was added", shown(path))),
                Some(entry) => {
                    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    let mut what = entry.differs(dir, name, &stat)?;
                    if what.is_none()
                        && matches!(entry, Entry::Implied)
                        && let Some(lowers) = lowers
                    {
                        what = implied_differs(&stat, path, lowers)?;
                    }
                    if what.is_none() && self.opaque.contains(path) && !whiteout::is_opaque(dir, name.to_bytes())? {
                        what = Some(SHOWS_BELOW);
                    }
                    if let Some(what) = what {
                        problems.add(format!("{}: {what}", shown(path)));
                    }
                }
            }
            Ok(())
        })?;
        for (path, _) in self.entries {
            problems.add(format!("{} is missing", shown(&path)));
        }
        Ok(())
    }
}

const SHOWS_BELOW: &str = "does not hide what is below it any more";

/// How a directory that the tar does not name is not like that of the layers below.
fn implied_differs(stat: &Stat, path: &[u8], lowers: &[OwnedFd]) -> Result<Option<&'static str>> {
    let wanted = match inherit::find(path, lowers)? {
        Some(below) => {
            let below = fstat(&below)?;
            (below.st_uid, below.st_gid, below.st_mode & 0o7777)
        }
        None => (0, 0, 0o755),
    };
    Ok(if (stat.st_uid, stat.st_gid) != (wanted.0, wanted.1) {
        Some("has another owner")
    } else if stat.st_mode & 0o7777 != wanted.2 {
        Some("has another mode")
    } else {
        None
    })
}

impl Tree {
    /// How the directory itself is not as it should be. One that was closed may have been opened to everybody when it
    /// was unpacked (`Options::open_root`), and what made it a layer may have touched its time.
    fn root_differs(&self, diff: BorrowedFd<'_>) -> Result<Option<&'static str>> {
        if let Some(wanted) = &self.root {
            let stat = fstat(diff)?;
            let mode = stat.st_mode & 0o7777;
            let usual = wanted.mode & 0o7777;
            if (stat.st_uid, stat.st_gid) != (wanted.uid, wanted.gid) {
                return Ok(Some("has another owner"));
            }
            if mode != usual && mode != usual | 0o755 {
                return Ok(Some("has another mode"));
            }
        }
        let shows = self.opaque.contains(&b""[..]) && !whiteout::is_opaque(diff, b"")?;
        Ok(shows.then_some(SHOWS_BELOW))
    }
}

impl Entry {
    fn is_directory(&self) -> bool {
        match self {
            Entry::Implied | Entry::Anew => true,
            Entry::There(attributes) => attributes.kind == FileType::Directory,
            Entry::Removed => false,
        }
    }

    /// How what is there is not as it should be.
    fn differs(&self, dir: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<Option<&'static str>> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let attributes = match self {
            Entry::Removed => {
                let hides = whiteout::hides(dir, name.to_bytes(), stat)?;
                return Ok((!hides).then_some("is not the mark of a removed name any more"));
            }
            Entry::Implied | Entry::Anew => {
                return Ok((kind != FileType::Directory).then_some("is no directory any more"));
            }
            Entry::There(attributes) => attributes,
        };
        attributes.differ(dir, name, stat, kind)
    }
}

impl Attributes {
    fn of(member: &Member, kind: FileType, size: u64) -> Attributes {
        Attributes {
            kind,
            mode: member.mode,
            uid: member.uid,
            gid: member.gid,
            mtime: member.mtime,
            size,
            link: member.link.clone(),
            device: member.device,
            xattrs: member.xattrs.clone(),
        }
    }

    fn differ(&self, dir: BorrowedFd<'_>, name: &CStr, stat: &Stat, kind: FileType) -> Result<Option<&'static str>> {
        let is_link = kind == FileType::Symlink;
        let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        let time = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or_default());
        let in_range = (0..=LAST_SECOND).contains(&self.mtime.seconds);
        let differs = if kind != self.kind {
            Some("is of another kind")
        } else if (stat.st_uid, stat.st_gid) != (self.uid, self.gid) {
            Some("has another owner")
        } else if !is_link && stat.st_mode & 0o7777 != self.mode & 0o7777 {
            Some("has another mode")
        } else if kind == FileType::RegularFile && u64::try_from(stat.st_size) != Ok(self.size) {
            Some("has another size")
        } else if in_range && time != (self.mtime.seconds, self.mtime.nanoseconds) {
            Some("has another time")
        } else if is_device && stat.st_rdev != makedev(self.device.0, self.device.1) {
            Some("is another device")
        } else if is_link && readlinkat(dir, name, Vec::new())?.to_bytes() != self.link {
            Some("leads elsewhere")
        } else {
            None
        };
        if differs.is_some() || self.xattrs.is_empty() {
            return Ok(differs);
        }
        for wanted in &self.xattrs {
            let decides = wanted.name.to_bytes().starts_with(b"security.capability");
            if decides && xattr::get(dir, name.to_bytes(), &wanted.name)?.as_ref() != Some(&wanted.value) {
                return Ok(Some("has other capabilities"));
            }
        }
        Ok(None)
    }
}

fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b"."))
}

fn joined(parent: &[u8], name: &[u8]) -> Vec<u8> {
    match parent.is_empty() {
        true => name.to_vec(),
        false => [parent, b"/", name].concat(),
    }
}
