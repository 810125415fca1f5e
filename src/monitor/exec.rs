//! The process behind an `exec`: joins a container, starts one program in it and serves its streams, so that the
//! program outlives the command that typed it, as with the detach keys. With `-d` it ends as soon as the program runs.

use crate::error::{Context as _, Error, Kind, Result};
use crate::model::bytes::ByteString;
use crate::model::container::{ContainerConfig, LogConfig, LogDriver};
use crate::model::id::ContainerId;
use crate::model::idmap::IdMap;
use crate::monitor::frame::{Hello, Size};
use crate::monitor::launch::{self, FirstClient, Launcher};
use crate::monitor::streams::{Channels, Event, Streams};
use crate::monitor::{log, names, stdio};
use crate::runtime::capability::Capabilities;
use crate::runtime::plan::{self, Confinement};
use crate::runtime::prepare::{ChildStreams, Prepared, Terminal};
use crate::runtime::spawn::Init;
use crate::runtime::step::Step;
use crate::runtime::{capability, cgroup, join, prepare, seccomp, user};
use crate::store::Store;
use crate::sys;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;

/// Its name among the processes; the container's whole id follows.
pub(crate) const TITLE: &str = "barge: exec ";

/// What to run, and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ExecSpec {
    pub(crate) argv: Vec<ByteString>,
    pub(crate) interactive: bool,
    pub(crate) tty: bool,
    pub(crate) env: Vec<ByteString>,
    pub(crate) user: Option<String>,
    pub(crate) workdir: Option<ByteString>,
    pub(crate) privileged: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct ExecLaunch {
    root: PathBuf,
    run_root: PathBuf,
    id: ContainerId,
    spec: ExecSpec,
    client: Option<Hello>,
    size: Option<Size>,
}

/// Returns when the program is executed.
pub(crate) fn launch(store: &Store, id: &ContainerId, spec: &ExecSpec, client: Option<&FirstClient<'_>>) -> Result<()> {
    let message = ExecLaunch {
        root: store.root().to_owned(),
        run_root: store.run_root().to_owned(),
        id: id.clone(),
        spec: spec.clone(),
        client: client.map(|c| c.wants),
        size: client.and_then(|c| c.size),
    };
    let fds: Vec<_> = client.map(|c| c.socket).into_iter().collect();
    launch::start(&format!("{TITLE}{id}"), &message, None, &fds).map(|_| ())
}

/// This process's whole life.
pub(crate) fn main() -> Result<()> {
    let (launcher, launch): (Launcher, ExecLaunch) = launch::inherited()?;
    let client = launch
        .client
        .map(|wants| sys::process::inherited(5).map(|fd| (fd, wants)))
        .transpose()?;
    sys::process::close_from(3)?;
    super::leave_the_caller();
    let store = Store::open(launch.root, launch.run_root)?;
    let (init, channels) = match start(&store, &launch.id, &launch.spec, launch.size) {
        Ok(started) => started,
        Err(e) => {
            launcher.failed(&e);
            return Err(e);
        }
    };
    let Some((client, wants)) = client else {
        launcher.started(Vec::new());
        return Ok(());
    };
    let none = LogConfig {
        driver: LogDriver::None,
        ..LogConfig::default()
    };
    let log = log::LogWriter::open(store.root(), &none)?;
    let mut streams = Streams::new(log, super::signals()?);
    streams.add_client(client, wants);
    streams.connect(channels)?;
    if let Some(size) = launch.size {
        streams.resize(size);
    }
    launcher.started(Vec::new());
    serve(&mut streams, &init)
}

fn serve(streams: &mut Streams, init: &Init) -> Result<()> {
    loop {
        match streams.wait(Some(init.pidfd.as_fd()), None)? {
            Event::Ended => break,
            // A number that is no signal is the client's mistake.
            Event::Deliver(signal) => drop(sys::process::pidfd_signal(init.pidfd.as_fd(), signal)),
            Event::Signal(_) => sys::process::pidfd_signal(init.pidfd.as_fd(), libc::SIGTERM)?,
            Event::Timeout | Event::Thaw | Event::Network(..) => {}
        }
    }
    let code = sys::process::reap(init.pidfd.as_fd())?.code();
    streams.drain();
    streams.tell_exit(code, true);
    streams.linger(None).map(|_| ())
}

fn start(store: &Store, id: &ContainerId, spec: &ExecSpec, size: Option<Size>) -> Result<(Init, Channels)> {
    let config = store.config(id)?;
    let not_running = || Error::new(Kind::Conflict, format!("Container {id} is not running"));
    let live = store.live(id)?.ok_or_else(not_running)?;
    let process = live.running().ok_or_else(not_running)?;
    let pidfd = sys::process::pidfd_open(process.pid)?.ok_or_else(not_running)?;
    if sys::process::start_time(process.pid) != Some(process.start_time) {
        return Err(not_running());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(format!("/proc/{}/root", process.pid), flags, Mode::empty())
        .context("open the container's root")?;
    let ids = config.namespaces.user.as_ref();
    let users = match ids {
        None => None,
        Some(_) => {
            let path = format!("/proc/{}/ns/user", process.pid);
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let users = rustix::fs::open(path, flags, Mode::empty()).context("open the container's user namespace")?;
            if sys::process::start_time(process.pid) != Some(process.start_time) {
                return Err(not_running());
            }
            Some(users)
        }
    };
    let (streams, channels) = open_streams(spec, size, root.as_fd(), ids)?;
    let mut security = config.security.clone();
    security.privileged |= spec.privileged;
    let mut capabilities = capability::from_config(&security)?;
    if !live.device_filter && !config.security.privileged {
        capabilities = capabilities.without(Capabilities::MKNOD);
    }
    let filter = seccomp::program(&config.security, capabilities)?;
    let identity = user::identify(
        root.as_fd(),
        spec.user.as_deref().unwrap_or(&config.process.user),
        &config.process.groups,
    )?;
    let config = names::with_links(store, &config, &live.endpoints)?;
    let enter_users = plan::enter_users(&config, &identity)?;
    let steps = steps(
        &config,
        (spec, enter_users),
        &Confinement {
            identity: &identity,
            capabilities,
            seccomp: filter.is_some(),
            no_new_privileges: config.security.no_new_privileges && !spec.privileged,
            tied: false,
        },
    );
    let entry = cgroup::open_existing(&live.cgroups, process.pid)?;
    let prepared = Prepared {
        root,
        mounts: Vec::new(),
        tasks: entry.v1_tasks,
        cgroup: entry.v2,
        namespaces: Vec::new(),
        users,
        streams,
        seccomp: filter.unwrap_or_default(),
    };
    let init = join::join(pidfd.as_fd(), &steps, prepared)?.executed()?;
    Ok((init, channels))
}

fn steps(
    config: &ContainerConfig,
    (spec, enter_users): (&ExecSpec, Option<Step>),
    confinement: &Confinement<'_>,
) -> Vec<Step> {
    let workdir = spec.workdir.clone().unwrap_or_else(|| config.process.workdir.clone());
    let mut env: Vec<ByteString> = config
        .process
        .env
        .iter()
        .filter(|e| !spec.env.iter().any(|n| n.split_env().0 == e.split_env().0))
        .cloned()
        .collect();
    if spec.tty && !env.iter().chain(&spec.env).any(|e| e.split_env().0 == b"TERM") {
        env.push("TERM=xterm".into());
    }
    env.extend(spec.env.iter().filter(|e| e.split_env().1.is_some()).cloned());
    let mut steps = vec![Step::NewSessionKeyring];
    steps.extend(plan::limit_steps(config, stdio::open_files()));
    steps.extend([
        Step::Umask(config.process.umask.unwrap_or(plan::UMASK)),
        Step::NewSession,
        Step::StandardStreams,
    ]);
    steps.extend(enter_users);
    steps.extend([Step::CloseHostFiles, Step::Workdir(workdir)]);
    steps.extend(confinement.steps(false));
    steps.push(Step::Exec {
        argv: spec.argv.clone(),
        env: plan::environment(&env, confinement.identity),
    });
    steps
}

fn open_streams(
    spec: &ExecSpec,
    size: Option<Size>,
    root: BorrowedFd<'_>,
    ids: Option<&IdMap>,
) -> Result<(ChildStreams, Channels)> {
    if !spec.tty {
        return stdio::pipes(spec.interactive, true);
    }
    let Terminal { master, slave } = prepare::terminal_inside(root, ids)?;
    stdio::terminal(Terminal { master, slave }, spec.interactive, size)
}
