//! Lines of /etc/passwd and /etc/group for a container's user that its image has no names for (`--passwd`,
//! `--passwd-entry`, `--group-entry`): a copy of each file with the line at its end, in the run directory, is mounted over
//! the container's own.

use crate::error::{Context as _, Result};
use crate::model::container::ContainerConfig;
use crate::model::mount::Mount;
use crate::monitor::extras::bind;
use crate::runtime::user::{Files, Identity};
use crate::store::{Durability, Store, file};
use std::borrow::Cow;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Podman's lines, where the person has none.
const USER: &str = "$USERNAME:*:$UID:$GID:$NAME:$HOME:/bin/sh";
const GROUP: &str = "$GROUPNAME:x:$GID:$USERLIST";

/// The configuration with the mounts, and who its user is by the files that it sees then.
pub(super) fn complete<'a>(
    store: &Store,
    config: &'a ContainerConfig,
    files: &Files,
) -> Result<(Cow<'a, ContainerConfig>, Identity)> {
    let process = &config.process;
    let identity = files.identify(&process.user, &process.groups)?;
    let Some((passwd, group)) = lines(config, files, &identity) else {
        return Ok((Cow::Borrowed(config), identity));
    };
    let mut full = config.clone();
    let mut seen = Files::default();
    for (name, line, own, now) in [
        ("passwd", passwd, &files.passwd, &mut seen.passwd),
        ("group", group, &files.group, &mut seen.group),
    ] {
        now.clone_from(own);
        let target = Path::new("/etc").join(name);
        let Some(line) = line.filter(|_| !config.mounts.iter().any(|m| m.target == target)) else {
            continue;
        };
        if !now.ends_with(b"\n") {
            now.push(b'\n');
        }
        now.extend_from_slice(line.as_bytes());
        now.push(b'\n');
        let written = write(store, config, (name, now))?;
        full.mounts.push(Mount {
            read_only: false,
            ..bind(written, &target)
        });
    }
    full.mounts.sort_by_key(|m| m.target.components().count());
    let identity = seen.identify(&process.user, &process.groups)?;
    Ok((Cow::Owned(full), identity))
}

/// What each file lacks. An image without such a file has no use for a line of it.
fn lines(config: &ContainerConfig, files: &Files, identity: &Identity) -> Option<(Option<String>, Option<String>)> {
    let accounts = &config.accounts;
    if !accounts.added || config.process.user.is_empty() {
        return None;
    }
    let (uid, gid) = (identity.uid.to_string(), identity.gid.to_string());
    let workdir = config.process.workdir.to_string_lossy();
    let fill = |template: &str| {
        let values: [(&str, &str); 7] = [
            ("$USERNAME", &uid),
            ("$USERLIST", &uid),
            ("$UID", &uid),
            ("$GROUPNAME", &gid),
            ("$GID", &gid),
            ("$NAME", "container user"),
            ("$HOME", &workdir),
        ];
        let mut line = template.to_owned();
        for (name, value) in values {
            line = line.replace(name, value);
        }
        line
    };
    let user = !files.passwd.is_empty() && !files.has_user(identity.uid);
    let group = !files.group.is_empty() && !files.has_group(identity.gid);
    let passwd = user.then(|| fill(accounts.passwd.as_deref().unwrap_or(USER)));
    let group = group.then(|| fill(accounts.group.as_deref().unwrap_or(GROUP)));
    (passwd.is_some() || group.is_some()).then_some((passwd, group))
}

/// In a user namespace it is the container's root's, who may change it.
fn write(store: &Store, config: &ContainerConfig, (name, bytes): (&str, &[u8])) -> Result<PathBuf> {
    let dir = store.run_dir(&config.id);
    file::replace(&dir, name, bytes, Durability::Volatile)?;
    let path = dir.join(name);
    let give = || -> Result<()> {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))?;
        if let Some(ids) = &config.namespaces.user {
            let (user, group) = ids.root()?;
            std::os::unix::fs::lchown(&path, Some(user), Some(group))?;
        }
        Ok(())
    };
    give().with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}
