//! What a container uses, as its control groups count it.

use crate::runtime::cgroup::file;
use crate::runtime::cgroup::host::{Controller, Controllers, Host, Version};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A reading; what no controller counts is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    /// Bytes, without the file cache that can be dropped at once.
    pub(crate) memory: u64,
    /// Bytes; `None` is no limit.
    pub(crate) memory_limit: Option<u64>,
    /// CPU time of all its processes so far.
    pub(crate) cpu: Duration,
    /// Processes and threads.
    pub(crate) pids: u64,
    /// Bytes from and to block devices.
    pub(crate) read: u64,
    pub(crate) written: u64,
}

/// Reads the groups at `paths`.
pub(crate) fn stats(host: &Host, paths: &[PathBuf]) -> Stats {
    let mut stats = Stats::default();
    let mut unified = None;
    for hierarchy in &host.hierarchies {
        let Some(dir) = paths.iter().find(|p| p.starts_with(&hierarchy.mount)) else {
            continue;
        };
        unified = unified.or((hierarchy.version == Version::V2).then_some(dir));
        match hierarchy.version {
            Version::V2 => stats.add_v2(dir, hierarchy.controllers),
            Version::V1 => {
                let name = hierarchy.mount.file_name().map(|n| n.to_string_lossy());
                stats.add_v1(dir, &name.unwrap_or_default());
            }
        }
    }
    // Kept by every group of v2, whether or not it has the controller; v1's own count is finer.
    if stats.cpu.is_zero()
        && let Some(used) = unified.and_then(|dir| value(dir, "cpu.stat", "usage_usec"))
    {
        stats.cpu = Duration::from_micros(used);
    }
    stats
}

impl Stats {
    fn add_v2(&mut self, dir: &Path, has: Controllers) {
        if has.contains(Controller::Memory)
            && let Some(used) = number(dir, "memory.current")
        {
            self.memory = used.saturating_sub(value(dir, "memory.stat", "inactive_file").unwrap_or(0));
            self.memory_limit = number(dir, "memory.max");
        }
        if has.contains(Controller::Pids)
            && let Some(pids) = number(dir, "pids.current")
        {
            self.pids = pids;
        }
        if has.contains(Controller::Io) {
            let (read, written) = io_of_v2(&text(dir, "io.stat"));
            (self.read, self.written) = (self.read + read, self.written + written);
        }
    }

    fn add_v1(&mut self, dir: &Path, mount: &str) {
        let mut controllers = mount.split(',');
        let has = |name: &str| controllers.clone().any(|c| c == name);
        if has("memory")
            && let Some(used) = number(dir, "memory.usage_in_bytes")
        {
            self.memory = used.saturating_sub(value(dir, "memory.stat", "total_inactive_file").unwrap_or(0));
            // "No limit" is the largest number of pages.
            self.memory_limit = number(dir, "memory.limit_in_bytes").filter(|n| *n < 1 << 62);
        }
        if has("cpuacct")
            && let Some(used) = number(dir, "cpuacct.usage")
        {
            self.cpu = Duration::from_nanos(used);
        }
        if has("pids") {
            self.pids = number(dir, "pids.current").unwrap_or(0);
        }
        if controllers.any(|c| c == "blkio") {
            let (read, written) = io_of_v1(&text(dir, "blkio.throttle.io_service_bytes"));
            (self.read, self.written) = (self.read + read, self.written + written);
        }
    }
}

fn text(dir: &Path, name: &str) -> String {
    String::from_utf8(file::read_record(&dir.join(name)).unwrap_or_default()).unwrap_or_default()
}

fn number(dir: &Path, name: &str) -> Option<u64> {
    text(dir, name).trim().parse().ok()
}

fn value(dir: &Path, name: &str, key: &str) -> Option<u64> {
    file::value_of(text(dir, name).as_bytes(), key)
}

/// Lines `8:0 rbytes=1 wbytes=2 rios=…`.
fn io_of_v2(text: &str) -> (u64, u64) {
    let sum = |key: &str| {
        let words = text.split_ascii_whitespace();
        words
            .filter_map(|w| w.strip_prefix(key)?.parse::<u64>().ok())
            .fold(0, u64::saturating_add)
    };
    (sum("rbytes="), sum("wbytes="))
}

/// Lines `8:0 Read 1`, and a total.
fn io_of_v1(text: &str) -> (u64, u64) {
    let sum = |key: &str| {
        text.lines()
            .filter_map(|line| {
                let mut words = line.split_ascii_whitespace();
                let (_, kind, bytes) = (words.next()?, words.next()?, words.next()?);
                (kind == key).then(|| bytes.parse::<u64>().ok())?
            })
            .fold(0, u64::saturating_add)
    };
    (sum("Read"), sum("Write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_block_devices() {
        let v2 = "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:16 rbytes=5 wbytes=0\n";
        assert_eq!(io_of_v2(v2), (15, 20));
        let v1 = "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\n8:16 Read 5\nTotal 35\n";
        assert_eq!(io_of_v1(v1), (15, 20));
        assert_eq!((io_of_v1(""), io_of_v2("")), ((0, 0), (0, 0)));
    }
}
