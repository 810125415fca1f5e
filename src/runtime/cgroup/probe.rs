//! A group of its own inside a container's, for one health check: the container's limits hold, and whatever the check
//! has started can be told from the rest and ended with it. In one hierarchy only; that will do to find the processes.

use crate::error::{Context as _, Result};
use crate::runtime::cgroup::{Entry, file, host, kill, tree};
use rustix::fs::CWD;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The group's name.
const NAME: &str = "barge-health";

/// The way into a container's groups, and the path of the check's own, if one can be made.
pub(crate) fn open_for_probe(paths: &[PathBuf], init: i32) -> Result<(Entry, Option<PathBuf>)> {
    let Some(parent) = parent(paths) else {
        return Ok((super::open_existing(paths, init)?, None));
    };
    let group = parent.join(NAME);
    match std::fs::create_dir(&group) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            return Ok((super::open_existing(paths, init)?, None));
        }
        _ => {}
    }
    let replaced: Vec<PathBuf> = paths
        .iter()
        .map(|p| if p == parent { group.clone() } else { p.clone() })
        .collect();
    let entry = super::open_existing(&replaced, init).context("enter the check's control group")?;
    Ok((entry, Some(group)))
}

/// v2's, unless it gives controllers to groups below it, and so has no processes; else that of `pids`, which needs no
/// settings.
fn parent(paths: &[PathBuf]) -> Option<&PathBuf> {
    let undivided = |path: &&PathBuf| {
        file::read(CWD, path.join("cgroup.subtree_control")).is_ok_and(|below| below.trim_ascii().is_empty())
    };
    let of_pids = |path: &&PathBuf| path.exists() && path.components().any(|c| c.as_os_str() == "pids");
    paths.iter().find(undivided).or_else(|| paths.iter().find(of_pids))
}

/// Where the groups of a container have one for its check.
pub(crate) fn probe_group(paths: &[PathBuf]) -> Option<PathBuf> {
    paths.iter().map(|p| p.join(NAME)).find(|p| p.exists())
}

/// Kills what is left of a check, and removes its group. Success if there is none.
pub(crate) fn end_probe(group: &Path, patience: Duration) -> Result<()> {
    let ours = group.file_name().is_some_and(|n| n == NAME) && group.parent().is_some_and(host::is_group);
    if !ours {
        return Ok(());
    }
    let deadline = Instant::now() + patience;
    let groups = [group.to_owned()];
    loop {
        if tree::remove(group).is_ok() {
            return Ok(());
        }
        kill::kill(&groups, deadline)?;
        if Instant::now() >= deadline {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
