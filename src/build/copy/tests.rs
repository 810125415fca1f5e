//! COPY and ADD against real directories: what is selected, what is written, and what is refused.

#![allow(clippy::disallowed_methods)] // test files need no staging

use super::*;
use crate::store::testing::Scratch;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

/// A context and a stage, in directories of their own.
struct World {
    store: Scratch,
    context: PathBuf,
    stage: PathBuf,
    ignore: Ignore,
    memo: Memo,
    owners: Owners,
}

impl World {
    fn new() -> World {
        let store = Scratch::new();
        let (context, stage) = (store.root().join("context"), store.root().join("stage"));
        for dir in [&context, &stage] {
            fs::create_dir(dir).unwrap();
        }
        World {
            store,
            context,
            stage,
            ignore: Ignore::default(),
            memo: Memo::default(),
            owners: Owners::Root,
        }
    }

    /// `name`, `name/`, `name=content`, `name->target`; modes are 0644 and 0755.
    fn with(self, files: &[&str]) -> World {
        make(&self.context, files);
        self
    }

    fn with_stage(self, files: &[&str]) -> World {
        make(&self.stage, files);
        self
    }

    fn run(&self, request: &Request) -> Result<Digest> {
        let (root, stage) = (File::open(&self.context).unwrap(), File::open(&self.stage).unwrap());
        let tree = Tree {
            root: root.as_fd(),
            ignore: Some(&self.ignore),
            memo: Some(&self.memo),
            owners: self.owners,
        };
        let selection = select(&self.store, &Access::default(), request, tree)?;
        let before = selection.digest()?;
        let after = selection.write(&Target::of(stage.as_fd()))?;
        assert_eq!(before, after, "nothing changed in between");
        Ok(after)
    }

    fn copy(&self, sources: &[&str], dest: &str) -> Result<Digest> {
        self.run(&request(sources, dest))
    }

    fn digest(&self, sources: &[&str]) -> Digest {
        let root = File::open(&self.context).unwrap();
        let tree = Tree {
            root: root.as_fd(),
            ignore: Some(&self.ignore),
            memo: Some(&self.memo),
            owners: self.owners,
        };
        let request = request(sources, "/x/");
        select(&self.store, &Access::default(), &request, tree)
            .unwrap()
            .digest()
            .unwrap()
    }

    /// What is in the stage, in `with`'s words.
    fn list(&self) -> Vec<String> {
        let mut out = Vec::new();
        list(&self.stage, "", &mut out);
        out.sort();
        out
    }
}

fn request(sources: &[&str], dest: &str) -> Request {
    Request {
        sources: sources.iter().map(ToString::to_string).collect(),
        dest: dest.to_owned(),
        workdir: "/".to_owned(),
        ..Request::default()
    }
}

fn make(root: &std::path::Path, files: &[&str]) {
    for file in files {
        let (name, content) = match file.split_once("->") {
            Some((name, target)) => {
                symlink(target, root.join(name)).unwrap();
                continue;
            }
            None => file.split_once('=').unwrap_or((file, "")),
        };
        let path = root.join(name);
        if name.ends_with('/') {
            fs::create_dir_all(path).unwrap();
            continue;
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

fn list(dir: &std::path::Path, at: &str, out: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{at}{}", entry.file_name().to_str().unwrap());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            let before = out.len();
            list(&entry.path(), &format!("{name}/"), out);
            if out.len() == before {
                out.push(format!("{name}/"));
            }
        } else if kind.is_symlink() {
            out.push(format!("{name}->{}", fs::read_link(entry.path()).unwrap().display()));
        } else {
            let content = fs::read_to_string(entry.path()).unwrap_or_default();
            out.push(match content.as_str() {
                "" => name,
                content => format!("{name}={content}"),
            });
        }
    }
}

#[test]
fn where_things_go() {
    let context = [
        "f=1",
        "g=2",
        "dir/x=3",
        "dir/sub/y=4",
        "link->f",
        "dlink->dir",
        "abs->/dir/x",
        "a b=5",
    ];
    for (sources, dest, want) in [
        (&["f"][..], "/n", &["n=1"][..]),
        (&["f"], "/n/", &["n/f=1"]),
        (&["f"], "n/m", &["n/m=1"]),
        (&["f", "g"], "/n/", &["n/f=1", "n/g=2"]),
        (&["dir"], "/n", &["n/sub/y=4", "n/x=3"]),
        (&["dir/"], "/n/", &["n/sub/y=4", "n/x=3"]),
        (&["dir", "f"], "/n/", &["n/f=1", "n/sub/y=4", "n/x=3"]),
        (&["./dir/./sub"], "/", &["y=4"]),
        (&["/f"], "/", &["f=1"]),
        (&["dir/../f"], "/", &["f=1"]),
        (&["link"], "/n", &["n=1"]),
        (&["link"], "/n/", &["n/link=1"]),
        (&["dlink"], "/n", &["n/sub/y=4", "n/x=3"]),
        (&["dlink/x"], "/", &["x=3"]),
        (&["abs"], "/", &["abs=3"]),
        (&["?"], "/n/", &["n/f=1", "n/g=2"]),
        (&["d*/x"], "/n", &["n=3"]),
        (&["dir/*"], "/n/", &["n/x=3", "n/y=4"]),
        (&["*/sub/?"], "/n/", &["n/y=4"]),
        (&["[fg]"], "/n/", &["n/f=1", "n/g=2"]),
        (&["nothing*"], "/n/", &[]),
        (&["a b"], "/x y/", &["x y/a b=5"]),
        (&["f"], ".", &["f=1"]),
        (
            &["."],
            "/n",
            &[
                "n/a b=5",
                "n/abs->/dir/x",
                "n/dir/sub/y=4",
                "n/dir/x=3",
                "n/dlink->dir",
                "n/f=1",
                "n/g=2",
                "n/link->f",
            ],
        ),
    ] {
        let world = World::new().with(&context);
        world.copy(sources, dest).unwrap();
        assert_eq!(world.list(), want, "{sources:?} {dest}");
    }
    let world = World::new().with(&context);
    let request = Request {
        workdir: "/a/b".to_owned(),
        ..request(&["f"], "../c/")
    };
    world.run(&request).unwrap();
    assert_eq!(world.list(), ["a/c/f=1"]);
}

#[test]
fn what_is_there_already() {
    let stage = [
        "opt/real/",
        "opt/link->real",
        "opt/out->../../../etc",
        "opt/dang->/opt/none",
        "opt/file=old",
        "opt/flink->file",
        "opt/dir/sub/z=9",
        "opt/dir/sublink->/opt/real",
        "opt/up->..",
    ];
    let context = ["f=1", "dir/sub/y=4", "links/sublink/q=5", "over/sub=6"];
    for (sources, dest, want) in [
        (&["f"][..], "/opt/link", &["opt/real/f=1"][..]),
        (&["f"], "/opt/link/n/", &["opt/real/n/f=1"]),
        (&["f"], "/opt/flink", &["opt/file=1"]),
        (&["f"], "/opt/dang", &["opt/none=1"]),
        (&["f"], "/opt/dang/", &["opt/none/f=1"]),
        (&["f"], "/opt/out/", &["etc/f=1"]),
        (&["f"], "/opt/up/up", &["up=1"]),
        (&["f"], "/../../x", &["x=1"]),
        (&["f"], "/opt/file", &["opt/file=1"]),
        (&["dir"], "/opt/dir", &["opt/dir/sub/y=4", "opt/dir/sub/z=9"]),
    ] {
        let world = World::new().with(&context).with_stage(&stage);
        world.copy(sources, dest).unwrap();
        let list = world.list();
        for file in want {
            assert!(
                list.contains(&(*file).to_owned()),
                "{sources:?} {dest}: {file} in {list:?}"
            );
        }
    }
    for (sources, dest, said) in [
        (&["dir"][..], "/opt/file", "cannot copy to non-directory: /opt/file"),
        (&["f"], "/opt/file/", "cannot copy to non-directory: /opt/file"),
        (&["f"], "/opt/file/x", "/opt/file: not a directory"),
        (
            &["links"],
            "/opt/dir",
            "/opt/dir/sublink: cannot copy a directory to a non-directory",
        ),
        (
            &["over"],
            "/opt/dir",
            "/opt/dir/sub: cannot replace a directory with a file",
        ),
        (
            &["f", "dir"],
            "/n",
            "When using COPY with more than one source file, the destination must be a directory and end with a /",
        ),
        (&["none"], "/n", "none: no such file or directory"),
        (&["../f"], "/n", "forbidden path outside the build context: ../f"),
        (
            &["dir/../../f"],
            "/n",
            "forbidden path outside the build context: dir/../../f",
        ),
        (&["[f"], "/n", "syntax error in pattern '[f'"),
        (&["f/"], "/n", "f/: Not a directory"),
    ] {
        let world = World::new().with(&context).with_stage(&stage);
        let said_now = world.copy(sources, dest).unwrap_err().to_string();
        assert_eq!(said_now.to_lowercase(), said.to_lowercase(), "{sources:?} {dest}");
    }
}

#[test]
fn links_of_a_context_stay_in_it() {
    let world = World::new().with(&[
        "out->/etc/passwd",
        "up->../../../../etc/passwd",
        "etc/passwd=mine",
        "dir->../..",
        "loop->loop",
    ]);
    for source in ["out", "up", "dir/etc/passwd", "dir/../etc/passwd"] {
        world.copy(&[source], "/got").unwrap();
        assert_eq!(world.list(), ["got=mine"], "{source}");
    }
    assert!(
        world
            .copy(&["loop"], "/x")
            .unwrap_err()
            .to_string()
            .contains("symbolic links")
    );
    fs::remove_dir_all(world.context.join("etc")).unwrap();
    for source in ["out", "up"] {
        assert!(world.copy(&[source], "/x").is_err());
    }
}

#[test]
fn what_is_ignored_is_not_there() {
    let mut world = World::new().with(&[
        "a=1",
        "b=2",
        "dir/a=3",
        "dir/keep=4",
        "dir/deep/x=5",
        "other/y=6",
        "link->b",
        "empty/",
    ]);
    world.ignore = Ignore::parse(b"b\ndir\n!dir/keep\nempty\n*.log").unwrap();
    world.copy(&["."], "/n/").unwrap();
    assert_eq!(world.list(), ["n/a=1", "n/dir/keep=4", "n/link->b", "n/other/y=6"]);
    for source in ["b", "link", "dir/a", "dir/deep/x"] {
        let e = world.copy(&[source], "/m/").unwrap_err();
        assert_eq!(e.to_string(), format!("{source}: no such file or directory"));
        assert!(e.hint().unwrap().contains(".dockerignore"));
    }
    world.copy(&["dir", "?"], "/m/").unwrap();
    assert!(world.list().ends_with(&[
        "n/a=1".to_owned(),
        "n/dir/keep=4".to_owned(),
        "n/link->b".to_owned(),
        "n/other/y=6".to_owned()
    ]));
    assert!(world.list().contains(&"m/keep=4".to_owned()) && !world.list().contains(&"m/b=2".to_owned()));
}

#[test]
fn excluded_and_with_parents() {
    let context = ["a/b/x.txt=1", "a/b/y.md=2", "a/c/x.txt=3", "d/x.txt=4", "top.md=5"];
    let world = World::new().with(&context);
    let with = |sources: &[&str], parents, exclude: &[&str]| Request {
        parents,
        exclude: exclude.iter().map(ToString::to_string).collect(),
        ..request(sources, "/n/")
    };
    for (sources, parents, exclude, want) in [
        (&["a"][..], false, &["*/*.md"][..], &["n/b/x.txt=1", "n/c/x.txt=3"][..]),
        (&["a", "top.md"], false, &["**/*.md"], &["n/b/x.txt=1", "n/c/x.txt=3"]),
        (&["a"], false, &["b", "!b/y.md"], &["n/b/y.md=2", "n/c/x.txt=3"]),
        (&["a/b/x.txt"], true, &[], &["n/a/b/x.txt=1"]),
        (&["a/*/x.txt"], true, &[], &["n/a/b/x.txt=1", "n/a/c/x.txt=3"]),
        (
            &["**/x.txt"],
            true,
            &[],
            &["n/a/b/x.txt=1", "n/a/c/x.txt=3", "n/d/x.txt=4"],
        ),
        (&["a/./b/x.txt"], true, &[], &["n/b/x.txt=1"]),
        (&["a/./*"], true, &["**/*.md"], &["n/b/x.txt=1", "n/c/x.txt=3"]),
        (&["a/b"], true, &[], &["n/a/b/x.txt=1", "n/a/b/y.md=2"]),
    ] {
        world.run(&with(sources, parents, exclude)).unwrap();
        assert_eq!(world.list(), want, "{sources:?} {exclude:?}");
        fs::remove_dir_all(world.stage.join("n")).unwrap();
    }
    let e = world.run(&with(&["a/none"], true, &[])).unwrap_err();
    assert_eq!(e.to_string(), "a/none: no such file or directory");
}

#[test]
fn modes_owners_and_times() {
    let world = World::new()
        .with(&["f=1", "dir/g=2", "etc/x"])
        .with_stage(&["etc/passwd=bob:x:1005:1006::/:\n", "etc/group=staff:x:50:\n"]);
    let f = world.context.join("f");
    fs::set_permissions(&f, fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(world.context.join("dir"), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(&f, Some(7), Some(8)).unwrap();
    fs::set_permissions(&f, fs::Permissions::from_mode(0o4751)).unwrap();
    let old = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
    File::options().write(true).open(&f).unwrap().set_modified(old).unwrap();
    let of = |path: &str| {
        let m = fs::symlink_metadata(world.stage.join(path)).unwrap();
        (m.mode() & 0o7777, m.uid(), m.gid())
    };
    world.copy(&["f"], "/n/").unwrap();
    assert_eq!((of("n"), of("n/f")), ((0o755, 0, 0), (0o4751, 0, 0)));
    assert_eq!(fs::metadata(world.stage.join("n/f")).unwrap().modified().unwrap(), old);
    world.copy(&["dir"], "/d").unwrap();
    assert_eq!(of("d"), (0o755, 0, 0), "the directory itself is not copied");
    for (chown, uid, gid) in [
        ("1000", 1000, 1000),
        ("bob", 1005, 1006),
        ("bob:staff", 1005, 50),
        ("3:4", 3, 4),
    ] {
        let request = Request {
            chown: Some(chown.to_owned()),
            chmod: Some("u=rwX,go=".to_owned()),
            ..request(&["."], &format!("/own-{chown}/new/"))
        };
        world.run(&request).unwrap();
        let at = |p: &str| of(&format!("own-{chown}{p}"));
        assert_eq!(at(""), (0o755, uid, gid));
        assert_eq!(at("/new"), (0o755, uid, gid));
        assert_eq!(at("/new/f"), (0o700, uid, gid));
        assert_eq!(at("/new/dir"), (0o700, uid, gid));
        assert_eq!(at("/new/dir/g"), (0o600, uid, gid));
    }
    for bad in ["", ":", "a:", ":b", "a:b:c", "nobody", "bob:none"] {
        let request = Request {
            chown: Some(bad.to_owned()),
            ..request(&["f"], "/n/")
        };
        assert!(world.run(&request).is_err(), "{bad}");
    }
    let world = World {
        owners: Owners::Kept,
        ..world
    };
    world.copy(&["f"], "/kept").unwrap();
    let m = fs::metadata(world.stage.join("kept")).unwrap();
    assert_eq!((m.uid(), m.gid(), m.mode() & 0o7777), (7, 8, 0o4751));
}

#[test]
fn links_holes_attributes_and_devices() {
    let world = World::new().with(&["a=1", "dir/"]);
    fs::hard_link(world.context.join("a"), world.context.join("dir/b")).unwrap();
    let sparse = File::create(world.context.join("sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"x", 4 << 20).unwrap();
    let big: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
    fs::write(world.context.join("big"), &big).unwrap();
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        world.context.join("fifo"),
        rustix::fs::Mode::from(0o640),
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(world.context.join("sock")).unwrap();
    rustix::fs::setxattr(world.context.join("a"), "user.x", b"v", rustix::fs::XattrFlags::empty()).unwrap();
    world.copy(&["."], "/n/").unwrap();
    let n = world.stage.join("n");
    let stat = |name: &str| fs::symlink_metadata(n.join(name)).unwrap();
    assert_eq!(stat("a").ino(), stat("dir/b").ino());
    assert_eq!(stat("sparse").len(), 8 << 20);
    assert!(stat("sparse").blocks() < 1000);
    assert_eq!(
        fs::read(n.join("sparse")).unwrap(),
        fs::read(world.context.join("sparse")).unwrap()
    );
    assert!(fs::read(n.join("big")).unwrap() == big);
    assert_eq!(stat("fifo").mode(), 0o010_640);
    assert!(!n.join("sock").exists());
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(n.join("a"), "user.x", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"v");
    // Known by now: copied without being read.
    world.copy(&["."], "/m/").unwrap();
    assert!(fs::read(world.stage.join("m/big")).unwrap() == big);
}

#[test]
fn the_digest_is_of_content_and_not_of_times() {
    let world = World::new().with(&["f=1", "dir/g=2", "dir/l->x", "h=1"]);
    let all = || world.digest(&["f", "dir"]);
    let first = all();
    let path = |p: &str| world.context.join(p);
    File::options()
        .write(true)
        .open(path("f"))
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH)
        .unwrap();
    assert_eq!(all(), first, "times do not count");
    std::os::unix::fs::chown(path("f"), Some(7), Some(8)).unwrap();
    assert_eq!(all(), first, "owners become 0:0 anyway");
    fs::write(path("f"), "2").unwrap();
    assert_ne!(all(), first, "content");
    fs::write(path("f"), "1").unwrap();
    assert_eq!(all(), first);
    fs::set_permissions(path("dir/g"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_ne!(all(), first, "mode");
    fs::set_permissions(path("dir/g"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(all(), first);
    fs::rename(path("dir/g"), path("dir/k")).unwrap();
    assert_ne!(all(), first, "name");
    fs::rename(path("dir/k"), path("dir/g")).unwrap();
    fs::remove_file(path("dir/l")).unwrap();
    symlink("y", path("dir/l")).unwrap();
    assert_ne!(all(), first, "target");
    fs::remove_file(path("dir/l")).unwrap();
    symlink("x", path("dir/l")).unwrap();
    assert_eq!(all(), first);
    fs::create_dir(path("dir/empty")).unwrap();
    assert_ne!(all(), first, "an empty directory");
    fs::remove_dir(path("dir/empty")).unwrap();
    rustix::fs::setxattr(path("f"), "user.x", b"v", rustix::fs::XattrFlags::empty()).unwrap();
    assert_ne!(all(), first, "attributes");
    rustix::fs::removexattr(path("f"), "user.x").unwrap();
    assert_eq!(all(), first);
    assert_ne!(world.digest(&["f"]), world.digest(&["h"]), "the name of one file");
    fs::rename(path("dir"), path("folder")).unwrap();
    assert_eq!(
        world.digest(&["f", "folder"]),
        first,
        "a directory's own name goes nowhere"
    );
}

#[test]
fn a_change_of_same_size_and_time_is_seen() {
    let world = World::new().with(&["f=aaaa"]);
    let path = world.context.join("f");
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for n in 0..200u32 {
        std::os::unix::fs::FileExt::write_all_at(
            &File::options().write(true).open(&path).unwrap(),
            &n.to_le_bytes(),
            0,
        )
        .unwrap();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(time)
            .unwrap();
        assert!(seen.insert(world.digest(&["f"])), "{n}");
    }
}

#[test]
fn what_changes_in_between_is_filed_under_what_it_is() {
    let world = World::new().with(&["f=first", "g=1"]);
    let (root, stage) = (File::open(&world.context).unwrap(), File::open(&world.stage).unwrap());
    let tree = Tree {
        root: root.as_fd(),
        ignore: None,
        memo: Some(&world.memo),
        owners: Owners::Root,
    };
    let request = request(&["f", "g"], "/n/");
    let selection = select(&world.store, &Access::default(), &request, tree).unwrap();
    let looked_up = selection.digest().unwrap();
    fs::write(world.context.join("f"), "second").unwrap();
    let written = selection.write(&Target::of(stage.as_fd())).unwrap();
    assert_ne!(looked_up, written);
    assert_eq!(written, world.digest(&["f", "g"]));
    assert_eq!(world.list(), ["n/f=second", "n/g=1"]);
}

#[test]
fn archives_are_added() {
    let tar = |files: &[(&str, &str)]| {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o640);
            header.set_uid(33);
            tar.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    };
    let world = World::new()
        .with(&["no.tar=no archive", "empty.tar"])
        .with_stage(&["n/in=old", "n/kept=5"]);
    let plain = tar(&[("in", "1"), ("d/x", "2")]);
    fs::write(world.context.join("t"), &plain).unwrap();
    fs::write(
        world.context.join("t.zst"),
        zstd::encode_all(plain.as_slice(), 1).unwrap(),
    )
    .unwrap();
    fs::write(world.context.join("zeros.tar"), [0; 10240]).unwrap();
    let add = |sources: &[&str], dest: &str, unpack| Request {
        verb: Verb::Add,
        unpack,
        ..request(sources, dest)
    };
    world.run(&add(&["t"], "/n", None)).unwrap();
    world.run(&add(&["t.zst"], "/new/z/", None)).unwrap();
    world
        .run(&add(&["no.tar", "empty.tar", "zeros.tar"], "/files/", None))
        .unwrap();
    world.run(&add(&["t"], "/plain", Some(false))).unwrap();
    let list = world.list();
    for file in [
        "n/in=1",
        "n/d/x=2",
        "n/kept=5",
        "new/z/in=1",
        "files/no.tar=no archive",
        "files/empty.tar",
    ] {
        assert!(list.contains(&file.to_owned()), "{file} in {list:?}");
    }
    let m = fs::metadata(world.stage.join("n/in")).unwrap();
    assert_eq!((m.uid(), m.mode() & 0o7777), (33, 0o640));
    assert!(fs::read(world.stage.join("plain")).unwrap() == plain);
    assert_eq!(fs::metadata(world.stage.join("files/zeros.tar")).unwrap().len(), 10240);
    for (name, bad) in [("up", "../../out"), ("abs", "a/../../../out")] {
        let mut bytes = tar(&[("placeholder-of-a-name-xxxxxx", "1")]);
        let mut header = tar::Header::from_byte_slice(&<[u8; 512]>::try_from(&bytes[..512]).unwrap()).clone();
        header.as_mut_bytes()[..100].fill(0);
        header.as_mut_bytes()[..bad.len()].copy_from_slice(bad.as_bytes());
        header.set_cksum();
        bytes[..512].copy_from_slice(header.as_bytes());
        fs::write(world.context.join(name), bytes).unwrap();
        assert!(
            world
                .run(&add(&[name], "/q/", None))
                .unwrap_err()
                .to_string()
                .contains("'..'")
        );
    }
}

#[test]
fn documents_become_files() {
    let world = World::new();
    let document = |name: &str, text: &str| Document {
        name: name.to_owned(),
        content: text.into(),
    };
    let with = |documents: Vec<Document>, dest: &str| Request {
        documents,
        ..request(&[], dest)
    };
    world
        .run(&with(vec![document("a", "1"), document("b", "2")], "/n/"))
        .unwrap();
    world.run(&with(vec![document("EOF", "3\n")], "/etc/conf")).unwrap();
    assert_eq!(world.list(), ["etc/conf=3\n", "n/a=1", "n/b=2"]);
    assert_eq!(
        fs::metadata(world.stage.join("etc/conf")).unwrap().mode() & 0o7777,
        0o644
    );
    for bad in ["", "..", "a/b"] {
        assert!(world.run(&with(vec![document(bad, "")], "/n/")).is_err());
    }
}

#[test]
fn a_context_that_changes_all_the_time_leads_nowhere() {
    let world = World::new().with(&["d/f=in", "swap/"]);
    let secret = world.store.root().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("f"), "SECRET").unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (d, away) = (world.context.join("d"), world.context.join("away"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = fs::rename(&d, &away);
                let _ = symlink(&secret, &d);
                let _ = fs::remove_file(&d);
                let _ = fs::rename(&away, &d);
            }
        });
        for _ in 0..60 {
            let _ = world.copy(&["."], "/n/");
            let _ = world.copy(&["d/f"], "/f");
            assert!(!world.list().iter().any(|f| f.contains("SECRET")), "{:?}", world.list());
            let _ = fs::remove_dir_all(world.stage.join("n"));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// What makes other copies of the same bytes makes another digest.
#[test]
fn what_is_done_with_a_file_counts() {
    let world = World::new().with(&["a.tar=1", "d/", "d/a=1", "d/b=1"]);
    let root = File::open(&world.context).unwrap();
    let add = |unpack| {
        let add = Request {
            verb: Verb::Add,
            unpack,
            ..request(&["a.tar"], "/x/")
        };
        let selection = select(&world.store, &Access::default(), &add, Tree::of(root.as_fd())).unwrap();
        selection.digest().unwrap()
    };
    assert_ne!(add(Some(false)), add(None), "an archive is unpacked, or not");
    assert_eq!(add(Some(true)), add(None));
    let apart = world.digest(&["d"]);
    fs::remove_file(world.context.join("d/b")).unwrap();
    fs::hard_link(world.context.join("d/a"), world.context.join("d/b")).unwrap();
    assert_ne!(world.digest(&["d"]), apart, "names of one file");
    let mounted = || digest_tree(Tree::of(root.as_fd()), "d").unwrap();
    let before = mounted();
    fs::set_permissions(world.context.join("d"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_ne!(mounted(), before, "the mode of a mounted directory");
}
