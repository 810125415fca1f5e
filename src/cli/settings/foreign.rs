//! What docker's `daemon.json` and `config.json` and podman's `containers.conf` say that barge has a flag for. Of
//! their registries' settings `registry/config` takes what it knows.

use super::{Setting, Settings, files_of, text_of};
use crate::error::Result;
use serde_json::Value;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Containers,
    Docker,
}

impl Kind {
    pub(crate) const ALL: [Kind; 2] = [Kind::Containers, Kind::Docker];

    /// As `read` has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Containers => "containers",
            Kind::Docker => "docker",
        }
    }
}

/// How a key's value becomes a flag's.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// As it is: a text, a number, true or false, or a list of them.
    Plain,
    /// Behind these words.
    After(&'static str),
    /// An object, as `name=value` each.
    Pairs,
    /// Docker's ulimits: objects with `Name`, `Soft` and `Hard`.
    Ulimits,
    /// Exactly these capabilities.
    Exactly,
    /// True is this word.
    Word(&'static str),
}

type Row = (&'static str, &'static str, &'static str, Shape);

/// Key, the command (words apart by a space), its flag.
const DAEMON: &[Row] = &[
    ("bridge", "", "bridge", Shape::Plain),
    ("dns", "", "dns", Shape::Plain),
    ("dns-opts", "", "dns-option", Shape::Plain),
    ("dns-search", "", "dns-search", Shape::Plain),
    ("log-driver", "run", "log-driver", Shape::Plain),
    ("log-opts", "run", "log-opt", Shape::Pairs),
    ("default-ulimits", "run", "ulimit", Shape::Ulimits),
    ("default-shm-size", "run", "shm-size", Shape::Plain),
    ("default-cgroupns-mode", "run", "cgroupns", Shape::Plain),
    ("default-ipc-mode", "run", "ipc", Shape::Plain),
    ("default-stop-timeout", "run", "stop-timeout", Shape::Plain),
    ("init", "run", "init", Shape::Plain),
    (
        "no-new-privileges",
        "run",
        "security-opt",
        Shape::Word("no-new-privileges"),
    ),
    ("seccomp-profile", "run", "security-opt", Shape::After("seccomp=")),
];

/// Of those that asked for something: what there is no counterpart for, or not here.
const DAEMON_ELSEWHERE: &[&str] = &[
    "registry-mirrors",
    "insecure-registries",
    "data-root",
    "debug",
    "log-level",
    "live-restore",
    "hosts",
    "features",
    "experimental",
    "storage-driver",
    "exec-opts",
    "containerd",
    "group",
    "pidfile",
];

const CLIENT: &[Row] = &[
    ("psFormat", "ps", "format", Shape::Plain),
    ("imagesFormat", "images", "format", Shape::Plain),
    ("statsFormat", "stats", "format", Shape::Plain),
    ("networksFormat", "network ls", "format", Shape::Plain),
    ("volumesFormat", "volume ls", "format", Shape::Plain),
    ("detachKeys", "run", "detach-keys", Shape::Plain),
    ("detachKeys", "attach", "detach-keys", Shape::Plain),
    ("detachKeys", "exec", "detach-keys", Shape::Plain),
    ("detachKeys", "start", "detach-keys", Shape::Plain),
];

/// Of `[containers]`, containers.conf(5).
const CONTAINERS: &[Row] = &[
    ("annotations", "run", "annotation", Shape::Plain),
    ("cgroupns", "run", "cgroupns", Shape::Plain),
    ("default_capabilities", "run", "cap-add", Shape::Exactly),
    ("default_sysctls", "run", "sysctl", Shape::Plain),
    ("default_ulimits", "run", "ulimit", Shape::Plain),
    ("devices", "run", "device", Shape::Plain),
    ("dns_options", "", "dns-option", Shape::Plain),
    ("dns_searches", "", "dns-search", Shape::Plain),
    ("dns_servers", "", "dns", Shape::Plain),
    ("env", "run", "env", Shape::Plain),
    ("env_host", "run", "env-host", Shape::Plain),
    ("init", "run", "init", Shape::Plain),
    ("ipcns", "run", "ipc", Shape::Plain),
    ("log_driver", "run", "log-driver", Shape::Plain),
    ("log_size_max", "run", "log-opt", Shape::After("max-size=")),
    ("no_hosts", "run", "no-hosts", Shape::Plain),
    ("oom_score_adj", "run", "oom-score-adj", Shape::Plain),
    ("pidns", "run", "pid", Shape::Plain),
    ("pids_limit", "run", "pids-limit", Shape::Plain),
    ("privileged", "run", "privileged", Shape::Plain),
    ("read_only", "run", "read-only", Shape::Plain),
    ("seccomp_profile", "run", "security-opt", Shape::After("seccomp=")),
    ("shm_size", "run", "shm-size", Shape::Plain),
    ("tz", "run", "tz", Shape::Plain),
    ("umask", "run", "umask", Shape::Plain),
    ("utsns", "run", "uts", Shape::Plain),
    ("volumes", "run", "volume", Shape::Plain),
];

/// Words for logging to files and for what is the default here anyway.
const SAME_HERE: [(&str, &str, &str); 3] = [
    ("log_driver", "k8s-file", "json-file"),
    ("ipcns", "shareable", "shareable"),
    ("seccomp_profile", "/usr/share/containers/seccomp.json", "builtin"),
];

pub(super) fn read(kind: Kind, settings: &mut Settings) {
    for file in files(kind) {
        let text = match text_of(&file) {
            Ok(Some(text)) => text,
            Ok(None) => continue,
            Err(e) => {
                settings.notes.push(e.to_string());
                continue;
            }
        };
        if let Err(e) = parse(kind, &text, &file, settings) {
            settings.notes.push(format!("{}: {e}", file.display()));
        }
    }
}

fn files(kind: Kind) -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    match kind {
        Kind::Docker => {
            let client = variable("DOCKER_CONFIG").or_else(|| variable("HOME").map(|h| h.join(".docker")));
            let client = client.map(|dir| dir.join("config.json"));
            std::iter::once(PathBuf::from("/etc/docker/daemon.json"))
                .chain(client)
                .collect()
        }
        Kind::Containers => match variable("CONTAINERS_CONF") {
            Some(file) => vec![file],
            // Not what podman ships in /usr/share/containers: nobody on this host has said that, and it takes
            // capabilities away.
            None => {
                let dir = Path::new("/etc/containers");
                let more = files_of(&dir.join("containers.conf.d"), "conf");
                std::iter::once(dir.join("containers.conf")).chain(more).collect()
            }
        },
    }
}

/// Adds what `text` says.
pub(super) fn parse(kind: Kind, text: &str, file: &Path, settings: &mut Settings) -> Result<()> {
    match kind {
        Kind::Docker if text.trim().is_empty() => Ok(()),
        Kind::Docker => {
            let document: serde_json::Map<String, Value> = serde_json::from_str(text)?;
            if file.file_name().is_some_and(|n| n == "config.json") {
                return take(CLIENT, &document, file, settings, |_| true);
            }
            take(DAEMON, &document, file, settings, |key| DAEMON_ELSEWHERE.contains(&key))
        }
        Kind::Containers => {
            let document: toml::Table =
                toml::from_str(text).map_err(|e| crate::error::Error::other(e.message().replace('\n', " ")))?;
            let document = serde_json::to_value(document)?;
            match document.get("containers").and_then(Value::as_object) {
                Some(table) => take(CONTAINERS, table, file, settings, |_| false),
                None => Ok(()),
            }
        }
    }
}

fn take(
    rows: &[Row],
    document: &serde_json::Map<String, Value>,
    file: &Path,
    settings: &mut Settings,
    elsewhere: impl Fn(&str) -> bool,
) -> Result<()> {
    for (key, value) in document {
        let mut known = elsewhere(key);
        for (_, command, flag, shape) in rows.iter().filter(|(k, ..)| k == key) {
            known = true;
            let Some(values) = values(key, value, *shape) else {
                let what = "is not what it should be, and left out";
                settings.notes.push(format!("{}: {key} {what}", file.display()));
                continue;
            };
            if values.is_empty() {
                continue;
            }
            let origin = format!("{}, {key}", file.display());
            let mut made = vec![(*flag, values)];
            if let Shape::Exactly = shape {
                made.push(("cap-drop", vec!["ALL".to_owned()]));
            }
            for (flag, mut values) in made {
                // Two keys of one file may be about one flag.
                let command: Vec<&'static str> = command.split(' ').filter(|w| !w.is_empty()).collect();
                let before = settings.given.iter().find(|s| s.command == command && s.flag == flag);
                if let Some(before) = before.filter(|b| b.origin.starts_with(&format!("{},", file.display()))) {
                    values.splice(0..0, before.values.iter().cloned());
                }
                settings.set(Setting {
                    command,
                    flag: flag.to_owned(),
                    values,
                    origin: origin.clone(),
                });
            }
        }
        if !known {
            settings
                .notes
                .push(format!("{}: {key} has no counterpart here", file.display()));
        }
    }
    Ok(())
}

/// `None` if the value is of another kind than it should be.
fn values(key: &str, value: &Value, shape: Shape) -> Option<Vec<String>> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(
            SAME_HERE
                .iter()
                .find(|(k, from, _)| *k == key && from == text)
                .map_or_else(|| text.clone(), |(_, _, to)| (*to).to_owned()),
        ),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    };
    let all = |value: &Value| match value {
        Value::Array(items) => items.iter().map(one).collect(),
        value => one(value).map(|v| if v.is_empty() { Vec::new() } else { vec![v] }),
    };
    match shape {
        Shape::Plain | Shape::Exactly => all(value),
        Shape::After(words) => {
            let is_none = |text: &str| key == "log_size_max" && text == "-1";
            Some(
                all(value)?
                    .into_iter()
                    .filter(|v| !is_none(v))
                    .map(|v| format!("{words}{v}"))
                    .collect(),
            )
        }
        Shape::Word(word) => match value.as_bool()? {
            true => Some(vec![word.to_owned()]),
            false => Some(Vec::new()),
        },
        Shape::Pairs => value
            .as_object()?
            .iter()
            .map(|(k, v)| Some(format!("{k}={}", one(v)?)))
            .collect(),
        Shape::Ulimits => {
            let limit = |(name, limit): (&String, &Value)| {
                Some(format!(
                    "{name}={}:{}",
                    limit.get("Soft")?.as_i64()?,
                    limit.get("Hard")?.as_i64()?
                ))
            };
            value.as_object()?.iter().map(limit).collect()
        }
    }
}

#[cfg(test)]
pub(super) fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    [DAEMON, CLIENT, CONTAINERS]
        .into_iter()
        .flatten()
        .map(|(_, command, flag, _)| (*command, *flag))
}
