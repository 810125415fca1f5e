//! The monitor's side of the host's service manager: which control group it lives in, what it tells the manager, and
//! what the manager has handed to the container.

use crate::error::Result;
use crate::model::container::ContainerConfig;
use crate::model::service::SdNotify;
use crate::model::state::Exit;
use crate::monitor::launch::Told;
use crate::monitor::notify::{self, Notified, Proxy, Watchdog};
use crate::network::service::Service;
use crate::runtime::cgroup::place::{self, Place};
use crate::runtime::cgroup::scope::{Pending, Scope};
use crate::runtime::cgroup::{self, scope_name};
use crate::runtime::prepare::Passed;
use crate::store::Store;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What systemd waits longer than the container's own stop timeout.
const GRACE: Duration = Duration::from_secs(30);

pub(super) struct Supervision {
    place: Place,
    /// Asked for, and not there yet.
    scope: Option<Pending>,
    notified: Option<Notified>,
    mode: SdNotify,
    /// Kept for the restarts.
    passed: Vec<OwnedFd>,
    names: Vec<String>,
    warnings: Vec<String>,
}

impl Supervision {
    /// Asks for a scope, if there is to be one.
    pub(super) fn new(store: &Store, config: &ContainerConfig, told: Told, passed: Vec<OwnedFd>) -> Supervision {
        let mut made = Supervision {
            place: told.place,
            scope: None,
            notified: told.notified,
            mode: told.mode,
            passed,
            names: told.names,
            warnings: Vec::new(),
        };
        if let Place::Scope(slice) = &made.place {
            let patience = u64::try_from(config.stop_timeout).map_or(Duration::MAX / 2, Duration::from_secs);
            let scope = Scope {
                name: scope_name(&cgroup::base(store.instance().as_deref()), &config.id),
                slice: slice.clone(),
                description: format!("barge container {}", config.name),
                pid: std::process::id(),
                stop_timeout: patience.saturating_add(GRACE),
            };
            match scope.request() {
                Ok(pending) => made.scope = Some(pending),
                Err(e) => made.alone(&e.to_string()),
            }
        }
        made
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Returns when the container's groups can be made at these paths; false if they have to be made elsewhere.
    pub(super) fn settle(&mut self, cgroups: &[PathBuf]) -> bool {
        let Some(pending) = self.scope.take() else { return true };
        let scope = cgroups.first().and_then(|group| group.parent());
        match pending.wait().and_then(|()| scope.map_or(Ok(()), place::enter_scope)) {
            Ok(()) => true,
            Err(e) => {
                self.alone(&e.to_string());
                false
            }
        }
    }

    /// Better outside systemd's rules than not at all.
    fn alone(&mut self, why: &str) {
        self.place = Place::Own;
        self.warnings
            .push(format!("{why}. The container runs in the engine's own control group."));
    }

    pub(super) fn warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Whether a service manager wants to know which process is the service's.
    pub(super) fn is_notified(&self) -> bool {
        self.notified.is_some()
    }

    /// The descriptors and variables of a new cycle's program.
    pub(super) fn passed(&self) -> Result<Passed> {
        let mut env = Vec::new();
        let notified = self.notified.as_ref().filter(|_| self.mode == SdNotify::Container);
        env.extend(notified.into_iter().flat_map(notify::environment));
        if !self.names.is_empty() {
            env.push(format!("LISTEN_FDS={}", self.names.len()));
            env.push(format!("LISTEN_FDNAMES={}", self.names.join(":")));
        }
        Passed::new(&self.passed, env, notified.is_some())
    }

    /// What is served while the program runs. Opened before it starts.
    pub(super) fn services(&self, run_dir: &Path) -> Result<Vec<Box<dyn Service>>> {
        let Some(notified) = &self.notified else {
            return Ok(Vec::new());
        };
        Ok(match self.mode {
            SdNotify::Container => vec![Box::new(Proxy::open(run_dir, notified)?)],
            SdNotify::Monitor | SdNotify::Healthy => Watchdog::new(notified)
                .into_iter()
                .map(|w| Box::new(w) as Box<dyn Service>)
                .collect(),
            SdNotify::Ignore => Vec::new(),
        })
    }

    fn say(&self, message: &str) {
        if let Some(notified) = &self.notified {
            notified.send(message);
        }
    }

    /// The program is executed.
    pub(super) fn started(&self) {
        if self.mode == SdNotify::Monitor {
            self.say("READY=1");
        }
    }

    /// The first good health check of this start.
    pub(super) fn healthy(&self) {
        if self.mode == SdNotify::Healthy {
            self.say("READY=1");
        }
    }

    /// The monitor was asked to end the container.
    pub(super) fn stopping(&self) {
        self.say("STOPPING=1");
    }
}

/// The monitor's own exit code, for the unit whose main process it is: the program's, but a program that was asked to
/// end, by the monitor or by a person's `stop`, and that its stop signal has ended, has done as it was told.
pub(super) fn exit_code(exit: &Exit, stopping: bool, stop_signal: i32) -> u8 {
    let as_told = (stopping || exit.stopped_by_user) && i32::from(exit.code) == 128 + stop_signal;
    if as_told { 0 } else { exit.code }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Timestamp;

    #[test]
    fn exit_codes_of_a_unit() {
        for (code, stopping, want) in [
            (0, false, 0),
            (3, false, 3),
            (143, false, 143),
            (143, true, 0),
            (137, true, 137),
            (1, true, 1),
        ] {
            let exit = Exit {
                code,
                signal: None,
                oom_killed: false,
                started: None,
                finished: Timestamp::UNIX_EPOCH,
                error: String::new(),
                stopped_by_user: false,
                restarts: 0,
            };
            assert_eq!(exit_code(&exit, stopping, 15), want, "{code} {stopping}");
        }
    }
}
