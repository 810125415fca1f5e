//! The kernel's memory of flows: forgotten where a UDP port changes hands, or a client that goes on sending would be
//! served by whoever had the port before.

use crate::sys::nfnetlink::{Channel, Message, Subsystem};

/// IPCTNL_MSG_CT_DELETE.
const DELETE: u8 = 2;
/// CTA_TUPLE_ORIG and its parts (linux/netfilter/nfnetlink_conntrack.h).
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const PROTOCOL_DESTINATION: u16 = 3;
/// CTA_FILTER: which parts of the tuple count (5.8; before that nothing is forgotten, and flows end by themselves).
const FILTER: u16 = 25;
const FILTER_ORIGINAL: u16 = 1;
const FILTER_REPLY: u16 = 2;
const BY_PROTOCOL: u32 = 1 << 3;
const BY_DESTINATION: u32 = 1 << 5;

/// Forgets all flows to these UDP ports.
pub(crate) fn forget_udp(ports: &[u16]) {
    if ports.is_empty() {
        return;
    }
    let Ok(mut channel) = Channel::open() else { return };
    for port in ports {
        // AF_INET, AF_INET6
        for family in [2, 10] {
            let mut m = Message::new(Subsystem::Conntrack, DELETE, family, 0, "flows").with_version(1);
            m.nested(TUPLE_ORIGINAL, |m| {
                m.nested(TUPLE_PROTOCOL, |m| {
                    m.bytes(PROTOCOL_NUMBER, &[17])
                        .bytes(PROTOCOL_DESTINATION, &port.to_be_bytes());
                });
            });
            m.nested(FILTER, |m| {
                m.bytes(FILTER_ORIGINAL, &(BY_PROTOCOL | BY_DESTINATION).to_ne_bytes());
                m.bytes(FILTER_REPLY, &0u32.to_ne_bytes());
            });
            // No entry, or a kernel that can't: nothing depends on it but speed of change.
            let _ = channel.request(m);
        }
    }
}
