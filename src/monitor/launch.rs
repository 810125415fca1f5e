//! How a command starts a monitor, and what the two say to each other, by the monitor's descriptors:
//!
//! ```text
//!   3  socket, for one report: it runs, or why it does not
//!   4  file in memory: what it is told
//!   5  the container's lock
//!   6  socket of a client that is there from the first byte on, if there is one
//! ```

use crate::error::{Context as _, Error, Result};
use crate::model::id::ContainerId;
use crate::monitor::frame::{Hello, Size};
use crate::store::{ContainerLock, Store};
use crate::sys;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// The monitor's name among the processes; the container's whole id follows.
pub(crate) const TITLE: &str = "barge: monitor ";
/// Bytes of a report at most.
const MESSAGE: usize = 64 * 1024;

/// What a monitor is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Launch {
    pub(super) root: PathBuf,
    pub(super) run_root: PathBuf,
    pub(super) id: ContainerId,
    /// What the client on descriptor 6 wants.
    pub(super) client: Option<Hello>,
    /// The size of its terminal.
    pub(super) size: Option<Size>,
}

/// What it answers, once.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    Started {
        warnings: Vec<String>,
    },
    /// In the form of `runtime::spawn::encode`.
    Failed(String),
}

/// A client that is attached before the program starts.
pub(crate) struct FirstClient<'a> {
    pub(crate) socket: BorrowedFd<'a>,
    pub(crate) wants: Hello,
    pub(crate) size: Option<Size>,
}

/// Starts the monitor of a container whose lock is held, and returns when the program is executed. Gives the warnings.
pub(crate) fn launch(
    store: &Store,
    id: &ContainerId,
    lock: ContainerLock,
    client: Option<&FirstClient<'_>>,
) -> Result<Vec<String>> {
    let message = Launch {
        root: store.root().to_owned(),
        run_root: store.run_root().to_owned(),
        id: id.clone(),
        client: client.map(|c| c.wants),
        size: client.and_then(|c| c.size),
    };
    let fds: Vec<_> = client.map(|c| c.socket).into_iter().collect();
    start(&format!("{TITLE}{id}"), &message, Some(lock), &fds)
}

/// Starts this engine's program as a process of its own under the given name, tells it `message`, and hands over the
/// lock, if there is one, and `fds` from descriptor 5 on. From then on the lock is that process's alone: ours, kept for
/// a moment longer, would stand in the way of a container that ends at once.
pub(super) fn start(
    title: &str,
    message: &impl Serialize,
    lock: Option<ContainerLock>,
    fds: &[BorrowedFd<'_>],
) -> Result<Vec<String>> {
    let ours = begin(
        title,
        message,
        lock.as_ref(),
        fds,
        &sys::exe::protected().context(PROTECT)?,
    )?;
    sys::stop_point("monitor-started");
    drop(lock);
    let report = receive(&ours).context("read the monitor's report")?;
    if report.is_empty() {
        return Err(Error::other("the monitor ended before the program was started"));
    }
    match serde_json::from_slice(&report)? {
        Report::Started { warnings } => Ok(warnings),
        Report::Failed(error) => Err(crate::runtime::spawn::decode(error.as_bytes())),
    }
}

const PROTECT: &str = "protect the engine's own program";

/// The same from a process that runs from its protected program already, and that does not wait: the report comes on
/// the socket, which is left as it is to be read.
pub(super) fn begin_from_monitor(title: &str, message: &impl Serialize) -> Result<OwnedFd> {
    begin(title, message, None, &[], &sys::exe::own().context(PROTECT)?)
}

fn begin(
    title: &str,
    message: &impl Serialize,
    lock: Option<&ContainerLock>,
    fds: &[BorrowedFd<'_>],
    exe: &OwnedFd,
) -> Result<OwnedFd> {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let message = memory_file(&serde_json::to_vec(message)?).context("write the launch message")?;
    let title = CString::new(title).unwrap_or_default();
    let fds: Vec<_> = [theirs.as_fd(), message.as_fd()]
        .into_iter()
        .chain(lock.map(AsFd::as_fd))
        .chain(fds.iter().copied())
        .collect();
    sys::process::spawn_detached(exe.as_fd(), &title, &fds).context("start the monitor")?;
    Ok(ours)
}

/// One whole message; empty at the end.
fn receive(socket: &OwnedFd) -> Result<Vec<u8>> {
    let mut buffer = vec![0; MESSAGE];
    loop {
        match rustix::net::recv(socket, &mut buffer, RecvFlags::empty()) {
            Ok((n, _)) => {
                buffer.truncate(n);
                return Ok(buffer);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// The monitor's side of the launch.
pub(super) struct Launcher(OwnedFd);

/// What a monitor was started with.
pub(super) struct Given {
    pub(super) launch: Launch,
    pub(super) launcher: Launcher,
    pub(super) lock: OwnedFd,
    pub(super) client: Option<OwnedFd>,
}

/// Arguments and environment may be long; a file in memory takes them all, and needs nobody to read it yet.
fn memory_file(bytes: &[u8]) -> Result<OwnedFd> {
    let fd = rustix::fs::memfd_create("launch", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

/// Descriptors 3 and 4 of a process that was started so: whom to report to, and what it was told.
pub(super) fn inherited<T: serde::de::DeserializeOwned>() -> Result<(Launcher, T)> {
    let launcher = Launcher(sys::process::inherited(3)?);
    let mut bytes = Vec::new();
    std::fs::File::from(sys::process::inherited(4)?)
        .read_to_end(&mut bytes)
        .context("read the launch message")?;
    Ok((
        launcher,
        serde_json::from_slice(&bytes).context("read the launch message")?,
    ))
}

/// Takes over the descriptors from 3 on, and reads the message.
pub(super) fn receive_launch() -> Result<Given> {
    let (launcher, launch): (Launcher, Launch) = inherited()?;
    let lock = sys::process::inherited(5)?;
    let client = launch.client.map(|_| sys::process::inherited(6)).transpose()?;
    Ok(Given {
        launch,
        launcher,
        lock,
        client,
    })
}

impl Launcher {
    /// Readable when whoever started this process is gone.
    pub(super) fn socket(&self) -> &OwnedFd {
        &self.0
    }

    /// Reports something else.
    pub(super) fn tell(self, what: &impl Serialize) {
        if let Ok(bytes) = serde_json::to_vec(what) {
            let _ = rustix::net::send(&self.0, &bytes, SendFlags::NOSIGNAL);
        }
    }

    pub(super) fn started(self, warnings: Vec<String>) {
        self.report(&Report::Started { warnings });
    }

    pub(super) fn failed(self, error: &Error) {
        let mut text = String::from_utf8_lossy(&crate::runtime::spawn::encode(error)).into_owned();
        // Escaped, a character may take six bytes.
        text.truncate(text.floor_char_boundary(MESSAGE / 8));
        self.report(&Report::Failed(text));
    }

    /// A command that is gone has nobody to tell.
    fn report(self, report: &Report) {
        if let Ok(bytes) = serde_json::to_vec(report) {
            let _ = rustix::net::send(&self.0, &bytes, SendFlags::NOSIGNAL);
        }
    }
}
