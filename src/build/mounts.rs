//! `RUN --mount`: what of the mounts counts for the cache, and what a step's container gets for them.
//!
//! Secrets are files in the container's run directory, on a tmpfs, and gone with it; as variables they are in a file
//! there too. Neither the container's record, nor a key of the cache, nor a layer has anything of them: places to mount
//! on are a layer of their own below all others, and are not the step's.

use crate::build::copy;
use crate::build::instruction::{MountKind, MountOwner, Run, Sharing};
use crate::build::layers::Layers;
use crate::build::options::{Options, SecretFrom, SecretSource};
use crate::build::sources::Source;
use crate::container::config::clean_target;
use crate::container::step::SECRET_VARIABLES;
use crate::error::{Context as _, Error, Result};
use crate::layer;
use crate::model::bytes::ByteString;
use crate::model::container::TreeMount;
use crate::model::id::ContainerId;
use crate::model::mount::{Mount, Source as MountSource};
use crate::store::{CacheMount, CacheMountWanted, Durability, StagedLayer, Store, file};
use rustix::fs::{FileType, fstat};
use std::fs::{DirBuilder, File, Permissions};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of a secret at most, as docker has it.
const LARGEST_SECRET: u64 = 500 * 1024;
/// Somebody else may have a locked cache for as long as a step takes; every so often the person is told.
const CACHE_PATIENCE: Duration = Duration::from_secs(3600);

/// Beside `diff/` of a step: what its mounts are made on, a layer below all others.
pub(crate) const PLACES: &str = "places";

/// What a container gets.
#[derive(Default)]
pub(crate) struct Prepared {
    pub(crate) mounts: Vec<Mount>,
    pub(crate) trees: Vec<TreeMount>,
    pub(crate) env: Vec<ByteString>,
    /// In use until the step has ended.
    pub(crate) caches: Vec<CacheMount>,
    pub(crate) bound: Vec<crate::build::context::Bound>,
    /// Which of the targets are files.
    pub(crate) places: Vec<(PathBuf, Node)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node {
    Directory,
    File,
}

/// What of a step's mounts decides about its result; `source` gives the files of `from`.
pub(crate) fn key(run: &Run, source: &mut dyn FnMut(Option<&str>) -> Result<Source>) -> Result<serde_json::Value> {
    let mut keys = Vec::new();
    for mount in &run.mounts {
        keys.push(match &mount.kind {
            MountKind::Bind {
                from,
                source: path,
                target,
                read_write,
            } => {
                let files = source(from.as_deref())?;
                let digest =
                    copy::digest_tree(files.tree(), path).with_context(|| format!("--mount {}", &*mount.text))?;
                serde_json::json!(["bind", target, read_write, digest.hex()])
            }
            MountKind::Cache {
                id,
                target,
                read_only,
                sharing,
                from,
                source: path,
                owner,
            } => {
                let begin = match from.as_deref() {
                    Some(from) => {
                        let files = source(Some(from))?;
                        let digest = copy::digest_tree(files.tree(), path);
                        Some(digest.with_context(|| format!("--mount {}", &*mount.text))?.hex())
                    }
                    None => None,
                };
                let sharing = format!("{sharing:?}");
                serde_json::json!(["cache", id, target, read_only, sharing, begin, of_owner(owner)])
            }
            MountKind::Tmpfs { target, size } => serde_json::json!(["tmpfs", target, size]),
            MountKind::Secret {
                id,
                target,
                variable,
                required,
                owner,
            } => serde_json::json!(["secret", id, target, variable, required, of_owner(owner)]),
            MountKind::Ssh {
                id,
                target,
                required,
                owner,
            } => serde_json::json!(["ssh", id, target, required, of_owner(owner)]),
        });
    }
    Ok(keys.into())
}

fn of_owner(owner: &MountOwner) -> serde_json::Value {
    serde_json::json!([owner.uid, owner.gid, owner.mode])
}

/// Whether one of two steps at once would have to wait for a cache of the other's.
pub(crate) fn wait_for_each_other(one: &Run, other: &Run) -> bool {
    let caches = |run: &Run| -> Vec<Sharing> {
        let sharing = run.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Cache { sharing, .. } => Some(*sharing),
            _ => None,
        });
        sharing.collect()
    };
    let (one, other) = (caches(one), caches(other));
    let locked = one.iter().chain(&other).any(|sharing| *sharing == Sharing::Locked);
    locked && !one.is_empty() && !other.is_empty()
}

/// Makes what the mounts need: in the step's staging directory, and secrets in the container's run directory.
pub(crate) struct Preparation<'a> {
    pub(crate) store: &'a Store,
    pub(crate) options: &'a Options,
    pub(crate) layers: &'a Layers<'a>,
    pub(crate) staged: &'a StagedLayer,
    pub(crate) id: &'a ContainerId,
    pub(crate) workdir: &'a str,
}

impl Preparation<'_> {
    pub(crate) fn mounts(&self, run: &Run, source: &mut dyn FnMut(Option<&str>) -> Result<Source>) -> Result<Prepared> {
        let mut prepared = Prepared::default();
        let mut variables = Vec::new();
        // Caches last, and in an order that is the same in every build: who waits for one has none that somebody before
        // it waits for.
        let mut all: Vec<_> = run.mounts.iter().enumerate().collect();
        all.sort_by_key(|(_, mount)| match &mount.kind {
            MountKind::Cache { id, .. } => Some(id.to_string()),
            _ => None,
        });
        for (n, mount) in all {
            let done = match &mount.kind {
                MountKind::Bind {
                    from,
                    source: path,
                    target,
                    read_write,
                } => {
                    let files = source(from.as_deref())?;
                    self.bind(&mut prepared, n, (&files, path), (target, *read_write))
                }
                MountKind::Cache { .. } => self.cache(&mut prepared, &mount.kind, source),
                MountKind::Tmpfs { target, size } => {
                    let mount = MountSource::Tmpfs {
                        size: *size,
                        mode: None,
                        options: vec!["exec".to_owned()],
                    };
                    self.add(&mut prepared, mount, (target, false), Node::Directory)
                }
                MountKind::Secret {
                    id,
                    target,
                    variable,
                    required,
                    owner,
                } => self.secret(
                    &mut prepared,
                    &mut variables,
                    (n, id, *required),
                    (target, variable, owner),
                ),
                MountKind::Ssh {
                    id, target, required, ..
                } => self.ssh(&mut prepared, id, target.as_deref(), (n, *required)),
            };
            done.with_context(|| format!("--mount {}", &*mount.text))?;
        }
        if !variables.is_empty() {
            self.private_file(SECRET_VARIABLES, &variables)?;
        }
        Ok(prepared)
    }

    /// A target, absolute.
    fn target(&self, target: &str) -> Result<PathBuf> {
        clean_target(&Path::new(self.workdir).join(target))
    }

    fn add(
        &self,
        prepared: &mut Prepared,
        source: MountSource,
        (target, read_only): (&str, bool),
        node: Node,
    ) -> Result<()> {
        let target = self.target(target)?;
        prepared.places.push((target.clone(), node));
        prepared.mounts.push(Mount {
            read_only,
            ..Mount::new(source, target)
        });
        Ok(())
    }

    fn scratch(&self, n: usize) -> Result<PathBuf> {
        let scratch = self.staged.place().join(format!("mount-{n}"));
        for name in ["empty", "upper", "work"] {
            let make = DirBuilder::new().recursive(true).mode(0o755).create(scratch.join(name));
            make.with_context(|| format!("make {}", scratch.display()))?;
        }
        Ok(scratch)
    }

    fn bind(
        &self,
        prepared: &mut Prepared,
        n: usize,
        (files, path): (&Source, &str),
        (target, writable): (&str, bool),
    ) -> Result<()> {
        let mut tree = TreeMount {
            target: self.target(target)?,
            lowers: Vec::new(),
            subpath: PathBuf::new(),
            scratch: self.scratch(n)?,
            writable,
        };
        let directory = match files {
            Source::Layers { top, view } => {
                let inside = openat_inside(view.as_fd(), path)?;
                tree.lowers = self.layers.dirs(*top);
                if tree.lowers.is_empty() {
                    tree.lowers.push(self.layers.empty()?);
                }
                tree.subpath = PathBuf::from(path);
                is_directory(&inside)?
            }
            Source::Context(context) => {
                let bound = context.bindable(self.store, path)?;
                let directory = is_directory(&bound.fd())?;
                // By this process's descriptor, which lives as long as the step does.
                let own = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), bound.fd().as_raw_fd()));
                if directory {
                    tree.lowers.push(own);
                } else {
                    // A file alone is no layer: what is mounted is a copy, so that nothing reaches the context.
                    let copy = tree.scratch.join("empty/file");
                    copy_file(&own, &copy)?;
                    tree.lowers.push(self.layers.empty()?);
                    tree.subpath = PathBuf::from("file");
                }
                prepared.bound.push(bound);
                directory
            }
        };
        let node = if directory { Node::Directory } else { Node::File };
        prepared.places.push((tree.target.clone(), node));
        prepared.trees.push(tree);
        Ok(())
    }

    fn cache(
        &self,
        prepared: &mut Prepared,
        kind: &MountKind,
        source: &mut dyn FnMut(Option<&str>) -> Result<Source>,
    ) -> Result<()> {
        let MountKind::Cache {
            id,
            target,
            read_only,
            sharing,
            from,
            source: path,
            owner,
        } = kind
        else {
            return Ok(());
        };
        let wanted = match sharing {
            Sharing::Shared => CacheMountWanted::Shared,
            Sharing::Private => CacheMountWanted::Private,
            Sharing::Locked => CacheMountWanted::Locked,
        };
        // The same cache twice in one step is the same directory.
        let first = self.store.cache_mount(id, wanted)?;
        let cache = match first {
            Some(cache) => cache,
            None => {
                self.store
                    .notify(&format!("waiting for cache {id}, which another build uses"));
                self.store
                    .cache_mount_within(id, wanted, CACHE_PATIENCE)?
                    .ok_or_else(|| Error::conflict(format!("cache {id} is in use by another build")))?
            }
        };
        if cache.fresh {
            if let Some(from) = from {
                let files = source(Some(from))?;
                let begin = openat_inside(files.tree().root, path)?;
                let into = File::open(cache.path())?;
                layer::copy::tree(begin.as_fd(), into.as_fd(), &layer::copy::Options::default())
                    .context("fill the cache")?;
            }
            std::os::unix::fs::chown(cache.path(), Some(owner.uid.unwrap_or(0)), Some(owner.gid.unwrap_or(0)))?;
            std::fs::set_permissions(cache.path(), Permissions::from_mode(owner.mode.unwrap_or(0o755)))?;
        }
        let bind = MountSource::Bind {
            path: cache.path().to_owned(),
            non_recursive: true,
            create: false,
        };
        prepared.caches.push(cache);
        self.add(prepared, bind, (target, *read_only), Node::Directory)
    }

    fn secret(
        &self,
        prepared: &mut Prepared,
        variables: &mut Vec<u8>,
        (n, id, required): (usize, &str, bool),
        (target, variable, owner): (&Option<String>, &Option<String>, &MountOwner),
    ) -> Result<()> {
        let Some(content) = secret(self.store, &self.options.secrets, id)? else {
            return match required {
                true => Err(Error::not_found(format!("secret {id}: not found")).with_hint(format!(
                    "give it: --secret id={id},src=FILE or --secret id={id},env=NAME"
                ))),
                false => Ok(()),
            };
        };
        if let Some(name) = variable {
            if content.contains(&0) {
                return Err(Error::other(format!("secret {id}: a variable can't have a NUL in it")));
            }
            variables.extend_from_slice(name.as_bytes());
            variables.push(b'=');
            variables.extend_from_slice(&content);
            variables.push(0);
        }
        let Some(target) = target else { return Ok(()) };
        let path = self.private_file(&format!("secret-{n}"), &content)?;
        std::os::unix::fs::chown(&path, Some(owner.uid.unwrap_or(0)), Some(owner.gid.unwrap_or(0)))?;
        std::fs::set_permissions(&path, Permissions::from_mode(owner.mode.unwrap_or(0o400)))?;
        let bind = MountSource::Bind {
            path,
            non_recursive: true,
            create: false,
        };
        self.add(prepared, bind, (target, true), Node::File)
    }

    fn private_file(&self, name: &str, content: &[u8]) -> Result<PathBuf> {
        let dir = self.store.make_run_dir(self.id)?;
        let path = dir.join(name);
        file::write_new(&path, content, Durability::Volatile).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    fn ssh(&self, prepared: &mut Prepared, id: &str, target: Option<&str>, (n, required): (usize, bool)) -> Result<()> {
        let Some(agent) = self.options.ssh.iter().find(|s| s.id == id) else {
            return match required {
                true => Err(
                    Error::not_found(format!("ssh {id}: no agent is given")).with_hint(format!(
                        "give it: --ssh {id} (with SSH_AUTH_SOCK set), or --ssh {id}=SOCKET"
                    )),
                ),
                false => Ok(()),
            };
        };
        let socket = match agent.paths.as_slice() {
            [] => std::env::var_os("SSH_AUTH_SOCK")
                .map(PathBuf::from)
                .ok_or_else(|| Error::other("SSH_AUTH_SOCK is not set")),
            [only] => Ok(only.clone()),
            _ => Err(Error::other("several keys need an agent that has them")
                .with_hint("start ssh-agent, add the keys, and give --ssh default")),
        }?;
        let meta = std::fs::metadata(&socket).with_context(|| socket.display().to_string())?;
        if !std::os::unix::fs::FileTypeExt::is_socket(&meta.file_type()) {
            return Err(Error::other(format!("{} is no agent's socket", socket.display()))
                .with_hint("start ssh-agent, add the key, and give --ssh default"));
        }
        let target = target.map_or_else(|| format!("/run/buildkit/ssh_agent.{n}"), str::to_owned);
        if !prepared.env.iter().any(|e| e.split_env().0 == b"SSH_AUTH_SOCK") {
            prepared.env.push(format!("SSH_AUTH_SOCK={target}").into());
        }
        let bind = MountSource::Bind {
            path: std::path::absolute(socket)?,
            non_recursive: true,
            create: false,
        };
        self.add(prepared, bind, (&target, false), Node::File)
    }

    /// A script to be executed as a file of its own.
    pub(crate) fn script(&self, prepared: &mut Prepared, name: &str, text: &str) -> Result<()> {
        let path = self.staged.place().join("script");
        let file = file::write_new(&path, text.as_bytes(), Durability::Volatile).context("write the script")?;
        file.set_permissions(Permissions::from_mode(0o755))?;
        drop(file);
        let bind = MountSource::Bind {
            path,
            non_recursive: true,
            create: false,
        };
        self.add(prepared, bind, (&format!("/dev/pipes/{name}"), true), Node::File)
    }

    /// The layer below all others that has what is mounted on.
    pub(crate) fn places(&self, targets: &[(PathBuf, Node)]) -> Result<Option<PathBuf>> {
        // What lies in these is made on filesystems of the container's own.
        let own = |target: &Path| ["/dev", "/proc", "/sys"].iter().any(|own| target.starts_with(own));
        let targets: Vec<_> = targets.iter().filter(|(target, _)| !own(target)).collect();
        if targets.is_empty() {
            return Ok(None);
        }
        let root = self.staged.place().join(PLACES);
        let make = |path: &Path| DirBuilder::new().recursive(true).mode(0o755).create(path);
        for (target, node) in targets {
            let path = root.join(target.strip_prefix("/").unwrap_or(target));
            let dir = match node {
                Node::Directory => path.as_path(),
                Node::File => path.parent().unwrap_or(&root),
            };
            let made = make(dir).and_then(|()| match node {
                // A directory in place of it: another mount of this step says so, and finds out.
                Node::File if !path.exists() => file::write_new(&path, b"", Durability::Volatile).map(|_| ()),
                _ => Ok(()),
            });
            made.with_context(|| format!("make a place to mount {} on", target.display()))?;
        }
        Ok(Some(root))
    }
}

/// A secret's content; `None` if nobody has given it.
fn secret(store: &Store, given: &[SecretSource], id: &str) -> Result<Option<Vec<u8>>> {
    let Some(secret) = given.iter().find(|s| s.id == id) else {
        return Ok(None);
    };
    let stored = |name: &str| -> Result<Vec<u8>> {
        let known = store.secret(name).with_context(|| format!("secret {id}"))?;
        store.secret_data(&known.id)
    };
    let variable = |name: &str| std::env::var_os(name).map(std::os::unix::ffi::OsStringExt::into_vec);
    match &secret.from {
        SecretFrom::File(path) => read_secret(path).map(Some),
        SecretFrom::Env(name) => match variable(name) {
            Some(value) => Ok(Some(value)),
            None => Err(Error::not_found(format!("secret {id}: the variable {name} is not set"))),
        },
        SecretFrom::Any(name) => match variable(name) {
            Some(value) => Ok(Some(value)),
            None if Path::new(name).exists() => read_secret(Path::new(name)).map(Some),
            None => stored(name).map(Some),
        },
        SecretFrom::Stored(name) => stored(name).map(Some),
    }
}

fn read_secret(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let open = File::open(path).with_context(|| format!("secret {}", path.display()))?;
    let mut content = Vec::new();
    open.take(LARGEST_SECRET + 1)
        .read_to_end(&mut content)
        .with_context(|| format!("secret {}", path.display()))?;
    match content.len() as u64 > LARGEST_SECRET {
        true => Err(Error::other(format!(
            "secret {}: more than {} kB",
            path.display(),
            LARGEST_SECRET / 1024
        ))),
        false => Ok(content),
    }
}

fn is_directory(fd: &impl std::os::fd::AsFd) -> Result<bool> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Directory)
}

/// A path of a tree, whose links lead nowhere but into it.
fn openat_inside(root: std::os::fd::BorrowedFd<'_>, path: &str) -> Result<std::os::fd::OwnedFd> {
    use rustix::fs::{OFlags, ResolveFlags};
    let relative = path.trim_start_matches('/');
    let relative = if relative.is_empty() { "." } else { relative };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    crate::sys::tree::look_up(root, relative, flags, resolve).with_context(|| path.to_owned())
}

fn copy_file(from: &Path, to: &Path) -> Result<()> {
    let mut from = File::open(from)?;
    let mode = from.metadata()?.permissions();
    let mut into = file::write_new(to, b"", Durability::Volatile)?;
    std::io::copy(&mut from, &mut into)?;
    into.set_permissions(mode)?;
    Ok(())
}
