//! Networks as `network ls` and `network inspect` show them.

use super::{go_time, labels};
use crate::container;
use crate::error::Result;
use crate::model::network::{DEFAULT, Network};
use crate::network;
use crate::output::listing::{Fields, View};
use crate::store::Store;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub(crate) const VIEW: View = View {
    headings: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
    id: "ID",
};

pub(crate) const COLUMNS: [&str; 4] = ["ID", "Name", "Driver", "Scope"];

/// A network in a list. `none` and `host` are there for those who look for them, as docker has it.
pub(crate) enum Shown {
    Real(Network, bool),
    /// Name and driver.
    BuiltIn(&'static str, &'static str),
}

impl Shown {
    pub(crate) fn name(&self) -> &str {
        match self {
            Shown::Real(network, _) => &network.name,
            Shown::BuiltIn(name, _) => name,
        }
    }

    pub(crate) fn driver(&self) -> &str {
        match self {
            Shown::Real(network, _) => network.driver.name(),
            Shown::BuiltIn(_, driver) => driver,
        }
    }
}

impl Fields for Shown {
    fn field(&self, name: &str) -> String {
        match (name, self) {
            ("ID", Shown::Real(network, true)) => network.id.clone(),
            ("ID", Shown::Real(network, false)) => network.short().to_owned(),
            ("ID", Shown::BuiltIn(name, _)) => (*name).to_owned(),
            ("Name", shown) => shown.name().to_owned(),
            ("Driver", shown) => shown.driver().to_owned(),
            ("Scope", _) => "local".to_owned(),
            ("IPv4", Shown::Real(network, _)) => network.subnet4().is_some().to_string(),
            ("IPv6", Shown::Real(network, _)) => network.ipv6.to_string(),
            ("Internal", Shown::Real(network, _)) => network.internal.to_string(),
            ("Labels", Shown::Real(network, _)) => labels(&network.labels),
            ("CreatedAt", Shown::Real(network, _)) => go_time(network.created),
            // Go's zero.
            ("CreatedAt", Shown::BuiltIn(..)) => "0001-01-01 00:00:00 +0000 UTC".to_owned(),
            ("IPv4" | "IPv6" | "Internal", Shown::BuiltIn(..)) => "false".to_owned(),
            _ => String::new(),
        }
    }

    fn labels(&self) -> Option<&BTreeMap<String, String>> {
        match self {
            Shown::Real(network, _) => Some(&network.labels),
            Shown::BuiltIn(..) => None,
        }
    }
}

/// `network inspect`, in docker's shape.
pub(crate) fn inspect(store: &Store, name: &str) -> Result<Value> {
    if matches!(name, "none" | "host") {
        return Ok(built_in(name));
    }
    let network = match name {
        DEFAULT => network::default_network(store)?,
        other => store.network(other)?,
    };
    let config: Vec<_> = network
        .subnets
        .iter()
        .map(|subnet| {
            let mut one = Map::new();
            one.insert("Subnet".to_owned(), json!(subnet.subnet));
            if let Some(range) = subnet.range {
                one.insert("IPRange".to_owned(), json!(range));
            }
            if let Some(gateway) = subnet.gateway {
                one.insert("Gateway".to_owned(), json!(gateway));
            }
            if !subnet.aux.is_empty() {
                one.insert("AuxiliaryAddresses".to_owned(), json!(subnet.aux));
            }
            Value::Object(one)
        })
        .collect();
    let mut options: Map<String, Value> = network.options.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
    if network.driver == crate::model::network::Driver::Bridge {
        options.insert("com.docker.network.bridge.name".to_owned(), json!(network.link));
    }
    Ok(json!({
        "Name": network.name,
        "Id": network.id,
        "Created": network.created.to_string(),
        "Scope": "local",
        "Driver": network.driver.name(),
        "EnableIPv4": network.subnet4().is_some(),
        "EnableIPv6": network.ipv6,
        "IPAM": {"Driver": "default", "Options": {}, "Config": config},
        "Internal": network.internal,
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": false,
        "Containers": containers(store, &network),
        "Options": options,
        "Labels": network.labels,
    }))
}

fn built_in(name: &str) -> Value {
    json!({
        "Name": name,
        "Id": name,
        "Created": "0001-01-01T00:00:00Z",
        "Scope": "local",
        "Driver": if name == "none" { "null" } else { name },
        "EnableIPv4": false,
        "EnableIPv6": false,
        "IPAM": {"Driver": "default", "Options": null, "Config": []},
        "Internal": false,
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": false,
        "Containers": {},
        "Options": {},
        "Labels": {},
    })
}

/// Who is on it now.
fn containers(store: &Store, network: &Network) -> Map<String, Value> {
    let mut found = Map::new();
    let mut ids: Vec<_> = network::leases(store, &network.id)
        .into_iter()
        .map(|(_, id)| id)
        .collect();
    ids.sort();
    ids.dedup();
    for id in ids {
        let (Ok(config), Ok(Some(live))) = (store.config(&id), store.live(&id)) else {
            continue;
        };
        let Some(endpoint) = live.endpoints.iter().find(|e| e.network_id == network.id) else {
            continue;
        };
        let with_length =
            |address: Option<String>, length: u8| address.map_or_else(String::new, |a| format!("{a}/{length}"));
        found.insert(
            id.to_string(),
            json!({
                "Name": config.name,
                "EndpointID": container::network::endpoint_id(&config, endpoint),
                "MacAddress": endpoint.mac,
                "IPv4Address": with_length(endpoint.address.map(|a| a.to_string()), endpoint.prefix),
                "IPv6Address": with_length(endpoint.address6.map(|a| a.to_string()), endpoint.prefix6),
            }),
        );
    }
    found
}
