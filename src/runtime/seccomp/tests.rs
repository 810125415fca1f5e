//! The built-in profile, system call by system call, and loaded for real.

use super::arch::{Arch, X32_BIT};
use super::interpret::{Call, run};
use super::rule::Action;
use super::{default, table};
use crate::model::security::Security;
use crate::runtime::capability::Capabilities;
use libc::sock_filter;
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::personality::Persona;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType};

const X86_64: &[Arch] = &[Arch::X86_64, Arch::X86, Arch::X32];
const AARCH64: &[Arch] = &[Arch::Aarch64, Arch::Arm];

fn caps(names: &[&str]) -> Capabilities {
    names.iter().fold(Capabilities::default(), |set, name| {
        set.and(Capabilities::named(name).unwrap())
    })
}

fn compiled(arches: &[Arch], names: &[&str]) -> Vec<sock_filter> {
    default::rules(arches, caps(names)).compile().unwrap()
}

fn number(arch: Arch, name: &str) -> u32 {
    let number = table::index(name).and_then(|i| table::number(i, arch));
    let bit = if arch == Arch::X32 { X32_BIT } else { 0 };
    number.unwrap_or_else(|| panic!("{name} on {arch:?}")) | bit
}

fn numbered(program: &[sock_filter], arch: Arch, number: u32, argument: u64) -> Action {
    run(
        program,
        &Call {
            audit: arch.audit(),
            number,
            arguments: [argument, 0, 0, 0, 0, 0],
        },
    )
    .0
}

fn verdict(program: &[sock_filter], arch: Arch, name: &str, argument: u64) -> Action {
    numbered(program, arch, number(arch, name), argument)
}

#[test]
fn calls_without_conditions() {
    let allowed = "read write openat execve exit_group mmap futex ptrace process_vm_readv seccomp landlock_create_ruleset \
                   openat2 statmount listmount mseal removexattrat futex_waitv memfd_secret map_shadow_stack prctl \
                   clock_adjtime setgroups pkey_alloc capset sendmsg name_to_handle_at";
    let refused = "mount umount2 setns unshare pivot_root chroot reboot bpf perf_event_open userfaultfd keyctl add_key \
                   request_key io_uring_setup io_uring_enter io_uring_register kexec_load init_module finit_module \
                   delete_module swapon swapoff acct settimeofday clock_settime sethostname setdomainname syslog \
                   open_by_handle_at quotactl fsopen fsconfig fsmount fspick open_tree move_mount mount_setattr \
                   lookup_dcookie nfsservctl vhangup mbind set_mempolicy get_mempolicy migrate_pages move_pages kcmp \
                   process_madvise pidfd_getfd fanotify_init lsm_set_self_attr";
    for arches in [X86_64, AARCH64] {
        let program = compiled(arches, &[]);
        for arch in arches {
            for name in allowed.split_whitespace().filter(|n| exists(*arch, n)) {
                assert_eq!(verdict(&program, *arch, name, 0), Action::ALLOW, "{name} on {arch:?}");
            }
            for name in refused.split_whitespace().filter(|n| exists(*arch, n)) {
                assert_eq!(verdict(&program, *arch, name, 0), Action::EPERM, "{name} on {arch:?}");
            }
        }
    }
}

fn exists(arch: Arch, name: &str) -> bool {
    table::index(name).is_some_and(|i| table::number(i, arch).is_some())
}

#[test]
fn calls_of_one_architecture() {
    let x86 = compiled(X86_64, &[]);
    let arm = compiled(AARCH64, &[]);
    let cases = [
        (&x86, Arch::X86_64, "arch_prctl", Action::ALLOW),
        (&x86, Arch::X86_64, "modify_ldt", Action::ALLOW),
        (&x86, Arch::X86_64, "uretprobe", Action::ALLOW),
        (&x86, Arch::X86_64, "create_module", Action::EPERM),
        (&x86, Arch::X86_64, "iopl", Action::EPERM),
        (&x86, Arch::X86, "socketcall", Action::ALLOW),
        (&x86, Arch::X86, "ipc", Action::ALLOW),
        (&x86, Arch::X86, "umount", Action::EPERM),
        (&x86, Arch::X86, "stime", Action::EPERM),
        (&x86, Arch::X86, "vm86", Action::EPERM),
        (&x86, Arch::X86, "clock_gettime64", Action::ALLOW),
        (&x86, Arch::X86, "clock_settime64", Action::EPERM),
        (&x86, Arch::X32, "execve", Action::ALLOW),
        (&x86, Arch::X32, "pwritev2", Action::ALLOW),
        (&x86, Arch::X32, "kexec_load", Action::EPERM),
        (&arm, Arch::Arm, "set_tls", Action::ALLOW),
        (&arm, Arch::Arm, "cacheflush", Action::ALLOW),
        (&arm, Arch::Arm, "breakpoint", Action::ALLOW),
        (&arm, Arch::Arm, "usr26", Action::EPERM),
        (&arm, Arch::Arm, "get_tls", Action::EPERM),
        (&arm, Arch::Arm, "arm_fadvise64_64", Action::ALLOW),
        (&arm, Arch::Arm, "sync_file_range2", Action::ALLOW),
    ];
    for (program, arch, name, wanted) in cases {
        assert_eq!(verdict(program, arch, name, 0), wanted, "{name} on {arch:?}");
    }
}

#[test]
fn what_is_newer_than_the_profile_does_not_exist() {
    let x86 = compiled(X86_64, &[]);
    let arm = compiled(AARCH64, &[]);
    let cases = [
        (&x86, Arch::X86_64, [467, 470, 500, 0x3fff_ffff, u32::MAX]),
        (&x86, Arch::X86, [467, 470, 1000, X32_BIT, u32::MAX]),
        (
            &x86,
            Arch::X32,
            [X32_BIT + 548, X32_BIT + 1000, 0x8000_0000, u32::MAX - 1, u32::MAX],
        ),
        (&arm, Arch::Aarch64, [467, 470, 500, 0xf_0002, u32::MAX]),
        (&arm, Arch::Arm, [467, 470, 500, 1000, 0xe_ffff]),
    ];
    for (program, arch, numbers) in cases {
        for number in numbers {
            assert_eq!(
                numbered(program, arch, number, 0),
                Action::ENOSYS,
                "{number:#x} on {arch:?}"
            );
        }
    }
    assert_eq!(
        numbered(&x86, Arch::X86_64, 400, 0),
        Action::EPERM,
        "a hole in the table"
    );
}

#[test]
fn foreign_architectures_end_the_process() {
    let kill = Action::KILL_PROCESS;
    assert_eq!(verdict(&compiled(AARCH64, &[]), Arch::X86_64, "read", 0), kill);
    assert_eq!(verdict(&compiled(X86_64, &[]), Arch::Aarch64, "read", 0), kill);
    let only = compiled(&[Arch::X86_64], &[]);
    assert_eq!(verdict(&only, Arch::X86, "read", 0), kill);
    assert_eq!(verdict(&only, Arch::X32, "read", 0), kill);
    assert_eq!(verdict(&only, Arch::X86_64, "read", 0), Action::ALLOW);
    assert_eq!(numbered(&only, Arch::X86_64, u32::MAX, 0), Action::ENOSYS);
}

#[test]
fn arguments_decide() {
    let x86 = compiled(X86_64, &[]);
    let arm = compiled(AARCH64, &[]);
    let high = 1 << 32;
    let families_refused = [12, 19, 20, 23, 25, 34, 37, 38, 40, 46, 47, 1000, 0xffff_ffff];
    for (program, arches) in [(&x86, X86_64), (&arm, AARCH64)] {
        for arch in arches {
            for family in (0..60).chain([1000, 0xffff_ffff]) {
                let wanted = if families_refused.contains(&family) || family > 45 {
                    Action::EPERM
                } else {
                    Action::ALLOW
                };
                assert_eq!(
                    verdict(program, *arch, "socket", family),
                    wanted,
                    "family {family} on {arch:?}"
                );
            }
            for persona in [0, 8, 0x20000, 0x20008, 0xffff_ffff] {
                assert_eq!(
                    verdict(program, *arch, "personality", persona),
                    Action::ALLOW,
                    "{persona:#x}"
                );
            }
            for persona in [1, 4, 7, 9, 0x0040_0000, 0x0004_0000, 0x20001, 0xffff_fffe] {
                assert_eq!(
                    verdict(program, *arch, "personality", persona),
                    Action::EPERM,
                    "{persona:#x}"
                );
            }
            for flags in [0, 17, 0x003d_0f00, 0x0100_0011, 0x8000_0011] {
                assert_eq!(
                    verdict(program, *arch, "clone", flags),
                    Action::ALLOW,
                    "{flags:#x} on {arch:?}"
                );
            }
            for flag in [
                0x0002_0000,
                0x0200_0000,
                0x0400_0000,
                0x0800_0000,
                0x1000_0000,
                0x2000_0000,
                0x4000_0000,
            ] {
                assert_eq!(
                    verdict(program, *arch, "clone", flag | 17),
                    Action::EPERM,
                    "{flag:#x} on {arch:?}"
                );
            }
            assert_eq!(verdict(program, *arch, "clone3", 0), Action::ENOSYS);
        }
    }
    // The kernel takes the lower 32 bits of a family; the upper ones must not hide AF_VSOCK or AF_ALG.
    for family in [1 | high, 40 | high, 38 | high, u64::MAX] {
        assert_eq!(
            verdict(&x86, Arch::X86_64, "socket", family),
            Action::EPERM,
            "{family:#x}"
        );
    }
    assert_eq!(verdict(&x86, Arch::X86_64, "personality", 8 | high), Action::EPERM);
    assert_eq!(verdict(&x86, Arch::X86_64, "clone", 0x1000_0000 | high), Action::EPERM);
}

#[test]
fn capabilities_open_what_belongs_to_them() {
    let cases = [
        (
            "SYS_ADMIN",
            "mount umount2 setns unshare clone3 bpf fsopen perf_event_open syslog sethostname quotactl_fd",
        ),
        ("DAC_READ_SEARCH", "open_by_handle_at"),
        ("SYS_BOOT", "reboot"),
        ("SYS_CHROOT", "chroot"),
        ("SYS_MODULE", "init_module finit_module delete_module"),
        ("SYS_PACCT", "acct"),
        ("SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
        ("SYS_RAWIO", "iopl ioperm"),
        ("SYS_TIME", "settimeofday clock_settime"),
        ("SYS_TTY_CONFIG", "vhangup"),
        ("SYS_NICE", "mbind get_mempolicy set_mempolicy set_mempolicy_home_node"),
        ("SYSLOG", "syslog"),
        ("BPF", "bpf"),
        ("PERFMON", "perf_event_open"),
    ];
    for (capability, names) in cases {
        let program = compiled(X86_64, &[capability]);
        let others = Capabilities::named(capability).unwrap();
        let without = default::rules(X86_64, caps(&["CHOWN"]).without(others))
            .compile()
            .unwrap();
        for name in names.split(' ') {
            assert_eq!(
                verdict(&program, Arch::X86_64, name, 0),
                Action::ALLOW,
                "{name} with {capability}"
            );
            assert_ne!(
                verdict(&without, Arch::X86_64, name, 0),
                Action::ALLOW,
                "{name} without {capability}"
            );
        }
    }
    let admin = compiled(X86_64, &["SYS_ADMIN"]);
    assert_eq!(verdict(&admin, Arch::X86_64, "clone", 0x1000_0000), Action::ALLOW);
    assert_eq!(verdict(&admin, Arch::X86_64, "io_uring_setup", 0), Action::EPERM);
    assert_eq!(verdict(&admin, Arch::X86_64, "pivot_root", 0), Action::EPERM);
    assert_eq!(verdict(&admin, Arch::X86_64, "keyctl", 0), Action::EPERM);
}

#[test]
fn programs_are_short_and_their_paths_too() {
    for (arches, limit) in [(X86_64, 290), (AARCH64, 235)] {
        let program = compiled(arches, &["CHOWN", "SYS_CHROOT"]);
        let mut longest = 0;
        for arch in arches {
            let bit = if *arch == Arch::X32 { X32_BIT } else { 0 };
            for number in (0..600).map(|n| n | bit) {
                let call = Call {
                    audit: arch.audit(),
                    number,
                    ..Call::default()
                };
                longest = longest.max(run(&program, &call).1);
            }
        }
        println!("{arches:?}: {} instructions, longest path {longest}", program.len());
        assert!(
            program.len() <= limit && longest <= 24,
            "{arches:?}: {} and {longest}",
            program.len()
        );
    }
}

/// The kernel's own verdicts, on a thread (a filter is a thread's own) that then ends.
#[test]
fn the_kernel_takes_it() {
    let child = |no_new_privileges: bool| {
        let own = Capabilities::named("CHOWN").unwrap();
        let program = super::program(&Security::default(), own).unwrap().unwrap();
        if no_new_privileges {
            rustix::thread::set_no_new_privs(true).unwrap();
        }
        own.before_exec(true, no_new_privileges).assume().unwrap();
        crate::sys::seccomp::load(&program).unwrap();
        let socket = |family| socket::socket(family, SockType::Stream, SockFlag::empty(), None).map(drop);
        assert_eq!(socket(AddressFamily::Inet), Ok(()));
        assert_eq!(socket(AddressFamily::Vsock), Err(Errno::EPERM));
        assert_eq!(socket(AddressFamily::Alg), Err(Errno::EPERM));
        // Of several threads the kernel itself would say EINVAL.
        assert_eq!(nix::sched::unshare(CloneFlags::CLONE_NEWUSER), Err(Errno::EPERM));
        assert_eq!(nix::unistd::chroot("/nonexistent"), Err(Errno::EPERM));
        assert_eq!(
            nix::sys::personality::set(Persona::ADDR_NO_RANDOMIZE),
            Err(Errno::EPERM)
        );
        // New threads and processes, by clone3 or what the C library knows in its place.
        std::thread::spawn(|| ()).join().unwrap();
        let output = std::process::Command::new("grep")
            .args(["^Seccomp:", "/proc/self/status"])
            .output()
            .unwrap();
        assert_eq!(output.stdout, b"Seccomp:\t2\n");
    };
    for no_new_privileges in [false, true] {
        std::thread::spawn(move || child(no_new_privileges)).join().unwrap();
    }
}
