//! Where a container's groups are made, and which group its monitor lives in.
//!
//! ```text
//!   systemd, v2, the unit delegates   <unit>/barge-<id>, monitor and command in <unit>/monitor
//!   systemd, v2, otherwise            <slice>/barge-<id>.scope/barge-<id>, monitor beside it (scope.rs)
//!   --cgroup-parent, no systemd       <parent>/barge-<id>
//!   anything else                     barge/<id>, or barge-<id> (host.rs); monitor in the root
//! ```
//!
//! A monitor never stays in the group of the shell that typed the command: what limits or kills that one is no business
//! of the container's.

use crate::error::{Context as _, Error, Result};
use crate::model::id::ContainerId;
use crate::model::service::{CgroupMode, Service};
use crate::runtime::cgroup::host::{Controllers, Hierarchy, Host, Version};
use crate::runtime::cgroup::{file, scope};
use crate::runtime::dbus;
use rustix::fs::{CWD, Mode};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The monitor's group beside the container's, in a unit or a scope.
const MONITOR: &str = "monitor";
/// `cgroupfs` leaves systemd out of it.
const MANAGER: &str = "BARGE_CGROUP_MANAGER";

/// Decided by the command that starts a container, told to its monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Place {
    /// The engine's own group.
    Own,
    /// In this unit's group, which the unit has delegated; v2, relative to the root.
    Unit(PathBuf),
    /// Below this group, made if it is absent; relative to the root of every hierarchy.
    Below(PathBuf),
    /// In a scope below this slice.
    Scope(String),
    /// None is made.
    Nowhere,
}

/// What the decision depends on besides what was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Around {
    /// v2 alone, with controllers.
    unified: bool,
    systemd: bool,
    /// The caller's own v2 group, relative to the root; empty is the root itself.
    own: PathBuf,
    /// systemd has given that group away (its extended attribute says so).
    delegated: bool,
    /// A service manager has started the caller as the only process of that group.
    alone: bool,
}

/// Where the groups of a container go that this process is about to start; `is_service` if it was started for that.
pub(crate) fn choose(service: &Service, host: &Host, is_service: bool) -> Result<Place> {
    let mut around = look(host);
    around.alone &= is_service;
    decide(service, &around)
}

/// Who makes the groups of containers, in docker's words.
pub(crate) fn manager(host: &Host) -> &'static str {
    let around = look(host);
    match around.unified && around.systemd {
        true => "systemd",
        false => "cgroupfs",
    }
}

/// The unit that this process is the start of, if what it starts belongs to that unit.
pub(crate) fn unit(service: &Service) -> Result<Option<String>> {
    if std::env::var_os("INVOCATION_ID").is_none() {
        return Ok(None);
    }
    let around = look(&Host::probe()?);
    let notifies = std::env::var_os("NOTIFY_SOCKET").is_some_and(|s| !s.is_empty())
        && service.notify != crate::model::service::SdNotify::Ignore;
    let inside = matches!(decide(service, &around), Ok(Place::Unit(_)));
    let name = around.own.file_name().and_then(OsStr::to_str);
    Ok(name
        .filter(|name| name.ends_with(".service") && (inside || notifies))
        .map(str::to_owned))
}

/// Where the groups of a container may be whose state can't be read.
pub(crate) fn guess(service: &Service, host: &Host, base: &str, id: &ContainerId) -> Vec<PathBuf> {
    let mut paths = host.paths(base, id);
    if let Ok(place @ (Place::Below(_) | Place::Scope(_))) = choose(service, host, true) {
        paths.extend(host.clone().with_place(base, id, &place).paths(base, id));
    }
    paths
}

fn decide(service: &Service, around: &Around) -> Result<Place> {
    let managed = around.unified && around.systemd;
    match (service.cgroups, service.cgroup_parent.as_deref()) {
        (CgroupMode::Disabled, _) => Ok(Place::Nowhere),
        (CgroupMode::Split, Some(_)) => Err(Error::usage("conflicting options: --cgroups=split and --cgroup-parent")),
        (CgroupMode::Split, None) if !around.unified => Err(Error::other("--cgroups=split needs cgroup v2")),
        (CgroupMode::Split, None) if !around.delegated => {
            let error = Error::other(format!("--cgroups=split: /{} is not delegated", around.own.display()));
            Err(error.with_hint("write Delegate=yes into the [Service] section of the unit"))
        }
        (CgroupMode::Split, None) => Ok(Place::Unit(around.own.clone())),
        (CgroupMode::Enabled, Some(slice)) if slice.ends_with(".slice") && !slice.contains('/') => Ok(match managed {
            true => Place::Scope(slice.to_owned()),
            false => Place::Below(scope::slice_path(slice)),
        }),
        (CgroupMode::Enabled, Some(_)) if managed => Err(Error::usage(
            "cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\"",
        )),
        (CgroupMode::Enabled, Some(path)) => Ok(Place::Below(path.into())),
        (CgroupMode::Enabled, None) if managed && around.delegated && around.alone => {
            Ok(Place::Unit(around.own.clone()))
        }
        (CgroupMode::Enabled, None) if managed => Ok(Place::Scope(scope::DEFAULT_SLICE.to_owned())),
        (CgroupMode::Enabled, None) => Ok(Place::Own),
    }
}

fn look(host: &Host) -> Around {
    let Some(tree) = unified(host) else {
        return Around::default();
    };
    let mut around = Around {
        unified: true,
        systemd: std::env::var_os(MANAGER).is_none_or(|m| m != "cgroupfs") && dbus::booted_with_systemd(),
        own: own_group(),
        ..Around::default()
    };
    // An earlier command of the same unit may have moved us there.
    if around.own.file_name().is_some_and(|name| name == MONITOR)
        && let Some(unit) = around.own.parent().filter(|unit| is_delegated(&tree.mount.join(unit)))
    {
        around.own = unit.to_owned();
    }
    if !around.own.as_os_str().is_empty() {
        let group = tree.mount.join(&around.own);
        around.delegated = is_delegated(&group);
        around.alone = around.delegated
            && std::env::var_os("INVOCATION_ID").is_some()
            && members(&group).is_ok_and(|pids| pids == [std::process::id()]);
    }
    around
}

/// systemd says so by an attribute: the second since version 237, the first since 251.
fn is_delegated(group: &Path) -> bool {
    ["user.delegate", "trusted.delegate"].iter().any(|name| {
        let mut value = [0; 8];
        rustix::fs::getxattr(group, *name, &mut value).is_ok_and(|n| value[..n] == *b"1")
    })
}

/// The v2 hierarchy, if it is the only one and controls something.
fn unified(host: &Host) -> Option<&Hierarchy> {
    match host.hierarchies.as_slice() {
        [only] if only.version == Version::V2 && only.controllers != Controllers::default() => Some(only),
        _ => None,
    }
}

/// Our own v2 group, relative to the root as our cgroup namespace shows it.
fn own_group() -> PathBuf {
    let text = file::read(CWD, "/proc/self/cgroup").unwrap_or_default();
    let line = text.split(|b| *b == b'\n').find_map(|l| l.strip_prefix(b"0::/"));
    line.map(|l| PathBuf::from(OsStr::from_bytes(l))).unwrap_or_default()
}

fn members(group: &Path) -> Result<Vec<u32>, Errno> {
    let text = file::read(CWD, group.join("cgroup.procs"))?;
    let lines = text.split(|b| *b == b'\n').filter(|l| !l.is_empty());
    Ok(lines
        .filter_map(|l| std::str::from_utf8(l).ok()?.parse().ok())
        .collect())
}

/// Makes way for the container's group in the unit's: a group with groups below may have no process itself, so the
/// unit's processes, this one among them, go to a group beside it. Monitors born from here on are there too.
pub(crate) fn enter_unit(host: &Host, unit: &Path) -> Result<()> {
    const ATTEMPTS: u32 = 100;
    let Some(tree) = unified(host) else { return Ok(()) };
    let group = tree.mount.join(unit);
    let monitor = group.join(MONITOR);
    make(&monitor)?;
    let procs = file::open_to_write(CWD, monitor.join("cgroup.procs")).context("open the monitor's control group")?;
    for _ in 0..ATTEMPTS {
        let pids = members(&group).context("read the unit's control group")?;
        if pids.is_empty() {
            return Ok(());
        }
        for pid in pids {
            match rustix::io::write(&procs, pid.to_string().as_bytes()) {
                Ok(_) | Err(Errno::SRCH) => {}
                Err(e) => return Err(e).with_context(|| format!("move process {pid} to {}", monitor.display())),
            }
        }
    }
    Err(Error::other(format!("processes in {} don't stay out", group.display())))
}

/// This process, which systemd has put into a new scope, goes to its own group there.
pub(crate) fn enter_scope(scope: &Path) -> Result<()> {
    let monitor = scope.join(MONITOR);
    make(&monitor)?;
    file::write(CWD, monitor.join("cgroup.procs"), b"0").with_context(|| format!("enter {}", monitor.display()))
}

fn make(group: &Path) -> Result<()> {
    match rustix::fs::mkdir(group, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(e).with_context(|| format!("make control group {}", group.display())),
    }
}

/// The group that a monitor is to be born in, unless it is in it anyway: the root of v2.
pub(crate) fn birthplace(host: &Host, place: &Place) -> Option<OwnedFd> {
    if matches!(place, Place::Unit(_)) || own_group().as_os_str().is_empty() {
        return None;
    }
    let tree = host.hierarchies.iter().find(|h| h.version == Version::V2)?;
    file::open_dir(CWD, &tree.mount).ok()
}

/// The same in v1, where a process has to move itself: one of a single thread does so without waiting for a lock.
pub(crate) fn leave_caller() {
    let text = file::read(CWD, "/proc/self/cgroup").unwrap_or_default();
    for line in text.split(|b| *b == b'\n') {
        let mut fields = line.splitn(3, |b| *b == b':').skip(1);
        let (Some(names), Some(path)) = (fields.next().filter(|n| !n.is_empty()), fields.next()) else {
            continue;
        };
        if path != b"/" {
            let directory = OsStr::from_bytes(names.strip_prefix(b"name=").unwrap_or(names));
            // One that does not take us has a reason of its own.
            let _ = file::write(CWD, Path::new("/sys/fs/cgroup").join(directory).join("tasks"), b"0");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let on_systemd = Around {
            unified: true,
            systemd: true,
            own: "system.slice/web.service".into(),
            ..Around::default()
        };
        let in_unit = Around {
            delegated: true,
            alone: true,
            ..on_systemd.clone()
        };
        let in_company = Around {
            alone: false,
            ..in_unit.clone()
        };
        let bare = Around {
            unified: true,
            ..Around::default()
        };
        let old = Around::default();
        let unit = || Ok(Place::Unit("system.slice/web.service".into()));
        let scope = |slice: &str| Ok(Place::Scope(slice.to_owned()));
        use CgroupMode::{Disabled, Enabled, Split};
        type Row<'a> = (CgroupMode, Option<&'a str>, &'a Around, Result<Place, &'a str>);
        let table: [Row<'_>; 17] = [
            (Enabled, None, &on_systemd, scope("system.slice")),
            (Enabled, None, &in_unit, unit()),
            (Enabled, None, &in_company, scope("system.slice")),
            (Enabled, None, &bare, Ok(Place::Own)),
            (Enabled, None, &old, Ok(Place::Own)),
            (Split, None, &in_company, unit()),
            (Split, None, &on_systemd, Err("not delegated")),
            (Split, None, &old, Err("needs cgroup v2")),
            (Split, Some("a.slice"), &in_unit, Err("conflicting")),
            (Enabled, Some("a-b.slice"), &on_systemd, scope("a-b.slice")),
            (Enabled, Some("a-b.slice"), &in_unit, scope("a-b.slice")),
            (Enabled, Some("a/b"), &on_systemd, Err("valid slice")),
            (Enabled, Some("a/b.slice"), &on_systemd, Err("valid slice")),
            (Enabled, Some("a/b"), &bare, Ok(Place::Below("a/b".into()))),
            (
                Enabled,
                Some("a-b.slice"),
                &old,
                Ok(Place::Below("a.slice/a-b.slice".into())),
            ),
            (Disabled, None, &on_systemd, Ok(Place::Nowhere)),
            (Disabled, None, &old, Ok(Place::Nowhere)),
        ];
        for (cgroups, parent, around, want) in table {
            let service = Service {
                cgroups,
                cgroup_parent: parent.map(str::to_owned),
                ..Service::default()
            };
            let got = decide(&service, around).map_err(|e| e.to_string());
            match (&got, want) {
                (Ok(place), Ok(want)) => assert_eq!(*place, want, "{service:?} {around:?}"),
                (Err(text), Err(want)) => assert!(text.contains(want), "{text}"),
                (got, want) => panic!("{got:?}, not {want:?}: {service:?} {around:?}"),
            }
        }
    }
}
