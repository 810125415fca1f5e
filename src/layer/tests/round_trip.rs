//! What goes through an archive comes out as it was.

use super::fuzz::Random;
use super::*;
use crate::layer::overlay::{self, Overlay};
use crate::layer::tar_split::rebuild;
use crate::model::id::DiffId;

/// Unpacks with a record, and rebuilds: the bytes must be the same. Returns the unpacked directory.
fn there_and_back(scratch: &Scratch, archive: &[u8]) -> PathBuf {
    let (path, dir) = scratch.dir("out");
    let record = record_file();
    let options = Options {
        record: Some(record.try_clone().unwrap()),
        open_root: false,
        ..Options::default()
    };
    let unpacked = unpack(archive, dir.as_fd(), &options).unwrap();
    assert_eq!(unpacked.diff_id, DiffId(Digest::of(archive)));
    assert_eq!(unpacked.size, crate::layer::size(dir.as_fd()).unwrap());
    let mut rebuilt = Vec::new();
    let digest = rebuild(&record, dir.as_fd(), &mut rebuilt).unwrap();
    assert!(rebuilt == archive, "rebuilt archive differs");
    assert_eq!(digest, unpacked.diff_id.0);
    let problems = crate::layer::verify(&record, dir.as_fd(), unpacked.diff_id, Some(&[])).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    path
}

#[test]
fn gnu_tars_archives() {
    for args in [
        &["--format=gnu"][..],
        &["--format=gnu", "--sparse"],
        &["--format=posix"],
        &["--format=posix", "--sparse", "--sparse-version=0.0"],
        &["--format=posix", "--sparse", "--sparse-version=0.1"],
        &["--format=posix", "--sparse", "--sparse-version=1.0"],
        &["--format=posix", "-b", "1", "--numeric-owner"],
        &["--format=posix", "--xattrs", "--xattrs-include=*"],
    ] {
        let scratch = Scratch::new("gnu");
        let (from, _) = scratch.dir("in");
        everything(&from);
        let archive = scratch.0.join("tar");
        gnu_tar(&[&["-c"], args, &["."]].concat(), &from, &archive);
        let out = there_and_back(&scratch, &fs::read(&archive).unwrap());
        let (mut expected, mut seen) = (describe(&from), describe(&out));
        for line in expected.iter_mut().chain(&mut seen) {
            if !args.contains(&"--xattrs") {
                line.truncate(line.find(" [").unwrap());
            }
            if args[0] == "--format=gnu" {
                // Whole seconds are all it has.
                let dot = line.find(':').and_then(|at| Some(at + line[at..].find('.')?)).unwrap();
                line.replace_range(dot..dot + 10, "");
            }
        }
        assert_eq!(seen, expected, "{args:?}");
        if args.contains(&"--sparse") {
            assert!(fs::metadata(out.join("hole")).unwrap().blocks() < 16, "{args:?}");
        }
    }
}

/// Directories, files, links and hard links with names and modes of chance.
pub(super) fn random_tree(root: &Path, random: &mut Random) {
    let mut directories = vec![root.to_path_buf()];
    let mut files = Vec::new();
    for i in 0..60 {
        let most = if random.below(8) == 0 { 250 } else { 12 };
        let length = 1 + random.below(most);
        let mut name: Vec<u8> = (0..length)
            .map(|_| u8::try_from(1 + random.below(255)).unwrap())
            .collect();
        name.iter_mut().filter(|b| **b == b'/').for_each(|b| *b = b'\n');
        name.extend_from_slice(i.to_string().as_bytes());
        let parent = &directories[random.below(directories.len())];
        let path = parent.join(std::ffi::OsStr::from_bytes(&name));
        if path.as_os_str().len() > 2000 || name.starts_with(b".wh.") {
            continue;
        }
        match random.below(6) {
            0 | 1 => {
                fs::create_dir(&path).unwrap();
                directories.push(path.clone());
            }
            2 => std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(&name), &path).unwrap(),
            3 if !files.is_empty() => fs::hard_link(&files[random.below(files.len())], &path).unwrap(),
            _ => {
                let content: Vec<u8> = (0..random.below(2000))
                    .map(|_| u8::try_from(random.below(256)).unwrap())
                    .collect();
                fs::write(&path, content).unwrap();
                files.push(path.clone());
            }
        }
        if !fs::symlink_metadata(&path).unwrap().is_symlink() {
            let owner = |random: &mut Random| Some(u32::try_from(random.below(5_000_000)).unwrap());
            std::os::unix::fs::chown(&path, owner(random), owner(random)).unwrap();
            let mode = u32::try_from(random.below(0o10000)).unwrap();
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        }
    }
}

#[test]
fn trees_of_chance() {
    let mut random = Random(0x853c_49e6_748f_ea9b);
    for run in 0..12 {
        let scratch = Scratch::new("chance");
        let (from, _) = scratch.dir("in");
        random_tree(&from, &mut random);
        let archive = scratch.0.join("tar");
        gnu_tar(&["-c", "--format=posix", "."], &from, &archive);
        let out = there_and_back(&scratch, &fs::read(&archive).unwrap());
        assert_eq!(describe(&out), describe(&from), "run {run}");
    }
}

#[test]
fn one_name_several_times() {
    let scratch = Scratch::new("again");
    let archive = Tar::default()
        .add("f", b'0', b"first")
        .link("h", b'1', "f")
        .add("f", b'0', b"second")
        .link("f", b'2', "h")
        .add("f", b'0', b"third, and last")
        .add("d/a", b'0', b"in a directory")
        .add("d/b/c", b'0', b"deeper")
        .add("d", b'0', b"no directory any more")
        .add("d", b'5', b"")
        .add("d/a", b'0', b"and one again")
        .with("e", b'5', b"", |h| h.set_mode(0o700))
        .add("e/f", b'0', b"")
        .with("e", b'5', b"", |h| h.set_mode(0o711))
        .add(".wh..wh.plnk/7.8", b'0', b"kept by its link alone")
        .link("l", b'1', ".wh..wh.plnk/7.8");
    let out = there_and_back(&scratch, &archive.end());
    assert_eq!(list(&out), ["d", "d/a", "e", "e/f", "f", "h", "l"]);
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    assert_eq!(
        (read("f"), read("h"), read("d/a")),
        ("third, and last".into(), "first".into(), "and one again".into())
    );
    assert_eq!(fs::metadata(out.join("e")).unwrap().mode() & 0o7777, 0o711);
}

#[test]
fn headers_of_every_age() {
    let scratch = Scratch::new("ages");
    let prefix = "p".repeat(150);
    let oldest = |h: &mut Header| h.as_mut_bytes()[257..].fill(0);
    let archive = Tar::default()
        .add("label", b'V', b"")
        .with("old/", b'\0', b"", oldest)
        .with("old/file", b'\0', b"v7", oldest)
        .with("ustar", b'0', b"u", |h| {
            h.as_ustar_mut().unwrap().prefix[..150].copy_from_slice(prefix.as_bytes())
        })
        .add("contiguous", b'7', b"c")
        .with("base256", b'0', b"b", |h| {
            h.as_old_mut().mtime = *b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe"
        })
        .add("global", b'g', &record("mtime", b"77.5"))
        .add("by-global", b'0', b"")
        .pax(&[
            ("mtime", b"-0.5"),
            ("path", b"caf\xc3\xa9"),
            ("comment", b"hrr"),
            ("size", b"3"),
        ])
        .add("short", b'0', b"pax")
        .pax(&[("linkpath", "t".repeat(300).as_bytes()), ("path", b"long-link")])
        .add("short", b'2', b"");
    let out = there_and_back(&scratch, &archive.end());
    let time = |name: &str| {
        let meta = fs::symlink_metadata(out.join(name)).unwrap();
        (meta.mtime(), meta.mtime_nsec())
    };
    assert_eq!(fs::read(out.join("old/file")).unwrap(), b"v7");
    assert_eq!(fs::read(out.join(prefix).join("ustar")).unwrap(), b"u");
    assert_eq!(fs::read(out.join("contiguous")).unwrap(), b"c");
    assert_eq!(time("base256"), (-2, 0));
    assert_eq!(time("by-global"), (77, 500_000_000));
    assert_eq!(time("café"), (-1, 500_000_000));
    assert_eq!(fs::read_link(out.join("long-link")).unwrap().as_os_str().len(), 300);
    assert!(!out.join("label").exists());
}

#[test]
fn the_root_is_open_where_it_must_be() {
    let scratch = Scratch::new("root");
    let closed = Tar::default().with("./", b'5', b"", |h| h.set_mode(0o700)).end();
    let bare = Tar::default().add("f", b'0', b"").end();
    for (i, (archive, open_root, mode)) in [(&closed, false, 0o700), (&closed, true, 0o755), (&bare, false, 0o755)]
        .into_iter()
        .enumerate()
    {
        let (path, dir) = scratch.dir(&format!("out{i}"));
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o750)).unwrap();
        unpack(
            archive.as_slice(),
            dir.as_fd(),
            &Options {
                record: None,
                open_root,
                ..Options::default()
            },
        )
        .unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode);
    }
}

#[test]
fn layers_hide_what_they_remove() {
    let scratch = Scratch::new("merged");
    let lower = Tar::default()
        .add("gone", b'0', b"")
        .add("kept", b'0', b"")
        .add("opaque/below", b'0', b"")
        .add("anew/below", b'0', b"")
        .add("merged/below", b'0', b"")
        .add("tree/deep/below", b'0', b"");
    let upper = Tar::default()
        .add(".wh.gone", b'0', b"")
        .add("opaque/.wh..wh..opq", b'0', b"")
        .add("opaque/above", b'0', b"")
        .add("anew/above", b'0', b"")
        .add(".wh.anew", b'0', b"")
        .add("merged/above", b'0', b"")
        .add(".wh.tree", b'0', b"")
        .add("tree/deep/above", b'0', b"");
    let lowers = [lower, upper].into_iter().enumerate().map(|(i, archive)| {
        let (path, dir) = scratch.dir(&i.to_string());
        unpack_bytes(&archive.end(), &dir).unwrap();
        path
    });
    let lowers = lowers.collect();
    let (upper, work) = (scratch.dir("upper").0, scratch.dir("work").0);
    let mount = overlay::mount(&Overlay {
        lowers,
        upper,
        work,
        volatile: false,
        read_only: false,
    })
    .unwrap();
    let merged = PathBuf::from(format!("/proc/self/fd/{}/", std::os::fd::AsRawFd::as_raw_fd(&mount)));
    let expected = [
        "anew",
        "anew/above",
        "kept",
        "merged",
        "merged/above",
        "merged/below",
        "opaque",
        "opaque/above",
        "tree",
        "tree/deep",
        "tree/deep/above",
    ];
    assert_eq!(list(&merged), expected);
}
