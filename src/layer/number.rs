//! Numbers in tar headers: octal text, or base 256 where the first bit is set (GNU and star, for what octal can't hold).

/// Any number; an empty field is 0.
pub(super) fn signed(field: &[u8]) -> Option<i64> {
    match field.first()? {
        0x80..=0xff => base_256(field),
        _ => octal(field).and_then(|n| i64::try_from(n).ok()),
    }
}

/// A size or an offset.
pub(super) fn unsigned(field: &[u8]) -> Option<u64> {
    signed(field).and_then(|n| u64::try_from(n).ok())
}

/// Big-endian two's complement, below the marking bit.
fn base_256(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    // The second bit is the sign.
    let negative = first & 0x40 != 0;
    let mut n = i64::from(first & 0x3f) - if negative { 0x40 } else { 0 };
    for byte in rest {
        n = n.checked_mul(256)?.checked_add(i64::from(*byte))?;
    }
    Some(n)
}

/// Digits with spaces or NULs around them.
fn octal(field: &[u8]) -> Option<u64> {
    let text = field.trim_ascii_start();
    let end = text.iter().position(|b| *b == 0 || *b == b' ').unwrap_or(text.len());
    if !text[end..].iter().all(|b| *b == 0 || *b == b' ') {
        return None;
    }
    text[..end].iter().try_fold(0u64, |n, b| {
        n.checked_mul(8)?
            .checked_add(u64::from(b.checked_sub(b'0').filter(|d| *d < 8)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"    644 ", Some(0o644)),
            (b" 644 \0\0\0", Some(0o644)),
            (b"\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"77777777777\0", Some(0o777_7777_7777)),
            (b"0000648\0", None),
            (b"-1\0", None),
            (b"12 34\0", None),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\0", Some(256)),
            (b"\x80\0\0\0\0\x20\0\0", Some(0x20_0000)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00", Some(-256)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ] {
            assert_eq!(signed(field), value, "{field:?}");
        }
        assert_eq!(unsigned(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None);
    }
}
