//! An assembler for the kernel's filter programs (classic BPF over `struct seccomp_data`).
//!
//! Every jump goes forward, so the program is written from its end to its beginning: whatever an instruction jumps to
//! has been written already, and its distance is known. A conditional jump spans 255 instructions; behind a farther one
//! a long jump is put in. Only instructions are used that the kernel's own emulator knows (since 5.11 it finds out with
//! it which calls are always allowed, and doesn't run the filter for them): no index register, no scratch memory.

use super::rule::Action;
use libc::sock_filter;

/// Offsets in `struct seccomp_data` (little-endian).
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;

/// The farthest a conditional jump goes.
const REACH: usize = 255;

/// The kernel takes no longer program (`BPF_MAXINSNS`).
pub(super) const MAX_INSTRUCTIONS: usize = 4096;

/// The comparisons of the loaded word with a constant.
#[derive(Debug, Clone, Copy)]
#[repr(u16)]
pub(super) enum Compare {
    Equal = 0x15,
    Greater = 0x25,
    GreaterOrEqual = 0x35,
}

/// What can be loaded.
#[derive(Debug, Clone, Copy)]
pub(super) enum Field {
    Number,
    Arch,
    Low(u8),
    High(u8),
}

impl Field {
    fn offset(self) -> u32 {
        match self {
            Field::Number => NUMBER,
            Field::Arch => ARCH,
            Field::Low(argument) => ARGUMENTS + 8 * u32::from(argument),
            Field::High(argument) => ARGUMENTS + 8 * u32::from(argument) + 4,
        }
    }
}

/// A place in the program, counted from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// Where a comparison goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fork {
    pub(super) yes: Label,
    pub(super) no: Label,
}

impl Fork {
    pub(super) fn swapped(self) -> Fork {
        Fork {
            yes: self.no,
            no: self.yes,
        }
    }
}

pub(super) struct Assembler {
    /// The last instruction first.
    reversed: Vec<sock_filter>,
    /// The nearest `RETURN` of each action.
    returns: Vec<(Action, Label)>,
}

impl Assembler {
    pub(super) fn new() -> Assembler {
        Assembler {
            reversed: Vec::with_capacity(512),
            returns: Vec::with_capacity(4),
        }
    }

    /// The program, if it isn't too long for the kernel.
    pub(super) fn finish(mut self) -> Option<Vec<sock_filter>> {
        self.reversed.reverse();
        (self.reversed.len() <= MAX_INSTRUCTIONS).then_some(self.reversed)
    }

    /// Ends with `action`.
    pub(super) fn ret(&mut self, action: Action) -> Label {
        let known = self.returns.iter().position(|(a, _)| *a == action);
        if let Some(label) = known.map(|i| self.returns[i].1)
            && self.distance(label) < REACH / 2
        {
            return label;
        }
        let label = self.push(RETURN, 0, 0, action.0);
        match known {
            Some(i) => self.returns[i].1 = label,
            None => self.returns.push((action, label)),
        }
        label
    }

    /// Loads `field` and goes on at `next`.
    pub(super) fn load(&mut self, field: Field, next: Label) -> Label {
        self.follow(next);
        self.push(LOAD, 0, 0, field.offset())
    }

    /// Masks the loaded word and goes on at `next`.
    pub(super) fn and(&mut self, mask: u32, next: Label) -> Label {
        self.follow(next);
        self.push(AND, 0, 0, mask)
    }

    /// Compares the loaded word with `value`.
    pub(super) fn branch(&mut self, compare: Compare, value: u32, Fork { yes, no }: Fork) -> Label {
        if yes == no {
            return yes;
        }
        // A long jump written for `no` moves `yes` away by one.
        let yes = self.within(yes, REACH - 1);
        let no = self.within(no, REACH);
        let (yes, no) = (self.distance(yes), self.distance(no));
        self.push(compare as u16, short(yes), short(no), value)
    }

    /// Makes sure that `next` is what the instruction to be written is followed by.
    fn follow(&mut self, next: Label) {
        self.within(next, 0);
    }

    /// `label`, or a long jump to it if it is farther away than `reach`.
    fn within(&mut self, label: Label, reach: usize) -> Label {
        let distance = self.distance(label);
        if distance <= reach {
            label
        } else {
            self.push(JUMP, 0, 0, u32::try_from(distance).unwrap_or(u32::MAX))
        }
    }

    /// Instructions between the one to be written next and `label`.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len() - label.0 - 1
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(sock_filter { code, jt, jf, k });
        Label(self.reversed.len() - 1)
    }
}

fn short(distance: usize) -> u8 {
    debug_assert!(distance <= REACH);
    u8::try_from(distance).unwrap_or(u8::MAX)
}
