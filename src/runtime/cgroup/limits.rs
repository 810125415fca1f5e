//! Limits as the control files take them: pure, the same for every machine with the same controllers.
//!
//! A limit whose controller is missing becomes a warning, and the container runs without it (F301). A controller can be
//! there without one of its files (swap accounting switched off, another I/O scheduler): such a write carries the
//! warning that takes its place.

use crate::model::resources::Resources;
use crate::runtime::cgroup::host::{Controller, Controllers, Version};

/// The controllers a container's groups have, by the version that has them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Available {
    pub(crate) v1: Controllers,
    pub(crate) v2: Controllers,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) version: Version,
    pub(crate) controller: Controller,
    /// File and value; the first file that exists takes its value.
    pub(crate) choices: Vec<(&'static str, String)>,
    /// The warning if none exists.
    pub(crate) missing: &'static str,
}

/// What is to be written, in this order and before any process enters, and what the user is to be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) writes: Vec<Write>,
    pub(crate) warnings: Vec<String>,
}

const NO_MEMORY: &str =
    "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.";
const NO_SWAP: &str = "Your kernel does not support swap limit capabilities or the cgroup is not mounted. \
                       Memory limited without swap.";
const NO_RESERVATION: &str =
    "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.";
const NO_SWAPPINESS: &str = "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. \
                             Memory swappiness discarded.";
const NO_OOM_DISABLE: &str = "Your kernel does not support OomKillDisable. OomKillDisable discarded.";
const NO_SHARES: &str = "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.";
const NO_QUOTA: &str =
    "Your kernel does not support CPU CFS quota or the cgroup is not mounted. Quota and period discarded.";
const NO_CPUSET: &str = "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.";
const NO_PIDS: &str =
    "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.";
const NO_WEIGHT_DEVICE: &str = "Your kernel does not support Block I/O weight_device. Weight-device discarded.";
const NO_READ_BPS: &str = "Your kernel does not support BPS Block I/O read limit or the cgroup is not mounted. \
                           Block I/O BPS read limit discarded.";
const NO_WRITE_BPS: &str = "Your kernel does not support BPS Block I/O write limit or the cgroup is not mounted. \
                            Block I/O BPS write limit discarded.";
const NO_READ_IOPS: &str = "Your kernel does not support IOPS Block read limit or the cgroup is not mounted. \
                            Block I/O IOPS read limit discarded.";
const NO_WRITE_IOPS: &str = "Your kernel does not support IOPS Block write limit or the cgroup is not mounted. \
                             Block I/O IOPS write limit discarded.";
const NO_REAL_TIME: &str = "Your kernel does not support CPU real-time scheduler or the cgroup is not mounted. \
                            Real-time limits discarded.";
const NO_WEIGHT: &str = "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.";

/// One limit of one block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceSetting {
    pub(crate) kind: DeviceKind,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) value: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceKind {
    Weight,
    ReadBps,
    WriteBps,
    ReadIops,
    WriteIops,
}

/// The settings that hold a container to `resources`, its block devices among them by number.
pub(crate) fn plan(resources: &Resources, devices: &[DeviceSetting], available: Available) -> Plan {
    let mut planner = Planner {
        available,
        plan: Plan::default(),
    };
    planner.memory(resources);
    planner.cpu(resources);
    planner.rest(resources);
    planner.devices(devices);
    planner.plan
}

struct Planner {
    available: Available,
    plan: Plan,
}

type Choices<'a> = &'a [(&'static str, String)];

impl Planner {
    fn version(&self, controller: Controller) -> Option<Version> {
        if self.available.v1.contains(controller) {
            Some(Version::V1)
        } else {
            self.available.v2.contains(controller).then_some(Version::V2)
        }
    }

    /// Sets one limit; a version that has no counterpart for it gets no choices.
    fn set(&mut self, controller: Controller, v1: Choices, v2: Choices, missing: &'static str) {
        let version = self.version(controller);
        let choices = match version {
            Some(Version::V1) => v1,
            Some(Version::V2) => v2,
            None => &[],
        };
        match version {
            Some(version) if !choices.is_empty() => {
                self.plan.writes.push(Write {
                    version,
                    controller,
                    choices: choices.to_vec(),
                    missing,
                });
            }
            _ => self.warn(missing),
        }
    }

    fn warn(&mut self, text: &str) {
        if !self.plan.warnings.iter().any(|w| w == text) {
            self.plan.warnings.push(text.to_owned());
        }
    }

    fn memory(&mut self, r: &Resources) {
        use Controller::Memory;
        let limit = r.memory.filter(|m| *m > 0);
        if let Some(limit) = limit {
            let text = limit.to_string();
            self.set(
                Memory,
                &[("memory.limit_in_bytes", text.clone())],
                &[("memory.max", text)],
                NO_MEMORY,
            );
            // v1 counts memory and swap together and refuses less than the memory limit, so it comes second.
            if let Some(total) = swap_total(limit, r.memory_swap).filter(|_| self.version(Memory).is_some()) {
                let swap = total.saturating_sub(limit).to_string();
                let total = [("memory.memsw.limit_in_bytes", total.to_string())];
                self.set(Memory, &total, &[("memory.swap.max", swap)], NO_SWAP);
            }
        }
        let reservation = r.memory_reservation.filter(|m| *m > 0);
        if let Some(reservation) = reservation {
            let text = reservation.to_string();
            let v1 = [("memory.soft_limit_in_bytes", text.clone())];
            self.set(Memory, &v1, &[("memory.low", text)], NO_RESERVATION);
        } else if let Some(limit) = limit.filter(|_| self.version(Memory) == Some(Version::V1)) {
            self.set(
                Memory,
                &[("memory.soft_limit_in_bytes", limit.to_string())],
                &[],
                NO_RESERVATION,
            );
        }
        if let Some(swappiness) = r.memory_swappiness {
            self.set(
                Memory,
                &[("memory.swappiness", swappiness.to_string())],
                &[],
                NO_SWAPPINESS,
            );
        }
        if r.oom_kill_disable {
            self.set(Memory, &[("memory.oom_control", "1".to_owned())], &[], NO_OOM_DISABLE);
        }
    }

    fn cpu(&mut self, r: &Resources) {
        use Controller::Cpu;
        if let Some(shares) = r.cpu_shares.filter(|s| *s > 0) {
            let weight = [("cpu.weight", weight_of_shares(shares).to_string())];
            self.set(Cpu, &[("cpu.shares", shares.to_string())], &weight, NO_SHARES);
        }
        if let Some(period) = r.cpu_rt_period {
            self.set(Cpu, &[("cpu.rt_period_us", period.to_string())], &[], NO_REAL_TIME);
        }
        if let Some(runtime) = r.cpu_rt_runtime {
            self.set(Cpu, &[("cpu.rt_runtime_us", runtime.to_string())], &[], NO_REAL_TIME);
        }
        let quota = r.cpu_quota.filter(|q| *q > 0);
        let period = r.cpu_period.filter(|p| *p > 0);
        if quota.is_none() && period.is_none() {
            return;
        }
        if self.version(Cpu) == Some(Version::V2) {
            let quota = quota.map_or_else(|| "max".to_owned(), |q| q.to_string());
            let value = format!("{quota} {}", period.unwrap_or(100_000));
            return self.set(Cpu, &[], &[("cpu.max", value)], NO_QUOTA);
        }
        // The kernel refuses a quota that is more than the parent's share of the old period.
        if let Some(period) = period {
            self.set(Cpu, &[("cpu.cfs_period_us", period.to_string())], &[], NO_QUOTA);
        }
        if let Some(quota) = quota {
            self.set(Cpu, &[("cpu.cfs_quota_us", quota.to_string())], &[], NO_QUOTA);
        }
    }

    fn rest(&mut self, r: &Resources) {
        for (file, list) in [("cpuset.cpus", &r.cpuset_cpus), ("cpuset.mems", &r.cpuset_mems)] {
            if let Some(list) = list.as_ref().filter(|l| !l.is_empty()) {
                let choice = [(file, list.clone())];
                self.set(Controller::Cpuset, &choice, &choice, NO_CPUSET);
            }
        }
        if let Some(limit) = r.pids.filter(|n| *n > 0) {
            let choice = [("pids.max", limit.to_string())];
            self.set(Controller::Pids, &choice, &choice, NO_PIDS);
        }
        if let Some(weight) = r.blkio_weight.filter(|w| *w > 0) {
            let bfq = weight.to_string();
            // `blkio.weight` was the CFQ scheduler's, gone in 5.0, and returns where BFQ is built as its heir.
            let v1 = [("blkio.weight", bfq.clone()), ("blkio.bfq.weight", bfq.clone())];
            let v2 = [("io.bfq.weight", bfq), ("io.weight", io_weight(weight).to_string())];
            self.set(Controller::Io, &v1, &v2, NO_WEIGHT);
        }
    }

    fn devices(&mut self, devices: &[DeviceSetting]) {
        for d in devices {
            let (number, value) = (format!("{}:{}", d.major, d.minor), d.value);
            let v1 = |name| vec![(name, format!("{number} {value}"))];
            let v2 = |key: &str| vec![("io.max", format!("{number} {key}={value}"))];
            let (old, new, missing) = match d.kind {
                DeviceKind::ReadBps => (v1("blkio.throttle.read_bps_device"), v2("rbps"), NO_READ_BPS),
                DeviceKind::WriteBps => (v1("blkio.throttle.write_bps_device"), v2("wbps"), NO_WRITE_BPS),
                DeviceKind::ReadIops => (v1("blkio.throttle.read_iops_device"), v2("riops"), NO_READ_IOPS),
                DeviceKind::WriteIops => (v1("blkio.throttle.write_iops_device"), v2("wiops"), NO_WRITE_IOPS),
                DeviceKind::Weight => {
                    let bfq = format!("{number} {value}");
                    let scaled = format!("{number} {}", io_weight(u16::try_from(value).unwrap_or(1000)));
                    (
                        vec![
                            ("blkio.weight_device", bfq.clone()),
                            ("blkio.bfq.weight_device", bfq.clone()),
                        ],
                        vec![("io.bfq.weight", bfq), ("io.weight", scaled)],
                        NO_WEIGHT_DEVICE,
                    )
                }
            };
            self.set(Controller::Io, &old, &new, missing);
        }
    }
}

/// Memory and swap together; `None` leaves swap alone. Twice the memory unless said otherwise (F299).
fn swap_total(memory: u64, asked: Option<i64>) -> Option<u64> {
    match asked {
        None | Some(0) => Some(memory.saturating_mul(2)),
        Some(total) => u64::try_from(total).ok(),
    }
}

/// v1's 2 to 262144 on v2's 1 to 10000 (F300).
fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// blkio's 10 to 1000 on io's 1 to 10000.
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).clamp(10, 1000) - 10) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(set: fn(&mut Resources)) -> Resources {
        let mut resources = Resources::default();
        set(&mut resources);
        resources
    }

    const MIB: u64 = 1 << 20;

    fn all() -> Controllers {
        Controller::V2.into_iter().collect()
    }

    fn v1() -> Available {
        Available {
            v1: all(),
            v2: Controllers::default(),
        }
    }

    fn v2() -> Available {
        Available {
            v1: Controllers::default(),
            v2: all(),
        }
    }

    /// `file=value` for each write; alternatives stand apart by `|`.
    fn written(resources: &Resources, available: Available) -> Vec<String> {
        let plan = plan(resources, &[], available);
        assert_eq!(plan.warnings, Vec::<String>::new());
        plan.writes.iter().map(text).collect()
    }

    fn text(write: &Write) -> String {
        write
            .choices
            .iter()
            .map(|(file, value)| format!("{file}={value}"))
            .collect::<Vec<_>>()
            .join("|")
    }

    #[test]
    fn settings_of_both_versions() {
        let table: Vec<(Resources, &[&str], &[&str])> = vec![
            (Resources::default(), &[], &[]),
            (
                with(|r| r.memory = Some(64 * MIB)),
                &[
                    "memory.limit_in_bytes=67108864",
                    "memory.memsw.limit_in_bytes=134217728",
                    "memory.soft_limit_in_bytes=67108864",
                ],
                &["memory.max=67108864", "memory.swap.max=67108864"],
            ),
            (
                with(|r| (r.memory, r.memory_swap) = (Some(64 * MIB), Some(-1))),
                &["memory.limit_in_bytes=67108864", "memory.soft_limit_in_bytes=67108864"],
                &["memory.max=67108864"],
            ),
            (
                with(|r| (r.memory, r.memory_swap, r.memory_reservation) = (Some(MIB), Some(1 << 20), Some(MIB / 2))),
                &[
                    "memory.limit_in_bytes=1048576",
                    "memory.memsw.limit_in_bytes=1048576",
                    "memory.soft_limit_in_bytes=524288",
                ],
                &["memory.max=1048576", "memory.swap.max=0", "memory.low=524288"],
            ),
            (with(|r| (r.memory, r.memory_swap) = (Some(0), Some(0))), &[], &[]),
            (
                with(|r| r.cpu_shares = Some(1024)),
                &["cpu.shares=1024"],
                &["cpu.weight=39"],
            ),
            (with(|r| r.cpu_shares = Some(2)), &["cpu.shares=2"], &["cpu.weight=1"]),
            (
                with(|r| r.cpu_shares = Some(262_144)),
                &["cpu.shares=262144"],
                &["cpu.weight=10000"],
            ),
            (
                with(|r| (r.cpu_quota, r.cpu_period) = (Some(150_000), Some(100_000))),
                &["cpu.cfs_period_us=100000", "cpu.cfs_quota_us=150000"],
                &["cpu.max=150000 100000"],
            ),
            (
                with(|r| r.cpu_quota = Some(50_000)),
                &["cpu.cfs_quota_us=50000"],
                &["cpu.max=50000 100000"],
            ),
            (
                with(|r| r.cpu_period = Some(50_000)),
                &["cpu.cfs_period_us=50000"],
                &["cpu.max=max 50000"],
            ),
            (with(|r| r.cpu_quota = Some(-1)), &[], &[]),
            (
                with(|r| (r.cpuset_cpus, r.cpuset_mems) = (Some("0-1".into()), Some("0".into()))),
                &["cpuset.cpus=0-1", "cpuset.mems=0"],
                &["cpuset.cpus=0-1", "cpuset.mems=0"],
            ),
            (with(|r| r.pids = Some(100)), &["pids.max=100"], &["pids.max=100"]),
            (with(|r| r.pids = Some(-1)), &[], &[]),
            (
                with(|r| r.blkio_weight = Some(1000)),
                &["blkio.weight=1000|blkio.bfq.weight=1000"],
                &["io.bfq.weight=1000|io.weight=10000"],
            ),
        ];
        for (resources, in_v1, in_v2) in table {
            assert_eq!(written(&resources, v1()), in_v1, "v1: {resources:?}");
            assert_eq!(written(&resources, v2()), in_v2, "v2: {resources:?}");
        }
    }

    #[test]
    fn only_v1_has_swappiness_and_no_oom_killer() {
        let r = with(|r| (r.memory_swappiness, r.oom_kill_disable) = (Some(0), true));
        assert_eq!(written(&r, v1()), ["memory.swappiness=0", "memory.oom_control=1"]);
        let plan = plan(&r, &[], v2());
        assert_eq!(plan.writes, []);
        assert_eq!(plan.warnings, [NO_SWAPPINESS, NO_OOM_DISABLE]);
    }

    #[test]
    fn one_warning_for_each_limit_without_a_controller() {
        let table = [
            (with(|r| r.memory = Some(MIB)), vec![NO_MEMORY]),
            (
                with(|r| (r.memory, r.memory_reservation) = (Some(MIB), Some(MIB))),
                vec![NO_MEMORY, NO_RESERVATION],
            ),
            (with(|r| r.cpu_shares = Some(10)), vec![NO_SHARES]),
            (
                with(|r| (r.cpu_quota, r.cpu_period) = (Some(1000), Some(1000))),
                vec![NO_QUOTA],
            ),
            (
                with(|r| (r.cpuset_cpus, r.cpuset_mems) = (Some("0".into()), Some("0".into()))),
                vec![NO_CPUSET],
            ),
            (with(|r| r.pids = Some(1)), vec![NO_PIDS]),
            (with(|r| r.blkio_weight = Some(10)), vec![NO_WEIGHT]),
            (with(|r| r.oom_kill_disable = true), vec![NO_OOM_DISABLE]),
        ];
        for (resources, warnings) in table {
            let plan = plan(&resources, &[], Available::default());
            assert_eq!(plan.writes, [], "{resources:?}");
            assert_eq!(plan.warnings, warnings, "{resources:?}");
        }
    }

    #[test]
    fn a_missing_swap_file_speaks_of_swap_alone() {
        let plan = plan(&with(|r| r.memory = Some(MIB)), &[], v1());
        let missing: Vec<_> = plan.writes.iter().map(|w| w.missing).collect();
        assert_eq!(missing, [NO_MEMORY, NO_SWAP, NO_RESERVATION]);
    }

    #[test]
    fn hybrid_takes_each_limit_to_its_own_version() {
        let available = Available {
            v1: Controllers::from_file(b"memory"),
            v2: Controllers::from_file(b"pids cpu"),
        };
        let r = with(|r| (r.memory, r.memory_swap, r.pids) = (Some(MIB), Some(-1), Some(5)));
        let versions: Vec<_> = plan(&r, &[], available).writes.iter().map(|w| w.version).collect();
        assert_eq!(versions, [Version::V1, Version::V1, Version::V2]);
    }

    #[test]
    fn limits_of_block_devices() {
        let device = |kind, value| DeviceSetting {
            kind,
            major: 8,
            minor: 16,
            value,
        };
        for (set, old, new) in [
            (
                device(DeviceKind::ReadBps, 9),
                "blkio.throttle.read_bps_device=8:16 9",
                "io.max=8:16 rbps=9",
            ),
            (
                device(DeviceKind::WriteBps, 9),
                "blkio.throttle.write_bps_device=8:16 9",
                "io.max=8:16 wbps=9",
            ),
            (
                device(DeviceKind::ReadIops, 9),
                "blkio.throttle.read_iops_device=8:16 9",
                "io.max=8:16 riops=9",
            ),
            (
                device(DeviceKind::WriteIops, 9),
                "blkio.throttle.write_iops_device=8:16 9",
                "io.max=8:16 wiops=9",
            ),
            (
                device(DeviceKind::Weight, 1000),
                "blkio.weight_device=8:16 1000|blkio.bfq.weight_device=8:16 1000",
                "io.bfq.weight=8:16 1000|io.weight=8:16 10000",
            ),
        ] {
            for (available, want) in [(v1(), old), (v2(), new)] {
                let plan = plan(&Resources::default(), &[set], available);
                assert_eq!(plan.writes.iter().map(text).collect::<Vec<_>>(), [want]);
            }
            assert_eq!(
                plan(&Resources::default(), &[set, set], Available::default())
                    .warnings
                    .len(),
                1
            );
        }
    }
}
