//! What is so: the state of a container while its monitor lives (`<run root>/<id>/state.json`, on tmpfs, never synced)
//! and what is left when it has ended (`containers/<id>/exit.json`, synced unless the container goes with `--rm`).

use crate::model::health::HealthStatus;
use crate::model::network::Endpoint;
use crate::model::port::PublishedPort;
use crate::model::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A process that can't be confused with a later one of the same pid: start time is field 22 of /proc/PID/stat
/// (proc_pid_stat(5)), in clock ticks since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessRef {
    pub(crate) pid: i32,
    pub(crate) start_time: u64,
}

/// Written by the monitor, before each change that it tells of has an effect outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LiveState {
    pub(crate) boot_id: String,
    pub(crate) monitor: ProcessRef,
    pub(crate) phase: Phase,
    /// Restarts by the restart policy so far.
    #[serde(default)]
    pub(crate) restarts: u32,
    /// Cgroup directories made for it, absolute, recorded before they are made.
    #[serde(default)]
    pub(crate) cgroups: Vec<std::path::PathBuf>,
    /// Whether the kernel holds it to its devices; if not, nothing in it may make any.
    #[serde(default)]
    pub(crate) device_filter: bool,
    /// All its processes stand still: read from its control group by whoever looks, never stored.
    #[serde(skip)]
    pub(crate) paused: bool,
    /// Its places on networks, recorded before anything of them is in the kernel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) endpoints: Vec<Endpoint>,
    /// What is published of it, held by sockets of its monitor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ports: Vec<PublishedPort>,
    /// What its health check says, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) health: Option<HealthStatus>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// Being set up: the program has not been executed yet.
    Starting,
    Running {
        init: ProcessRef,
        started: Timestamp,
    },
    /// Waiting to be started again by its restart policy; `exit` is how the last cycle ended.
    Restarting {
        exit: Exit,
    },
    /// The program ended; the monitor releases what is left.
    Stopping {
        exit: Exit,
        /// Recorded, and no restart follows: only its root is still mounted.
        #[serde(default)]
        last: bool,
    },
}

/// How a start-to-exit cycle ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Exit {
    /// 0 to 255, 128+n by signal n; 125, 126 or 127 if it never ran.
    pub(crate) code: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signal: Option<i32>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) oom_killed: bool,
    /// `None` if the program was never executed.
    pub(crate) started: Option<Timestamp>,
    pub(crate) finished: Timestamp,
    /// Why it could not start, or that its monitor was lost.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) error: String,
    /// A person ended it (`stop`, `kill`): `unless-stopped` leaves it alone at boot.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) stopped_by_user: bool,
    #[serde(default)]
    pub(crate) restarts: u32,
}

/// What a reader may say of a container: derived, never stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Status {
    Created,
    Running(LiveState),
    Exited(Exit),
    /// The record can't be read; the text says why. Such a container is listed and can be removed.
    Damaged(String),
}

impl LiveState {
    /// The container's first process, if it has one.
    pub(crate) fn running(&self) -> Option<ProcessRef> {
        match self.phase {
            Phase::Running { init, .. } => Some(init),
            Phase::Starting | Phase::Restarting { .. } | Phase::Stopping { .. } => None,
        }
    }
}
