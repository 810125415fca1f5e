//! Bytes that mean nothing.
