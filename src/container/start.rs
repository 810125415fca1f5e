//! Starts a container: starts its monitor, and waits for one message from it.

use crate::container::attach::{self, End, Options};
use crate::container::connection::Connection;
use crate::container::pause::tell;
use crate::container::status::{self, Seen};
use crate::container::{order, reap, stop};
use crate::error::{Error, Kind, Result};
use crate::model::container::LogDriver;
use crate::model::id::ContainerId;
use crate::model::state::Status;
use crate::monitor::launch::{self, FirstClient, Passed};
use crate::store::{ContainerLock, Store};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// Returns when the program has been executed. Success if it runs already.
pub(crate) fn start(store: &Store, id: &ContainerId) -> Result<()> {
    start_with(store, id, Vec::new())
}

/// The same, and the program gets these descriptors as 3, 4, …
pub(crate) fn start_with(store: &Store, id: &ContainerId, descriptors: Vec<OwnedFd>) -> Result<()> {
    order::start_required(store, id)?;
    let Some(lock) = ready(store, id)? else { return Ok(()) };
    let passed = passed(store, id, descriptors)?;
    launch(store, id, lock, None, &passed)
}

/// Whatever it requires. What a service manager has handed to this command is not for this container.
pub(super) fn start_alone(store: &Store, id: &ContainerId) -> Result<()> {
    let Some(lock) = ready(store, id)? else { return Ok(()) };
    let passed = Passed {
        streams: streams(store, id)?,
        ..Passed::default()
    };
    launch(store, id, lock, None, &passed)
}

/// Besides what the command has for the program, its own streams, where they are to be the program's.
pub(super) fn passed(store: &Store, id: &ContainerId, more: Vec<OwnedFd>) -> Result<Passed> {
    let mut passed = Passed::by_service_manager()?;
    passed.streams = streams(store, id)?;
    passed.fds.extend(more);
    Ok(passed)
}

fn streams(store: &Store, id: &ContainerId) -> Result<Option<[OwnedFd; 3]>> {
    use std::io::{stderr, stdin, stdout};
    Ok(match store.config(id)?.log.driver {
        LogDriver::Passthrough => Some([
            stdin().as_fd().try_clone_to_owned()?,
            stdout().as_fd().try_clone_to_owned()?,
            stderr().as_fd().try_clone_to_owned()?,
        ]),
        _ => None,
    })
}

/// Starts with this command attached from the first byte on, and stays until the end.
pub(crate) fn start_attached(
    store: &Store,
    id: &ContainerId,
    options: &Options,
    descriptors: Vec<OwnedFd>,
) -> Result<End> {
    order::start_required(store, id)?;
    let lock = loop {
        if let Some(lock) = ready(store, id)? {
            break lock;
        }
        match attach::attach(store, id, options) {
            // It has ended, or its monitor has died, since it was seen to run.
            Err(e) if e.kind() == Kind::Conflict && !matches!(status::status(store, id), Status::Running(_)) => {}
            done => return done,
        }
    };
    let tty = store.config(id)?.process.tty;
    let passed = passed(store, id, descriptors)?;
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let client = FirstClient {
        socket: theirs.as_fd(),
        wants: attach::hello(options.streams),
        size: tty.then(attach::terminal_size).flatten(),
    };
    let client_session = attach::Session::open(store, id, options, tty)?;
    tell(store, id, "attach");
    launch(store, id, lock, Some(&client), &passed)?;
    drop(theirs);
    client_session.run(Connection::new(ours))
}

pub(super) fn launch(
    store: &Store,
    id: &ContainerId,
    lock: ContainerLock,
    client: Option<&FirstClient<'_>>,
    passed: &Passed,
) -> Result<()> {
    for warning in launch::launch(store, id, lock, client, passed)? {
        store.notify(&format!("WARNING: {warning}"));
    }
    Ok(())
}

/// Takes the lock of a container that can be started now; `None` if it runs.
pub(super) fn ready(store: &Store, id: &ContainerId) -> Result<Option<ContainerLock>> {
    let begin = Instant::now();
    loop {
        let lock = store.lock_container(id)?;
        reap::reap(store, id, &lock, reap::Patience::Some)?;
        match status::look(store, id) {
            Seen::Is(Status::Damaged(why)) => return Err(Error::other(why)),
            Seen::Is(Status::Created | Status::Exited(_)) => return Ok(Some(lock)),
            Seen::Is(Status::Running(live)) if live.paused => {
                return Err(Error::conflict("cannot start a paused container, try unpause instead"));
            }
            Seen::Is(Status::Running(_)) => return Ok(None),
            Seen::Gone => return Err(Error::not_found(format!("No such container: {id}"))),
            // Its monitor is about to finish: it holds the mount and the groups for a moment more.
            Seen::Ending(live, _) => {
                drop(lock);
                if begin.elapsed() > stop::MONITOR_PATIENCE {
                    return Err(stop::silent_monitor(&live));
                }
                stop::wait_for_monitor(&live, Duration::from_millis(50))?;
            }
            Seen::Lost(_) => {}
        }
    }
}
