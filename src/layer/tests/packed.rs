//! What is packed comes out as it was, and always as the same bytes.

use super::fuzz::Random;
use super::round_trip::random_tree;
use super::*;
use crate::layer::overlay::{self, Overlay};
use crate::layer::pack::{self, Packed, pack};
use crate::layer::tar_split::rebuild_verified;
use crate::layer::{inherit, whiteout};

fn packed(dir: &OwnedFd, options: &pack::Options<'_>) -> (Vec<u8>, Packed) {
    let mut tar = Vec::new();
    let packed = pack(dir.as_fd(), Some(&mut tar), options).unwrap();
    assert_eq!(packed.diff_id.0, Digest::of(&tar));
    (tar, packed)
}

/// Packs with a record, unpacks, packs that: the same tree, the same bytes, and the record rebuilds them.
fn there_and_back(scratch: &Scratch, from: &Path) -> PathBuf {
    let dir: OwnedFd = File::open(from).unwrap().into();
    let record = record_file();
    let options = pack::Options {
        record: Some(&record),
        root: true,
        ..pack::Options::default()
    };
    let (tar, first) = packed(&dir, &options);
    assert!(first.exact);
    let mut rebuilt = Vec::new();
    let length = rebuild_verified(&record, dir.as_fd(), first.diff_id, &mut rebuilt).unwrap();
    assert!(rebuilt == tar && length == tar.len() as u64);
    let (path, out) = scratch.dir("back");
    let unpacked = unpack_bytes(&tar, &out).unwrap();
    assert_eq!((unpacked.diff_id, unpacked.size), (first.diff_id, first.size));
    assert!(unpacked.implied.is_empty(), "{:?}", unpacked.implied);
    assert_eq!(describe(&path), describe(from));
    let again = pack::Options {
        record: None,
        ..options
    };
    assert!(packed(&out, &again).0 == tar);
    // And without the bytes.
    assert_eq!(pack(out.as_fd(), None, &again).unwrap().diff_id, first.diff_id);
    path
}

#[test]
fn a_tree_with_one_of_everything() {
    let scratch = Scratch::new("pack");
    let (from, dir) = scratch.dir("from");
    everything(&from);
    let odd = Xattr::new(b"user.a=b%", b"\0=\n".to_vec()).unwrap();
    xattr::set(dir.as_fd(), b"etc/empty", &odd).unwrap();
    let out = there_and_back(&scratch, &from);
    assert!(
        fs::metadata(out.join("hole")).unwrap().blocks() < 16,
        "holes stay holes"
    );
    // GNU tar sees the same.
    let archive = scratch.0.join("tar");
    fs::write(&archive, packed(&dir, &pack::Options::default()).0).unwrap();
    let (gnu, _) = scratch.dir("gnu");
    gnu_tar(
        &["-x", "--xattrs", "--xattrs-include=*", "-p", "--numeric-owner"],
        &gnu,
        &archive,
    );
    let (mut expected, mut seen) = (describe(&from), describe(&gnu));
    // Neither the root, which has no entry, nor an attribute in libarchive's form.
    for lines in [&mut expected, &mut seen] {
        lines.retain(|l| !l.starts_with(' ') && !l.contains("etc/empty"));
    }
    assert_eq!(seen, expected);
}

#[test]
fn trees_of_chance() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for i in 0..12 {
        let scratch = Scratch::new(&format!("pack-chance{i}"));
        let (from, _) = scratch.dir("from");
        random_tree(&from, &mut random);
        there_and_back(&scratch, &from);
    }
}

#[test]
fn a_containers_upper_says_what_is_gone() {
    let scratch = Scratch::new("pack-upper");
    let (lower, _) = scratch.dir("lower");
    fs::create_dir_all(lower.join("etc/old")).unwrap();
    fs::create_dir_all(lower.join("gone")).unwrap();
    for file in ["etc/passwd", "etc/hosts", "etc/old/a", "gone/x"] {
        fs::write(lower.join(file), file).unwrap();
    }
    let (upper, upper_dir) = scratch.dir("upper");
    let (work, _) = scratch.dir("work");
    let (merged, merged_dir) = scratch.dir("merged");
    let stack = Overlay {
        lowers: vec![lower.clone()],
        upper: upper.clone(),
        work,
        volatile: false,
        read_only: false,
    };
    overlay::mount_at(&stack, &merged).unwrap();
    drop(merged_dir);
    let changed = (|| {
        fs::remove_file(merged.join("etc/hosts"))?;
        fs::remove_dir_all(merged.join("gone"))?;
        fs::remove_dir_all(merged.join("etc/old"))?;
        fs::create_dir(merged.join("etc/old"))?;
        fs::write(merged.join("etc/old/b"), "b")?;
        fs::write(merged.join("etc/passwd"), "changed")
    })();
    rustix::mount::unmount(&merged, rustix::mount::UnmountFlags::empty()).unwrap();
    changed.unwrap();
    let (tar, _) = packed(&upper_dir, &pack::Options::default());
    let mut names: Vec<_> = tar::Archive::new(&tar[..])
        .entries()
        .unwrap()
        .map(|e| e.unwrap().path().unwrap().display().to_string())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "etc/",
            "etc/.wh.hosts",
            "etc/old/",
            "etc/old/.wh..wh..opq",
            "etc/old/b",
            "etc/passwd",
            "gone"
        ]
        .map(|n| if n == "gone" { ".wh.gone" } else { n })
        .iter()
        .copied()
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect::<Vec<_>>()
    );
    let (again, again_dir) = scratch.dir("again");
    unpack_bytes(&tar, &again_dir).unwrap();
    assert!(packed(&again_dir, &pack::Options::default()).0 == tar);
    // The other dialect: an empty file with an attribute.
    fs::remove_file(again.join(".wh.gone")).unwrap_or(());
    fs::remove_file(again.join("gone")).unwrap();
    fs::write(again.join("gone"), "").unwrap();
    rustix::fs::lsetxattr(
        again.join("gone"),
        c"trusted.overlay.whiteout",
        b"y",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    assert!(packed(&again_dir, &pack::Options::default()).0 == tar);
}

#[test]
fn times_have_an_end_and_sockets_no_place() {
    let scratch = Scratch::new("pack-epoch");
    let (from, dir) = scratch.dir("from");
    fs::write(from.join("a"), "a").unwrap();
    let epoch = pack::Options {
        epoch: Some(1_000_000_000),
        ..Default::default()
    };
    let (first, said) = packed(&dir, &epoch);
    assert!(!said.exact);
    std::thread::sleep(std::time::Duration::from_millis(2));
    fs::write(from.join("a"), "a").unwrap();
    assert!(packed(&dir, &epoch).0 == first);
    let socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
    let (_, said) = packed(&dir, &pack::Options::default());
    assert!(!said.exact && said.members == 1);
    drop(socket);
}

#[test]
fn an_implied_directory_is_what_it_is_below() {
    let scratch = Scratch::new("implied");
    let mark = Xattr::new(b"user.mark", b"m".to_vec()).unwrap();
    let lower = |name: &str, mode: u32, uid: u32| {
        let (path, dir) = scratch.dir(name);
        fs::create_dir_all(path.join("tmp/deep")).unwrap();
        for below in ["tmp", "tmp/deep", "."] {
            let below = path.join(below);
            std::os::unix::fs::chown(&below, Some(uid), Some(uid)).unwrap();
            fs::set_permissions(&below, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        }
        xattr::set(dir.as_fd(), b"tmp", &mark).unwrap();
        path
    };
    let (base, middle) = (lower("base", 0o1777, 7), lower("middle", 0o750, 8));
    fs::remove_dir_all(middle.join("tmp/deep")).unwrap();
    let tar = Tar::default()
        .add("tmp/deep/new/file", b'0', b"x")
        .add("said/file", b'0', b"x")
        .add("said", b'5', b"")
        .end();
    let (top, dir) = scratch.dir("top");
    let unpacked = unpack_bytes(&tar, &dir).unwrap();
    let names: Vec<_> = unpacked
        .implied
        .iter()
        .map(|p| String::from_utf8_lossy(p).into_owned())
        .collect();
    assert_eq!(names, ["", "tmp", "tmp/deep", "tmp/deep/new"]);
    inherit(dir.as_fd(), &unpacked.implied, &[base.clone(), middle.clone()]).unwrap();
    let seen = |path: &str| {
        let meta = fs::metadata(top.join(path)).unwrap();
        (meta.mode() & 0o7777, meta.uid(), meta.mtime(), meta.mtime_nsec())
    };
    let of = |path: PathBuf| {
        let meta = fs::metadata(path).unwrap();
        (meta.mode() & 0o7777, meta.uid(), meta.mtime(), meta.mtime_nsec())
    };
    assert_eq!(seen("."), of(middle.clone()));
    assert_eq!(seen("tmp"), of(middle.join("tmp")));
    assert_eq!(seen("tmp/deep"), of(base.join("tmp/deep")));
    assert_eq!(seen("tmp/deep/new"), (0o755, 0, 0, 0));
    assert_eq!(xattr::all(dir.as_fd(), b"tmp").unwrap(), std::slice::from_ref(&mark));
    // Opaque in between: what is below does not show.
    let opaque: OwnedFd = File::open(middle.join("tmp")).unwrap().into();
    whiteout::make_opaque(opaque.as_fd()).unwrap();
    let (_, dir) = scratch.dir("hidden");
    let unpacked = unpack_bytes(&tar, &dir).unwrap();
    inherit(dir.as_fd(), &unpacked.implied, &[base, middle]).unwrap();
    let deep = fs::metadata(scratch.0.join("hidden/tmp/deep")).unwrap();
    assert_eq!((deep.mode() & 0o7777, deep.uid()), (0o755, 0));
}

#[test]
fn a_replaced_file_of_zeros_is_rebuilt() {
    let scratch = Scratch::new("zeros");
    let zeros = vec![0; 200_000];
    let mixed = [&zeros[..], b"x", &zeros[..]].concat();
    let tar = Tar::default()
        .add("a", b'0', &zeros)
        .add("a", b'0', &mixed)
        .add("a", b'0', b"last")
        .end();
    let (_, dir) = scratch.dir("out");
    let record = record_file();
    let options = Options {
        record: Some(record.try_clone().unwrap()),
        open_root: false,
        ..Options::default()
    };
    let unpacked = unpack(&tar[..], dir.as_fd(), &options).unwrap();
    let mut rebuilt = Vec::new();
    rebuild_verified(&record, dir.as_fd(), unpacked.diff_id, &mut rebuilt).unwrap();
    assert!(rebuilt == tar);
}
