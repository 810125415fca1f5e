//! `auto-update`: newer images for the running containers that ask for them by a label.
//!
//! A container of a unit is made anew by its unit; any other one by the command that made it, under its name, while the
//! old one waits under another name until the new one runs. What fails is undone: the name gets its old image, and the
//! unit, or the old container, is started again.

use crate::cli::access;
use crate::cli::argument::{Values, flag, value};
use crate::cli::recorded::Recorded;
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::cli::view::show;
use crate::container::status::status;
use crate::container::{remove, rename, start, stop};
use crate::error::{Context as _, Error, Result};
use crate::image;
use crate::image::pull::{PullPolicy, Wanted, ensure};
use crate::model::container::ContainerConfig;
use crate::model::id::ImageId;
use crate::model::reference::Reference;
use crate::model::state::Status;
use crate::output::listing::{Fields, View};
use crate::output::progress::{self, To};
use crate::runtime::dbus;
use crate::store::Store;
use clap::{ArgMatches, Command};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::{Duration, Instant};

/// podman's label, and ours.
const LABELS: [&str; 2] = ["barge.autoupdate", "io.containers.autoupdate"];
/// podman's, which units set by hand may use.
const UNIT_LABEL: &str = "PODMAN_SYSTEMD_UNIT";
/// How long a unit's restart may take: its own timeouts come first.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// What a container is called while its successor starts.
const WAITING: &str = ".before-update";

pub(super) const SPEC: Spec = Spec {
    name: "auto-update",
    about: "Start containers anew from newer images, if their labels ask for it",
    examples: &[("barge auto-update --dry-run", "which would be updated")],
    also: None,
    body: Body::plain(define, run),
};

const VIEW: View = View {
    headings: &[
        ("Unit", "UNIT"),
        ("Container", "CONTAINER"),
        ("ContainerID", "CONTAINER ID"),
        ("ContainerName", "CONTAINER NAME"),
        ("Image", "IMAGE"),
        ("Policy", "POLICY"),
        ("Updated", "UPDATED"),
    ],
    id: "ContainerID",
};
const COLUMNS: [&str; 5] = ["Unit", "Container", "Image", "Policy", "Updated"];

fn define(command: Command) -> Command {
    access::define(
        command
            .arg(flag("dry-run", "Only say what would be done; images are not fetched"))
            .arg(value(
                "format",
                "TEMPLATE",
                "A Go template for each row, `table TEMPLATE`, or json",
            ))
            .arg(flag(
                "rollback",
                "Go back to the old image if the new one does not start [default: true]",
            )),
    )
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    /// What the registry has under the image's name.
    Registry,
    /// What this host has under it.
    Local,
}

impl Policy {
    /// `None` if the container asks for nothing.
    fn of(labels: &BTreeMap<String, String>) -> Result<Option<Policy>> {
        let value = LABELS.iter().find_map(|label| labels.get(*label));
        Ok(match value.map(String::as_str) {
            None | Some("" | "disabled") => None,
            Some("registry" | "image") => Some(Policy::Registry),
            Some("local") => Some(Policy::Local),
            Some(other) => {
                let error = Error::other(format!("invalid auto-update policy '{}'", other.escape_debug()));
                return Err(error.with_hint("there are registry, local and disabled"));
            }
        })
    }

    fn name(self) -> &'static str {
        match self {
            Policy::Registry => "registry",
            Policy::Local => "local",
        }
    }
}

/// What became of one container.
struct Row {
    config: ContainerConfig,
    unit: Option<String>,
    policy: Policy,
    updated: &'static str,
}

impl Fields for Row {
    fn field(&self, name: &str) -> String {
        match name {
            "Unit" => self.unit.clone().unwrap_or_default(),
            "Container" => format!("{} ({})", self.config.id.short(), self.config.name),
            "ContainerID" => self.config.id.short().to_owned(),
            "ContainerName" => self.config.name.clone(),
            "Image" => self.config.image.reference.clone(),
            "Policy" => self.policy.name().to_owned(),
            "Updated" => self.updated.to_owned(),
            _ => String::new(),
        }
    }

    fn labels(&self) -> Option<&BTreeMap<String, String>> {
        None
    }
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let access = access::of(m)?;
    let (dry, rollback) = (m.on("dry-run"), m.switch("rollback").unwrap_or(true));
    let (mut rows, mut code) = (Vec::new(), 0);
    if !dry {
        recover(&store)?;
    }
    for id in store.container_ids()? {
        let Ok(config) = store.config(&id) else { continue };
        if !matches!(status(&store, &id), Status::Running(_)) {
            continue;
        }
        let mut said = |outcome: Result<&'static str>| {
            outcome
                .with_context(|| format!("update {}", config.name))
                .unwrap_or_else(|e| {
                    session.console.error(&e);
                    code = 1;
                    "failed"
                })
        };
        let policy = match Policy::of(&config.labels) {
            Ok(None) => continue,
            Ok(Some(policy)) => policy,
            Err(e) => {
                said(Err(e));
                continue;
            }
        };
        let unit = config.service.unit.clone();
        let mut row = Row {
            unit: unit.or_else(|| config.labels.get(UNIT_LABEL).cloned()),
            config: config.clone(),
            policy,
            updated: "false",
        };
        row.updated = said(update(&store, &row, &access, (dry, rollback)));
        rows.push(row);
    }
    rows.sort_by(|a, b| a.config.name.cmp(&b.config.name));
    if rows.iter().any(|row| row.updated == "rolled back") {
        code = 1;
    }
    show(session, m, (&VIEW, &COLUMNS), &rows)?;
    Ok(code)
}

/// The word for the last column.
fn update(
    store: &Store,
    row: &Row,
    access: &crate::registry::Access,
    (dry, rollback): (bool, bool),
) -> Result<&'static str> {
    let config = &row.config;
    let typed = &config.image.reference;
    let name = Reference::parse(typed)
        .map_err(|_| Error::other(format!("{typed} is not a name that could stand for a newer image")))?
        .or_latest();
    let before = image::resolve::by_name(store, typed)?.map(|(_, id)| id);
    let newest = match row.policy {
        Policy::Local => before,
        Policy::Registry if dry => {
            return Ok(
                if image::remote::is_here(store, typed, access)? && before == Some(config.image.id) {
                    "false"
                } else {
                    "pending"
                },
            );
        }
        Policy::Registry => {
            let wanted = Wanted {
                policy: PullPolicy::Always,
                access: access.clone(),
                ..Wanted::default()
            };
            let progress = progress::for_command(true, To::Stderr);
            Some(ensure(store, typed, &wanted, &*progress)?.id)
        }
    };
    if newest.is_none_or(|id| id == config.image.id) {
        return Ok("false");
    }
    if dry {
        return Ok("pending");
    }
    let renewed = match &row.unit {
        Some(unit) => restart(unit),
        None => renew(store, config),
    };
    let Err(why) = renewed else { return Ok("true") };
    if !rollback {
        return Err(why);
    }
    store.notify(&format!("{}: {why}; going back to the old image", config.name));
    // The unit's command says the name: it has to stand for the old image again.
    image::tag::tag(store, &ImageId::to_string(&config.image.id), &name)?;
    if let Some(unit) = &row.unit {
        restart(unit).context("go back")?;
    }
    Ok("rolled back")
}

/// systemd restarts the unit, and says how that went.
fn restart(unit: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut connection = dbus::Connection::open()?;
    let mut body = dbus::wire::Body::default();
    body.string(unit);
    body.string("replace");
    let serial = connection.send(dbus::manager("RestartUnit", "ss"), &body)?;
    match dbus::job(&mut connection, serial, deadline)? {
        dbus::Job::Done => Ok(()),
        dbus::Job::Ended(result) => Err(Error::other(format!("restart {unit}: {result}"))),
        dbus::Job::Refused(_, text) => Err(Error::other(format!("restart {unit}: {text}"))),
    }
}

/// Makes the container anew by the command that made it. If that fails the old one runs again.
fn renew(store: &Store, config: &ContainerConfig) -> Result<()> {
    let words: Vec<OsString> = config.command_line.iter().map(|w| w.as_os_str().to_owned()).collect();
    let recorded = Recorded::of(&words)?.without(&[
        "attach",
        "cidfile",
        "detach",
        "detach-keys",
        "name",
        "replace",
        "sig-proxy",
    ]);
    let mut line = recorded.globals.clone();
    line.extend(["run", "--detach"].map(OsString::from));
    line.push(format!("--name={}", config.name).into());
    line.extend(recorded.flags());
    line.push(recorded.image.clone());
    line.extend(recorded.command);
    if config.auto_remove {
        // It goes with its end: there is no way back but the command itself.
        stop::stop(store, &config.id, None, None)?;
        return execute(&line);
    }
    let waiting = format!("{}{WAITING}", config.name);
    stop::stop(store, &config.id, None, None)?;
    rename::rename(store, &config.id, &waiting)?;
    let made = execute(&line);
    let Err(why) = made else {
        let options = remove::Options {
            force: true,
            volumes: false,
        };
        return remove::remove(store, &config.id, options);
    };
    go_back(store, &config.name, &waiting).map_err(|second| why.clone().and(&second))?;
    Err(why)
}

/// The old container gets its name back and runs again; what has taken its name goes.
fn go_back(store: &Store, name: &str, waiting: &str) -> Result<()> {
    let old = store.resolve_container(waiting)?;
    if let Ok(new) = store.resolve_container(name)
        && store.config(&new).is_ok_and(|c| c.name == name)
    {
        let options = remove::Options {
            force: true,
            volumes: true,
        };
        remove::remove(store, &new, options)?;
    }
    rename::rename(store, &old, name)?;
    start::start(store, &old)
}

/// An update that was killed half way is undone, unless the new container runs: then the old one goes.
fn recover(store: &Store) -> Result<()> {
    for id in store.container_ids()? {
        let Ok(config) = store.config(&id) else { continue };
        let Some(name) = config.name.strip_suffix(WAITING).filter(|n| !n.is_empty()) else {
            continue;
        };
        let asks = Policy::of(&config.labels).is_ok_and(|policy| policy.is_some());
        if !asks || matches!(status(store, &id), Status::Running(_)) {
            continue;
        }
        let new = store.resolve_container(name).ok();
        if new.is_some_and(|new| matches!(status(store, &new), Status::Running(_))) {
            let options = remove::Options {
                force: false,
                volumes: false,
            };
            remove::remove(store, &id, options)?;
        } else {
            go_back(store, name, &config.name)?;
        }
    }
    Ok(())
}

/// This engine's own program, as if somebody had typed it.
fn execute(line: &[OsString]) -> Result<()> {
    let output = std::process::Command::new("/proc/self/exe")
        .args(line)
        .stdin(std::process::Stdio::null())
        .output()
        .context("start the engine")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said
        .lines()
        .find(|l| !l.is_empty())
        .unwrap_or("it failed without a word");
    Err(Error::other(
        crate::output::terminal::clean(said.trim_start_matches("barge: ")).into_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let of = |label: &str, value: &str| Policy::of(&BTreeMap::from([(label.to_owned(), value.to_owned())]));
        for (label, value, want) in [
            ("io.containers.autoupdate", "registry", Some(Policy::Registry)),
            ("io.containers.autoupdate", "image", Some(Policy::Registry)),
            ("barge.autoupdate", "local", Some(Policy::Local)),
            ("barge.autoupdate", "disabled", None),
            ("autoupdate", "local", None),
        ] {
            assert_eq!(of(label, value).unwrap(), want, "{label} {value}");
        }
        assert!(of(LABELS[0], "daily").is_err());
    }
}
