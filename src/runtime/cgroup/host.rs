//! Which control group hierarchies this machine has, where they are mounted, and what each controls.
//!
//! Three layouts occur: v2 alone at /sys/fs/cgroup; v1, with one mount for each controller or for several together; and
//! both (hybrid), where a controller belongs to one of the two. A hierarchy that is mounted read-only counts as absent.

use crate::error::{Context, Result};
use crate::model::id::ContainerId;
use crate::runtime::cgroup::place::Place;
use crate::runtime::cgroup::{file, scope};
use rustix::fs::CWD;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Where every distribution mounts control groups.
const SYS_FS_CGROUP: &str = "/sys/fs/cgroup";
/// Where systemd puts v2 beside v1.
const SYS_FS_CGROUP_UNIFIED: &str = "/sys/fs/cgroup/unified";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

/// A controller the engine sets something in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Controller {
    Cpu,
    Cpuset,
    /// `blkio` in v1.
    Io,
    Memory,
    Pids,
    /// v1 only; in v2 a BPF program does its work.
    Devices,
}

impl Controller {
    /// Those of v2, which a group has only if all groups above it enable them.
    pub(crate) const V2: [Controller; 5] = [
        Controller::Cpu,
        Controller::Cpuset,
        Controller::Io,
        Controller::Memory,
        Controller::Pids,
    ];

    /// As `cgroup.controllers` spells it.
    pub(crate) fn v2_name(self) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::Cpuset => "cpuset",
            Controller::Io => "io",
            Controller::Memory => "memory",
            Controller::Pids => "pids",
            Controller::Devices => "devices",
        }
    }

    fn from_name(name: &[u8]) -> Option<Controller> {
        Some(match name {
            b"cpu" => Controller::Cpu,
            b"cpuset" => Controller::Cpuset,
            b"io" | b"blkio" => Controller::Io,
            b"memory" => Controller::Memory,
            b"pids" => Controller::Pids,
            b"devices" => Controller::Devices,
            _ => return None,
        })
    }
}

/// A set of controllers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Controllers(u8);

impl Controllers {
    pub(crate) fn contains(self, controller: Controller) -> bool {
        self.0 & 1 << controller as u8 != 0
    }

    pub(crate) fn contains_all(self, others: Controllers) -> bool {
        self.0 & others.0 == others.0
    }

    pub(crate) fn intersection(self, other: Controllers) -> Controllers {
        Controllers(self.0 & other.0)
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Controller> {
        Controller::V2
            .into_iter()
            .chain([Controller::Devices])
            .filter(move |c| self.contains(*c))
    }

    /// From names between any of these separators; other names are not ours to set.
    fn parse(names: &[u8], separator: fn(&u8) -> bool) -> Controllers {
        names.split(separator).filter_map(Controller::from_name).collect()
    }

    /// From `cgroup.controllers` or `cgroup.subtree_control`.
    pub(crate) fn from_file(text: &[u8]) -> Controllers {
        Controllers::parse(text, |b| b.is_ascii_whitespace())
    }
}

impl FromIterator<Controller> for Controllers {
    fn from_iter<I: IntoIterator<Item = Controller>>(controllers: I) -> Self {
        Controllers(controllers.into_iter().fold(0, |bits, c| bits | 1 << c as u8))
    }
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub(crate) version: Version,
    pub(crate) mount: PathBuf,
    pub(crate) controllers: Controllers,
    /// Below which group containers' groups are made; `None` is the engine's own.
    pub(crate) below: Option<Below>,
}

/// A group that is not the engine's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Below {
    /// Relative to the mount.
    pub(crate) dir: PathBuf,
    /// systemd has made it and given it away: what is above it is systemd's.
    pub(crate) delegated: bool,
}

/// The hierarchies of this machine, as our mount namespace shows them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Host {
    /// v2 first, if there is one, then v1's memory, then the rest.
    pub(crate) hierarchies: Vec<Hierarchy>,
}

impl Host {
    /// Looks; changes nothing.
    pub(crate) fn probe() -> Result<Host> {
        let mut host = match Host::customary()? {
            Some(host) => host,
            None => Host::parse(&std::fs::read("/proc/self/mountinfo").context("read /proc/self/mountinfo")?),
        };
        for h in host.hierarchies.iter_mut().filter(|h| h.version == Version::V2) {
            let text = file::read(CWD, h.mount.join("cgroup.controllers"));
            h.controllers = text.map(|t| Controllers::from_file(&t)).unwrap_or_default();
        }
        // oom_killed asks one after the other.
        host.hierarchies
            .sort_by_key(|h| (h.version == Version::V1, !h.controllers.contains(Controller::Memory)));
        Ok(host)
    }

    /// Everything where distributions mount it, which spares looking at all mounts, of which a busy machine has
    /// thousands. `None` if something is missing there.
    fn customary() -> Result<Option<Host>> {
        let mut host = Host::default();
        if Hierarchy::at(SYS_FS_CGROUP.into(), Version::V2, Controllers::default(), &mut host)? {
            return Ok(Some(host));
        }
        Hierarchy::at(
            SYS_FS_CGROUP_UNIFIED.into(),
            Version::V2,
            Controllers::default(),
            &mut host,
        )?;
        let ours = file::read(CWD, "/proc/self/cgroup").context("read /proc/self/cgroup")?;
        for line in ours.split(|b| *b == b'\n') {
            // `7:cpu,cpuacct:/path`, `1:name=systemd:/`, `0::/` for v2.
            let Some(names) = line.split(|b| *b == b':').nth(1).filter(|n| !n.is_empty()) else {
                continue;
            };
            let directory = names.strip_prefix(b"name=").unwrap_or(names);
            let controllers = Controllers::parse(names, |b| *b == b',');
            let mount = Path::new(SYS_FS_CGROUP).join(OsStr::from_bytes(directory));
            if !Hierarchy::at(mount, Version::V1, controllers, &mut host)? {
                return Ok(None);
            }
        }
        Ok(Some(host))
    }

    /// From proc_pid_mountinfo(5).
    fn parse(mountinfo: &[u8]) -> Host {
        let mut devices = Vec::new();
        let mut host = Host::default();
        for line in mountinfo.split(|b| *b == b'\n') {
            let Some((device, hierarchy)) = parse_mount(line) else {
                continue;
            };
            if devices.contains(&device) {
                continue;
            }
            devices.push(device);
            match hierarchy.version {
                Version::V1 => host.hierarchies.push(hierarchy),
                Version::V2 => host.hierarchies.insert(0, hierarchy),
            }
        }
        host
    }

    /// The filesystems that a container mounts below its own /sys/fs/cgroup.
    pub(crate) fn filesystems(&self) -> Vec<Filesystem> {
        self.hierarchies.iter().filter_map(Hierarchy::filesystem).collect()
    }

    /// The same machine for a container whose groups go to `place`.
    pub(crate) fn with_place(mut self, base: &str, id: &ContainerId, place: &Place) -> Host {
        let (dir, delegated) = match place {
            Place::Own => return self,
            Place::Nowhere => {
                self.hierarchies.clear();
                return self;
            }
            Place::Unit(group) => (group.clone(), true),
            Place::Below(group) => (group.clone(), false),
            Place::Scope(slice) => (scope::slice_path(slice).join(scope_name(base, id)), true),
        };
        let below = Below { dir, delegated };
        for hierarchy in &mut self.hierarchies {
            hierarchy.below = Some(below.clone());
        }
        self
    }

    /// The groups of one container, in the order of the hierarchies. Recorded before they are made.
    pub(crate) fn paths(&self, base: &str, id: &ContainerId) -> Vec<PathBuf> {
        self.hierarchies.iter().map(|h| h.group(base, id)).collect()
    }
}

/// All that Linux has ever had in v1; what is mounted under another name is a hierarchy without controllers.
const V1_CONTROLLERS: [&str; 14] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
];

/// One hierarchy as a filesystem to mount: its type, options, and directory name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filesystem {
    pub(crate) kind: &'static str,
    pub(crate) options: Vec<String>,
    pub(crate) name: String,
}

impl Hierarchy {
    /// A v1 mount point is named after what is mounted there (cgroups(7), "Mounting v1 controllers").
    fn filesystem(&self) -> Option<Filesystem> {
        let name = self.mount.file_name()?.to_str()?.to_owned();
        Some(match self.version {
            Version::V2 => Filesystem {
                kind: "cgroup2",
                options: Vec::new(),
                name,
            },
            Version::V1 if name.split(',').all(|c| V1_CONTROLLERS.contains(&c)) => Filesystem {
                kind: "cgroup",
                options: name.split(',').map(str::to_owned).collect(),
                name,
            },
            Version::V1 => Filesystem {
                kind: "cgroup",
                options: vec!["none".to_owned(), format!("name={name}")],
                name,
            },
        })
    }

    /// Adds the hierarchy that is mounted at `mount`; false if none of this version is. One that is mounted read-only
    /// is there, but not for us.
    fn at(mount: PathBuf, version: Version, controllers: Controllers, host: &mut Host) -> Result<bool> {
        let magic = match version {
            Version::V1 => libc::CGROUP_SUPER_MAGIC,
            Version::V2 => libc::CGROUP2_SUPER_MAGIC,
        };
        let stat = match rustix::fs::statfs(&mount) {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
            Err(e) => return Err(e).with_context(|| format!("look at {}", mount.display())),
        };
        if stat.f_type != magic {
            return Ok(false);
        }
        if stat.f_flags.cast_unsigned() & libc::ST_RDONLY == 0 {
            host.hierarchies.push(Hierarchy {
                version,
                mount,
                controllers,
                below: None,
            });
        }
        Ok(true)
    }

    /// `barge/<id>` where v2 has controllers: the parent holds them enabled, which systemd would otherwise take away
    /// from the root's children if it has no need of them itself. Elsewhere `barge-<id>`: a parent would be nothing but
    /// a directory more to make and to remove, in each of a dozen hierarchies.
    pub(crate) fn group(&self, base: &str, id: &ContainerId) -> PathBuf {
        if let Some(below) = &self.below {
            return self.mount.join(&below.dir).join(format!("{base}-{id}"));
        }
        let nested = self.version == Version::V2 && self.controllers != Controllers::default();
        self.mount.join(if nested {
            format!("{base}/{id}")
        } else {
            format!("{base}-{id}")
        })
    }
}

/// One line of mountinfo: `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [TAG…] - TYPE SOURCE SUPER-OPTIONS`. Gives the
/// device, which is the hierarchy's identity, and the hierarchy.
fn parse_mount(line: &[u8]) -> Option<(&[u8], Hierarchy)> {
    let at = line.windows(9).position(|w| w == b" - cgroup")?;
    let mut mount = line[..at].split(|b| *b == b' ').skip(2);
    let (device, _root, point, options) = (mount.next()?, mount.next()?, mount.next()?, mount.next()?);
    let mut fs = line[at + 3..].split(|b| *b == b' ');
    let (kind, _source, super_options) = (fs.next()?, fs.next()?, fs.next()?);
    if options.split(|b| *b == b',').any(|o| o == b"ro") {
        return None;
    }
    let (version, controllers) = match kind {
        b"cgroup" => (Version::V1, Controllers::parse(super_options, |b| *b == b',')),
        b"cgroup2" => (Version::V2, Controllers::default()),
        _ => return None,
    };
    Some((
        device,
        Hierarchy {
            version,
            mount: unescape(point),
            controllers,
            below: None,
        },
    ))
}

/// Blank, tab, newline and backslash stand as `\` and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail
            .get(..3)
            .filter(|d| first == b'\\' && d.iter().all(|b| matches!(b, b'0'..=b'7')));
        match digits {
            Some(d) => {
                out.push(d.iter().fold(0u8, |n, b| n.wrapping_mul(8).wrapping_add(b - b'0')));
                rest = &tail[3..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

/// The scope that systemd makes for a container.
pub(crate) fn scope_name(base: &str, id: &ContainerId) -> String {
    format!("{base}-{id}.scope")
}

/// Name of the engine's groups: one whose root is not the default one has its own, so that two engines don't meet.
pub(crate) fn base(instance: Option<&str>) -> String {
    instance.map_or_else(|| "barge".to_owned(), |i| format!("barge-{i}"))
}

fn is_base(name: &[u8]) -> bool {
    name == b"barge"
        || name
            .strip_prefix(b"barge-")
            .is_some_and(|i| i.len() == 6 && i.iter().all(u8::is_ascii_hexdigit))
}

fn is_id(name: &[u8]) -> bool {
    std::str::from_utf8(name).is_ok_and(|n| ContainerId::parse(n).is_some())
}

/// The engine's own parent directory above a v2 group: the one that goes when its last group has gone.
pub(crate) fn parent_of_ours(group: &Path) -> Option<&Path> {
    group
        .parent()
        .filter(|p| p.file_name().is_some_and(|n| is_base(n.as_bytes())))
}

/// Whether `path` can only be a container's group. Everything in a group gets killed, so a damaged record must not be
/// able to name another.
pub(crate) fn is_group(path: &Path) -> bool {
    use std::path::Component::{Normal, RootDir};
    let Some(name) = path.file_name().map(OsStr::as_bytes) else {
        return false;
    };
    path.is_absolute()
        && path.components().all(|c| matches!(c, RootDir | Normal(_)))
        && match name.len().checked_sub(64).map(|at| name.split_at(at)) {
            Some((b"", id)) => is_id(id) && parent_of_ours(path).is_some(),
            Some((prefix, id)) => is_id(id) && prefix.strip_suffix(b"-").is_some_and(is_base),
            None => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> ContainerId {
        ContainerId::from_random(&[0xab; 32])
    }

    fn mounts(host: &Host) -> Vec<(&str, Vec<Controller>)> {
        host.hierarchies
            .iter()
            .map(|h| (h.mount.to_str().unwrap(), h.controllers.iter().collect()))
            .collect()
    }

    #[test]
    fn hierarchies_of_a_hybrid_machine() {
        let host = Host::parse(
            b"23 1 254:0 / / rw - ext4 /dev/vda rw\n\
              31 23 0:28 / /sys/fs/cgroup ro,nosuid shared:4 - tmpfs tmpfs ro,mode=755\n\
              32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 master:1 - cgroup cgroup rw,cpu,cpuacct\n\
              33 31 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
              34 31 0:31 /x /mnt/with\\040blank\\134 rw - cgroup cgroup rw,memory\n\
              35 31 0:31 / /mnt/again rw - cgroup cgroup rw,memory\n\
              36 31 0:32 / /sys/fs/cgroup/pids ro - cgroup cgroup rw,pids\n\
              37 31 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n\
              38 31 0:34 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio",
        );
        assert_eq!(
            mounts(&host),
            [
                ("/sys/fs/cgroup/unified", vec![]),
                ("/sys/fs/cgroup/cpu,cpuacct", vec![Controller::Cpu]),
                ("/sys/fs/cgroup/systemd", vec![]),
                ("/mnt/with blank\\", vec![Controller::Memory]),
                ("/sys/fs/cgroup/blkio", vec![Controller::Io]),
            ]
        );
        let paths = host.paths("barge", &id());
        assert_eq!(
            paths[0].to_str().unwrap(),
            format!("/sys/fs/cgroup/unified/barge-{}", id())
        );
        assert_eq!(
            paths[4].to_str().unwrap(),
            format!("/sys/fs/cgroup/blkio/barge-{}", id())
        );
        assert!(paths.iter().all(|p| is_group(p)));
    }

    #[test]
    fn a_parent_holds_the_controllers_of_v2() {
        let hierarchy = Hierarchy {
            version: Version::V2,
            mount: SYS_FS_CGROUP.into(),
            controllers: Controllers::from_file(b"memory"),
            below: None,
        };
        let group = hierarchy.group("barge", &id());
        assert_eq!(group.to_str().unwrap(), format!("/sys/fs/cgroup/barge/{}", id()));
        assert!(is_group(&group));
    }

    #[test]
    fn both_ways_to_look_see_the_same() {
        let sorted = |mut host: Host| {
            host.hierarchies.sort_by(|a, b| a.mount.cmp(&b.mount));
            host
        };
        if let Some(customary) = Host::customary().unwrap() {
            let mounts = Host::parse(&std::fs::read("/proc/self/mountinfo").unwrap());
            assert_eq!(sorted(customary), sorted(mounts));
        }
    }

    #[test]
    fn nothing_but_a_container_group_is_ours_to_kill() {
        let id = id();
        for path in [
            "/".to_owned(),
            "/sys/fs/cgroup".to_owned(),
            "/sys/fs/cgroup/barge".to_owned(),
            "/sys/fs/cgroup/barge-abc123".to_owned(),
            format!("/sys/fs/cgroup/{id}"),
            format!("/sys/fs/cgroup/docker/{id}"),
            format!("/sys/fs/cgroup/docker-{id}"),
            format!("/sys/fs/cgroup/barge/{id}/.."),
            format!("/sys/fs/cgroup/barge/{id}/sub"),
            format!("sys/fs/cgroup/barge/{id}"),
            format!("/sys/fs/cgroup/x/../barge/{id}"),
            format!("/sys/fs/cgroup/barge-xyzxyz-{id}"),
        ] {
            assert!(!is_group(Path::new(&path)), "{path}");
        }
        for path in [
            format!("/sys/fs/cgroup/barge/{id}"),
            format!("/sys/fs/cgroup/barge-0a1b2c/{id}"),
            format!("/sys/fs/cgroup/cpu/barge-{id}"),
            format!("/sys/fs/cgroup/cpu/barge-0a1b2c-{id}"),
        ] {
            assert!(is_group(Path::new(&path)), "{path}");
        }
    }

    #[test]
    fn bases() {
        assert_eq!(base(None), "barge");
        assert_eq!(base(Some("0a1b2c")), "barge-0a1b2c");
    }

    #[test]
    fn controllers_by_file() {
        let set = Controllers::from_file(b"cpuset cpu io memory hugetlb pids rdma misc\n");
        assert_eq!(set, Controller::V2.into_iter().collect());
        assert_eq!(Controllers::from_file(b""), Controllers::default());
        assert!(set.contains_all(Controllers::from_file(b"io")));
        assert!(!Controllers::from_file(b"io").contains_all(set));
    }
}
