//! A container's places on networks, as docker's `inspect` shows them: filled while it runs, empty when it does not.

use crate::container::port;
use crate::model::container::{ContainerConfig, NetworkMode};
use crate::model::digest::Digest;
use crate::model::network::{Attachment, DEFAULT, Endpoint};
use crate::model::state::{LiveState, Phase, Status};
use crate::store::Store;
use serde_json::{Map, Value, json};

/// `NetworkSettings`. The fields beside `Networks` are those of the default network alone, as docker has them.
pub(super) fn settings(store: &Store, config: &ContainerConfig, status: &Status) -> Value {
    let live = match status {
        Status::Running(live) => Some(live),
        _ => None,
    };
    let endpoints = live.map_or(&[][..], |l| &l.endpoints);
    let default = endpoints.iter().find(|e| e.network == DEFAULT);
    let text = |value: Option<String>| value.unwrap_or_default();
    json!({
        "Bridge": text(default.map(|e| e.bridge.clone())),
        "SandboxID": text(live.filter(|_| !endpoints.is_empty()).map(|_| config.id.to_string())),
        "SandboxKey": text(live.and_then(sandbox)),
        "Ports": port::settings(config, status),
        "EndpointID": text(default.map(|e| endpoint_id(config, e))),
        "Gateway": text(default.and_then(|e| e.gateway).map(|a| a.to_string())),
        "GlobalIPv6Address": text(default.and_then(|e| e.address6).map(|a| a.to_string())),
        "GlobalIPv6PrefixLen": default.map_or(0, |e| e.prefix6),
        "IPAddress": text(default.and_then(|e| e.address).map(|a| a.to_string())),
        "IPPrefixLen": default.filter(|e| e.address.is_some()).map_or(0, |e| e.prefix),
        "IPv6Gateway": text(default.and_then(|e| e.gateway6).map(|a| a.to_string())),
        "MacAddress": text(default.map(|e| e.mac.to_string())),
        "Networks": networks(store, config, endpoints),
    })
}

fn networks(store: &Store, config: &ContainerConfig, endpoints: &[Endpoint]) -> Map<String, Value> {
    let mut networks = Map::new();
    if let NetworkMode::None | NetworkMode::Host = &config.network {
        let name = super::inspect::network_mode(&config.network);
        networks.insert(name.clone(), place(config, &Attachment::to(name), None));
        return networks;
    }
    let attachments = store.attachments(config).unwrap_or_default();
    for attachment in &attachments {
        let endpoint = endpoints
            .iter()
            .find(|e| e.network == attachment.network || e.network_id == attachment.network);
        let name = endpoint.map_or(&attachment.network, |e| &e.network);
        networks.insert(name.clone(), place(config, attachment, endpoint));
    }
    networks
}

fn place(config: &ContainerConfig, asked: &Attachment, is: Option<&Endpoint>) -> Value {
    let text = |value: Option<String>| value.unwrap_or_default();
    let wish = match (asked.ip, asked.ip6) {
        (None, None) => Value::Null,
        (v4, v6) => {
            let mut wish = Map::new();
            if let Some(v4) = v4 {
                wish.insert("IPv4Address".to_owned(), json!(v4));
            }
            if let Some(v6) = v6 {
                wish.insert("IPv6Address".to_owned(), json!(v6));
            }
            Value::Object(wish)
        }
    };
    let list = |names: Vec<String>| match names.is_empty() {
        true => Value::Null,
        false => json!(names),
    };
    let mut names = Vec::new();
    let mut links = Vec::new();
    if is.is_some_and(|e| e.dns) {
        links.extend(config.names.links.iter().map(|l| format!("{}:{}", l.name, l.alias)));
        names.push(config.name.clone());
        names.extend(asked.aliases.iter().cloned());
        names.push(config.id.short().to_owned());
        if !names.contains(&config.hostname) {
            names.push(config.hostname.clone());
        }
    }
    json!({
        "IPAMConfig": wish,
        "Links": list(links),
        "Aliases": list(asked.aliases.clone()),
        "MacAddress": text(is.map(|e| e.mac.to_string())),
        "NetworkID": text(is.map(|e| e.network_id.clone())),
        "EndpointID": text(is.map(|e| endpoint_id(config, e))),
        "Gateway": text(is.and_then(|e| e.gateway).map(|a| a.to_string())),
        "IPAddress": text(is.and_then(|e| e.address).map(|a| a.to_string())),
        "IPPrefixLen": is.filter(|e| e.address.is_some()).map_or(0, |e| e.prefix),
        "IPv6Gateway": text(is.and_then(|e| e.gateway6).map(|a| a.to_string())),
        "GlobalIPv6Address": text(is.and_then(|e| e.address6).map(|a| a.to_string())),
        "GlobalIPv6PrefixLen": is.map_or(0, |e| e.prefix6),
        "DriverOpts": null,
        "DNSNames": list(names),
    })
}

/// Docker gives endpoints ids of their own; here they are told by whom they connect.
pub(crate) fn endpoint_id(config: &ContainerConfig, endpoint: &Endpoint) -> String {
    Digest::of(format!("{} {}", config.id, endpoint.network_id).as_bytes()).hex()
}

fn sandbox(live: &LiveState) -> Option<String> {
    match live.phase {
        Phase::Running { init, .. } if !live.endpoints.is_empty() => Some(format!("/proc/{}/ns/net", init.pid)),
        _ => None,
    }
}
