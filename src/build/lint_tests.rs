//! Dockerfiles with and without each finding.

use super::*;

fn linted(text: &str) -> Report {
    let dockerfile = parser::parse("Dockerfile", text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}"));
    let platforms = Platforms {
        build: Platform::host(),
        target: Platform::host(),
        stage: "default".into(),
    };
    check(
        &dockerfile,
        &Known {
            args: &BTreeMap::new(),
            platforms: &platforms,
            target: None,
            contexts: &[],
            env_of: &|name| (name == "known").then(|| vec!["HOME=/".into()]),
            platform_of: &|name| {
                let other = Platform {
                    architecture: "s390x".to_owned(),
                    ..Platform::host()
                };
                (name == "foreign").then_some(other)
            },
            ignored: &|path| path == "ignored",
        },
    )
    .unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn every_rule_finds_and_does_not_find() {
    for (rule, line, bad, good) in [
        ("StageNameCasing", 1, "FROM x AS Build", "FROM x AS build"),
        ("FromAsCasing", 1, "FROM x as b", "FROM x AS b"),
        (
            "NoEmptyContinuation",
            3,
            "FROM x\nRUN a \\\n\n b",
            "FROM x\nRUN a \\\n# c\n b",
        ),
        (
            "ConsistentInstructionCasing",
            3,
            "FROM x\nRUN a\nrun b",
            "from x\nrun a\nrun b",
        ),
        (
            "ConsistentInstructionCasing",
            3,
            "from x\nrun a\nRUN b",
            "FROM x\nRUN b",
        ),
        (
            "DuplicateStageName",
            2,
            "FROM x AS a\nFROM y AS a",
            "FROM x AS a\nFROM y AS b",
        ),
        ("InvalidBaseImagePlatform", 1, "FROM foreign", "FROM known"),
        (
            "InvalidDefinitionDescription",
            3,
            "# check=experimental=all\n# about something\nFROM x AS b",
            "# check=experimental=all\n# b is something\nFROM x AS b",
        ),
        (
            "InvalidDefinitionDescription",
            4,
            "# check=experimental=InvalidDefinitionDescription\nFROM x\n# other\nARG V",
            "FROM x\n# other\nARG V",
        ),
        ("ReservedStageName", 1, "FROM x AS scratch", "FROM x AS s"),
        ("JSONArgsRecommended", 2, "FROM x\nCMD a", "FROM x\nCMD [\"a\"]"),
        (
            "JSONArgsRecommended",
            2,
            "FROM x\nENTRYPOINT a b",
            "FROM x\nSHELL [\"a\"]\nENTRYPOINT a b",
        ),
        ("JSONArgsRecommended", 2, "FROM x\nCMD ['a']", "FROM x\nRUN a"),
        ("MaintainerDeprecated", 2, "FROM x\nMAINTAINER a", "FROM x\nLABEL a=b"),
        ("UndefinedArgInFrom", 1, "FROM x$A", "ARG A=1\nFROM x$A"),
        (
            "WorkdirRelativePath",
            2,
            "FROM x\nWORKDIR a",
            "FROM x\nWORKDIR /a\nWORKDIR b",
        ),
        (
            "UndefinedVar",
            2,
            "FROM known\nENV A=$HOEM",
            "FROM known\nENV A=$HOME$PATH",
        ),
        ("UndefinedVar", 2, "FROM scratch\nCOPY $A /", "FROM unknown\nCOPY $A /"),
        (
            "UndefinedVar",
            3,
            "FROM scratch AS a\nFROM a\nENV B=$A",
            "FROM scratch AS a\nENV A=1\nFROM a\nENV B=$A",
        ),
        (
            "UndefinedVar",
            2,
            "FROM scratch\nENV B=${A}",
            "FROM scratch\nARG A\nENV B=${A}",
        ),
        (
            "MultipleInstructionsDisallowed",
            2,
            "FROM x\nCMD [\"a\"]\nCMD [\"b\"]",
            "FROM x\nCMD [\"a\"]\nFROM x\nCMD [\"b\"]",
        ),
        ("LegacyKeyValueFormat", 2, "FROM x\nENV a b", "FROM x\nENV a=b"),
        (
            "RedundantTargetPlatform",
            1,
            "FROM --platform=$TARGETPLATFORM x",
            "FROM --platform=$BUILDPLATFORM x",
        ),
        (
            "FromPlatformFlagConstDisallowed",
            1,
            "FROM --platform=linux/arm64 x",
            "FROM --platform=linux/arm64 x AS arm64",
        ),
        (
            "SecretsUsedInArgOrEnv",
            2,
            "FROM x\nARG DB_PASSWORD",
            "FROM x\nARG DB_PASSWORD_FILE",
        ),
        (
            "SecretsUsedInArgOrEnv",
            2,
            "FROM x\nENV API_KEY=1",
            "FROM x\nENV PUBLIC_KEY=1 KEYBOARD=de",
        ),
        ("InvalidDefaultArgInFrom", 2, "ARG V\nFROM x:$V", "ARG V=1\nFROM x:$V"),
        ("CopyIgnoredFile", 2, "FROM x\nCOPY ignored /", "FROM x\nCOPY other /"),
        ("ExposeProtoCasing", 2, "FROM x\nEXPOSE 80/TCP", "FROM x\nEXPOSE 80/tcp"),
        ("ExposeInvalidFormat", 2, "FROM x\nEXPOSE 80:80", "FROM x\nEXPOSE 80"),
    ] {
        assert!(RULES.contains(&rule));
        let found = linted(bad).findings;
        assert!(
            found.iter().any(|f| f.rule == rule && f.place.line == line),
            "{rule}: {bad}: {found:?}"
        );
        let found = linted(good).findings;
        assert!(!found.iter().any(|f| f.rule == rule), "{rule}: {good}: {found:?}");
    }
}

#[test]
fn what_is_skipped_and_what_fails() {
    assert!(linted("FROM x\nRUN a").findings.is_empty());
    let report = linted("# check=skip=maintainerdeprecated,X\nFROM x\nMAINTAINER a\nENV a b");
    let rules: Vec<&str> = report.findings.iter().map(|f| f.rule).collect();
    assert_eq!(rules, ["LegacyKeyValueFormat"]);
    assert!(refuse(&report).is_ok());
    assert!(linted("# check=skip=all\nFROM x\nMAINTAINER a").findings.is_empty());
    let report = linted("# check=error=true\nFROM x\nMAINTAINER a\nENV a b");
    let e = refuse(&report).unwrap_err();
    assert!(
        e.to_string().starts_with("Dockerfile:3:1: MaintainerDeprecated: "),
        "{e}"
    );
    assert!(e.to_string().ends_with("(and 1 more)"), "{e}");
    let shown = report.findings[0].to_string();
    assert!(shown.contains("\n  3 | MAINTAINER a\n"), "{shown}");
}
