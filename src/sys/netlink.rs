//! Sockets of the routing netlink family (rtnetlink(7)): several requests in one datagram, one answer to each, errors
//! with what was asked and what the kernel says about it (extended acknowledgements, Linux 4.12).

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket as RawSocket, SocketAddr};
use std::fmt;
use std::io;

/// Answers to one datagram, and parts of a dump, are at most this long (netlink_dump() takes up to 32 KiB at once).
const BUFFER: usize = 64 * 1024;
/// Bytes of a message's header (`struct nlmsghdr`).
const HEADER: usize = 16;
/// An attribute of an acknowledgement: the kernel's words (NLMSGERR_ATTR_MSG, linux/netlink.h).
const ATTRIBUTE_TEXT: u16 = 1;

/// One thing to ask of the kernel.
pub(crate) struct Request {
    pub(crate) message: RouteNetlinkMessage,
    /// `NLM_F_*` besides those every request has.
    pub(crate) flags: u16,
    /// For the error: `create link barge0`.
    pub(crate) what: String,
}

/// A request that the kernel has refused.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) what: String,
    pub(crate) cause: io::Error,
    /// The kernel's own explanation.
    pub(crate) text: Option<String>,
}

impl Refused {
    pub(crate) fn errno(&self) -> i32 {
        self.cause.raw_os_error().unwrap_or(0)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.cause)?;
        match &self.text {
            Some(text) => write!(f, " ({text})"),
            None => Ok(()),
        }
    }
}

/// Belongs for ever to the network namespace that its maker was in.
pub(crate) struct Socket {
    socket: RawSocket,
    sequence: u32,
}

impl Socket {
    pub(crate) fn open() -> Result<Socket, Refused> {
        let make = || -> io::Result<RawSocket> {
            let mut socket = RawSocket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            // Older kernels answer without words, which is as good.
            let _ = socket.set_ext_ack(true);
            let _ = socket.set_cap_ack(true);
            Ok(socket)
        };
        let socket = make().map_err(|cause| failed("open a netlink socket", cause))?;
        Ok(Socket { socket, sequence: 0 })
    }

    /// Sends all requests as one datagram, and waits for the answer to each. The kernel goes on after a refusal; what is
    /// reported is the first.
    pub(crate) fn transact(&mut self, requests: Vec<Request>) -> Result<(), Refused> {
        if requests.is_empty() {
            return Ok(());
        }
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::new();
        let mut asked = Vec::with_capacity(requests.len());
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            append(&mut datagram, request.message, NLM_F_ACK | request.flags, self.sequence);
            asked.push(Some(request.what));
        }
        self.send(&datagram)?;
        let mut refused: Option<(usize, Refused)> = None;
        let mut open = asked.len();
        while open > 0 {
            let answer = self.receive()?;
            for message in messages(&answer) {
                let Some(ack) = Ack::parse(message) else { continue };
                let n = ack.sequence.wrapping_sub(first) as usize;
                let Some(what) = asked.get_mut(n).and_then(Option::take) else {
                    continue;
                };
                open -= 1;
                if ack.error != 0 && refused.as_ref().is_none_or(|(at, _)| n < *at) {
                    let cause = io::Error::from_raw_os_error(-ack.error);
                    let text = ack.text;
                    refused = Some((n, Refused { what, cause, text }));
                }
            }
        }
        match refused {
            Some((_, refused)) => Err(refused),
            None => Ok(()),
        }
    }

    /// Everything of a kind (`dump`), or the one thing asked for. What this program's library can't read is left out.
    pub(crate) fn get(
        &mut self,
        message: RouteNetlinkMessage,
        dump: bool,
        what: &str,
    ) -> Result<Vec<RouteNetlinkMessage>, Refused> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut datagram = Vec::new();
        append(&mut datagram, message, if dump { NLM_F_DUMP } else { 0 }, self.sequence);
        self.send(&datagram)?;
        let mut found = Vec::new();
        loop {
            let answer = self.receive()?;
            for message in messages(&answer) {
                if u32_at(message, 8) != self.sequence {
                    continue;
                }
                if let Some(ack) = Ack::parse(message) {
                    let cause = io::Error::from_raw_os_error(-ack.error);
                    let (what, text) = (what.to_owned(), ack.text);
                    return match ack.error {
                        0 => Ok(found),
                        _ => Err(Refused { what, cause, text }),
                    };
                }
                if u16_at(message, 4) == netlink_packet_core::NLMSG_DONE {
                    return Ok(found);
                }
                if let Ok(NetlinkMessage {
                    payload: NetlinkPayload::InnerMessage(message),
                    ..
                }) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(message)
                {
                    found.push(message);
                }
            }
            if !dump {
                return Ok(found);
            }
        }
    }

    fn send(&self, datagram: &[u8]) -> Result<(), Refused> {
        loop {
            match self.socket.send(datagram, 0) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                done => return done.map(|_| ()).map_err(|cause| failed("ask over netlink", cause)),
            }
        }
    }

    fn receive(&self) -> Result<Vec<u8>, Refused> {
        let mut buffer = Vec::with_capacity(BUFFER);
        loop {
            match self.socket.recv(&mut buffer, 0) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(failed("read an answer over netlink", cause)),
                Ok(_) => return Ok(buffer),
            }
        }
    }
}

fn failed(what: &str, cause: io::Error) -> Refused {
    Refused {
        what: what.to_owned(),
        cause,
        text: None,
    }
}

fn append(datagram: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16, sequence: u32) {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = NLM_F_REQUEST | flags;
    message.header.sequence_number = sequence;
    message.finalize();
    let begin = datagram.len();
    // Each message begins at a multiple of four (NLMSG_ALIGN).
    datagram.resize(begin + message.buffer_len().next_multiple_of(4), 0);
    if let Some(place) = datagram.get_mut(begin..begin + message.buffer_len()) {
        message.serialize(place);
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let found = bytes.get(at..at + 2).and_then(|b| b.try_into().ok());
    found.map_or(0, u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let found = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
    found.map_or(0, u32::from_ne_bytes)
}

/// The messages of a datagram, headers included.
fn messages(datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = u32_at(rest, 0) as usize;
        let message = rest.get(..length).filter(|_| length >= HEADER)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// `NLMSG_ERROR`, which says that all went well if its number is 0.
struct Ack {
    sequence: u32,
    error: i32,
    text: Option<String>,
}

impl Ack {
    fn parse(message: &[u8]) -> Option<Ack> {
        if u16_at(message, 4) != netlink_packet_core::NLMSG_ERROR {
            return None;
        }
        let flags = u16_at(message, 6);
        let error = u32_at(message, HEADER).cast_signed();
        // After the number comes the request: its header alone, or all of it.
        let request = match flags & NLM_F_CAPPED != 0 {
            true => HEADER,
            false => (u32_at(message, HEADER + 4) as usize).next_multiple_of(4),
        };
        let mut rest = message.get(HEADER + 4 + request..).unwrap_or_default();
        let mut text = None;
        while flags & NLM_F_ACK_TLVS != 0 && rest.len() >= 4 {
            let length = usize::from(u16_at(rest, 0));
            let Some(value) = rest.get(4..length) else { break };
            if u16_at(rest, 2) == ATTRIBUTE_TEXT {
                let words = value.split(|b| *b == 0).next().unwrap_or_default();
                text = Some(String::from_utf8_lossy(words).into_owned());
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Some(Ack {
            sequence: u32_at(message, 8),
            error,
            text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::link::{LinkAttribute, LinkMessage};

    fn lo() -> RouteNetlinkMessage {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName("lo".to_owned()));
        RouteNetlinkMessage::GetLink(link)
    }

    #[test]
    fn loopback_is_found() {
        let mut socket = Socket::open().unwrap();
        let found = socket.get(lo(), false, "find lo").unwrap();
        assert!(matches!(&found[..], [RouteNetlinkMessage::NewLink(l)] if l.header.index == 1));
        let all = socket
            .get(RouteNetlinkMessage::GetLink(LinkMessage::default()), true, "list links")
            .unwrap();
        assert!(!all.is_empty());
    }

    #[test]
    fn what_is_refused_is_named() {
        let mut socket = Socket::open().unwrap();
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName("no-such-link".to_owned()));
        let request = |link: &LinkMessage, what: &str| Request {
            message: RouteNetlinkMessage::DelLink(link.clone()),
            flags: 0,
            what: what.to_owned(),
        };
        let refused = socket
            .transact(vec![request(&link, "delete a"), request(&link, "delete b")])
            .unwrap_err();
        assert!([libc::ENODEV, libc::EPERM].contains(&refused.errno()), "{refused}");
        assert_eq!(refused.what, "delete a");
    }

    #[test]
    fn words_of_an_acknowledgement() {
        let mut bytes = Vec::new();
        let words = b"too small\0\0\0";
        let length = u32::try_from(HEADER + 4 + HEADER + 4 + words.len()).unwrap();
        bytes.extend(length.to_ne_bytes());
        bytes.extend(netlink_packet_core::NLMSG_ERROR.to_ne_bytes());
        bytes.extend((NLM_F_CAPPED | NLM_F_ACK_TLVS).to_ne_bytes());
        bytes.extend(7_u32.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend((-libc::EINVAL).to_ne_bytes());
        bytes.extend([0; HEADER]);
        bytes.extend(14_u16.to_ne_bytes());
        bytes.extend(ATTRIBUTE_TEXT.to_ne_bytes());
        bytes.extend(words);
        let ack = Ack::parse(messages(&bytes).next().unwrap()).unwrap();
        assert_eq!(
            (ack.sequence, ack.error, ack.text.as_deref()),
            (7, -libc::EINVAL, Some("too small"))
        );
        assert_eq!(messages(&bytes[..20]).count(), 0);
    }
}
