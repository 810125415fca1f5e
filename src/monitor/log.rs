//! The json-file log: written without loss, rotated.
