//! A directory tree ↔ a tar: unpacking, whiteouts, compression, overlay mounts.

pub(crate) mod compress;
pub(crate) mod copy;
pub(crate) mod overlay;
pub(crate) mod tar_split;

#[cfg(test)]
mod tests;

mod archive;
mod number;
mod pax;
mod size;
mod sparse;
mod stream;
mod tree;
mod unpack;
mod walk;
mod whiteout;
mod xattr;

pub(crate) use size::size;
pub(crate) use unpack::{Options, unpack};
