//! What the child of a clone does: step after step, straight down to execve. It comes back only with an error.

use crate::error::{Context as _, Error, Kind, Result};
use crate::model::bytes::ByteString;
use crate::model::resources::Ulimit;
use crate::runtime::prepare::Prepared;
use crate::runtime::rootfs::{self, Links, Node};
use crate::runtime::step::Step;
use crate::runtime::user::Identity;
use crate::runtime::{capability, device, init};
use crate::sys;
use rustix::mount::MountAttrFlags;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What ties a child to its monitor.
#[derive(Clone, Copy)]
pub(super) struct Lifelines<'a> {
    /// A pipe whose other end only the monitor holds.
    pub(super) alive: BorrowedFd<'a>,
    /// Where an error goes.
    pub(super) errors: BorrowedFd<'a>,
}

/// Does the steps; the last one never returns unless it fails.
pub(super) fn apply(steps: &[Step], prepared: &Prepared, lifelines: Lifelines<'_>) -> Error {
    for step in steps {
        if let Err(e) = one(step, prepared, lifelines) {
            return e;
        }
    }
    Error::other("the plan ends without a program")
}

fn one(step: &Step, prepared: &Prepared, lifelines: Lifelines<'_>) -> Result<()> {
    let root = prepared.root.as_fd();
    match step {
        Step::DieWithMonitor => die_with_monitor(lifelines.alive),
        Step::EnterCgroups => enter_cgroups(&prepared.tasks),
        Step::JoinNamespace(n) => join(prepared, *n),
        Step::NewCgroupNamespace => {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP).context(&step.to_string())
        }
        Step::NewSessionKeyring => sys::process::new_session_keyring().context("join a new session keyring"),
        Step::ActAs { user, group } => sys::users::act_as(*user, *group).context("act as the container's root"),
        Step::EnterUsers { user, group } => enter_users(prepared, *user, *group),
        Step::LoopbackUp => sys::interface::loopback_up().context("bring lo up"),
        Step::PrivateMounts => sys::mount::make_all_private().context("make mounts private"),
        Step::AttachRoot(place) => attach_root(root, place),
        Step::Attach {
            mount,
            target,
            node,
            links,
        } => {
            let mount = prepared
                .mounts
                .get(*mount)
                .ok_or_else(|| Error::other("no such prepared mount"))?;
            let target_fd = rootfs::open_or_make(root, target, *node, *links)
                .with_context(|| format!("mount on {}", target.display()))?;
            if *links == Links::Follow && rootfs::is_proc(target_fd.as_fd()) {
                return Err(Error::other(format!(
                    "mount on {}: it leads into /proc",
                    target.display()
                )));
            }
            sys::mount::attach(mount.as_fd(), target_fd.as_fd())
                .with_context(|| format!("mount on {}", target.display()))
        }
        Step::Mount {
            kind,
            options,
            target,
            read_only,
        } => mount(root, kind, options, (target, *read_only)),
        Step::Console => console(root).context("bind the terminal on /dev/console"),
        Step::MakeNode(node) => {
            device::make_node(root, node).with_context(|| format!("make device {}", node.target.display()))
        }
        Step::ReadOnly(path) => read_only(root, path).with_context(|| step.to_string()),
        Step::Mask(path) => mask(root, path).with_context(|| step.to_string()),
        Step::RootReadOnly => set(root, libc::MOUNT_ATTR_RDONLY, false).context("make the root read-only"),
        Step::PivotRoot => {
            rustix::process::fchdir(root).context("enter the root")?;
            sys::mount::pivot_here().context("pivot root")
        }
        Step::Hostname(name) => nix::unistd::sethostname(name).context("set the host name"),
        Step::Domainname(name) => sys::process::set_domainname(name.as_bytes()).context("set the domain name"),
        Step::Sysctl { name, value, must } => match sysctl(root, name, value) {
            Err(_) if !must => Ok(()),
            done => done.with_context(|| step.to_string()),
        },
        Step::OomScore(score) => oom_score(*score).with_context(|| step.to_string()),
        Step::Limit(limit) => set_limit(limit),
        Step::Umask(mask) => {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(*mask));
            Ok(())
        }
        Step::NewSession => rustix::process::setsid().map(|_| ()).context("start a session"),
        Step::StandardStreams => standard_streams(prepared),
        Step::MakeWorkdir(dir) => rootfs::open_or_make(root, dir, Node::Directory, Links::Follow)
            .map(drop)
            .with_context(|| format!("make working directory {}", dir.display())),
        Step::CloseHostFiles => {
            let passed = prepared.passed.iter().map(AsFd::as_fd);
            let kept: Vec<_> = [lifelines.alive, lifelines.errors].into_iter().chain(passed).collect();
            sys::process::close_all_but(&kept).context("close the host's files")
        }
        Step::Workdir(dir) => {
            enter_workdir(dir).with_context(|| format!("enter working directory {}", dir.to_string_lossy()))
        }
        Step::NoNewPrivileges => nix::sys::prctl::set_no_new_privs().context("set no_new_privs"),
        Step::BoundingSet(set) => set.limit_bounding().context("limit the bounding set"),
        Step::Seccomp => sys::seccomp::load(&prepared.seccomp).context("load the seccomp filter"),
        Step::Become(who) => become_user(who, prepared.streams.foreign),
        Step::AppArmor(profile) => apparmor(profile).with_context(|| step.to_string()),
        Step::Selinux(context) => on_exec(Path::new("/proc/self/attr/exec"), context).with_context(|| step.to_string()),
        Step::Capabilities(set) => set.assume().context("set capabilities"),
        Step::CloseTheRest => sys::process::close_from(3).context("close descriptors"),
        Step::PassFiles => pass_files(&prepared.passed).context("pass descriptors"),
        Step::Init(own) => init::stay(*own),
        Step::Exec { argv, env, listens } => Err(execute(argv, &told_its_pid(env, *listens))),
    }
}

/// The signal alone leaves a gap: a monitor that ended before it was set. Its end of `alive` is closed then.
fn die_with_monitor(alive: BorrowedFd<'_>) -> Result<()> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).context("tie to the monitor")?;
    use rustix::event::{PollFd, PollFlags, Timespec};
    let mut fds = [PollFd::new(&alive, PollFlags::empty())];
    rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    if fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
        sys::process::exit_now(137);
    }
    Ok(())
}

pub(super) fn enter_cgroups(tasks: &[OwnedFd]) -> Result<()> {
    for group in tasks {
        rustix::io::write(group, b"0").context("enter the cgroup")?;
    }
    Ok(())
}

fn join(prepared: &Prepared, n: usize) -> Result<()> {
    let namespace = prepared
        .namespaces
        .get(n)
        .ok_or_else(|| Error::other("no such prepared namespace"))?;
    nix::sched::setns(namespace, nix::sched::CloneFlags::empty()).context("join the namespace")
}

/// Seen from inside, what the host's root owns is nobody's, and nobody can give it away.
fn enter_users(prepared: &Prepared, user: u32, group: u32) -> Result<()> {
    use rustix::process::{Gid, Uid};
    let users = prepared
        .users
        .as_ref()
        .ok_or_else(|| Error::other("no prepared user namespace"))?;
    for stream in [
        std::io::stdin().as_fd(),
        std::io::stdout().as_fd(),
        std::io::stderr().as_fd(),
    ] {
        if !prepared.streams.foreign {
            let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
            rustix::fs::fchown(stream, Some(user), Some(group)).context("give the streams to the user")?;
        }
    }
    nix::sched::setns(users, nix::sched::CloneFlags::CLONE_NEWUSER).context("enter the user namespace")
}

/// The place has to be opened here: a descriptor from before belongs to the other mount namespace.
fn attach_root(root: BorrowedFd<'_>, place: &Path) -> Result<()> {
    use rustix::fs::{Mode, OFlags};
    let place = rustix::fs::open(place, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .context("open the place of the root")?;
    sys::mount::attach(root, place.as_fd()).context("attach the root")
}

fn mount(root: BorrowedFd<'_>, kind: &str, options: &[String], (target, read_only): (&Path, bool)) -> Result<()> {
    let what = || format!("mount {kind} on {}", target.display());
    let place = rootfs::open_or_make(root, target, Node::Directory, Links::Refuse).with_context(what)?;
    let mut attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, read_only);
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let made = sys::mount::new_filesystem(kind, &options, attributes).with_context(what)?;
    sys::mount::attach(made.as_fd(), place.as_fd()).with_context(what)
}

fn set(mount: BorrowedFd<'_>, attributes: u64, recursive: bool) -> std::io::Result<()> {
    sys::mount::set_attributes(
        mount,
        sys::mount::Attributes {
            set: attributes,
            propagation: 0,
            recursive,
        },
    )
}

/// The first terminal of a fresh /dev/pts is the container's.
fn console(root: BorrowedFd<'_>) -> Result<()> {
    let terminal = rootfs::open(root, Path::new("/dev/pts/0"), Links::Refuse)?;
    let place = rootfs::open(root, Path::new("/dev/console"), Links::Refuse)?;
    let copy = sys::mount::clone_tree(terminal.as_fd(), Path::new(""), false)?;
    Ok(sys::mount::attach(copy.as_fd(), place.as_fd())?)
}

/// A mount point gets the attribute itself; anything else is first bound onto itself.
fn read_only(root: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let place = match rootfs::open(root, path, Links::Refuse) {
        Ok(place) => place,
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    if set(place.as_fd(), libc::MOUNT_ATTR_RDONLY, false).is_ok() {
        return Ok(());
    }
    let copy = sys::mount::clone_tree(place.as_fd(), Path::new(""), true)?;
    set(copy.as_fd(), libc::MOUNT_ATTR_RDONLY, true)?;
    Ok(sys::mount::attach(copy.as_fd(), place.as_fd())?)
}

/// A directory disappears under an empty one, a file under the null device.
fn mask(root: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let place = match rootfs::open(root, path, Links::Refuse) {
        Ok(place) => place,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    let cover = if rootfs::is_directory(place.as_fd()) {
        sys::mount::new_filesystem("tmpfs", &["size=0"], MountAttrFlags::MOUNT_ATTR_RDONLY)?
    } else {
        let null = rootfs::null_device(root)?;
        sys::mount::clone_tree(null.as_fd(), Path::new(""), false)?
    };
    Ok(sys::mount::attach(cover.as_fd(), place.as_fd())?)
}

/// By the container's own /proc, which is still writable here.
fn sysctl(root: BorrowedFd<'_>, name: &str, value: &str) -> Result<()> {
    use rustix::fs::{Mode, OFlags, ResolveFlags};
    let path = format!("proc/sys/{}", name.replace('.', "/"));
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        Err(rustix::io::Errno::NOENT) => return Err(Error::other("this kernel has no such parameter")),
        file => file?,
    };
    rustix::io::write(&file, value.as_bytes())?;
    Ok(())
}

/// The host's /proc knows this process too. A score below the engine's own needs CAP_SYS_RESOURCE.
fn oom_score(score: i32) -> Result<()> {
    use rustix::fs::{CWD, Mode, OFlags};
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, "/proc/self/oom_score_adj", flags, Mode::empty())?;
    rustix::io::write(&file, score.to_string().as_bytes())?;
    Ok(())
}

fn set_limit(limit: &Ulimit) -> Result<()> {
    use nix::sys::resource::setrlimit;
    let resource = resource(&limit.name).ok_or_else(|| Error::usage(format!("unknown ulimit '{}'", limit.name)))?;
    setrlimit(resource, limit.soft, limit.hard)
        .map_err(|e| {
            let error = Error::from(e);
            match e {
                nix::errno::Errno::EPERM => {
                    error.with_hint("the engine may not raise this limit itself (it lacks CAP_SYS_RESOURCE)")
                }
                _ => error,
            }
        })
        .with_context(|| format!("set ulimit {} to {}:{}", limit.name, limit.soft, limit.hard))
}

fn resource(name: &str) -> Option<nix::sys::resource::Resource> {
    use nix::sys::resource::Resource as R;
    Some(match name {
        "as" => R::RLIMIT_AS,
        "core" => R::RLIMIT_CORE,
        "cpu" => R::RLIMIT_CPU,
        "data" => R::RLIMIT_DATA,
        "fsize" => R::RLIMIT_FSIZE,
        "locks" => R::RLIMIT_LOCKS,
        "memlock" => R::RLIMIT_MEMLOCK,
        "msgqueue" => R::RLIMIT_MSGQUEUE,
        "nice" => R::RLIMIT_NICE,
        "nofile" => R::RLIMIT_NOFILE,
        "nproc" => R::RLIMIT_NPROC,
        "rss" => R::RLIMIT_RSS,
        "rtprio" => R::RLIMIT_RTPRIO,
        "rttime" => R::RLIMIT_RTTIME,
        "sigpending" => R::RLIMIT_SIGPENDING,
        "stack" => R::RLIMIT_STACK,
        _ => return None,
    })
}

fn standard_streams(prepared: &Prepared) -> Result<()> {
    let streams = &prepared.streams;
    if streams.terminal {
        sys::process::set_controlling_terminal(streams.stdin.as_fd()).context("set the controlling terminal")?;
    }
    for (target, fd) in [(0, &streams.stdin), (1, &streams.stdout), (2, &streams.stderr)] {
        sys::process::dup_onto(fd.as_fd(), target).context("set standard streams")?;
    }
    Ok(())
}

/// Nothing is at the targets: the lifelines and the descriptors themselves are beyond them.
fn pass_files(passed: &[OwnedFd]) -> Result<()> {
    for (target, fd) in (3..).zip(passed) {
        sys::process::dup_onto(fd.as_fd(), target)?;
    }
    Ok(())
}

/// Only here: with a reaper the program is not the process that the list began with.
fn told_its_pid(env: &[ByteString], listens: bool) -> Vec<ByteString> {
    let pid = listens.then(|| ByteString::from(format!("LISTEN_PID={}", std::process::id())));
    env.iter().cloned().chain(pid).collect()
}

/// Refuses a directory outside the root, wherever a link may have found one.
fn enter_workdir(dir: &ByteString) -> Result<()> {
    rustix::process::chdir(Path::new(dir.as_os_str()))?;
    let here = rustix::process::getcwd(Vec::new())?;
    if here.as_bytes().starts_with(b"/") {
        Ok(())
    } else {
        Err(Error::other("it lies outside the container"))
    }
}

/// For the program that is executed next (apparmor(7)). The container's own /proc, which nothing can be mounted in.
fn apparmor(profile: &str) -> Result<()> {
    let own = Path::new("/proc/self/attr/apparmor/exec");
    let old = Path::new("/proc/self/attr/exec");
    let path = if own.exists() { own } else { old };
    on_exec(path, &format!("exec {profile}"))
}

/// Tells a security module what is to become of this process with execve.
fn on_exec(path: &Path, text: &str) -> Result<()> {
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NOFOLLOW;
    let file = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
    if !rootfs::is_proc(file.as_fd()) {
        return Err(Error::other("/proc is not the kernel's"));
    }
    rustix::io::write(&file, text.as_bytes())?;
    Ok(())
}

fn become_user(who: &Identity, foreign_streams: bool) -> Result<()> {
    use rustix::process::{Gid, Uid};
    let groups: Vec<Gid> = who.groups.iter().map(|g| Gid::from_raw(*g)).collect();
    let (uid, gid) = (Uid::from_raw(who.uid), Gid::from_raw(who.gid));
    // Pipes and terminal are this container's own; /dev/stdout and the like are opened anew, by their owner's rights.
    for stream in [
        std::io::stdin().as_fd(),
        std::io::stdout().as_fd(),
        std::io::stderr().as_fd(),
    ] {
        if !foreign_streams {
            rustix::fs::fchown(stream, Some(uid), None).context("give the streams to the user")?;
        }
    }
    capability::keep_over_user_change().context("keep capabilities")?;
    rustix::thread::set_thread_groups(&groups).context("set supplementary groups")?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).context("set the group")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).context("set the user")?;
    Ok(())
}

/// Looks the program up in the container's own PATH (F280) and executes it.
fn execute(argv: &[ByteString], env: &[ByteString]) -> Error {
    let Some(name) = argv.first() else {
        return Error::usage("no command specified");
    };
    let strings = |list: &[ByteString]| {
        list.iter()
            .map(ByteString::to_cstring)
            .collect::<Option<Vec<CString>>>()
    };
    let (Some(args), Some(environment)) = (strings(argv), strings(env)) else {
        return Error::usage("an argument or a variable has a NUL byte in it");
    };
    let shown = name.to_string_lossy();
    let mut refused = None;
    for candidate in candidates(name, env) {
        let Ok(path) = CString::new(candidate) else { continue };
        let Err(errno) = nix::unistd::execve(path.as_c_str() as &CStr, &args, &environment);
        match errno {
            nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR => {}
            other => refused = refused.or(Some(other)),
        }
    }
    match refused {
        Some(errno) => Error::new(Kind::CannotExecute, format!("exec {shown}: {}", Error::from(errno))),
        None if name.as_bytes().contains(&b'/') => Error::new(
            Kind::CommandNotFound,
            format!("exec {shown}: no such file or directory"),
        ),
        None => Error::new(
            Kind::CommandNotFound,
            format!("exec {shown}: executable file not found in $PATH"),
        ),
    }
}

/// A name with a slash is a path; another one is tried in each directory of PATH.
fn candidates(name: &ByteString, env: &[ByteString]) -> Vec<Vec<u8>> {
    if name.is_empty() {
        return Vec::new();
    }
    if name.as_bytes().contains(&b'/') {
        return vec![name.as_bytes().to_vec()];
    }
    let path = env.iter().rev().find_map(|e| match e.split_env() {
        (b"PATH", value) => value,
        _ => None,
    });
    path.unwrap_or_default()
        .split(|b| *b == b':')
        .map(|dir| if dir.is_empty() { b"." } else { dir })
        .map(|dir| [dir, b"/", name.as_bytes()].concat())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_in_the_containers_path() {
        let env: Vec<ByteString> = vec!["A=1".into(), "PATH=/a::/b".into()];
        let found: Vec<_> = candidates(&"x".into(), &env)
            .into_iter()
            .map(|c| String::from_utf8(c).unwrap())
            .collect();
        assert_eq!(found, ["/a/x", "./x", "/b/x"]);
        assert_eq!(candidates(&"./x".into(), &env), [b"./x".to_vec()]);
        assert!(candidates(&"".into(), &env).is_empty());
    }
}
