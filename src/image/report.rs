//! What the built-in image prints: where this program finds itself, as /proc tells it, and what to try next. It runs as
//! a container's first process, with nothing but the kernel around it.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

/// Writes all of it.
pub(crate) fn write(out: &mut impl Write) -> io::Result<()> {
    out.write_all(render(&Facts::gather()).as_bytes())?;
    out.flush()
}

/// What is known of the surroundings. `None` or empty: could not be found out.
#[derive(Debug, Default)]
struct Facts {
    pid: u32,
    hostname: String,
    /// /proc/self/status
    status: String,
    /// /proc/self/cgroup
    cgroup: String,
    capabilities: Vec<String>,
    /// Names below /proc/self/ns.
    namespaces: Vec<String>,
    mounts: usize,
    interfaces: Vec<String>,
    memory: Option<String>,
    processes: Option<String>,
    kernel: String,
}

impl Facts {
    fn gather() -> Facts {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let names = |path: &str| {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
            names.sort();
            names
        };
        let effective = caps::read(None, caps::CapSet::Effective).unwrap_or_default();
        let mut capabilities: Vec<String> = effective
            .iter()
            .map(|c| c.to_string().trim_start_matches("CAP_").to_ascii_lowercase())
            .collect();
        capabilities.sort();
        Facts {
            pid: std::process::id(),
            hostname: read("/proc/sys/kernel/hostname").trim_end().to_owned(),
            status: read("/proc/self/status"),
            cgroup: read("/proc/self/cgroup"),
            capabilities,
            namespaces: names("/proc/self/ns"),
            mounts: read("/proc/self/mountinfo").lines().count(),
            interfaces: names("/sys/class/net"),
            memory: limit(&[
                "/sys/fs/cgroup/memory.max",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ]),
            processes: limit(&["/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max"]),
            kernel: read("/proc/sys/kernel/osrelease").trim_end().to_owned(),
        }
    }
}

/// The first of these control files that is there.
fn limit(paths: &[&str]) -> Option<String> {
    paths
        .iter()
        .find_map(|path| std::fs::read_to_string(Path::new(path)).ok())
        .map(|text| text.trim_end().to_owned())
}

fn render(facts: &Facts) -> String {
    let mut text = String::from("Hello from barge. This program runs in a container of its own:\n\n");
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<13} {value}");
    };
    let alone = if facts.pid == 1 {
        ": the first process of its own pid namespace"
    } else {
        ""
    };
    line("process", format!("{}{alone}", facts.pid));
    line("hostname", known(&facts.hostname));
    line("user", ids(&facts.status));
    line("capabilities", capabilities(&facts.capabilities));
    line("seccomp", seccomp(&facts.status).to_owned());
    line("privileges", no_new_privileges(&facts.status).to_owned());
    line(
        "namespaces",
        known(
            &facts
                .namespaces
                .iter()
                .filter(|n| !n.contains("_for_"))
                .cloned()
                .collect::<Vec<_>>()
                .join(" "),
        ),
    );
    line("cgroup", cgroup(&facts.cgroup));
    line("memory", bytes(facts.memory.as_deref()));
    line("processes", count(facts.processes.as_deref()));
    line("network", known(&facts.interfaces.join(" ")));
    line("mounts", facts.mounts.to_string());
    line("kernel", known(&facts.kernel));
    text.push_str(
        "\nNo daemon was involved: one small monitor holds this container, and goes with it.\n\
         \n\
         What to try next, with Debian's busybox-static or debootstrap on the host:\n\
         \n  debootstrap --variant=minbase stable /tmp/root\n  \
         tar -C /tmp/root -c . | barge import - debian\n  \
         barge run -it --rm debian bash\n  \
         barge ps -a\n",
    );
    text
}

fn known(text: &str) -> String {
    if text.is_empty() {
        "unknown".to_owned()
    } else {
        text.to_owned()
    }
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

fn ids(status: &str) -> String {
    let effective = |name| field(status, name).and_then(|ids| ids.split_whitespace().nth(1));
    match (effective("Uid"), effective("Gid")) {
        (Some(uid), Some(gid)) => format!("uid {uid}, gid {gid}"),
        _ => "unknown".to_owned(),
    }
}

fn seccomp(status: &str) -> &'static str {
    match field(status, "Seccomp") {
        Some("0") => "off",
        Some("1") => "strict",
        Some("2") => "filter: system calls beyond what programs need are refused",
        _ => "unknown",
    }
}

fn no_new_privileges(status: &str) -> &'static str {
    match field(status, "NoNewPrivs") {
        Some("0") => "set-user-id programs work",
        Some(_) => "no program can gain any",
        None => "unknown",
    }
}

fn capabilities(names: &[String]) -> String {
    match names.len() {
        0 => "none".to_owned(),
        n => format!("{n}: {}", wrapped(names)),
    }
}

/// Five to a line, below each other.
fn wrapped(names: &[String]) -> String {
    let lines: Vec<String> = names.chunks(5).map(|line| line.join(" ")).collect();
    lines.join(&format!("\n  {:13} {:4}", "", ""))
}

/// The unified hierarchy's path, else that of the memory controller, else the first.
fn cgroup(text: &str) -> String {
    let mut lines: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.split_once(':')?.1.split_once(':'))
        .collect();
    lines.sort_by_key(|(controllers, path)| (*path == "/", !controllers.contains("memory"), !controllers.is_empty()));
    match lines.first() {
        Some((_, "/")) => "the root of its own cgroup namespace".to_owned(),
        Some(("", path)) => (*path).to_owned(),
        Some((_, path)) => format!("{path} ({} hierarchies)", lines.len()),
        None => "unknown".to_owned(),
    }
}

fn bytes(limit: Option<&str>) -> String {
    match limit {
        None => "unknown".to_owned(),
        Some("max") => "no limit".to_owned(),
        // cgroup v1 says "none" as the largest multiple of a page.
        Some(text) => match text.parse::<u64>() {
            Ok(n) if n < 1 << 60 => format!("at most {} MiB", n >> 20),
            _ => "no limit".to_owned(),
        },
    }
}

fn count(limit: Option<&str>) -> String {
    match limit {
        None => "unknown".to_owned(),
        Some("max") => "no limit".to_owned(),
        Some(n) => format!("at most {n}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typical_container() {
        let facts = Facts {
            pid: 1,
            hostname: "0123456789ab".to_owned(),
            status: "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nNoNewPrivs:\t0\nSeccomp:\t2\nSeccomp_filters:\t1\n".to_owned(),
            cgroup: "1:memory:/barge/x\n0::/\n".to_owned(),
            capabilities: ["chown", "kill"].map(str::to_owned).to_vec(),
            namespaces: ["mnt", "pid", "pid_for_children"].map(str::to_owned).to_vec(),
            mounts: 12,
            interfaces: vec!["lo".to_owned()],
            memory: Some("9223372036854771712".to_owned()),
            processes: Some("100".to_owned()),
            kernel: "6.1".to_owned(),
        };
        let text = render(&facts);
        for part in [
            "process       1: the first process",
            "hostname      0123456789ab\n",
            "user          uid 0, gid 0\n",
            "capabilities  2: chown kill\n",
            "seccomp       filter",
            "namespaces    mnt pid\n",
            "cgroup        /barge/x (2 hierarchies)\n",
            "memory        no limit\n",
            "processes     at most 100\n",
            "network       lo\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn nothing_known() {
        let text = render(&Facts::default());
        assert!(
            text.contains("seccomp       unknown") && text.contains("cgroup        unknown"),
            "{text}"
        );
    }

    #[test]
    fn what_this_machine_says() {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(!text.contains("hostname      unknown"), "{text}");
    }
}
