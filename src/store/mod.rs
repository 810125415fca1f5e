//! What is on disk.

use std::path::PathBuf;

/// The engine's two root directories.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    root: PathBuf,
    run_root: PathBuf,
}
