//! Which devices a container may open or make: the default rules, their text for v1, their BPF program for v2.
//!
//! The program's context (`struct bpf_cgroup_dev_ctx`) is three words: what is asked for (access in the upper half,
//! device type in the lower), major, minor. It returns 1 to allow. As in v1, one single rule must allow all of what is
//! asked for, so rules for the same devices are joined first.

use crate::model::resources::{Access, DeviceKind, DeviceRule};
use crate::sys::bpf::Instruction;

const MKNOD: Access = Access {
    read: false,
    write: false,
    mknod: true,
};

const fn char(major: u32, minor: Option<u32>) -> DeviceRule {
    DeviceRule {
        kind: DeviceKind::Char,
        major: Some(major),
        minor,
        access: Access::ALL,
    }
}

/// What every container may use: docker's set, F271's but for the host's virtual terminals. Any node may be made, since
/// making one gives nothing that opening it then refuses.
pub(crate) const DEFAULT: [DeviceRule; 12] = [
    DeviceRule {
        kind: DeviceKind::Char,
        major: None,
        minor: None,
        access: MKNOD,
    },
    DeviceRule {
        kind: DeviceKind::Block,
        major: None,
        minor: None,
        access: MKNOD,
    },
    char(1, Some(3)),    // null
    char(1, Some(5)),    // zero
    char(1, Some(7)),    // full
    char(1, Some(8)),    // random
    char(1, Some(9)),    // urandom
    char(5, Some(0)),    // tty
    char(5, Some(1)),    // console
    char(5, Some(2)),    // ptmx
    char(136, None),     // pts
    char(10, Some(200)), // net/tun
];

/// Lines for `devices.allow`, one write each.
pub(crate) fn v1_lines(rules: &[DeviceRule]) -> Vec<String> {
    let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
    let line = |kind, r: &DeviceRule| format!("{kind} {}:{} {}", number(r.major), number(r.minor), r.access);
    let mut lines = Vec::with_capacity(rules.len());
    for rule in rules {
        match rule.kind {
            DeviceKind::Char => lines.push(line('c', rule)),
            DeviceKind::Block => lines.push(line('b', rule)),
            // The kernel's own `a` ignores numbers and access.
            DeviceKind::All if is_everything(rule) => lines.push("a".to_owned()),
            DeviceKind::All => lines.extend([line('c', rule), line('b', rule)]),
        }
    }
    lines
}

fn is_everything(rule: &DeviceRule) -> bool {
    rule.kind == DeviceKind::All && rule.major.is_none() && rule.minor.is_none() && rule.access == Access::ALL
}

/// Joins the access of rules for the same devices.
fn join(rules: &[DeviceRule]) -> Vec<DeviceRule> {
    let mut joined: Vec<DeviceRule> = Vec::with_capacity(rules.len());
    for rule in rules {
        let same = |r: &&mut DeviceRule| (r.kind, r.major, r.minor) == (rule.kind, rule.major, rule.minor);
        match joined.iter_mut().find(same) {
            Some(r) => {
                r.access.read |= rule.access.read;
                r.access.write |= rule.access.write;
                r.access.mknod |= rule.access.mknod;
            }
            None => joined.push(*rule),
        }
    }
    joined
}

// linux/bpf.h, linux/bpf_common.h.
const LDX_MEM_W: u8 = 0x61;
const MOV64_REG: u8 = 0xbf;
const MOV64_IMM: u8 = 0xb7;
const AND64_IMM: u8 = 0x57;
const RSH64_IMM: u8 = 0x77;
const JNE32_IMM: u8 = 0x56;
const EXIT: u8 = 0x95;

const BPF_DEVCG_DEV_BLOCK: i32 = 1;
const BPF_DEVCG_DEV_CHAR: i32 = 2;
const BPF_DEVCG_ACC_MKNOD: i32 = 1;
const BPF_DEVCG_ACC_READ: i32 = 2;
const BPF_DEVCG_ACC_WRITE: i32 = 4;
const EVERY_ACCESS: i32 = BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE;

const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: destination | source << 4,
        offset,
        immediate,
    }
}

/// The v2 filter: allows what `rules` allow.
pub(crate) fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut out = vec![
        instruction(LDX_MEM_W, ACCESS, CONTEXT, 0, 0),
        instruction(MOV64_REG, TYPE, ACCESS, 0, 0),
        instruction(AND64_IMM, TYPE, 0, 0, 0xffff),
        instruction(RSH64_IMM, ACCESS, 0, 0, 16),
        instruction(LDX_MEM_W, MAJOR, CONTEXT, 4, 0),
        instruction(LDX_MEM_W, MINOR, CONTEXT, 8, 0),
    ];
    for rule in join(rules) {
        allow(&rule, &mut out);
        if is_everything(&rule) {
            // The verifier refuses what can't be reached.
            return out;
        }
    }
    out.extend([instruction(MOV64_IMM, RESULT, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]);
    out
}

/// One rule: each test that fails jumps to the next rule.
fn allow(rule: &DeviceRule, out: &mut Vec<Instruction>) {
    // Compared as 32 bits, so that the sign of the immediate does not matter.
    let tests = [
        match rule.kind {
            DeviceKind::All => None,
            DeviceKind::Block => Some((TYPE, BPF_DEVCG_DEV_BLOCK)),
            DeviceKind::Char => Some((TYPE, BPF_DEVCG_DEV_CHAR)),
        },
        rule.major.map(|n| (MAJOR, n.cast_signed())),
        rule.minor.map(|n| (MINOR, n.cast_signed())),
    ];
    let mut body: Vec<Instruction> = tests
        .into_iter()
        .flatten()
        .map(|(register, n)| instruction(JNE32_IMM, register, 0, 0, n))
        .collect();
    let allowed = access_bits(rule.access);
    if allowed != EVERY_ACCESS {
        body.push(instruction(MOV64_REG, SCRATCH, ACCESS, 0, 0));
        body.push(instruction(AND64_IMM, SCRATCH, 0, 0, !allowed));
        body.push(instruction(JNE32_IMM, SCRATCH, 0, 0, 0));
    }
    body.extend([instruction(MOV64_IMM, RESULT, 0, 0, 1), instruction(EXIT, 0, 0, 0, 0)]);
    for (left, i) in (0..).zip(body.iter_mut().rev()) {
        if i.code == JNE32_IMM {
            i.offset = left;
        }
    }
    out.extend(body);
}

fn access_bits(access: Access) -> i32 {
    let bit = |on: bool, bit| if on { bit } else { 0 };
    bit(access.read, BPF_DEVCG_ACC_READ)
        | bit(access.write, BPF_DEVCG_ACC_WRITE)
        | bit(access.mknod, BPF_DEVCG_ACC_MKNOD)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would, and refuses what the verifier would refuse of it.
    fn run(program: &[Instruction], context: [u32; 3]) -> bool {
        let mut registers = [0u64; 11];
        let mut at = 0;
        loop {
            let i = program[at];
            let (to, from) = (usize::from(i.registers & 15), usize::from(i.registers >> 4));
            at += 1;
            match i.code {
                LDX_MEM_W => registers[to] = context[usize::try_from(i.offset).unwrap() / 4].into(),
                MOV64_REG => registers[to] = registers[from],
                MOV64_IMM => registers[to] = i64::from(i.immediate).cast_unsigned(),
                AND64_IMM => registers[to] &= i64::from(i.immediate).cast_unsigned(),
                RSH64_IMM => registers[to] >>= i.immediate,
                JNE32_IMM if registers[to] & 0xffff_ffff != u64::from(i.immediate.cast_unsigned()) => {
                    at += usize::try_from(i.offset).unwrap();
                }
                JNE32_IMM => {}
                EXIT => return registers[0] == 1,
                code => panic!("unknown instruction {code:#x}"),
            }
        }
    }

    fn rule(text: &str) -> DeviceRule {
        let mut words = text.split([' ', ':']);
        let kind = match words.next().unwrap() {
            "a" => DeviceKind::All,
            "b" => DeviceKind::Block,
            _ => DeviceKind::Char,
        };
        let mut number = || words.next().unwrap().parse().ok();
        let (major, minor) = (number(), number());
        DeviceRule {
            kind,
            major,
            minor,
            access: Access::parse(words.next().unwrap()).unwrap(),
        }
    }

    /// `c 1:3 rw` as the kernel asks for it.
    fn ask(text: &str) -> [u32; 3] {
        let r = rule(text);
        let kind = if r.kind == DeviceKind::Block {
            BPF_DEVCG_DEV_BLOCK
        } else {
            BPF_DEVCG_DEV_CHAR
        };
        [
            (access_bits(r.access) << 16 | kind).cast_unsigned(),
            r.major.unwrap(),
            r.minor.unwrap(),
        ]
    }

    #[test]
    fn default_rules() {
        let program = program(&DEFAULT);
        for allowed in [
            "c 1:3 rw",
            "c 1:7 w",
            "c 136:77 rwm",
            "c 5:2 r",
            "c 10:200 rw",
            "c 9:9 m",
            "b 8:0 m",
        ] {
            assert!(run(&program, ask(allowed)), "{allowed}");
        }
        for refused in [
            "c 1:1 r",
            "c 1:4 rw",
            "b 1:3 r",
            "b 8:0 r",
            "b 8:0 rm",
            "c 10:229 rw",
            "c 4:0 w",
            "c 4:1 r",
        ] {
            assert!(!run(&program, ask(refused)), "{refused}");
        }
    }

    #[test]
    fn one_rule_must_allow_all_of_it() {
        let table: [(&[&str], &str, bool); 10] = [
            (&[], "c 1:3 r", false),
            (&["c 1:3 r"], "c 1:3 r", true),
            (&["c 1:3 r"], "c 1:3 rw", false),
            (&["c 1:3 r", "c 1:3 w"], "c 1:3 rw", true),
            (&["c *:3 r", "c 1:* w"], "c 1:3 rw", false),
            (&["a 8:* r"], "b 8:1 r", true),
            (&["a 8:* r"], "c 8:1 w", false),
            (&["a *:* rwm"], "b 259:1 rwm", true),
            (&["c 4294967295:4294967295 rwm"], "c 4294967295:4294967295 rwm", true),
            (&["c 4294967295:1 rwm"], "c 4294967294:1 r", false),
        ];
        for (rules, asked, allowed) in table {
            let program = program(&rules.iter().map(|r| rule(r)).collect::<Vec<_>>());
            assert_eq!(run(&program, ask(asked)), allowed, "{rules:?}: {asked}");
        }
    }

    #[test]
    fn nothing_follows_a_rule_for_everything() {
        let program = program(&[rule("c 1:3 r"), rule("a *:* rwm"), rule("c 1:5 r")]);
        assert_eq!(program.iter().filter(|i| i.code == EXIT).count(), 2);
    }

    #[test]
    fn lines_of_v1() {
        let rules: Vec<_> = ["c 1:3 rwm", "c 136:* rw", "b *:* m", "a *:* rwm", "a 8:* r"]
            .map(rule)
            .into();
        assert_eq!(
            v1_lines(&rules),
            ["c 1:3 rwm", "c 136:* rw", "b *:* m", "a", "c 8:* r", "b 8:* r"]
        );
    }
}
