//! Profiles in JSON: what they decide, what is wrong with them, and the compiler against a plain evaluation of rules.

use super::arch::{Arch, X32_BIT};
use super::interpret::{Call, run};
use super::json::{Host, Profile, version};
use super::rule::{Action, Check, Condition, Op};
use super::table;
use crate::runtime::capability::Capabilities;
use libc::sock_filter;

const KILL: Action = Action::KILL_PROCESS;

fn host(capabilities: &str) -> Host {
    let capabilities = capabilities.split_whitespace().map(|n| Capabilities::named(n).unwrap());
    Host {
        arches: &[Arch::X86_64, Arch::X86, Arch::X32],
        kernel: (6, 1),
        capabilities: capabilities.fold(Capabilities::default(), Capabilities::and),
    }
}

fn program(text: &str, capabilities: &str) -> Vec<sock_filter> {
    let profile = Profile::parse(text, &host(capabilities)).unwrap_or_else(|e| panic!("{e}: {text}"));
    profile.rules().compile().unwrap()
}

/// A profile that refuses all but what `rules` say, for all three architectures.
fn refusing(rules: &str) -> String {
    format!(
        r#"{{"defaultAction": "SCMP_ACT_ERRNO", "archMap": [{{"architecture": "SCMP_ARCH_X86_64",
            "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}}], "syscalls": [{rules}]}}"#
    )
}

fn verdict(program: &[sock_filter], arch: Arch, name: &str, arguments: [u64; 6]) -> Action {
    let bit = if arch == Arch::X32 { X32_BIT } else { 0 };
    let number = table::index(name).and_then(|i| table::number(i, arch)).unwrap() | bit;
    run(
        program,
        &Call {
            audit: arch.audit(),
            number,
            arguments,
        },
    )
    .0
}

fn on_x86_64(text: &str, capabilities: &str, name: &str, first: u64) -> Action {
    verdict(&program(text, capabilities), Arch::X86_64, name, [first, 0, 0, 0, 0, 0])
}

#[test]
fn actions() {
    let cases = [
        (r#""SCMP_ACT_ALLOW""#, Action::ALLOW),
        (r#""SCMP_ACT_ERRNO""#, Action::EPERM),
        (r#""SCMP_ACT_ERRNO", "errnoRet": 13"#, Action::errno(13)),
        (r#""SCMP_ACT_ERRNO", "errnoRet": 0"#, Action::errno(0)),
        (r#""SCMP_ACT_KILL""#, Action::KILL_THREAD),
        (r#""SCMP_ACT_KILL_THREAD""#, Action::KILL_THREAD),
        (r#""SCMP_ACT_KILL_PROCESS""#, KILL),
        (r#""SCMP_ACT_TRAP""#, Action::TRAP),
        (r#""SCMP_ACT_TRACE", "errnoRet": 4096"#, Action::trace(4096)),
        (r#""SCMP_ACT_LOG""#, Action::LOG),
    ];
    for (json, action) in cases {
        let rule = refusing(&format!(r#"{{"names": ["read", "openat2"], "action": {json}}}"#));
        assert_eq!(on_x86_64(&rule, "", "read", 0), action, "{json}");
        assert_eq!(on_x86_64(&rule, "", "write", 0), Action::EPERM, "{json}");
        let default = json.replace("errnoRet", "defaultErrnoRet");
        let default = format!(r#"{{"defaultAction": {default}, "syscalls": null}}"#);
        assert_eq!(on_x86_64(&default, "", "read", 0), action, "{json}");
    }
}

#[test]
fn newer_calls_exist_only_where_the_default_lets_through() {
    for (default, newer) in [
        ("ERRNO", Action::ENOSYS),
        ("KILL", Action::ENOSYS),
        ("ALLOW", Action::ALLOW),
    ] {
        let text = format!(
            r#"{{"defaultAction": "SCMP_ACT_{default}", "syscalls": [{{"name": "openat2", "action": "SCMP_ACT_TRAP"}}]}}"#
        );
        assert_eq!(on_x86_64(&text, "", "openat2", 0), Action::TRAP);
        assert_eq!(on_x86_64(&text, "", "mseal", 0), newer, "{default}");
    }
}

#[test]
fn the_first_rule_that_applies_counts() {
    let args = |value: u32| format!(r#""args": [{{"index": 0, "value": {value}, "op": "SCMP_CMP_EQ"}}]"#);
    let text = refusing(&format!(
        r#"{{"name": "socket", "action": "SCMP_ACT_TRAP", {}}}, {{"name": "socket", "action": "SCMP_ACT_LOG", {}}},
           {{"names": ["socket", "bind"], "action": "SCMP_ACT_ALLOW"}}, {{"name": "bind", "action": "SCMP_ACT_KILL"}}"#,
        args(1),
        args(2)
    ));
    for (family, action) in [
        (1, Action::TRAP),
        (2, Action::LOG),
        (3, Action::ALLOW),
        (1 << 32, Action::ALLOW),
    ] {
        assert_eq!(on_x86_64(&text, "", "socket", family), action, "{family}");
    }
    assert_eq!(on_x86_64(&text, "", "bind", 0), Action::ALLOW);
}

#[test]
fn conditions_all_hold_or_one_of_a_repeated_argument() {
    let arg = |index: u8, value: u64| format!(r#"{{"index": {index}, "value": {value}, "op": "SCMP_CMP_EQ"}}"#);
    let text = |a: String, b: String| {
        refusing(&format!(
            r#"{{"name": "ioctl", "action": "SCMP_ACT_ALLOW", "args": [{a}, {b}]}}"#
        ))
    };
    let both = program(&text(arg(0, 1), arg(1, 2)), "");
    let either = program(&text(arg(1, 1), arg(1, 2)), "");
    let run = |p: &[sock_filter], a: [u64; 2]| verdict(p, Arch::X86_64, "ioctl", [a[0], a[1], 9, 9, 9, 9]);
    for (arguments, all, one) in [
        ([1, 2], true, true),
        ([1, 1], false, true),
        ([0, 2], false, true),
        ([1, 3], false, false),
    ] {
        assert_eq!(run(&both, arguments) == Action::ALLOW, all, "{arguments:?}");
        assert_eq!(run(&either, arguments) == Action::ALLOW, one, "{arguments:?}");
    }
}

#[test]
fn includes_and_excludes() {
    let cases = [
        (r#""includes": {"caps": ["CAP_SYS_ADMIN"]}"#, "", false),
        (r#""includes": {"caps": ["CAP_SYS_ADMIN"]}"#, "SYS_ADMIN", true),
        (
            r#""includes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}"#,
            "SYS_ADMIN",
            false,
        ),
        (r#""includes": {"caps": ["CAP_OF_TOMORROW"]}"#, "", false),
        (
            r#""excludes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}"#,
            "SYS_ADMIN",
            false,
        ),
        (r#""excludes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}"#, "CHOWN", true),
        (r#""includes": {"arches": ["amd64", "x32"]}"#, "", true),
        (r#""includes": {"arches": ["arm64"]}"#, "", false),
        (r#""excludes": {"arches": ["s390", "s390x"]}"#, "", true),
        (r#""excludes": {"arches": ["amd64"]}"#, "", false),
        (r#""includes": {"minKernel": "6.1"}"#, "", true),
        (r#""includes": {"minKernel": "6.2"}"#, "", false),
        (r#""excludes": {"minKernel": "4.8"}"#, "", false),
        (r#""excludes": {"minKernel": "10.0"}"#, "", true),
        (
            r#""includes": {}, "excludes": null, "args": null, "comment": "none""#,
            "",
            true,
        ),
        (
            r#""includes": {"caps": [], "arches": []}, "excludes": {"caps": [], "arches": []}"#,
            "",
            true,
        ),
    ];
    for (json, capabilities, applies) in cases {
        let text = refusing(&format!(r#"{{"names": ["read"], "action": "SCMP_ACT_ALLOW", {json}}}"#));
        assert_eq!(
            on_x86_64(&text, capabilities, "read", 0) == Action::ALLOW,
            applies,
            "{json} {capabilities}"
        );
    }
}

#[test]
fn architectures() {
    let rule = r#""syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]"#;
    let cases = [
        ("", [Action::ALLOW, KILL, KILL]),
        (
            r#""architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],"#,
            [Action::ALLOW, Action::ALLOW, KILL],
        ),
        (
            r#""architectures": ["SCMP_ARCH_X32", "SCMP_ARCH_S390X"],"#,
            [Action::ALLOW, KILL, Action::ALLOW],
        ),
        (r#""architectures": null, "archMap": [],"#, [Action::ALLOW, KILL, KILL]),
        (
            r#""archMap": [{"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_X86"]},
               {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": null}],"#,
            [Action::ALLOW, KILL, KILL],
        ),
    ];
    for (json, wanted) in cases {
        let program = program(&format!(r#"{{{json} "defaultAction": "SCMP_ACT_ERRNO", {rule}}}"#), "");
        let got = [Arch::X86_64, Arch::X86, Arch::X32].map(|arch| verdict(&program, arch, "read", [0; 6]));
        assert_eq!(got, wanted, "{json}");
    }
}

#[test]
fn i386_has_two_ways_to_a_socket() {
    let family = r#""args": [{"index": 0, "value": 40, "op": "SCMP_CMP_EQ"}]"#;
    let call = |text: &str, number: u64| verdict(&program(text, ""), Arch::X86, "socketcall", [number, 0, 0, 0, 0, 0]);
    let allowed = refusing(r#"{"names": ["socket", "semop"], "action": "SCMP_ACT_ALLOW"}"#);
    assert_eq!([call(&allowed, 1), call(&allowed, 2)], [Action::ALLOW, Action::EPERM]);
    let ipc = |number| verdict(&program(&allowed, ""), Arch::X86, "ipc", [number, 0, 0, 0, 0, 0]);
    assert_eq!(
        [ipc(1), ipc(0x1_0001), ipc(2)],
        [Action::ALLOW, Action::ALLOW, Action::EPERM]
    );
    let one_allowed = refusing(&format!(
        r#"{{"name": "socket", "action": "SCMP_ACT_ALLOW", {family}}}"#
    ));
    assert_eq!(call(&one_allowed, 1), Action::EPERM, "the family can't be seen");
    let one_refused = format!(r#"{{"name": "socket", "action": "SCMP_ACT_KILL_PROCESS", {family}}}"#);
    let one_refused = refusing(&one_refused).replace("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW");
    assert_eq!([call(&one_refused, 1), call(&one_refused, 2)], [KILL, Action::ALLOW]);
}

#[test]
fn errors_name_the_entry() {
    let entry = |json: &str| refusing(&format!(r#"{{"name": "read", "action": "SCMP_ACT_ALLOW"}}, {json}"#));
    let cases = [
        ("{}".to_owned(), "defaultAction is missing"),
        ("[".to_owned(), "EOF while parsing a list at line 1 column 1"),
        (
            r#"{"defaultAction": "DENY"}"#.to_owned(),
            "defaultAction: unknown action \"DENY\"",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#.to_owned(),
            "defaultAction: SCMP_ACT_NOTIFY is not supported: no process answers for the container's calls",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_LOG", "flags": ["SECCOMP_FILTER_FLAG_FLY"]}"#.to_owned(),
            "flags: \"SECCOMP_FILTER_FLAG_FLY\" is not supported",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_LOG", "listenerPath": "/x"}"#.to_owned(),
            "listenerPath is not supported: no process answers for the container's calls",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_LOG", "architectures": ["amd64"]}"#.to_owned(),
            "unknown architecture \"amd64\"",
        ),
        (entry(r#"{"name": "write"}"#), "syscalls[1] (write): action is missing"),
        (
            entry(r#"{"names": ["write"], "action": "ALLOW"}"#),
            "syscalls[1] (write): unknown action \"ALLOW\"",
        ),
        (
            entry(r#"{"names": ["write"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096}"#),
            "syscalls[1] (write): errnoRet is above 4095",
        ),
        (
            entry(r#"{"name": "read", "names": ["write"], "action": "SCMP_ACT_ALLOW"}"#),
            "syscalls[1] (read): both name and names are given",
        ),
        (
            entry(r#"{"names": [], "action": "SCMP_ACT_ALLOW"}"#),
            "syscalls[1] (no name): no system call is named",
        ),
        (
            entry(r#"{"names": ["read", "no such"], "action": "SCMP_ACT_ALLOW"}"#),
            "syscalls[1] (read): \"no such\" is no name of a system call",
        ),
        (
            entry(
                r#"{"name": "dup", "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}"#,
            ),
            "syscalls[1] (dup): args: no argument has index 6",
        ),
        (
            entry(r#"{"name": "dup", "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0, "op": "=="}]}"#),
            "syscalls[1] (dup): args: unknown op \"==\"",
        ),
        (
            entry(r#"{"name": "dup", "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["SYS_ADMIN"]}}"#),
            "syscalls[1] (dup): includes: unknown capability \"SYS_ADMIN\"",
        ),
        (
            entry(r#"{"name": "dup", "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "new"}}"#),
            "syscalls[1] (dup): excludes: minKernel: \"new\" is no version",
        ),
        (
            refusing("").replace(r#""syscalls""#, r#""architectures": ["SCMP_ARCH_X86"], "syscalls""#),
            "both architectures and archMap are given",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(
            Profile::parse(&text, &host("")).err().unwrap().to_string(),
            message,
            "{text}"
        );
    }
    // Of another architecture, or of tomorrow.
    assert_eq!(
        on_x86_64(
            &entry(r#"{"name": "spu_run", "action": "SCMP_ACT_ALLOW"}"#),
            "",
            "read",
            0
        ),
        Action::ALLOW
    );
}

#[test]
fn versions() {
    for (text, wanted) in [
        ("4.8", Some((4, 8))),
        ("6.18.44-fc-v669", Some((6, 18))),
        ("6.12+", Some((6, 12))),
    ] {
        assert_eq!(version(text), wanted, "{text}");
    }
    for text in ["", "6", "a.b", "6.", ".1"] {
        assert_eq!(version(text), None, "{text}");
    }
}

/// Pseudo-random numbers (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// A number near the edges that a comparison in two halves can get wrong (CVE-2019-9893 was such a mistake).
    fn edge(&mut self) -> u64 {
        let edges = [
            0,
            1,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_ffff,
            1 << 32,
            (1 << 32) + 1,
            1 << 63,
            u64::MAX,
            5 << 32,
        ];
        let edge = edges[usize::try_from(self.below(10)).unwrap()];
        edge.wrapping_add(self.below(3)).wrapping_sub(1)
    }

    fn condition(&mut self) -> Condition {
        let (value, mask) = (self.edge(), self.edge());
        let ops = [
            Op::Equal,
            Op::NotEqual,
            Op::Less,
            Op::LessOrEqual,
            Op::Greater,
            Op::GreaterOrEqual,
        ];
        let (op, value) = match ops.get(usize::try_from(self.below(7)).unwrap()) {
            Some(op) => (*op, value),
            None => (Op::Masked(mask), value & mask),
        };
        Condition::new(u8::try_from(self.below(2)).unwrap(), op, value)
    }

    fn check(&mut self) -> Check {
        let conditions: Vec<Condition> = (0..1 + self.below(2)).map(|_| self.condition()).collect();
        Check {
            conditions: conditions.into(),
            action: Action::errno(u16::try_from(self.below(5)).unwrap()),
        }
    }
}

#[test]
fn the_compiler_agrees_with_a_plain_evaluation() {
    let mut random = Random(0x1234_5678_9abc_def1);
    for _ in 0..400 {
        let checks: Vec<Check> = (0..1 + random.below(40)).map(|_| random.check()).collect();
        let mut rules = super::compile::Rules::new(Action::TRAP);
        for arch in [Arch::X86_64, Arch::X86] {
            rules.add(
                arch,
                &[&checks],
                (0..600).map(|slot| (0..1).filter(move |_| slot == 20)),
            );
        }
        let program = rules.compile().unwrap();
        for _ in 0..200 {
            let mut arguments = [random.edge(), random.edge(), 0, 0, 0, 0];
            for arch in [Arch::X86_64, Arch::X86] {
                if arch == Arch::X86 {
                    arguments = arguments.map(|a| a & 0xffff_ffff);
                }
                let holds = |c: &Condition| c.holds(arguments[usize::from(c.argument)]);
                let narrowed = |c: &Condition| if arch == Arch::X86 { c.narrowed() } else { *c };
                let found = checks
                    .iter()
                    .find(|check| check.conditions.iter().map(narrowed).all(|c| holds(&c)));
                let wanted = found.map_or(Action::TRAP, |check| check.action);
                let got = run(
                    &program,
                    &Call {
                        audit: arch.audit(),
                        number: 20,
                        arguments,
                    },
                )
                .0;
                assert_eq!(got, wanted, "{arch:?} {arguments:x?} {checks:x?}");
            }
        }
    }
}

#[test]
fn a_profile_that_is_too_long_is_refused() {
    let value = |v: u32| {
        format!(
            r#"{{"name": "ioctl", "action": "SCMP_ACT_ALLOW",
                 "args": [{{"index": 1, "value": {v}, "valueTwo": {v}, "op": "SCMP_CMP_MASKED_EQ"}}]}}"#
        )
    };
    let rules = |count| refusing(&(1..count).map(value).collect::<Vec<_>>().join(","));
    let compiled = |text: &str| Profile::parse(text, &host("")).unwrap().rules().compile().is_some();
    assert!(compiled(&rules(300)));
    assert!(!compiled(&rules(2000)));
}
