//! Trees that are walked, measured and copied.

use super::*;
use crate::layer::{copy, overlay, size};
use rustix::fs::{Mode, OFlags, mkdirat, openat};

/// A chain of directories much deeper than a path can be long.
fn deep(dir: &OwnedFd, depth: usize) {
    let mut at = dir.try_clone().unwrap();
    for i in 0..depth {
        mkdirat(&at, "directory", Mode::from(0o755)).unwrap();
        at = openat(
            &at,
            "directory",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .unwrap();
        if i % 100 == 0 {
            openat(
                &at,
                "file",
                OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC,
                Mode::from(0o600),
            )
            .unwrap();
        }
    }
}

#[test]
fn a_walk_is_as_deep_as_it_must() {
    let scratch = Scratch::new("deep");
    let (_, dir) = scratch.dir("top");
    deep(&dir, 3000);
    assert_eq!(size(dir.as_fd()).unwrap(), 0);
}

#[test]
fn hard_links_count_once() {
    let scratch = Scratch::new("sizes");
    let (path, dir) = scratch.dir("top");
    fs::write(path.join("a"), [0; 1000]).unwrap();
    fs::hard_link(path.join("a"), path.join("b")).unwrap();
    std::os::unix::fs::symlink("12345", path.join("link")).unwrap();
    assert_eq!(size(dir.as_fd()).unwrap(), 1005);
}

#[test]
fn a_copy_is_like_its_source() {
    let scratch = Scratch::new("copy");
    let (from, from_dir) = scratch.dir("from");
    everything(&from);
    let (to, to_dir) = scratch.dir("to");
    copy::tree(from_dir.as_fd(), to_dir.as_fd(), &copy::Options::default()).unwrap();
    assert_eq!(describe(&to), describe(&from));
    assert!(fs::metadata(to.join("hole")).unwrap().blocks() < 16);
    // From a container's root, which is another filesystem.
    let (upper, _) = scratch.dir("upper");
    let (work, _) = scratch.dir("work");
    let stack = overlay::Overlay {
        lowers: vec![from.clone()],
        upper,
        work,
        volatile: false,
        read_only: false,
    };
    let mount = overlay::mount(&stack).unwrap();
    let root = openat(
        &mount,
        ".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .unwrap();
    let (again, again_dir) = scratch.dir("again");
    copy::tree(root.as_fd(), again_dir.as_fd(), &copy::Options::default()).unwrap();
    // The root of the stack is the upper.
    assert_eq!(describe(&again)[1..], describe(&from)[1..]);
}
