//! From a container's configuration to the list of steps that start it: pure, so that a test reads a whole start as
//! text. What the steps need from the host is in [`Facts`], looked up before; what they name by number (mounts,
//! namespaces) is opened by [`super::prepare`] before the clone.

use crate::error::{Error, Result};
use crate::model::bytes::ByteString;
use crate::model::container::{ContainerConfig, NetworkMode};
use crate::model::idmap::IdMap;
use crate::model::mount::{Mount, Propagation, Source};
use crate::model::namespace::Whose;
use crate::model::resources::Ulimit;
use crate::runtime::capability::Capabilities;
use crate::runtime::device::DeviceNode;
use crate::runtime::rootfs::{self, Links, Node};
use crate::runtime::step::Step;
use crate::runtime::user::Identity;
use nix::sched::CloneFlags;
use std::path::{Path, PathBuf};

/// What the plan depends on besides the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// Holds hosts, hostname and resolv.conf; the container's root is attached on top of it.
    pub(crate) run_dir: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) capabilities: Capabilities,
    /// Where each of the configuration's mounts comes from, in its order; `None` for a tmpfs and an image.
    pub(crate) sources: Vec<Option<VolumeSource>>,
    /// Images, and mounts of a build's step, that are made already, each with its target.
    pub(crate) trees: Vec<Tree>,
    /// Its /dev/shm is that of whom it shares its ipc namespace with.
    pub(crate) shared_shm: bool,
    pub(crate) devices: Vec<DeviceNode>,
    /// Filesystems of /sys/fs/cgroup: options and directory of each; the first may be a tmpfs to hold the others.
    pub(crate) cgroup_mounts: Vec<CgroupMount>,
    pub(crate) seccomp: bool,
    /// The soft and hard limit of open files; a program's caller has none of its own left.
    pub(crate) open_files: u64,
    /// Variables besides the configuration's, which they win over.
    pub(crate) env: Vec<ByteString>,
    /// Descriptors that the program gets.
    pub(crate) passed: usize,
    /// It gets a socket for notifications to the host's service manager.
    pub(crate) notifies: bool,
}

/// A mount that is made already.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub(crate) target: PathBuf,
    pub(crate) directory: bool,
    pub(crate) read_only: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct VolumeSource {
    pub(crate) path: PathBuf,
    pub(crate) directory: bool,
    /// In a user namespace, its owners are shown in the container's numbers.
    pub(crate) mapped: bool,
}

/// One filesystem below /sys/fs/cgroup of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CgroupMount {
    /// `cgroup2`, `cgroup` or `tmpfs`.
    pub(crate) kind: &'static str,
    pub(crate) options: Vec<String>,
    pub(crate) target: PathBuf,
}

/// A mount that is made before the clone and attached by a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attachment {
    pub(crate) what: What,
    pub(crate) read_only: bool,
    pub(crate) propagation: Propagation,
    /// In a user namespace: what the container's root owns on disk is root's of the host there too.
    pub(crate) map_owners: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// /dev with its nodes.
    Dev {
        console: bool,
    },
    /// /dev/pts; the container's terminal is one of it.
    Pts,
    Tmpfs {
        options: Vec<String>,
        flags: TmpfsFlags,
    },
    Path {
        path: PathBuf,
        recursive: bool,
    },
    /// Somebody else's /dev/shm, which is open already.
    SharedShm,
    /// One of [`Facts::trees`], which is open already.
    Tree(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TmpfsFlags {
    pub(crate) noexec: bool,
    pub(crate) nosuid: bool,
    pub(crate) nodev: bool,
}

/// A start, described.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// `CLONE_NEW*`.
    pub(crate) namespaces: i32,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) steps: Vec<Step>,
}

impl Plan {
    fn attach(&mut self, attachment: Attachment, target: impl Into<PathBuf>, node: Node, links: Links) {
        self.steps.push(Step::Attach {
            mount: self.attachments.len(),
            target: target.into(),
            node,
            links,
        });
        self.attachments.push(attachment);
    }
}

/// Describes the start of a container's init.
pub(crate) fn plan(config: &ContainerConfig, facts: &Facts) -> Result<Plan> {
    let mut plan = Plan {
        namespaces: new_namespaces(config),
        attachments: Vec::new(),
        steps: vec![Step::DieWithMonitor, Step::EnterCgroups],
    };
    match config.network {
        NetworkMode::None => {}
        NetworkMode::Container(_) | NetworkMode::Ns(_) | NetworkMode::Networks(_) => {
            plan.steps.push(Step::JoinNamespace(0));
        }
        NetworkMode::Host => {}
    }
    let first = usize::from(joins_network(config));
    let entered = config.namespaces.entered().enumerate();
    plan.steps.extend(entered.map(|(n, _)| Step::JoinNamespace(first + n)));
    let first = first + config.namespaces.entered().count();
    let owned = owned_namespaces(config).len();
    plan.steps.extend((0..owned).map(|n| Step::JoinNamespace(first + n)));
    if config.network == NetworkMode::None {
        plan.steps.push(Step::LoopbackUp);
    }
    if !config.namespaces.host_cgroups {
        plan.steps.push(Step::NewCgroupNamespace);
    }
    plan.steps.extend([
        Step::NewSessionKeyring,
        Step::PrivateMounts,
        Step::AttachRoot(facts.run_dir.clone()),
    ]);
    plan.steps.extend(config.process.oom_score_adj.map(Step::OomScore));
    if let Some(ids) = &config.namespaces.user {
        let (user, group) = ids.root()?;
        plan.steps.push(Step::ActAs { user, group });
    }
    system_mounts(&mut plan, config, facts);
    identity_files(&mut plan, config, facts);
    let depth = |target: &Path| target.components().count();
    let mut trees = facts.trees.iter().enumerate().peekable();
    for (mount, source) in config.mounts.iter().zip(&facts.sources) {
        if matches!(mount.source, Source::Image { .. }) {
            // One of the trees.
            continue;
        }
        while let Some((n, above)) = trees.next_if(|(_, t)| depth(&t.target) <= depth(&mount.target)) {
            tree(&mut plan, n, above)?;
        }
        volume(&mut plan, mount, source.as_ref(), config.namespaces.user.as_ref())?;
    }
    for (n, rest) in trees {
        tree(&mut plan, n, rest)?;
    }
    if facts.notifies {
        notification_socket(&mut plan, facts);
    }
    plan.steps.extend(facts.devices.iter().cloned().map(Step::MakeNode));
    plan.steps
        .push(Step::MakeWorkdir(PathBuf::from(config.process.workdir.as_os_str())));
    confine_system_paths(&mut plan, config);
    if config.security.read_only {
        plan.steps.push(Step::RootReadOnly);
    }
    plan.steps.push(Step::PivotRoot);
    if config.namespaces.uts == Whose::Private {
        plan.steps.push(Step::Hostname(config.hostname.clone()));
        if !config.domainname.is_empty() {
            plan.steps.push(Step::Domainname(config.domainname.clone()));
        }
    }
    plan.steps.extend(limit_steps(config, facts.open_files));
    plan.steps.extend([
        Step::Umask(config.process.umask.unwrap_or(UMASK)),
        Step::NewSession,
        Step::StandardStreams,
    ]);
    plan.steps.extend(enter_users(config, &facts.identity)?);
    plan.steps.push(Step::CloseHostFiles);
    plan.steps.push(Step::Workdir(config.process.workdir.clone()));
    let argv: Vec<_> = config.process.argv().cloned().collect();
    if argv.is_empty() {
        return Err(Error::usage("no command specified"));
    }
    let confinement = Confinement {
        identity: &facts.identity,
        capabilities: facts.capabilities,
        seccomp: facts.seccomp,
        no_new_privileges: config.security.no_new_privileges,
        apparmor: config.security.apparmor.as_deref(),
        selinux: config.security.selinux.as_deref(),
        tied: true,
        passes: facts.passed > 0,
    };
    plan.steps.extend(confinement.steps(config.init));
    plan.steps.push(Step::Exec {
        argv,
        env: environment(&with_ours(&config.process.env, &facts.env), &facts.identity),
        listens: facts.env.iter().any(|e| e.split_env().0 == b"LISTEN_FDS"),
    });
    Ok(plan)
}

/// The way into the container's user namespace, where its program is `identity`.
pub(crate) fn enter_users(config: &ContainerConfig, identity: &Identity) -> Result<Option<Step>> {
    let Some(ids) = &config.namespaces.user else {
        return Ok(None);
    };
    let none = |what: &str, id: u32| Error::usage(format!("{what} {id} is not one of the container's user namespace"));
    let user = ids
        .outside_user(identity.uid)
        .ok_or_else(|| none("user", identity.uid))?;
    let group = ids
        .outside_group(identity.gid)
        .ok_or_else(|| none("group", identity.gid))?;
    if let Some(other) = identity.groups.iter().find(|g| ids.outside_group(**g).is_none()) {
        return Err(none("group", *other));
    }
    Ok(Some(Step::EnterUsers { user, group }))
}

/// What a program's new files may not be, unless it was asked for otherwise.
pub(crate) const UMASK: u32 = 0o022;

/// Those that its init is born in.
fn new_namespaces(config: &ContainerConfig) -> i32 {
    let pid = match config.namespaces.pid == Whose::Private {
        true => libc::CLONE_NEWPID,
        false => 0,
    };
    match config.namespaces.user {
        Some(_) => pid,
        None => private(config).map(|(_, flag)| flag.bits()).sum::<i32>() | pid,
    }
}

/// Those that belong to the container's own users, so that its root may mount and name where it has the right to: made
/// before the clone, and entered after those of other containers. That of processes can't be made so, as it needs its
/// first process to be; it belongs to the host's users.
pub(crate) fn owned_namespaces(config: &ContainerConfig) -> Vec<(&'static str, CloneFlags)> {
    match config.namespaces.user {
        Some(_) => private(config).collect(),
        None => Vec::new(),
    }
}

/// The container's own, but for that of processes.
fn private(config: &ContainerConfig) -> impl Iterator<Item = (&'static str, CloneFlags)> {
    [
        (true, "mnt", CloneFlags::CLONE_NEWNS),
        (config.namespaces.uts == Whose::Private, "uts", CloneFlags::CLONE_NEWUTS),
        (config.namespaces.ipc == Whose::Private, "ipc", CloneFlags::CLONE_NEWIPC),
        (config.network == NetworkMode::None, "net", CloneFlags::CLONE_NEWNET),
    ]
    .into_iter()
    .filter_map(|(own, name, flag)| own.then_some((name, flag)))
}

/// Whether the first of the prepared namespaces is one of the network.
pub(crate) fn joins_network(config: &ContainerConfig) -> bool {
    match config.network {
        NetworkMode::Container(_) | NetworkMode::Ns(_) | NetworkMode::Networks(_) => true,
        NetworkMode::None | NetworkMode::Host => false,
    }
}

/// What was asked for; and docker's own two, where the network is the container's: no port and no ping needs root.
fn sysctls(config: &ContainerConfig) -> Vec<Step> {
    const OPEN: [(&str, &str); 2] = [
        ("net.ipv4.ip_unprivileged_port_start", "0"),
        ("net.ipv4.ping_group_range", "0 2147483647"),
    ];
    let own_network = matches!(config.network, NetworkMode::None | NetworkMode::Networks(_));
    let unsaid = OPEN
        .iter()
        .filter(|(name, _)| own_network && !config.sysctls.contains_key(*name));
    let asked = config.sysctls.iter().map(|(name, value)| (name.clone(), value.clone()));
    unsaid
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned(), false))
        .chain(asked.map(|(name, value)| (name, value, true)))
        .map(|(name, value, must)| Step::Sysctl { name, value, must })
        .collect()
}

/// Who a program runs as and what it may do: the last steps before exec, for init and `exec` alike.
pub(crate) struct Confinement<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) capabilities: Capabilities,
    pub(crate) seccomp: bool,
    pub(crate) no_new_privileges: bool,
    pub(crate) apparmor: Option<&'a str>,
    pub(crate) selinux: Option<&'a str>,
    /// It dies with the process that started it.
    pub(crate) tied: bool,
    /// It gets descriptors besides its streams.
    pub(crate) passes: bool,
}

impl Confinement<'_> {
    /// With `init`, pid 1 stays behind as a reaper and the program is its child.
    pub(crate) fn steps(&self, init: bool) -> Vec<Step> {
        let root = self.identity.uid == 0;
        let mut steps: Vec<Step> = self
            .apparmor
            .map(|p| Step::AppArmor(p.to_owned()))
            .into_iter()
            .chain(self.selinux.map(|c| Step::Selinux(c.to_owned())))
            .collect();
        steps.extend([
            Step::BoundingSet(self.capabilities),
            Step::Become(self.identity.clone()),
            Step::CloseTheRest,
        ]);
        if self.passes {
            steps.push(Step::PassFiles);
        }
        if self.tied {
            // Again: a change of user has cleared the parent-death signal (PR_SET_PDEATHSIG(2const)).
            steps.push(Step::DieWithMonitor);
        }
        if self.no_new_privileges {
            steps.push(Step::NoNewPrivileges);
        }
        let loads_as_admin = self.seccomp && !self.no_new_privileges;
        steps.push(Step::Capabilities(self.capabilities.before_exec(root, !loads_as_admin)));
        if self.seccomp {
            steps.push(Step::Seccomp);
        }
        if init {
            // Under the filter as well: with CAP_SYS_PTRACE the program could make calls through pid 1.
            steps.push(Step::Init(self.capabilities.before_exec(root, true)));
        }
        steps
    }
}

/// `ours` in the place of variables of the same names.
fn with_ours(env: &[ByteString], ours: &[ByteString]) -> Vec<ByteString> {
    let is_ours = |e: &&ByteString| ours.iter().any(|o| o.split_env().0 == e.split_env().0);
    let kept = env.iter().filter(|e| !is_ours(e));
    kept.chain(ours).cloned().collect()
}

/// HOME comes from the container's passwd if nobody set it.
pub(crate) fn environment(env: &[ByteString], identity: &Identity) -> Vec<ByteString> {
    let mut env = env.to_vec();
    if !env.iter().any(|e| e.split_env().0 == b"HOME") {
        let home = [b"HOME=", identity.home.as_bytes()].concat();
        env.push(home.into());
    }
    env
}

const NOTHING_RUNS: TmpfsFlags = TmpfsFlags {
    noexec: true,
    nosuid: true,
    nodev: true,
};

fn system_mounts(plan: &mut Plan, config: &ContainerConfig, facts: &Facts) {
    let read_only = !config.security.privileged;
    let made = |what| Attachment {
        what,
        read_only: false,
        propagation: Propagation::Rprivate,
        map_owners: false,
    };
    let mount = |kind, target: &str, read_only| Step::Mount {
        kind,
        options: Vec::new(),
        target: target.into(),
        read_only,
    };
    plan.steps.push(mount("proc", "/proc", false));
    plan.steps.extend(sysctls(config));
    let tty = config.process.tty;
    plan.attach(made(What::Dev { console: tty }), "/dev", Node::Directory, Links::Refuse);
    plan.attach(made(What::Pts), "/dev/pts", Node::Directory, Links::Refuse);
    if tty {
        plan.steps.push(Step::Console);
    }
    let covered = |target: &str| config.mounts.iter().any(|m| m.target == Path::new(target));
    if !covered("/dev/shm") && !config.namespaces.no_shm {
        let mut options = vec!["mode=1777".to_owned(), format!("size={}", config.shm_size)];
        options.extend(owner(config.namespaces.user.as_ref()));
        let shm = match facts.shared_shm {
            true => What::SharedShm,
            false => What::Tmpfs {
                options,
                flags: NOTHING_RUNS,
            },
        };
        plan.attach(made(shm), "/dev/shm", Node::Directory, Links::Refuse);
    }
    plan.steps.push(mount("mqueue", "/dev/mqueue", false));
    plan.steps.push(mount("sysfs", "/sys", read_only));
    for group in &facts.cgroup_mounts {
        plan.steps.push(Step::Mount {
            kind: group.kind,
            options: group.options.clone(),
            target: group.target.clone(),
            read_only: read_only && group.kind != "tmpfs" && !config.systemd,
        });
    }
    if read_only && !config.systemd && facts.cgroup_mounts.first().is_some_and(|m| m.kind == "tmpfs") {
        plan.steps.push(Step::ReadOnly("/sys/fs/cgroup".into()));
    }
}

/// Where a program finds its socket for notifications.
pub(crate) const NOTIFY_SOCKET: &str = "/run/notify.sock";

fn notification_socket(plan: &mut Plan, facts: &Facts) {
    let what = What::Path {
        path: facts.run_dir.join("notify.sock"),
        recursive: false,
    };
    // Writing to a socket is allowed on a read-only mount; changing its mode is not.
    let attachment = Attachment {
        what,
        read_only: true,
        propagation: Propagation::Rprivate,
        map_owners: false,
    };
    plan.attach(attachment, NOTIFY_SOCKET, Node::File, Links::Follow);
}

/// Files the engine writes for each start. A volume of the user's at the same place goes on top.
fn identity_files(plan: &mut Plan, config: &ContainerConfig, facts: &Facts) {
    let localtime = config.timezone.is_some().then_some("localtime");
    for name in ["resolv.conf", "hostname", "hosts"].into_iter().chain(localtime) {
        if (name == "hosts" && config.names.no_hosts) || (name == "hostname" && config.names.no_hostname) {
            continue;
        }
        let what = What::Path {
            path: facts.run_dir.join(name),
            recursive: false,
        };
        let attachment = Attachment {
            what,
            read_only: false,
            propagation: Propagation::Rprivate,
            map_owners: false,
        };
        plan.attach(attachment, Path::new("/etc").join(name), Node::File, Links::Follow);
    }
}

/// A mount inside /proc could hide what the masks protect (CVE-2019-16884); docker refuses it as well.
fn check_target(target: &Path) -> Result<()> {
    match target.starts_with("/proc") {
        true => Err(Error::usage(format!(
            "mount on {}: nothing can be mounted inside /proc",
            target.display()
        ))),
        false => Ok(()),
    }
}

fn tree(plan: &mut Plan, n: usize, tree: &Tree) -> Result<()> {
    check_target(&tree.target)?;
    let attachment = Attachment {
        what: What::Tree(n),
        read_only: tree.read_only,
        propagation: Propagation::Rprivate,
        map_owners: false,
    };
    let node = if tree.directory { Node::Directory } else { Node::File };
    plan.attach(attachment, &tree.target, node, Links::Follow);
    Ok(())
}

fn volume(plan: &mut Plan, mount: &Mount, source: Option<&VolumeSource>, ids: Option<&IdMap>) -> Result<()> {
    check_target(&mount.target)?;
    let (what, node) = of_volume(mount, source, ids)?;
    let attachment = Attachment {
        what,
        read_only: mount.read_only,
        propagation: mount.propagation,
        map_owners: ids.is_some() && source.is_some_and(|source| source.mapped),
    };
    plan.attach(attachment, &mount.target, node, Links::Follow);
    Ok(())
}

/// What a volume's mount is made of, and what it is mounted on.
pub(crate) fn of_volume(mount: &Mount, source: Option<&VolumeSource>, ids: Option<&IdMap>) -> Result<(What, Node)> {
    Ok(match (&mount.source, source) {
        (Source::Tmpfs { size, mode, options }, _) => {
            let mut options: Vec<String> = options.iter().map(|o| outside(o, ids)).collect::<Result<_>>()?;
            let unset = |o: &String| !options.iter().any(|set| set.starts_with(&o[..4]));
            let owners: Vec<_> = owner(ids).filter(unset).collect();
            options.extend(owners);
            (tmpfs(*size, *mode, &options)?, Node::Directory)
        }
        (Source::Bind { non_recursive, .. }, Some(s)) => (
            What::Path {
                path: s.path.clone(),
                recursive: !non_recursive,
            },
            node_of(s),
        ),
        (Source::Volume { .. }, Some(s)) => (
            What::Path {
                path: s.path.clone(),
                recursive: true,
            },
            node_of(s),
        ),
        (Source::Image { .. }, _) | (_, None) => {
            return Err(Error::other(format!("mount on {}: no source", mount.target.display())));
        }
    })
}

/// An option that names a user or group of the container, as the host counts them.
fn outside(option: &str, ids: Option<&IdMap>) -> Result<String> {
    let (Some(ids), Some((name @ ("uid" | "gid"), number))) = (ids, option.split_once('=')) else {
        return Ok(option.to_owned());
    };
    let id = number.parse().ok().and_then(|id| match name {
        "uid" => ids.outside_user(id),
        _ => ids.outside_group(id),
    });
    id.map(|id| format!("{name}={id}")).ok_or_else(|| {
        Error::usage(format!(
            "tmpfs option {option} is not of the container's user namespace"
        ))
    })
}

/// Options of a filesystem in memory, that the container's root owns it.
fn owner(ids: Option<&IdMap>) -> impl Iterator<Item = String> {
    let user = ids.and_then(|ids| ids.outside_user(0)).map(|id| format!("uid={id}"));
    let group = ids.and_then(|ids| ids.outside_group(0)).map(|id| format!("gid={id}"));
    user.into_iter().chain(group)
}

fn node_of(source: &VolumeSource) -> Node {
    if source.directory { Node::Directory } else { Node::File }
}

/// Docker's options: nosuid, nodev and noexec unless asked otherwise.
fn tmpfs(size: Option<u64>, mode: Option<u32>, extra: &[String]) -> Result<What> {
    let mut flags = NOTHING_RUNS;
    let mut options = vec![format!("mode={:o}", mode.unwrap_or(0o1777))];
    options.extend(size.map(|bytes| format!("size={bytes}")));
    for option in extra {
        match option.as_str() {
            "exec" => flags.noexec = false,
            "noexec" => flags.noexec = true,
            "suid" => flags.nosuid = false,
            "nosuid" => flags.nosuid = true,
            "dev" => flags.nodev = false,
            "nodev" => flags.nodev = true,
            "rw" | "ro" | "defaults" | "relatime" | "noatime" | "nodiratime" | "strictatime" | "async" | "sync" => {}
            other => match other.split_once('=').map(|(key, _)| key) {
                Some("nr_inodes" | "nr_blocks" | "uid" | "gid" | "mpol" | "huge") => options.push(other.to_owned()),
                _ => return Err(Error::usage(format!("invalid tmpfs option '{other}'"))),
            },
        }
    }
    Ok(What::Tmpfs { options, flags })
}

fn confine_system_paths(plan: &mut Plan, config: &ContainerConfig) {
    if config.security.privileged || config.security.unmasked {
        return;
    }
    let security = &config.security;
    let kept = |path: &&&str| !security.unmask.iter().any(|u| Path::new(path).starts_with(u));
    let read_only = rootfs::READ_ONLY.iter().filter(kept);
    plan.steps.extend(read_only.map(|p| Step::ReadOnly(PathBuf::from(p))));
    let masked = rootfs::MASKED.iter().filter(kept).map(PathBuf::from);
    plan.steps
        .extend(masked.chain(security.mask.iter().cloned()).map(Step::Mask));
}

/// The limits asked for, and one for open files: what the caller had is not the container's.
pub(crate) fn limit_steps(config: &ContainerConfig, open_files: u64) -> Vec<Step> {
    let mut limits = config.ulimits.clone();
    if !limits.iter().any(|l| l.name == "nofile") {
        limits.push(Ulimit {
            name: "nofile".to_owned(),
            soft: open_files,
            hard: open_files,
        });
    }
    limits.into_iter().map(Step::Limit).collect()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
