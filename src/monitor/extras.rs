//! What a container gets at each start that its record only names: secrets, devices of the Container Device Interface,
//! and another init than the engine's. The record is never changed: neither shows in `inspect`, `commit` or a layer.

use crate::error::{Context as _, Error, Result};
use crate::model::bytes::ByteString;
use crate::model::container::ContainerConfig;
use crate::model::mount::{Mount, Propagation, Source};
use crate::model::secret::{SecretPlace, SecretUse};
use crate::runtime::cdi;
use crate::store::{Durability, Store, file};
use std::borrow::Cow;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// In the run directory, which is in memory and goes with the container's end: a directory for `/run/secrets`, and one
/// for files that were wanted elsewhere.
const SECRETS: &str = "secrets";
const ELSEWHERE: &str = "secrets.elsewhere";
/// Those that are variables, for programs that join the container; mode 0700, and never mounted.
const VALUES: &str = "secrets.values";
/// Where the first is mounted.
const TARGET: &str = "/run/secrets";

/// Where another init is mounted: in memory, so that nothing of it is in the container's layer.
const INIT: &str = "/dev/init";

/// The configuration with all of them.
pub(super) fn complete<'a>(store: &Store, config: &'a ContainerConfig) -> Result<Cow<'a, ContainerConfig>> {
    if config.secrets.is_empty() && config.cdi.is_empty() && config.init_path.is_none() {
        return Ok(Cow::Borrowed(config));
    }
    let mut full = with_values(config, &secret_values(store, config)?)?.into_owned();
    let edits = cdi::edits(&config.cdi)?;
    full.devices.extend(edits.devices);
    full.mounts.extend(edits.mounts);
    full.process.groups.extend(edits.groups);
    full.mounts.extend(secret_mounts(store, config)?);
    if let Some(init) = &config.init_path {
        full.init = false;
        full.mounts.push(bind(init.clone(), Path::new(INIT)));
        full.process.entrypoint.splice(0..0, [INIT.into(), "--".into()]);
    }
    full.mounts.sort_by_key(|m| m.target.components().count());
    Ok(Cow::Owned(full))
}

/// With what they add to the environment only: for a program that joins a running container. The values are those that
/// the container was started with: they are its own by now, whatever has become of the secrets.
pub(super) fn with_environment<'a>(store: &Store, config: &'a ContainerConfig) -> Result<Cow<'a, ContainerConfig>> {
    let kept = store.run_dir(&config.id).join(VALUES);
    let mut values = Vec::new();
    for (n, secret) in of_environment(config) {
        values.push(match file::read(&kept.join(n.to_string()))? {
            Some(value) => value,
            // Started by a barge that kept none.
            None => data(store, secret)?,
        });
    }
    with_values(config, &values)
}

/// The secrets that are variables, and their numbers.
fn of_environment(config: &ContainerConfig) -> impl Iterator<Item = (usize, &SecretUse)> {
    let all = config.secrets.iter().enumerate();
    all.filter(|(_, secret)| matches!(secret.place, SecretPlace::Env(_)))
}

/// Their values as they are now, which are kept for programs that join the container later.
fn secret_values(store: &Store, config: &ContainerConfig) -> Result<Vec<Vec<u8>>> {
    let kept = store.run_dir(&config.id).join(VALUES);
    let mut values = Vec::new();
    for (n, secret) in of_environment(config) {
        let value = data(store, secret)?;
        match std::fs::DirBuilder::new().mode(0o700).create(&kept) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e).context("keep the secrets"),
            _ => file::replace(&kept, &n.to_string(), &value, Durability::Volatile)?,
        }
        values.push(value);
    }
    Ok(values)
}

fn with_values<'a>(config: &'a ContainerConfig, values: &[Vec<u8>]) -> Result<Cow<'a, ContainerConfig>> {
    let of_devices = cdi::edits(&config.cdi)?.env.into_iter().map(ByteString::from);
    let mut more: Vec<ByteString> = of_devices.collect();
    for ((_, secret), value) in of_environment(config).zip(values) {
        let SecretPlace::Env(name) = &secret.place else {
            continue;
        };
        if value.contains(&0) {
            let message = format!("secret {}: it has a NUL byte, which no variable can hold", secret.name);
            return Err(Error::other(message));
        }
        more.push([name.as_bytes(), b"=", value].concat().into());
    }
    if more.is_empty() {
        return Ok(Cow::Borrowed(config));
    }
    let mut full = config.clone();
    let named = |e: &ByteString| more.iter().any(|m| m.split_env().0 == e.split_env().0);
    full.process.env.retain(|e| !named(e));
    full.process.env.extend(more);
    Ok(Cow::Owned(full))
}

fn data(store: &Store, secret: &SecretUse) -> Result<Vec<u8>> {
    store.secret_data(&secret.id).map_err(|e| {
        let gone = Error::not_found(format!("secret {} is gone: {e}", secret.name));
        gone.with_hint("a container keeps to the secret that it was created with; create it again")
    })
}

/// Writes the files, as they are now, and says where they are to be mounted.
fn secret_mounts(store: &Store, config: &ContainerConfig) -> Result<Vec<Mount>> {
    let run_dir = store.run_dir(&config.id);
    let (inside, elsewhere) = (run_dir.join(SECRETS), run_dir.join(ELSEWHERE));
    for dir in [&inside, &elsewhere] {
        match std::fs::remove_dir_all(dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).context("renew the secrets"),
            _ => {}
        }
    }
    let mut mounts = Vec::new();
    for (n, secret) in config.secrets.iter().enumerate() {
        let SecretPlace::File { target, uid, gid, mode } = &secret.place else {
            continue;
        };
        let path = match target.strip_prefix(TARGET) {
            Ok(below) => inside.join(below),
            Err(_) => elsewhere.join(n.to_string()),
        };
        let owner = match &config.namespaces.user {
            Some(ids) => ids.outside_user(*uid).zip(ids.outside_group(*gid)),
            None => Some((*uid, *gid)),
        };
        let owner = owner.ok_or_else(|| {
            let name = &secret.name;
            Error::usage(format!(
                "secret {name}: {uid}:{gid} is not of the container's user namespace"
            ))
        })?;
        write(&path, &data(store, secret)?, owner, *mode).with_context(|| format!("secret {}", secret.name))?;
        if !path.starts_with(&inside) {
            mounts.push(bind(path, target));
        }
    }
    if inside.exists() {
        mounts.push(bind(inside, Path::new(TARGET)));
    }
    Ok(mounts)
}

fn write(path: &Path, bytes: &[u8], (uid, gid): (u32, u32), mode: u32) -> Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    }
    let file = file::write_new(path, bytes, Durability::Volatile)?;
    std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
    Ok(file.set_permissions(std::fs::Permissions::from_mode(mode))?)
}

/// A file of the host's, to be read.
pub(super) fn bind(path: PathBuf, target: &Path) -> Mount {
    Mount {
        source: Source::Bind {
            path,
            non_recursive: true,
            create: false,
        },
        target: target.to_owned(),
        read_only: true,
        propagation: Propagation::Rprivate,
        idmap: false,
        chown: false,
    }
}
