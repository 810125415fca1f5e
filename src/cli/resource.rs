//! Limits and devices: text → model types (pure).

use crate::error::{Error, Result};
use crate::model::container::{LogConfig, LogDriver, RestartPolicy};
use crate::model::resources::{Access, Device, DeviceKind, DeviceRule, Ulimit, parse_bytes};
use crate::model::tag;
use std::path::{Path, PathBuf};

/// `512m`, `1.5g`, `100`: bytes with a binary suffix, as docker reads them.
pub(crate) fn bytes(text: &str) -> Result<u64> {
    parse_bytes(text)
        .ok_or_else(|| Error::usage(format!("invalid size: '{text}'")).with_hint("write it like 512m or 1.5g"))
}

/// `--memory-swap`: bytes, or -1.
pub(crate) fn swap(text: &str) -> Result<Option<i64>> {
    match text {
        "-1" => Ok(Some(-1)),
        _ => Ok(i64::try_from(bytes(text)?).ok().filter(|n| *n > 0)),
    }
}

/// `--cpus 1.5` in billionths; 0 is no limit.
pub(crate) fn cpus(text: &str) -> Result<Option<u64>> {
    let bad = || Error::usage(format!("invalid number of CPUs: '{text}'")).with_hint("write it like 1.5");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return Err(bad());
    }
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| bad())?
    };
    let nano: u64 = format!("{fraction:0<9}").parse().map_err(|_| bad())?;
    match whole
        .checked_mul(1_000_000_000)
        .and_then(|n| n.checked_add(nano))
        .ok_or_else(bad)?
    {
        0 => Ok(None),
        n => Ok(Some(n)),
    }
}

const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `name=soft[:hard]`; -1 and `unlimited` are no limit.
pub(crate) fn ulimit(text: &str) -> Result<Ulimit> {
    let bad = |why: String| Error::usage(format!("invalid ulimit argument: {text}: {why}"));
    let (name, limits) = text
        .split_once('=')
        .ok_or_else(|| bad("write it like nofile=1024:2048".into()))?;
    if !ULIMITS.contains(&name) {
        return Err(bad(format!("invalid ulimit type: {name}")).with_hint(format!("there are {}", ULIMITS.join(" "))));
    }
    let one = |s: &str| match s {
        "-1" | "unlimited" => Ok(u64::MAX),
        _ => s.parse::<u64>().map_err(|_| bad(format!("'{s}' is not a number"))),
    };
    let (soft, hard) = match limits.split_once(':') {
        Some((soft, hard)) => (one(soft)?, one(hard)?),
        None => (one(limits)?, one(limits)?),
    };
    match soft > hard {
        true => Err(bad("ulimit soft limit must be less than or equal to hard limit".into())),
        false => Ok(Ulimit {
            name: name.to_owned(),
            soft,
            hard,
        }),
    }
}

/// `--device HOST[:CONTAINER[:rwm]]`; `HOST:rwm` too.
pub(crate) fn device(text: &str) -> Result<Device> {
    let bad = |why: &str| Error::usage(format!("bad format for device '{text}': {why}"));
    let parts: Vec<&str> = text.split(':').collect();
    let letters = |s: &str| Access::parse(s).ok_or_else(|| bad("the mode is any of r, w and m"));
    let (source, target, access) = match parts[..] {
        [source] => (source, source, Access::ALL),
        [source, access] if !access.starts_with('/') => (source, source, letters(access)?),
        [source, target] => (source, target, Access::ALL),
        [source, target, access] => (source, target, letters(access)?),
        _ => return Err(bad("write it like /dev/host:/dev/inside:rwm")),
    };
    if !source.starts_with('/') || !target.starts_with('/') {
        return Err(bad("paths must be absolute"));
    }
    let target = crate::container::config::clean_target(Path::new(target))?;
    Ok(Device {
        source: PathBuf::from(source),
        target,
        access,
    })
}

/// `--device-cgroup-rule 'c 1:3 rwm'`.
pub(crate) fn device_rule(text: &str) -> Result<DeviceRule> {
    let bad = || Error::usage(format!("invalid device cgroup format '{text}'")).with_hint("write it like 'c 1:3 rwm'");
    let words: Vec<&str> = text.split(' ').collect();
    let [kind, numbers, access] = words[..] else {
        return Err(bad());
    };
    let kind = match kind {
        "a" => DeviceKind::All,
        "b" => DeviceKind::Block,
        "c" => DeviceKind::Char,
        _ => return Err(bad()),
    };
    let number = |s: &str| match s {
        "*" => Ok(None),
        _ => s.parse::<u32>().map(Some).map_err(|_| bad()),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(bad)?;
    let access = Access::parse(access).ok_or_else(bad)?;
    Ok(DeviceRule {
        kind,
        major: number(major)?,
        minor: number(minor)?,
        access,
    })
}

/// `--restart no|on-failure[:n]|always|unless-stopped`.
pub(crate) fn restart(text: &str) -> Result<RestartPolicy> {
    let bad = |why: &str| {
        Error::usage(format!("invalid restart policy '{text}': {why}"))
            .with_hint("there are no, on-failure[:max], always, unless-stopped")
    };
    let (name, max) = match text.split_once(':') {
        Some((name, max)) => (
            name,
            Some(max.parse::<u32>().map_err(|_| bad("the maximum is a number"))?),
        ),
        None => (text, None),
    };
    let policy = match name {
        "no" | "" => RestartPolicy::No,
        "on-failure" => return Ok(RestartPolicy::OnFailure { max: max.unwrap_or(0) }),
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        _ => return Err(bad("unknown")),
    };
    match max {
        Some(_) => Err(bad("only on-failure has a maximum")),
        None => Ok(policy),
    }
}

/// `--log-driver` with its `--log-opt`s.
pub(crate) fn log<'a>(driver: Option<&str>, options: impl Iterator<Item = &'a str>) -> Result<LogConfig> {
    let mut log = LogConfig::default();
    match driver {
        None | Some("json-file") => {}
        Some("none") => log.driver = LogDriver::None,
        Some("journald") => log.driver = LogDriver::Journald,
        Some("local") => log.driver = LogDriver::Local,
        Some("passthrough") => log.driver = LogDriver::Passthrough,
        Some(other) => {
            let e = Error::usage(format!("logger: no log driver named '{other}' is registered"));
            return Err(e.with_hint("there are json-file, local, journald, passthrough and none"));
        }
    }
    for option in options {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        match (log.driver, key) {
            (LogDriver::JsonFile | LogDriver::Local, "max-size") if value == "-1" => log.max_size = None,
            (LogDriver::JsonFile | LogDriver::Local, "max-size") => {
                let size = Some(bytes(value)?).filter(|n| *n > 0);
                log.max_size = Some(size.ok_or_else(|| Error::usage("max-size must be more than 0, or -1"))?);
            }
            (LogDriver::JsonFile | LogDriver::Local, "max-file") => {
                let count = value.parse::<u32>().ok().filter(|n| *n > 0);
                log.max_file =
                    count.ok_or_else(|| Error::usage(format!("max-file '{value}' is not a number above 0")))?;
            }
            (LogDriver::Journald, "tag" | "labels" | "env") => {
                if key == "tag" {
                    tag::expand(value, &|_| String::new())
                        .map_err(|why| Error::usage(format!("invalid log tag '{}': {why}", value.escape_debug())))?;
                }
                log.options.insert(key.to_owned(), value.to_owned());
            }
            (driver, _) => {
                let hint = match driver {
                    LogDriver::None | LogDriver::Passthrough => "it has none",
                    LogDriver::JsonFile | LogDriver::Local => "there are max-size and max-file",
                    LogDriver::Journald => "there are tag, labels and env",
                };
                let error = Error::usage(format!("unknown log opt '{key}' for {} log driver", driver.name()));
                return Err(error.with_hint(hint));
            }
        }
    }
    Ok(log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, want) in [
            ("0", 0),
            ("100", 100),
            ("100b", 100),
            ("1k", 1024),
            ("512m", 512 << 20),
            ("512MB", 512 << 20),
            ("1.5g", 3 << 29),
            ("0.5k", 512),
            ("2 GiB", 2 << 30),
            ("1T", 1 << 40),
        ] {
            assert_eq!(bytes(text).unwrap(), want, "{text}");
        }
        for bad in [
            "",
            "m",
            "-1",
            "1x",
            "1..5g",
            "1.2.3",
            ".5g",
            "99999999999999999999",
            "16384p",
            "1e3",
            "١k",
        ] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn swap_may_be_without_limit() {
        assert_eq!(
            (swap("-1").unwrap(), swap("0").unwrap(), swap("1g").unwrap()),
            (Some(-1), None, Some(1 << 30))
        );
        assert!(swap("-2").is_err());
    }

    #[test]
    fn cpu_numbers() {
        for (text, want) in [
            ("1.5", Some(1_500_000_000)),
            ("0", None),
            ("2", Some(2_000_000_000)),
            (".5", Some(500_000_000)),
        ] {
            assert_eq!(cpus(text).unwrap(), want, "{text}");
        }
        for bad in ["", ".", "-1", "x", "1.0000000001"] {
            assert!(cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ulimits() {
        let limit = |name: &str, soft, hard| Ulimit {
            name: name.into(),
            soft,
            hard,
        };
        assert_eq!(ulimit("nofile=10").unwrap(), limit("nofile", 10, 10));
        assert_eq!(ulimit("core=0:-1").unwrap(), limit("core", 0, u64::MAX));
        for bad in ["nofile", "foo=1", "nofile=x", "nofile=2:1", "nofile=1:2:3", "nofile=-2"] {
            assert!(ulimit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn devices() {
        let access = |s| Access::parse(s).unwrap();
        let made =
            |text| device(text).map(|d| (d.source.display().to_string(), d.target.display().to_string(), d.access));
        for (text, source, target, mode) in [
            ("/dev/fuse", "/dev/fuse", "/dev/fuse", "rwm"),
            ("/dev/fuse:r", "/dev/fuse", "/dev/fuse", "r"),
            ("/dev/a:/dev/b", "/dev/a", "/dev/b", "rwm"),
            ("/dev/a:/dev/b:rw", "/dev/a", "/dev/b", "rw"),
        ] {
            assert_eq!(
                made(text).unwrap(),
                (source.into(), target.into(), access(mode)),
                "{text}"
            );
        }
        for bad in [
            "",
            "dev/a",
            "/dev/a:b",
            "/dev/a:/dev/b:x",
            "/dev/a:/dev/b:r:w",
            "/dev/a:/",
        ] {
            assert!(device(bad).is_err(), "{bad}");
        }
        let rule = device_rule("c 1:* rm").unwrap();
        assert_eq!(
            (rule.kind, rule.major, rule.minor, rule.access),
            (DeviceKind::Char, Some(1), None, access("rm"))
        );
        for bad in ["", "c 1 r", "x 1:2 r", "c 1:2", "c 1:2 rr", "c -1:2 r"] {
            assert!(device_rule(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn restart_policies() {
        for (text, want) in [
            ("no", RestartPolicy::No),
            ("always", RestartPolicy::Always),
            ("unless-stopped", RestartPolicy::UnlessStopped),
            ("on-failure", RestartPolicy::OnFailure { max: 0 }),
            ("on-failure:3", RestartPolicy::OnFailure { max: 3 }),
        ] {
            assert_eq!(restart(text).unwrap(), want, "{text}");
        }
        for bad in ["sometimes", "always:3", "no:1", "on-failure:x", "on-failure:-1"] {
            assert!(restart(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn log_options() {
        let parse = |driver, options: &[&str]| log(driver, options.iter().copied());
        let config = |driver, max_size, max_file| LogConfig {
            driver,
            max_size,
            max_file,
            ..LogConfig::default()
        };
        assert_eq!(parse(None, &[]).unwrap(), LogConfig::default());
        let given = parse(Some("json-file"), &["max-size=10m", "max-file=5"]).unwrap();
        assert_eq!(given, config(LogDriver::JsonFile, Some(10 << 20), 5));
        assert_eq!(parse(None, &["max-size=-1"]).unwrap().max_size, None);
        assert_eq!(parse(Some("none"), &[]).unwrap().driver, LogDriver::None);
        let journald = parse(Some("journald"), &["tag={{.Name}}", "labels=a,b"]).unwrap();
        assert_eq!(journald.options["tag"], "{{.Name}}");
        for (driver, option) in [
            (None, "max-size=0"),
            (None, "max-file=0"),
            (None, "labels=x"),
            (Some("none"), "max-size=1m"),
            (Some("syslog"), ""),
            (Some("journald"), "max-size=1m"),
            (Some("journald"), "tag={{.Nonsense}}"),
        ] {
            assert!(parse(driver, &[option]).is_err(), "{option}");
        }
    }
}
