//! The image that docker's builders make of the same Dockerfile: what docker 20.10's classic builder said was recorded,
//! podman's (buildah's) is asked. And builds beside which something else goes on.

use crate::build_run::{build, context, inspect, nothing_is_left};
use crate::support::http::respond;
use crate::support::registry::leave_the_machine;
use crate::support::{Host, content, seconds, wait_until};
use serde_json::{Value, json};
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const ALL: &str = "FROM busybox\nMAINTAINER Me <me@x>\nARG V=1\nARG W\nENV A=1 B=\"two words\" C=$V\nENV OLD style value\n\
    LABEL l1=v1 \"l 2\"=\"v 2\"\nEXPOSE 80 443/tcp 53/udp 8000-8002\nEXPOSE 9000-9001/UDP\nWORKDIR /app\nWORKDIR rel\n\
    COPY a dir/b* /copied/\nCOPY a /single\nCOPY dir /app\nCOPY --chown=1:2 dir/sub /owned/\nADD arch.tgz /unpacked/\n\
    ADD a /added/\nRUN echo run > /run.txt && echo $V\nRUN [\"/bin/sh\",\"-c\",\"echo exec > /exec.txt\"]\nRUN true\n\
    USER 1:2\nRUN id\nUSER root\nVOLUME /vol /vol2\nVOLUME [\"/vol3\"]\nSTOPSIGNAL 9\n\
    HEALTHCHECK --interval=5s --timeout=3s --retries=2 CMD true || false\nSHELL [\"/bin/sh\",\"-ec\"]\n\
    RUN echo shell > /shell\nENTRYPOINT echo ep\nCMD [\"x\",\"y z\"]\nENTRYPOINT [\"/bin/echo\"]\nONBUILD RUN echo trig\n\
    ONBUILD COPY . /x\n";

/// The history, without digests; `-` marks an entry without a layer. Docker 20.10 has no blank behind `--chown=1:2`,
/// no start interval in HEALTHCHECK, says `dir:` where a directory was copied, and leaves the steps that changed nothing without a mark.
const HISTORY: &[&str] = &[
    "-/bin/sh -c #(nop)  MAINTAINER Me <me@x>",
    "-/bin/sh -c #(nop)  ARG V=1",
    "-/bin/sh -c #(nop)  ARG W",
    "-/bin/sh -c #(nop)  ENV A=1 B=two words C=1",
    "-/bin/sh -c #(nop)  ENV OLD=style value",
    "-/bin/sh -c #(nop)  LABEL l1=v1 l 2=v 2",
    "-/bin/sh -c #(nop)  EXPOSE 443/tcp 53/udp 80 8000-8002",
    "-/bin/sh -c #(nop)  EXPOSE 9000-9001/UDP",
    " /bin/sh -c #(nop) WORKDIR /app",
    " /bin/sh -c #(nop) WORKDIR /app/rel",
    " /bin/sh -c #(nop) COPY multi:HASH in /copied/ ",
    " /bin/sh -c #(nop) COPY file:HASH in /single ",
    " /bin/sh -c #(nop) COPY file:HASH in /app ",
    " /bin/sh -c #(nop) COPY --chown=1:2 file:HASH in /owned/ ",
    " /bin/sh -c #(nop) ADD file:HASH in /unpacked/ ",
    " /bin/sh -c #(nop) ADD file:HASH in /added/ ",
    " |1 V=1 /bin/sh -c echo run > /run.txt && echo $V",
    " |1 V=1 /bin/sh -c echo exec > /exec.txt",
    "-|1 V=1 /bin/sh -c true",
    "-/bin/sh -c #(nop)  USER 1:2",
    "-|1 V=1 /bin/sh -c id",
    "-/bin/sh -c #(nop)  USER root",
    "-/bin/sh -c #(nop)  VOLUME [/vol /vol2]",
    "-/bin/sh -c #(nop)  VOLUME [/vol3]",
    "-/bin/sh -c #(nop)  STOPSIGNAL 9",
    "-/bin/sh -c #(nop)  HEALTHCHECK &{[\"CMD-SHELL\" \"true || false\"] \"5s\" \"3s\" \"0s\" \"0s\" '\\x02'}",
    "-/bin/sh -ec #(nop)  SHELL [/bin/sh -ec]",
    " |1 V=1 /bin/sh -ec echo shell > /shell",
    "-/bin/sh -ec #(nop)  ENTRYPOINT [\"/bin/sh\" \"-ec\" \"echo ep\"]",
    "-/bin/sh -ec #(nop)  CMD [\"x\" \"y z\"]",
    "-/bin/sh -ec #(nop)  ENTRYPOINT [\"/bin/echo\"]",
    "-/bin/sh -ec #(nop)  ONBUILD RUN echo trig",
    "-/bin/sh -ec #(nop)  ONBUILD COPY . /x",
];

/// What ALL copies.
fn fill(dir: &Path) {
    fs::create_dir_all(dir.join("dir/sub")).unwrap();
    fs::create_dir_all(dir.join("dir/empty")).unwrap();
    for (name, text) in [("a", "hi"), ("dir/b", "x"), ("dir/sub/c", "y")] {
        fs::write(dir.join(name), text).unwrap();
    }
    std::os::unix::fs::symlink("b", dir.join("dir/l")).unwrap();
    fs::hard_link(dir.join("dir/b"), dir.join("dir/hard")).unwrap();
    let tar = crate::support::Tar::new().file("in", 0o640, "in").bytes();
    fs::write(dir.join("arch.tgz"), content::gzip(&tar)).unwrap();
}

fn config(host: &Host) -> Value {
    let mut file = host.run("save made").ok();
    let mut archive = tar::Archive::new(&file.stdout[..]);
    let mut files = std::collections::BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(name, bytes);
    }
    file.stdout.clear();
    let manifest: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    serde_json::from_slice(&files[manifest[0]["Config"].as_str().unwrap()]).unwrap()
}

/// `COPY dir:0123…` as `COPY dir:HASH`.
fn without_digests(text: &str) -> String {
    let mut out = text.to_owned();
    for kind in ["file:", "dir:", "multi:"] {
        if let Some(at) = out.find(kind)
            && let Some(hash) = out.get(at + kind.len()..at + kind.len() + 64)
            && hash.bytes().all(|b| b.is_ascii_hexdigit())
        {
            out = out.replace(hash, "HASH");
        }
    }
    out
}

#[test]
fn config_and_history_are_docker_s() {
    let host = Host::busybox();
    fill(&context(&host, ALL));
    build(&host, &["--network", "none"], ALL).ok();
    let made = config(&host);
    let history = made["history"].as_array().unwrap();
    let said: Vec<String> = history
        .iter()
        .map(|h| {
            let mark = if h["empty_layer"] == true { "-" } else { " " };
            format!(
                "{mark}{}",
                without_digests(h["created_by"].as_str().unwrap_or_default())
            )
        })
        .collect();
    let base = said.len() - HISTORY.len();
    assert_eq!(said[base..], *HISTORY);
    assert!(history[base..].iter().all(|h| h["author"] == "Me <me@x>"));
    let config = &made["config"];
    let empty = |names: &[&str]| -> Value {
        names
            .iter()
            .map(|n| ((*n).to_owned(), json!({})))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    for (name, want) in [
        ("Cmd", json!(["x", "y z"])),
        ("Entrypoint", json!(["/bin/echo"])),
        ("Labels", json!({"l1": "v1", "l 2": "v 2"})),
        ("OnBuild", json!(["RUN echo trig", "COPY . /x"])),
        ("Shell", json!(["/bin/sh", "-ec"])),
        ("StopSignal", json!("9")),
        ("User", json!("root")),
        ("WorkingDir", json!("/app/rel")),
        ("Volumes", empty(&["/vol", "/vol2", "/vol3"])),
        (
            "ExposedPorts",
            empty(&[
                "80/tcp", "443/tcp", "53/udp", "8000/tcp", "8001/tcp", "8002/tcp", "9000/udp", "9001/udp",
            ]),
        ),
        (
            "Healthcheck",
            json!({"Test": ["CMD-SHELL", "true || false"], "Interval": 5_000_000_000_i64, "Timeout": 3_000_000_000_i64, "Retries": 2}),
        ),
    ] {
        assert_eq!(config[name], want, "{name}");
    }
    let env: Vec<&str> = config["Env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e.as_str().unwrap())
        .collect();
    assert_eq!(env[1..], ["A=1", "B=two words", "C=1", "OLD=style value"]);
}

/// Names, kinds, modes, owners, sizes and links of all that is in an image's archive of one tree.
fn listed(bytes: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(bytes);
    let mut all: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let head = entry.header();
            let name = entry.path().unwrap().display().to_string();
            let link = entry
                .link_name()
                .unwrap()
                .map(|l| l.display().to_string())
                .unwrap_or_default();
            format!(
                "{} {:?} {:o} {}:{} {} {}",
                name.trim_start_matches("./").trim_end_matches('/'),
                head.entry_type(),
                head.mode().unwrap() & 0o7777,
                head.uid().unwrap(),
                head.gid().unwrap(),
                head.size().unwrap(),
                link.trim_start_matches("./"),
            )
        })
        // What an engine makes for its own mounts, and the root's own entry.
        .filter(|line| {
            let name = line.split(' ').next().unwrap_or_default();
            !["", ".", "dev", "proc", "sys", "run", "etc", "vol", "vol2", "vol3"]
                .contains(&name.split('/').next().unwrap())
        })
        .collect();
    all.sort();
    all
}

#[test]
fn the_tree_is_buildah_s() {
    let host = Host::busybox();
    let dir = context(&host, ALL);
    fill(&dir);
    // podman 4 has no --retries with a plain number of another builder, and asks for no network this way.
    build(&host, &["--network", "none"], ALL).ok();
    let place = |name: &str| host.scratch().join(name).display().to_string();
    let podman = |line: &str| {
        let out = Command::new("podman")
            .args([
                "--root",
                &place("storage"),
                "--runroot",
                &place("prun"),
                "--storage-driver",
                "vfs",
            ])
            .args(["--tmpdir", &place("ptmp"), "--events-backend", "none"])
            .args(line.split(' '))
            .env("BUILDAH_ISOLATION", "chroot")
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "podman {line}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        out.stdout
    };
    let base = place("base.tar");
    host.run(["save", "-o", &base, "busybox"]).ok();
    podman(&format!("load -q -i {base}"));
    let from = ALL.replacen("FROM busybox", "FROM docker.io/library/busybox", 1);
    let file = place("Podmanfile");
    fs::write(&file, from).unwrap();
    podman(&format!(
        "build --layers=false --format docker --isolation chroot --network host -q -t theirs -f {file} {}",
        dir.display()
    ));
    let theirs: Value = serde_json::from_slice(&podman("image inspect theirs")).unwrap();
    let (theirs, ours) = (&theirs[0]["Config"], &config(&host)["config"]);
    for name in [
        "Cmd",
        "Entrypoint",
        "Env",
        "User",
        "WorkingDir",
        "Volumes",
        "StopSignal",
    ] {
        assert_eq!(ours[name], theirs[name], "{name}");
    }
    assert_eq!(ours["Labels"]["l 2"], "v 2");
    podman("create --name c theirs");
    let exported = podman("export c");
    let tree = host
        .barge(["build", "-q", "--network", "none", "-o", "-", dir.to_str().unwrap()])
        .timeout(seconds(60))
        .run()
        .ok();
    assert_eq!(listed(&tree.stdout), listed(&exported));
    podman("rm c");
    podman("rmi -a -f");
}

/// A server of one connection that holds its answer back until it is told to give it, and notes who has hung up.
struct Slow {
    port: u16,
    asked: Arc<AtomicBool>,
    go: Arc<AtomicBool>,
    gone: Arc<AtomicBool>,
}

impl Slow {
    fn start() -> Slow {
        let [asked, go, gone] = [(); 3].map(|()| Arc::new(AtomicBool::new(false)));
        let (a, g, h) = (Arc::clone(&asked), Arc::clone(&go), Arc::clone(&gone));
        leave_the_machine();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            a.store(true, Ordering::Release);
            stream
                .set_read_timeout(Some(std::time::Duration::from_millis(50)))
                .unwrap();
            while !g.load(Ordering::Acquire) {
                match stream.read(&mut [0; 512]) {
                    Ok(n) if n > 0 => {}
                    Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
                    _ => return h.store(true, Ordering::Release),
                }
            }
            respond(&mut stream, 200, &[], b"late");
        });
        Slow { port, asked, go, gone }
    }

    fn address(&self) -> String {
        format!("http://127.0.0.1:{}/file", self.port)
    }
}

#[test]
fn what_is_fetched_holds_nothing_up() {
    let host = Host::busybox();
    let slow = Slow::start();
    let dockerfile = format!(
        "FROM scratch AS a\nADD {} /file\nFROM busybox AS b\nRUN echo one > /one; echo said-one\nRUN echo said-two\n\
         FROM busybox\nCOPY --from=a /file /\nCOPY --from=b /one /\n",
        slow.address()
    );
    let dir = context(&host, &dockerfile);
    let line = [
        "build",
        "--progress",
        "plain",
        "--network",
        "none",
        "-t",
        "made",
        dir.to_str().unwrap(),
    ];
    let building = host.barge(line).spawn();
    wait_until("the server to be asked", || slow.asked.load(Ordering::Acquire));
    building.stdout.wait_for("[b] said-two", "build");
    slow.go.store(true, Ordering::Release);
    let out = building.wait().ok();
    assert!(out.text().contains("Successfully built"), "{}", out.text());
    assert_eq!(host.text("run --rm --net none made cat /file /one"), "lateone");
}

/// The layers below are put in place, under other names, while files are fetched for the one above.
#[test]
fn layers_are_put_in_place_below_what_is_fetched() {
    let host = Host::busybox();
    let slow = Slow::start();
    let dir = context(
        &host,
        &format!("FROM busybox\nRUN echo below > /below\nADD {} /file\n", slow.address()),
    );
    let layers = host.root.join("layers");
    let count = || fs::read_dir(&layers).unwrap().count();
    let before = count();
    let building = host
        .barge(["build", "--network", "none", "-t", "made", dir.to_str().unwrap()])
        .spawn();
    wait_until("the server to be asked", || slow.asked.load(Ordering::Acquire));
    wait_until("the layer to be in place", || count() > before);
    slow.go.store(true, Ordering::Release);
    building.wait().ok();
    assert_eq!(host.text("run --rm --net none made cat /below /file"), "below\nlate");
}

#[test]
fn a_signal_is_heard_while_files_come() {
    let host = Host::busybox();
    for scheme in ["http", "git"] {
        let slow = Slow::start();
        let address = slow.address().replace("http:", &format!("{scheme}:"));
        let dir = context(
            &host,
            &format!("FROM busybox\nRUN echo kept > /kept\nADD {address} /file\n"),
        );
        let building = host
            .barge(["build", "--network", "none", dir.to_str().unwrap()])
            .spawn();
        wait_until("the server to be asked", || slow.asked.load(Ordering::Acquire));
        building.signal(nix::sys::signal::Signal::SIGTERM);
        building.wait().fails(143);
        // Neither the process that fetched nor a git of its goes on.
        wait_until("the connection to be closed", || slow.gone.load(Ordering::Acquire));
        nothing_is_left(&host);
        assert_eq!(
            fs::read_dir(host.root.join("cache/steps")).unwrap().count(),
            1,
            "the step before is kept"
        );
    }
}

#[test]
fn what_docker_s_lints_find_is_said_at_the_end() {
    let host = Host::busybox();
    let out = build(&host, &["--network", "none"], "FROM busybox\nMAINTAINER me\nENV A b\n").ok();
    let err = out.err();
    for line in [
        " 2 warnings found (use --check to expand):",
        " - MaintainerDeprecated: ",
        " - LegacyKeyValueFormat: ",
        "(line 3)",
    ] {
        assert!(err.contains(line), "{err}");
    }
    let out = build(&host, &["-q"], "FROM busybox\nMAINTAINER me\n").ok();
    assert_eq!(out.err(), "");
    let out = build(&host, &[], "FROM busybox\nLABEL a=b\n").ok();
    assert_eq!(out.err(), "");
    let dir = context(
        &host,
        "# check=skip=all\nFROM busybox AS base\nFROM base\nARG X=1\nRUN --mount=type=ssh true\n",
    );
    let call = |what: &str| host.text(["build", "--call", what, dir.to_str().unwrap()]);
    assert_eq!(call("targets"), "TARGET      DESCRIPTION\nbase\n(default)");
    assert_eq!(
        call("outline"),
        "TARGET:      default\n\nBUILD ARG   VALUE   DESCRIPTION\nX           1\n\nSSH       REQUIRED\ndefault   false"
    );
    let json: Value = serde_json::from_str(&call("outline,format=json")).unwrap();
    assert_eq!(json["args"][0]["name"], "X");
}

#[test]
fn devices_by_name() {
    let host = Host::busybox();
    let specs = host.scratch().join("cdi");
    fs::create_dir(&specs).unwrap();
    let spec = r#"{"cdiVersion": "0.6.0", "kind": "vendor.com/thing", "devices": [{"name": "0", "containerEdits":
        {"deviceNodes": [{"path": "/dev/thing", "hostPath": "/dev/zero", "permissions": "rw"}]}}]}"#;
    fs::write(specs.join("vendor.json"), spec).unwrap();
    let specs = specs.to_str().unwrap();
    let flags = ["--network", "none", "--cdi-spec-dir", specs, "--allow", "device"];
    for name in ["vendor.com/thing=0", "vendor.com/thing", "vendor.com/thing=*"] {
        build(
            &host,
            &flags,
            &format!("FROM busybox\nRUN --device={name} head -c 4 /dev/thing | wc -c > /four\n"),
        )
        .ok();
        assert_eq!(host.text("run --rm --net none made cat /four"), "4");
    }
    assert!(
        !inspect(&host, "made")["RootFS"]["Layers"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    let none = "FROM busybox\nRUN --device=vendor.com/none=7 true\n";
    build(&host, &flags, none)
        .fails(1)
        .says(&["vendor.com/none", "Dockerfile:2:"]);
    build(&host, &flags, &none.replace("=7", "=7,required=false")).ok();
    let refused = build(&host, &[], none).fails(1).err();
    assert!(
        refused.contains("--device is not allowed") && refused.contains("--allow device"),
        "{refused}"
    );
}

#[test]
fn a_terminal_sees_titles_and_no_garbage() {
    let host = Host::busybox();
    let dockerfile = "FROM busybox AS one\nRUN echo begun; printf '\\033]0;evil\\007\\033[2J%0300d\\rrest\\n' 1; sleep 1\n\
        FROM busybox\nCOPY --from=one /bin/true /true\nRUN false-command\n";
    let dir = context(&host, dockerfile);
    let terminal = host
        .barge(["build", "--no-cache", "--network", "none", dir.to_str().unwrap()])
        .env("TERM", "xterm")
        .terminal(40, 10);
    terminal.wait_for("[one 2/2] RUN echo begun");
    terminal.resize(20, 10);
    let (code, text) = terminal.wait();
    assert_eq!(code, 127, "{text}");
    assert!(!text.contains("\u{1b}]0;") && !text.contains("\u{1b}[2J"), "{text}");
    for line in [
        " => [one 2/2] RUN echo begun",
        " => [1 2/3] COPY --from=one",
        " => ERROR [1 3/3] RUN false-command",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

/// What an image may have at names that a build looks up, and what a Dockerfile may blow up.
#[test]
fn what_is_hostile_is_refused() {
    let host = Host::busybox();
    let dir = context(&host, "");
    fs::create_dir_all(dir.join("p/etc")).unwrap();
    nix::unistd::mkfifo(&dir.join("p/etc/passwd"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    std::os::unix::fs::symlink("/proc/kcore", dir.join("p/etc/group")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.join("out")).unwrap();
    std::os::unix::fs::symlink("/etc", dir.join("outer")).unwrap();
    let doubled = format!("FROM busybox\nENV A=0123456789abcdef\n{}", "ENV A=$A$A\n".repeat(30));
    let nested = (0..60).fold("x".to_owned(), |inner, _| format!("${{a:-{inner}}}"));
    let many: String = (0..80).map(|n| format!("ENV B{n}=$A\n")).collect();
    let large = format!("FROM busybox\nARG A={}\n{many}", "x".repeat(900_000));
    for (dockerfile, said) in [
        (
            "FROM scratch\nCOPY p /\nCOPY --chown=joe:staff p/etc /x\n",
            "unable to find user joe",
        ),
        ("FROM scratch\nCOPY out /o\n", "out: no such file"),
        ("FROM scratch\nCOPY outer/passwd /o\n", "outer/passwd: no such file"),
        ("FROM scratch\nCOPY p/../../x /o\n", "outside the build context"),
        (
            "FROM scratch AS x\nCOPY --from=y a /\nFROM scratch AS y\nCOPY --from=x a /\n",
            "circular dependency",
        ),
        (&*doubled, "more than 1 MiB"),
        (&*format!("FROM busybox\nENV A={nested}\n"), "more than 50 variables"),
        (&*large, "history is too large"),
    ] {
        build(&host, &["--network", "none"], dockerfile).fails(1).says(&[said]);
    }
    // A link of the image's leads nowhere but into it: for directories, caches, binds and copies.
    let links = "FROM busybox\nRUN ln -s /../../../../etc /w && mkdir -p /etc\nWORKDIR /w/barge-hostile-dir\n\
        RUN --mount=type=cache,target=/w/barge-hostile-cache true\n\
        RUN --mount=type=bind,target=/w/barge-hostile-bind,source=p true\nCOPY Dockerfile /w/barge-hostile-file\n\
        RUN ls -d /etc/barge-hostile-* > /found\n";
    build(&host, &["--network", "none"], links).ok();
    assert_eq!(
        host.text("run --rm --net none -w / made cat /found"),
        "/etc/barge-hostile-dir\n/etc/barge-hostile-file"
    );
    for name in ["dir", "cache", "bind", "file"] {
        assert!(!Path::new(&format!("/etc/barge-hostile-{name}")).exists(), "{name}");
    }
}

/// Each kind of step on a disk that is too small: one line, and nothing half made is left.
#[test]
fn a_disk_that_is_full() {
    let host = Host::bare();
    let dir = context(&host, "");
    fs::write(dir.join("big"), vec![b'x'; 12 << 20]).unwrap();
    let tar = crate::support::Tar::new()
        .file("big", 0o644, vec![b'y'; 12 << 20])
        .bytes();
    fs::write(dir.join("arch.tar"), tar).unwrap();
    fs::copy("/bin/busybox", dir.join("busybox")).unwrap();
    let root = host.root.display().to_string();
    fs::create_dir_all(&host.root).unwrap();
    let engine = format!("\"$0\" --root {root} --run-root {}", host.run_root.display());
    let script = format!(
        "mount -t tmpfs -o size=12m none {root} && \"$@\"; code=$?; {engine} run --rm --net none tiny true 2>/dev/null; \
         {engine} system check >&2; find {root}/staging -mindepth 1; exit $code"
    );
    for (step, said) in [
        (
            "RUN [\"/busybox\", \"dd\", \"if=/dev/zero\", \"of=/x\", \"bs=1M\", \"count=12\"]",
            "No space left on device",
        ),
        ("COPY big /big", "/big: no space left on device"),
        ("ADD arch.tar /a", "no space left on device"),
    ] {
        fs::write(
            dir.join("Dockerfile"),
            format!("FROM scratch\nCOPY busybox /busybox\n{step}\n"),
        )
        .unwrap();
        let prefix = [
            "unshare",
            "-m",
            "sh",
            "-c",
            &script,
            crate::support::binary().to_str().unwrap(),
        ]
        .map(String::from);
        let line = ["build", "--network", "none", "-q", dir.to_str().unwrap()];
        let full = host.barge(line).wrapped(prefix).timeout(seconds(60)).run().fails(1);
        assert!(full.err().contains(said), "{step}: {}", full.err());
        assert!(full.err().contains("nothing is wrong"), "{step}: {}", full.err());
        assert_eq!(full.text(), "", "{step}");
    }
}
