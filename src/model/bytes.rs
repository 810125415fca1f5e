//! Bytes that are usually text: arguments, environment and paths of a container, which the kernel does not promise to
//! be UTF-8. In JSON they are a string where they are UTF-8, and an array of numbers where they are not.

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use std::borrow::Cow;
use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// A string of bytes without the promise of UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct ByteString(Vec<u8>);

impl ByteString {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }

    /// For people: what is not UTF-8 becomes U+FFFD.
    pub(crate) fn to_string_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }

    /// As the kernel takes it; `None` if it has a NUL inside.
    pub(crate) fn to_cstring(&self) -> Option<CString> {
        CString::new(self.0.as_slice()).ok()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Splits `NAME=value` at the first `=`; without one the value is `None`.
    pub(crate) fn split_env(&self) -> (&[u8], Option<&[u8]>) {
        match self.0.iter().position(|b| *b == b'=') {
            Some(at) => (&self.0[..at], Some(&self.0[at + 1..])),
            None => (&self.0, None),
        }
    }
}

impl From<&str> for ByteString {
    fn from(s: &str) -> Self {
        ByteString(s.as_bytes().to_vec())
    }
}

impl From<String> for ByteString {
    fn from(s: String) -> Self {
        ByteString(s.into_bytes())
    }
}

impl From<Vec<u8>> for ByteString {
    fn from(v: Vec<u8>) -> Self {
        ByteString(v)
    }
}

impl From<OsString> for ByteString {
    fn from(s: OsString) -> Self {
        ByteString(s.into_vec())
    }
}

impl fmt::Debug for ByteString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string_lossy(), f)
    }
}

impl Serialize for ByteString {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => s.serialize_str(text),
            Err(_) => s.collect_seq(self.0.iter()),
        }
    }
}

impl<'de> Deserialize<'de> for ByteString {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = ByteString;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of bytes")
            }

            fn visit_str<E>(self, v: &str) -> Result<ByteString, E> {
                Ok(v.into())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ByteString, A::Error> {
                let mut bytes = Vec::new();
                while let Some(b) = seq.next_element::<u8>()? {
                    bytes.push(b);
                }
                Ok(ByteString(bytes))
            }
        }
        d.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_every_byte() {
        for bytes in [&b"plain"[..], b"", b"caf\xc3\xa9", b"\xff\x00\xfe", b"a\0b"] {
            let s = ByteString::from(bytes.to_vec());
            let json = serde_json::to_string(&s).unwrap();
            assert_eq!(
                serde_json::from_str::<ByteString>(&json).unwrap().as_bytes(),
                bytes,
                "{json}"
            );
        }
    }

    #[test]
    fn environment_splits_at_the_first_equals_sign() {
        assert_eq!(ByteString::from("A=b=c").split_env(), (&b"A"[..], Some(&b"b=c"[..])));
        assert_eq!(ByteString::from("A").split_env(), (&b"A"[..], None));
    }
}
