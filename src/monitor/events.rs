//! What a monitor tells of its container in the event log: each start and end once, with the networks and volumes that
//! come and go with it. Each is written right after the state that says the same; `container/reap.rs` writes what a
//! killed monitor had no time for, which it finds by the times in both ([`missing`]).

use super::Monitor;
use crate::model::container::ContainerConfig;
use crate::model::event::{Event, EventKind};
use crate::model::health::HealthStatus;
use crate::model::mount::Source;
use crate::model::network::Endpoint;
use crate::model::state::Exit;
use crate::model::time::Timestamp;
use crate::store::Store;
use crate::sys;

impl Monitor {
    /// It runs since `now`; recorded a moment ago.
    pub(super) fn tell_started(&self, now: Timestamp) {
        let config = &self.config;
        for endpoint in &self.live.endpoints {
            self.store.event(&of_network("connect", config, endpoint));
        }
        for event in of_volumes("mount", config) {
            self.store.event(&event);
        }
        sys::stop_point("start-untold");
        self.store.event(&Event::container("start", config).at(now));
    }

    /// It has ended; recorded a moment ago.
    pub(super) fn tell_ended(&self, exit: &Exit) {
        sys::stop_point("end-untold");
        if exit.oom_killed {
            self.store
                .event(&Event::container("oom", &self.config).at(exit.finished));
        }
        self.store.event(&die(&self.config, exit));
    }

    /// What it had is released.
    pub(super) fn tell_released(&self, endpoints: &[Endpoint]) {
        for endpoint in endpoints {
            self.store.event(&of_network("disconnect", &self.config, endpoint));
        }
        for event in of_volumes("unmount", &self.config) {
            self.store.event(&event);
        }
    }

    /// A running container was connected to a network, or disconnected.
    pub(super) fn tell_moved(&self, before: &[Endpoint]) {
        let now = &self.live.endpoints;
        let is_in = |one: &Endpoint, all: &[Endpoint]| all.iter().any(|e| e.network_id == one.network_id);
        for gone in before.iter().filter(|e| !is_in(e, now)) {
            self.store.event(&of_network("disconnect", &self.config, gone));
        }
        for new in now.iter().filter(|e| !is_in(e, before)) {
            self.store.event(&of_network("connect", &self.config, new));
        }
    }
}

/// What the action of a changed health begins with.
const HEALTH: &str = "health_status: ";

/// In docker's words.
pub(super) fn health_changed(status: HealthStatus) -> String {
    format!("{HEALTH}{}", status.as_str())
}

fn die(config: &ContainerConfig, exit: &Exit) -> Event {
    let ran = exit
        .started
        .map(|started| exit.finished.duration_since(started).as_secs().max(0));
    Event::container("die", config)
        .at(exit.finished)
        .with("exitCode", exit.code)
        .with("execDuration", ran.unwrap_or(0))
}

fn of_network(action: &str, config: &ContainerConfig, endpoint: &Endpoint) -> Event {
    Event::new(EventKind::Network, action, &endpoint.network_id)
        .with("container", &config.id)
        .with("name", &endpoint.network)
        .with("type", endpoint.driver)
}

fn of_volumes(action: &str, config: &ContainerConfig) -> Vec<Event> {
    let volumes = config.mounts.iter().filter_map(|mount| match &mount.source {
        Source::Volume { name, .. } => Some((mount, name)),
        Source::Bind { .. } | Source::Tmpfs { .. } | Source::Image { .. } => None,
    });
    volumes
        .map(|(mount, name)| {
            let event = Event::new(EventKind::Volume, action, name)
                .with("container", &config.id)
                .with("driver", "local");
            match action {
                "mount" => event
                    .with("destination", mount.target.display())
                    .with("read/write", !mount.read_only)
                    .with(
                        "propagation",
                        if mount.propagation.as_str() == "rprivate" {
                            ""
                        } else {
                            mount.propagation.as_str()
                        },
                    ),
                _ => event,
            }
        })
        .collect()
}

/// The events that a dead monitor has not come to, of a run that has ended as `exit` says. The caller has the
/// container's lock, and what says that it has to be healed is still there. `health` is what it was when it was last seen.
pub(crate) fn missing(
    store: &Store,
    config: &ContainerConfig,
    exit: &Exit,
    health: Option<HealthStatus>,
) -> Vec<Event> {
    let Some(started) = exit.started else { return Vec::new() };
    let mut told = Vec::new();
    store.each_event_with(config.id.as_str(), |event| {
        if event.time >= started || event.kind != EventKind::Container {
            told.push(event);
        }
    });
    let of_container = |action: &str| {
        told.iter()
            .any(|e| e.kind == EventKind::Container && e.actor == config.id.as_str() && e.action == action)
    };
    let mut missing = Vec::new();
    if !of_container("start") {
        missing.push(Event::container("start", config).at(started));
    } else if let Some(status) = health.filter(|status| *status != HealthStatus::Starting) {
        // Without the start the log does not reach back to it: then this was told too.
        let action = health_changed(status);
        let last = told.iter().rev().find(|e| e.action.starts_with(HEALTH));
        if last.is_none_or(|e| e.action != action) {
            missing.push(Event::container(action, config).at(exit.finished));
        }
    }
    if !of_container("die") {
        if exit.oom_killed && !of_container("oom") {
            missing.push(Event::container("oom", config).at(exit.finished));
        }
        missing.push(die(config, exit));
    }
    // What came with the run and has not gone.
    for (open, close) in [("connect", "disconnect"), ("mount", "unmount")] {
        let mut there: Vec<&Event> = Vec::new();
        for event in told
            .iter()
            .filter(|e| e.attributes.get("container").is_some_and(|c| c == config.id.as_str()))
        {
            if event.action == open {
                there.push(event);
            } else if event.action == close {
                there.retain(|e| e.actor != event.actor);
            }
        }
        for event in there {
            let mut closing = Event::new(event.kind, close, &event.actor);
            closing.attributes = event.attributes.clone();
            missing.push(closing);
        }
    }
    missing
}
