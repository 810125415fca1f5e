//! What is published of a container: for `port`, `ps` and `inspect`.

use crate::container::status::status;
use crate::error::{Error, Result};
use crate::model::container::ContainerConfig;
use crate::model::id::ContainerId;
use crate::model::port::{HostPort, PortNumber, PublishedPort, parse_expose};
use crate::model::state::{Phase, Status};
use crate::store::Store;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Published now: nothing unless it runs. Sorted by the container's port, IPv4 first.
pub(crate) fn published(status: &Status) -> Vec<PublishedPort> {
    match status {
        Status::Running(live) if matches!(live.phase, Phase::Running { .. }) => {
            let mut ports = live.ports.clone();
            ports.sort();
            ports
        }
        _ => Vec::new(),
    }
}

/// What its image or the user documents; what is not in the form of a port is left out.
pub(crate) fn exposed<'a>(expose: impl IntoIterator<Item = &'a String>) -> Vec<PortNumber> {
    let ports = expose.into_iter().filter_map(|text| parse_expose(text).ok());
    ports.flatten().collect()
}

/// The lines of `port`: all of them, or where one of the container's ports is published.
pub(crate) fn lines(store: &Store, id: &ContainerId, name: &str, wanted: Option<PortNumber>) -> Result<Vec<String>> {
    let all = published(&status(store, id));
    let Some(wanted) = wanted else {
        let line = |p: &PublishedPort| format!("{} -> {}", p.number(), p.host());
        return Ok(all.iter().map(line).collect());
    };
    let of_it: Vec<_> = all.iter().filter(|p| p.number() == wanted).collect();
    match of_it.is_empty() {
        true => Err(Error::not_found(format!(
            "No public port '{wanted}' published for {name}"
        ))),
        false => Ok(of_it.iter().map(|p| p.host().to_string()).collect()),
    }
}

/// `NetworkSettings.Ports` of a running container: published ones with their addresses, documented ones with null.
pub(super) fn settings(config: &ContainerConfig, status: &Status) -> Value {
    if !matches!(status, Status::Running(live) if matches!(live.phase, Phase::Running { .. })) {
        return json!({});
    }
    let mut all: BTreeMap<PortNumber, Vec<Value>> = exposed(&config.expose).into_iter().map(|p| (p, vec![])).collect();
    for port in published(status) {
        let binding = json!({"HostIp": port.host_ip.to_string(), "HostPort": port.host_port.to_string()});
        all.entry(port.number()).or_default().push(binding);
    }
    let value = |bindings: Vec<Value>| {
        if bindings.is_empty() {
            Value::Null
        } else {
            json!(bindings)
        }
    };
    let all: Map<String, Value> = all.into_iter().map(|(port, b)| (port.to_string(), value(b))).collect();
    Value::Object(all)
}

/// `HostConfig.PortBindings`: as asked for.
pub(super) fn bindings(config: &ContainerConfig) -> Value {
    let mut all: BTreeMap<PortNumber, Vec<Value>> = BTreeMap::new();
    for publish in &config.publish {
        let ip = publish.host_ip.map(|ip| ip.to_string()).unwrap_or_default();
        let host_port = match publish.host {
            HostPort::Any => String::new(),
            range @ HostPort::Range { .. } => range.to_string(),
        };
        let binding = json!({"HostIp": ip, "HostPort": host_port});
        all.entry(publish.number()).or_default().push(binding);
    }
    let all: Map<String, Value> = all.into_iter().map(|(port, b)| (port.to_string(), json!(b))).collect();
    Value::Object(all)
}

/// `Config.ExposedPorts`: what is published counts as documented.
pub(super) fn documented(config: &ContainerConfig) -> Vec<String> {
    let mut all = config.expose.clone();
    all.extend(config.publish.iter().map(|p| p.number().to_string()));
    all.into_iter().collect()
}
