//! `network`: what containers talk over.

use super::inspect;
use crate::cli::argument::{Values, flag, list, value, word, words};
use crate::cli::environment;
use crate::cli::names::alias;
use crate::cli::prune::{confirm, prune_flags};
use crate::cli::session::Session;
use crate::cli::tree::{Body, Spec};
use crate::cli::view::network::{COLUMNS, Shown, VIEW};
use crate::cli::view::show;
use crate::container::connect;
use crate::error::{Error, Kind, Result};
use crate::model::filter::{self, Label};
use crate::model::network::{Attachment, DEFAULT, Driver, Network};
use crate::model::prune::Filters;
use crate::network::{self, NewNetwork};
use crate::output::listing::Fields as _;
use crate::store::Store;
use clap::{ArgMatches, Command};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const SPEC: Spec = Spec {
    name: "network",
    about: "Work with networks",
    examples: &[],
    also: None,
    body: Body::Noun(&[
        CONNECT,
        CREATE,
        DISCONNECT,
        EXISTS,
        inspect::NETWORK,
        LS,
        PRUNE,
        super::network_reload::SPEC,
        RM,
    ]),
};

const CREATE: Spec = Spec {
    name: "create",
    about: "Make a network, and print its id",
    examples: &[
        ("barge network create back", "its containers find each other by name"),
        (
            "barge network create --subnet 10.5.0.0/24 --gateway 10.5.0.254 back",
            "with these addresses",
        ),
        (
            "barge network create -d macvlan --subnet 192.0.2.0/24 -o parent=eth0 lan",
            "its containers are on the host's own network",
        ),
    ],
    also: None,
    body: Body::plain(define_create, create),
};

const LS: Spec = Spec {
    name: "ls",
    about: "List networks",
    examples: &[("barge network ls --filter driver=bridge -q", "ids of the bridges only")],
    also: None,
    body: Body::plain(define_ls, ls),
};

const RM: Spec = Spec {
    name: "rm",
    about: "Remove networks that no container is on",
    examples: &[("barge network rm back", "with its bridge")],
    also: None,
    body: Body::plain(define_rm, rm),
};

const PRUNE: Spec = Spec {
    name: "prune",
    about: "Remove the networks that no container uses",
    examples: &[("barge network prune -f", "without asking")],
    also: None,
    body: Body::plain(prune_flags, prune),
};

const CONNECT: Spec = Spec {
    name: "connect",
    about: "Connect a container to a network, also while it runs",
    examples: &[(
        "barge network connect --alias db --ip 10.5.0.9 back web",
        "under another name too, at this address",
    )],
    also: None,
    body: Body::plain(define_connect, run_connect),
};

const DISCONNECT: Spec = Spec {
    name: "disconnect",
    about: "Take a container off a network, also while it runs",
    examples: &[("barge network disconnect back web", "its address is free at once")],
    also: None,
    body: Body::plain(define_disconnect, run_disconnect),
};

const EXISTS: Spec = Spec {
    name: "exists",
    about: "Tell by the exit code whether there is a network: 0 or 1",
    examples: &[(
        "barge network exists back || barge network create back",
        "makes it unless it is there",
    )],
    also: None,
    body: Body::plain(|command| command.arg(word("NETWORK", "Name or id")), exists),
};

fn define_create(command: Command) -> Command {
    command
        .arg(flag("attachable", "Taken for docker's sake: any container can be connected").hide(true))
        .arg(flag("disable-dns", "Its containers do not find each other by name"))
        .arg(value("driver", "DRIVER", "bridge, macvlan or ipvlan").short('d'))
        .arg(list(
            "gateway",
            "ADDRESS",
            "Gateway of a subnet: its first address if not said",
        ))
        .arg(list(
            "aux-address",
            "NAME=ADDRESS",
            "Give this address to no container: something else has it",
        ))
        .arg(flag("ignore", "A network of that name that exists is no failure"))
        .arg(flag("internal", "Without a way out"))
        .arg(list(
            "ip-range",
            "RANGE",
            "Give out addresses of this part of a subnet only",
        ))
        .arg(value("ipam-driver", "NAME", "Taken for docker's sake").hide(true))
        .arg(flag("ipv4", "Taken for docker's sake").hide(true))
        .arg(flag("ipv6", "Addresses of IPv6 too"))
        .arg(list("label", "NAME=VALUE", "Set a label").short('l'))
        .arg(
            list(
                "opt",
                "NAME=VALUE",
                "Option of the driver: mtu, parent, macvlan_mode, ipvlan_mode, com.docker.network.…",
            )
            .short('o'),
        )
        .arg(value("scope", "SCOPE", "Taken for docker's sake").hide(true))
        .arg(list(
            "subnet",
            "RANGE",
            "Subnet, one of each family [default: a free one]",
        ))
        .arg(word("NETWORK", "Its name"))
}

fn create(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let new = new_network(m)?;
    let store = session.store()?;
    let made = match network::create(&store, new) {
        Err(e) if e.kind() == Kind::Conflict && m.on("ignore") => {
            store.network(m.text("NETWORK").unwrap_or_default()).map_err(|_| e)?
        }
        other => other?,
    };
    session.console.line(&made.id)?;
    Ok(0)
}

fn new_network(m: &ArgMatches) -> Result<NewNetwork> {
    let driver = match m.text("driver") {
        None | Some("" | "bridge") => Driver::Bridge,
        Some("macvlan") => Driver::Macvlan,
        Some("ipvlan") => Driver::Ipvlan,
        Some(other) => {
            let e = Error::usage(format!(
                "could not find plugin {} in v1 plugin registry",
                other.escape_debug()
            ));
            return Err(e.with_hint("the drivers are bridge, macvlan and ipvlan"));
        }
    };
    if let Some(other) = m
        .text("ipam-driver")
        .filter(|d| !matches!(*d, "" | "default" | "host-local"))
    {
        return Err(Error::usage(format!("invalid ipam driver: {}", other.escape_debug())));
    }
    let all = |name: &'static str| m.texts(name).flat_map(|t| t.split(','));
    let subnets: Vec<_> = all("subnet").map(str::parse).collect::<Result<_>>()?;
    let ranges: Vec<_> = all("ip-range").map(str::parse).collect::<Result<_>>()?;
    let gateways = all("gateway").map(|text| {
        let bad = |_| Error::usage(format!("invalid gateway address: {}", text.escape_debug()));
        text.parse().map_err(bad)
    });
    let gateways: Vec<_> = gateways.collect::<Result<_>>()?;
    let mut subnets = network::subnets(&subnets, &gateways, &ranges)?;
    network::keep_aside(&mut subnets, m.texts("aux-address"))?;
    Ok(NewNetwork {
        name: m.text("NETWORK").unwrap_or_default().to_owned(),
        driver,
        subnets,
        internal: m.on("internal"),
        ipv6: m.on("ipv6"),
        dns: !m.on("disable-dns"),
        options: options(m.texts("opt"))?,
        labels: environment::labels(std::iter::empty(), m.texts("label"))?,
    })
}

fn options<'a>(words: impl Iterator<Item = &'a str>) -> Result<BTreeMap<String, String>> {
    let mut options = BTreeMap::new();
    for word in words {
        match word.split_once('=') {
            Some((name, value)) if !name.is_empty() => options.insert(name.to_owned(), value.to_owned()),
            _ => {
                return Err(Error::usage(format!(
                    "invalid option '{}': want NAME=VALUE",
                    word.escape_debug()
                )));
            }
        };
    }
    Ok(options)
}

fn define_ls(command: Command) -> Command {
    command
        .arg(
            list(
                "filter",
                "KEY=VALUE",
                "Only those that match: dangling, driver, id, label, name, scope, type",
            )
            .short('f'),
        )
        .arg(value(
            "format",
            "TEMPLATE",
            "A Go template for each, `table TEMPLATE`, or json",
        ))
        .arg(flag("no-trunc", "Whole ids"))
        .arg(flag("quiet", "Only ids").short('q'))
}

fn ls(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let filters = filter::Filters::parse(m.texts("filter"), &KEYS, Filter::parse)?;
    network::default_network(&store)?;
    let networks = store.networks()?.into_iter();
    let mut rows: Vec<_> = networks.map(|n| Shown::Real(n, m.on("no-trunc"))).collect();
    rows.push(Shown::BuiltIn("host", "host"));
    rows.push(Shown::BuiltIn("none", "null"));
    rows.sort_by(|a, b| a.name().cmp(b.name()));
    let used = match filters.ask_for(&["dangling"]) {
        true => in_use(&store, &rows)?,
        false => Default::default(),
    };
    rows.retain(|row| filters.pass(|filter| filter.matches(row, &used)));
    show(session, m, (&VIEW, &COLUMNS), &rows)?;
    Ok(0)
}

/// The ids of those that a container is on, running or not.
fn in_use(store: &Store, rows: &[Shown]) -> Result<BTreeSet<String>> {
    let mut used = BTreeSet::new();
    for row in rows {
        if let Shown::Real(network, _) = row
            && !connect::members(store, network)?.is_empty()
        {
            used.insert(network.id.clone());
        }
    }
    Ok(used)
}

const KEYS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];

enum Filter {
    Dangling(bool),
    Driver(String),
    Id(String),
    Label(Label),
    Name(filter::Name),
    /// All are local.
    Scope(bool),
    Custom(bool),
}

impl Filter {
    fn parse(key: &str, value: &str) -> Result<Filter, &'static str> {
        Ok(match (key, value) {
            ("dangling", value) => Filter::Dangling(filter::boolean(value)?),
            ("driver", name) => Filter::Driver(name.to_owned()),
            ("id", part) => Filter::Id(part.to_owned()),
            ("label", label) => Filter::Label(label.into()),
            ("scope", "local") => Filter::Scope(true),
            ("scope", "global" | "swarm") => Filter::Scope(false),
            ("scope", _) => return Err("local, global or swarm"),
            ("type", "custom") => Filter::Custom(true),
            ("type", "builtin") => Filter::Custom(false),
            ("type", _) => return Err("custom or builtin"),
            (_, pattern) => Filter::Name(filter::Name::parse(pattern)?),
        })
    }

    fn matches(&self, row: &Shown, used: &BTreeSet<String>) -> bool {
        let network = match row {
            Shown::Real(network, _) => Some(network),
            Shown::BuiltIn(..) => None,
        };
        let custom = network.is_some_and(|n| !n.is_default());
        match self {
            // The built-in ones count as used.
            Filter::Dangling(dangling) => {
                let is_used = network.is_none_or(|n| n.is_default() || used.contains(&n.id));
                is_used != *dangling
            }
            Filter::Driver(driver) => row.driver() == driver,
            Filter::Id(part) => row.field("ID").contains(part.as_str()) || network.is_some_and(|n| n.id.contains(part)),
            Filter::Label(label) => network.is_some_and(|n| label.is_in(&n.labels)),
            Filter::Name(pattern) => pattern.matches(row.name()),
            Filter::Scope(local) => *local,
            Filter::Custom(wanted) => custom == *wanted,
        }
    }
}

fn define_rm(command: Command) -> Command {
    command
        .arg(flag("force", "What is not there is no failure").short('f'))
        .arg(words("NETWORK", "Names or ids"))
}

fn rm(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let force = m.on("force");
    session.each_name(m.texts("NETWORK"), |name| {
        if matches!(name, "none" | "host" | DEFAULT) {
            return Err(Error::usage(format!(
                "{name} is a pre-defined network and cannot be removed"
            )));
        }
        let removed = store.network(name).and_then(|network| remove(&store, &network));
        match removed {
            Err(e) if force && e.kind() == Kind::NotFound => Ok(name.to_owned()),
            done => done.map(|()| name.to_owned()),
        }
    })
}

/// A container that would start on it again is as good a reason to keep it as one that runs: it could never start.
fn remove(store: &Store, network: &Network) -> Result<()> {
    if let Some(by) = connect::members(store, network)?.first() {
        return Err(Error::conflict(format!(
            "error while removing network: network {} has active endpoints (name:\"{}\" id:\"{}\")",
            network.name,
            by.name,
            by.id.short()
        ))
        .with_hint(format!(
            "disconnect it first: barge network disconnect {} {}",
            network.name, by.name
        )));
    }
    network::remove(store, network)
}

fn prune(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let filters = Filters::parse(m.texts("filter"), &[])?;
    let warning = "This will remove all custom networks not used by at least one container.";
    if !confirm(session, warning, m.on("force"))? {
        return Ok(0);
    }
    let gone = prune_unused(&session.store()?, &filters)?;
    if !gone.is_empty() {
        session.console.line("Deleted Networks:")?;
        for name in gone {
            session.console.line(&name)?;
        }
    }
    Ok(0)
}

fn define_connect(command: Command) -> Command {
    command
        .arg(list("alias", "NAME", "Another name of the container on this network"))
        .arg(list("driver-opt", "NAME=VALUE", "Taken for docker's sake").hide(true))
        .arg(value("ip", "ADDRESS", "IPv4 address"))
        .arg(value("ip6", "ADDRESS", "IPv6 address"))
        .arg(value("mac-address", "MAC", "MAC address"))
        .arg(word("NETWORK", "Name or id"))
        .arg(word("CONTAINER", "Name or id"))
}

fn run_connect(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    fn parsed<T: std::str::FromStr>(m: &ArgMatches, name: &str) -> Result<Option<T>> {
        let bad = |text: &str| Error::usage(format!("invalid {name} address: {}", text.escape_debug()));
        m.text(name).map(|text| text.parse().map_err(|_| bad(text))).transpose()
    }
    let mut attachment = Attachment {
        ip: parsed(m, "ip")?,
        ip6: parsed(m, "ip6")?,
        mac: parsed(m, "mac-address")?,
        aliases: m.texts("alias").map(alias).collect::<Result<_>>()?,
        ..Attachment::default()
    };
    let store = session.store()?;
    attachment.network = find(&store, m.text("NETWORK").unwrap_or_default())?.name;
    let id = store.resolve_container(m.text("CONTAINER").unwrap_or_default())?;
    connect::connect(&store, &id, &attachment)?;
    Ok(0)
}

fn define_disconnect(command: Command) -> Command {
    command
        .arg(flag("force", "One that is not there is no failure").short('f'))
        .arg(word("NETWORK", "Name or id"))
        .arg(word("CONTAINER", "Name or id"))
}

fn run_disconnect(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let store = session.store()?;
    let network = find(&store, m.text("NETWORK").unwrap_or_default())?;
    let done = store
        .resolve_container(m.text("CONTAINER").unwrap_or_default())
        .and_then(|id| connect::disconnect(&store, &id, &network));
    match done {
        Err(e) if m.on("force") && matches!(e.kind(), Kind::NotFound | Kind::Conflict) => Ok(0),
        done => done.map(|()| 0),
    }
}

fn find(store: &Store, name: &str) -> Result<Network> {
    match name {
        DEFAULT => network::default_network(store),
        "none" | "host" => Err(Error::conflict(format!(
            "container cannot be connected to network {name}, or disconnected from it"
        ))),
        other => store.network(other),
    }
}

fn exists(m: &ArgMatches, session: &mut Session) -> Result<u8> {
    let name = m.text("NETWORK").unwrap_or_default();
    if matches!(name, "none" | "host" | DEFAULT) {
        return Ok(0);
    }
    match session.store()?.network(name) {
        Err(e) if e.kind() == Kind::NotFound => Err(Error::status(1)),
        found => found.map(|_| 0),
    }
}

/// Removes the networks that no container is connected to. Their names.
pub(super) fn prune_unused(store: &Store, filters: &Filters) -> Result<Vec<String>> {
    let mut gone = Vec::new();
    for network in store.networks()? {
        if network.is_default() || !filters.matches(network.created, &network.labels) {
            continue;
        }
        match remove(store, &network) {
            Ok(()) => gone.push(network.name),
            Err(e) if matches!(e.kind(), Kind::NotFound | Kind::Conflict) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(gone)
}
