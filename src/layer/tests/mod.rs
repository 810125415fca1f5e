//! Archives made by hand and by GNU tar, unpacked on a real filesystem.
#![allow(clippy::disallowed_methods)] // test files need no staging

mod fuzz;
mod hostile;
mod packed;
mod round_trip;
mod stacks;
mod trees;
mod verified;

use crate::error::Result;
use crate::layer::unpack::Unpacked;
use crate::layer::xattr::{self, Xattr};
use crate::layer::{Options, unpack};
use crate::model::digest::Digest;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tar::{EntryType, Header};

/// A directory of its own that is gone with the value.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn new(name: &str) -> Self {
        let path = PathBuf::from(format!("/tmp/layer/{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    /// An empty directory in it, and open.
    pub(super) fn dir(&self, name: &str) -> (PathBuf, OwnedFd) {
        let path = self.0.join(name);
        fs::create_dir(&path).unwrap();
        let fd = File::open(&path).unwrap().into();
        (path, fd)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let status = Command::new("rm").arg("-rf").arg(&self.0).status().unwrap();
        assert!(status.success());
    }
}

/// An archive, member by member.
#[derive(Default, Clone)]
pub(super) struct Tar(pub(super) Vec<u8>);

impl Tar {
    /// A member with its name and type as given, whatever they are.
    pub(super) fn add(mut self, name: &str, kind: u8, content: &[u8]) -> Self {
        self.push(name, kind, content, |_| {});
        self
    }

    pub(super) fn with(mut self, name: &str, kind: u8, content: &[u8], change: impl FnOnce(&mut Header)) -> Self {
        self.push(name, kind, content, change);
        self
    }

    pub(super) fn link(self, name: &str, kind: u8, target: &str) -> Self {
        self.with(name, kind, b"", |h| {
            h.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes())
        })
    }

    pub(super) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let bytes: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.add("PaxHeader", b'x', &bytes)
    }

    fn push(&mut self, name: &str, kind: u8, content: &[u8], change: impl FnOnce(&mut Header)) {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(EntryType::new(kind));
        header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

pub(super) fn unpack_bytes(archive: &[u8], dir: &OwnedFd) -> Result<Unpacked> {
    unpack(archive, dir.as_fd(), &Options::default())
}

/// An empty file for a tar record.
pub(super) fn record_file() -> File {
    rustix::fs::memfd_create("record", rustix::fs::MemfdFlags::CLOEXEC)
        .unwrap()
        .into()
}

/// A PAX record, with the length that includes itself.
pub(super) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// One line per file of a tree, with all that an archive keeps of it: the way to compare trees.
pub(super) fn describe(root: &Path) -> Vec<String> {
    let mut lines = vec![line(root, Path::new(""))];
    let mut todo = vec![PathBuf::new()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(root.join(&dir)).unwrap() {
            let entry = entry.unwrap();
            let path = dir.join(entry.file_name());
            lines.push(line(root, &path));
            if entry.file_type().unwrap().is_dir() {
                todo.push(path);
            }
        }
    }
    lines.sort();
    lines
}

fn line(root: &Path, path: &Path) -> String {
    let whole = root.join(path);
    let meta = fs::symlink_metadata(&whole).unwrap();
    let (what, links) = match meta.file_type() {
        t if t.is_file() => (
            Digest::of(&fs::read(&whole).unwrap()).hex()[..16].to_owned(),
            meta.nlink(),
        ),
        t if t.is_symlink() => (format!("-> {}", fs::read_link(&whole).unwrap().display()), meta.nlink()),
        t if t.is_dir() => ("/".to_owned(), 0),
        _ => (format!("device {}", meta.rdev()), meta.nlink()),
    };
    let parent = File::open(whole.parent().unwrap()).unwrap();
    let name = if path.as_os_str().is_empty() {
        b""
    } else {
        name_of(&whole)
    };
    let parent = if name.is_empty() {
        File::open(&whole).unwrap()
    } else {
        parent
    };
    let xattrs = xattr::all(parent.as_fd(), name).unwrap();
    format!(
        "{} {:o} {}:{} {}.{:09} {links} {what} {xattrs:?}",
        path.display(),
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.mtime(),
        meta.mtime_nsec()
    )
}

/// What GNU tar says.
pub(super) fn gnu_tar(args: &[&str], dir: &Path, archive: &Path) {
    let (create, rest) = args.split_first().unwrap();
    let out = Command::new("tar")
        .arg(create)
        .arg("-f")
        .arg(archive)
        .arg("-C")
        .arg(dir)
        .args(rest)
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "tar {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

pub(super) fn list(root: &Path) -> Vec<String> {
    describe(root)
        .iter()
        .map(|l| l.split(' ').next().unwrap_or_default().to_owned())
        .filter(|n| !n.is_empty())
        .collect()
}

pub(super) fn name_of(path: &Path) -> &[u8] {
    path.file_name().unwrap().as_bytes()
}

/// A tree with one of everything.
pub(super) fn everything(root: &Path) {
    let script = r#"set -e; cd "$1"
        mkdir -p etc usr/bin usr/lib "dir with space" empty deep/$(printf 'd%.0s' $(seq 120))/$(printf 'e%.0s' $(seq 120))
        printf hello > etc/hostname; : > etc/empty
        head -c 100000 /dev/urandom > usr/bin/large
        ln usr/bin/large usr/bin/same; ln -s ../bin/large usr/lib/link; ln -s /nowhere usr/lib/dangling
        ln usr/lib/link usr/lib/link-too
        printf x > "deep/$(printf 'd%.0s' $(seq 120))/$(printf 'e%.0s' $(seq 120))/file"
        printf x > "$(printf 'bad\377\376name')"
        mknod null c 1 3; mknod disk b 8 17; mkfifo fifo
        chmod 4755 usr/bin/large; chmod 2775 empty; chmod 1777 "dir with space"; chmod 0 etc/empty
        chown 1000:100 etc/hostname; chown 3000000:4000000 empty; chown -h 7:8 usr/lib/link
        truncate -s 900000 sparse; printf middle | dd of=sparse bs=1 seek=500000 conv=notrunc status=none
        printf end | dd of=sparse bs=1 seek=890000 conv=notrunc status=none
        truncate -s 700000 hole
        touch -h -d '2001-02-03 04:05:06.789012345 UTC' etc/hostname; touch -h -d '1969-01-01 UTC' usr/lib/link
        touch -d '1901-12-20 UTC' etc/empty; touch -d '2020-01-01 00:00:00.5 UTC' usr etc .
    "#;
    let out = Command::new("sh").args(["-c", script, "-"]).arg(root).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let root = File::open(root).unwrap();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (file, name, value) in [
        ("etc/hostname", "user.note", &b"a\n1\0\xff"[..]),
        ("usr/bin/large", "security.capability", &capability),
        ("usr", "trusted.mark", b"=\n="),
        ("usr/lib/link", "trusted.link", b"l"),
    ] {
        let xattr = Xattr::new(name.as_bytes(), value.to_vec()).unwrap();
        xattr::set(root.as_fd(), file.as_bytes(), &xattr).unwrap();
    }
}
