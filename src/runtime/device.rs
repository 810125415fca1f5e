//! A container's /dev: a fresh tmpfs with docker's nodes, and the devices that were asked for.

use crate::error::{Context as _, Error, Result};
use crate::model::resources::{Access, Device, DeviceKind, DeviceRule};
use crate::runtime::rootfs::{self, Links};
use crate::sys;
use rustix::fs::{AtFlags, FileType, Mode};
use rustix::mount::MountAttrFlags;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// One device node to make inside the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceNode {
    /// Absolute, inside the container.
    pub(crate) target: PathBuf,
    /// The host's own node, bound where mknod is refused.
    pub(crate) source: PathBuf,
    pub(crate) kind: DeviceKind,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Every container's character devices (runtime-spec, config-linux.md "Default Devices").
const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
];

/// A detached tmpfs with the default nodes, links and empty mount points. The caller's umask is 0.
pub(crate) fn new_dev(console: bool) -> Result<OwnedFd> {
    let dev = sys::mount::new_filesystem("tmpfs", &["mode=0755", "size=64m"], MountAttrFlags::MOUNT_ATTR_NOSUID)
        .context("make a tmpfs for /dev")?;
    for (name, major, minor) in NODES {
        let made = rustix::fs::mknodat(
            &dev,
            name,
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            rustix::fs::makedev(major, minor),
        );
        match made {
            Ok(()) => {}
            // Inside another container mknod may be refused: then its node serves.
            Err(rustix::io::Errno::PERM) => bind(dev.as_fd(), Path::new(name), &Path::new("/dev").join(name))?,
            Err(e) => return Err(e).with_context(|| format!("make /dev/{name}")),
        }
    }
    for (name, to) in LINKS {
        rustix::fs::symlinkat(to, &dev, name)?;
    }
    for dir in ["pts", "shm", "mqueue"] {
        rustix::fs::mkdirat(&dev, dir, Mode::from_raw_mode(0o755))?;
    }
    if console {
        make_file(dev.as_fd(), Path::new("console"))?;
    }
    Ok(dev)
}

fn make_file(dir: BorrowedFd<'_>, name: &Path) -> Result<()> {
    use rustix::fs::OFlags;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600))?;
    Ok(())
}

fn bind(dir: BorrowedFd<'_>, name: &Path, source: &Path) -> Result<()> {
    make_file(dir, name)?;
    let place = rootfs::open(dir, name, Links::Refuse)?;
    let node = sys::mount::clone_tree(rustix::fs::CWD, source, false)?;
    sys::mount::attach(node.as_fd(), place.as_fd()).with_context(|| format!("bind {}", source.display()))
}

/// Makes a node inside the root whose mounts are in place; what an image has there gives way. The caller's umask is 0.
pub(crate) fn make_node(root: BorrowedFd<'_>, node: &DeviceNode) -> Result<()> {
    let (Some(parent), Some(name)) = (node.target.parent(), node.target.file_name()) else {
        return Err(Error::other(format!("{} can't be a device", node.target.display())));
    };
    let dir = rootfs::open_or_make(root, parent, rootfs::Node::Directory, Links::Follow)?;
    let kind = if node.kind == DeviceKind::Block {
        FileType::BlockDevice
    } else {
        FileType::CharacterDevice
    };
    let mode = Mode::from_raw_mode(node.mode);
    let dev = rustix::fs::makedev(node.major, node.minor);
    let mut made = rustix::fs::mknodat(&dir, name, kind, mode, dev);
    if made == Err(rustix::io::Errno::EXIST) {
        rustix::fs::unlinkat(&dir, name, AtFlags::empty())?;
        made = rustix::fs::mknodat(&dir, name, kind, mode, dev);
    }
    match made {
        Ok(()) => {
            let (uid, gid) = (rustix::fs::Uid::from_raw(node.uid), rustix::fs::Gid::from_raw(node.gid));
            Ok(rustix::fs::chownat(
                &dir,
                name,
                Some(uid),
                Some(gid),
                AtFlags::SYMLINK_NOFOLLOW,
            )?)
        }
        Err(rustix::io::Errno::PERM) => bind(dir.as_fd(), Path::new(name), &node.source),
        Err(e) => Err(e.into()),
    }
}

/// `--device`: the nodes to make and what the control group must allow. A directory stands for the devices in it.
pub(crate) fn resolve(devices: &[Device]) -> Result<(Vec<DeviceNode>, Vec<DeviceRule>)> {
    let mut nodes = Vec::new();
    let mut rules = Vec::new();
    for device in devices {
        let before = nodes.len();
        collect(&device.source, &device.target, 0, &mut nodes)
            .with_context(|| format!("device {}", device.source.display()))?;
        if nodes.len() == before {
            return Err(Error::other(format!(
                "device {}: not a device",
                device.source.display()
            )));
        }
        rules.extend(nodes[before..].iter().map(|n| rule(n, device.access)));
    }
    Ok((nodes, rules))
}

/// All of the host's devices, for `--privileged`. What cannot be read is left out.
pub(crate) fn host_nodes() -> Vec<DeviceNode> {
    let mut nodes = Vec::new();
    for entry in std::fs::read_dir("/dev").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let taken = NODES.iter().any(|(n, ..)| name == *n) || LINKS.iter().any(|(n, _)| name == *n);
        if taken || ["pts", "shm", "mqueue", "console", ".udev"].iter().any(|n| name == *n) {
            continue;
        }
        let _ = collect(&entry.path(), &Path::new("/dev").join(&name), 0, &mut nodes);
    }
    nodes
}

/// Directories deeper than this are not looked into.
const DEPTH: usize = 8;

fn collect(source: &Path, target: &Path, depth: usize, nodes: &mut Vec<DeviceNode>) -> Result<()> {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    // A link the user names is followed (/dev/disk/by-id/…); one inside a directory is not.
    let meta = if depth == 0 {
        std::fs::metadata(source)?
    } else {
        std::fs::symlink_metadata(source)?
    };
    let kind = meta.file_type();
    if kind.is_dir() && depth < DEPTH {
        for entry in std::fs::read_dir(source)?.flatten() {
            collect(&entry.path(), &target.join(entry.file_name()), depth + 1, nodes)?;
        }
    } else if kind.is_char_device() || kind.is_block_device() {
        nodes.push(DeviceNode {
            target: target.to_owned(),
            source: source.to_owned(),
            kind: if kind.is_block_device() {
                DeviceKind::Block
            } else {
                DeviceKind::Char
            },
            major: rustix::fs::major(meta.rdev()),
            minor: rustix::fs::minor(meta.rdev()),
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
        });
    }
    Ok(())
}

fn rule(node: &DeviceNode, access: Access) -> DeviceRule {
    DeviceRule {
        kind: node.kind,
        major: Some(node.major),
        minor: Some(node.minor),
        access,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_becomes_a_node_and_a_rule() {
        let device = Device {
            source: "/dev/null".into(),
            target: "/dev/nothing".into(),
            access: Access::ALL,
        };
        let (nodes, rules) = resolve(&[device]).unwrap();
        assert_eq!(
            (nodes[0].major, nodes[0].minor, nodes[0].target.to_str()),
            (1, 3, Some("/dev/nothing"))
        );
        assert_eq!(rules[0].major, Some(1));
    }

    #[test]
    fn what_is_no_device_is_refused_by_name() {
        let device = Device {
            source: "/etc/passwd".into(),
            target: "/x".into(),
            access: Access::ALL,
        };
        assert_eq!(
            resolve(&[device]).unwrap_err().to_string(),
            "device /etc/passwd: not a device"
        );
    }
}
