//! Manifests and indexes: the OCI and the docker dialect, and schema 1 (`schema1`).
//!
//! What a document is, its own `mediaType` says; where it says nothing, its shape and what it was served as. A document
//! that could be read as both manifest and index, or is not what it was served as, is refused (CVE-2021-41190).

use crate::error::{Error, Result};
use crate::format::descriptor::Descriptor;
use crate::format::schema1::{self, Schema1};
use crate::format::{MAX_LAYERS, damaged, media, parse_json, shown};
use crate::model::image::null_is_default;
use crate::model::platform::Platform;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Whose media types a document uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Oci,
    Docker,
}

#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant)] // taken apart at once
pub(crate) enum Manifest {
    Image(ImageManifest),
    Index(Index),
    Schema1(Box<Schema1>),
    Artifact(Artifact),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ImageManifest {
    pub(crate) dialect: Dialect,
    pub(crate) config: Descriptor,
    /// Base first.
    pub(crate) layers: Vec<Descriptor>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// A list of manifests, one for each platform.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Index {
    pub(crate) dialect: Dialect,
    pub(crate) manifests: Vec<Descriptor>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// Something in a registry that is no image: a chart, a signature, an attestation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Artifact {
    /// Its media type, as foreign as it came.
    pub(crate) kind: String,
}

impl Artifact {
    /// Why `name` can't be pulled.
    pub(crate) fn refusal(&self, name: &str) -> Error {
        Error::other(format!(
            "{name} is an OCI artifact (type {}), not an image",
            shown(&self.kind)
        ))
    }
}

/// Every field of every kind, unread.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Shape<'a> {
    schema_version: Option<u8>,
    #[serde(deserialize_with = "null_is_default")]
    media_type: String,
    #[serde(deserialize_with = "null_is_default")]
    artifact_type: String,
    #[serde(borrow)]
    config: Option<&'a RawValue>,
    #[serde(borrow)]
    layers: Option<&'a RawValue>,
    #[serde(borrow)]
    manifests: Option<&'a RawValue>,
    #[serde(borrow)]
    fs_layers: Option<&'a RawValue>,
    #[serde(borrow)]
    blobs: Option<&'a RawValue>,
    #[serde(deserialize_with = "null_is_default")]
    annotations: BTreeMap<String, String>,
}

/// Reads what was served as `media_type` (a `Content-Type`; its parameters, and types that say nothing, are ignored).
pub(crate) fn parse(bytes: &[u8], media_type: Option<&str>) -> Result<Manifest> {
    // Twice, as raw values borrow: the first says what is wrong where it is no JSON, or too much of it.
    parse_json::<serde::de::IgnoredAny>(bytes, "manifest")?;
    let shape: Shape = serde_json::from_slice(bytes).map_err(|e| damaged("manifest", &e))?;
    let served = media_type
        .map(|text| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
        .filter(|text| media::is_manifest(text));
    let said = shape.media_type.as_str();
    // Signed or not, a schema 1 manifest tells by itself.
    let is_schema1 = |text: &str| matches!(text, media::SCHEMA1 | media::SCHEMA1_SIGNED);
    if let Some(served) = &served
        && !said.is_empty()
        && said != served
        && !(is_schema1(said) && is_schema1(served))
    {
        return Err(Error::other(format!(
            "manifest says it is {}, but was served as {}",
            shown(said),
            shown(served)
        )));
    }
    let declared = match said {
        "" => served.as_deref().unwrap_or_default(),
        said => said,
    };
    if shape.manifests.is_some() && (shape.layers.is_some() || shape.config.is_some()) {
        return Err(Error::other("manifest is ambiguous: it has both layers and manifests"));
    }
    let schema2 = |manifest: Manifest| match shape.schema_version {
        None | Some(2) => Ok(manifest),
        Some(other) => Err(Error::other(format!("manifest has schema version {other}, want 2"))),
    };
    match declared {
        media::OCI_MANIFEST => schema2(image(&shape, Dialect::Oci)?),
        media::DOCKER_MANIFEST => schema2(image(&shape, Dialect::Docker)?),
        media::OCI_INDEX => schema2(index(&shape, Dialect::Oci)?),
        media::DOCKER_LIST => schema2(index(&shape, Dialect::Docker)?),
        declared if is_schema1(declared) => Ok(Manifest::Schema1(Box::new(schema1::parse(bytes)?))),
        // Says nothing: the shape decides.
        "" => match shape {
            Shape { fs_layers: Some(_), .. }
            | Shape {
                schema_version: Some(1),
                ..
            } => Ok(Manifest::Schema1(Box::new(schema1::parse(bytes)?))),
            Shape { manifests: Some(_), .. } => schema2(index(&shape, Dialect::Oci)?),
            Shape { config: Some(_), .. } => schema2(image(&shape, Dialect::Oci)?),
            Shape { blobs: Some(_), .. } => Ok(artifact(&shape.artifact_type)),
            _ => Err(Error::other(
                "not a manifest: it has neither layers nor a list of manifests",
            )),
        },
        other => match shape.artifact_type.as_str() {
            "" => Ok(artifact(other)),
            kind => Ok(artifact(kind)),
        },
    }
}

fn artifact(kind: &str) -> Manifest {
    Manifest::Artifact(Artifact { kind: kind.to_owned() })
}

fn field<'a, T: Deserialize<'a> + Default>(raw: Option<&'a RawValue>) -> Result<T> {
    match raw {
        Some(raw) => serde_json::from_str::<T>(raw.get()).map_err(|e| damaged("manifest", &e)),
        None => Ok(T::default()),
    }
}

fn image(shape: &Shape, dialect: Dialect) -> Result<Manifest> {
    let config: Option<Descriptor> = field(shape.config)?;
    let config = config.ok_or_else(|| Error::other("manifest has no configuration"))?;
    if !media::is_config(&config.media_type) {
        let kind = match shape.artifact_type.as_str() {
            "" => &config.media_type,
            kind => kind,
        };
        return Ok(artifact(kind));
    }
    let layers: Vec<Descriptor> = field(shape.layers)?;
    if layers.len() > MAX_LAYERS {
        return Err(Error::other(format!(
            "manifest has {} layers, at most {MAX_LAYERS}",
            layers.len()
        )));
    }
    // Signatures and attestations borrow an image's configuration type.
    if let Some(odd) = layers.iter().find(|layer| media::layer(&layer.media_type).is_none()) {
        return Ok(artifact(match shape.artifact_type.as_str() {
            "" => &odd.media_type,
            kind => kind,
        }));
    }
    Ok(Manifest::Image(ImageManifest {
        dialect,
        config,
        layers,
        annotations: shape.annotations.clone(),
    }))
}

fn index(shape: &Shape, dialect: Dialect) -> Result<Manifest> {
    if shape.manifests.is_none() && (shape.layers.is_some() || shape.config.is_some()) {
        return Err(Error::other("manifest says it is an index, but has layers"));
    }
    if !shape.artifact_type.is_empty() {
        return Ok(artifact(&shape.artifact_type));
    }
    let manifests: Vec<Descriptor> = field(shape.manifests)?;
    if manifests.len() > MAX_LAYERS {
        return Err(Error::other(format!(
            "index has {} manifests, at most {MAX_LAYERS}",
            manifests.len()
        )));
    }
    Ok(Manifest::Index(Index {
        dialect,
        manifests,
        annotations: shape.annotations.clone(),
    }))
}

/// What it is to be sent or stored as.
pub(crate) fn media_type(manifest: &Manifest) -> &str {
    match manifest {
        Manifest::Image(image) => image.media_type(),
        Manifest::Index(index) => index.media_type(),
        Manifest::Schema1(schema1) if schema1.signed => media::SCHEMA1_SIGNED,
        Manifest::Schema1(_) => media::SCHEMA1,
        Manifest::Artifact(artifact) => &artifact.kind,
    }
}

impl ImageManifest {
    pub(crate) fn media_type(&self) -> &'static str {
        match self.dialect {
            Dialect::Oci => media::OCI_MANIFEST,
            Dialect::Docker => media::DOCKER_MANIFEST,
        }
    }

    /// The same image always gives the same bytes, in the form its dialect's own tools write.
    pub(crate) fn render(&self) -> Result<Vec<u8>> {
        let document = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": self.media_type(),
            "config": self.config,
            "layers": self.layers,
        });
        render(document, &self.annotations, self.dialect)
    }
}

impl Index {
    pub(crate) fn media_type(&self) -> &'static str {
        match self.dialect {
            Dialect::Oci => media::OCI_INDEX,
            Dialect::Docker => media::DOCKER_LIST,
        }
    }

    pub(crate) fn render(&self) -> Result<Vec<u8>> {
        let document = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": self.media_type(),
            "manifests": self.manifests,
        });
        render(document, &self.annotations, self.dialect)
    }

    /// All that may be images: neither attestations nor artifacts.
    pub(crate) fn images(&self) -> impl Iterator<Item = &Descriptor> {
        self.manifests.iter().filter(|entry| {
            media::is_manifest(&entry.media_type)
                && entry.artifact_type.is_empty()
                && !entry.annotations.contains_key("vnd.docker.reference.type")
                && entry.platform.as_ref().is_none_or(|p| !p.is_unknown())
        })
    }

    /// The best of them for a machine that wants `platform`, the first one of equals. An entry that says nothing is
    /// taken only where there is no other, or no other index: what is in it says more.
    pub(crate) fn choose(&self, platform: &Platform) -> Option<&Descriptor> {
        let said = |entry: &&Descriptor| entry.platform.as_ref().is_some_and(|p| !p.architecture.is_empty());
        let best = self
            .images()
            .filter(said)
            .filter_map(|entry| Some((platform.rank(entry.platform.as_ref()?)?, entry)))
            .min_by_key(|(rank, _)| *rank);
        if let Some((_, entry)) = best {
            return Some(entry);
        }
        let is_alone = self.images().count() == 1;
        let mut silent = self
            .images()
            .filter(|entry| !said(entry) && (is_alone || media::is_index(&entry.media_type)));
        match (silent.next(), silent.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }

    /// What there is, for a message.
    pub(crate) fn platforms(&self) -> Vec<Platform> {
        let mut platforms: Vec<Platform> = self.images().filter_map(|entry| entry.platform.clone()).collect();
        platforms.dedup();
        platforms
    }

    /// That none of them is for `platform`, in docker's words.
    pub(crate) fn none_for(&self, platform: &Platform) -> Error {
        const MOST: usize = 20;
        let mut have: Vec<String> = self.platforms().iter().take(MOST).map(ToString::to_string).collect();
        if have.len() == MOST {
            have.push("…".to_owned());
        }
        let e = Error::not_found(format!(
            "no matching manifest for {platform} in the manifest list entries"
        ));
        match have.is_empty() {
            true => e,
            false => e.with_hint(format!("it has {}", have.join(", "))),
        }
    }
}

/// Docker indents by three blanks; OCI's tools write one line.
fn render(
    mut document: serde_json::Value,
    annotations: &BTreeMap<String, String>,
    dialect: Dialect,
) -> Result<Vec<u8>> {
    if !annotations.is_empty()
        && let Some(object) = document.as_object_mut()
    {
        object.insert("annotations".to_owned(), serde_json::to_value(annotations)?);
    }
    Ok(match dialect {
        Dialect::Oci => serde_json::to_vec(&document)?,
        Dialect::Docker => {
            let mut out = Vec::new();
            let indent = serde_json::ser::PrettyFormatter::with_indent(b"   ");
            let mut serializer = serde_json::Serializer::with_formatter(&mut out, indent);
            serde::Serialize::serialize(&document, &mut serializer)?;
            out
        }
    })
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
