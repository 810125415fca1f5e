//! Identifiers. Each kind has its own type, so that they can't be mixed up: a container's id is random, the others are
//! digests (image-spec, config.md "Layer DiffID", "Layer ChainID", "ImageID").

use crate::error::{Error, Result};
use crate::model::digest::Digest;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Characters of an id that people see.
pub(crate) const SHORT: usize = 12;

/// 64 random lower-case hex digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct ContainerId(String);

impl ContainerId {
    /// From 32 random bytes.
    pub(crate) fn from_random(bytes: &[u8; 32]) -> Self {
        use std::fmt::Write as _;
        ContainerId(bytes.iter().fold(String::with_capacity(64), |mut s, b| {
            let _ = write!(s, "{b:02x}");
            s
        }))
    }

    /// `None` unless `s` is a whole id.
    pub(crate) fn parse(s: &str) -> Option<Self> {
        (s.len() == 64 && is_hex(s)).then(|| ContainerId(s.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits.
    pub(crate) fn short(&self) -> &str {
        &self.0[..SHORT]
    }
}

impl TryFrom<String> for ContainerId {
    type Error = Error;

    fn try_from(s: String) -> Result<Self> {
        ContainerId::parse(&s).ok_or_else(|| Error::other(format!("invalid container id '{s}'")))
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> String {
        id.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `s` has only lower-case hex digits, as every id has.
pub(crate) fn is_hex(s: &str) -> bool {
    !s.is_empty() && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether `s` can be the id of an image of docker's first registries: 64 digits, of what nobody knows.
pub(crate) fn is_v1_id(s: &str) -> bool {
    s.len() == 64 && is_hex(s)
}

macro_rules! digest_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub(crate) struct $name(pub(crate) Digest);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

digest_id! {
    /// Digest of an image's configuration, byte for byte.
    ImageId
}
digest_id! {
    /// Digest of a layer's uncompressed tar.
    DiffId
}
digest_id! {
    /// Digest over the diff ids from the base up to a layer: the name of the unpacked layer's directory.
    ChainId
}

impl ImageId {
    /// 64 hex digits: the name on disk.
    pub(crate) fn hex(&self) -> String {
        self.0.hex()
    }

    /// The first 12 hex digits: what people see.
    pub(crate) fn short(&self) -> String {
        let mut hex = self.0.hex();
        hex.truncate(SHORT);
        hex
    }

    pub(crate) fn from_hex(hex: &str) -> Option<Self> {
        Digest::from_hex(hex).map(ImageId)
    }
}

impl ChainId {
    /// 64 hex digits: the name on disk.
    pub(crate) fn hex(&self) -> String {
        self.0.hex()
    }

    pub(crate) fn from_hex(hex: &str) -> Option<Self> {
        Digest::from_hex(hex).map(ChainId)
    }

    /// The chain id of a layer with `diff` on top of `parent`.
    pub(crate) fn of(parent: Option<ChainId>, diff: DiffId) -> Self {
        match parent {
            None => ChainId(diff.0),
            Some(parent) => ChainId(Digest::of(format!("{parent} {diff}").as_bytes())),
        }
    }

    /// The chain of a whole stack, base first.
    pub(crate) fn chain(diffs: &[DiffId]) -> Vec<ChainId> {
        let mut parent = None;
        diffs
            .iter()
            .map(|d| {
                let id = ChainId::of(parent, *d);
                parent = Some(id);
                id
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_starts_with_its_first_diff() {
        let (a, b) = (DiffId(Digest::of(b"a")), DiffId(Digest::of(b"b")));
        let chain = ChainId::chain(&[a, b]);
        assert_eq!(chain[0].0, a.0);
        assert_eq!(chain[1].0, Digest::of(format!("{a} {b}").as_bytes()));
    }

    #[test]
    fn only_whole_lower_case_ids_parse() {
        let id = ContainerId::from_random(&[0xab; 32]);
        assert_eq!(id.short(), "abababababab");
        assert_eq!(ContainerId::parse(id.as_str()), Some(id));
        assert_eq!(ContainerId::parse(&"A".repeat(64)), None);
        assert_eq!(ContainerId::parse("abab"), None);
    }
}
