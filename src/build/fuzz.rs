//! Bounded fuzzing of parser and expansion: odd Dockerfiles, mutated by a generator of a fixed seed. No panic, no time
//! without end, and an instruction that was understood is understood the same from its own text. `BARGE_FUZZ=<n>` runs
//! more rounds.

use crate::build::expand::{Globals, Platforms, Scope};
use crate::build::instruction::Instruction;
use crate::build::parser::{parse, trigger};
use crate::build::plan::{self, Request};
use crate::model::platform::Platform;
use std::collections::BTreeMap;

/// xorshift64*: the same sequence everywhere.
struct Generator(u64);

impl Generator {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16).unwrap() % limit.max(1)
    }
}

const SEEDS: &[&str] = &[
    "# syntax=a\n# escape=`\nARG V=1\nFROM --platform=$BUILDPLATFORM a:${V:-2} AS b\nRUN x `\n y\nCOPY --from=b --chown=1:2 c d/ e/\n",
    "FROM a\nRUN <<A <<-'B' cat\nx $y\nA\n\tz\n\tB\nCOPY <<f <<\"g\" /h/\n$i ${j:-k}\nf\nl\ng\nRUN m\n",
    "FROM a\nENV A=\"b c\" D='e' F=g\\ h\nENV I the rest\nLABEL \"x\"=$A y=${A#b} z=${A%%c*} q=${A/b/\\/} n=${N:?no}\nARG Q=$A R\nEXPOSE 80 90-92/udp ${P:-1}\n",
    "FROM a\nRUN --mount=type=cache,target=/c,sharing=locked,mode=0700 --mount=type=secret,id=s,env=E --network=none [\"a\", \"b\"]\nHEALTHCHECK --interval=5s --retries=2 CMD [\"x\"]\nSHELL [\"/s\"]\nSTOPSIGNAL 9\nVOLUME [\"/v\"] \nVOLUME /a /b\n",
    "from a as B\nmaintainer m\nonbuild copy --chmod=755 a b\nonbuild run <<E\nx\nE\nuser $U:1\nworkdir a\\\n/b\ncmd\nentrypoint []\nfrom b\nadd --checksum=sha256:0 --unpack=true https://x/y /z\n",
    "\u{feff}FROM a\r\nRUN b \\\r\n# c\r\n\r\n d\r\n",
];

const WORDS: &[&str] = &[
    "\\",
    "`",
    "\n",
    "\\\n",
    "\"",
    "'",
    "$",
    "${",
    "}",
    "${A",
    "${A:-",
    "${A/",
    "${A#",
    "${A//x/",
    "<<",
    "<<-",
    "<<A",
    "A\n",
    "=",
    " ",
    "\t",
    "#",
    "\0",
    "\u{e9}",
    "\u{202e}",
    "\x1b[2J",
    "[",
    "]",
    "[\"",
    "--",
    "--mount=",
    "--from=0",
    "--from=b",
    ",",
    "FROM ",
    "ONBUILD ",
    "RUN ",
    "COPY a ",
    "\u{a0}",
    "\r",
    "type=tmpfs",
    "*",
    "?",
    ":",
    "/",
    "99999999999999999999",
    "scratch",
    " AS ",
];

fn mutate(seed: &str, random: &mut Generator) -> Vec<u8> {
    let mut bytes = seed.as_bytes().to_vec();
    for _ in 0..=random.below(5) {
        let at = random.below(bytes.len() + 1).min(bytes.len());
        match random.below(6) {
            0 => bytes.truncate(at),
            1 | 2 => {
                let word = WORDS[random.below(WORDS.len())];
                bytes.splice(at..at, word.bytes());
            }
            3 if at < bytes.len() => bytes[at] = u8::try_from(random.below(256)).unwrap(),
            4 => {
                let end = (at + random.below(30)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let end = (at + random.below(80)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
        }
    }
    bytes
}

fn feed(bytes: &[u8]) -> bool {
    let dockerfile = match parse("Dockerfile", bytes) {
        Ok(dockerfile) => dockerfile,
        Err(e) => {
            // The line that is shown has no control characters of its own.
            let shown = e.shown().unwrap_or_default();
            assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
            assert!(e.to_string().starts_with("Dockerfile"), "{e}");
            return false;
        }
    };
    let platforms = Platforms {
        build: Platform::host(),
        target: Platform::host(),
        stage: "default".into(),
    };
    let Ok(globals) = Globals::new(&dockerfile, &BTreeMap::new(), &platforms) else {
        return true;
    };
    if let Ok(plan) = plan::plan(&dockerfile, &globals, Request::default()) {
        // Every stage comes after those that it needs.
        let mut done = Vec::new();
        for stage in &plan.stages {
            assert!(stage.needs.iter().all(|n| done.contains(n)), "{plan:?}");
            done.push(stage.index);
        }
        assert!(done.contains(&plan.target));
    }
    for stage in &dockerfile.stages {
        let mut scope = Scope::stage(&globals, &["PATH=/bin".into(), "A=b c".into()]);
        for statement in &stage.statements {
            assert!(statement.place.column() >= 1 && !statement.place.text().is_empty());
            let _ = scope.statement(statement);
            again(
                statement.text.as_str(),
                &statement.instruction,
                dockerfile.directives.escape,
            );
            if let Instruction::Onbuild(stored) = &statement.instruction {
                let read = trigger(&stored.text, "x").map(|s| s.instruction.keyword());
                // What was written with another escape character need not be readable with the usual one.
                assert!(dockerfile.directives.escape != '\\' || read.is_ok_and(|k| k == stored.keyword));
            }
        }
        assert!(scope.run_args().iter().all(|(n, _)| !n.is_empty()));
        assert!(scope.run_env().iter().all(|e| !e.is_empty()));
    }
    true
}

/// An instruction's own text means the same again.
fn again(text: &str, instruction: &Instruction, escape: char) {
    let whole = match instruction {
        Instruction::Onbuild(_) => return,
        Instruction::Run(run) => run.heredocs.is_empty(),
        Instruction::Copy(t) | Instruction::Add(t) => t.inline.is_empty(),
        _ => true,
    };
    if !whole || text.ends_with(escape) {
        return;
    }
    let text = format!("# escape={escape}\nFROM x\n{text}");
    let parsed = parse("D", text.as_bytes()).unwrap_or_else(|e| panic!("{text:?}: {e}"));
    let same = &parsed.stages[0].statements[0].instruction;
    assert_eq!(format!("{same:?}"), format!("{instruction:?}"), "{text:?}");
}

#[test]
fn mutated_dockerfiles() {
    let rounds = std::env::var("BARGE_FUZZ").map_or(5000, |n| n.parse().unwrap());
    let mut random = Generator(0xd0c4_e4f1_1e00_0001);
    assert!(SEEDS.iter().all(|seed| feed(seed.as_bytes())), "the seeds are good");
    let mut understood = 0;
    for round in 0..rounds {
        let bytes = mutate(SEEDS[round % SEEDS.len()], &mut random);
        understood += usize::from(feed(&bytes));
    }
    // Mutations that are all refused would try nothing but the refusal.
    assert!(understood * 10 > rounds, "{understood} of {rounds}");
}
