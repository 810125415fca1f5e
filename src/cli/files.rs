//! Flags of `run` and `create` about what a container's files are, and whose: `--rootfs`, `--userns` and its kin,
//! `--storage-opt`.

use crate::cli::argument::{Values, flag, list, value};
use crate::container::config::UserArg;
use crate::error::{Context as _, Error, Result};
use crate::model::container::{Accounts, RootSource};
use crate::model::idmap::{IdMap, Range};
use clap::{ArgMatches, Command};
use std::path::{Path, PathBuf};

/// Ids of a range that nobody has said the size of: all that files and accounts of an image use.
const COUNT: u32 = 65536;

pub(crate) fn define(command: Command) -> Command {
    command
        .arg(
            flag("rootfs", "IMAGE is a directory of the host, used as it is; DIR:O is left unchanged")
                .long_help("IMAGE is no image but a directory of the host with a root file system in it, which the container changes in place. With `:O` behind it the directory stays as it is, and the container's changes go with the container."),
        )
        .arg(flag("passwd", "Give the user of --user a line in /etc/passwd and /etc/group where it has none"))
        .arg(value("passwd-entry", "LINE", "That line of /etc/passwd, with $USERNAME, $UID, $GID, $NAME, $HOME"))
        .arg(value("group-entry", "LINE", "That line of /etc/group, with $GROUPNAME, $GID, $USERLIST"))
        .arg(list("storage-opt", "size=BYTES", "The most that the container may write, where the filesystem has project quotas"))
        .arg(
            value("userns", "MODE", "Users: host, auto[:size=COUNT], UID:GID, container:NAME or private")
                .long_help("Whose users the container's are. `host`: the host's own. `auto`: a range of 65536 that no other container has (or of COUNT). `UID:GID`: 65536 users and groups from these of the host on. `container:NAME`: the same as that container's. `private`: as --uidmap and --gidmap say. The image's files are shown in the container's numbers by the kernel (idmapped mounts, Linux 5.19); on disk they keep their own. Where the kernel, or the filesystem of the engine's root, can't do that, each layer is copied once for the same users, and volumes there have the host's numbers: `:U` gives one of other users' to the container."),
        )
        .arg(list("uidmap", "INSIDE:OUTSIDE[:COUNT]", "Users from INSIDE on are the host's from OUTSIDE on"))
        .arg(list("gidmap", "INSIDE:OUTSIDE[:COUNT]", "The same for groups; the default is --uidmap's"))
        .arg(value("subuidname", "NAME", "Take the users of this name in /etc/subuid"))
        .arg(value("subgidname", "NAME", "Take the groups of this name in /etc/subgid"))
}

/// What its user is to be called.
pub(crate) fn accounts(m: &ArgMatches) -> Result<Accounts> {
    let line = |name: &str, fields: usize| match m.text(name).filter(|line| !line.is_empty()) {
        Some(line) if line.contains(char::is_control) || line.split(':').count() != fields => {
            Err(Error::usage(format!(
                "invalid value '{}' for '--{name}': want one line of {fields} fields, with colons between them",
                line.escape_debug()
            )))
        }
        line => Ok(line.map(str::to_owned)),
    };
    let (passwd, group) = (line("passwd-entry", 7)?, line("group-entry", 4)?);
    if m.switch("passwd") == Some(false) && (passwd.is_some() || group.is_some()) {
        return Err(Error::usage("Conflicting options: --passwd=false and an entry to add"));
    }
    Ok(Accounts {
        added: m.on("passwd") || passwd.is_some() || group.is_some(),
        passwd,
        group,
    })
}

/// `IMAGE` as the root, if it is one.
pub(crate) fn root(m: &ArgMatches) -> Result<RootSource> {
    if !m.on("rootfs") {
        return Ok(RootSource::Layers);
    }
    let typed = m.text("IMAGE").unwrap_or_default();
    let (dir, overlay) = match typed.rsplit_once(':') {
        Some((dir, "O")) => (dir, true),
        Some((_, options)) if !options.contains('/') && !Path::new(typed).exists() => {
            let error = Error::usage(format!("--rootfs: unknown option '{options}'"));
            return Err(error.with_hint("there is O: the directory stays as it is"));
        }
        _ => (typed, false),
    };
    let dir = std::fs::canonicalize(dir).with_context(|| format!("--rootfs {dir}"))?;
    if !dir.is_dir() {
        return Err(Error::usage(format!("--rootfs {}: not a directory", dir.display())));
    }
    Ok(match overlay {
        true => RootSource::OnDirectory(dir),
        false => RootSource::Directory(dir),
    })
}

/// `--storage-opt size=`, in bytes.
pub(crate) fn quota(m: &ArgMatches) -> Result<Option<u64>> {
    let mut size = None;
    for option in m.texts("storage-opt") {
        match option.split_once('=') {
            Some(("size", text)) => size = Some(crate::cli::resource::bytes(text)?).filter(|n| *n > 0),
            _ => {
                let error = Error::usage(format!("unknown --storage-opt: {option}"));
                return Err(error.with_hint("there is size=BYTES"));
            }
        }
    }
    Ok(size)
}

pub(crate) fn users(m: &ArgMatches) -> Result<UserArg> {
    let ranges = |flag: &str| m.texts(flag).map(|text| range(flag, text)).collect::<Result<Vec<_>>>();
    let (mut users, mut groups) = (ranges("uidmap")?, ranges("gidmap")?);
    for (flag, file, ranges) in [
        ("subuidname", "/etc/subuid", &mut users),
        ("subgidname", "/etc/subgid", &mut groups),
    ] {
        if let Some(name) = m.text(flag).filter(|n| !n.is_empty()) {
            if !ranges.is_empty() {
                let map = if flag == "subuidname" { "uidmap" } else { "gidmap" };
                return Err(Error::usage(format!("--{flag} and --{map} cannot be set together")));
            }
            *ranges = subordinate(file, name)?;
        }
    }
    if groups.is_empty() {
        groups.clone_from(&users);
    } else if users.is_empty() {
        users.clone_from(&groups);
    }
    let mode = m.text("userns").unwrap_or_default();
    let mapped = (!users.is_empty()).then_some(IdMap { users, groups });
    match (mode, mapped) {
        ("" | "private", Some(map)) => check(map).map(UserArg::Mapped),
        ("private", None) => Err(
            Error::usage("--userns private needs --uidmap, --subuidname or the like")
                .with_hint("--userns auto chooses a range"),
        ),
        ("" | "host", None) => Ok(UserArg::Host),
        (_, Some(_)) => Err(Error::usage(format!(
            "--userns {mode} and --uidmap or --gidmap cannot be set together"
        ))),
        (_, None) => named(mode),
    }
}

fn named(mode: &str) -> Result<UserArg> {
    let unknown = || {
        Error::usage(format!("--userns: invalid mode '{mode}'"))
            .with_hint("there are host, auto, auto:size=COUNT, UID:GID, container:NAME and private")
    };
    match mode.split_once(':') {
        None if mode == "auto" => Ok(UserArg::Auto(COUNT)),
        Some(("auto", option)) => match option.strip_prefix("size=").and_then(|n| n.parse().ok()) {
            Some(count @ 1..=0x1000_0000) => Ok(UserArg::Auto(count)),
            _ => {
                Err(Error::usage(format!("--userns auto: unknown option '{option}'")).with_hint("there is size=COUNT"))
            }
        },
        Some(("container", name)) if !name.is_empty() => Ok(UserArg::Container(name.to_owned())),
        Some(("ns", _)) => Err(
            Error::usage("--userns ns:PATH: only a container's own map can be joined")
                .with_hint("--userns container:NAME has the same users as that container"),
        ),
        None | Some(_) if mode.starts_with("keep-id") || mode == "nomap" => Err(Error::usage(format!(
            "--userns {mode} is for an engine that a user runs without root, which this one is not"
        ))
        .with_hint("--userns auto, or --uidmap 0:100000:1000 --uidmap 1000:1000:1 to keep one id")),
        Some((user, group)) => match (user.parse(), group.parse()) {
            (Ok(user), Ok(group)) => check(IdMap {
                users: vec![first(user)],
                groups: vec![first(group)],
            })
            .map(UserArg::Mapped),
            _ => Err(unknown()),
        },
        None => Err(unknown()),
    }
}

fn first(outside: u32) -> Range {
    Range {
        inside: 0,
        outside,
        count: COUNT,
    }
}

fn range(flag: &str, text: &str) -> Result<Range> {
    let bad = || {
        Error::usage(format!("invalid --{flag} '{text}'"))
            .with_hint("want INSIDE:OUTSIDE or INSIDE:OUTSIDE:COUNT, such as 0:100000:65536")
    };
    let numbers: Vec<u32> = text
        .split(':')
        .map(|n| n.parse().map_err(|_| bad()))
        .collect::<Result<_>>()?;
    match numbers[..] {
        [inside, outside] => Ok(Range {
            inside,
            outside,
            count: COUNT,
        }),
        [inside, outside, count] if count > 0 => Ok(Range { inside, outside, count }),
        _ => Err(bad()),
    }
}

/// Lines `name:start:count` (subuid(5)), one after another.
fn subordinate(file: &str, name: &str) -> Result<Vec<Range>> {
    let text = std::fs::read_to_string(PathBuf::from(file)).with_context(|| format!("read {file}"))?;
    let mut ranges = Vec::new();
    let mut inside = 0;
    for line in text.lines() {
        let Some(rest) = line.strip_prefix(name).and_then(|l| l.strip_prefix(':')) else {
            continue;
        };
        let numbers = rest
            .split_once(':')
            .and_then(|(a, b)| Some((a.parse().ok()?, b.trim().parse().ok()?)));
        let (outside, count): (u32, u32) = numbers.ok_or_else(|| Error::other(format!("{file}: bad line '{line}'")))?;
        ranges.push(Range { inside, outside, count });
        inside += count;
    }
    match ranges.is_empty() {
        true => Err(Error::not_found(format!("{file} has no line for {name}"))),
        false => Ok(ranges),
    }
}

/// What the kernel would refuse (user_namespaces(7)).
fn check(map: IdMap) -> Result<IdMap> {
    for ranges in [&map.users, &map.groups] {
        if ranges.len() > 340 {
            return Err(Error::usage(format!(
                "{} ranges of ids, the kernel takes 340",
                ranges.len()
            )));
        }
        for (i, a) in ranges.iter().enumerate() {
            let ends = [a.inside, a.outside].map(|start| start.checked_add(a.count));
            if ends.contains(&None) {
                return Err(Error::usage(format!(
                    "{}:{}:{}: ids beyond the last",
                    a.inside, a.outside, a.count
                )));
            }
            let crosses = |x: u32, y: u32, n: u32| a_crosses(x, a.count, y, n);
            let clash = ranges[..i]
                .iter()
                .any(|b| crosses(a.inside, b.inside, b.count) || crosses(a.outside, b.outside, b.count));
            if clash {
                return Err(Error::usage(format!(
                    "{}:{}:{} overlaps another range",
                    a.inside, a.outside, a.count
                )));
            }
        }
    }
    map.root()?;
    Ok(map)
}

fn a_crosses(a: u32, a_count: u32, b: u32, b_count: u32) -> bool {
    u64::from(a) < u64::from(b) + u64::from(b_count) && u64::from(b) < u64::from(a) + u64::from(a_count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<UserArg> {
        let words = std::iter::once("x").chain(line.split_whitespace());
        users(&define(Command::new("x")).try_get_matches_from(words).unwrap())
    }

    fn shown(line: &str) -> String {
        let ranges = |r: &[Range]| IdMap::text(r).trim_end().replace('\n', ",");
        match parse(line) {
            Ok(UserArg::Mapped(map)) => format!("{} | {}", ranges(&map.users), ranges(&map.groups)),
            Ok(other) => format!("{other:?}"),
            Err(e) => format!("{e}"),
        }
    }

    #[test]
    fn modes_and_maps() {
        for (line, expected) in [
            ("", "Host"),
            ("--userns host", "Host"),
            ("--userns auto", "Auto(65536)"),
            ("--userns auto:size=1000", "Auto(1000)"),
            ("--userns 100000:200000", "0 100000 65536 | 0 200000 65536"),
            (
                "--uidmap 0:1000:1 --uidmap 1:2000:5",
                "0 1000 1,1 2000 5 | 0 1000 1,1 2000 5",
            ),
            ("--uidmap 0:1000 --gidmap 0:7:9", "0 1000 65536 | 0 7 9"),
            ("--userns container:web", "Container(\"web\")"),
            ("--userns auto:x=1", "--userns auto: unknown option 'x=1'"),
            ("--userns wrong", "--userns: invalid mode 'wrong'"),
            ("--userns 1:x", "--userns: invalid mode '1:x'"),
            (
                "--userns auto --uidmap 0:1",
                "--userns auto and --uidmap or --gidmap cannot be set together",
            ),
            ("--uidmap 0", "invalid --uidmap '0'"),
            ("--uidmap 0:1:0", "invalid --uidmap '0:1:0'"),
            (
                "--uidmap 1:5:3",
                "the user namespace has no root: a map must have the id 0",
            ),
            ("--uidmap 0:5:3 --uidmap 2:90:3", "2:90:3 overlaps another range"),
            ("--uidmap 0:4294967295:3", "0:4294967295:3: ids beyond the last"),
        ] {
            assert_eq!(shown(line), expected, "{line}");
        }
        for refused in ["keep-id", "keep-id:uid=1", "nomap"] {
            assert!(
                shown(&format!("--userns {refused}")).contains("without root"),
                "{refused}"
            );
        }
    }
}
