//! What goes through an archive comes out as it was.

use super::*;
use crate::layer::tar_split::rebuild;
use crate::layer::xattr::Xattr;
use crate::model::id::DiffId;

/// Unpacks with a record, and rebuilds: the bytes must be the same. Returns the unpacked directory.
fn there_and_back(scratch: &Scratch, archive: &[u8]) -> PathBuf {
    let (path, dir) = scratch.dir("out");
    let record = scratch.file("record");
    let options = Options {
        record: Some(record.try_clone().unwrap()),
        open_root: false,
    };
    let unpacked = unpack(archive, dir.as_fd(), &options).unwrap();
    assert_eq!(unpacked.diff_id, DiffId(Digest::of(archive)));
    assert_eq!(unpacked.size, crate::layer::size(dir.as_fd()).unwrap());
    let mut rebuilt = Vec::new();
    let digest = rebuild(&record, dir.as_fd(), &mut rebuilt).unwrap();
    assert!(rebuilt == archive, "rebuilt archive differs");
    assert_eq!(digest, unpacked.diff_id.0);
    path
}

/// A tree with one of everything.
fn everything(root: &Path) {
    let script = r#"set -e; cd "$1"
        mkdir -p etc usr/bin usr/lib "dir with space" empty deep/$(printf 'd%.0s' $(seq 120))/$(printf 'e%.0s' $(seq 120))
        printf hello > etc/hostname; : > etc/empty
        head -c 100000 /dev/urandom > usr/bin/large
        ln usr/bin/large usr/bin/same; ln -s ../bin/large usr/lib/link; ln -s /nowhere usr/lib/dangling
        ln usr/lib/link usr/lib/link-too
        printf x > "deep/$(printf 'd%.0s' $(seq 120))/$(printf 'e%.0s' $(seq 120))/file"
        printf x > "$(printf 'bad\377\376name')"
        mknod null c 1 3; mknod disk b 8 17; mkfifo fifo
        chmod 4755 usr/bin/large; chmod 2775 empty; chmod 1777 "dir with space"; chmod 0 etc/empty
        chown 1000:100 etc/hostname; chown 3000000:4000000 empty; chown -h 7:8 usr/lib/link
        truncate -s 900000 sparse; printf middle | dd of=sparse bs=1 seek=500000 conv=notrunc status=none
        printf end | dd of=sparse bs=1 seek=890000 conv=notrunc status=none
        truncate -s 700000 hole
        touch -h -d '2001-02-03 04:05:06.789012345 UTC' etc/hostname; touch -h -d '1969-01-01 UTC' usr/lib/link
        touch -d '1901-12-20 UTC' etc/empty; touch -d '2020-01-01 00:00:00.5 UTC' usr etc .
    "#;
    let out = Command::new("sh").args(["-c", script, "-"]).arg(root).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let root = File::open(root).unwrap();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (file, name, value) in [
        ("etc/hostname", "user.note", &b"a\n1\0\xff"[..]),
        ("usr/bin/large", "security.capability", &capability),
        ("usr", "trusted.mark", b"=\n="),
        ("usr/lib/link", "trusted.link", b"l"),
    ] {
        let xattr = Xattr::new(name.as_bytes(), value.to_vec()).unwrap();
        xattr::set(root.as_fd(), file.as_bytes(), &xattr).unwrap();
    }
}

#[test]
#[ignore = "needs root"]
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
