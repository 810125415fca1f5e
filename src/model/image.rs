//! What an image is: its OCI configuration (image-spec, config.md), and the engine's own record about it.

use crate::model::bytes::ByteString;
use crate::model::digest::Digest;
use crate::model::health::HealthCheck;
use crate::model::id::{ChainId, DiffId, ImageId};
use crate::model::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// The configuration, as its JSON says. Unknown keys are ignored: the bytes themselves are kept as a blob.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ImageConfig {
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "readable_time")]
    pub(crate) created: Option<Timestamp>,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub(crate) author: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) architecture: String,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub(crate) variant: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) os: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) config: RunDefaults,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) rootfs: RootFs,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "bounded_history")]
    pub(crate) history: Vec<History>,
}

/// The `config` object: what a container of this image gets unless told otherwise. `null` counts as absent everywhere.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct RunDefaults {
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub(crate) user: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub(crate) exposed_ports: BTreeMap<String, Empty>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub(crate) env: Vec<ByteString>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_many")]
    pub(crate) entrypoint: Vec<ByteString>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_many")]
    pub(crate) cmd: Vec<ByteString>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub(crate) volumes: BTreeMap<String, Empty>,
    #[serde(skip_serializing_if = "ByteString::is_empty", deserialize_with = "null_is_default")]
    pub(crate) working_dir: ByteString,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub(crate) stop_signal: String,
    /// Instructions for a build on top of the image.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub(crate) on_build: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) healthcheck: Option<HealthCheck>,
    /// What a build runs lines with, instead of `/bin/sh -c`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub(crate) shell: Vec<String>,
}

/// Of a history. An empty step is three bytes of JSON and a hundred of memory; real images have dozens.
const MOST_STEPS: usize = 10_000;

fn bounded_history<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<History>, D::Error> {
    #[derive(Default)]
    struct Steps(Vec<History>);
    impl<'de> Deserialize<'de> for Steps {
        fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
            d.deserialize_seq(Bounded).map(Steps)
        }
    }
    struct Bounded;
    impl<'de> serde::de::Visitor<'de> for Bounded {
        type Value = Vec<History>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list of steps")
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut steps = Vec::new();
            while let Some(step) = seq.next_element()? {
                if steps.len() == MOST_STEPS {
                    return Err(serde::de::Error::custom(format!(
                        "history of more than {MOST_STEPS} steps"
                    )));
                }
                steps.push(step);
            }
            Ok(steps)
        }
    }
    null_is_default::<Steps, D>(d).map(|steps| steps.0)
}

/// A time that can't be read is no reason to refuse an image.
fn readable_time<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Timestamp>, D::Error> {
    Ok(Option::<String>::deserialize(d)?.and_then(|text| text.parse().ok()))
}

/// `null`, as Go writes empty lists and maps, is the same as nothing.
pub(crate) fn null_is_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// Docker takes a bare string for a list of one.
fn one_or_many<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<ByteString>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        One(String),
        Many(Vec<ByteString>),
    }
    Ok(match Option::<Either>::deserialize(d)? {
        None => Vec::new(),
        Some(Either::One(text)) => vec![text.into()],
        Some(Either::Many(list)) => list,
    })
}

/// `{}`: the value of a JSON object that stands for a set. Anything is read as that, as Go does with `null`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Empty {}

impl<'de> Deserialize<'de> for Empty {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(d).map(|_| Empty {})
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RootFs {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// Base first.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) diff_ids: Vec<DiffId>,
}

impl Default for RootFs {
    fn default() -> Self {
        RootFs {
            kind: "layers".to_owned(),
            diff_ids: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct History {
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "readable_time")]
    pub(crate) created: Option<Timestamp>,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub(crate) author: String,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub(crate) created_by: String,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub(crate) comment: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) empty_layer: bool,
}

/// `images/<id>.json`: what the store knows of an image. The configuration itself is the blob of the same digest; it is
/// repeated here, parsed, so that a start reads one file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    pub(crate) id: ImageId,
    pub(crate) config: ImageConfig,
    /// The image that this one was made from here, by a commit or a build; none of what came from elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<ImageId>,
    /// Base first; the directories under `layers/`.
    pub(crate) layers: Vec<ChainId>,
    /// Bytes of all layers, unpacked, hard links counted once.
    pub(crate) size: u64,
    /// When it came into this store.
    pub(crate) stored: Timestamp,
    /// The manifests it came with, or was pushed with; newest last. Their blobs are in the store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) manifests: Vec<ManifestRecord>,
    /// What it is called at registries of 2013, base first; empty for most images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) v1: Vec<V1Record>,
    /// Of the manifests that are made for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// One image of a chain as docker's first registries have them. The document is a blob in the store, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct V1Record {
    pub(crate) id: String,
    pub(crate) json: Digest,
    /// Who called it so.
    #[serde(default)]
    pub(crate) host: String,
    /// It has no layer among those of the image.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) empty: bool,
}

/// A manifest of an image, as a registry or an archive had it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestRecord {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) size: u64,
    /// The index that led to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<Digest>,
    /// The indexes that led to that one, the outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) outer: Vec<Digest>,
}

impl ManifestRecord {
    /// The indexes it came by, the outermost first.
    pub(crate) fn indexes(&self) -> impl Iterator<Item = Digest> + '_ {
        self.outer.iter().copied().chain(self.index)
    }
}
