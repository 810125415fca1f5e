//! Creates a container: a record on disk, nothing in the kernel.

use crate::container::config::{
    self, Facts, ImageMount, NameArgs, NamespaceArg, NamespaceArgs, NetworkArg, RunArgs, UserArg,
};
use crate::container::{devices, driver, remove};
use crate::error::{Context as _, Error, Kind, Result};
use crate::image;
use crate::model::container::{BuildStep, ContainerConfig, ImageUse, NetworkMode, Requirement, RootSource};
use crate::model::driver::Driver;
use crate::model::id::{ContainerId, ImageId};
use crate::model::idmap::{self, IdMap, Range};
use crate::model::image::{ImageConfig, ImageRecord};
use crate::model::mount::Source;
use crate::model::name::Link;
use crate::model::namespace::{Namespaces, Whose};
use crate::model::network::{Attachment, DEFAULT};
use crate::model::platform::Platform;
use crate::model::secret::{SecretPlace, SecretUse};
use crate::model::service::SdNotify;
use crate::model::time::Timestamp;
use crate::monitor::chowned;
use crate::network;
use crate::runtime::{capability, cgroup, seccomp};
use crate::store::Store;
use crate::sys;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

/// Resolves image, name, volumes and cidfile, merges, and writes the record.
pub(crate) fn create(store: &Store, args: &RunArgs) -> Result<ContainerConfig> {
    let cidfile = args.cidfile.as_deref().map(CidFile::claim).transpose()?;
    sys::stop_point("cidfile-claimed");
    let config = record(store, args)?;
    sys::stop_point("container-recorded");
    if let Some(cidfile) = cidfile {
        cidfile.write(&config.id)?;
    }
    Ok(config)
}

/// Makes its volumes, empty; the first start fills them. A start makes what is missing, too.
pub(crate) fn make_volumes(store: &Store, config: &ContainerConfig) -> Result<()> {
    for mount in &config.mounts {
        if let Source::Volume { name, anonymous, .. } = &mount.source {
            store.ensure_volume(name, *anonymous)?;
            sys::stop_point("volume-made-early");
        }
    }
    Ok(())
}

fn record(store: &Store, args: &RunArgs) -> Result<ContainerConfig> {
    let has_image = args.root.is_default();
    if has_image {
        image::provide(store, &args.image)?;
    }
    let driver = driver::settle(store, None)?;
    if driver == Driver::Copy && args.quota.is_some() {
        return Err(Error::usage(
            "--storage-opt size is for what a container writes over an image: not with the storage driver copy",
        ));
    }
    // What a dead removal left may include volumes, which need the lock that is taken next.
    store.sweep_left_overs()?;
    if let Some(name) = args.name.as_deref().filter(|_| args.replace)
        && let Ok(old) = store.resolve_container(name)
        && store.config(&old).is_ok_and(|c| c.name == name)
    {
        // What can't be made takes nothing away.
        if has_image {
            image::resolve(store, &args.image)?;
        }
        let force = remove::Options {
            force: true,
            volumes: false,
        };
        remove::remove(store, &old, force).with_context(|| format!("replace {name}"))?;
    }
    // Until the record refers to the image's layers, nobody may drop them.
    let _references = store.lock_shared()?;
    let platform = args.platform.as_deref().map(Platform::parse).transpose()?;
    let image = match has_image {
        true => image::resolve::resolve_for(store, &args.image, platform.as_ref())?,
        false => no_image()?,
    };
    // From choosing a range of users to the record that says so.
    let _ranges = match args.namespaces.user {
        UserArg::Auto(_) => Some(store.lock_users()?),
        _ => None,
    };
    loop {
        let mut config = merge(store, args, &image, Store::random_id()?)?;
        if let (Some(ids), RootSource::Layers) = (&config.namespaces.user, &config.root) {
            config.namespaces.chowned = chowned::are_needed(store, ids)?;
        }
        check(&config)?;
        match store.new_container(&config) {
            // Another process took the random name since it was free.
            Err(e) if e.kind() == Kind::Conflict && args.name.is_none() => {}
            done => return done.map(|()| config),
        }
    }
}

/// What stands for the image of a container that has none: nothing is said there.
fn no_image() -> Result<ImageRecord> {
    let id = ImageId::from_hex(&"0".repeat(64)).ok_or_else(|| Error::other("no id for no image"))?;
    Ok(ImageRecord {
        id,
        config: ImageConfig::default(),
        parent: None,
        layers: Vec::new(),
        size: 0,
        stored: Timestamp::now(),
        manifests: Vec::new(),
        v1: Default::default(),
        annotations: Default::default(),
    })
}

/// Who is chosen from, where /etc/subuid has no line for `containers`: ids that no account has, and no other program
/// gives away (systemd's containers end at 0x6fff_ffff).
const POOL: (u32, u32) = (0x8000_0000, 0x7000_0000);

fn users(store: &Store, wanted: &UserArg) -> Result<Option<IdMap>> {
    let count = match wanted {
        UserArg::Host => return Ok(None),
        UserArg::Mapped(map) => return Ok(Some(map.clone())),
        UserArg::Container(name) => return Ok(store.config(&store.resolve_container(name)?)?.namespaces.user),
        UserArg::Auto(count) => *count,
    };
    let mut pool = subordinate("/etc/subuid");
    // A range is one of users and of groups.
    if pool != subordinate("/etc/subgid") || pool.is_empty() {
        pool = vec![POOL];
    }
    let configs = store
        .container_ids()?
        .into_iter()
        .filter_map(|id| store.config(&id).ok());
    let maps = configs.filter_map(|config| config.namespaces.user);
    let taken: Vec<_> = maps
        .flat_map(|map| map.users.into_iter().chain(map.groups))
        .map(|range| (range.outside, range.count))
        .collect();
    let outside = idmap::free(&pool, &taken, count).ok_or_else(|| {
        Error::other(format!("--userns auto: no range of {count} ids is free")).with_hint(
            "more can be had in /etc/subuid and /etc/subgid, for the name `containers`; `rm` gives them back",
        )
    })?;
    let range = Range {
        inside: 0,
        outside,
        count,
    };
    Ok(Some(IdMap {
        users: vec![range],
        groups: vec![range],
    }))
}

fn subordinate(file: &str) -> Vec<(u32, u32)> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let numbers = |line: &str| {
        let (start, count) = line.strip_prefix("containers:")?.split_once(':')?;
        Some((start.parse().ok()?, count.trim().parse().ok()?))
    };
    text.lines().filter_map(numbers).collect()
}

/// The container of a build's step: of an image that need not be in the store, whose layers are.
pub(super) fn of_build(
    store: &Store,
    args: &RunArgs,
    image: &ImageRecord,
    step: &BuildStep,
    id: &ContainerId,
) -> Result<ContainerConfig> {
    loop {
        let mut config = merge(store, args, image, id.clone())?;
        config.build = Some(step.clone());
        check(&config)?;
        match store.new_container(&config) {
            Err(e) if e.kind() == Kind::Conflict && args.name.is_none() => {}
            done => return done.map(|()| config),
        }
    }
}

fn merge(store: &Store, args: &RunArgs, image: &ImageRecord, id: ContainerId) -> Result<ContainerConfig> {
    let volumes_from = args.volumes_from.iter().map(|from| {
        let missing = |_| {
            Error::not_found(format!(
                "Container {} not found. Impossible to mount its volumes",
                from.container
            ))
        };
        store.config(&store.resolve_container(&from.container).map_err(missing)?)
    });
    let (network, mut shared_hostname) = network_mode(store, &args.network)?;
    let namespaces = namespaces(store, &args.namespaces)?;
    match &namespaces.uts {
        Whose::Private => {}
        Whose::Host => shared_hostname = Some(own_hostname()?),
        Whose::Container(other) => shared_hostname = Some(store.config(other)?.hostname),
    }
    let facts = Facts {
        name: args.name.clone().map_or_else(|| store.random_name(), Ok)?,
        id,
        now: Timestamp::now(),
        network,
        namespaces,
        links: links(store, &args.names)?,
        shared_hostname,
        requires: requires(store, &args.requires)?,
        secrets: secrets(store, args)?,
        cdi: devices::by_name(&args.cdi)?,
        images: mounted_images(store, args)?,
        volumes_from: volumes_from.collect::<Result<_>>()?,
        unit: cgroup::place::unit(&args.service)?,
        new_volume_name: &|| Store::random_id().map(String::from).unwrap_or_default(),
    };
    config::merge(args, image, facts)
}

fn requires(store: &Store, names: &[(String, bool)]) -> Result<Vec<Requirement>> {
    let mut all: Vec<Requirement> = Vec::new();
    for (name, healthy) in names {
        let what = || format!("required container {name}");
        let container = store.resolve_container(name).with_context(what)?;
        if *healthy && store.config(&container).with_context(what)?.health.is_none() {
            return Err(Error::conflict(format!(
                "required container {name} has no health check"
            )));
        }
        match all.iter_mut().find(|r| r.container == container) {
            Some(known) => known.healthy |= healthy,
            None => all.push(Requirement {
                container,
                healthy: *healthy,
            }),
        }
    }
    Ok(all)
}

fn secrets(store: &Store, args: &RunArgs) -> Result<Vec<SecretUse>> {
    let one = |(name, place): &(String, SecretPlace)| {
        let secret = store.secret(name)?;
        Ok(SecretUse {
            id: secret.id,
            name: secret.name,
            place: place.clone(),
        })
    };
    args.secrets.iter().map(one).collect()
}

fn mounted_images(store: &Store, args: &RunArgs) -> Result<Vec<ImageUse>> {
    let platform = args.platform.as_deref().map(Platform::parse).transpose()?;
    let one = |mount: &ImageMount| {
        image::provide(store, &mount.reference)?;
        let image = image::resolve::resolve_for(store, &mount.reference, platform.as_ref())?;
        Ok(ImageUse {
            id: image.id,
            reference: mount.reference.clone(),
            layers: image.layers,
            committed: 0,
        })
    };
    args.images.iter().map(one).collect()
}

fn links(store: &Store, args: &NameArgs) -> Result<Vec<Link>> {
    let link = |(typed, alias): &(String, Option<String>)| {
        let container = store
            .resolve_container(typed)
            .with_context(|| format!("could not get container for {typed}"))?;
        let name = store.config(&container)?.name;
        Ok(Link {
            alias: alias.clone().unwrap_or_else(|| typed.clone()),
            container,
            name,
        })
    };
    args.links.iter().map(link).collect()
}

fn network_mode(store: &Store, wanted: &NetworkArg) -> Result<(NetworkMode, Option<String>)> {
    Ok(match wanted {
        NetworkArg::None => (NetworkMode::None, None),
        NetworkArg::Host => (NetworkMode::Host, Some(own_hostname()?)),
        NetworkArg::Container(other) => {
            let id = store.resolve_container(other)?;
            let hostname = store.config(&id)?.hostname;
            (NetworkMode::Container(id), Some(hostname))
        }
        NetworkArg::Ns(path) => (NetworkMode::Ns(path.clone()), None),
        NetworkArg::Default => (NetworkMode::Networks(vec![Attachment::to(DEFAULT)]), None),
        NetworkArg::Bridge(bridge) => {
            let network = network::existing_bridge_network(store, bridge)?;
            (NetworkMode::Networks(vec![Attachment::to(network.name)]), None)
        }
        NetworkArg::Networks(attachments) => (NetworkMode::Networks(network::check(store, attachments)?), None),
    })
}

fn own_hostname() -> Result<String> {
    Ok(nix::unistd::gethostname()?.to_string_lossy().into_owned())
}

fn namespaces(store: &Store, wanted: &NamespaceArgs) -> Result<Namespaces> {
    let whose = |arg: &NamespaceArg| {
        Ok::<_, Error>(match arg {
            NamespaceArg::Private => Whose::Private,
            NamespaceArg::Host => Whose::Host,
            NamespaceArg::Container(name) => Whose::Container(store.resolve_container(name)?),
        })
    };
    Ok(Namespaces {
        ipc: whose(&wanted.ipc)?,
        pid: whose(&wanted.pid)?,
        uts: whose(&wanted.uts)?,
        host_cgroups: wanted.host_cgroups,
        no_shm: wanted.no_shm,
        user: users(store, &wanted.user)?,
        chowned: false,
    })
}

/// What can be known to fail at every start is refused now.
fn check(config: &ContainerConfig) -> Result<()> {
    cgroup::check(&config.resources)?;
    if config.security.privileged && config.namespaces.user.is_some() {
        return Err(Error::usage("privileged mode is incompatible with user namespaces")
            .with_hint("with --userns host the container has all rights; in a namespace of users it can have none over the host"));
    }
    if config.quota.is_some() && matches!(config.root, RootSource::Directory(_)) {
        return Err(Error::usage(
            "--storage-opt size is for what a container writes over an image, not for --rootfs DIR",
        ));
    }
    if config.service.notify == SdNotify::Healthy && config.health.is_none() {
        return Err(
            Error::usage("--sdnotify=healthy is for a container with a health check: it would never be ready")
                .with_hint("--health-cmd says how to ask"),
        );
    }
    if let Some(path) = &config.init_path {
        let meta = std::fs::metadata(path).with_context(|| format!("--init-path {}", path.display()))?;
        if !meta.is_file() || std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o111 == 0 {
            return Err(Error::usage(format!(
                "--init-path {}: it is no program",
                path.display()
            )));
        }
    }
    if config.mounts.iter().any(|m| m.idmap) && config.namespaces.user.is_none() {
        return Err(
            Error::usage("idmap is for a container with a user namespace").with_hint("--userns auto, or UID:GID")
        );
    }
    let capabilities = capability::from_config(&config.security)?;
    seccomp::program(&config.security, capabilities)?;
    Ok(())
}

/// A file that did not exist before: made before the container, so that one of the two is never left alone (F094).
struct CidFile<'a> {
    path: &'a Path,
    file: File,
    written: bool,
}

impl<'a> CidFile<'a> {
    fn claim(path: &'a Path) -> Result<CidFile<'a>> {
        match File::options().write(true).create_new(true).open(path) {
            Ok(file) => Ok(CidFile {
                path,
                file,
                written: false,
            }),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Err(Error::conflict(format!(
                "cid file found, make sure the other container isn't running or delete {}",
                path.display()
            ))),
            Err(e) => Err(e).with_context(|| format!("create the container ID file {}", path.display())),
        }
    }

    fn write(mut self, id: &ContainerId) -> Result<()> {
        self.file
            .write_all(id.as_str().as_bytes())
            .with_context(|| format!("write the container ID file {}", self.path.display()))?;
        self.written = true;
        Ok(())
    }
}

impl Drop for CidFile<'_> {
    fn drop(&mut self) {
        if !self.written {
            let _ = std::fs::remove_file(self.path);
        }
    }
}
