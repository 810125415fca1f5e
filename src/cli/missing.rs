//! Flags that docker, podman or nerdctl have and barge has not, each with its reason: one page of the manual, made
//! from their references (`peers.txt`) and barge's own tree of commands.

use crate::cli::VERSION;
use crate::cli::tree;
use clap::Arg;
use clap_mangen::roff::{Roff, bold, roman};

const PEERS: &str = include_str!("peers.txt");

/// A flag of a peer's.
struct Peer {
    command: &'static str,
    /// With its dashes.
    flag: &'static str,
    /// `D`, `P` and `N`.
    whose: &'static str,
    /// Why barge has not got it; empty if it should have.
    reason: &'static str,
}

fn peers() -> impl Iterator<Item = Peer> {
    let lines = PEERS.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines.filter_map(|line| {
        let mut words = line.splitn(4, ' ');
        Some(Peer {
            command: words.next()?,
            flag: words.next()?,
            whose: words.next()?,
            reason: words.next().unwrap_or_default(),
        })
    })
}

/// Those that barge has not, of the commands that it has.
fn missing() -> Vec<Peer> {
    let has = |peer: &Peer| {
        let name = peer.flag.trim_start_matches('-');
        let is = |arg: &Arg| {
            arg.get_long() == Some(name)
                || arg
                    .get_all_aliases()
                    .is_some_and(|all| all.into_iter().any(|a| a == name))
        };
        tree::parser(&[peer.command]).is_none_or(|command| command.get_arguments().any(is))
    };
    peers().filter(|peer| !has(peer)).collect()
}

/// `barge-missing.7`.
pub(crate) fn page() -> Vec<u8> {
    let mut roff = Roff::new();
    let source = format!("barge {VERSION}");
    roff.control("TH", ["barge-missing", "7", "2026-11-22", source.as_str(), "barge"]);
    roff.control("SH", ["NAME"])
        .text([roman("barge-missing - flags of other engines that barge has not")]);
    roff.control("SH", ["DESCRIPTION"]).text([roman(
        "Every flag of docker (D), podman (P) and nerdctl (N) that barge has not, and why. A command line that has one of \
         them is an error that names it. What is not listed here barge has.",
    )]);
    let missing = missing();
    for command in ["run", "build"] {
        let of_it: Vec<&Peer> = missing.iter().filter(|p| p.command == command).collect();
        if of_it.is_empty() {
            continue;
        }
        let title = match command {
            "run" => "run, create",
            other => other,
        };
        roff.control("SS", [title]);
        for peer in of_it {
            roff.control("TP", [])
                .text([bold(peer.flag), roman(format!(" ({})", peer.whose))])
                .text([roman(format!("{}.", peer.reason))]);
        }
    }
    roff.control("SH", ["SEE ALSO"])
        .text([roman("barge(1), barge-run(1), barge-docker(7), barge-podman(7)")]);
    let mut text = Vec::new();
    let _ = roff.to_writer(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_peers_have_is_here_or_has_a_reason() {
        assert!(peers().count() > 300);
        let without: Vec<_> = missing()
            .into_iter()
            .filter(|p| p.reason.is_empty())
            .map(|p| format!("{} {}", p.command, p.flag))
            .collect();
        assert_eq!(
            without,
            Vec::<String>::new(),
            "give barge the flag, or src/cli/peers.txt a reason"
        );
    }

    #[test]
    fn the_page_names_them() {
        let text = String::from_utf8(page()).unwrap();
        assert!(
            text.contains("\\-\\-pod") && text.contains("there are no pods"),
            "{text}"
        );
        assert!(!text.contains("\\-\\-volume\\fR"));
    }
}
