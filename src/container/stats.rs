//! What running containers use: one reading of each, and what two readings say.

use crate::container::list::{Selection, list};
use crate::container::status::status;
use crate::error::{Kind, Result};
use crate::model::id::ContainerId;
use crate::model::state::{Phase, Status};
use crate::model::time::Timestamp;
use crate::runtime::cgroup::{self, Stats};
use crate::store::Store;
use std::fs::File;
use std::io::Read as _;
use std::time::{Duration, Instant};

/// One container at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub(crate) id: ContainerId,
    pub(crate) name: String,
    /// `None` of one that does not run.
    pub(crate) used: Option<Used>,
}

#[derive(Debug, Clone)]
pub(crate) struct Used {
    pub(crate) stats: Stats,
    /// Bytes received and sent by all interfaces but loopback.
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// How long the program has been running.
    age: Duration,
    at: Instant,
}

impl Reading {
    /// CPUs in use, 1.0 is one of them whole: since `before`, or without that since the start.
    pub(crate) fn cpus(&self, before: Option<&Reading>) -> f64 {
        let Some(now) = &self.used else { return 0.0 };
        let (used, time) = match before
            .and_then(|b| b.used.as_ref())
            .filter(|b| b.stats.cpu <= now.stats.cpu)
        {
            Some(then) => (now.stats.cpu - then.stats.cpu, now.at - then.at),
            None => (now.stats.cpu, now.age),
        };
        match time.is_zero() {
            true => 0.0,
            false => used.as_secs_f64() / time.as_secs_f64(),
        }
    }
}

/// A container that is to be read, and what it does.
pub(crate) struct Chosen {
    id: ContainerId,
    name: String,
    status: Status,
}

/// The containers that are read: these as far as they are still there, or if none is named those that run, or all.
pub(crate) fn select(store: &Store, named: &[ContainerId], all: bool) -> Result<Vec<Chosen>> {
    if !named.is_empty() {
        let chosen = |id: &ContainerId| match store.config(id) {
            Ok(config) => Some(Ok(Chosen {
                id: id.clone(),
                name: config.name,
                status: status(store, id),
            })),
            Err(e) if e.kind() == Kind::NotFound => None,
            Err(e) => Some(Err(e)),
        };
        return named.iter().filter_map(chosen).collect();
    }
    let selection = Selection {
        all,
        ..Selection::default()
    };
    let entries = list(store, &selection)?.into_iter();
    let chosen = entries.map(|e| Chosen {
        id: e.id,
        name: e.summary.map(|s| s.name).unwrap_or_default(),
        status: e.status,
    });
    Ok(chosen.collect())
}

/// Reads them all, by several threads if they are many.
pub(crate) fn read(containers: &[Chosen]) -> Result<Vec<Reading>> {
    const WORTH_A_THREAD: usize = 25;
    let host = cgroup::Host::probe()?;
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = containers.len().div_ceil(threads).max(WORTH_A_THREAD);
    let read = |some: &[Chosen]| some.iter().map(|chosen| one(&host, chosen)).collect();
    let (first, rest) = containers.split_at(share.min(containers.len()));
    Ok(std::thread::scope(|scope| {
        let others: Vec<_> = rest.chunks(share).map(|some| scope.spawn(|| read(some))).collect();
        let mut readings: Vec<Reading> = read(first);
        for other in others {
            readings.extend(other.join().unwrap_or_default());
        }
        readings
    }))
}

fn one(host: &cgroup::Host, chosen: &Chosen) -> Reading {
    let used = match &chosen.status {
        Status::Running(live) => match live.phase {
            Phase::Running { init, started } => {
                let (received, sent) = network(init.pid);
                let age = Timestamp::now().duration_since(started);
                Some(Used {
                    stats: cgroup::stats(host, &live.cgroups),
                    received,
                    sent,
                    age: Duration::try_from(age).unwrap_or_default(),
                    at: Instant::now(),
                })
            }
            _ => None,
        },
        _ => None,
    };
    Reading {
        id: chosen.id.clone(),
        name: chosen.name.clone(),
        used,
    }
}

/// Of some thousand interfaces.
const LONGEST: u64 = 1 << 20;

/// From the interfaces of the container's network namespace (proc_pid_net(5)).
fn network(pid: i32) -> (u64, u64) {
    // With room for all of it: by itself, std begins with 32 bytes where a file says that it is empty.
    let mut text = Vec::with_capacity(4096);
    let read = File::open(format!("/proc/{pid}/net/dev")).and_then(|file| file.take(LONGEST).read_to_end(&mut text));
    match read {
        Ok(_) => sum_of_interfaces(&String::from_utf8_lossy(&text)),
        Err(_) => (0, 0),
    }
}

fn sum_of_interfaces(text: &str) -> (u64, u64) {
    let mut sum = (0u64, 0u64);
    for line in text.lines().skip(2) {
        let Some((name, counts)) = line.split_once(':') else {
            continue;
        };
        if name.trim() == "lo" {
            continue;
        }
        let counts: Vec<u64> = counts.split_ascii_whitespace().map_while(|c| c.parse().ok()).collect();
        sum.0 = sum.0.saturating_add(counts.first().copied().unwrap_or(0));
        sum.1 = sum.1.saturating_add(counts.get(8).copied().unwrap_or(0));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_but_loopback() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs\n    \
                    lo:     100       1    0    0    0     0          0         0      100       1    0\n  \
                    eth0:    7000      12    0    0    0     0          0         0     1234       9    0\n  \
                    eth1:       1       1    0    0    0     0          0         0        2       1    0\n";
        assert_eq!(sum_of_interfaces(text), (7001, 1236));
        assert_eq!(sum_of_interfaces(""), (0, 0));
    }

    #[test]
    fn cpus_between_two_readings() {
        let begin = Instant::now();
        let reading = |cpu, at| Reading {
            id: ContainerId::from_random(&[1; 32]),
            name: String::new(),
            used: Some(Used {
                stats: Stats {
                    cpu: Duration::from_millis(cpu),
                    ..Stats::default()
                },
                received: 0,
                sent: 0,
                age: Duration::from_secs(10),
                at: begin + Duration::from_millis(at),
            }),
        };
        let (one, two) = (reading(1000, 0), reading(2500, 1000));
        assert!((two.cpus(Some(&one)) - 1.5).abs() < 1e-9);
        assert!((one.cpus(None) - 0.1).abs() < 1e-9);
        // Started again in between: its count began anew.
        assert!((one.cpus(Some(&two)) - 0.1).abs() < 1e-9);
    }
}
