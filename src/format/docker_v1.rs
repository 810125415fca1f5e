//! Images as docker knew them until 1.9, and its first registries still do: one JSON document per layer, each with a
//! random id and its parent's. [`config`] makes a configuration of today out of such a chain, as docker 1.10 did, and
//! [`images`] the chain for a configuration.

use crate::error::{Error, Result};
use crate::format::{compact, damaged, parse_json, shown};
use crate::model::digest::Digest;
use crate::model::id::{ChainId, DiffId, is_v1_id};
use crate::model::image::{History, ImageConfig, null_is_default};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What belongs to a layer's place in a chain, or is counted from the disk: not to an image of today.
const DROPPED: &[&str] = &["id", "parent", "Size", "parent_id", "layer_id", "throwaway"];

/// One `json`.
#[derive(Debug, Clone)]
pub(crate) struct V1Image {
    /// 64 hex digits.
    pub(crate) id: String,
    pub(crate) parent: Option<String>,
    /// Schema 1 says so of a step that changed no file. Its layer is empty.
    pub(crate) throwaway: bool,
    history: Value,
    /// All of it, by key, as it came.
    fields: BTreeMap<String, Box<RawValue>>,
}

impl PartialEq for V1Image {
    fn eq(&self, other: &Self) -> bool {
        let text = |image: &V1Image| -> Vec<_> {
            let fields = image.fields.iter();
            fields.map(|(k, v)| (k.clone(), v.get().to_owned())).collect()
        };
        text(self) == text(other)
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Known {
    #[serde(deserialize_with = "null_is_default")]
    id: String,
    #[serde(deserialize_with = "null_is_default")]
    parent: String,
    #[serde(deserialize_with = "null_is_default")]
    throwaway: bool,
    #[serde(deserialize_with = "null_is_default")]
    created: String,
    #[serde(deserialize_with = "null_is_default")]
    author: String,
    #[serde(deserialize_with = "null_is_default")]
    comment: String,
    #[serde(deserialize_with = "null_is_default")]
    container_config: ContainerConfig,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ContainerConfig {
    #[serde(deserialize_with = "null_is_default")]
    cmd: Words,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    One(String),
    Many(Vec<String>),
}

impl Default for Words {
    fn default() -> Self {
        Words::Many(Vec::new())
    }
}

impl V1Image {
    pub(crate) fn parse(bytes: &[u8]) -> Result<V1Image> {
        let fields: BTreeMap<String, Box<RawValue>> = parse_json(bytes, "image json")?;
        let known: Known = serde_json::from_slice(bytes).map_err(|e| damaged("image json", &e))?;
        check_id(&known.id)?;
        if !known.parent.is_empty() {
            check_id(&known.parent)?;
        }
        let created_by = match known.container_config.cmd {
            Words::One(line) => line,
            Words::Many(words) => words.join(" "),
        };
        let mut history = Map::new();
        let mut set = |key: &str, text: String| {
            if !text.is_empty() {
                history.insert(key.to_owned(), Value::String(text));
            }
        };
        set("created", known.created);
        set("author", known.author);
        set("created_by", created_by);
        set("comment", known.comment);
        if known.throwaway {
            history.insert("empty_layer".to_owned(), Value::Bool(true));
        }
        Ok(V1Image {
            id: known.id,
            parent: Some(known.parent).filter(|parent| !parent.is_empty()),
            throwaway: known.throwaway,
            history: Value::Object(history),
            fields,
        })
    }
}

/// `Ok` for 64 hex digits: nothing else becomes part of a path.
pub(crate) fn check_id(id: &str) -> Result<()> {
    match is_v1_id(id) {
        true => Ok(()),
        false => Err(Error::other(format!("invalid image id '{}'", shown(id)))),
    }
}

/// The configuration that a chain (base first) amounts to. `diffs` are of the layers that are not throwaway. The bytes
/// are those docker makes, wherever the image needs no translation: so the image has the same id in both.
pub(crate) fn config(chain: &[&V1Image], diffs: &[DiffId]) -> Result<Vec<u8>> {
    let Some(top) = chain.last() else {
        return Err(Error::other("an image without layers"));
    };
    let full = chain.iter().filter(|image| !image.throwaway).count();
    if full != diffs.len() {
        return Err(Error::other(format!("{full} layers, but {} digests", diffs.len())));
    }
    let mut fields: BTreeMap<&str, Box<RawValue>> = BTreeMap::new();
    for (key, value) in &top.fields {
        if !DROPPED.contains(&key.as_str()) {
            fields.insert(key, RawValue::from_string(compact(value.get()))?);
        }
    }
    translate(&mut fields)?;
    let history: Vec<&Value> = chain.iter().map(|image| &image.history).collect();
    let rootfs = json!({"type": "layers", "diff_ids": diffs});
    for (key, value) in [("history", json!(history)), ("rootfs", rootfs)] {
        fields.insert(key, RawValue::from_string(compact(&value.to_string()))?);
    }
    Ok(serde_json::to_vec(&fields)?)
}

/// What images of 2013 say in words of their own.
fn translate(fields: &mut BTreeMap<&str, Box<RawValue>>) -> Result<()> {
    let text = |fields: &BTreeMap<&str, Box<RawValue>>, key| {
        let raw = fields.get(key)?;
        serde_json::from_str::<String>(raw.get()).ok().filter(|t| !t.is_empty())
    };
    if text(fields, "os").is_none() {
        fields.insert("os", to_raw_value("linux")?);
    }
    match text(fields, "architecture").as_deref() {
        None | Some("x86_64") => drop(fields.insert("architecture", to_raw_value("amd64")?)),
        Some(_) => {}
    }
    let Some(Ok(Value::Object(mut config))) = fields.get("config").map(|raw| serde_json::from_str(raw.get())) else {
        return Ok(());
    };
    if let Some(Value::Array(specs)) = config.get("PortSpecs")
        && !specs.is_empty()
        && config.get("ExposedPorts").is_none_or(Value::is_null)
    {
        let ports: Map<String, Value> = specs
            .iter()
            .filter_map(|spec| Some((exposed(spec.as_str()?), json!({}))))
            .collect();
        config.insert("ExposedPorts".to_owned(), Value::Object(ports));
        config.remove("PortSpecs");
        fields.insert("config", to_raw_value(&config)?);
    }
    Ok(())
}

/// `[public:]private[/protocol]` → `private/protocol`.
fn exposed(spec: &str) -> String {
    let (ports, protocol) = spec.split_once('/').unwrap_or((spec, "tcp"));
    let private = ports.rsplit(':').next().unwrap_or_default();
    format!("{private}/{protocol}")
}

/// One layer of an image, for a docker before 1.10.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LegacyLayer {
    pub(crate) id: String,
    pub(crate) json: Vec<u8>,
}

/// The chain, base first, that an image of today is written as: one id for each layer, made from what it stands on, so
/// that the same image always has the same ids. The last `json` has the whole configuration.
pub(crate) fn images(config: &[u8], layers: &[ChainId]) -> Result<Vec<LegacyLayer>> {
    images_on(None, 0, config, layers)
}

/// The same for the layers behind the first `below`, which have ids already, of which the topmost is `parent`.
pub(crate) fn images_on(
    parent: Option<&str>,
    below: usize,
    config: &[u8],
    layers: &[ChainId],
) -> Result<Vec<LegacyLayer>> {
    let whole: Map<String, Value> = parse_json(config, "image configuration")?;
    let parsed: ImageConfig = parse_json(config, "image configuration")?;
    let steps: Vec<&History> = parsed.history.iter().filter(|step| !step.empty_layer).collect();
    let mut chain: Vec<LegacyLayer> = Vec::with_capacity(layers.len());
    for (n, layer) in layers.iter().enumerate().skip(below) {
        let mut image = Map::new();
        if n + 1 == layers.len() {
            image.clone_from(&whole);
            image.remove("history");
            image.remove("rootfs");
        } else {
            let step = steps.get(n).copied().cloned().unwrap_or_default();
            let created = step
                .created
                .map_or("1970-01-01T00:00:00Z".to_owned(), |t| t.to_string());
            image.insert("created".to_owned(), Value::String(created));
            if !step.created_by.is_empty() {
                image.insert("container_config".to_owned(), json!({"Cmd": [step.created_by]}));
            }
            image.insert("os".to_owned(), Value::String(parsed.os.clone()));
        }
        if let Some(parent) = chain.last().map(|below| below.id.as_str()).or(parent) {
            image.insert("parent".to_owned(), Value::String(parent.to_owned()));
        }
        image.insert("layer_id".to_owned(), json!(layer));
        let sorted: BTreeMap<_, _> = image.iter().collect();
        let id = Digest::of(&serde_json::to_vec(&sorted)?).hex();
        image.remove("layer_id");
        image.insert("id".to_owned(), Value::String(id.clone()));
        let sorted: BTreeMap<_, _> = image.iter().collect();
        chain.push(LegacyLayer {
            id,
            json: serde_json::to_vec(&sorted)?,
        });
    }
    Ok(chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(c: char) -> String {
        c.to_string().repeat(64)
    }

    fn image(json: &Value) -> V1Image {
        V1Image::parse(&serde_json::to_vec_pretty(json).unwrap()).unwrap()
    }

    #[test]
    fn a_chain_of_2013() {
        let base = image(&json!({
            "id": id('a'), "created": "2013-03-23T22:24:18.818426-07:00", "container_config": {"Cmd": null}
        }));
        let top = image(&json!({
            "id": id('b'), "parent": id('a'), "comment": "done", "created": "2013-06-15T10:00:00Z",
            "container": "f".repeat(64), "author": "me", "architecture": "x86_64", "Size": 12,
            "container_config": {"Cmd": ["/bin/sh", "-c", "a > b"]},
            "config": {"Cmd": ["/bin/bash"], "PortSpecs": ["80", "8080:22/udp"], "Env": null, "VolumesFrom": ""},
            "docker_version": "0.6.3"
        }));
        assert_eq!(top.parent, Some(base.id.clone()));
        let diffs = [DiffId(Digest::of(b"1")), DiffId(Digest::of(b"2"))];
        let bytes = config(&[&base, &top], &diffs).unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(
            text.starts_with(r#"{"architecture":"amd64","author":"me","comment":"done","#),
            "{text}"
        );
        assert!(text.contains("a \\u003e b"), "{text}");
        assert!(!text.contains("\"Size\"") && !text.contains("\"parent\""), "{text}");
        let parsed = crate::format::config::parse(&bytes).unwrap();
        assert_eq!(parsed.rootfs.diff_ids, diffs);
        assert_eq!(
            parsed.config.exposed_ports.keys().collect::<Vec<_>>(),
            ["22/udp", "80/tcp"]
        );
        assert_eq!((parsed.os.as_str(), parsed.history.len()), ("linux", 2));
        assert_eq!(parsed.history[1].created_by, "/bin/sh -c a > b");
        assert_eq!(
            parsed.history[0].created.unwrap().to_string(),
            "2013-03-24T05:24:18.818426Z"
        );
        assert!(config(&[&base, &top], &diffs[..1]).is_err());
        assert!(config(&[], &[]).is_err());
    }

    #[test]
    fn ids_are_ids() {
        for json in [
            json!({}),
            json!({"id": ""}),
            json!({"id": "../../etc"}),
            json!({"id": "A".repeat(64)}),
            json!({"id": id('a'), "parent": "x"}),
            json!({"id": 5}),
            json!([]),
        ] {
            assert!(V1Image::parse(json.to_string().as_bytes()).is_err(), "{json}");
        }
    }

    #[test]
    fn there_and_back() {
        let diffs = [DiffId(Digest::of(b"1")), DiffId(Digest::of(b"2"))];
        let today = json!({
            "architecture": "arm64", "os": "linux", "variant": "v8", "created": "2024-01-01T00:00:00Z",
            "config": {"Cmd": ["x"], "Healthcheck": {"Test": ["CMD", "y"]}, "Unheard": {"of": 1.50}},
            "rootfs": {"type": "layers", "diff_ids": diffs},
            "history": [
                {"created": "2023-01-01T00:00:00Z", "created_by": "ADD"},
                {"created_by": "ENV", "empty_layer": true},
                {"created_by": "RUN"}
            ]
        });
        let bytes = serde_json::to_vec(&today).unwrap();
        let chain = images(&bytes, &ChainId::chain(&diffs)).unwrap();
        assert_eq!(chain, images(&bytes, &ChainId::chain(&diffs)).unwrap());
        let parsed: Vec<V1Image> = chain.iter().map(|c| V1Image::parse(&c.json).unwrap()).collect();
        assert_eq!(parsed[1].parent.as_deref(), Some(chain[0].id.as_str()));
        assert_eq!(parsed[0].parent, None);
        let again = config(&[&parsed[0], &parsed[1]], &diffs).unwrap();
        let again: Value = serde_json::from_slice(&again).unwrap();
        assert_eq!(
            (&again["config"], &again["rootfs"]),
            (&today["config"], &today["rootfs"])
        );
        assert_eq!(again["history"][0]["created_by"], "ADD");
        assert!(images(&bytes, &[]).unwrap().is_empty());
    }
}
