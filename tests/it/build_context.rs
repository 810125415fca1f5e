//! Where a build's files come from: directories, streams, http, git, named contexts; what is ignored; and contexts that
//! nobody should have trusted.

use crate::support::http::{Service, respond};

use crate::support::{Host, Output, Tar, content, seconds, wait_until};
use std::fs;
use std::io::Read as _;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// All of the context goes to `/`, and from there into a directory of the host.
const ALL: &str = "FROM scratch\nCOPY . /\n";

/// Files with their content, in a directory of that name.
fn files(host: &Host, name: &str, list: &[(&str, &str)]) -> PathBuf {
    let dir = host.scratch().join(name);
    for (path, text) in list {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn out_dir(host: &Host) -> PathBuf {
    let dir = host.scratch().join("out");
    let _ = fs::remove_dir_all(&dir);
    dir
}

/// `build FLAGS -o DIR`, with `stdin`.
fn build(host: &Host, flags: &[&str], stdin: &[u8]) -> Output {
    let out = out_dir(host);
    let mut line = vec!["build".to_owned(), "-o".to_owned(), out.display().to_string()];
    line.extend(flags.iter().map(ToString::to_string));
    host.barge(&*line.join(" ")).stdin(stdin).timeout(seconds(30)).run()
}

/// What came out, sorted.
fn made(host: &Host) -> Vec<String> {
    let root = host.scratch().join("out");
    let mut found = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&root).unwrap().display().to_string();
            match path.is_dir() && !path.is_symlink() {
                true => open.push(path),
                false => found.push(name),
            }
        }
    }
    found.sort();
    found
}

fn nothing_staged(host: &Host) {
    wait_until("staging to be empty", || {
        fs::read_dir(host.root.join("staging")).map_or(0, Iterator::count) == 0
    });
}

fn packed(program: &str, bytes: &[u8], host: &Host) -> Vec<u8> {
    let path = host.scratch().join("to-pack");
    fs::write(&path, bytes).unwrap();
    let out = Command::new(program).arg("-c").arg(&path).output().unwrap();
    assert!(out.status.success());
    out.stdout
}

#[test]
fn streams() {
    let host = Host::bare();
    let tar = Tar::new()
        .file("Dockerfile", 0o644, ALL)
        .file("sub/other", 0o644, "FROM scratch\nCOPY a /other\n")
        .file("a", 0o644, "A")
        .bytes();
    for bytes in [
        tar.clone(),
        content::gzip(&tar),
        packed("xz", &tar, &host),
        packed("zstd", &tar, &host),
        packed("bzip2", &tar, &host),
    ] {
        build(&host, &["-"], &bytes).ok();
        assert_eq!(made(&host), ["Dockerfile", "a", "sub/other"]);
        build(&host, &["-f", "sub/other", "-"], &bytes).ok();
        assert_eq!(made(&host), ["other"]);
    }
    build(&host, &["-f", "no", "-"], &tar)
        .fails(1)
        .says(&["no: no such file"]);
    build(&host, &["-"], &content::gzip(&tar)[..60])
        .fails(1)
        .says(&["unable to prepare context"]);
    build(&host, &["-"], &tar[..1100])
        .fails(1)
        .says(&["unable to prepare context"]);
    // A Dockerfile alone.
    build(&host, &["-"], b"FROM scratch\nCOPY <<E /f\nx\nE\n").ok();
    assert_eq!(made(&host), ["f"]);
    let err = build(&host, &["-"], b"FROM scratch\nCOPY a /\n").fails(1).err();
    assert!(err.contains("-:2:1: ") && err.contains('a'), "{err}");
    build(&host, &["-"], b"").fails(1).says(&["empty"]);
    build(&host, &["-"], b"# nothing\n\n").fails(1).says(&["empty"]);
    build(&host, &["-f", "-", "-"], ALL.as_bytes())
        .fails(125)
        .says(&["can't use stdin for both"]);
    // Its Dockerfile comes by stdin, its files do not.
    let dir = files(&host, "d", &[("a", "A"), ("sub/b", "B")]);
    build(&host, &["-f", "-", dir.to_str().unwrap()], ALL.as_bytes()).ok();
    assert_eq!(made(&host), ["a", "sub/b"]);
    nothing_staged(&host);
}

#[test]
fn dockerfiles() {
    let host = Host::bare();
    let text = |name: &str| format!("FROM scratch\nCOPY a /{name}\n");
    let dir = files(
        &host,
        "d",
        &[("a", "A"), ("sub/My.file", &text("inside")), (".dockerignore", "sub\n")],
    );
    let outside = files(&host, "o", &[("f", &text("outside")), ("huge", "")]);
    let (at, o) = (dir.to_str().unwrap(), outside.to_str().unwrap());
    let with = |file: &str| build(&host, &["-f", file, at], b"");
    // Ignored, but it is the Dockerfile.
    with(&format!("{at}/sub/My.file")).ok();
    assert_eq!(made(&host), ["inside"]);
    with("sub/My.file").ok();
    assert_eq!(made(&host), ["inside"]);
    with(&format!("{o}/f")).ok();
    assert_eq!(made(&host), ["outside"]);
    // The usual names.
    let err = build(&host, &[at], b"").fails(1).err();
    assert!(
        err.contains("/d/Dockerfile: no such file or directory") && err.contains("-f"),
        "{err}"
    );
    for name in ["Containerfile", "dockerfile", "Dockerfile"] {
        fs::write(dir.join(name), text(name)).unwrap();
        build(&host, &[at], b"").ok();
        assert_eq!(made(&host), [name]);
    }
    // Out of the context by a link: what is in its place inside is nothing.
    fs::remove_file(dir.join("Dockerfile")).unwrap();
    fs::remove_file(dir.join("dockerfile")).unwrap();
    fs::remove_file(dir.join("Containerfile")).unwrap();
    symlink(outside.join("f"), dir.join("Dockerfile")).unwrap();
    build(&host, &[at], b"").fails(1);
    fs::remove_file(dir.join("Dockerfile")).unwrap();
    for (bytes, said) in [
        (&b""[..], "empty"),
        (b"\n \n# x\n", "empty"),
        (b"FROM scratch\nRUM x\n", "Dockerfile:2:1: "),
        (b"COPY a /\n", "Dockerfile:1:1: "),
        (b"FROM scratch\nENV \xff=\xfe\nCOPY a\n", "Dockerfile:"),
        (b"FROM \x1b[31mred\n", "Dockerfile:1:"),
    ] {
        fs::write(dir.join("Dockerfile"), bytes).unwrap();
        let err = build(&host, &[at], b"").fails(1).err();
        assert!(err.contains(said) && !err.contains('\x1b'), "{err:?}");
    }
    fs::remove_file(dir.join("Dockerfile")).unwrap();
    fs::create_dir(dir.join("Dockerfile")).unwrap();
    build(&host, &[at], b"").fails(1).says(&["Dockerfile", "irectory"]);
    fs::remove_dir(dir.join("Dockerfile")).unwrap();
    // Waits for nobody.
    nix::unistd::mkfifo(&dir.join("Dockerfile"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    build(&host, &[at], b"").fails(1).says(&["not a regular file"]);
    let huge = fs::File::create(outside.join("huge")).unwrap();
    huge.set_len(1 << 34).unwrap();
    with(&format!("{o}/huge")).fails(1).says(&["16 MiB"]);
    build(&host, &["/no/such/dir"], b"")
        .fails(1)
        .says(&["unable to prepare context", "not found"]);
    build(&host, &[&format!("{at}/a")], b"").fails(1);
}

#[test]
fn ignored() {
    let host = Host::bare();
    let dir = files(
        &host,
        "d",
        &[
            ("Dockerfile", ALL),
            ("a.txt", ""),
            ("b.txt", ""),
            ("c.go", ""),
            ("d/a.txt", ""),
            ("d/e/f.go", ""),
            ("d/e/g", ""),
            ("x y", ""),
        ],
    );
    let all = [
        "Dockerfile",
        "a.txt",
        "b.txt",
        "c.go",
        "d/a.txt",
        "d/e/f.go",
        "d/e/g",
        "x y",
    ];
    let at = dir.to_str().unwrap();
    for (rules, gone) in [
        ("", &[][..]),
        ("\u{feff}# c\n\n  a.txt  \n", &["a.txt"]),
        ("*.txt\n!b.txt\n", &["a.txt"]),
        ("**/*.txt", &["a.txt", "b.txt", "d/a.txt"]),
        ("/d/e/\n", &["d/e/f.go", "d/e/g"]),
        ("d\n!d/e/g\n", &["d/a.txt", "d/e/f.go"]),
        ("?.txt\n!*.txt\na*", &["a.txt"]),
        ("[a-b].txt\r\n", &["a.txt", "b.txt"]),
        ("**/e\n./c.go\nx/../b.txt\n", &["b.txt", "c.go", "d/e/f.go", "d/e/g"]),
        ("x y\nDockerfile\n.dockerignore\n", &["x y", "Dockerfile"]),
        (
            "*\n!d/**/*.go\n",
            &["Dockerfile", "a.txt", "b.txt", "c.go", "d/a.txt", "d/e/g", "x y"],
        ),
        (
            "**\n!**/g\n",
            &["Dockerfile", "a.txt", "b.txt", "c.go", "d/a.txt", "d/e/f.go", "x y"],
        ),
    ] {
        fs::write(dir.join(".dockerignore"), rules).unwrap();
        build(&host, &[at], b"").ok();
        let mut wanted: Vec<_> = all.iter().filter(|n| !gone.contains(n)).copied().collect();
        let listed = made(&host);
        if listed.contains(&".dockerignore".to_owned()) {
            wanted.insert(0, ".dockerignore");
        }
        assert_eq!(listed, wanted, "{rules:?}");
    }
    fs::write(dir.join(".dockerignore"), "a[\n").unwrap();
    build(&host, &[at], b"").fails(1).says(&["dockerignore"]);
    // More special ones come first; they are not added to each other.
    fs::write(dir.join(".dockerignore"), "*\n!*.txt\n!a*\n").unwrap();
    fs::write(dir.join(".containerignore"), "*\n!b.txt\n").unwrap();
    build(&host, &[at], b"").ok();
    assert_eq!(made(&host), ["b.txt"]);
    fs::write(dir.join("Dockerfile.dockerignore"), "*\n!c.go\n").unwrap();
    build(&host, &[at], b"").ok();
    assert_eq!(made(&host), ["c.go"]);
    let other = files(&host, "o", &[("F", ALL), ("F.dockerignore", "*\n!a.txt\n")]);
    build(&host, &["-f", other.join("F").to_str().unwrap(), at], b"").ok();
    assert_eq!(made(&host), ["a.txt"]);
    // What is ignored is not there, by any name.
    for source in ["d", "d/e/g", "x y", "*.go"] {
        let text = format!("FROM scratch\nCOPY a.txt [\"{source}\",\"/x/\"]\n").replace("a.txt [", "[");
        fs::write(other.join("F"), text).unwrap();
        let out = build(&host, &["-f", other.join("F").to_str().unwrap(), at], b"");
        match source.contains('*') {
            true => assert!(out.ok().code == 0 && made(&host).is_empty()),
            false => assert!(out.fails(1).err().contains(source)),
        }
    }
    // In a stream too.
    let tar = Tar::new()
        .file("Dockerfile", 0o644, ALL)
        .file(".dockerignore", 0o644, "*\n!a")
        .file("a", 0o644, "")
        .file("b", 0o644, "");
    build(&host, &["-"], &tar.bytes()).ok();
    assert_eq!(made(&host), ["a"]);
}

/// `answer` for a path.
fn serve(list: Vec<(&'static str, u16, Vec<u8>)>) -> (Service, String) {
    let service = Service::start(0, move |request, stream| {
        match list.iter().find(|(path, ..)| *path == request.path) {
            Some((_, 302, to)) => {
                let to = String::from_utf8_lossy(to).into_owned();
                respond(stream, 302, &[("Location", &to)], b"");
            }
            Some((_, status, body)) => respond(stream, *status, &[], body),
            None => respond(stream, 404, &[], b"no"),
        }
    });
    let address = format!("http://127.0.0.1:{}", service.port());
    (service, address)
}

#[test]
fn addresses() {
    let host = Host::bare();
    let tar = Tar::new().file("Dockerfile", 0o644, ALL).file("a", 0o644, "A").bytes();
    let cut = content::gzip(&tar)[..80].to_vec();
    let (_service, at) = serve(vec![
        ("/Dockerfile", 200, b"FROM scratch\nCOPY <<E /f\nE\n".to_vec()),
        ("/x.tar.gz", 200, content::gzip(&tar)),
        ("/x", 302, b"/x.tar.gz".to_vec()),
        ("/loop", 302, b"/loop".to_vec()),
        ("/file", 302, b"file:///etc/passwd".to_vec()),
        ("/cut", 200, cut),
        ("/broken", 403, b"\x1b[31m".to_vec()),
        ("/all", 200, ALL.into()),
    ]);
    for (path, found) in [
        ("Dockerfile", &["f"][..]),
        ("x.tar.gz", &["Dockerfile", "a"]),
        ("x", &["Dockerfile", "a"]),
    ] {
        build(&host, &[&format!("{at}/{path}")], b"").ok();
        assert_eq!(made(&host), found);
    }
    for (path, said) in [
        ("none", "404"),
        ("broken", "403"),
        ("loop", "redirect"),
        ("file", ""),
        ("cut", "unable to prepare context"),
    ] {
        build(&host, &[&format!("{at}/{path}")], b"")
            .fails(1)
            .says(&[path, said]);
    }
    let dir = files(&host, "d", &[("b", "")]);
    build(&host, &["-f", &format!("{at}/all"), dir.to_str().unwrap()], b"").ok();
    assert_eq!(made(&host), ["b"]);
    drop(_service);
    let err = build(&host, &[&format!("{at}/x")], b"").fails(1).err();
    assert!(err.lines().any(|l| l.contains("unable to prepare context")), "{err}");
    nothing_staged(&host);
}

/// `git` with fixed words for who and when; its output.
pub fn git(at: &Path, line: &str) -> String {
    let out = Command::new("git")
        .args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@t",
            "-c",
            "init.defaultBranch=main",
            "-C",
        ])
        .arg(at)
        .args(line.split(' '))
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "git {line}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// `git daemon` for the repositories in a directory, in this test's namespace.
pub struct Daemon(Child);

impl Daemon {
    pub fn start(base: &Path) -> Daemon {
        let child = Command::new("git")
            .args(["daemon", "--export-all", "--listen=127.0.0.1", "--port=9418"])
            .arg(format!("--base-path={}", base.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("git daemon", || TcpStream::connect("127.0.0.1:9418").is_ok());
        Daemon(child)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Of git it is a child.
        let pid = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// Who kills the build alone, and not all of a terminal's programs.
#[test]
fn git_ends_with_the_build() {
    let host = Host::bare();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("git://{}/r", listener.local_addr().unwrap());
    for signal in [nix::sys::signal::Signal::SIGTERM, nix::sys::signal::Signal::SIGKILL] {
        let mut build = host.barge(["build", &address]).spawn();
        let (mut git, _) = listener.accept().unwrap();
        build.signal(signal);
        build.close_stdin();
        assert_eq!(build.wait().code, 128 + signal as i32);
        // What it had asked comes, and then the end.
        git.set_read_timeout(Some(seconds(20))).unwrap();
        git.read_to_end(&mut Vec::new()).unwrap();
    }
    host.run("builder prune -f").ok();
}

#[test]
fn repositories() {
    let host = Host::bare();
    let repo = files(
        &host,
        "git/r",
        &[("Dockerfile", ALL), ("a", "1"), ("sub/Dockerfile", ALL), ("sub/s", "S")],
    );
    fs::set_permissions(repo.join("a"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("/etc", repo.join("out")).unwrap();
    git(&repo, "init -q");
    git(&repo, "add .");
    git(&repo, "commit -qm one");
    let first = git(&repo, "rev-parse HEAD");
    git(&repo, "tag v1");
    fs::write(repo.join("b"), "2").unwrap();
    git(&repo, "checkout -q -b other");
    git(&repo, "add b");
    git(&repo, "commit -qm two");
    git(&repo, "checkout -q main");
    let hooked = host.scratch().join("hooked");
    fs::write(
        repo.join(".git/hooks/post-checkout"),
        format!("#!/bin/sh\ntouch {}\n", hooked.display()),
    )
    .unwrap();
    let _daemon = Daemon::start(&host.scratch().join("git"));
    let at = "git://127.0.0.1/r";
    let one = ["Dockerfile", "a", "out", "sub/Dockerfile", "sub/s"];
    let two = ["Dockerfile", "a", "b", "out", "sub/Dockerfile", "sub/s"];
    for (rest, found) in [
        ("", &one[..]),
        ("#other", &two),
        ("#v1", &one),
        (&*format!("#{first}"), &one),
        ("#refs/heads/other", &two),
        ("#main:sub", &["Dockerfile", "s"]),
        ("#:sub/", &["Dockerfile", "s"]),
    ] {
        build(&host, &[&format!("{at}{rest}")], b"").ok();
        assert_eq!(made(&host), found, "{rest}");
    }
    let mode = |path: &str| {
        fs::metadata(host.scratch().join("out").join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    build(&host, &[at], b"").ok();
    assert_eq!((mode("a"), mode("Dockerfile"), mode("sub")), (0o755, 0o644, 0o755));
    for (rest, said) in [
        ("#none", "none"),
        ("#v1:none", "none"),
        ("#v1:a", "a"),
        ("#v1:out", ""),
        ("#v1:../r", "outside"),
        ("#--upload-pack=x", "invalid git reference"),
        ("x", ""),
    ] {
        build(&host, &[&format!("{at}{rest}")], b"").fails(1).says(&[said]);
    }
    // ADD knows them too.
    let dir = files(&host, "d", &[]);
    fs::create_dir_all(&dir).unwrap();
    let add = |flags: &str| {
        fs::write(
            dir.join("Dockerfile"),
            format!("FROM scratch\nADD {flags}{at}#v1:sub /s/\n"),
        )
        .unwrap();
        build(&host, &[dir.to_str().unwrap()], b"")
    };
    add("").ok();
    assert_eq!(made(&host), ["s/Dockerfile", "s/s"]);
    add(&format!("--checksum={first} ")).ok();
    add(&format!("--checksum={} ", "0".repeat(40))).fails(1);
    fs::write(
        dir.join("Dockerfile"),
        format!("FROM scratch\nADD --keep-git-dir=true {at} /\n"),
    )
    .unwrap();
    build(&host, &[dir.to_str().unwrap()], b"").ok();
    assert!(made(&host).contains(&".git/HEAD".to_owned()));
    assert!(!hooked.exists());
    nothing_staged(&host);
}

#[test]
fn named_contexts() {
    let host = Host::new();
    let dir = files(
        &host,
        "d",
        &[(
            "Dockerfile",
            "FROM base AS b\nFROM scratch\nCOPY --from=b /f /etc/passw* /b/\nCOPY --from=more . /m/\n",
        )],
    );
    let more = files(
        &host,
        "more",
        &[("x", ""), ("y", ""), (".dockerignore", "y\n.dockerignore\n")],
    );
    let layout = host.scratch().join("layout");
    let archive = host.scratch().join("layout.tar");
    fs::write(host.scratch().join("f"), "F").unwrap();
    let base = files(&host, "base", &[("Dockerfile", "FROM tiny\nCOPY f /f\n"), ("f", "F")]);
    host.run(["build", "-q", "-t", "made:1", base.to_str().unwrap()]).ok();
    host.run(["save", "--format", "oci-dir", "-o", layout.to_str().unwrap(), "made:1"])
        .ok();
    host.run([
        "save",
        "--format",
        "oci-archive",
        "-o",
        archive.to_str().unwrap(),
        "made:1",
    ])
    .ok();
    let mut at = vec![format!("more={}", more.display())];
    let with = |at: &[String]| {
        let flags: Vec<&str> = at
            .iter()
            .flat_map(|c| ["--build-context", c])
            .chain([dir.to_str().unwrap()])
            .collect();
        build(&host, &flags, b"")
    };
    let all = ["b/f", "b/passwd", "m/x"];
    for base in [
        "docker-image://made:1".to_owned(),
        format!("oci-layout://{}", layout.display()),
        format!("oci-layout://{}:1", layout.display()),
    ] {
        at.push(format!("base={base}"));
        with(&at).ok();
        assert_eq!(made(&host), all, "{base}");
        at.pop();
    }
    // It is not called anything in the store that it was not called before.
    host.run("rmi -f made:1").ok();
    host.run("image prune -f").ok();
    at.push(format!("base=oci-layout://{}", layout.display()));
    with(&at).ok();
    assert_eq!(made(&host), all);
    assert_eq!(host.text("images -q made"), "");
    at.pop();
    for bad in [
        format!("base=oci-layout://{}:none", layout.display()),
        format!("base=oci-layout://{}@sha256:{}", layout.display(), "0".repeat(64)),
        "base=oci-layout:///no/such".to_owned(),
        "base=/no/such".to_owned(),
        format!("base={}", more.display()),
    ] {
        at.push(bad);
        with(&at).fails(1);
        at.pop();
    }
    // One may take the place of a stage, or of an image.
    fs::write(
        dir.join("Dockerfile"),
        "FROM nowhere/at-all AS s\nFROM scratch\nCOPY --from=s / /\n",
    )
    .unwrap();
    at.push(format!("s={}", more.display()));
    with(&at).ok();
    assert_eq!(made(&host), ["x"]);
    nothing_staged(&host);
}

#[test]
fn hostile_streams() {
    let host = Host::bare();
    let victim = files(&host, "victim", &[("kept", "the victim's")]);
    let at = victim.to_str().unwrap().to_owned();
    let dockerfile = || Tar::new().file("Dockerfile", 0o644, ALL);
    let up = format!("{}{at}/new", "../".repeat(12));
    for (what, tar) in [
        ("..", dockerfile().file(&up, 0o644, "x")),
        ("absolute", dockerfile().file(&format!("{at}/new"), 0o644, "x")),
        (
            "link to outside",
            dockerfile().symlink("l", &at).file("l/new", 0o644, "x"),
        ),
        (
            "link over link",
            dockerfile().symlink("l", &format!("{at}/kept")).file("l", 0o644, "x"),
        ),
        (
            "hard link to outside",
            dockerfile().hard_link("h", &format!("{at}/kept")).file("h", 0o644, "x"),
        ),
        (
            "hard link up",
            dockerfile()
                .hard_link("h", &format!("../../../../../..{at}/kept"))
                .file("h", 0o644, "x"),
        ),
        (
            "directory by a link",
            dockerfile().symlink("l", &at).dir("l/new", 0o777),
        ),
        (
            "a file over a directory",
            dockerfile().dir("d", 0o755).file("d/x", 0o644, "").file("d", 0o644, ""),
        ),
        (
            "Dockerfile by a link",
            Tar::new().symlink("Dockerfile", &format!("{at}/kept")),
        ),
        (
            "ignore file by a link",
            dockerfile().symlink(".dockerignore", "/etc/passwd"),
        ),
        ("an endless name", dockerfile().file(&"d/".repeat(45), 0o644, "")),
    ] {
        let out = build(&host, &["-"], &tar.bytes());
        assert!([0, 1].contains(&out.code), "{what}: {}", out.err());
        let left: Vec<_> = fs::read_dir(&victim).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["kept"], "{what}");
        assert_eq!(
            fs::read_to_string(victim.join("kept")).unwrap(),
            "the victim's",
            "{what}"
        );
        assert!(
            !out.err().contains("victim's"),
            "{what}: the host's file was read: {}",
            out.err()
        );
    }
    // A device of a stranger's archive is nothing that can be opened while the build is on.
    let tar = Tar::new()
        .file("Dockerfile", 0o644, "FROM scratch\nADD x /\n")
        .device("x", 1, 8);
    let out = build(&host, &["-"], &tar.bytes());
    assert!([0, 1].contains(&out.code), "{}", out.err());
    // Links lead to what the context has there, never further.
    let dir = files(&host, "d", &[("in/kept", "context's"), ("in/Dockerfile", "")]);
    let context = dir.join("in");
    symlink(&at, context.join("l")).unwrap();
    symlink(victim.join("kept"), context.join("f")).unwrap();
    symlink("../../../../../../../../kept", context.join("up")).unwrap();
    for (source, found) in [
        ("l/kept", None),
        ("f", None),
        ("../victim/kept", None),
        ("../../../../../../../etc/passwd", None),
        ("l/../kept", Some("context's")),
        ("up", Some("context's")),
        ("/kept", Some("context's")),
    ] {
        fs::write(context.join("Dockerfile"), format!("FROM scratch\nCOPY {source} /x\n")).unwrap();
        let out = build(&host, &[context.to_str().unwrap()], b"");
        match found {
            Some(text) => {
                out.ok();
                assert_eq!(fs::read_to_string(host.scratch().join("out/x")).unwrap(), text);
            }
            None => assert!(out.fails(1).err().contains("Dockerfile:2:1: "), "{source}"),
        }
    }
    nothing_staged(&host);
}

#[test]
fn a_stream_cut_by_kill() {
    let host = Host::bare();
    let mut tar = Tar::new().file("Dockerfile", 0o644, ALL);
    for n in 0..20 {
        tar = tar.file(&format!("f{n}"), 0o644, vec![b'x'; 100_000]);
    }
    let bytes = tar.bytes();
    let mut process = host.barge(["build", "-"]).spawn();
    process.send(&bytes[..bytes.len() / 2]);
    let staging = host.root.join("staging");
    let has_files = || {
        let stages = fs::read_dir(&staging).map(|d| d.flatten().map(|e| e.path()).collect::<Vec<_>>());
        stages.is_ok_and(|s| s.iter().any(|s| s.join("files/f5").exists()))
    };
    wait_until("files in staging", has_files);
    process.signal(nix::sys::signal::Signal::SIGKILL);
    process.wait().fails(137);
    assert!(has_files(), "it has cleaned up after its own death");
    build(&host, &["-"], &bytes).ok();
    assert_eq!(made(&host).len(), 21);
    nothing_staged(&host);
}

/// A repository with another one in it, by way of a command that stands for ssh, and from a server with TLS and a
/// certificate of its own authority (git's plain protocol: the files as they are).
#[test]
fn repositories_by_ssh_and_tls() {
    let host = Host::bare();
    let sub = files(&host, "repos/sub", &[("inner", "s")]);
    let repo = files(&host, "repos/r", &[("Dockerfile", ALL)]);
    for at in [&sub, &repo] {
        git(at, "init -q");
        git(at, "add .");
        git(at, "commit -qm one");
    }
    let add = format!("-c protocol.file.allow=always submodule add -q {} lib", sub.display());
    git(&repo, &add);
    git(&repo, "config -f .gitmodules submodule.lib.url ../sub");
    git(&repo, "add .");
    git(&repo, "commit -qm two");
    let found = [".gitmodules", "Dockerfile", "lib/inner"];
    let ssh = host.scratch().join("ssh");
    fs::write(&ssh, "#!/bin/sh\nfor last; do :; done\nexec sh -c \"$last\"\n").unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    let out = out_dir(&host);
    let dest = format!("type=local,dest={}", out.display());
    let build = |address: &str| host.barge(["build", "-o", &dest, address]).timeout(seconds(60));
    let by_ssh = format!("ssh://git@host{}", repo.display());
    build(&by_ssh).env("GIT_SSH_COMMAND", &ssh).run().ok();
    assert_eq!(made(&host), found);
    build(&by_ssh)
        .env("GIT_SSH_COMMAND", "/bin/false")
        .run()
        .fails(1)
        .says(&["fetch ssh://"]);
    // As files: what a client asks for first has a question in its name.
    let authority = crate::support::registry::Authority::new(&host.scratch(), false);
    let served = host.scratch().join("served");
    for (from, name) in [(&sub, "sub"), (&repo, "r.git")] {
        let bare = served.join(name);
        git(
            &host.scratch(),
            &format!("clone -q --bare {} {}", from.display(), bare.display()),
        );
        git(&bare, "update-server-info");
        fs::copy(bare.join("info/refs"), bare.join("info/refs?service=git-upload-pack")).unwrap();
    }
    crate::support::registry::leave_the_machine();
    let port = 19443;
    let mut server = Command::new("openssl")
        .args(["s_server", "-quiet", "-WWW", "-accept", &format!("127.0.0.1:{port}")])
        .args(["-key", authority.dir.join("server.pem").to_str().unwrap()])
        .args(["-cert", authority.dir.join("server.crt").to_str().unwrap()])
        .current_dir(&served)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the server", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let by_tls = format!("https://localhost:{port}/r.git");
    build(&by_tls)
        .env("GIT_SSL_CAINFO", authority.dir.join("ca.crt"))
        .run()
        .ok();
    assert_eq!(made(&host), found);
    build(&by_tls).run().fails(1).says(&["certificate"]);
    server.kill().unwrap();
    server.wait().unwrap();
    nothing_staged(&host);
}
