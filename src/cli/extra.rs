//! Flags of `run` and `create` that few people need: limits of single devices, real-time scheduling, service managers
//! as programs, what other engines' users bring along.

use crate::cli::argument::{Values, bytes_list, flag, list, value, whole_number};
use crate::cli::resource;
use crate::container::config::{ImageVolumes, RunArgs, Systemd};
use crate::error::{Error, Result};
use crate::model::bytes::ByteString;
use crate::model::container::LogDriver;
use crate::model::mount::{Mount, Source};
use crate::model::resources::{BlockIo, DeviceLimit, Resources};
use crate::model::service::CgroupMode;
use clap::{ArgMatches, Command};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// What `update` can change too.
pub(crate) fn group_flags(command: Command) -> Command {
    let device = |name, value_name, help| list(name, value_name, help);
    command
        .arg(device(
            "blkio-weight-device",
            "PATH:WEIGHT",
            "Share of a block device, 10 to 1000",
        ))
        .arg(
            value(
                "cpu-rt-period",
                "NUMBER",
                "Length of a real-time period in microseconds (cgroup v1)",
            )
            .value_parser(whole_number),
        )
        .arg(
            value(
                "cpu-rt-runtime",
                "NUMBER",
                "Real-time CPU time in each period, in microseconds (cgroup v1)",
            )
            .value_parser(whole_number),
        )
        .arg(device(
            "device-read-bps",
            "PATH:RATE",
            "Bytes a second to read from a block device, such as /dev/sda:1mb",
        ))
        .arg(device(
            "device-read-iops",
            "PATH:NUMBER",
            "Reads a second from a block device",
        ))
        .arg(device(
            "device-write-bps",
            "PATH:RATE",
            "Bytes a second to write to a block device",
        ))
        .arg(device(
            "device-write-iops",
            "PATH:NUMBER",
            "Writes a second to a block device",
        ))
}

/// In the order that help shows them.
pub(crate) fn define(command: Command) -> Command {
    command
        .arg(value("arch", "ARCH", "The image for this architecture, such as arm64"))
        .arg(list(
            "cgroup-conf",
            "FILE=VALUE",
            "Write to a file of the control group, such as memory.high=1073741824 (cgroup v2)",
        ))
        .arg(bytes_list(
            "env-merge",
            "NAME=VALUE",
            "Set a variable, where $NAME and ${NAME} stand for the image's",
        ))
        .arg(flag("http-proxy", "Give the program this command's proxy variables"))
        .arg(
            list(
                "lxc-conf",
                "KEY=VALUE",
                "Docker 0.6's options of lxc, as far as they have a counterpart",
            )
            .hide(true),
        )
        .arg(value("os", "OS", "The image for this system"))
        .arg(
            value(
                "image-volume",
                "MODE",
                "What the image's volumes are: anonymous (or bind), tmpfs or ignore",
            )
            .value_parser(["anonymous", "bind", "tmpfs", "ignore"]),
        )
        .arg(flag(
            "read-only-tmpfs",
            "With --read-only: /run, /tmp and /var/tmp can be written, in memory",
        ))
        .arg(value(
            "runtime",
            "NAME",
            "What runs the container; there is barge alone",
        ))
        .arg(
            value(
                "systemd",
                "MODE",
                "Whether the program is a service manager: true (if it looks like one), false, always",
            )
            .value_parser(["true", "false", "always"]),
        )
        .arg(value(
            "variant",
            "VARIANT",
            "The image for this variant of an architecture",
        ))
}

/// Reads the limits of [`group_flags`] into `made`.
pub(crate) fn resources(m: &ArgMatches, made: &mut Resources) -> Result<()> {
    let rates = |name: &str| m.texts(name).map(|text| rate(name, text)).collect::<Result<Vec<_>>>();
    let counts = |name: &str| m.texts(name).map(|text| count(name, text)).collect::<Result<Vec<_>>>();
    made.blkio = BlockIo {
        weight: counts("blkio-weight-device")?,
        read_bps: rates("device-read-bps")?,
        write_bps: rates("device-write-bps")?,
        read_iops: counts("device-read-iops")?,
        write_iops: counts("device-write-iops")?,
    };
    made.cpu_rt_runtime = m.get_one::<i64>("cpu-rt-runtime").copied().filter(|n| *n != 0);
    made.cpu_rt_period = match m.get_one::<i64>("cpu-rt-period").filter(|n| **n != 0) {
        None => None,
        Some(n) => Some(
            u64::try_from(*n)
                .map_err(|_| Error::usage(format!("invalid value '{n}' for '--cpu-rt-period': want microseconds")))?,
        ),
    };
    Ok(())
}

fn device_and_number<'a>(flag: &str, text: &'a str) -> Result<(PathBuf, &'a str)> {
    let parts = text
        .rsplit_once(':')
        .filter(|(path, number)| path.starts_with("/dev/") && !number.is_empty());
    let (path, number) = parts.ok_or_else(|| {
        Error::usage(format!("invalid value '{text}' for '--{flag}': bad format for path")).with_hint(format!(
            "write it like /dev/sda:{}",
            if flag.ends_with("bps") { "1mb" } else { "100" }
        ))
    })?;
    Ok((PathBuf::from(path), number))
}

fn rate(flag: &str, text: &str) -> Result<DeviceLimit> {
    let (path, number) = device_and_number(flag, text)?;
    let bad = || {
        let error = Error::usage(format!(
            "invalid value '{text}' for '--{flag}': invalid rate for device"
        ));
        error.with_hint("the correct format is DEVICE:NUMBER with kb, mb or gb if wanted, above 0")
    };
    let value = resource::bytes(number).ok().filter(|n| *n > 0).ok_or_else(bad)?;
    Ok(DeviceLimit { path, value })
}

fn count(flag: &str, text: &str) -> Result<DeviceLimit> {
    let (path, number) = device_and_number(flag, text)?;
    let bad = || {
        Error::usage(format!(
            "invalid value '{text}' for '--{flag}': want a number above 0 after the device"
        ))
    };
    let value = number.parse().ok().filter(|n| *n > 0).ok_or_else(bad)?;
    Ok(DeviceLimit { path, value })
}

/// Adds to `args`, in which everything else is already.
pub(crate) fn complete(m: &ArgMatches, args: &mut RunArgs) -> Result<()> {
    args.platform = platform(m, args.platform.take())?;
    args.systemd = match m.text("systemd") {
        None | Some("false") => Systemd::Never,
        Some("always") => Systemd::Always,
        Some(_) => Systemd::IfItIs,
    };
    args.image_volumes = match m.text("image-volume") {
        Some("tmpfs") => ImageVolumes::Tmpfs,
        Some("ignore") => ImageVolumes::Ignored,
        _ => ImageVolumes::Anonymous,
    };
    args.env_merge = m.raws("env-merge").map(env_merge).collect::<Result<_>>()?;
    args.resources.files = m.texts("cgroup-conf").map(cgroup_file).collect::<Result<_>>()?;
    if let Some(other) = m.text("runtime").filter(|name| !matches!(*name, "" | "barge")) {
        let error = Error::usage(format!("unknown or invalid runtime name: {other}"));
        return Err(error.with_hint("barge runs containers itself: leave --runtime out"));
    }
    if m.on("http-proxy") {
        args.env.splice(0..0, proxies(|name| std::env::var(name).ok()));
    }
    for text in m.texts("lxc-conf") {
        super::lxc::apply(text, args)?;
    }
    if m.on("read-only-tmpfs") && args.security.read_only {
        for target in ["/run", "/tmp", "/var/tmp"] {
            add_tmpfs(args, Path::new(target));
        }
    }
    if args.log.driver == LogDriver::Passthrough && args.tty {
        return Err(Error::usage("Conflicting options: --log-driver passthrough and --tty"));
    }
    if args.service.cgroups == CgroupMode::Disabled && args.resources != Resources::default() {
        let error = Error::usage("Conflicting options: --cgroups=disabled and a limit of resources");
        return Err(error.with_hint("without control groups nothing holds a container to a limit"));
    }
    Ok(())
}

fn env_merge(text: &OsStr) -> Result<ByteString> {
    match text.as_bytes().iter().position(|b| *b == b'=') {
        None | Some(0) => Err(Error::usage(format!(
            "invalid value '{}' for '--env-merge': want NAME=VALUE",
            text.display()
        ))),
        Some(_) => Ok(text.to_owned().into()),
    }
}

/// A limit of a controller's; the group's own files, `cgroup.*`, are the engine's.
fn cgroup_file(text: &str) -> Result<(String, String)> {
    let parts = text.split_once('=').filter(|(name, value)| {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        let controller = name.split_once('.').map(|(controller, _)| controller);
        name.bytes().all(good)
            && !value.is_empty()
            && value.len() <= 4096
            && controller.is_some_and(|c| !c.is_empty() && c != "cgroup")
    });
    let (name, value) = parts.ok_or_else(|| {
        Error::usage(format!("invalid value '{text}' for '--cgroup-conf'"))
            .with_hint("want a file of a controller and what to write to it, such as memory.high=1073741824")
    })?;
    Ok((name.to_owned(), value.to_owned()))
}

fn platform(m: &ArgMatches, platform: Option<String>) -> Result<Option<String>> {
    let part = |name: &str| m.text(name).filter(|p| !p.is_empty());
    let (os, arch, variant) = (part("os"), part("arch"), part("variant"));
    if os.is_none() && arch.is_none() && variant.is_none() {
        return Ok(platform);
    }
    if platform.is_some() {
        return Err(Error::usage(
            "Conflicting options: --platform and --os, --arch or --variant",
        ));
    }
    let arch = match (arch, std::env::consts::ARCH) {
        (Some(arch), _) => arch,
        (None, "x86_64") => "amd64",
        (None, "aarch64") => "arm64",
        (None, other) => other,
    };
    let variant = variant.map(|v| format!("/{v}")).unwrap_or_default();
    Ok(Some(format!("{}/{arch}{variant}", os.unwrap_or("linux"))))
}

/// In both spellings, as programs look for one or the other.
fn proxies(caller: impl Fn(&str) -> Option<String>) -> Vec<ByteString> {
    const NAMES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"];
    let names = NAMES.iter().flat_map(|name| [(*name).to_owned(), name.to_lowercase()]);
    names
        .filter_map(|name| caller(&name).map(|value| ByteString::from(format!("{name}={value}").as_str())))
        .collect()
}

fn add_tmpfs(args: &mut RunArgs, target: &Path) {
    let is_mounted = args.mounts.iter().any(|m| m.target == target) || args.volumes.iter().any(|v| v == target);
    if !is_mounted {
        let source = Source::Tmpfs {
            size: None,
            mode: None,
            options: Vec::new(),
        };
        args.mounts.push(Mount::new(source, target.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_devices() {
        let limit = |path: &str, value| DeviceLimit {
            path: path.into(),
            value,
        };
        assert_eq!(
            rate("device-read-bps", "/dev/sda:1mb").unwrap(),
            limit("/dev/sda", 1 << 20)
        );
        assert_eq!(rate("device-read-bps", "/dev/disk/by-path/a:b:5").unwrap().value, 5);
        assert_eq!(
            count("device-read-iops", "/dev/sda:100").unwrap(),
            limit("/dev/sda", 100)
        );
        for bad in [
            "",
            "/dev/sda",
            "/dev/sda:",
            "/dev/sda:0",
            "/dev/sda:x",
            "sda:1",
            "/dev/sda:-1",
        ] {
            let e = rate("device-read-bps", bad).unwrap_err().to_string();
            assert!(e.contains("--device-read-bps"), "{e}");
            assert!(count("device-read-iops", bad).is_err(), "{bad}");
        }
        assert!(count("device-read-iops", "/dev/sda:1mb").is_err());
    }

    #[test]
    fn files_of_groups() {
        let made = cgroup_file("memory.high=1=2").unwrap();
        assert_eq!(made, ("memory.high".to_owned(), "1=2".to_owned()));
        for bad in [
            "",
            "memory.high",
            "memory.high=",
            "=1",
            "memory=1",
            ".x=1",
            "cgroup.procs=1",
            "../x.y=1",
            "a/b.c=1",
        ] {
            let e = cgroup_file(bad).unwrap_err().to_string();
            assert!(e.contains("--cgroup-conf"), "{bad}: {e}");
        }
        for bad in ["", "X", "=x"] {
            assert!(env_merge(OsStr::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn proxies_in_both_spellings() {
        let env = proxies(|name| matches!(name, "HTTP_PROXY" | "no_proxy").then(|| "x".to_owned()));
        assert_eq!(env, ["HTTP_PROXY=x", "no_proxy=x"].map(ByteString::from));
    }
}
