//! A directory tree ↔ a tar: unpacking and packing, whiteouts, compression, overlay mounts.

mod aufs;
pub(crate) mod changes;
pub(crate) mod compress;
pub(crate) mod copy;
pub(crate) mod difference;
pub(crate) mod driver;
pub(crate) mod gzip;
pub(crate) mod listing;
pub(crate) mod overlay;
pub(crate) mod pack;
pub(crate) mod stack;
pub(crate) mod tar_split;

#[cfg(test)]
mod tests;

mod archive;
pub(crate) mod file_copy;
mod flatten;
mod header;
mod inherit;
mod mode;
mod number;
mod owners;
mod pax;
mod settle;
mod size;
mod sparse;
mod stream;
mod sum;
mod tarsum;
mod tree;
mod unpack;
mod verify;
mod walk;
mod whiteout;
pub(crate) mod xattr;

pub(crate) use archive::is_archive;
pub(crate) use flatten::flatten;
pub(crate) use inherit::inherit;
pub(crate) use mode::set_mode;
pub(crate) use settle::settle;
pub(crate) use size::size;
pub(crate) use sum::Sum;
pub(crate) use tarsum::TarSum;
pub(crate) use unpack::{Onto, Options, Unpacked, unpack};
pub(crate) use verify::verify;
pub(crate) use walk::Mounts;

/// A path for people. An archive's names may have anything in them, also what a terminal obeys.
fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(if path.is_empty() { b"/" } else { path });
    match text.chars().any(char::is_control) {
        true => text.escape_debug().to_string(),
        false => text.into_owned(),
    }
}
