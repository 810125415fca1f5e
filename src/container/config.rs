//! Flags and image → ContainerConfig (pure). What the user says wins over the image; lists are united.

use crate::container::{environment, mounts};
use crate::error::{Error, Result};
use crate::model::bytes::ByteString;
use crate::model::cdi::Cdi;
use crate::model::container::{
    Accounts, ContainerConfig, ImageUse, LogConfig, NetworkMode, Process, Requirement, RestartPolicy, RootSource,
    Streams,
};
use crate::model::health::{HealthCheck, HealthConfig, HealthLog, OnFailure, StartupCheck};
use crate::model::id::ContainerId;
use crate::model::idmap::IdMap;
use crate::model::image::{ImageRecord, RunDefaults};
use crate::model::mount::Mount;
use crate::model::name::{ExtraHost, Link, NameOptions};
use crate::model::namespace::{Namespaces, Whose};
use crate::model::network::Attachment;
use crate::model::platform::Platform;
use crate::model::port::Publish;
use crate::model::resources::{Device, DeviceRule, Resources, Ulimit};
use crate::model::secret::{SecretPlace, SecretUse};
use crate::model::security::Security;
use crate::model::service::Service;
use crate::model::signal;
use crate::model::time::Timestamp;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// What `run` and `create` were asked, as typed, parsed into types.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunArgs {
    /// The image as typed.
    pub(crate) image: String,
    pub(crate) command: Vec<ByteString>,
    pub(crate) name: Option<String>,
    pub(crate) cidfile: Option<PathBuf>,
    /// `os/arch[/variant]`: refuses an image of another one.
    pub(crate) platform: Option<String>,
    /// An empty word clears the image's entrypoint.
    pub(crate) entrypoint: Option<ByteString>,
    /// `--env-file` first, then `-e`: `NAME=value`, or a bare `NAME`, which removes it.
    pub(crate) env: Vec<ByteString>,
    /// `NAME=value` with `$NAME` of the image's.
    pub(crate) env_merge: Vec<ByteString>,
    pub(crate) workdir: Option<ByteString>,
    pub(crate) user: Option<String>,
    pub(crate) accounts: Accounts,
    pub(crate) image_volumes: ImageVolumes,
    pub(crate) tty: bool,
    pub(crate) open_stdin: bool,
    /// What this command attaches to; nothing with `-d`.
    pub(crate) attach: Streams,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) expose: Vec<String>,
    pub(crate) publish: Vec<Publish>,
    pub(crate) publish_all: bool,
    pub(crate) network: NetworkArg,
    pub(crate) names: NameArgs,
    pub(crate) resources: Resources,
    pub(crate) ulimits: Vec<Ulimit>,
    pub(crate) devices: Vec<Device>,
    pub(crate) device_rules: Vec<DeviceRule>,
    pub(crate) security: Security,
    /// `--mount`, `--tmpfs` and `-v` with a source. A volume without a name gets one in the merge.
    pub(crate) mounts: Vec<Mount>,
    /// `--mount type=image`.
    pub(crate) images: Vec<ImageMount>,
    /// `-v /x`: an anonymous volume, unless something else is mounted there.
    pub(crate) volumes: Vec<PathBuf>,
    pub(crate) volumes_from: Vec<VolumesFrom>,
    pub(crate) shm_size: Option<u64>,
    pub(crate) log: LogConfig,
    pub(crate) restart: RestartPolicy,
    pub(crate) stop_signal: Option<i32>,
    pub(crate) stop_timeout: Option<i64>,
    pub(crate) auto_remove: bool,
    pub(crate) init: bool,
    pub(crate) init_path: Option<PathBuf>,
    pub(crate) groups: Vec<String>,
    pub(crate) umask: Option<u32>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) namespaces: NamespaceArgs,
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) pidfile: Option<PathBuf>,
    pub(crate) timeout: Option<u64>,
    pub(crate) timezone: Option<String>,
    /// What stands for the image, if there is none.
    pub(crate) root: RootSource,
    /// Bytes that it may write.
    pub(crate) quota: Option<u64>,
    pub(crate) health: HealthArgs,
    /// `--requires`: the name as typed, and whether it is to be healthy.
    pub(crate) requires: Vec<(String, bool)>,
    /// Name as typed, and where it goes.
    pub(crate) secrets: Vec<(String, SecretPlace)>,
    pub(crate) cdi: CdiArgs,
    /// A container that has the name is removed first.
    pub(crate) replace: bool,
    pub(crate) systemd: Systemd,
    pub(crate) service: Service,
    /// This command, program included.
    pub(crate) command_line: Vec<ByteString>,
}

/// `--device vendor/class=name`, `--gpus`, `--cdi-spec-dir`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CdiArgs {
    pub(crate) devices: Vec<String>,
    pub(crate) gpus: Vec<GpuRequest>,
    pub(crate) spec_dirs: Vec<PathBuf>,
}

/// One `--gpus`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GpuRequest {
    /// `driver=`: nvidia, amd, …; any that is there without it.
    pub(crate) vendor: Option<String>,
    /// These, or as many as `count` says.
    pub(crate) devices: Vec<String>,
    pub(crate) count: Count,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Count {
    #[default]
    All,
    Number(usize),
}

/// `--health-…`, before the image's own check is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HealthArgs {
    pub(crate) check: HealthCheck,
    pub(crate) on_failure: OnFailure,
    pub(crate) startup: Option<StartupCheck>,
    pub(crate) log: HealthLog,
}

/// `--systemd`: whether the program is a service manager, which wants tmpfs mounts, its own groups to write, and
/// another stop signal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Systemd {
    #[default]
    Never,
    /// By its name.
    IfItIs,
    Always,
}

impl Systemd {
    fn is_on(self, argv: &[&ByteString]) -> bool {
        let program = argv.first().map(|w| w.as_bytes()).unwrap_or_default();
        let name = program.rsplit(|b| *b == b'/').next().unwrap_or_default();
        let init = [
            &b"/sbin/init"[..],
            b"/usr/sbin/init",
            b"/usr/local/sbin/init",
            b"/lib/systemd/systemd",
        ];
        match self {
            Systemd::Never => false,
            Systemd::IfItIs => name == b"systemd" || init.contains(&program),
            Systemd::Always => true,
        }
    }
}

/// `--ipc`, `--pid`, `--uts`, before the containers they name are looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NamespaceArgs {
    pub(crate) ipc: NamespaceArg,
    pub(crate) pid: NamespaceArg,
    pub(crate) uts: NamespaceArg,
    pub(crate) host_cgroups: bool,
    pub(crate) no_shm: bool,
    pub(crate) user: UserArg,
}

/// `--userns` and its kin, before ranges are chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum UserArg {
    #[default]
    Host,
    /// A range of this many ids that no other container has.
    Auto(u32),
    Mapped(IdMap),
    /// The same ids as that container's, as typed.
    Container(String),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum NamespaceArg {
    #[default]
    Private,
    Host,
    /// As typed: a name or an id prefix.
    Container(String),
}

/// `--net`, before the container it names is looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum NetworkArg {
    /// The default network.
    #[default]
    Default,
    None,
    Host,
    /// As typed: a name or an id prefix.
    Container(String),
    Ns(PathBuf),
    Networks(Vec<Attachment>),
    /// A bridge of the administrator's instead of the engine's own (`-b`).
    Bridge(String),
}

/// What was asked about names, before the containers of links are looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NameArgs {
    pub(crate) dns: Vec<IpAddr>,
    pub(crate) dns_search: Vec<String>,
    pub(crate) dns_options: Vec<String>,
    pub(crate) extra_hosts: Vec<ExtraHost>,
    /// Container as typed, and what it is to be called.
    pub(crate) links: Vec<(String, Option<String>)>,
    pub(crate) no_hosts: bool,
    pub(crate) no_hostname: bool,
    pub(crate) hosts_file: Option<PathBuf>,
}

/// `--volumes-from CONTAINER[:ro|rw]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VolumesFrom {
    pub(crate) container: String,
    pub(crate) read_only: Option<bool>,
    pub(crate) typed: String,
}

/// `--image-volume`: what becomes of the volumes that the image names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum ImageVolumes {
    #[default]
    Anonymous,
    Tmpfs,
    Ignored,
}

/// `--mount type=image`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageMount {
    /// As typed.
    pub(crate) reference: String,
    pub(crate) target: PathBuf,
    pub(crate) subpath: Option<PathBuf>,
    pub(crate) writable: bool,
}

/// What [`merge`] needs to know besides, gathered by `container/create.rs`.
pub(crate) struct Facts<'a> {
    pub(crate) id: ContainerId,
    pub(crate) name: String,
    pub(crate) now: Timestamp,
    pub(crate) network: NetworkMode,
    pub(crate) namespaces: Namespaces,
    /// The containers of `NameArgs::links`.
    pub(crate) links: Vec<Link>,
    /// The host's name with `--net host`, the other container's with `container:X`; `None` in a namespace of its own.
    pub(crate) shared_hostname: Option<String>,
    /// The containers of `RunArgs::requires`.
    pub(crate) requires: Vec<Requirement>,
    pub(crate) secrets: Vec<SecretUse>,
    pub(crate) cdi: Cdi,
    /// The images of `RunArgs::images`, in that order.
    pub(crate) images: Vec<ImageUse>,
    /// The containers of `RunArgs::volumes_from`, in that order.
    pub(crate) volumes_from: Vec<ContainerConfig>,
    /// The unit whose command makes it.
    pub(crate) unit: Option<String>,
    /// Makes up a name for an anonymous volume.
    pub(crate) new_volume_name: &'a dyn Fn() -> String,
}

const DEFAULT_SHM_SIZE: u64 = 64 << 20;
const DEFAULT_STOP_TIMEOUT: i64 = 10;

pub(crate) fn merge(args: &RunArgs, image: &ImageRecord, facts: Facts<'_>) -> Result<ContainerConfig> {
    check_platform(args, image)?;
    let defaults = &image.config.config;
    let (entrypoint, cmd) = words(args, image)?;
    let systemd = args.systemd.is_on(&entrypoint.iter().chain(&cmd).collect::<Vec<_>>());
    let hostname = hostname(args, &facts)?;
    if let NetworkMode::Container(_) = facts.network
        && (args.publish_all || !args.publish.is_empty())
    {
        let e = Error::usage("conflicting options: port publishing and the container type network mode");
        return Err(e.with_hint("publish the port of the container whose network it is"));
    }
    let mut expose: std::collections::BTreeSet<String> = defaults.exposed_ports.keys().cloned().collect();
    expose.extend(args.expose.iter().cloned());
    let mut labels = defaults.labels.clone();
    labels.extend(args.labels.iter().map(|(k, v)| (k.clone(), v.clone())));
    let mut resources = args.resources.clone();
    if resources.memory_swap.is_none() {
        resources.memory_swap = resources.memory.and_then(|m| i64::try_from(m.saturating_mul(2)).ok());
    }
    let names = names(&args.names, &facts)?;
    let process = Process {
        entrypoint,
        cmd,
        env: environment::environment(args, &hostname, &defaults.env),
        workdir: workdir(args, &defaults.working_dir),
        user: args.user.clone().unwrap_or_else(|| defaults.user.clone()),
        tty: args.tty,
        open_stdin: args.open_stdin,
        stdin_once: args.open_stdin && args.attach.stdin,
        attach: args.attach,
        groups: args.groups.clone(),
        umask: args.umask,
        oom_score_adj: args.oom_score_adj,
    };
    check_sysctls(args, &facts)?;
    Ok(ContainerConfig {
        build: None,
        mounts: mounts::merge(args, image, &facts, systemd)?,
        accounts: args.accounts.clone(),
        id: facts.id,
        name: facts.name,
        created: facts.now,
        image: ImageUse {
            id: image.id,
            reference: args.image.clone(),
            layers: image.layers.clone(),
            committed: 0,
        },
        process,
        hostname,
        domainname: args.domainname.clone().unwrap_or_default(),
        labels,
        names,
        network: facts.network,
        resources,
        ulimits: args.ulimits.clone(),
        devices: args.devices.clone(),
        device_rules: args.device_rules.clone(),
        security: args.security.clone(),
        shm_size: args.shm_size.unwrap_or(DEFAULT_SHM_SIZE),
        log: args.log.clone(),
        restart: args.restart,
        stop_signal: args
            .stop_signal
            .or_else(|| signal::parse(&defaults.stop_signal))
            .or_else(|| systemd.then(|| signal::parse("RTMIN+3")).flatten())
            .unwrap_or(signal::TERM),
        stop_timeout: args.stop_timeout.unwrap_or(DEFAULT_STOP_TIMEOUT),
        auto_remove: args.auto_remove,
        init: args.init,
        init_path: args.init_path.clone().filter(|_| args.init),
        expose,
        publish: args.publish.clone(),
        publish_all: args.publish_all,
        cidfile: args.cidfile.clone(),
        namespaces: facts.namespaces,
        sysctls: args.sysctls.clone(),
        annotations: args.annotations.clone(),
        pidfile: args.pidfile.clone(),
        timeout: args.timeout,
        timezone: args.timezone.clone(),
        root: args.root.clone(),
        quota: args.quota,
        systemd,
        volumes_from: args.volumes_from.iter().map(|v| v.typed.clone()).collect(),
        service: Service {
            unit: facts.unit,
            ..args.service.clone()
        },
        command_line: args.command_line.clone(),
        health: health(&args.health, defaults)?,
        requires: facts.requires,
        secrets: facts.secrets,
        cdi: facts.cdi,
    })
}

/// The image's check, with what the user says instead.
fn health(args: &HealthArgs, image: &RunDefaults) -> Result<Option<HealthConfig>> {
    let check = args.check.clone().or(image.healthcheck.as_ref());
    let asks = check.argv(&image.shell).is_some();
    if !asks && (args.on_failure != OnFailure::None || args.startup.is_some()) {
        return Err(
            Error::usage("cannot set on-failure action or startup check without a health check")
                .with_hint("neither the image nor --health-cmd says how to ask"),
        );
    }
    Ok(asks.then(|| HealthConfig {
        check,
        shell: image.shell.clone(),
        on_failure: args.on_failure,
        startup: args.startup.clone(),
        log: args.log.clone(),
    }))
}

/// Parameters that belong to a namespace, and only to one that is the container's own: the others are the host's.
fn check_sysctls(args: &RunArgs, facts: &Facts<'_>) -> Result<()> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    for name in args.sysctls.keys() {
        let refused = |why: &str| Err(Error::usage(format!("sysctl '{name}' is not allowed{why}")));
        let is_net = name.starts_with("net.");
        let is_ipc = IPC.contains(&name.as_str()) || name.starts_with("fs.mqueue.");
        match () {
            () if is_net && facts.network == NetworkMode::Host => return refused(" with the host's network"),
            () if is_ipc && facts.namespaces.ipc == Whose::Host => return refused(" with the host's ipc namespace"),
            () if is_net || is_ipc => {}
            () => return refused(": it is the whole machine's"),
        }
    }
    Ok(())
}

fn check_platform(args: &RunArgs, image: &ImageRecord) -> Result<()> {
    let Some(asked) = &args.platform else { return Ok(()) };
    let has = Platform::of(&image.config);
    let matches = Platform::parse(asked)?.rank(&has).is_some();
    match matches {
        true => Ok(()),
        false => Err(Error::other(format!(
            "image '{}' was found but its platform ({has}) does not match the specified platform ({asked})",
            args.image
        ))),
    }
}

/// Entrypoint and command (F047, F049). An entrypoint given by the user takes the image's command with it.
fn words(args: &RunArgs, image: &ImageRecord) -> Result<(Vec<ByteString>, Vec<ByteString>)> {
    let defaults = &image.config.config;
    let (entrypoint, image_cmd) = match &args.entrypoint {
        Some(word) if word.is_empty() => (Vec::new(), &[][..]),
        Some(word) => (vec![word.clone()], &[][..]),
        None => (defaults.entrypoint.clone(), defaults.cmd.as_slice()),
    };
    let cmd = if args.command.is_empty() {
        image_cmd.to_vec()
    } else {
        args.command.clone()
    };
    if entrypoint.is_empty() && cmd.is_empty() {
        return Err(Error::other("No command specified").with_hint("the image has none: name one after the image"));
    }
    Ok((entrypoint, cmd))
}

fn hostname(args: &RunArgs, facts: &Facts<'_>) -> Result<String> {
    match (&args.hostname, &facts.network) {
        (Some(_), NetworkMode::Container(_)) => {
            Err(Error::usage("conflicting options: hostname and the network mode").with_hint("it has that container's"))
        }
        (Some(_), _) if facts.namespaces.uts != Whose::Private => {
            Err(Error::usage("conflicting options: hostname and the UTS mode"))
        }
        (Some(name), _) => Ok(name.clone()),
        (None, _) => Ok(facts
            .shared_hostname
            .clone()
            .unwrap_or_else(|| facts.id.short().to_owned())),
    }
}

/// A namespace that is another's has that one's files.
fn names(args: &NameArgs, facts: &Facts<'_>) -> Result<NameOptions> {
    let conflict = |what: &str| Err(Error::usage(format!("conflicting options: {what}")));
    let kind = match &facts.network {
        NetworkMode::Host => Some("host type networking"),
        NetworkMode::Container(_) => Some("container type network"),
        _ => None,
    };
    if let (Some(kind), false) = (kind, facts.links.is_empty()) {
        return conflict(&format!(
            "{kind} can't be used with links. This would result in undefined behavior"
        ));
    }
    if let NetworkMode::Container(_) = &facts.network {
        if !args.dns.is_empty() || !args.dns_search.is_empty() || !args.dns_options.is_empty() {
            return conflict("dns and the network mode");
        }
        if !args.extra_hosts.is_empty() || args.hosts_file.is_some() {
            return conflict("custom host-to-IP mapping and the network mode");
        }
    }
    let mut links: Vec<Link> = Vec::new();
    for link in &facts.links {
        match links.iter().find(|l| l.alias == link.alias) {
            None => links.push(link.clone()),
            Some(same) if same == link => {}
            Some(other) => {
                return Err(Error::conflict(format!(
                    "two links with the alias {}: to {} and to {}",
                    link.alias, other.name, link.name
                )));
            }
        }
    }
    Ok(NameOptions {
        dns: args.dns.clone(),
        dns_search: args.dns_search.clone(),
        dns_options: args.dns_options.clone(),
        extra_hosts: args.extra_hosts.clone(),
        links,
        no_hosts: args.no_hosts,
        no_hostname: args.no_hostname,
        hosts_file: args.hosts_file.clone(),
    })
}

fn workdir(args: &RunArgs, image: &ByteString) -> ByteString {
    match &args.workdir {
        Some(dir) => dir.clone(),
        None if image.is_empty() => "/".into(),
        None if image.as_bytes().starts_with(b"/") => image.clone(),
        None => [b"/", image.as_bytes()].concat().into(),
    }
}

/// A mount's target, cleaned as text: absolute, without `.`, `..` and double slashes, never `/` (F144).
pub(crate) fn clean_target(target: &Path) -> Result<PathBuf> {
    if !target.is_absolute() {
        return Err(Error::usage(format!("{} is not an absolute path", target.display())));
    }
    let mut clean = PathBuf::from("/");
    for part in target.components() {
        match part {
            std::path::Component::Normal(name) => clean.push(name),
            std::path::Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    match clean == Path::new("/") {
        true => Err(Error::usage(format!("Illegal bind destination: {}", target.display()))),
        false => Ok(clean),
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
