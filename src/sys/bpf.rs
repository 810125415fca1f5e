//! bpf(2): loading and attaching the program that filters a control group's device accesses.
//!
//! Only what `BPF_PROG_TYPE_CGROUP_DEVICE` (Linux 4.15) needs; the program itself is assembled elsewhere.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
/// Programs of several levels all run, and all must agree: neither the parent's filter nor a child's takes the other's
/// place.
const BPF_F_ALLOW_MULTI: u32 = 2;

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub(crate) code: u8,
    /// Destination in the low four bits, source in the high four.
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) immediate: i32,
}

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` reads.
#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// The part of `union bpf_attr` that `BPF_PROG_ATTACH` reads.
#[repr(C)]
struct Attach {
    target_fd: RawFd,
    attach_bpf_fd: RawFd,
    attach_type: u32,
    attach_flags: u32,
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads exactly size_of::<T>() bytes from `attributes`, which outlives the call; the pointers
    // inside it are those of live slices of the callers below, and the kernel writes through none of them.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Has the kernel verify and compile `program`; it lives as long as the descriptor or an attachment.
pub(crate) fn load_device_filter(program: &[Instruction]) -> io::Result<OwnedFd> {
    let attributes = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?,
        insns: program.as_ptr().addr() as u64,
        license: c"Apache-2.0".as_ptr().addr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name: *b"barge_devices\0\0\0",
    };
    let fd = RawFd::try_from(bpf(BPF_PROG_LOAD, &attributes)?).map_err(io::Error::other)?;
    // SAFETY: the kernel just made this descriptor (close-on-exec) for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a loaded filter to the v2 group whose directory is open as `group`. It goes with the group.
pub(crate) fn attach_device_filter(group: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = Attach {
        target_fd: group.as_raw_fd(),
        attach_bpf_fd: program.as_raw_fd(),
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
    };
    bpf(BPF_PROG_ATTACH, &attributes).map(drop)
}
