//! How a command starts a monitor, and what the two say to each other: one message each way, over a socket that is the
//! monitor's descriptor 3. Descriptor 4 is the container's lock, 5 the socket of a client that is there from the
//! first byte on.

use crate::error::{Context as _, Error, Result};
use crate::model::id::ContainerId;
use crate::monitor::frame::{Hello, Size};
use crate::store::Store;
use crate::sys;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// The monitor's name among the processes; the container's whole id follows.
pub(crate) const TITLE: &str = "barge: monitor ";
/// Bytes of a message at most.
const MESSAGE: usize = 64 * 1024;

/// What a monitor is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Launch {
    pub(super) root: PathBuf,
    pub(super) run_root: PathBuf,
    pub(super) id: ContainerId,
    /// What the client on descriptor 5 wants.
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
    lock: BorrowedFd<'_>,
    client: Option<&FirstClient<'_>>,
) -> Result<Vec<String>> {
    let message = Launch {
        root: store.root().to_owned(),
        run_root: store.run_root().to_owned(),
        id: id.clone(),
        client: client.map(|c| c.wants),
        size: client.and_then(|c| c.size),
    };
    let fds: Vec<_> = [lock].into_iter().chain(client.map(|c| c.socket)).collect();
    start(&format!("{TITLE}{id}"), &message, &fds)
}

/// Starts this engine's program as a process of its own under the given name, tells it `message`, and hands over `fds`
/// from descriptor 4 on.
pub(super) fn start(title: &str, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> Result<Vec<String>> {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::net::send(&ours, &serde_json::to_vec(message)?, SendFlags::NOSIGNAL).context("send the launch message")?;
    let exe = sys::exe::protected().context("protect the engine's own program")?;
    let title = CString::new(title).unwrap_or_default();
    let fds: Vec<_> = [theirs.as_fd()].into_iter().chain(fds.iter().copied()).collect();
    sys::process::spawn_detached(exe.as_fd(), &title, &fds).context("start the monitor")?;
    sys::stop_point("monitor-started");
    drop(fds);
    drop(theirs);
    let report = receive(&ours).context("read the monitor's report")?;
    if report.is_empty() {
        return Err(Error::other("the monitor ended before the program was started"));
    }
    match serde_json::from_slice(&report)? {
        Report::Started { warnings } => Ok(warnings),
        Report::Failed(error) => Err(crate::runtime::spawn::decode(error.as_bytes())),
    }
}

/// One whole message; empty at the end.
pub(super) fn receive(socket: &OwnedFd) -> Result<Vec<u8>> {
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
pub(super) struct Launcher(pub(super) OwnedFd);

/// What a monitor was started with.
pub(super) struct Given {
    pub(super) launch: Launch,
    pub(super) launcher: Launcher,
    pub(super) lock: OwnedFd,
    pub(super) client: Option<OwnedFd>,
}

/// Takes over descriptors 3 to 5 and reads the message.
pub(super) fn receive_launch() -> Result<Given> {
    let socket = sys::process::inherited(3)?;
    let lock = sys::process::inherited(4)?;
    let launch: Launch = serde_json::from_slice(&receive(&socket)?).context("read the launch message")?;
    let client = launch.client.map(|_| sys::process::inherited(5)).transpose()?;
    Ok(Given {
        launch,
        launcher: Launcher(socket),
        lock,
        client,
    })
}

impl Launcher {
    pub(super) fn started(self, warnings: Vec<String>) {
        self.report(&Report::Started { warnings });
    }

    pub(super) fn failed(self, error: &Error) {
        let text = String::from_utf8_lossy(&crate::runtime::spawn::encode(error)).into_owned();
        self.report(&Report::Failed(text));
    }

    /// A command that is gone has nobody to tell.
    fn report(self, report: &Report) {
        if let Ok(bytes) = serde_json::to_vec(report) {
            let end = bytes.len().min(MESSAGE);
            let _ = rustix::net::send(&self.0, &bytes[..end], SendFlags::NOSIGNAL);
        }
    }
}
