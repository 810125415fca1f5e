//! `user[:group]` against the container's own /etc/passwd and /etc/group.
//!
//! Never by the C library: inside another root it would load that root's NSS modules (the class of CVE-2019-14271).
//! The files are foreign input: opened inside the root, read up to a bound, odd lines skipped.

use crate::error::{Context as _, Error, Result};
use crate::model::bytes::ByteString;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::io::Read as _;
use std::os::fd::BorrowedFd;

/// Who a program runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
    /// From passwd, else `/`.
    pub(crate) home: ByteString,
}

/// Bytes read of passwd or group: far more than real ones have.
const FILE_LIMIT: u64 = 4 << 20;
/// The highest id the kernel's signed interfaces take.
const ID_LIMIT: u32 = i32::MAX as u32;

/// Resolves `spec` (empty: root) inside the container's root, and the further `groups`.
pub(crate) fn identify(root: BorrowedFd<'_>, spec: &str, groups: &[String]) -> Result<Identity> {
    Files::read(root)?.identify(spec, groups)
}

/// The container's own /etc/passwd and /etc/group; empty if it has none.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) passwd: Vec<u8>,
    pub(crate) group: Vec<u8>,
}

impl Files {
    pub(crate) fn read(root: BorrowedFd<'_>) -> Result<Files> {
        Ok(Files {
            passwd: read(root, "etc/passwd").context("read /etc/passwd of the container")?,
            group: read(root, "etc/group").context("read /etc/group of the container")?,
        })
    }

    pub(crate) fn identify(&self, spec: &str, groups: &[String]) -> Result<Identity> {
        let (passwd, group) = (&self.passwd, &self.group);
        let mut identity = resolve(spec, passwd, group)?;
        for wanted in groups {
            let gid = find_group(wanted, group)?;
            if !identity.groups.contains(&gid) {
                identity.groups.push(gid);
            }
        }
        Ok(identity)
    }

    pub(crate) fn has_user(&self, uid: u32) -> bool {
        find_user(&uid.to_string(), &self.passwd).is_some()
    }

    pub(crate) fn has_group(&self, gid: u32) -> bool {
        fields(&self.group).any(|f| f.get(2).and_then(|n| number(n)) == Some(gid))
    }
}

fn read(root: BorrowedFd<'_>, path: &str) -> Result<Vec<u8>> {
    // O_NONBLOCK: an image may have a FIFO there.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match rustix::fs::openat2(
        root,
        path,
        flags,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    ) {
        Ok(fd) => std::fs::File::from(fd),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    };
    if !file.metadata()?.is_file() {
        return Ok(Vec::new());
    }
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The decision itself, over the two files' bytes.
fn resolve(spec: &str, passwd: &[u8], group: &[u8]) -> Result<Identity> {
    let (user, wanted_group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (spec, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let entry = find_user(user, passwd);
    let (uid, mut gid, home, name) = match &entry {
        Some(e) => (e.uid, e.gid, e.home.to_vec(), e.name),
        None => match parse_id(user)? {
            Some(uid) => (uid, 0, b"/".to_vec(), &b""[..]),
            None => {
                return Err(Error::other(format!(
                    "unable to find user {user}: no matching entries in passwd file"
                )));
            }
        },
    };
    if let Some(wanted) = wanted_group {
        gid = find_group(wanted, group)?;
    }
    // The primary group among them: else a set-group-ID program could shed it, and with it what it forbids
    // (CVE-2022-2989).
    let mut groups = vec![gid];
    if wanted_group.is_none() {
        groups.extend(memberships(name, group).filter(|g| *g != gid));
    }
    groups.dedup();
    let home = if home.is_empty() { b"/".to_vec() } else { home };
    Ok(Identity {
        uid,
        gid,
        groups,
        home: home.into(),
    })
}

struct User<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

/// By name first; a number is then looked for among the ids.
fn find_user<'a>(wanted: &str, passwd: &'a [u8]) -> Option<User<'a>> {
    let users = || {
        fields(passwd).filter_map(|f| {
            let [name, _, uid, gid, _, home, ..] = f[..] else {
                return None;
            };
            Some(User {
                name,
                uid: number(uid)?,
                gid: number(gid)?,
                home,
            })
        })
    };
    let by_name = users().find(|u| u.name == wanted.as_bytes());
    by_name.or_else(|| number(wanted.as_bytes()).and_then(|id| users().find(|u| u.uid == id)))
}

fn find_group(wanted: &str, group: &[u8]) -> Result<u32> {
    let named = fields(group).find_map(|f| match f[..] {
        [name, _, gid, ..] if name == wanted.as_bytes() => number(gid),
        _ => None,
    });
    match named {
        Some(gid) => Ok(gid),
        None => parse_id(wanted)?.ok_or_else(|| {
            Error::other(format!(
                "unable to find group {wanted}: no matching entries in group file"
            ))
        }),
    }
}

fn memberships<'a>(user: &'a [u8], group: &'a [u8]) -> impl Iterator<Item = u32> + 'a {
    fields(group).filter_map(move |f| match f[..] {
        [_, _, gid, members, ..] if !user.is_empty() && members.split(|b| *b == b',').any(|m| m == user) => number(gid),
        _ => None,
    })
}

fn fields(file: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    file.split(|b| *b == b'\n')
        .filter(|line| !line.is_empty() && line[0] != b'#')
        .map(|line| line.split(|b| *b == b':').collect())
}

fn number(digits: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(digits).ok()?;
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// `None` if it is no number at all; an error if it is one out of range.
fn parse_id(text: &str) -> Result<Option<u32>> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id <= ID_LIMIT => Ok(Some(id)),
        _ => Err(Error::other(format!("uid or gid {text} is out of range 0-{ID_LIMIT}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n# note\ndaemon:x:1:1::/usr/sbin:\nbroken\nbin:x:2:7:bin::/bin/sh\n12:x:99:99::/x:\n";
    const GROUP: &[u8] = b"root:x:0:\nadm:x:4:daemon,root\nstaff:x:50:daemon\nweb:x:33:\n";

    #[test]
    fn forms() {
        let case = |spec: &str| {
            resolve(spec, PASSWD, GROUP).map(|i| (i.uid, i.gid, i.groups, i.home.to_string_lossy().into_owned()))
        };
        let ok = |uid, gid, groups: &[u32], home: &str| (uid, gid, groups.to_vec(), home.to_owned());
        assert_eq!(case("").unwrap(), ok(0, 0, &[0, 4], "/root"));
        assert_eq!(case("daemon").unwrap(), ok(1, 1, &[1, 4, 50], "/usr/sbin"));
        assert_eq!(case("1").unwrap(), ok(1, 1, &[1, 4, 50], "/usr/sbin"));
        assert_eq!(case("daemon:web").unwrap(), ok(1, 33, &[33], "/usr/sbin"));
        assert_eq!(case("daemon:77").unwrap(), ok(1, 77, &[77], "/usr/sbin"));
        assert_eq!(case("bin").unwrap(), ok(2, 7, &[7], "/"), "an empty home is /");
        assert_eq!(case("5000").unwrap(), ok(5000, 0, &[0], "/"));
        assert_eq!(
            case("12").unwrap(),
            ok(99, 99, &[99], "/x"),
            "a name of digits goes before the number"
        );
        assert_eq!(case(":33").unwrap(), ok(0, 33, &[33], "/root"));
        for bad in [
            "nobody",
            "daemon:none",
            "4294967295",
            "99999999999",
            "-1",
            "root:2147483648",
        ] {
            assert!(case(bad).is_err(), "{bad}");
        }
    }
}
