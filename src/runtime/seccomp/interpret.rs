//! What the kernel would return: an interpreter of filter programs that knows just the instructions the assembler
//! writes, and refuses what the kernel's checker would.

use super::rule::Action;
use libc::sock_filter;

/// What the kernel tells a filter of a system call (`struct seccomp_data`).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Call {
    pub(super) audit: u32,
    pub(super) number: u32,
    pub(super) arguments: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        let argument = |i: u32| self.arguments[usize::try_from(i / 8).unwrap()];
        match offset {
            0 => self.number,
            4 => self.audit,
            16..64 if offset.is_multiple_of(8) => u32::try_from(argument(offset - 16) & 0xffff_ffff).unwrap(),
            16..64 if offset % 8 == 4 => u32::try_from(argument(offset - 20) >> 32).unwrap(),
            _ => panic!("load from {offset}"),
        }
    }
}

/// The action for `call`, and how many instructions it took.
pub(super) fn run(program: &[sock_filter], call: &Call) -> (Action, usize) {
    let (mut at, mut loaded, mut steps) = (0, 0, 0);
    loop {
        let sock_filter { code, jt, jf, k } = program[at];
        steps += 1;
        at += 1;
        let holds = match code {
            0x06 => return (Action(k), steps),
            0x20 => {
                loaded = call.word(k);
                continue;
            }
            0x54 => {
                loaded &= k;
                continue;
            }
            0x05 => {
                at += usize::try_from(k).unwrap();
                continue;
            }
            0x15 => loaded == k,
            0x25 => loaded > k,
            0x35 => loaded >= k,
            _ => panic!("instruction {code:#x}"),
        };
        at += usize::from(if holds { jt } else { jf });
    }
}
