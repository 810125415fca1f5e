//! Contexts: where the Dockerfile is found, what is ignored, what a hostile archive can not do.
#![allow(clippy::disallowed_methods)] // test files need no staging

use super::*;
use crate::store::testing::Scratch;
use std::fs;
use std::path::PathBuf;

fn scratch(files: &[(&str, &str)]) -> (Scratch, PathBuf) {
    let store = Scratch::new();
    let dir = store.root().join("context");
    fs::create_dir(&dir).unwrap();
    for (name, content) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    (store, dir)
}

fn ask(store: &Store, place: ContextPlace, dockerfile: DockerfilePlace) -> Result<Opened> {
    let access = Access::default();
    open(
        store,
        &Asked {
            place: &place,
            dockerfile: &dockerfile,
            ignore_file: None,
            access: &access,
            keep_git_dir: false,
        },
    )
}

#[test]
fn which_dockerfile() {
    let file = |path: &str| DockerfilePlace::File(PathBuf::from(path));
    let (store, dir) = scratch(&[("Dockerfile", "1"), ("Containerfile", "2"), ("sub/other", "3")]);
    let outside = store.root().join("elsewhere");
    fs::write(&outside, "4").unwrap();
    let open = |place| ask(&store, ContextPlace::Directory(dir.clone()), place).map(|o| o.dockerfile.text);
    assert_eq!(open(DockerfilePlace::Usual).unwrap(), b"1");
    assert_eq!(open(file("sub/other")).unwrap(), b"3", "in the context");
    assert_eq!(open(DockerfilePlace::File(outside)).unwrap(), b"4", "outside of it");
    let e = open(file("none")).unwrap_err();
    assert_eq!(e.to_string(), "open none: no such file or directory");
    fs::remove_file(dir.join("Dockerfile")).unwrap();
    assert_eq!(open(DockerfilePlace::Usual).unwrap(), b"2");
    fs::remove_file(dir.join("Containerfile")).unwrap();
    let e = open(DockerfilePlace::Usual).unwrap_err();
    assert!(
        e.to_string()
            .ends_with("/context/Dockerfile: no such file or directory"),
        "{e}"
    );
    assert!(e.hint().unwrap().contains("no Dockerfile"));
    // A link in it stays in it.
    std::os::unix::fs::symlink("/etc/passwd", dir.join("Dockerfile")).unwrap();
    assert!(open(DockerfilePlace::Usual).is_err());
    fs::remove_file(dir.join("Dockerfile")).unwrap();
    fs::create_dir(dir.join("Dockerfile")).unwrap();
    assert!(
        open(DockerfilePlace::Usual)
            .unwrap_err()
            .to_string()
            .to_lowercase()
            .contains("directory")
    );
    for (path, said) in [("none", "not found"), ("sub/other", "not a directory")] {
        let e = ask(&store, ContextPlace::Directory(dir.join(path)), DockerfilePlace::Usual)
            .map(drop)
            .unwrap_err();
        assert!(
            e.to_string().starts_with("unable to prepare context: path") && e.to_string().contains(said),
            "{e}"
        );
    }
    assert!(ask(&store, ContextPlace::Stdin, DockerfilePlace::Stdin).is_err());
}

#[test]
fn which_ignore_file() {
    let (store, dir) = scratch(&[("Dockerfile", "1"), ("sub/D", "1"), (".dockerignore", "docker")]);
    let ignored = |place: DockerfilePlace| {
        let opened = ask(&store, ContextPlace::Directory(dir.clone()), place).unwrap();
        ["docker", "container", "own"]
            .into_iter()
            .filter(|n| opened.context.ignore.ignores(n.as_bytes()))
            .collect::<Vec<_>>()
    };
    let sub = || DockerfilePlace::File(dir.join("sub/D"));
    assert_eq!(ignored(DockerfilePlace::Usual), ["docker"]);
    fs::write(dir.join(".containerignore"), "container").unwrap();
    assert_eq!(ignored(DockerfilePlace::Usual), ["container"]);
    fs::write(dir.join("sub/D.dockerignore"), "own").unwrap();
    assert_eq!(ignored(sub()), ["own"]);
    assert_eq!(ignored(DockerfilePlace::Usual), ["container"]);
    fs::write(dir.join("Dockerfile.dockerignore"), "[").unwrap();
    let e = ask(&store, ContextPlace::Directory(dir.clone()), DockerfilePlace::Usual)
        .map(drop)
        .unwrap_err();
    assert_eq!(
        e.to_string(),
        "Dockerfile.dockerignore: line 1: syntax error in pattern '['"
    );
}

fn member(name: &str, kind: tar::EntryType, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

fn staged(store: &Store) -> usize {
    fs::read_dir(store.root().join("staging")).unwrap().count()
}

#[test]
fn a_stream_is_a_dockerfile_or_a_tar() {
    let (store, _) = scratch(&[]);
    let tar = [
        member("./Dockerfile", tar::EntryType::Regular, "", b"FROM x"),
        member(".wh.f", tar::EntryType::Regular, "", b"1"),
        vec![0; 1024],
    ]
    .concat();
    for bytes in [tar.clone(), zstd::encode_all(tar.as_slice(), 1).unwrap()] {
        let Sniffed::Context(context) = stream::open(&store, bytes.as_slice()).unwrap() else {
            panic!()
        };
        let found = dockerfile::find(&Access::default(), &context, None, &DockerfilePlace::Usual).unwrap();
        assert_eq!(found.text, b"FROM x");
        assert!(
            rustix::fs::statat(&context.root, ".wh.f", rustix::fs::AtFlags::empty()).is_ok(),
            "no whiteout"
        );
        assert_eq!(staged(&store), 1);
    }
    assert_eq!(staged(&store), 0);
    for text in ["", "FROM scratch\n", "# a comment"] {
        let Sniffed::Dockerfile(got) = stream::open(&store, text.as_bytes()).unwrap() else {
            panic!()
        };
        assert_eq!(got, text.as_bytes());
    }
    let endless = std::io::Read::take(std::io::repeat(b'#'), 1 << 30);
    let e = stream::open(&store, endless).map(drop).unwrap_err();
    assert_eq!(e.to_string(), "the Dockerfile has more than 16 MiB");
}

#[test]
fn a_hostile_archive_leads_nowhere_and_leaves_nothing() {
    use tar::EntryType as T;
    let (store, _) = scratch(&[]);
    let secret = store.root().join("secret");
    fs::create_dir(&secret).unwrap();
    let out = secret.to_str().unwrap().to_owned();
    for (what, members) in [
        ("a name upwards", vec![member("../../secret/x", T::Regular, "", b"1")]),
        (
            "a name upwards inside",
            vec![member("a/../../secret/x", T::Regular, "", b"1")],
        ),
        (
            "an absolute name",
            vec![member(&format!("{out}/x"), T::Regular, "", b"1")],
        ),
        (
            "through a link",
            vec![member("l", T::Symlink, &out, b""), member("l/x", T::Regular, "", b"1")],
        ),
        (
            "through a link upwards",
            vec![
                member("l", T::Symlink, "../../secret", b""),
                member("l/x", T::Regular, "", b"1"),
            ],
        ),
        ("a hard link out", vec![member("h", T::Link, "/etc/passwd", b"")]),
        (
            "a hard link upwards",
            vec![member("h", T::Link, "../../../../../etc/passwd", b"")],
        ),
        (
            "over a link",
            vec![
                member("l", T::Symlink, &format!("{out}/x"), b""),
                member("l", T::Regular, "", b"1"),
            ],
        ),
    ] {
        let mut bytes = members.concat();
        bytes.resize(bytes.len() + 1024, 0);
        let opened = stream::open(&store, bytes.as_slice());
        if let Ok(Sniffed::Context(context)) = opened {
            for path in ["h", "l", "l/x"] {
                let inside = rustix::fs::ResolveFlags::BENEATH;
                if let Ok(fd) =
                    rustix::fs::openat2(&context.root, path, rustix::fs::OFlags::RDONLY, Mode::empty(), inside)
                {
                    let mut text = String::new();
                    let _ = std::io::Read::read_to_string(&mut fs::File::from(fd), &mut text);
                    assert!(!text.contains("root:"), "{what}");
                }
            }
        }
        assert_eq!(fs::read_dir(&secret).unwrap().count(), 0, "{what}");
        assert_eq!(staged(&store), 0, "{what}");
    }
    // Cut off in the middle.
    let whole = member("Dockerfile", T::Regular, "", &[b'x'; 5000]);
    assert!(stream::open(&store, &whole[..3000]).is_err());
    assert_eq!(staged(&store), 0);
}

#[test]
fn what_is_mounted_has_nothing_ignored() {
    let (store, dir) = scratch(&[("Dockerfile", "1"), ("src/a", "1"), ("src/secret", "2"), ("lib/b", "3")]);
    fs::write(dir.join(".dockerignore"), "**/secret").unwrap();
    let opened = ask(&store, ContextPlace::Directory(dir), DockerfilePlace::Usual).unwrap();
    let names = |bound: &Bound| {
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&bound.fd()));
        let mut names: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let lib = opened.context.bindable(&store, "lib").unwrap();
    assert_eq!((names(&lib), staged(&store)), (vec!["b".to_owned()], 0), "in its place");
    let src = opened.context.bindable(&store, "/src").unwrap();
    assert_eq!((names(&src), staged(&store)), (vec!["a".to_owned()], 1), "a copy");
    drop(src);
    assert_eq!(staged(&store), 0);
    assert!(opened.context.bindable(&store, "src/secret").is_err());
    assert!(opened.context.bindable(&store, "none").is_err());
}

#[test]
fn what_is_known_is_kept_for_the_next_build() {
    let (store, dir) = scratch(&[("Dockerfile", "1"), ("a", "1"), ("d/b", "2")]);
    let build = || {
        let opened = ask(&store, ContextPlace::Directory(dir.clone()), DockerfilePlace::Usual).unwrap();
        let digest = copy::digest_tree(opened.context.tree(), "/").unwrap();
        opened.context.remember(&store);
        digest
    };
    let first = build();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    // Until the clock has ticked, nothing is remembered.
    while store
        .memo(&Digest::of(fs::canonicalize(&dir).unwrap().as_os_str().as_bytes()))
        .is_none()
    {
        assert!(std::time::Instant::now() < deadline);
        assert_eq!(build(), first);
    }
    assert_eq!(build(), first);
    fs::write(dir.join("d/b"), "3").unwrap();
    let second = build();
    assert_ne!(second, first);
    fs::write(dir.join("d/b"), "2").unwrap();
    assert_eq!(build(), first);
}
