//! One start to exit of a container: what it acquires it releases, on every way out.

use crate::error::{Context as _, Error, Result};
use crate::model::bytes::ByteString;
use crate::model::container::{ContainerConfig, NetworkMode};
use crate::model::network::Endpoint;
use crate::model::state::{LiveState, ProcessRef};
use crate::monitor::frame::Size;
use crate::monitor::root::{self, Access};
use crate::monitor::streams::Channels;
use crate::monitor::{accounts, extras, identity, localtime, names, sharing, stdio, trees, volumes};
use crate::network::publish::Reservation;
use crate::network::service::Service;
use crate::network::{self, Reserved, rules};
use crate::runtime::capability::Capabilities;
use crate::runtime::cgroup::place::Place;
use crate::runtime::cgroup::{self, Cgroup, DeviceFilter};
use crate::runtime::plan::{self, CgroupMount, Facts};
use crate::runtime::prepare::{self, Passed, Prepared};
use crate::runtime::spawn::{self, Init};
use crate::runtime::{capability, device, seccomp, user};
use crate::store::{Durability, Store, file};
use crate::sys;
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// A running container.
pub(super) struct Cycle {
    pub(super) init: Init,
    /// Keeps the root mounted past the end of its last process: the unmount is ours, and not in line with the exit.
    root: OwnedFd,
    cgroups: Vec<PathBuf>,
    pub(super) device_filter: bool,
}

/// What a start gives besides the cycle.
pub(super) struct Started {
    pub(super) cycle: Cycle,
    pub(super) channels: Channels,
    pub(super) services: Vec<Box<dyn Service>>,
    pub(super) warnings: Vec<String>,
}

/// The groups of a container, in the order they are made: recorded before.
pub(super) fn cgroup_paths(
    store: &Store,
    config: &ContainerConfig,
    place: &Place,
) -> Result<(cgroup::Host, Vec<PathBuf>)> {
    let base = cgroup::base(store.instance().as_deref());
    let host = cgroup::Host::probe()?.with_place(&base, &config.id, place);
    let paths = paths(store, config, &host);
    Ok((host, paths))
}

fn paths(store: &Store, config: &ContainerConfig, host: &cgroup::Host) -> Vec<PathBuf> {
    host.paths(&cgroup::base(store.instance().as_deref()), &config.id)
}

/// Leases what the container needs on its networks; nothing is in the kernel yet.
pub(super) fn reserve(store: &Store, config: &ContainerConfig) -> Result<Reserved> {
    network::reserve(store, &config.id, &store.attachments(config)?, &[])
}

/// What the monitor serves for this cycle, inside the container's own network namespace or on the host.
fn services(
    store: &Store,
    config: &ContainerConfig,
    live: &LiveState,
    netns: Option<BorrowedFd<'_>>,
    ports: Reservation,
) -> Result<Vec<Box<dyn Service>>> {
    let mut services: Vec<Box<dyn Service>> = Vec::new();
    if let Some(proxy) = ports.into_proxy(&live.endpoints, netns)? {
        services.push(Box::new(proxy));
    }
    if let Some(netns) = netns.filter(|_| !live.endpoints.is_empty()) {
        services.extend(names::service(store, config, &live.endpoints, netns, live.monitor)?);
    }
    Ok(services)
}

/// What a start takes over.
pub(super) struct Handed<'a> {
    pub(super) ports: Reservation,
    /// Of its terminal, if it has one.
    pub(super) size: Option<Size>,
    pub(super) passed: Passed,
    /// Its streams, if they are no business of ours.
    pub(super) streams: Option<&'a [OwnedFd; 3]>,
}

/// Prepares everything and starts the container's first process.
pub(super) fn start(
    store: &Store,
    config: &ContainerConfig,
    host: &cgroup::Host,
    live: &LiveState,
    handed: Handed<'_>,
) -> Result<Started> {
    let cgroups = paths(store, config, host);
    let result = try_start(store, config, host, live, handed);
    match result {
        Ok((parts, channels, warnings)) => {
            let Parts {
                init,
                root,
                device_filter,
                services,
            } = parts;
            let cycle = Cycle {
                init,
                root,
                cgroups,
                device_filter,
            };
            Ok(Started {
                cycle,
                channels,
                services,
                warnings,
            })
        }
        Err(e) => match cgroup::kill_and_remove(&cgroups) {
            Ok(()) => Err(e),
            Err(second) => Err(e.and(&second)),
        },
    }
}

impl Cycle {
    /// pid and start time of init, which may have ended already but is not reaped.
    pub(super) fn process(&self) -> ProcessRef {
        let pid = self.init.pid;
        ProcessRef {
            pid,
            start_time: sys::process::birth(pid).unwrap_or(0),
        }
    }

    pub(super) fn ran_out_of_memory(&self) -> bool {
        cgroup::oom_killed(&self.cgroups)
    }

    /// Ends what is left, and releases everything but the root, which is given back: closed, it is unmounted.
    pub(super) fn release(self) -> (Result<()>, OwnedFd) {
        let released = cgroup::kill_and_remove(&self.cgroups);
        // Whoever asked for it to end may be gone; it is our child in any case.
        let reaped = sys::process::pidfd_signal(self.init.pidfd.as_fd(), libc::SIGKILL)
            .and_then(|()| sys::process::reap(self.init.pidfd.as_fd()));
        (
            released.and(reaped.map(|_| ()).context("reap the first process")),
            self.root,
        )
    }

    /// Ends and releases a container that its monitor can't serve any more, because of `error`.
    pub(super) fn abandon(self, error: Error) -> Error {
        match self.release().0 {
            Ok(()) => error,
            Err(second) => error.and(&second),
        }
    }
}

struct Parts {
    init: Init,
    root: OwnedFd,
    device_filter: bool,
    services: Vec<Box<dyn Service>>,
}

/// What the program gets besides its configuration's.
fn variables(store: &Store, config: &ContainerConfig, passed: &Passed) -> Result<Vec<ByteString>> {
    let mut variables: Vec<ByteString> = passed.env.iter().map(|e| e.as_str().into()).collect();
    if config.build.is_some() {
        variables.extend(trees::secret_variables(store, config)?);
    }
    Ok(variables)
}

fn try_start(
    store: &Store,
    config: &ContainerConfig,
    host: &cgroup::Host,
    live: &LiveState,
    handed: Handed<'_>,
) -> Result<(Parts, Channels, Vec<String>)> {
    let Handed {
        ports,
        size,
        passed,
        streams,
    } = handed;
    let config = &*extras::complete(store, config)?;
    localtime::write(store, config)?;
    let about_names = identity::write(store, config, &live.endpoints)?;
    identity::give(store, config)?;
    let users = root::users(config)?;
    let ids = config.namespaces.user.as_ref();
    let root = root::mount(store, config, Access::Run(users.as_ref().map(AsFd::as_fd)))?;
    sys::stop_point("root-mounted");
    let (config, identity) = accounts::complete(store, config, &user::Files::read(root.as_fd())?)?;
    let config = &*config;
    let capabilities = capability::from_config(&config.security)?;
    let filter = seccomp::program(&config.security, capabilities)?;
    let (asked_for, mut rules) = device::resolve(&config.devices)?;
    let mut devices = if config.security.privileged {
        device::host_nodes()
    } else {
        Vec::new()
    };
    devices.extend(asked_for);
    rules.extend(
        cgroup::DEFAULT_DEVICES
            .iter()
            .copied()
            .chain(config.device_rules.iter().copied()),
    );
    let rules = (!config.security.privileged).then_some(&rules[..]);
    let base = cgroup::base(store.instance().as_deref());
    let (group, mut warnings) = Cgroup::create(host, &base, &config.id, &config.resources, rules)?;
    warnings.extend(about_names);
    // Without a filter of devices, the next best is that none can be made, and none that is there works (F271).
    let device_filter = group.device_filter != DeviceFilter::Unavailable;
    let capabilities = if device_filter {
        capabilities
    } else {
        capabilities.without(Capabilities::MKNOD)
    };
    if !device_filter {
        let no_devices = sys::mount::Attributes {
            set: libc::MOUNT_ATTR_NODEV,
            ..Default::default()
        };
        sys::mount::set_attributes(root.as_fd(), no_devices).context("mount the root without devices")?;
    }
    sys::stop_point("cgroups-made");
    let into = volumes::Into {
        root: root.as_fd(),
        users: ids.zip(users.as_ref().map(AsFd::as_fd)),
        user: Some((identity.uid, identity.gid)),
    };
    let sources = volumes::sources(store, config, into)?;
    let shared = sharing::open(store, config)?;
    let (trees, tree_mounts) = trees::open(store, config, users.as_ref().map(AsFd::as_fd))?
        .into_iter()
        .unzip();
    let facts = Facts {
        trees,
        shared_shm: shared.shm.is_some(),
        run_dir: store.run_dir(&config.id),
        sources: sources.of_mounts,
        identity,
        capabilities,
        devices,
        cgroup_mounts: cgroup_mounts(host),
        seccomp: filter.is_some(),
        open_files: stdio::open_files(),
        env: variables(store, config, &passed)?,
        passed: passed.fds.len(),
        notifies: passed.notifies,
    };
    let plan = plan::plan(&*names::with_links(store, config, &live.endpoints)?, &facts)?;
    let needs = prepare::Needs {
        tty: config.process.tty,
        no_devices: !device_filter,
        shared_shm: shared.shm,
        trees: tree_mounts,
        users: ids.zip(users.as_ref().map(AsFd::as_fd)),
    };
    let (mounts, terminal) = prepare::open_mounts(&plan.attachments, needs)?;
    drop(sources.held);
    let (streams, channels) = match (terminal, streams) {
        (None, Some(streams)) => stdio::passed(streams)?,
        (Some(terminal), _) => stdio::terminal(terminal, config.process.open_stdin, size)?,
        (None, None) => stdio::pipes(config.process.open_stdin, config.process.stdin_once)?,
    };
    let entry = group.entry()?;
    let namespaces = namespaces(store, config, &live.endpoints, users.as_ref().map(AsFd::as_fd))?;
    let owned = match &users {
        Some(users) => sys::users::namespaces(users.as_fd(), &plan::owned_namespaces(config)),
        None => Ok(Vec::new()),
    };
    let owned = owned.context("make the namespaces of the container's users")?;
    warnings.extend(rules::add_container(
        store,
        config.id.as_str(),
        &live.endpoints,
        &live.ports,
    )?);
    sys::stop_point("ports-published");
    warnings.extend(ports.warnings.iter().cloned());
    let services = services(store, config, live, namespaces.first().map(AsFd::as_fd), ports)?;
    let prepared = Prepared {
        root: root.try_clone()?,
        mounts,
        tasks: entry.v1_tasks,
        cgroup: entry.v2,
        namespaces: namespaces.into_iter().chain(shared.namespaces).chain(owned).collect(),
        users,
        streams,
        seccomp: filter.unwrap_or_default(),
        passed: passed.fds,
    };
    let starting = sharing::born_in(shared.processes, || {
        spawn::spawn(plan.namespaces, &plan.steps, prepared)
    })?;
    sys::stop_point("init-cloned");
    let init = starting.executed()?;
    sys::stop_point("init-executed");
    Ok((
        Parts {
            init,
            root,
            device_filter,
            services,
        },
        channels,
        warnings,
    ))
}

/// Files of other filesystems' below /sys/fs/cgroup, as the container's own cgroup namespace shows them.
fn cgroup_mounts(host: &cgroup::Host) -> Vec<CgroupMount> {
    let base = PathBuf::from("/sys/fs/cgroup");
    let mut mounts = Vec::new();
    let filesystems = host.filesystems();
    if !matches!(filesystems.as_slice(), [only] if only.kind == "cgroup2") && !filesystems.is_empty() {
        let options = vec!["mode=0755".to_owned(), "size=64k".to_owned()];
        mounts.push(CgroupMount {
            kind: "tmpfs",
            options,
            target: base.clone(),
        });
        mounts.extend(filesystems.into_iter().map(|f| CgroupMount {
            target: base.join(&f.name),
            kind: f.kind,
            options: f.options,
        }));
    } else {
        mounts.extend(filesystems.into_iter().map(|f| CgroupMount {
            target: base.clone(),
            kind: f.kind,
            options: f.options,
        }));
    }
    mounts
}

/// The network namespace to join: another's, or its own with its places on networks.
fn namespaces(
    store: &Store,
    config: &ContainerConfig,
    endpoints: &[Endpoint],
    users: Option<BorrowedFd<'_>>,
) -> Result<Vec<OwnedFd>> {
    let path = match &config.network {
        NetworkMode::None | NetworkMode::Host => return Ok(Vec::new()),
        NetworkMode::Networks(_) => {
            let connected = network::connect(store, endpoints, users)?;
            sys::stop_point("network-connected");
            return Ok(vec![connected.netns]);
        }
        NetworkMode::Ns(path) => path.clone(),
        NetworkMode::Container(other) => {
            // Told first: whoever sees it after the other has ended knows that the namespace lives on.
            let mark = store.run_dir(other).join(network::SHARED);
            let _ = file::write_new(&mark, b"", Durability::Volatile);
            return Ok(vec![sharing::namespace(store, other, "net")?]);
        }
    };
    let fd = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| format!("open network namespace {}", path.display()))?;
    Ok(vec![fd])
}
