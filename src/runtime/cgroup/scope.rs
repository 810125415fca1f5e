//! A scope of systemd's for a container: where systemd manages the v2 tree, only what it has delegated may be changed
//! by others (https://systemd.io/CGROUP_DELEGATION). The monitor asks for a scope with itself in it, and makes the
//! container's group below.
//!
//! ```text
//!   system.slice/barge-<id>.scope/monitor        the monitor: a group with groups below may have no process itself
//!   system.slice/barge-<id>.scope/barge-<id>     the container
//! ```
//!
//! When both are gone systemd removes the scope. The request is sent early and answered late: meanwhile the monitor
//! does other work.

use crate::error::{Error, Result};
use crate::runtime::dbus::{self, Connection, Job, wire::Body};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Where containers go that name no slice.
pub(crate) const DEFAULT_SLICE: &str = "system.slice";
/// What stops containers at a shutdown, before systemd ends their scopes.
const BOOT_UNIT: &str = "barge-restart.service";
const PATIENCE: Duration = Duration::from_secs(20);

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    /// With `.scope`.
    pub(crate) name: String,
    pub(crate) slice: String,
    pub(crate) description: String,
    pub(crate) pid: u32,
    /// How long systemd waits between SIGTERM and SIGKILL.
    pub(crate) stop_timeout: Duration,
}

/// A request on its way.
pub(crate) struct Pending {
    scope: Scope,
    connection: Connection,
    serial: u32,
}

impl Scope {
    pub(crate) fn request(self) -> Result<Pending> {
        let mut connection = Connection::open()?;
        let serial = send(&self, &mut connection)?;
        Ok(Pending {
            scope: self,
            connection,
            serial,
        })
    }
}

fn send(scope: &Scope, connection: &mut Connection) -> Result<u32> {
    let method = dbus::manager("StartTransientUnit", "ssa(sv)a(sa(sv))");
    connection.send(method, &body(scope))
}

fn body(scope: &Scope) -> Body {
    let mut body = Body::default();
    body.string(&scope.name);
    body.string("fail");
    body.array(8, |properties| {
        properties.property("Description", "s", |v| v.string(&scope.description));
        properties.property("Slice", "s", |v| v.string(&scope.slice));
        properties.property("Delegate", "b", |v| v.u32(1));
        // One that failed is forgotten too: the next start takes the same name.
        properties.property("CollectMode", "s", |v| v.string("inactive-or-failed"));
        properties.property("TimeoutStopUSec", "t", |v| {
            v.u64(u64::try_from(scope.stop_timeout.as_micros()).unwrap_or(u64::MAX));
        });
        // At a shutdown the other way round: first that unit stops the containers in order, then this scope, and only
        // then the file systems go.
        properties.property("Before", "as", |v| v.array(4, |units| units.string(BOOT_UNIT)));
        properties.property("After", "as", |v| v.array(4, |units| units.string("local-fs.target")));
        properties.property("PIDs", "au", |v| v.array(4, |pids| pids.u32(scope.pid)));
    });
    body.array(8, |_| {});
    body
}

impl Pending {
    /// Returns when the process is in the scope.
    pub(crate) fn wait(mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_millis(2);
        loop {
            match dbus::job(&mut self.connection, self.serial, deadline)? {
                Job::Done => return Ok(()),
                // The last start's: its processes have ended, and systemd is about to see it.
                Job::Refused(error, _)
                    if error == "org.freedesktop.systemd1.UnitExists" && Instant::now() + pause < deadline =>
                {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(100));
                    self.serial = send(&self.scope, &mut self.connection)?;
                }
                Job::Refused(_, text) => return Err(self.failed(&text)),
                Job::Ended(result) => return Err(self.failed(&result)),
            }
        }
    }

    fn failed(&self, why: &str) -> Error {
        Error::other(format!("systemd made no {}: {why}", self.scope.name))
    }
}

/// The group of a slice, below the hierarchy's root: `a-b.slice` lies in `a.slice` (systemd.slice(5)).
pub(crate) fn slice_path(slice: &str) -> PathBuf {
    let mut path = PathBuf::new();
    let name = slice.strip_suffix(".slice").unwrap_or(slice);
    if name == "-" {
        return path;
    }
    for (at, _) in name.match_indices('-') {
        path.push(format!("{}.slice", &name[..at]));
    }
    path.push(format!("{name}.slice"));
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_lie_in_each_other() {
        for (slice, path) in [
            ("system.slice", "system.slice"),
            ("web-front-a.slice", "web.slice/web-front.slice/web-front-a.slice"),
            ("-.slice", ""),
        ] {
            assert_eq!(slice_path(slice).to_str(), Some(path));
        }
    }
}
