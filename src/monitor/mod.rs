//! One small process per running container: parent of its init, writer of its log, its clients' other end, and the one
//! that records how it ended. It starts it again if its restart policy says so.
//!
//! Kill it at any moment: its init dies with it (`Step::DieWithMonitor`), and the next command that meets the container
//! finds `state.json` with a dead monitor and releases by name what is left (`container/reap.rs`).

mod accounts;
pub(crate) mod chowned;
mod client;
mod cycle;
pub(crate) mod events;
pub(crate) mod exec;
mod extras;
pub(crate) mod frame;
pub(crate) mod health;
mod identity;
mod journal;
pub(crate) mod launch;
mod localtime;
pub(crate) mod log;
mod names;
pub(crate) mod networks;
pub(crate) mod notify;
mod ports;
pub(crate) mod probe;
mod restart;
pub(crate) mod root;
mod sharing;
mod stdio;
mod streams;
mod supervision;
pub(crate) mod trees;
mod volumes;

use crate::error::{Context as _, Error, Result};
use crate::model::container::{ContainerConfig, LogDriver};
use crate::model::id::ContainerId;
use crate::model::state::{Exit, LiveState, Phase, ProcessRef};
use crate::model::time::Timestamp;
use crate::network::{self, Namespace, publish};
use crate::runtime::cgroup::{self, place::Place};
use crate::store::{DetachedContainer, Durability, Store, file};
use crate::sys;
use launch::{Given, Launcher, Told};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};
use streams::{Event, Streams};

/// In the run directory: a person has asked the container to end.
pub(crate) const STOP_REQUEST: &str = "stop";
/// In the run directory: a container that would go with its end is to stay this time.
pub(crate) const KEEP_REQUEST: &str = "keep";
/// In the run directory: where clients connect.
pub(crate) const SOCKET: &str = "attach.sock";

/// How long the command that starts a container may take to tell its service manager of the monitor.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long another command may hold the lock of a container that goes with its end.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// The monitor's whole life. The result is for a service manager alone, as an exit code: what there is to say has been
/// recorded.
pub(crate) fn main() -> Result<u8> {
    let given = launch::receive_launch()?;
    let Given {
        launch,
        launcher,
        lock,
        client,
        passed,
        streams,
    } = given;
    sys::process::close_from(3)?;
    leave_the_caller();
    if !matches!(launch.told.place, Place::Unit(_)) {
        cgroup::place::leave_caller();
    }
    sys::process::one_heap();
    stdio::raise_open_files();
    let store = Store::open(launch.root, launch.run_root)?;
    sys::stop_point("monitor-begins");
    let mut monitor = match Monitor::new(store, &launch.id, launch.told, passed) {
        Ok(monitor) => monitor,
        Err(e) => {
            launcher.failed(&e);
            return Err(e);
        }
    };
    monitor.direct = streams;
    if let (Some(socket), Some(wants)) = (client, launch.client) {
        monitor.streams.add_client(socket, wants);
    }
    if let Some(size) = launch.size {
        monitor.streams.resize(size);
    }
    monitor.run(launcher, lock)
}

/// Nothing of the caller's stays but what was handed over: the working directory, umask and niceness of whoever typed
/// the command are no business of the container's.
fn leave_the_caller() {
    let _ = nix::unistd::chdir("/");
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0));
    sys::process::reset_scheduling();
    let _ = nix::sys::prctl::set_name(c"barge-monitor");
}

struct Monitor {
    store: Store,
    config: ContainerConfig,
    streams: Streams,
    live: LiveState,
    history: restart::History,
    health: Option<health::Health>,
    /// It is unhealthy, and so to be started again whatever its policy says.
    again: bool,
    /// A person or the system wants it to end: no restart after that.
    stopping: bool,
    /// Whether the container's names are served in this cycle.
    responds: bool,
    /// The streams of the command that started it, if they are its program's.
    direct: Option<[OwnedFd; 3]>,
    /// The root of the last cycle, still mounted.
    root: Option<OwnedFd>,
    /// What `--rm` leaves to be deleted.
    removed: Option<DetachedContainer>,
    supervision: supervision::Supervision,
}

impl Monitor {
    fn new(store: Store, id: &ContainerId, told: Told, passed: Vec<OwnedFd>) -> Result<Monitor> {
        let config = store.config(id)?;
        let supervision = supervision::Supervision::new(&store, &config, told, passed);
        let own = std::process::id().cast_signed();
        let start_time = sys::process::start_time(own).unwrap_or(0);
        let live = LiveState {
            boot_id: boot_id()?,
            monitor: ProcessRef { pid: own, start_time },
            phase: Phase::Starting,
            restarts: 0,
            cgroups: Vec::new(),
            device_filter: true,
            paused: false,
            endpoints: Vec::new(),
            ports: Vec::new(),
            health: None,
        };
        let run_dir = store.make_run_dir(id)?;
        let log = match config.log.driver {
            LogDriver::Journald => log::LogWriter::of_journal(journal::Journal::open(&config)?),
            _ => log::LogWriter::open(&store.container_dir(id), &config.log)?,
        };
        let mut streams = Streams::new(log, signals()?);
        streams.listen(listen(&run_dir)?);
        Ok(Monitor {
            store,
            config,
            streams,
            live,
            history: restart::History::default(),
            health: None,
            again: false,
            stopping: false,
            responds: false,
            direct: None,
            root: None,
            removed: None,
            supervision,
        })
    }

    /// Cycles until the container stays ended. The lock is held until the first start is recorded.
    fn run(&mut self, launcher: Launcher, lock: OwnedFd) -> Result<u8> {
        let mut first = Some((launcher, lock));
        let exit = loop {
            let begin = Instant::now();
            let exit = match self.cycle(&mut first) {
                Ok(exit) => exit,
                Err(e) => match first.take() {
                    Some((launcher, lock)) => return self.never_started(&e, launcher, lock).map(|()| 125),
                    None => self.failed(&e),
                },
            };
            self.read_again();
            let waited = match std::mem::take(&mut self.again) && !exit.stopped_by_user {
                true => Some(self.history.again()),
                false => restart::delay(self.config.restart, &exit, begin.elapsed(), &mut self.history),
            };
            let Some(delay) = waited.filter(|_| !self.stopping && self.still_there()) else {
                break exit;
            };
            self.streams.tell_exit(exit.code, false);
            self.live.restarts = self.history.restarts;
            // Two mounts of one upper directory are undefined behaviour.
            drop(self.root.take());
            self.enter(Phase::Restarting { exit: exit.clone() })?;
            let stays = self.pause(delay)?;
            self.read_again();
            if stays {
                let exit = Exit {
                    stopped_by_user: self.stop_requested(),
                    ..exit
                };
                self.record(&exit);
                break exit;
            }
        };
        let ended = self.end(&exit);
        if let Some(path) = &self.config.service.monitor_pidfile {
            let _ = std::fs::remove_file(path);
        }
        ended?;
        Ok(supervision::exit_code(&exit, self.stopping, self.config.stop_signal))
    }

    /// One start to exit, recorded. `first` is told when the program runs, and left if it does not come to that.
    fn cycle(&mut self, first: &mut Option<(Launcher, OwnedFd)>) -> Result<Exit> {
        let (mut host, cgroups) = cycle::cgroup_paths(&self.store, &self.config, self.supervision.place())?;
        self.live.cgroups = cgroups;
        // On disk before there is any lease: whoever finds this state releases what bears the container's id.
        self.enter(Phase::Starting)?;
        sys::stop_point("start-recorded");
        let reserved = cycle::reserve(&self.store, &self.config)?;
        self.live.endpoints = reserved.endpoints;
        let ports = publish::reserve(&self.store, &self.config, &self.live.endpoints)?;
        self.live.ports.clone_from(&ports.ports);
        if !(self.live.endpoints.is_empty() && self.live.ports.is_empty()) {
            self.enter(Phase::Starting)?;
        }
        if !self.supervision.settle(&self.live.cgroups) {
            (host, self.live.cgroups) = cycle::cgroup_paths(&self.store, &self.config, self.supervision.place())?;
            self.enter(Phase::Starting)?;
        }
        let size = self.streams.size();
        let ours = self.supervision.services(&self.store.run_dir(&self.config.id))?;
        let passed = self.supervision.passed()?;
        let handed = cycle::Handed {
            ports,
            size,
            passed,
            streams: self.direct.as_ref(),
        };
        let started = cycle::start(&self.store, &self.config, &host, &self.live, handed)?;
        let cycle::Started {
            cycle,
            channels,
            services,
            warnings,
        } = started;
        self.streams.serve_also(services.into_iter().chain(ours).collect());
        self.responds = names::wanted(&self.live.endpoints);
        self.live.device_filter = cycle.device_filter;
        let now = Timestamp::now();
        // A full disk keeps no container from running: what is not recorded, the next command takes for lost.
        let _ = self.store.mark_running(&self.config.id, now);
        self.begin_checks();
        let recorded = self.enter(Phase::Running {
            init: cycle.process(),
            started: now,
        });
        let recorded = recorded.and_then(|()| self.write_pidfiles(cycle.process().pid));
        if let Err(e) = recorded.and_then(|()| self.streams.connect(channels)) {
            return Err(cycle.abandon(e));
        }
        sys::stop_point("running-recorded");
        self.tell_started(now);
        if let Some((launcher, lock)) = first.take() {
            drop(lock);
            let warnings = self.supervision.warnings().into_iter().chain(warnings);
            let patience = if self.supervision.is_notified() {
                PATIENCE
            } else {
                Duration::ZERO
            };
            launcher.started(reserved.notices.into_iter().chain(warnings).collect(), patience);
            self.supervision.started();
        }
        sys::process::give_back_memory();
        let ended = self.until_end(&cycle);
        let ended = ended.and_then(|()| Ok(sys::process::how_it_ended(cycle.init.pidfd.as_fd())?));
        match ended {
            Ok(ended) => Ok(self.ended(cycle, ended, now)),
            Err(e) => Err(cycle.abandon(e)),
        }
    }

    /// Takes the rules of the published ports away.
    fn unpublish(&mut self) -> Result<()> {
        let id = self.config.id.as_str();
        network::rules::remove_container(&self.store, id, &self.live.endpoints, &self.live.ports)
            .context("unpublish ports")?;
        // Until then they are known: releasing the network tries again.
        self.live.ports.clear();
        Ok(())
    }

    /// Gives back what the container has on networks.
    fn release_network(&mut self, namespace: Namespace) -> Result<()> {
        let (endpoints, ports) = (&self.live.endpoints, &self.live.ports);
        if endpoints.is_empty() && ports.is_empty() {
            return Ok(());
        }
        let released = network::release(&self.store, &self.config.id, endpoints, ports, namespace);
        self.live.endpoints.clear();
        self.live.ports.clear();
        released.context("release the network")
    }

    /// A start that failed is an exit too.
    fn failed(&mut self, error: &Error) -> Exit {
        self.end_checks();
        let released = self.release_network(Namespace::Unknown);
        let both = released.err().map(|second| error.clone().and(&second));
        let error = both.as_ref().unwrap_or(error);
        let exit = Exit {
            code: crate::runtime::spawn::exit_code(error),
            signal: None,
            oom_killed: false,
            started: None,
            finished: Timestamp::now(),
            error: error.to_string(),
            stopped_by_user: self.stop_requested(),
            restarts: self.history.restarts,
        };
        self.record(&exit);
        exit
    }

    fn never_started(&mut self, error: &Error, launcher: Launcher, lock: OwnedFd) -> Result<()> {
        let exit = self.failed(error);
        let kept = self.conclude(&exit, Some(lock));
        if matches!(kept, Ok(true)) {
            let _ = self.store.clear_live(&self.config.id);
        }
        launcher.failed(error);
        self.streams.tell_exit(exit.code, true);
        self.delete();
        kept.map(|_| ())
    }

    /// `update` and `rename` change the record while we run. One that can't be read leaves things as they are.
    fn read_again(&mut self) {
        if let Ok(config) = self.store.config(&self.config.id) {
            self.config = config;
        }
    }

    /// A container whose directory is gone was removed from under its monitor, and has nothing to start again.
    fn still_there(&self) -> bool {
        self.store.container_dir(&self.config.id).exists()
    }

    /// For systemd and scripts; gone with the program.
    fn write_pidfiles(&self, init: i32) -> Result<()> {
        let own = std::process::id().cast_signed();
        for (path, pid) in [
            (&self.config.pidfile, init),
            (&self.config.service.monitor_pidfile, own),
        ] {
            path.as_deref().map_or(Ok(()), |path| write_pidfile(path, pid))?;
        }
        Ok(())
    }

    /// Serves until init has ended.
    fn until_end(&mut self, cycle: &cycle::Cycle) -> Result<()> {
        let mut kill_at = self.config.timeout.map(|s| Instant::now() + Duration::from_secs(s));
        let mut asked = false;
        loop {
            let checked = self.health.as_ref().map(health::Health::deadline);
            let left = [kill_at, checked].into_iter().flatten().min();
            let left = left.map(|at| at.saturating_duration_since(Instant::now()));
            match self.streams.wait(Some(cycle.init.pidfd.as_fd()), left)? {
                Event::Ended => return Ok(()),
                Event::Network(client, request) => self.change_networks(client, &request, Some(cycle.init.pid)),
                // A number that is no signal is the client's mistake.
                Event::Deliver(signal) => drop(sys::process::pidfd_signal(cycle.init.pidfd.as_fd(), signal)),
                Event::Thaw => drop(cgroup::thaw(&self.live.cgroups)),
                Event::Check(client) => self.ask_for(client),
                Event::Watched => kill_at = self.judge(cycle, kill_at)?,
                Event::Timeout if kill_at.is_none_or(|at| at > Instant::now()) => {
                    kill_at = self.judge(cycle, kill_at)?
                }
                Event::Signal(_) if !asked => {
                    asked = true;
                    self.stopping = true;
                    self.supervision.stopping();
                    sys::process::pidfd_signal(cycle.init.pidfd.as_fd(), self.config.stop_signal)?;
                    let patience = u64::try_from(self.config.stop_timeout).ok().map(Duration::from_secs);
                    kill_at = patience.map(|p| Instant::now() + p);
                }
                Event::Signal(_) => {}
                Event::Timeout => {
                    kill_at = None;
                    sys::process::pidfd_signal(cycle.init.pidfd.as_fd(), libc::SIGKILL)?;
                }
            }
        }
    }

    /// Goes on with the health check, and does what follows from it. Gives when to kill, if anything is to be killed.
    fn judge(&mut self, cycle: &cycle::Cycle, kill_at: Option<Instant>) -> Result<Option<Instant>> {
        let init = cycle.init.pidfd.as_fd();
        match self.ask() {
            health::Verdict::Nothing => return Ok(kill_at),
            health::Verdict::Kill => {
                sys::process::pidfd_signal(init, libc::SIGKILL)?;
                return Ok(kill_at);
            }
            health::Verdict::Stop => self.stopping = true,
            health::Verdict::Restart => self.again = true,
        }
        sys::process::pidfd_signal(init, self.config.stop_signal)?;
        let patience = u64::try_from(self.config.stop_timeout).ok().map(Duration::from_secs);
        let at = patience.map(|p| Instant::now() + p);
        Ok([kill_at, at].into_iter().flatten().min())
    }

    /// Init has ended: records how at once, then takes what it has left and releases what it had. It stays a zombie
    /// until then, so that whoever looks in between sees how it ended.
    fn ended(&mut self, cycle: cycle::Cycle, ended: sys::process::Ended, started: Timestamp) -> Exit {
        sys::stop_point("exit-seen");
        self.end_checks();
        let mut exit = Exit {
            code: ended.code(),
            signal: ended.signal(),
            oom_killed: cycle.ran_out_of_memory(),
            started: Some(started),
            finished: Timestamp::now(),
            error: String::new(),
            stopped_by_user: self.stop_requested(),
            restarts: self.history.restarts,
        };
        let _ = self.enter(Phase::Stopping {
            exit: exit.clone(),
            last: false,
        });
        self.tell_ended(&exit);
        let endpoints = self.live.endpoints.clone();
        // While the sockets still keep the ports from being anybody else's.
        let unpublished = self.unpublish();
        // They hold ports, and the network namespace.
        self.streams.serve_also(Vec::new());
        if let Some(path) = &self.config.pidfile {
            let _ = std::fs::remove_file(path);
        }
        let (released, root) = cycle.release();
        let released = unpublished.and(released);
        self.root = Some(root);
        let released = released.and(self.release_network(Namespace::Going));
        if let Err(e) = released {
            exit.error = e.to_string();
        }
        sys::stop_point("exit-released");
        self.tell_released(&endpoints);
        self.streams.drain();
        self.record(&exit);
        sys::stop_point("exit-recorded");
        exit
    }

    /// In the run directory first: that needs no disk, and if we are killed now the next command goes on from there.
    /// A full disk must not keep a container from ending.
    fn record(&mut self, exit: &Exit) {
        let _ = self.enter(Phase::Stopping {
            exit: exit.clone(),
            last: false,
        });
        if !self.config.auto_remove {
            let _ = self.store.save_exit(&self.config.id, exit, Durability::Synced);
        }
    }

    /// The last exit: nothing of the container runs, and nothing will. Whoever waits is told before the root is
    /// unmounted, since that syncs the whole filesystem below it; a new start waits for our end.
    fn end(&mut self, exit: &Exit) -> Result<()> {
        self.streams.stop_listening();
        let kept = self.conclude(exit, None)?;
        sys::stop_point("exit-cleared");
        self.streams.tell_exit(exit.code, true);
        // Most clients have all in a moment; a slow one need not wait for a tree to be deleted.
        let alone = self.streams.linger(Some(Duration::from_millis(100)))?;
        drop(self.root.take());
        if kept {
            self.store.clear_live(&self.config.id)?;
        }
        self.delete();
        if !alone {
            self.streams.linger(None)?;
        }
        Ok(())
    }

    /// Makes the end known on disk; with `--rm`, what is on disk goes. `lock` is the container's, if it is still held.
    /// `true` if the container stays: then its live state is still to be cleared.
    fn conclude(&mut self, exit: &Exit, lock: Option<OwnedFd>) -> Result<bool> {
        let id = &self.config.id;
        let keep = self.store.run_dir(id).join(KEEP_REQUEST).exists();
        if !self.config.auto_remove || keep {
            // Without room for the record, the state stays: the next command makes one of it.
            if self.store.exit(id).ok().flatten().as_ref() != Some(exit) {
                self.store.save_exit(id, exit, Durability::Synced)?;
            }
            self.store.unmark_running(id);
            self.enter(Phase::Stopping {
                exit: exit.clone(),
                last: true,
            })?;
            return Ok(true);
        }
        let held = match lock {
            Some(lock) => Some(crate::store::ContainerLock::from_inherited(lock)),
            // Somebody else may hold it for a moment; for longer, a `rm -f` that waits for us to end.
            None => self.store.lock_container_within(id, LOCK_PATIENCE)?,
        };
        if let Some(held) = held {
            self.removed = Some(self.store.detach_container(id, Some(&self.config.name), &held)?);
            for name in self.config.anonymous_volumes() {
                // One that another container uses stays.
                let _ = self.store.remove_volume(name);
            }
        }
        Ok(false)
    }

    /// Deletes what `--rm` has detached. Nobody has to wait for that.
    fn delete(&mut self) {
        if let Some(removed) = self.removed.take() {
            let _ = removed.delete(&self.store);
        }
    }

    /// Waits for the next start; `true` if the container is to stay ended.
    fn pause(&mut self, delay: Duration) -> Result<bool> {
        let until = Instant::now() + delay;
        loop {
            if self.stop_requested() {
                return Ok(true);
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.streams.wait(None, Some(left))? {
                Event::Timeout => return Ok(self.stop_requested()),
                Event::Signal(_) => return Ok(true),
                Event::Network(client, request) => self.change_networks(client, &request, None),
                Event::Check(client) => self.ask_for(client),
                Event::Ended | Event::Deliver(_) | Event::Thaw | Event::Watched => {}
            }
        }
    }

    fn stop_requested(&self) -> bool {
        self.store.run_dir(&self.config.id).join(STOP_REQUEST).exists()
    }

    fn enter(&mut self, phase: Phase) -> Result<()> {
        self.live.phase = phase;
        self.store
            .save_live(&self.config.id, &self.live)
            .context("record the container's state")
    }
}

fn write_pidfile(path: &Path, pid: i32) -> Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Err(Error::usage(format!("invalid pid file '{}'", path.display())));
    };
    file::replace(dir, name, format!("{pid}\n").as_bytes(), Durability::Volatile)
        .with_context(|| format!("write pid file {}", path.display()))
}

/// Changes with every boot: what was running under another one is not running now (random(4)).
pub(crate) fn boot_id() -> Result<String> {
    sys::process::boot_id().context("read the boot id")
}

/// A terminal's hang-up is no business of a monitor's; being asked to end means to end the container.
fn signals() -> Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGTERM);
    mask.add(Signal::SIGINT);
    mask.add(Signal::SIGQUIT);
    let mut blocked = mask;
    for signal in [
        Signal::SIGHUP,
        Signal::SIGPIPE,
        Signal::SIGTSTP,
        Signal::SIGTTOU,
        Signal::SIGTTIN,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGXFSZ,
    ] {
        blocked.add(signal);
    }
    blocked.thread_block()?;
    Ok(SignalFd::with_flags(
        &mask,
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )?)
}

/// By way of the directory's descriptor: a socket's path may have 107 bytes (unix(7)), a run root may be longer.
fn listen(run_dir: &Path) -> Result<UnixListener> {
    use std::os::fd::AsRawFd as _;
    let path = run_dir.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
        _ => {}
    }
    let dir = std::fs::File::open(run_dir)?;
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()))
        .with_context(|| format!("listen on {}", path.display()))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
