//! A step of a build that runs in a container: made and started like any other, with the build as its lifeline. The
//! caller polls it together with others.

use crate::container::config::RunArgs;
use crate::container::connection::{Connection, Message};
use crate::container::{create, start};
use crate::error::{Context as _, Error, Result};
use crate::model::container::BuildStep;
use crate::model::id::ContainerId;
use crate::model::image::ImageRecord;
use crate::monitor::frame::{Hello, Kind, frame};
use crate::monitor::launch::{FirstClient, Passed};
pub(crate) use crate::monitor::trees::SECRET_VARIABLES;
use crate::store::{ContainerLock, Store};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::os::fd::{AsFd as _, BorrowedFd};

/// A container that is made, and not started yet.
pub(crate) struct Step {
    pub(crate) id: ContainerId,
    lock: ContainerLock,
}

/// Its program runs, or has ended a moment ago.
pub(crate) struct RunningStep {
    pub(crate) id: ContainerId,
    connection: Connection,
    over: bool,
}

/// What it says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    /// The last word: nothing of the container is left.
    Exit(u8),
}

/// Makes the container. The staged layer that is its upper is marked with its id (`Store::mark_step`): if the build dies
/// before the container is started, it goes with that.
pub(crate) fn create(
    store: &Store,
    args: &RunArgs,
    image: &ImageRecord,
    step: &BuildStep,
    id: &ContainerId,
) -> Result<Step> {
    let config = create::of_build(store, args, image, step, id)?;
    let ready = start::ready(store, &config.id)?;
    let lock = ready.ok_or_else(|| Error::conflict("the build's container runs already"))?;
    Ok(Step { id: config.id, lock })
}

impl Step {
    /// Returns when the program is executed.
    pub(crate) fn start(self, store: &Store) -> Result<RunningStep> {
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        let client = FirstClient {
            socket: theirs.as_fd(),
            wants: Hello(Hello::STDOUT | Hello::STDERR | Hello::LIFELINE | Hello::LAST_EXIT),
            size: None,
        };
        start::launch(store, &self.id, self.lock, Some(&client), &Passed::default())?;
        Ok(RunningStep {
            id: self.id,
            connection: Connection::new(ours),
            over: false,
        })
    }
}

impl RunningStep {
    /// Readable when there is something to [`RunningStep::read`].
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.connection.fd()
    }

    /// Reads once; blocks if nothing is there.
    pub(crate) fn read(&mut self) -> Result<Vec<Said>> {
        let mut said = Vec::new();
        if !self.connection.fill()? {
            if !self.over {
                // Killed, and with it the program.
                said.push(Said::Exit(137));
            }
            return Ok(said);
        }
        while let Some(message) = self.connection.next()? {
            match message {
                Message::Stdout(range) => said.push(Said::Stdout(self.connection.bytes(range).to_vec())),
                Message::Stderr(range) => said.push(Said::Stderr(self.connection.bytes(range).to_vec())),
                Message::Exit(code) => {
                    self.over = true;
                    said.push(Said::Exit(code));
                }
                Message::Answer(_) => {}
            }
        }
        Ok(said)
    }

    /// Kills the program. Its exit is still to be read.
    pub(crate) fn kill(&self) -> Result<()> {
        self.connection
            .send(&frame(Kind::Signal, &libc::SIGKILL.to_be_bytes()))
            .context("end the step's container")
    }
}
