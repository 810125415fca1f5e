//! Trees that are walked, measured, copied and removed.

use super::*;
use crate::layer::{copy, overlay, remove_tree, size};
use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::mount::{MountPropagationFlags, mount_bind};

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
#[ignore = "needs root"]
fn deep_trees_are_measured_and_removed() {
    let scratch = Scratch::new("deep");
    let (path, dir) = scratch.dir("top");
    deep(&dir, 3000);
    assert_eq!(size(dir.as_fd()).unwrap(), 0);
    let parent = File::open(&scratch.0).unwrap();
    remove_tree(parent.as_fd(), b"top").unwrap();
    assert!(!path.exists());
    remove_tree(parent.as_fd(), b"top").unwrap();
}

#[test]
#[ignore = "needs root"]
fn removing_follows_nothing() {
    let scratch = Scratch::new("removing");
    let (outside, _) = scratch.dir("outside");
    fs::write(outside.join("file"), "").unwrap();
    let (top, _) = scratch.dir("top");
    std::os::unix::fs::symlink(&outside, top.join("link")).unwrap();
    fs::hard_link(outside.join("file"), top.join("hard")).unwrap();
    fs::create_dir_all(top.join("closed/inner")).unwrap();
    fs::set_permissions(top.join("closed"), std::os::unix::fs::PermissionsExt::from_mode(0o0)).unwrap();
    let parent = File::open(&scratch.0).unwrap();
    remove_tree(parent.as_fd(), b"top").unwrap();
    assert_eq!(list(&scratch.0), ["outside", "outside/file"]);
    // The tree itself may be a link, or a file.
    std::os::unix::fs::symlink(&outside, scratch.0.join("top")).unwrap();
    remove_tree(parent.as_fd(), b"top").unwrap();
    assert_eq!(list(&scratch.0), ["outside", "outside/file"]);
}

#[test]
#[ignore = "needs root"]
fn removing_stops_at_a_mount() {
    let scratch = Scratch::new("mounted");
    let (outside, _) = scratch.dir("outside");
    fs::write(outside.join("file"), "").unwrap();
    let (top, _) = scratch.dir("top");
    fs::create_dir_all(top.join("a/b")).unwrap();
    let parent = scratch.0.clone();
    // In a mount namespace of its own, on a thread that ends with it.
    let error = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        mount_bind(parent.join("outside"), parent.join("top/a/b")).unwrap();
        remove_tree(File::open(&parent).unwrap().as_fd(), b"top")
            .unwrap_err()
            .to_string()
    });
    assert_eq!(error.join().unwrap(), "top: a/b: is a mount point");
    assert!(outside.join("file").exists());
}

#[test]
#[ignore = "needs root"]
fn hard_links_count_once() {
    let scratch = Scratch::new("sizes");
    let (path, dir) = scratch.dir("top");
    fs::write(path.join("a"), [0; 1000]).unwrap();
    fs::hard_link(path.join("a"), path.join("b")).unwrap();
    std::os::unix::fs::symlink("12345", path.join("link")).unwrap();
    assert_eq!(size(dir.as_fd()).unwrap(), 1005);
}

#[test]
#[ignore = "needs root"]
fn a_copy_is_like_its_source() {
    let scratch = Scratch::new("copy");
    let (from, from_dir) = scratch.dir("from");
    everything(&from);
    let (to, to_dir) = scratch.dir("to");
    copy::tree(from_dir.as_fd(), to_dir.as_fd()).unwrap();
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
    copy::tree(root.as_fd(), again_dir.as_fd()).unwrap();
    // The root of the stack is the upper.
    assert_eq!(describe(&again)[1..], describe(&from)[1..]);
}
