//! Archives written entry by entry, with names and headers no honest program would write.

use tar::{EntryType, Header};

#[derive(Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    pub fn new() -> Tar {
        Tar::default()
    }

    pub fn dir(self, path: &str, mode: u32) -> Tar {
        self.entry(EntryType::Directory, path, mode, "", &[])
    }

    pub fn file(self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Tar {
        self.entry(EntryType::Regular, path, mode, "", content.as_ref())
    }

    pub fn symlink(self, path: &str, target: &str) -> Tar {
        self.entry(EntryType::Symlink, path, 0o777, target, &[])
    }

    pub fn hard_link(self, path: &str, target: &str) -> Tar {
        self.entry(EntryType::Link, path, 0o644, target, &[])
    }

    /// A character device.
    pub fn device(mut self, path: &str, major: u32, minor: u32) -> Tar {
        let mut header = header(EntryType::Char, path, 0o666, "");
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.push(header, &[]);
        self
    }

    pub fn owned(mut self, path: &str, mode: u32, owner: (u64, u64), content: &[u8]) -> Tar {
        let mut header = header(EntryType::Regular, path, mode, "");
        header.set_uid(owner.0);
        header.set_gid(owner.1);
        self.push(header, content);
        self
    }

    /// Extended attributes for the entry that comes next.
    pub fn pax(mut self, records: &[(&str, &[u8])]) -> Tar {
        let mut body = Vec::new();
        for (key, value) in records {
            // The length counts its own digits.
            let rest = key.len() + value.len() + 3;
            let mut length = rest;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            body.extend_from_slice(format!("{length} {key}=").as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        self.push(header(EntryType::XHeader, "pax", 0o644, ""), &body);
        self
    }

    /// Any entry at all.
    #[allow(clippy::too_many_arguments)] // an entry is its five fields
    pub fn entry(mut self, kind: EntryType, path: &str, mode: u32, link: &str, content: &[u8]) -> Tar {
        self.push(header(kind, path, mode, link), content);
        self
    }

    fn push(&mut self, mut header: Header, content: &[u8]) {
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    /// The archive with its end.
    pub fn bytes(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// Names go in as they are: the crate's own setters refuse what a hostile archive holds.
fn header(kind: EntryType, path: &str, mode: u32, link: &str) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_400_000_000);
    let old = header.as_old_mut();
    old.name[..path.len()].copy_from_slice(path.as_bytes());
    old.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header
}
