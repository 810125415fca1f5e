//! Processes: identity, signals by pidfd, waiting, what a child inherits.
#![allow(unsafe_code)]

use nix::sys::signal::{SigSet, Signal};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Code(i32),
    Signal(i32),
}

/// A pidfd of a running process; `None` if there is none of that pid.
pub(crate) fn pidfd_open(pid: i32) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = Pid::from_raw(pid) else { return Ok(None) };
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Changes with every boot: what was running under another one is not running now (random(4)).
pub(crate) fn boot_id() -> io::Result<String> {
    // A listing asks for each container.
    static KNOWN: OnceLock<String> = OnceLock::new();
    if let Some(id) = KNOWN.get() {
        return Ok(id.clone());
    }
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(KNOWN.get_or_init(|| text.trim_end().to_owned()).clone())
}

/// Until it is dropped, this process's mode mask is another one (umask(2)).
pub(crate) struct ModeMask(rustix::fs::Mode);

impl ModeMask {
    /// 0022, whatever the caller's shell has: for files that become somebody else's.
    pub(crate) fn usual() -> ModeMask {
        ModeMask(rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022)))
    }
}

impl Drop for ModeMask {
    fn drop(&mut self) {
        rustix::process::umask(self.0);
    }
}

/// Sends any signal, real-time ones too. A process that has ended is not an error.
pub(crate) fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: a plain system call on an open descriptor; a null siginfo is allowed.
    let r = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    match r {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            e => Err(e),
        },
    }
}

/// Waits until the process has ended (also one that is not our child), or until `timeout`; whether it has.
pub(crate) fn pidfd_wait(pidfd: BorrowedFd<'_>, timeout: Option<std::time::Duration>) -> io::Result<bool> {
    let deadline = timeout.map(|t| std::time::Instant::now() + t);
    loop {
        let left = deadline.map(|d| d.saturating_duration_since(std::time::Instant::now()));
        let timespec = left.map(|l| rustix::event::Timespec {
            tv_sec: l.as_secs().cast_signed(),
            tv_nsec: l.subsec_nanos().into(),
        });
        let mut fds = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        match rustix::event::poll(&mut fds, timespec.as_ref()) {
            Ok(n) => return Ok(n > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

impl Ended {
    /// The exit code a shell would show: 128+n by signal n.
    pub(crate) fn code(self) -> u8 {
        match self {
            Ended::Code(code) => u8::try_from(code & 0xff).unwrap_or(255),
            Ended::Signal(signal) => u8::try_from(128 + signal).unwrap_or(255),
        }
    }

    pub(crate) fn signal(self) -> Option<i32> {
        match self {
            Ended::Code(_) => None,
            Ended::Signal(signal) => Some(signal),
        }
    }
}

/// Reaps our child that has ended.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> io::Result<Ended> {
    wait(pidfd, WaitIdOptions::EXITED)
}

/// How our child has ended, which stays a zombie.
pub(crate) fn how_it_ended(pidfd: BorrowedFd<'_>) -> io::Result<Ended> {
    wait(pidfd, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
}

fn wait(pidfd: BorrowedFd<'_>, options: WaitIdOptions) -> io::Result<Ended> {
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd), options) {
            Ok(Some(status)) => {
                return Ok(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Ended::Code(code),
                    (None, Some(signal)) => Ended::Signal(signal),
                    (None, None) => Ended::Code(255),
                });
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Field 22 of /proc/PID/stat, clock ticks since boot; `None` if the process is gone or a zombie.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let mut buffer = [0_u8; 512];
    let path = format!("/proc/{pid}/stat");
    let fd = rustix::fs::open(
        path,
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .ok()?;
    let n = rustix::io::read(&fd, &mut buffer).ok()?;
    parse_start_time(&buffer[..n])
}

/// The command may hold spaces and parentheses, so fields are counted from the last `)`.
fn parse_start_time(stat: &[u8]) -> Option<u64> {
    start_time_of(stat, false)
}

/// As [`start_time`], of a zombie too.
pub(crate) fn birth(pid: i32) -> Option<u64> {
    start_time_of(&std::fs::read(format!("/proc/{pid}/stat")).ok()?, true)
}

fn start_time_of(stat: &[u8], zombies: bool) -> Option<u64> {
    let close = stat.iter().rposition(|b| *b == b')')?;
    let mut fields = std::str::from_utf8(&stat[close + 1..]).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    let start_time = fields.nth(18)?.parse().ok();
    // Field 31: one that has SIGKILL to come is as good as gone.
    let dying = fields
        .nth(8)
        .and_then(|f| f.parse::<u64>().ok())
        .is_some_and(|signals| signals & 1 << 8 != 0);
    if !zombies && (dying || matches!(state, "Z" | "X" | "x")) {
        return None;
    }
    start_time
}

/// How a process that nobody has reaped yet has ended: exit code (128+n by signal n) and signal; `None` if it is none.
pub(crate) fn zombie_status(pid: i32, start_time: u64) -> Option<(u8, Option<i32>)> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let close = stat.iter().rposition(|b| *b == b')')?;
    let fields: Vec<_> = std::str::from_utf8(&stat[close + 1..])
        .ok()?
        .split_ascii_whitespace()
        .collect();
    // Fields 3, 22 and 52 of proc_pid_stat(5).
    let same = *fields.first()? == "Z" && fields.get(19)?.parse() == Ok(start_time);
    let status: i32 = fields.get(49)?.parse().ok().filter(|_| same)?;
    match (status & 0x7f, status >> 8 & 0xff) {
        (0, code) => Some((u8::try_from(code).ok()?, None)),
        (signal, _) => Some((u8::try_from(128 + signal).ok()?, Some(signal))),
    }
}

/// Whether a process is stopped (SIGSTOP, or traced).
pub(crate) fn is_stopped(pid: i32) -> bool {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    let close = stat.iter().rposition(|b| *b == b')');
    close
        .and_then(|c| stat.get(c + 2))
        .is_some_and(|state| matches!(state, b'T' | b't'))
}

/// Starts `exe` as a process of its own session that is nobody's child: two forks, then exec. It gets `fds` as
/// descriptors 3, 4, …, /dev/null as 0, 1 and 2, a place in the v2 group `cgroup`, no environment, no signal blocked or ignored, and nothing else.
///
/// # Errors
/// Only of the first fork; what fails later shows as the closing of `fds`.
pub(crate) fn spawn_detached(
    exe: BorrowedFd<'_>,
    argv0: &CStr,
    fds: &[BorrowedFd<'_>],
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let super::clone::Fork::Parent { pidfd, .. } = super::clone::clone3(0, None)? else {
        // The middle process: it leaves the caller's session, so that the next one can't get a terminal.
        if nix::unistd::setsid().is_ok()
            && let Ok(super::clone::Fork::Child) = born_in(cgroup)
        {
            let _ = exec_detached(exe, argv0, fds);
        }
        exit_now(0);
    };
    reap(pidfd.as_fd()).map(|_| ())
}

/// In the group if it takes processes (a sandbox's root may not), else in the caller's.
fn born_in(cgroup: Option<BorrowedFd<'_>>) -> io::Result<super::clone::Fork> {
    match super::clone::clone3(0, cgroup) {
        Err(_) if cgroup.is_some() => super::clone::clone3(0, None),
        result => result,
    }
}

fn exec_detached(exe: BorrowedFd<'_>, argv0: &CStr, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    reset_signals()?;
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())?;
    // First out of the way of 0..n, then into place: a source may itself be a number that is a target.
    let above = i32::try_from(fds.len()).unwrap_or(64) + 3;
    let top = rustix::io::fcntl_dupfd_cloexec(exe, above)?;
    let mut moved = Vec::with_capacity(fds.len() + 3);
    for fd in [null.as_fd(); 3].iter().chain(fds) {
        moved.push(rustix::io::fcntl_dupfd_cloexec(fd, above)?);
    }
    for (target, fd) in (0..).zip(&moved) {
        dup_onto(fd.as_fd(), target)?;
    }
    close_from(u32::try_from(moved.len()).unwrap_or(u32::MAX))?;
    let environment = super::stop::environment();
    nix::unistd::execveat(top, c"", &[argv0], &environment, nix::fcntl::AtFlags::AT_EMPTY_PATH)?;
    Ok(())
}

/// Makes descriptor `target` another name of `fd`, kept over exec.
pub(crate) fn dup_onto(fd: BorrowedFd<'_>, target: i32) -> io::Result<()> {
    // SAFETY: dup2 of an open descriptor onto a number; whatever was there belonged to this process's standard
    // streams or to descriptors about to be replaced by exec.
    let r = unsafe { libc::dup2(fd.as_raw_fd(), target) };
    if r == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Marks every descriptor from `first` on close-on-exec (Linux 5.11; closes them one by one where that is unknown).
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: changes flags of descriptors only; none is closed under its owner.
    let r = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if r == 0 {
        return Ok(());
    }
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Some(fd) = entry?.file_name().to_str().and_then(|s| s.parse::<i32>().ok()) else {
            continue;
        };
        if fd.cast_unsigned() >= first {
            // SAFETY: sets a flag on a descriptor number; EBADF of one just closed is harmless.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Closes every descriptor from 3 on but these. The caller uses none of the others any more.
pub(crate) fn close_all_but(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut first = 3;
    let mut kept: Vec<_> = kept.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    kept.sort_unstable();
    for fd in kept {
        if fd > first {
            close_span(first, fd - 1)?;
        }
        first = fd + 1;
    }
    close_span(first, u32::MAX)
}

fn close_span(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: the callers touch none of these descriptors again, and end by execve or `exit_now`, which run no
    // destructors that would close them a second time.
    let r = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if r == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Scheduling as of a fresh session: niceness, policy, processors, disk priority, personality, the score by which
/// memory is reclaimed, and soft limits. What may not be changed back stays.
pub(crate) fn reset_scheduling() {
    let _ = rustix::process::setpriority_process(None, 0);
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: a valid policy, and parameters that outlive the call.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const parameters) };
    let all = [u8::MAX; 128];
    // SAFETY: the mask's length in bytes is given with it; the kernel takes what the machine has of it.
    unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, all.len(), all.as_ptr()) };
    const IOPRIO_WHO_PROCESS: i32 = 1;
    // SAFETY: three integers: this process, and no class of its own.
    unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, 0) };
    // SAFETY: an integer.
    unsafe { libc::personality(0) };
    let _ = std::fs::OpenOptions::new()
        .write(true)
        .open("/proc/self/oom_score_adj")
        .and_then(|mut f| {
            use std::io::Write as _;
            f.write_all(b"0")
        });
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    for limit in [
        Resource::RLIMIT_FSIZE,
        Resource::RLIMIT_CPU,
        Resource::RLIMIT_AS,
        Resource::RLIMIT_DATA,
        Resource::RLIMIT_CORE,
    ] {
        if let Ok((_, hard)) = getrlimit(limit) {
            let _ = setrlimit(limit, hard, hard);
        }
    }
}

/// Closes every descriptor, the standard ones too: only for a process that uses none from here on.
pub(crate) fn close_all() -> io::Result<()> {
    // SAFETY: the caller never touches a descriptor again; it ends by `exit_now`, which runs no destructor.
    let r = unsafe { libc::syscall(libc::SYS_close_range, 0_u32, u32::MAX, 0) };
    if r == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Takes over a descriptor that this process was started with, by its number.
pub(crate) fn inherited(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: F_SETFD on a number; it fails with EBADF if nothing is there.
    let r = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    if r == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open (checked above), and each number is taken over once, at the start.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Another descriptor for one that this process was started with; neither goes to a program that it executes.
pub(crate) fn duplicate(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: both calls take numbers, and fail with EBADF if nothing is there.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if copy == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    // SAFETY: the kernel has just made it, for nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// A descriptor that whoever started this process has left open for it. The engine's own are all close-on-exec from
/// their first moment on, so that none of them can be taken for one.
pub(crate) fn left_open(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD on a number; it fails with EBADF if nothing is there.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags == -1 {
        return Err(io::Error::last_os_error());
    }
    match flags & libc::FD_CLOEXEC {
        0 => duplicate(number),
        _ => Err(io::Error::from_raw_os_error(libc::EBADF)),
    }
}

/// The program that `command` starts is asked to end when the thread that started it does, which nobody else tells it.
pub(crate) fn ends_with_us(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt as _;
    let us = rustix::process::getpid();
    let tie = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
        match rustix::process::getppid() == Some(us) {
            true => Ok(()),
            false => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        }
    };
    // SAFETY: between fork and exec it makes two system calls, and allocates nothing.
    unsafe { command.pre_exec(tie) };
}

/// Whether whoever started this process has made it deaf to a signal.
pub(crate) fn is_ignored(signal: Signal) -> io::Result<bool> {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action nothing changes; the old one is written to a structure of its own.
    if unsafe { libc::sigaction(signal as libc::c_int, std::ptr::null(), action.as_mut_ptr()) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded, and all zero is a value, too.
    let action = unsafe { action.assume_init() };
    Ok(action.sa_sigaction == libc::SIG_IGN)
}

/// Every signal to its default, none blocked: what a program expects from its parent.
pub(crate) fn reset_signals() -> io::Result<()> {
    /// `struct sigaction` as the kernel has it; all zero is the default action.
    #[repr(C)]
    struct KernelSigaction([u64; 4]);
    let default = KernelSigaction([0; 4]);
    // By the system call itself: the C library keeps 32 and 33 to itself, and the caller may have ignored them.
    for signal in (1..=64).filter(|s| ![libc::SIGKILL, libc::SIGSTOP].contains(s)) {
        // SAFETY: the default action runs no code, and the structure is at least as large as the kernel reads.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                &raw const default,
                std::ptr::null_mut::<u8>(),
                8,
            )
        };
    }
    SigSet::empty().thread_set_mask()?;
    Ok(())
}

/// Ends this process without running anything of the parent's that a fork copied (buffers, exit handlers).
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// A session of its own, and nothing of the caller's as standard streams.
pub(crate) fn leave_session() -> io::Result<()> {
    rustix::process::setsid()?;
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())?;
    for stream in 0..3 {
        dup_onto(null.as_fd(), stream)?;
    }
    Ok(())
}

/// A new, empty session keyring, so that no key of the caller's is seen (keyctl(2), KEYCTL_JOIN_SESSION_KEYRING).
pub(crate) fn new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    let r = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    };
    match r {
        -1 => match io::Error::last_os_error() {
            // A kernel without keys has none to leak.
            e if e.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
            e => Err(e),
        },
        _ => Ok(()),
    }
}

/// Makes a terminal the controlling one of this session (a session leader's, which has none yet).
pub(crate) fn set_controlling_terminal(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes an int by value.
    let r = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) };
    if r == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Gives freed pages of the heap, and of the calling thread's stack below this call, back to the kernel: a monitor
/// lives long and needs little, but starting a container goes deep. For the main thread, whose stack has a megabyte of
/// nothing below it (`stack_guard_gap`, Linux 4.12).
#[inline(never)]
pub(crate) fn give_back_memory() {
    /// Bytes that this frame, and the system call made in it, may use below its first variable.
    const IN_USE: usize = 1024;
    /// Bytes of stack that are given back at most.
    const DEPTH: usize = 256 * 1024;
    #[cfg(target_env = "gnu")]
    // SAFETY: glibc's own, safe at any time.
    unsafe {
        libc::malloc_trim(0)
    };
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    let Some(page) = page.ok().flatten().and_then(|size| usize::try_from(size).ok()) else {
        return;
    };
    let here = 0_u8;
    let end = (std::ptr::from_ref(&here).addr() - IN_USE) & !(page - 1);
    // SAFETY: nothing lives below the stack pointer, which IN_USE stays clear of. What of the range the stack has not
    // reached is not mapped, and answered with ENOMEM.
    unsafe { libc::madvise((end - DEPTH) as *mut libc::c_void, DEPTH, libc::MADV_DONTNEED) };
}

/// The short threads of a monitor share its heap: one of their own each would stay when they have ended.
pub(crate) fn one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: glibc's own, before any other thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1)
    };
}

/// sethostname(2) for the domain name.
pub(crate) fn set_domainname(name: &[u8]) -> io::Result<()> {
    // SAFETY: pointer and length are of one slice.
    let r = unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) };
    if r == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_counts_from_the_last_parenthesis() {
        let stat = b"12 (a) b) c) S 1 12 12 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 100 200 300";
        assert_eq!(parse_start_time(stat), Some(987_654));
        assert_eq!(
            parse_start_time(b"12 (x) Z 1 12 12 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 1"),
            None
        );
        assert_eq!(parse_start_time(b"junk"), None);
    }

    #[test]
    fn own_start_time_is_known_and_stable() {
        let pid = std::process::id().cast_signed();
        assert!(start_time(pid).is_some());
        assert_eq!(start_time(pid), start_time(pid));
    }
}
