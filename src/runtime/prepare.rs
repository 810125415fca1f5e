//! Everything that a start needs open before the clone, so that the child only walks down its list.

use crate::error::{Context as _, Error, Result};
use crate::model::idmap::IdMap;
use crate::model::mount::Propagation;
use crate::runtime::device;
use crate::runtime::plan::{Attachment, What};
use crate::runtime::rootfs::{self, Links};
use crate::sys;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::MountAttrFlags;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What the child finds open.
pub(crate) struct Prepared {
    /// The container's root, mounted and attached nowhere.
    pub(crate) root: OwnedFd,
    pub(crate) mounts: Vec<OwnedFd>,
    /// `tasks` of each v1 group, writable.
    pub(crate) tasks: Vec<OwnedFd>,
    /// The v2 group's directory.
    pub(crate) cgroup: Option<OwnedFd>,
    pub(crate) namespaces: Vec<OwnedFd>,
    /// The container's user namespace, if it has one of its own.
    pub(crate) users: Option<OwnedFd>,
    pub(crate) streams: ChildStreams,
    pub(crate) seccomp: Vec<libc::sock_filter>,
    pub(crate) passed: Vec<OwnedFd>,
}

/// The program's ends of its streams.
pub(crate) struct ChildStreams {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    pub(crate) terminal: bool,
    /// They are somebody else's, and stay as they are.
    pub(crate) foreign: bool,
}

/// What the program gets from its starter besides its streams.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    /// Become descriptors 3, 4, …; their own numbers are beyond those.
    pub(crate) fds: Vec<OwnedFd>,
    /// `NAME=value`.
    pub(crate) env: Vec<String>,
    /// It gets a socket for notifications.
    pub(crate) notifies: bool,
}

impl Passed {
    /// Copies of `fds`, for one start.
    pub(crate) fn new(fds: &[OwnedFd], env: Vec<String>, notifies: bool) -> Result<Passed> {
        let beyond = beyond(fds.len());
        let copies = fds.iter().map(|fd| Ok(rustix::io::fcntl_dupfd_cloexec(fd, beyond)?));
        Ok(Passed {
            fds: copies.collect::<Result<_>>()?,
            env,
            notifies,
        })
    }
}

/// The first number that none of `count` passed descriptors gets.
pub(crate) fn beyond(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX - 3) + 3
}

/// A terminal of the container's own /dev/pts.
pub(crate) struct Terminal {
    pub(crate) master: OwnedFd,
    pub(crate) slave: OwnedFd,
}

/// What mounts are made for.
#[derive(Debug, Default)]
pub(crate) struct Needs<'a> {
    pub(crate) tty: bool,
    /// There is no filter for devices: none that lies on the mounts may work.
    pub(crate) no_devices: bool,
    pub(crate) shared_shm: Option<OwnedFd>,
    /// Mounts that exist already, in the order of `plan::Facts::trees`.
    pub(crate) trees: Vec<OwnedFd>,
    /// The container's users, and their namespace.
    pub(crate) users: Option<(&'a IdMap, BorrowedFd<'a>)>,
}

/// The mounts of a plan, and the terminal if one of them asks for it.
pub(crate) fn open_mounts(
    attachments: &[Attachment],
    mut needs: Needs<'_>,
) -> Result<(Vec<OwnedFd>, Option<Terminal>)> {
    let mut trees: Vec<_> = std::mem::take(&mut needs.trees).into_iter().map(Some).collect();
    let mut mounts = Vec::with_capacity(attachments.len());
    let mut terminal = None;
    for attachment in attachments {
        let mount = match &attachment.what {
            What::Dev { console } => device::new_dev(*console)?,
            What::Pts => {
                let ids = needs.users.map(|(ids, _)| ids);
                let fs = new_pts(ids)?;
                if needs.tty {
                    terminal = Some(open_terminal(fs.as_fd(), ids)?);
                }
                fs
            }
            What::Tmpfs { options, flags } => {
                let options: Vec<_> = options.iter().map(String::as_str).collect();
                let mut attributes = MountAttrFlags::empty();
                for (on, flag) in [
                    (flags.noexec, MountAttrFlags::MOUNT_ATTR_NOEXEC),
                    (flags.nosuid, MountAttrFlags::MOUNT_ATTR_NOSUID),
                    (flags.nodev, MountAttrFlags::MOUNT_ATTR_NODEV),
                ] {
                    attributes.set(flag, on);
                }
                sys::mount::new_filesystem("tmpfs", &options, attributes).context("make a tmpfs")?
            }
            What::SharedShm => {
                let shm = needs.shared_shm.take();
                shm.ok_or_else(|| Error::other("there is no shared /dev/shm"))?
            }
            What::Tree(n) => {
                let tree = trees.get_mut(*n).and_then(Option::take);
                tree.ok_or_else(|| Error::other("a tree to mount is missing"))?
            }
            What::Path { path, recursive } => sys::mount::clone_tree(rustix::fs::CWD, path, *recursive)
                .with_context(|| format!("clone the mount of {}", path.display()))?,
        };
        if let (true, Some((_, users))) = (attachment.map_owners, needs.users) {
            let mapped = sys::mount::map_owners(mount.as_fd(), users, true);
            mapped
                .map_err(|e| {
                    Error::from(e).with_hint(
                        "its filesystem, or this kernel, can't show files to a container as others' (idmapped mounts)",
                    )
                })
                .context("map the owners of the mount")?;
        }
        adjust(mount.as_fd(), attachment, !needs.no_devices)?;
        mounts.push(mount);
    }
    Ok((mounts, terminal))
}

/// Read-only and propagation, with everything mounted below: a read-only bind with a writable mount inside is none.
fn adjust(mount: BorrowedFd<'_>, attachment: &Attachment, devices: bool) -> Result<()> {
    let (propagation, recursive) = match attachment.propagation {
        Propagation::Rprivate => (libc::MS_PRIVATE, true),
        Propagation::Private => (libc::MS_PRIVATE, false),
        Propagation::Rshared => (libc::MS_SHARED, true),
        Propagation::Shared => (libc::MS_SHARED, false),
        Propagation::Rslave => (libc::MS_SLAVE, true),
        Propagation::Slave => (libc::MS_SLAVE, false),
    };
    let from_host = matches!(attachment.what, What::Path { .. });
    let set = |attributes| sys::mount::set_attributes(mount, attributes);
    if from_host {
        if !recursive && propagation != libc::MS_SHARED {
            // What is mounted below would stay in the host's peer groups, and mounts made on it appear there.
            let slaves = sys::mount::Attributes {
                set: 0,
                propagation: libc::MS_SLAVE,
                recursive: true,
            };
            set(slaves).context("set mount propagation")?;
        }
        set(sys::mount::Attributes {
            set: 0,
            propagation,
            recursive,
        })
        .context("set mount propagation")?;
    }
    let no_devices = !devices && matches!(attachment.what, What::Path { .. } | What::Tmpfs { .. });
    let attributes = if attachment.read_only {
        libc::MOUNT_ATTR_RDONLY
    } else {
        0
    } | if no_devices { libc::MOUNT_ATTR_NODEV } else { 0 };
    if attributes != 0 {
        set(sys::mount::Attributes {
            set: attributes,
            propagation: 0,
            recursive: from_host,
        })
        .context("restrict the mount")?;
    }
    Ok(())
}

/// The group of terminals, `tty` by convention.
const TTY: u32 = 5;

fn new_pts(ids: Option<&IdMap>) -> Result<OwnedFd> {
    let group = ids.map_or(Some(TTY), |ids| ids.outside_group(TTY));
    let group = format!("gid={}", group.unwrap_or_default());
    let options = ["newinstance", "ptmxmode=0666", "mode=0620", &group];
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    sys::mount::new_filesystem("devpts", &options, attributes).context("make /dev/pts")
}

/// A further terminal of a running container, from its own /dev/pts.
pub(crate) fn terminal_inside(root: BorrowedFd<'_>, ids: Option<&IdMap>) -> Result<Terminal> {
    const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
    let pts = rootfs::open(root, Path::new("/dev/pts"), Links::Refuse).context("open /dev/pts of the container")?;
    // A container that may mount could have put anything there.
    if rustix::fs::fstatfs(&pts)?.f_type != DEVPTS_SUPER_MAGIC {
        return Err(Error::other("/dev/pts of the container holds no terminals"));
    }
    open_terminal(pts.as_fd(), ids)
}

/// The pair is made by descriptors alone, so that no path of the container is trusted (TIOCGPTPEER, Linux 4.13).
fn open_terminal(pts: BorrowedFd<'_>, ids: Option<&IdMap>) -> Result<Terminal> {
    // A container that may mount could have put a FIFO or another device in its place.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    let master = rustix::fs::openat2(pts, "ptmx", flags, Mode::empty(), resolve).context("open a terminal")?;
    let device = rustix::fs::fstat(&master)?.st_rdev;
    if (rustix::fs::major(device), rustix::fs::minor(device)) != (5, 2) {
        return Err(Error::other("/dev/pts/ptmx makes no terminals"));
    }
    rustix::pty::unlockpt(&master).context("unlock the terminal")?;
    use rustix::pty::OpenptFlags;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
        .context("open the terminal's other side")?;
    if let Some(user) = ids.and_then(|ids| ids.outside_user(0)) {
        let user = rustix::fs::Uid::from_raw(user);
        rustix::fs::fchown(&slave, Some(user), None).context("give the terminal to the container's root")?;
    }
    Ok(Terminal { master, slave })
}
