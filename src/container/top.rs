//! The processes of a container, as the host sees them.

use crate::container::pause::running;
use crate::container::pause::tell;
use crate::error::{Context, Error, Result};
use crate::model::id::ContainerId;
use crate::model::time::Timestamp;
use crate::runtime::cgroup;
use crate::store::Store;
use jiff::tz::TimeZone;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::process::Command;

/// Headings and rows. Only the last column may have blanks in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Processes {
    pub(crate) titles: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// With options for ps(1) it is the host's ps that is asked; without, /proc is read as `ps -ef` does.
pub(crate) fn top(store: &Store, id: &ContainerId, options: &[OsString]) -> Result<Processes> {
    let live = running(store, id)?;
    let pids = cgroup::pids(&live.cgroups);
    tell(store, id, "top");
    match options {
        [] => full_format(&pids),
        options => by_ps(&pids, options),
    }
}

fn by_ps(pids: &[i32], options: &[OsString]) -> Result<Processes> {
    let output = match Command::new("ps").args(options).output() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::other("run ps: not found").with_hint("options need the host's ps (package procps)"));
        }
        output => output.context("run ps")?,
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let first = said.lines().find(|l| !l.trim().is_empty()).unwrap_or("no reason given");
        return Err(Error::other(format!(
            "ps: {}",
            first.trim().trim_start_matches("error: ")
        )));
    }
    only(pids, &String::from_utf8_lossy(&output.stdout))
}

/// The lines of ps that are about these processes.
fn only(pids: &[i32], text: &str) -> Result<Processes> {
    let wanted: HashSet<String> = pids.iter().map(i32::to_string).collect();
    let mut lines = text.lines();
    let titles: Vec<String> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let Some(column) = titles.iter().position(|t| t == "PID") else {
        return Err(Error::usage("Couldn't find PID field in ps output").with_hint("let ps print the column PID"));
    };
    let rows = lines
        .map(|line| cells(line, titles.len()))
        .filter(|row| row.get(column).is_some_and(|pid| wanted.contains(pid)))
        .collect();
    Ok(Processes { titles, rows })
}

/// Splits at blanks; what is left over is the last column's.
fn cells(line: &str, columns: usize) -> Vec<String> {
    let mut cells = Vec::new();
    let mut rest = line.trim();
    while cells.len() + 1 < columns
        && let Some((cell, after)) = rest.split_once(char::is_whitespace)
    {
        cells.push(cell.to_owned());
        rest = after.trim_start();
    }
    cells.push(rest.to_owned());
    cells
}

/// The columns of `ps -ef`.
fn full_format(pids: &[i32]) -> Result<Processes> {
    let users = users();
    let clock = Clock::read()?;
    let rows = pids.iter().filter_map(|pid| clock.row(*pid, &users)).collect();
    let titles = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];
    Ok(Processes {
        titles: titles.map(str::to_owned).to_vec(),
        rows,
    })
}

/// Names by user id. Read directly: a static program's name service may not answer.
fn users() -> HashMap<u32, String> {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = |line: &str| {
        let mut fields = line.split(':');
        let (name, uid) = (fields.next()?, fields.nth(1)?.parse().ok()?);
        Some((uid, name.to_owned()))
    };
    text.lines().filter_map(user).collect()
}

struct Clock {
    now: Timestamp,
    zone: TimeZone,
    /// When the machine was started.
    boot: Timestamp,
    /// Per second, of /proc/PID/stat's times.
    ticks: i64,
}

impl Clock {
    fn read() -> Result<Clock> {
        let text = std::fs::read_to_string("/proc/stat").context("read /proc/stat")?;
        let seconds = text.lines().find_map(|l| l.strip_prefix("btime ")?.trim().parse().ok());
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
        Ok(Clock {
            now: Timestamp::now(),
            zone: TimeZone::system(),
            boot: Timestamp::from_second(seconds.unwrap_or(0)).unwrap_or_default(),
            ticks: ticks.filter(|t| *t > 0).unwrap_or(100),
        })
    }

    /// `None` of one that has just ended.
    fn row(&self, pid: i32, users: &HashMap<u32, String>) -> Option<Vec<String>> {
        use std::os::unix::fs::MetadataExt as _;
        let proc = format!("/proc/{pid}");
        let uid = std::fs::metadata(&proc).ok()?.uid();
        let stat = Stat::parse(&std::fs::read_to_string(format!("{proc}/stat")).ok()?)?;
        let words = std::fs::read(format!("{proc}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(words.trim_ascii_end()).replace('\0', " ");
        let command = match words.trim_end() {
            "" => format!("[{}]", stat.name),
            words => words.to_owned(),
        };
        let started = self
            .boot
            .checked_add(jiff::SignedDuration::from_secs(stat.started / self.ticks))
            .ok()?;
        let age = self.now.duration_since(started).as_secs().max(1);
        let used = stat.cpu / self.ticks;
        Some(vec![
            users.get(&uid).cloned().unwrap_or_else(|| uid.to_string()),
            pid.to_string(),
            stat.parent.to_string(),
            (used * 100 / age).min(99).to_string(),
            self.start_time(started),
            terminal(stat.terminal),
            format!("{:02}:{:02}:{:02}", used / 3600, used / 60 % 60, used % 60),
            command,
        ])
    }

    /// ps's STIME: a time of today, a day, or a year.
    fn start_time(&self, started: Timestamp) -> String {
        let (then, now) = (
            started.to_zoned(self.zone.clone()),
            self.now.to_zoned(self.zone.clone()),
        );
        let format = match (then.date() == now.date(), then.year() == now.year()) {
            (true, _) => "%H:%M",
            (false, true) => "%b%d",
            (false, false) => "%Y",
        };
        then.strftime(format).to_string()
    }
}

/// Fields of proc_pid_stat(5).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    parent: i32,
    /// Device number of the controlling terminal; 0 is none.
    terminal: u32,
    /// Ticks in user and kernel mode.
    cpu: i64,
    /// Ticks after the boot.
    started: i64,
}

impl Stat {
    /// The name stands in parentheses, and may contain any of them.
    fn parse(text: &str) -> Option<Stat> {
        let (begin, end) = (text.find('(')?, text.rfind(')')?);
        let fields: Vec<&str> = text.get(end + 1..)?.split_ascii_whitespace().collect();
        let number = |n: usize| fields.get(n - 3)?.parse::<i64>().ok();
        Some(Stat {
            name: text.get(begin + 1..end)?.to_owned(),
            parent: i32::try_from(number(4)?).ok()?,
            terminal: u32::try_from(number(7)?).unwrap_or(0),
            cpu: number(14)? + number(15)?,
            started: number(22)?,
        })
    }
}

fn terminal(device: u32) -> String {
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
    match major {
        136..=143 => format!("pts/{}", minor + (major - 136) * 256),
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        _ => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_parentheses() {
        let text = "42 (a) b) S 7 42 42 34816 42 4194304 1 0 0 0 150 50 0 0 20 0 1 0 9000 1 2";
        let stat = Stat::parse(text).unwrap();
        assert_eq!(
            stat,
            Stat {
                name: "a) b".to_owned(),
                parent: 7,
                terminal: 34816,
                cpu: 200,
                started: 9000
            }
        );
        assert_eq!(terminal(stat.terminal), "pts/0");
        assert_eq!(
            (terminal(0), terminal(4 << 8 | 1), terminal(4 << 8 | 64)),
            ("?".into(), "tty1".into(), "ttyS0".into())
        );
        assert_eq!(Stat::parse("42 (a S 7"), None);
    }

    #[test]
    fn lines_of_ps() {
        let text = "  PID USER  COMMAND\n    1 root  init  with words\n  20 root sleep 5\n";
        let found = only(&[20, 3], text).unwrap();
        assert_eq!(found.titles, ["PID", "USER", "COMMAND"]);
        assert_eq!(found.rows, [["20", "root", "sleep 5"]]);
        assert_eq!(only(&[1], text).unwrap().rows[0][2], "init  with words");
        assert!(only(&[1], "USER\nroot\n").is_err());
    }
}
