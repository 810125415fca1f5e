//! Limits and devices of a container, in the units the kernel takes.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `512m`, `1.5g`, `100`: bytes with a binary suffix, as docker reads them.
pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let shift = match suffix.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || fraction.len() > 18 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let part = match fraction {
        "" => 0,
        _ => {
            let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
            let value: u128 = fraction.parse().ok()?;
            u64::try_from((value << shift) / scale).ok()?
        }
    };
    let whole = whole.checked_mul(1 << shift)?;
    whole.checked_add(part).filter(|n| i64::try_from(*n).is_ok())
}

/// What the control groups hold a container to. `None` is "not asked for".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Resources {
    /// Bytes (`-m`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<u64>,
    /// Memory and swap together, bytes; -1 is no limit on swap. Docker's default is twice the memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_swap: Option<i64>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_reservation: Option<u64>,
    /// 0 to 100 (cgroup v1 only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_swappiness: Option<u8>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) oom_kill_disable: bool,
    /// cgroup v1's scale, 2 to 262144, 1024 the default (`-c`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_shares: Option<u64>,
    /// Microseconds of CPU time in each period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_quota: Option<i64>,
    /// Microseconds; 100000 is the kernel's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_period: Option<u64>,
    /// Billionths of a CPU, as `--cpus 1.5` gave them; kept for `inspect`, quota and period carry the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nano_cpus: Option<u64>,
    /// A list such as `0-3,5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpuset_cpus: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpuset_mems: Option<String>,
    /// -1 is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pids: Option<i64>,
    /// 10 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) blkio_weight: Option<u16>,
    #[serde(skip_serializing_if = "BlockIo::is_default")]
    pub(crate) blkio: BlockIo,
    /// Files of the group and what is written to them (cgroup v2 only).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) files: BTreeMap<String, String>,
    /// Microseconds of each real-time period (cgroup v1 only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_rt_runtime: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_rt_period: Option<u64>,
}

/// Limits of single block devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct BlockIo {
    /// 10 to 1000.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) weight: Vec<DeviceLimit>,
    /// Bytes a second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) read_bps: Vec<DeviceLimit>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) write_bps: Vec<DeviceLimit>,
    /// Operations a second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) read_iops: Vec<DeviceLimit>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) write_iops: Vec<DeviceLimit>,
}

impl BlockIo {
    fn is_default(&self) -> bool {
        *self == BlockIo::default()
    }
}

/// A number for a block device, which is looked up whenever it is set: numbers change with the boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceLimit {
    pub(crate) path: PathBuf,
    pub(crate) value: u64,
}

/// setrlimit(2), by its lower-case name without `RLIMIT_`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ulimit {
    pub(crate) name: String,
    /// `u64::MAX` is unlimited.
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// `--device HOST[:CONTAINER[:rwm]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Device {
    /// On the host; may be a directory of devices.
    pub(crate) source: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) access: Access,
}

/// What the device control group allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Access {
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) mknod: bool,
}

impl Access {
    pub(crate) const ALL: Access = Access {
        read: true,
        write: true,
        mknod: true,
    };

    /// Any of the letters `rwm`, each at most once, at least one.
    pub(crate) fn parse(s: &str) -> Option<Access> {
        let has = |c| s.matches(c).count() == 1;
        let access = Access {
            read: has('r'),
            write: has('w'),
            mknod: has('m'),
        };
        let letters = [access.read, access.write, access.mknod].iter().filter(|b| **b).count();
        (letters > 0 && letters == s.len()).then_some(access)
    }
}

impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (on, letter) in [(self.read, "r"), (self.write, "w"), (self.mknod, "m")] {
            if on {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// One rule of the device control group: what a container may open or make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceRule {
    pub(crate) kind: DeviceKind,
    /// `None` is any.
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
    pub(crate) access: Access,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DeviceKind {
    All,
    Block,
    Char,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_access() {
        assert_eq!(Access::parse("rwm"), Some(Access::ALL));
        assert_eq!(Access::parse("mr").map(|a| a.to_string()), Some("rm".to_owned()));
        for bad in ["", "x", "rr", "rwmr"] {
            assert_eq!(Access::parse(bad), None, "{bad}");
        }
    }
}
