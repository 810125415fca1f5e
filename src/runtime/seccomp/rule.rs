//! What a profile says of a system call: an action, and conditions on its arguments.

use std::borrow::Cow;

/// What the kernel does: the value a filter returns (`SECCOMP_RET_*` and 16 bits of data).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Action(pub(super) u32);

impl Action {
    pub(super) const KILL_PROCESS: Action = Action(libc::SECCOMP_RET_KILL_PROCESS);
    pub(super) const KILL_THREAD: Action = Action(libc::SECCOMP_RET_KILL_THREAD);
    pub(super) const TRAP: Action = Action(libc::SECCOMP_RET_TRAP);
    pub(super) const LOG: Action = Action(libc::SECCOMP_RET_LOG);
    pub(super) const ALLOW: Action = Action(libc::SECCOMP_RET_ALLOW);
    pub(super) const EPERM: Action = Action::errno(1);
    pub(super) const ENOSYS: Action = Action::errno(38);

    pub(super) const fn errno(number: u16) -> Action {
        Action(libc::SECCOMP_RET_ERRNO | number as u32)
    }

    pub(super) const fn trace(data: u16) -> Action {
        Action(libc::SECCOMP_RET_TRACE | data as u32)
    }

    /// Whether the system call, or a tracer in its place, is let through.
    pub(super) const fn lets_through(self) -> bool {
        matches!(
            self.0 & libc::SECCOMP_RET_ACTION_FULL,
            libc::SECCOMP_RET_ALLOW | libc::SECCOMP_RET_LOG | libc::SECCOMP_RET_TRACE
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// The argument's bits under this mask are the value.
    Masked(u64),
}

/// One comparison of one argument, unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) argument: u8,
    pub(super) op: Op,
    pub(super) value: u64,
}

impl Condition {
    pub(super) const fn new(argument: u8, op: Op, value: u64) -> Condition {
        Condition { argument, op, value }
    }

    /// The same for a 32-bit program, whose arguments the kernel extends with zeros. A negative number was written with
    /// 64 bits and means its lower 32; any other value of more than 32 bits is one that no argument reaches.
    pub(super) fn narrowed(self) -> Condition {
        const LOW: u64 = u32::MAX as u64;
        const NEGATIVE: u64 = 0xffff_ffff_8000_0000;
        if self.value <= LOW {
            return match self.op {
                Op::Masked(mask) => Condition {
                    op: Op::Masked(mask & LOW),
                    ..self
                },
                _ => self,
            };
        }
        let negative = self.value & NEGATIVE == NEGATIVE;
        let (op, value) = match self.op {
            Op::Equal | Op::NotEqual if negative => (self.op, self.value & LOW),
            Op::Masked(mask) if negative => (Op::Masked(mask & LOW), self.value & mask & LOW),
            Op::Equal | Op::Greater | Op::GreaterOrEqual | Op::Masked(_) => (Op::Greater, LOW),
            Op::NotEqual | Op::Less | Op::LessOrEqual => (Op::LessOrEqual, LOW),
        };
        Condition { op, value, ..self }
    }

    /// Whether an argument meets it.
    pub(super) const fn holds(self, argument: u64) -> bool {
        match self.op {
            Op::Equal => argument == self.value,
            Op::NotEqual => argument != self.value,
            Op::Less => argument < self.value,
            Op::LessOrEqual => argument <= self.value,
            Op::Greater => argument > self.value,
            Op::GreaterOrEqual => argument >= self.value,
            Op::Masked(mask) => argument & mask == self.value,
        }
    }
}

/// An action, taken if all conditions hold. Of several for one system call the first that holds counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) conditions: Cow<'static, [Condition]>,
    pub(super) action: Action,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrowed_conditions_mean_the_same_to_arguments_of_32_bits() {
        let ops = [
            Op::Equal,
            Op::NotEqual,
            Op::Less,
            Op::LessOrEqual,
            Op::Greater,
            Op::GreaterOrEqual,
            Op::Masked(!0),
        ];
        for value in [
            0,
            1,
            0x7fff_ffff,
            0xffff_fffe,
            0xffff_ffff,
            1 << 32,
            5 << 32,
            (1 << 32) + 7,
            1 << 63,
        ] {
            for op in ops {
                let wide = Condition::new(0, op, value);
                for argument in [0, 1, 7, 0x7fff_ffff, 0xffff_fffe, 0xffff_ffff] {
                    assert_eq!(
                        wide.narrowed().holds(argument),
                        wide.holds(argument),
                        "{wide:?} {argument:#x}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_negative_number_is_one_in_32_bits_too() {
        for (op, wanted) in [(Op::Equal, true), (Op::NotEqual, false), (Op::Masked(!0), true)] {
            assert_eq!(
                Condition::new(0, op, u64::MAX).narrowed().holds(0xffff_ffff),
                wanted,
                "{op:?}"
            );
            assert_eq!(Condition::new(0, op, u64::MAX).narrowed().holds(1), !wanted, "{op:?}");
        }
    }
}
