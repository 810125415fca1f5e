//! What `verify` sees of changes made behind the store's back, and that it sees none where there is none.

use super::*;
use crate::layer::verify;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};

struct Layer {
    _scratch: Scratch,
    path: PathBuf,
    dir: OwnedFd,
    record: File,
    unpacked: Unpacked,
    lowers: Vec<PathBuf>,
}

fn layer(archive: &[u8]) -> Layer {
    let scratch = Scratch::new(&format!("verify-{}", Digest::of(archive).hex()));
    let (path, dir) = scratch.dir("out");
    let record = record_file();
    let options = Options {
        record: Some(record.try_clone().unwrap()),
        open_root: false,
        ..Options::default()
    };
    let unpacked = unpack(archive, dir.as_fd(), &options).unwrap();
    // The layer below has a directory that everybody may write into.
    let (below, _) = scratch.dir("below");
    fs::create_dir(below.join("e")).unwrap();
    fs::set_permissions(below.join("e"), fs::Permissions::from_mode(0o1777)).unwrap();
    let lowers = vec![below];
    crate::layer::inherit(dir.as_fd(), &unpacked.implied, &lowers).unwrap();
    Layer {
        _scratch: scratch,
        path,
        dir,
        record,
        unpacked,
        lowers,
    }
}

impl Layer {
    fn problems(&self) -> Vec<String> {
        verify(
            &self.record,
            self.dir.as_fd(),
            self.unpacked.diff_id,
            Some(&self.lowers),
        )
        .unwrap()
    }
}

fn archive(seed: &str) -> Vec<u8> {
    Tar::default()
        .add(".", b'5', b"")
        .add("d", b'5', b"")
        .add("d/file", b'0', b"content")
        .add("d/empty", b'0', seed.as_bytes())
        .link("d/same", b'1', "d/file")
        .link("link", b'2', "d/file")
        .link("to-d", b'2', "/d")
        // Lands in d.
        .add("to-d/inside", b'0', b"x")
        .add("e/f/implied", b'0', b"x")
        .add("d/.wh.gone", b'0', b"")
        .add(".wh.d2", b'0', b"")
        .add("d2/later", b'0', b"")
        .add("o/.wh..wh..opq", b'0', b"")
        // Made, and then hidden below; removed, and then made.
        .add("own/file", b'0', b"")
        .add(".wh.own", b'0', b"")
        .add(".wh.made", b'0', b"")
        .add("made", b'5', b"")
        .add("node", b'3', b"")
        // Replaced: a file, and a directory with what is in it.
        .add("twice", b'0', b"first")
        .add("twice", b'0', b"second")
        .add("tree", b'5', b"")
        .add("tree/in", b'0', b"")
        .add("tree", b'0', b"now a file")
        .end()
}

fn show_below(directory: &Path) {
    rustix::fs::removexattr(directory, "trusted.overlay.opaque").unwrap();
}

#[test]
fn a_whole_layer() {
    assert_eq!(layer(&archive("")).problems(), Vec::<String>::new());
}

#[test]
fn a_changed_one() {
    let write = |path: &Path| fs::write(path, "CONTENT").unwrap();
    type Change<'a> = &'a dyn Fn(&Path);
    let cases: [(&str, Change<'_>, &str); 21] = [
        ("1", &|root| write(&root.join("d/file")), "its content has changed"),
        (
            "2",
            &|root| fs::write(root.join("d/file"), "shorter").unwrap(),
            "its content has changed",
        ),
        (
            "3",
            &|root| fs::write(root.join("d/file"), "x").unwrap(),
            "is shorter than it was",
        ),
        (
            "4",
            &|root| fs::remove_file(root.join("d/file")).unwrap(),
            "d/file: no such file",
        ),
        (
            "5",
            &|root| fs::remove_file(root.join("link")).unwrap(),
            "link is missing",
        ),
        (
            "6",
            &|root| fs::remove_file(root.join("d/gone")).unwrap(),
            "d/gone is missing",
        ),
        ("7", &|root| fs::write(root.join("new"), "x").unwrap(), "new was added"),
        (
            "8",
            &|root| fs::create_dir(root.join("d/new")).unwrap(),
            "d/new was added",
        ),
        (
            "9",
            &|root| fs::set_permissions(root.join("d/empty"), fs::Permissions::from_mode(0o666)).unwrap(),
            "d/empty: has another mode",
        ),
        (
            "10",
            &|root| lchown(root.join("link"), Some(7), None).unwrap(),
            "link: has another owner",
        ),
        (
            "11",
            &|root| {
                fs::remove_file(root.join("link")).unwrap();
                symlink("/etc/passwd", root.join("link")).unwrap();
            },
            "link: ",
        ),
        (
            "12",
            &|root| fs::remove_dir_all(root.join("o")).unwrap(),
            "o is missing",
        ),
        (
            "13",
            &|root| {
                File::open(root.join("d/empty"))
                    .unwrap()
                    .set_modified(std::time::SystemTime::now())
                    .unwrap()
            },
            "d/empty: has another time",
        ),
        (
            "14",
            &|root| {
                fs::remove_file(root.join("node")).unwrap();
                fs::write(root.join("node"), "").unwrap();
            },
            "node: is of another kind",
        ),
        ("15", &|root| show_below(&root.join("o")), "o: does not hide"),
        ("16", &|root| show_below(&root.join("own")), "own: does not hide"),
        ("17", &|root| show_below(&root.join("made")), "made: does not hide"),
        ("18", &|root| show_below(&root.join("d2")), "d2: does not hide"),
        (
            "19",
            &|root| fs::set_permissions(root.join("e"), fs::Permissions::from_mode(0o755)).unwrap(),
            "e: has another mode",
        ),
        (
            "20",
            &|root| lchown(root.join("e/f"), Some(7), None).unwrap(),
            "e/f: has another owner",
        ),
        (
            "21",
            &|root| fs::set_permissions(root, fs::Permissions::from_mode(0o700)).unwrap(),
            "/: has another mode",
        ),
    ];
    for (seed, change, expected) in cases {
        let layer = layer(&archive(seed));
        change(&layer.path);
        let problems = layer.problems();
        assert!(
            problems.iter().any(|p| p.contains(expected)),
            "{seed} {expected}: {problems:?}"
        );
    }
}

#[test]
fn a_damaged_record_and_a_wrong_digest() {
    let whole = layer(&archive("a"));
    let other = crate::model::id::DiffId(Digest::of(b""));
    assert_eq!(
        verify(&whole.record, whole.dir.as_fd(), other, Some(&whole.lowers)).unwrap(),
        ["its content has changed"]
    );
    whole.record.set_len(20).unwrap();
    assert_eq!(whole.problems().len(), 1, "{:?}", whole.problems());
    let many = layer(&archive("b"));
    for n in 0..9 {
        fs::write(many.path.join(format!("new{n}")), "").unwrap();
    }
    assert_eq!(many.problems().len(), 6);
    assert_eq!(many.problems()[5], "and 4 more");
}
