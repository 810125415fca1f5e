//! Limits that no kernel could keep, refused when a container is made: one clear line instead of a failed start.
//! The texts are docker's, which scripts know.

use crate::error::{Error, Result};
use crate::model::resources::Resources;
use crate::runtime::cgroup::file;
use crate::runtime::cgroup::host::{Controller, Host, Version};
use rustix::fs::CWD;

/// What a limit can ask for at most; looked up only as far as a limit asks.
trait Machine {
    /// CPUs this process may use.
    fn cpus(&self) -> usize;
    /// The list of CPUs or memory nodes a container could be given, `None` if that can't be told.
    fn cpuset(&self, file: &str) -> Option<String>;
}

/// The one we run on.
struct ThisMachine;

impl Machine for ThisMachine {
    fn cpus(&self) -> usize {
        let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap_or_default();
        (0..nix::sched::CpuSet::count())
            .filter(|cpu| set.is_set(*cpu).unwrap_or(false))
            .count()
            .max(1)
    }

    fn cpuset(&self, file: &str) -> Option<String> {
        let host = Host::probe().ok()?;
        let hierarchy = host
            .hierarchies
            .iter()
            .find(|h| h.controllers.contains(Controller::Cpuset))?;
        let suffix = if hierarchy.version == Version::V2 {
            ".effective"
        } else {
            ""
        };
        let text = file::read(CWD, hierarchy.mount.join(format!("{file}{suffix}"))).ok()?;
        Some(String::from_utf8(text).ok()?.trim().to_owned())
    }
}

/// Refuses impossible and contradictory limits.
pub(crate) fn check(resources: &Resources) -> Result<()> {
    verify(resources, &ThisMachine).map_err(Error::other)
}

fn verify(r: &Resources, machine: &impl Machine) -> Result<(), String> {
    memory(r)?;
    cpu(r, machine)?;
    for (file, asked, what) in [
        ("cpuset.cpus", &r.cpuset_cpus, "CPUs"),
        ("cpuset.mems", &r.cpuset_mems, "memory nodes"),
    ] {
        if let Some(asked) = asked.as_deref().filter(|a| !a.is_empty()) {
            cpuset(file, asked, what, machine)?;
        }
    }
    if r.pids.is_some_and(|n| n < -1) {
        return Err("Invalid pids limit: the minimum is -1, which is no limit".to_owned());
    }
    if r.blkio_weight.is_some_and(|w| w != 0 && !(10..=1000).contains(&w)) {
        return Err("Range of blkio weight is from 10 to 1000".to_owned());
    }
    if let Some(limit) = r.blkio.weight.iter().find(|l| !(10..=1000).contains(&l.value)) {
        return Err(format!(
            "invalid weight for device: {}:{}",
            limit.path.display(),
            limit.value
        ));
    }
    if let (Some(runtime), Some(period)) = (r.cpu_rt_runtime, r.cpu_rt_period)
        && u64::try_from(runtime).is_ok_and(|r| r > period)
    {
        return Err("cpu real-time runtime cannot be higher than cpu real-time period".to_owned());
    }
    Ok(())
}

/// F088's minimum; a statically linked program does run in it.
const LEAST_MEMORY: u64 = 524_288;

fn memory(r: &Resources) -> Result<(), String> {
    let limit = r.memory.unwrap_or(0);
    let reservation = r.memory_reservation.unwrap_or(0);
    if (1..LEAST_MEMORY).contains(&limit) {
        return Err(format!(
            "Memory limit must be given in bytes (minimum {LEAST_MEMORY} bytes)"
        ));
    }
    if (1..LEAST_MEMORY).contains(&reservation) {
        return Err(format!(
            "Memory reservation must be given in bytes (minimum {LEAST_MEMORY} bytes)"
        ));
    }
    if limit > 0 && limit < reservation {
        return Err("Minimum memory limit can not be less than memory reservation limit, see usage".to_owned());
    }
    match r.memory_swap {
        Some(total) if total < -1 => {
            return Err(format!(
                "Invalid memory-swap {total}: want a size, or -1 for no limit on swap"
            ));
        }
        Some(1..) if limit == 0 => {
            return Err("You should always set the Memory limit when using Memoryswap limit, see usage".to_owned());
        }
        Some(total) if u64::try_from(total).is_ok_and(|t| t > 0 && t < limit) => {
            return Err("Minimum memoryswap limit should be larger than memory limit, see usage".to_owned());
        }
        _ => {}
    }
    match r.memory_swappiness {
        Some(s) if s > 100 => Err(format!("Invalid value: {s}, valid memory swappiness range is 0-100")),
        _ => Ok(()),
    }
}

fn cpu(r: &Resources, machine: &impl Machine) -> Result<(), String> {
    if let Some(nano) = r.nano_cpus.filter(|n| *n > 0) {
        let cpus = machine.cpus();
        if nano < 10_000_000 || u128::from(nano) > cpus as u128 * 1_000_000_000 {
            return Err(format!(
                "Range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
            ));
        }
    }
    match r.cpu_shares {
        Some(1) => return Err("The minimum allowed cpu-shares is 2".to_owned()),
        Some(262_145..) => return Err("The maximum allowed cpu-shares is 262144".to_owned()),
        _ => {}
    }
    if r.cpu_period.is_some_and(|p| p != 0 && !(1000..=1_000_000).contains(&p)) {
        return Err("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)".to_owned());
    }
    match r.cpu_quota {
        Some(q) if q < -1 || (1..1000).contains(&q) => {
            Err("CPU cfs quota can not be less than 1ms (i.e. 1000)".to_owned())
        }
        _ => Ok(()),
    }
}

fn cpuset(file: &str, asked: &str, what: &str, machine: &impl Machine) -> Result<(), String> {
    let wanted = parse_list(asked).ok_or_else(|| format!("Invalid value {asked} for {}", file.replace('.', " ")))?;
    let Some(available) = machine.cpuset(file) else {
        return Ok(());
    };
    let ranges = parse_list(&available).unwrap_or_default();
    let inside = |number: u32| ranges.iter().any(|(first, last)| (*first..=*last).contains(&number));
    if wanted.iter().all(|(first, last)| (*first..=*last).all(inside)) {
        return Ok(());
    }
    Err(format!(
        "Requested {what} are not available - requested {asked}, available: {available}"
    ))
}

/// cpuset(7)'s list format, `0-3,5`, as inclusive ranges.
fn parse_list(list: &str) -> Option<Vec<(u32, u32)>> {
    /// More than any kernel is built for.
    const MOST: u32 = 1 << 16;
    let range = |item: &str| {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (first, last) = (number(first)?, number(last)?);
        (first <= last && last < MOST).then_some((first, last))
    };
    list.split(',').map(range).collect()
}

/// Digits only: `parse` alone would take `+1`.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(set: fn(&mut Resources)) -> Resources {
        let mut resources = Resources::default();
        set(&mut resources);
        resources
    }

    struct TwoCpus;

    impl Machine for TwoCpus {
        fn cpus(&self) -> usize {
            2
        }

        fn cpuset(&self, file: &str) -> Option<String> {
            Some(if file == "cpuset.cpus" {
                "0-1".to_owned()
            } else {
                "0".to_owned()
            })
        }
    }

    #[test]
    fn impossible_limits() {
        let table = [
            (with(|r| r.memory = Some(1)), "minimum 524288 bytes"),
            (with(|r| r.memory = Some(524_287)), "minimum 524288 bytes"),
            (with(|r| r.memory_reservation = Some(5)), "minimum 524288 bytes"),
            (
                with(|r| (r.memory, r.memory_reservation) = (Some(1 << 20), Some(1 << 21))),
                "can not be less than memory reservation",
            ),
            (with(|r| r.memory_swap = Some(1 << 20)), "always set the Memory limit"),
            (
                with(|r| (r.memory, r.memory_swap) = (Some(1 << 21), Some(1 << 20))),
                "larger than memory limit",
            ),
            (
                with(|r| (r.memory, r.memory_swap) = (Some(1 << 21), Some(-2))),
                "memory-swap -2",
            ),
            (with(|r| r.memory_swappiness = Some(101)), "range is 0-100"),
            (with(|r| r.nano_cpus = Some(1)), "Range of CPUs is from 0.01 to 2.00"),
            (
                with(|r| r.nano_cpus = Some(2_000_000_001)),
                "as there are only 2 CPUs available",
            ),
            (with(|r| r.nano_cpus = Some(u64::MAX)), "Range of CPUs"),
            (with(|r| r.cpu_shares = Some(1)), "cpu-shares is 2"),
            (with(|r| r.cpu_shares = Some(u64::MAX)), "cpu-shares is 262144"),
            (with(|r| r.cpu_period = Some(999)), "cfs period"),
            (with(|r| r.cpu_quota = Some(999)), "cfs quota"),
            (
                with(|r| r.cpuset_cpus = Some("0-9".into())),
                "requested 0-9, available: 0-1",
            ),
            (
                with(|r| r.cpuset_cpus = Some("x".into())),
                "Invalid value x for cpuset cpus",
            ),
            (with(|r| r.cpuset_cpus = Some("1-0".into())), "Invalid value 1-0"),
            (with(|r| r.cpuset_cpus = Some("+1".into())), "Invalid value +1"),
            (with(|r| r.cpuset_cpus = Some("0-4294967295".into())), "Invalid value"),
            (
                with(|r| r.cpuset_mems = Some("1".into())),
                "Requested memory nodes are not available",
            ),
            (with(|r| r.pids = Some(-2)), "pids limit"),
            (with(|r| r.blkio_weight = Some(9)), "from 10 to 1000"),
        ];
        for (resources, text) in table {
            let error = verify(&resources, &TwoCpus).unwrap_err();
            assert!(error.contains(text), "{resources:?}: {error}");
        }
    }

    #[test]
    fn possible_limits() {
        for resources in [
            Resources::default(),
            with(|r| (r.memory, r.memory_swap) = (Some(524_288), Some(524_288))),
            with(|r| (r.memory, r.memory_swap) = (Some(0), Some(-1))),
            with(|r| (r.nano_cpus, r.cpu_shares) = (Some(2_000_000_000), Some(0))),
            with(|r| (r.cpuset_cpus, r.cpuset_mems) = (Some("0,1".into()), Some("0-0".into()))),
            with(|r| (r.pids, r.blkio_weight, r.cpu_quota) = (Some(-1), Some(0), Some(-1))),
        ] {
            assert_eq!(verify(&resources, &TwoCpus), Ok(()), "{resources:?}");
        }
    }

    #[test]
    fn this_machine_has_its_own_cpus() {
        assert!(ThisMachine.cpus() >= 1);
        let first = ThisMachine.cpuset("cpuset.cpus").unwrap_or_default();
        assert!(first.is_empty() || parse_list(&first).is_some(), "{first}");
    }
}
