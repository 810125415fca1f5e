//! The little of DNS messages that a responder has to know (RFC 1035 §4, EDNS: RFC 6891): one question read, answers of
//! a few addresses written, a server's reply compared with what was asked. Nothing here trusts a length or follows a
//! pointer; what is passed on is passed on byte for byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) const HEADER: usize = 12;
/// Bytes of an answer over UDP, unless the question allows more (RFC 1035 §4.2.1).
pub(super) const PLAIN_UDP: usize = 512;
/// Bytes of one of our own answers over UDP at most: what passes every link unfragmented.
const LARGEST_UDP: u16 = 1232;
/// Characters of a name, dots included (RFC 1035 §3.1).
const LONGEST_NAME: usize = 255;
/// Records looked through for EDNS.
const ADDITIONAL: u16 = 16;

pub(super) const A: u16 = 1;
pub(super) const PTR: u16 = 12;
pub(super) const AAAA: u16 = 28;
const OPT: u16 = 41;
const ANY: u16 = 255;
const IN: u16 = 1;

pub(super) mod rcode {
    //! RFC 1035 §4.1.1.
    pub(in super::super) const OK: u8 = 0;
    pub(in super::super) const FORMAT: u8 = 1;
    pub(in super::super) const SERVER: u8 = 2;
    pub(in super::super) const NOT_IMPLEMENTED: u8 = 4;
    pub(in super::super) const REFUSED: u8 = 5;
}

/// A message that asks one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) kind: u16,
    class: u16,
    opcode: u8,
    /// Where the question ends.
    end: usize,
    edns: Option<Edns>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Edns {
    size: u16,
    version: u8,
    /// The bit that asks for signatures.
    secure: bool,
}

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Not even a question's header: silence.
    Drop,
    /// It gets this code back.
    Refuse(u8),
}

pub(super) fn id(message: &[u8]) -> u16 {
    word(message, 0).unwrap_or(0)
}

pub(super) fn set_id(message: &mut [u8], id: u16) {
    if let Some(place) = message.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn response(message: &[u8]) -> bool {
    message.get(2).is_some_and(|b| b & 0x80 != 0)
}

/// The code a reply carries.
pub(super) fn code(message: &[u8]) -> u8 {
    message.get(3).map_or(rcode::SERVER, |b| b & 0x0f)
}

/// Reads the header, the question, and whether there is EDNS.
pub(super) fn parse(message: &[u8]) -> Result<Query, Fault> {
    if message.len() < HEADER || response(message) {
        return Err(Fault::Drop);
    }
    let format = || Fault::Refuse(rcode::FORMAT);
    if word(message, 4) != Some(1) {
        return Err(format());
    }
    let name_end = name_end(message).ok_or_else(format)?;
    let kind = word(message, name_end).ok_or_else(format)?;
    let class = word(message, name_end + 2).ok_or_else(format)?;
    let end = name_end + 4;
    let others = (word(message, 6), word(message, 8));
    let edns = match others {
        (Some(0), Some(0)) => find_edns(message, end, word(message, 10).unwrap_or(0)).ok_or_else(format)?,
        // An update or a notification: somebody else's to understand.
        _ => None,
    };
    Ok(Query {
        kind,
        class,
        opcode: (message[2] >> 3) & 0x0f,
        end,
        edns,
    })
}

/// Where the name of the question ends. A question comes first, so nothing is there that a pointer could point to.
fn name_end(message: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        match length {
            0 => return (at - HEADER <= LONGEST_NAME).then_some(at),
            1..=63 => at += length,
            _ => return None,
        }
    }
}

/// The inner `None` is a message without EDNS.
#[allow(clippy::option_option)] // the outer one is for `?`
fn find_edns(message: &[u8], mut at: usize, records: u16) -> Option<Option<Edns>> {
    for _ in 0..records.min(ADDITIONAL) {
        let root = *message.get(at)? == 0;
        at = skip_name(message, at)?;
        let kind = word(message, at)?;
        let size = word(message, at + 2)?;
        let rest: [u8; 4] = message.get(at + 4..at + 8)?.try_into().ok()?;
        let length = usize::from(word(message, at + 8)?);
        at += 10;
        message.get(at..at + length)?;
        at += length;
        if kind == OPT && root {
            return Some(Some(Edns {
                size,
                version: rest[1],
                secure: rest[2] & 0x80 != 0,
            }));
        }
    }
    Some(None)
}

/// A pointer ends a name, wherever it leads.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        match length {
            0 => return Some(at),
            1..=63 => at += length,
            0xc0.. => return Some(at + 1),
            _ => return None,
        }
    }
}

impl Query {
    /// Whether containers are meant: the internet class (or any), and an ordinary question.
    pub(super) fn is_ordinary(&self) -> bool {
        self.opcode == 0 && matches!(self.class, IN | ANY)
    }

    /// Only the questions about addresses and names have an answer from us.
    pub(super) fn wants(&self, kind: u16) -> bool {
        self.kind == kind || self.kind == ANY
    }

    /// The question as it stands in the message.
    pub(super) fn question<'a>(&self, message: &'a [u8]) -> &'a [u8] {
        message.get(HEADER..self.end).unwrap_or_default()
    }

    /// The name in lower case, dots between its labels and none at its end. `None` if a label has a dot or anything
    /// else that no name of a container's has: such a name is not one of ours.
    pub(super) fn name<'a>(&self, message: &[u8], buffer: &'a mut [u8; LONGEST_NAME]) -> Option<&'a str> {
        let mut at = HEADER;
        let mut length = 0;
        loop {
            let label = usize::from(*message.get(at)?);
            if label == 0 {
                break;
            }
            if length > 0 {
                *buffer.get_mut(length)? = b'.';
                length += 1;
            }
            for byte in message.get(at + 1..at + 1 + label)? {
                if !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
                    return None;
                }
                *buffer.get_mut(length)? = byte.to_ascii_lowercase();
                length += 1;
            }
            at += 1 + label;
        }
        std::str::from_utf8(buffer.get(..length)?).ok()
    }

    /// Bytes that an answer over UDP may have.
    pub(super) fn udp_limit(&self) -> usize {
        self.edns
            .map_or(PLAIN_UDP, |e| usize::from(e.size.min(LARGEST_UDP)).max(PLAIN_UDP))
    }
}

/// A place for a name.
pub(super) fn name_buffer() -> [u8; LONGEST_NAME] {
    [0; LONGEST_NAME]
}

/// The address that a name below in-addr.arpa or ip6.arpa stands for (RFC 1035 §3.5, RFC 3596 §2.5).
pub(super) fn reverse(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = [0; 4];
        let mut parts = digits.split('.');
        for octet in octets.iter_mut().rev() {
            let part = parts.next()?;
            *octet = part
                .parse()
                .ok()
                .filter(|_| part.len() == 1 || !part.starts_with('0'))?;
        }
        return parts.next().is_none().then(|| Ipv4Addr::from(octets).into());
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    let mut address: u128 = 0;
    let mut count = 0;
    for (n, digit) in digits.split('.').enumerate() {
        let value = u128::from_str_radix(digit, 16).ok().filter(|_| digit.len() == 1)?;
        address |= value.checked_shl(u32::try_from(n * 4).ok()?)?;
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from(address).into())
}

/// One thing an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    Address(IpAddr),
    Name(String),
}

/// Writes the answer to `query`, which is `message`, into `out`: as many records as fit in `limit` bytes, and the mark
/// that more would follow if they don't.
pub(super) fn answer(message: &[u8], query: &Query, records: &[Record], limit: usize, out: &mut Vec<u8>) {
    let bad_version = query.edns.is_some_and(|e| e.version > 0);
    begin(message, rcode::OK, out);
    out[2] |= 0x04; // authoritative
    out[5] = 1;
    out.extend_from_slice(query.question(message));
    let room = limit.saturating_sub(if query.edns.is_some() { 11 } else { 0 });
    let mut count: u16 = 0;
    for record in records.iter().take(usize::from(u16::MAX)).filter(|_| !bad_version) {
        let before = out.len();
        write_record(record, out);
        if out.len() > room {
            out.truncate(before);
            out[2] |= 0x02; // truncated
            break;
        }
        count += 1;
    }
    out[6..8].copy_from_slice(&count.to_be_bytes());
    if let Some(edns) = query.edns {
        // Code 16, "bad version", has its upper bits here (RFC 6891 §6.1.3).
        let extended = u8::from(bad_version);
        let secure = if edns.secure { 0x80 } else { 0 };
        let [high, low] = LARGEST_UDP.to_be_bytes();
        out.extend_from_slice(&[0, 0, 41, high, low, extended, 0, secure, 0, 0, 0]);
        out[11] = 1;
    }
}

/// Name by pointer to the question, class IN; nobody is to keep it, since a container may have another address the
/// next moment.
fn write_record(record: &Record, out: &mut Vec<u8>) {
    let kind = match record {
        Record::Address(IpAddr::V4(_)) => A,
        Record::Address(IpAddr::V6(_)) => AAAA,
        Record::Name(_) => PTR,
    };
    let [high, low] = kind.to_be_bytes();
    out.extend_from_slice(&[0xc0, 0x0c, high, low, 0, 1, 0, 0, 0, 0]);
    let length_at = out.len();
    out.extend_from_slice(&[0, 0]);
    match record {
        Record::Address(IpAddr::V4(address)) => out.extend_from_slice(&address.octets()),
        Record::Address(IpAddr::V6(address)) => out.extend_from_slice(&address.octets()),
        Record::Name(name) => {
            for label in name.split('.').filter(|l| !l.is_empty()) {
                let label = &label.as_bytes()[..label.len().min(63)];
                out.push(u8::try_from(label.len()).unwrap_or(63));
                out.extend_from_slice(label);
            }
            out.push(0);
        }
    }
    let length = u16::try_from(out.len() - length_at - 2).unwrap_or(0);
    out[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
}

/// A bare code in answer to `message`, with the question if it could be read.
pub(super) fn refuse(message: &[u8], query: Option<&Query>, code: u8, out: &mut Vec<u8>) {
    begin(message, code, out);
    if let Some(query) = query {
        out[5] = 1;
        out.extend_from_slice(query.question(message));
    }
}

/// The answer's header: id, operation and the two wishes (recursion, no checks) are the question's.
fn begin(message: &[u8], code: u8, out: &mut Vec<u8>) {
    let byte = |at: usize| message.get(at).copied().unwrap_or(0);
    out.clear();
    out.extend_from_slice(&[byte(0), byte(1)]);
    out.push(0x80 | (byte(2) & 0x79));
    out.push(0x80 | (byte(3) & 0x10) | (code & 0x0f));
    out.extend_from_slice(&[0; 8]);
}

/// What a server's message is to a question that was put to it under `id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// Not an answer to this question: a late one, or a forged one.
    Foreign,
    /// It can't or won't say: another server may.
    Failure,
    Answer,
}

pub(super) fn judge(reply: &[u8], id: u16, question: &[u8]) -> Reply {
    if reply.len() < HEADER || !response(reply) || word(reply, 0) != Some(id) {
        return Reply::Foreign;
    }
    let failed = matches!(
        code(reply),
        rcode::SERVER | rcode::NOT_IMPLEMENTED | rcode::REFUSED | rcode::FORMAT
    );
    let asked = reply.get(HEADER..HEADER + question.len());
    match word(reply, 4) {
        // A server that could not read the question does not repeat it.
        Some(0) if failed => Reply::Failure,
        Some(1) if asked.is_some_and(|a| a.eq_ignore_ascii_case(question)) => match failed {
            true => Reply::Failure,
            false => Reply::Answer,
        },
        _ => Reply::Foreign,
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
