//! COPY and ADD by the real binary: where files go and what they become, what has to be refused, and the forms in which
//! a build's result leaves the engine.
//!
//! The tables say what docker's builders make of the same lines (the classic one was compared entry by entry).

use crate::build_context::{Daemon, git};
use crate::support::http::{Service, respond};
use crate::support::registry::{Registry, home};

use crate::support::{Host, Output, Tar, content, seconds, sha2_hex, wait_until};
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Unpacks `tar` into a directory that is the context of every build of this test.
fn context(host: &Host, tar: Tar) -> PathBuf {
    let dir = host.scratch().join("context");
    fs::create_dir_all(&dir).unwrap();
    let archive = host.scratch().join("context.tar");
    fs::write(&archive, tar.bytes()).unwrap();
    let done = Command::new("tar")
        .args(["--numeric-owner", "-pxf"])
        .arg(&archive)
        .arg("-C")
        .arg(&dir)
        .status();
    assert!(done.unwrap().success());
    dir
}

/// `build -o - FLAGS`, of a Dockerfile that begins with `FROM tiny`.
fn build(host: &Host, flags: &str, dockerfile: &str) -> Output {
    let dir = host.scratch().join("context");
    fs::create_dir_all(&dir).unwrap();
    let file = host.scratch().join("Dockerfile");
    fs::write(&file, dockerfile).unwrap();
    let line = format!("build {flags} -f {} {}", file.display(), dir.display());
    host.barge(&*line).timeout(seconds(60)).run()
}

/// The target's entries below `at` as `KIND MODE OWNER PATH[ -> TARGET]`, sorted; those of the image `tiny` are none.
fn tree(host: &Host, dockerfile: &str) -> Vec<String> {
    let out = build(host, "-o -", dockerfile).ok();
    listed(&out.stdout)
}

fn listed(bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut archive = ::tar::Archive::new(bytes);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let path = path.trim_start_matches("./").trim_end_matches('/').to_owned();
        if path.is_empty() {
            continue;
        }
        let attributes: Vec<String> = entry
            .pax_extensions()
            .unwrap()
            .into_iter()
            .flatten()
            .filter_map(|x| {
                x.ok()?
                    .key()
                    .ok()?
                    .strip_prefix("SCHILY.xattr.")
                    .map(|k| format!(" [{k}]"))
            })
            .collect();
        let header = entry.header();
        let kind = match header.entry_type() {
            ::tar::EntryType::Directory => 'd',
            ::tar::EntryType::Symlink => 'l',
            ::tar::EntryType::Link => 'h',
            ::tar::EntryType::Fifo => 'p',
            _ => 'f',
        };
        let (mode, uid, gid) = (header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap());
        let link = entry.link_name().unwrap().map(|l| format!(" -> {}", l.display()));
        found.push(format!(
            "{path} {kind} {mode:o} {uid}:{gid}{}{}",
            link.unwrap_or_default(),
            attributes.concat()
        ));
    }
    found.sort();
    found
}

fn files() -> Tar {
    Tar::new()
        .owned("a.txt", 0o644, (7, 8), b"a")
        .file("b.txt", 0o600, "b")
        .file("[x].txt", 0o644, "x")
        .dir("d", 0o750)
        .owned("d/one", 0o4755, (7, 8), b"1")
        .hard_link("d/same", "d/one")
        .dir("d/sub", 0o1777)
        .file("d/sub/two.go", 0o644, "2")
        .symlink("d/link", "one")
        .symlink("d/away", "/etc/passwd")
        .symlink("tosub", "d/sub")
        .dir("empty", 0o700)
}

#[test]
fn where_files_go() {
    let host = Host::bare();
    context(&host, files());
    let got = tree(
        &host,
        "FROM scratch\n\
         COPY a.txt /01\nCOPY a.txt /02/\nCOPY a.txt /03/x/y\nCOPY a.txt b.txt /04/\nCOPY *.txt /05/\n\
         COPY [ab].txt /06/\nCOPY [\"[[]x].txt\", \"/07/\"]\nCOPY d /08\nCOPY d/ /09/\nCOPY d/sub empty /10/\n\
         COPY d/o?e /11\nCOPY tosub /12\nCOPY tosub/two.go /13\nCOPY d/link /14\n\
         WORKDIR /15/w\nCOPY a.txt .\nCOPY a.txt ../up\nCOPY b.txt ./\nCOPY --chown=3:4 a.txt new/dir/\n\
         COPY --chmod=0400 d /16\nCOPY --chmod=u=rwX,go=rX d/sub /17\nCOPY --parents d/./sub/*.go /18/\n\
         COPY --parents d/sub a.txt /19/\nCOPY --exclude=**/*.go --exclude=link d /20\nCOPY --chown=9 a.txt /21\n\
         COPY /d/../a.txt /22\nADD d/sub /23\nCOPY empty /24/x\nCOPY none* a.tx[t] /25/\n\
         COPY <<f1 <<\"f2\" /26/\n$HOME\nf1\n$HOME\nf2\n",
    );
    let wanted = [
        "01 f 644 0:0",
        "02 d 755 0:0",
        "02/a.txt f 644 0:0",
        "03 d 755 0:0",
        "03/x d 755 0:0",
        "03/x/y f 644 0:0",
        "04 d 755 0:0",
        "04/a.txt f 644 0:0",
        "04/b.txt f 600 0:0",
        "05 d 755 0:0",
        "05/[x].txt f 644 0:0",
        "05/a.txt f 644 0:0",
        "05/b.txt f 600 0:0",
        "06 d 755 0:0",
        "06/a.txt f 644 0:0",
        "06/b.txt f 600 0:0",
        "07 d 755 0:0",
        "07/[x].txt f 644 0:0",
        "08 d 755 0:0",
        "08/away l 777 0:0 -> /etc/passwd",
        "08/link l 777 0:0 -> one",
        "08/one f 4755 0:0",
        "08/same h 4755 0:0 -> 08/one",
        "08/sub d 1777 0:0",
        "08/sub/two.go f 644 0:0",
        "09 d 755 0:0",
        "09/away l 777 0:0 -> /etc/passwd",
        "09/link l 777 0:0 -> one",
        "09/one f 4755 0:0",
        "09/same h 4755 0:0 -> 09/one",
        "09/sub d 1777 0:0",
        "09/sub/two.go f 644 0:0",
        "10 d 755 0:0",
        "10/two.go f 644 0:0",
        "11 f 4755 0:0",
        "12 d 755 0:0",
        "12/two.go f 644 0:0",
        "13 f 644 0:0",
        "14 f 4755 0:0",
        "15 d 755 0:0",
        "15/up f 644 0:0",
        "15/w d 755 0:0",
        "15/w/a.txt f 644 0:0",
        "15/w/b.txt f 600 0:0",
        "15/w/new d 755 3:4",
        "15/w/new/dir d 755 3:4",
        "15/w/new/dir/a.txt f 644 3:4",
    ];
    for line in wanted {
        assert!(got.contains(&line.to_owned()), "{line} is not in {got:#?}");
    }
    let below = |n: &str| got.iter().filter(|l| l.starts_with(n)).cloned().collect::<Vec<_>>();
    let known: usize = (1..=15).map(|n| below(&format!("{n:02}")).len()).sum();
    assert_eq!(known, wanted.len(), "{got:#?}");
    assert_eq!(
        below("16"),
        [
            "16 d 755 0:0",
            "16/away l 777 0:0 -> /etc/passwd",
            "16/link l 777 0:0 -> one",
            "16/one f 400 0:0",
            "16/same h 400 0:0 -> 16/one",
            "16/sub d 400 0:0",
            "16/sub/two.go f 400 0:0"
        ]
    );
    assert_eq!(below("17"), ["17 d 755 0:0", "17/two.go f 644 0:0"]);
    assert_eq!(
        below("18"),
        ["18 d 755 0:0", "18/sub d 1777 0:0", "18/sub/two.go f 644 0:0"]
    );
    assert_eq!(
        below("19"),
        [
            "19 d 755 0:0",
            "19/a.txt f 644 0:0",
            "19/d d 750 0:0",
            "19/d/sub d 1777 0:0",
            "19/d/sub/two.go f 644 0:0"
        ]
    );
    assert_eq!(
        below("20"),
        [
            "20 d 755 0:0",
            "20/away l 777 0:0 -> /etc/passwd",
            "20/one f 4755 0:0",
            "20/same h 4755 0:0 -> 20/one",
            "20/sub d 1777 0:0"
        ]
    );
    assert_eq!(below("21"), ["21 f 644 9:9"]);
    assert_eq!(below("22"), ["22 f 644 0:0"]);
    assert_eq!(below("23"), ["23 d 755 0:0", "23/two.go f 644 0:0"]);
    assert_eq!(below("24"), ["24 d 755 0:0", "24/x d 755 0:0"]);
    assert_eq!(below("25"), ["25 d 755 0:0", "25/a.txt f 644 0:0"]);
    assert_eq!(below("26"), ["26 d 755 0:0", "26/f1 f 644 0:0", "26/f2 f 644 0:0"]);
}

/// On top of what an image has: links at the end and on the way are followed inside of it, what is a link below the
/// destination is replaced, directories keep what else they have.
#[test]
fn over_an_image() {
    let host = Host::bare();
    context(&host, files());
    host.import(
        "old",
        &Tar::new()
            .dir("x", 0o700)
            .dir("x/sub", 0o711)
            .file("x/sub/kept", 0o644, "kept")
            .file("x/one", 0o600, "old")
            .file("x/same", 0o600, "old")
            .symlink("lx", "x")
            .symlink("abs", "/x")
            .symlink("up", "../../../../../../x")
            .symlink("dangling", "nowhere/there")
            .symlink("round", "round")
            .dir("l", 0o755)
            .symlink("l/one", "/etc/passwd")
            .symlink("l/sub", "/x")
            .file("file", 0o644, "")
            .dir("tmp", 0o1777)
            .dir("etc", 0o755)
            .file("etc/passwd", 0o644, "root:x:0:0::/:\nme:x:41:42::/:\n")
            .file("etc/group", 0o644, "we:x:43:\n")
            .bytes(),
    );
    let got = tree(&host, "FROM old\nCOPY d /x\n");
    for line in [
        "x d 700 0:0",
        "x/one f 4755 0:0",
        "x/sub d 1777 0:0",
        "x/sub/kept f 644 0:0",
        "x/sub/two.go f 644 0:0",
    ] {
        assert!(got.contains(&line.to_owned()), "{line} is not in {got:#?}");
    }
    let got = tree(
        &host,
        "FROM old\nCOPY a.txt /lx/1\nCOPY a.txt /abs/2\nCOPY a.txt /up/3\nCOPY a.txt /dangling\nCOPY d/sub /lx/new\n\
         COPY a.txt /tmp/4\nCOPY --chown=me a.txt /5\nCOPY --chown=me:we a.txt /6\nCOPY --chown=77:we a.txt /7\n\
         COPY d/one /l/\nCOPY a.txt /lx\n",
    );
    for line in [
        "x/1 f 644 0:0",
        "x/2 f 644 0:0",
        "x/3 f 644 0:0",
        "nowhere/there f 644 0:0",
        "x/new/two.go f 644 0:0",
        "tmp d 1777 0:0",
        "tmp/4 f 644 0:0",
        "5 f 644 41:42",
        "6 f 644 41:43",
        "7 f 644 77:43",
        "l/one f 4755 0:0",
        "x/a.txt f 644 0:0",
        "dangling l 777 0:0 -> nowhere/there",
        "etc/passwd f 644 0:0",
    ] {
        assert!(got.contains(&line.to_owned()), "{line} is not in {got:#?}");
    }
    for (line, said) in [
        ("COPY a.txt /round/x", "round"),
        ("COPY a.txt /file/", "cannot copy to non-directory: /file"),
        ("COPY d /file", "cannot copy to non-directory: /file"),
        ("COPY a.txt /file/x", "file"),
        ("COPY d /l", "directory"),
        ("COPY --chown=nobody a.txt /x", "nobody"),
        ("COPY --chown=1:2:3 a.txt /x", "invalid chown"),
        ("COPY --chmod=99 a.txt /x", "99"),
        ("COPY a.txt b.txt /x", "must be a directory and end with a /"),
        ("COPY *.txt /new", "must be a directory and end with a /"),
        ("COPY none /x", "none"),
        ("COPY ../x /x", "forbidden path outside the build context: ../x"),
        ("COPY --from=5 a /x", "there is no stage 5"),
        ("COPY --from=old /none /x", "none"),
        ("COPY --checksum=sha256:00 a.txt /x", "checksum"),
        (
            "ADD --checksum=sha256:0000000000000000000000000000000000000000000000000000000000000000 a.txt /x",
            "remote",
        ),
    ] {
        let err = build(&host, "-o -", &format!("FROM old\n{line}\n")).fails(1).err();
        assert!(err.contains(said) && err.contains("2 | "), "{line}: {err}");
    }
}

#[test]
fn from_stages_and_images() {
    let host = Host::new();
    host.import(
        "other",
        &Tar::new()
            .owned("f", 0o2755, (5, 6), b"f")
            .pax(&[("SCHILY.xattr.user.mine", b"yes")])
            .owned("x", 0o755, (0, 0), b"x")
            .symlink("out", "/f")
            .symlink("far", "../../../../../etc/passwd")
            .bytes(),
    );
    context(&host, files());
    let got = tree(
        &host,
        "FROM tiny AS one\nCOPY --chown=3:4 a.txt /o/f\nFROM scratch AS two\nCOPY --from=one /o /p\n\
         FROM scratch\nCOPY --from=0 /o/f /1\nCOPY --from=two / /2/\nCOPY --from=other /f /out /x /3/\n\
         COPY --from=other --chown=1 / /4\nCOPY --from=one ../o/f /5\nCOPY --from=one o/./f /6/\n\
         COPY --from=tiny /etc/pass* /7\n",
    );
    assert_eq!(
        got,
        [
            "1 f 644 3:4",
            "2 d 755 0:0",
            "2/p d 755 0:0",
            "2/p/f f 644 3:4",
            "3 d 755 0:0",
            "3/f f 2755 5:6",
            "3/out f 2755 5:6",
            "3/x f 755 0:0 [user.mine]",
            "4 d 755 1:1",
            "4/f f 2755 1:1",
            "4/far l 777 1:1 -> ../../../../../etc/passwd",
            "4/out l 777 1:1 -> /f",
            "4/x f 755 1:1 [user.mine]",
            "5 f 644 3:4",
            "6 d 755 0:0",
            "6/f f 644 3:4",
            "7 f 644 0:0",
        ]
    );
    // A link of an image leads to what the image has, not the host, nor the stage.
    let err = build(&host, "-o -", "FROM tiny\nCOPY --from=other /far /x\n")
        .fails(1)
        .err();
    assert!(err.contains("far"), "{err}");
}

#[test]
fn layers_of_their_own() {
    let host = Host::bare();
    context(&host, files());
    let old = Tar::new()
        .dir("tmp", 0o1777)
        .dir("x", 0o711)
        .file("x/kept", 0o644, "")
        .symlink("l", "/x")
        .dir("etc", 0o755)
        .file("etc/passwd", 0o644, "me:x:41:42::/:\n");
    host.import("old", &old.bytes());
    let got = tree(
        &host,
        "FROM old\nCOPY --link a.txt /tmp/1\nCOPY --link --chown=me a.txt /x/2\nCOPY --link a.txt /l/3\n\
         COPY --link=false a.txt /x/4\nADD --link d/sub /x/sub/\nCOPY --link a.txt /new/5\n",
    );
    for line in [
        "tmp d 1777 0:0",
        "tmp/1 f 644 0:0",
        "x d 711 0:0",
        "x/kept f 644 0:0",
        "x/2 f 644 41:42",
        // Links of the base are not looked at: it could be another one.
        "l d 755 0:0",
        "l/3 f 644 0:0",
        "x/4 f 644 0:0",
        "x/sub/two.go f 644 0:0",
        "new d 755 0:0",
        "new/5 f 644 0:0",
    ] {
        assert!(got.contains(&line.to_owned()), "{line} is not in {got:#?}");
    }
}

#[test]
fn archives_and_addresses() {
    let host = Host::bare();
    let inner = Tar::new()
        .owned("f", 0o4755, (5, 6), b"f")
        .symlink("l", "f")
        .dir("s", 0o700)
        .bytes();
    let bad = Tar::new()
        .symlink("l", "/etc")
        .file("l/barge-was-here", 0o644, "")
        .file("../up", 0o644, "")
        .bytes();
    let dir = context(
        &host,
        files()
            .file("t.tar", 0o644, &inner)
            .file("t.tgz", 0o644, content::gzip(&inner))
            .file("bad.tar", 0o644, &bad)
            .file("no.tar.gz", 0o644, "no archive")
            .file("text.gz", 0o644, content::gzip(b"text")),
    );
    let got = tree(
        &host,
        "FROM scratch\nADD t.tar /1\nADD t.tgz /2/\nCOPY t.tar /3/\nADD no.tar.gz /4/\nADD no.tar.gz /5\n\
         ADD --unpack=false t.tar /6/\nADD t.tar a.txt /7/\nADD text.gz /8/\n",
    );
    let of = |n: &str| {
        [
            format!("{n} d 755 0:0"),
            format!("{n}/f f 4755 5:6"),
            format!("{n}/l l 777 0:0 -> f"),
            format!("{n}/s d 700 0:0"),
        ]
    };
    let mut wanted = [of("1"), of("2")].concat();
    wanted.extend(
        [
            "3 d 755 0:0",
            "3/t.tar f 644 0:0",
            "4 d 755 0:0",
            "4/no.tar.gz f 644 0:0",
            "5 f 644 0:0",
        ]
        .map(Into::into),
    );
    wanted.extend(["6 d 755 0:0", "6/t.tar f 644 0:0", "7 d 755 0:0", "7/a.txt f 644 0:0"].map(Into::into));
    wanted.extend(of("7")[1..].to_vec());
    wanted.extend(["8 d 755 0:0", "8/text.gz f 644 0:0"].map(Into::into));
    assert_eq!(got, wanted);
    build(&host, "-o -", "FROM scratch\nADD bad.tar /x/\n");
    assert!(!std::path::Path::new("/etc/barge-was-here").exists());
    assert!(!dir.parent().unwrap().join("up").exists());

    let body = inner.clone();
    let service = Service::start(0, move |request, stream| {
        match request.path.split('?').next().unwrap() {
            "/f.tar" | "/d/" => respond(
                stream,
                200,
                &[("Last-Modified", "Sat, 03 Feb 2001 04:05:06 GMT")],
                &body,
            ),
            "/named" => respond(
                stream,
                200,
                &[("Content-Disposition", "attachment; filename=\"../x.y\"")],
                b"n",
            ),
            "/to" => respond(stream, 302, &[("Location", "/f.tar")], b""),
            _ => respond(stream, 404, &[], b"no"),
        }
    });
    let at = format!("http://127.0.0.1:{}", service.port());
    let sum = sha2_hex(&inner);
    let got = tree(
        &host,
        &format!(
            "FROM scratch\nADD {at}/f.tar /1\nADD {at}/f.tar /2/\nADD --checksum=sha256:{sum} {at}/f.tar /3\n\
             ADD --unpack=true {at}/f.tar /4/\nADD --chmod=755 --chown=5 {at}/f.tar?a=b /5/\nADD {at}/to /6/\n"
        ),
    );
    for line in [
        "1 f 600 0:0",
        "2/f.tar f 600 0:0",
        "3 f 600 0:0",
        "4/f f 4755 5:6",
        "5/f.tar f 755 5:5",
    ] {
        assert!(got.contains(&line.to_owned()), "{line} is not in {got:#?}");
    }
    build(
        &host,
        &format!("-o {}", host.scratch().join("out").display()),
        &format!("FROM scratch\nADD {at}/f.tar /1\n"),
    )
    .ok();
    assert_eq!(fs::metadata(host.scratch().join("out/1")).unwrap().mtime(), 981_173_106);
    let wrong = "0".repeat(64);
    for (line, said) in [
        (format!("ADD --checksum=sha256:{wrong} {at}/f.tar /x"), "sum"),
        (format!("ADD --checksum=md5:{wrong} {at}/f.tar /x"), "md5"),
        (
            format!("ADD --checksum=sha256:{sum} {at}/f.tar {at}/to /x/"),
            "exactly one remote source",
        ),
        (format!("ADD {at}/none /x"), "404"),
        (format!("ADD {at}/d/ /x/"), "cannot determine filename"),
        (format!("COPY {at}/f.tar /x"), "http"),
    ] {
        let err = build(&host, "-o -", &format!("FROM scratch\n{line}\n")).fails(1).err();
        assert!(err.contains(said) && err.contains("2 | "), "{line}: {err}");
    }
    let repo = host.scratch().join("git/r");
    fs::create_dir_all(&repo).unwrap();
    fs::write(repo.join("g"), "").unwrap();
    for line in ["init -q", "add .", "commit -qm one"] {
        git(&repo, line);
    }
    let _daemon = Daemon::start(&host.scratch().join("git"));
    assert_eq!(
        tree(&host, "FROM scratch\nADD git://127.0.0.1/r /g/\n"),
        ["g d 755 0:0", "g/g f 644 0:0"]
    );
}

/// A cached step is as good as one that was made: what was read last is what is there.
#[test]
fn files_that_change() {
    let host = Host::bare();
    let dir = context(&host, files());
    rustix::fs::setxattr(dir.join("b.txt"), "user.x", b"y", rustix::fs::XattrFlags::empty()).unwrap();
    let text = || tree(&host, "FROM scratch\nCOPY b.txt d /\n");
    let first = text();
    assert!(first.contains(&"b.txt f 600 0:0 [user.x]".to_owned()), "{first:#?}");
    assert_eq!(text(), first);
    // One byte at the same size and time; then a mode, an attribute, a name: each is seen.
    let time = fs::metadata(dir.join("d/sub/two.go")).unwrap().modified().unwrap();
    fs::write(dir.join("d/sub/two.go"), "3").unwrap();
    fs::File::options()
        .write(true)
        .open(dir.join("d/sub/two.go"))
        .unwrap()
        .set_modified(time)
        .unwrap();
    let out = build(&host, "-o -", "FROM scratch\nCOPY d /\n").ok();
    let mut archive = ::tar::Archive::new(&out.stdout[..]);
    let mut read = String::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap().ends_with("two.go") {
            entry.read_to_string(&mut read).unwrap();
        }
    }
    assert_eq!(read, "3");
    rustix::fs::removexattr(dir.join("b.txt"), "user.x").unwrap();
    assert!(text().contains(&"b.txt f 600 0:0".to_owned()));
    fs::rename(dir.join("d/sub"), dir.join("d/bus")).unwrap();
    assert!(text().contains(&"bus/two.go f 644 0:0".to_owned()));
    // While somebody writes all the time, a build ends, and has one of the states.
    let mut writer = Command::new("bash")
        .args([
            "-c",
            "for ((i = 0; i < 100000; i++)); do printf \"%0*d\" $((i % 9000)) 0 > big; rm -f d/t; : > d/t; done",
        ])
        .current_dir(&dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("a first file", || dir.join("big").exists());
    for _ in 0..3 {
        let out = build(&host, "-o -", "FROM scratch\nCOPY big d /\n");
        assert!([0, 1].contains(&out.code), "{}", out.err());
    }
    writer.kill().unwrap();
    writer.wait().unwrap();
    host.run("system check").ok();
}

#[test]
fn outputs() {
    let host = Host::bare();
    let dir = context(&host, files());
    let text = "FROM scratch\nCOPY --chown=3:4 d /d\nCMD [\"/x\"]\n";
    let out = host.scratch().join("out");
    let at = |name: &str| out.join(name).display().to_string();
    fs::create_dir_all(out.join("local")).unwrap();
    fs::write(out.join("local/old"), "old").unwrap();
    symlink(&dir, out.join("local/d")).unwrap();
    // A link that is there is not followed.
    build(&host, &format!("-o {}", at("local")), text);
    assert!(!dir.join("one").exists());
    fs::remove_file(out.join("local/d")).unwrap();
    build(&host, &format!("--output type=local,dest={}", at("local")), text).ok();
    let one = fs::metadata(out.join("local/d/one")).unwrap();
    assert_eq!((one.uid(), one.mode() & 0o777), (0, 0o755));
    assert_eq!(fs::read_link(out.join("local/d/link")).unwrap().to_str(), Some("one"));
    assert_eq!(fs::read_to_string(out.join("local/old")).unwrap(), "old");
    // The same tar by both ways.
    build(&host, &format!("--output type=tar,dest={}", at("a.tar")), text).ok();
    let by_stdout = build(&host, "--output type=tar,dest=-", text).ok().stdout;
    assert_eq!(listed(&by_stdout), listed(&fs::read(at("a.tar")).unwrap()));
    assert!(
        listed(&by_stdout).contains(&"d/one f 4755 3:4".to_owned()),
        "{:#?}",
        listed(&by_stdout)
    );
    // Nothing of it is an image here.
    assert_eq!(host.text("images -aq"), "");
    let skopeo = |words: &[&str]| {
        let out = Command::new("skopeo").args(words).output().unwrap();
        assert!(
            out.status.success(),
            "{words:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8(out.stdout).unwrap()
    };
    build(
        &host,
        &format!("-t a/b:c --output type=oci,dest={}", at("oci.tar")),
        text,
    )
    .ok();
    build(
        &host,
        &format!("-t a/b:c --output type=oci,tar=false,dest={}", at("oci")),
        text,
    )
    .ok();
    build(
        &host,
        &format!("-t a/b:c --output type=docker,dest={}", at("docker.tar")),
        text,
    )
    .ok();
    for name in [
        format!("oci-archive:{}", at("oci.tar")),
        format!("oci:{}", at("oci")),
        format!("docker-archive:{}", at("docker.tar")),
    ] {
        let config = skopeo(&["inspect", "--config", &name]);
        assert!(config.contains("/x"), "{name}: {config}");
    }
    assert!(
        build(&host, "-t a/b:c --output type=docker,dest=-", text)
            .ok()
            .stdout
            .len()
            > 2048
    );
    build(&host, "-t a/b:c --output type=docker", text).ok();
    assert!(host.text("images").contains("a/b"));
    for (flags, said) in [
        ("--output type=nothing", "type"),
        ("--output type=local", "dest"),
        ("--output type=tar,dest=/no/such/dir/f", "/no/such/dir"),
        ("--output type=local,dest=a,bad=b", "bad"),
    ] {
        let out = build(&host, flags, text);
        assert!(
            [1, 125].contains(&out.code) && out.err().contains(said),
            "{flags}: {}",
            out.err()
        );
    }
    assert!(!std::path::Path::new("/no").exists());
}

#[test]
fn pushed() {
    let host = Host::bare();
    let registry = Registry::new(&host);
    context(&host, files());
    let text = "FROM scratch\nCOPY d /d\nCMD [\"/x\"]\n";
    home(&host);
    let name = registry.name("made:1");
    build(&host, &format!("--output type=image,name={name},push=true"), text).ok();
    let other = registry.name("made:2");
    build(&host, &format!("-t {other} --push"), text).ok();
    let id = host.text(["image", "inspect", "-f", "{{.Id}}", &name]);
    host.run(["rmi", "-f", &name, &other]).ok();
    for name in [&name, &other] {
        host.run(["pull", "-q", name]).ok();
        assert_eq!(host.text(["image", "inspect", "-f", "{{.Id}}", name]), id);
    }
    let err = build(&host, "--push", text).fails(125).err();
    assert!(err.contains("--push needs a name"), "{err}");
}
