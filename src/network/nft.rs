//! nf_tables: the rule set (`ruleset.rs`) as netlink messages (linux/netfilter/nf_tables.h), each change one
//! transaction.

use crate::network::ruleset::{CHAINS, Element, Hook, Op, Part, Register, Rule, SETS, Set, Type, rules};
use crate::sys::nfnetlink::{APPEND, Attributes, CREATE, Channel, Message, Refusal, Subsystem};
use std::net::IpAddr;

/// NFPROTO_INET: IPv4 and IPv6 in one table.
const INET: u8 = 1;

/// NFT_MSG_*.
const NEW_TABLE: u8 = 0;
const DEL_TABLE: u8 = 2;
const NEW_CHAIN: u8 = 3;
const GET_CHAIN: u8 = 4;
const NEW_RULE: u8 = 6;
const GET_RULE: u8 = 7;
const DEL_RULE: u8 = 8;
const NEW_SET: u8 = 9;
const NEW_ELEMENT: u8 = 12;
const GET_ELEMENT: u8 = 13;
const DEL_ELEMENT: u8 = 14;

fn message(kind: u8, family: u8, flags: u16, object: String) -> Message {
    Message::new(Subsystem::Nftables, kind, family, flags, object)
}

/// Table, chains, sets and rules. Repeated, it puts the rules back as they should be, and leaves elements and the
/// administrator's chain alone.
pub(crate) fn base(table: &str) -> Vec<Message> {
    let mut all = vec![new_table(table, Some(0))];
    for (name, hook) in CHAINS {
        all.push(chain(table, name, *hook));
    }
    for (id, set) in (1..).zip(SETS) {
        all.push(new_set(table, set, id));
    }
    let flushed = CHAINS.iter().filter(|(name, _)| *name != super::ruleset::USER_CHAIN);
    for (name, _) in flushed {
        let mut m = message(
            DEL_RULE,
            INET,
            0,
            format!("rules of chain {name} in table inet {table}"),
        );
        m.text(1, table).text(2, name);
        all.push(m);
    }
    all.extend(rules().iter().map(|r| new_rule(table, r)));
    all
}

/// Only the socket that made the table can change it (NFT_TABLE_F_OWNER); closed, it leaves the table as one of nobody's
/// (NFT_TABLE_F_PERSIST, Linux 6.9).
pub(crate) const OWNED: u32 = 2 | 4;

/// Without flags a table that is there already stays as it is.
pub(crate) fn new_table(table: &str, flags: Option<u32>) -> Message {
    let mut m = message(NEW_TABLE, INET, CREATE, format!("table inet {table}"));
    m.text(1, table);
    if let Some(flags) = flags {
        m.number(2, flags);
    }
    m
}

pub(crate) fn remove_table(table: &str) -> Message {
    let mut m = message(DEL_TABLE, INET, 0, format!("table inet {table}"));
    m.text(1, table);
    m
}

pub(crate) fn chain(table: &str, name: &str, hook: Option<Hook>) -> Message {
    let mut m = message(NEW_CHAIN, INET, CREATE, format!("chain {name} in table inet {table}"));
    m.text(1, table).text(3, name);
    if let Some(hook) = hook {
        m.nested(4, |m| {
            m.number(1, hook.hook).number(2, hook.priority.cast_unsigned());
        });
        // NF_ACCEPT
        m.number(5, 1).text(7, hook.kind);
    }
    m
}

/// nft's number of a concatenation: six bits for each part.
fn type_number(parts: &[Type]) -> u32 {
    parts.iter().fold(0, |sum, part| (sum << 6) | part.number())
}

fn width(parts: &[Type]) -> u32 {
    parts.iter().map(|part| part.width()).sum()
}

fn new_set(table: &str, set: &Set, id: u32) -> Message {
    const INTERVAL: u32 = 4;
    const MAP: u32 = 8;
    let map = !set.value.is_empty();
    let flags = if set.ranges { INTERVAL } else { 0 } | if map { MAP } else { 0 };
    let mut m = message(NEW_SET, INET, CREATE, format!("set {} in table inet {table}", set.name));
    m.text(1, table).text(2, set.name).number(3, flags);
    m.number(4, type_number(set.key)).number(5, width(set.key));
    if map {
        m.number(6, type_number(set.value)).number(7, width(set.value));
    }
    m.number(10, id);
    // nft's note to itself that keys are in the machine's byte order; it would show interface names backwards.
    if set.key == [Type::Interface] {
        m.bytes(13, &[&[0, 4][..], &1u32.to_ne_bytes()].concat());
    }
    m
}

/// Adds an element, or takes it out.
fn element_message(kind: u8, table: &str, element: &Element, flags: u16) -> Message {
    let mut m = message(kind, INET, flags, format!("element {element} in table inet {table}"));
    let key = |parts: &[Part]| parts.iter().flat_map(Part::bytes).collect::<Vec<u8>>();
    m.text(1, table).text(2, element.set);
    m.nested(3, |m| {
        m.nested(1, |m| {
            m.nested(1, |m| {
                m.bytes(1, &key(&element.key));
            });
            if kind == NEW_ELEMENT {
                if !element.value.is_empty() {
                    m.nested(2, |m| {
                        m.bytes(1, &key(&element.value));
                    });
                }
                m.bytes(6, &comment(&element.comment));
            }
        });
        // The end of a range is an element of its own: the first address that is not in it.
        if let Some(after) = element.last.and_then(next_address) {
            m.nested(1, |m| {
                m.nested(1, |m| {
                    m.bytes(1, &Part::Address(after).bytes());
                });
                m.number(3, 1);
            });
        }
    });
    m
}

/// `None` after the very last: such a range has no end.
fn next_address(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(v4) => v4.to_bits().checked_add(1).map(|n| IpAddr::V4(n.into())),
        IpAddr::V6(v6) => v6.to_bits().checked_add(1).map(|n| IpAddr::V6(n.into())),
    }
}

/// As nft writes and shows it: a type (0), the length, the text and its NUL.
fn comment(text: &str) -> Vec<u8> {
    let text = &text.as_bytes()[..text.len().min(120)];
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    [&[0, length][..], text, &[0]].concat()
}

pub(crate) fn add(table: &str, element: &Element) -> Message {
    element_message(NEW_ELEMENT, table, element, CREATE)
}

pub(crate) fn remove(table: &str, element: &Element) -> Message {
    element_message(DEL_ELEMENT, table, element, 0)
}

pub(crate) fn new_rule(table: &str, rule: &Rule) -> Message {
    let object = format!("rule '{}' in chain {} of table inet {table}", rule.text, rule.chain);
    let mut m = message(NEW_RULE, INET, CREATE | APPEND, object);
    m.text(1, table).text(2, rule.chain);
    m.nested(4, |m| {
        for op in &rule.ops {
            expressions(m, op);
        }
    });
    m
}

/// NFT_REG32_00.
fn register(r: Register) -> u32 {
    8 + u32::from(r)
}

fn expression(m: &mut Message, name: &str, fill: impl FnOnce(&mut Message)) {
    m.nested(1, |m| {
        m.text(1, name).nested(2, fill);
    });
}

fn meta(m: &mut Message, key: u32, to: Register) {
    expression(m, "meta", |m| {
        m.number(1, register(to)).number(2, key);
    });
}

fn payload(m: &mut Message, base: u32, offset: u32, length: u32, to: Register) {
    expression(m, "payload", |m| {
        m.number(1, register(to))
            .number(2, base)
            .number(3, offset)
            .number(4, length);
    });
}

fn compare(m: &mut Message, r: Register, op: u32, value: &[u8]) {
    expression(m, "cmp", |m| {
        m.number(1, register(r)).number(2, op).nested(3, |m| {
            m.bytes(1, value);
        });
    });
}

fn mask(m: &mut Message, r: Register, mask: &[u8]) {
    expression(m, "bitwise", |m| {
        m.number(1, register(r)).number(2, register(r));
        m.number(3, u32::try_from(mask.len()).unwrap_or(0));
        m.nested(4, |m| {
            m.bytes(1, mask);
        });
        m.nested(5, |m| {
            m.bytes(1, &vec![0; mask.len()]);
        });
    });
}

fn lookup(m: &mut Message, r: Register, set: &str, to: Option<Register>, inverse: bool) {
    expression(m, "lookup", |m| {
        m.text(1, set).number(2, register(r));
        if let Some(to) = to {
            m.number(3, register(to));
        }
        if inverse {
            m.number(5, 1);
        }
    });
}

/// Some of these bits of a word that the kernel has in its own byte order.
fn connection(m: &mut Message, key: u32, bits: u32) {
    expression(m, "ct", |m| {
        m.number(1, register(0)).number(2, key);
    });
    mask(m, 0, &bits.to_ne_bytes());
    compare(m, 0, 1, &[0; 4]);
}

fn verdict(m: &mut Message, code: i32, chain: Option<&str>) {
    expression(m, "immediate", |m| {
        m.number(1, 0).nested(2, |m| {
            m.nested(2, |m| {
                m.number(1, code.cast_unsigned());
                if let Some(chain) = chain {
                    m.text(2, chain);
                }
            });
        });
    });
}

fn expressions(m: &mut Message, op: &Op) {
    const NETWORK_HEADER: u32 = 1;
    const TRANSPORT_HEADER: u32 = 2;
    match op {
        Op::InterfaceIn(r) => meta(m, 6, *r),
        Op::InterfaceOut(r) => meta(m, 7, *r),
        Op::OnlyIpv4 | Op::OnlyIpv6 => {
            // In a register that no key uses.
            meta(m, 15, 15);
            compare(m, 15, 0, &[if *op == Op::OnlyIpv4 { 2 } else { 10 }]);
        }
        Op::Protocol(r) => meta(m, 16, *r),
        Op::Network { offset, length, to } => payload(m, NETWORK_HEADER, *offset, *length, *to),
        Op::DestinationPort(r) => payload(m, TRANSPORT_HEADER, 2, 2, *r),
        Op::Mask(r, bits) => mask(m, *r, bits),
        Op::Load(r, value) => expression(m, "immediate", |m| {
            m.number(1, register(*r)).nested(2, |m| {
                m.bytes(1, value);
            });
        }),
        Op::Equal(r, value) => compare(m, *r, 0, value),
        Op::NotEqual(r, value) => compare(m, *r, 1, value),
        Op::In(r, set) => lookup(m, *r, set, None, false),
        Op::NotIn(r, set) => lookup(m, *r, set, None, true),
        Op::MapTo(r, set) => lookup(m, *r, set, Some(0), false),
        Op::State(bits) => connection(m, 0, *bits),
        Op::Status(bits) => connection(m, 2, *bits),
        Op::LocalDestination => {
            const RTN_LOCAL: u32 = 2;
            // The type of the destination's address.
            expression(m, "fib", |m| {
                m.number(1, register(0)).number(2, 3).number(3, 2);
            });
            compare(m, 0, 0, &RTN_LOCAL.to_ne_bytes());
        }
        Op::Dnat { ipv6, port } => expression(m, "nat", |m| {
            m.number(1, 1).number(2, if *ipv6 { 10 } else { 2 });
            m.number(3, register(0)).number(5, register(*port));
        }),
        Op::Masquerade => expression(m, "masq", |_| {}),
        Op::Accept => verdict(m, 1, None),
        Op::Drop => verdict(m, 0, None),
        Op::Return => verdict(m, -5, None),
        Op::Jump(chain) => verdict(m, -3, Some(chain)),
    }
}

/// A chain of any table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    /// nfgenmsg's family is not among the attributes: it is the one that was asked for.
    pub(crate) family: u8,
    pub(crate) table: String,
    pub(crate) name: String,
    /// The number of its hook, if it is a base chain.
    pub(crate) hook: Option<u32>,
    pub(crate) drops: bool,
}

/// NFPROTO_IPV4, NFPROTO_IPV6 and NFPROTO_INET.
pub(crate) const FAMILIES: [u8; 3] = [2, 10, INET];

/// All chains of these families.
pub(crate) fn chains(channel: &mut Channel) -> Result<Vec<Chain>, Refusal> {
    let mut all = Vec::new();
    for family in FAMILIES {
        let found = channel.dump(message(GET_CHAIN, family, 0, "chains".to_owned()))?;
        all.extend(found.iter().map(|a| Chain {
            family,
            table: a.text(1).to_owned(),
            name: a.text(3).to_owned(),
            hook: a.get(4).and_then(|_| a.nested(4).number(1)),
            drops: a.number(5) == Some(0),
        }));
    }
    Ok(all)
}

/// A rule of any chain: its handle, its comment and the names of its expressions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) handle: u64,
    pub(crate) userdata: Vec<u8>,
    pub(crate) expressions: Vec<String>,
}

/// The name of an expression; of a verdict and of iptables' targets what they say.
fn word(expression: &Attributes) -> String {
    let data = expression.nested(2);
    match expression.text(1) {
        "immediate" => match data.nested(2).nested(2).number(1) {
            Some(0) => "drop".to_owned(),
            _ => "immediate".to_owned(),
        },
        "target" => data.text(1).to_lowercase(),
        name => name.to_owned(),
    }
}

pub(crate) fn rules_of(channel: &mut Channel, chain: &Chain) -> Result<Vec<Found>, Refusal> {
    let mut m = message(GET_RULE, chain.family, 0, format!("rules of chain {}", chain.name));
    m.text(1, &chain.table).text(2, &chain.name);
    let rules = channel.dump(m)?;
    // Older kernels give the rules of every chain.
    let own = rules
        .iter()
        .filter(|a| a.text(1) == chain.table && a.text(2) == chain.name);
    Ok(own
        .map(|a| Found {
            handle: a.long(3).unwrap_or(0),
            userdata: a.get(7).unwrap_or_default().to_vec(),
            expressions: a.nested(4).list().map(|e| word(&e)).collect(),
        })
        .collect())
}

/// A rule of ours in somebody else's chain, in the form that `iptables` has too (it refuses tables it can't show): an
/// interface, a counter, accept. `before` is the handle of the rule it goes before; else it is the last.
pub(crate) fn guest_rule(chain: &Chain, out: bool, bridge: &str, before: Option<u64>) -> Message {
    let object = format!("a rule for {bridge} in chain {} of table {}", chain.name, chain.table);
    let flags = if before.is_some() { CREATE } else { CREATE | APPEND };
    let mut m = message(NEW_RULE, chain.family, flags, object);
    m.text(1, &chain.table).text(2, &chain.name);
    m.nested(4, |m| {
        meta(m, if out { 7 } else { 6 }, 0);
        // Up to its NUL, as iptables compares whole names.
        compare(m, 0, 0, &[bridge.as_bytes(), &[0]].concat());
        expression(m, "counter", |_| {});
        verdict(m, 1, None);
    });
    if let Some(handle) = before {
        m.bytes(6, &handle.to_be_bytes());
    }
    m.bytes(7, &guest_mark(bridge));
    m
}

/// The comment that tells our rules in other people's chains.
pub(crate) fn guest_mark(bridge: &str) -> Vec<u8> {
    comment(&format!("barge: {bridge}"))
}

pub(crate) fn remove_rule(chain: &Chain, handle: u64) -> Message {
    let mut m = message(DEL_RULE, chain.family, 0, format!("rule in chain {}", chain.name));
    m.text(1, &chain.table)
        .text(2, &chain.name)
        .bytes(3, &handle.to_be_bytes());
    m
}

/// Whose these elements are in the kernel: what their comments say, `None` for what isn't there.
pub(crate) fn owners(channel: &mut Channel, table: &str, elements: &[Element]) -> Result<Vec<Option<String>>, Refusal> {
    let questions = elements.iter().map(|e| element_message(GET_ELEMENT, table, e, 0));
    let found = channel.get(questions.collect())?;
    let owner = |set: Attributes| {
        let element = set.nested(3).list().next()?;
        let text = element.get(6).and_then(|u| u.get(2..)).unwrap_or_default();
        Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
    };
    Ok(found.into_iter().map(|set| set.and_then(owner)).collect())
}
