//! What was asked of a container: written once, when it is created (`containers/<id>/config.json`).

use crate::model::bytes::ByteString;
use crate::model::cdi::Cdi;
use crate::model::health::HealthConfig;
use crate::model::id::{ChainId, ContainerId, ImageId};
use crate::model::mount::{Mount, Source};
use crate::model::name::NameOptions;
use crate::model::namespace::Namespaces;
use crate::model::network::Attachment;
use crate::model::port::Publish;
use crate::model::resources::{Device, DeviceRule, Resources, Ulimit};
use crate::model::secret::SecretUse;
use crate::model::security::Security;
use crate::model::service::Service;
use crate::model::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ContainerConfig {
    pub(crate) id: ContainerId,
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    pub(crate) image: ImageUse,
    pub(crate) process: Process,
    pub(crate) hostname: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) domainname: String,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) network: NetworkMode,
    #[serde(default)]
    pub(crate) names: NameOptions,
    #[serde(default)]
    pub(crate) resources: Resources,
    #[serde(default)]
    pub(crate) ulimits: Vec<Ulimit>,
    #[serde(default)]
    pub(crate) devices: Vec<Device>,
    #[serde(default)]
    pub(crate) device_rules: Vec<DeviceRule>,
    #[serde(default)]
    pub(crate) security: Security,
    /// In the order they are mounted: shorter targets first.
    #[serde(default)]
    pub(crate) mounts: Vec<Mount>,
    /// Bytes of /dev/shm.
    pub(crate) shm_size: u64,
    #[serde(default)]
    pub(crate) log: LogConfig,
    #[serde(default)]
    pub(crate) restart: RestartPolicy,
    /// Number of the signal that asks the program to end.
    pub(crate) stop_signal: i32,
    /// Seconds until SIGKILL; -1 waits for ever.
    pub(crate) stop_timeout: i64,
    /// Removed by its monitor when it ends.
    #[serde(default)]
    pub(crate) auto_remove: bool,
    /// The engine's own tiny pid 1 reaps zombies and passes signals on.
    #[serde(default)]
    pub(crate) init: bool,
    /// A program of the host's instead of the engine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) init_path: Option<PathBuf>,
    /// Ports the image or the user documents (`80/tcp`).
    #[serde(default)]
    pub(crate) expose: BTreeSet<String>,
    /// `-p`, in the order given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) publish: Vec<Publish>,
    /// `-P`: what is documented is published too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) publish_all: bool,
    /// Where the id was written, for `inspect`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cidfile: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Namespaces::is_default")]
    pub(crate) namespaces: Namespaces,
    /// Parameters of the container's own namespaces (sysctl(8)): name with dots → value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) sysctls: BTreeMap<String, String>,
    /// Notes for other programs; the engine does nothing with them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    /// Where the pid of the container's first process is written at each start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pidfile: Option<PathBuf>,
    /// Seconds after which it is killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<u64>,
    /// A time zone of the host's, such as `Europe/Paris`, or `local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timezone: Option<String>,
    /// What the root is made of.
    #[serde(default, skip_serializing_if = "RootSource::is_default")]
    pub(crate) root: RootSource,
    /// `--storage-opt size=`: bytes that it may write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) quota: Option<u64>,
    /// Its program is a service manager: it may make groups below its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) systemd: bool,
    /// `--volumes-from` as typed, for `inspect`; the mounts it gave are in `mounts`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) volumes_from: Vec<String>,
    #[serde(default, skip_serializing_if = "Service::is_default")]
    pub(crate) service: Service,
    /// The command that made it, program included, so that it can be made again: in a unit, from a newer image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) command_line: Vec<ByteString>,
    /// How it is asked whether it works; `None`: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) health: Option<HealthConfig>,
    /// Started before it, and stopped after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) requires: Vec<Requirement>,
    /// What it is told in secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) secrets: Vec<SecretUse>,
    /// Devices by the names of the Container Device Interface, `vendor/class=name`, looked up at each start.
    #[serde(default, skip_serializing_if = "Cdi::is_empty")]
    pub(crate) cdi: Cdi,
    /// What its user is called in its own /etc/passwd and /etc/group.
    #[serde(default, skip_serializing_if = "Accounts::is_default")]
    pub(crate) accounts: Accounts,
    /// It runs one step of a build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) build: Option<BuildStep>,
}

/// `--passwd`, `--passwd-entry`, `--group-entry`: lines for a user and a group that the image has no names for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Accounts {
    /// They are added.
    pub(crate) added: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) passwd: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
}

impl Accounts {
    fn is_default(&self) -> bool {
        *self == Accounts::default()
    }
}

/// What makes a container the step of a build: where its files are, which are the build's. It ends with the build's
/// process, and lists for people leave it out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BuildStep {
    /// Directories on top of the image's layers, base first: layers that have no digest yet.
    pub(crate) above: Vec<PathBuf>,
    /// What it changes goes here instead of into the container's own directory.
    pub(crate) upper: PathBuf,
    /// Below all layers: what is mounted on, so that mounts leave nothing in the layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) places: Option<PathBuf>,
    /// Trees that are mounted into it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) trees: Vec<TreeMount>,
}

/// Layers of a stage, an image or a context, mounted in another's container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TreeMount {
    /// Absolute and clean.
    pub(crate) target: PathBuf,
    /// Base first; at least one.
    pub(crate) lowers: Vec<PathBuf>,
    /// What of it is mounted, resolved inside; empty for all of it.
    pub(crate) subpath: PathBuf,
    /// A directory with `empty/`, `upper/` and `work/`.
    pub(crate) scratch: PathBuf,
    /// Changes go to the scratch directory, and nowhere else.
    pub(crate) writable: bool,
}

/// Where a container's files come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RootSource {
    /// The image's layers, stacked.
    #[default]
    Layers,
    /// `--rootfs DIR`: a directory of the host, changed in place.
    Directory(PathBuf),
    /// `--rootfs DIR:O`: a directory of the host as the only layer, which stays as it is.
    OnDirectory(PathBuf),
}

impl RootSource {
    pub(crate) fn is_default(&self) -> bool {
        *self == RootSource::Layers
    }
}

/// Another container that has to run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Requirement {
    pub(crate) container: ContainerId,
    /// And to be healthy, if it is asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) healthy: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageUse {
    pub(crate) id: ImageId,
    /// As the user typed it.
    pub(crate) reference: String,
    /// Base first: the image's, and on top of them what commits have made of the container's own changes.
    pub(crate) layers: Vec<ChainId>,
    /// How many of them are the container's own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) committed: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// What runs: the words after merging with the image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) entrypoint: Vec<ByteString>,
    pub(crate) cmd: Vec<ByteString>,
    /// All of it, `NAME=value`, defaults included; HOME is added at start if missing, from the container's passwd.
    pub(crate) env: Vec<ByteString>,
    /// Absolute; made if absent.
    pub(crate) workdir: ByteString,
    /// `user[:group]`, names or numbers, against the container's own files; empty is root.
    pub(crate) user: String,
    pub(crate) tty: bool,
    /// `-i`: stdin is a pipe that stays open, else /dev/null.
    pub(crate) open_stdin: bool,
    /// stdin closes when the first client that is attached to it ends.
    pub(crate) stdin_once: bool,
    /// Streams that the creating command attaches to.
    pub(crate) attach: Streams,
    /// Further groups, names or numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) groups: Vec<String>,
    /// `None` is docker's 0022.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) umask: Option<u32>,
    /// -1000 to 1000 (proc_pid_oom_score_adj(5)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) oom_score_adj: Option<i32>,
}

impl Process {
    /// The words that are executed.
    pub(crate) fn argv(&self) -> impl Iterator<Item = &ByteString> {
        self.entrypoint.iter().chain(&self.cmd)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Streams {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// `--net`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NetworkMode {
    /// A private namespace with loopback only.
    None,
    Host,
    Container(ContainerId),
    /// A network namespace by path.
    Ns(PathBuf),
    /// A private namespace with a place on each of these.
    Networks(Vec<Attachment>),
}

/// `--log-driver`, `--log-opt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogConfig {
    pub(crate) driver: LogDriver,
    /// Bytes of one file before it is rotated; `None` never rotates.
    pub(crate) max_size: Option<u64>,
    /// Files kept, the current one included; at least 1.
    pub(crate) max_file: u32,
    /// What else was asked of the driver, as typed: `tag`, `labels`, `env`, …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) options: BTreeMap<String, String>,
}

impl Default for LogConfig {
    /// 10 MB × 3 (decisions.md, F129).
    fn default() -> Self {
        LogConfig {
            driver: LogDriver::JsonFile,
            max_size: Some(10_000_000),
            max_file: 3,
            options: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogDriver {
    JsonFile,
    None,
    /// The host's journal (systemd-journald.service(8)).
    Journald,
    /// Docker's name for files with other defaults; here they are the same files.
    Local,
    /// The program has the streams of the command that started it; nothing is kept.
    Passthrough,
}

impl LogDriver {
    pub(crate) const ALL: [LogDriver; 5] = [
        LogDriver::JsonFile,
        LogDriver::Local,
        LogDriver::Journald,
        LogDriver::Passthrough,
        LogDriver::None,
    ];

    /// As `--log-driver` and `inspect` have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            LogDriver::JsonFile => "json-file",
            LogDriver::None => "none",
            LogDriver::Journald => "journald",
            LogDriver::Local => "local",
            LogDriver::Passthrough => "passthrough",
        }
    }
}

/// `--restart`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RestartPolicy {
    #[default]
    No,
    OnFailure {
        /// 0 is for ever.
        max: u32,
    },
    Always,
    UnlessStopped,
}

/// What a container has where neither its image nor its user says anything.
pub(crate) const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl ContainerConfig {
    /// The image it is made of, then those that are mounted in it.
    pub(crate) fn images(&self) -> impl Iterator<Item = &ImageUse> {
        let mounted = self.mounts.iter().filter_map(|m| match &m.source {
            Source::Image { image, .. } => Some(image),
            Source::Bind { .. } | Source::Volume { .. } | Source::Tmpfs { .. } => None,
        });
        std::iter::once(&self.image).chain(mounted)
    }

    /// All that has to be in the store for it to start.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &ChainId> {
        self.images().flat_map(|image| &image.layers)
    }

    /// The volumes made for this container without a name given: they go with it.
    pub(crate) fn anonymous_volumes(&self) -> impl Iterator<Item = &str> {
        self.mounts.iter().filter_map(|m| match &m.source {
            Source::Volume {
                name, anonymous: true, ..
            } => Some(name.as_str()),
            _ => None,
        })
    }
}
