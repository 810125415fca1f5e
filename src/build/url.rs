//! Files by http and https: what ADD and contexts fetch.

use crate::error::{Context as _, Error, Result};
use crate::model::digest::Digest;
use crate::registry::{Access, download};
use crate::store::{Stage, Store};
use rustix::fs::{Mode, OFlags, Timespec, Timestamps, fchmod, futimens, openat};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{Read, Write};

/// What a file is called whose address has no name in it.
pub(super) const UNNAMED: &str = "download";
const CHUNK: usize = 256 * 1024;

pub(super) fn is_one(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// Into a directory of its own, mode 0600, with the time that the server says, else 1970. Its name there is the one in
/// the address, if there is one, else [`UNNAMED`].
pub(super) fn fetch_file(
    store: &Store,
    access: &Access,
    address: &str,
    checksum: Option<&str>,
) -> Result<(Stage, Option<String>)> {
    let wanted: Option<Digest> = checksum.map(str::parse).transpose()?;
    let mut download = download::get(address, access)?;
    let stage = store.stage()?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let name = download.name.as_deref().unwrap_or(UNNAMED);
    let mode = Mode::from(0o600);
    let file = File::from(openat(stage.dir(), name, flags, mode).with_context(|| format!("make {name}"))?);
    fchmod(&file, mode)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        let n = match download.reader.read(&mut buffer) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            n => n.with_context(|| format!("fetch {address}"))?,
        };
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        (&file).write_all(&buffer[..n]).context("write")?;
    }
    let digest = Digest::from_hasher(hasher);
    if let Some(wanted) = wanted.filter(|w| *w != digest) {
        return Err(Error::other(format!("digest mismatch {digest}: {wanted} was expected")))
            .with_context(|| format!("fetch {address}"));
    }
    let time = Timespec {
        tv_sec: download.modified.unwrap_or_default(),
        tv_nsec: 0,
    };
    futimens(
        &file,
        &Timestamps {
            last_access: time,
            last_modification: time,
        },
    )?;
    Ok((stage, download.name))
}
