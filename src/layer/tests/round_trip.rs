//! What goes through an archive comes out as it was.

use super::*;
use crate::layer::tar_split::rebuild;
use crate::model::id::DiffId;

/// Unpacks with a record, and rebuilds: the bytes must be the same. Returns the unpacked directory.
fn there_and_back(scratch: &Scratch, archive: &[u8]) -> PathBuf {
    let (path, dir) = scratch.dir("out");
    let record = record_file();
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
