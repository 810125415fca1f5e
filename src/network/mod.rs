//! What connects a container: bridges, links, addresses, published ports, firewall rules, names.

pub(crate) mod service;
