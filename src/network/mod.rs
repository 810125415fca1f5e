//! What connects a container: bridges, links, addresses, published ports, firewall rules, names.

pub(crate) mod dns;
pub(crate) mod hosts;
pub(crate) mod links;
pub(crate) mod resolv;
pub(crate) mod service;
