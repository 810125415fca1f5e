//! Control groups, v1, v2 and hybrid: made and filled with limits before a container's first process exists, entered
//! by that process itself, killed and removed by path.
//!
//! What a write to `cgroup.procs` costs is a wait, not work: it takes a machine-wide lock whose first writer in a while
//! waits an RCU grace period, about 10 ms. So no process is ever moved. In v2 it is born in its group
//! (`CLONE_INTO_CGROUP`, Linux 5.7). In v1 it writes `0` to each `tasks` file: a single thread that moves itself needs
//! no lock (Linux 5.6).

mod block;
mod check;
mod create;
mod device;
mod file;
mod freeze;
mod host;
mod kill;
mod limits;
pub(crate) mod place;
mod probe;
pub(crate) mod scope;
mod stats;
#[cfg(test)]
mod tests;
mod tree;
mod update;

pub(crate) use check::check;
pub(crate) use create::{Cgroup, DeviceFilter};
pub(crate) use device::DEFAULT as DEFAULT_DEVICES;
pub(crate) use freeze::{freeze, is_frozen, says as freezer_says, thaw, wait_thawed};
pub(crate) use host::{Controller, Host, Version, base, scope_name};
pub(crate) use kill::kill_and_remove;
pub(crate) use probe::{end_probe, open_for_probe, probe_group};
pub(crate) use stats::{Stats, stats};
pub(crate) use tree::pids;
pub(crate) use update::update;

use crate::error::{Context, Error, Result};
use rustix::fs::CWD;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// How a process that is about to be made gets into a container's groups.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// Open `tasks` files: the process writes `0` to each while it has one thread.
    pub(crate) v1_tasks: Vec<OwnedFd>,
    /// The directory for `CLONE_INTO_CGROUP`.
    pub(crate) v2: Option<OwnedFd>,
}

impl Entry {
    fn add_v1(&mut self, path: &Path) -> Result<()> {
        let tasks = path.join("tasks");
        let opened = file::open_to_write(CWD, &tasks);
        self.v1_tasks
            .push(opened.with_context(|| format!("open {}", tasks.display()))?);
        Ok(())
    }

    fn add_v2(&mut self, path: &Path) -> Result<()> {
        let opened = file::open_dir(CWD, path);
        self.v2 = Some(opened.with_context(|| format!("open control group {}", path.display()))?);
        Ok(())
    }
}

/// The way into the groups of a running container whose first process is `init`.
pub(crate) fn open_existing(paths: &[PathBuf], init: i32) -> Result<Entry> {
    let mut entry = Entry::default();
    // One that could not be made is not there now either.
    let groups = paths.iter().filter(|path| path.exists());
    for path in groups {
        // v1 has no such file.
        match file::read(CWD, path.join("cgroup.subtree_control")) {
            Ok(below) if below.trim_ascii().is_empty() => entry.add_v2(path)?,
            Ok(_) => entry.add_v2(&inhabited(path, init).unwrap_or_else(|| path.clone()))?,
            Err(_) => entry.add_v1(path)?,
        }
    }
    if entry.v2.is_none() && entry.v1_tasks.is_empty() && !paths.is_empty() {
        return Err(Error::not_found("its control groups are gone"));
    }
    Ok(entry)
}

/// A v2 group that gives controllers to groups below it holds no processes itself (an init such as systemd arranges its
/// container so): then where `init` is.
fn inhabited(path: &Path, init: i32) -> Option<PathBuf> {
    let of_init = fs::read_to_string(format!("/proc/{init}/cgroup")).ok()?;
    let id = path.file_name()?.to_str()?;
    let group = of_init.lines().find_map(|l| l.strip_prefix("0::")?.split_once(id))?.1;
    Some(path.join(group.trim_start_matches('/')))
}

/// Whether the kernel's out-of-memory killer has taken a process of the container. To be asked before the groups go.
pub(crate) fn oom_killed(paths: &[PathBuf]) -> bool {
    let counted = |text: Vec<u8>| file::value_of(&text, "oom_kill");
    let kills = |path: &PathBuf| {
        let events = file::read(CWD, path.join("memory.events"));
        events
            .or_else(|_| file::read(CWD, path.join("memory.oom_control")))
            .ok()
            .and_then(counted)
    };
    paths.iter().find_map(kills).is_some_and(|n| n > 0)
}

/// Refuses paths that can't be a container's groups.
fn trust(paths: &[PathBuf]) -> Result<()> {
    match paths.iter().find(|path| !host::is_group(path)) {
        None => Ok(()),
        Some(path) => Err(Error::other(format!(
            "{} is not a control group of a container",
            path.display()
        ))),
    }
}
