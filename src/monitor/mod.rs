//! One small process per running container: parent of its init, writer of its log, its clients' other end, and the one
//! that records how it ended. It starts it again if its restart policy says so.
//!
//! Kill it at any moment: its init dies with it (`Step::DieWithMonitor`), and the next command that meets the container
//! finds `state.json` with a dead monitor and releases by name what is left (`container/reap.rs`).

mod client;
mod cycle;
pub(crate) mod exec;
pub(crate) mod frame;
mod identity;
pub(crate) mod launch;
pub(crate) mod log;
mod restart;
mod stdio;
mod streams;
mod volumes;

use crate::error::{Context as _, Error, Result};
use crate::model::container::ContainerConfig;
use crate::model::id::ContainerId;
use crate::model::state::{Exit, LiveState, Phase, ProcessRef};
use crate::model::time::Timestamp;
use crate::store::{DetachedContainer, Durability, Store};
use crate::sys::{self, process::Ended};
use launch::{Given, Launcher};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};
use streams::{Event, Streams};

/// In the run directory: a person has asked the container to end.
pub(crate) const STOP_REQUEST: &str = "stop";
/// In the run directory: where clients connect.
pub(crate) const SOCKET: &str = "attach.sock";

/// The monitor's whole life. The result is nobody's but the exit code: what there is to say has been recorded.
pub(crate) fn main() -> Result<()> {
    let given = launch::receive_launch()?;
    let Given {
        launch,
        launcher,
        lock,
        client,
    } = given;
    sys::process::close_from(3)?;
    leave_the_caller();
    let store = Store::open(launch.root, launch.run_root)?;
    sys::stop_point("monitor-begins");
    let mut monitor = match Monitor::new(store, &launch.id) {
        Ok(monitor) => monitor,
        Err(e) => {
            launcher.failed(&e);
            return Err(e);
        }
    };
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
    let _ = rustix::process::setpriority_process(None, 0);
    let _ = nix::sys::prctl::set_name(c"barge-monitor");
}

struct Monitor {
    store: Store,
    config: ContainerConfig,
    streams: Streams,
    live: LiveState,
    history: restart::History,
    /// A person or the system wants it to end: no restart after that.
    stopping: bool,
    /// What `--rm` leaves to be deleted.
    removed: Option<DetachedContainer>,
}

impl Monitor {
    fn new(store: Store, id: &ContainerId) -> Result<Monitor> {
        let config = store.config(id)?;
        let own = std::process::id().cast_signed();
        let start_time = sys::process::start_time(own).unwrap_or(0);
        let live = LiveState {
            boot_id: boot_id()?,
            monitor: ProcessRef { pid: own, start_time },
            phase: Phase::Starting,
            restarts: 0,
            cgroups: Vec::new(),
        };
        let run_dir = store.make_run_dir(id)?;
        let log = log::LogWriter::open(&store.container_dir(id), &config.log)?;
        let mut streams = Streams::new(log, signals()?);
        streams.listen(listen(&run_dir)?);
        Ok(Monitor {
            store,
            config,
            streams,
            live,
            history: restart::History::default(),
            stopping: false,
            removed: None,
        })
    }

    /// Cycles until the container stays ended. The lock is held until the first start is recorded.
    fn run(&mut self, launcher: Launcher, lock: OwnedFd) -> Result<()> {
        let mut first = Some((launcher, lock));
        let exit = loop {
            let (exit, ran) = self.cycle(&mut first)?;
            let waited = restart::delay(self.config.restart, &exit, ran, &mut self.history)
                .filter(|_| first.is_none() && !self.stopping);
            let Some(delay) = waited else { break exit };
            self.streams.tell_exit(exit.code, false);
            self.live.restarts = self.history.restarts;
            self.enter(Phase::Restarting { exit: exit.clone() })?;
            if self.pause(delay)? {
                break Exit {
                    stopped_by_user: true,
                    ..exit
                };
            }
        };
        self.end(&exit, first)
    }

    /// One start to exit, recorded. A failed start is an exit too; `first` is left then, to be told.
    fn cycle(&mut self, first: &mut Option<(Launcher, OwnedFd)>) -> Result<(Exit, Duration)> {
        let (host, cgroups) = cycle::cgroup_paths(&self.store, &self.config)?;
        self.live.cgroups.clone_from(&cgroups);
        self.enter(Phase::Starting)?;
        sys::stop_point("start-recorded");
        let begin = Instant::now();
        let started = match cycle::start(&self.store, &self.config, &host, &cgroups) {
            Ok(started) => started,
            Err(e) => return self.failed(&e, first).map(|exit| (exit, Duration::ZERO)),
        };
        let cycle::Started {
            cycle,
            channels,
            warnings,
        } = started;
        let now = Timestamp::now();
        if let Some(init) = cycle.process() {
            self.enter(Phase::Running { init, started: now })?;
        }
        sys::stop_point("running-recorded");
        if let Some((launcher, lock)) = first.take() {
            launcher.started(warnings);
            drop(lock);
        }
        self.streams.connect(channels)?;
        sys::process::trim_heap();
        self.until_end(&cycle)?;
        let exit = self.ended(cycle, now)?;
        Ok((exit, begin.elapsed()))
    }

    fn failed(&mut self, error: &Error, first: &mut Option<(Launcher, OwnedFd)>) -> Result<Exit> {
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
        if let Some((launcher, lock)) = first.take() {
            self.clear(&exit, Some(lock))?;
            launcher.failed(error);
            self.streams.tell_exit(exit.code, true);
            self.delete();
            sys::process::exit_now(0);
        }
        Ok(exit)
    }

    /// Serves until init has ended.
    fn until_end(&mut self, cycle: &cycle::Cycle) -> Result<()> {
        let mut kill_at: Option<Instant> = None;
        loop {
            let left = kill_at.map(|at| at.saturating_duration_since(Instant::now()));
            match self.streams.wait(Some(cycle.init.pidfd.as_fd()), left)? {
                Event::Ended => return Ok(()),
                Event::Deliver(signal) => sys::process::pidfd_signal(cycle.init.pidfd.as_fd(), signal)?,
                Event::Signal(_) if kill_at.is_none() => {
                    self.stopping = true;
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

    /// Init has ended: takes what it has left, records how it was, releases what it had.
    fn ended(&mut self, cycle: cycle::Cycle, started: Timestamp) -> Result<Exit> {
        let ended = sys::process::reap(cycle.init.pidfd.as_fd())?;
        sys::stop_point("exit-seen");
        let oom_killed = cycle.settle();
        let released = cycle.release();
        sys::stop_point("exit-released");
        self.streams.drain();
        let (code, signal) = match ended {
            Ended::Code(code) => (u8::try_from(code & 0xff).unwrap_or(255), None),
            Ended::Signal(signal) => (u8::try_from(128 + signal).unwrap_or(255), Some(signal)),
        };
        let exit = Exit {
            code,
            signal,
            oom_killed,
            started: Some(started),
            finished: Timestamp::now(),
            error: released.err().map(|e| e.to_string()).unwrap_or_default(),
            stopped_by_user: self.stopping || self.stop_requested(),
            restarts: self.history.restarts,
        };
        self.record(&exit);
        sys::stop_point("exit-recorded");
        Ok(exit)
    }

    /// In the run directory first: that needs no disk, and if we are killed now the next command goes on from there.
    /// A full disk must not keep a container from ending.
    fn record(&mut self, exit: &Exit) {
        if !self.config.auto_remove {
            let _ = self.enter(Phase::Stopping { exit: exit.clone() });
            let _ = self.store.save_exit(&self.config.id, exit, Durability::Synced);
        }
    }

    /// The last exit: nothing of the container runs, and nothing will.
    fn end(&mut self, exit: &Exit, first: Option<(Launcher, OwnedFd)>) -> Result<()> {
        debug_assert!(first.is_none(), "a failed first start ends in `failed`");
        self.streams.stop_listening();
        self.clear(exit, None)?;
        sys::stop_point("exit-cleared");
        self.streams.tell_exit(exit.code, true);
        self.delete();
        self.streams.linger()
    }

    /// Drops the live state, or with `--rm` the whole container. `lock` is the container's, if it is still held.
    fn clear(&mut self, exit: &Exit, lock: Option<OwnedFd>) -> Result<()> {
        let id = &self.config.id;
        if !self.config.auto_remove {
            if self.store.exit(id).ok().flatten().as_ref() != Some(exit) {
                let _ = self.store.save_exit(id, exit, Durability::Synced);
            }
            return self.store.clear_live(id);
        }
        let held = match lock {
            Some(lock) => Some(crate::store::ContainerLock::from_inherited(lock)),
            // Somebody else holds it: a `rm -f` that waits for us to end.
            None => self.store.try_lock_container(id)?,
        };
        if let Some(held) = held {
            self.removed = Some(self.store.detach_container(id, Some(&self.config.name), &held)?);
        }
        Ok(())
    }

    /// Deletes what `--rm` has detached. Nobody has to wait for that.
    fn delete(&mut self) {
        if let Some(removed) = self.removed.take() {
            let _ = removed.delete(&self.store);
            for name in self.config.anonymous_volumes() {
                // One that another container uses stays.
                let _ = self.store.remove_volume(name);
            }
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
                Event::Ended | Event::Deliver(_) => {}
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

/// Changes with every boot: what was running under another one is not running now (random(4)).
pub(crate) fn boot_id() -> Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").context("read the boot id")?;
    Ok(text.trim_end().to_owned())
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
