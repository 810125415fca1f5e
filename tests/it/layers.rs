//! Layers beside what umoci makes of them: the same tree, entry by entry, attribute by attribute.

use crate::support::{Host, Tar, debian_tar};
use rustix::fs::{lgetxattr, llistxattr};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// One line for each entry, with all that an image keeps of it; hard links by the first name of their group.
fn describe(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut entries = BTreeMap::new();
    let mut groups: BTreeMap<(u64, u64), Vec<PathBuf>> = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        let whole = root.join(&path);
        let meta = fs::symlink_metadata(&whole).unwrap();
        let kind = meta.file_type();
        let what = if kind.is_dir() {
            todo.extend(fs::read_dir(&whole).unwrap().map(|e| path.join(e.unwrap().file_name())));
            "directory".to_owned()
        } else if kind.is_symlink() {
            format!("-> {:?}", fs::read_link(&whole).unwrap())
        } else if kind.is_file() {
            format!(
                "file {} {}",
                meta.len(),
                crate::support::sha2_hex(&fs::read(&whole).unwrap())
            )
        } else {
            format!("{:?} {}", kind.is_char_device() || kind.is_block_device(), meta.rdev())
        };
        if !kind.is_dir() && meta.nlink() > 1 {
            groups.entry((meta.dev(), meta.ino())).or_default().push(path.clone());
        }
        let line = format!(
            "{:o} {}:{} {}.{:09} {what} {:?}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec(),
            xattrs(&whole)
        );
        entries.insert(path.as_os_str().as_bytes().to_vec(), line);
    }
    for mut group in groups.into_values() {
        group.sort();
        for path in &group {
            let line = entries.get_mut(path.as_os_str().as_bytes()).unwrap();
            line.push_str(&format!(" = {}", group[0].display()));
        }
    }
    entries
}

fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0; 4096];
    let length = llistxattr(path, &mut names[..]).unwrap_or(0);
    let names = names[..length].split(|b| *b == 0).filter(|n| !n.is_empty());
    let kept = names.filter(|n| !n.starts_with(b"trusted.overlay.") && !n.starts_with(b"security.selinux"));
    let mut all: Vec<_> = kept
        .map(|name| {
            let mut value = vec![0; 65536];
            let length = lgetxattr(path, name, &mut value[..]).unwrap();
            value.truncate(length);
            (String::from_utf8_lossy(name).into_owned(), value)
        })
        .collect();
    all.sort();
    all
}

fn same(ours: &Path, theirs: &Path, what: &str, but: &[&str]) {
    let (ours, theirs) = (describe(ours), describe(theirs));
    let names = ours
        .keys()
        .chain(theirs.keys())
        .collect::<std::collections::BTreeSet<_>>();
    let differ: Vec<_> = names
        .into_iter()
        .filter(|name| ours.get(*name) != theirs.get(*name) && !but.iter().any(|b| b.as_bytes() == name.as_slice()))
        .map(|name| {
            let (ours, theirs) = (ours.get(name), theirs.get(name));
            format!(
                "{}\n  barge {ours:?}\n  umoci {theirs:?}",
                String::from_utf8_lossy(name)
            )
        })
        .collect();
    assert!(
        differ.is_empty(),
        "{what}: {} differ\n{}",
        differ.len(),
        differ[..differ.len().min(10)].join("\n")
    );
}

fn tool(program: &str, args: &[&str]) {
    let out = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(
        out.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// An OCI layout with one image, `LAYOUT:made`, of these layers.
fn layout(dir: &Path, layers: &[Vec<u8>]) -> String {
    let layout = dir.join("layout");
    let image = format!("{}:made", layout.display());
    tool("umoci", &["init", "--layout", layout.to_str().unwrap()]);
    tool("umoci", &["new", "--image", &image]);
    for (n, layer) in layers.iter().enumerate() {
        let file = dir.join(format!("layer{n}.tar"));
        fs::write(&file, layer).unwrap();
        tool(
            "umoci",
            &["raw", "add-layer", "--image", &image, file.to_str().unwrap()],
        );
        fs::remove_file(file).unwrap();
    }
    image
}

/// Both unpack the image; the two trees must be one.
fn compare(host: &Host, image: &str, what: &str, but: &[&str]) {
    let (layout, _) = image.rsplit_once(':').unwrap();
    // An unoptimised program takes its time for a distribution.
    let loaded = host
        .barge(["load", "-i", layout])
        .timeout(crate::support::seconds(400))
        .run()
        .ok()
        .text();
    let name = loaded.rsplit(": ").next().unwrap().to_owned();
    against_umoci(host, image, &name, what, but);
    host.text(["rmi", "-f", &name]);
}

fn against_umoci(host: &Host, image: &str, name: &str, what: &str, but: &[&str]) {
    let bundle = host.scratch().join("bundle");
    tool(
        "umoci",
        &[
            "unpack",
            "--keep-dirlinks=false",
            "--image",
            image,
            bundle.to_str().unwrap(),
        ],
    );
    let root = host.text(["image", "mount", name]);
    same(Path::new(&root), &bundle.join("rootfs"), what, but);
    host.text(["image", "unmount", name]);
    fs::remove_dir_all(bundle).unwrap();
}

const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// GNU tar's archive of a directory that a script fills.
fn archive(host: &Host, script: &str, attributes: &[(&str, &str, &[u8])], options: &[&str]) -> Vec<u8> {
    let dir = host.scratch().join("tree");
    fs::create_dir(&dir).unwrap();
    let file = host.scratch().join("tree.tar");
    tool("bash", &["-euc", &format!("cd {}; {script}", dir.display())]);
    for (file, name, value) in attributes {
        rustix::fs::lsetxattr(dir.join(file), *name, value, rustix::fs::XattrFlags::empty()).unwrap();
    }
    let mut args = vec!["--format=posix", "--xattrs", "--xattrs-include=*", "--sort=name"];
    args.extend_from_slice(options);
    args.extend_from_slice(&["-C", dir.to_str().unwrap(), "-cf", file.to_str().unwrap(), "."]);
    tool("tar", &args);
    fs::remove_dir_all(&dir).unwrap();
    fs::read(file).unwrap()
}

const NASTY: &str = r#"
    mkdir -p etc usr/bin usr/lib gone/deep opaque/inner kept "dir with space" $(printf 'd%.0s' {1..120})/$(printf 'e%.0s' {1..200})
    printf hello > etc/hostname; : > etc/empty; printf x > gone/deep/file; printf x > opaque/inner/file; printf x > kept/a
    head -c 300000 /dev/urandom > usr/bin/large; ln usr/bin/large usr/bin/same; ln usr/bin/large "dir with space/same"
    ln -s ../bin/large usr/lib/link; ln -s /nowhere usr/lib/dangling
    printf x > "$(printf 'd%.0s' {1..120})/$(printf 'e%.0s' {1..200})/file"
    printf x > "$(printf 'bad\377\376name')"; printf x > $'new\nline'; ln -s "$(printf 'to\377')" bad-link
    mknod null c 1 3; mknod disk b 8 300; mkfifo fifo
    chmod 4755 usr/bin/large; chmod 2775 kept; chmod 1777 "dir with space"; chmod 0 etc/empty
    chown 1000:100 etc/hostname; chown 3000000:4000000 kept/a; chown -h 7:8 usr/lib/link
    truncate -s 900000 sparse; printf middle | dd of=sparse bs=1 seek=500000 conv=notrunc status=none
    touch -h -d '2001-02-03 04:05:06.789012345 UTC' etc/hostname usr/lib/link; touch -d '1969-01-01 UTC' etc/empty
    touch -d '2020-01-01 00:00:00.5 UTC' usr etc gone opaque kept ."#;

/// On top of it: whiteouts, an opaque directory, changed and new entries.
fn second() -> Vec<u8> {
    Tar::new()
        .dir("./", 0o755)
        .file(".wh.gone", 0, "")
        .dir("opaque", 0o711)
        .file("opaque/.wh..wh..opq", 0, "")
        .file("opaque/new", 0o600, "new")
        .dir("usr", 0o755)
        .dir("usr/bin", 0o750)
        .file("usr/bin/.wh.same", 0, "")
        .file("usr/bin/more", 0o4711, "more")
        .hard_link("usr/bin/more-too", "usr/bin/more")
        .dir("etc", 0o755)
        .symlink("etc/hostname", "../kept")
        .file("etc/.wh.empty", 0, "")
        .device("null", 1, 5)
        .bytes()
}

#[test]
fn a_nasty_image_is_what_umoci_makes_of_it() {
    let host = Host::bare();
    for options in [&[][..], &["--sparse"], &["--sparse", "--sparse-version=0.1"]] {
        let attributes: &[(&str, &str, &[u8])] = &[
            ("etc/hostname", "user.note", b"\0\xff\n"),
            ("usr/bin/large", "security.capability", CAPABILITY),
            ("usr", "trusted.mark", b"m"),
        ];
        let base = archive(&host, NASTY, attributes, options);
        let image = layout(&host.scratch(), &[base, second()]);
        compare(&host, &image, &format!("{options:?}"), &[]);
        fs::remove_dir_all(host.scratch().join("layout")).unwrap();
    }
}

#[test]
fn whiteouts_count_wherever_they_stand() {
    let host = Host::bare();
    let base = Tar::new()
        .dir("./", 0o755)
        .dir("d", 0o755)
        .file("d/old", 0o644, "old")
        .file("d/both", 0o644, "old")
        .dir("e", 0o755)
        .file("e/old", 0o644, "old")
        .bytes();
    // The marks come last.
    let top = Tar::new()
        .dir("./", 0o755)
        .dir("d", 0o700)
        .file("d/both", 0o644, "new")
        .file("d/new", 0o644, "new")
        .file("d/.wh..wh..opq", 0, "")
        .dir("e", 0o755)
        .file("e/new", 0o644, "new")
        .file("e/.wh.old", 0, "")
        .dir(".wh..wh.plnk", 0o700)
        .file(".wh..wh.aufs", 0o444, "")
        .bytes();
    let image = layout(&host.scratch(), &[base, top]);
    let loaded = host.text(["load", "-i", image.rsplit_once(':').unwrap().0]);
    let name = loaded.rsplit(": ").next().unwrap();
    let root = PathBuf::from(host.text(["image", "mount", name]));
    let names: Vec<_> = describe(&root)
        .into_keys()
        .map(|n| String::from_utf8(n).unwrap())
        .collect();
    assert_eq!(names, ["", "d", "d/both", "d/new", "e", "e/new"]);
    host.text(["image", "unmount", name]);
}

#[test]
fn a_directory_without_an_entry_keeps_what_it_was() {
    let host = Host::bare();
    let base = archive(
        &host,
        "mkdir -p tmp/deep; chmod 1777 tmp; chown 7:8 tmp/deep; touch -d @5.5 tmp/deep tmp .",
        &[("tmp", "user.mark", b"m")],
        &[],
    );
    let top = Tar::new().file("tmp/deep/file", 0o644, "x").bytes();
    let image = layout(&host.scratch(), &[base, top]);
    let loaded = host.text(["load", "-i", image.rsplit_once(':').unwrap().0]);
    let name = loaded.rsplit(": ").next().unwrap();
    let root = PathBuf::from(host.text(["image", "mount", name]));
    let seen = describe(&root);
    assert!(seen[&b"tmp"[..]].starts_with("41777 0:0 5.5"), "{seen:?}");
    assert!(seen[&b"tmp"[..]].contains("user.mark"), "{seen:?}");
    assert!(seen[&b"tmp/deep"[..]].starts_with("40755 7:8 5.5"), "{seen:?}");
    assert!(seen[&b""[..]].contains(" 5.5"), "{seen:?}");
    host.text(["image", "unmount", name]);
}

#[test]
fn a_committed_layer_is_what_umoci_makes_of_it() {
    let host = Host::busybox();
    let script = "rm -r /var /etc/group; mkdir /var /d; echo v > /var/v; chmod 1777 /d; ln /tiny /d/tiny; \
        mkfifo /d/fifo; ln -s fifo /d/link; echo x > /d/f; ln /d/f /d/g; chown 3000000:5 /d/f; touch -d @-7 /d/g; \
        echo x > \"/d/$(printf 'bad\\377')\"; mkdir -p /d/$(printf 'l%.0s' $(seq 200))/x";
    host.run(["run", "--name", "c", "busybox", "sh", "-c", script]).ok();
    host.text("commit c made");
    let layout = host.scratch().join("layout");
    host.text(["save", "--format", "oci-dir", "-o", layout.to_str().unwrap(), "made"]);
    // umoci's tags have no slash.
    let index = layout.join("index.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    json["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = "made".into();
    fs::write(&index, json.to_string()).unwrap();
    let image = format!("{}:made", layout.display());
    against_umoci(&host, &image, "made", "committed", &[]);
    host.text("rm c");
}

#[test]
fn debian_is_what_umoci_makes_of_it() {
    let host = Host::bare();
    let image = layout(&host.scratch(), &[debian_tar()]);
    compare(&host, &image, "debian", &[]);
}

#[test]
fn an_image_is_a_directory_while_it_is_mounted() {
    let host = Host::busybox();
    host.run(["run", "--name", "d", "busybox", "rm", "/etc/group"]).ok();
    host.text("commit d two");
    let root = host.text("image mount two");
    assert_eq!(host.text("image mount two"), root, "once is enough");
    let path = Path::new(&root);
    assert!(path.join("etc/passwd").exists() && !path.join("etc/group").exists());
    assert!(fs::write(path.join("new"), "x").is_err());
    assert_eq!(host.text("image mount"), format!("two:latest {root}"));
    let id = host.text("images -q --no-trunc two");
    // The image goes, what is mounted stays whole.
    host.text("rm d");
    host.text("rmi two");
    host.text("image prune -f");
    assert!(path.join("bin/busybox").exists() && path.join("tiny").exists());
    let busy = fs::File::open(path).unwrap();
    host.run(["image", "unmount", &id]).fails(1).says(&["in use"]);
    drop(busy);
    host.text(["image", "unmount", &id]);
    assert!(!path.exists());
    host.run(["image", "unmount", &id]).fails(1);
    let one = host.text("image mount busybox");
    assert!(Path::new(&one).join("bin/sh").exists());
    host.text("image unmount --all --force");
    assert_eq!(host.text("image mount"), "");
}
