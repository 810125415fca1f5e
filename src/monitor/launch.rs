//! How a command starts a monitor, and what the two say to each other, by the monitor's descriptors:
//!
//! ```text
//!   3  socket, for one report: it runs, or why it does not
//!   4  file in memory: what it is told
//!   5  the container's lock
//!   6  socket of a client that is there from the first byte on, if there is one
//!   …  the streams of the command, if the program is to have them, and what it gets from 3 on
//! ```

use crate::error::{Context as _, Error, Result};
use crate::model::id::ContainerId;
use crate::model::service::SdNotify;
use crate::monitor::frame::{Hello, Size};
use crate::monitor::notify::{self, Notified};
use crate::runtime::cgroup::{self, place::Place};
use crate::store::{ContainerLock, Store};
use crate::sys;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

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
    pub(super) told: Told,
    /// Three more descriptors are the program's streams.
    pub(super) streams: bool,
}

/// What it is told of the host's service manager.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) place: Place,
    pub(super) notified: Option<Notified>,
    pub(super) mode: SdNotify,
    /// Descriptors passed on, from number 6 or 7 on.
    pub(super) passed: i32,
    /// Of those that a service manager listens on, which come first.
    pub(super) names: Vec<String>,
}

/// What it answers, once.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    Started {
        warnings: Vec<String>,
        #[serde(default)]
        pid: u32,
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
    passed: &Passed,
) -> Result<Vec<String>> {
    begin(store, id, lock, client, passed)?.finish()
}

/// A monitor that is on its way. Its descriptor can be read when there is something to finish with.
pub(crate) struct Pending {
    report: OwnedFd,
    notified: Option<Notified>,
}

impl AsFd for Pending {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }
}

impl Pending {
    /// Waits until the program is executed. Gives the warnings.
    pub(crate) fn finish(self) -> Result<Vec<String>> {
        let (warnings, pid) = answer(&self.report)?;
        if let Some(notified) = &self.notified {
            // Said by us: until then this process is the service's main one, and the only one that is listened to. The
            // monitor says nothing before we have closed our end.
            notified.send(&format!("MAINPID={pid}"));
        }
        Ok(warnings)
    }
}

/// The first half of [`launch`].
pub(crate) fn begin(
    store: &Store,
    id: &ContainerId,
    lock: ContainerLock,
    client: Option<&FirstClient<'_>>,
    passed: &Passed,
) -> Result<Pending> {
    let host = cgroup::Host::probe()?;
    let service = store.config(id)?.service;
    let place = cgroup::place::choose(&service, &host, passed.is_service)?;
    if let Place::Unit(unit) = &place {
        cgroup::place::enter_unit(&host, unit)?;
    }
    let birth = Birth {
        lock: Some(lock),
        cgroup: cgroup::place::birthplace(&host, &place),
    };
    let mode = notify::mode_of_caller(service.notify);
    let message = Launch {
        root: store.root().to_owned(),
        run_root: store.run_root().to_owned(),
        id: id.clone(),
        client: client.map(|c| c.wants),
        size: client.and_then(|c| c.size),
        told: Told {
            place,
            notified: Notified::of_caller(mode).filter(|_| passed.is_service),
            mode,
            passed: i32::try_from(passed.fds.len()).unwrap_or(i32::MAX),
            names: passed.names.clone(),
        },
        streams: passed.streams.is_some(),
    };
    let client = client.map(|c| c.socket);
    let more = passed.fds.iter().chain(passed.streams.iter().flatten());
    let fds: Vec<_> = client.into_iter().chain(more.map(AsFd::as_fd)).collect();
    Ok(Pending {
        report: start(&format!("{TITLE}{id}"), &message, &fds, birth)?,
        notified: message.told.notified,
    })
}

/// Descriptors for the container's first process, which finds them from 3 on.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    pub(crate) fds: Vec<OwnedFd>,
    /// Of the sockets of a service manager (sd_listen_fds(3)), which come first.
    pub(crate) names: Vec<String>,
    /// Its standard input, output and error, where the command's own are to be the program's
    /// (`--log-driver passthrough`).
    pub(crate) streams: Option<[OwnedFd; 3]>,
    /// The container is what the caller's unit is about, if a service manager has started the caller: its program may be
    /// the service's main process. What it only needs, or a step of a build, is not.
    pub(crate) is_service: bool,
}

impl Passed {
    /// What a service manager has handed to this process; nothing if it was meant for another.
    pub(crate) fn by_service_manager() -> Result<Passed> {
        const MOST: i32 = 1024;
        let number = |name| std::env::var(name).ok()?.parse::<i32>().ok();
        if number("LISTEN_PID") != i32::try_from(std::process::id()).ok() {
            return Ok(Passed {
                is_service: true,
                ..Passed::default()
            });
        }
        let count = number("LISTEN_FDS").unwrap_or(0).clamp(0, MOST);
        let given = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut given = given.split(':').filter(|n| !n.is_empty());
        let mut passed = Passed {
            is_service: true,
            ..Passed::default()
        };
        for fd in 3..3 + count {
            passed
                .fds
                .push(sys::process::duplicate(fd).with_context(|| format!("descriptor {fd} of LISTEN_FDS"))?);
            passed.names.push(given.next().unwrap_or("unknown").to_owned());
        }
        Ok(passed)
    }
}

/// What a process is born with besides descriptors.
#[derive(Default)]
pub(super) struct Birth {
    pub(super) lock: Option<ContainerLock>,
    /// A v2 group; `None` is the caller's.
    pub(super) cgroup: Option<OwnedFd>,
}

/// Starts this engine's program as a process of its own under the given name, tells it `message`, and hands over the
/// lock, if there is one, and `fds` from descriptor 5 on. From then on the lock is that process's alone: ours, kept for
/// a moment longer, would stand in the way of a container that ends at once. Gives the socket that the report comes by.
pub(super) fn start(title: &str, message: &impl Serialize, fds: &[BorrowedFd<'_>], birth: Birth) -> Result<OwnedFd> {
    let ours = process(title, message, fds, &birth, &sys::exe::protected().context(PROTECT)?)?;
    sys::stop_point("monitor-started");
    drop(birth);
    Ok(ours)
}

/// Waits for the report: the warnings, and the process's pid.
pub(super) fn answer(socket: &OwnedFd) -> Result<(Vec<String>, u32)> {
    let report = receive(socket).context("read the monitor's report")?;
    if report.is_empty() {
        return Err(Error::other("the monitor ended before the program was started"));
    }
    match serde_json::from_slice(&report)? {
        Report::Started { warnings, pid } => Ok((warnings, pid)),
        Report::Failed(error) => Err(crate::runtime::spawn::decode(error.as_bytes())),
    }
}

const PROTECT: &str = "protect the engine's own program";

/// The same from a process that runs from its protected program already, and that does not wait: the report comes on
/// the socket, which is left as it is to be read.
pub(super) fn begin_from_monitor(title: &str, message: &impl Serialize) -> Result<OwnedFd> {
    process(
        title,
        message,
        &[],
        &Birth::default(),
        &sys::exe::own().context(PROTECT)?,
    )
}

fn process(
    title: &str,
    message: &impl Serialize,
    fds: &[BorrowedFd<'_>],
    birth: &Birth,
    exe: &OwnedFd,
) -> Result<OwnedFd> {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let message = memory_file(&serde_json::to_vec(message)?).context("write the launch message")?;
    let title = CString::new(title).unwrap_or_default();
    let fds: Vec<_> = [theirs.as_fd(), message.as_fd()]
        .into_iter()
        .chain(birth.lock.as_ref().map(AsFd::as_fd))
        .chain(fds.iter().copied())
        .collect();
    sys::process::spawn_detached(exe.as_fd(), &title, &fds, birth.cgroup.as_ref().map(AsFd::as_fd))
        .context("start the monitor")?;
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
    pub(super) passed: Vec<OwnedFd>,
    pub(super) streams: Option<[OwnedFd; 3]>,
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
    let first = 6 + i32::from(client.is_some());
    let last = first.saturating_add(launch.told.passed);
    let passed = (first..last).map(sys::process::inherited).collect::<Result<_, _>>()?;
    let one = |n| sys::process::inherited(last + n);
    let streams = match launch.streams {
        true => Some([one(0)?, one(1)?, one(2)?]),
        false => None,
    };
    Ok(Given {
        launch,
        launcher,
        lock,
        client,
        passed,
        streams,
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

    /// With `patience`, returns when the command has understood, or is gone.
    pub(super) fn started(self, warnings: Vec<String>, patience: Duration) {
        use rustix::event::{PollFd, PollFlags, Timespec};
        let pid = std::process::id();
        self.report(&Report::Started { warnings, pid });
        if !patience.is_zero() {
            let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
            let _ = rustix::event::poll(&mut fds, Timespec::try_from(patience).ok().as_ref());
        }
    }

    pub(super) fn failed(self, error: &Error) {
        let mut text = String::from_utf8_lossy(&crate::runtime::spawn::encode(error)).into_owned();
        // Escaped, a character may take six bytes.
        text.truncate(text.floor_char_boundary(MESSAGE / 8));
        self.report(&Report::Failed(text));
    }

    /// A command that is gone has nobody to tell.
    fn report(&self, report: &Report) {
        if let Ok(bytes) = serde_json::to_vec(report) {
            let _ = rustix::net::send(&self.0, &bytes, SendFlags::NOSIGNAL);
        }
    }
}
