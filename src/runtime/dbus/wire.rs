//! D-Bus messages as bytes (D-Bus Specification, "Marshaling" and "Message Format"): little-endian, and no more of the
//! type system than calls to systemd need.

use crate::error::{Error, Result};

/// The longest message taken: systemd's answers and signals have a few hundred bytes.
const MOST: usize = 1 << 20;
/// Fixed part of a header.
const FIXED: usize = 16;

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

/// Builds a body. Alignment counts from its start, which is a multiple of 8 in the message.
#[derive(Debug, Default)]
pub(crate) struct Body {
    bytes: Vec<u8>,
}

impl Body {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    pub(crate) fn u32(&mut self, n: u32) {
        self.align(4);
        self.bytes.extend_from_slice(&n.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, n: u64) {
        self.align(8);
        self.bytes.extend_from_slice(&n.to_le_bytes());
    }

    /// A string or an object path.
    pub(crate) fn string(&mut self, text: &str) {
        self.u32(length(text.len()));
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    /// An array whose elements are aligned to `to` bytes.
    pub(crate) fn array(&mut self, to: usize, elements: impl FnOnce(&mut Body)) {
        self.u32(0);
        let at = self.bytes.len() - 4;
        self.align(to);
        let start = self.bytes.len();
        elements(self);
        let len = length(self.bytes.len() - start);
        self.bytes[at..at + 4].copy_from_slice(&len.to_le_bytes());
    }

    /// One `(sv)`: a property's name and its value, of type `signature`.
    pub(crate) fn property(&mut self, name: &str, signature: &str, value: impl FnOnce(&mut Body)) {
        self.align(8);
        self.string(name);
        self.signature(signature);
        value(self);
    }
}

fn length(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Whom a call is for, and what it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Method<'a> {
    pub(crate) destination: &'a str,
    pub(crate) path: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) member: &'a str,
    /// Of the body.
    pub(crate) signature: &'a str,
}

/// A whole method call.
pub(crate) fn call(serial: u32, method: Method<'_>, body: &Body) -> Vec<u8> {
    let mut message = Body::default();
    message.bytes.extend_from_slice(&[b'l', METHOD_CALL, 0, 1]);
    message.u32(length(body.bytes.len()));
    message.u32(serial);
    message.array(8, |fields| {
        for (code, kind, text) in [
            (1, "o", method.path),
            (2, "s", method.interface),
            (3, "s", method.member),
            (6, "s", method.destination),
        ] {
            fields.align(8);
            fields.bytes.push(code);
            fields.signature(kind);
            fields.string(text);
        }
        if !method.signature.is_empty() {
            fields.align(8);
            fields.bytes.push(8);
            fields.signature("g");
            fields.signature(method.signature);
        }
    });
    message.align(8);
    message.bytes.extend_from_slice(&body.bytes);
    message.bytes
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Return,
    Error,
    Signal,
    Other,
}

/// A message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    /// The serial of the call it answers; 0 if it answers none.
    pub(crate) answers: u32,
    /// Of a signal.
    pub(crate) member: String,
    /// Of an error.
    pub(crate) error: String,
    /// Of a body that begins with strings and numbers of 32 bits, those; what follows is left out.
    pub(crate) arguments: Vec<Argument>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Argument {
    Text(String),
    Number(u32),
}

impl Message {
    /// The argument at `n`, if it is a text.
    pub(crate) fn text(&self, n: usize) -> Option<&str> {
        match self.arguments.get(n) {
            Some(Argument::Text(text)) => Some(text),
            _ => None,
        }
    }
}

/// The first message of `bytes` and its length; `None` while it is not whole.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Message, usize)>> {
    let damaged = || Error::other("a D-Bus message that makes no sense");
    let Some(fixed) = bytes.get(..FIXED) else {
        return Ok(None);
    };
    if fixed[0] != b'l' || fixed[3] != 1 {
        return Err(damaged());
    }
    let number = |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]) as usize;
    let (body_len, fields_len) = (number(4), number(12));
    if body_len > MOST || fields_len > MOST {
        return Err(damaged());
    }
    let body_at = (FIXED + fields_len).next_multiple_of(8);
    let Some(whole) = bytes.get(..body_at + body_len) else {
        return Ok(None);
    };
    let mut message = Message {
        kind: match fixed[1] {
            METHOD_RETURN => Kind::Return,
            ERROR => Kind::Error,
            SIGNAL => Kind::Signal,
            _ => Kind::Other,
        },
        answers: 0,
        member: String::new(),
        error: String::new(),
        arguments: Vec::new(),
    };
    let mut signature = String::new();
    let mut fields = Reader {
        bytes: &whole[..FIXED + fields_len],
        at: FIXED,
    };
    while fields.at < fields.bytes.len() {
        fields.align(8);
        if fields.at >= fields.bytes.len() {
            break;
        }
        let code = fields.byte().ok_or_else(damaged)?;
        let kind = fields.signature().ok_or_else(damaged)?;
        match kind.as_str() {
            "s" | "o" => {
                let text = fields.string().ok_or_else(damaged)?;
                match code {
                    3 => message.member = text,
                    4 => message.error = text,
                    _ => {}
                }
            }
            "g" => signature = fields.signature().ok_or_else(damaged)?,
            "u" => {
                let n = fields.u32().ok_or_else(damaged)?;
                if code == 5 {
                    message.answers = n;
                }
            }
            _ => return Err(damaged()),
        }
    }
    let mut body = Reader {
        bytes: &whole[body_at..],
        at: 0,
    };
    for kind in signature.chars() {
        message.arguments.push(match kind {
            's' | 'o' => Argument::Text(body.string().ok_or_else(damaged)?),
            'u' => Argument::Number(body.u32().ok_or_else(damaged)?),
            _ => break,
        });
    }
    Ok(Some((message, body_at + body_len)))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, n: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(n)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    fn u32(&mut self) -> Option<u32> {
        self.align(4);
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn string(&mut self) -> Option<String> {
        let len = self.u32()? as usize;
        self.text(len)
    }

    fn signature(&mut self) -> Option<String> {
        let len = usize::from(self.byte()?);
        self.text(len)
    }

    /// And the NUL behind it.
    fn text(&mut self, len: usize) -> Option<String> {
        let text = String::from_utf8(self.take(len)?.to_vec()).ok()?;
        (self.byte()? == 0).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHOD: Method<'static> = Method {
        destination: "org.freedesktop.DBus",
        path: "/org/freedesktop/DBus",
        interface: "org.freedesktop.DBus",
        member: "Hello",
        signature: "",
    };

    #[test]
    fn a_call_is_laid_out_as_the_specification_says() {
        let bytes = call(1, METHOD, &Body::default());
        assert_eq!(&bytes[..16], b"l\x01\0\x01\0\0\0\0\x01\0\0\0m\0\0\0");
        assert_eq!(&bytes[16..24], b"\x01\x01o\0\x15\0\0\0");
        assert_eq!(bytes.len() % 8, 0);
        // Everything but its kind reads like any other message.
        let (message, len) = parse(&bytes).unwrap().unwrap();
        assert_eq!(
            (message.kind, message.member.as_str(), len),
            (Kind::Other, "Hello", bytes.len())
        );
    }

    #[test]
    fn bodies_are_aligned() {
        let mut body = Body::default();
        body.string("ab");
        body.array(8, |a| a.property("PIDs", "au", |v| v.array(4, |p| p.u32(7))));
        body.array(8, |_| {});
        assert_eq!(
            body.bytes,
            b"\x02\0\0\0ab\0\0\x18\0\0\0\0\0\0\0\x04\0\0\0PIDs\0\x02au\0\0\0\0\x04\0\0\0\x07\0\0\0\0\0\0\0\0\0\0\0"
                .to_vec()
        );
    }

    /// A signal as systemd sends it.
    fn signal() -> Vec<u8> {
        let mut body = Body::default();
        body.u32(12);
        for text in ["/org/freedesktop/systemd1/job/12", "x.scope", "done"] {
            body.string(text);
        }
        let method = Method {
            member: "JobRemoved",
            signature: "uoss",
            ..METHOD
        };
        let mut bytes = call(9, method, &body);
        bytes[1] = SIGNAL;
        bytes
    }

    #[test]
    fn a_signal_is_read() {
        let bytes = signal();
        let (message, _) = parse(&bytes).unwrap().unwrap();
        assert_eq!((message.kind, message.member.as_str()), (Kind::Signal, "JobRemoved"));
        assert_eq!(message.arguments[0], Argument::Number(12));
        assert_eq!((message.text(2), message.text(3)), (Some("x.scope"), Some("done")));
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]).unwrap(), None, "{cut}");
        }
    }

    #[test]
    fn nonsense_is_refused_and_breaks_nothing() {
        let whole = signal();
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let _ = parse(&bytes);
            }
        }
        let mut long = whole;
        long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(parse(&long).is_err());
    }
}
