//! The firewall's netlink (NETLINK_NETFILTER): messages, nested attributes, batches that hold as a whole or not at all,
//! and the kernel's answers. Knows numbers and bytes, no rules.

#![allow(unsafe_code)]

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::errno::Errno;
use std::io;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// A nested attribute (NLA_F_NESTED).
const NESTED: u16 = 0x8000;
const HEADER: usize = 16;
/// Questions in one datagram: their answers have room in any receive buffer.
const GETS: usize = 100;
/// nfgenmsg: family, version, resource id.
const GENERIC: usize = 4;

/// nfnetlink's subsystems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subsystem {
    Conntrack = 1,
    Nftables = 10,
}

/// One message, its attributes appended one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    bytes: Vec<u8>,
    /// What it is about, for errors.
    pub(crate) object: String,
}

impl Message {
    pub(crate) fn new(subsystem: Subsystem, kind: u8, family: u8, flags: u16, object: impl Into<String>) -> Message {
        let kind = (subsystem as u16) << 8 | u16::from(kind);
        Message::raw(kind, family, 0, flags, object.into())
    }

    fn raw(kind: u16, family: u8, resource: u16, flags: u16, object: String) -> Message {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend([0; 4]);
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend([family, 0]);
        bytes.extend(resource.to_be_bytes());
        Message { bytes, object }
    }

    /// nfgenmsg's version; conntrack reads it as "the family counts".
    pub(crate) fn with_version(mut self, version: u8) -> Message {
        self.bytes[HEADER + 1] = version;
        self
    }

    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Message {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.pad();
        self
    }

    /// Text with the NUL that nf_tables wants.
    pub(crate) fn text(&mut self, kind: u16, value: &str) -> &mut Message {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// In network order, as all numbers of nfnetlink.
    pub(crate) fn number(&mut self, kind: u16, value: u32) -> &mut Message {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(crate) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Message)) -> &mut Message {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend((kind | NESTED).to_ne_bytes());
        fill(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self, sequence: u32, flags: u16) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        let old = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]);
        self.bytes[6..8].copy_from_slice(&(old | flags).to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// What the kernel refused: why, and the message it was about.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) errno: Errno,
    pub(crate) object: String,
}

impl Refusal {
    fn new(e: &io::Error, object: &str) -> Refusal {
        Refusal {
            errno: e.raw_os_error().map_or(Errno::EIO, Errno::from_raw),
            object: object.to_owned(),
        }
    }
}

/// A socket to the firewall of the network namespace it was made in.
pub(crate) struct Channel {
    socket: Socket,
    sequence: u32,
}

impl Channel {
    pub(crate) fn open() -> io::Result<Channel> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // One datagram holds a whole batch, whatever its size; root may go past the limit.
        let _ = nix::sys::socket::setsockopt(&AsFdOf(&socket), nix::sys::socket::sockopt::SndBufForce, &(8 << 20));
        let _ = nix::sys::socket::setsockopt(&AsFdOf(&socket), nix::sys::socket::sockopt::RcvBufForce, &(4 << 20));
        Ok(Channel { socket, sequence: 1 })
    }

    /// All of them in one transaction of nf_tables. Of several refusals it is the first.
    pub(crate) fn transact(&mut self, messages: Vec<Message>) -> Result<(), Refusal> {
        if messages.is_empty() {
            return Ok(());
        }
        let first = self.sequence;
        let objects: Vec<String> = messages.iter().map(|m| m.object.clone()).collect();
        let resource = Subsystem::Nftables as u16;
        let begin = Message::raw(BATCH_BEGIN, 0, resource, 0, String::new());
        let mut datagram = begin.finish(self.next(), 0);
        for (at, message) in messages.into_iter().enumerate() {
            // Kernels before 6.10 acknowledge no end of a batch: the last message does, after the commit.
            let ack = if at + 1 == objects.len() { NLM_F_ACK } else { 0 };
            datagram.extend(message.finish(self.next(), ack));
        }
        let end = Message::raw(BATCH_END, 0, resource, 0, String::new());
        datagram.extend(end.finish(self.next(), 0));
        self.send(&datagram, "firewall rules")?;
        let mut refusal: Option<Refusal> = None;
        // The kernel has done it all, and written every answer, when the send returns.
        while self.more() {
            for answer in self.receive("firewall rules")? {
                let Some(errno) = answer.error.filter(|e| *e != 0 && refusal.is_none()) else {
                    continue;
                };
                let at = usize::try_from(answer.sequence.wrapping_sub(first).wrapping_sub(1)).unwrap_or(usize::MAX);
                refusal = Some(Refusal {
                    errno: Errno::from_raw(errno),
                    object: objects.get(at).cloned().unwrap_or_else(|| "firewall rules".to_owned()),
                });
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    /// A single message outside of a transaction; conntrack has none.
    pub(crate) fn request(&mut self, message: Message) -> Result<(), Refusal> {
        let object = message.object.clone();
        let sequence = self.next();
        self.send(&message.finish(sequence, NLM_F_ACK), &object)?;
        loop {
            for answer in self.receive(&object)? {
                match answer.error {
                    Some(0) if answer.sequence == sequence => return Ok(()),
                    Some(errno) if answer.sequence == sequence => {
                        let errno = Errno::from_raw(errno);
                        return Err(Refusal { errno, object });
                    }
                    _ => {}
                }
            }
        }
    }

    /// One object for each message, or `None` where there is none. Unlike a dump, this says of each what is so, whoever
    /// changes others meanwhile.
    pub(crate) fn get(&mut self, messages: Vec<Message>) -> Result<Vec<Option<Attributes>>, Refusal> {
        let mut found = Vec::with_capacity(messages.len());
        for some in messages.chunks(GETS) {
            let first = self.sequence;
            let object = some.first().map_or_else(String::new, |m| m.object.clone());
            let mut datagram = Vec::new();
            for message in some {
                datagram.extend(message.clone().finish(self.next(), 0));
            }
            self.send(&datagram, &object)?;
            let start = found.len();
            found.resize(start + some.len(), None);
            while self.more() {
                for answer in self.receive(&object)? {
                    let at = usize::try_from(answer.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
                    let place = found.get_mut(start..).and_then(|f| f.get_mut(at));
                    match (answer.error.map(Errno::from_raw), place) {
                        (None, Some(place)) => *place = Some(answer.attributes),
                        (None | Some(Errno::ENOENT | Errno::UnknownErrno), _) => {}
                        (Some(errno), _) => return Err(Refusal { errno, object }),
                    }
                }
            }
        }
        Ok(found)
    }

    /// Everything that matches: the attributes of each object, in the kernel's order.
    pub(crate) fn dump(&mut self, message: Message) -> Result<Vec<Attributes>, Refusal> {
        let object = message.object.clone();
        let sequence = self.next();
        self.send(&message.finish(sequence, NLM_F_DUMP), &object)?;
        let mut found = Vec::new();
        loop {
            for answer in self.receive(&object)? {
                if answer.sequence != sequence {
                    continue;
                }
                match answer.error {
                    Some(0) => return Ok(found),
                    Some(errno) => {
                        let errno = Errno::from_raw(errno);
                        return Err(Refusal { errno, object });
                    }
                    None => found.push(answer.attributes),
                }
            }
        }
    }

    fn next(&mut self) -> u32 {
        self.sequence += 1;
        self.sequence - 1
    }

    fn send(&self, datagram: &[u8], object: &str) -> Result<(), Refusal> {
        match self.socket.send(datagram, 0) {
            Ok(_) => Ok(()),
            Err(e) => Err(Refusal::new(&e, object)),
        }
    }

    /// Whether another answer lies ready.
    fn more(&self) -> bool {
        let socket = AsFdOf(&self.socket);
        let mut poll = [nix::poll::PollFd::new(
            std::os::fd::AsFd::as_fd(&socket),
            nix::poll::PollFlags::POLLIN,
        )];
        nix::poll::poll(&mut poll, nix::poll::PollTimeout::ZERO).is_ok_and(|n| n > 0)
    }

    fn receive(&self, object: &str) -> Result<Vec<Answer>, Refusal> {
        let mut buffer = Vec::with_capacity(64 << 10);
        loop {
            match self.socket.recv(&mut buffer, 0) {
                Ok(_) => return Ok(answers(&buffer)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Refusal::new(&e, object)),
            }
        }
    }
}

/// netlink-sys has its socket as a raw descriptor only.
struct AsFdOf<'a>(&'a Socket);

impl std::os::fd::AsFd for AsFdOf<'_> {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        use std::os::fd::AsRawFd;
        // SAFETY: the socket is borrowed for as long as the descriptor is.
        unsafe { std::os::fd::BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}

struct Answer {
    sequence: u32,
    /// The errno of an error, 0 for an acknowledgement and for the end of a dump.
    error: Option<i32>,
    attributes: Attributes,
}

fn answers(mut buffer: &[u8]) -> Vec<Answer> {
    let mut found = Vec::new();
    while let Some(header) = buffer.first_chunk::<HEADER>() {
        let [a, b, c, d, k, l, ..] = *header;
        let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length < HEADER || length > buffer.len() {
            break;
        }
        let kind = u16::from_ne_bytes([k, l]);
        let payload = &buffer[HEADER..length];
        let error = matches!(kind, NLMSG_ERROR | NLMSG_DONE)
            .then(|| payload.first_chunk().map_or(0, |b| -i32::from_ne_bytes(*b)));
        let attributes = match error {
            None => Attributes::parse(payload.get(GENERIC..).unwrap_or_default()),
            Some(_) => Attributes::default(),
        };
        let sequence = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
        found.push(Answer {
            sequence,
            error,
            attributes,
        });
        buffer = buffer.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// The attributes of an object, or of a nested one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attributes(Vec<(u16, Vec<u8>)>);

impl Attributes {
    pub(crate) fn parse(mut bytes: &[u8]) -> Attributes {
        let mut all = Vec::new();
        while let Some(&[a, b, c, d]) = bytes.first_chunk::<4>() {
            let length = usize::from(u16::from_ne_bytes([a, b]));
            if length < 4 || length > bytes.len() {
                break;
            }
            let kind = u16::from_ne_bytes([c, d]) & 0x3fff;
            all.push((kind, bytes[4..length].to_vec()));
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Attributes(all)
    }

    pub(crate) fn get(&self, kind: u16) -> Option<&[u8]> {
        self.0.iter().find(|(k, _)| *k == kind).map(|(_, v)| v.as_slice())
    }

    pub(crate) fn nested(&self, kind: u16) -> Attributes {
        self.get(kind).map(Attributes::parse).unwrap_or_default()
    }

    /// The elements of a list, each nested.
    pub(crate) fn list(&self) -> impl Iterator<Item = Attributes> {
        self.0.iter().map(|(_, v)| Attributes::parse(v))
    }

    pub(crate) fn text(&self, kind: u16) -> &str {
        let bytes = self.get(kind).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default().trim_end_matches('\0')
    }

    pub(crate) fn number(&self, kind: u16) -> Option<u32> {
        self.get(kind)?.first_chunk().map(|b| u32::from_be_bytes(*b))
    }

    pub(crate) fn long(&self, kind: u16) -> Option<u64> {
        self.get(kind)?.first_chunk().map(|b| u64::from_be_bytes(*b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_nest_and_pad() {
        let mut m = Message::new(Subsystem::Nftables, 9, 1, CREATE, "x");
        m.text(1, "ab").nested(2, |m| {
            m.number(1, 7).bytes(2, &[1]);
        });
        let bytes = m.finish(3, 0);
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(&bytes[4..8], &[9, 10, 1, 4]);
        let attributes = Attributes::parse(&bytes[HEADER + GENERIC..]);
        assert_eq!(attributes.text(1), "ab");
        assert_eq!(attributes.nested(2).number(1), Some(7));
        assert_eq!(attributes.nested(2).get(2), Some(&[1][..]));
    }

    #[test]
    fn broken_answers_end_the_reading() {
        assert!(answers(&[1, 2, 3]).is_empty());
        assert!(answers(&[0xff; 40]).is_empty());
        assert!(answers(&[0; 40]).is_empty());
        assert!(Attributes::parse(&[3, 0, 1, 0]).get(1).is_none());
    }
}
