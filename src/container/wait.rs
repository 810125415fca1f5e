//! Waits for a container's end.

use crate::container::connection::Connection;
use crate::container::status::{Seen, look, status};
use crate::error::{Error, Result};
use crate::model::id::ContainerId;
use crate::model::state::Status;
use crate::monitor::frame::Hello;
use crate::store::Store;
use crate::sys;
use std::os::fd::AsFd as _;

/// The exit code; at once if it does not run (0 if it never ran).
pub(crate) fn wait(store: &Store, id: &ContainerId) -> Result<u8> {
    loop {
        if let Some(mut monitor) = Connection::open(store, id, Hello(Hello::LAST_EXIT))?
            && let Ok(Some(code)) = monitor.exit(None)
        {
            return Ok(code);
        }
        match look(store, id) {
            Seen::Is(Status::Created) => return Ok(0),
            Seen::Is(Status::Exited(exit)) => return Ok(exit.code),
            Seen::Is(Status::Damaged(why)) => return Err(Error::other(why)),
            Seen::Gone => return Err(Error::not_found(format!("No such container: {id}"))),
            Seen::Lost(_) => {
                if let Status::Exited(exit) = status(store, id) {
                    return Ok(exit.code);
                }
            }
            // It listens from before it is seen: so it is on its way out, or has been lost this moment.
            Seen::Is(Status::Running(live)) | Seen::Ending(live, _) => {
                if let Some(monitor) = sys::process::pidfd_open(live.monitor.pid)? {
                    sys::process::pidfd_wait(monitor.as_fd(), Some(std::time::Duration::from_millis(50)))?;
                }
            }
        }
    }
}
