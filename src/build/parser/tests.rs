//! Tables of the parser: what is understood, and what is refused with which place.

use super::*;
use crate::build::instruction::{MountKind, Script, Sharing};

fn dockerfile(text: &str) -> Result<Dockerfile> {
    parse("Dockerfile", text.as_bytes())
}

/// The instructions below `FROM x`, keyword and contents in one line each.
fn statements(text: &str) -> Vec<Statement> {
    let parsed = dockerfile(&format!("FROM x\n{text}")).unwrap_or_else(|e| panic!("{text}: {e}"));
    parsed.stages.into_iter().next().unwrap().statements
}

fn one(text: &str) -> Instruction {
    let mut all = statements(text);
    assert_eq!(all.len(), 1, "{text}: {all:?}");
    all.remove(0).instruction
}

#[test]
fn instructions() {
    for (text, want) in [
        (
            "RUN a  b",
            r#"Run(Run { command: Shell("a  b"), heredocs: [], mounts: [], network: Default, security: Sandbox, devices: [] })"#,
        ),
        (
            "run\ta",
            r#"Run(Run { command: Shell("a"), heredocs: [], mounts: [], network: Default, security: Sandbox, devices: [] })"#,
        ),
        (
            r#"RUN --network=none --security=insecure ["a", "b c"]"#,
            r#"Run(Run { command: Exec(["a", "b c"]), heredocs: [], mounts: [], network: None, security: Insecure, devices: [] })"#,
        ),
        ("CMD [\"a\"]  ", r#"Cmd(Exec(["a"]))"#),
        ("CMD ['a']", r#"Cmd(Shell("['a']"))"#),
        ("CMD [\"a\"] b", r#"Cmd(Shell("[\"a\"] b"))"#),
        ("CMD [ -f x ]", r#"Cmd(Shell("[ -f x ]"))"#),
        ("CMD", "Cmd(Exec([]))"),
        ("ENTRYPOINT []", "Entrypoint(Exec([]))"),
        ("ENTRYPOINT top -b", r#"Entrypoint(Shell("top -b"))"#),
        (
            "ENV a=1 b=\"c d\"",
            r#"Env([Pair { name: "a", value: "1" }, Pair { name: "b", value: "\"c d\"" }])"#,
        ),
        ("ENV a b c=d", r#"Env([Pair { name: "a", value: "b c=d" }])"#),
        ("ENV a=", r#"Env([Pair { name: "a", value: "" }])"#),
        ("ENV a=b\\ c", r#"Env([Pair { name: "a", value: "b\\ c" }])"#),
        (
            "LABEL \"a.b\"=\"x=y\"",
            r#"Label([Pair { name: "\"a.b\"", value: "\"x=y\"" }])"#,
        ),
        ("EXPOSE 80  53/udp", r#"Expose(["80", "53/udp"])"#),
        ("VOLUME /a /b", r#"Volume(["/a", "/b"])"#),
        ("VOLUME [\"/a b\"]", r#"Volume(["/a b"])"#),
        ("USER a b", r#"User("a b")"#),
        ("WORKDIR /a b", r#"Workdir("/a b")"#),
        (
            "ARG a b=c d=",
            r#"Arg([ArgDeclaration { name: "a", default: None }, ArgDeclaration { name: "b", default: Some("c") }, ArgDeclaration { name: "d", default: Some("") }])"#,
        ),
        ("STOPSIGNAL SIGTERM", r#"Stopsignal("SIGTERM")"#),
        ("SHELL [\"/bin/bash\", \"-c\"]", r#"Shell(["/bin/bash", "-c"])"#),
        ("MAINTAINER Me <me@x>", r#"Maintainer("Me <me@x>")"#),
        ("HEALTHCHECK NONE", "Healthcheck(None)"),
        (
            "HEALTHCHECK --interval=5s --retries=3 CMD curl x",
            r#"Healthcheck(Check(HealthCheck { test: ["CMD-SHELL", "curl x"], interval: 5000000000, timeout: 0, start_period: 0, start_interval: 0, retries: 3 }))"#,
        ),
        (
            "healthcheck --timeout=1m30s --start-period=0s cmd [\"a\"]",
            r#"Healthcheck(Check(HealthCheck { test: ["CMD", "a"], interval: 0, timeout: 90000000000, start_period: 0, start_interval: 0, retries: 0 }))"#,
        ),
    ] {
        assert_eq!(format!("{:?}", one(text)), want, "{text}");
    }
}

#[test]
fn copies() {
    let copy = |text: &str| match one(text) {
        Instruction::Copy(t) | Instruction::Add(t) => t,
        other => panic!("{other:?}"),
    };
    let t = copy("COPY --from=b --chown=1:2 --chmod=755 --link --parents --exclude=*.o --exclude=\"a b\" a b/ c/");
    assert_eq!(format!("{:?} {:?}", t.sources, t.target), r#"["a", "b/"] "c/""#);
    assert_eq!(t.from.unwrap().text, "b");
    assert!(t.link && t.parents && t.unpack.is_none());
    assert_eq!(
        format!("{:?} {:?} {:?}", t.chown, t.chmod, t.excludes),
        r#"Some("1:2") Some("755") ["*.o", "a b"]"#
    );
    let t = copy("ADD --checksum=sha256:1 --keep-git-dir=false --unpack=true --link=false https://x/y /");
    assert_eq!((t.keep_git_dir, t.unpack, t.link), (Some(false), Some(true), false));
    assert_eq!(t.checksum.unwrap().place.to_string(), "Dockerfile:2:16");
    let t = copy("COPY [\"a b\", \"<<c\", \"d\"]");
    assert_eq!(format!("{:?} {:?}", t.sources, t.inline), r#"["a b", "<<c"] []"#);
    let t = copy("COPY -- --a b");
    assert_eq!(format!("{:?}", t.sources), r#"["--a"]"#);
}

#[test]
fn heredocs() {
    let all = statements("RUN <<EOF\na\n\n# b\n  EOF\nEOF\nRUN c");
    assert_eq!(all.len(), 2);
    let run = |s: &Statement| match &s.instruction {
        Instruction::Run(run) => run.script(),
        other => panic!("{other:?}"),
    };
    assert_eq!(run(&all[0]), Script::Shell("a\n\n# b\n  EOF\n".into()));
    for (text, want) in [
        ("RUN <<-E\n\t\ta\n\tE", Script::Shell("a\n".into())),
        ("RUN <<E cat >x\na\nE", Script::Shell("<<E cat >x\na\nE".into())),
        (
            "RUN cat <<A && cat <<'B' \\\n >y\na\nA\nb\nB",
            Script::Shell("cat <<A && cat <<'B'  >y\na\nA\nb\nB".into()),
        ),
        (
            "RUN <<E\n#!/usr/bin/python\nprint\nE",
            Script::File {
                name: "E".into(),
                text: "#!/usr/bin/python\nprint\n".into(),
            },
        ),
        ("RUN <<E\nE", Script::Shell(String::new())),
        ("RUN <<E\n\\\nFROM y\nE", Script::Shell("\\\nFROM y\n".into())),
        ("RUN echo '<<E'", Script::Shell("echo '<<E'".into())),
        ("RUN [\"cat\", \"<<E\"]", Script::Exec(vec!["cat".into(), "<<E".into()])),
    ] {
        let all = statements(text);
        assert_eq!(all.len(), 1, "{text}");
        assert_eq!(run(&all[0]), want, "{text}");
    }
    let all = statements("COPY <<a.txt \"<<b\" <<-'c' d /x/\n1\na.txt\n\t2\n\tc");
    let Instruction::Copy(t) = &all[0].instruction else {
        panic!()
    };
    let inline: Vec<_> = t
        .inline
        .iter()
        .map(|h| (h.name.as_str(), h.content(), h.expand))
        .collect();
    assert_eq!(
        inline,
        [("a.txt", "1\n".to_owned(), true), ("c", "2\n".to_owned(), false)]
    );
    assert_eq!(format!("{:?}", t.sources), r#"["\"<<b\"", "d"]"#);
}

#[test]
fn triggers() {
    for (text, want) in [
        ("ONBUILD RUN  make", "RUN  make"),
        ("onbuild copy \\\n a b", "copy  a b"),
        ("ONBUILD RUN <<E\nx\nE", "RUN <<E\nx\nE"),
    ] {
        let Instruction::Onbuild(trigger) = one(text) else {
            panic!()
        };
        assert_eq!(trigger.text, want);
        assert_eq!(
            super::trigger(want, "x").unwrap().instruction.keyword(),
            trigger.keyword
        );
    }
    let e = super::trigger("RUNN x", "debian:12").unwrap_err();
    assert_eq!(e.to_string(), "ONBUILD of debian:12:1:1: unknown instruction 'RUNN'");
    for text in ["FROM x", "ONBUILD RUN x", "MAINTAINER x", ""] {
        assert!(super::trigger(text, "x").is_err(), "{text}");
    }
}

#[test]
fn mounts() {
    let mount = |text: &str| match one(&format!("RUN --mount={text} x")) {
        Instruction::Run(run) => format!("{:?}", run.mounts[0].kind),
        other => panic!("{other:?}"),
    };
    for (text, want) in [
        (
            "target=/a",
            r#"Bind { from: None, source: "", target: "/a", read_write: false }"#,
        ),
        (
            "type=bind,from=b,src=/s,dst=/a,rw",
            r#"Bind { from: Some("b"), source: "/s", target: "/a", read_write: true }"#,
        ),
        (
            "type=bind,target=/a,readonly=false",
            r#"Bind { from: None, source: "", target: "/a", read_write: true }"#,
        ),
        (
            "type=cache,target=/c",
            r#"Cache { id: "/c", target: "/c", read_only: false, sharing: Shared, from: None, source: "", owner: MountOwner { uid: None, gid: None, mode: None } }"#,
        ),
        (
            "type=cache,id=i,target=/c,sharing=locked,uid=1,gid=2,mode=0700,ro,from=b,source=/d",
            r#"Cache { id: "i", target: "/c", read_only: true, sharing: Locked, from: Some("b"), source: "/d", owner: MountOwner { uid: Some(1), gid: Some(2), mode: Some(448) } }"#,
        ),
        (
            "type=tmpfs,target=/t,size=64m",
            r#"Tmpfs { target: "/t", size: Some(67108864) }"#,
        ),
        (
            "type=secret,id=a/b",
            r#"Secret { id: "a/b", target: Some("/run/secrets/b"), variable: None, required: false, owner: MountOwner { uid: None, gid: None, mode: None } }"#,
        ),
        (
            "type=secret,target=/root/.npmrc,required,mode=0444",
            r#"Secret { id: ".npmrc", target: Some("/root/.npmrc"), variable: None, required: true, owner: MountOwner { uid: None, gid: None, mode: Some(292) } }"#,
        ),
        (
            "type=secret,id=k,env=KEY",
            r#"Secret { id: "k", target: None, variable: Some("KEY"), required: false, owner: MountOwner { uid: None, gid: None, mode: None } }"#,
        ),
        (
            "type=ssh",
            r#"Ssh { id: "default", target: None, required: false, owner: MountOwner { uid: None, gid: None, mode: None } }"#,
        ),
        ("type=cache,target=\"/a,b\"", "\"--mount: 'b' has"),
    ] {
        if !want.starts_with('"') {
            assert_eq!(mount(text), want, "{text}");
        }
    }
    assert!(mount("type=cache,target=$X,sharing=$Y").contains("target: \"$X\""));
    assert_eq!(Sharing::default(), Sharing::Shared);
    assert!(
        matches!(one("RUN --mount='type=tmpfs,\"target=/a,b\"' x"), Instruction::Run(r) if r.mounts[0].kind == MountKind::Tmpfs { target: "/a,b".into(), size: None })
    );
}

#[test]
fn stages_and_directives() {
    let parsed = dockerfile(
        "#!/usr/bin/env barge\n# syntax = docker/dockerfile:1.7\n# escape=`\n# check=skip=A, B;error=true\n# no\n# escape=no\nARG V=1\n\
         FROM --platform=$BUILDPLATFORM a:$V As Build\nRUN a `\n b\nFROM build\nRUN c:\\\n",
    )
    .unwrap();
    assert_eq!(parsed.directives.syntax.as_ref().unwrap().text, "docker/dockerfile:1.7");
    assert_eq!(parsed.directives.syntax.unwrap().place.to_string(), "Dockerfile:2:12");
    assert_eq!((parsed.directives.escape, parsed.directives.check.error), ('`', true));
    assert_eq!(parsed.directives.check.skip, ["A", "B"]);
    assert_eq!(parsed.globals.len(), 1);
    let [first, second] = &parsed.stages[..] else { panic!() };
    assert_eq!(
        (first.name.as_deref(), &*first.base, first.index),
        (Some("build"), "a:$V", 0)
    );
    assert_eq!(first.platform.as_ref().unwrap().text, "$BUILDPLATFORM");
    assert_eq!(first.statements[0].text, "RUN a  b");
    assert_eq!(
        (second.index, second.place.to_string()),
        (1, "Dockerfile:11:1".to_owned())
    );
    assert_eq!(second.statements[0].text, "RUN c:\\");
    // A comment that is no directive ends them.
    let parsed = dockerfile("# hello\n# escape=`\nFROM a\nRUN b`\nRUN c").unwrap();
    assert_eq!(parsed.stages[0].statements.len(), 2);
    let parsed = dockerfile("# unknown=1\n# escape=`\nFROM a").unwrap();
    assert_eq!(parsed.directives.escape, '\\');
}

#[test]
fn a_dockerfile_of_2013() {
    let text = "# the README's\nfrom ubuntu:12.10\nmaintainer Somebody\nrun apt-get update\nrun DEBIAN_FRONTEND=noninteractive apt-get install -y -q curl\n\
        run curl http://pear.php.net/go-pear.phar > /go-pear.phar\nadd http://x/y.tgz /y\nenv A b c\nexpose 80 443\nvolume /data\nuser daemon\nworkdir /srv\nentrypoint [\"/bin/x\"]\ncmd a b\n";
    assert_eq!(dockerfile(text).unwrap().stages[0].statements.len(), 12);
}

/// What is refused: message, place and hint.
#[test]
fn refusals() {
    for (text, why, hint) in [
        ("", "Dockerfile: the Dockerfile is empty", "begin with FROM"),
        ("# only\n\n", "Dockerfile: the Dockerfile is empty", "begin with FROM"),
        ("ARG a", "Dockerfile: there is no FROM", "begin with FROM"),
        (
            "RUN a\nFROM b",
            "Dockerfile:1:1: RUN before the first FROM",
            "begins with FROM",
        ),
        (
            "FROM a\n  RUNN b",
            "Dockerfile:2:3: unknown instruction 'RUNN'",
            "did you mean RUN?",
        ),
        (
            "FROM a\nWORKDR /",
            "Dockerfile:2:1: unknown instruction 'WORKDR'",
            "did you mean WORKDIR?",
        ),
        (
            "FROM a\napt-get install",
            "Dockerfile:2:1: unknown instruction 'apt-get'",
            "ends with a backslash",
        ),
        (
            "FROM",
            "Dockerfile:1:1: FROM requires either one or three arguments",
            "",
        ),
        (
            "FROM a b",
            "Dockerfile:1:6: FROM requires either one or three arguments",
            "AS name",
        ),
        (
            "FROM a AS 1b",
            "Dockerfile:1:11: invalid name for build stage: '1b'",
            "begins with a letter",
        ),
        ("FROM a AS b/c", "Dockerfile:1:11: invalid name for build stage", ""),
        (
            "FROM --platfrom=x a",
            "Dockerfile:1:6: unknown flag --platfrom",
            "did you mean --platform?",
        ),
        (
            "FROM --platform a",
            "Dockerfile:1:6: --platform needs a value",
            "--platform=VALUE",
        ),
        (
            "FROM a\nCOPY --form=b c d",
            "Dockerfile:2:6: unknown flag --form",
            "did you mean --from?",
        ),
        (
            "FROM a\nCOPY --from=$b c d",
            "Dockerfile:2:13: --from does not take variables",
            "FROM … AS",
        ),
        (
            "FROM a\nCOPY --link=maybe c d",
            "Dockerfile:2:6: --link is true or false, not 'maybe'",
            "",
        ),
        (
            "FROM a\nCOPY --chown=a --chown=b c d",
            "Dockerfile:2:16: --chown stands there twice",
            "",
        ),
        (
            "FROM a\nCOPY a",
            "Dockerfile:2:6: COPY requires at least two arguments, but only one was provided",
            "SOURCE",
        ),
        ("FROM a\nADD", "Dockerfile:2:1: ADD requires at least two arguments", ""),
        (
            "FROM a\nCOPY [\"a\", 1]",
            "arrays must be comprised of strings only",
            "",
        ),
        (
            "FROM a\nCOPY a <<b\nb",
            "Dockerfile:2:8: COPY can't write to a heredoc",
            "",
        ),
        ("FROM a\nCOPY --from=b <<c /\nc", "a heredoc does not come from 'b'", ""),
        ("FROM a\nRUN", "Dockerfile:2:1: RUN requires at least one argument", ""),
        ("FROM a\nRUN []", "RUN requires at least one argument", ""),
        (
            "FROM a\nRUN --nework=none b",
            "Dockerfile:2:5: unknown flag --nework",
            "--network",
        ),
        (
            "FROM a\nRUN --network=bridge b",
            "Dockerfile:2:15: unknown network 'bridge'",
            "host",
        ),
        ("FROM a\nRUN --security=x b", "unknown security mode 'x'", "insecure"),
        (
            "FROM a\nCMD --x",
            "Dockerfile:2:5: unknown flag --x",
            "CMD has no flags",
        ),
        (
            "FROM a\nRUN <<EOF\nb",
            "Dockerfile:2:5: unterminated heredoc 'EOF'",
            "only EOF",
        ),
        ("FROM a\nENV", "Dockerfile:2:1: ENV requires at least one argument", ""),
        (
            "FROM a\nENV b",
            "Dockerfile:2:5: ENV must have two arguments",
            "NAME=value",
        ),
        ("FROM a\nENV b=1 c", "Dockerfile:2:9: can't find = in 'c'", "quotes"),
        ("FROM a\nENV =1", "Dockerfile:2:5: ENV names can not be blank", ""),
        (
            "FROM a\nLABEL b=\"c",
            "Dockerfile:2:9: '\"c': a double quote is not closed",
            "",
        ),
        (
            "FROM a\nENV b=${c",
            "Dockerfile:2:7: '${c': syntax error: missing '}'",
            "",
        ),
        ("FROM a\nARG =1", "Dockerfile:2:5: ARG names can not be blank", ""),
        ("FROM a\nUSER", "Dockerfile:2:1: USER requires exactly one argument", ""),
        (
            "FROM a\nEXPOSE x",
            "Dockerfile:2:8: invalid containerPort: 'x'",
            "53/udp",
        ),
        ("FROM a\nSTOPSIGNAL x", "Dockerfile:2:12: invalid signal 'x'", "SIGTERM"),
        (
            "FROM a\nVOLUME [\"\"]",
            "VOLUME specified can not be an empty string",
            "",
        ),
        (
            "FROM a\nSHELL /bin/sh -c",
            "SHELL requires the arguments to be in JSON form",
            "/bin/bash",
        ),
        (
            "FROM a\nSHELL []",
            "SHELL requires the arguments to be in JSON form",
            "",
        ),
        ("FROM a\nHEALTHCHECK", "HEALTHCHECK requires at least one argument", ""),
        ("FROM a\nHEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD", ""),
        (
            "FROM a\nHEALTHCHECK curl",
            "unknown type 'CURL' in HEALTHCHECK",
            "HEALTHCHECK CMD",
        ),
        ("FROM a\nHEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments", ""),
        (
            "FROM a\nHEALTHCHECK --interval=1 CMD x",
            "Dockerfile:2:24: --interval '1': not a duration",
            "30s",
        ),
        ("FROM a\nHEALTHCHECK --timeout=1us CMD x", "cannot be less than 1ms", ""),
        ("FROM a\nHEALTHCHECK --retries=-1 CMD x", "--retries is a number", ""),
        (
            "FROM a\nONBUILD ONBUILD RUN b",
            "Dockerfile:2:9: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
            "",
        ),
        ("FROM a\nONBUILD FROM b", "FROM isn't allowed as an ONBUILD trigger", ""),
        ("FROM a\nONBUILD", "ONBUILD requires at least one argument", ""),
        (
            "FROM a\nONBUILD CPY a b",
            "Dockerfile:2:9: unknown instruction 'CPY'",
            "did you mean COPY?",
        ),
        (
            "FROM a\ninsert http://x /y",
            "INSERT has been deprecated. Please use ADD instead",
            "ADD URL",
        ),
        (
            "FROM a\nRUN --mount=type=cahce,target=/x y",
            "Dockerfile:2:13: --mount: unknown type 'cahce'",
            "did you mean cache?",
        ),
        ("FROM a\nRUN --mount=type=cache y", "a cache mount needs a target", ""),
        (
            "FROM a\nRUN --mount=tagret=/x y",
            "--mount: unknown option 'tagret'",
            "did you mean target?",
        ),
        ("FROM a\nRUN --mount=target y", "--mount: 'target' needs a value", ""),
        (
            "FROM a\nRUN --mount=type=bind,target=/x,sharing=locked y",
            "a bind mount has no sharing",
            "",
        ),
        (
            "FROM a\nRUN --mount=type=bind,target=/x,uid=1 y",
            "a bind mount has no mode, uid or gid",
            "",
        ),
        (
            "FROM a\nRUN --mount=type=cache,target=/x,mode=999 y",
            "mode is an octal mode, not '999'",
            "",
        ),
        (
            "FROM a\nRUN --mount=type=tmpfs,target=/x,size=big y",
            "size is a size like 64m, not 'big'",
            "",
        ),
        (
            "FROM a\nRUN --mount=type=secret y",
            "a secret mount needs an id or a target",
            "",
        ),
        (
            "FROM a\nRUN --mount=from=$b,target=/x y",
            "from does not take variables",
            "FROM … AS",
        ),
        ("# escape=x\nFROM a", "Dockerfile:1:10: invalid escape token 'x'", "`"),
        (
            "# syntax=a\n# syntax=b\nFROM a",
            "Dockerfile:2:1: only one syntax parser directive can be used",
            "",
        ),
        ("# check=skp=a\nFROM a", "invalid check option 'skp=a'", "error=true"),
    ] {
        let e = dockerfile(text).err().unwrap_or_else(|| panic!("{text:?} was taken"));
        assert!(e.to_string().contains(why), "{text:?}: {e}");
        assert!(e.hint().unwrap_or_default().contains(hint), "{text:?}: {:?}", e.hint());
        let place = why.split(':').nth(1).is_some_and(|p| p.parse::<u32>().is_ok());
        assert!(!place || e.shown().is_some(), "{text:?}");
    }
}

#[test]
fn oddities_are_noted() {
    let text = "from a AS b\nMAINTAINER m\nENV a b\nCMD ['x']\nRUN a \\\n\n b";
    let oddities = dockerfile(text).unwrap().oddities;
    let shown: Vec<String> = oddities.iter().map(|(p, o)| format!("{} {o:?}", p.line)).collect();
    assert_eq!(
        shown,
        [
            "1 KeywordCasing(\"from\")",
            "1 AsCasing { from: \"from\", word: \"AS\" }",
            "3 OldPair(Env)",
            "4 BrokenJson(Cmd)",
            "6 EmptyContinuation",
        ]
    );
}
