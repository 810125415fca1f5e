//! Runs a further program in a running container.

use crate::container::attach::{self, DetachKeys, End, Options, Session};
use crate::container::connection::Connection;
use crate::container::pause::running;
use crate::error::{Error, Result};
use crate::model::bytes::ByteString;
use crate::model::container::Streams;
use crate::model::id::ContainerId;
use crate::monitor::exec::{self, ExecSpec};
use crate::monitor::launch::FirstClient;
use crate::store::Store;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::os::fd::{AsFd as _, OwnedFd};

#[derive(Debug, Clone)]
pub(crate) struct ExecArgs {
    pub(crate) argv: Vec<ByteString>,
    pub(crate) detach: bool,
    pub(crate) interactive: bool,
    pub(crate) tty: bool,
    /// `NAME=value`, added to the container's own.
    pub(crate) env: Vec<ByteString>,
    /// Instead of the container's.
    pub(crate) user: Option<String>,
    pub(crate) workdir: Option<ByteString>,
    pub(crate) privileged: bool,
    pub(crate) detach_keys: DetachKeys,
}

/// The program's exit code; 0 at once if detached. It gets copies of `passed` as its descriptors 3, 4, ….
pub(crate) fn exec(store: &Store, id: &ContainerId, args: &ExecArgs, passed: &[OwnedFd]) -> Result<u8> {
    if running(store, id)?.paused {
        let message = format!("Container {id} is paused, unpause the container before exec");
        return Err(Error::conflict(message));
    }
    let spec = ExecSpec {
        argv: args.argv.clone(),
        interactive: args.interactive,
        tty: args.tty,
        env: args.env.clone(),
        user: args.user.clone(),
        workdir: args.workdir.clone(),
        privileged: args.privileged,
    };
    if args.detach {
        return exec::launch(store, id, &spec, (None, passed)).map(|()| 0);
    }
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let options = Options {
        streams: Streams {
            stdin: args.interactive,
            stdout: true,
            stderr: true,
        },
        sig_proxy: false,
        detach_keys: args.detach_keys.clone(),
    };
    let client = FirstClient {
        socket: theirs.as_fd(),
        wants: attach::hello(options.streams),
        size: args.tty.then(attach::terminal_size).flatten(),
    };
    let session = Session::open(store, id, &options, args.tty)?.of_exec();
    exec::launch(store, id, &spec, (Some(&client), passed))?;
    drop(theirs);
    match session.run(Connection::new(ours))? {
        End::Exited(code) => Ok(code),
        End::Detached | End::StdinClosed => Ok(0),
    }
}
