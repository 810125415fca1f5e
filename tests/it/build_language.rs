//! The language of Dockerfiles as a user meets it: mistakes, checks, output.

use crate::support::Host;
use std::fs;
use std::path::PathBuf;

/// A context with this Dockerfile in it.
fn context(host: &Host, name: &str, dockerfile: &str) -> PathBuf {
    let dir = host.scratch().join(name);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("Dockerfile"), dockerfile).unwrap();
    dir
}

#[test]
fn a_mistake_is_shown_before_anything_is_done() {
    let host = Host::bare();
    for (n, (dockerfile, says)) in [
        (
            "FROM scratch\nRUNN make\n",
            &[
                "Dockerfile:2:1: unknown instruction 'RUNN'",
                "  2 | RUNN make",
                "^^^^",
                "hint: did you mean RUN?",
            ][..],
        ),
        ("", &["the Dockerfile is empty"]),
        (
            "FROM scratch AS a\nCOPY --from=b x /\nFROM scratch AS b\nCOPY --from=a x /\n",
            &["Dockerfile:2:13: circular dependency detected on stage: b"],
        ),
        (
            "FROM scratch\nCOPY --from=7 x /\n",
            &["Dockerfile:2:13: there is no stage 7"],
        ),
        ("FROM scratch\nENV a=${b\n", &["Dockerfile:2:7:", "missing '}'"]),
        (
            "FROM scratch\nRUN <<EOF\nx\n",
            &["Dockerfile:2:5: unterminated heredoc 'EOF'"],
        ),
        (
            "FROM scratch\nINSERT http://x /y\n",
            &["INSERT has been deprecated. Please use ADD instead"],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let dir = context(&host, &format!("c{n}"), dockerfile);
        let dir = dir.to_str().unwrap();
        let failed = host.run(["build", dir]).fails(1).says(&[]);
        for part in says {
            assert!(failed.err().contains(part), "{part}: {}", failed.err());
        }
    }
    let dir = context(&host, "target", "FROM scratch AS build\n");
    let dir = dir.to_str().unwrap();
    let failed = host.run(["build", "--target", "biuld", dir]).fails(1);
    let failed = failed.says(&["target stage \"biuld\" could not be found"]);
    assert!(failed.err().contains("did you mean build?"), "{}", failed.err());
    let odd = host.scratch().join("odd");
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join("Dockerfile"), b"FROM scratch\nRUN \xff\n").unwrap();
    host.run(["build", odd.to_str().unwrap()])
        .fails(1)
        .says(&["Dockerfile:2:5: byte 0xff is not UTF-8"]);
    host.run(["build", "-t", "A", dir]).fails(1);
    host.run(["build"]).fails(125);
}

#[test]
fn check_finds_what_is_likely_not_meant() {
    let host = Host::bare();
    let dir = context(&host, "bad", "FROM scratch\nMAINTAINER me\nCMD run it\n");
    let out = host.run(["build", "--check", dir.to_str().unwrap()]).fails(1).text();
    for line in [
        "Dockerfile:2:1: MaintainerDeprecated: ",
        "Dockerfile:3:1: JSONArgsRecommended: ",
        "2 warnings have been found",
    ] {
        assert!(out.contains(line), "{out}");
    }
    let dir = context(
        &host,
        "good",
        "# check=skip=MaintainerDeprecated\nFROM scratch\nMAINTAINER me\n",
    );
    let out = host.run(["build", "--check", dir.to_str().unwrap()]).ok().text();
    assert_eq!(out, "Check complete, no warnings found.");
    // Nothing was built.
    assert_eq!(host.text("images -qa"), "");
}
