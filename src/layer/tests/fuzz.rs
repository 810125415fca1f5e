//! Bytes that mean nothing: no archive, however damaged, may panic, hang, or write outside.

use super::*;
use crate::layer::compress;
use crate::layer::tar_split::rebuild;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use std::io::Read;

/// Numbers that are the same on every run (xorshift64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % n as u64).unwrap()
    }
}

/// Every kind of header there is.
fn seeds() -> Vec<Vec<u8>> {
    let outside = "/tmp/layer-outside";
    let plain = Tar::default()
        .add("./", b'5', b"")
        .add("./d/", b'5', b"")
        .add("./d/f", b'0', &[b'x'; 700])
        .link("./d/l", b'2', outside)
        .link("./d/h", b'1', "d/f")
        .add("./d/l/through", b'0', b"y")
        .with("c", b'3', b"", |h| h.set_device_major(1).unwrap())
        .add("p", b'6', b"")
        .add("d/.wh.gone", b'0', b"")
        .add("d/.wh..wh..opq", b'0', b"")
        .add("d", b'0', b"now a file");
    let long = Tar::default()
        .add("././@LongLink", b'L', &b"n/".repeat(15))
        .add("././@LongLink", b'K', &[b't'; 200])
        .add("n", b'2', b"")
        .add("g", b'g', &record("mtime", b"-5.5"))
        .pax(&[
            ("path", b"p/a/x"),
            ("SCHILY.xattr.user.a", b"1\n2"),
            ("mtime", b"1.25"),
            ("uid", b"3000000"),
        ])
        .add("x", b'0', b"content");
    let sparse = Tar::default()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"s"),
            ("GNU.sparse.realsize", b"9000"),
        ])
        .add(
            "x",
            b'0',
            &[&b"2\n0\n5\n8000\n5\n"[..], &[0; 499], b"firstagain"].concat(),
        )
        .pax(&[("GNU.sparse.size", b"9000"), ("GNU.sparse.map", b"0,5,8000,5")])
        .add("s", b'0', b"firstagain");
    vec![plain.end(), long.end(), sparse.end()]
}

/// Some bytes changed, in headers usually, and their checksum made right again more often than not.
fn damage(archive: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = archive.to_vec();
    for _ in 0..=random.below(4) {
        let block = random.below(bytes.len() / 512) * 512;
        for _ in 0..=random.below(6) {
            let at = block + random.below(512);
            let interesting = [
                0, 0xff, 0x80, b'/', b'.', b'0', b'7', b'9', b'\n', b'=', b' ', b'x', b'S', b'5',
            ];
            bytes[at] = match random.below(3) {
                0 => bytes[at] ^ 1 << random.below(8),
                _ => interesting[random.below(interesting.len())],
            };
        }
        if random.below(4) > 0 {
            let header: &mut [u8; 512] = (&mut bytes[block..block + 512]).try_into().unwrap();
            let mut fixed = Header::new_old();
            fixed.as_mut_bytes().copy_from_slice(header);
            fixed.set_cksum();
            header.copy_from_slice(fixed.as_bytes());
        }
    }
    match random.below(8) {
        0 => bytes.truncate(random.below(archive.len())),
        1 => {
            let from = random.below(bytes.len() / 512) * 512;
            let copy = bytes[from..].to_vec();
            bytes.extend_from_slice(&copy);
        }
        _ => {}
    }
    bytes
}

#[test]
fn damaged_archives_end_in_an_error_or_a_tree() {
    let scratch = Scratch::new("fuzz");
    let top = scratch.0.clone();
    // In memory, in a mount namespace that ends with its thread: hundreds of trees are made and removed.
    let tried = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        mount("tmpfs", &top, "tmpfs", MountFlags::empty(), c"mode=0700").unwrap();
        try_damaged_archives(&top);
    });
    tried.join().unwrap();
}

fn try_damaged_archives(top: &Path) {
    let outside = Path::new("/tmp/layer-outside");
    let _ = fs::remove_dir_all(outside);
    fs::create_dir(outside).unwrap();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut good, mut bad) = (0, 0);
    for i in 0..200 {
        for seed in seeds() {
            let archive = if i == 0 { seed } else { damage(&seed, &mut random) };
            let path = top.join("out");
            fs::create_dir(&path).unwrap();
            let dir: OwnedFd = File::open(&path).unwrap().into();
            let record = record_file();
            let options = Options {
                record: Some(record.try_clone().unwrap()),
                open_root: false,
                ..Options::default()
            };
            match unpack(archive.as_slice(), dir.as_fd(), &options) {
                Ok(unpacked) => {
                    good += 1;
                    let mut rebuilt = Vec::new();
                    let digest = rebuild(&record, dir.as_fd(), &mut rebuilt).unwrap();
                    assert!(
                        rebuilt == archive && digest == unpacked.diff_id.0,
                        "run {i}: not rebuilt"
                    );
                }
                Err(e) => {
                    assert!(i > 0, "{e}");
                    bad += 1;
                }
            }
            fs::remove_dir_all(path).unwrap();
        }
    }
    assert!(good > 40 && bad > 40, "{good} unpacked, {bad} refused");
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
    assert!(list(top).is_empty());
    fs::remove_dir(outside).unwrap();
}

#[test]
fn damaged_compression_ends_in_an_error_or_bytes() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut seeds: Vec<Vec<u8>> = seeds()
        .iter()
        .map(|s| ::zstd::encode_all(s.as_slice(), 3).unwrap())
        .collect();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, &[b'x'; 5000]).unwrap();
    seeds.push(gzip.finish().unwrap());
    for _ in 0..3000 {
        for seed in &seeds {
            let mut bytes = seed.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
            if let Ok(decoder) = compress::reader(bytes.as_slice()) {
                let _ = std::io::copy(&mut decoder.take(1 << 24), &mut std::io::sink());
            }
        }
    }
}
