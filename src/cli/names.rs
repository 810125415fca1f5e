//! Flags about names of `run` and `create`: `--dns`, `--add-host`, `--link` and their kin.

use crate::cli::argument::{Values, bytes, flag, list};
use crate::container::config::NameArgs;
use crate::error::{Error, Result};
use crate::model::name::ExtraHost;
use clap::{ArgMatches, Command};
use std::net::IpAddr;

/// What a build's steps may be told too.
pub(crate) fn resolver_flags(command: Command) -> Command {
    command
        .arg(list(
            "add-host",
            "NAME:ADDRESS",
            "Add a line to /etc/hosts; the address host-gateway is the host's",
        ))
        .arg(list("dns", "ADDRESS", "Name server to ask instead of the host's"))
        .arg(list("dns-option", "OPTION", "Option of resolv.conf, such as ndots:2").alias("dns-opt"))
        .arg(list(
            "dns-search",
            "DOMAIN",
            "Domain to look names up in; . has none of the host's",
        ))
}

pub(crate) fn define(command: Command) -> Command {
    resolver_flags(command)
        .arg(bytes(
            "hosts-file",
            "FILE",
            "What /etc/hosts begins with, instead of the usual names; none is nothing",
        ))
        .arg(list(
            "link",
            "CONTAINER[:ALIAS]",
            "Make another container known under a name",
        ))
        .arg(flag("no-hostname", "Leave the image's /etc/hostname as it is"))
        .arg(flag("no-hosts", "Leave the image's /etc/hosts as it is"))
}

pub(crate) fn names(m: &ArgMatches) -> Result<NameArgs> {
    let extra_hosts = m.texts("add-host").map(add_host).collect::<Result<Vec<_>>>()?;
    let no_hosts = m.on("no-hosts");
    let hosts_file = m.raw("hosts-file").filter(|f| !f.is_empty());
    if no_hosts && (!extra_hosts.is_empty() || hosts_file.is_some()) {
        let other = if hosts_file.is_some() {
            "--hosts-file"
        } else {
            "--add-host"
        };
        return Err(Error::usage(format!("--no-hosts and {other} cannot be set together")));
    }
    let hosts_file = match hosts_file {
        Some(none) if none == "none" => Some("none".into()),
        other => other.map(std::path::absolute).transpose()?,
    };
    Ok(NameArgs {
        dns: m.texts("dns").map(server).collect::<Result<_>>()?,
        dns_search: m.texts("dns-search").map(domain).collect::<Result<_>>()?,
        dns_options: m.texts("dns-option").map(option).collect::<Result<_>>()?,
        extra_hosts,
        links: m.texts("link").map(link).collect::<Result<_>>()?,
        no_hosts,
        no_hostname: m.on("no-hostname"),
        hosts_file,
    })
}

fn bad(text: &str, flag: &str, why: &str) -> Error {
    Error::usage(format!("invalid argument {text:?} for \"--{flag}\" flag: {why}"))
}

pub(crate) fn server(text: &str) -> Result<IpAddr> {
    let address = text.trim().parse();
    address.map_err(|_| bad(text, "dns", &format!("{} is not an ip address", text.escape_debug())))
}

pub(crate) fn domain(text: &str) -> Result<String> {
    if text == "." {
        return Ok(text.to_owned());
    }
    let labels = text.strip_suffix('.').unwrap_or(text).split('.');
    let good = text.len() < 256 && labels.clone().all(is_label);
    match good {
        true => Ok(text.to_owned()),
        false => Err(bad(
            text,
            "dns-search",
            &format!("{} is not a valid domain", text.escape_debug()),
        )),
    }
}

fn is_label(label: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    (1..=63).contains(&label.len()) && label.bytes().all(good) && !label.starts_with('-')
}

/// One word of resolv.conf's, and nothing that makes a second line of it.
pub(crate) fn option(text: &str) -> Result<String> {
    match !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err(bad(text, "dns-option", "want one word, such as ndots:2")),
    }
}

/// A name that a responder may be asked for.
pub(crate) fn alias(text: &str) -> Result<String> {
    match text.len() < 256 && text.split('.').all(is_label) {
        true => Ok(text.to_owned()),
        false => Err(bad(text, "network-alias", "it is no host name")),
    }
}

/// `NAME:ADDRESS` or `NAME=ADDRESS`, an IPv6 address bare or in brackets.
pub(crate) fn add_host(text: &str) -> Result<ExtraHost> {
    let wrong = |why: String| bad(text, "add-host", &why);
    let format = || wrong(format!("bad format for add-host: {text:?}"));
    let (name, address) = match text.split_once('=') {
        Some(pair) => pair,
        None => text.split_once(':').ok_or_else(format)?,
    };
    let name_good = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if !name_good {
        return Err(format());
    }
    let bare = address
        .strip_prefix('[')
        .and_then(|a| a.strip_suffix(']'))
        .unwrap_or(address);
    let address = match bare {
        "host-gateway" => None,
        bare => Some(
            bare.parse()
                .map_err(|_| wrong(format!("invalid IP address in add-host: {address:?}")))?,
        ),
    };
    Ok(ExtraHost {
        name: name.to_owned(),
        address,
    })
}

/// Container and alias; 2013's `/name`, and docker's own `/name:/web/alias`, are understood.
fn link(text: &str) -> Result<(String, Option<String>)> {
    let wrong = || bad(text, "link", &format!("bad format for links: {}", text.escape_debug()));
    let (container, alias) = match text.split_once(':') {
        Some((container, alias)) => (container, Some(alias.rsplit('/').next().unwrap_or(alias))),
        None => (text, None),
    };
    let container = container.strip_prefix('/').unwrap_or(container);
    let good = |name: &str| name.split('.').all(is_label);
    if container.is_empty() || !alias.is_none_or(good) {
        return Err(wrong());
    }
    Ok((container.to_owned(), alias.map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_to_add() {
        for (text, name, address) in [
            ("db:10.0.0.1", "db", Some("10.0.0.1")),
            ("db:fd00::1", "db", Some("fd00::1")),
            ("db:[fd00::1]", "db", Some("fd00::1")),
            ("db=[::1]", "db", Some("::1")),
            ("a.b-c:host-gateway", "a.b-c", None),
        ] {
            let host = add_host(text).unwrap();
            assert_eq!(
                (host.name.as_str(), host.address),
                (name, address.map(|a| a.parse().unwrap()))
            );
        }
        for (bad, why) in [
            ("db", "bad format for add-host: \"db\""),
            (":1.2.3.4", "bad format for add-host: \":1.2.3.4\""),
            ("a b:1.2.3.4", "bad format"),
            ("a\n:1.2.3.4", "bad format"),
            ("db:", "invalid IP address in add-host: \"\""),
            ("db:1.2.3", "invalid IP address in add-host: \"1.2.3\""),
        ] {
            let e = add_host(bad).unwrap_err().to_string();
            assert!(e.contains(why) && !e.contains('\n'), "{e}");
        }
    }

    #[test]
    fn servers_domains_and_options() {
        assert_eq!(server("fd00::1").unwrap().to_string(), "fd00::1");
        let e = server("x").unwrap_err().to_string();
        assert_eq!(e, "invalid argument \"x\" for \"--dns\" flag: x is not an ip address");
        for good in [".", "a", "example.org", "example.org.", "_tcp.a-b.c"] {
            assert!(domain(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a..b", "a\nnameserver 6.6.6.6", "-a", &"x".repeat(64)] {
            assert!(
                domain(bad).unwrap_err().to_string().ends_with("is not a valid domain"),
                "{bad}"
            );
        }
        assert!(option("ndots:2").is_ok());
        for bad in ["", "a b", "a\nb"] {
            assert!(option(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn links() {
        for (text, expected) in [
            ("db", ("db", None)),
            ("/db:data", ("db", Some("data"))),
            ("0123abcd:data-1", ("0123abcd", Some("data-1"))),
            ("/db:/web/data", ("db", Some("data"))),
        ] {
            let (container, alias) = link(text).unwrap();
            assert_eq!((container.as_str(), alias.as_deref()), expected);
        }
        for bad in ["", ":x", "db:", "db:a:b", "db:a b"] {
            let e = link(bad).unwrap_err().to_string();
            assert!(e.contains("bad format for links"), "{e}");
        }
    }
}
