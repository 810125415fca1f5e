//! PAX extended headers (POSIX pax, "pax Extended Header"): `LENGTH KEY=VALUE\n`, where a value is any bytes, so that
//! only the length says where a record ends.

use crate::error::{Error, Result};
use crate::layer::shown;
use crate::layer::xattr::{self, Xattr};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// More than the kernel lists of one file (XATTR_LIST_MAX).
const MOST_XATTRS: usize = 4096;

/// A point in time, as a file has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Time {
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
}

/// What the records of one member, or the global ones, say. Other keys mean nothing here.
#[derive(Debug, Clone, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Time>,
    pub(super) xattrs: Vec<Xattr>,
    pub(super) sparse: Sparse,
}

/// GNU's three ways of describing holes in PAX records (tar manual, "PAX Format, Version …").
#[derive(Debug, Clone, Default)]
pub(super) struct Sparse {
    pub(super) name: Option<Vec<u8>>,
    /// Version 1.0: the map stands before the data.
    pub(super) map_in_data: bool,
    pub(super) real_size: Option<u64>,
    /// Versions 0.0 and 0.1: offset, length, offset, length…
    pub(super) map: Vec<u64>,
}

impl Sparse {
    /// Whether the member is a sparse file; its other name means something only then.
    pub(super) fn is_used(&self) -> bool {
        self.map_in_data || self.real_size.is_some() || !self.map.is_empty()
    }
}

impl Records {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let mut records = Records::default();
        let mut rest = bytes;
        while let Some(first) = rest.first() {
            // Some writers pad the last block inside the size.
            if *first == 0 && rest.iter().all(|b| *b == 0) {
                break;
            }
            let (key, value, behind) = split(rest).ok_or_else(|| Error::other("malformed PAX record"))?;
            records.set(key, value)?;
            rest = behind;
        }
        Ok(records)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let bad = || {
            let (key, value) = (String::from_utf8_lossy(key), shown(&value[..value.len().min(80)]));
            Error::other(format!("PAX record {key} has the value '{}'", value))
        };
        let text = |value: &[u8]| match value.contains(&0) {
            true => Err(bad()),
            // An empty value takes a global record back: the header counts again.
            false => Ok((!value.is_empty()).then(|| value.to_vec())),
        };
        match key {
            b"path" => self.path = text(value)?,
            b"linkpath" => self.link = text(value)?,
            b"size" => self.size = Some(decimal(value).ok_or_else(bad)?),
            b"uid" => self.uid = Some(decimal(value).ok_or_else(bad)?),
            b"gid" => self.gid = Some(decimal(value).ok_or_else(bad)?),
            b"mtime" => self.mtime = Some(time(value).ok_or_else(bad)?),
            b"GNU.sparse.name" => self.sparse.name = text(value)?,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                self.sparse.real_size = Some(decimal(value).ok_or_else(bad)?);
            }
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.sparse.map.push(decimal(value).ok_or_else(bad)?),
            b"GNU.sparse.map" => {
                self.sparse.map = value
                    .split(|b| *b == b',')
                    .map(decimal)
                    .collect::<Option<_>>()
                    .ok_or_else(bad)?;
            }
            b"GNU.sparse.major" => match value {
                b"0" => {}
                b"1" => self.sparse.map_in_data = true,
                _ => return Err(bad()),
            },
            b"GNU.sparse.minor" if self.sparse.map_in_data && value != b"0" => return Err(bad()),
            _ => self.set_xattr(key, value)?,
        }
        Ok(())
    }

    /// `SCHILY.xattr.` has the value as it is and wins; libarchive adds its own, with the name in percent escapes and
    /// the value in base64.
    fn set_xattr(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let (name, value, wins) = if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            (name.to_vec(), value.to_vec(), true)
        } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
            let end = value.iter().rposition(|b| *b != b'=').map_or(0, |i| i + 1);
            let value = STANDARD_NO_PAD
                .decode(&value[..end])
                .map_err(|e| Error::other(format!("PAX record {}: {e}", shown(key))))?;
            (unescape(name), value, false)
        } else {
            return Ok(());
        };
        let xattr = Xattr::new(&name, value)?;
        if xattr::is_of_the_stack(&xattr.name) {
            return Ok(());
        }
        let full = self.xattrs.len() >= MOST_XATTRS;
        match self.xattrs.iter_mut().find(|x| x.name == xattr.name) {
            Some(known) if wins => *known = xattr,
            Some(_) => {}
            // Each is looked for among the others.
            None if full => {
                return Err(Error::other(format!("more than {MOST_XATTRS} extended attributes")));
            }
            None => self.xattrs.push(xattr),
        }
        Ok(())
    }
}

/// The first record's key and value, and what stands behind it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|b| *b == b' ')?;
    let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|b| *b == b'=')?;
    (equals > 0).then(|| (&record[..equals], &record[equals + 1..], &bytes[length..]))
}

/// Digits alone: no sign, no space.
pub(super) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u64, |n, b| {
        n.checked_mul(10)?
            .checked_add(u64::from(b.checked_sub(b'0').filter(|d| *d < 10)?))
    })
}

/// `[-]SECONDS[.FRACTION]`; digits behind the ninth are dropped, towards the past.
fn time(bytes: &[u8]) -> Option<Time> {
    let (negative, rest) = match bytes.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, bytes),
    };
    let (whole, fraction) = match rest.iter().position(|b| *b == b'.') {
        Some(dot) => (&rest[..dot], &rest[dot + 1..]),
        None => (rest, &rest[..0]),
    };
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanoseconds = (0..9).fold(0, |n, i| n * 10 + u32::from(fraction.get(i).map_or(0, |b| b - b'0')));
    Some(match (negative, nanoseconds) {
        (false, _) => Time { seconds, nanoseconds },
        (true, 0) => Time {
            seconds: -seconds,
            nanoseconds,
        },
        (true, _) => Time {
            seconds: -seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

/// `%41` is `A`; anything else stays.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, behind @ ..] = rest {
        let digits = behind.get(..2).and_then(|d| std::str::from_utf8(d).ok());
        match digits
            .filter(|_| *first == b'%')
            .and_then(|d| u8::from_str_radix(d, 16).ok())
        {
            Some(byte) => {
                out.push(byte);
                rest = &behind[2..];
            }
            None => {
                out.push(*first);
                rest = behind;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::tests::record;

    #[test]
    fn values_may_have_any_byte() {
        let bytes = [
            record("mtime", b"1350244992.023960108"),
            record("SCHILY.xattr.user.a", b"1\n2=\0\xff\n12\n3=4\n"),
        ];
        let records = Records::parse(&bytes.concat()).unwrap();
        assert_eq!(
            records.mtime,
            Some(Time {
                seconds: 1_350_244_992,
                nanoseconds: 23_960_108
            })
        );
        assert_eq!(records.xattrs.len(), 1);
        assert_eq!(records.xattrs[0].value, b"1\n2=\0\xff\n12\n3=4\n");
    }

    #[test]
    fn damaged_records_are_refused() {
        for bytes in [
            &b"x"[..],
            b"0 a=b\n",
            b"6 a=b",
            b"7 a=b\n",
            b"5 a=b\n",
            b"99999999999999999999999 a=b\n",
            b"18446744073709551615 a=b\n",
            b"4 =\n\n",
            b"-6 a=b\n",
            b"10 uid=-1\n",
            b"12 size=1e5\n",
            b"13 path=a\0bc\n",
            b"11 mtime=x\n",
        ] {
            assert!(Records::parse(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn times_go_back_before_the_epoch() {
        for (text, seconds, nanoseconds) in [
            ("0", 0, 0),
            ("1.5", 1, 500_000_000),
            ("1.", 1, 0),
            ("1.0000000019", 1, 1),
            ("-1", -1, 0),
            ("-1.5", -2, 500_000_000),
            ("-0.25", -1, 750_000_000),
        ] {
            assert_eq!(time(text.as_bytes()), Some(Time { seconds, nanoseconds }), "{text}");
        }
        for text in ["", ".5", "--1", "1.x", "9223372036854775808", "1 "] {
            assert_eq!(time(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn libarchives_xattrs_are_decoded_and_give_way() {
        let parse = |bytes: &[u8]| Records::parse(bytes).unwrap().xattrs;
        let libarchive = record("LIBARCHIVE.xattr.user.a%62", b"YWJj");
        let one = parse(&libarchive);
        assert_eq!(
            (one[0].name.to_bytes(), one[0].value.as_slice()),
            (&b"user.ab"[..], &b"abc"[..])
        );
        let schily = record("SCHILY.xattr.user.ab", b"x");
        for both in [[&schily[..], &libarchive], [&libarchive, &schily]] {
            let xattrs = parse(&both.concat());
            assert_eq!((xattrs.len(), xattrs[0].value.as_slice()), (1, &b"x"[..]));
        }
        assert_eq!(unescape(b"a%2"), b"a%2");
        assert_eq!(unescape(b"%zz%20"), b"%zz ");
    }

    #[test]
    fn the_stacks_own_xattrs_do_not_come_from_archives() {
        let bytes = record("SCHILY.xattr.trusted.overlay.redirect", b"/etc");
        assert!(Records::parse(&bytes).unwrap().xattrs.is_empty());
    }
}
