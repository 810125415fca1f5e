//! Scopes: whole Dockerfiles, and what becomes of their instructions.

use super::*;
use crate::build::parser::parse;

fn platforms() -> Platforms {
    Platforms {
        build: Platform::new("linux", "amd64", ""),
        target: Platform::new("linux", "arm", "v7"),
        stage: "default".into(),
    }
}

fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

struct Done {
    last: Expanded,
    scope: Scope,
}

/// All instructions of the only stage, on a base with `B=base`.
fn run(text: &str, args: &[(&str, &str)]) -> Result<Done> {
    let dockerfile = parse("Dockerfile", text.as_bytes())?;
    let globals = Globals::new(&dockerfile, &given(args), &platforms())?;
    let mut scope = Scope::stage(&globals, &["PATH=/bin".into(), "B=base".into()]);
    let mut last = None;
    for statement in &dockerfile.stages[0].statements {
        last = Some(scope.statement(statement)?);
    }
    Ok(Done {
        last: last.unwrap(),
        scope,
    })
}

fn env_of(text: &str, args: &[(&str, &str)]) -> Vec<String> {
    let env = run(text, args).unwrap().scope.run_env();
    env.iter().map(|e| e.to_string_lossy().into_owned()).collect()
}

#[test]
fn scopes() {
    for (text, args, want) in [
        (
            "FROM x\nENV A=1 C=$A",
            &[][..],
            &["PATH=/bin", "B=base", "A=1", "C="][..],
        ),
        (
            "FROM x\nENV A=1\nENV A=2 C=$A$B",
            &[],
            &["PATH=/bin", "B=base", "A=2", "C=1base"],
        ),
        ("FROM x\nENV PATH=$PATH:/x", &[], &["PATH=/bin:/x", "B=base"]),
        ("FROM x\nARG A=1\nENV C=$A", &[], &["A=1", "PATH=/bin", "B=base", "C=1"]),
        ("FROM x\nARG A=1", &[("A", "2")], &["A=2", "PATH=/bin", "B=base"]),
        ("FROM x\nARG A", &[], &["PATH=/bin", "B=base"]),
        ("FROM x\nARG A", &[("A", "")], &["A=", "PATH=/bin", "B=base"]),
        // ENV wins, be it before or after, or the base's.
        (
            "FROM x\nARG A=1\nENV A=2",
            &[("A", "3")],
            &["PATH=/bin", "B=base", "A=2"],
        ),
        (
            "FROM x\nENV A=2\nARG A=1",
            &[("A", "3")],
            &["PATH=/bin", "B=base", "A=2"],
        ),
        ("FROM x\nARG B=1", &[("B", "3")], &["PATH=/bin", "B=base"]),
        ("FROM x\nARG A=1 C=$A", &[], &["A=1", "C=1", "PATH=/bin", "B=base"]),
        ("FROM x\nARG A=1\nARG A=2", &[], &["A=2", "PATH=/bin", "B=base"]),
        ("FROM x\nARG A=\"b c\"", &[], &["A=b c", "PATH=/bin", "B=base"]),
        // The value of the caller is taken as it is.
        ("FROM x\nARG A", &[("A", "$B'\"")], &["A=$B'\"", "PATH=/bin", "B=base"]),
        // The global scope.
        ("ARG G=1\nFROM x\nENV A=$G", &[], &["PATH=/bin", "B=base", "A="]),
        (
            "ARG G=1\nFROM x\nARG G\nENV A=$G",
            &[],
            &["G=1", "PATH=/bin", "B=base", "A=1"],
        ),
        ("ARG G=1\nFROM x\nARG G=2", &[], &["G=2", "PATH=/bin", "B=base"]),
        (
            "ARG G=1\nFROM x\nARG G=2",
            &[("G", "3")],
            &["G=3", "PATH=/bin", "B=base"],
        ),
        (
            "ARG G=1\nARG H=$G$G\nFROM x\nARG H",
            &[],
            &["H=11", "PATH=/bin", "B=base"],
        ),
        // Platforms.
        (
            "FROM x\nARG TARGETARCH\nARG TARGETVARIANT",
            &[],
            &["TARGETARCH=arm", "TARGETVARIANT=v7", "PATH=/bin", "B=base"],
        ),
        (
            "FROM x\nARG TARGETARCH=mine",
            &[],
            &["TARGETARCH=mine", "PATH=/bin", "B=base"],
        ),
        (
            "FROM x\nARG BUILDPLATFORM",
            &[("BUILDPLATFORM", "o")],
            &["BUILDPLATFORM=o", "PATH=/bin", "B=base"],
        ),
        ("FROM x\nENV A=$TARGETARCH", &[], &["PATH=/bin", "B=base", "A="]),
        (
            "FROM x\nENV A the  \"rest\" $B",
            &[],
            &["PATH=/bin", "B=base", "A=the  rest base"],
        ),
    ] {
        assert_eq!(env_of(text, args), want, "{text} {args:?}");
    }
}

#[test]
fn from_lines() {
    let dockerfile = parse("D", b"ARG V=12\nARG N\nFROM --platform=$BUILDPLATFORM debian:${V:-1}$X").unwrap();
    let globals = Globals::new(
        &dockerfile,
        &given(&[("V", "13"), ("ODD", "1"), ("HTTP_PROXY", "")]),
        &platforms(),
    )
    .unwrap();
    let stage = &dockerfile.stages[0];
    let base = globals.text_of_from(&stage.base).unwrap();
    assert_eq!(base.text, "debian:13");
    assert_eq!(base.unset.into_iter().collect::<Vec<_>>(), ["X"]);
    assert_eq!(
        globals.text_of_from(stage.platform.as_ref().unwrap()).unwrap().text,
        "linux/amd64"
    );
    assert!(globals.is_declared("N") && globals.is_declared("TARGETOS") && !globals.is_declared("X"));
    assert_eq!(globals.unused(&dockerfile), ["ODD"]);
}

#[test]
fn what_an_instruction_read() {
    let done = run("FROM x\nARG A=1 Z\nARG D\nENV E=1\nLABEL a=$A$E$B$NONE", &[]).unwrap();
    assert_eq!(done.last.used.into_iter().collect::<Vec<_>>(), ["A"]);
    assert_eq!(done.last.unset.into_iter().collect::<Vec<_>>(), ["NONE"]);
    assert_eq!(done.scope.run_args(), [("A".to_owned(), "1".to_owned())]);
    assert_eq!(
        (done.scope.get("A"), done.scope.get("E"), done.scope.get("D")),
        (Some("1"), Some("1"), None)
    );
    let done = run("FROM x\nARG D\nLABEL a=$D", &[]).unwrap();
    assert!(done.last.used.contains("D") && done.last.unset.contains("D"));
    let done = run(
        "FROM x\nARG http_proxy\nARG B\nARG A\nRUN x",
        &[("http_proxy", "p"), ("A", "2"), ("B", "3")],
    )
    .unwrap();
    assert_eq!(done.scope.run_args(), [("A".to_owned(), "2".to_owned())]);
}

/// Every instruction's text after expansion, in one line.
fn shown(text: &str) -> String {
    let done = run(&format!("FROM x\nARG V=v\nARG P=/p\n{text}"), &[]).unwrap_or_else(|e| panic!("{text}: {e}"));
    match done.last.statement.instruction {
        Instruction::Add(t) | Instruction::Copy(t) => {
            let words: Vec<&str> = t.sources.iter().map(|w| &**w).chain([&*t.target]).collect();
            let inline: Vec<String> = t.inline.iter().map(|h| format!("{}={}", h.name, h.content())).collect();
            let flags = [&t.chown, &t.chmod, &t.checksum, &t.from];
            let flags: Vec<&str> = flags.into_iter().flatten().chain(&t.excludes).map(|w| &**w).collect();
            format!("{words:?} {inline:?} {flags:?}")
        }
        Instruction::Label(pairs) | Instruction::Env(pairs) => format!("{pairs:?}"),
        Instruction::Expose(w) | Instruction::Volume(w) => format!("{w:?}"),
        Instruction::User(w) | Instruction::Workdir(w) | Instruction::Stopsignal(w) | Instruction::Maintainer(w) => {
            w.text
        }
        Instruction::Run(run) => format!(
            "{:?} {:?}",
            run.command,
            run.mounts.iter().map(|m| &m.kind).collect::<Vec<_>>()
        ),
        other => format!("{other:?}"),
    }
}

#[test]
fn where_variables_are_replaced_and_where_not() {
    for (text, want) in [
        ("USER $V:1", "v:1"),
        ("WORKDIR $P/\"a b\"", "/p/a b"),
        ("STOPSIGNAL SIG${NONE:-TERM}", "SIGTERM"),
        ("VOLUME $P /x$V", "[\"/p\", \"/xv\"]"),
        ("VOLUME [\"$P\", \"/a b\"]", "[\"/p\", \"/a b\"]"),
        ("EXPOSE 80 ${NONE:-53/UDP} 1-3", "[\"1-3\", \"53/UDP\", \"80\"]"),
        (
            "EXPOSE 127.0.0.1:8080:80/tcp 80 80",
            "[\"127.0.0.1:8080:80/tcp\", \"80\"]",
        ),
        ("MAINTAINER $V <v@x>", "$V <v@x>"),
        (
            "COPY --chown=$V --chmod=0$V --exclude=*.$V a$V '$P' $P/",
            "[\"av\", \"$P\", \"/p/\"] [] [\"v\", \"0v\", \"*.v\"]",
        ),
        ("COPY [\"a $V\", \"$P\"]", "[\"a v\", \"/p\"] [] []"),
        ("COPY --from=x a\\$V b", "[\"a$V\", \"b\"] [] [\"x\"]"),
        (
            "COPY <<$V <<'W' /x/\n$V it's\\$V\n$V\n$V\nW",
            "[\"/x/\"] [\"$V=v it's$V\\n\", \"W=$V\\n\"] []",
        ),
        (
            "ADD --checksum=sha256:$V https://x/$V /",
            "[\"https://x/v\", \"/\"] [] [\"sha256:v\"]",
        ),
        (
            "LABEL $V=$V 'a b'=\"$P\"",
            "[Pair { name: \"v\", value: \"v\" }, Pair { name: \"a b\", value: \"/p\" }]",
        ),
        ("RUN echo $V", "Shell(\"echo $V\") []"),
        ("CMD echo $V", "Cmd(Shell(\"echo $V\"))"),
        ("ENTRYPOINT [\"$V\"]", "Entrypoint(Exec([\"$V\"]))"),
        ("SHELL [\"$V\"]", "Shell([\"$V\"])"),
        (
            "RUN --mount=type=tmpfs,target=$P,size=${NONE:-1k} x",
            "Shell(\"x\") [Tmpfs { target: \"/p\", size: Some(1024) }]",
        ),
    ] {
        assert_eq!(shown(text), want, "{text}");
    }
}

#[test]
fn what_only_shows_with_the_values() {
    for (text, why) in [
        ("STOPSIGNAL $V", "Dockerfile:3:12: invalid signal 'v'"),
        ("EXPOSE $V", "Dockerfile:3:8: invalid containerPort: 'v'"),
        ("EXPOSE 0 1", "Dockerfile:3:8: invalid containerPort: '0'"),
        ("EXPOSE 9-8", "invalid containerPort"),
        ("EXPOSE 80/http", "invalid containerPort"),
        ("USER $NONE", "USER is empty"),
        ("WORKDIR ${NONE:?tell me where}", "NONE: tell me where"),
        ("COPY a $NONE", "the destination is empty"),
        ("ENV $NONE=1", "ENV names can not be blank"),
        ("RUN --mount=type=$V,target=/x y", "unknown type 'v'"),
        ("COPY <<E /x\n${a\nE", "Dockerfile:3:6: unsupported modifier (\\n)"),
    ] {
        let e = run(&format!("FROM x\nARG V=v\n{text}"), &[])
            .err()
            .map(|e| e.to_string());
        assert!(e.as_ref().is_some_and(|e| e.contains(why)), "{text}: {e:?}");
    }
}

#[test]
fn ports_one_by_one() {
    for (text, want) in [
        ("80", "80/tcp"),
        ("8-10/UDP", "8/udp 9/udp 10/udp"),
        ("127.0.0.1:8080:80/tcp", "80/tcp"),
    ] {
        assert_eq!(exposed(text).unwrap().join(" "), want, "{text}");
    }
}
