//! A container's health check, as its monitor keeps it: when it is due, who is asked, and what the answers make of the
//! container. Each check is a process of its own (`monitor/probe.rs`); this only waits for it in the monitor's loop.

use super::events::health_changed;
use super::{Monitor, probe};
use crate::error::Result;
use crate::model::event::Event;
use crate::model::health::{
    Destination, HealthCheck, HealthConfig, HealthResult, HealthState, HealthStatus, OnFailure,
};
use crate::model::time::Timestamp;
use crate::runtime::cgroup;
use crate::store::{Durability, Store, file};
use crate::sys;
use rustix::net::RecvFlags;
use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// The state with the results: in the run directory while the container runs, afterwards in its own.
pub(crate) const FILE: &str = "health.json";
/// Longer than its timeout a check may take to be started and cleared away; after that its process is given up.
const GRACE: Duration = Duration::from_secs(20);
/// A report has the results' text with every byte escaped, at most.
const REPORT: usize = 64 * 1024;

/// The check of a running container.
pub(super) struct Health {
    config: HealthConfig,
    state: HealthState,
    /// When the program was started.
    begin: Instant,
    next: Instant,
    running: Option<Running>,
    /// How far the startup check is; `None` when it is over, or there is none.
    startup: Option<Startup>,
    /// Clients that wait for the result, by their descriptors.
    waiting: Vec<RawFd>,
}

#[derive(Debug, Default)]
struct Startup {
    successes: u32,
    failures: u32,
}

struct Running {
    socket: OwnedFd,
    since: Timestamp,
    deadline: Instant,
}

/// What is to be done about the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Nothing,
    Kill,
    Stop,
    Restart,
}

impl Health {
    /// `earlier` is what was known when the container last ran: its results stay in the log.
    pub(super) fn new(config: &HealthConfig, earlier: Option<HealthState>) -> Health {
        let mut health = Health {
            config: config.clone(),
            state: HealthState {
                log: earlier.map(|e| e.log).unwrap_or_default(),
                ..HealthState::default()
            },
            begin: Instant::now(),
            next: Instant::now(),
            running: None,
            startup: config.startup.as_ref().map(|_| Startup::default()),
            waiting: Vec::new(),
        };
        health.plan();
        health
    }

    pub(super) fn status(&self) -> HealthStatus {
        self.state.status
    }

    /// When [`Monitor::ask`] is to be called though nothing happens.
    pub(super) fn deadline(&self) -> Instant {
        self.running.as_ref().map_or(self.next, |r| r.deadline)
    }

    /// The check that is asked now: that of the start, until it is over.
    fn check(&self) -> &HealthCheck {
        match (&self.config.startup, &self.startup) {
            (Some(startup), Some(_)) => &startup.check,
            _ => &self.config.check,
        }
    }

    fn in_grace(&self) -> bool {
        self.begin.elapsed() < self.config.check.start_period()
    }

    fn plan(&mut self) {
        let starting = self.startup.is_none() && self.state.status == HealthStatus::Starting && self.in_grace();
        let wait = match starting {
            true => self.check().start_interval(),
            false => self.check().interval(),
        };
        // Longer than anything lives, and still a point in time.
        self.next = Instant::now() + wait.min(Duration::from_secs(100 * 365 * 86400));
    }

    /// Takes a result into account; whether the status is another one.
    fn take(&mut self, result: HealthResult) -> (bool, Verdict) {
        if let (Some(config), Some(startup)) = (&self.config.startup, &mut self.startup) {
            if result.exit_code == 0 {
                startup.successes += 1;
                startup.failures = 0;
            } else {
                startup.failures += 1;
                startup.successes = 0;
            }
            let failed = config.retries > 0 && startup.failures >= config.retries;
            if startup.successes >= config.successes {
                self.startup = None;
            }
            self.state.keep(result, self.config.log.count);
            return (false, if failed { Verdict::Restart } else { Verdict::Nothing });
        }
        let grace = self.in_grace();
        let changed = self.state.take(&result, self.config.check.retries(), grace);
        self.state.keep(result, self.config.log.count);
        let verdict = match self.config.on_failure {
            _ if !changed || self.state.status != HealthStatus::Unhealthy => Verdict::Nothing,
            OnFailure::None => Verdict::Nothing,
            OnFailure::Kill => Verdict::Kill,
            OnFailure::Stop => Verdict::Stop,
            OnFailure::Restart => Verdict::Restart,
        };
        (changed, verdict)
    }
}

/// The state of a container's health, running or not; `None` if it was never asked.
pub(crate) fn read(store: &Store, id: &crate::model::id::ContainerId) -> Result<Option<HealthState>> {
    match file::read_json(&store.run_dir(id).join(FILE))? {
        Some(state) => Ok(Some(state)),
        None => file::read_json(&store.container_dir(id).join(FILE)),
    }
}

impl Monitor {
    /// The program runs: its check is due from now on.
    pub(super) fn begin_checks(&mut self) {
        let earlier = read(&self.store, &self.config.id).ok().flatten();
        self.health = self.config.health.as_ref().map(|config| Health::new(config, earlier));
        self.live.health = self.health.as_ref().map(Health::status);
        self.save_health();
    }

    /// The program has ended. What is known stays with a container that stays; a check in flight ends with its socket.
    pub(super) fn end_checks(&mut self) {
        self.streams.watch(None);
        if let Some(health) = self.health.take() {
            self.live.health = None;
            if !self.config.auto_remove {
                save(&self.store.container_dir(&self.config.id), &health.state);
            }
            self.refuse(&health.waiting);
        }
    }

    /// A client wants to know now.
    pub(super) fn ask_for(&mut self, client: RawFd) {
        match &mut self.health {
            None => self.refuse(&[client]),
            Some(health) => {
                health.waiting.push(client);
                if health.running.is_none() {
                    health.next = Instant::now();
                }
            }
        }
    }

    fn refuse(&mut self, clients: &[RawFd]) {
        for client in clients {
            self.streams.answer(*client, b"null");
        }
    }

    /// The check's process has something to say, or a time has come.
    pub(super) fn ask(&mut self) -> Verdict {
        let Some(health) = &mut self.health else {
            return Verdict::Nothing;
        };
        let Some(running) = &health.running else {
            if health.next <= Instant::now() {
                self.start_check();
            }
            return Verdict::Nothing;
        };
        let mut buffer = vec![0; REPORT];
        let report = match rustix::net::recv(&running.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) if Instant::now() < running.deadline => {
                return Verdict::Nothing;
            }
            Ok((n, _)) if n > 0 => probe::report(&buffer[..n]),
            _ => None,
        };
        let since = running.since;
        let lost = report.is_none();
        let result = report.unwrap_or_else(|| failed(since, "the check's process was lost"));
        if lost {
            // It can't clear away what it has started. Killed at once, and what has no group is tied to that process.
            if let Some(group) = cgroup::probe_group(&self.live.cgroups) {
                let _ = cgroup::end_probe(&group, Duration::ZERO);
            }
        }
        self.finish_check(result)
    }

    fn start_check(&mut self) {
        let Some(health) = &mut self.health else { return };
        // One that stands still can't answer; asked for by a person, it is told so.
        if cgroup::is_frozen(&self.live.cgroups) {
            health.plan();
            let waiting = std::mem::take(&mut health.waiting);
            self.refuse(&waiting);
            return;
        }
        let check = health.check().clone();
        let Some(argv) = check.argv(&health.config.shell) else {
            health.plan();
            let waiting = std::mem::take(&mut health.waiting);
            self.refuse(&waiting);
            return;
        };
        let since = Timestamp::now();
        match probe::launch(
            &self.store,
            &self.config.id,
            argv,
            (check.timeout(), health.config.log.size),
        ) {
            Ok(socket) => {
                self.streams.watch(socket.try_clone().ok());
                health.running = Some(Running {
                    socket,
                    since,
                    deadline: Instant::now() + check.timeout() + GRACE,
                });
                sys::stop_point("check-started");
            }
            Err(e) => drop(self.finish_check(failed(since, &e.to_string()))),
        }
    }

    fn finish_check(&mut self, result: HealthResult) -> Verdict {
        self.streams.watch(None);
        let Some(health) = &mut self.health else {
            return Verdict::Nothing;
        };
        health.running = None;
        let (changed, verdict) = health.take(result.clone());
        health.plan();
        let waiting = std::mem::take(&mut health.waiting);
        self.save_health();
        self.log_health(&result);
        if changed {
            self.health_changed();
        }
        for client in waiting {
            if let Ok(bytes) = serde_json::to_vec(&result) {
                self.streams.answer(client, &bytes);
            }
        }
        sys::process::give_back_memory();
        verdict
    }

    /// The status is another one: here is whatever follows from that.
    fn health_changed(&mut self) {
        self.live.health = self.health.as_ref().map(Health::status);
        if self.live.health == Some(HealthStatus::Healthy) {
            self.supervision.healthy();
        }
        // A full disk is no reason to stop asking.
        let _ = self.store.save_live(&self.config.id, &self.live);
        if let Some(status) = self.live.health {
            sys::stop_point("health-untold");
            self.store
                .event(&Event::container(health_changed(status), &self.config));
        }
    }

    /// Where the results go besides. What can't be written there is no reason to stop asking.
    fn log_health(&self, result: &HealthResult) {
        let Some(health) = &self.health else { return };
        match &health.config.log.destination {
            Destination::Local => {}
            Destination::Directory(dir) => {
                let name = format!("{}-healthcheck.log", self.config.id);
                let bytes = file::to_json(&health.state).unwrap_or_default();
                let _ = file::replace(dir, &name, &bytes, Durability::Volatile);
            }
            Destination::Events => {
                let event = Event::container("health_status", &self.config)
                    .with("health_status", health.status().as_str())
                    .with("health_exit_code", result.exit_code)
                    .with("health_log", &result.output);
                self.store.event(&event);
            }
        }
    }

    fn save_health(&self) {
        if let Some(health) = &self.health {
            save(&self.store.run_dir(&self.config.id), &health.state);
        }
    }
}

fn save(dir: &Path, state: &HealthState) {
    let bytes = file::to_json(state).unwrap_or_default();
    let _ = file::replace(dir, FILE, &bytes, Durability::Volatile);
}

fn failed(since: Timestamp, why: &str) -> HealthResult {
    HealthResult {
        start: since,
        end: Timestamp::now(),
        exit_code: -1,
        output: why.to_owned(),
    }
}
