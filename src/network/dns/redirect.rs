//! The way from 127.0.0.11:53 to the responder's own ports: a table of the container's namespace with one chain. Whatever
//! else the container has in its firewall stays as it is.

use crate::error::{Context as _, Error, Result};
use crate::model::port::Protocol;
use crate::network::nft;
use crate::network::ruleset::{Hook, OUTPUT, Op, Rule};
use crate::sys::nfnetlink::{Channel, Message, Refusal};
use nix::errno::Errno;
use std::net::SocketAddr;

const TABLE: &str = "barge-names";
const CHAIN: &str = "output";
/// Before the container's own translations (dstnat, -100): the first one that fits a connection is the one it gets.
const PRIORITY: i32 = -101;

/// In the namespace of the calling thread, in one transaction. While the channel is open nobody else can change the table:
/// many firewalls begin with `nft flush ruleset`. It goes with the namespace, which costs nobody a wait; to remove it
/// takes 10 ms, and so does the end of an owner whose tables don't persist.
pub(super) fn open(udp: SocketAddr, tcp: SocketAddr) -> Result<Channel> {
    let mut channel = Channel::open().context("open netlink of the container's firewall")?;
    let done = match channel.transact(batch(udp, tcp, nft::OWNED)) {
        // Linux before 6.9: a flush in the container closes the way.
        Err(Refusal {
            errno: Errno::EINVAL | Errno::EOPNOTSUPP,
            ..
        }) => channel.transact(batch(udp, tcp, 0)),
        done => done,
    };
    done.map_err(|refusal| Error::other(format!("set {}: {}", refusal.object, refusal.errno.desc())))?;
    Ok(channel)
}

/// Whatever a table of this name held before is gone.
pub(super) fn batch(udp: SocketAddr, tcp: SocketAddr, flags: u32) -> Vec<Message> {
    let hook = Hook {
        kind: "nat",
        hook: OUTPUT,
        priority: PRIORITY,
    };
    vec![
        nft::new_table(TABLE, None),
        nft::remove_table(TABLE),
        nft::new_table(TABLE, Some(flags)),
        nft::chain(TABLE, CHAIN, Some(hook)),
        nft::new_rule(TABLE, &rule(Protocol::Udp, "udp dport 53 dnat", udp)),
        nft::new_rule(TABLE, &rule(Protocol::Tcp, "tcp dport 53 dnat", tcp)),
    ]
}

fn rule(protocol: Protocol, text: &'static str, to: SocketAddr) -> Rule {
    let address = super::resolv::RESPONDER.octets().to_vec();
    let ops = vec![
        Op::OnlyIpv4,
        Op::Network {
            offset: 16,
            length: 4,
            to: 0,
        },
        Op::Equal(0, address.clone()),
        Op::Protocol(0),
        Op::Equal(0, vec![protocol.number()]),
        Op::DestinationPort(0),
        Op::Equal(0, super::PORT.to_be_bytes().to_vec()),
        Op::Load(0, address),
        Op::Load(1, to.port().to_be_bytes().to_vec()),
        Op::Dnat { ipv6: false, port: 1 },
    ];
    let chain = CHAIN;
    Rule { chain, text, ops }
}
