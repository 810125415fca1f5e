//! What connects a container: bridges, links, addresses, published ports, firewall rules, names.

mod conntrack;
mod foreign;
mod holder;
mod iptables;
mod nft;
pub(crate) mod proxy;
pub(crate) mod publish;
pub(crate) mod rules;
mod ruleset;
pub(crate) mod service;
