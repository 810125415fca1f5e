//! What `info` warns of, and what can be done about it. The first words are docker's where it has the warning, since
//! scripts look for them.

use crate::output::units;

/// What there is to warn of, looked up by `info`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// Bytes free for root's processes where images and containers are, and all of them.
    pub(crate) free: u64,
    pub(crate) size: u64,
    /// Files that can still be made there, and all; 0 where they are not counted.
    pub(crate) free_files: u64,
    pub(crate) files: u64,
    /// The run directory is in memory, and so is gone after a reboot.
    pub(crate) run_in_memory: bool,
    /// Of one user (inotify(7)): every `logs -f`, `events` and `wait` needs one.
    pub(crate) inotify_instances: u64,
    pub(crate) threads: u64,
    /// `DOCKER_HOST` or `CONTAINER_HOST` name another engine.
    pub(crate) remote: bool,
}

/// What to do where the kernel lacks what docker's words say.
pub(crate) fn remedy(warning: &str) -> &'static str {
    match warning {
        "No memory limit support" => ": boot with cgroup_enable=memory",
        "No swap limit support" => ": boot with swapaccount=1",
        "No cpu cfs quota support" | "No cpu shares support" => {
            ": the kernel lacks CONFIG_CFS_BANDWIDTH, or the cpu controller is not given to this group"
        }
        "No cpuset support" => ": the cpuset controller is not mounted, or not given to this group",
        "No blkio weight support" => ": the io controller is not given to this group",
        "No pids limit support" => ": the pids controller is not given to this group",
        "IPv4 forwarding is disabled" => ": containers reach nothing beyond the host; sysctl -w net.ipv4.ip_forward=1",
        _ => "",
    }
}

/// In the order of urgency.
pub(crate) fn advice(facts: Facts) -> Vec<String> {
    let mut all = Vec::new();
    // A twentieth, or what a small image takes.
    if facts.size > 0 && facts.free < (facts.size / 20).min(1 << 30) {
        all.push(format!(
            "only {} are left for images and containers: barge system df -v shows what takes it, barge system prune makes room",
            units::size(facts.free)
        ));
    }
    if facts.files > 0 && facts.free_files < facts.files / 20 {
        all.push(format!(
            "only {} more files can be made for images and containers: barge system prune removes some",
            facts.free_files
        ));
    }
    if !facts.run_in_memory {
        all.push("the run directory is not in memory: what it says of running containers outlives a reboot, and secrets reach the disk; put --run-root on a tmpfs".to_owned());
    }
    if facts.inotify_instances < 128 {
        all.push(format!(
            "only {} inotify instances for each user: logs -f, events and wait may fail; sysctl -w fs.inotify.max_user_instances=1024",
            facts.inotify_instances
        ));
    }
    if facts.threads < 4096 {
        all.push(format!(
            "the kernel allows only {} threads: sysctl -w kernel.threads-max=65536",
            facts.threads
        ));
    }
    if facts.remote {
        all.push("DOCKER_HOST or CONTAINER_HOST is set, and ignored: this engine is local only".to_owned());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: Facts = Facts {
        free: 50 << 30,
        size: 100 << 30,
        free_files: 1000,
        files: 2000,
        run_in_memory: true,
        inotify_instances: 128,
        threads: 100_000,
        remote: false,
    };

    #[test]
    fn each_says_what_to_do() {
        assert_eq!(advice(FINE), [""; 0]);
        for (facts, what) in [
            (Facts { free: 1 << 20, ..FINE }, "barge system prune"),
            (Facts { free_files: 3, ..FINE }, "more files"),
            (
                Facts {
                    run_in_memory: false,
                    ..FINE
                },
                "--run-root on a tmpfs",
            ),
            (
                Facts {
                    inotify_instances: 8,
                    ..FINE
                },
                "max_user_instances",
            ),
            (Facts { threads: 100, ..FINE }, "threads-max"),
            (Facts { remote: true, ..FINE }, "local only"),
        ] {
            let all = advice(facts);
            assert!(all.len() == 1 && all[0].contains(what), "{all:?}");
        }
        // Some file systems count no files.
        assert_eq!(
            advice(Facts {
                files: 0,
                free_files: 0,
                ..FINE
            }),
            [""; 0]
        );
    }
}
