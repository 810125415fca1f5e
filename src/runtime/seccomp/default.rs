//! The built-in profile: what docker's newest one (moby/profiles, 2026) says for these architectures.
//!
//! An error of EPERM, unless a rule here applies. The names are resolved while barge is compiled; at a container's start
//! nothing is parsed or looked up.

use super::arch::{Arch, SLOTS};
use super::compile::Rules;
use super::rule::{Action, Check, Condition, Op};
use super::table;
use crate::runtime::capability::Capabilities;
use caps::Capability::{
    self, CAP_BPF, CAP_DAC_READ_SEARCH, CAP_PERFMON, CAP_SYS_ADMIN, CAP_SYS_BOOT, CAP_SYS_CHROOT, CAP_SYS_MODULE,
    CAP_SYS_NICE, CAP_SYS_PACCT, CAP_SYS_PTRACE, CAP_SYS_RAWIO, CAP_SYS_TIME, CAP_SYS_TTY_CONFIG, CAP_SYSLOG,
};
use std::borrow::Cow;

/// When a rule applies.
#[derive(Clone, Copy)]
enum When {
    Always,
    /// The container has the capability.
    With(Capability),
    Without(Capability),
}

struct Rule {
    when: When,
    names: &'static [&'static str],
    checks: &'static [Check],
}

const ALLOW: &[Check] = &[Check {
    conditions: Cow::Borrowed(&[]),
    action: Action::ALLOW,
}];
const NOT_THERE: &[Check] = &[Check {
    conditions: Cow::Borrowed(&[]),
    action: Action::ENOSYS,
}];

/// An action for calls whose first argument compares like this.
macro_rules! check {
    ($op:expr, $value:expr, $action:expr) => {
        Check {
            conditions: Cow::Borrowed(&[Condition::new(0, $op, $value as u64)]),
            action: $action,
        }
    };
}

const fn rule(when: When, names: &'static [&'static str], checks: &'static [Check]) -> Rule {
    Rule { when, names, checks }
}

/// Let through whatever the capabilities.
#[rustfmt::skip]
const ALLOWED: &[&str] = &[
        "accept", "accept4", "access", "adjtimex", "alarm", "bind", "brk", "cachestat", "capget", "capset",
        "chdir", "chmod", "chown", "chown32", "clock_adjtime", "clock_adjtime64", "clock_getres",
        "clock_getres_time64", "clock_gettime", "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64",
        "close", "close_range", "connect", "copy_file_range", "creat", "dup", "dup2", "dup3", "epoll_create",
        "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2", "epoll_wait",
        "epoll_wait_old", "eventfd", "eventfd2", "execve", "execveat", "exit", "exit_group", "faccessat",
        "faccessat2", "fadvise64", "fadvise64_64", "fallocate", "fanotify_mark", "fchdir", "fchmod", "fchmodat",
        "fchmodat2", "fchown", "fchown32", "fchownat", "fcntl", "fcntl64", "fdatasync", "fgetxattr",
        "flistxattr", "flock", "fork", "fremovexattr", "fsetxattr", "fstat", "fstat64", "fstatat64", "fstatfs",
        "fstatfs64", "fsync", "ftruncate", "ftruncate64", "futex", "futex_requeue", "futex_time64",
        "futex_wait", "futex_waitv", "futex_wake", "futimesat", "getcpu", "getcwd", "getdents", "getdents64",
        "getegid", "getegid32", "geteuid", "geteuid32", "getgid", "getgid32", "getgroups", "getgroups32",
        "getitimer", "getpeername", "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrandom",
        "getresgid", "getresgid32", "getresuid", "getresuid32", "getrlimit", "get_robust_list", "getrusage",
        "getsid", "getsockname", "getsockopt", "get_thread_area", "gettid", "gettimeofday", "getuid",
        "getuid32", "getxattr", "getxattrat", "inotify_add_watch", "inotify_init", "inotify_init1",
        "inotify_rm_watch", "io_cancel", "ioctl", "io_destroy", "io_getevents", "io_pgetevents",
        "io_pgetevents_time64", "ioprio_get", "ioprio_set", "io_setup", "io_submit", "ipc", "kill",
        "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "lchown", "lchown32",
        "lgetxattr", "link", "linkat", "listen", "listmount", "listxattr", "listxattrat", "llistxattr",
        "_llseek", "lremovexattr", "lseek", "lsetxattr", "lstat", "lstat64", "madvise", "map_shadow_stack",
        "membarrier", "memfd_create", "memfd_secret", "mincore", "mkdir", "mkdirat", "mknod", "mknodat",
        "mlock", "mlock2", "mlockall", "mmap", "mmap2", "mprotect", "mq_getsetattr", "mq_notify", "mq_open",
        "mq_timedreceive", "mq_timedreceive_time64", "mq_timedsend", "mq_timedsend_time64", "mq_unlink",
        "mremap", "mseal", "msgctl", "msgget", "msgrcv", "msgsnd", "msync", "munlock", "munlockall", "munmap",
        "name_to_handle_at", "nanosleep", "newfstatat", "_newselect", "open", "openat", "openat2", "pause",
        "pidfd_open", "pidfd_send_signal", "pipe", "pipe2", "pkey_alloc", "pkey_free", "pkey_mprotect", "poll",
        "ppoll", "ppoll_time64", "prctl", "pread64", "preadv", "preadv2", "prlimit64", "process_mrelease",
        "pselect6", "pselect6_time64", "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readlink",
        "readlinkat", "readv", "recv", "recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg", "remap_file_pages",
        "removexattr", "removexattrat", "rename", "renameat", "renameat2", "restart_syscall", "rmdir", "rseq",
        "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend",
        "rt_sigtimedwait", "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sched_getaffinity", "sched_getattr",
        "sched_getparam", "sched_get_priority_max", "sched_get_priority_min", "sched_getscheduler",
        "sched_rr_get_interval", "sched_rr_get_interval_time64", "sched_setaffinity", "sched_setattr",
        "sched_setparam", "sched_setscheduler", "sched_yield", "seccomp", "select", "semctl", "semget", "semop",
        "semtimedop", "semtimedop_time64", "send", "sendfile", "sendfile64", "sendmmsg", "sendmsg", "sendto",
        "setfsgid", "setfsgid32", "setfsuid", "setfsuid32", "setgid", "setgid32", "setgroups", "setgroups32",
        "setitimer", "setpgid", "setpriority", "setregid", "setregid32", "setresgid", "setresgid32",
        "setresuid", "setresuid32", "setreuid", "setreuid32", "setrlimit", "set_robust_list", "setsid",
        "setsockopt", "set_thread_area", "set_tid_address", "setuid", "setuid32", "setxattr", "setxattrat",
        "shmat", "shmctl", "shmdt", "shmget", "shutdown", "sigaltstack", "signalfd", "signalfd4", "sigprocmask",
        "sigreturn", "socketcall", "socketpair", "splice", "stat", "stat64", "statfs", "statfs64", "statmount",
        "statx", "symlink", "symlinkat", "sync", "sync_file_range", "syncfs", "sysinfo", "tee", "tgkill",
        "time", "timer_create", "timer_delete", "timerfd_create", "timerfd_gettime", "timerfd_gettime64",
        "timerfd_settime", "timerfd_settime64", "timer_getoverrun", "timer_gettime", "timer_gettime64",
        "timer_settime", "timer_settime64", "times", "tkill", "truncate", "truncate64", "ugetrlimit", "umask",
        "uname", "unlink", "unlinkat", "uretprobe", "utime", "utimensat", "utimensat_time64", "utimes", "vfork",
        "vmsplice", "wait4", "waitid", "waitpid", "write", "writev",
    // Since Linux 4.8 a tracer can't change a call behind the filter's back.
    "process_vm_readv", "process_vm_writev", "ptrace",
    // Of arm and x86 only.
    "arch_prctl", "arm_fadvise64_64", "arm_sync_file_range", "breakpoint", "cacheflush", "modify_ldt", "set_tls",
    "sync_file_range2",
];

/// Nothing may make a namespace: in a user namespace of its own a program has all capabilities, and the kernel's
/// rarely used parts are in its reach (CVE-2022-0185, CVE-2022-0492 and many others).
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP) as u64;

/// Address families: those that the kernel gave up, AF_ALG (CVE-2026-31431) and AF_VSOCK (which knows no network
/// namespaces) are refused, and so is any that is newer than this list. A 32-bit program's `socketcall` hides the family
/// behind a pointer, where no filter can see it; as 32-bit programs of today's distributions use nothing else, it is
/// allowed, as by docker.
const FAMILIES: &[Check] = &[
    check!(Op::Equal, libc::AF_DECnet, Action::EPERM),
    check!(Op::Equal, libc::AF_ECONET, Action::EPERM),
    check!(Op::Equal, libc::AF_ATMSVC, Action::EPERM),
    check!(Op::Equal, libc::AF_IRDA, Action::EPERM),
    check!(Op::Equal, libc::AF_WANPIPE, Action::EPERM),
    check!(Op::Equal, libc::AF_ISDN, Action::EPERM),
    check!(Op::Equal, libc::AF_CAIF, Action::EPERM),
    check!(Op::Equal, libc::AF_ALG, Action::EPERM),
    check!(Op::Equal, libc::AF_VSOCK, Action::EPERM),
    check!(Op::LessOrEqual, AF_MCTP, Action::ALLOW),
];

/// The newest family.
const AF_MCTP: u64 = 45;
const PER_LINUX32: u64 = 8;

/// Execution domains of Linux and 32-bit Linux, without or with the old `uname`, and the question which is set: not
/// those that switch the randomised address space off.
const PERSONALITIES: &[Check] = &[
    check!(Op::Equal, 0, Action::ALLOW),
    check!(Op::Equal, PER_LINUX32, Action::ALLOW),
    check!(Op::Equal, libc::UNAME26, Action::ALLOW),
    check!(Op::Equal, PER_LINUX32 | libc::UNAME26 as u64, Action::ALLOW),
    check!(Op::Equal, 0xffff_ffff_u64, Action::ALLOW),
];

/// Of the rules that name a call and apply, the first counts.
#[rustfmt::skip]
const RULES: &[Rule] = &[
    rule(When::Always, ALLOWED, ALLOW),
    rule(When::Always, &["socket"], FAMILIES),
    rule(When::Always, &["personality"], PERSONALITIES),
    rule(When::With(CAP_DAC_READ_SEARCH), &["open_by_handle_at"], ALLOW),
    rule(When::With(CAP_SYS_ADMIN), &[
        "bpf", "clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick", "lookup_dcookie",
        "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr", "mount", "mount_setattr", "move_mount",
        "open_tree", "perf_event_open", "quotactl", "quotactl_fd", "setdomainname", "sethostname", "setns", "syslog",
        "umount", "umount2", "unshare",
    ], ALLOW),
    rule(When::Without(CAP_SYS_ADMIN), &["clone"], &[check!(Op::Masked(NAMESPACES), 0, Action::ALLOW)]),
    // Its flags are behind a pointer; told that it does not exist, the C library goes back to clone.
    rule(When::Without(CAP_SYS_ADMIN), &["clone3"], NOT_THERE),
    rule(When::With(CAP_SYS_BOOT), &["reboot"], ALLOW),
    rule(When::With(CAP_SYS_CHROOT), &["chroot"], ALLOW),
    rule(When::With(CAP_SYS_MODULE), &["delete_module", "finit_module", "init_module"], ALLOW),
    rule(When::With(CAP_SYS_PACCT), &["acct"], ALLOW),
    rule(When::With(CAP_SYS_PTRACE), &["kcmp", "pidfd_getfd", "process_madvise"], ALLOW),
    rule(When::With(CAP_SYS_RAWIO), &["ioperm", "iopl"], ALLOW),
    rule(When::With(CAP_SYS_TIME), &["clock_settime", "clock_settime64", "settimeofday", "stime"], ALLOW),
    rule(When::With(CAP_SYS_TTY_CONFIG), &["vhangup"], ALLOW),
    rule(When::With(CAP_SYS_NICE), &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"], ALLOW),
    rule(When::With(CAP_SYSLOG), &["syslog"], ALLOW),
    rule(When::With(CAP_BPF), &["bpf"], ALLOW),
    rule(When::With(CAP_PERFMON), &["perf_event_open"], ALLOW),
];

/// A set of rules, one bit each.
type Mask = u32;

/// For each architecture and slot, the rules that name the call.
static NAMED: [[Mask; SLOTS]; Arch::ALL.len()] = {
    let mut named = [[0; SLOTS]; Arch::ALL.len()];
    let mut rule = 0;
    while rule < RULES.len() {
        let mut i = 0;
        while i < RULES[rule].names.len() {
            let Some(index) = table::index(RULES[rule].names[i]) else {
                panic!("not in the table of system calls")
            };
            let mut arch = 0;
            while arch < Arch::ALL.len() {
                if let Some(number) = table::number(index, Arch::ALL[arch]) {
                    named[arch][Arch::slot(number)] |= 1 << rule;
                }
                arch += 1;
            }
            i += 1;
        }
        rule += 1;
    }
    named
};

/// The profile for `arches` and a container with these capabilities.
pub(super) fn rules(arches: &[Arch], capabilities: Capabilities) -> Rules<'static> {
    let applies = |when| match when {
        When::Always => true,
        When::With(capability) => capabilities.contains(Capabilities::of(&[capability])),
        When::Without(capability) => !capabilities.contains(Capabilities::of(&[capability])),
    };
    let applying = |mask: Mask, (i, rule): (usize, &Rule)| if applies(rule.when) { mask | 1 << i } else { mask };
    let applying = RULES.iter().enumerate().fold(0, applying);
    let mut rules = Rules::new(Action::EPERM);
    for arch in arches {
        rules.add(
            *arch,
            &CHECKS,
            NAMED[*arch as usize].iter().map(|mask| Bits(mask & applying)),
        );
    }
    rules
}

static CHECKS: [&[Check]; RULES.len()] = {
    let mut checks = [ALLOW; RULES.len()];
    let mut i = 0;
    while i < RULES.len() {
        checks[i] = RULES[i].checks;
        i += 1;
    }
    checks
};

/// The numbers of the bits that are set.
#[derive(Clone)]
struct Bits(Mask);

impl Iterator for Bits {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let lowest = self.0.trailing_zeros();
        self.0 &= self.0.wrapping_sub(1);
        (lowest < Mask::BITS).then_some(lowest as usize)
    }
}
