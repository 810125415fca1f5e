//! What travels between a monitor and its clients: frames over a stream socket.
//!
//! ```text
//!   byte 0     kind
//!   bytes 1-3  zero
//!   bytes 4-7  length of the payload, big endian, at most 64 KiB
//! ```
//! The header is docker's of the attach stream (F122), so that kinds 1 and 2 mean what they mean there.

use crate::error::{Error, Result};

pub(crate) const HEADER: usize = 8;
/// Largest payload: one read of a pipe.
pub(crate) const MAX: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To the monitor: bytes for the program; an empty payload is the end of input.
    Stdin = 0,
    /// From the monitor.
    Stdout = 1,
    Stderr = 2,
    /// From the monitor, last: one byte, the exit code.
    Exit = 3,
    /// To the monitor, first: what the client wants ([`Hello`]).
    Hello = 4,
    /// To the monitor: [`Size`].
    Resize = 5,
    /// To the monitor: a signal for the program, four bytes, big endian.
    Signal = 6,
    /// To the monitor: a change of networks (`monitor/networks.rs`).
    Network = 7,
    /// From the monitor: what became of it.
    Answer = 8,
    /// To the monitor: the health check is wanted now; the answer is its result.
    Check = 9,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        use Kind as K;
        [
            K::Stdin,
            K::Stdout,
            K::Stderr,
            K::Exit,
            K::Hello,
            K::Resize,
            K::Signal,
            K::Network,
            K::Answer,
            K::Check,
        ]
        .into_iter()
        .find(|k| *k as u8 == byte)
    }
}

/// The header of a payload of `length` bytes.
pub(crate) fn header(kind: Kind, length: usize) -> [u8; HEADER] {
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [kind as u8, 0, 0, 0, length[0], length[1], length[2], length[3]]
}

/// A whole frame, for short payloads.
pub(crate) fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
    [&header(kind, payload.len()), payload].concat()
}

/// The frame at the start of `bytes` and its whole length, once all of it is there.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Kind, &[u8], usize)>> {
    let Some(head) = bytes.get(..HEADER) else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
    let kind = Kind::from_byte(head[0]).filter(|_| head[1..4] == [0; 3] && length <= MAX);
    let kind = kind.ok_or_else(|| Error::other("the other side of the attach socket speaks another protocol"))?;
    Ok(bytes
        .get(HEADER..HEADER + length)
        .map(|payload| (kind, payload, HEADER + length)))
}

/// Rows and columns of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Size {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}

impl Size {
    pub(crate) fn encode(self) -> [u8; 4] {
        let (r, c) = (self.rows.to_be_bytes(), self.columns.to_be_bytes());
        [r[0], r[1], c[0], c[1]]
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Size> {
        let [a, b, c, d] = bytes else { return None };
        Some(Size {
            rows: u16::from_be_bytes([*a, *b]),
            columns: u16::from_be_bytes([*c, *d]),
        })
    }
}

/// What a client wants: a set of the constants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Hello(pub(crate) u8);

impl Hello {
    pub(crate) const STDIN: u8 = 1;
    pub(crate) const STDOUT: u8 = 2;
    pub(crate) const STDERR: u8 = 4;
    /// The exit that no restart follows, instead of the next one.
    pub(crate) const LAST_EXIT: u8 = 8;
    /// The container stands still while this client is connected: the client itself has stopped it.
    pub(crate) const FREEZE: u8 = 16;
    /// And it goes on when no such client is left.
    pub(crate) const THAW: u8 = 32;
    /// The container is killed when this client is gone: a step of a build ends with the build.
    pub(crate) const LIFELINE: u8 = 64;

    pub(crate) fn wants(self, what: u8) -> bool {
        self.0 & what != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_whole_or_not_at_all() {
        let whole = frame(Kind::Stdout, b"hello");
        for n in 0..whole.len() {
            assert!(parse(&whole[..n]).unwrap().is_none(), "{n}");
        }
        let more = [&whole[..], b"next"].concat();
        assert_eq!(parse(&more).unwrap(), Some((Kind::Stdout, &b"hello"[..], whole.len())));
    }

    #[test]
    fn strangers_are_refused() {
        for bytes in [
            [99, 0, 0, 0, 0, 0, 0, 0],
            [0, 1, 0, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 255, 0, 0, 0],
        ] {
            assert!(parse(&bytes).is_err());
        }
    }

    #[test]
    fn sizes() {
        let size = Size { rows: 50, columns: 300 };
        assert_eq!(Size::decode(&size.encode()), Some(size));
        assert_eq!(Size::decode(b"xx"), None);
    }
}
