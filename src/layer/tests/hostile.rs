//! Archives that mean harm: every member lands inside the directory, or is refused by its name.

use super::*;
use rustix::fs::{FileType, makedev};

/// Where an attack aims: a directory with a file, whose every attribute must stay.
struct Outside {
    scratch: Scratch,
    path: String,
    before: Vec<String>,
}

impl Outside {
    fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let (path, _) = scratch.dir("outside");
        fs::write(path.join("secret"), "secret").unwrap();
        let before = describe(&path);
        Outside {
            path: path.to_str().unwrap().to_owned(),
            scratch,
            before,
        }
    }

    /// Unpacks, and looks whether anything outside has changed.
    fn try_on(&self, archive: &[u8]) -> (PathBuf, Result<Unpacked>) {
        let name = format!("out{}", fs::read_dir(&self.scratch.0).unwrap().count());
        let (path, dir) = self.scratch.dir(&name);
        let result = unpack_bytes(archive, &dir);
        assert_eq!(describe(Path::new(&self.path)), self.before);
        for entry in fs::read_dir(&self.scratch.0).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(name.starts_with("out"), "{name} was made beside the directory");
        }
        (path, result)
    }

    fn lands(&self, archive: Tar) -> PathBuf {
        let (path, result) = self.try_on(&archive.end());
        result.unwrap();
        path
    }

    fn refused(&self, archive: Tar) -> String {
        self.try_on(&archive.end()).1.unwrap_err().to_string()
    }
}

#[test]
fn names_that_climb() {
    let outside = Outside::new("climb");
    assert_eq!(
        outside.refused(Tar::default().add("../outside/new", b'0', b"x")),
        "../outside/new: has '..' in its name"
    );
    assert_eq!(
        outside.refused(Tar::default().add("a/../../b", b'0', b"x")),
        "a/../../b: has '..' in its name"
    );
    assert_eq!(
        outside.refused(Tar::default().add("a/..", b'5', b"")),
        "a/..: has '..' in its name"
    );
    let absolute = format!("{}/new", outside.path);
    let out = outside.lands(
        Tar::default()
            .add(&absolute, b'0', b"x")
            .add("//./dot/.//file", b'0', b"y"),
    );
    assert_eq!(fs::read(out.join(&absolute[1..])).unwrap(), b"x");
    assert_eq!(fs::read(out.join("dot/file")).unwrap(), b"y");
    assert_eq!(
        outside.refused(Tar::default().add(".", b'0', b"x")),
        ".: is no name for anything but a directory"
    );
    assert_eq!(
        outside.refused(Tar::default().add("", b'2', b"")),
        "/: is no name for anything but a directory"
    );
    let escapes = Tar::default().add("\x1b[2J\n/..", b'0', b"");
    assert_eq!(outside.refused(escapes), "\\u{1b}[2J\\n/..: has '..' in its name");
    let long = "n/".repeat(3000);
    let error = outside.refused(
        Tar::default()
            .add("././@LongLink", b'L', long.as_bytes())
            .add("n", b'0', b""),
    );
    assert!(error.ends_with("name of 6000 bytes, limit 4095"), "{error}");
    let error = outside.refused(
        Tar::default()
            .pax(&[("path", "n".repeat(256).as_bytes())])
            .add("n", b'0', b""),
    );
    assert!(error.ends_with("file name too long"), "{error}");
}

#[test]
fn links_on_the_way() {
    let outside = Outside::new("links");
    let inside = outside.path[1..].to_owned();
    for target in [
        outside.path.clone(),
        format!("../../../../../..{}", outside.path),
        format!("./x/../..{}", outside.path),
    ] {
        let out = outside.lands(
            Tar::default()
                .link("d", b'2', &target)
                .add("d/new", b'0', b"x")
                .add("d/secret", b'0', b"y"),
        );
        assert_eq!(fs::read(out.join(&inside).join("new")).unwrap(), b"x", "{target}");
    }
    let loops = Tar::default()
        .link("a", b'2', "b")
        .link("b", b'2', "a")
        .add("a/x", b'0', b"");
    assert!(outside.refused(loops).contains("too many levels of symbolic links"));
    let itself = Tar::default().link("a", b'2', "a/a/a/a").add("a/x", b'0', b"");
    assert!(outside.refused(itself).contains("too many levels of symbolic links"));
    let file = Tar::default().add("a", b'0', b"").add("a/x", b'0', b"");
    assert_eq!(outside.refused(file), "a/x: a: not a directory");
}

#[test]
fn a_link_is_replaced_and_not_written_through() {
    let outside = Outside::new("through");
    let secret = format!("{}/secret", outside.path);
    let out = outside.lands(Tar::default().link("f", b'2', &secret).add("f", b'0', b"mine"));
    assert_eq!(fs::read(out.join("f")).unwrap(), b"mine");
    assert!(fs::symlink_metadata(out.join("f")).unwrap().is_file());
    // A hard link to the link, and then a file of that name.
    let both = Tar::default()
        .link("l", b'2', &secret)
        .link("h", b'1', "l")
        .add("h", b'0', b"mine");
    let out = outside.lands(both);
    assert_eq!(fs::read(out.join("h")).unwrap(), b"mine");
    assert!(fs::symlink_metadata(out.join("l")).unwrap().is_symlink());
    // A directory of a link's name must not change what the link points to (CVE-2026-33056).
    let mode = Tar::default()
        .link("d", b'2', &outside.path)
        .with("d", b'5', b"", |h| h.set_mode(0o777));
    let out = outside.lands(mode.add("d/new", b'0', b"x"));
    assert!(fs::symlink_metadata(out.join("d")).unwrap().is_dir());
    assert!(out.join("d/new").is_file());
    // The attributes of a link are its own.
    let owner = Tar::default()
        .pax(&[("SCHILY.xattr.trusted.mark", b"m")])
        .with("l", b'2', b"", |h| {
            h.set_link_name_literal(&outside.path).unwrap();
            h.set_uid(1234);
            h.set_mode(0o4777);
        });
    outside.lands(owner);
}

#[test]
fn a_known_directory_becomes_a_link() {
    let outside = Outside::new("swap");
    let archive = Tar::default()
        .add("d/e", b'5', b"")
        .add("d/e/one", b'0', b"1")
        .link("d", b'2', &outside.path)
        .add("d/e/two", b'0', b"2")
        .add("d/three", b'0', b"3");
    let out = outside.lands(archive);
    let inside = out.join(&outside.path[1..]);
    assert_eq!(
        (
            fs::read(inside.join("e/two")).unwrap(),
            fs::read(inside.join("three")).unwrap()
        ),
        (b"2".to_vec(), b"3".to_vec())
    );
    assert!(!inside.join("e/one").exists());
    // The other way round: what was a link is a directory now.
    let archive = Tar::default()
        .add("real", b'5', b"")
        .link("d", b'2', "real")
        .add("d/one", b'0', b"1")
        .add("d", b'5', b"")
        .add("d/two", b'0', b"2");
    let out = outside.lands(archive);
    assert_eq!(list(&out), ["d", "d/two", "real", "real/one"]);
}

#[test]
fn hard_links_stay_inside() {
    let outside = Outside::new("hard");
    let secret = format!("{}/secret", outside.path);
    let error = outside.refused(Tar::default().link("h", b'1', &secret));
    assert_eq!(error, format!("h: hard link to {secret}: which is not in this layer"));
    let error = outside.refused(Tar::default().link("h", b'1', &format!("../..{secret}")));
    assert!(error.contains("has '..' in its name"), "{error}");
    let through = Tar::default()
        .link("d", b'2', &outside.path)
        .link("h", b'1', "d/secret")
        .add("h", b'0', b"x");
    assert!(outside.refused(through).ends_with("which is not in this layer"));
    assert!(
        outside
            .refused(Tar::default().add("d", b'5', b"").link("h", b'1', "d"))
            .contains("hard link to d")
    );
    let out = outside.lands(Tar::default().add("f", b'0', b"x").link("f", b'1', "./f"));
    assert_eq!(fs::read(out.join("f")).unwrap(), b"x");
    // Into a directory that the new name removes.
    let gone = Tar::default().add("d/f", b'0', b"x").link("d", b'1', "d/f");
    assert!(outside.try_on(&gone.end()).1.is_err());
}

#[test]
fn whiteouts() {
    let outside = Outside::new("whiteouts");
    for name in [".wh..", ".wh...", ".wh.", "a/.wh..", "a/.wh..."] {
        let error = outside.refused(Tar::default().add("a", b'5', b"").add(name, b'0', b""));
        assert_eq!(
            error,
            format!("{name}: is a whiteout of its own directory or the one above")
        );
    }
    assert_eq!(
        outside.refused(Tar::default().add("a/.wh.b/c", b'0', b"")),
        "a/.wh.b/c: is inside a whiteout"
    );
    let archive = Tar::default()
        .add("etc/.wh.gone", b'0', b"content of no meaning")
        .add("etc/.wh..wh..opq", b'0', b"")
        .add(".wh.anew", b'0', b"")
        .add("anew/file", b'0', b"")
        .add("kept/file", b'0', b"")
        .add(".wh.kept", b'0', b"")
        .add("file", b'0', b"")
        .add(".wh.file", b'0', b"")
        .link("link", b'2', &outside.path)
        .add(".wh.link", b'0', b"")
        .add(".wh.again", b'0', b"")
        .add("again", b'5', b"")
        .add(".wh..wh.aufs", b'0', b"")
        .add(".wh..wh.orph/x", b'0', b"")
        .add(".wh..wh.plnk/1.2", b'0', b"linked")
        .link("linked", b'1', ".wh..wh.plnk/1.2");
    let out = outside.lands(archive);
    let expected = [
        "again",
        "anew",
        "anew/file",
        "etc",
        "etc/gone",
        "file",
        "kept",
        "kept/file",
        "link",
        "linked",
    ];
    assert_eq!(list(&out), expected);
    let gone = fs::symlink_metadata(out.join("etc/gone")).unwrap();
    assert_eq!(
        (FileType::from_raw_mode(gone.mode()), gone.rdev()),
        (FileType::CharacterDevice, makedev(0, 0))
    );
    assert_eq!(fs::read(out.join("linked")).unwrap(), b"linked");
    for name in ["etc", "anew", "kept", "again"] {
        assert_eq!(
            rustix::fs::getxattr(out.join(name), "trusted.overlay.opaque", &mut [0; 8][..]),
            Ok(1),
            "{name}"
        );
    }
}

#[test]
fn the_stacks_attributes_are_not_taken_from_archives() {
    let outside = Outside::new("stack");
    let archive = Tar::default()
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ])
        .add("d", b'5', b"")
        .pax(&[("LIBARCHIVE.xattr.trusted.overlay.metacopy", b"")])
        .add("f", b'0', b"")
        .pax(&[
            ("SCHILY.xattr.com.apple.provenance", b"x"),
            ("SCHILY.xattr.user.note", b"n"),
        ])
        .link("l", b'2', "f");
    let out = outside.lands(archive);
    for name in ["d", "f", "l"] {
        let listed = rustix::fs::llistxattr(out.join(name), &mut [0; 256][..]).unwrap();
        assert_eq!(listed, 0, "{name}");
    }
}

#[test]
fn what_readers_would_read_differently() {
    let outside = Outside::new("differ");
    let one = || Tar::default().add("first", b'0', b"1");
    for (archive, text) in [
        (
            one()
                .pax(&[("path", b"a")])
                .add("././@LongLink", b'L', b"b\0")
                .add("c", b'0', b""),
            "one member has two names",
        ),
        (
            one().pax(&[("path", b"a")]).pax(&[("path", b"b")]).add("c", b'0', b""),
            "two extended headers",
        ),
        (
            one().add("g", b'g', &record("path", b"a")).add("c", b'0', b""),
            "global PAX header says something of one member",
        ),
        (
            one().add("g", b'g', &record("size", b"9")).add("c", b'0', b""),
            "global PAX header says something of one member",
        ),
        (
            one().pax(&[("path", b"a")]),
            "archive ends between a header and the member",
        ),
        (
            one().add("c", b'M', b""),
            "c: part of a file whose start is in another archive",
        ),
        (one().add("c", b'Q', b""), "c: unknown member type 'Q'"),
        (
            one().with("c", b'0', b"", |h| h.as_old_mut().uid = *b"zzzzzzz\0"),
            "c: bad owner in its header",
        ),
        (
            one().pax(&[("uid", b"4294967295")]).add("c", b'0', b""),
            "c: bad owner in its header",
        ),
        (
            one().with("c", b'0', b"", |h| h.as_old_mut().size = [0xff; 12]),
            "c: bad size in its header",
        ),
        (
            one().with("c", b'3', b"", |h| h.as_ustar_mut().unwrap().dev_major = [0xff; 8]),
            "c: bad device number",
        ),
    ] {
        let error = outside.refused(archive);
        assert!(error.contains(text), "{error}");
    }
    let mut lone = one();
    lone.0.extend_from_slice(&[0; 512]);
    assert_eq!(
        outside.refused(lone.add("c", b'0', b"")),
        "damaged archive: a lone block of zeros after first"
    );
    let mut broken = one().add("c", b'0', b"");
    broken.0[1024] ^= 1;
    assert_eq!(
        outside.refused(broken),
        "damaged archive: bad header checksum after first"
    );
    let (_, result) = outside.try_on(&[b'x'; 2000]);
    assert_eq!(result.unwrap_err().to_string(), "not a tar archive");
    let (_, result) = outside.try_on(b"short");
    assert_eq!(result.unwrap_err().to_string(), "not a tar archive");
}

#[test]
fn the_size_in_the_records_counts() {
    let outside = Outside::new("size");
    // A reader that takes the header's 0 would see a member "inner" in the content (CVE-2026-33055).
    let inner = Tar::default().add("inner", b'0', b"").0;
    let mut archive = Tar::default()
        .pax(&[("size", inner.len().to_string().as_bytes())])
        .add("outer", b'0', b"");
    archive.0.extend_from_slice(&inner);
    let out = outside.lands(archive);
    assert_eq!(list(&out), ["outer"]);
    assert_eq!(fs::read(out.join("outer")).unwrap(), inner);
    // Nothing but files has content, whatever its header says.
    let out = outside.lands(
        Tar::default()
            .with("d", b'5', b"", |h| h.set_size(4096))
            .add("f", b'0', b"x"),
    );
    assert_eq!(list(&out), ["d", "f"]);
}

#[test]
fn an_archive_that_ends_early() {
    let outside = Outside::new("early");
    let archive = Tar::default().add("etc/passwd", b'0', &[b'x'; 1000]).end();
    for cut in [512 + 1, 512 + 999, 512 + 1000, 512 + 1023] {
        let (_, result) = outside.try_on(&archive[..cut]);
        assert_eq!(
            result.unwrap_err().to_string(),
            "archive ends in the middle of etc/passwd",
            "{cut}"
        );
    }
    let two = Tar::default().add("etc/passwd", b'0', b"x").add("b", b'0', b"").0;
    let (_, result) = outside.try_on(&two[..1024 + 100]);
    assert_eq!(
        result.unwrap_err().to_string(),
        "archive ends in the middle of a header after etc/passwd"
    );
    // Without its end mark it is whole all the same; GNU tar agrees.
    let (out, result) = outside.try_on(&two);
    result.unwrap();
    assert_eq!(list(&out), ["b", "etc", "etc/passwd"]);
}

#[test]
fn behind_the_end_mark_is_nothing() {
    let outside = Outside::new("behind");
    let mut archive = Tar::default().add("a", b'0', b"x").end();
    archive.extend_from_slice(&Tar::default().add("b", b'0', b"y").end());
    archive.extend_from_slice(b"garbage");
    let (out, result) = outside.try_on(&archive);
    assert_eq!(result.unwrap().diff_id.0, Digest::of(&archive));
    assert_eq!(list(&out), ["a"]);
}

#[test]
fn holes_without_measure() {
    let outside = Outside::new("holes");
    let map = |records: &[(&str, &[u8])], content: &[u8]| Tar::default().pax(records).add("f", b'0', content);
    for archive in [
        map(
            &[("GNU.sparse.size", b"9223372036854775807"), ("GNU.sparse.map", b"0,1")],
            b"x",
        ),
        map(
            &[("GNU.sparse.size", b"18446744073709551615"), ("GNU.sparse.map", b"0,1")],
            b"x",
        ),
        map(&[("GNU.sparse.size", b"10"), ("GNU.sparse.map", b"9,2")], b"xx"),
        map(&[("GNU.sparse.size", b"10"), ("GNU.sparse.map", b"0,0,")], b""),
        map(
            &[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"10")],
            b"99999999999\n",
        ),
        map(
            &[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"10")],
            &[b'1'; 512],
        ),
        map(&[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"10")], b""),
        map(&[("GNU.sparse.major", b"7")], b""),
        Tar::default().add("f", b'S', b""),
    ] {
        assert!(outside.try_on(&archive.end()).1.is_err());
    }
}

/// The same bytes so many times.
struct Again<'a> {
    piece: &'a [u8],
    at: usize,
    left: usize,
}

impl std::io::Read for Again<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.piece.len() && self.left > 1 {
            (self.at, self.left) = (0, self.left - 1);
        }
        let n = (&self.piece[self.at..]).read(buffer)?;
        self.at += n;
        Ok(n)
    }
}

/// What would be kept of directories until the end is a thousand times as large as the archive, compressed.
#[test]
fn attributes_without_measure() {
    let outside = Outside::new("attributes");
    let names: Vec<String> = (0..5000).map(|n| format!("SCHILY.xattr.user.n{n}")).collect();
    let records: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    assert_eq!(
        outside.refused(Tar::default().pax(&records).add("d/", b'5', b"")),
        "more than 4096 extended attributes"
    );
    let value = vec![b'x'; 60_000];
    let records: Vec<(&str, &[u8])> = names[..17].iter().map(|name| (name.as_str(), &value[..])).collect();
    let piece = Tar::default().pax(&records).add("d/", b'5', b"").0;
    let (_, dir) = outside.scratch.dir("out");
    let archive = Again {
        piece: &piece,
        at: 0,
        left: 400,
    };
    let e = unpack(archive, dir.as_fd(), &Options::default()).unwrap_err();
    assert_eq!(
        e.to_string(),
        "d/: the archive's directories have more than 256 MiB of names and attributes"
    );
}
