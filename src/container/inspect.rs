//! A container as docker-shaped JSON: field names and their order are those of `docker inspect` of today. What barge
//! does not have is there with the value docker gives when it is not used, so that templates find it.

use crate::container::status::status;
use crate::container::{list, network, port};
use crate::error::{Context, Error, Result};
use crate::model::bytes::ByteString;
use crate::model::container::{ContainerConfig, LogDriver, NetworkMode, RestartPolicy};
use crate::model::driver::Driver;
use crate::model::id::ContainerId;
use crate::model::idmap::Range;
use crate::model::mount::{Mount, Source};
use crate::model::name::ExtraHost;
use crate::model::namespace::Whose;
use crate::model::resources::DeviceLimit;
use crate::model::security::Seccomp;
use crate::model::signal;
use crate::model::state::{Exit, Phase, Status};
use crate::runtime::rootfs;
use crate::store::Store;
use serde_json::{Map, Value, json};

/// A point in time that has not been.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// All there is to say about a container; its size on disk only if `with_size`, for that walks through every file.
pub(crate) fn inspect(store: &Store, id: &ContainerId, with_size: bool) -> Result<Value> {
    let status = status(store, id);
    let config = store.config(id).with_context(|| format!("inspect {}", id.short()))?;
    if let Status::Damaged(why) = &status {
        return Err(Error::other(format!("inspect {}: {why}", id.short())));
    }
    let driver = store.driver()?.unwrap_or(Driver::Overlay);
    let (running, restarts) = match &status {
        Status::Running(live) => (matches!(live.phase, Phase::Running { .. }), live.restarts),
        Status::Exited(exit) => (false, exit.restarts),
        _ => (false, 0),
    };
    let dir = store.container_dir(id);
    let run_file = |name: &str| {
        let path = store.run_dir(id).join(name);
        if running && path.exists() {
            path.display().to_string()
        } else {
            String::new()
        }
    };
    let mut argv = config.process.argv();
    let path = argv.next().map(lossy);
    let log = (matches!(config.log.driver, LogDriver::JsonFile | LogDriver::Local))
        .then(|| dir.join(crate::monitor::log::FILE));
    let mut object = json!({
        "Id": config.id,
        "Created": config.created.to_string(),
        "Path": path.unwrap_or_default(),
        "Args": argv.map(lossy).collect::<Vec<_>>(),
        "State": state(&status),
        "Image": config.image.id.to_string(),
        "ResolvConfPath": run_file("resolv.conf"),
        "HostnamePath": run_file("hostname"),
        "HostsPath": run_file("hosts"),
        "LogPath": log.map(|path| path.display().to_string()).unwrap_or_default(),
        "Name": format!("/{}", config.name),
        "RestartCount": restarts,
        "Driver": driver.docker_name(),
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": config.security.selinux.clone().unwrap_or_default(),
        "AppArmorProfile": config.security.apparmor.clone().unwrap_or_default(),
        "ExecIDs": null,
        "HostConfig": host_config(&config),
        "GraphDriver": graph_driver(store, driver, &config, &status),
    });
    // Docker leaves it out where there is none; templates ask for it all the same.
    let health = config
        .health
        .as_ref()
        .and_then(|_| crate::monitor::health::read(store, id).ok()?);
    object["State"]["Health"] = serde_json::to_value(health)?;
    if let (true, Some(object)) = (with_size, object.as_object_mut()) {
        let size = list::size(store, id, &config.image).with_context(|| format!("size of {}", id.short()))?;
        object.insert("SizeRw".to_owned(), size.own.into());
        object.insert("SizeRootFs".to_owned(), size.total.into());
    }
    if let Some(object) = object.as_object_mut() {
        object.insert(
            "Mounts".to_owned(),
            config.mounts.iter().map(|mount| mount_point(store, mount)).collect(),
        );
        object.insert("Config".to_owned(), run_config(&config));
        object.insert("NetworkSettings".to_owned(), network::settings(store, &config, &status));
    }
    Ok(object)
}

fn state(status: &Status) -> Value {
    let word = list::state(status);
    let (pid, started, last) = match status {
        Status::Running(live) => match &live.phase {
            Phase::Running { init, started } => (init.pid, Some(*started), None),
            Phase::Restarting { exit } | Phase::Stopping { exit, .. } => (0, exit.started, Some(exit)),
            Phase::Starting => (0, None, None),
        },
        Status::Exited(exit) => (0, exit.started, Some(exit)),
        Status::Created | Status::Damaged(_) => (0, None, None),
    };
    json!({
        "Status": word,
        "Running": matches!(word, "running" | "restarting"),
        "Paused": matches!(status, Status::Running(live) if live.paused),
        "Restarting": word == "restarting",
        "OOMKilled": last.is_some_and(|exit| exit.oom_killed),
        "Dead": false,
        "Pid": pid,
        "ExitCode": last.map_or(0, |exit| exit.code),
        "Error": last.map(|exit| exit.error.as_str()).unwrap_or_default(),
        "StartedAt": started.map_or(NEVER.to_owned(), |time| time.to_string()),
        "FinishedAt": last.map_or(NEVER.to_owned(), |exit: &Exit| exit.finished.to_string()),
    })
}

fn host_config(config: &ContainerConfig) -> Value {
    let parts = [surroundings(config), confinement(config), limits(config)];
    parts
        .into_iter()
        .filter_map(|part| part.as_object().cloned())
        .flatten()
        .collect()
}

fn null_if_empty(list: &[String]) -> Value {
    if list.is_empty() { Value::Null } else { json!(list) }
}

fn surroundings(config: &ContainerConfig) -> Value {
    let (restart, retries) = match config.restart {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::OnFailure { max } => ("on-failure", max),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
    };
    json!({
        "Binds": binds(&config.mounts),
        "ContainerIDFile": config.cidfile.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
        "LogConfig": {"Type": config.log.driver.name(), "Config": log_options(config)},
        "NetworkMode": network_mode(&config.network),
        "PortBindings": port::bindings(config),
        "RestartPolicy": {"Name": restart, "MaximumRetryCount": retries},
        "AutoRemove": config.auto_remove,
        "VolumeDriver": "",
        "VolumesFrom": null_if_empty(&config.volumes_from),
        "ConsoleSize": [0, 0],
        "Dns": config.names.dns,
        "DnsOptions": config.names.dns_options,
        "DnsSearch": config.names.dns_search,
        "ExtraHosts": null_if_empty(&extra_hosts(config)),
        "Links": null_if_empty(&links(config)),
        "PublishAllPorts": config.publish_all,
        "Tmpfs": tmpfs(&config.mounts),
        "ShmSize": config.shm_size,
        "Runtime": "barge",
        "Init": config.init,
    })
}

/// As `--add-host` takes them.
fn extra_hosts(config: &ContainerConfig) -> Vec<String> {
    let shown = |h: &ExtraHost| match h.address {
        Some(address) => format!("{}:{address}", h.name),
        None => format!("{}:host-gateway", h.name),
    };
    config.names.extra_hosts.iter().map(shown).collect()
}

fn links(config: &ContainerConfig) -> Vec<String> {
    let links = config.names.links.iter();
    links
        .map(|l| format!("/{}:/{}/{}", l.name, config.name, l.alias))
        .collect()
}

fn confinement(config: &ContainerConfig) -> Value {
    let security = &config.security;
    let masked = !security.privileged && !security.unmasked;
    let paths = |paths: &[&str]| if masked { json!(paths) } else { Value::Null };
    let namespaces = &config.namespaces;
    json!({
        "CapAdd": null_if_empty(&security.cap_add),
        "CapDrop": null_if_empty(&security.cap_drop),
        "CgroupnsMode": if namespaces.host_cgroups { "host" } else { "private" },
        "GroupAdd": null_if_empty(&config.process.groups),
        "IpcMode": if namespaces.no_shm { "none".to_owned() } else { whose(&namespaces.ipc, "private") },
        "Cgroup": "",
        "OomScoreAdj": config.process.oom_score_adj.unwrap_or(0),
        "PidMode": whose(&namespaces.pid, ""),
        "Privileged": security.privileged,
        "ReadonlyRootfs": security.read_only,
        "SecurityOpt": null_if_empty(&security_options(config)),
        "StorageOpt": config.quota.map(|bytes| json!({"size": bytes.to_string()})),
        "UTSMode": whose(&namespaces.uts, ""),
        "UsernsMode": if namespaces.user.is_some() { "private" } else { "" },
        "IDMappings": namespaces.user.as_ref().map(|ids| json!({"UidMap": ranges(&ids.users), "GidMap": ranges(&ids.groups)})),
        "Isolation": "",
        "MaskedPaths": paths(rootfs::MASKED),
        "ReadonlyPaths": paths(rootfs::READ_ONLY),
    })
}

/// As `--ipc`, `--pid` and `--uts` take it; `private` is the word for the container's own.
fn whose(whose: &Whose, private: &str) -> String {
    match whose {
        Whose::Private => private.to_owned(),
        Whose::Host => "host".to_owned(),
        Whose::Container(id) => format!("container:{id}"),
    }
}

/// Podman's way of writing them: the first id inside, the first on the host, and how many.
fn ranges(ranges: &[Range]) -> Vec<String> {
    let one = |r: &Range| format!("{}:{}:{}", r.inside, r.outside, r.count);
    ranges.iter().map(one).collect()
}

fn limits(config: &ContainerConfig) -> Value {
    let resources = &config.resources;
    let devices = config.devices.iter().map(|device| {
        json!({
            "PathOnHost": device.source.display().to_string(),
            "PathInContainer": device.target.display().to_string(),
            "CgroupPermissions": device.access.to_string(),
        })
    });
    // Docker has -1 for unlimited.
    let limit = |n: u64| i64::try_from(n).unwrap_or(-1);
    let ulimits = config.ulimits.iter();
    let ulimits = ulimits.map(|u| json!({"Name": u.name, "Hard": limit(u.hard), "Soft": limit(u.soft)}));
    json!({
        "CpuShares": resources.cpu_shares.unwrap_or(0),
        "Memory": resources.memory.unwrap_or(0),
        "NanoCpus": resources.nano_cpus.unwrap_or(0),
        "CgroupParent": config.service.cgroup_parent.as_deref().unwrap_or_default(),
        "BlkioWeight": resources.blkio_weight.unwrap_or(0),
        "BlkioWeightDevice": device_limits(&resources.blkio.weight, "Weight"),
        "BlkioDeviceReadBps": device_limits(&resources.blkio.read_bps, "Rate"),
        "BlkioDeviceWriteBps": device_limits(&resources.blkio.write_bps, "Rate"),
        "BlkioDeviceReadIOps": device_limits(&resources.blkio.read_iops, "Rate"),
        "BlkioDeviceWriteIOps": device_limits(&resources.blkio.write_iops, "Rate"),
        "CpuPeriod": resources.cpu_period.unwrap_or(0),
        "CpuQuota": resources.cpu_quota.unwrap_or(0),
        "CpusetCpus": resources.cpuset_cpus.clone().unwrap_or_default(),
        "CpusetMems": resources.cpuset_mems.clone().unwrap_or_default(),
        "Devices": devices.collect::<Vec<_>>(),
        "DeviceCgroupRules": null,
        "DeviceRequests": null,
        "MemoryReservation": resources.memory_reservation.unwrap_or(0),
        "MemorySwap": resources.memory_swap.unwrap_or(0),
        "MemorySwappiness": resources.memory_swappiness,
        "OomKillDisable": resources.oom_kill_disable,
        "PidsLimit": resources.pids,
        "Ulimits": ulimits.collect::<Vec<_>>(),
    })
}

fn device_limits(limits: &[DeviceLimit], key: &str) -> Value {
    let one = |limit: &DeviceLimit| json!({"Path": limit.path.display().to_string(), key: limit.value});
    match limits {
        [] => Value::Null,
        some => some.iter().map(one).collect(),
    }
}

/// Binds and named volumes in the form of `-v`; docker has those of `--mount` elsewhere, here both are the same.
fn binds(mounts: &[Mount]) -> Value {
    let bind = |mount: &Mount| {
        let source = match &mount.source {
            Source::Bind { path, .. } => path.display().to_string(),
            Source::Volume {
                name, anonymous: false, ..
            } => name.clone(),
            Source::Volume { .. } | Source::Tmpfs { .. } | Source::Image { .. } => return None,
        };
        Some(format!(
            "{source}:{}{}",
            mount.target.display(),
            if mount.read_only { ":ro" } else { "" }
        ))
    };
    let binds: Vec<String> = mounts.iter().filter_map(bind).collect();
    if binds.is_empty() { Value::Null } else { json!(binds) }
}

fn tmpfs(mounts: &[Mount]) -> Value {
    let mut all = Map::new();
    for mount in mounts {
        if let Source::Tmpfs { size, mode, options } = &mount.source {
            let mut words = options.clone();
            words.extend(size.map(|size| format!("size={size}")));
            words.extend(mode.map(|mode| format!("mode={mode:o}")));
            all.insert(mount.target.display().to_string(), words.join(",").into());
        }
    }
    Value::Object(all)
}

fn log_options(config: &ContainerConfig) -> Value {
    let mut options = Map::new();
    if matches!(config.log.driver, LogDriver::JsonFile | LogDriver::Local) {
        options.insert("max-file".to_owned(), config.log.max_file.to_string().into());
        let size = config.log.max_size.map_or("-1".to_owned(), |size| size.to_string());
        options.insert("max-size".to_owned(), size.into());
    }
    let others = config.log.options.iter();
    options.extend(others.map(|(name, value)| (name.clone(), value.clone().into())));
    Value::Object(options)
}

/// In the words of `--security-opt`; a profile is too long to be shown.
fn security_options(config: &ContainerConfig) -> Vec<String> {
    let security = &config.security;
    let seccomp = match &security.seccomp {
        Seccomp::Default => None,
        Seccomp::Unconfined => Some("seccomp=unconfined"),
        Seccomp::Profile(_) => Some("seccomp=<profile>"),
    };
    let rest = [
        security.no_new_privileges.then_some("no-new-privileges"),
        security.unmasked.then_some("systempaths=unconfined"),
    ];
    seccomp
        .into_iter()
        .chain(rest.into_iter().flatten())
        .map(str::to_owned)
        .chain(security.apparmor.iter().map(|profile| format!("apparmor={profile}")))
        .chain(joined("mask", &security.mask))
        .chain(joined("unmask", &security.unmask))
        .collect()
}

/// `mask=/a:/b`
fn joined(what: &str, paths: &[std::path::PathBuf]) -> Option<String> {
    let paths: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
    (!paths.is_empty()).then(|| format!("{what}={}", paths.join(":")))
}

/// As `--net` takes it.
pub(crate) fn network_mode(network: &NetworkMode) -> String {
    match network {
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::Container(id) => format!("container:{id}"),
        NetworkMode::Ns(path) => format!("ns:{}", path.display()),
        NetworkMode::Networks(attachments) => attachments.first().map_or_else(String::new, |a| a.network.clone()),
    }
}

/// Docker's overlay2 has the lower directories top first. The merged tree is mounted in the monitor's own namespace;
/// while the container runs, it is also its root.
fn graph_driver(store: &Store, driver: Driver, config: &ContainerConfig, status: &Status) -> Value {
    let dir = store.container_dir(&config.id);
    let lower = config
        .image
        .layers
        .iter()
        .rev()
        .map(|layer| store.layer_dir(layer).display().to_string());
    let merged = match status {
        Status::Running(live) => match &live.phase {
            Phase::Running { init, .. } => format!("/proc/{}/root", init.pid),
            _ => String::new(),
        },
        _ => String::new(),
    };
    if driver == Driver::Copy {
        // Docker's vfs says nothing of its directories.
        let tree = store.tree_dir(&config.id).display().to_string();
        return json!({ "Data": { "MergedDir": merged, "UpperDir": tree }, "Name": driver.docker_name() });
    }
    json!({
        "Data": {
            "LowerDir": lower.collect::<Vec<_>>().join(":"),
            "MergedDir": merged,
            "UpperDir": dir.join("upper").display().to_string(),
            "WorkDir": dir.join("work").display().to_string(),
        },
        "Name": driver.docker_name(),
    })
}

fn mount_point(store: &Store, mount: &Mount) -> Value {
    let target = mount.target.display().to_string();
    let mode = if mount.read_only { "ro" } else { "" };
    match &mount.source {
        Source::Bind { path, .. } => json!({
            "Type": "bind",
            "Source": path.display().to_string(),
            "Destination": target,
            "Mode": mode,
            "RW": !mount.read_only,
            "Propagation": mount.propagation.as_str(),
        }),
        Source::Volume { name, .. } => json!({
            "Type": "volume",
            "Name": name,
            "Source": store.volume_dir(name).display().to_string(),
            "Destination": target,
            "Driver": "local",
            "Mode": mode,
            "RW": !mount.read_only,
            "Propagation": "",
        }),
        Source::Image { image, .. } => json!({
            "Type": "image",
            "Source": image.reference,
            "Destination": target,
            "Mode": mode,
            "RW": !mount.read_only,
            "Propagation": "",
        }),
        Source::Tmpfs { .. } => json!({
            "Type": "tmpfs",
            "Source": "",
            "Destination": target,
            "Mode": mode,
            "RW": !mount.read_only,
            "Propagation": "",
        }),
    }
}

fn run_config(config: &ContainerConfig) -> Value {
    let process = &config.process;
    let words = |list: &[ByteString]| list.iter().map(lossy).collect::<Vec<_>>();
    let maybe = |list: &[ByteString]| {
        if list.is_empty() {
            Value::Null
        } else {
            json!(words(list))
        }
    };
    let set = |keys: Vec<String>| match keys.is_empty() {
        true => Value::Null,
        false => Value::Object(keys.into_iter().map(|key| (key, json!({}))).collect()),
    };
    let volumes = config
        .mounts
        .iter()
        .filter(|m| matches!(m.source, Source::Volume { anonymous: true, .. }));
    let mut value = json!({
        "Hostname": config.hostname,
        "Domainname": config.domainname,
        "User": process.user,
        "AttachStdin": process.attach.stdin,
        "AttachStdout": process.attach.stdout,
        "AttachStderr": process.attach.stderr,
        "ExposedPorts": set(port::documented(config)),
        "Tty": process.tty,
        "OpenStdin": process.open_stdin,
        "StdinOnce": process.stdin_once,
        "Env": words(&process.env),
        "Cmd": maybe(&process.cmd),
        "Image": config.image.reference,
        "Volumes": set(volumes.map(|m| m.target.display().to_string()).collect()),
        "WorkingDir": lossy(&process.workdir),
        "Entrypoint": maybe(&process.entrypoint),
        "OnBuild": null,
        "Labels": config.labels,
        "CreateCommand": config.command_line.iter().map(lossy).collect::<Vec<_>>(),
        "StopSignal": signal::name(config.stop_signal),
        "StopTimeout": config.stop_timeout,
    });
    if let Some(health) = &config.health {
        value["Healthcheck"] = json!(health.check);
    }
    value
}

/// JSON is text: what is not UTF-8 becomes U+FFFD.
fn lossy(bytes: &ByteString) -> String {
    bytes.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::list::testing::{damage, put};
    use crate::model::id::ImageId;
    use crate::store::Durability;
    use crate::store::testing::Scratch;

    fn config() -> ContainerConfig {
        let zero = ImageId::from_hex(&"0".repeat(64)).unwrap();
        serde_json::from_value(json!({
            "id": Store::random_id().unwrap(), "name": "web", "created": "2026-01-02T03:04:05.5Z",
            "image": {"id": zero, "reference": "debian:12", "layers": [zero, zero]},
            "process": {
                "entrypoint": ["sh", "-c"], "cmd": ["a b", [255, 97]], "env": ["A=1"], "workdir": "/", "user": "",
                "tty": false, "open_stdin": false, "stdin_once": false,
                "attach": {"stdin": false, "stdout": true, "stderr": true},
            },
            "hostname": "web", "labels": {"a": "1"}, "network": "none", "expose": ["80/tcp"],
            "mounts": [
                {"source": {"bind": {"path": "/srv"}}, "target": "/srv", "read_only": true},
                {"source": {"volume": {"name": "data", "copy_up": true}}, "target": "/data"},
                {"source": {"volume": {"name": "anon", "copy_up": true, "anonymous": true}}, "target": "/anon"},
                {"source": {"tmpfs": {"size": 4096, "mode": 448, "options": ["nosuid"]}}, "target": "/tmp"},
            ],
            "resources": {"memory": 1000, "pids": 7}, "restart": {"on-failure": {"max": 3}},
            "shm_size": 64, "stop_signal": 15, "stop_timeout": 10, "quota": 4096,
            "namespaces": {
                "pid": "host",
                "user": {
                    "users": [{"inside": 0, "outside": 100_000, "count": 9}],
                    "groups": [{"inside": 0, "outside": 200_000, "count": 9}],
                },
            },
        }))
        .unwrap()
    }

    #[test]
    fn has_dockers_fields() {
        let store = Scratch::new();
        let config = config();
        put(&store, &config);
        let object = inspect(&store, &config.id, false).unwrap();
        let keys: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            keys.join(" "),
            "Id Created Path Args State Image ResolvConfPath HostnamePath HostsPath LogPath Name RestartCount Driver \
             Platform MountLabel ProcessLabel AppArmorProfile ExecIDs HostConfig GraphDriver Mounts Config NetworkSettings"
        );
        for (pointer, expected) in [
            ("/Path", json!("sh")),
            ("/Args", json!(["-c", "a b", "\u{fffd}a"])),
            ("/Created", json!("2026-01-02T03:04:05.5Z")),
            ("/State/Status", json!("created")),
            ("/State/StartedAt", json!(NEVER)),
            ("/Name", json!("/web")),
            ("/HostConfig/Binds", json!(["/srv:/srv:ro", "data:/data"])),
            (
                "/HostConfig/RestartPolicy",
                json!({"Name": "on-failure", "MaximumRetryCount": 3}),
            ),
            ("/HostConfig/LogConfig/Config/max-file", json!("3")),
            ("/HostConfig/Memory", json!(1000)),
            ("/HostConfig/PidsLimit", json!(7)),
            ("/HostConfig/PidMode", json!("host")),
            ("/HostConfig/IpcMode", json!("private")),
            ("/HostConfig/UsernsMode", json!("private")),
            (
                "/HostConfig/IDMappings",
                json!({"UidMap": ["0:100000:9"], "GidMap": ["0:200000:9"]}),
            ),
            ("/HostConfig/StorageOpt", json!({"size": "4096"})),
            ("/HostConfig/Tmpfs", json!({"/tmp": "nosuid,size=4096,mode=700"})),
            ("/Mounts/0/RW", json!(false)),
            ("/Mounts/1/Name", json!("data")),
            ("/Config/Image", json!("debian:12")),
            ("/Config/Volumes", json!({"/anon": {}})),
            ("/Config/StopSignal", json!("SIGTERM")),
            ("/NetworkSettings/Networks/none/IPAddress", json!("")),
        ] {
            assert_eq!(object.pointer(pointer), Some(&expected), "{pointer}");
        }
        let with_size = inspect(&store, &config.id, true).unwrap();
        assert_eq!(with_size["SizeRw"], 0);
    }

    #[test]
    fn tells_how_it_ended() {
        let store = Scratch::new();
        let config = config();
        put(&store, &config);
        let exit = json!({
            "code": 137, "signal": 9, "oom_killed": true, "restarts": 2,
            "started": "2026-01-02T04:00:00Z", "finished": "2026-01-02T05:00:00Z",
        });
        store
            .save_exit(&config.id, &serde_json::from_value(exit).unwrap(), Durability::Volatile)
            .unwrap();
        let object = inspect(&store, &config.id, false).unwrap();
        let state = &object["State"];
        assert_eq!(
            (&state["Status"], &state["ExitCode"], &state["OOMKilled"]),
            (&json!("exited"), &json!(137), &json!(true))
        );
        assert_eq!(state["FinishedAt"], "2026-01-02T05:00:00Z");
        assert_eq!(object["RestartCount"], 2);
    }

    #[test]
    fn a_damaged_record_is_an_error() {
        let store = Scratch::new();
        let config = config();
        put(&store, &config);
        damage(&store, &config.id);
        assert!(inspect(&store, &config.id, false).is_err());
    }
}
