//! `-lxc-conf` (F095): docker 0.6 handed these lines to lxc. What has a counterpart here becomes that; the rest is an
//! error, for a limit that is not kept is worse than none.

use crate::cli::{resource, security};
use crate::container::config::RunArgs;
use crate::error::{Error, Result};
use crate::model::resources::Ulimit;

/// What there is, for the hint.
const KNOWN: &str = "lxc.cgroup.memory.limit_in_bytes, lxc.cgroup.memory.memsw.limit_in_bytes, \
    lxc.cgroup.memory.soft_limit_in_bytes, lxc.cgroup.cpu.shares, lxc.cgroup.cpu.cfs_quota_us, \
    lxc.cgroup.cpu.cfs_period_us, lxc.cgroup.cpuset.cpus, lxc.cgroup.cpuset.mems, lxc.cgroup.blkio.weight, \
    lxc.cgroup.pids.max, lxc.cgroup.devices.allow, lxc.utsname, lxc.cap.drop, lxc.prlimit.NAME";

/// One `key=value`.
pub(super) fn apply(text: &str, args: &mut RunArgs) -> Result<()> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| Error::usage(format!("invalid value '{text}' for '--lxc-conf': want KEY=VALUE")))?;
    let (key, value) = (key.trim(), value.trim());
    let wrong = || Error::usage(format!("--lxc-conf {key}: invalid value '{}'", value.escape_debug()));
    let whole = || value.parse::<u64>().map_err(|_| wrong());
    let bytes = || resource::bytes(value).map_err(|_| wrong());
    let limits = &mut args.resources;
    match key {
        "lxc.cgroup.memory.limit_in_bytes" | "lxc.cgroup2.memory.max" => limits.memory = Some(bytes()?),
        "lxc.cgroup.memory.memsw.limit_in_bytes" => {
            limits.memory_swap = Some(i64::try_from(bytes()?).map_err(|_| wrong())?);
        }
        "lxc.cgroup.memory.soft_limit_in_bytes" | "lxc.cgroup2.memory.low" => {
            limits.memory_reservation = Some(bytes()?);
        }
        "lxc.cgroup.cpu.shares" => limits.cpu_shares = Some(whole()?),
        "lxc.cgroup.cpu.cfs_quota_us" => limits.cpu_quota = Some(value.parse().map_err(|_| wrong())?),
        "lxc.cgroup.cpu.cfs_period_us" => limits.cpu_period = Some(whole()?),
        "lxc.cgroup.cpuset.cpus" | "lxc.cgroup2.cpuset.cpus" => limits.cpuset_cpus = Some(value.to_owned()),
        "lxc.cgroup.cpuset.mems" | "lxc.cgroup2.cpuset.mems" => limits.cpuset_mems = Some(value.to_owned()),
        "lxc.cgroup.blkio.weight" => limits.blkio_weight = Some(value.parse().map_err(|_| wrong())?),
        "lxc.cgroup.pids.max" | "lxc.cgroup2.pids.max" => {
            limits.pids = Some(if value == "max" {
                -1
            } else {
                value.parse().map_err(|_| wrong())?
            });
        }
        "lxc.cgroup.devices.allow" | "lxc.cgroup2.devices.allow" => {
            args.device_rules
                .push(resource::device_rule(value).map_err(|_| wrong())?);
        }
        "lxc.utsname" | "lxc.uts.name" => {
            if args.hostname.is_none() {
                args.hostname = Some(super::container::host_part(value)?);
            }
        }
        "lxc.cap.drop" => {
            for name in value.split_whitespace() {
                args.security.cap_drop.push(security::capability(name)?);
            }
        }
        _ => match key
            .strip_prefix("lxc.prlimit.")
            .or_else(|| key.strip_prefix("lxc.limit."))
        {
            Some(name) => args.ulimits.push(ulimit(name, value)?),
            None => {
                let error = Error::usage(format!("--lxc-conf: '{}' has no counterpart here", key.escape_debug()));
                return Err(error.with_hint(format!("there are {KNOWN}")));
            }
        },
    }
    Ok(())
}

fn ulimit(name: &str, value: &str) -> Result<Ulimit> {
    resource::ulimit(&format!("{name}={value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_counterpart() {
        let mut args = RunArgs::default();
        for text in [
            "lxc.cgroup.memory.limit_in_bytes = 512M",
            "lxc.cgroup.cpu.shares=512",
            "lxc.cgroup.cpuset.cpus = 0,1",
            "lxc.cgroup.devices.allow = c 1:3 rwm",
            "lxc.utsname = box",
            "lxc.cap.drop = sys_admin mknod",
            "lxc.prlimit.nofile = 10:20",
        ] {
            apply(text, &mut args).unwrap();
        }
        assert_eq!(
            (args.resources.memory, args.resources.cpu_shares),
            (Some(512 << 20), Some(512))
        );
        assert_eq!(args.resources.cpuset_cpus.as_deref(), Some("0,1"));
        assert_eq!((args.device_rules.len(), args.hostname.as_deref()), (1, Some("box")));
        assert_eq!(args.security.cap_drop, ["SYS_ADMIN", "MKNOD"]);
        assert_eq!((args.ulimits[0].soft, args.ulimits[0].hard), (10, 20));
        for (bad, says) in [
            ("lxc.network.type = veth", "'lxc.network.type' has no counterpart"),
            ("lxc.cgroup.cpu.shares = x", "invalid value 'x'"),
            ("nonsense", "want KEY=VALUE"),
            ("lxc.prlimit.nonsense = 1", "invalid ulimit type"),
        ] {
            let e = apply(bad, &mut args).unwrap_err().to_string();
            assert!(e.contains(says), "{e}");
        }
    }
}
