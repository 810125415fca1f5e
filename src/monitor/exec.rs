//! The process behind an `exec`: joins a container, starts one program in it and serves its streams, so that the
//! program outlives the command that typed it, as with the detach keys. With `-d` it ends as soon as the program runs.

use crate::error::{Context as _, Error, Kind, Result};
use crate::model::bytes::ByteString;
use crate::model::container::{ContainerConfig, LogConfig, LogDriver};
use crate::model::event::Event;
use crate::model::id::ContainerId;
use crate::model::idmap::IdMap;
use crate::model::state::{LiveState, ProcessRef};
use crate::monitor::frame::{Hello, Size};
use crate::monitor::launch::{self, FirstClient, Launcher};
use crate::monitor::streams::{Channels, Event as Happens, Streams};
use crate::monitor::{extras, log, names, stdio};
use crate::runtime::capability::Capabilities;
use crate::runtime::plan::{self, Confinement};
use crate::runtime::prepare::{ChildStreams, Passed, Prepared, Terminal};
use crate::runtime::spawn::Init;
use crate::runtime::step::Step;
use crate::runtime::{capability, cgroup, join, prepare, seccomp, user};
use crate::store::Store;
use crate::sys;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

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

impl ExecSpec {
    /// A health check: as the container's own program, without input or a terminal.
    pub(super) fn of_check(argv: Vec<ByteString>) -> ExecSpec {
        ExecSpec {
            argv,
            interactive: false,
            tty: false,
            env: Vec::new(),
            user: None,
            workdir: None,
            privileged: false,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct ExecLaunch {
    root: PathBuf,
    run_root: PathBuf,
    id: ContainerId,
    spec: ExecSpec,
    client: Option<Hello>,
    size: Option<Size>,
    /// Descriptors for the program, after the client's.
    #[serde(default)]
    passed: i32,
}

/// Returns when the program is executed.
pub(crate) fn launch(
    store: &Store,
    id: &ContainerId,
    spec: &ExecSpec,
    (client, passed): (Option<&FirstClient<'_>>, &[OwnedFd]),
) -> Result<()> {
    let message = ExecLaunch {
        root: store.root().to_owned(),
        run_root: store.run_root().to_owned(),
        id: id.clone(),
        spec: spec.clone(),
        client: client.map(|c| c.wants),
        size: client.and_then(|c| c.size),
        passed: i32::try_from(passed.len()).unwrap_or(i32::MAX),
    };
    let sockets = client.map(|c| c.socket).into_iter();
    let fds: Vec<_> = sockets.chain(passed.iter().map(AsFd::as_fd)).collect();
    let report = launch::start(&format!("{TITLE}{id}"), &message, &fds, launch::Birth::default())?;
    launch::answer(&report).map(drop)
}

/// This process's whole life.
pub(crate) fn main() -> Result<()> {
    let (launcher, launch): (Launcher, ExecLaunch) = launch::inherited()?;
    let client = launch
        .client
        .map(|wants| sys::process::inherited(5).map(|fd| (fd, wants)))
        .transpose()?;
    let first = 5 + i32::from(client.is_some());
    let passed = (first..first.saturating_add(launch.passed)).map(sys::process::inherited);
    let passed = passed.collect::<Result<Vec<_>, _>>()?;
    let passed = Passed::new(&passed, Vec::new(), false)?.fds;
    sys::process::close_from(3)?;
    super::leave_the_caller();
    let store = Store::open(launch.root, launch.run_root)?;
    let told = Told::new(&store, &launch.id, &launch.spec)?;
    told.tell("exec_create", true, None);
    let (init, channels) = match start(&store, &launch.id, &launch.spec, (launch.size, passed)) {
        Ok(started) => started,
        Err(e) => {
            launcher.failed(&e);
            return Err(e);
        }
    };
    told.tell("exec_start", true, None);
    let Some((client, wants)) = client else {
        launcher.started(Vec::new(), Duration::ZERO);
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
    launcher.started(Vec::new(), Duration::ZERO);
    let code = until_end(&mut streams, &init)?;
    told.tell("exec_die", false, Some(code));
    streams.drain();
    streams.tell_exit(code, true);
    streams.linger(None).map(|_| ())
}

/// What the event log is told of this program.
struct Told<'a> {
    store: &'a Store,
    config: Option<ContainerConfig>,
    /// Docker knows each by an id of its own.
    id: ContainerId,
    command: String,
}

impl Told<'_> {
    fn new<'a>(store: &'a Store, id: &ContainerId, spec: &ExecSpec) -> Result<Told<'a>> {
        let words: Vec<_> = spec.argv.iter().map(ByteString::to_string_lossy).collect();
        Ok(Told {
            store,
            config: store.config(id).ok(),
            id: Store::random_id()?,
            command: words.join(" "),
        })
    }

    fn tell(&self, action: &str, with_command: bool, code: Option<u8>) {
        let Some(config) = &self.config else { return };
        let action = match with_command {
            true => format!("{action}: {}", self.command),
            false => action.to_owned(),
        };
        let event = Event::container(action, config).with("execID", &self.id);
        self.store.event(&match code {
            Some(code) => event.with("exitCode", code),
            None => event,
        });
    }
}

/// The program's exit code.
fn until_end(streams: &mut Streams, init: &Init) -> Result<u8> {
    loop {
        match streams.wait(Some(init.pidfd.as_fd()), None)? {
            Happens::Ended => break,
            // A number that is no signal is the client's mistake.
            Happens::Deliver(signal) => drop(sys::process::pidfd_signal(init.pidfd.as_fd(), signal)),
            Happens::Signal(_) => sys::process::pidfd_signal(init.pidfd.as_fd(), libc::SIGTERM)?,
            Happens::Timeout | Happens::Thaw | Happens::Network(..) | Happens::Check(_) | Happens::Watched => {}
        }
    }
    Ok(sys::process::reap(init.pidfd.as_fd())?.code())
}

fn start(
    store: &Store,
    id: &ContainerId,
    spec: &ExecSpec,
    (size, passed): (Option<Size>, Vec<OwnedFd>),
) -> Result<(Init, Channels)> {
    let joined = Joined::open(store, id)?;
    let ids = joined.config.namespaces.user.as_ref();
    let (streams, channels) = open_streams(spec, size, joined.root.as_fd(), ids)?;
    let entry = cgroup::open_existing(&joined.live.cgroups, joined.process.pid)?;
    Ok((joined.execute(store, spec, (streams, entry, passed), false)?, channels))
}

/// A running container, held by descriptors, for a further program in it.
pub(super) struct Joined {
    config: ContainerConfig,
    live: LiveState,
    process: ProcessRef,
    pidfd: OwnedFd,
    root: OwnedFd,
    /// Its user namespace, if it has one of its own.
    users: Option<OwnedFd>,
}

impl Joined {
    pub(super) fn open(store: &Store, id: &ContainerId) -> Result<Joined> {
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
        let users = match config.namespaces.user {
            None => None,
            Some(_) => {
                let path = format!("/proc/{}/ns/user", process.pid);
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                let users = rustix::fs::open(path, flags, Mode::empty());
                Some(users.context("open the container's user namespace")?)
            }
        };
        // After the opening: what was opened by pid is that container's only if its first process is still the same.
        if sys::process::start_time(process.pid) != Some(process.start_time) {
            return Err(not_running());
        }
        Ok(Joined {
            config,
            live,
            process,
            pidfd,
            root,
            users,
        })
    }

    /// The way into its groups for a health check, and the check's own.
    pub(super) fn probe_entry(&self) -> Result<(cgroup::Entry, Option<PathBuf>)> {
        cgroup::open_for_probe(&self.live.cgroups, self.process.pid)
    }

    pub(super) fn is_frozen(&self) -> bool {
        cgroup::is_frozen(&self.live.cgroups)
    }

    /// Executes the program. With `tied` it dies with this process.
    pub(super) fn execute(
        &self,
        store: &Store,
        spec: &ExecSpec,
        (streams, entry, passed): (ChildStreams, cgroup::Entry, Vec<OwnedFd>),
        tied: bool,
    ) -> Result<Init> {
        let (config, live) = (&self.config, &self.live);
        let mut security = config.security.clone();
        security.privileged |= spec.privileged;
        let mut capabilities = capability::from_config(&security)?;
        if !live.device_filter && !config.security.privileged {
            capabilities = capabilities.without(Capabilities::MKNOD);
        }
        let filter = seccomp::program(&config.security, capabilities)?;
        let identity = user::identify(
            self.root.as_fd(),
            spec.user.as_deref().unwrap_or(&config.process.user),
            &config.process.groups,
        )?;
        let config = extras::with_environment(store, config)?;
        let config = names::with_links(store, &config, &live.endpoints)?;
        let confinement = Confinement {
            identity: &identity,
            capabilities,
            seccomp: filter.is_some(),
            no_new_privileges: config.security.no_new_privileges && !spec.privileged,
            apparmor: self.config.security.apparmor.as_deref().filter(|_| !spec.privileged),
            selinux: self.config.security.selinux.as_deref().filter(|_| !spec.privileged),
            tied,
            passes: !passed.is_empty(),
        };
        let enter_users = plan::enter_users(&config, &identity)?;
        let steps = steps(&config, (spec, enter_users), &confinement);
        let prepared = Prepared {
            root: self.root.try_clone()?,
            mounts: Vec::new(),
            tasks: entry.v1_tasks,
            cgroup: entry.v2,
            namespaces: Vec::new(),
            streams,
            seccomp: filter.unwrap_or_default(),
            passed,
            users: self.users.as_ref().map(OwnedFd::try_clone).transpose()?,
        };
        join::join(self.pidfd.as_fd(), &steps, prepared)?.executed()
    }
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
        listens: false,
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
