//! Lets a container stand still for a while. Its monitor lets it go on when the connection of whoever asked for it
//! ends, and so also if that is killed.

use crate::container::connection::Connection;
use crate::error::{Error, Result};
use crate::model::id::ContainerId;
use crate::monitor::frame::Hello;
use crate::runtime::cgroup;
use crate::store::Store;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Processes that wait in the kernel stop only when they come out of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// All processes of a container stand still while this lives.
pub(super) struct Freeze {
    connection: Option<Connection>,
    cgroups: Vec<PathBuf>,
}

impl Freeze {
    /// Returns when they do; `None` if the container does not run.
    pub(super) fn take(store: &Store, id: &ContainerId) -> Result<Option<Freeze>> {
        let Some(live) = store.live(id)?.filter(|live| live.running().is_some()) else {
            return Ok(None);
        };
        let Some(connection) = Connection::open(store, id, Hello(Hello::FREEZE))? else {
            return Ok(None);
        };
        let freeze = Freeze {
            connection: Some(connection),
            cgroups: live.cgroups,
        };
        match cgroup::freeze(&freeze.cgroups, Instant::now() + PATIENCE) {
            Ok(()) => Ok(Some(freeze)),
            // Dropped here: it goes on.
            Err(e) => Err(Error::from(e).with_hint("--pause=false copies the files while they may change")),
        }
    }
}

impl Drop for Freeze {
    fn drop(&mut self) {
        drop(self.connection.take());
        // Its monitor may be stopped; and what has ended needs no thaw.
        if !cgroup::wait_thawed(&self.cgroups, Instant::now() + Duration::from_secs(2)) {
            cgroup::thaw(&self.cgroups);
        }
    }
}
