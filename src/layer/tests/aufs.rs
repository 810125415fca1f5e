//! What AUFS is told and what it reads, without a kernel that has it.

use super::*;
use crate::layer::changes::{Form, changes};
use crate::layer::pack;
use crate::layer::whiteout;
use rustix::fs::mkdirat;
use std::fs;

fn text(calls: &[Vec<u8>]) -> Vec<String> {
    calls.iter().map(|c| String::from_utf8(c.clone()).unwrap()).collect()
}

fn stack_of(count: usize, length: usize) -> Vec<Branch> {
    let path = |n: usize| PathBuf::from(format!("/{n:0length$}"));
    (0..count)
        .map(|n| Branch {
            path: path(n),
            writable: n == 0,
        })
        .collect()
}

#[test]
fn branches_as_options() {
    let tail = ",dio,plink,xino=/x";
    for (branches, expected) in [
        (stack_of(1, 1), vec![format!("br:/0=rw{tail}")]),
        (stack_of(3, 1), vec![format!("br:/0=rw:/1=ro+wh:/2=ro+wh{tail}")]),
    ] {
        assert_eq!(text(&options(&branches, b"/x").unwrap()), expected);
    }
}

#[test]
fn what_a_page_does_not_hold_is_appended() {
    for (count, length) in [(42, 90), (127, 70), (500, 100), (48, 84)] {
        let branches = stack_of(count, length);
        let calls = text(&options(&branches, b"/x").unwrap());
        assert!(calls.iter().all(|c| c.len() <= MOST_OPTIONS), "{count} {length}");
        assert!(calls[0].starts_with("br:/") && calls[0].ends_with(",dio,plink,xino=/x"));
        assert!(calls[1..].iter().all(|c| c.starts_with("append:/")));
        // Every branch once, in order, whichever call it is in.
        let told: Vec<String> = calls
            .iter()
            .flat_map(|c| {
                let list = c.strip_prefix("br:").or(c.strip_prefix("append:")).unwrap();
                let list = list.split(',').next().unwrap();
                list.split(':').map(str::to_owned).collect::<Vec<_>>()
            })
            .collect();
        let wanted: Vec<String> = branches
            .iter()
            .map(|b| format!("{}={}", b.path.display(), if b.writable { "rw" } else { "ro+wh" }))
            .collect();
        assert_eq!(told, wanted);
        // The first is full before there is a second; AUFS appends one branch at a time.
        assert!(calls[0].len() + 1 + calls[1].len() - "append:".len() > MOST_OPTIONS);
        assert!(calls[1..].iter().all(|c| !c["append:".len()..].contains(':')));
    }
}

#[test]
fn paths_that_would_mean_something() {
    for odd in ["/a:b", "/a,b", "/a=b", "/a\\b"] {
        let branch = Branch {
            path: odd.into(),
            writable: true,
        };
        assert!(options(&[branch], b"/x").unwrap_err().contains("no such path"), "{odd}");
    }
    assert!(options(&stack_of(1, 5000), b"/x").unwrap_err().contains("too long"));
}

#[test]
fn the_kernels_list() {
    for (list, known) in [
        ("nodev\tsysfs\nnodev\taufs\n\text4\n", true),
        ("nodev\toverlay\n\text4\n", false),
        ("nodev\taufs2\n", false),
        ("", false),
    ] {
        assert_eq!(is_known(list), known, "{list}");
    }
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("barge-aufs-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn open(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

#[test]
fn a_layer_as_a_branch() {
    use std::os::unix::fs::MetadataExt as _;
    let scratch = Scratch::new("branch");
    let layer = scratch.0.join("diff");
    fs::create_dir(&layer).unwrap();
    fs::write(layer.join("file"), "x").unwrap();
    fs::create_dir(layer.join("dir")).unwrap();
    std::os::unix::fs::symlink("file", layer.join("dir/link")).unwrap();
    let dir = open(&layer);
    whiteout::make(dir.as_fd(), b"gone").unwrap();
    mkdirat(&dir, "hides", Mode::from_raw_mode(0o750)).unwrap();
    whiteout::make_opaque(open(&layer.join("hides")).as_fd()).unwrap();
    // What another process of this number has left.
    let old = scratch.0.join(format!("aufs.{}", std::process::id()));
    fs::create_dir(&old).unwrap();
    fs::write(old.join("half"), "").unwrap();
    for _ in 0..2 {
        let made = branch(&layer).unwrap();
        assert_eq!(made, scratch.0.join("aufs"));
        let mut names: Vec<_> = fs::read_dir(&made).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [".wh.gone", "dir", "file", "hides"]);
        let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
        assert_eq!(inode(made.join("file")), inode(layer.join("file")));
        assert!(made.join("hides/.wh..wh..opq").exists());
        assert_eq!(fs::metadata(made.join("hides")).unwrap().mode() & 0o7777, 0o750);
        assert_eq!(fs::read_link(made.join("dir/link")).unwrap(), Path::new("file"));
    }
    assert_eq!(branch(&scratch.0).unwrap(), scratch.0);
}

/// An upper directory as AUFS leaves it: told as docker tells it, and a tar that says the same.
#[test]
fn an_upper_directory_with_marks_and_bookkeeping() {
    let scratch = Scratch::new("upper");
    let at = |path: &str| scratch.0.join(path);
    let file = |path: &str| {
        fs::create_dir_all(at(path).parent().unwrap()).unwrap();
        fs::write(at(path), path).unwrap();
    };
    for path in ["lower/gone", "lower/kept", "lower/dir/a", "lower/dir/b", "lower/d2/x"] {
        file(path);
    }
    for path in [
        "upper/new",
        "upper/kept",
        "upper/.wh.gone",
        "upper/.wh.never-there",
        "upper/.wh..wh.aufs",
        "upper/.wh..wh.plnk/12.34",
        "upper/.wh..wh.orph/y/z",
        "upper/dir/.wh..wh..opq",
        "upper/dir/b",
        "upper/d2/.wh.x",
    ] {
        file(path);
    }
    let upper = open(&at("upper"));
    let told = changes(upper.as_fd(), &[at("lower")], (Form::Aufs, None)).unwrap();
    let told: Vec<String> = told
        .iter()
        .map(|(path, change)| format!("{change} {}", String::from_utf8_lossy(path)))
        .collect();
    let expected = [
        "C d2", "D d2/x", "C dir", "D dir/a", "C dir/b", "D gone", "C kept", "A new",
    ];
    assert_eq!(told, expected);

    let mut tar = Vec::new();
    pack::write_branch(upper.as_fd(), &mut tar, &pack::Options::default()).unwrap();
    let into = at("into");
    fs::create_dir(&into).unwrap();
    let out = open(&into);
    crate::layer::unpack(&tar[..], out.as_fd(), &crate::layer::Options::default()).unwrap();
    let again = changes(out.as_fd(), &[at("lower")], (Form::Overlay, None)).unwrap();
    let again: Vec<String> = again
        .iter()
        .map(|(path, change)| format!("{change} {}", String::from_utf8_lossy(path)))
        .collect();
    assert_eq!(again, expected);
    let mut names: Vec<_> = fs::read_dir(&into).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["d2", "dir", "gone", "kept", "never-there", "new"]);
}
