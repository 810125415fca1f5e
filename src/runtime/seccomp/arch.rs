//! Architectures a filter may meet: the machine's own, and those whose programs the same kernel runs.

/// The order is that of the columns of the system call table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arch {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
}

/// A system call number with this bit is one of x32; the kernel calls that architecture x86-64 too.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// Where arm's private calls begin, far behind all others.
pub(super) const ARM_PRIVATE: u32 = 0xf_0000;

/// Above every number there is (x32 has the highest, 547), with room to grow.
pub(super) const NUMBERS: usize = 640;
const PRIVATE_NUMBERS: usize = 16;
/// Numbers of system calls without the hole before arm's private ones.
pub(super) const SLOTS: usize = NUMBERS + PRIVATE_NUMBERS;

impl Arch {
    /// What the built-in profile covers on this machine, its own first, as in docker's `archMap`.
    #[cfg(target_arch = "x86_64")]
    pub(super) const NATIVE: &'static [Arch] = &[Arch::X86_64, Arch::X86, Arch::X32];
    #[cfg(target_arch = "aarch64")]
    pub(super) const NATIVE: &'static [Arch] = &[Arch::Aarch64, Arch::Arm];

    pub(super) const ALL: [Arch; 5] = [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm];

    /// The name profiles use.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "SCMP_ARCH_X86_64",
            Arch::X86 => "SCMP_ARCH_X86",
            Arch::X32 => "SCMP_ARCH_X32",
            Arch::Aarch64 => "SCMP_ARCH_AARCH64",
            Arch::Arm => "SCMP_ARCH_ARM",
        }
    }

    /// By the name that the `arches` of a profile's includes and excludes use, which is only ever the machine's own.
    pub(super) const fn platform(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::X86 => "x86",
            Arch::X32 => "x32",
            Arch::Aarch64 => "arm64",
            Arch::Arm => "arm",
        }
    }

    /// `AUDIT_ARCH_*`: what the kernel tells a filter.
    pub(super) const fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::Arm => 0x4000_0028,
        }
    }

    /// Whether arguments have 64 bits. (x32 programs can put 64 bits into a register.)
    pub(super) const fn wide(self) -> bool {
        matches!(self, Arch::X86_64 | Arch::X32 | Arch::Aarch64)
    }

    /// The slot of a system call number, the inverse of [`Arch::number`].
    pub(super) const fn slot(number: u32) -> usize {
        if number >= ARM_PRIVATE {
            (number - ARM_PRIVATE) as usize + NUMBERS
        } else {
            number as usize
        }
    }
}
