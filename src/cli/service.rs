//! Flags of `run` and `create` about the host's service manager.

use crate::cli::argument::{Values, bytes, value};
use crate::error::{Error, Result};
use crate::model::service::{CgroupMode, SdNotify, Service};
use clap::{ArgMatches, Command};

pub(crate) fn define(command: Command) -> Command {
    command
        .arg(value(
            "sdnotify",
            "WHO",
            "Who tells systemd that the service is ready: container (the program), monitor, healthy or ignore",
        ))
        .arg(
            bytes(
                "monitor-pidfile",
                "FILE",
                "Write the pid of the container's monitor to this file, for a unit's PIDFile=",
            )
            .alias("conmon-pidfile"),
        )
        .arg(value(
            "cgroups",
            "MODE",
            "Control groups: enabled; split, inside the unit that starts the container; disabled",
        ))
        .arg(value(
            "cgroup-parent",
            "SLICE",
            "The slice (foo.slice) or control group below which the container's own is made",
        ))
}

pub(crate) fn service(m: &ArgMatches) -> Result<Service> {
    Ok(Service {
        notify: m.text("sdnotify").map(notify).transpose()?.unwrap_or_default(),
        unit: None,
        monitor_pidfile: m
            .raw("monitor-pidfile")
            .filter(|f| !f.is_empty())
            .map(std::path::absolute)
            .transpose()?,
        cgroups: m.text("cgroups").map(cgroups).transpose()?.unwrap_or_default(),
        cgroup_parent: m
            .text("cgroup-parent")
            .filter(|p| !p.is_empty())
            .map(parent)
            .transpose()?,
    })
}

/// podman's words too.
fn notify(text: &str) -> Result<SdNotify> {
    Ok(match text {
        "container" => SdNotify::Container,
        "monitor" | "conmon" => SdNotify::Monitor,
        "healthy" => SdNotify::Healthy,
        "ignore" => SdNotify::Ignore,
        other => {
            let error = Error::usage(format!("--sdnotify: invalid value '{other}'"));
            return Err(error.with_hint("there are container, monitor, healthy and ignore"));
        }
    })
}

/// podman's `no-conmon` is what happens anyway: a monitor is never in its container's group.
fn cgroups(text: &str) -> Result<CgroupMode> {
    Ok(match text {
        "enabled" | "no-conmon" => CgroupMode::Enabled,
        "split" => CgroupMode::Split,
        "disabled" => CgroupMode::Disabled,
        other => {
            let error = Error::usage(format!("--cgroups: invalid value '{other}'"));
            return Err(error.with_hint("there are enabled, split and disabled"));
        }
    })
}

/// A slice's name (systemd.slice(5)), or a path below the hierarchy's root without ways out of it.
pub(crate) fn parent(text: &str) -> Result<String> {
    let bad = |why: &str| {
        Err(Error::usage(format!(
            "--cgroup-parent: invalid value '{}': {why}",
            text.escape_debug()
        )))
    };
    if let Some(name) = text.strip_suffix(".slice").filter(|_| !text.contains('/')) {
        let good =
            |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:\\".contains(&b));
        return match name == "-" || name.split('-').all(good) {
            true => Ok(text.to_owned()),
            false => bad("want the name of a slice, such as web.slice or web-front.slice"),
        };
    }
    let parts = text.trim_start_matches('/').trim_end_matches('/').split('/');
    let good =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.bytes().any(|b| b.is_ascii_control());
    match parts.clone().all(good) {
        true => Ok(parts.collect::<Vec<_>>().join("/")),
        false => bad("want a slice, or a path without . and .."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents() {
        for (text, want) in [
            ("web.slice", Some("web.slice")),
            ("web-front.slice", Some("web-front.slice")),
            ("-.slice", Some("-.slice")),
            ("/a/b/", Some("a/b")),
            ("a", Some("a")),
            ("web--front.slice", None),
            ("-web.slice", None),
            (".slice", None),
            ("we b.slice", None),
            ("../x", None),
            ("a//b", None),
            ("/", None),
        ] {
            assert_eq!(parent(text).ok().as_deref(), want, "{text}");
        }
    }

    #[test]
    fn who_notifies() {
        assert_eq!(notify("conmon").unwrap(), SdNotify::Monitor);
        assert!(notify("me").is_err());
    }
}
