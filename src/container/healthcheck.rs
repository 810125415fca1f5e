//! Asks a running container now whether it works: its monitor does it, as when the time comes.

use crate::container::connection::Connection;
use crate::container::pause::running;
use crate::error::{Error, Result};
use crate::model::health::HealthResult;
use crate::model::id::ContainerId;
use crate::monitor::frame::{self, Hello, Kind};
use crate::store::Store;

pub(crate) fn check(store: &Store, id: &ContainerId) -> Result<HealthResult> {
    if store.config(id)?.health.is_none() {
        return Err(Error::other(format!("container {id} has no defined healthcheck")));
    }
    let not_running = || Error::conflict(format!("container {id} is not running"));
    if running(store, id).map_err(|_| not_running())?.paused {
        return Err(Error::conflict(format!("container {id} is paused")));
    }
    let mut monitor = Connection::open(store, id, Hello(0))?.ok_or_else(not_running)?;
    monitor.send(&frame::frame(Kind::Check, &[]))?;
    let result: Option<HealthResult> = serde_json::from_slice(&monitor.answer()?)?;
    result.ok_or_else(|| {
        Error::conflict(format!(
            "container {id} can't be asked now: it is paused, or has just ended"
        ))
    })
}
