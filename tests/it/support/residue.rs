//! The end of every root test: removes what the test made on purpose, and finds what should not be there any more.
//!
//! The kernel finishes some of it after the command has returned; what is not gone after five seconds is a leak.

use super::Host;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const KERNEL_NEEDS_AT_MOST: Duration = Duration::from_secs(5);

/// What is being deleted when a test ends.
const DELETING_TAKES_AT_MOST: Duration = Duration::from_secs(60);

/// Removes the containers and directories of this host; gives what was left besides.
pub fn clear_and_check(host: &Host) -> Vec<String> {
    let ids = if host.root.exists() {
        names_in(&host.root.join("containers"))
    } else {
        Vec::new()
    };
    if !ids.is_empty() {
        let mut args = vec!["rm".to_owned(), "-f".to_owned(), "-v".to_owned()];
        args.extend(ids.iter().cloned());
        let removed = host.barge(args).run();
        // One that goes by itself (--rm) at this moment is gone too.
        let stays = !names_in(&host.root.join("containers")).is_empty();
        if removed.code != 0 && stays && !std::thread::panicking() {
            return vec![format!("rm -f -v: {}", removed.err())];
        }
    }
    // Large images are deleted by a child that nobody waits for; a slow disk takes its time.
    let deadline = Instant::now() + DELETING_TAKES_AT_MOST;
    while !names_in(&host.root.join("staging")).is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let deadline = Instant::now() + KERNEL_NEEDS_AT_MOST;
    let left = loop {
        let left = all_residue(host, &ids);
        if left.is_empty() || Instant::now() > deadline {
            break left;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    if !left.is_empty() {
        put_away(host, &ids);
    }
    for dir in cgroups(host, &ids).iter().rev() {
        let _ = fs::remove_dir(dir);
    }
    let _ = fs::remove_dir_all(&host.run_root);
    let _ = fs::remove_dir_all(&host.dir);
    left
}

fn all_residue(host: &Host, ids: &[String]) -> Vec<String> {
    let mut left = store_residue(host);
    left.extend(process_residue(host, ids).into_iter().map(|(_, what)| what));
    let base = host.instance.as_str();
    let below_base = |dir: &&PathBuf| dir.file_name().is_none_or(|name| name != base);
    left.extend(
        cgroups(host, ids)
            .iter()
            .filter(below_base)
            .map(|dir| format!("cgroup {}", dir.display())),
    );
    left
}

fn names_in(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .filter_map(|e| Some(e.ok()?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// What stands in the engine's own directories. Named volumes are the user's; those without a name go with their
/// container.
fn store_residue(host: &Host) -> Vec<String> {
    let mut left = Vec::new();
    for folder in ["containers", "staging", "names"] {
        left.extend(
            names_in(&host.root.join(folder))
                .into_iter()
                .map(|name| format!("{folder}/{name}")),
        );
    }
    let nameless = |name: &String| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
    let volumes = names_in(&host.root.join("volumes"));
    left.extend(
        volumes
            .into_iter()
            .filter(nameless)
            .map(|name| format!("volumes/{name}")),
    );
    let run = names_in(&host.run_root).into_iter().filter(|n| n.len() == 64);
    left.extend(run.map(|name| format!("run/{name}")));
    for network in names_in(&host.run_root.join("leases")) {
        let leases = names_in(&host.run_root.join("leases").join(&network)).into_iter();
        let addresses = leases.filter(|name| name.parse::<std::net::IpAddr>().is_ok());
        left.extend(addresses.map(|address| format!("lease of {address}")));
    }
    left.extend(super::net::links_left());
    left.extend(super::net::rules_left());
    left
}

/// Processes that have anything to do with this engine: an open file or a mount below its directories, or a place
/// in one of its cgroups. The harness itself is not one of them. The number is the pid of what is surely this
/// engine's own, and may be killed; else 0.
fn process_residue(host: &Host, ids: &[String]) -> Vec<(i32, String)> {
    // The slash keeps host 1 from owning what host 12 has.
    let roots = [&host.dir, &host.run_root].map(|dir| format!("{}/", dir.display()));
    let of_host = |text: &str| roots.iter().any(|root| text.contains(root.as_str()));
    let own_namespace = fs::read_link("/proc/self/ns/mnt").ok();
    let mut left = Vec::new();
    let leaked = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in leaked.lines().filter(|line| of_host(line)) {
        left.push((0, format!("mount in the host's own namespace: {line}")));
    }
    for pid in names_in(Path::new("/proc"))
        .iter()
        .filter_map(|n| n.parse::<i32>().ok())
    {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let read = |name: &str| fs::read_to_string(proc.join(name)).unwrap_or_default();
        let title = || read("cmdline").replace('\0', " ");
        let groups = read("cgroup");
        if groups.contains(&host.instance) || ids.iter().any(|id| groups.contains(id.as_str())) {
            left.push((pid, format!("process {pid} in its cgroup: {}", title())));
        } else if fs::read_link(proc.join("ns/mnt")).ok() != own_namespace && of_host(&read("mountinfo")) {
            left.push((0, format!("process {pid} sees a mount of it: {}", title())));
        } else if pid.cast_unsigned() != std::process::id() {
            let links = ["cwd", "root", "exe"].map(|n| proc.join(n)).into_iter();
            let fds = fs::read_dir(proc.join("fd"))
                .into_iter()
                .flatten()
                .flatten()
                .map(|e| e.path());
            let held = links
                .chain(fds)
                .filter_map(|l| fs::read_link(l).ok())
                .find(|t| of_host(&t.to_string_lossy()));
            if let Some(file) = held {
                let pid_to_end = if title().starts_with("barge: monitor") { pid } else { 0 };
                left.push((
                    pid_to_end,
                    format!("process {pid} holds {}: {}", file.display(), title()),
                ));
            }
        }
    }
    left
}

/// Directories in any cgroup tree that bear this engine's name or a container's id, parents first.
fn cgroups(host: &Host, ids: &[String]) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut open: Vec<PathBuf> = mounts
        .lines()
        .filter(|line| line.contains(" - cgroup"))
        .filter_map(|line| line.split(' ').nth(4).map(PathBuf::from))
        .collect();
    let mut found = Vec::new();
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                let path = entry.path();
                let name = path.to_string_lossy().into_owned();
                if name.contains(&host.instance) || ids.iter().any(|id| name.contains(id.as_str())) {
                    found.push(path.clone());
                }
                open.push(path);
            }
        }
    }
    found.sort();
    found
}

/// After a failure: ends what this host started, so that the next test starts clean.
fn put_away(host: &Host, ids: &[String]) {
    for (pid, _) in process_residue(host, ids) {
        if pid > 1 {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let of_host = |path: &&str| path.starts_with(host.dir.to_str().unwrap_or("/nowhere"));
    let points = mounts
        .lines()
        .rev()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(of_host);
    for point in points {
        let _ = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
    }
}
