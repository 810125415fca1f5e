//! Other limits for a container that runs.

use crate::error::{Context, Error, Result};
use crate::model::resources::Resources;
use crate::runtime::cgroup::host::{Controllers, Host, Version};
use crate::runtime::cgroup::limits::{self, Available, Write};
use crate::runtime::cgroup::{block, file, trust};
use rustix::fs::CWD;
use rustix::io::Errno;
use std::path::PathBuf;

/// Writes the limits into the groups at `paths`. Gives warnings: limits that this machine can't keep.
pub(crate) fn update(host: &Host, paths: &[PathBuf], resources: &Resources) -> Result<Vec<String>> {
    trust(paths)?;
    let groups = groups(host, paths);
    let mut available = Available::default();
    for (version, controllers, _) in &groups {
        let of = match version {
            Version::V1 => &mut available.v1,
            Version::V2 => &mut available.v2,
        };
        *of = of.iter().chain(controllers.iter()).collect();
    }
    let plan = limits::plan(resources, &block::settings(&resources.blkio)?, available);
    let mut warnings = plan.warnings;
    let mut refused = Vec::new();
    for write in &plan.writes {
        match apply(&groups, write) {
            Ok(true) => {}
            Ok(false) => warnings.push(write.missing.to_owned()),
            // One limit of a pair must never be above the other (memory and memory with swap): the other comes first.
            Err(Errno::INVAL) => refused.push(write),
            Err(e) => return Err(failed(write, e)),
        }
    }
    for write in refused {
        apply(&groups, write).map_err(|e| failed(write, e))?;
    }
    Ok(warnings)
}

type Group<'a> = (Version, Controllers, &'a PathBuf);

fn groups<'a>(host: &Host, paths: &'a [PathBuf]) -> Vec<Group<'a>> {
    let mut groups = Vec::new();
    for hierarchy in &host.hierarchies {
        let Some(path) = paths.iter().find(|p| p.starts_with(&hierarchy.mount) && p.exists()) else {
            continue;
        };
        let controllers = match hierarchy.version {
            Version::V1 => hierarchy.controllers,
            Version::V2 => {
                let text = file::read(CWD, path.join("cgroup.controllers")).unwrap_or_default();
                Controllers::from_file(&text).intersection(hierarchy.controllers)
            }
        };
        groups.push((hierarchy.version, controllers, path));
    }
    groups
}

/// False if none of the files exists.
fn apply(groups: &[Group<'_>], write: &Write) -> Result<bool, Errno> {
    let group = groups
        .iter()
        .find(|(version, controllers, _)| *version == write.version && controllers.contains(write.controller));
    let Some((_, _, path)) = group else { return Ok(false) };
    for (name, value) in &write.choices {
        match file::write(CWD, path.join(name), value.as_bytes()) {
            Ok(()) => return Ok(true),
            Err(Errno::NOENT) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(false)
}

fn failed(write: &Write, e: Errno) -> Error {
    let what = write
        .choices
        .first()
        .map_or("a limit".to_owned(), |(name, value)| format!("{name} to {value}"));
    let error = Err::<(), _>(e).with_context(|| format!("set {what}")).err();
    let error = error.unwrap_or_else(|| Error::other(format!("set {what}")));
    match e {
        Errno::BUSY => error.with_hint("the container uses more than that now"),
        _ => error,
    }
}
