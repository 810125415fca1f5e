//! JSON as values of docker's Go types: which objects are maps, what is printed of a field without a value, and which
//! fields a structure has although JSON leaves them out.

use gtmpl_ng::{Number, Value as Go};
use serde_json::Value as Json;
use std::collections::HashMap;

/// Objects that are maps, not structures, in docker's types: a key that is missing there is `<no value>`, not an error.
const MAPS: [&str; 11] = [
    "Labels",
    "Networks",
    "Ports",
    "ExposedPorts",
    "Volumes",
    "Options",
    "Data",
    "Sysctls",
    "Tmpfs",
    LOG_OPTIONS,
    "PortBindings",
];

/// Pointers of docker's types: one to nothing is `<nil>`, where a list or a map without a value is an empty one.
pub(super) const POINTERS: [&str; 11] = [
    "ContainerdSnapshotter",
    "Descriptor",
    "Health",
    "Healthcheck",
    "IPAMConfig",
    "IDMappings",
    "Init",
    "MemorySwappiness",
    "OomKillDisable",
    "PidsLimit",
    "StopTimeout",
];
/// Maps that are printed as empty ones, too, but of which a missing key is an error.
const MORE_MAPS: [&str; 6] = [
    "Annotations",
    "AuxiliaryAddresses",
    "Containers",
    "DriverOpts",
    "Status",
    "StorageOpt",
];

/// Fields of docker's structures that JSON leaves out while they are empty, images' as well, by the key of the object
/// that has them: a template may ask for them all the same.
const LEFT_OUT: [(&str, &[&str]); 4] = [
    (
        IMAGE,
        &["Descriptor", "DockerVersion", "Manifests", "OsVersion", "Variant"],
    ),
    (
        "Config",
        &[
            "Entrypoint",
            "Env",
            "ExposedPorts",
            "Healthcheck",
            "Labels",
            "OnBuild",
            "Shell",
            "StopSignal",
            "StopTimeout",
            "User",
            "Volumes",
            "WorkingDir",
        ],
    ),
    ("HostConfig", &["Annotations", "Mounts"]),
    ("State", &["Health"]),
];

/// Stands for the key of a log driver's options, `Config`, which an image's configuration has as well.
const LOG_OPTIONS: &str = "log options";

/// Stands for the key of an image, which is in no other object.
const IMAGE: &str = "image";

/// A field without a value. What begins with a small letter is none of docker's.
fn nothing(key: &str) -> Go {
    match key {
        _ if POINTERS.contains(&key) || !key.starts_with(|c: char| c.is_ascii_uppercase()) => Go::Nil,
        _ if MAPS.contains(&key) || MORE_MAPS.contains(&key) => Go::Map(HashMap::new()),
        _ => Go::Array(Vec::new()),
    }
}

fn kept_as<'a>(key: &'a str, parent: &serde_json::Map<String, Json>) -> &'a str {
    match key {
        "Config" if parent.contains_key("Type") => LOG_OPTIONS,
        key => key,
    }
}

/// A JSON value as the engine has it; `key` is its name in the object around it.
pub(super) fn go(value: &Json, key: &str) -> Go {
    match value {
        Json::Null => nothing(key),
        Json::Bool(b) => Go::Bool(*b),
        Json::String(s) => Go::String(s.clone()),
        Json::Array(items) => Go::Array(items.iter().map(|item| go(item, "")).collect()),
        Json::Number(n) => match (n.as_u64(), n.as_i64(), n.as_f64()) {
            (Some(n), _, _) => Go::Number(Number::unsigned(n)),
            (_, Some(n), _) => Go::Number(Number::signed(n)),
            (_, _, n) => Go::Number(Number::float(n.unwrap_or_default())),
        },
        Json::Object(object) => {
            let mut entries: HashMap<String, Go> = object
                .iter()
                .map(|(k, v)| (k.clone(), go(v, kept_as(k, object))))
                .collect();
            if MAPS.contains(&key) {
                Go::Map(entries)
            } else {
                let key = match key {
                    "" if object.contains_key("RootFS") => IMAGE,
                    key => key,
                };
                let left_out = LEFT_OUT.iter().filter(|(of, _)| *of == key);
                for name in left_out.flat_map(|(_, names)| *names) {
                    let empty = match *name {
                        "DockerVersion" | "OsVersion" | "StopSignal" | "User" | "Variant" | "WorkingDir" => "".into(),
                        name => nothing(name),
                    };
                    entries.entry((*name).to_owned()).or_insert(empty);
                }
                Go::Object(entries)
            }
        }
    }
}
