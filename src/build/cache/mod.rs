//! The cache of builds elsewhere: `--cache-from` and `--cache-to`. This engine's own is the store's (`store/cache.rs`).

pub(crate) mod export;
pub(crate) mod import;
