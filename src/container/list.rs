//! Rows of `ps`.
