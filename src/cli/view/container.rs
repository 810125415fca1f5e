//! Containers as `ps` shows them.

use super::{Look, labels};
use crate::container::inspect::network_mode;
use crate::container::list::{Entry, Size, Summary};
use crate::container::port;
use crate::model::health::HealthStatus;
use crate::model::id::SHORT;
use crate::model::mount::{Mount, Source};
use crate::model::state::{Exit, Phase, Status};
use crate::output::listing::{Fields, View};
use crate::output::units;
use std::collections::BTreeMap;

pub(crate) const VIEW: View = View {
    headings: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Size", "SIZE"),
        ("Names", "NAMES"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("Networks", "NETWORKS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
    ],
    id: "ID",
};

/// `Size` comes after them, if it was asked for.
pub(crate) const COLUMNS: [&str; 7] = ["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"];

/// A container in a list.
pub(crate) struct Shown<'a> {
    pub(crate) entry: &'a Entry,
    pub(crate) look: &'a Look,
}

impl Fields for Shown<'_> {
    fn field(&self, name: &str) -> String {
        let Shown { entry, look } = self;
        match name {
            "ID" if look.short => entry.id.short().to_owned(),
            "ID" => entry.id.to_string(),
            "CreatedAt" => look.date(entry.created),
            "RunningFor" => look.ago(entry.created),
            "State" => entry.state().to_owned(),
            "Status" => status(&entry.status, look),
            "Ports" => ports(entry),
            "Size" => entry.size.map(size).unwrap_or_default(),
            name => entry
                .summary
                .as_ref()
                .map(|summary| known(summary, name, look))
                .unwrap_or_default(),
        }
    }

    fn json(&self, name: &str) -> String {
        match (name, self.entry.size) {
            // Docker's word for not measured.
            ("Size", None) => units::size(0),
            (name, _) => self.field(name),
        }
    }

    fn labels(&self) -> Option<&BTreeMap<String, String>> {
        self.entry.summary.as_ref().map(|summary| &summary.labels)
    }
}

/// The fields that a damaged container does not have.
fn known(summary: &Summary, name: &str, look: &Look) -> String {
    match name {
        "Image" => image(&summary.image.reference, look),
        "Command" => {
            let words: Vec<_> = summary.process.argv().map(|word| word.to_string_lossy()).collect();
            quoted(&look.cut(words.join(" "), 20))
        }
        "Names" => summary.name.clone(),
        "Labels" => labels(&summary.labels),
        "Mounts" => summary
            .mounts
            .iter()
            .filter_map(|mount| source(mount, look))
            .collect::<Vec<_>>()
            .join(","),
        "Networks" => network_mode(&summary.network),
        "LocalVolumes" => {
            let volumes = summary
                .mounts
                .iter()
                .filter(|mount| matches!(mount.source, Source::Volume { .. }));
            volumes.count().to_string()
        }
        _ => String::new(),
    }
}

/// Published and documented ones, while it runs.
fn ports(entry: &Entry) -> String {
    let running = matches!(&entry.status, Status::Running(live) if matches!(live.phase, Phase::Running { .. }));
    let documented = entry.summary.as_ref().filter(|_| running);
    let exposed = documented.map_or_else(Vec::new, |summary| port::exposed(&summary.expose));
    crate::model::port::summary(&port::published(&entry.status), &exposed)
}

/// As typed, but for a whole id.
fn image(reference: &str, look: &Look) -> String {
    let hex = reference.strip_prefix("sha256:").unwrap_or(reference);
    let is_id = hex.len() == 64 && crate::model::id::is_hex(hex);
    if look.short && is_id {
        hex[..SHORT].to_owned()
    } else {
        reference.to_owned()
    }
}

fn source(mount: &Mount, look: &Look) -> Option<String> {
    match &mount.source {
        Source::Bind { path, .. } => Some(look.cut(path.display().to_string(), 15)),
        Source::Volume { name, .. } => Some(look.cut(name.clone(), 15)),
        Source::Image { image, .. } => Some(look.cut(image.reference.clone(), 15)),
        Source::Tmpfs { .. } => None,
    }
}

/// In double quotes, with Go's escapes.
fn quoted(text: &str) -> String {
    let escaped = text.chars().fold(String::new(), |mut escaped, c| {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            '\n' => escaped.push_str("\\n"),
            '\t' => escaped.push_str("\\t"),
            '\r' => escaped.push_str("\\r"),
            c if c.is_ascii_control() => escaped.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => escaped.push(c),
        }
        escaped
    });
    format!("\"{escaped}\"")
}

/// `Up 3 minutes`, `Exited (0) 2 hours ago`.
pub(crate) fn status(status: &Status, look: &Look) -> String {
    let ended = |word: &str, exit: &Exit| format!("{word} ({}) {}", exit.code, look.ago(exit.finished));
    match status {
        Status::Created => "Created".to_owned(),
        Status::Exited(exit) if exit.started.is_none() => "Created".to_owned(),
        Status::Exited(exit) => ended("Exited", exit),
        Status::Damaged(_) => "Damaged".to_owned(),
        Status::Running(live) => match &live.phase {
            Phase::Starting => "Created".to_owned(),
            Phase::Running { started, .. } if live.paused => format!("Up {} (Paused)", look.since(*started)),
            Phase::Running { started, .. } => match live.health {
                None => format!("Up {}", look.since(*started)),
                Some(HealthStatus::Starting) => format!("Up {} (health: starting)", look.since(*started)),
                Some(health) => format!("Up {} ({})", look.since(*started), health.as_str()),
            },
            Phase::Restarting { exit } => ended("Restarting", exit),
            Phase::Stopping { exit, .. } => ended("Exited", exit),
        },
    }
}

fn size(size: Size) -> String {
    format!("{} (virtual {})", units::size(size.own), units::size(size.total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::ContainerId;
    use crate::model::state::{LiveState, ProcessRef};
    use crate::model::time::Timestamp;
    use jiff::tz::TimeZone;

    fn look(short: bool) -> Look {
        Look {
            now: "2026-01-02T03:04:05Z".parse().unwrap(),
            zone: TimeZone::UTC,
            short,
        }
    }

    fn summary() -> Summary {
        serde_json::from_value(serde_json::json!({
            "name": "web", "created": "2026-01-02T01:00:00Z",
            "image": {"id": format!("sha256:{}", "cd".repeat(32)), "reference": "debian", "layers": []},
            "process": {
                "entrypoint": ["sh", "-c"], "cmd": ["echo \"hi\" && sleep 1000"], "env": [], "workdir": "/", "user": "",
                "tty": false, "open_stdin": false, "stdin_once": false,
                "attach": {"stdin": false, "stdout": true, "stderr": true},
            },
            "hostname": "abababababab", "labels": {"a": "1", "b.c": "2"}, "network": "host", "expose": ["80/tcp", "53/udp"],
            "mounts": [
                {"source": {"volume": {"name": "ef".repeat(32), "copy_up": true}}, "target": "/data"},
                {"source": {"bind": {"path": "/srv"}}, "target": "/srv"},
            ],
            "shm_size": 0, "stop_signal": 15, "stop_timeout": 10,
        }))
        .unwrap()
    }

    #[test]
    fn the_fields_of_a_container() {
        let (id, summary) = (ContainerId::from_random(&[0xab; 32]), summary());
        let exit: Exit = serde_json::from_str(
            r#"{"code": 3, "started": "2026-01-02T01:00:01Z", "finished": "2026-01-02T03:00:00Z"}"#,
        )
        .unwrap();
        let size = Some(Size {
            own: 1024,
            total: 72_801_024,
        });
        let (created, status) = (summary.created, Status::Exited(exit));
        let entry = Entry {
            id,
            summary: Some(Box::new(summary)),
            created,
            status,
            size,
        };
        let (short, long) = (look(true), look(false));
        let row = Shown {
            entry: &entry,
            look: &short,
        };
        for (field, text) in [
            ("ID", "abababababab"),
            ("Image", "debian"),
            ("Command", "\"sh -c echo \\\"hi\\\" && …\""),
            ("CreatedAt", "2026-01-02 01:00:00 +0000 UTC"),
            ("RunningFor", "2 hours ago"),
            ("Ports", ""),
            ("State", "exited"),
            ("Status", "Exited (3) 4 minutes ago"),
            ("Size", "1.02kB (virtual 72.8MB)"),
            ("Names", "web"),
            ("Labels", "a=1,b.c=2"),
            ("Mounts", "efefefefefefef…,/srv"),
            ("Networks", "host"),
            ("LocalVolumes", "1"),
        ] {
            assert_eq!(row.field(field), text);
        }
        let row = Shown {
            entry: &entry,
            look: &long,
        };
        assert_eq!(row.field("Command"), "\"sh -c echo \\\"hi\\\" && sleep 1000\"");
        assert_eq!(row.field("ID").len(), 64);
    }

    #[test]
    fn a_damaged_container_has_an_id_and_a_status() {
        let id = ContainerId::from_random(&[1; 32]);
        let (created, status) = (Timestamp::UNIX_EPOCH, Status::Damaged("bad".to_owned()));
        let entry = Entry {
            id,
            summary: None,
            created,
            status,
            size: None,
        };
        let row = Shown {
            entry: &entry,
            look: &look(true),
        };
        for (field, text) in [
            ("ID", "010101010101"),
            ("Status", "Damaged"),
            ("State", "dead"),
            ("Names", ""),
        ] {
            assert_eq!(row.field(field), text);
        }
    }

    #[test]
    fn what_a_status_says() {
        let time = |t: &str| t.parse::<Timestamp>().unwrap();
        let exit = |started| Exit {
            code: 1,
            signal: None,
            oom_killed: false,
            started,
            finished: time("2026-01-02T03:04:00Z"),
            error: String::new(),
            stopped_by_user: false,
            restarts: 0,
        };
        let process = ProcessRef { pid: 1, start_time: 1 };
        let live = |phase| {
            let boot_id = String::new();
            Status::Running(LiveState {
                boot_id,
                monitor: process,
                phase,
                restarts: 0,
                cgroups: Vec::new(),
                device_filter: false,
                paused: false,
                endpoints: Vec::new(),
                health: None,
                ports: Vec::new(),
            })
        };
        let started = time("2026-01-02T03:00:00Z");
        for (status, text) in [
            (Status::Created, "Created"),
            (live(Phase::Starting), "Created"),
            (live(Phase::Running { init: process, started }), "Up 4 minutes"),
            (
                live(Phase::Restarting {
                    exit: exit(Some(started)),
                }),
                "Restarting (1) 5 seconds ago",
            ),
            (Status::Exited(exit(Some(started))), "Exited (1) 5 seconds ago"),
            (Status::Exited(exit(None)), "Created"),
            (Status::Damaged(String::new()), "Damaged"),
        ] {
            assert_eq!(super::status(&status, &look(true)), text);
        }
    }
}
