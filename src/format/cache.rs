//! A build's cache at another place: a manifest whose configuration says which steps made which layers, and whose layers
//! are these. In an image that carries its cache (`type=inline`), the same document is an annotation of the image's
//! manifest, and the layers are the image's.
//!
//! What it says of a step nobody can check, so whoever names a cache trusts who made it, as whoever names a base image
//! does. But its layers are only ever taken for what their digests say.

use crate::error::{Error, Result};
use crate::format::descriptor::Descriptor;
use crate::format::manifest::{self, ImageManifest, Manifest};
use crate::format::{MAX_LAYERS, media, parse_json, shown};
use crate::model::digest::Digest;
use crate::model::id::DiffId;
use crate::model::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The configuration's media type.
const CONFIG: &str = "application/vnd.barge.build-cache.config.v1+json";
/// The annotation.
pub(crate) const INLINE: &str = "dev.barge.build-cache.v1";
const VERSION: u32 = 1;
/// More steps than any Dockerfile has, and fewer than cost anything.
pub(crate) const MOST_STEPS: usize = 20_000;
/// Forms in which a step may be looked for.
const MOST_KEYS: usize = 8;

/// A step, and what it made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Step {
    /// What is known of it before its parent is digested.
    pub(crate) family: Digest,
    /// Of all that went into it, in each form by which it may be looked for.
    pub(crate) keys: Vec<Digest>,
    /// `None`: it changed no files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) layer: Option<DiffId>,
    pub(crate) created: Timestamp,
    /// Of the files it read, where the history says that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<Digest>,
}

/// The document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Records {
    version: u32,
    pub(crate) steps: Vec<Step>,
    /// Of the manifest's layers, in their order; none in an image, whose configuration has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    diff_ids: Vec<DiffId>,
}

/// A cache as it was read: steps, and where their layers are, if they are anywhere.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Cache {
    pub(crate) steps: Vec<Step>,
    pub(crate) layers: HashMap<DiffId, Descriptor>,
}

/// A cache as it is written.
#[derive(Debug, Clone)]
pub(crate) struct Rendered {
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
}

impl Rendered {
    pub(crate) fn descriptor(&self) -> Descriptor {
        Descriptor::of(media::OCI_MANIFEST, &self.manifest)
    }
}

/// The same steps and layers always give the same bytes.
pub(crate) fn render(steps: Vec<Step>, layers: Vec<(DiffId, Descriptor)>) -> Result<Rendered> {
    if layers.len() > MAX_LAYERS {
        return Err(Error::other(format!(
            "the cache has {} layers, at most {MAX_LAYERS}",
            layers.len()
        )));
    }
    let (diff_ids, layers) = layers.into_iter().unzip();
    let config = text(steps, diff_ids)?;
    let manifest = ImageManifest {
        dialect: manifest::Dialect::Oci,
        config: Descriptor::of(CONFIG, &config),
        layers,
        annotations: std::collections::BTreeMap::new(),
    };
    Ok(Rendered {
        manifest: manifest.render()?,
        config,
    })
}

/// As an annotation.
pub(crate) fn render_inline(steps: Vec<Step>) -> Result<String> {
    let bytes = text(steps, Vec::new())?;
    String::from_utf8(bytes).map_err(|_| Error::other("the cache is no text"))
}

fn text(mut steps: Vec<Step>, diff_ids: Vec<DiffId>) -> Result<Vec<u8>> {
    steps.truncate(MOST_STEPS);
    let records = Records {
        version: VERSION,
        steps,
        diff_ids,
    };
    Ok(serde_json::to_vec(&records)?)
}

/// What a manifest is that may be a cache's.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Found {
    /// A cache: its configuration has to be read next, and then [`complete`] be called.
    Cache {
        config: Descriptor,
        layers: Vec<Descriptor>,
    },
    /// An image that carries its cache: the configuration says which layers it has.
    Image {
        config: Descriptor,
        layers: Vec<Descriptor>,
        records: String,
    },
    Index(manifest::Index),
}

/// Reads a manifest.
pub(crate) fn parse(bytes: &[u8], media_type: Option<&str>) -> Result<Found> {
    #[derive(Deserialize)]
    struct Shape {
        config: Descriptor,
        #[serde(default)]
        layers: Vec<Descriptor>,
    }
    match manifest::parse(bytes, media_type)? {
        Manifest::Artifact(artifact) if artifact.kind == CONFIG => {
            let shape: Shape = parse_json(bytes, "manifest")?;
            if shape.layers.len() > MAX_LAYERS {
                return Err(Error::other(format!(
                    "manifest has {} layers, at most {MAX_LAYERS}",
                    shape.layers.len()
                )));
            }
            Ok(Found::Cache {
                config: shape.config,
                layers: shape.layers,
            })
        }
        Manifest::Image(mut image) => match image.annotations.remove(INLINE) {
            Some(records) => Ok(Found::Image {
                config: image.config,
                layers: image.layers,
                records,
            }),
            None => Err(Error::other("an image that carries no cache")
                .with_hint("build it with --cache-to type=inline and push it, or name what --cache-to wrote")),
        },
        Manifest::Index(index) => Ok(Found::Index(index)),
        Manifest::Schema1(_) => Err(Error::other("an image of schema 1, which can't carry a cache")),
        Manifest::Artifact(artifact) => Err(Error::other(format!("no build cache, but {}", shown(&artifact.kind)))),
    }
}

/// Puts the document and the layers together. `diff_ids` are an image's.
pub(crate) fn complete(records: &[u8], layers: Vec<Descriptor>, diff_ids: Option<&[DiffId]>) -> Result<Cache> {
    let records: Records = parse_json(records, "build cache")?;
    if records.version != VERSION {
        return Err(Error::other(format!(
            "build cache of version {}, want {VERSION}",
            records.version
        )));
    }
    if records.steps.len() > MOST_STEPS || records.steps.iter().any(|step| step.keys.len() > MOST_KEYS) {
        return Err(Error::other(format!(
            "build cache of {} steps, at most {MOST_STEPS}",
            records.steps.len()
        )));
    }
    let diff_ids = diff_ids.unwrap_or(&records.diff_ids);
    if diff_ids.len() != layers.len() {
        return Err(Error::other(format!(
            "build cache has {} layers, its configuration {}",
            layers.len(),
            diff_ids.len()
        )));
    }
    let usable = |layer: &Descriptor| media::layer(&layer.media_type).is_some_and(|m| !m.foreign) && layer.size > 0;
    let pairs = diff_ids.iter().copied().zip(layers);
    Ok(Cache {
        steps: records.steps,
        layers: pairs.filter(|(_, layer)| usable(layer)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(n: u8, layer: Option<u8>) -> Step {
        Step {
            family: Digest::of(&[n]),
            keys: vec![Digest::of(&[n, 1])],
            layer: layer.map(|n| DiffId(Digest::of(&[n, 2]))),
            created: Timestamp::UNIX_EPOCH,
            content: None,
        }
    }

    fn layer(n: u8) -> (DiffId, Descriptor) {
        let descriptor = Descriptor::new(media::OCI_LAYER_GZIP, Digest::of(&[n, 3]), 10);
        (DiffId(Digest::of(&[n, 2])), descriptor)
    }

    #[test]
    fn written_and_read_again() {
        let steps = vec![step(1, Some(1)), step(2, None)];
        let written = render(steps.clone(), vec![layer(1)]).unwrap();
        assert_eq!(
            written.manifest,
            render(steps.clone(), vec![layer(1)]).unwrap().manifest
        );
        let Found::Cache { config, layers } = parse(&written.manifest, None).unwrap() else {
            panic!("no cache");
        };
        assert_eq!(config.digest, Digest::of(&written.config));
        let cache = complete(&written.config, layers, None).unwrap();
        assert_eq!(cache.steps, steps);
        assert_eq!(cache.layers, HashMap::from([layer(1)]));
        // It is no image for anybody else.
        assert!(matches!(
            manifest::parse(&written.manifest, None).unwrap(),
            Manifest::Artifact(_)
        ));
    }

    #[test]
    fn in_an_image() {
        let records = render_inline(vec![step(1, Some(1))]).unwrap();
        let mut image = ImageManifest {
            dialect: manifest::Dialect::Oci,
            config: Descriptor::of(media::OCI_CONFIG, b"{}"),
            layers: vec![layer(1).1],
            annotations: [(INLINE.to_owned(), records)].into(),
        };
        let Found::Image { layers, records, .. } = parse(&image.render().unwrap(), None).unwrap() else {
            panic!("no cache");
        };
        let cache = complete(records.as_bytes(), layers, Some(&[layer(1).0])).unwrap();
        assert_eq!((cache.steps.len(), cache.layers.len()), (1, 1));
        image.annotations.clear();
        let e = parse(&image.render().unwrap(), None).unwrap_err();
        assert!(e.to_string().contains("carries no cache"), "{e}");
    }

    #[test]
    fn what_is_no_cache() {
        let one = |steps: usize, keys: usize| {
            let mut step = step(1, None);
            step.keys = vec![step.family; keys];
            serde_json::json!({"version": 1, "steps": vec![step; steps]}).to_string()
        };
        complete(one(3, 8).as_bytes(), Vec::new(), None).unwrap();
        for (records, layers) in [
            (String::new(), vec![]),
            ("{}".to_owned(), vec![]),
            ("[1]".to_owned(), vec![]),
            (r#"{"version":2,"steps":[]}"#.to_owned(), vec![]),
            (r#"{"version":1,"steps":[{"family":"sha256:1"}]}"#.to_owned(), vec![]),
            (one(1, 9), vec![]),
            (one(MOST_STEPS + 1, 0), vec![]),
            (one(1, 1), vec![layer(1).1]),
            ("[".repeat(100_000), vec![]),
        ] {
            let short = &records[..records.len().min(60)];
            assert!(complete(records.as_bytes(), layers, None).is_err(), "{short}");
        }
        // Layers that nobody could unpack are none.
        let odd = Descriptor::new("text/plain", Digest::of(b"x"), 1);
        let with = |d: Descriptor| complete(br#"{"version":1,"steps":[]}"#, vec![d], Some(&[layer(1).0])).unwrap();
        assert_eq!(with(odd).layers.len(), 0);
        assert_eq!(with(layer(1).1).layers.len(), 1);
    }
}
