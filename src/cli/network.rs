//! `--network` and what goes with it → [`NetworkArg`].

use crate::cli::argument::{Values, list, value};
use crate::cli::names::alias;
use crate::container::config::NetworkArg;
use crate::error::{Error, Result};
use crate::model::network::{Attachment, DEFAULT};
use crate::network::link::is_valid_name;
use clap::{ArgMatches, Command};
use std::path::PathBuf;
use std::str::FromStr;

/// The flags of a container's places on networks.
pub(crate) fn define(command: Command) -> Command {
    command
        .arg(value("ip", "ADDRESS", "IPv4 address on its network"))
        .arg(value("ip6", "ADDRESS", "IPv6 address on its network"))
        .arg(value("mac-address", "MAC", "MAC address on its network"))
        .arg(
            list(
                "network",
                "NETWORK",
                "Network: a name with options (NAME:ip=…,alias=…), none, host, container:NAME or ns:PATH",
            )
            .alias("net"),
        )
        .arg(list("network-alias", "NAME", "Another name of the container on its networks").alias("net-alias"))
}

/// What all of them say together.
pub(crate) fn network(m: &ArgMatches) -> Result<NetworkArg> {
    let mut wanted = modes(m.texts("network"))?;
    let given = ["ip", "ip6", "mac-address"]
        .into_iter()
        .find(|name| m.text(name).is_some());
    let given = given.or_else(|| m.texts("network-alias").next().map(|_| "network-alias"));
    let Some(given) = given else {
        return without_networking(wanted, m.switch("networking"));
    };
    if wanted == NetworkArg::Default {
        wanted = NetworkArg::Networks(vec![Attachment::to(DEFAULT)]);
    }
    let NetworkArg::Networks(attachments) = &mut wanted else {
        return Err(Error::usage(format!(
            "conflicting options: --{given} and a network that is not the container's own"
        )));
    };
    for name in m.texts("network-alias") {
        for attachment in attachments.iter_mut() {
            attachment.aliases.push(alias(name)?);
        }
    }
    if let Some(first) = attachments.first_mut() {
        set(&mut first.ip, "ip", m.text("ip"))?;
        set(&mut first.ip6, "ip6", m.text("ip6"))?;
        set(&mut first.mac, "mac-address", m.text("mac-address"))?;
    }
    without_networking(wanted, m.switch("networking"))
}

/// Docker 0.6's `-n=false`.
fn without_networking(wanted: NetworkArg, networking: Option<bool>) -> Result<NetworkArg> {
    match (networking, wanted) {
        (Some(false), NetworkArg::Default | NetworkArg::None) => Ok(NetworkArg::None),
        (Some(false), _) => Err(Error::usage("Conflicting options: -n=false and --network")),
        (_, wanted) => Ok(wanted),
    }
}

fn set<T: FromStr>(to: &mut Option<T>, flag: &str, text: Option<&str>) -> Result<()> {
    let Some(text) = text else { return Ok(()) };
    if to.is_some() {
        return Err(Error::usage(format!(
            "conflicting options: cannot specify both --{flag} and a per-network {flag}"
        )));
    }
    *to = Some(parsed(flag, text)?);
    Ok(())
}

fn parsed<T: FromStr>(what: &str, text: &str) -> Result<T> {
    text.parse()
        .map_err(|_| Error::usage(format!("invalid {what} address: {}", text.escape_debug())))
}

pub(crate) fn modes<'a>(texts: impl Iterator<Item = &'a str>) -> Result<NetworkArg> {
    let mut all = texts.flat_map(split_list).map(mode).collect::<Result<Vec<_>>>()?;
    if all.len() < 2 {
        return Ok(all.pop().unwrap_or_default());
    }
    let mut attachments: Vec<Attachment> = Vec::new();
    for one in all {
        match one {
            NetworkArg::Default => attachments.push(Attachment::to(DEFAULT)),
            NetworkArg::Networks(own) => attachments.extend(own),
            _ => {
                return Err(Error::usage(
                    "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
                ));
            }
        }
    }
    for (n, one) in attachments.iter().enumerate() {
        if attachments.iter().take(n).any(|other| other.network == one.network) {
            return Err(Error::usage(format!(
                "network {:?} is specified multiple times",
                one.network
            )));
        }
    }
    Ok(NetworkArg::Networks(attachments))
}

/// `a,b` is two networks, as podman has it; what follows a colon are options, and with `name=` it is docker's long form.
fn split_list(text: &str) -> Vec<&str> {
    match text.contains([':', '=']) {
        true => vec![text],
        false => text.split(',').collect(),
    }
}

fn mode(text: &str) -> Result<NetworkArg> {
    Ok(match text {
        "none" => NetworkArg::None,
        "host" => NetworkArg::Host,
        "" | "default" | DEFAULT => NetworkArg::Default,
        _ => match text.split_once(':') {
            Some(("container", name)) if !name.is_empty() => NetworkArg::Container(name.to_owned()),
            Some(("container", _)) => return Err(Error::usage("Invalid container format container:<name|id>")),
            Some(("ns", path)) if path.starts_with('/') => NetworkArg::Ns(PathBuf::from(path)),
            Some(("ns", path)) => {
                return Err(Error::usage(format!(
                    "invalid network namespace path '{}': it must be absolute",
                    path.escape_debug()
                )));
            }
            // The long form: addresses in it have colons.
            Some((before, _)) if before.contains('=') => NetworkArg::Networks(vec![attachment("", text)?]),
            Some((name, options)) => NetworkArg::Networks(vec![attachment(name, options)?]),
            None if text.contains('=') => NetworkArg::Networks(vec![attachment("", text)?]),
            None => NetworkArg::Networks(vec![named(text)?]),
        },
    })
}

fn named(name: &str) -> Result<Attachment> {
    let name = if name == "default" { DEFAULT } else { name };
    match crate::store::is_valid_name(name) {
        true => Ok(Attachment::to(name)),
        false => Err(Error::usage(format!("invalid network name '{}'", name.escape_debug()))),
    }
}

/// `ip=…,alias=…` of podman's, and docker's long form, where the name is an option too.
fn attachment(name: &str, options: &str) -> Result<Attachment> {
    let mut made = Attachment::default();
    let mut named_by_option = None;
    for option in options.split(',').filter(|o| !o.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        match key {
            "name" => named_by_option = Some(value),
            "ip" => match parsed::<std::net::IpAddr>("ip", value)? {
                std::net::IpAddr::V4(v4) => made.ip = Some(v4),
                std::net::IpAddr::V6(v6) => made.ip6 = Some(v6),
            },
            "ip6" => made.ip6 = Some(parsed("ip6", value)?),
            "mac" | "mac-address" => made.mac = Some(value.parse()?),
            "alias" => made.aliases.push(alias(value)?),
            "interface_name" | "interface" if is_valid_name(value) => made.interface = Some(value.to_owned()),
            "interface_name" | "interface" => {
                return Err(Error::usage(format!(
                    "invalid interface name '{}'",
                    value.escape_debug()
                )));
            }
            // Docker's order of default routes is that of the command line here.
            "gw-priority" => {}
            other => {
                return Err(Error::usage(format!(
                    "invalid option '{}' of network {}",
                    other.escape_debug(),
                    name.escape_debug()
                )));
            }
        }
    }
    let name = named_by_option.unwrap_or(name);
    made.network = named(name)?.network;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &[&str]) -> Result<NetworkArg> {
        let command = define(Command::new("x")).arg(crate::cli::argument::flag("networking", "").short('n'));
        let m = command.try_get_matches_from(std::iter::once("x").chain(line.iter().copied()));
        network(&m.unwrap())
    }

    #[test]
    fn networks_with_what_is_asked_of_them() {
        let to = |name: &str| Attachment::to(name);
        let full = Attachment {
            network: "a".to_owned(),
            ip: Some("10.0.0.9".parse().unwrap()),
            ip6: Some("fd00::9".parse().unwrap()),
            mac: Some("02:00:00:00:00:09".parse().unwrap()),
            aliases: vec!["x".to_owned(), "y".to_owned()],
            interface: Some("lan0".to_owned()),
        };
        for (line, expected) in [
            (&[][..], NetworkArg::Default),
            (&["--network", "bridge"], NetworkArg::Default),
            (&["--network", "a"], NetworkArg::Networks(vec![to("a")])),
            (
                &["--net", "a", "--net", "b"],
                NetworkArg::Networks(vec![to("a"), to("b")]),
            ),
            (
                &["--net", "a,bridge"],
                NetworkArg::Networks(vec![to("a"), to("bridge")]),
            ),
            (
                &[
                    "--network",
                    "a:ip=10.0.0.9,ip6=fd00::9,mac=02:00:00:00:00:09,alias=x,alias=y,interface_name=lan0",
                ],
                NetworkArg::Networks(vec![full.clone()]),
            ),
            (
                &[
                    "--network=name=a,alias=x,interface=lan0,mac-address=02:00:00:00:00:09",
                    "--ip=10.0.0.9",
                    "--ip6=fd00::9",
                    "--network-alias=y",
                ],
                NetworkArg::Networks(vec![full]),
            ),
            (&["-n=false"], NetworkArg::None),
            (&["-n=true"], NetworkArg::Default),
        ] {
            assert_eq!(of(line).unwrap(), expected, "{line:?}");
        }
        let on_default = of(&["--ip", "172.17.0.9"]).unwrap();
        assert!(matches!(on_default, NetworkArg::Networks(a) if a[0].network == "bridge" && a[0].ip.is_some()));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (line, text) in [
            (&["--net", "host", "--net", "a"][..], "cannot attach both"),
            (&["--net", "a", "--net", "a"], "specified multiple times"),
            (&["--net", "host", "--ip", "10.0.0.1"], "conflicting options: --ip"),
            (
                &["--net", "none", "--network-alias", "x"],
                "conflicting options: --network-alias",
            ),
            (&["--net", "a:ip=10.0.0.1", "--ip", "10.0.0.2"], "cannot specify both"),
            (&["--net", "a:ip=10.0.0"], "invalid ip address"),
            (&["--net", "a:colour=red"], "invalid option 'colour' of network a"),
            (&["--net", "a/b"], "invalid network name"),
            (&["--net", "a:alias="], "network-alias"),
            (&["--net", "a:interface_name=a/b"], "invalid interface name"),
            (&["--net", "ns:x"], "must be absolute"),
            (&["--net", "container:"], "Invalid container format"),
            (&["--net", "a", "-n=false"], "-n=false"),
            (&["--mac-address", "01:00:00:00:00:00"], "invalid mac-address"),
        ] {
            let e = of(line).unwrap_err().to_string();
            assert!(e.contains(text), "{line:?}: {e}");
        }
    }
}
