//! A directory tree ↔ a tar: unpacking, whiteouts, compression, overlay mounts.

pub(crate) mod overlay;
