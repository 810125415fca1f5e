//! Docker's manifests of schema 1, read only: a list of layers and, for each, the JSON of docker 1.x (`docker_v1`), the
//! newest first. Signed ones carry their signatures inside; their digest is that of the text without them.

use crate::error::{Error, Result};
use crate::format::docker_v1::{self, V1Image};
use crate::format::{MAX_LAYERS, damaged, parse_json};
use crate::model::digest::Digest;
use crate::model::id::DiffId;
use crate::model::image::null_is_default;
use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use serde::Deserialize;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Schema1 {
    /// As the manifest says; what was asked for counts.
    pub(crate) name: String,
    pub(crate) tag: String,
    pub(crate) architecture: String,
    pub(crate) signed: bool,
    /// What the digest is of: the manifest without its signatures.
    pub(crate) payload: Vec<u8>,
    /// Base first.
    layers: Vec<Layer>,
}

/// Real ones have one.
const MOST_SIGNATURES: usize = 16;

#[derive(Debug, Clone, PartialEq)]
struct Layer {
    blob: Digest,
    image: V1Image,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Document {
    schema_version: u8,
    #[serde(deserialize_with = "null_is_default")]
    name: String,
    #[serde(deserialize_with = "null_is_default")]
    tag: String,
    #[serde(deserialize_with = "null_is_default")]
    architecture: String,
    #[serde(deserialize_with = "null_is_default")]
    fs_layers: Vec<FsLayer>,
    #[serde(deserialize_with = "null_is_default")]
    history: Vec<Compatibility>,
    #[serde(deserialize_with = "null_is_default")]
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FsLayer {
    blob_sum: Digest,
}

#[derive(Deserialize)]
struct Compatibility {
    #[serde(rename = "v1Compatibility")]
    v1: String,
}

#[derive(Deserialize)]
struct Signature {
    protected: String,
}

/// Inside of [`Signature::protected`]: the payload is so many bytes of the document, and then the tail.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Protected {
    format_length: usize,
    format_tail: String,
}

/// Signatures are not verified: what vouches for an image is the digest it was asked by, and the registry's TLS.
pub(super) fn parse(bytes: &[u8]) -> Result<Schema1> {
    let document: Document = parse_json(bytes, "manifest")?;
    if document.schema_version != 1 {
        return Err(Error::other(format!(
            "manifest has schema version {}, want 1",
            document.schema_version
        )));
    }
    let (layers, steps) = (document.fs_layers.len(), document.history.len());
    if layers == 0 || layers != steps {
        return Err(Error::other(format!(
            "manifest has {layers} layers and {steps} steps of history"
        )));
    }
    if layers > MAX_LAYERS {
        return Err(Error::other(format!(
            "manifest has {layers} layers, at most {MAX_LAYERS}"
        )));
    }
    let mut all: Vec<Layer> = Vec::with_capacity(layers);
    for (layer, step) in document.fs_layers.iter().zip(&document.history).rev() {
        let image = V1Image::parse(step.v1.as_bytes())?;
        if let Some(below) = all.last() {
            // Some old clients sent a layer twice.
            if below.image.id == image.id {
                continue;
            }
            if image.parent.as_ref() != Some(&below.image.id) {
                return Err(Error::other(format!(
                    "manifest is damaged: the parent of layer {} is another one than the layer below it",
                    image.id
                )));
            }
        } else if image.parent.is_some() {
            return Err(Error::other("manifest is damaged: its first layer has a parent"));
        }
        all.push(Layer {
            blob: layer.blob_sum,
            image,
        });
    }
    Ok(Schema1 {
        name: document.name,
        tag: document.tag,
        architecture: document.architecture,
        signed: !document.signatures.is_empty(),
        payload: payload(bytes, &document.signatures)?,
        layers: all,
    })
}

fn payload(bytes: &[u8], signatures: &[Signature]) -> Result<Vec<u8>> {
    let bad = |why: &str| Error::other(format!("manifest is damaged: its signature {why}"));
    let decode = |text: &str| {
        URL_SAFE_NO_PAD
            .decode(text)
            .or_else(|_| URL_SAFE.decode(text))
            .map_err(|_| bad("is not base64"))
    };
    // Each is compared with all of the manifest.
    if signatures.len() > MOST_SIGNATURES {
        return Err(Error::other(format!(
            "manifest has {} signatures, at most {MOST_SIGNATURES}",
            signatures.len()
        )));
    }
    let mut found: Option<Vec<u8>> = None;
    for signature in signatures {
        let protected: Protected =
            serde_json::from_slice(&decode(&signature.protected)?).map_err(|e| damaged("signature", &e))?;
        let head = bytes.get(..protected.format_length);
        let mut payload = head.ok_or_else(|| bad("is of a longer text"))?.to_vec();
        payload.extend(decode(&protected.format_tail)?);
        match &found {
            Some(other) if *other != payload => return Err(bad("is of another text than the one before")),
            _ => found = Some(payload),
        }
    }
    let Some(payload) = found else {
        return Ok(bytes.to_vec());
    };
    // What is signed has to be what is used.
    let same = |bytes: &[u8]| -> Result<(Vec<Digest>, Vec<String>)> {
        let document: Document = parse_json(bytes, "signed manifest")?;
        let layers = document.fs_layers.into_iter().map(|l| l.blob_sum).collect();
        Ok((layers, document.history.into_iter().map(|h| h.v1).collect()))
    };
    match same(&payload)? == same(bytes)? {
        true => Ok(payload),
        false => Err(bad("is of another image")),
    }
}

impl Schema1 {
    /// What to fetch and unpack, base first; steps that changed no file are left out.
    pub(crate) fn blobs(&self) -> Vec<Digest> {
        let full = self.layers.iter().filter(|layer| !layer.image.throwaway);
        full.map(|layer| layer.blob).collect()
    }

    /// The configuration it amounts to, once the diff ids of [`Schema1::blobs`] are known.
    pub(crate) fn config(&self, diffs: &[DiffId]) -> Result<Vec<u8>> {
        let chain: Vec<&V1Image> = self.layers.iter().map(|layer| &layer.image).collect();
        docker_v1::config(&chain, diffs)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::format::manifest::{self, Manifest};
    use serde_json::{Value, json};

    /// Three layers, of which the last is empty.
    pub(in crate::format) fn sample() -> Value {
        let id = |c: &str| c.repeat(64);
        let v1 = |value: Value| json!({"v1Compatibility": value.to_string()});
        let blob = |text: &str| json!({"blobSum": Digest::of(text.as_bytes())});
        json!({
            "schemaVersion": 1, "name": "library/x", "tag": "latest", "architecture": "amd64",
            "fsLayers": [blob("empty"), blob("two"), blob("one")],
            "history": [
                v1(json!({"id": id("c"), "parent": id("b"), "created": "2015-01-03T00:00:00Z", "throwaway": true,
                    "architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]}, "docker_version": "1.9.0",
                    "container_config": {"Cmd": ["/bin/sh", "-c", "#(nop) CMD [\"sh\"]"]}})),
                v1(json!({"id": id("b"), "parent": id("a"), "created": "2015-01-02T00:00:00Z",
                    "container_config": {"Cmd": ["touch x"]}})),
                v1(json!({"id": id("a"), "created": "2015-01-01T00:00:00Z", "container_config": {"Cmd": ["ADD"]}})),
            ]
        })
    }

    /// As docker signed: the last `}` is moved behind the signatures.
    fn signed(value: &Value) -> (Vec<u8>, Vec<u8>) {
        let text = serde_json::to_string_pretty(value).unwrap();
        let body = text.trim_end_matches("\n}");
        let tail = URL_SAFE_NO_PAD.encode("\n}");
        let protected = json!({"formatLength": body.len(), "formatTail": tail, "time": "2015-01-01T00:00:00Z"});
        let protected = URL_SAFE_NO_PAD.encode(protected.to_string());
        let signature = json!([{"header": {"alg": "ES256"}, "signature": "AA", "protected": protected}]);
        (
            format!("{body},\n   \"signatures\": {signature}\n}}").into_bytes(),
            text.into_bytes(),
        )
    }

    fn parsed(bytes: &[u8]) -> Schema1 {
        match manifest::parse(bytes, None).unwrap() {
            Manifest::Schema1(schema1) => *schema1,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_image_of_it() {
        let schema1 = parsed(sample().to_string().as_bytes());
        assert!(!schema1.signed);
        assert_eq!(schema1.payload, sample().to_string().as_bytes());
        assert_eq!(schema1.blobs(), [Digest::of(b"one"), Digest::of(b"two")]);
        let diffs = [DiffId(Digest::of(b"1")), DiffId(Digest::of(b"2"))];
        let config = crate::format::config::parse(&schema1.config(&diffs).unwrap()).unwrap();
        assert_eq!(config.history.len(), 3);
        assert!(config.history[2].empty_layer && !config.history[1].empty_layer);
        assert_eq!(config.history[1].created_by, "touch x");
        assert_eq!(config.config.cmd, ["sh".into()]);
        assert!(schema1.config(&diffs[..1]).is_err());
    }

    #[test]
    fn a_signed_one() {
        let (bytes, payload) = signed(&sample());
        let schema1 = parsed(&bytes);
        assert!(schema1.signed);
        assert_eq!(
            String::from_utf8(schema1.payload.clone()).unwrap(),
            String::from_utf8(payload).unwrap()
        );
        assert_eq!(
            manifest::media_type(&Manifest::Schema1(Box::new(schema1))),
            crate::format::media::SCHEMA1_SIGNED
        );
        // Layers that were exchanged after the signature.
        let forged = String::from_utf8(bytes).unwrap().replacen(
            &Digest::of(b"two").to_string(),
            &Digest::of(b"evil").to_string(),
            1,
        );
        // The text before the signature is the payload, so the digest differs, and whoever asked by digest sees it.
        assert_ne!(
            Digest::of(&parsed(forged.as_bytes()).payload),
            Digest::of(&schema1_payload())
        );
    }

    fn schema1_payload() -> Vec<u8> {
        signed(&sample()).1
    }

    #[test]
    fn damage() {
        let change = |path: &str, value: Value| {
            let mut sample = sample();
            *sample.pointer_mut(path).unwrap() = value;
            sample.to_string()
        };
        let orphan = json!({"id": "c".repeat(64), "parent": "d".repeat(64)}).to_string();
        for (text, why) in [
            (change("/schemaVersion", json!(2)), "not a manifest|schema version"),
            (change("/fsLayers", json!([])), "0 layers and 3 steps"),
            (change("/fsLayers/0/blobSum", json!("sha256:x")), "invalid digest"),
            (change("/history/0/v1Compatibility", json!("{}")), "invalid image id"),
            (change("/history/0/v1Compatibility", json!("<")), "HTML"),
            (
                change("/history/0/v1Compatibility", json!(orphan)),
                "the parent of layer",
            ),
            (change("/history/2/v1Compatibility", json!(orphan)), "has a parent"),
        ] {
            let e = manifest::parse(text.as_bytes(), Some(crate::format::media::SCHEMA1))
                .unwrap_err()
                .to_string();
            assert!(why.split('|').any(|why| e.contains(why)), "{e}: {text}");
        }
        for protected in [
            "",
            "e30",
            "%%",
            &URL_SAFE.encode(r#"{"formatLength":99999999,"formatTail":""}"#),
        ] {
            let mut sample = sample();
            sample["signatures"] = json!([{"protected": protected}]);
            assert!(
                manifest::parse(sample.to_string().as_bytes(), None).is_err(),
                "{protected}"
            );
        }
        let many = vec![json!({"protected": "e30"}); 17];
        let mut sample = sample();
        sample["signatures"] = json!(many);
        let e = manifest::parse(sample.to_string().as_bytes(), None).unwrap_err();
        assert!(e.to_string().contains("17 signatures, at most 16"), "{e}");
    }
}
