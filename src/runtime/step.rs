//! One member per effect on the kernel that a container's init has on its way to execve; [`super::plan`] lists them,
//! [`super::apply`] does them, and their text is what the tests compare.

use crate::model::bytes::ByteString;
use crate::model::resources::Ulimit;
use crate::runtime::capability::Capabilities;
use crate::runtime::device::DeviceNode;
use crate::runtime::rootfs::{Links, Node};
use crate::runtime::user::Identity;
use std::fmt;
use std::path::PathBuf;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// SIGKILL when the monitor ends: no monitor, no container.
    DieWithMonitor,
    /// cgroup v1: writes `0` into each group's `tasks`, which moves the caller without the lock that
    /// `cgroup.procs` waits 10 ms for.
    EnterCgroups,
    /// Enters the namespace of descriptor `n` of the prepared ones.
    JoinNamespace(usize),
    /// After entering the groups: they are its roots.
    NewCgroupNamespace,
    NewSessionKeyring,
    LoopbackUp,
    /// Nothing mounted from here on is seen outside.
    PrivateMounts,
    /// What is made from here on belongs to this user and group of the host: the container's root.
    ActAs {
        user: u32,
        group: u32,
    },
    /// The prepared user namespace. The standard streams become its user's, who is this one on the host.
    EnterUsers {
        user: u32,
        group: u32,
    },
    /// The prepared root, on top of a directory of the host's that nobody else sees through here.
    AttachRoot(PathBuf),
    /// Prepared mount `n`.
    Attach {
        mount: usize,
        target: PathBuf,
        node: Node,
        links: Links,
    },
    /// A filesystem that has to be made from inside the new namespaces.
    Mount {
        kind: &'static str,
        options: Vec<String>,
        target: PathBuf,
        read_only: bool,
    },
    /// The container's terminal as /dev/console. Only here: before Linux 6.15 a mount that is attached nowhere can't be
    /// cloned.
    Console,
    /// Devices on top of /dev and elsewhere.
    MakeNode(DeviceNode),
    /// Read-only what lies there already.
    ReadOnly(PathBuf),
    Mask(PathBuf),
    RootReadOnly,
    PivotRoot,
    Hostname(String),
    Domainname(String),
    /// A parameter of the namespaces entered so far: name with dots.
    Sysctl {
        name: String,
        value: String,
        /// A kernel without it is an error.
        must: bool,
    },
    /// What the out-of-memory killer adds to the badness of everything started from here.
    OomScore(i32),
    Limit(Ulimit),
    Umask(u32),
    NewSession,
    /// The prepared streams become 0, 1 and 2; a terminal becomes the controlling one.
    StandardStreams,
    /// Made if it is absent, before the root may become read-only.
    MakeWorkdir(PathBuf),
    /// Everything of the host's is closed, and not only on execve: the paths that come now could lead through
    /// /proc/self/fd (CVE-2024-21626).
    CloseHostFiles,
    Workdir(ByteString),
    NoNewPrivileges,
    /// The profile of the program that is executed.
    AppArmor(String),
    /// The SELinux context of the program that is executed.
    Selinux(String),
    BoundingSet(Capabilities),
    /// The prepared filter.
    Seccomp,
    Become(Identity),
    /// The effective and permitted sets from here to execve, which makes of them what the bounding set allows.
    Capabilities(Capabilities),
    CloseTheRest,
    /// The prepared descriptors become 3, 4, …
    PassFiles,
    /// Stays as pid 1, with these capabilities, and runs the rest in a child.
    Init(Capabilities),
    Exec {
        argv: Vec<ByteString>,
        env: Vec<ByteString>,
        /// Its own pid is told by LISTEN_PID (sd_listen_fds(3)).
        listens: bool,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |list: &[ByteString]| {
            list.iter()
                .map(|w| w.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        match self {
            Step::DieWithMonitor => f.write_str("die with the monitor"),
            Step::EnterCgroups => f.write_str("enter cgroups"),
            Step::JoinNamespace(n) => write!(f, "join namespace {n}"),
            Step::NewCgroupNamespace => f.write_str("new cgroup namespace"),
            Step::NewSessionKeyring => f.write_str("new session keyring"),
            Step::ActAs { user, group } => write!(f, "act as {user}:{group}"),
            Step::EnterUsers { user, group } => write!(f, "enter the user namespace as {user}:{group}"),
            Step::LoopbackUp => f.write_str("bring lo up"),
            Step::PrivateMounts => f.write_str("make mounts private"),
            Step::AttachRoot(at) => write!(f, "attach root on {}", at.display()),
            Step::Attach {
                mount, target, links, ..
            } => {
                write!(f, "attach {mount} on {}", target.display())?;
                if *links == Links::Refuse {
                    f.write_str(" (no links)")
                } else {
                    Ok(())
                }
            }
            Step::Mount {
                kind,
                options,
                target,
                read_only,
            } => {
                write!(f, "mount {kind} on {}", target.display())?;
                if !options.is_empty() {
                    write!(f, " ({})", options.join(","))?;
                }
                if *read_only { f.write_str(" read-only") } else { Ok(()) }
            }
            Step::Console => f.write_str("bind the terminal on /dev/console"),
            Step::MakeNode(node) => write!(f, "make device {}", node.target.display()),
            Step::ReadOnly(path) => write!(f, "make {} read-only", path.display()),
            Step::Mask(path) => write!(f, "mask {}", path.display()),
            Step::RootReadOnly => f.write_str("make the root read-only"),
            Step::PivotRoot => f.write_str("pivot root"),
            Step::Hostname(name) => write!(f, "set host name {name}"),
            Step::Domainname(name) => write!(f, "set domain name {name}"),
            Step::Sysctl { name, value, .. } => write!(f, "set {name} to {value}"),
            Step::OomScore(score) => write!(f, "set oom_score_adj to {score}"),
            Step::Limit(l) => write!(f, "limit {} to {}:{}", l.name, l.soft, l.hard),
            Step::Umask(mask) => write!(f, "umask {mask:04o}"),
            Step::NewSession => f.write_str("new session"),
            Step::StandardStreams => f.write_str("set standard streams"),
            Step::MakeWorkdir(dir) => write!(f, "make directory {}", dir.display()),
            Step::CloseHostFiles => f.write_str("close the host's files"),
            Step::Workdir(dir) => write!(f, "change to directory {}", dir.to_string_lossy()),
            Step::NoNewPrivileges => f.write_str("no new privileges"),
            Step::Selinux(context) => write!(f, "selinux context {context}"),
            Step::AppArmor(profile) => write!(f, "apparmor profile {profile}"),
            Step::BoundingSet(caps) => write!(f, "bound capabilities to {}", caps.names().join(" ")),
            Step::Seccomp => f.write_str("load seccomp filter"),
            Step::Become(who) => {
                write!(f, "become {}:{}", who.uid, who.gid)?;
                if who.groups.is_empty() {
                    Ok(())
                } else {
                    write!(f, " with groups {:?}", who.groups)
                }
            }
            Step::Capabilities(caps) => write!(f, "assume capabilities {}", caps.names().join(" ")),
            Step::CloseTheRest => f.write_str("close the rest"),
            Step::PassFiles => f.write_str("pass descriptors"),
            Step::Init(_) => f.write_str("stay as init"),
            Step::Exec { argv, .. } => write!(f, "exec {}", words(argv)),
        }
    }
}
