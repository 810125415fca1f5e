//! Lets a container stand still for a while. Its monitor lets it go on when the connection of whoever asked for it
//! ends, and so also if that is killed.

use crate::container::connection::Connection;
use crate::container::view;
use crate::error::Result;
use crate::model::id::ContainerId;
use crate::monitor::frame::Hello;
use crate::runtime::cgroup;
use crate::store::Store;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A monitor that is not stopped needs less.
const PATIENCE: Duration = Duration::from_secs(2);

/// All processes of a container stand still while this lives.
pub(super) struct Freeze {
    connection: Option<Connection>,
    cgroups: Vec<PathBuf>,
    /// It ran before.
    goes_on: bool,
}

impl Freeze {
    /// Returns when they do; `None` if the container does not run.
    pub(super) fn take(store: &Store, id: &ContainerId) -> Result<Option<Freeze>> {
        let Some(live) = store.live(id)?.filter(|live| live.running().is_some()) else {
            return Ok(None);
        };
        // Whoever has paused it before lets it go on.
        let goes_on = !cgroup::is_frozen(&live.cgroups);
        let wants = Hello::FREEZE | if goes_on { Hello::THAW } else { 0 };
        let Some(connection) = Connection::open(store, id, Hello(wants))? else {
            return Ok(None);
        };
        let freeze = Freeze {
            connection: Some(connection),
            cgroups: live.cgroups,
            goes_on,
        };
        match cgroup::freeze(&freeze.cgroups) {
            Ok(()) => Ok(Some(freeze)),
            // Dropped here: it goes on.
            Err(_) if view::running(store, id)?.is_none() => Ok(None),
            Err(e) => Err(e.with_hint("--pause=false copies the files while they may change")),
        }
    }
}

impl Drop for Freeze {
    fn drop(&mut self) {
        drop(self.connection.take());
        // Its monitor may be stopped; and what has ended needs no thaw.
        if self.goes_on && !cgroup::wait_thawed(&self.cgroups, Instant::now() + PATIENCE) {
            let _ = cgroup::thaw(&self.cgroups);
        }
    }
}
