//! The keys that detach from a terminal without ending the program. Pure.

use crate::error::{Error, Result};

/// Keys that detach, as bytes to be typed one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys(pub(crate) Vec<u8>);

impl DetachKeys {
    /// Docker's form: `ctrl-p,ctrl-q`; each a letter, or `ctrl-` and one of `a-z@[\]^_`. Empty never detaches.
    pub(crate) fn parse(keys: &str) -> Result<Self> {
        if keys.is_empty() {
            return Ok(DetachKeys(Vec::new()));
        }
        let key = |key: &str| match key.as_bytes() {
            [c] => Some(*c),
            _ => match key.strip_prefix("ctrl-")?.as_bytes() {
                [c @ b'a'..=b'z'] => Some(c - b'a' + 1),
                [b'@'] => Some(0),
                [c @ b'['..=b'_'] => Some(c - b'[' + 27),
                _ => None,
            },
        };
        let bytes = keys
            .split(',')
            .map(|k| key(k).ok_or(k))
            .collect::<Result<Vec<u8>, &str>>();
        bytes.map(DetachKeys).map_err(|k| {
            Error::usage(format!(
                "invalid detach key '{k}': want a single character or ctrl- and one of a-z@[\\]^_"
            ))
        })
    }
}

/// Looks for the keys in what is typed; bytes that turn out not to be them are given back (F118).
pub(super) struct Matcher {
    keys: Vec<u8>,
    matched: usize,
}

impl Matcher {
    pub(super) fn new(keys: &DetachKeys) -> Matcher {
        Matcher {
            keys: keys.0.clone(),
            matched: 0,
        }
    }

    /// What is to be passed on, and whether the keys are complete (then what follows them is dropped).
    pub(super) fn feed(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(typed.len() + self.matched);
        for byte in typed {
            if self.keys.get(self.matched) == Some(byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return (passed, true);
                }
                continue;
            }
            passed.extend_from_slice(&self.keys[..self.matched]);
            self.matched = usize::from(self.keys.first() == Some(byte));
            if self.matched == 0 {
                passed.push(*byte);
            } else if self.keys.len() == 1 {
                self.matched = 0;
                return (passed, true);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_dockers_form() {
        let keys = |text: &str| DetachKeys::parse(text).map(|k| k.0);
        assert_eq!(keys("ctrl-p,ctrl-q").unwrap(), [16, 17]);
        assert_eq!(keys("a,ctrl-@,ctrl-],x").unwrap(), [b'a', 0, 29, b'x']);
        assert!(keys("").unwrap().is_empty());
        for bad in ["ctrl-", "ctrl-P", "ctrl-pp", "ab", "a,"] {
            assert!(keys(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_that_is_not_followed_by_the_next_is_given_back() {
        let mut m = Matcher::new(&DetachKeys(vec![16, 17]));
        assert_eq!(m.feed(b"a\x10"), (b"a".to_vec(), false));
        assert_eq!(m.feed(b"b"), (b"\x10b".to_vec(), false));
        assert_eq!(m.feed(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(m.feed(b"\x11rest"), (Vec::new(), true));
        assert_eq!(
            Matcher::new(&DetachKeys(Vec::new())).feed(b"\x10\x11"),
            (b"\x10\x11".to_vec(), false)
        );
    }
}
