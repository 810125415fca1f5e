//! Making a container's groups: directories, limits, device filter. No process is in them yet, so the order is free but
//! for what one file demands of another.

use crate::error::{Context, Error, Result};
use crate::model::id::ContainerId;
use crate::model::resources::{DeviceRule, Resources};
use crate::runtime::cgroup::host::{Controller, Controllers, Hierarchy, Host, Version};
use crate::runtime::cgroup::limits::{self, Available, Write};
use crate::runtime::cgroup::{Entry, block, device, file, kill};
use crate::sys::bpf;
use rustix::fs::{CWD, Mode};
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// What watches a container's device accesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceFilter {
    /// Nothing was asked for: all devices are allowed.
    Off,
    V1,
    V2,
    /// Asked for, but this kernel or sandbox has no means: the container must not be able to make device nodes.
    Unavailable,
}

/// The groups of one container.
#[derive(Debug)]
pub(crate) struct Cgroup {
    groups: Vec<Group>,
    pub(crate) device_filter: DeviceFilter,
}

#[derive(Debug)]
struct Group {
    version: Version,
    path: PathBuf,
    controllers: Controllers,
}

impl Cgroup {
    /// Makes the groups that [`Host::paths`] names and writes the limits, and the device rules if there are any
    /// (`None` allows all). Gives warnings too: limits that this machine can't keep.
    pub(crate) fn create(
        host: &Host,
        base: &str,
        id: &ContainerId,
        resources: &Resources,
        devices: Option<&[DeviceRule]>,
    ) -> Result<(Cgroup, Vec<String>)> {
        let mut cgroup = Cgroup {
            groups: Vec::new(),
            device_filter: DeviceFilter::Off,
        };
        let mut warnings = Vec::new();
        let made = cgroup.make_groups(host, base, id, &mut warnings);
        match made.and_then(|()| cgroup.furnish(resources, devices, &mut warnings)) {
            Ok(()) => Ok((cgroup, warnings)),
            Err(e) => Err(match kill::kill_and_remove(&cgroup.paths()) {
                Ok(()) => e,
                Err(second) => e.and(&second),
            }),
        }
    }

    fn make_groups(&mut self, host: &Host, base: &str, id: &ContainerId, warnings: &mut Vec<String>) -> Result<()> {
        for hierarchy in &host.hierarchies {
            match make(hierarchy, base, id)? {
                Some(group) => self.groups.push(group),
                None => warnings.push(format!(
                    "Control groups in {} can't be made here. Limits of this hierarchy discarded.",
                    hierarchy.mount.display()
                )),
            }
        }
        Ok(())
    }

    fn furnish(
        &mut self,
        resources: &Resources,
        devices: Option<&[DeviceRule]>,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        let plan = limits::plan(resources, &block::settings(&resources.blkio)?, self.available());
        warnings.extend(plan.warnings);
        for write in &plan.writes {
            if !self.apply(write)? && !warnings.iter().any(|w| w == write.missing) {
                warnings.push(write.missing.to_owned());
            }
        }
        self.fill_cpuset(resources)?;
        self.write_files(resources)?;
        if let Some(rules) = devices {
            self.device_filter = self.filter_devices(rules, warnings)?;
        }
        Ok(())
    }

    fn paths(&self) -> Vec<PathBuf> {
        self.groups.iter().map(|g| g.path.clone()).collect()
    }

    fn available(&self) -> Available {
        let of = |version| {
            self.groups
                .iter()
                .filter(move |g| g.version == version)
                .flat_map(|g| g.controllers.iter())
        };
        Available {
            v1: of(Version::V1).collect(),
            v2: of(Version::V2).collect(),
        }
    }

    fn group(&self, version: Version, controller: Controller) -> Option<&Group> {
        self.groups
            .iter()
            .find(|g| g.version == version && g.controllers.contains(controller))
    }

    /// False if none of the files exists.
    fn apply(&self, write: &Write) -> Result<bool> {
        let Some(group) = self.group(write.version, write.controller) else {
            return Ok(false);
        };
        for (name, value) in &write.choices {
            match file::write(CWD, group.path.join(name), value.as_bytes()) {
                Ok(()) => return Ok(true),
                Err(Errno::NOENT) => {}
                Err(e) => return Err(e).with_context(|| format!("set {name} to {value}")),
            }
        }
        Ok(false)
    }

    /// What was asked for by the name of its file has to be there.
    fn write_files(&self, resources: &Resources) -> Result<()> {
        let group = self.groups.iter().find(|group| group.version == Version::V2);
        for (name, value) in &resources.files {
            let written = match group {
                Some(group) => file::write(CWD, group.path.join(name), value.as_bytes()),
                None => Err(Errno::NOENT),
            };
            written
                .map_err(|e| {
                    let error = Error::from(e);
                    match e {
                        Errno::NOENT => error.with_hint("there is no such file in the container's group of cgroup v2"),
                        _ => error,
                    }
                })
                .with_context(|| format!("--cgroup-conf: set {name} to {value}"))?;
        }
        Ok(())
    }

    /// A v1 cpuset starts empty, and an empty one takes no process: what no limit sets comes from the root's.
    fn fill_cpuset(&self, resources: &Resources) -> Result<()> {
        let Some(group) = self.group(Version::V1, Controller::Cpuset) else {
            return Ok(());
        };
        let Some(parent) = group.path.parent() else {
            return Ok(());
        };
        for (name, set) in [
            ("cpuset.cpus", &resources.cpuset_cpus),
            ("cpuset.mems", &resources.cpuset_mems),
        ] {
            if set.as_ref().is_none_or(String::is_empty) {
                let value = file::read(CWD, parent.join(name)).with_context(|| format!("read {name} of the root"))?;
                file::write(CWD, group.path.join(name), value.trim_ascii()).with_context(|| format!("set {name}"))?;
            }
        }
        Ok(())
    }

    /// v1's files where that controller is mounted, else a program on the v2 group.
    fn filter_devices(&self, rules: &[DeviceRule], warnings: &mut Vec<String>) -> Result<DeviceFilter> {
        if let Some(group) = self.group(Version::V1, Controller::Devices) {
            filter_v1(&group.path, rules, warnings)?;
            return Ok(DeviceFilter::V1);
        }
        let why = match self.groups.iter().find(|g| g.version == Version::V2) {
            None => "no control groups".to_owned(),
            Some(group) => match filter_v2(&group.path, rules) {
                Ok(()) => return Ok(DeviceFilter::V2),
                Err(e) => e.to_string(),
            },
        };
        warnings.push(format!(
            "Devices can't be filtered on this system ({why}). The container can't make device nodes instead."
        ));
        Ok(DeviceFilter::Unavailable)
    }

    /// The way in, to be opened before the process that takes it is made.
    pub(crate) fn entry(&self) -> Result<Entry> {
        let mut entry = Entry::default();
        for group in &self.groups {
            match group.version {
                Version::V1 => entry.add_v1(&group.path)?,
                Version::V2 => entry.add_v2(&group.path)?,
            }
        }
        Ok(entry)
    }
}

/// Directory mode of a group, less the umask.
const GROUP_MODE: Mode = Mode::from_raw_mode(0o755);

/// Makes the group in one hierarchy; `None` if that is not ours to write.
fn make(hierarchy: &Hierarchy, base: &str, id: &ContainerId) -> Result<Option<Group>> {
    let path = hierarchy.group(base, id);
    let made = match (&hierarchy.below, hierarchy.version) {
        (Some(below), _) => make_parents(hierarchy, &below.dir).and_then(|()| mkdir_new(&path)),
        (None, Version::V1) => mkdir_new(&path),
        (None, Version::V2) => mkdir_with_parent(&path),
    };
    match made {
        Ok(()) => {}
        Err(Errno::ROFS | Errno::ACCESS | Errno::PERM) => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("make control group {}", path.display())),
    }
    let controllers = match hierarchy.version {
        Version::V1 => hierarchy.controllers,
        Version::V2 => enable(hierarchy, &path),
    };
    Ok(Some(Group {
        version: hierarchy.version,
        path,
        controllers,
    }))
}

/// A group of this name can only be what a killed monitor left: it goes first.
fn mkdir_new(path: &Path) -> Result<(), Errno> {
    match rustix::fs::mkdir(path, GROUP_MODE) {
        Err(Errno::EXIST) if kill::kill_and_remove(&[path.to_owned()]).is_ok() => rustix::fs::mkdir(path, GROUP_MODE),
        result => result,
    }
}

/// Makes the groups down to the one that somebody else has named. They stay: others may use them too.
fn make_parents(hierarchy: &Hierarchy, dir: &Path) -> Result<(), Errno> {
    let mut parent = hierarchy.mount.clone();
    for name in dir {
        let group = parent.join(name);
        match rustix::fs::mkdir(&group, GROUP_MODE) {
            Ok(()) if hierarchy.version == Version::V1 && hierarchy.controllers.contains(Controller::Cpuset) => {
                for name in ["cpuset.cpus", "cpuset.mems"] {
                    file::write(CWD, group.join(name), file::read(CWD, parent.join(name))?.trim_ascii())?;
                }
            }
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e),
        }
        parent = group;
    }
    Ok(())
}

/// Makes the parent as well. The removal of the last other container takes it away again at any time.
fn mkdir_with_parent(path: &Path) -> Result<(), Errno> {
    const ATTEMPTS: u32 = 100;
    let mut result = mkdir_new(path);
    for _ in 0..ATTEMPTS {
        let (Err(Errno::NOENT), Some(base)) = (result, path.parent()) else {
            break;
        };
        match rustix::fs::mkdir(base, GROUP_MODE) {
            Ok(()) | Err(Errno::EXIST) => result = mkdir_new(path),
            Err(e) => return Err(e),
        }
    }
    result
}

/// Gives the new v2 group its controllers, from the root down. What can't be enabled is not there for the container:
/// a sandbox whose own processes sit in its root group (EBUSY), a controller that real-time processes hold (EINVAL).
fn enable(hierarchy: &Hierarchy, path: &Path) -> Controllers {
    let wanted = hierarchy.controllers;
    if wanted == Controllers::default() {
        return wanted;
    }
    let present = || Controllers::from_file(&file::read(CWD, path.join("cgroup.controllers")).unwrap_or_default());
    let mut have = present();
    if !have.contains_all(wanted) {
        for dir in holders(hierarchy, path) {
            enable_below(&dir, wanted);
        }
        have = present();
    }
    have.intersection(wanted)
}

/// The groups above `path` that have to hold its controllers enabled and are ours to change, from the root down.
fn holders(hierarchy: &Hierarchy, path: &Path) -> Vec<PathBuf> {
    let parent = path.parent().map(Path::to_owned);
    match &hierarchy.below {
        None => [Some(hierarchy.mount.clone()), parent].into_iter().flatten().collect(),
        Some(below) if below.delegated => parent.into_iter().collect(),
        Some(below) => {
            let mut dirs = vec![hierarchy.mount.clone()];
            for name in &below.dir {
                let next = dirs.last().map(|d| d.join(name));
                dirs.extend(next);
            }
            dirs
        }
    }
}

fn enable_below(dir: &Path, controllers: Controllers) {
    let control = dir.join("cgroup.subtree_control");
    let names: Vec<String> = controllers.iter().map(|c| format!("+{}", c.v2_name())).collect();
    if file::write(CWD, &control, names.join(" ").as_bytes()).is_err() {
        // All or nothing holds for one write: one at a time gives what there is.
        for name in names {
            let _ = file::write(CWD, &control, name.as_bytes());
        }
    }
}

fn filter_v1(group: &Path, rules: &[DeviceRule], warnings: &mut Vec<String>) -> Result<()> {
    file::write(CWD, group.join("devices.deny"), b"a").context("set devices.deny")?;
    let allow = file::open_to_write(CWD, group.join("devices.allow")).context("open devices.allow")?;
    let mut refused = Vec::new();
    for line in device::v1_lines(rules) {
        match rustix::io::write(&allow, line.as_bytes()) {
            Ok(_) => {}
            // We are ourselves held by such a filter, and can't give what we don't have.
            Err(Errno::PERM) => refused.push(line),
            Err(e) => return Err(e).with_context(|| format!("allow device {line}")),
        }
    }
    if !refused.is_empty() {
        warnings.push(format!(
            "Devices not allowed to this engine itself: {}. Discarded.",
            refused.join(", ")
        ));
    }
    Ok(())
}

pub(super) fn filter_v2(group: &Path, rules: &[DeviceRule]) -> Result<()> {
    let program = bpf::load_device_filter(&device::program(rules)).context("load BPF program")?;
    // Attaching needs the directory open for reading; a path descriptor won't do.
    let dir = std::fs::File::open(group).map_err(Error::from)?;
    bpf::attach_device_filter(dir.as_fd(), program.as_fd()).context("attach BPF program")
}
