//! Manifests, indexes and configurations of images: bytes ↔ model. Pure.
//!
//! What is read here was written by others, and may be hostile: sizes, counts and depth are bounded, nothing is echoed
//! without being escaped, and what says two things at once is refused.

pub(crate) mod cache;
pub(crate) mod config;
pub(crate) mod descriptor;
pub(crate) mod docker_archive;
pub(crate) mod docker_v1;
pub(crate) mod layout;
pub(crate) mod manifest;
pub(crate) mod media;
pub(crate) mod schema1;

#[cfg(test)]
mod fuzz;

use crate::error::{Error, Result};
use serde::de::DeserializeOwned;

/// Of a manifest, an index, or any other list an image comes with.
pub(crate) const MAX_BYTES: usize = 4 << 20;
/// Of one image. Overlay mounts take fewer; this only keeps a hostile list from costing anything.
pub(crate) const MAX_LAYERS: usize = 1000;

/// JSON of at most [`MAX_BYTES`]; serde_json bounds its depth. `what` is told in errors.
fn parse_json<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    if bytes.len() > MAX_BYTES {
        return Err(Error::other(format!("{what} is larger than {} MiB", MAX_BYTES >> 20)));
    }
    serde_json::from_slice(bytes).map_err(|e| {
        let first = bytes.iter().find(|b| !b.is_ascii_whitespace());
        match first {
            Some(b'<') => Error::other(format!("{what} is not JSON, but a page of HTML or XML")),
            None => Error::other(format!("{what} is empty")),
            Some(_) => damaged(what, &e),
        }
    })
}

fn damaged(what: &str, e: &serde_json::Error) -> Error {
    Error::other(format!("{what} is damaged: {}", shown(&e.to_string())))
}

/// Text of others in a message: on one line, not too long, nothing a terminal obeys.
pub(crate) fn shown(text: &str) -> String {
    const MOST: usize = 160;
    let mut out = String::new();
    for (n, c) in text.chars().enumerate() {
        match c {
            _ if n == MOST => {
                out.push('…');
                break;
            }
            c if c.is_control()
                || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                out.extend(c.escape_default());
            }
            c => out.push(c),
        }
    }
    out
}

/// A JSON value as Go writes one it was given: without blanks, and with what HTML minds escaped. Images that docker makes
/// out of older ones have ids over bytes of this form.
fn compact(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in raw.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                use std::fmt::Write as _;
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            ' ' | '\t' | '\n' | '\r' if !in_string => {}
            c => out.push(c),
        }
        match c {
            '"' if !escaped => in_string = !in_string,
            _ => {}
        }
        escaped = in_string && c == '\\' && !escaped;
    }
    out
}
