//! Copies of stacks, beside what overlayfs shows of the same layers.

use super::*;
use crate::layer::changes::{Change, Form, changes, compare};
use crate::layer::overlay::{self, Overlay};
use crate::layer::{copy, inherit, pack};
use std::os::fd::AsRawFd;

fn path_of(fd: &OwnedFd) -> PathBuf {
    format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd()).into()
}

fn shell(dir: &Path, script: &str) {
    let done = Command::new("sh").args(["-euc", script]).current_dir(dir).status();
    assert!(done.unwrap().success(), "{script}");
}

/// The layers with one more, that `script` makes through a mount.
fn layered(scratch: &Scratch, lowers: &[PathBuf], name: &str, script: &str) -> Vec<PathBuf> {
    let (upper, _) = scratch.dir(name);
    let (work, _) = scratch.dir(&format!("{name}.work"));
    let stack = Overlay {
        lowers: lowers.to_vec(),
        upper: upper.clone(),
        work,
        volatile: false,
        read_only: false,
    };
    let mount = overlay::mount(&stack).unwrap();
    shell(&path_of(&mount), script);
    lowers.iter().cloned().chain([upper]).collect()
}

/// What overlayfs shows of them.
fn shown_by_overlay(scratch: &Scratch, layers: &[PathBuf]) -> Vec<String> {
    let empty = scratch.0.join("nothing");
    fs::create_dir_all(&empty).unwrap();
    let mut lowers = vec![empty];
    lowers.extend_from_slice(layers);
    let upper = lowers.pop().unwrap();
    let view = Overlay {
        lowers,
        upper,
        work: PathBuf::new(),
        volatile: false,
        read_only: true,
    };
    let mount = overlay::mount(&view).unwrap();
    describe(&path_of(&mount))
}

const SECOND: &str = "rm file; rm -r d/gone; rm -r d/new; mkdir d/new; echo 2 > d/new/second; rm d/to-dir; \
    mkdir d/to-dir; echo x > d/to-dir/x; rm -r d/to-file; echo y > d/to-file; chmod 711 d; chmod 750 d/kept; \
    ln d/new/second d/linked; mkdir deep; mkdir deep/er; echo z > deep/er/z";
const THIRD: &str = "echo back > file; rm -r d/to-dir; rm d/to-file; mkdir d/to-file; rm d/kept/hole; \
    chmod 700 d/kept; rm -r deep; touch -d 2001-02-03 d/kept/a";
const OWN: &str = "echo more >> file; rm d/kept/a; echo n > d/kept/n; mkdir -p made/inside; echo i > made/inside/i; \
    rm -r d/to-file; ln -s nowhere d/to-file; chown 5:6 d/new; rm top; mkdir top; echo t > top/t";

/// Three layers that do all to each other that layers do.
fn three(scratch: &Scratch) -> Vec<PathBuf> {
    let (base, _) = scratch.dir("base");
    let script = "echo 1 > file; echo t > top; mkdir d d/gone d/new d/to-file d/kept; echo a > d/gone/a; \
        echo 1 > d/new/first; echo 1 > d/to-dir; echo 1 > d/to-file/in; echo a > d/kept/a; \
        truncate -s 1M d/kept/hole; mkfifo d/kept/pipe; ln -s a d/kept/link; mknod d/kept/null c 1 3";
    shell(&base, script);
    let two = layered(scratch, &[base], "second", SECOND);
    let kept = |layer: &Path| layer.join("d/kept");
    rustix::fs::setxattr(kept(&two[1]), c"user.a", b"1", rustix::fs::XattrFlags::empty()).unwrap();
    let three = layered(scratch, &two, "third", THIRD);
    rustix::fs::removexattr(kept(&three[2]), c"user.a").unwrap();
    three
}

#[test]
fn a_copied_stack_is_what_overlayfs_shows() {
    let scratch = Scratch::new("stack");
    let layers = three(&scratch);
    for count in 1..=3 {
        let (to, dir) = scratch.dir(&format!("copy{count}"));
        copy::stack(&layers[..count], dir.as_fd(), (copy::Files::Copied, None)).unwrap();
        assert_eq!(describe(&to), shown_by_overlay(&scratch, &layers[..count]), "{count}");
        assert_eq!(
            compare(dir.as_fd(), &layers[..count], (None, None)).unwrap(),
            Default::default()
        );
    }
}

#[test]
fn a_copy_differs_as_an_upper_does() {
    let scratch = Scratch::new("differs");
    let layers = three(&scratch);
    let (to, dir) = scratch.dir("copy");
    copy::stack(&layers, dir.as_fd(), (copy::Files::Copied, None)).unwrap();
    shell(&to, OWN);
    let four = layered(&scratch, &layers, "own", OWN);
    let upper = File::open(&four[3]).unwrap();
    let differs = compare(dir.as_fd(), &layers, (None, None)).unwrap();
    assert_eq!(differs, changes(upper.as_fd(), &layers, (Form::Overlay, None)).unwrap());
    assert!(differs.contains_key(&b"made/inside/i"[..]));

    // As a layer it gives the same tree again.
    let options = pack::Options {
        root: true,
        only: Some(&differs),
        ..pack::Options::default()
    };
    let mut tar = Vec::new();
    pack::export(dir.as_fd(), &mut tar, &options).unwrap();
    let (layer, layer_dir) = scratch.dir("layer");
    let unpacked = unpack(&tar[..], layer_dir.as_fd(), &Options::default()).unwrap();
    inherit(layer_dir.as_fd(), &unpacked.implied, &layers).unwrap();
    let again: Vec<_> = layers.iter().cloned().chain([layer]).collect();
    // Times of an archive are in whole seconds.
    let (flat, flat_dir) = scratch.dir("flat");
    copy::stack(&again, flat_dir.as_fd(), (copy::Files::Copied, None)).unwrap();
    for path in ["file", "d/kept/n", "made/inside/i", "top/t", "d/to-file"] {
        assert!(flat.join(path).symlink_metadata().is_ok(), "{path}");
    }
    for path in ["d/kept/a", "d/to-file/x"] {
        assert!(flat.join(path).symlink_metadata().is_err(), "{path}");
    }
    assert_eq!(fs::metadata(flat.join("d/new")).unwrap().uid(), 5);
}

#[test]
fn a_name_of_an_archives_mark_can_not_be_told() {
    let scratch = Scratch::new("marks");
    let (base, _) = scratch.dir("base");
    let (to, dir) = scratch.dir("copy");
    shell(&to, "echo > .wh.x; mkdir d; echo > d/y");
    let differs = compare(dir.as_fd(), &[base], (None, None)).unwrap();
    assert_eq!(differs.get(&b".wh.x"[..]), Some(&Change::Added));
    let options = pack::Options {
        only: Some(&differs),
        ..pack::Options::default()
    };
    assert!(pack::export(dir.as_fd(), &mut Vec::new(), &options).is_err());
}

#[test]
fn removed_names_on_an_overlay() {
    let scratch = Scratch::new("nested");
    let (base, _) = scratch.dir("base");
    let (upper, _) = scratch.dir("upper");
    let (work, _) = scratch.dir("work");
    let stack = Overlay {
        lowers: vec![base],
        upper,
        work,
        volatile: false,
        read_only: false,
    };
    let mount = overlay::mount(&stack).unwrap();
    let inside = path_of(&mount);
    shell(
        &inside,
        "mkdir low top copy; mkdir low/d low/o; echo 1 > low/d/a; echo 1 > low/d/b; echo 1 > low/o/x",
    );
    let tar = Tar::default()
        .add("d/.wh.a", b'0', b"")
        .add("o/.wh..wh..opq", b'0', b"")
        .add("d/.wh.dir", b'0', b"")
        .add("d/dir/new", b'0', b"n");
    let top = File::open(inside.join("top")).unwrap();
    match unpack(&tar.0[..], top.as_fd(), &Options::default()) {
        Ok(_) => {}
        // Before Linux 6.7 an overlay keeps all such attributes to itself.
        Err(e) if e.to_string().contains("not supported") => return,
        Err(e) => panic!("{e}"),
    }
    let layers = [inside.join("low"), inside.join("top")];
    let copy = File::open(inside.join("copy")).unwrap();
    copy::stack(&layers, copy.as_fd(), (copy::Files::Copied, None)).unwrap();
    for (path, there) in [
        ("d/a", false),
        ("d/b", true),
        ("o/x", false),
        ("o", true),
        ("d/dir/new", true),
    ] {
        assert_eq!(inside.join("copy").join(path).exists(), there, "{path}");
    }
    assert_eq!(
        compare(copy.as_fd(), &layers, (None, None)).unwrap(),
        Default::default()
    );
    let told = changes(top.as_fd(), &layers[..1], (Form::Overlay, None)).unwrap();
    assert_eq!(told.get(&b"d/a"[..]), Some(&Change::Deleted));
    assert_eq!(told.get(&b"o/x"[..]), Some(&Change::Deleted));
}
