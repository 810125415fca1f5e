//! Profiles in docker's JSON form (`--security-opt seccomp=FILE`), which is OCI's `linux.seccomp` with `archMap`,
//! `includes` and `excludes`.
//!
//! Names of system calls that this engine doesn't know are skipped, as everywhere: profiles name calls of other
//! architectures and of newer kernels. Everything else that isn't understood is an error.

use super::arch::{Arch, SLOTS};
use super::compile::Rules;
use super::rule::{Action, Check, Condition, Op};
use super::table;
use crate::error::{Context, Error, Result};
use crate::runtime::capability::Capabilities;
use serde::Deserialize;
use std::borrow::Cow;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    default_action: Option<String>,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<Family>>,
    syscalls: Option<Vec<Entry>>,
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
}

/// An architecture, and those whose programs it runs as well.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Family {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    name: Option<String>,
    names: Option<Vec<String>>,
    action: Option<String>,
    errno_ret: Option<u32>,
    args: Option<Vec<Argument>>,
    includes: Option<Filter>,
    excludes: Option<Filter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// What a profile is read for.
pub(super) struct Host {
    /// The machine's architecture, and those whose programs it runs as well.
    pub(super) arches: &'static [Arch],
    /// The first two numbers of the kernel's version.
    pub(super) kernel: (u32, u32),
    pub(super) capabilities: Capabilities,
}

/// A profile as it applies to one container on one host.
pub(super) struct Profile {
    default: Action,
    rules: Vec<Vec<Check>>,
    /// For each slot the rules that name that call.
    arches: Vec<(Arch, Vec<Vec<usize>>)>,
}

impl Profile {
    pub(super) fn parse(text: &str, host: &Host) -> Result<Profile> {
        let document: Document = serde_json::from_str(text)?;
        document.check_flags()?;
        let default = document
            .default_action
            .as_deref()
            .ok_or_else(|| Error::other("defaultAction is missing"))?;
        let default = action(default, document.default_errno_ret).context("defaultAction")?;
        let arches = document
            .arches(host.arches)?
            .into_iter()
            .map(|arch| (arch, vec![Vec::new(); SLOTS]))
            .collect();
        let mut profile = Profile {
            default,
            rules: Vec::new(),
            arches,
        };
        for (i, entry) in document.syscalls.iter().flatten().enumerate() {
            let place = || format!("syscalls[{i}] ({})", entry.title());
            profile.add(entry, host).with_context(place)?;
        }
        Ok(profile)
    }

    pub(super) fn rules(&self) -> Rules<'_> {
        let checks: Vec<&[Check]> = self.rules.iter().map(Vec::as_slice).collect();
        let mut rules = Rules::new(self.default);
        for (arch, slots) in &self.arches {
            rules.add(*arch, &checks, slots.iter().map(|named| named.iter().copied()));
        }
        rules
    }

    fn add(&mut self, entry: &Entry, host: &Host) -> Result<()> {
        let checks = entry.checks()?;
        let names = entry.names()?;
        let (includes, excludes) = (Filter::of(&entry.includes), Filter::of(&entry.excludes));
        if !includes.all(host).context("includes")? || excludes.any(host).context("excludes")? {
            return Ok(());
        }
        for name in &names {
            self.add_multiplexed(name, &checks);
        }
        for index in names.iter().filter_map(|name| table::index(name)) {
            for (arch, slots) in &mut self.arches {
                if let Some(number) = table::number(index, *arch) {
                    slots[Arch::slot(number)].push(self.rules.len());
                }
            }
        }
        self.rules.push(checks);
        Ok(())
    }

    /// On i386 a call of the socket or System V families can also be made by `socketcall` or `ipc`, with its arguments
    /// behind a pointer. What is said of the call without looking at them goes for that way too; what depends on them
    /// can only be refused there, whatever they are, and is never let through.
    fn add_multiplexed(&mut self, name: &str, checks: &[Check]) {
        let Some((by, call)) = multiplexed(name) else { return };
        let (Some(index), Some(check)) = (table::index(by), checks.first()) else {
            return;
        };
        let slots = self.arches.iter_mut().find(|(arch, _)| *arch == Arch::X86);
        if let (Some((_, slots)), Some(number)) = (slots, table::number(index, Arch::X86))
            && (check.conditions.is_empty() || !check.action.lets_through())
        {
            // The upper half of ipc's number is a version.
            let condition = Condition::new(0, Op::Masked(0xffff), call);
            slots[Arch::slot(number)].push(self.rules.len());
            self.rules.push(vec![Check {
                conditions: vec![condition].into(),
                action: check.action,
            }]);
        }
    }
}

impl Document {
    fn check_flags(&self) -> Result<()> {
        if self.listener_path.as_ref().is_some_and(|path| !path.is_empty()) {
            return Err(Error::other(
                "listenerPath is not supported: no process answers for the container's calls",
            ));
        }
        for flag in self.flags.iter().flatten() {
            // Loading has one thread, and speculation is never restricted.
            if !["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"].contains(&flag.as_str()) {
                return Err(Error::other(format!("flags: {flag:?} is not supported")));
            }
        }
        Ok(())
    }

    /// Those of the host's architectures that are listed; its own is always one of them.
    fn arches(&self, host: &'static [Arch]) -> Result<Vec<Arch>> {
        let list = self.architectures.iter().flatten();
        let families = self.arch_map.iter().flatten();
        if list.clone().next().is_some() && families.clone().next().is_some() {
            return Err(Error::other("both architectures and archMap are given"));
        }
        let mut names: Vec<&str> = list.map(String::as_str).collect();
        for family in families {
            let own = host.first().is_some_and(|arch| arch.name() == family.architecture);
            names.extend(
                family
                    .sub_architectures
                    .iter()
                    .flatten()
                    .filter(|_| own)
                    .map(String::as_str),
            );
        }
        if let Some(name) = names.iter().find(|name| !name.starts_with("SCMP_ARCH_")) {
            return Err(Error::other(format!("unknown architecture {name:?}")));
        }
        let wanted = |(i, arch): &(usize, &Arch)| *i == 0 || names.contains(&arch.name());
        Ok(host.iter().enumerate().filter(wanted).map(|(_, arch)| *arch).collect())
    }
}

impl Entry {
    /// What stands in an error beside the entry's number.
    fn title(&self) -> &str {
        self.name
            .as_deref()
            .or_else(|| self.names.as_ref()?.first().map(String::as_str))
            .unwrap_or("no name")
    }

    fn names(&self) -> Result<Vec<&str>> {
        let one = self.name.as_deref().filter(|name| !name.is_empty());
        let many = self.names.iter().flatten().map(String::as_str);
        let names: Vec<&str> = match one {
            Some(_) if many.clone().next().is_some() => {
                return Err(Error::other("both name and names are given"));
            }
            Some(name) => vec![name],
            None => many.collect(),
        };
        let word = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        match names.iter().find(|name| !word(name)) {
            _ if names.is_empty() => Err(Error::other("no system call is named")),
            Some(name) => Err(Error::other(format!("{name:?} is no name of a system call"))),
            None => Ok(names),
        }
    }

    /// All conditions must hold. But where two are on the same argument, each of them is enough: that is how docker's
    /// runtime reads it, and profiles in use rely on it.
    fn checks(&self) -> Result<Vec<Check>> {
        let action = self
            .action
            .as_deref()
            .ok_or_else(|| Error::other("action is missing"))?;
        let action = self::action(action, self.errno_ret)?;
        let arguments = self.args.as_deref().unwrap_or_default();
        let conditions = arguments.iter().map(Argument::condition).collect::<Result<Vec<_>>>()?;
        let repeated = conditions
            .iter()
            .enumerate()
            .any(|(i, c)| conditions[..i].iter().any(|d| d.argument == c.argument));
        let check = |conditions: Vec<Condition>| Check {
            conditions: Cow::Owned(conditions),
            action,
        };
        Ok(if repeated {
            conditions.into_iter().map(|condition| check(vec![condition])).collect()
        } else {
            vec![check(conditions)]
        })
    }
}

impl Argument {
    fn condition(&self) -> Result<Condition> {
        let argument = u8::try_from(self.index).ok().filter(|index| *index < 6);
        let argument = argument.ok_or_else(|| Error::other(format!("args: no argument has index {}", self.index)))?;
        let (op, value) = match self.op.as_str() {
            "SCMP_CMP_EQ" => (Op::Equal, self.value),
            "SCMP_CMP_NE" => (Op::NotEqual, self.value),
            "SCMP_CMP_LT" => (Op::Less, self.value),
            "SCMP_CMP_LE" => (Op::LessOrEqual, self.value),
            "SCMP_CMP_GT" => (Op::Greater, self.value),
            "SCMP_CMP_GE" => (Op::GreaterOrEqual, self.value),
            "SCMP_CMP_MASKED_EQ" => (Op::Masked(self.value), self.value_two),
            op => return Err(Error::other(format!("args: unknown op {op:?}"))),
        };
        Ok(Condition::new(argument, op, value))
    }
}

impl Filter {
    /// An absent filter is an empty one.
    fn of(filter: &Option<Filter>) -> &Filter {
        const NONE: &Filter = &Filter {
            caps: None,
            arches: None,
            min_kernel: None,
        };
        filter.as_ref().unwrap_or(NONE)
    }

    /// Whether the host is one of the architectures (if any are given), the container has all the capabilities, and
    /// the kernel is new enough.
    fn all(&self, host: &Host) -> Result<bool> {
        let arch = self
            .arches
            .as_ref()
            .is_none_or(|a| a.is_empty() || has_platform(a, host));
        Ok(arch & self.capabilities(host)?.into_iter().all(|has| has) & self.kernel(host)?.unwrap_or(true))
    }

    /// Whether any of what is given is so.
    fn any(&self, host: &Host) -> Result<bool> {
        let arch = self.arches.as_ref().is_some_and(|a| has_platform(a, host));
        Ok(arch | self.capabilities(host)?.into_iter().any(|has| has) | self.kernel(host)?.unwrap_or(false))
    }

    /// Whether the container has each of the capabilities. One that only a newer kernel knows it has not.
    fn capabilities(&self, host: &Host) -> Result<Vec<bool>> {
        let has = |name: &String| match Capabilities::named(name) {
            _ if !name.starts_with("CAP_") => Err(Error::other(format!("unknown capability {name:?}"))),
            known => Ok(known.is_some_and(|c| host.capabilities.contains(c))),
        };
        self.caps.iter().flatten().map(has).collect()
    }

    fn kernel(&self, host: &Host) -> Result<Option<bool>> {
        let Some(text) = self.min_kernel.as_ref().filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let version = version(text).ok_or_else(|| Error::other(format!("minKernel: {text:?} is no version")))?;
        Ok(Some(host.kernel >= version))
    }
}

fn has_platform(names: &[String], host: &Host) -> bool {
    host.arches
        .first()
        .is_some_and(|arch| names.iter().any(|name| name == arch.platform()))
}

/// The first two numbers of `6.1`, or of what uname(2) says: `6.1.0-42-amd64`, `6.12+`.
pub(super) fn version(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.split_once('.')?;
    let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn action(name: &str, errno: Option<u32>) -> Result<Action> {
    const EPERM: u16 = 1;
    /// What the kernel lets a system call return.
    const MAX_ERRNO: u16 = 4095;
    let data = |max: u16| match errno.map(u16::try_from) {
        None => Ok(EPERM),
        Some(Ok(data)) if data <= max => Ok(data),
        Some(_) => Err(Error::other(format!("errnoRet is above {max}"))),
    };
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::ALLOW,
        "SCMP_ACT_ERRNO" => Action::errno(data(MAX_ERRNO)?),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => Action::KILL_PROCESS,
        "SCMP_ACT_TRAP" => Action::TRAP,
        "SCMP_ACT_TRACE" => Action::trace(data(u16::MAX)?),
        "SCMP_ACT_LOG" => Action::LOG,
        "SCMP_ACT_NOTIFY" => {
            return Err(Error::other(
                "SCMP_ACT_NOTIFY is not supported: no process answers for the container's calls",
            ));
        }
        _ => return Err(Error::other(format!("unknown action {name:?}"))),
    })
}

/// How i386 also makes a call: by which one, with which number as the first argument.
fn multiplexed(name: &str) -> Option<(&'static str, u64)> {
    const SOCKETCALL: [&str; 20] = [
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
        "recv",
        "sendto",
        "recvfrom",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "sendmsg",
        "recvmsg",
        "accept4",
        "recvmmsg",
        "sendmmsg",
    ];
    const IPC: [(&str, u64); 12] = [
        ("semop", 1),
        ("semget", 2),
        ("semctl", 3),
        ("semtimedop", 4),
        ("msgsnd", 11),
        ("msgrcv", 12),
        ("msgget", 13),
        ("msgctl", 14),
        ("shmat", 21),
        ("shmdt", 22),
        ("shmget", 23),
        ("shmctl", 24),
    ];
    let socket = (1..)
        .zip(SOCKETCALL)
        .find(|(_, n)| *n == name)
        .map(|(call, _)| ("socketcall", call));
    socket.or_else(|| IPC.iter().find(|(n, _)| *n == name).map(|(_, call)| ("ipc", *call)))
}
