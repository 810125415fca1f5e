//! `generate systemd`: a unit from a container.

use crate::cli::argument::{Values, flag, list, value, whole_number, word};
use crate::cli::recorded::Recorded;
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::cli::unit::Unit;
use crate::error::{Context as _, Error, Result};
use crate::model::container::ContainerConfig;
use crate::store::{Durability, Store, file};
use clap::{ArgMatches, Command};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

pub(super) const SPEC: Spec = Spec {
    name: "generate",
    about: "Write files for other programs",
    examples: &[],
    also: None,
    body: Body::Noun(&[SYSTEMD]),
};

const SYSTEMD: Spec = Spec {
    name: "systemd",
    about: "Write a systemd unit that runs a container",
    examples: &[
        (
            "barge generate systemd --new --name web",
            "the unit makes the container anew at each start",
        ),
        (
            "barge generate systemd --new --name web --files && mv container-web.service /etc/systemd/system/",
            "into a file",
        ),
        (
            "barge generate systemd web --requires db.service",
            "the unit starts this very container",
        ),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command
        .arg(list("after", "UNIT", "Start after this unit"))
        .arg(value("container-prefix", "WORD", "What the unit's name begins with, container by default"))
        .arg(list("env", "NAME=VALUE", "Set a variable for the engine").short('e'))
        .arg(flag("files", "Write a file into the working directory and print its path").short('f'))
        .arg(flag("name", "Call unit and container by the container's name, not its id").short('n'))
        .arg(flag("new", "Make the container anew at each start, by the command that made it, and remove it at the end"))
        .arg(flag("no-header", "Leave out the comment at the top"))
        .arg(list("requires", "UNIT", "Start and end with this unit"))
        .arg(value(
            "restart-policy",
            "POLICY",
            "When systemd starts it again: no, on-success, on-failure (the default), on-abnormal, on-watchdog, on-abort, always",
        ))
        .arg(value("restart-sec", "SECONDS", "How long systemd waits before that").value_parser(whole_number))
        .arg(value("separator", "WORD", "What stands between prefix and name, - by default"))
        .arg(value("start-timeout", "SECONDS", "How long a start may take").value_parser(whole_number))
        .arg(
            value("stop-timeout", "SECONDS", "How long the container may take to end, its own timeout by default")
                .short('t')
                .alias("time")
                .value_parser(whole_number),
        )
        .arg(list("wants", "UNIT", "Start this unit too"))
        .arg(word("CONTAINER", "Name or id"))
}

const POLICIES: [&str; 7] = [
    "no",
    "on-success",
    "on-failure",
    "on-abnormal",
    "on-watchdog",
    "on-abort",
    "always",
];

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let typed = m.text("CONTAINER").unwrap_or_default();
    let config = store.config(&store.resolve_container(typed)?)?;
    let text = text(m, &store, &config)?;
    if m.on("files") {
        let path = std::env::current_dir()?.join(format!("{}.service", unit_name(m, &config)));
        write(&path, &text).with_context(|| format!("write {}", path.display()))?;
        session.console.line(&path.display().to_string())?;
    } else {
        session.console.line(text.trim_end())?;
    }
    Ok(0)
}

fn write(path: &std::path::Path, text: &str) -> Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(OsStr::to_str)) else {
        return Err(Error::usage("no name for a file"));
    };
    file::replace(dir, name, text.as_bytes(), Durability::Volatile)
}

/// What the container is called, in the unit and outside.
fn called<'a>(m: &ArgMatches, config: &'a ContainerConfig) -> &'a str {
    if m.on("name") { &config.name } else { config.id.as_str() }
}

fn unit_name(m: &ArgMatches, config: &ContainerConfig) -> String {
    let prefix = m.text("container-prefix").unwrap_or("container");
    let separator = if prefix.is_empty() {
        ""
    } else {
        m.text("separator").unwrap_or("-")
    };
    format!("{prefix}{separator}{}", called(m, config))
}

fn text(m: &ArgMatches, store: &Store, config: &ContainerConfig) -> Result<String> {
    let restart = m.text("restart-policy").unwrap_or("on-failure");
    if !POLICIES.contains(&restart) {
        let error = Error::usage(format!("invalid restart policy '{}'", restart.escape_debug()));
        return Err(error.with_hint(format!("there are {}", POLICIES.join(", "))));
    }
    let seconds = |name: &str| m.get_one::<i64>(name).and_then(|n| u64::try_from(*n).ok());
    let timeout = seconds("stop-timeout").unwrap_or_else(|| u64::try_from(config.stop_timeout).unwrap_or(0));
    let units = |name| m.texts(name).map(unit_word).collect::<Result<Vec<_>>>();
    let (wants, after, requires) = (units("wants")?, units("after")?, units("requires")?);
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/barge"));
    let directories = [store.root(), store.run_root()].map(|d| d.display().to_string());
    let mut environment: Vec<String> = m.texts("env").map(str::to_owned).collect();
    let root = [("--root", store.root()), ("--run-root", store.run_root())];
    let defaults = [
        std::path::Path::new("/var/lib/barge"),
        std::path::Path::new("/run/barge"),
    ];
    let globals = root.iter().zip(defaults).filter(|((_, dir), usual)| dir != usual);
    let globals: Vec<OsString> = globals
        .map(|((flag, dir), _)| {
            let mut word = OsString::from(format!("{flag}="));
            word.push(dir);
            word
        })
        .collect();
    let mut start: Vec<OsString> = vec![program.clone().into()];
    let mut name = called(m, config).to_owned();
    if m.on("new") {
        // An id is another one each time.
        name.clone_from(&config.name);
        start.extend(anew(config, timeout)?);
    } else {
        start.extend(globals.iter().cloned());
        start.extend(["start".into(), OsString::from(&name)]);
        // It may have been made for anything: the unit's own word counts.
        environment.push("BARGE_SDNOTIFY=monitor".to_owned());
    }
    let mut reload: Vec<OsString> = vec![program.into()];
    reload.extend(globals);
    reload.extend(["kill", "--signal=HUP"].map(OsString::from));
    reload.push(name.into());
    let start: Vec<&OsStr> = start.iter().map(OsString::as_os_str).collect();
    let reload: Vec<&OsStr> = reload.iter().map(OsString::as_os_str).collect();
    let unit = Unit {
        description: &format!("barge container {}", config.name),
        wants: &wants,
        after: &after,
        requires: &requires,
        directories: &directories,
        restart,
        restart_sec: seconds("restart-sec"),
        start_timeout: seconds("start-timeout"),
        stop_timeout: timeout.saturating_add(60),
        environment: &environment,
        start: &start,
        reload: &reload,
    };
    let header = match m.on("no-header") {
        true => String::new(),
        false => format!(
            "# {}.service\n# written by `barge generate systemd`, barge {}\n\n",
            unit_name(m, config),
            crate::cli::VERSION
        ),
    };
    Ok(header + &unit.text())
}

/// The command that made the container, as a unit needs it: in the background, in the place of the last one, gone at its
/// end, and started again by nobody but systemd.
fn anew(config: &ContainerConfig, timeout: u64) -> Result<Vec<OsString>> {
    let words: Vec<OsString> = config.command_line.iter().map(|w| w.as_os_str().to_owned()).collect();
    if words.is_empty() {
        let error = Error::other(format!("--new: how {} was made is not recorded", config.name));
        return Err(error.with_hint("it is older than this version: create it again, or leave out --new"));
    }
    let notifies = Recorded::of(&words)?.has("sdnotify");
    let recorded = Recorded::of(&words)?.without(&[
        "attach",
        "cidfile",
        "detach",
        "detach-keys",
        "name",
        "replace",
        "restart",
        "rm",
        "sig-proxy",
        "stop-timeout",
    ]);
    let mut line = recorded.globals.clone();
    line.extend(["run", "--detach", "--replace", "--rm"].map(OsString::from));
    line.push(format!("--name={}", config.name).into());
    line.push(format!("--stop-timeout={timeout}").into());
    if !notifies {
        line.push("--sdnotify=monitor".into());
    }
    line.extend(recorded.flags());
    line.push(recorded.image.clone());
    line.extend(recorded.command);
    Ok(line)
}

/// The name of a unit, which becomes a word of a list.
fn unit_word(name: &str) -> Result<&str> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
    match !name.is_empty() && name.contains('.') && name.bytes().all(good) {
        true => Ok(name),
        false => Err(Error::usage(format!(
            "invalid unit '{}': want a name such as db.service",
            name.escape_debug()
        ))),
    }
}
