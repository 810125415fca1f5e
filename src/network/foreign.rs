//! Other people's firewalls on the host. A packet must be accepted by every base chain it meets: where one drops what
//! is forwarded unless told otherwise (docker, ufw, iptables-services, firewalld), it gets two rules of ours per
//! bridge, as late as possible, so that the administrator's own come first. What may go into our networks our own table
//! decides (`ruleset.rs`); these rules only keep others from dropping it.

use crate::network::nft::{self, Chain};
use crate::network::ruleset::FORWARD;
use crate::store::{Durability, Store, file};
use crate::sys::nfnetlink::{Channel, Message, Refusal};
use nix::errno::Errno;

/// Makes the host's other chains let the bridge's traffic through. What can't be done is a warning: the container
/// runs, and the person may know better.
pub(crate) fn let_through(store: &Store, bridge: &str) -> Vec<String> {
    let mut channel = match Channel::open() {
        Ok(channel) => channel,
        Err(_) => return Vec::new(),
    };
    let Ok(chains) = nft::chains(&mut channel) else {
        return Vec::new();
    };
    let mut warnings = Vec::new();
    for chain in chains.iter().filter(|c| stands_in_the_way(c)) {
        if let Err(r) = admit(store, &mut channel, chain, bridge) {
            let hint = match is_firewalld(chain) {
                true => {
                    format!(": firewall-cmd --permanent --zone=trusted --add-interface={bridge}; firewall-cmd --reload")
                }
                false => String::new(),
            };
            warnings.push(format!(
                "chain {} of table {} may drop what containers on {bridge} send and get ({}){hint}",
                chain.name,
                chain.table,
                crate::error::Error::from(r.errno)
            ));
        }
    }
    warnings.extend(legacy(bridge));
    warnings
}

/// A base chain of forwarding that drops by itself; our own never does, and firewalld rejects by its last rule.
fn stands_in_the_way(chain: &Chain) -> bool {
    chain.hook == Some(FORWARD) && !is_ours(chain) && (chain.drops || is_firewalld(chain))
}

fn is_ours(chain: &Chain) -> bool {
    chain.table == "barge" || chain.table.starts_with("barge-")
}

fn is_firewalld(chain: &Chain) -> bool {
    chain.table == "firewalld"
}

fn admit(store: &Store, channel: &mut Channel, chain: &Chain, bridge: &str) -> Result<(), Refusal> {
    let mark = nft::guest_mark(bridge);
    let complete = |rules: &[nft::Found]| rules.iter().filter(|r| r.userdata == mark).count() >= 2;
    if complete(&nft::rules_of(channel, chain)?) {
        return Ok(());
    }
    // Of several starts at once, one puts them there.
    let _held = store.lock_networks().ok();
    let rules = nft::rules_of(channel, chain)?;
    if complete(&rules) {
        return Ok(());
    }
    // Before a last rule that ends it for everyone. firewalld decides in chains it jumps to: before all.
    let before = match is_firewalld(chain) {
        true => rules.first().map(|r| r.handle),
        false => rules.last().filter(|r| ends_all(&r.expressions)).map(|r| r.handle),
    };
    let stale = rules.iter().filter(|r| r.userdata == mark);
    let mut messages: Vec<Message> = stale.map(|r| nft::remove_rule(chain, r.handle)).collect();
    messages.extend([false, true].map(|out| nft::guest_rule(chain, out, bridge, before)));
    channel.transact(messages)
}

/// A rule without a condition that lets nothing through.
fn ends_all(expressions: &[String]) -> bool {
    let last = expressions
        .last()
        .is_some_and(|e| matches!(e.as_str(), "drop" | "reject"));
    last && expressions
        .iter()
        .all(|e| matches!(e.as_str(), "counter" | "log" | "drop" | "reject"))
}

/// Takes the bridge's rules out of other people's chains.
pub(crate) fn forget(bridge: &str) {
    let Ok(mut channel) = Channel::open() else { return };
    let mark = nft::guest_mark(bridge);
    let chains = nft::chains(&mut channel).unwrap_or_default();
    for chain in chains.iter().filter(|c| c.hook == Some(FORWARD) && !is_ours(c)) {
        let rules = nft::rules_of(&mut channel, chain).unwrap_or_default();
        for rule in rules.iter().filter(|r| r.userdata == mark) {
            match channel.transact(vec![nft::remove_rule(chain, rule.handle)]) {
                Ok(())
                | Err(Refusal {
                    errno: Errno::ENOENT, ..
                }) => {}
                Err(_) => return,
            }
        }
    }
    crate::network::iptables::forget_legacy(bridge);
}

/// The same for the old iptables, whose rules no netlink shows: only where they are in use.
fn legacy(bridge: &str) -> Option<String> {
    let tables = std::fs::read_to_string("/proc/net/ip_tables_names").unwrap_or_default();
    match tables.lines().any(|l| l == "filter") {
        true => crate::network::iptables::admit_legacy(bridge),
        false => None,
    }
}

/// The warning, once for every host, that a port published to all addresses is open past the host's own firewall.
pub(crate) fn published_past(store: &Store) -> Option<String> {
    let told = "firewall-told";
    if store.root().join(told).exists() {
        return None;
    }
    let whose = active()?;
    file::replace(store.root(), told, whose.as_bytes(), Durability::Volatile).ok()?;
    Some(format!(
        "published ports are open to everyone, whatever {whose} says: publish to 127.0.0.1, or put rules into the \
         chain '{}' of table inet {} (said once)",
        crate::network::ruleset::USER_CHAIN,
        crate::network::rules::table(store)
    ))
}

fn active() -> Option<&'static str> {
    let chains = Channel::open()
        .ok()
        .and_then(|mut c| nft::chains(&mut c).ok())
        .unwrap_or_default();
    if chains.iter().any(is_firewalld) {
        return Some("firewalld");
    }
    if chains
        .iter()
        .any(|c| c.name == "ufw-user-input" || c.name == "ufw6-user-input")
    {
        return Some("ufw");
    }
    // With the old iptables its chains are out of sight.
    let old = std::fs::read_to_string("/proc/net/ip_tables_names").is_ok_and(|t| t.contains("filter"));
    let on = std::fs::read_to_string("/etc/ufw/ufw.conf").is_ok_and(|t| t.lines().any(|l| l.trim() == "ENABLED=yes"));
    (old && on).then_some("ufw")
}
