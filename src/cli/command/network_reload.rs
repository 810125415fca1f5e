//! `network reload`: puts the engine's firewall rules back.

use crate::cli::argument::{Values, value};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::error::Result;
use crate::network::rules;
use clap::{ArgMatches, Command};

pub(super) const SPEC: Spec = Spec {
    name: "reload",
    about: "Put back the firewall rules of all networks and published ports, after somebody flushed them",
    examples: &[
        (
            "barge network reload",
            "after `nft flush ruleset` or a restart of a firewall",
        ),
        (
            "barge network reload --firewall iptables",
            "from now on with iptables instead of nf_tables",
        ),
    ],
    also: None,
    body: Body::plain(define, run),
};

fn define(command: Command) -> Command {
    command.arg(value(
        "firewall",
        "NAME",
        "Use this from now on: nftables, iptables or none",
    ))
}

fn run(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    if let Some(name) = m.text("firewall") {
        rules::choose(&store, name)?;
    }
    for warning in rules::reload_all(&store)? {
        session.console.note(&format!("barge: {warning}"));
    }
    Ok(0)
}
