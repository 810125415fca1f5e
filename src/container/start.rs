//! Starts a container: starts its monitor, and waits for one message from it.

use crate::container::attach::{self, End, Options};
use crate::container::connection::Connection;
use crate::container::{reap, status};
use crate::error::{Context as _, Error, Result};
use crate::model::id::ContainerId;
use crate::model::state::Status;
use crate::monitor::launch::{self, FirstClient};
use crate::store::{ContainerLock, Store};
use crate::sys;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::os::fd::AsFd as _;

/// Returns when the program has been executed. Success if it runs already.
pub(crate) fn start(store: &Store, id: &ContainerId) -> Result<()> {
    let Some(lock) = ready(store, id)? else { return Ok(()) };
    launch(store, id, &lock, None)
}

/// Starts with this command attached from the first byte on, and stays until the end.
pub(crate) fn start_attached(store: &Store, id: &ContainerId, options: &Options) -> Result<End> {
    let Some(lock) = ready(store, id)? else {
        return attach::attach(store, id, options);
    };
    let tty = store.config(id)?.process.tty;
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let client = FirstClient {
        socket: theirs.as_fd(),
        wants: attach::hello(options.streams),
        size: tty.then(attach::terminal_size).flatten(),
    };
    let client_session = attach::Session::open(store, id, options, tty)?;
    launch(store, id, &lock, Some(&client))?;
    drop((theirs, lock));
    client_session.run(Connection::new(ours))
}

fn launch(store: &Store, id: &ContainerId, lock: &ContainerLock, client: Option<&FirstClient<'_>>) -> Result<()> {
    for warning in launch::launch(store, id, lock.as_fd(), client)? {
        store.notify(&format!("WARNING: {warning}"));
    }
    Ok(())
}

/// Takes the lock of a container that can be started now; `None` if it runs.
fn ready(store: &Store, id: &ContainerId) -> Result<Option<ContainerLock>> {
    loop {
        let lock = store.lock_container(id)?;
        reap::reap(store, id, &lock)?;
        match status::look(store, id) {
            status::Seen::Is(Status::Damaged(why)) => return Err(Error::other(why)),
            status::Seen::Is(Status::Created) => return Ok(Some(lock)),
            status::Seen::Is(Status::Running(_)) => return Ok(None),
            status::Seen::Is(Status::Exited(_)) => match store.live(id)? {
                None => return Ok(Some(lock)),
                // Its monitor is about to finish: it holds the mount and the groups for a moment more.
                Some(live) => {
                    drop(lock);
                    if let Some(monitor) = sys::process::pidfd_open(live.monitor.pid)? {
                        sys::process::pidfd_wait(monitor.as_fd(), None).context("wait for the last monitor")?;
                    }
                }
            },
            status::Seen::Lost(_) => {}
        }
    }
}
