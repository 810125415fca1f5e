//! `--health-…`: text → how a container is asked whether it works.

use crate::cli::argument::{Values, flag, value, whole_number};
use crate::container::config::HealthArgs;
use crate::error::{Context as _, Error, Result};
use crate::model::bytes::ByteString;
use crate::model::health::{Destination, HealthCheck, HealthLog, OnFailure, StartupCheck};
use crate::model::time::parse_duration;
use clap::{ArgMatches, Command};
use std::time::Duration;

pub(crate) fn define(command: Command) -> Command {
    let time = |name, help| value(name, "DURATION", help);
    let number = |name, help| value(name, "NUMBER", help).value_parser(whole_number);
    command
        .arg(value(
            "health-cmd",
            "COMMAND",
            "Ask with this command, by the shell or as a JSON list of words; none does not ask",
        ))
        .arg(time("health-interval", "Time between two questions [default: 30s]"))
        .arg(value(
            "health-log-destination",
            "WHERE",
            "Write the results to a directory, too, or to events_logger [default: local]",
        ))
        .arg(number(
            "health-max-log-count",
            "Results that are kept, 0 is 1000 [default: 5]",
        ))
        .arg(number(
            "health-max-log-size",
            "Bytes that are kept of each result, 0 is 8192 [default: 4096]",
        ))
        .arg(value(
            "health-on-failure",
            "ACTION",
            "What becomes of an unhealthy container: none, kill, restart or stop",
        ))
        .arg(number(
            "health-retries",
            "Failures in a row that make it unhealthy [default: 3]",
        ))
        .arg(time(
            "health-start-interval",
            "Time between two questions in the start period [default: 5s]",
        ))
        .arg(time(
            "health-start-period",
            "Time to start, in which failures don't count [default: 0s]",
        ))
        .arg(value(
            "health-startup-cmd",
            "COMMAND",
            "Ask with this until it has succeeded, and only then with the other",
        ))
        .arg(time(
            "health-startup-interval",
            "Time between two such questions [default: 30s]",
        ))
        .arg(number(
            "health-startup-retries",
            "Failures of it after which the container is started again; 0 never",
        ))
        .arg(number(
            "health-startup-success",
            "Times in a row that it has to succeed [default: 1]",
        ))
        .arg(time("health-startup-timeout", "Time that it may take [default: 30s]"))
        .arg(time("health-timeout", "Time that an answer may take [default: 30s]"))
        .arg(flag("no-healthcheck", "Never ask, whatever the image says"))
}

pub(crate) fn args(m: &ArgMatches) -> Result<HealthArgs> {
    let check = HealthCheck {
        test: m.text("health-cmd").map(test).unwrap_or_default(),
        interval: time(m, "health-interval")?,
        timeout: time(m, "health-timeout")?,
        start_period: time(m, "health-start-period")?,
        start_interval: time(m, "health-start-interval")?,
        retries: count(m, "health-retries")?,
    };
    let on_failure = m.text("health-on-failure").map(on_failure).transpose()?;
    let startup = startup(m)?;
    let log = log(m)?;
    if m.on("no-healthcheck") {
        if check != HealthCheck::default() || on_failure.is_some() || startup.is_some() || log != HealthLog::default() {
            return Err(Error::usage("--no-healthcheck conflicts with --health-* options"));
        }
        return Ok(HealthArgs {
            check: HealthCheck::none(),
            ..HealthArgs::default()
        });
    }
    Ok(HealthArgs {
        check,
        on_failure: on_failure.unwrap_or_default(),
        startup,
        log,
    })
}

fn log(m: &ArgMatches) -> Result<HealthLog> {
    let default = HealthLog::default();
    let number = |name: &str, most: usize, unsaid| match m.get_one::<i64>(name).copied() {
        None => Ok(unsaid),
        Some(0) => Ok(most),
        Some(n) => usize::try_from(n).ok().filter(|n| *n <= most).ok_or_else(|| {
            Error::usage(format!("invalid value '{n}' for '--{name}'")).with_hint(format!("want a number up to {most}"))
        }),
    };
    Ok(HealthLog {
        destination: match m.text("health-log-destination") {
            None | Some("" | "local") => Destination::Local,
            Some("events_logger") => Destination::Events,
            Some(dir) => directory(dir)?,
        },
        count: number("health-max-log-count", HealthLog::MOST, default.count)?,
        size: number("health-max-log-size", HealthLog::LONGEST, default.size)?,
    })
}

fn directory(dir: &str) -> Result<Destination> {
    let path = std::fs::canonicalize(dir).with_context(|| format!("--health-log-destination {dir}"))?;
    match path.is_dir() {
        true => Ok(Destination::Directory(path)),
        false => Err(Error::usage(format!("--health-log-destination {dir}: not a directory"))),
    }
}

fn startup(m: &ArgMatches) -> Result<Option<StartupCheck>> {
    let numbers = (count(m, "health-startup-retries")?, count(m, "health-startup-success")?);
    let check = HealthCheck {
        test: m.text("health-startup-cmd").map(test).unwrap_or_default(),
        interval: time(m, "health-startup-interval")?,
        timeout: time(m, "health-startup-timeout")?,
        ..HealthCheck::default()
    };
    if check.argv(&[]).is_none() {
        return match (numbers, check == HealthCheck::default()) {
            ((0, 0), true) => Ok(None),
            _ => Err(Error::usage("--health-startup-* options need --health-startup-cmd")),
        };
    }
    Ok(Some(StartupCheck {
        check,
        successes: u32::try_from(numbers.1).unwrap_or(1).max(1),
        retries: u32::try_from(numbers.0).unwrap_or(0),
    }))
}

/// A line for the shell, or a JSON list: of words, or as it stands in an image.
fn test(text: &str) -> Vec<ByteString> {
    if text == "none" {
        return HealthCheck::none().test;
    }
    match serde_json::from_str::<Vec<String>>(text) {
        Ok(words) if matches!(words.first().map(String::as_str), Some("CMD" | "CMD-SHELL" | "NONE")) => {
            words.into_iter().map(ByteString::from).collect()
        }
        Ok(words) if !words.is_empty() => std::iter::once("CMD".to_owned())
            .chain(words)
            .map(ByteString::from)
            .collect(),
        _ if text.is_empty() => Vec::new(),
        _ => vec!["CMD-SHELL".into(), text.into()],
    }
}

fn on_failure(text: &str) -> Result<OnFailure> {
    let known = OnFailure::NAMES.iter().find(|(name, _)| *name == text);
    known.map(|(_, action)| *action).ok_or_else(|| {
        Error::usage(format!("--health-on-failure: invalid action '{text}'"))
            .with_hint("there are none, kill, restart and stop")
    })
}

/// Nanoseconds; 0 if it is not said.
fn time(m: &ArgMatches, name: &str) -> Result<i64> {
    let Some(text) = m.text(name).filter(|t| !t.is_empty()) else {
        return Ok(0);
    };
    if text.starts_with('-') {
        return Err(Error::usage(format!("--{name} cannot be negative")));
    }
    // Podman's word for "not at all".
    if text == "disable" && name.ends_with("interval") {
        return Ok(i64::MAX);
    }
    let time = parse_duration(text).ok_or_else(|| {
        Error::usage(format!(
            "invalid value '{text}' for '--{name}': want a time such as 1m30s"
        ))
    })?;
    if time > Duration::ZERO && time < Duration::from_millis(1) {
        return Err(Error::usage(format!("--{name} cannot be less than 1ms")));
    }
    Ok(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX))
}

fn count(m: &ArgMatches, name: &str) -> Result<i64> {
    match m.get_one::<i64>(name) {
        Some(n) if *n < 0 || *n > i64::from(u32::MAX) => Err(Error::usage(format!("--{name} cannot be negative"))),
        n => Ok(n.copied().unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<HealthArgs> {
        let command = define(Command::new("x"));
        args(&command.get_matches_from([&["x"], words].concat()))
    }

    #[test]
    fn flags_to_a_check() {
        let made = parse(&["--health-cmd", "true", "--health-interval=1m", "--health-retries", "2"]).unwrap();
        assert_eq!(made.check.test, ["CMD-SHELL".into(), ByteString::from("true")]);
        assert_eq!((made.check.interval, made.check.retries), (60_000_000_000, 2));
        let json = parse(&["--health-cmd", r#"["curl", "-f"]"#]).unwrap();
        assert_eq!(json.check.test.len(), 3);
        let shell = parse(&["--health-cmd", "[ -f /x ]"]).unwrap();
        assert_eq!(shell.check.test[0].as_bytes(), b"CMD-SHELL");
        assert_eq!(parse(&["--no-healthcheck"]).unwrap().check, HealthCheck::none());
        assert_eq!(parse(&["--health-cmd", "none"]).unwrap().check, HealthCheck::none());
        let startup = parse(&["--health-startup-cmd=x", "--health-startup-retries=4"])
            .unwrap()
            .startup
            .unwrap();
        assert_eq!((startup.successes, startup.retries), (1, 4));
    }

    #[test]
    fn bad_ones() {
        for (words, why) in [
            (&["--health-interval", "-1s"][..], "cannot be negative"),
            (&["--health-interval", "x"], "such as 1m30s"),
            (&["--health-timeout", "10us"], "less than 1ms"),
            (&["--health-retries", "-3"], "cannot be negative"),
            (&["--no-healthcheck", "--health-cmd", "x"], "conflicts"),
            (&["--health-on-failure", "explode"], "invalid action"),
            (&["--health-max-log-count", "-1"], "--health-max-log-count"),
            (&["--health-max-log-size", "9000"], "--health-max-log-size"),
            (&["--health-log-destination", "/dev/null"], "not a directory"),
            (&["--health-log-destination", "/none"], "--health-log-destination /none"),
            (&["--health-startup-retries", "3"], "need --health-startup-cmd"),
        ] {
            let e = parse(words).unwrap_err().to_string();
            assert!(e.contains(why), "{words:?}: {e}");
        }
    }
}
