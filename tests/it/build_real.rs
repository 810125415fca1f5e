//! Builds that people have: a distribution's packages installed, a Python and a Rust program made in one stage and
//! shipped from another. They take Debian's packages from where the host takes them.

use crate::build_run::nothing_is_left_with;
use crate::support::{Host, Output, debian_tar, seconds};
use std::fs;

/// Longest that installing a compiler may take on a busy machine, in seconds.
const PATIENCE: u64 = 900;

/// Builds `dockerfile` with the files in its context, under the name `made`.
fn build(host: &Host, dockerfile: &str, files: &[(&str, &str)]) -> Output {
    let dir = host.scratch().join("context");
    fs::create_dir_all(&dir).unwrap();
    for (name, content) in [("Dockerfile", dockerfile)].iter().chain(files) {
        fs::write(dir.join(name), content).unwrap();
    }
    // In the machine's own network, which the packages come by; only this thread has left it.
    let machine = format!("--net=/proc/{}/ns/net", std::process::id());
    host.barge(["build", "--network", "host", "-t", "made", dir.to_str().unwrap()])
        .wrapped(["nsenter".to_owned(), machine])
        .timeout(seconds(PATIENCE))
        .run()
}

#[test]
fn python_with_debians_packages() {
    let host = Host::new();
    host.import("debian", &debian_tar());
    let dockerfile = "FROM debian AS python\n\
        RUN --mount=type=cache,target=/var/cache/apt --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \\\n\
        \x20 rm -f /etc/apt/apt.conf.d/docker-clean && apt-get update -q && \\\n\
        \x20 DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3\n\
        FROM python AS packed\nWORKDIR /src\nCOPY app.py __main__.py\nRUN python3 -m zipapp -o /app.pyz -p '/usr/bin/env python3' .\n\
        FROM python\nCOPY --from=packed --chown=nobody --chmod=555 /app.pyz /usr/local/bin/app\nUSER nobody\n\
        ENTRYPOINT [\"app\"]\nCMD [\"3\", \"4\"]\n";
    let app = "import os, ssl, sys\nprint(os.getuid(), sum(map(int, sys.argv[1:])), bool(ssl.OPENSSL_VERSION))\n";
    let installed = "Setting up python3-minimal";
    let first = build(&host, dockerfile, &[("app.py", app)]).ok();
    assert!(first.text().contains(installed), "{}", first.text());
    assert_eq!(host.text("run --rm made"), "65534 7 True");
    assert_eq!(host.text("run --rm made 20 22"), "65534 42 True");
    // The caches are no part of the image, and dpkg's own word is that the rest is as it was installed.
    let lists = ["ls", "-R", "/var/lib/apt/lists"];
    let run = |image, command: &[&str]| {
        host.text([&["run", "--rm", "--entrypoint", command[0], image], &command[1..]].concat())
    };
    assert_eq!(run("made", &lists), run("debian", &lists));
    assert_eq!(run("made", &["dpkg", "--audit"]), "");
    assert_eq!(run("made", &["dpkg", "--verify", "python3-minimal", "libc6"]), "");
    let again = build(&host, dockerfile, &[("app.py", &app.replace("sum", "max"))])
        .ok()
        .text();
    assert!(!again.contains(installed), "{again}");
    assert_eq!(host.text("run --rm made"), "65534 4 True");
    nothing_is_left_with(&host, "debian");
}

#[test]
fn rust_from_a_compiler_to_scratch() {
    let host = Host::new();
    host.import("debian", &debian_tar());
    let dockerfile = "FROM debian AS compiler\nENV DEBIAN_FRONTEND=noninteractive\n\
        RUN apt-get update -q && apt-get install -q -y --no-install-recommends rustc gcc libc6-dev && apt-get clean\n\
        FROM compiler AS made\nARG GREETING=none\nRUN mkdir /out\n\
        RUN --mount=type=bind,target=/src GREETING=$GREETING rustc -O -C target-feature=+crt-static -o /out/hello /src/hello.rs\n\
        FROM made AS tested\nRUN test \"$(/out/hello)\" = \"hello from none\" && touch /passed\n\
        FROM scratch\nCOPY --from=tested /passed /passed\nCOPY --from=made /out/ /\nENTRYPOINT [\"/hello\"]\n";
    let program = "fn main() {\n    println!(\"hello from {}\", env!(\"GREETING\"));\n}\n";
    build(&host, dockerfile, &[("hello.rs", program)]).ok();
    assert_eq!(host.text("run --rm made"), "hello from none");
    let container = host.text("create made");
    let tree = host.run(["export", container.as_str()]).ok().stdout;
    let mut tree = tar::Archive::new(&*tree);
    let paths = tree.entries().unwrap().map(|e| e.unwrap().path().unwrap().into_owned());
    let programs: Vec<_> = paths.filter(|p| p.starts_with("usr") || p.starts_with("out")).collect();
    assert!(programs.is_empty(), "{programs:?}");
    host.text(["rm", container.as_str()]);
    nothing_is_left_with(&host, "debian");
}
