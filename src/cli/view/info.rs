//! `info` and `version`: this engine, this machine, and what limits it can't keep. The keys are docker's.

use crate::cli::view::advice::{Facts, advice, remedy};
use crate::cli::{COMMIT, VERSION};
use crate::container::list::{self, Selection};
use crate::error::Result;
use crate::model::container::LogDriver;
use crate::model::driver::Driver;
use crate::model::time::Timestamp;
use crate::output::units;
use crate::registry::credentials::HUB_KEY;
use crate::runtime::cgroup::{Controller, Host, Version};
use crate::store::Store;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;

/// What limits this machine can keep. Each is found out apart from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    memory: bool,
    swap: bool,
    cpu: bool,
    cpuset: bool,
    io: bool,
    pids: bool,
    forwarding: bool,
}

impl Limits {
    fn probe(host: &Host) -> Self {
        let has = |controller| host.hierarchies.iter().any(|h| h.controllers.contains(controller));
        let forwarding = std::fs::read("/proc/sys/net/ipv4/ip_forward").unwrap_or_default();
        Limits {
            memory: has(Controller::Memory),
            swap: has(Controller::Memory) && can_limit_swap(host),
            cpu: has(Controller::Cpu),
            cpuset: has(Controller::Cpuset),
            io: has(Controller::Io),
            pids: has(Controller::Pids),
            forwarding: forwarding.starts_with(b"1"),
        }
    }

    /// In docker's words, as far as it has them.
    fn warnings(self) -> Vec<&'static str> {
        let missing = [
            (self.memory, "No memory limit support"),
            (self.swap, "No swap limit support"),
            (self.cpu, "No cpu cfs quota support"),
            (self.cpu, "No cpu shares support"),
            (self.cpuset, "No cpuset support"),
            (self.io, "No blkio weight support"),
            (self.pids, "No pids limit support"),
            (self.forwarding, "IPv4 forwarding is disabled"),
        ];
        missing
            .into_iter()
            .filter(|(there, _)| !there)
            .map(|(_, warning)| warning)
            .collect()
    }
}

/// v1 has its file in every group, the root's too; v2 in every group but the root, which has `memory.numa_stat` in any
/// case: a kernel without swap has no /proc/swaps.
fn can_limit_swap(host: &Host) -> bool {
    host.hierarchies
        .iter()
        .filter(|h| h.controllers.contains(Controller::Memory))
        .any(|h| match h.version {
            Version::V1 => h.mount.join("memory.memsw.limit_in_bytes").exists(),
            Version::V2 => Path::new("/proc/swaps").exists(),
        })
}

/// `1`, `2`, or `1 (hybrid)` where only some controllers are in a v2 tree.
fn cgroup_version(host: &Host) -> &'static str {
    let has = |version| host.hierarchies.iter().any(|h| h.version == version);
    match (has(Version::V1), has(Version::V2)) {
        (true, true) => "1 (hybrid)",
        (true, false) => "1",
        (false, true) => "2",
        (false, false) => "none",
    }
}

/// Everything `info` knows.
pub(crate) fn info(store: &Store) -> Result<Value> {
    let containers = list::list(
        store,
        &Selection {
            all: true,
            ..Selection::default()
        },
    )?;
    let count = |states: &[&str]| containers.iter().filter(|c| states.contains(&c.state())).count();
    let (running, paused) = (count(&["running", "restarting"]), count(&["paused"]));
    let host = Host::probe()?;
    let os_release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let limits = Limits::probe(&host);
    let system = nix::sys::utsname::uname()?;
    let memory = nix::sys::sysinfo::sysinfo()?.ram_total();
    let mut warnings: Vec<String> = limits
        .warnings()
        .iter()
        .map(|w| format!("WARNING: {w}{}", remedy(w)))
        .collect();
    warnings.extend(advice(facts(store)).iter().map(|w| format!("WARNING: {w}")));
    let mut info = json!({
        "Containers": containers.len(),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": containers.len() - running - paused,
        "Images": store.image_ids()?.len(),
        "ServerVersion": VERSION,
        "Driver": store.driver()?.unwrap_or(Driver::Overlay).docker_name(),
        "LoggingDriver": "json-file",
        "CgroupDriver": crate::runtime::cgroup::place::manager(&host),
        "CgroupVersion": cgroup_version(&host),
        "MemoryLimit": limits.memory,
        "SwapLimit": limits.swap,
        "CpuCfsQuota": limits.cpu,
        "CPUShares": limits.cpu,
        "CPUSet": limits.cpuset,
        "PidsLimit": limits.pids,
        "IPv4Forwarding": limits.forwarding,
        "SecurityOptions": ["name=seccomp,profile=builtin"],
        "KernelVersion": system.release().to_string_lossy(),
        "OperatingSystem": os_release_field(&os_release, "PRETTY_NAME"),
        "OSVersion": os_release_field(&os_release, "VERSION_ID"),
        "OSType": "linux",
        "IndexServerAddress": HUB_KEY,
        "SystemTime": Timestamp::now().to_string(),
        // What scripts ask for before they rely on it: there is no swarm, and no daemon that containers end with.
        "Swarm": {"LocalNodeState": "inactive", "ControlAvailable": false},
        "LiveRestoreEnabled": true,
        "Architecture": system.machine().to_string_lossy(),
        "NCPU": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "MemTotal": memory,
        "Name": system.nodename().to_string_lossy(),
        "DockerRootDir": store.root().display().to_string(),
        "RunRoot": store.run_root().display().to_string(),
        "Warnings": warnings,
    });
    if let (Some(info), Value::Object(more)) = (info.as_object_mut(), setup()) {
        info.extend(more);
    }
    Ok(info)
}

/// What docker's scripts ask for besides, and what is so without looking at anything but the environment.
fn setup() -> Value {
    let proxy = |name: &str| {
        let names = [name.to_lowercase(), name.to_owned()];
        names.iter().find_map(|n| std::env::var(n).ok()).unwrap_or_default()
    };
    json!({
        "HttpProxy": proxy("HTTP_PROXY"),
        "HttpsProxy": proxy("HTTPS_PROXY"),
        "NoProxy": proxy("NO_PROXY"),
        "Labels": [],
        "ExperimentalBuild": false,
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "ipvlan", "macvlan", "null"],
            "Authorization": null,
            "Log": LogDriver::ALL.map(LogDriver::name),
        },
    })
}

/// What there may be to warn of.
fn facts(store: &Store) -> Facts {
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    const RAMFS_MAGIC: u64 = 0x8584_58f6;
    let number = |path: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.trim().parse().unwrap_or(u64::MAX)
    };
    let room = rustix::fs::statvfs(store.root()).ok();
    let run = rustix::fs::statfs(store.run_root()).map(|fs| u64::try_from(fs.f_type).unwrap_or(0));
    let named = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    Facts {
        free: room.as_ref().map_or(0, |r| r.f_bavail.saturating_mul(r.f_frsize)),
        size: room.as_ref().map_or(0, |r| r.f_blocks.saturating_mul(r.f_frsize)),
        free_files: room.as_ref().map_or(0, |r| r.f_favail),
        files: room.as_ref().map_or(0, |r| r.f_files),
        run_in_memory: run.is_ok_and(|magic| matches!(magic, TMPFS_MAGIC | RAMFS_MAGIC)),
        inotify_instances: number("/proc/sys/fs/inotify/max_user_instances"),
        threads: number("/proc/sys/kernel/threads-max"),
        remote: named("DOCKER_HOST") || named("CONTAINER_HOST"),
    }
}

/// Docker's sections, line by line. The warnings are not among them: they go to stderr.
pub(crate) fn info_text(info: &Value) -> String {
    let lines = [
        ("Containers", "Containers"),
        (" Running", "ContainersRunning"),
        (" Paused", "ContainersPaused"),
        (" Stopped", "ContainersStopped"),
        ("Images", "Images"),
        ("Server Version", "ServerVersion"),
        ("Storage Driver", "Driver"),
        ("Logging Driver", "LoggingDriver"),
        ("Cgroup Driver", "CgroupDriver"),
        ("Cgroup Version", "CgroupVersion"),
        ("Security Options", "SecurityOptions"),
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
        ("CPUs", "NCPU"),
        ("Total Memory", "MemTotal"),
        ("Name", "Name"),
        ("Root Dir", "DockerRootDir"),
        ("Run Dir", "RunRoot"),
    ];
    lines.iter().fold(String::new(), |mut text, (title, key)| {
        let value = match &info[*key] {
            Value::String(value) => value.clone(),
            Value::Array(values) => values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
            value if *key == "MemTotal" => units::binary_size(value.as_u64().unwrap_or_default()),
            value => value.to_string(),
        };
        let _ = writeln!(text, "{title}: {value}");
        text
    })
}

/// Of os-release(5).
fn os_release_field(os_release: &str, name: &str) -> String {
    let value = os_release
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value
        .map_or("unknown", |value| value.trim_matches(['"', '\'']))
        .to_owned()
}

/// Client and server are one program here; docker's templates ask for either.
pub(crate) fn version() -> Result<Value> {
    let system = nix::sys::utsname::uname()?;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let own = json!({
        "Platform": {"Name": "barge"},
        "Version": VERSION,
        "GitCommit": COMMIT,
        "Os": "linux",
        "Arch": architecture,
        "KernelVersion": system.release().to_string_lossy(),
        "Experimental": false,
    });
    Ok(json!({"Client": own, "Server": own}))
}

pub(crate) fn version_text(version: &Value) -> String {
    let own = &version["Client"];
    let text = |key: &str| own[key].as_str().unwrap_or_default();
    format!(
        "barge\n Version:    {}\n Git commit: {}\n OS/Arch:    {}/{}\n Kernel:     {}\n",
        text("Version"),
        text("GitCommit"),
        text("Os"),
        text("Arch"),
        text("KernelVersion"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_limit_is_told_apart() {
        let all = Limits {
            memory: true,
            swap: true,
            cpu: true,
            cpuset: true,
            io: true,
            pids: true,
            forwarding: true,
        };
        assert_eq!(all.warnings(), Vec::<&str>::new());
        assert_eq!(Limits { swap: false, ..all }.warnings(), ["No swap limit support"]);
        let both = Limits {
            memory: false,
            forwarding: false,
            ..all
        };
        assert_eq!(
            both.warnings(),
            ["No memory limit support", "IPv4 forwarding is disabled"]
        );
    }

    #[test]
    fn lines_of_info() {
        let info =
            json!({"Containers": 3, "MemTotal": 8_200_000_000_u64, "SecurityOptions": ["a", "b"], "Name": "host"});
        let text = info_text(&info);
        for line in [
            "Containers: 3",
            "Total Memory: 7.637GiB",
            "Security Options: a b",
            "Name: host",
        ] {
            assert!(text.lines().any(|l| l == line), "{text}");
        }
    }

    #[test]
    fn the_name_of_the_system() {
        let text = "ID=debian\nPRETTY_NAME=\"Debian 12\"\nVERSION_ID=12\n";
        assert_eq!(os_release_field(text, "PRETTY_NAME"), "Debian 12");
        assert_eq!(os_release_field(text, "VERSION_ID"), "12");
        assert_eq!(os_release_field("", "PRETTY_NAME"), "unknown");
    }

    #[test]
    fn version_is_for_templates_too() {
        let version = version().unwrap();
        assert_eq!(version["Server"]["Version"], VERSION);
        assert!(version_text(&version).contains(VERSION));
    }
}
